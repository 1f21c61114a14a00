//! Bulk export: one new container a row, each with its own wrapped data key, as Parquet.
//!
//! A job as `bulk` has it. A worker mints under an epoch of its own and binds to the job's one
//! context; memory is a page or two for each.
//!
//! What this module does not do: decide who may export (its source does), or bind each row to a
//! context of its own (that is `provision`).

pub mod id_pattern;
pub mod mint;
mod part;
pub mod remote;

pub use id_pattern::{IdPattern, InvalidIdPattern};
pub use mint::Mint;

use crate::bulk::footer::Said;
use crate::bulk::keys::KeySource;
use crate::bulk::parquet::properties::field;
use crate::bulk::{self, Asked, JobError, Kind, Out, Parameter, Runtime, rows_per_part};
use crate::context::EncryptionContext;
use crate::key::data_key::DataKeyLength;
use crate::table::FolderNames;
use arrow_schema::{Schema, SchemaRef};
use part::MintedParts;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::num::{NonZeroU64, NonZeroUsize};

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
    pub out: Out,
    /// Parts written at the same time.
    pub workers: NonZeroUsize,
}

/// What decides the rows of an export, beside what all jobs have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parameters {
    /// `AES_256`, `AES_128`, or `BYTES_<n>`.
    pub key_spec: String,
    /// How containers are named.
    pub id_pattern: String,
    /// The context of every row.
    pub encryption_context: BTreeMap<String, String>,
}

impl Kind for Parameters {
    const FORMAT: &'static str = "keymill-export/1";

    fn arguments(&self) -> Vec<(Parameter, String)> {
        vec![
            (Parameter::KeySpec, self.key_spec.clone()),
            (Parameter::IdPattern, self.id_pattern.clone()),
            (
                Parameter::Constants,
                format!("{:?}", self.encryption_context),
            ),
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
    let fields = part::COLUMNS.iter().map(|name| field(name));
    Schema::new(fields.collect::<Vec<_>>()).into()
}

/// Runs `plan` to its end, or on from where an earlier run of it ended.
///
/// # Errors
/// [`JobError`]; every part in the folder is whole, and the same call resumes the job.
pub fn run<S: KeySource<Operation = Mint>>(
    plan: &Plan,
    source: &S,
    runtime: &Runtime<'_>,
) -> Result<Outcome, JobError> {
    let pairs: Vec<_> = plan.context.pairs().collect();
    let pairs = pairs
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
    let constants: Vec<(String, String)> = pairs.collect();
    let mut said = Said::new(plan.length.spec(), &[], &constants);
    said.footer
        .push(("keymill.id_pattern", plan.id_pattern.to_string()));
    let schema = part::part_schema();
    let schema = schema.map_err(|error| JobError::write(plan.out.path(), error))?;
    bulk::in_folder(&plan.out, &[], &[], runtime, |_, job| {
        let asked = Asked {
            key: &plan.key,
            inputs: &[],
            folder_names: FolderNames::Columns,
            rows_per_part: plan.rows_per_part,
        };
        let kind = Parameters {
            key_spec: plan.length.spec(),
            id_pattern: plan.id_pattern.to_string(),
            encryption_context: constants.into_iter().collect(),
        };
        let mut parameters = bulk::Parameters::new(asked, source.key_arn(), job.held(), kind);
        parameters.count = plan.count.get();
        if parameters.rows_per_part == 0 {
            parameters.rows_per_part = rows_per_part(parameters.count, plan.workers);
        }
        job.perform(parameters, plan.workers, runtime, || {
            Ok(MintedParts {
                plan,
                runtime,
                said: &said,
                schema: &schema,
                own: part::own_columns(),
                worker: source.worker()?,
            })
        })
    })
}
