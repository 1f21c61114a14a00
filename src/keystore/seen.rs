//! The memory of a host: the highest revision of a store that it has seen, and the store's format
//! then.
//!
//! The file is one line of fixed length, `<revision, 20 digits> format <digit>`. It is written in
//! place and synced, so that a daemon without a free descriptor can still write it. The line is
//! within one sector, which a power cut leaves old or new. Releases that knew only format 1 wrote
//! the revision alone.

use crate::file::open;
use crate::keystore::record::{Corrupt, FORMAT_OF_OLD};
use crate::keystore::root_key::sync_folder_of;
use crate::keystore::{Keystore, KeystoreError};
use std::fs::File;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

/// The most bytes of the file that are read; the line has 30.
const LINE_BYTES_MAX: u64 = 64;

/// The file. Its descriptor is kept from the first write on.
pub(super) struct SeenFile {
    path: PathBuf,
    file: Option<File>,
}

impl SeenFile {
    /// The file of the store at `path`.
    pub(super) fn beside(path: &Path) -> Self {
        Self {
            path: Keystore::seen_path(path),
            file: None,
        }
    }

    /// Refuses a head that is older than one that was seen, or has an older format.
    pub(super) fn check(&self, revision: u64, format: u8) -> Result<(), Corrupt> {
        let file = || self.path.display().to_string();
        let text = match open::own_text(&self.path, LINE_BYTES_MAX) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(_) => return Err(Corrupt::Seen { file: file() }),
        };
        let (seen, seen_format) = parse(&text).ok_or_else(|| Corrupt::Seen { file: file() })?;
        if format < seen_format {
            return Err(Corrupt::OlderFormat {
                seen: seen_format,
                file: file(),
            });
        }
        if revision < seen {
            return Err(Corrupt::RolledBack {
                found: revision,
                seen,
                file: file(),
            });
        }
        Ok(())
    }

    /// The revision that was seen; `None` where nothing was.
    pub(super) fn revision(&self) -> Result<Option<u64>, Corrupt> {
        let damaged = || Corrupt::Seen {
            file: self.path.display().to_string(),
        };
        match open::own_text(&self.path, LINE_BYTES_MAX) {
            Ok(text) => parse(&text).map(|(seen, _)| Some(seen)).ok_or_else(damaged),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(_) => Err(damaged()),
        }
    }

    /// Remembers `revision` and `format`. Only the first call needs a new descriptor.
    pub(super) fn raise(&mut self, revision: u64, format: u8) -> Result<(), KeystoreError> {
        let line = format!("{revision:020} format {format}\n");
        let written = match &self.file {
            // A file whose name was removed would remember nothing for the next start.
            Some(file) if file.metadata().is_ok_and(|found| found.nlink() > 0) => file
                .write_all_at(line.as_bytes(), 0)
                .and_then(|()| file.sync_data()),
            _ => self.replace(&line),
        };
        written.map_err(|source| KeystoreError::Io {
            path: self.path.clone(),
            source,
        })
    }

    fn replace(&mut self, line: &str) -> std::io::Result<()> {
        let temporary = self.path.with_extension("seen.new");
        let mut file = open::anew(&temporary, 0o600)?;
        file.write_all(line.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&temporary, &self.path)?;
        sync_folder_of(&self.path)?;
        self.file = Some(file);
        Ok(())
    }
}

/// The revision and the format of a line.
fn parse(text: &str) -> Option<(u64, u8)> {
    let mut words = text.split_whitespace();
    let revision = words.next()?.parse().ok()?;
    match (words.next(), words.next(), words.next()) {
        (None, ..) => Some((revision, FORMAT_OF_OLD)),
        (Some("format"), Some(format), None) => Some((revision, format.parse().ok()?)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_seen_is_read_back_in_both_forms_and_nothing_else_is() {
        assert_eq!(parse("17\n"), Some((17, 1)));
        assert_eq!(parse("00000000000000000017 format 2\n"), Some((17, 2)));
        for text in [
            "",
            "x",
            "17 2",
            "17 format",
            "17 format x",
            "17 format 2 2",
            "-1",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn it_is_written_in_place_and_anew_where_it_was_removed() {
        let folder = tempfile::tempdir().unwrap();
        let mut seen = SeenFile::beside(&folder.path().join("keystore.db"));
        seen.check(1, 1).unwrap();
        seen.raise(9, 2).unwrap();
        let inode = || std::fs::metadata(&seen.path).unwrap().ino();
        let first = inode();
        let mut seen = seen;
        seen.raise(10, 2).unwrap();
        assert_eq!(std::fs::metadata(&seen.path).unwrap().ino(), first);
        assert!(matches!(
            seen.check(9, 2),
            Err(Corrupt::RolledBack {
                found: 9,
                seen: 10,
                ..
            })
        ));
        assert!(matches!(
            seen.check(11, 1),
            Err(Corrupt::OlderFormat { seen: 2, .. })
        ));
        seen.check(10, 2).unwrap();
        std::fs::remove_file(&seen.path).unwrap();
        seen.raise(12, 2).unwrap();
        assert!(seen.check(11, 2).is_err());
        std::fs::write(&seen.path, "torn").unwrap();
        assert!(matches!(seen.check(99, 2), Err(Corrupt::Seen { .. })));
    }
}
