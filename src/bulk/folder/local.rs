//! A job's folder on this machine. A file is written under a temporary name, synced and renamed,
//! and the folder is synced; a lock on a file of it keeps other jobs away.

use crate::bulk::JobError;
use crate::bulk::folder::{LOCK, PARTIAL, check_names, is_ours};
use crate::bulk::manifest;
use crate::bulk::part_folders;
use crate::file::{self, ANYBODY_WRITES, Exposed, open};
use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, Metadata, TryLockError};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

/// A new folder never lets every user write, whatever the umask.
const FOLDER_MODE: u32 = 0o775;
/// The umask decides who may read the files of a job: their keys are wrapped.
pub(crate) const FILE_MODE: u32 = 0o666;

/// A folder that this process alone writes.
pub(super) struct Local {
    path: PathBuf,
    lock: File,
}

impl Local {
    /// Opens or creates the folder, locks it, and removes what a run that died left half-written.
    pub(super) fn open(path: &Path) -> Result<Self, JobError> {
        if path.is_file() {
            return Err(JobError::OutIsFile(path.to_owned()));
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
        for name in scan(path)? {
            if name.ends_with(PARTIAL) {
                let partial = path.join(name);
                fs::remove_file(&partial)
                    .map_err(|error| JobError::io("remove", &partial, error))?;
            }
        }
        Ok(Self {
            path: path.to_owned(),
            lock,
        })
    }

    /// The finished parts, and the bytes of each.
    pub(super) fn parts(&self) -> Result<BTreeMap<String, u64>, JobError> {
        let mut parts = BTreeMap::new();
        for name in scan(&self.path)? {
            if manifest::part_number(&name).is_some() {
                let path = self.path.join(&name);
                let metadata = open::own(&path).and_then(|file| file.metadata());
                let metadata = metadata.map_err(|error| JobError::io("read", &path, error))?;
                parts.insert(name, metadata.len());
            }
        }
        Ok(parts)
    }

    pub(super) fn reader(&self, name: &str) -> io::Result<File> {
        open::own(&self.path.join(name))
    }

    pub(super) fn read(&self, name: &str, bytes_max: u64) -> io::Result<Option<Vec<u8>>> {
        let mut bytes = Vec::new();
        match self.reader(name) {
            Ok(file) => file.take(bytes_max).read_to_end(&mut bytes)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        Ok(Some(bytes))
    }

    pub(super) fn begin(&self, name: &str) -> Result<Partial, JobError> {
        // Parts in folders, too, have numbers of their own.
        let (_, stem) = name.rsplit_once('/').unwrap_or(("", name));
        let stem = stem.trim_start_matches('_');
        let path = self.path.join(format!("_{stem}{PARTIAL}"));
        let file =
            open::anew(&path, FILE_MODE).map_err(|error| JobError::io("create", &path, error))?;
        Ok(Partial {
            file,
            path: Some(path),
        })
    }

    /// Makes a file durable and gives it its name.
    pub(super) fn finish(&self, mut partial: Partial, name: &str) -> io::Result<()> {
        partial.file.sync_all()?;
        let mut folders = vec![self.path.clone()];
        if let Some((path, _)) = name.rsplit_once('/') {
            for name in path.split('/') {
                let folder = folders[folders.len() - 1].join(name);
                make(&folder)?;
                folders.push(folder);
            }
        }
        if let Some(from) = &partial.path {
            fs::rename(from, self.path.join(name))?;
        }
        partial.path = None;
        for folder in folders.iter().rev() {
            open::sync_folder(folder)?;
        }
        Ok(())
    }

    /// A process that waits for the lock finds a finished run.
    pub(super) fn close(self) -> Result<(), JobError> {
        self.remove(LOCK)?;
        drop(self.lock);
        Ok(())
    }

    pub(super) fn remove_if_there(&self, name: &str) -> Result<(), JobError> {
        match fs::exists(self.path.join(name)) {
            Ok(false) => Ok(()),
            _ => self.remove(name),
        }
    }

    fn remove(&self, name: &str) -> Result<(), JobError> {
        let path = self.path.join(name);
        fs::remove_file(&path).map_err(|error| JobError::io("remove", &path, error))
    }
}

/// A file that is removed unless it is finished.
pub(super) struct Partial {
    pub(super) file: File,
    path: Option<PathBuf>,
}

impl Drop for Partial {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            // Nothing more can be done here; the next run removes what is left.
            fs::remove_file(path).ok();
        }
    }
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
    check_names(path, &names)?;
    Ok(names)
}
