//! Provisioning: the users' own table of containers, and beside each row a wrapped data key that is
//! bound to that row's encryption context.
//!
//! ```text
//! files ─► table::scan ─► plan ─┬─► part: rows ─► contexts ─► bind ─► the same rows and seven columns
//!           ids, contexts,      ├─► part                      store or daemon
//!           duplicates          └─► part
//! ```
//!
//! A job as `bulk` has it. Everything that can be refused without a key is refused, or left out,
//! before the first key is made; which rows are in which part is fixed then, so that a job that is
//! resumed makes the parts that are missing and no other, and every container has one key, however
//! often the job died.

pub mod binder;
mod binding;
mod parameters;
mod part;
mod rejects;
pub mod remote;
mod standard_input;

pub use binder::{Binder, Binders, Recorded};
pub use parameters::Parameters;
pub use remote::Remote;

use crate::bulk::folder::{INPUT, PLAN, SPILL};
use crate::bulk::input::{File, check_beside, check_finished, check_unchanged};
use crate::bulk::parquet::properties::{Layout, column};
use crate::bulk::{self, Ending, Folder, Job, JobError, PartFolders, Runtime, rows_per_part};
use crate::columns::{ContextPairs, ContextSource};
use crate::key::data_key::DataKeyLength;
use crate::splice::{self, Own, Said, SplicePlan};
use crate::table::csv::CsvRows;
use crate::table::folders::{self, FolderNames};
use crate::table::parquet::ParquetFile;
use crate::table::part_rows::{LeftReaders, Table};
use crate::table::rows::check_names;
use crate::table::scan::{Question, check_columns};
use crate::table::walk::Input;
use crate::table::{self, Format, Location, Object, TableError};
use binding::Binding;
use encoding_rs::Encoding;
use part::PartWriter;
use std::io::Read;
use std::num::{NonZeroU64, NonZeroUsize};
use std::path::PathBuf;
use tokio::runtime::Handle;

/// What to provision.
pub struct Plan {
    /// The key as the caller names it; the source has resolved it or will.
    pub key: String,
    /// The length of every data key.
    pub length: DataKeyLength,
    /// The table.
    pub inputs: Vec<Location>,
    /// Its format; `None` takes what the names of its files say.
    pub format: Option<Format>,
    /// The encoding of CSV; `None` is UTF-8.
    pub encoding: Option<&'static Encoding>,
    /// What the names of its folders are taken for.
    pub folder_names: FolderNames,
    /// The column of container ids: each names one container.
    pub id_column: String,
    /// What each row's context is made of.
    pub pairs: ContextPairs,
    /// Whether rows that cannot be used are left out.
    pub skip: bool,
    /// Whether each row's context is written as a map as well.
    pub context_map: bool,
    /// Rows of a part; `None` takes the job's own where it is resumed, else one that keeps every
    /// worker busy.
    pub rows_per_part: Option<NonZeroU64>,
    /// The folder.
    pub out: PathBuf,
    /// Parts written at the same time.
    pub workers: NonZeroUsize,
    /// Runs the requests to object stores.
    pub runtime: Handle,
}

/// How a job ended.
pub type Outcome = bulk::Outcome<Parameters>;

/// The columns of a job.
const COLUMNS: [&str; 7] = [
    column::CONTAINER_ID,
    column::KEY_ARN,
    column::KEY_MATERIAL_ID,
    column::KEY_SPEC,
    column::ENCRYPTION_CONTEXT,
    column::CIPHERTEXT_BLOB,
    column::CREATED_AT,
];
/// Those that are the same in every row of a part.
const CONSTANT: [&str; 4] = [
    column::KEY_ARN,
    column::KEY_MATERIAL_ID,
    column::KEY_SPEC,
    column::CONTEXT_NAMES,
];

/// Runs `plan` to its end, or on from where an earlier run of it ended. `input` is read where
/// standard input is the table.
///
/// # Errors
/// [`JobError`]; every part in the folder is whole, and the same call resumes the job.
pub fn run<S: Binders>(
    plan: &Plan,
    source: &S,
    input: impl Read,
    runtime: &Runtime<'_>,
) -> Result<Outcome, JobError> {
    check_beside(&plan.inputs, &plan.out)?;
    let folder = Folder::open(&plan.out)?;
    let job = Job::<Parameters>::begin(&folder, runtime)?;
    let mut parameters = plan.parameters(source.key_arn(), job.held())?;
    let outcome = if job.is_complete() {
        if plan.inputs == [Location::Input] {
            standard_input::check_finished(&parameters.files, input)?;
        }
        // Its files may be gone: there is nothing left to do with them.
        for location in &plan.inputs {
            if let Ok(objects) = location.objects(plan.format, &plan.runtime) {
                check_finished(&parameters.files, &objects)?;
            }
        }
        job.perform(parameters, plan.workers, runtime, || {
            Err::<PartWriter<'_, S::Binder>, _>(JobError::Stopped)
        })?
    } else {
        let (objects, files) = plan.objects(&folder, job.held().is_some(), input)?;
        let names = objects.iter().map(|object| object.name.as_str());
        parameters.format = Format::of_all(plan.format, names)?;
        if plan.encoding.is_some() && parameters.format != Format::Csv {
            return Err(TableError::Encoding(parameters.format.name()).into());
        }
        let kept = plan.look_at(&folder, &job, &mut parameters, (&objects, files), runtime)?;
        match parameters.format {
            Format::Parquet => plan.splice(job, parameters, &objects, &kept, source, runtime)?,
            _ => plan.encode(job, parameters, &objects, &kept, source, runtime)?,
        }
    };
    if outcome.ending != Ending::Stopped {
        for name in [PLAN, INPUT] {
            folder.remove_if_there(name)?;
        }
        folder.close()?;
    }
    Ok(outcome)
}

fn first(objects: &[Object]) -> Result<&Object, TableError> {
    let none = || TableError::Absent("no file".to_owned());
    objects.first().ok_or_else(none)
}

impl Plan {
    fn question(&self) -> Question<'_> {
        Question {
            id_column: &self.id_column,
            pairs: &self.pairs,
            skip: self.skip,
        }
    }

    /// The parameters that the caller asks for. Those that depend on the table are taken from an
    /// earlier run.
    fn parameters(
        &self,
        key_arn: Option<&str>,
        held: Option<&Parameters>,
    ) -> Result<Parameters, JobError> {
        // A new job replaces this guess once it has listed its files.
        let format = match (held, self.format) {
            (_, Some(format)) => format,
            (Some(held), None) => held.format,
            (None, None) => Format::Parquet,
        };
        let mut folders = held.map_or_else(PartFolders::default, |held| held.folders.clone());
        folders.no_hive = self.folder_names == FolderNames::Nothing;
        let asked_rows = self.rows_per_part.map(NonZeroU64::get);
        let held_rows = held.map(|held| held.rows_per_part);
        let parameters = Parameters {
            key: self.key.clone(),
            key_arn: key_arn.unwrap_or_default().to_owned(),
            key_spec: self.length.spec(),
            inputs: self.inputs.iter().map(ToString::to_string).collect(),
            format,
            encoding: self.encoding.map(|encoding| encoding.name().to_owned()),
            id_column: self.id_column.clone(),
            context_columns: self.pairs.columns.clone(),
            context_constants: self.pairs.constants.iter().cloned().collect(),
            on_error: if self.skip { "skip" } else { "stop" }.to_owned(),
            context_map: self.context_map,
            rows_per_part: asked_rows.or(held_rows).unwrap_or_default(),
            count: held.map_or(0, |held| held.count),
            left_out: held.map_or(0, |held| held.left_out),
            files: held.map_or_else(Vec::new, |held| held.files.clone()),
            part_ends: held.map_or_else(Vec::new, |held| held.part_ends.clone()),
            folders,
        };
        if let Some(held) = held {
            bulk::Parameters::permit(held, &parameters)?;
        }
        Ok(parameters)
    }

    /// The table's files, and what the job remembers of them.
    fn objects(
        &self,
        folder: &Folder,
        is_resumed: bool,
        input: impl Read,
    ) -> Result<(Vec<Object>, Vec<File>), JobError> {
        if self.inputs.contains(&Location::Input) {
            if self.inputs.len() > 1 {
                return Err(TableError::Location {
                    location: "-".to_owned(),
                    reason: "standard input is a table by itself".to_owned(),
                }
                .into());
            }
            let (mut object, file) = standard_input::kept(folder, is_resumed, input)?;
            object.encoding = self.encoding;
            return Ok((vec![object], vec![file]));
        }
        let mut objects = Vec::new();
        for location in &self.inputs {
            objects.extend(location.objects(self.format, &self.runtime)?);
        }
        folders::find(&mut objects, self.folder_names)?;
        for object in &mut objects {
            object.encoding = self.encoding;
        }
        let files = objects.iter().map(File::from).collect();
        Ok((objects, files))
    }

    /// Looks through the table, or takes what an earlier run has kept of it.
    fn look_at(
        &self,
        folder: &Folder,
        job: &Job<'_, Parameters>,
        parameters: &mut Parameters,
        (objects, files): (&[Object], Vec<File>),
        runtime: &Runtime<'_>,
    ) -> Result<table::Plan, JobError> {
        // A resumed job keeps its plan: the same rows are in the same parts.
        if job.held().is_some() {
            check_unchanged(&parameters.files, &files)?;
            let path = folder.path(PLAN);
            let kept = table::Plan::read(&path)?;
            if kept.count() != parameters.count || kept.files().len() != files.len() {
                let reason = "it is of another job".to_owned();
                return Err(TableError::Kept { path, reason }.into());
            }
            return Ok(kept);
        }
        tracing::info!(files = files.len(), "looking through the input");
        let input = Input {
            format: parameters.format,
            objects,
            workers: self.workers,
            watch: runtime,
        };
        let scanned = table::scan(&input, &self.question(), &folder.path(SPILL))?;
        if self.skip {
            rejects::write(objects, &scanned.rejects, folder)?;
        }
        let kept = scanned.plan;
        // The plan is on disk before the first key is made.
        folder.write_json(PLAN, &kept)?;
        parameters.files = files;
        parameters.count = kept.count();
        parameters.left_out = kept.left_out();
        if self.rows_per_part.is_none() {
            parameters.rows_per_part = rows_per_part(kept.count(), self.workers);
        }
        let (rows, left_out) = (kept.count(), kept.left_out());
        tracing::info!(rows, left_out, "the input can be used");
        Ok(kept)
    }

    /// The columns that the job adds: the id only where no column of the table has this name, and
    /// the context only where it is asked for, since columns of the table have it.
    fn own_columns(&self) -> Vec<&'static str> {
        let is_written = |name: &&str| *name != column::ENCRYPTION_CONTEXT || self.context_map;
        self.reserved_names().filter(is_written).collect()
    }

    /// The names that no other column of the table has: readers of the parts rely on them.
    fn reserved_names(&self) -> impl Iterator<Item = &'static str> {
        let has_id = self.id_column == column::CONTAINER_ID;
        let names = COLUMNS.into_iter();
        names.filter(move |name| !has_id || *name != column::CONTAINER_ID)
    }

    /// Writes a table of text: every column is encoded.
    fn encode<S: Binders>(
        &self,
        job: Job<'_, Parameters>,
        mut parameters: Parameters,
        objects: &[Object],
        kept: &table::Plan,
        source: &S,
        runtime: &Runtime<'_>,
    ) -> Result<Outcome, JobError> {
        let first = first(objects)?;
        // NDJSON has no schema of its own: the scan has found the columns.
        let schema = match parameters.format {
            Format::Ndjson => kept.fields().schema(),
            _ => CsvRows::schema(first)?,
        };
        let with_folders = first.folders.beside(&schema);
        check_columns(first, &with_folders, &self.question())?;
        let own = self.own_columns();
        check_names(first, &with_folders, self.reserved_names())?;
        if !first.folders.is_empty() {
            let (ends, folders) = folders::parts(objects, kept, parameters.rows_per_part);
            parameters.cut(job.held(), objects, ends, folders)?;
        }
        let shared = part::Shared {
            plan: self,
            runtime,
            layout: Layout::beside(&schema, &own, &CONSTANT, &[&self.id_column]),
            table: Table {
                objects,
                format: parameters.format,
                schema,
                plan: kept,
                left: LeftReaders::default(),
            },
        };
        job.perform(parameters, self.workers, runtime, || {
            Ok(PartWriter::new(&shared, source.binder()?))
        })
    }

    /// Writes a table of Parquet: its columns are copied.
    fn splice<S: Binders>(
        &self,
        job: Job<'_, Parameters>,
        mut parameters: Parameters,
        objects: &[Object],
        kept: &table::Plan,
        source: &S,
        runtime: &Runtime<'_>,
    ) -> Result<Outcome, JobError> {
        let own = self.own_columns();
        for object in objects {
            let schema = ParquetFile::new(object)?.schema();
            check_columns(object, &schema, &self.question())?;
            check_names(object, &schema, self.reserved_names())?;
        }
        let plan = SplicePlan::new(objects, kept, parameters.rows_per_part)?;
        let folders = plan.files().map(|file| objects[file].folders.path());
        parameters.cut(job.held(), objects, plan.ends(), folders)?;
        let context = ContextSource::Pairs(self.pairs.clone());
        let shared = splice::Shared {
            runtime,
            objects,
            kept,
            plan: &plan,
            columns: &self.pairs.columns,
            own: Own {
                names: own,
                replaces: false,
            },
            id_column: Some(&self.id_column),
            context: &context,
            said: &|parameters: &Parameters| Said {
                key_spec: parameters.key_spec.clone(),
                footer: parameters.footer(),
            },
        };
        job.perform(parameters, self.workers, runtime, || {
            let binding = Binding {
                plan: self,
                objects,
                binder: source.binder()?,
            };
            Ok(splice::PartWriter::new(&shared, binding))
        })
    }
}
