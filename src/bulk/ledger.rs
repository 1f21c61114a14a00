//! The workers of a job, and what they share.

use crate::bulk::folder::{Finished, Folder};
use crate::bulk::manifest::{Kind, Manifest, Part};
use crate::bulk::patience::Patience;
use crate::bulk::source::{KeyIdentity, SourceError};
use crate::bulk::{JobError, Runtime};
use crate::clock::Clock;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// One worker's way of writing a part.
pub trait PartMaker<K> {
    /// Writes the rows of `task`; `None` when another worker's failure makes it pointless.
    ///
    /// # Errors
    /// [`JobError`]; nothing of the part is left.
    fn write(
        &mut self,
        task: &Task,
        ledger: &Ledger<'_, K>,
    ) -> Result<Option<FinishedPart>, JobError>;
}

/// The part that a worker writes.
#[derive(Clone, Debug)]
pub struct Task {
    /// The part's number.
    pub number: u64,
    /// Its file, from the job's folder on.
    pub file: String,
    /// The number of its first row.
    pub first_row: u64,
    /// Its rows.
    pub rows: u64,
}

/// A finished part.
#[derive(Debug)]
pub struct FinishedPart {
    /// Its file.
    pub finished: Finished,
    /// The generation of material that its rows are under.
    pub key_material_id: String,
}

/// What workers share. No lock is held while rows are made; the manifest's is held while it is
/// written.
pub struct Ledger<'a, K> {
    todo: Mutex<Vec<u64>>,
    manifest: Mutex<Manifest<K>>,
    writing: Mutex<Writing>,
    folder: &'a Folder,
    /// Makes the other workers give up.
    failed: AtomicBool,
}

/// How the manifest was written last. It names every part, and is written whole: the cost of a job
/// of many parts would grow with their square. A part that it does not name yet is found again.
#[derive(Default)]
struct Writing {
    ended: Duration,
    took: Duration,
    /// Whether parts were finished since.
    is_due: bool,
}

/// The share of a job's time that its manifest may take: one in so many.
const MANIFEST_SHARE: u32 = 20;

impl Writing {
    /// Whether it was so long ago that the manifest may be written again.
    fn may_follow(&self, now: Duration) -> bool {
        now.saturating_sub(self.ended) >= self.took * MANIFEST_SHARE
    }

    fn done(began: Duration, ended: Duration) -> Self {
        Self {
            ended,
            took: ended.saturating_sub(began),
            is_due: false,
        }
    }
}

impl<'a, K: Kind> Ledger<'a, K> {
    pub(super) fn new(folder: &'a Folder, manifest: Manifest<K>) -> Self {
        Self {
            todo: Mutex::new(missing_parts(&manifest)),
            manifest: Mutex::new(manifest),
            writing: Mutex::default(),
            folder,
            failed: AtomicBool::new(false),
        }
    }

    pub(super) fn into_manifest(self) -> Manifest<K> {
        self.manifest
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The job's folder.
    #[must_use]
    pub fn folder(&self) -> &'a Folder {
        self.folder
    }

    /// Whether another worker has failed.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    /// Writes the manifest before the first part, and refuses a key that the job did not begin
    /// with. Returns the job's name.
    ///
    /// # Errors
    /// [`JobError::Mismatch`], when the key is another one; [`JobError::Io`], when the manifest
    /// cannot be written.
    pub fn begin(&self, key: Option<&KeyIdentity>) -> Result<String, JobError> {
        let mut manifest = locked(&self.manifest);
        let mut asked = manifest.parameters.clone();
        if let Some(key) = key {
            asked.key_arn.clone_from(&key.arn);
        }
        manifest.parameters.permit(&asked)?;
        if manifest.parts.is_empty() {
            manifest.parameters = asked;
            self.folder.write_manifest(&manifest)?;
        }
        Ok(manifest.run.clone())
    }

    /// Takes the next part to be written.
    fn next(&self) -> Option<Task> {
        let number = locked(&self.todo).pop()?;
        let manifest = locked(&self.manifest);
        let rows = manifest.parameters.parts().rows(number)?;
        Some(Task {
            number,
            file: manifest.parameters.part_file(number),
            first_row: rows.start,
            rows: rows.end - rows.start,
        })
    }

    fn end(&self, task: &Task, written: FinishedPart, clock: &Clock) -> Result<u64, JobError> {
        let FinishedPart {
            finished: Finished { bytes, sha256 },
            key_material_id,
        } = written;
        let mut manifest = locked(&self.manifest);
        manifest.add(Part {
            file: task.file.clone(),
            first_row: task.first_row,
            rows: task.rows,
            bytes,
            sha256,
            key_material_id,
        });
        let mut writing = locked(&self.writing);
        writing.is_due = true;
        if manifest.complete || writing.may_follow(clock.monotonic()) {
            self.write_manifest(&manifest, &mut writing, clock)?;
        }
        Ok(bytes)
    }

    fn write_manifest(
        &self,
        manifest: &Manifest<K>,
        writing: &mut Writing,
        clock: &Clock,
    ) -> Result<(), JobError> {
        let began = clock.monotonic();
        self.folder.write_manifest(manifest)?;
        *writing = Writing::done(began, clock.monotonic());
        Ok(())
    }

    /// Writes the manifest if it does not name every part that is there.
    fn settle(&self, clock: &Clock) -> Result<(), JobError> {
        let manifest = locked(&self.manifest);
        let mut writing = locked(&self.writing);
        if !writing.is_due {
            return Ok(());
        }
        self.write_manifest(&manifest, &mut writing, clock)
    }

    /// Writes every part that is missing, on threads of a private pool at the priority of the
    /// process.
    pub(super) fn write_all<M: PartMaker<K>>(
        &self,
        workers: NonZeroUsize,
        runtime: &Runtime<'_>,
        worker: impl Fn() -> Result<M, JobError> + Sync,
    ) -> Result<(), JobError> {
        let (rows, bytes, count) = {
            let manifest = locked(&self.manifest);
            (manifest.rows, manifest.bytes, manifest.parameters.count)
        };
        let workers = workers.get().min(locked(&self.todo).len());
        let threads = rayon::ThreadPoolBuilder::new()
            .num_threads(workers)
            .thread_name(|number| format!("bulk-{number}"))
            .build()?;
        runtime.progress.begin(rows, bytes, count);
        let results = threads.broadcast(|_| {
            let written = worker().and_then(|maker| self.write_parts(maker, runtime));
            if written.is_err() {
                self.failed.store(true, Ordering::Relaxed);
            }
            written
        });
        runtime.progress.end();
        let settled = self.settle(&runtime.clock);
        results.into_iter().collect::<Result<(), _>>()?;
        settled
    }

    /// Writes parts until none is left, the job is stopped, or a worker fails.
    fn write_parts<M: PartMaker<K>>(
        &self,
        mut maker: M,
        runtime: &Runtime<'_>,
    ) -> Result<(), JobError> {
        while !runtime.stop.load(Ordering::Relaxed) && !self.has_failed() {
            let Some(task) = self.next() else {
                break;
            };
            let Some(written) = self.write_part(&mut maker, &task, runtime)? else {
                break;
            };
            let bytes = self.end(&task, written, &runtime.clock)?;
            runtime.progress.part(task.number, bytes);
        }
        Ok(())
    }
}

impl<K: Kind> Ledger<'_, K> {
    /// Writes a part, from its first row again where the connection to the daemon broke.
    fn write_part<M: PartMaker<K>>(
        &self,
        maker: &mut M,
        task: &Task,
        runtime: &Runtime<'_>,
    ) -> Result<Option<FinishedPart>, JobError> {
        let mut patience = Patience::default();
        loop {
            match maker.write(task, self) {
                Err(JobError::Source(error)) => match patience.wait(error, runtime.stop) {
                    Err(SourceError::Stopped) => return Ok(None),
                    waited => waited?,
                },
                // While its worker waited for the daemon.
                Err(JobError::Stopped) => return Ok(None),
                written => return written,
            }
            runtime.progress.drop_part();
            if self.has_failed() {
                return Ok(None);
            }
        }
    }
}

/// A worker that panicked has left these whole: nothing between their lock and unlock can.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The numbers of the parts to be written, the next one last.
fn missing_parts<K: Kind>(manifest: &Manifest<K>) -> Vec<u64> {
    let parts = manifest.parameters.parts();
    let is_missing = |number: &u64| {
        let rows = parts.rows(*number);
        rows.is_some_and(|rows| !manifest.has(rows.start))
    };
    (0..parts.count()).rev().filter(is_missing).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bulk::Parameter;
    use crate::bulk::manifest::{Parameters, part_file};
    use serde::{Deserialize, Serialize};

    #[derive(Clone, Debug, Default, Serialize, Deserialize)]
    struct TestKind {}

    impl Kind for TestKind {
        const FORMAT: &'static str = "test/1";

        fn arguments(&self) -> Vec<(Parameter, String)> {
            Vec::new()
        }
    }

    /// How long a job of so many parts writes its manifest, whose cost grows with its parts, where
    /// each part takes as long as ten of its own lines.
    fn time_for_manifest(parts: u32) -> Duration {
        let (of_line, of_part) = (Duration::from_micros(100), Duration::from_millis(1));
        let (mut now, mut spent, mut writing) =
            (Duration::ZERO, Duration::ZERO, Writing::default());
        for part in 1..=parts {
            now += of_part;
            if writing.may_follow(now) {
                let took = of_line * part;
                writing = Writing::done(now, now + took);
                now += took;
                spent += took;
            }
        }
        spent
    }

    #[test]
    fn the_time_for_the_manifest_grows_as_the_job_does() {
        let few = time_for_manifest(10_000);
        let many = time_for_manifest(100_000);
        // Written for each part, it would be a hundred times as much, and 500 s for 10 s of work.
        assert!(many < 15 * few, "{few:?} {many:?}");
        assert!(few < Duration::from_secs(1), "{few:?}");
        assert!(many < Duration::from_secs(10), "{many:?}");
    }

    /// Parts that are finished at once, so that nearly all of the time is the manifest's.
    #[test]
    fn parts_that_follow_each_other_closely_share_a_manifest() {
        const PARTS: u64 = 400;
        let temporary = tempfile::tempdir().unwrap();
        let folder = Folder::open(&temporary.path().join("job").into()).unwrap();
        let parameters = Parameters::<TestKind> {
            count: PARTS,
            rows_per_part: 1,
            ..Parameters::default()
        };
        let clock = Clock::system();
        let ledger = Ledger::new(&folder, Manifest::new("r".to_owned(), parameters));
        ledger.begin(None).unwrap();
        let written = || std::fs::read(folder.path("_manifest.json")).unwrap();
        let (mut last, mut times) = (written(), 0);
        for _ in 0..PARTS {
            let task = ledger.next().unwrap();
            assert_eq!(task.file, part_file(task.number));
            let finished = FinishedPart {
                finished: Finished {
                    bytes: 1,
                    sha256: String::new(),
                },
                key_material_id: String::new(),
            };
            ledger.end(&task, finished, &clock).unwrap();
            let now = written();
            times += u64::from(now != last);
            last = now;
        }
        assert!((1..PARTS / 2).contains(&times), "{times} times");
        let manifest = folder.manifest::<TestKind>().unwrap().unwrap();
        assert!(manifest.complete, "the last part writes it in any case");
        assert_eq!(manifest.parts.len() as u64, PARTS);
    }
}
