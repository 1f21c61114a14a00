//! Reads log files group by group.

use crate::audit::LINE_BYTES_MAX;
use crate::audit::chain::{
    CHAIN_START, ChainLine, GROUP_BYTES_MAX, HEADER_START, Header, group_mac,
};
use crate::audit::journal::frame_bytes;
use crate::clock::Timestamp;
use crate::clock::calendar::Iso8601;
use crate::crypto::secret::Secret;
use crate::file::open;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

/// The most bytes of a group: its lines, one line beyond the limit, and the chain line.
const GROUP_READ_BYTES_MAX: usize = GROUP_BYTES_MAX + LINE_BYTES_MAX + 1024;

/// A log file, named `audit-<time>-<group>.jsonl`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct LogFile {
    /// The number of its first group.
    pub(super) group: u64,
    pub(super) path: PathBuf,
    /// Whether another program has renamed it, as `logrotate` does: `….jsonl.1`,
    /// `….jsonl-20261128`. Nothing more is written to it.
    pub(super) is_moved: bool,
}

impl LogFile {
    /// The name of a file that begins with this group.
    pub(super) fn name(created: Timestamp, group: u64) -> String {
        let time = Iso8601::of(created).to_string().replace(['-', ':'], "");
        format!("audit-{time}-{group:012}.jsonl")
    }

    fn of(path: PathBuf) -> Option<Self> {
        let name = path.file_name()?.to_str()?;
        let (middle, rest) = name.strip_prefix("audit-")?.split_once(".jsonl")?;
        let (_, group) = middle.split_once('-')?;
        let group = group.parse().ok()?;
        let digits = rest.strip_prefix(['.', '-']);
        let is_moved = digits.is_some_and(|digits| {
            !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
        });
        (rest.is_empty() || is_moved).then_some(Self {
            group,
            path,
            is_moved,
        })
    }

    /// The log files of a folder, in the order of their groups.
    pub(super) fn all(folder: &Path) -> io::Result<Vec<Self>> {
        let mut files = Vec::new();
        for entry in std::fs::read_dir(folder)? {
            files.extend(Self::of(entry?.path()));
        }
        files.sort();
        Ok(files)
    }

    /// The file's name without its folder.
    pub(super) fn shown(&self) -> String {
        let name = self.path.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }
}

/// The groups of one file.
pub(super) struct Groups {
    input: BufReader<File>,
    /// The lines read so far; `offset` counts the bytes.
    line: u64,
    offset: u64,
    /// The bytes of the group that was read last.
    bytes: Vec<u8>,
}

/// One group.
#[derive(Debug)]
pub(super) struct Group {
    /// Its lines in the file, counted from 1.
    pub(super) first_line: u64,
    pub(super) last_line: u64,
    /// The offset in the file after the group.
    pub(super) end: u64,
    /// The content of its first line when that is a header.
    pub(super) header: Option<Box<Header>>,
    /// The number of lines that are neither header nor chain line.
    pub(super) records: u64,
    /// The bytes that these occupied in the journal.
    pub(super) frames: u64,
    pub(super) chain: ChainLine,
}

/// The next part of a file.
#[derive(Debug)]
pub(super) enum Next {
    Group(Group),
    /// Lines from here on that are not closed by a sound chain line.
    Rest {
        first_line: u64,
    },
    End,
}

impl Groups {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self {
            input: BufReader::with_capacity(1 << 16, open::named(path)?),
            line: 0,
            offset: 0,
            bytes: Vec::new(),
        })
    }

    /// The lines read so far.
    pub(super) fn line(&self) -> u64 {
        self.line
    }

    /// Whether the file was read to its end.
    pub(super) fn is_at_end(&mut self) -> io::Result<bool> {
        Ok(self.input.fill_buf()?.is_empty())
    }

    pub(super) fn next(&mut self) -> io::Result<Next> {
        // One line at a time, up to the chain line that closes the group; never more than a group
        // may have.
        self.bytes.clear();
        let first_line = self.line + 1;
        let (mut header, mut records, mut frames) = (None, 0, 0);
        loop {
            let start = self.bytes.len();
            let room = GROUP_READ_BYTES_MAX.saturating_sub(start) as u64;
            let read = self
                .input
                .by_ref()
                .take(room)
                .read_until(b'\n', &mut self.bytes)?;
            if read == 0 && start == 0 {
                return Ok(Next::End);
            }
            self.offset += read as u64;
            self.line += 1;
            let line = &self.bytes[start..];
            if line.last() != Some(&b'\n') {
                return Ok(Next::Rest { first_line });
            }
            if line.starts_with(CHAIN_START) {
                let Some(chain) = ChainLine::parse(line) else {
                    return Ok(Next::Rest { first_line });
                };
                return Ok(Next::Group(Group {
                    first_line,
                    last_line: self.line,
                    end: self.offset,
                    header,
                    records,
                    frames,
                    chain,
                }));
            }
            if start == 0 && line.starts_with(HEADER_START) {
                header = Header::parse(line).map(Box::new);
            } else {
                records += 1;
                frames += frame_bytes(line.len());
            }
        }
    }

    /// The lines of the group that was read last.
    pub(super) fn lines(&self) -> &[u8] {
        &self.bytes
    }

    /// The MAC of the group that was read last, when `previous` is the MAC before it.
    pub(super) fn mac(&self, key: &Secret<32>, previous: &[u8; 32]) -> [u8; 32] {
        let covered = self.bytes.len().saturating_sub(ChainLine::UNCOVERED_BYTES);
        group_mac(key, previous, &self.bytes[..covered])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_known_by_their_names_and_sorted_by_their_groups() {
        let folder = tempfile::tempdir().unwrap();
        let name = LogFile::name(Timestamp(1_700_000_000_000_000), 42);
        assert_eq!(name, "audit-20231114T221320Z-000000000042.jsonl");
        for name in [
            name.as_str(),
            "audit-20231114T221320Z-000000000007.jsonl",
            "audit-20201114T221320Z-1000000000007.jsonl",
            "audit-x.jsonl",
            "audit-20231114T221320Z-000000000007.jsonl.gz",
            "journal",
        ] {
            std::fs::write(folder.path().join(name), b"").unwrap();
        }
        let files = LogFile::all(folder.path()).unwrap();
        let groups: Vec<u64> = files.iter().map(|file| file.group).collect();
        assert_eq!(groups, [7, 42, 1_000_000_000_007]);
        assert!(LogFile::all(&folder.path().join("absent")).is_err());
    }

    #[test]
    fn a_file_without_line_feeds_is_read_no_further_than_a_group_may_be_long() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        std::fs::write(&path, vec![b'x'; 3 * GROUP_READ_BYTES_MAX]).unwrap();
        let mut groups = Groups::open(&path).unwrap();
        assert!(matches!(
            groups.next().unwrap(),
            Next::Rest { first_line: 1 }
        ));
        assert!(groups.bytes.len() <= GROUP_READ_BYTES_MAX);
    }
}
