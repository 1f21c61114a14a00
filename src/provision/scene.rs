//! From the first look at a table to its parts.

use crate::bulk::encoded::{self, EncodedParts};
use crate::bulk::folder::PLAN;
use crate::bulk::input::{File, check_unchanged};
use crate::bulk::keys::KeySource;
use crate::bulk::parquet::properties::Layout;
use crate::bulk::{Folder, Job, JobError, Runtime};
use crate::columns::ContextSource;
use crate::provision::bind::{Bind, Contexts, runs};
use crate::provision::binding::{Binding, BoundRows};
use crate::provision::{CONSTANT, Decided, Outcome, Parameters, Plan, rejects};
use crate::splice::{self, Own, SplicePlan};
use crate::table::csv::CsvRows;
use crate::table::folders::{self, check_out};
use crate::table::part_rows::{LeftReaders, Table};
use crate::table::reader;
use crate::table::rows::check_names;
use crate::table::scan::check_columns;
use crate::table::{self, Format, Input, Object, TableError};
use arrow_schema::Schema;

/// A job under way: its table, and where its keys come from.
pub(super) struct Scene<'a, S> {
    pub(super) plan: &'a Plan,
    pub(super) objects: &'a [Object],
    pub(super) source: &'a S,
    pub(super) runtime: &'a Runtime<'a>,
}

impl<S: KeySource<Operation = Bind>> Scene<'_, S> {
    /// Looks through the table, or takes what an earlier run has kept of it.
    pub(super) fn look_at(
        &self,
        folder: &Folder,
        job: &Job<'_, Parameters>,
        parameters: &mut Decided,
        files: Vec<File>,
    ) -> Result<table::Plan, JobError> {
        let plan = self.plan;
        // A resumed job keeps its plan: the same rows are in the same parts.
        if job.held().is_some() {
            check_unchanged(&parameters.files, &files)?;
            let path = folder.path(PLAN);
            let kept = table::Plan::kept(folder.read(PLAN)?.as_deref(), &path)?;
            if kept.count() != parameters.count || kept.files().len() != files.len() {
                let reason = "it is of another job".to_owned();
                return Err(TableError::Kept { path, reason }.into());
            }
            return Ok(kept);
        }
        tracing::info!(files = files.len(), "looking through the input");
        let input = Input {
            format: parameters.kind.format,
            objects: self.objects,
            workers: plan.job.workers,
            watch: self.runtime,
        };
        let first = self.first()?;
        // Of NDJSON, what folders say is known; the rest, the look itself finds.
        let schema = reader::schema(parameters.kind.format, first)?;
        self.check_added(first, &schema)?;
        self.rehearse(&input)?;
        let scanned = table::scan(&input, &plan.question(), &folder.spill())?;
        if plan.skip {
            rejects::write(self.objects, &scanned.rejects, folder)?;
        }
        let kept = scanned.plan;
        // The plan is on disk before the first key is made.
        folder.write_json(PLAN, &kept)?;
        plan.job.note(parameters, files, &kept);
        let (rows, left_out) = (kept.count(), kept.left_out());
        tracing::info!(rows, left_out, "the input can be used");
        Ok(kept)
    }

    /// Finds out whether the caller may have a key for a row of the table. What is wrong with the
    /// table itself, the look through all of it says.
    fn rehearse(&self, input: &Input<'_>) -> Result<(), JobError> {
        let pairs = &self.plan.pairs;
        let Some(Ok((file, batch))) = input.first_rows(&pairs.columns).next() else {
            return Ok(());
        };
        let Ok(places) = pairs.places(&batch.rows.schema()) else {
            return Ok(());
        };
        for (at, number) in batch.numbers.iter().enumerate() {
            let row = batch.rows.slice(at, 1);
            let Ok(rows) = pairs.rows(&row, &places) else {
                return Ok(());
            };
            let Ok(runs) = runs(&rows, 1) else {
                continue;
            };
            let contexts = Contexts {
                rows: &rows,
                runs: &runs,
            };
            let name = &input.objects[file].name;
            let rehearsed = self.source.rehearse(contexts);
            return rehearsed.map_err(|error| error.of_rehearsal(name, *number));
        }
        Ok(())
    }

    fn first(&self) -> Result<&Object, TableError> {
        let none = || TableError::Absent("no file".to_owned());
        self.objects.first().ok_or_else(none)
    }

    /// Refuses a table whose columns readers would take for those that are added, or for those of
    /// the folders that parts are written below.
    fn check_added(&self, first: &Object, schema: &Schema) -> Result<(), TableError> {
        let plan = self.plan;
        check_names(first, schema, plan.reserved_names())?;
        check_out(plan.job.out.path(), first, schema, plan.job.folder_names)
    }

    fn binding(&self) -> Result<Binding<'_, S::Worker>, JobError> {
        Ok(Binding {
            plan: self.plan,
            objects: self.objects,
            worker: self.source.worker()?,
        })
    }

    /// Writes a table of text: every column is encoded.
    pub(super) fn encode(
        &self,
        job: Job<'_, Parameters>,
        mut parameters: Decided,
        kept: &table::Plan,
    ) -> Result<Outcome, JobError> {
        let Self {
            plan,
            objects,
            runtime,
            ..
        } = *self;
        let first = self.first()?;
        // NDJSON has no schema of its own: the scan has found the columns.
        let schema = match parameters.kind.format {
            Format::Ndjson if kept.count() > 0 => kept.fields().schema(),
            // Of a table without rows it has found none.
            Format::Ndjson => plan.named_columns(first),
            _ => CsvRows::schema(first)?,
        };
        let with_folders = first.folders.beside(&schema);
        check_columns(first, &with_folders, &plan.question())?;
        self.check_added(first, &with_folders)?;
        if !first.folders.is_empty() {
            let (ends, folders) = folders::parts(objects, kept, parameters.rows_per_part);
            parameters.cut(job.held().is_some(), objects, ends, folders)?;
        }
        let encoding = encoded::Encoding {
            runtime,
            // Columns of folders are not written: readers take them from there.
            layout: Layout::beside(
                &first.folders.own(&schema),
                &plan.own_columns(),
                &CONSTANT,
                &[&plan.id_column],
            ),
            context: plan.context_names(),
            said: plan.said(&parameters),
        };
        let table = Table {
            objects,
            format: parameters.kind.format,
            schema,
            plan: kept,
            left: LeftReaders::default(),
        };
        job.perform(parameters, plan.job.workers, runtime, || {
            let rows = BoundRows {
                binding: self.binding()?,
                runtime,
                table: &table,
                rows: None,
            };
            Ok(EncodedParts::new(&encoding, rows))
        })
    }

    /// Writes a table of Parquet: its columns are copied.
    pub(super) fn splice(
        &self,
        job: Job<'_, Parameters>,
        mut parameters: Decided,
        kept: &table::Plan,
    ) -> Result<Outcome, JobError> {
        let Self {
            plan,
            objects,
            runtime,
            ..
        } = *self;
        let is_resumed = job.held().is_some();
        let spliced = SplicePlan::of_job(objects, kept, &mut parameters, is_resumed)?;
        let context = ContextSource::Pairs(plan.pairs.clone());
        let shared = splice::Shared {
            runtime,
            objects,
            kept,
            plan: &spliced,
            columns: &plan.pairs.columns,
            own: Own {
                names: plan.own_columns(),
                replaces: false,
            },
            id_column: Some(&plan.id_column),
            context: &context,
            said: plan.said(&parameters),
        };
        job.perform(parameters, plan.job.workers, runtime, || {
            Ok(splice::PartWriter::new(&shared, self.binding()?))
        })
    }
}
