//! The journal: where records wait for the log, in memory that a killed process leaves behind.
//!
//! A file of fixed size, its blocks allocated beforehand, mapped shared: a page of header and a ring of frames. What is stored in it is in the kernel's page
//! cache, which survives the process but not the machine: the log behind it is synced for that.
//!
//! A record's **position** counts the bytes of all frames before it since the journal began and never goes back; its frame begins at that position modulo the
//! ring's length. The log's last chain line says up to which position the log has the records. So after a kill each record is written exactly once, wherever the
//! writer stood.
//!
//! Layout, words of 8 bytes, little-endian. Header: magic, bytes of the ring, tail, head. Frame: `position`, `length << 32 | CRC-32`, then the line, padded to 16
//! bytes. The position is stored last: a frame that has its own position is complete, and a frame of an earlier lap has another. The CRC is for what a power
//! cut tears: pages reach the disk in no order.

use crate::audit::LINE_BYTES_MAX;
use crate::audit::mapping::Mapping;
use rustix::fs::{FallocateFlags, IFlags, fallocate, ioctl_setflags};
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// `KMAJRNL1`
const MAGIC: u64 = u64::from_le_bytes(*b"KMAJRNL1");
/// One page, so that the ring's pages are its own.
const HEADER_BYTES: u64 = 4096;
const HEADER_WORDS: usize = 512;
/// Words of the header.
const MAGIC_WORD: usize = 0;
const RING_WORD: usize = 1;
const TAIL_WORD: usize = 2;
const HEAD_WORD: usize = 3;

/// What positions are multiples of; a frame's header, which therefore never crosses a sector.
pub(super) const FRAME_UNIT: u64 = 16;
const FRAME_HEADER_WORDS: u64 = 2;
/// A ring holds at least a few of the longest lines.
pub(super) const RING_BYTES_MIN: u64 = 4 * LINE_BYTES_MAX as u64;
/// Written at a time when a journal is made.
static ZEROS: [u8; 65_536] = [0; 65_536];

/// There is no room until the log has caught up.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Full;

/// What was taken out for the log.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Collected {
    /// The position after it.
    pub(super) end: u64,
    /// Lines.
    pub(super) records: u64,
    /// Bytes between that hold no sound frame.
    pub(super) lost: u64,
}

/// Bytes that a line of this length, line feed included, takes up.
pub(super) fn frame_bytes(line_bytes: usize) -> u64 {
    (FRAME_HEADER_WORDS * 8 + line_bytes as u64).next_multiple_of(FRAME_UNIT)
}

/// The journal of one log, locked for this process.
pub(super) struct Journal {
    file: File,
    map: Mapping,
    ring_words: usize,
    /// Where the next frame goes. Moved under `appending` alone; a store releases the frame's words to whoever loads it.
    tail: AtomicU64,
    /// Up to where the log is durable: frames before it may be overwritten. A store releases what the writer has read.
    head: AtomicU64,
    /// Held for the copy of one line; nothing blocks or awaits under it.
    appending: Mutex<()>,
}

impl Journal {
    /// Opens the file and takes its lock, which ends with the process. The journal itself is only made or found by [`Self::find`] and [`Self::make`].
    ///
    /// # Errors
    /// `WouldBlock` when another process has it, else what the operating system says.
    pub(super) fn lock(path: &Path) -> io::Result<File> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(TryLockError::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// The journal that a former process left in `file`; nothing when the file holds none.
    ///
    /// # Errors
    /// What the operating system says.
    pub(super) fn find(file: &File) -> io::Result<Option<Self>> {
        let bytes = file.metadata()?.len();
        let ring = bytes.saturating_sub(HEADER_BYTES);
        if ring < RING_BYTES_MIN || !ring.is_multiple_of(FRAME_UNIT) {
            return Ok(None);
        }
        let journal = Self::map(file, ring)?;
        let word = |at: usize| u64::from_le(journal.map[at].load(Ordering::Acquire));
        let (tail, head) = (word(TAIL_WORD), word(HEAD_WORD));
        let sound = word(MAGIC_WORD) == MAGIC
            && word(RING_WORD) == ring
            && tail.is_multiple_of(FRAME_UNIT)
            && head.is_multiple_of(FRAME_UNIT)
            && tail.saturating_sub(head) <= ring;
        // A kill between the two stores of `begin_at` leaves the head ahead.
        journal.tail.store(tail.max(head), Ordering::Relaxed);
        journal.head.store(head, Ordering::Relaxed);
        Ok(sound.then_some(journal))
    }

    /// Makes an empty journal in `file`, with a ring of `ring_bytes` (rounded up), that begins at `position`.
    ///
    /// # Errors
    /// What the operating system says, a full disk among it.
    pub(super) fn make(file: &File, ring_bytes: u64, position: u64) -> io::Result<Self> {
        let ring = Self::ring_bytes(ring_bytes);
        // Copy-on-write file systems allocate anew at every write unless told not to, and could then run out under a mapped page. Others know no such flag.
        file.set_len(0)?;
        let _unknown = ioctl_setflags(file, IFlags::NOCOW);
        match fallocate(file, FallocateFlags::empty(), 0, HEADER_BYTES + ring) {
            Ok(()) | Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {}
            Err(error) => return Err(error.into()),
        }
        // Written and not only allocated: later stores then find blocks that need no conversion.
        let mut at = 0;
        while at < HEADER_BYTES + ring {
            let length = (HEADER_BYTES + ring - at).min(ZEROS.len() as u64);
            file.write_all_at(&ZEROS[..usize::try_from(length).unwrap_or(ZEROS.len())], at)?;
            at += length;
        }
        file.sync_all()?;
        let journal = Self::map(file, ring)?;
        let set = |at: usize, value: u64| journal.map[at].store(value.to_le(), Ordering::Release);
        set(RING_WORD, ring);
        journal.begin_at(position);
        set(MAGIC_WORD, MAGIC);
        journal.sync()?;
        Ok(journal)
    }

    /// The bytes of a ring for which `bytes` were asked.
    pub(super) fn ring_bytes(bytes: u64) -> u64 {
        bytes.max(RING_BYTES_MIN).next_multiple_of(HEADER_BYTES)
    }

    fn map(file: &File, ring: u64) -> io::Result<Self> {
        let ring_words = usize::try_from(ring / 8).map_err(io::Error::other)?;
        Ok(Self {
            map: Mapping::new(file, HEADER_WORDS + ring_words)?,
            file: file.try_clone()?,
            ring_words,
            tail: AtomicU64::new(0),
            head: AtomicU64::new(0),
            appending: Mutex::new(()),
        })
    }

    /// Bytes of the ring.
    pub(super) fn capacity(&self) -> u64 {
        self.ring_words as u64 * 8
    }

    /// Where the next frame goes.
    pub(super) fn tail(&self) -> u64 {
        self.tail.load(Ordering::Acquire)
    }

    /// Up to where the log is known to be durable.
    pub(super) fn head(&self) -> u64 {
        self.head.load(Ordering::Relaxed)
    }

    /// Drops everything, and goes on at `position`.
    pub(super) fn begin_at(&self, position: u64) {
        for (word, shared) in [(&self.head, HEAD_WORD), (&self.tail, TAIL_WORD)] {
            word.store(position, Ordering::Release);
            self.map[shared].store(position.to_le(), Ordering::Release);
        }
    }

    /// Copies `line` in, and returns the position after it. No system call, unless another thread is in the middle of the same.
    ///
    /// # Errors
    /// [`Full`]; nothing was copied.
    pub(super) fn append(&self, line: &[u8]) -> Result<u64, Full> {
        let sum = u64::from(crc32fast::hash(line));
        let bytes = frame_bytes(line.len());
        // A poisoned lock is no danger: the tail moves after everything else.
        let appending = self
            .appending
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let position = self.tail.load(Ordering::Relaxed);
        let end = position + bytes;
        if end - self.head.load(Ordering::Acquire) > self.capacity() {
            return Err(Full);
        }
        let (words, rest) = line.as_chunks::<8>();
        let at = self.index(position);
        self.store(at + 2, words);
        // A line that fills its frame has no rest: the next word is another's.
        if !rest.is_empty() {
            let mut last = [0; 8];
            last[..rest.len()].copy_from_slice(rest);
            self.store(at + 2 + words.len(), &[last]);
        }
        let ring = &self.map[HEADER_WORDS..];
        ring[at + 1].store(((line.len() as u64) << 32 | sum).to_le(), Ordering::Relaxed);
        // Releases the words before it: whoever finds the position finds the frame.
        ring[at].store(position.to_le(), Ordering::Release);
        self.map[TAIL_WORD].store(end.to_le(), Ordering::Release);
        self.tail.store(end, Ordering::Release);
        drop(appending);
        Ok(end)
    }

    /// Appends lines from `from` on to `out`, until `to` or until there are `bytes_max` of them, and at least one. What is no sound frame is skipped.
    pub(super) fn collect(
        &self,
        from: u64,
        to: u64,
        bytes_max: usize,
        out: &mut Vec<u8>,
    ) -> Collected {
        let mut collected = Collected {
            end: from,
            ..Collected::default()
        };
        let full = out.len() + bytes_max;
        while collected.end < to {
            let before = out.len();
            match self.read_frame(collected.end, to, out) {
                None => {
                    collected.end += FRAME_UNIT;
                    collected.lost += FRAME_UNIT;
                }
                Some(_) if out.len() > full && collected.records > 0 => {
                    out.truncate(before);
                    break;
                }
                Some(bytes) => {
                    collected.end += bytes;
                    collected.records += 1;
                }
            }
        }
        collected
    }

    /// Appends the line at `position`, and returns how many bytes its frame has; appends nothing if there is none.
    fn read_frame(&self, position: u64, to: u64, out: &mut Vec<u8>) -> Option<u64> {
        let at = self.index(position);
        let ring = &self.map[HEADER_WORDS..];
        if u64::from_le(ring[at].load(Ordering::Acquire)) != position {
            return None;
        }
        let second = u64::from_le(ring[at + 1].load(Ordering::Relaxed));
        let length = usize::try_from(second >> 32).ok()?;
        let bytes = frame_bytes(length);
        // Zeros at position 0 are no frame: no line is empty.
        if length == 0 || length > LINE_BYTES_MAX || position + bytes > to {
            return None;
        }
        let start = out.len();
        self.load(at + 2, length, out);
        if u64::from(crc32fast::hash(&out[start..])) == second & u64::from(u32::MAX) {
            return Some(bytes);
        }
        out.truncate(start);
        None
    }

    /// Lets frames before `position` be overwritten.
    pub(super) fn release(&self, position: u64) {
        self.map[HEAD_WORD].store(position.to_le(), Ordering::Release);
        self.head.store(position, Ordering::Release);
    }

    /// Makes everything in it durable.
    ///
    /// # Errors
    /// What the operating system says.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// The index in the ring of the word at `position`.
    fn index(&self, position: u64) -> usize {
        let ring_words = self.ring_words as u64;
        usize::try_from(position / 8 % ring_words).unwrap_or_default()
    }

    /// Stores words from `at` on. Two plain loops: a chained iterator costs as much again as the stores.
    fn store(&self, at: usize, words: &[[u8; 8]]) {
        let (before, after) = self.around(at);
        let (here, wrapped) = words.split_at(words.len().min(after.len()));
        for (slots, words) in [(after, here), (before, wrapped)] {
            for (slot, word) in slots.iter().zip(words) {
                slot.store(u64::from_le_bytes(*word).to_le(), Ordering::Relaxed);
            }
        }
    }

    /// Appends `length` bytes of the words from `at` on.
    fn load(&self, at: usize, length: usize, out: &mut Vec<u8>) {
        let end = out.len() + length;
        let (before, after) = self.around(at);
        let words = length.div_ceil(8);
        for slot in after.iter().chain(before).take(words) {
            let word = u64::from_le(slot.load(Ordering::Relaxed));
            out.extend_from_slice(&word.to_le_bytes());
        }
        out.truncate(end);
    }

    /// The ring's words up to `at`, and from it on.
    fn around(&self, at: usize) -> (&[AtomicU64], &[AtomicU64]) {
        self.map[HEADER_WORDS..].split_at(at % self.ring_words)
    }
}

#[cfg(test)]
mod tests;
