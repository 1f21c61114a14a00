//! What the writer asks of the disk: few verbs, so that a test can fail each of them.

use crate::file::open;
use rustix::fs::{FallocateFlags, fallocate};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
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
    /// Makes the folder's names durable.
    fn sync_folder(&mut self, folder: &Path) -> io::Result<()>;
    /// Cuts the file to `length`, and gives back what was reserved past it.
    fn cut(&mut self, file: &File, length: u64) -> io::Result<()>;
    /// Reserves room for `bytes` from `offset` on without making the file longer.
    fn reserve(&mut self, file: &File, offset: u64, bytes: u64) -> io::Result<()>;
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

    fn sync_folder(&mut self, folder: &Path) -> io::Result<()> {
        open::sync_folder(folder)
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
