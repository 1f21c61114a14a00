//! The writer's operations on the disk: only a few, so that a test can make each of them fail.

use crate::file::open;
use rustix::fs::{FallocateFlags, fallocate};
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

/// Permission bits of a log file: its owner writes, its group (log readers) reads.
pub(super) const LOG_MODE: u32 = 0o640;

/// The place where log files are kept.
pub(super) trait Disk: Send {
    /// Makes an empty file of this name, in place of one that an earlier try left behind.
    fn create(&mut self, path: &Path) -> io::Result<File>;
    /// Writes all of `bytes` at `offset`.
    fn write(&mut self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Makes the written bytes durable.
    fn sync(&mut self, file: &File) -> io::Result<()>;
    /// Opens the folder, for [`Self::sync_folder`].
    fn folder(&mut self, path: &Path) -> io::Result<File>;
    /// Makes the names in the folder durable.
    fn sync_folder(&mut self, folder: &File) -> io::Result<()>;
    /// The file at `path` now; `None` when there is none.
    fn at(&mut self, path: &Path) -> io::Result<Option<Seen>>;
    /// Cuts the file to `length`, and frees the room that was reserved behind it.
    fn cut(&mut self, file: &File, length: u64) -> io::Result<()>;
    /// Reserves room for `bytes` from `offset` on without making the file longer.
    fn reserve(&mut self, file: &File, offset: u64, bytes: u64) -> io::Result<()>;
}

/// Identifies a file whatever its name is.
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

    /// The identity of an open file.
    pub(super) fn of(file: &File) -> io::Result<Self> {
        Ok(Self::new(&file.metadata()?))
    }
}

/// A file that was found at a path.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    pub(super) identity: Identity,
    pub(super) length: u64,
}

/// Whether the error means that the name, or a folder above it, does not exist.
pub(super) fn is_absent(error: &io::Error) -> bool {
    use io::ErrorKind::{NotADirectory, NotFound};
    matches!(error.kind(), NotFound | NotADirectory)
}

/// The disk of the operating system.
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
            // On a file system that cannot reserve, a full disk shows only when it is written to.
            Ok(()) | Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}
