//! Rewrapping: a table with blobs, and the same rows with each blob under another key, another
//! generation of its key, or another context. Plaintext never leaves the process that has the keys.
//!
//! A job as `bulk` has it. Columns that a job adds are made anew; every other is kept. A row whose
//! blob does not open ends the job and is named: `verify` finds them all beforehand.

mod part;
pub mod remote;
pub mod sealer;

pub use remote::Remote;
pub use sealer::{Recorded, Sealer, Sealers};

use crate::bulk::parquet::properties::{Layout, column};
use crate::bulk::{self, Ending, Folder, Job, JobError, Runtime, rows_per_part};
use crate::columns::{Blobs, ContextSource};
use crate::table::fields::Fields;
use crate::table::file::{check_finished, check_unchanged};
use crate::table::parquet::ParquetFile;
use crate::table::part_rows::Table;
use crate::table::plan::FilePlan;
use crate::table::rows::{check_names, check_same};
use crate::table::{self, File, Format, Location, Object, TableError};
use arrow_schema::{Schema, SchemaRef};
use part::{PartWriter, Shared};
use serde::{Deserialize, Serialize};
use std::num::{NonZeroU64, NonZeroUsize};
use std::path::PathBuf;
use std::sync::Arc;
use tokio::runtime::Handle;

/// What to rewrap.
pub struct Plan {
    /// The destination as the caller names it.
    pub key: String,
    /// The table, of Parquet files.
    pub inputs: Vec<Location>,
    /// What each blob is bound to.
    pub context: ContextSource,
    /// What it will be bound to; `None` is the same.
    pub new_context: Option<ContextSource>,
    /// Rows of a part; `None` takes the job's own where it is resumed, else one that keeps every
    /// worker busy.
    pub rows_per_part: Option<NonZeroU64>,
    /// The folder.
    pub out: PathBuf,
    /// Parts written at the same time.
    pub workers: NonZeroUsize,
    /// What waits for object stores.
    pub runtime: Handle,
}

/// What decides the rows of a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parameters {
    /// The destination as the caller named it.
    pub key: String,
    /// The key that this name meant.
    pub key_arn: String,
    /// The table as the caller named it.
    pub inputs: Vec<String>,
    /// What each blob was bound to, as text.
    pub context: String,
    /// What it is bound to, as text.
    pub new_context: String,
    /// Rows of every part but the last.
    pub rows_per_part: u64,
    /// Rows in all.
    pub count: u64,
    /// The files, in order.
    pub files: Vec<File>,
}

impl bulk::Parameters for Parameters {
    const FORMAT: &'static str = "keymill-rewrap/1";

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

    fn arguments(&self) -> Vec<(&'static str, String)> {
        vec![
            ("INPUT", self.inputs.join(" ")),
            ("--context", self.context.clone()),
            ("--new-context", self.new_context.clone()),
            ("--rows-per-part", self.rows_per_part.to_string()),
        ]
    }
}

/// How a job ended.
pub type Outcome = bulk::Outcome<Parameters>;

/// The columns that are made anew, and those of them that are the same in every row of a part.
const COLUMNS: [&str; 5] = [
    column::KEY_ARN,
    column::KEY_MATERIAL_ID,
    column::ENCRYPTION_CONTEXT,
    column::CIPHERTEXT_BLOB,
    column::CREATED_AT,
];
const CONSTANT: [&str; 2] = [column::KEY_ARN, column::KEY_MATERIAL_ID];

/// Runs `plan` to its end, or on from where an earlier run of it ended.
///
/// # Errors
/// [`JobError`]; every part in the folder is whole, and the same call resumes the job.
pub fn run<S: Sealers>(
    plan: &Plan,
    source: &S,
    runtime: &Runtime<'_>,
) -> Result<Outcome, JobError> {
    table::location::check_beside(&plan.inputs, &plan.out)?;
    let folder = Folder::open(&plan.out)?;
    let job = Job::<Parameters>::begin(&folder, runtime)?;
    let mut parameters = plan.parameters(source.key_arn(), job.held());
    if let Some(held) = job.held() {
        bulk::Parameters::permit(held, &parameters)?;
    }
    let outcome = if job.is_complete() {
        // The files may be gone by now. Those that are there must be the files of the job.
        for location in &plan.inputs {
            if let Ok(objects) = location.objects(None, &plan.runtime) {
                check_finished(&parameters.files, &objects)?;
            }
        }
        job.perform(parameters, plan.workers, runtime, || {
            Err::<PartWriter<'_, S::Sealer>, _>(JobError::Stopped)
        })?
    } else {
        let objects = objects(&plan.inputs, &plan.runtime)?;
        let files: Vec<_> = objects.iter().map(File::from).collect();
        // The footers give all that the plan needs; a resumed job must find the same files.
        let (kept, schema) = plan.look_at(&objects)?;
        if job.held().is_some() {
            check_unchanged(&parameters.files, &files)?;
        } else {
            parameters.files = files;
            parameters.count = kept.count();
            if plan.rows_per_part.is_none() {
                parameters.rows_per_part = rows_per_part(kept.count(), plan.workers);
            }
        }
        let (layout, places) = layout(&objects, &schema)?;
        let shared = Shared {
            plan,
            runtime,
            layout,
            places,
            table: Table {
                objects: &objects,
                format: Format::Parquet,
                schema,
                plan: &kept,
            },
        };
        job.perform(parameters, plan.workers, runtime, || {
            Ok(PartWriter::new(&shared, source.sealer()?))
        })?
    };
    if outcome.ending != Ending::Stopped {
        folder.close()?;
    }
    Ok(outcome)
}

/// The Parquet files at these locations.
///
/// # Errors
/// [`TableError`], when a location has no files, or files that are not Parquet.
pub fn objects(inputs: &[Location], runtime: &Handle) -> Result<Vec<Object>, TableError> {
    let mut objects = Vec::new();
    for location in inputs {
        if *location == Location::Input {
            return Err(TableError::Location {
                location: "-".to_owned(),
                reason: "a Parquet file is read from its end; name it".to_owned(),
            });
        }
        objects.extend(location.objects(None, runtime)?);
    }
    objects
        .iter()
        .try_for_each(|object| is_parquet(&object.name))?;
    Ok(objects)
}

fn is_parquet(name: &str) -> Result<(), TableError> {
    let refused = match Format::of(name) {
        Some(Format::Parquet) => return Ok(()),
        Some(other) => format!("it is {}", other.name()),
        None => "its name does not end in .parquet".to_owned(),
    };
    Err(TableError::Location {
        location: name.to_owned(),
        reason: format!("{refused}; census, rewrap and verify read Parquet"),
    })
}

/// Refuses a table without a column of blobs, or without one of the contexts' columns.
///
/// # Errors
/// [`TableError::Column`], when one is missing or of another type.
pub fn check_columns(
    object: &Object,
    schema: &Schema,
    contexts: &[&ContextSource],
) -> Result<(), TableError> {
    let unusable = |reason: String| TableError::Column {
        name: object.name.clone(),
        reason,
    };
    let name = column::CIPHERTEXT_BLOB;
    match schema.field_with_name(name) {
        Ok(field) if Blobs::are(field.data_type()) => {}
        Ok(field) => {
            let kind = field.data_type();
            let reason = format!("column {name:?} is of type {kind}, and blobs are binary");
            return Err(unusable(reason));
        }
        Err(_) => return Err(unusable(format!("there is no column {name:?}"))),
    }
    contexts
        .iter()
        .try_for_each(|source| source.check(schema))
        .map_err(unusable)
}

impl Plan {
    /// The parameters that the caller asks for. Those that depend on the table are taken from an
    /// earlier run.
    fn parameters(&self, key_arn: Option<&str>, held: Option<&Parameters>) -> Parameters {
        let context = shown(&self.context);
        let asked_rows = self.rows_per_part.map(NonZeroU64::get);
        let held_rows = held.map(|held| held.rows_per_part);
        Parameters {
            key: self.key.clone(),
            key_arn: key_arn.unwrap_or_default().to_owned(),
            inputs: self.inputs.iter().map(ToString::to_string).collect(),
            new_context: self
                .new_context
                .as_ref()
                .map_or_else(|| context.clone(), shown),
            context,
            rows_per_part: asked_rows.or(held_rows).unwrap_or_default(),
            count: held.map_or(0, |held| held.count),
            files: held.map_or_else(Vec::new, |held| held.files.clone()),
        }
    }

    /// Counts the table's rows, and compares the columns of its files.
    fn look_at(&self, objects: &[Object]) -> Result<(table::Plan, SchemaRef), TableError> {
        let first = objects
            .first()
            .ok_or_else(|| TableError::Absent("no file".to_owned()))?;
        let schema = ParquetFile::new(first)?.schema();
        let contexts = [&self.context].into_iter().chain(&self.new_context);
        check_columns(first, &schema, &contexts.collect::<Vec<_>>())?;
        let files = objects
            .iter()
            .map(|object| {
                let file = ParquetFile::new(object)?;
                check_same(first, &schema, object, &file.schema())?;
                Ok(FilePlan {
                    rows: file.groups().sum(),
                    ..FilePlan::default()
                })
            })
            .collect::<Result<_, TableError>>()?;
        Ok((table::Plan::new(files, Fields::default()), schema))
    }
}

/// A context's columns and constants as arguments show them.
fn shown(source: &ContextSource) -> String {
    match source {
        ContextSource::Map(column) => format!("the maps of column {column}"),
        ContextSource::Pairs(pairs) => {
            let constants: String = pairs
                .constants
                .iter()
                .map(|(name, value)| format!(" {name}={value}"))
                .collect();
            format!("{}{constants}", pairs.columns.join(","))
        }
    }
}

/// The columns of every part, and which of the table's are kept.
fn layout(objects: &[Object], schema: &Schema) -> Result<(Layout, Vec<usize>), TableError> {
    let fields = schema.fields().iter().enumerate();
    let kept = fields.filter(|(_, field)| !COLUMNS.contains(&field.name().as_str()));
    let (places, fields): (Vec<_>, Vec<_>) =
        kept.map(|(at, field)| (at, Arc::clone(field))).unzip();
    let kept = Schema::new(fields);
    if let Some(first) = objects.first() {
        check_names(first, &kept, COLUMNS)?;
    }
    let layout = Layout::beside(&kept, &COLUMNS, &CONSTANT, &[column::CONTAINER_ID]);
    Ok((layout, places))
}
