//! The workers of an export, and what they share.

use crate::export::folder::{Finished, Folder};
use crate::export::parquet::{BATCH_ROWS, Batch, Constants, PartEncoder};
use crate::export::source::{KeyIdentity, Source, Worker};
use crate::export::{
    ExportError, Manifest, Parameters, Part, Plan, Runtime, footer, manifest, rows_of_part,
};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What workers share. No lock is held while rows are made; the manifest's is held while it is written.
pub(super) struct Ledger<'a> {
    todo: Mutex<Vec<u64>>,
    manifest: Mutex<Manifest>,
    folder: &'a Folder,
    /// Tells the other workers to give up.
    failed: AtomicBool,
}

impl<'a> Ledger<'a> {
    pub(super) fn new(folder: &'a Folder, manifest: Manifest) -> Self {
        Self {
            todo: Mutex::new(missing_parts(&manifest)),
            manifest: Mutex::new(manifest),
            folder,
            failed: AtomicBool::new(false),
        }
    }

    pub(super) fn into_manifest(self) -> Manifest {
        self.manifest
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the next part to be written.
    fn next(&self) -> Option<Task> {
        let number = locked(&self.todo).pop()?;
        let parameters = &locked(&self.manifest).parameters;
        let first_row = number * parameters.rows_per_part;
        Some(Task {
            number,
            first_row,
            rows: rows_of_part(parameters, first_row)?,
        })
    }

    /// Writes the manifest before the first part, and refuses a key that the run did not begin with.
    fn begin(&self, key: &KeyIdentity) -> Result<(String, Parameters), ExportError> {
        let mut manifest = locked(&self.manifest);
        let mut asked = manifest.parameters.clone();
        asked.key_arn.clone_from(&key.arn);
        manifest.parameters.permit(&asked)?;
        if manifest.parts.is_empty() {
            manifest.parameters = asked;
            self.folder.write_manifest(&manifest)?;
        }
        Ok((manifest.run.clone(), manifest.parameters.clone()))
    }

    fn end(&self, part: Part) -> Result<(), ExportError> {
        let mut manifest = locked(&self.manifest);
        manifest.add(part);
        self.folder.write_manifest(&manifest)
    }
}

/// A worker that panicked has left these whole: nothing between their lock and unlock can.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Writes every part that is missing, on threads of a private pool at the priority of the process.
pub(super) fn write_all<S: Source>(
    plan: &Plan,
    source: &S,
    runtime: &Runtime<'_>,
    ledger: &Ledger<'_>,
) -> Result<(), ExportError> {
    let rows = locked(&ledger.manifest).rows;
    let workers = plan.workers.get().min(locked(&ledger.todo).len());
    let threads = rayon::ThreadPoolBuilder::new()
        .num_threads(workers)
        .thread_name(|number| format!("export-{number}"))
        .build()?;
    runtime.progress.begin(rows, plan.count.get());
    let results = threads.broadcast(|_| {
        let parts = Parts {
            plan,
            runtime,
            ledger,
            worker: source.worker()?,
        };
        parts.write()
    });
    runtime.progress.end();
    results.into_iter().collect()
}

/// One worker's way through the parts.
struct Parts<'a, W> {
    plan: &'a Plan,
    runtime: &'a Runtime<'a>,
    ledger: &'a Ledger<'a>,
    worker: W,
}

/// The part that a worker writes.
struct Task {
    number: u64,
    first_row: u64,
    rows: u64,
}

impl<W: Worker> Parts<'_, W> {
    /// Writes parts until none is left, the run is told to stop, or a worker fails.
    fn write(mut self) -> Result<(), ExportError> {
        let mut encoder = None;
        let mut batch = Batch::default();
        while !self.runtime.stop.load(Ordering::Relaxed) {
            let Some(task) = self.ledger.next() else {
                break;
            };
            let part = self.write_part(&task, &mut encoder, &mut batch);
            match part.and_then(|part| part.map(|part| self.ledger.end(part)).transpose()) {
                Ok(Some(())) => self.runtime.progress.part(task.number),
                // Another worker has failed.
                Ok(None) => break,
                Err(error) => {
                    self.ledger.failed.store(true, Ordering::Relaxed);
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Writes one part; `None` when another worker's failure makes it pointless.
    fn write_part(
        &mut self,
        task: &Task,
        encoder: &mut Option<PartEncoder>,
        batch: &mut Batch,
    ) -> Result<Option<Part>, ExportError> {
        let key = self.worker.begin(task.rows)?;
        let (run, parameters) = self.ledger.begin(&key)?;
        let constants = Constants {
            key_arn: key.arn,
            key_material_id: key.material_id,
            key_spec: parameters.key_spec.clone(),
            context: self.plan.context.clone(),
        };
        let encoder = match encoder.take() {
            Some(same) if *same.constants() == constants => encoder.insert(same),
            _ => encoder.insert(PartEncoder::new(constants)),
        };
        let key_material_id = encoder.constants().key_material_id.clone();
        let footer = footer::of_part(&run, &parameters, &key_material_id, task.first_row);

        let file = manifest::part_file(task.number);
        let path = self.ledger.folder.path(&file);
        let encode = |error| ExportError::write(&path, error);
        let sink = self.ledger.folder.begin(&file)?;
        let mut out = encoder.begin(sink, footer).map_err(encode)?;
        let end = task.first_row + task.rows;
        for from in (task.first_row..end).step_by(BATCH_ROWS) {
            if self.ledger.failed.load(Ordering::Relaxed) {
                return Ok(None);
            }
            let rows = from..end.min(from + BATCH_ROWS as u64);
            let count = usize::try_from(rows.end - rows.start).unwrap_or(BATCH_ROWS);
            self.worker.fill(count, batch.blobs())?;
            for row in rows {
                batch.push_id(|out| self.plan.id_pattern.append(row, out));
            }
            let created_at = self.runtime.clock.now();
            out.write(batch, created_at).map_err(encode)?;
            self.runtime.progress.advance(count);
        }
        self.worker.end()?;
        let Finished { bytes, sha256 } =
            self.ledger.folder.finish(out.finish().map_err(encode)?)?;
        Ok(Some(Part {
            file,
            first_row: task.first_row,
            rows: task.rows,
            bytes,
            sha256,
            key_material_id,
        }))
    }
}

/// The numbers of the parts to be written, the next one last.
fn missing_parts(manifest: &Manifest) -> Vec<u64> {
    let Parameters {
        count,
        rows_per_part,
        ..
    } = manifest.parameters;
    (0..count.div_ceil(rows_per_part))
        .filter(|number| !manifest.has(number * rows_per_part))
        .rev()
        .collect()
}
