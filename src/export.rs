//! Bulk export: one new container a row, each with its own wrapped data key, as Parquet.
//!
//! An export is a folder of parts and a manifest. A part is written by one worker from end to end: it mints under an
//! epoch of its own and binds to the run's one context, so workers share nothing but the list of parts still to be
//! written, and memory is a row group for each. Parts are complete or absent (`folder`), so a run that dies is resumed
//! by the same command, and rows that stand are never made again: a reader may have taken them already.
//!
//! What this module does not do: decide who may export (its source does), or bind each row to a context of its own
//! (that is `provision`).

pub mod authorities;
pub mod endpoint;
pub mod error;
pub mod folder;
pub mod id_pattern;
pub mod manifest;
pub mod parquet;
mod part;
pub mod progress;
pub mod recorded;
pub mod remote;
pub mod source;

pub use authorities::{Authorities, AuthoritiesError};
pub use endpoint::{Endpoint, InvalidEndpoint};
pub use error::ExportError;
pub use id_pattern::{IdPattern, InvalidIdPattern};
pub use manifest::{Manifest, Parameters, Part};
pub use progress::Progress;
pub use recorded::Recorded;
pub use remote::Remote;
pub use source::{KeyIdentity, Local, Source, SourceError, Worker};

use self::folder::{Finished, Folder};
use self::parquet::ROW_GROUP_ROWS;
use self::part::Ledger;
use crate::clock::Clock;
use crate::context::EncryptionContext;
use crate::crypto::entropy::{Entropy, EntropyError};
use crate::key::data_key::DataKeyLength;
use std::collections::BTreeMap;
use std::fs::File;
use std::num::{NonZeroU64, NonZeroUsize};
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// Rows of a part unless the run is small or asks otherwise: about 120 MB.
pub const PART_ROWS_DEFAULT: u64 = 1 << 20;
/// Rows of a part at most: what one call of the batch endpoint may ask for.
pub const PART_ROWS_MAX: u64 = u32::MAX as u64;
/// Parts of a run at most; keeps the manifest, which is written anew for each part, below 30 MB.
pub const PARTS_MAX: u64 = 100_000;

/// What to export.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The key as the caller names it; the source has resolved it or will.
    pub key: String,
    /// The length of every data key.
    pub length: DataKeyLength,
    /// Rows in all.
    pub count: NonZeroU64,
    /// How containers are named.
    pub id_pattern: IdPattern,
    /// The context of every row.
    pub context: EncryptionContext,
    /// Rows of a part; `None` takes the run's own where it is resumed, else one that keeps every worker busy.
    pub rows_per_part: Option<NonZeroU64>,
    /// The folder.
    pub out: PathBuf,
    /// Parts written at the same time.
    pub workers: NonZeroUsize,
}

/// What a run needs from the process.
pub struct Runtime<'a> {
    /// Time.
    pub clock: Clock,
    /// Where the run's own name is drawn.
    pub entropy: &'a Entropy,
    /// Who is told how far it is.
    pub progress: &'a Progress,
    /// Ends the run after the parts in progress.
    pub stop: &'a AtomicBool,
}

/// How a run ended, short of an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Whether it was stopped before the last part, found finished, or has finished.
    pub ending: Ending,
    /// What the folder holds now.
    pub manifest: Manifest,
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
    /// Told to stop; the same command resumes it.
    Stopped,
}

/// What a part says of itself, in its footer.
mod footer {
    use super::manifest::{Parameters, SOFTWARE};

    pub(super) const RUN: &str = "keymill.run";
    pub(super) const FIRST_ROW: &str = "keymill.first_row";
    pub(super) const KEY_MATERIAL_ID: &str = "keymill.key_material_id";

    pub(super) fn of_part(
        run: &str,
        parameters: &Parameters,
        key_material_id: &str,
        first_row: u64,
    ) -> [(&'static str, String); 9] {
        let context = serde_json::json!(parameters.encryption_context);
        [
            ("keymill.software", SOFTWARE.to_owned()),
            (RUN, run.to_owned()),
            (FIRST_ROW, first_row.to_string()),
            ("keymill.key_arn", parameters.key_arn.clone()),
            (KEY_MATERIAL_ID, key_material_id.to_owned()),
            ("keymill.key_spec", parameters.key_spec.clone()),
            ("keymill.id_pattern", parameters.id_pattern.clone()),
            ("keymill.context_constants", context.to_string()),
            ("keymill.context_columns", "[]".to_owned()),
        ]
    }
}

/// Runs `plan` to its end, or on from where an earlier run of it ended.
///
/// # Errors
/// [`ExportError`]; every part that stands is whole, and the same call resumes the run.
pub fn run<S: Source>(
    plan: &Plan,
    source: &S,
    runtime: &Runtime<'_>,
) -> Result<Outcome, ExportError> {
    let start = runtime.clock.monotonic();
    let folder = Folder::open(&plan.out)?;
    let held = folder.manifest()?;
    let parameters = parameters(plan, source, held.as_ref())?;
    let manifest = match held {
        Some(manifest) => {
            manifest.parameters.permit(&parameters)?;
            recover(&folder, manifest)?
        }
        None => Manifest::new(run_id(runtime.entropy)?, parameters),
    };
    let rows_before = manifest.rows;
    let found_finished = manifest.complete;
    let ledger = Ledger::new(&folder, manifest);
    if !found_finished {
        part::write_all(plan, source, runtime, &ledger)?;
    }
    let manifest = ledger.into_manifest();
    let ending = match (found_finished, manifest.complete) {
        (true, _) => Ending::FoundFinished,
        (false, true) => Ending::Finished,
        (false, false) => Ending::Stopped,
    };
    if ending != Ending::Stopped {
        folder.close()?;
    }
    Ok(Outcome {
        ending,
        rows_written: manifest.rows - rows_before,
        manifest,
        elapsed: runtime.clock.monotonic().saturating_sub(start),
    })
}

fn parameters<S: Source>(
    plan: &Plan,
    source: &S,
    held: Option<&Manifest>,
) -> Result<Parameters, ExportError> {
    let count = plan.count.get();
    let rows_per_part = match (plan.rows_per_part, held) {
        (Some(rows), _) => rows.get(),
        (None, Some(manifest)) => manifest.parameters.rows_per_part,
        (None, None) => rows_per_part(count, plan.workers.get() as u64),
    };
    if rows_per_part > PART_ROWS_MAX {
        return Err(ExportError::PartTooLarge);
    }
    if count.div_ceil(rows_per_part) > PARTS_MAX {
        return Err(ExportError::TooManyParts {
            count,
            rows_per_part,
        });
    }
    let pairs = plan.context.pairs();
    Ok(Parameters {
        key: plan.key.clone(),
        key_arn: source.key_arn().unwrap_or_default().to_owned(),
        key_spec: plan.length.spec(),
        count,
        id_pattern: plan.id_pattern.to_string(),
        encryption_context: pairs
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect::<BTreeMap<_, _>>(),
        rows_per_part,
    })
}

/// Whole row groups, and a part for each worker where there are rows enough.
fn rows_per_part(count: u64, workers: u64) -> u64 {
    let group = ROW_GROUP_ROWS as u64;
    let share = count.div_ceil(workers).div_ceil(group) * group;
    share.clamp(group, PART_ROWS_DEFAULT)
}

/// 128 random bits in hex: what tells the parts of this run from those of another.
fn run_id(entropy: &Entropy) -> Result<String, EntropyError> {
    let mut bytes = [0; 16];
    entropy.draw(&mut bytes)?;
    Ok(format!("{:032x}", u128::from_be_bytes(bytes)))
}

/// Checks the parts that the manifest names, and adds those that were finished just before the run died.
fn recover(folder: &Folder, mut manifest: Manifest) -> Result<Manifest, ExportError> {
    for part in &manifest.parts {
        let path = folder.path(&part.file);
        let length = std::fs::metadata(&path)
            .map_err(|error| ExportError::io("read", &path, error))?
            .len();
        if length != part.bytes {
            let reason = format!("it has {length} bytes instead of {}", part.bytes);
            return Err(ExportError::PartDamaged { path, reason });
        }
    }
    let rows_per_part = manifest.parameters.rows_per_part;
    let mut changed = false;
    for number in folder.parts()? {
        let first_row = number.saturating_mul(rows_per_part);
        if !manifest.has(first_row) {
            let part = adopt(folder, &manifest, number, first_row)?;
            manifest.add(part);
            changed = true;
        }
    }
    if changed {
        folder.write_manifest(&manifest)?;
    }
    Ok(manifest)
}

/// A part that stands and is not in the manifest yet.
fn adopt(
    folder: &Folder,
    manifest: &Manifest,
    number: u64,
    first_row: u64,
) -> Result<Part, ExportError> {
    let file = manifest::part_file(number);
    let path = folder.path(&file);
    let foreign = || ExportError::ForeignFile(path.clone());
    let open = File::open(&path).map_err(|error| ExportError::io("read", &path, error))?;
    let description = parquet::describe(&open).map_err(|_| foreign())?;
    let says = |name: &str| description.metadata.get(name).cloned();
    let rows = rows_of_part(&manifest.parameters, first_row);
    if says(footer::RUN).as_ref() != Some(&manifest.run)
        || says(footer::FIRST_ROW) != Some(first_row.to_string())
        || rows != Some(description.rows)
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
        key_material_id: says(footer::KEY_MATERIAL_ID).ok_or_else(foreign)?,
    })
}

fn rows_of_part(parameters: &Parameters, first_row: u64) -> Option<u64> {
    let left = parameters.count.checked_sub(first_row)?;
    (left > 0).then(|| left.min(parameters.rows_per_part))
}
