//! Rewrapping: a table with blobs, and the same rows with each blob under another key, another
//! generation of its key, or another context. Plaintext never leaves the process that has the keys.
//!
//! A job as `bulk` has it. Columns that a job adds are made anew, in their place; every other is
//! copied. A row whose blob does not open ends the job and is named: `verify` finds them all
//! beforehand.

mod contexts;
mod part;
pub mod reseal;

pub use reseal::{LocalReseal, RemoteReseal, Reseal};

use crate::bulk::footer::{self, Said};
use crate::bulk::input::{File, check_unchanged};
use crate::bulk::keys::KeySource;
use crate::bulk::parquet::properties::column;
use crate::bulk::{self, Job, JobError, Kind, Parameter, Runtime, TableJob};
use crate::columns::shown::kind;
use crate::columns::{Blobs, ContextPairs, ContextSource, names};
use crate::splice::{self, Own, PartWriter, SplicePlan};
use crate::table::fields::Fields;
use crate::table::folders::{self, FolderNames};
use crate::table::parquet::ParquetFile;
use crate::table::plan::FilePlan;
use crate::table::rows::{check_names, check_same};
use crate::table::{self, Format, Input, Location, Object, TableError, Watch, codec};
use arrow_schema::Schema;
use part::Sealing;
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;

/// What to rewrap.
pub struct Plan {
    /// What every job that reads a table is asked: its key is the destination, and its files are
    /// Parquet.
    pub job: TableJob,
    /// What each blob is bound to; `None` is what the table says.
    pub context: Option<ContextSource>,
    /// What it will be bound to; `None` is the same.
    pub new_context: Option<ContextPairs>,
    /// Whether each row's context is written as a map, also where the table has no such column.
    pub context_map: bool,
}

/// What decides the rows of a job, beside what all jobs have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parameters {
    /// What each blob was bound to, as text.
    pub context: String,
    /// What it is bound to, as text.
    pub new_context: String,
    /// Whether each row's context is written as a map in any case.
    pub context_map: bool,
}

impl Kind for Parameters {
    const FORMAT: &'static str = "keymill-rewrap/2";

    fn arguments(&self) -> Vec<(Parameter, String)> {
        vec![
            (Parameter::Context, self.context.clone()),
            (Parameter::NewContext, self.new_context.clone()),
            (Parameter::ContextMap, self.context_map.to_string()),
        ]
    }
}

/// What decides the rows of a job.
pub type Decided = bulk::Parameters<Parameters>;
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
pub fn run<S: KeySource<Operation = Reseal>>(
    plan: &Plan,
    source: &S,
    runtime: &Runtime<'_>,
) -> Result<Outcome, JobError> {
    let TableJob {
        inputs,
        folder_names,
        out,
        ..
    } = &plan.job;
    bulk::in_folder(out, inputs, &[], runtime, |_, job| {
        let mut parameters = plan.parameters(source.key_arn(), job.held())?;
        if job.is_complete() {
            plan.job.check_finished(&parameters, None)?;
            return job.found_finished(parameters, runtime);
        }
        let mut objects = objects(inputs, *folder_names, &plan.job.runtime)?;
        folders::put_below(out.path(), &mut objects, *folder_names)?;
        let files: Vec<_> = objects.iter().map(File::from).collect();
        // The footers give all that the plan needs; a resumed job must find the same files.
        let looked = plan.look_at(&objects, runtime)?;
        if job.held().is_some() {
            check_unchanged(&parameters.files, &files)?;
        } else {
            plan.rehearse(&objects, &looked, source, runtime)?;
            plan.job.note(&mut parameters, files, &looked.rows);
        }
        plan.splice(job, parameters, &objects, &looked, source, runtime)
    })
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
        let found = location.objects(None, runtime);
        objects.extend(found.map_err(|error| match error {
            TableError::Absent(location) => TableError::AbsentParquet(location),
            other => other,
        })?);
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
            let kind = kind(field.data_type());
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
    fn parameters(
        &self,
        key_arn: Option<&str>,
        held: Option<&Decided>,
    ) -> Result<Decided, JobError> {
        let context = match &self.context {
            Some(ContextSource::Pairs(pairs)) => shown(pairs),
            _ => "as the table says".to_owned(),
        };
        let new_context = self.new_context.as_ref();
        let kind = Parameters {
            new_context: new_context.map_or_else(|| context.clone(), shown),
            context,
            context_map: self.context_map,
        };
        self.job.parameters(kind, key_arn, held)
    }

    /// Counts the table's rows, compares the columns of its files, and finds the contexts.
    fn look_at(&self, objects: &[Object], watch: &dyn Watch) -> Result<Looked, TableError> {
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
            if watch.is_stopped() {
                return Err(TableError::Stopped);
            }
            let file = ParquetFile::new(object)?;
            let read: Vec<_> = named.iter().flat_map(|source| source.columns()).collect();
            for group in 0..file.groups().count() {
                codec::check(&file, group, |root| file.is_read(root, &read))?;
            }
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
        folders::check_out(self.job.out.path(), first, &schema, self.job.folder_names)?;
        Ok(Looked {
            rows: table::Plan::new(files, Fields::default()),
            context,
            new_context,
            own,
        })
    }

    /// Finds out whether the caller may open and seal the first row. What is wrong with the row
    /// itself, its part says.
    fn rehearse<S: KeySource<Operation = Reseal>>(
        &self,
        objects: &[Object],
        looked: &Looked,
        source: &S,
        runtime: &Runtime<'_>,
    ) -> Result<(), JobError> {
        let input = Input {
            format: Format::Parquet,
            objects,
            workers: self.job.workers,
            watch: runtime,
        };
        let columns = looked.columns();
        let Some(found) = input.first_rows(&columns).next() else {
            return Ok(());
        };
        let (file, batch) = found?;
        let (name, first) = (&objects[file].name, batch.first());
        let new_context = looked.new_context.as_ref();
        let Ok(rows) = part::rows(name, &first, &looked.context, new_context) else {
            return Ok(());
        };
        let number = first.numbers.first().copied().unwrap_or_default();
        let rehearsed = source.rehearse(&rows);
        rehearsed.map_err(|error| error.of_rehearsal(name, number))
    }

    /// Writes the parts.
    fn splice<S: KeySource<Operation = Reseal>>(
        &self,
        job: Job<'_, Parameters>,
        mut parameters: Decided,
        objects: &[Object],
        looked: &Looked,
        source: &S,
        runtime: &Runtime<'_>,
    ) -> Result<Outcome, JobError> {
        let is_resumed = job.held().is_some();
        let plan = SplicePlan::of_job(objects, &looked.rows, &mut parameters, is_resumed)?;
        let columns = looked.columns();
        let folders = footer::of_folders(&parameters.folders);
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
            said: said(after, folders),
        };
        job.perform(parameters, self.job.workers, runtime, || {
            let sealing = Sealing {
                objects,
                context: &looked.context,
                new_context: looked.new_context.as_ref(),
                worker: source.worker()?,
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

impl Looked {
    /// The columns that blobs are made from.
    fn columns(&self) -> Vec<String> {
        let mut columns = self.context.columns();
        columns.extend(self.new_context.iter().flat_map(ContextSource::columns));
        columns.push(column::CIPHERTEXT_BLOB.to_owned());
        columns.sort();
        columns.dedup();
        columns
    }
}

/// What every part says: of contexts, where they are made of columns, and of folders.
fn said(context: &ContextSource, folders: Option<(&'static str, String)>) -> Said {
    let mut said = match context {
        ContextSource::Pairs(pairs) => Said::new(String::new(), &pairs.columns, &pairs.constants),
        ContextSource::Map(_) => Said::default(),
    };
    said.footer.extend(folders);
    said
}

/// Where the contexts of the rows of these files are, as each of them says.
///
/// # Errors
/// [`TableError`], when one cannot be read, does not say it, or says something else than the first;
/// or `watch` ends it early.
pub fn contexts_of(objects: &[Object], watch: &dyn Watch) -> Result<ContextSource, TableError> {
    let first = objects
        .first()
        .ok_or_else(|| TableError::Absent("no file".to_owned()))?;
    let found = contexts::of_file(&ParquetFile::new(first)?)?;
    for object in objects {
        if watch.is_stopped() {
            return Err(TableError::Stopped);
        }
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
