//! The journal against a plain queue, its content after its process ended, and the records that a
//! torn journal gives back.

use super::*;
use proptest::prelude::*;
use std::collections::VecDeque;
use std::sync::Arc;
use tempfile::TempDir;

struct TestLog {
    _folder: TempDir,
    file: File,
}

impl TestLog {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = Journal::lock(&folder.path().join("journal")).unwrap();
        Self {
            _folder: folder,
            file,
        }
    }

    fn make(&self, position: u64) -> Journal {
        Journal::make(&self.file, 0, position).unwrap()
    }

    fn find(&self) -> Option<Journal> {
        Journal::find(&self.file).unwrap()
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(self.file.metadata().unwrap().len()).unwrap()];
        self.file.read_exact_at(&mut bytes, 0).unwrap();
        bytes
    }
}

/// A line that begins with its number.
fn made(number: u64, length: usize) -> Vec<u8> {
    let mut line = format!("{number} ").into_bytes();
    line.resize(length.max(line.len() + 1), b'x');
    *line.last_mut().unwrap() = b'\n';
    line
}

/// All lines of a journal that a former process left.
fn all(journal: &Journal, from: u64, to: u64) -> (Vec<u8>, Collected) {
    let mut out = Vec::new();
    let collected = journal.collect(from, to, usize::MAX / 2, &mut out, true);
    (out, collected)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Lines of all lengths, many times around the ring, come out as from a queue. A full journal
    /// takes nothing.
    #[test]
    fn it_is_a_queue_of_lines(steps in prop::collection::vec((any::<bool>(), 1_usize..100_000), 1..200), start in 0_u64..1000) {
        let place = TestLog::new();
        let journal = place.make(start * FRAME_UNIT);
        let mut model: VecDeque<Vec<u8>> = VecDeque::new();
        let mut position = journal.tail();
        for (number, (takes, length)) in steps.into_iter().enumerate() {
            if takes {
                let mut out = Vec::new();
                let collected = journal.collect(position, journal.tail(), length, &mut out, false);
                let mut expected = Vec::new();
                for _ in 0..collected.records {
                    expected.extend(model.pop_front().unwrap());
                }
                prop_assert!(collected.records > 0 || model.is_empty());
                prop_assert_eq!((out, collected.lost), (expected, 0));
                position = collected.end;
                journal.release(position);
            } else {
                let line = made(number as u64, length);
                let used = journal.tail() - position;
                match journal.append(&line) {
                    Ok(end) => {
                        prop_assert_eq!(end, journal.tail());
                        model.push_back(line);
                    }
                    Err(Full) => prop_assert!(used + frame_bytes(line.len()) > journal.capacity()),
                }
            }
        }
        let found = place.find().unwrap();
        prop_assert_eq!((found.tail(), found.head()), (journal.tail(), journal.head()));
        let (out, collected) = all(&found, position, found.tail());
        prop_assert_eq!((out, collected.records), (model.iter().flatten().copied().collect::<Vec<u8>>(), model.len() as u64));
    }

    /// After a power cut each sector has its content of one time or another. Only whole lines come
    /// back, in order, none twice.
    #[test]
    fn what_a_power_cut_tore_gives_back_whole_lines(lengths in prop::collection::vec(1_usize..3000, 1..600), cut in 0_usize..600, seed: u64) {
        let place = TestLog::new();
        let journal = place.make(0);
        let mut old = place.bytes();
        for (number, length) in lengths.iter().enumerate() {
            if number == cut {
                old = place.bytes();
            }
            let _full = journal.append(&made(number as u64, *length));
            if journal.tail() - journal.head() > journal.capacity() / 2 {
                journal.release(journal.tail());
            }
        }
        let (head, tail) = (journal.head(), journal.tail());
        let (whole, _) = all(&journal, head, tail);
        let new = place.bytes();
        let mut state = seed | 1;
        for (number, (old, new)) in old.chunks(512).zip(new.chunks(512)).enumerate() {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let sector = if state >> 63 == 0 { old } else { new };
            place.file.write_all_at(sector, number as u64 * 512).unwrap();
        }
        let torn = place.find().unwrap();
        let (out, collected) = all(&torn, head, torn.tail().max(head));
        prop_assert!(torn.tail() <= tail);
        prop_assert_eq!(out.split_inclusive(|byte| *byte == b'\n').count() as u64, collected.records);
        // A subsequence of the lines that were stored.
        let mut rest = whole.split_inclusive(|byte| *byte == b'\n');
        for line in out.split_inclusive(|byte| *byte == b'\n') {
            prop_assert!(rest.any(|other| other == line), "{}", line.escape_ascii());
        }
    }
}

#[test]
fn many_threads_append_whole_lines_each_in_its_order() {
    let place = TestLog::new();
    let journal = Arc::new(place.make(FRAME_UNIT));
    const THREADS: u64 = 8; // as many as `seen` has room for
    const LINES: u64 = 3000;
    let mut lines = Vec::new();
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let journal = Arc::clone(&journal);
            scope.spawn(move || {
                for number in 0..LINES {
                    let number = thread * LINES + number;
                    let length = 20 + usize::try_from(number * 7919 % 2000).unwrap();
                    let line = made(number, length);
                    while journal.append(&line) == Err(Full) {
                        std::thread::yield_now();
                    }
                }
            });
        }
        let (mut position, mut records, mut lost) = (FRAME_UNIT, 0, 0);
        // Nothing is asserted before all threads have ended: a failure would leave them waiting
        // forever.
        while records < THREADS * LINES && lost == 0 {
            let mut out = Vec::new();
            let collected =
                journal.collect(position, journal.tail(), usize::MAX / 2, &mut out, false);
            lines.extend(out);
            (position, records, lost) =
                (collected.end, records + collected.records, collected.lost);
            journal.release(position);
        }
    });
    let mut seen = [0; 8];
    for line in lines.split_inclusive(|byte| *byte == b'\n') {
        let text = std::str::from_utf8(line).unwrap();
        let number: u64 = text.split(' ').next().unwrap().parse().unwrap();
        let thread = usize::try_from(number / LINES).unwrap();
        assert_eq!(number % LINES, seen[thread]);
        assert_eq!(*line, *made(number, line.len()));
        seen[thread] += 1;
    }
    assert!(seen.iter().all(|count| *count == LINES));
}

#[test]
fn the_line_that_fills_the_ring_leaves_the_oldest_as_it_is() {
    let place = TestLog::new();
    let journal = place.make(0);
    // Frames without padding: the last one ends where the first one begins.
    let lines = journal.capacity() / frame_bytes(48);
    for number in 0..lines {
        journal.append(&made(number, 48)).unwrap();
    }
    assert_eq!(journal.append(&made(lines, 48)), Err(Full));
    let (out, collected) = all(&journal, 0, journal.tail());
    assert_eq!((collected.records, collected.lost), (lines, 0));
    assert!(out.starts_with(&made(0, 48)));
}

#[test]
fn room_that_was_only_claimed_holds_back_what_is_behind_it_until_its_process_is_gone() {
    let place = TestLog::new();
    let journal = place.make(FRAME_UNIT);
    let first = journal.append(&made(1, 50)).unwrap();
    let second = journal.append(&made(2, 70)).unwrap();
    let third = journal.append(&made(3, 90)).unwrap();
    let word = &journal.map[HEADER_WORDS + journal.index(first)];
    word.store(4096_u64.to_le(), Ordering::Relaxed);
    let mut out = Vec::new();
    let collected = journal.collect(FRAME_UNIT, third, usize::MAX / 2, &mut out, false);
    assert_eq!((collected.end, collected.records), (first, 1));
    assert_eq!(out, made(1, 50));

    // The process was killed, so a frame that it had not filled was never answered. After a power
    // cut this is unknown.
    let between = second - first;
    for (of_this_boot, lost, unfinished) in [(true, 0, between), (false, between, 0)] {
        if !of_this_boot {
            journal.map[BOOT_WORDS[0]].fetch_add(1, Ordering::Relaxed);
        }
        let (out, left) = all(&place.find().unwrap(), FRAME_UNIT, third);
        assert_eq!(out, [made(1, 50), made(3, 90)].concat());
        let expected = Collected {
            end: third,
            records: 2,
            lost,
            unfinished,
        };
        assert_eq!(left, expected);
    }

    word.store(first.to_le(), Ordering::Relaxed);
    let collected = journal.collect(FRAME_UNIT, third, usize::MAX / 2, &mut Vec::new(), false);
    assert_eq!(collected.records, 3);
}

#[test]
fn a_file_that_is_no_journal_is_none() {
    let place = TestLog::new();
    assert!(place.find().is_none(), "empty");
    let journal = place.make(32);
    journal.append(&made(1, 100)).unwrap();
    drop(journal);
    let good = place.bytes();
    assert_eq!(place.find().unwrap().tail(), 32 + frame_bytes(100));
    for (at, byte) in [(0, b'x'), (8, 1), (9, 0xff), (16, 1), (20, 1), (24, 1)] {
        let mut bad = good.clone();
        bad[at] = byte;
        place.file.write_all_at(&bad, 0).unwrap();
        assert!(place.find().is_none(), "byte {at}");
    }
    place.file.write_all_at(&good, 0).unwrap();
    for length in [
        1,
        4096,
        8192,
        good.len() as u64 - 4096,
        good.len() as u64 - 1,
    ] {
        place.file.set_len(length).unwrap();
        assert!(place.find().is_none(), "{length} bytes");
    }
    // A process was killed between the two stores of `begin_at`.
    place.file.set_len(0).unwrap();
    place.make(32).map[HEAD_WORD].store(4800_u64.to_le(), Ordering::Relaxed);
    let found = place.find().unwrap();
    assert_eq!((found.head(), found.tail()), (4800, 4800));
}

#[test]
fn a_line_changed_in_the_journal_is_left_out_and_counted() {
    let place = TestLog::new();
    let journal = place.make(0);
    let ends: Vec<u64> = (0..3)
        .map(|n| journal.append(&made(n, 50)).unwrap())
        .collect();
    for (at, what) in [(16, "line"), (8, "CRC"), (12, "length"), (0, "position")] {
        let byte = HEADER_BYTES + ends[0] + at;
        let mut kept = [0];
        place.file.read_exact_at(&mut kept, byte).unwrap();
        place.file.write_all_at(&[kept[0] ^ 0x40], byte).unwrap();
        let (out, collected) = all(&journal, 0, ends[2]);
        assert_eq!(out, [made(0, 50), made(2, 50)].concat(), "{what}");
        let expected = Collected {
            end: ends[2],
            records: 2,
            lost: ends[1] - ends[0],
            unfinished: 0,
        };
        assert_eq!(collected, expected, "{what}");
        place.file.write_all_at(&kept, byte).unwrap();
    }
}

#[test]
fn one_process_has_it() {
    let place = TestLog::new();
    let path = place._folder.path().join("journal");
    let refused = Journal::lock(&path).err().unwrap();
    assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
    // The journal holds the lock, and not only the file that it was made from.
    let journal = place.make(0);
    let TestLog { _folder, file } = place;
    drop(file);
    assert!(Journal::lock(&path).is_err());
    drop(journal);
    assert!(Journal::lock(&path).is_ok());
}
