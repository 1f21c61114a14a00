//! A file that is complete or absent: it has another name until it is whole, and takes no other
//! file's place.

use crate::bulk::folder::FILE_MODE;
use crate::file::open;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What the name of a file that is not whole ends with.
const PARTIAL: &str = ".partial";

/// Why there is no file.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// There is a file, or something else, of this name.
    #[error("{} is there already; remove it, or name another file", .0.display())]
    Exists(PathBuf),
    /// Another process is writing it.
    #[error("{} is being written by another process; wait for it, or name another file", .0.display())]
    InUse(PathBuf),
    /// The file system failed.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// A file that is removed unless it is finished.
pub struct OutputFile {
    file: File,
    path: PathBuf,
    partial: PathBuf,
    is_finished: bool,
}

impl OutputFile {
    /// Begins a file, under its name and `.partial`. What a process that died left under that name
    /// is overwritten.
    ///
    /// # Errors
    /// [`OutputError`].
    pub fn begin(path: &Path) -> Result<Self, OutputError> {
        let io = |source| OutputError::Io {
            path: path.to_owned(),
            source,
        };
        let check_absent = || match fs::symlink_metadata(path) {
            Ok(_) => Err(OutputError::Exists(path.to_owned())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(io(error)),
        };
        check_absent()?;
        let mut partial = path.as_os_str().to_owned();
        partial.push(PARTIAL);
        let partial = PathBuf::from(partial);
        let file = open::own_or_new(&partial, FILE_MODE).map_err(io)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(OutputError::InUse(path.to_owned())),
            Err(TryLockError::Error(error)) => return Err(io(error)),
        }
        // Before the lock was taken another process may have finished this very file, or removed
        // it.
        check_absent()?;
        let here = file.metadata().map_err(io)?;
        match fs::symlink_metadata(&partial) {
            Ok(there) if (there.dev(), there.ino()) == (here.dev(), here.ino()) => {}
            _ => return Err(OutputError::InUse(path.to_owned())),
        }
        file.set_len(0).map_err(io)?;
        Ok(Self {
            file,
            path: path.to_owned(),
            partial,
            is_finished: false,
        })
    }

    /// Makes the file durable and gives it its name.
    ///
    /// # Errors
    /// [`OutputError`]; the file is then absent.
    pub fn finish(mut self) -> Result<(), OutputError> {
        let path = self.path.clone();
        let io = |source| OutputError::Io {
            path: path.clone(),
            source,
        };
        self.file.sync_all().map_err(io)?;
        match renameat_with(CWD, &self.partial, CWD, &path, RenameFlags::NOREPLACE) {
            Ok(()) => {}
            Err(Errno::EXIST) => return Err(OutputError::Exists(path)),
            // A file system that cannot do so in one step.
            Err(Errno::INVAL | Errno::NOSYS) if fs::symlink_metadata(&path).is_err() => {
                fs::rename(&self.partial, &path).map_err(io)?;
            }
            Err(Errno::INVAL | Errno::NOSYS) => return Err(OutputError::Exists(path)),
            Err(error) => return Err(io(error.into())),
        }
        self.is_finished = true;
        let folder = path.parent().filter(|path| !path.as_os_str().is_empty());
        open::sync_folder(folder.unwrap_or(Path::new("."))).map_err(io)
    }
}

impl Write for OutputFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for OutputFile {
    fn drop(&mut self) {
        if !self.is_finished {
            // Nothing more can be done here; the next run overwrites what is left.
            fs::remove_file(&self.partial).ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.collect()
    }

    #[test]
    fn a_file_is_complete_or_absent() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.arrows");
        let mut file = OutputFile::begin(&path).unwrap();
        file.write_all(b"some").unwrap();
        assert_eq!(names(folder.path()), ["keys.arrows.partial"]);
        drop(file);
        assert_eq!(names(folder.path()), [""; 0]);
        // What a process that was killed has left.
        fs::write(folder.path().join("keys.arrows.partial"), "much more").unwrap();
        let mut file = OutputFile::begin(&path).unwrap();
        file.write_all(b"all").unwrap();
        file.finish().unwrap();
        assert_eq!(names(folder.path()), ["keys.arrows"]);
        assert_eq!(fs::read(&path).unwrap(), b"all");
    }

    #[test]
    fn no_other_file_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.arrows");
        let first = OutputFile::begin(&path).unwrap();
        let refused = OutputFile::begin(&path).err().unwrap();
        assert!(matches!(refused, OutputError::InUse(_)), "{refused}");
        // It came while the first was written.
        fs::write(&path, "mine").unwrap();
        let refused = first.finish().err().unwrap();
        assert!(matches!(refused, OutputError::Exists(_)), "{refused}");
        assert_eq!(names(folder.path()), ["keys.arrows"]);
        let refused = OutputFile::begin(&path).err().unwrap();
        assert!(matches!(refused, OutputError::Exists(_)), "{refused}");
        assert_eq!(fs::read(&path).unwrap(), b"mine");
        let absent = folder.path().join("absent/keys.arrows");
        let refused = OutputFile::begin(&absent).err().unwrap();
        assert!(matches!(refused, OutputError::Io { .. }), "{refused}");
    }
}
