//! A file's pages, shared with the kernel: words stored in them outlive the process, without a
//! system call.

use rustix::mm::{MapFlags, ProtFlags};
use std::fs::File;
use std::io;
use std::ops::Deref;
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

/// The first words of a file, mapped shared. They are accessed only as atomics, so that a change by
/// another thread or process can cause a wrong value and nothing worse.
///
/// JUSTIFICATION: a record must outlive a killed process. `write(2)` does that for 1.2 µs a record,
/// six times the time of making the record; a store into a shared mapping takes only the time of
/// the store (bench `audit`, "keep a record in the journal"). `mmap` has no safe wrapper.
pub(super) struct Mapping {
    address: NonNull<AtomicU64>,
    words: usize,
}

#[expect(
    unsafe_code,
    reason = "a shared mapping is only reached through a raw pointer"
)]
// SAFETY: the mapping belongs to no thread, and its words are only touched through atomics.
unsafe impl Send for Mapping {}
#[expect(
    unsafe_code,
    reason = "a shared mapping is only reached through a raw pointer"
)]
// SAFETY: the mapping belongs to no thread, and all access is atomic, which several threads may do
// at once.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps the first `words` words of `file`. The file must be that long and its blocks allocated:
    /// a store into a page without a block, on a full disk, ends the process.
    ///
    /// # Errors
    /// The error of `mmap`.
    #[expect(unsafe_code, reason = "mmap has no safe wrapper")]
    pub(super) fn new(file: &File, words: usize) -> io::Result<Self> {
        // Populated, so that no request has to fault a page in.
        let flags = MapFlags::SHARED | MapFlags::POPULATE;
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice, which nothing refers to yet.
        let mapped = unsafe {
            rustix::mm::mmap(
                std::ptr::null_mut(),
                words * size_of::<u64>(),
                protection,
                flags,
                file,
                0,
            )
        };
        let address = NonNull::new(mapped?.cast::<AtomicU64>())
            .ok_or_else(|| io::Error::other("mapped at address zero"))?;
        Ok(Self { address, words })
    }
}

impl Deref for Mapping {
    type Target = [AtomicU64];

    #[expect(
        unsafe_code,
        reason = "a shared mapping is only reached through a raw pointer"
    )]
    fn deref(&self) -> &[AtomicU64] {
        // SAFETY: the address is that of a mapping of so many words, aligned to a page, readable
        // and writable, that lives until the drop. Every bit pattern is a valid value of an atomic.
        // Nothing in this process refers to the mapping except through this slice. If another
        // process cuts the file off meanwhile, the next access ends this process (SIGBUS), as a
        // kill would: no access goes elsewhere.
        unsafe { std::slice::from_raw_parts(self.address.as_ptr(), self.words) }
    }
}

impl Drop for Mapping {
    #[expect(unsafe_code, reason = "munmap has no safe wrapper")]
    fn drop(&mut self) {
        let bytes = self.words * size_of::<u64>();
        // SAFETY: `new` mapped it with this length, and all borrows of it ended with `self`.
        let _unmapped = unsafe { rustix::mm::munmap(self.address.as_ptr().cast(), bytes) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::Ordering;

    #[test]
    fn what_is_stored_is_in_the_file_and_the_other_way_round() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pages");
        std::fs::write(&path, [0; 8192]).unwrap();
        let file = File::options().read(true).write(true).open(&path).unwrap();
        let mapping = Mapping::new(&file, 1024).unwrap();
        assert_eq!(mapping.len(), 1024);
        mapping[1023].store(u64::from_le_bytes(*b"12345678").to_le(), Ordering::Release);
        assert_eq!(&std::fs::read(&path).unwrap()[8184..], b"12345678");
        std::os::unix::fs::FileExt::write_all_at(&file, &[7], 0).unwrap();
        assert_eq!(mapping[0].load(Ordering::Acquire).to_le(), 7);
    }

    #[test]
    fn a_file_that_cannot_be_written_is_not_mapped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pages");
        std::fs::write(&path, [0; 4096]).unwrap();
        assert!(Mapping::new(&File::open(&path).unwrap(), 512).is_err());
    }
}
