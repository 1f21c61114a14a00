//! Power cuts: data that was not synced reaches the disk in part, in no order.

use super::*;
use crate::audit::disk::Seen;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::sync::Mutex as StdMutex;

/// The durable content of each file, by its inode.
type Durable = Arc<StdMutex<BTreeMap<u64, Vec<u8>>>>;

/// A disk that remembers the content that a power cut leaves.
struct Volatile {
    inner: SystemDisk,
    durable: Durable,
}

fn inode(file: impl AsFd) -> u64 {
    rustix::fs::fstat(file).unwrap().st_ino
}

fn contents(file: &File) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(file.metadata().unwrap().len()).unwrap()];
    std::os::unix::fs::FileExt::read_exact_at(file, &mut bytes, 0).unwrap();
    bytes
}

impl Disk for Volatile {
    fn create(&mut self, path: &Path) -> io::Result<File> {
        self.inner.create(path)
    }

    fn write(&mut self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.inner.write(file, bytes, offset)
    }

    fn sync(&mut self, file: &File) -> io::Result<()> {
        self.durable
            .lock()
            .unwrap()
            .insert(inode(file), contents(file));
        Ok(())
    }

    fn folder(&mut self, path: &Path) -> io::Result<File> {
        self.inner.folder(path)
    }

    fn at(&mut self, path: &Path) -> io::Result<Option<Seen>> {
        self.inner.at(path)
    }

    fn sync_folder(&mut self, _: &File) -> io::Result<()> {
        Ok(())
    }

    fn cut(&mut self, file: &File, length: u64) -> io::Result<()> {
        self.inner.cut(file, length)
    }

    fn reserve(&mut self, _: &File, _: u64, _: u64) -> io::Result<()> {
        Ok(())
    }
}

/// Each sector of the old contents or of the new; a file that grew has any length between.
fn torn(old: &[u8], new: &[u8], random: &mut impl FnMut() -> u64) -> Vec<u8> {
    let most = new.len().max(old.len());
    let length = old.len() + usize::try_from(random()).unwrap_or_default() % (most - old.len() + 1);
    let mut bytes = vec![0; length];
    for (number, sector) in bytes.chunks_mut(512).enumerate() {
        let source = if random().is_multiple_of(2) { old } else { new };
        let source = source.get(number * 512..).unwrap_or_default();
        let known = source.len().min(sector.len());
        sector[..known].copy_from_slice(&source[..known]);
        // Durable content stays.
        let durable = old.get(number * 512..).unwrap_or_default();
        let known = durable.len().min(sector.len());
        sector[..known].copy_from_slice(&durable[..known]);
    }
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn audit_1_a_power_cut_takes_only_what_was_not_synced(
        turns in prop::collection::vec(0_u64..30, 1..6),
        last in 1_u64..60,
        small: bool,
        seed: u64,
    ) {
        let mut state = seed | 1;
        let mut random = move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            state >> 33
        };
        let mut place = TestLog::new();
        place.config.file_bytes_max = if small { 1500 } else { 1 << 20 };
        let durable = Durable::default();
        let disk = Volatile { inner: SystemDisk, durable: Arc::clone(&durable) };
        let (audit, mut writer) = place.start(disk, None).unwrap();
        let mut number = 0;
        for records in turns {
            for _ in 0..records {
                record(&audit, number).unwrap();
                number += 1;
            }
            writer.turn();
        }
        let journal = place.path().join("journal");
        let (synced, sealed) = (number, audit.head());
        let old_journal = std::fs::read(&journal).unwrap();
        for _ in 0..last {
            record(&audit, number).unwrap();
            number += 1;
        }
        let new_journal = std::fs::read(&journal).unwrap();
        // The next turn was in progress: all of it is written, nothing is synced.
        let before = durable.lock().unwrap().clone();
        writer.turn();
        drop((audit, writer));
        for path in place.files() {
            let file = File::options().read(true).write(true).open(&path).unwrap();
            let Some(old) = before.get(&inode(&file)) else {
                // A file that was begun in that turn: its name is not durable.
                std::fs::remove_file(&path).unwrap();
                continue;
            };
            let bytes = torn(old, &contents(&file), &mut random);
            std::fs::write(&path, bytes).unwrap();
        }
        let journal_bytes: Vec<u8> = old_journal.chunks(512).zip(new_journal.chunks(512))
            .flat_map(|(old, new)| if random().is_multiple_of(2) { old } else { new }.to_vec())
            .collect();
        std::fs::write(&journal, journal_bytes).unwrap();

        let (audit, mut writer) = place.start(SystemDisk, Some(sealed)).unwrap();
        let logged = place.logged();
        let expected: Vec<u64> = (0..synced).collect();
        prop_assert_eq!(&logged[..expected.len()], &expected[..]);
        prop_assert!(logged.windows(2).all(|pair| pair[0] < pair[1]), "{logged:?}");
        prop_assert!(logged.iter().all(|logged| *logged < number));
        log(&audit, &mut writer, 1000);
        prop_assert_eq!(place.logged().len(), logged.len() + 1);
        let findings = place.report(Some(audit.head())).findings;
        prop_assert!(findings.iter().all(|finding| matches!(finding.fault, Fault::Lost { .. })), "{findings:?}");
    }
}
