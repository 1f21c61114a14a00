//! The journal: records wait in it for the log. Its memory outlives a killed process.
//!
//! It is a file of fixed size whose blocks are allocated beforehand, mapped shared: a page of
//! header and a ring of frames. Stored bytes are in the kernel's page cache, which outlives the
//! process but not the machine; against that, the log is synced.
//!
//! A record's **position** is the number of bytes of all frames before it since the journal began.
//! It never decreases; the record's frame begins at that position modulo the ring's length. The
//! log's last chain line holds the position up to which the log has the records. So after a kill
//! each record is written exactly once, wherever the writer was interrupted.
//!
//! Layout, words of 8 bytes, little-endian. Header: magic, bytes of the ring, tail, head, boot id
//! (two). Frame: `position`, `length << 32 | CRC-32`, then the line, padded to 16 bytes. A thread
//! claims room by moving the tail, and stores the position last: a frame that has its own position
//! is complete, and a frame of an earlier lap has another. Only the writer waits for a thread that
//! is stopped in the middle, after it has taken the complete frames before it.
//!
//! Claimed room without a frame is a record that a killed process was storing: its answer never
//! left. That is certain only while the machine has not restarted, which the boot id shows; after a
//! power cut the room may have held a record. The CRC detects frames torn by a power cut: pages
//! reach the disk in no order.

use crate::audit::LINE_BYTES_MAX;
use crate::audit::disk::Identity;
use crate::audit::mapping::Mapping;
use crate::file::open;
use rustix::fs::{FallocateFlags, IFlags, fallocate, ioctl_setflags};
use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

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
const BOOT_WORDS: [usize; 2] = [4, 5];

/// Linux gives each start of the machine another UUID here.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// All positions are multiples of this many bytes, the size of a frame's header; so a header never
/// crosses a sector.
pub(super) const FRAME_UNIT: u64 = 16;
const FRAME_HEADER_WORDS: u64 = 2;
/// The smallest ring: it holds a few of the longest lines.
pub(super) const RING_BYTES_MIN: u64 = 4 * LINE_BYTES_MAX as u64;
/// Written repeatedly to fill a new journal.
static ZEROS: [u8; 65_536] = [0; 65_536];

/// The journal has no room until the log has caught up.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Full;

/// The records that were taken out for the log.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Collected {
    /// The position after the last of them.
    pub(super) end: u64,
    /// The number of lines.
    pub(super) records: u64,
    /// Bytes between them without a sound frame.
    pub(super) lost: u64,
    /// Bytes between them that a killed process had claimed and not filled.
    pub(super) unfinished: u64,
}

/// The bytes that a line of this length, including its line feed, occupies.
pub(super) fn frame_bytes(line_bytes: usize) -> u64 {
    (FRAME_HEADER_WORDS * 8 + line_bytes as u64).next_multiple_of(FRAME_UNIT)
}

/// The content at a position.
enum Frame {
    /// A complete frame. Its line was appended to the output; the number is the frame's bytes.
    Complete(u64),
    /// The frame was complete once and was changed.
    Unsound,
    /// There is no complete frame.
    Missing,
}

/// The journal of one log, locked for this process. The tail in its header is the position of the
/// next frame.
pub(super) struct Journal {
    file: File,
    map: Mapping,
    ring_words: usize,
    /// Whether its content was stored since the machine was started.
    is_of_this_boot: bool,
    /// The position up to which the log is durable: frames before it may be overwritten. Its store
    /// is a release, after the writer has read the frames.
    head: AtomicU64,
}

impl Journal {
    /// Opens the file and takes its lock, which ends with the process. [`Self::find`] and
    /// [`Self::make`] then find or make the journal in it.
    ///
    /// # Errors
    /// `WouldBlock` when another process holds the lock, else the error of the operating system.
    pub(super) fn lock(path: &Path) -> io::Result<File> {
        let file = open::own_or_new(path, 0o600)?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(TryLockError::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// The journal that a former process left in `file`; `None` when the file holds none.
    ///
    /// # Errors
    /// The error of the operating system.
    pub(super) fn find(file: &File) -> io::Result<Option<Self>> {
        let bytes = file.metadata()?.len();
        let ring = bytes.saturating_sub(HEADER_BYTES);
        if ring < RING_BYTES_MIN || !ring.is_multiple_of(FRAME_UNIT) {
            return Ok(None);
        }
        let mut journal = Self::map(file, ring)?;
        let word = |at: usize| u64::from_le(journal.map[at].load(Ordering::Acquire));
        let (tail, head) = (word(TAIL_WORD), word(HEAD_WORD));
        // The magic is stored last, so a journal whose making was interrupted is not found.
        let sound = word(MAGIC_WORD) == MAGIC
            && word(RING_WORD) == ring
            && tail.is_multiple_of(FRAME_UNIT)
            && head.is_multiple_of(FRAME_UNIT)
            && tail.saturating_sub(head) <= ring;
        let boot = BOOT_WORDS.map(word);
        if tail < head {
            // The process was killed between the two stores of `begin_at`.
            journal.map[TAIL_WORD].store(head.to_le(), Ordering::Relaxed);
        }
        journal.head.store(head, Ordering::Relaxed);
        journal.is_of_this_boot = boot_id() == Some(boot);
        Ok(sound.then_some(journal))
    }

    /// Makes an empty journal in `file`, with a ring of `ring_bytes` (rounded up), that begins at
    /// `position`.
    ///
    /// # Errors
    /// The error of the operating system, for example a full disk.
    pub(super) fn make(file: &File, ring_bytes: u64, position: u64) -> io::Result<Self> {
        let ring = Self::ring_bytes(ring_bytes);
        // A copy-on-write file system allocates new blocks at every write unless this flag is set,
        // and could run out of them under a mapped page. Other file systems do not know the flag.
        file.set_len(0)?;
        let _unknown = ioctl_setflags(file, IFlags::NOCOW);
        match fallocate(file, FallocateFlags::empty(), 0, HEADER_BYTES + ring) {
            Ok(()) | Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {}
            Err(error) => return Err(error.into()),
        }
        // The blocks are written and not only allocated, so that later stores need no conversion of
        // them.
        let mut at = 0;
        while at < HEADER_BYTES + ring {
            let length = (HEADER_BYTES + ring - at).min(ZEROS.len() as u64);
            file.write_all_at(&ZEROS[..usize::try_from(length).unwrap_or(ZEROS.len())], at)?;
            at += length;
        }
        // Everything is allocated and durable before the header makes it a journal.
        file.sync_all()?;
        let journal = Self::map(file, ring)?;
        let set = |at: usize, value: u64| journal.map[at].store(value.to_le(), Ordering::Release);
        set(RING_WORD, ring);
        journal.begin_at(position);
        journal.adopt();
        set(MAGIC_WORD, MAGIC);
        journal.sync()?;
        Ok(journal)
    }

    /// The actual bytes of a ring for which `bytes` were requested.
    pub(super) fn ring_bytes(bytes: u64) -> u64 {
        bytes.max(RING_BYTES_MIN).next_multiple_of(HEADER_BYTES)
    }

    fn map(file: &File, ring: u64) -> io::Result<Self> {
        let ring_words = usize::try_from(ring / 8).map_err(io::Error::other)?;
        Ok(Self {
            map: Mapping::new(file, HEADER_WORDS + ring_words)?,
            file: file.try_clone()?,
            ring_words,
            is_of_this_boot: false,
            head: AtomicU64::new(0),
        })
    }

    /// The identity of the file.
    ///
    /// # Errors
    /// The error of the operating system.
    pub(super) fn identity(&self) -> io::Result<Identity> {
        Identity::of(&self.file)
    }

    /// Whether the file was removed: it then ends with this process.
    ///
    /// # Errors
    /// The error of the operating system.
    pub(super) fn is_removed(&self) -> io::Result<bool> {
        Ok(self.file.metadata()?.nlink() == 0)
    }

    /// The bytes of the ring.
    pub(super) fn capacity(&self) -> u64 {
        self.ring_words as u64 * 8
    }

    /// The position of the next frame.
    pub(super) fn tail(&self) -> u64 {
        u64::from_le(self.map[TAIL_WORD].load(Ordering::Acquire))
    }

    /// The position up to which the log is known to be durable.
    pub(super) fn head(&self) -> u64 {
        self.head.load(Ordering::Relaxed)
    }

    /// Records that frames stored from now on belong to this start of the machine. Older frames
    /// must have been taken out.
    pub(super) fn adopt(&self) {
        let boot = boot_id().unwrap_or_default();
        for (word, half) in BOOT_WORDS.into_iter().zip(boot) {
            self.map[word].store(half.to_le(), Ordering::Release);
        }
    }

    /// Drops all frames and continues at `position`.
    pub(super) fn begin_at(&self, position: u64) {
        self.release(position);
        self.map[TAIL_WORD].store(position.to_le(), Ordering::Release);
    }

    /// Copies `line` into the journal and returns the position after it. Makes no system call and
    /// takes no lock.
    ///
    /// # Errors
    /// [`Full`]; then nothing was copied.
    pub(super) fn append(&self, line: &[u8]) -> Result<u64, Full> {
        let sum = u64::from(crc32fast::hash(line));
        let bytes = frame_bytes(line.len());
        // A kill after this leaves claimed room without a frame, which the next start counts as
        // unfinished.
        let position = self.claim(bytes)?;
        let at = self.index(position);
        let ring = &self.map[HEADER_WORDS..];
        ring[at + 1].store(((line.len() as u64) << 32 | sum).to_le(), Ordering::Relaxed);
        let (words, rest) = line.as_chunks::<8>();
        self.store(at + 2, words);
        if !rest.is_empty() {
            let mut last = [0; 8];
            last[..rest.len()].copy_from_slice(rest);
            self.store(at + 2 + words.len(), &[last]);
        }
        // Release: a reader that sees the position also sees the words of the frame.
        ring[at].store(position.to_le(), Ordering::Release);
        Ok(position + bytes)
    }

    /// Claims room, which is then this thread's alone.
    fn claim(&self, bytes: u64) -> Result<u64, Full> {
        let tail = &self.map[TAIL_WORD];
        let mut position = self.tail();
        loop {
            let end = position + bytes;
            // Acquire: the writer has finished reading the frames that are overwritten now.
            if end.saturating_sub(self.head.load(Ordering::Acquire)) > self.capacity() {
                return Err(Full);
            }
            let (from, to) = (position.to_le(), end.to_le());
            match tail.compare_exchange_weak(from, to, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Ok(position),
                Err(now) => position = u64::from_le(now),
            }
        }
    }

    /// Appends to `out` the lines from `from` on, until `to`, or until they have `bytes_max` bytes
    /// (but at least one line), or up to a frame that is not complete yet. In a journal that
    /// `is_left`, by a former process, positions without a sound frame are skipped.
    pub(super) fn collect(
        &self,
        from: u64,
        to: u64,
        bytes_max: usize,
        out: &mut Vec<u8>,
        is_left: bool,
    ) -> Collected {
        // Only a former process can have left gaps; its boot id decides how they are counted.
        let mut collected = Collected {
            end: from,
            ..Collected::default()
        };
        let full = out.len() + bytes_max;
        while collected.end < to {
            let before = out.len();
            match self.read_frame(collected.end, to, out) {
                Frame::Complete(_) if out.len() > full && collected.records > 0 => {
                    out.truncate(before);
                    break;
                }
                Frame::Complete(bytes) => {
                    collected.end += bytes;
                    collected.records += 1;
                }
                Frame::Missing if !is_left => break,
                Frame::Missing if self.is_of_this_boot => {
                    collected.end += FRAME_UNIT;
                    collected.unfinished += FRAME_UNIT;
                }
                _ => {
                    collected.end += FRAME_UNIT;
                    collected.lost += FRAME_UNIT;
                }
            }
        }
        collected
    }

    /// Appends the line at `position`, if there is one.
    fn read_frame(&self, position: u64, to: u64, out: &mut Vec<u8>) -> Frame {
        let at = self.index(position);
        let ring = &self.map[HEADER_WORDS..];
        if u64::from_le(ring[at].load(Ordering::Acquire)) != position {
            return Frame::Missing;
        }
        let second = u64::from_le(ring[at + 1].load(Ordering::Relaxed));
        let length = usize::try_from(second >> 32).unwrap_or(usize::MAX);
        // A line is never empty, and nothing was ever stored at position 0.
        if length == 0 || length > LINE_BYTES_MAX || position + frame_bytes(length) > to {
            return if position == 0 && second == 0 {
                Frame::Missing
            } else {
                Frame::Unsound
            };
        }
        let bytes = frame_bytes(length);
        let start = out.len();
        self.load(at + 2, length, out);
        if u64::from(crc32fast::hash(&out[start..])) == second & u64::from(u32::MAX) {
            return Frame::Complete(bytes);
        }
        out.truncate(start);
        Frame::Unsound
    }

    /// Lets frames before `position` be overwritten.
    pub(super) fn release(&self, position: u64) {
        self.map[HEAD_WORD].store(position.to_le(), Ordering::Release);
        self.head.store(position, Ordering::Release);
    }

    /// Makes everything in it durable.
    ///
    /// # Errors
    /// The error of the operating system.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// The index in the ring of the word at `position`.
    fn index(&self, position: u64) -> usize {
        let ring_words = self.ring_words as u64;
        usize::try_from(position / 8 % ring_words).unwrap_or_default()
    }

    /// Stores words from `at` on. This loop and the one of `load` are plain on purpose: see the row
    /// "keep a record in the journal" of benches/RESULTS.md before you change them.
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
        let start = out.len();
        let (before, after) = self.around(at);
        out.resize(start + length.next_multiple_of(8), 0);
        let (words, _) = out[start..].as_chunks_mut::<8>();
        let (here, wrapped) = words.split_at_mut(words.len().min(after.len()));
        for (slots, words) in [(after, here), (before, wrapped)] {
            for (slot, word) in slots.iter().zip(words) {
                *word = u64::from_le(slot.load(Ordering::Relaxed)).to_le_bytes();
            }
        }
        out.truncate(start + length);
    }

    /// The ring's words before `at`, and those from `at` on.
    fn around(&self, at: usize) -> (&[AtomicU64], &[AtomicU64]) {
        self.map[HEADER_WORDS..].split_at(at % self.ring_words)
    }
}

/// The id of this start of the machine; `None` when the kernel does not provide it.
fn boot_id() -> Option<[u64; 2]> {
    let text = std::fs::read_to_string(BOOT_ID).ok()?;
    let id = u128::from_str_radix(&text.trim_end().replace('-', ""), 16).ok()?;
    let half = |at: u32| u64::try_from(id >> at & u128::from(u64::MAX)).ok();
    Some([half(64)?, half(0)?])
}

#[cfg(test)]
mod tests;
