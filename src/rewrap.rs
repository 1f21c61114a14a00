//! Rewrapping: a table with blobs, and the same rows with each blob under another key, another
//! generation of its key, or another context. Plaintext never leaves the process that has the keys.
//!
//! A job as `bulk` has it. Columns that a job adds are made anew, in their place; every other is
//! copied. A row whose blob does not open ends the job and is named: `verify` finds them all
//! beforehand.

mod contexts;
mod part;
pub mod remote;
pub mod sealer;

pub use remote::Remote;
pub use sealer::{Recorded, Sealer, Sealers};

use crate::bulk::input::{File, check_beside, check_finished, check_unchanged};
use crate::bulk::parquet::properties::column;
use crate::bulk::{
    self, Ending, Folder, Job, JobError, Parameter, PartFolders, Parts, Runtime, footer,
    rows_per_part,
};
use crate::columns::{Blobs, ContextPairs, ContextSource, names};
use crate::splice::{self, Own, PartWriter, Said, SplicePlan};
use crate::table::fields::Fields;
use crate::table::folders::{self, FolderNames};
use crate::table::parquet::ParquetFile;
use crate::table::plan::FilePlan;
use crate::table::rows::{check_names, check_same};
use crate::table::{self, Format, Location, Object, TableError};
use arrow_schema::Schema;
use part::Sealing;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::num::{NonZeroU64, NonZeroUsize};
use std::path::PathBuf;
use tokio::runtime::Handle;

/// What to rewrap.
pub struct Plan {
    /// The destination as the caller names it.
    pub key: String,
    /// The table, of Parquet files.
    pub inputs: Vec<Location>,
    /// What the names of its folders are taken for.
    pub folder_names: FolderNames,
    /// What each blob is bound to; `None` is what the table says.
    pub context: Option<ContextSource>,
    /// What it will be bound to; `None` is the same.
    pub new_context: Option<ContextPairs>,
    /// Whether each row's context is written as a map, also where the table has no such column.
    pub context_map: bool,
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
    /// Whether each row's context is written as a map in any case.
    pub context_map: bool,
    /// Parts are whole row groups: how many rows each has about.
    pub rows_per_part: u64,
    /// For each part the number of the row behind its last.
    pub part_ends: Vec<u64>,
    /// The folders that are columns.
    #[serde(default, skip_serializing_if = "PartFolders::is_plain")]
    pub folders: PartFolders,
    /// Rows in all.
    pub count: u64,
    /// The files, in order.
    pub files: Vec<File>,
}

impl bulk::Parameters for Parameters {
    const FORMAT: &'static str = "keymill-rewrap/2";

    fn count(&self) -> u64 {
        self.count
    }

    fn rows_per_part(&self) -> u64 {
        self.rows_per_part
    }

    fn parts(&self) -> Parts<'_> {
        Parts::Listed(&self.part_ends)
    }

    fn folders(&self) -> Option<&PartFolders> {
        Some(&self.folders)
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
            (Parameter::Input, self.inputs.join(" ")),
            (Parameter::Folders, self.folders.shown()),
            (Parameter::Context, self.context.clone()),
            (Parameter::NewContext, self.new_context.clone()),
            (Parameter::ContextMap, self.context_map.to_string()),
            (Parameter::RowsPerPart, self.rows_per_part.to_string()),
        ]
    }
}

/// How a job ended.
pub type Outcome = bulk::Outcome<Parameters>;

/// Columns that are made anew.
const COLUMNS: [&str; 5] = [
    column::KEY_ARN,
    column::KEY_MATERIAL_ID,
    column::ENCRYPTION_CONTEXT,
    column::CIPHERTEXT_BLOB,
    column::CREATED_AT,
];

/// Runs `plan` to its end, or on from where an earlier run of it ended.
///
/// # Errors
/// [`JobError`]; every part in the folder is whole, and the same call resumes the job.
pub fn run<S: Sealers>(
    plan: &Plan,
    source: &S,
    runtime: &Runtime<'_>,
) -> Result<Outcome, JobError> {
    check_beside(&plan.inputs, &plan.out)?;
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
            Err::<PartWriter<'_, _, Sealing<'_, S::Sealer>>, _>(JobError::Stopped)
        })?
    } else {
        let objects = objects(&plan.inputs, plan.folder_names, &plan.runtime)?;
        let files: Vec<_> = objects.iter().map(File::from).collect();
        // The footers give all that the plan needs; a resumed job must find the same files.
        let looked = plan.look_at(&objects)?;
        if job.held().is_some() {
            check_unchanged(&parameters.files, &files)?;
        } else {
            parameters.files = files;
            parameters.count = looked.rows.count();
            if plan.rows_per_part.is_none() {
                parameters.rows_per_part = rows_per_part(parameters.count, plan.workers);
            }
        }
        plan.splice(job, parameters, &objects, &looked, source, runtime)?
    };
    if outcome.ending != Ending::Stopped {
        folder.close()?;
    }
    Ok(outcome)
}

/// The Parquet files at these locations.
///
/// # Errors
/// [`TableError`], when a location has no files, or files that are not Parquet, or folders of
/// different names.
pub fn objects(
    inputs: &[Location],
    folder_names: FolderNames,
    runtime: &Handle,
) -> Result<Vec<Object>, TableError> {
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
    folders::find(&mut objects, folder_names)?;
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
        let context = match &self.context {
            Some(ContextSource::Pairs(pairs)) => shown(pairs),
            _ => "as the table says".to_owned(),
        };
        let mut folders = held.map_or_else(PartFolders::default, |held| held.folders.clone());
        folders.no_hive = self.folder_names == FolderNames::Nothing;
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
            context_map: self.context_map,
            rows_per_part: asked_rows.or(held_rows).unwrap_or_default(),
            part_ends: held.map_or_else(Vec::new, |held| held.part_ends.clone()),
            folders,
            count: held.map_or(0, |held| held.count),
            files: held.map_or_else(Vec::new, |held| held.files.clone()),
        }
    }

    /// Counts the table's rows, compares the columns of its files, and finds the contexts.
    fn look_at(&self, objects: &[Object]) -> Result<Looked, TableError> {
        let first = objects
            .first()
            .ok_or_else(|| TableError::Absent("no file".to_owned()))?;
        let file = ParquetFile::new(first)?;
        let schema = file.schema();
        let context = match &self.context {
            Some(named) => named.clone(),
            None => contexts::of_file(&file)?,
        };
        let new_context = self.new_context.clone().map(ContextSource::Pairs);
        let named: Vec<_> = [&context].into_iter().chain(&new_context).collect();
        check_columns(first, &schema, &named)?;
        // A footer may be large, and one at a time is enough.
        drop(file);
        let mut files = Vec::new();
        for object in objects {
            let file = ParquetFile::new(object)?;
            check_same(first, &schema, object, &file.schema())?;
            if self.context.is_none() {
                contexts::check_same(&context, &file)?;
            }
            files.push(FilePlan {
                rows: file.groups().sum(),
                ..FilePlan::default()
            });
        }
        let has_map = schema.field_with_name(column::ENCRYPTION_CONTEXT).is_ok();
        // A column of maps stays as it is, where contexts do.
        let writes_map = if has_map {
            new_context.is_some()
        } else {
            self.context_map
        };
        let own = COLUMNS
            .into_iter()
            .filter(|name| writes_map || *name != column::ENCRYPTION_CONTEXT)
            .collect();
        let fields = schema.fields().iter();
        let kept = fields.filter(|field| !COLUMNS.contains(&field.name().as_str()));
        check_names(
            first,
            &Schema::new(kept.cloned().collect::<Vec<_>>()),
            COLUMNS,
        )?;
        check_names(first, &first.folders.schema(), COLUMNS)?;
        Ok(Looked {
            rows: table::Plan::new(files, Fields::default()),
            context,
            new_context,
            own,
        })
    }

    /// Writes the parts.
    fn splice<S: Sealers>(
        &self,
        job: Job<'_, Parameters>,
        mut parameters: Parameters,
        objects: &[Object],
        looked: &Looked,
        source: &S,
        runtime: &Runtime<'_>,
    ) -> Result<Outcome, JobError> {
        let plan = SplicePlan::new(objects, &looked.rows, parameters.rows_per_part)?;
        let (before, ends) = (parameters.folders.clone(), plan.ends());
        parameters.folders.columns = folders::names(objects);
        let files = plan.files();
        let folders = files.map(|file| objects[file].folders.path());
        parameters.folders = parameters.folders.with(folders);
        let is_same = ends == parameters.part_ends && before == parameters.folders;
        if job.held().is_some() && !is_same {
            let first = objects.first().map(|object| object.name.clone());
            return Err(TableError::Changed(first.unwrap_or_default()).into());
        }
        parameters.part_ends = ends;
        let mut columns = looked.context.columns();
        columns.extend(looked.new_context.iter().flat_map(ContextSource::columns));
        columns.push(column::CIPHERTEXT_BLOB.to_owned());
        columns.sort();
        columns.dedup();
        let after = looked.new_context.as_ref().unwrap_or(&looked.context);
        let shared = splice::Shared {
            runtime,
            objects,
            kept: &looked.rows,
            plan: &plan,
            columns: &columns,
            own: Own {
                names: looked.own.clone(),
                replaces: true,
            },
            id_column: None,
            context: after,
            said: &|parameters: &Parameters| Said {
                key_spec: String::new(),
                footer: said(after)
                    .into_iter()
                    .chain(footer::of_folders(&parameters.folders))
                    .collect(),
            },
        };
        job.perform(parameters, self.workers, runtime, || {
            let sealing = Sealing {
                objects,
                context: &looked.context,
                new_context: looked.new_context.as_ref(),
                sealer: source.sealer()?,
            };
            Ok(PartWriter::new(&shared, sealing))
        })
    }
}

/// What the footers of a table say.
struct Looked {
    rows: table::Plan,
    /// What each blob is bound to.
    context: ContextSource,
    /// What it will be bound to; `None` is the same.
    new_context: Option<ContextSource>,
    /// The columns that are written.
    own: Vec<&'static str>,
}

/// What footers say of contexts that are made of columns.
fn said(context: &ContextSource) -> Vec<(&'static str, String)> {
    let ContextSource::Pairs(pairs) = context else {
        return Vec::new();
    };
    let constants: BTreeMap<_, _> = pairs.constants.iter().cloned().collect();
    vec![
        (
            footer::CONTEXT_COLUMNS,
            serde_json::json!(pairs.columns).to_string(),
        ),
        (
            footer::CONTEXT_CONSTANTS,
            serde_json::json!(constants).to_string(),
        ),
    ]
}

/// Where the contexts of the rows of these files are, as each of them says.
///
/// # Errors
/// [`TableError`], when one cannot be read, does not say it, or says something else than the first.
pub fn contexts_of(objects: &[Object]) -> Result<ContextSource, TableError> {
    let first = objects
        .first()
        .ok_or_else(|| TableError::Absent("no file".to_owned()))?;
    let found = contexts::of_file(&ParquetFile::new(first)?)?;
    for object in objects {
        contexts::check_same(&found, &ParquetFile::new(object)?)?;
    }
    Ok(found)
}

/// A context's columns and constants as arguments show them.
fn shown(pairs: &ContextPairs) -> String {
    let constants: String = pairs
        .constants
        .iter()
        .map(|(name, value)| format!(" {name}={value}"))
        .collect();
    format!("{}{constants}", names::list(&pairs.columns))
}
