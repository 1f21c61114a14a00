//! The memory of a host: the highest revision of a store that it has seen, the store's format then,
//! and since format 3 which head that was.
//!
//! The file is one line, `<revision, 20 digits> format <digit>`, of format 3 with ` head <64 hex
//! digits>` behind it: the SHA-256 of the sealed head. It is written in place and synced, so that a
//! daemon without a free descriptor can still write it; anew where its length is another. The line
//! is within one sector, which a power cut leaves old or new. Releases that knew only format 1
//! wrote the revision alone, and those that knew format 2 refuse a longer line: so it is written
//! only where the whole store is of format 3.

use crate::file::open;
use crate::keystore::record::{Corrupt, FORMAT_OF_MEMORY, FORMAT_OF_OLD, Record};
use crate::keystore::root_key::sync_folder_of;
use crate::keystore::{Keystore, KeystoreError};
use hex_simd::AsciiCase;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

/// The most bytes of the file that are read; the line has 30 or 100.
const LINE_BYTES_MAX: u64 = 128;

/// The file. Its descriptor is kept from the first write on.
pub(super) struct SeenFile {
    path: PathBuf,
    file: Option<File>,
    /// Whether the last line is in the file and may not be on the disk.
    is_unsynced: bool,
}

impl SeenFile {
    /// The file of the store at `path`.
    pub(super) fn beside(path: &Path) -> Self {
        Self {
            path: Keystore::seen_path(path),
            file: None,
            is_unsynced: false,
        }
    }

    /// Refuses a head that is older than the one that was seen, has an older format, or is another
    /// one of its revision.
    pub(super) fn check(&self, head: &Record, format: u8) -> Result<(), Corrupt> {
        self.compare(self.seen()?, head, format)
    }

    /// Does so with what had been seen at an earlier time.
    pub(super) fn compare(
        &self,
        seen: Option<Seen>,
        head: &Record,
        format: u8,
    ) -> Result<(), Corrupt> {
        let Some(seen) = seen else {
            return Ok(());
        };
        let file = self.path.display().to_string();
        if format < seen.format {
            let (found, seen) = (format, seen.format);
            return Err(Corrupt::OlderFormat { found, seen, file });
        }
        if head.revision < seen.revision {
            let (found, seen) = (head.revision, seen.revision);
            return Err(Corrupt::RolledBack { found, seen, file });
        }
        let is_same = seen.head.is_none_or(|seen| seen == digest(head));
        if head.revision == seen.revision && !is_same {
            let revision = head.revision;
            return Err(Corrupt::OtherHead { revision, file });
        }
        Ok(())
    }

    /// The revision that was seen; `None` where nothing was.
    pub(super) fn revision(&self) -> Result<Option<u64>, Corrupt> {
        Ok(self.seen()?.map(|seen| seen.revision))
    }

    /// What was seen until now.
    pub(super) fn seen(&self) -> Result<Option<Seen>, Corrupt> {
        let damaged = || Corrupt::Seen {
            file: self.path.display().to_string(),
        };
        match open::own_text(&self.path, LINE_BYTES_MAX) {
            Ok(text) => parse(&text).map(Some).ok_or_else(damaged),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(_) => Err(damaged()),
        }
    }

    /// Remembers this head, as far as stores of its format are remembered, and makes that durable.
    /// Only the first call needs a new descriptor.
    pub(super) fn raise(&mut self, head: &Record, format: u8) -> Result<(), KeystoreError> {
        self.note(head, format)?;
        self.sync()
    }

    /// Remembers this head. A process that is killed has remembered it; a machine that loses its
    /// power has after [`Self::sync`].
    pub(super) fn note(&mut self, head: &Record, format: u8) -> Result<(), KeystoreError> {
        let mut line = format!("{:020} format {format}", head.revision);
        if format >= FORMAT_OF_MEMORY {
            line += " head ";
            line += &hex_simd::encode_to_string(digest(head), AsciiCase::Lower);
        }
        line.push('\n');
        // A file whose name was removed would remember nothing for the next start, and one that
        // grows is not old or new after a power cut.
        let is_of_length = |file: &File| {
            let found = file.metadata();
            found.is_ok_and(|found| found.nlink() > 0 && found.len() == line.len() as u64)
        };
        let written = match &self.file {
            Some(file) if is_of_length(file) => {
                self.is_unsynced = true;
                file.write_all_at(line.as_bytes(), 0)
            }
            _ => self.replace(&line),
        };
        written.map_err(|source| self.failed(source))
    }

    /// Makes durable what was noted.
    pub(super) fn sync(&mut self) -> Result<(), KeystoreError> {
        let Some(file) = self.file.as_ref().filter(|_| self.is_unsynced) else {
            return Ok(());
        };
        file.sync_data().map_err(|source| self.failed(source))?;
        self.is_unsynced = false;
        Ok(())
    }

    fn failed(&self, source: std::io::Error) -> KeystoreError {
        let path = self.path.clone();
        KeystoreError::Io { path, source }
    }

    fn replace(&mut self, line: &str) -> std::io::Result<()> {
        let temporary = self.path.with_extension("seen.new");
        let mut file = open::anew(&temporary, 0o600)?;
        file.write_all(line.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&temporary, &self.path)?;
        sync_folder_of(&self.path)?;
        self.file = Some(file);
        self.is_unsynced = false;
        Ok(())
    }
}

/// What a line says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    revision: u64,
    format: u8,
    head: Option<[u8; 32]>,
}

fn digest(head: &Record) -> [u8; 32] {
    Sha256::digest(&head.body).into()
}

fn parse(text: &str) -> Option<Seen> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let (revision, format, head) = match words[..] {
        [revision] => (revision, None, None),
        [revision, "format", format] => (revision, Some(format), None),
        [revision, "format", format, "head", head] => (revision, Some(format), Some(head)),
        _ => return None,
    };
    let format = format.map_or(Ok(FORMAT_OF_OLD), str::parse).ok()?;
    let head = match head {
        Some(head) => Some(hex_simd::decode_to_vec(head).ok()?.try_into().ok()?),
        None => None,
    };
    // Of format 3 nothing else was ever written.
    let is_whole = head.is_some() == (format >= FORMAT_OF_MEMORY);
    is_whole.then_some(Seen {
        revision: revision.parse().ok()?,
        format,
        head,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keystore::record::Kind;

    fn head(revision: u64, body: u8) -> Record {
        Record {
            kind: Kind::Head,
            id: String::new(),
            revision,
            body: vec![body],
        }
    }

    #[test]
    fn what_was_seen_is_read_back_in_all_forms_and_nothing_else_is() {
        let seen = |revision, format, head| Seen {
            revision,
            format,
            head,
        };
        assert_eq!(parse("17\n"), Some(seen(17, 1, None)));
        let line = "00000000000000000017 format 2\n";
        assert_eq!(parse(line), Some(seen(17, 2, None)));
        let digits = "5e".repeat(32);
        let line = format!("00000000000000000017 format 3 head {digits}\n");
        assert_eq!(parse(&line), Some(seen(17, 3, Some([0x5e; 32]))));
        for text in [
            "",
            "x",
            "17 2",
            "17 format",
            "17 format x",
            "17 format 2 2",
            "17 format 3",
            "17 format 3 head",
            "17 format 3 head 5e",
            &format!("17 format 2 head {digits}"),
            &format!("17 format 3 head {digits} x"),
            "-1",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn what_was_noted_is_there_at_once_and_synced_later() {
        let folder = tempfile::tempdir().unwrap();
        let mut seen = SeenFile::beside(&folder.path().join("keystore.db"));
        seen.sync().unwrap();
        seen.note(&head(1, 1), 2).unwrap();
        assert!(!seen.is_unsynced, "a new file is durable as a whole");
        seen.note(&head(2, 1), 2).unwrap();
        assert!(seen.is_unsynced);
        let again = SeenFile::beside(&folder.path().join("keystore.db"));
        assert!(again.check(&head(1, 1), 2).is_err());
        seen.sync().unwrap();
        assert!(!seen.is_unsynced);
    }

    #[test]
    fn it_is_written_in_place_and_anew_where_it_was_removed() {
        let folder = tempfile::tempdir().unwrap();
        let mut seen = SeenFile::beside(&folder.path().join("keystore.db"));
        seen.check(&head(1, 1), 1).unwrap();
        seen.raise(&head(9, 1), 2).unwrap();
        let inode = || std::fs::metadata(&seen.path).unwrap().ino();
        let first = inode();
        let mut seen = seen;
        seen.raise(&head(10, 1), 2).unwrap();
        assert_eq!(std::fs::metadata(&seen.path).unwrap().ino(), first);
        assert!(matches!(
            seen.check(&head(9, 1), 2),
            Err(Corrupt::RolledBack {
                found: 9,
                seen: 10,
                ..
            })
        ));
        assert!(matches!(
            seen.check(&head(11, 1), 1),
            Err(Corrupt::OlderFormat {
                found: 1,
                seen: 2,
                ..
            })
        ));
        seen.check(&head(10, 2), 2).unwrap();
        // Since format 3 it knows which head that was.
        seen.raise(&head(10, 1), 3).unwrap();
        let longer = std::fs::metadata(&seen.path).unwrap().ino();
        assert_ne!(longer, first);
        seen.raise(&head(11, 1), 3).unwrap();
        assert_eq!(std::fs::metadata(&seen.path).unwrap().ino(), longer);
        seen.check(&head(11, 1), 3).unwrap();
        seen.check(&head(12, 2), 3).unwrap();
        assert!(matches!(
            seen.check(&head(11, 2), 3),
            Err(Corrupt::OtherHead { revision: 11, .. })
        ));
        assert!(seen.check(&head(11, 1), 2).is_err());
        std::fs::remove_file(&seen.path).unwrap();
        seen.raise(&head(12, 1), 3).unwrap();
        assert!(seen.check(&head(11, 1), 3).is_err());
        std::fs::write(&seen.path, "torn").unwrap();
        assert!(matches!(
            seen.check(&head(99, 1), 3),
            Err(Corrupt::Seen { .. })
        ));
    }
}
