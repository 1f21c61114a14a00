//! What the writer asks of the disk: few verbs, so that a test can fail each of them.

use crate::file::open;
use rustix::fs::{FallocateFlags, fallocate};
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

/// Permission bits of a log file: for its owner and those who read logs.
pub(super) const LOG_MODE: u32 = 0o640;

/// Where log files are kept.
pub(super) trait Disk: Send {
    /// Makes an empty file of this name, in place of one that an earlier attempt left.
    fn create(&mut self, path: &Path) -> io::Result<File>;
    /// Writes all of `bytes` at `offset`.
    fn write(&mut self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Makes what was written durable.
    fn sync(&mut self, file: &File) -> io::Result<()>;
    /// Opens the folder, for [`Self::sync_folder`].
    fn folder(&mut self, path: &Path) -> io::Result<File>;
    /// Makes the folder's names durable.
    fn sync_folder(&mut self, folder: &File) -> io::Result<()>;
    /// What is at `path` now; nothing when nothing is.
    fn at(&mut self, path: &Path) -> io::Result<Option<Seen>>;
    /// Cuts the file to `length`, and gives back what was reserved past it.
    fn cut(&mut self, file: &File, length: u64) -> io::Result<()>;
    /// Reserves room for `bytes` from `offset` on without making the file longer.
    fn reserve(&mut self, file: &File, offset: u64, bytes: u64) -> io::Result<()>;
}

/// A file, whatever its names are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    fn new(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
        }
    }

    /// That of an open file.
    pub(super) fn of(file: &File) -> io::Result<Self> {
        Ok(Self::new(&file.metadata()?))
    }
}

/// What is at a path.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    pub(super) identity: Identity,
    pub(super) length: u64,
}

/// Whether there is no such name, or no folder that could have it.
pub(super) fn is_absent(error: &io::Error) -> bool {
    use io::ErrorKind::{NotADirectory, NotFound};
    matches!(error.kind(), NotFound | NotADirectory)
}

/// The operating system's.
pub(super) struct SystemDisk;

impl Disk for SystemDisk {
    fn create(&mut self, path: &Path) -> io::Result<File> {
        open::anew(path, LOG_MODE)
    }

    fn write(&mut self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        file.write_all_at(bytes, offset)
    }

    fn sync(&mut self, file: &File) -> io::Result<()> {
        file.sync_data()
    }

    fn folder(&mut self, path: &Path) -> io::Result<File> {
        open::folder(path)
    }

    fn sync_folder(&mut self, folder: &File) -> io::Result<()> {
        folder.sync_all()
    }

    fn at(&mut self, path: &Path) -> io::Result<Option<Seen>> {
        match std::fs::symlink_metadata(path) {
            Ok(metadata) => Ok(Some(Seen {
                identity: Identity::new(&metadata),
                length: metadata.len(),
            })),
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn cut(&mut self, file: &File, length: u64) -> io::Result<()> {
        file.set_len(length)
    }

    fn reserve(&mut self, file: &File, offset: u64, bytes: u64) -> io::Result<()> {
        match fallocate(file, FallocateFlags::KEEP_SIZE, offset, bytes) {
            // A file system that cannot reserve tells of a full disk when it is written to.
            Ok(()) | Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}
