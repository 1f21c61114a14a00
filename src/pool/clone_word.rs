//! The clone word (POOL-5): a number that changes when this process may have been cloned.
//!
//! A restored snapshot or a fork duplicates the pool and its epochs: both copies would hand out the
//! same keys, and make two tags for one nonce. Every magazine and every pair carries the word under
//! which it was made. A request compares the word when it takes a key and again after binding. The
//! sources follow; all that are present are used. The window is the time from the event until the
//! word has changed:
//!
//! | source | sees | window |
//! |---|---|---|
//! | `vmclock` | restored snapshots: the VM generation counter and the disruption marker of `/dev/vmclock0` (Linux `uapi/linux/vmclock-abi.h`), a mapped page | none |
//! | `kernel-log` | restored snapshots where the hypervisor offers a VM Generation ID, and this process may read `/dev/kmsg` | until the kernel has noticed the id and a thread of ours has read the line |
//! | `uevent` | the same events, on kernels that send `NEW_VMGENID`, which most do not | the same window |
//! | `suspend` | suspends: CLOCK_BOOTTIME gained on CLOCK_MONOTONIC | none |
//! | `fork` | forks: a page that the kernel wipes in the child (`MADV_WIPEONFORK`) | none |
//!
//! No source sees CRIU, or a hypervisor that resumes a snapshot without informing the guest. With
//! `pool.enabled = false` nothing is kept between requests: each request mints in epochs of its
//! own.

use listener::{KERNEL_LOG, Listener, RecordSource};
use rustix::mm::{Advice, MapFlags, ProtFlags};
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

mod listener;

/// A source of the clone word that is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Source {
    /// Its name in the table above.
    #[serde(rename = "source")]
    pub name: &'static str,
    /// `none`, or `until read`.
    pub window: &'static str,
}

/// Watches for clones of this process and its machine.
pub struct CloneWord {
    /// Changes with every event. It changes before the compared value is updated, so that no reader
    /// sees an event as known under an old word.
    word: AtomicU64,
    injected: Arc<AtomicU64>,
    injected_seen: AtomicU64,
    machine: Option<Page>,
    machine_seen: [AtomicU64; 2],
    /// Nanoseconds by which CLOCK_BOOTTIME was ahead of CLOCK_MONOTONIC.
    gap_seen: AtomicI64,
    fork: Option<Page>,
    /// The names of the sources that the listener reads.
    listened: Vec<&'static str>,
    _listener: Option<Listener>,
}

/// A smaller growth of the gap is only the time between the two clock readings.
const SUSPENDED_NANOSECONDS: i64 = 1_000_000;

/// `struct vmclock_abi`: offsets in 8-byte words.
const DISRUPTION_MARKER: usize = 2;
const GENERATION_COUNTER: usize = 13;
/// "VCLK", little-endian.
const VMCLOCK_MAGIC: u32 = 0x4b4c_4356;

impl CloneWord {
    /// Watches with every source that this machine has.
    #[must_use]
    pub fn new() -> Self {
        Self::with(Path::new("/dev/vmclock0"), RecordSource::all())
    }

    fn with(device: &Path, sources: Vec<RecordSource>) -> Self {
        let injected = Arc::default();
        let mut listened: Vec<_> = sources.iter().map(|source| source.name).collect();
        let listener = if sources.is_empty() {
            None
        } else {
            Listener::start(sources, Arc::clone(&injected))
                .inspect_err(|error| {
                    tracing::warn!(%error, "the kernel's announcements are not read");
                })
                .ok()
        };
        if listener.is_none() {
            listened.clear();
        }
        let machine = Page::of_device(device);
        // The present values are the baseline: only a change from now on is an event.
        let seen = |word| AtomicU64::new(machine.as_ref().map_or(0, |page| page.word(word)));
        let machine_seen = [seen(DISRUPTION_MARKER), seen(GENERATION_COUNTER)];
        let fork = Page::wiped_on_fork();
        if let Some(page) = &fork {
            page.set(1);
        }
        let monotonic = nanoseconds(ClockId::Monotonic);
        Self {
            word: AtomicU64::new(1),
            injected,
            injected_seen: AtomicU64::new(0),
            machine,
            machine_seen,
            gap_seen: AtomicI64::new(nanoseconds(ClockId::Boottime) - monotonic),
            fork,
            listened,
            _listener: listener,
        }
    }

    /// A counter whose every change counts as an event, for tests and for an operator's own
    /// watcher.
    #[must_use]
    pub fn handle(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.injected)
    }

    /// The sources in use.
    #[must_use]
    pub fn sources(&self) -> Vec<Source> {
        let at_once = |name| Source {
            name,
            window: "none",
        };
        let listened = self.listened.iter().map(|name| Source {
            name,
            window: "until read",
        });
        let machine = self.machine.as_ref().map(|_| at_once("vmclock"));
        let fork = self.fork.as_ref().map(|_| at_once("fork"));
        let clock = at_once("suspend");
        machine
            .into_iter()
            .chain(listened)
            .chain([clock])
            .chain(fork)
            .collect()
    }

    /// Whether a source in use is known to see restored snapshots.
    #[must_use]
    pub fn sees_snapshots(&self) -> bool {
        self.machine.is_some() || self.listened.contains(&KERNEL_LOG)
    }

    /// The current word. Reads two clocks and some atomics; takes no lock.
    #[must_use]
    pub fn read(&self) -> u64 {
        self.watch(&self.injected_seen, self.injected.load(Ordering::SeqCst));
        if let Some(page) = &self.machine {
            for (seen, word) in self
                .machine_seen
                .iter()
                .zip([DISRUPTION_MARKER, GENERATION_COUNTER])
            {
                self.watch(seen, page.word(word));
            }
        }
        // The monotonic clock is read second: time that passes between the readings makes the gap
        // smaller, never larger.
        let boot = nanoseconds(ClockId::Boottime);
        let gap = boot - nanoseconds(ClockId::Monotonic);
        if gap > self.gap_seen.load(Ordering::SeqCst) + SUSPENDED_NANOSECONDS {
            self.word.fetch_add(1, Ordering::SeqCst);
            self.gap_seen.store(gap, Ordering::SeqCst);
        }
        if let Some(page) = &self.fork
            && page.word(0) == 0
        {
            self.word.fetch_add(1, Ordering::SeqCst);
            page.set(1);
        }
        self.word.load(Ordering::SeqCst)
    }

    fn watch(&self, seen: &AtomicU64, value: u64) {
        if seen.load(Ordering::SeqCst) != value {
            self.word.fetch_add(1, Ordering::SeqCst);
            seen.store(value, Ordering::SeqCst);
        }
    }
}

impl Default for CloneWord {
    fn default() -> Self {
        Self::new()
    }
}

fn nanoseconds(clock: ClockId) -> i64 {
    let time = clock_gettime(clock);
    time.tv_sec
        .saturating_mul(1_000_000_000)
        .saturating_add(time.tv_nsec)
}

/// One mapped page, read and written in whole words.
///
/// JUSTIFICATION: a device page and a page that is wiped on fork both need `mmap`, which has no
/// safe wrapper.
struct Page {
    address: *mut u64,
}

const PAGE_BYTES: usize = 4096;
const PAGE_WORDS: usize = PAGE_BYTES / 8;

#[expect(
    unsafe_code,
    reason = "a shared mapping is only reached through a raw pointer"
)]
// SAFETY: the mapping lives as long as the process (it is never unmapped), and its words are only
// touched through atomics.
unsafe impl Send for Page {}
#[expect(
    unsafe_code,
    reason = "a shared mapping is only reached through a raw pointer"
)]
// SAFETY: the mapping lives as long as the process, and all access is atomic, which several threads
// may do at once.
unsafe impl Sync for Page {}

impl Page {
    #[expect(unsafe_code, reason = "mmap has no safe wrapper")]
    fn of_device(path: &Path) -> Option<Self> {
        let file = File::open(path).ok()?;
        let (length, protection) = (PAGE_BYTES, ProtFlags::READ);
        // SAFETY: a new mapping at an address of the kernel's choice, kept for the life of the
        // process.
        let address = unsafe {
            rustix::mm::mmap(
                std::ptr::null_mut(),
                length,
                protection,
                MapFlags::SHARED,
                &file,
                0,
            )
        };
        let page = Self {
            address: address.ok()?.cast(),
        };
        let magic = u32::try_from(u64::from_le(page.word(0)) & u64::from(u32::MAX)).ok()?;
        (magic == VMCLOCK_MAGIC).then_some(page)
    }

    #[expect(unsafe_code, reason = "mmap and madvise have no safe wrapper")]
    fn wiped_on_fork() -> Option<Self> {
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new anonymous mapping at an address of the kernel's choice, kept for the life
        // of the process.
        let mapped = unsafe {
            rustix::mm::mmap_anonymous(
                std::ptr::null_mut(),
                PAGE_BYTES,
                protection,
                MapFlags::PRIVATE,
            )
        };
        let address = mapped.ok()?;
        // SAFETY: the page was mapped just above and nothing else refers to it.
        unsafe { rustix::mm::madvise(address, PAGE_BYTES, Advice::LinuxWipeOnFork) }.ok()?;
        Some(Self {
            address: address.cast(),
        })
    }

    #[expect(
        unsafe_code,
        reason = "a shared mapping is only reached through a raw pointer"
    )]
    fn at(&self, word: usize) -> &AtomicU64 {
        assert!(word < PAGE_WORDS, "within the page");
        // SAFETY: the page is mapped for the life of the process, aligned, and `word` lies within
        // it; other processes and the hypervisor write it as whole words.
        unsafe { AtomicU64::from_ptr(self.address.add(word)) }
    }

    fn word(&self, word: usize) -> u64 {
        self.at(word).load(Ordering::SeqCst)
    }

    fn set(&self, value: u64) {
        self.at(0).store(value, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::listener::tests::{FORK, log_source, wait_for};
    use super::*;
    use std::io::{Seek, SeekFrom, Write};

    #[test]
    fn pool_5_the_word_stands_still_until_something_happens() {
        let word = CloneWord::new();
        let before = word.read();
        assert!((0..1000).all(|_| word.read() == before));
        word.handle().fetch_add(1, Ordering::SeqCst);
        assert_ne!(word.read(), before);
    }

    #[test]
    fn pool_5_a_suspend_moves_the_word() {
        let word = CloneWord::new();
        let before = word.read();
        // Pretends that the boot-time clock was two seconds behind before.
        word.gap_seen.fetch_sub(2_000_000_000, Ordering::SeqCst);
        let after = word.read();
        assert_ne!(after, before);
        assert_eq!(word.read(), after);
    }

    #[test]
    fn pool_5_a_wiped_page_moves_the_word() {
        let word = CloneWord::new();
        let before = word.read();
        word.fork
            .as_ref()
            .expect("Linux has MADV_WIPEONFORK since 4.14")
            .set(0);
        let after = word.read();
        assert_ne!(after, before);
        assert_eq!(word.read(), after);
    }

    #[test]
    fn pool_5_a_new_vm_generation_moves_the_word() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vmclock0");
        let mut page = vec![0; PAGE_BYTES];
        page[..4].copy_from_slice(&VMCLOCK_MAGIC.to_le_bytes());
        std::fs::write(&path, &page).unwrap();
        let word = CloneWord::with(&path, Vec::new());
        let source = Source {
            name: "vmclock",
            window: "none",
        };
        assert_eq!(word.sources()[0], source);
        assert!(word.sees_snapshots());
        for (offset, name) in [(104, "generation counter"), (16, "disruption marker")] {
            let before = word.read();
            let mut file = File::options().write(true).open(&path).unwrap();
            file.seek(SeekFrom::Start(offset)).unwrap();
            file.write_all(&[7]).unwrap();
            assert_ne!(word.read(), before, "{name}");
        }
        std::fs::write(&path, b"something else").unwrap();
        let absent = CloneWord::with(&folder.path().join("absent"), Vec::new());
        assert_ne!(absent.sources()[0], source);
        assert!(!absent.sees_snapshots());
        assert_eq!(CloneWord::with(&path, Vec::new()).sources().len(), 2);
    }

    #[test]
    fn pool_5_what_the_kernel_says_of_a_restored_snapshot_moves_the_word() {
        let (source, kernel) = log_source();
        let word = CloneWord::with(Path::new("/dev/null"), vec![source]);
        assert_eq!(
            word.sources()[0],
            Source {
                name: "kernel-log",
                window: "until read"
            }
        );
        assert!(word.sees_snapshots());
        let before = word.read();
        rustix::io::write(&kernel, FORK).unwrap();
        assert!(wait_for(|| word.read() != before));
    }
}
