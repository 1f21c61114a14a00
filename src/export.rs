//! Bulk export: one new container a row, each with its own wrapped data key, as Parquet.
//!
//! A job as `bulk` has it. A worker mints under an epoch of its own and binds to the job's one
//! context; memory is a row group for each.
//!
//! What this module does not do: decide who may export (its source does), or bind each row to a
//! context of its own (that is `provision`).

pub mod id_pattern;
mod part;
pub mod recorded;
pub mod remote;
pub mod rows;
pub mod source;

pub use id_pattern::{IdPattern, InvalidIdPattern};
pub use recorded::Recorded;
pub use remote::Remote;
pub use source::{Local, Worker, Workers};

use crate::bulk::parquet::properties::Layout;
use crate::bulk::{self, Ending, Folder, Job, JobError, Parameter, Runtime, rows_per_part};
use crate::context::EncryptionContext;
use crate::key::data_key::DataKeyLength;
use arrow_schema::SchemaRef;
use part::PartWriter;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::num::{NonZeroU64, NonZeroUsize};
use std::path::PathBuf;

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
    /// Rows of a part; `None` takes the job's own where it is resumed, else one that keeps every
    /// worker busy.
    pub rows_per_part: Option<NonZeroU64>,
    /// The folder.
    pub out: PathBuf,
    /// Parts written at the same time.
    pub workers: NonZeroUsize,
}

/// What decides the rows of an export.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parameters {
    /// The key as the caller named it.
    pub key: String,
    /// The key that this name meant.
    pub key_arn: String,
    /// `AES_256`, `AES_128`, or `BYTES_<n>`.
    pub key_spec: String,
    /// Rows in all.
    pub count: u64,
    /// How containers are named.
    pub id_pattern: String,
    /// The context of every row.
    pub encryption_context: BTreeMap<String, String>,
    /// Rows of every part but the last.
    pub rows_per_part: u64,
}

impl bulk::Parameters for Parameters {
    const FORMAT: &'static str = "keymill-export/1";

    fn count(&self) -> u64 {
        self.count
    }

    fn rows_per_part(&self) -> u64 {
        self.rows_per_part
    }

    fn key(&self) -> &str {
        &self.key
    }

    fn key_arn(&self) -> &str {
        &self.key_arn
    }

    fn set_key_arn(&mut self, arn: String) {
        self.key_arn = arn;
    }

    fn arguments(&self) -> Vec<(Parameter, String)> {
        vec![
            (Parameter::KeySpec, self.key_spec.clone()),
            (Parameter::Count, self.count.to_string()),
            (Parameter::IdPattern, self.id_pattern.clone()),
            (
                Parameter::Constants,
                format!("{:?}", self.encryption_context),
            ),
            (Parameter::RowsPerPart, self.rows_per_part.to_string()),
        ]
    }
}

/// What the folder of an export says.
pub type Manifest = bulk::Manifest<Parameters>;
/// How an export ended.
pub type Outcome = bulk::Outcome<Parameters>;

/// The schema of an export: one row for each container.
#[must_use]
pub fn schema() -> SchemaRef {
    Layout::own(&part::COLUMNS, &[]).schema().clone()
}

/// Runs `plan` to its end, or on from where an earlier run of it ended.
///
/// # Errors
/// [`JobError`]; every part in the folder is whole, and the same call resumes the job.
pub fn run<S: Workers>(
    plan: &Plan,
    source: &S,
    runtime: &Runtime<'_>,
) -> Result<Outcome, JobError> {
    let folder = Folder::open(&plan.out)?;
    let job = Job::begin(&folder, runtime)?;
    let parameters = parameters(plan, source, job.held());
    let outcome = job.perform(parameters, plan.workers, runtime, || {
        Ok(PartWriter {
            plan,
            runtime,
            worker: source.worker()?,
            encoder: None,
            rows: rows::Rows::default(),
        })
    })?;
    if outcome.ending != Ending::Stopped {
        folder.close()?;
    }
    Ok(outcome)
}

fn parameters<S: Workers>(plan: &Plan, source: &S, held: Option<&Parameters>) -> Parameters {
    let count = plan.count.get();
    let rows_per_part = match (plan.rows_per_part, held) {
        (Some(rows), _) => rows.get(),
        (None, Some(held)) => held.rows_per_part,
        (None, None) => rows_per_part(count, plan.workers),
    };
    let pairs = plan.context.pairs();
    Parameters {
        key: plan.key.clone(),
        key_arn: source.key_arn().unwrap_or_default().to_owned(),
        key_spec: plan.length.spec(),
        count,
        id_pattern: plan.id_pattern.to_string(),
        encryption_context: pairs
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect::<BTreeMap<_, _>>(),
        rows_per_part,
    }
}
