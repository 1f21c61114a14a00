//! The folder of a job. Its files are complete or absent: each is written under a temporary name,
//! synced, renamed, and the folder is synced; a part is named by the manifest only after that.

use crate::bulk::JobError;
use crate::bulk::manifest::{self, Kind, Manifest};
use crate::bulk::part_folders;
use crate::file::{self, ANYBODY_WRITES, Exposed, open};
use hex_simd::AsciiCase;
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::fs::{self, DirBuilder, File, Metadata, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

/// The ending of a file that is not finished: a run that died may have left one.
const PARTIAL: &str = ".partial";
/// Names of ours that begin with `_` are invisible to readers that are given the whole folder.
const MANIFEST: &str = "_manifest.json";
const LOCK: &str = "_lock";
/// A job that reads tables keeps three files of its own: here the row that begins each part.
pub const PLAN: &str = "_plan.json";
/// The table that came on standard input.
pub const INPUT: &str = "_input";
/// The rows that were left out.
pub const REJECTS: &str = "_rejects.ndjson";
/// Row numbers and digests that do not fit into memory, while an input is looked through.
pub const SPILL: &str = "_spill";
/// A manifest has at most [`super::PARTS_MAX`] parts of about 300 bytes.
const MANIFEST_BYTES_MAX: u64 = 64 << 20;
/// Bytes read at a time where a file is hashed.
const READ_BYTES: usize = 1 << 20;
/// A new folder never lets every user write, whatever the umask.
const FOLDER_MODE: u32 = 0o775;
/// The umask decides who may read the files of a job: their keys are wrapped.
pub(crate) const FILE_MODE: u32 = 0o666;

/// A folder that this process alone writes.
pub struct Folder {
    path: PathBuf,
    lock: File,
}

impl Folder {
    /// Opens or creates the folder, locks it, and removes what a run that died left half-written.
    ///
    /// # Errors
    /// [`JobError::OutIsRemote`], [`JobError::FolderInUse`], [`JobError::ForeignFile`],
    /// [`JobError::OpenFolder`], or the error of the file system.
    pub fn open(path: &Path) -> Result<Self, JobError> {
        if path.is_file() {
            return Err(JobError::OutIsFile(path.to_owned()));
        }
        if path.to_string_lossy().contains("://") {
            return Err(JobError::OutIsRemote(path.to_owned()));
        }
        let made = DirBuilder::new()
            .recursive(true)
            .mode(FOLDER_MODE)
            .create(path);
        made.map_err(|error| JobError::io("create", path, error))?;
        guard(path)?;
        // Before the lock file is made: a folder that is not ours is left as it was.
        scan(path)?;
        let lock_path = path.join(LOCK);
        let lock = open::own_or_new(&lock_path, FILE_MODE)
            .map_err(|error| JobError::io("create", &lock_path, error))?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => JobError::FolderInUse(path.to_owned()),
            TryLockError::Error(error) => JobError::io("lock", &lock_path, error),
        })?;
        let folder = Self {
            path: path.to_owned(),
            lock,
        };
        for name in scan(path)? {
            if name.ends_with(PARTIAL) {
                folder.remove(&name)?;
            }
        }
        Ok(folder)
    }

    /// The folder itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.path
    }

    /// The path of a file of the folder.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The finished parts, in no order.
    ///
    /// # Errors
    /// The error of the file system.
    pub fn parts(&self) -> Result<Vec<String>, JobError> {
        let mut names = scan(&self.path)?;
        names.retain(|name| manifest::part_number(name).is_some());
        Ok(names)
    }

    /// Reads the manifest; `None` when there is none.
    ///
    /// # Errors
    /// [`JobError::Manifest`], or the error of the file system.
    pub fn manifest<K: Kind>(&self) -> Result<Option<Manifest<K>>, JobError> {
        let path = self.path(MANIFEST);
        let mut text = Vec::new();
        match open::own(&path) {
            Ok(file) => file
                .take(MANIFEST_BYTES_MAX)
                .read_to_end(&mut text)
                .map_err(|error| JobError::io("read", &path, error))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(JobError::io("read", &path, error)),
        };
        let refuse = |reason: String| JobError::Manifest {
            path: path.clone(),
            reason,
        };
        // The format first: another version may have other members.
        #[derive(serde::Deserialize)]
        struct Format {
            format: String,
        }
        let format: Format =
            serde_json::from_slice(&text).map_err(|error| refuse(error.to_string()))?;
        if format.format != K::FORMAT {
            let ours = K::FORMAT;
            return Err(refuse(format!(
                "its format is {}, not {ours}",
                format.format
            )));
        }
        let manifest: Manifest<K> =
            serde_json::from_slice(&text).map_err(|error| refuse(error.to_string()))?;
        // What was read is written alike, or it has members that would be lost.
        let as_read: Result<Value, _> = serde_json::from_slice(&text);
        if as_read.ok() != serde_json::to_value(&manifest).ok() {
            return Err(refuse(
                "it has members that this build does not know".to_owned(),
            ));
        }
        if !manifest.is_sound() {
            return Err(refuse("its parts do not fit its parameters".to_owned()));
        }
        Ok(Some(manifest))
    }

    /// Replaces the manifest.
    ///
    /// # Errors
    /// What the file system says; the manifest is then the earlier one.
    pub fn write_manifest<K: Kind>(&self, manifest: &Manifest<K>) -> Result<(), JobError> {
        self.write_json(MANIFEST, manifest)
    }

    /// Replaces a file of JSON.
    ///
    /// # Errors
    /// What the file system says; the file is then the earlier one.
    pub fn write_json(&self, name: &str, value: &impl Serialize) -> Result<(), JobError> {
        let io = |error| JobError::io("write", &self.path(name), error);
        let mut text =
            serde_json::to_vec_pretty(value).map_err(|error| io(io::Error::other(error)))?;
        text.push(b'\n');
        let mut file = self.begin(name)?;
        file.write_all(&text).map_err(io)?;
        self.finish(file).map(drop)
    }

    /// Begins a file under a temporary name.
    ///
    /// # Errors
    /// The error of the file system.
    pub fn begin(&self, name: &str) -> Result<Unfinished, JobError> {
        // Parts in folders, too, have numbers of their own.
        let (_, stem) = name.rsplit_once('/').unwrap_or(("", name));
        let stem = stem.trim_start_matches('_');
        let path = self.path(&format!("_{stem}{PARTIAL}"));
        let file =
            open::anew(&path, FILE_MODE).map_err(|error| JobError::io("create", &path, error))?;
        Ok(Unfinished {
            file,
            path: Some(path),
            name: name.to_owned(),
            bytes: 0,
            hash: Sha256::new(),
        })
    }

    /// Makes a file durable and gives it its name.
    ///
    /// # Errors
    /// What the file system says; the file is then absent.
    pub fn finish(&self, mut file: Unfinished) -> Result<Finished, JobError> {
        let to = self.path(&file.name);
        let io = |error| JobError::io("write", &to, error);
        file.file.sync_all().map_err(io)?;
        let mut folders = vec![self.path.clone()];
        if let Some((path, _)) = file.name.rsplit_once('/') {
            for name in path.split('/') {
                let folder = folders[folders.len() - 1].join(name);
                make(&folder).map_err(io)?;
                folders.push(folder);
            }
        }
        if let Some(from) = &file.path {
            fs::rename(from, &to).map_err(io)?;
        }
        file.path = None;
        for folder in folders.iter().rev() {
            open::sync_folder(folder).map_err(io)?;
        }
        Ok(Finished {
            bytes: file.bytes,
            sha256: hex_simd::encode_to_string(
                std::mem::take(&mut file.hash).finalize(),
                AsciiCase::Lower,
            ),
        })
    }

    /// Length and hash of a finished part.
    ///
    /// # Errors
    /// The error of the file system.
    pub fn measure(&self, name: &str) -> Result<Finished, JobError> {
        let path = self.path(name);
        let io = |error| JobError::io("read", &path, error);
        measured(open::own(&path).map_err(io)?).map_err(io)
    }

    /// Gives the folder up when nothing is left to do in it. A process that waits for the lock
    /// finds a finished run.
    ///
    /// # Errors
    /// The error of the file system.
    pub fn close(self) -> Result<(), JobError> {
        self.remove(LOCK)?;
        drop(self.lock);
        Ok(())
    }

    /// Removes a file, unless it is gone already.
    ///
    /// # Errors
    /// The error of the file system.
    pub fn remove_if_there(&self, name: &str) -> Result<(), JobError> {
        match fs::exists(self.path(name)) {
            Ok(false) => Ok(()),
            _ => self.remove(name),
        }
    }

    /// Removes a file that is there.
    ///
    /// # Errors
    /// The error of the file system.
    pub fn remove(&self, name: &str) -> Result<(), JobError> {
        let path = self.path(name);
        fs::remove_file(&path).map_err(|error| JobError::io("remove", &path, error))
    }
}

/// A file that is removed unless it is finished.
pub struct Unfinished {
    file: File,
    path: Option<PathBuf>,
    name: String,
    bytes: u64,
    hash: Sha256,
}

impl Write for Unfinished {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let written = self.file.write(buffer)?;
        self.hash.update(&buffer[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            // Nothing more can be done here; the next run removes what is left.
            fs::remove_file(path).ok();
        }
    }
}

/// Length and hash of all that comes.
///
/// # Errors
/// The error of the reader.
pub fn measured(mut from: impl Read) -> io::Result<Finished> {
    let (mut hash, mut bytes) = (Sha256::new(), 0);
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let read = from.read(&mut buffer)?;
        if read == 0 {
            let sha256 = hex_simd::encode_to_string(hash.finalize(), AsciiCase::Lower);
            return Ok(Finished { bytes, sha256 });
        }
        hash.update(&buffer[..read]);
        bytes += read as u64;
    }
}

/// A finished file.
#[derive(Debug, PartialEq, Eq)]
pub struct Finished {
    /// Its bytes.
    pub bytes: u64,
    /// SHA-256 in hex.
    pub sha256: String,
}

/// Refuses a folder in which every user of the machine may put another file in the place of a part,
/// and warns of one in which some others may.
fn guard(path: &Path) -> Result<(), JobError> {
    let metadata = fs::metadata(path).map_err(|error| JobError::io("read", path, error))?;
    let shown = path.display();
    refuse_open(path, &metadata)?;
    match file::guard_folder(&metadata) {
        Ok(()) => {}
        Err(Exposed::Mode { mode }) => tracing::warn!(
            path = %shown, mode = format!("{mode:04o}"),
            "a group may write this job's folder, and put other files in the place of its parts"
        ),
        Err(Exposed::Owner { owner, uid }) => tracing::warn!(
            path = %shown, owner, uid,
            "this job's folder belongs to another user, who may put other files in the place of its parts"
        ),
    }
    if metadata.mode() & ANYBODY_WRITES != 0 {
        tracing::warn!(
            path = %shown,
            "every user may add files to this job's folder: name one of your own"
        );
    }
    Ok(())
}

fn refuse_open(path: &Path, metadata: &Metadata) -> Result<(), JobError> {
    match file::guard_folder(metadata) {
        Err(Exposed::Mode { mode }) if mode & ANYBODY_WRITES != 0 => {
            let path = path.to_owned();
            Err(JobError::OpenFolder { path, mode })
        }
        _ => Ok(()),
    }
}

/// Makes a folder inside a job's, unless it is there.
fn make(folder: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(FOLDER_MODE).create(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            // Not what a link leads to.
            match fs::symlink_metadata(folder)?.is_dir() {
                true => Ok(()),
                false => Err(io::Error::other("one of its folders is not a folder")),
            }
        }
        made => made,
    }
}

/// The names in the folder, each of which is one of ours, and in the folders of parts.
fn scan(path: &Path) -> Result<Vec<String>, JobError> {
    let mut names = Vec::new();
    let mut folders = vec![String::new()];
    while let Some(folder) = folders.pop() {
        let at = path.join(&folder);
        let io = |error| JobError::io("read", &at, error);
        for entry in fs::read_dir(&at).map_err(io)? {
            let entry = entry.map_err(io)?;
            let foreign = || JobError::ForeignFile(entry.path());
            let name = entry.file_name().into_string().map_err(|_| foreign())?;
            // A link to a folder is not a folder.
            let is_folder = entry.file_type().map_err(io)?.is_dir();
            let below = match folder.as_str() {
                "" => name.clone(),
                folder => format!("{folder}/{name}"),
            };
            if is_folder && part_folders::is_folder(&name) {
                refuse_open(&entry.path(), &entry.metadata().map_err(io)?)?;
                folders.push(below);
            } else if is_ours(&below) {
                names.push(below);
            } else {
                return Err(foreign());
            }
        }
    }
    let stands = |name: &str| manifest::part_number(name).is_some();
    if !names.iter().any(|name| name == MANIFEST)
        && let Some(part) = names.iter().find(|name| stands(name))
    {
        return Err(JobError::ForeignFile(path.join(part)));
    }
    Ok(names)
}

fn is_ours(name: &str) -> bool {
    let whole = |name: &str| {
        [MANIFEST, PLAN, INPUT, REJECTS, SPILL].contains(&name)
            || manifest::part_number(name).is_some()
    };
    match name.strip_suffix(PARTIAL) {
        Some(stem) => whole(stem) || stem.strip_prefix('_').is_some_and(whole),
        None => name == LOCK || whole(name),
    }
}

#[cfg(test)]
mod tests;
