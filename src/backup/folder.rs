//! The folder of a backup: `keystore.db` with the records, and `manifest.json`, which is written
//! last. A folder without a manifest is not a backup, whatever is in it.

use crate::backup::frames::Begin;
use crate::file::open;
use crate::keystore::KeystoreError;
use crate::keystore::checked::Summary;
use hex_simd::AsciiCase;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// The file with the records.
pub const STORE: &str = "keystore.db";
/// The same while it is written.
const UNFINISHED: &str = "keystore.db.unfinished";
/// The manifest.
pub const MANIFEST: &str = "manifest.json";
/// The same while it is written.
const UNFINISHED_MANIFEST: &str = "manifest.json.new";
/// The version of the manifest.
const FORMAT: u32 = 1;
/// Bytes of a manifest at most; ours has less than 2 KiB.
const MANIFEST_BYTES_MAX: u64 = 64 << 10;
/// Bytes that are read at a time.
const PIECE_BYTES: usize = 256 << 10;

/// Why a backup cannot be made or used. Each error prints as one line.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// Reading or writing failed.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// Something else is in the folder.
    #[error("{path} has {found} in it: name a folder that is empty or does not exist yet")]
    Taken {
        /// The folder.
        path: PathBuf,
        /// What is in it.
        found: String,
    },
    /// Another backup is being written to it.
    #[error("another backup is being written to {path}: name another folder")]
    InUse {
        /// The folder.
        path: PathBuf,
    },
    /// There is no manifest.
    #[error(
        "{path} is not a whole backup: it has no manifest.json, which is written when everything else is there and verified; name another one"
    )]
    Unfinished {
        /// The folder.
        path: PathBuf,
    },
    /// The manifest cannot be understood.
    #[error("{path} is damaged or of a newer keymill ({reason}): name another backup")]
    Manifest {
        /// The manifest.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A file is not as the manifest has it.
    #[error("{path} is not as it was written ({reason}): name another backup")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The daemon's answer is not whole.
    #[error("the store was not read to its end: {0}; nothing of the backup is kept")]
    Cut(String),
    /// The store is damaged.
    #[error("the store is damaged, and no backup of it is made: {0}")]
    Findings(String),
    /// The store cannot be read or written.
    #[error(transparent)]
    Keystore(#[from] KeystoreError),
}

/// What `manifest.json` says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`FORMAT`].
    format: u32,
    /// When it was made, as RFC 3339 in UTC.
    pub made_at: String,
    /// The same in seconds since 1970.
    pub made_at_unix_seconds: u64,
    /// Where and by which version it was read.
    #[serde(flatten)]
    pub origin: Origin,
    /// What is in it.
    #[serde(flatten)]
    pub summary: Summary,
    /// The digest of the records and the head.
    pub digest: String,
    /// What authenticated each record after it was written: `root key`, or the `daemon`, whose
    /// digest the written records have.
    pub verified_by: String,
    /// Never. It is here so that a reader does not have to guess.
    pub has_root_key: bool,
    /// The files, with their lengths and digests.
    pub files: Vec<FileEntry>,
}

/// Where a backup comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The version of keymill that read the store.
    pub keymill: String,
    /// The machine that it ran on.
    pub host: String,
    /// Its name among the nodes of a shared store; empty otherwise.
    pub node: String,
}

impl From<Begin> for Origin {
    fn from(begin: Begin) -> Self {
        Self {
            keymill: begin.keymill,
            host: begin.host,
            node: begin.node,
        }
    }
}

/// A file of a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileEntry {
    /// Its name.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// SHA-256, in hexadecimal digits.
    pub sha256: String,
}

/// A folder that a backup is written to, for this process alone.
pub struct Folder {
    path: PathBuf,
    /// Locked.
    _folder: File,
}

impl Folder {
    /// Makes the folder, or takes one that is empty or holds what an unfinished backup left.
    ///
    /// # Errors
    /// [`BackupError`].
    pub fn begin(path: &Path) -> Result<Self, BackupError> {
        let io = |source| BackupError::Io {
            path: path.to_owned(),
            source,
        };
        match DirBuilder::new().mode(0o700).create(path) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(io(error)),
            _ => {}
        }
        let folder = open::folder(path).map_err(io)?;
        match folder.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(BackupError::InUse {
                    path: path.to_owned(),
                });
            }
            Err(TryLockError::Error(error)) => return Err(io(error)),
        }
        for entry in fs::read_dir(path).map_err(io)? {
            let name = entry.map_err(io)?.file_name();
            let is_left = [UNFINISHED, UNFINISHED_MANIFEST, STORE].map(|left| name == left);
            if !is_left.contains(&true) || path.join(MANIFEST).exists() {
                let found = name.to_string_lossy().into_owned();
                let path = path.to_owned();
                return Err(BackupError::Taken { path, found });
            }
        }
        // Without a manifest, it was never more than unfinished.
        for left in [UNFINISHED, UNFINISHED_MANIFEST, STORE] {
            match fs::remove_file(path.join(left)) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(io(error)),
                _ => {}
            }
        }
        Ok(Self {
            path: path.to_owned(),
            _folder: folder,
        })
    }

    /// Where the records are written.
    #[must_use]
    pub fn unfinished(&self) -> PathBuf {
        self.path.join(UNFINISHED)
    }

    /// Takes back what was written, as far as it can.
    pub fn abandon(self) {
        let _left = fs::remove_file(self.unfinished());
        let _not_empty = fs::remove_dir(&self.path);
    }

    /// Gives the written records their name, and writes the manifest.
    ///
    /// # Errors
    /// [`BackupError`].
    pub fn finish(
        &self,
        origin: Origin,
        summary: Summary,
        digest: String,
        verified_by: &str,
        made_at: (String, u64),
    ) -> Result<Manifest, BackupError> {
        let unfinished = self.unfinished();
        let entry = entry(&unfinished, STORE)?;
        let io = |path: &Path, source| BackupError::Io {
            path: path.to_owned(),
            source,
        };
        let store = self.path.join(STORE);
        fs::rename(&unfinished, &store)
            .and_then(|()| open::sync_folder(&self.path))
            .map_err(|error| io(&store, error))?;
        let (made_at, made_at_unix_seconds) = made_at;
        let manifest = Manifest {
            format: FORMAT,
            made_at,
            made_at_unix_seconds,
            origin,
            summary,
            digest,
            verified_by: verified_by.to_owned(),
            has_root_key: false,
            files: vec![entry],
        };
        let path = self.path.join(MANIFEST);
        let mut text = serde_json::to_string_pretty(&manifest).map_err(|error| {
            let source = io::Error::other(error);
            io(&path, source)
        })?;
        text.push('\n');
        open::write_whole(&path, text.as_bytes(), 0o600).map_err(|error| io(&path, error))?;
        // The name of the folder itself.
        let above = self
            .path
            .parent()
            .filter(|above| !above.as_os_str().is_empty());
        open::sync_folder(above.unwrap_or(Path::new(".")))
            .map_err(|error| io(&self.path, error))?;
        Ok(manifest)
    }

    /// The manifest of a whole backup, whose files are as it says, and the file with its records.
    ///
    /// # Errors
    /// [`BackupError`].
    pub fn read(path: &Path) -> Result<(Manifest, PathBuf), BackupError> {
        let file = path.join(MANIFEST);
        let text = match open::named_text(&file, MANIFEST_BYTES_MAX) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound && path.is_dir() => {
                let path = path.to_owned();
                return Err(BackupError::Unfinished { path });
            }
            Err(source) => return Err(BackupError::Io { path: file, source }),
        };
        let refused = |reason: String| BackupError::Manifest {
            path: file.clone(),
            reason,
        };
        let manifest: Manifest =
            serde_json::from_str(&text).map_err(|error| refused(error.to_string()))?;
        if manifest.format != FORMAT {
            return Err(refused(format!("format {}", manifest.format)));
        }
        let [told] = manifest.files.as_slice() else {
            return Err(refused("it does not have one file".to_owned()));
        };
        let store = path.join(STORE);
        if told.name != STORE {
            return Err(refused(format!("a file {:?}", told.name)));
        }
        let found = entry(&store, STORE)?;
        if found != *told {
            let reason = match found.bytes == told.bytes {
                true => "its SHA-256 is another".to_owned(),
                false => format!("it has {} bytes, not {}", found.bytes, told.bytes),
            };
            return Err(BackupError::Damaged {
                path: store,
                reason,
            });
        }
        Ok((manifest, store))
    }
}

/// Length and digest of a file.
fn entry(path: &Path, name: &str) -> Result<FileEntry, BackupError> {
    let digest = || {
        let mut file = open::own(path)?;
        let (mut hasher, mut bytes) = (Sha256::new(), 0);
        let mut piece = vec![0; PIECE_BYTES];
        loop {
            match file.read(&mut piece)? {
                0 => break,
                read => {
                    hasher.update(&piece[..read]);
                    bytes += read as u64;
                }
            }
        }
        Ok((bytes, hasher.finalize()))
    };
    let (bytes, sha256) = digest().map_err(|source| BackupError::Io {
        path: path.to_owned(),
        source,
    })?;
    Ok(FileEntry {
        name: name.to_owned(),
        bytes,
        sha256: hex_simd::encode_to_string(sha256, AsciiCase::Lower),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finish(folder: &Folder) -> Manifest {
        let summary = Summary {
            revision: 9,
            records: 2,
            kinds: [("key".to_owned(), 2)].into(),
            findings: 0,
        };
        let origin = Origin::from(Begin::here(""));
        let made_at = ("2026-01-01T00:00:00Z".to_owned(), 1);
        let made = folder.finish(origin, summary, "d".to_owned(), "root key", made_at);
        made.unwrap()
    }

    #[test]
    fn a_backup_is_whole_with_its_manifest_and_not_before() {
        let at = tempfile::tempdir().unwrap();
        let path = at.path().join("backup");
        let folder = Folder::begin(&path).unwrap();
        assert!(matches!(
            Folder::begin(&path),
            Err(BackupError::InUse { .. })
        ));
        fs::write(folder.unfinished(), "records").unwrap();
        assert!(matches!(
            Folder::read(&path),
            Err(BackupError::Unfinished { .. })
        ));
        // What an earlier one left is taken over.
        drop(folder);
        fs::write(path.join(STORE), "records of before").unwrap();
        let folder = Folder::begin(&path).unwrap();
        assert!(!folder.unfinished().exists() && !path.join(STORE).exists());
        fs::write(folder.unfinished(), "records").unwrap();
        let made = finish(&folder);
        let (read, store) = Folder::read(&path).unwrap();
        assert_eq!((read, store), (made, path.join(STORE)));
        drop(folder);
        let refused = Folder::begin(&path).err().unwrap().to_string();
        assert!(refused.contains("name a folder that is empty"), "{refused}");
    }

    #[test]
    fn a_folder_with_other_files_is_left_alone() {
        let at = tempfile::tempdir().unwrap();
        fs::write(at.path().join("notes.txt"), "mine").unwrap();
        let refused = Folder::begin(at.path()).err().unwrap().to_string();
        assert!(refused.contains("notes.txt"), "{refused}");
        assert!(at.path().join("notes.txt").exists());
    }

    #[test]
    fn what_was_changed_after_it_was_written_is_found() {
        let at = tempfile::tempdir().unwrap();
        let path = at.path().join("backup");
        let folder = Folder::begin(&path).unwrap();
        fs::write(folder.unfinished(), "records").unwrap();
        finish(&folder);
        let (store, manifest) = (path.join(STORE), path.join(MANIFEST));
        let refused = || Folder::read(&path).err().unwrap().to_string();
        fs::write(&store, "recordz").unwrap();
        assert!(refused().contains("SHA-256"), "{}", refused());
        fs::write(&store, "record").unwrap();
        assert!(refused().contains("6 bytes, not 7"), "{}", refused());
        fs::remove_file(&store).unwrap();
        assert!(refused().contains("keystore.db"), "{}", refused());
        fs::write(&store, "records").unwrap();
        let whole = fs::read_to_string(&manifest).unwrap();
        for (from, to) in [
            ("\"format\": 1", "\"format\": 2"),
            ("\"name\": \"keystore.db\"", "\"name\": \"../keystore.db\""),
            ("\"files\": [", "\"files\": [["),
            ("\"revision\": 9,", ""),
        ] {
            assert!(whole.contains(from), "{whole}");
            fs::write(&manifest, whole.replace(from, to)).unwrap();
            assert!(refused().contains("name another backup"), "{}", refused());
        }
        fs::write(&manifest, whole).unwrap();
        Folder::read(&path).unwrap();
    }
}
