//! Bulk jobs: the engine of `export`, `provision` and `rewrap`.
//!
//! A job is a folder of parts and a manifest. Its rows are numbered, a part is a fixed range of
//! them, and one worker writes it from end to end, so workers share nothing but the list of parts
//! still to be written. Parts are complete or absent (`folder`), so a job that dies is resumed by
//! the same command, and finished rows are never made again: a reader may have taken them already.
//!
//! What this module does not do: know the columns of a row, or where its key comes from.

pub mod authorities;
pub mod client;
pub mod connection;
pub mod daemons;
pub mod encoded;
pub mod error;
pub mod folder;
pub mod footer;
pub mod input;
pub mod keys;
pub mod ledger;
pub mod local;
pub mod manifest;
pub mod out;
mod parameter;
pub mod parquet;
pub mod part_folders;
pub mod patience;
mod progress;
pub mod remote;
pub mod source;
pub mod stream;
mod table_job;

pub use authorities::{Authorities, AuthoritiesError};
pub use client::Client;
pub use daemons::Daemons;
pub use error::JobError;
pub use folder::Folder;
pub use input::File;
pub use ledger::{Ledger, PartMaker, Task};
pub use manifest::{Asked, Kind, Manifest, Parameters, Part};
pub use out::Out;
pub use parameter::Parameter;
pub use part_folders::PartFolders;
pub use progress::Progress;
pub use source::{KeyIdentity, SourceError};
pub use table_job::TableJob;

use crate::clock::Clock;
use crate::crypto::entropy::{Entropy, EntropyError};
use crate::table::{Location, Watch};
use folder::Finished;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Rows of a part unless the job is small or asks otherwise: about 120 MB of keys alone.
pub const PART_ROWS_DEFAULT: u64 = 1 << 20;
/// Rows of a part at most: what one call of the batch endpoint may ask for.
pub const PART_ROWS_MAX: u64 = u32::MAX as u64;
/// Parts of a job at most; keeps the manifest, which is written anew for each part, below 30 MB.
pub const PARTS_MAX: u64 = 100_000;

/// What a job needs from the process.
pub struct Runtime<'a> {
    /// Time.
    pub clock: Clock,
    /// Where the job's own name is drawn.
    pub entropy: &'a Entropy,
    /// Where the job reports how far it is.
    pub progress: &'a Progress,
    /// Ends the job after the parts in progress.
    pub stop: &'a AtomicBool,
}

impl Watch for Runtime<'_> {
    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn begin(&self, rows: Option<u64>) {
        self.progress.begin_look(rows);
    }

    fn seen(&self, rows: u64) {
        self.progress.seen(rows);
    }

    fn end(&self) {
        self.progress.end_look();
    }
}

/// How a job ended, short of an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome<K> {
    /// Whether it was stopped before the last part, found finished, or has finished.
    pub ending: Ending,
    /// What the folder holds now.
    pub manifest: Manifest<K>,
    /// Rows that this run wrote.
    pub rows_written: u64,
    /// How long it took.
    pub elapsed: Duration,
}

/// The ways to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Every row is there.
    Finished,
    /// Every row was there before.
    FoundFinished,
    /// The job was stopped; the same command resumes it.
    Stopped,
}

/// A job that is about to be performed, in its folder.
pub struct Job<'a, K> {
    start: Duration,
    folder: &'a Folder,
    held: Option<Manifest<K>>,
}

impl<'a, K: Kind> Job<'a, K> {
    /// Reads what the folder holds of it.
    ///
    /// # Errors
    /// [`JobError`], when the manifest of an earlier run cannot be read, or is damaged.
    fn begin(folder: &'a Folder, runtime: &Runtime<'_>) -> Result<Self, JobError> {
        Ok(Self {
            start: runtime.clock.monotonic(),
            folder,
            held: folder.manifest()?,
        })
    }

    /// The parameters of the job that the folder holds, if it holds one.
    #[must_use]
    pub fn held(&self) -> Option<&Parameters<K>> {
        self.held.as_ref().map(|manifest| &manifest.parameters)
    }

    /// Whether every row of it is there.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.held.as_ref().is_some_and(|manifest| manifest.complete)
    }

    /// How the job has ended before, with these parameters. Its parts are there.
    ///
    /// # Errors
    /// [`JobError`], when it had others, or a part is damaged.
    pub fn found_finished(
        self,
        parameters: Parameters<K>,
        runtime: &Runtime<'_>,
    ) -> Result<Outcome<K>, JobError> {
        self.perform(parameters, NonZeroUsize::MIN, runtime, || {
            Err::<NoPart, _>(JobError::Stopped)
        })
    }

    /// Writes every part that is missing, by as many workers as there are parts for, each made by
    /// `worker` on its own thread.
    ///
    /// # Errors
    /// [`JobError`]; every part in the folder is whole, and the same call resumes the job.
    pub fn perform<M: PartMaker<K>>(
        self,
        parameters: Parameters<K>,
        workers: NonZeroUsize,
        runtime: &Runtime<'_>,
        worker: impl Fn() -> Result<M, JobError> + Sync,
    ) -> Result<Outcome<K>, JobError> {
        let Self {
            start,
            folder,
            held,
        } = self;
        bounds(&parameters)?;
        let manifest = match held {
            Some(manifest) => {
                // A job goes on only with the parameters that it began with.
                manifest.parameters.permit(&parameters)?;
                recover(folder, manifest)?
            }
            None => Manifest::new(run_id(runtime.entropy)?, parameters),
        };
        let rows_before = manifest.rows;
        let found_finished = manifest.complete;
        let ledger = Ledger::new(folder, manifest);
        let written = match found_finished {
            true => Ok(()),
            false => ledger.write_all(workers, runtime, worker),
        };
        let manifest = ledger.into_manifest();
        written.map_err(|error| error.of_begun(manifest.parts.len()))?;
        let ending = match (found_finished, manifest.complete) {
            (true, _) => Ending::FoundFinished,
            (false, true) => Ending::Finished,
            (false, false) => Ending::Stopped,
        };
        Ok(Outcome {
            ending,
            rows_written: manifest.rows - rows_before,
            manifest,
            elapsed: runtime.clock.monotonic().saturating_sub(start),
        })
    }
}

/// The worker of a job that has no part left.
enum NoPart {}

impl<K> PartMaker<K> for NoPart {
    fn write(
        &mut self,
        _task: &Task,
        _ledger: &Ledger<'_, K>,
    ) -> Result<Option<ledger::FinishedPart>, JobError> {
        match *self {}
    }
}

/// Performs a job in the folder `out`, which is not within one of the tables, and cleans up when it
/// has ended: `notes` are files that only a job under way needs.
///
/// # Errors
/// [`JobError`]; every part in the folder is whole, and the same call resumes the job.
pub fn in_folder<K: Kind>(
    out: &Out,
    tables: &[Location],
    notes: &[&str],
    runtime: &Runtime<'_>,
    perform: impl FnOnce(&Folder, Job<'_, K>) -> Result<Outcome<K>, JobError>,
) -> Result<Outcome<K>, JobError> {
    input::check_beside(tables, out)?;
    let folder = Folder::open(out)?;
    let outcome = perform(&folder, Job::begin(&folder, runtime)?)?;
    if outcome.ending != Ending::Stopped {
        for name in notes {
            folder.remove_if_there(name)?;
        }
        folder.close()?;
    }
    Ok(outcome)
}

fn bounds<K: Kind>(parameters: &Parameters<K>) -> Result<(), JobError> {
    let (count, rows_per_part) = (parameters.count, parameters.rows_per_part);
    if rows_per_part > PART_ROWS_MAX {
        return Err(JobError::PartTooLarge);
    }
    if parameters.parts().count() > PARTS_MAX {
        return Err(JobError::TooManyParts {
            count,
            rows_per_part,
        });
    }
    Ok(())
}

/// Whole row groups, and a part for each worker where there are rows enough.
#[must_use]
pub fn rows_per_part(count: u64, workers: NonZeroUsize) -> u64 {
    let group = parquet::properties::ROW_GROUP_ROWS as u64;
    let share = count.div_ceil(workers.get() as u64).div_ceil(group) * group;
    share.clamp(group, PART_ROWS_DEFAULT)
}

/// 128 random bits in hex: they distinguish the parts of this job from those of another.
fn run_id(entropy: &Entropy) -> Result<String, EntropyError> {
    let mut bytes = [0; 16];
    entropy.draw(&mut bytes)?;
    Ok(format!("{:032x}", u128::from_be_bytes(bytes)))
}

/// Checks the parts that the manifest names, and adds those that were finished just before the job
/// died.
fn recover<K: Kind>(folder: &Folder, mut manifest: Manifest<K>) -> Result<Manifest<K>, JobError> {
    let standing = folder.parts()?;
    for part in &manifest.parts {
        // Only the length is checked: hashing would read every part again.
        let reason = match standing.get(&part.file) {
            Some(length) if *length == part.bytes => continue,
            Some(length) => format!("it has {length} bytes instead of {}", part.bytes),
            None => "it is gone".to_owned(),
        };
        let path = folder.path(&part.file);
        return Err(JobError::PartDamaged { path, reason });
    }
    let mut changed = false;
    for file in standing.into_keys() {
        let Some(number) = manifest::part_number(&file) else {
            continue;
        };
        if manifest.parameters.part_file(number) != file {
            return Err(JobError::ForeignFile(folder.path(&file)));
        }
        let rows = manifest.parameters.parts().rows(number);
        // A finished part may miss in the manifest if the job died between the two.
        if !rows.as_ref().is_some_and(|rows| manifest.has(rows.start)) {
            let part = adopt(folder, &manifest, file, rows)?;
            manifest.add(part);
            changed = true;
        }
    }
    if changed {
        folder.write_manifest(&manifest)?;
    }
    Ok(manifest)
}

/// A part that is finished and not in the manifest yet.
fn adopt<K: Kind>(
    folder: &Folder,
    manifest: &Manifest<K>,
    file: String,
    rows: Option<Range<u64>>,
) -> Result<Part, JobError> {
    let path = folder.path(&file);
    let foreign = || JobError::ForeignFile(path.clone());
    let rows = rows.ok_or_else(foreign)?;
    let first_row = rows.start;
    let description = folder.describe(&file)?;
    let says = |name: &str| description.metadata.get(name).cloned();
    if says(footer::RUN).as_ref() != Some(&manifest.run)
        || says(footer::FIRST_ROW) != Some(first_row.to_string())
        || rows.end - rows.start != description.rows
    {
        return Err(foreign());
    }
    let Finished { bytes, sha256 } = folder.measure(&file)?;
    Ok(Part {
        file,
        first_row,
        rows: description.rows,
        bytes,
        sha256,
        // A part without rows is under no key.
        key_material_id: says(footer::KEY_MATERIAL_ID)
            .or_else(|| (description.rows == 0).then(String::new))
            .ok_or_else(foreign)?,
    })
}
