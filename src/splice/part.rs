//! How a worker writes a part.

use crate::bulk::footer::{Begun, Said};
use crate::bulk::keys::KeyWorker;
use crate::bulk::ledger::FinishedPart;
use crate::bulk::parquet::properties::{long_id_properties, own_properties};
use crate::bulk::{JobError, KeyIdentity, Kind, Ledger, PartMaker, Runtime, SourceError, Task};
use crate::columns::{ContextSource, Texts};
use crate::context::EncryptionContext;
use crate::splice::SplicePlan;
use crate::splice::blobs::Blobs;
use crate::splice::file::{CopyError, PartFile, Source};
use crate::splice::filtered::{self, Failure, Wanted};
use crate::splice::footer::pairs;
use crate::splice::own::{Constants, OwnColumns, Packed, Side, write_contexts, write_time};
use crate::splice::plan::SplicePart;
use crate::splice::schema::{Leaf, Own, PartSchema};
use crate::table::parquet::{ParquetFile, ParquetRows, malformed};
use crate::table::plan::FilePlan;
use crate::table::rows::{Batch, Rows};
use crate::table::{self, Object, TableError};
use arrow_array::{Array, ArrayRef};
use parquet::column::writer::ColumnWriter;
use parquet::errors::ParquetError;
use parquet::file::metadata::SortingColumn;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

/// One thread's way to the wrapped keys of rows.
pub trait Wrapper {
    /// What makes them.
    fn worker(&mut self) -> &mut impl KeyWorker;

    /// Appends a blob for each row of a batch, which is of the file of this number; returns the key
    /// that all of them are under.
    ///
    /// # Errors
    /// [`JobError`]; the part is then not to be kept.
    fn wrap(
        &mut self,
        file: usize,
        batch: &Batch,
        out: &mut Blobs,
    ) -> Result<KeyIdentity, JobError>;
}

/// What all workers of a job read.
pub struct Shared<'a> {
    /// The job's clock, progress and end.
    pub runtime: &'a Runtime<'a>,
    /// The table's files.
    pub objects: &'a [Object],
    /// Their rows.
    pub kept: &'a table::Plan,
    /// Their row groups, by part.
    pub plan: &'a SplicePlan,
    /// The columns that blobs are made from.
    pub columns: &'a [String],
    /// The columns that the job writes.
    pub own: Own,
    /// The column of ids, where they are written once more.
    pub id_column: Option<&'a str>,
    /// What a row's context is made of, where it is written.
    pub context: &'a ContextSource,
    /// What every part says.
    pub said: Said,
}

/// One worker's way through the parts.
pub struct PartWriter<'a, W> {
    shared: &'a Shared<'a>,
    wrapper: W,
    own: OwnColumns,
    /// The file of the last part.
    open: Option<(usize, ParquetFile)>,
}

impl<'a, W: Wrapper> PartWriter<'a, W> {
    /// A worker's, with what it wraps keys with.
    pub fn new(shared: &'a Shared<'a>, wrapper: W) -> Self {
        Self {
            shared,
            wrapper,
            own: OwnColumns::new(own_properties(), long_id_properties()),
            open: None,
        }
    }

    /// The file of this number; its footer is read once for all parts in a row.
    fn file(&mut self, number: usize) -> Result<ParquetFile, JobError> {
        if let Some((open, file)) = &self.open
            && *open == number
        {
            return Ok(file.clone());
        }
        let none = || TableError::Absent("a file of the job".to_owned());
        let object = self.shared.objects.get(number).ok_or_else(none)?;
        let file = ParquetFile::new(object)?;
        self.open = Some((number, file.clone()));
        Ok(file)
    }
}

impl<K: Kind, W: Wrapper> PartMaker<K> for PartWriter<'_, W> {
    fn write(
        &mut self,
        task: &Task,
        ledger: &Ledger<'_, K>,
    ) -> Result<Option<FinishedPart>, JobError> {
        let shared = self.shared;
        let part = shared.plan.part(task.number);
        let part = part.ok_or(JobError::Stopped)?;
        let (file, kept) = (self.file(part.file)?, &shared.kept.files()[part.file]);
        let input = file.metadata().file_metadata();
        let folder = ledger.folder();
        let path = folder.path(&task.file);
        let encode = |error| JobError::write(&path, error);
        let schema = PartSchema::new(input.schema_descr(), &shared.own).map_err(encode)?;
        let mut sink = folder.begin(&task.file)?;
        let mut out = PartFile::new(&mut sink, Arc::clone(&schema.parquet)).map_err(encode)?;

        // A part without rows has their columns.
        let begun = match task.rows {
            0 => Some(Begun::new(ledger, task, None, &shared.said)?),
            rows => {
                self.wrapper.worker().begin(rows)?;
                None
            }
        };
        let mut writing = Writing {
            shared,
            task,
            ledger,
            file: &file,
            kept,
            part,
            path: path.clone(),
            schema: &schema,
            wrapper: &mut self.wrapper,
            own: &mut self.own,
            begun,
        };
        let mut first_row = part.first_row;
        for group in part.groups.clone() {
            let rows = file.rows_in(group);
            let group = Group {
                number: group,
                first_row,
                rows,
                wanted: rows - kept.left_out_of(first_row..first_row + rows),
            };
            first_row += rows;
            if group.wanted > 0 && !writing.group(&group, &mut out)? {
                return Ok(None);
            }
        }
        let begun = writing.begun.ok_or(JobError::Stopped)?;
        if task.rows > 0 {
            self.wrapper.worker().end()?;
        }
        let pairs = pairs(input, &schema, shared.own.replaces, &begun.footer);
        out.finish(input, pairs, &schema.elements(&file))
            .map_err(encode)?;
        Ok(Some(FinishedPart {
            finished: folder.finish(sink)?,
            key_material_id: begun.key.material_id,
        }))
    }
}

/// A row group that is being written.
struct Group {
    number: usize,
    /// The number of its first row in the file.
    first_row: u64,
    rows: u64,
    /// Rows that are not left out.
    wanted: u64,
}

/// A part on its way.
struct Writing<'a, 'b, K, W> {
    shared: &'a Shared<'a>,
    task: &'a Task,
    ledger: &'a Ledger<'b, K>,
    file: &'a ParquetFile,
    kept: &'a FilePlan,
    part: &'a SplicePart,
    path: PathBuf,
    schema: &'a PartSchema,
    wrapper: &'a mut W,
    own: &'a mut OwnColumns,
    /// What the first rows have shown.
    begun: Option<Begun>,
}

impl<'a, K: Kind, W: Wrapper> Writing<'a, '_, K, W> {
    /// Writes a row group; `false` when another worker's failure makes it pointless.
    fn group<S: Write + Send>(
        &mut self,
        group: &Group,
        out: &mut PartFile<'_, S>,
    ) -> Result<bool, JobError> {
        // The first rows show which key the part is under.
        let mut rows = self.rows(group, self.shared.columns)?;
        let first = self.wrap(&mut rows)?;
        let mut blobs = Some((first, rows));
        for (place, leaf) in self.schema.leaves.iter().enumerate() {
            match *leaf {
                Leaf::Kept(leaf) => self.keep(group, leaf, out)?,
                Leaf::Constant(_) => {
                    let descriptor = &self.schema.parquet.columns()[place];
                    let encoded = self.own.constant(*leaf, descriptor, group.wanted);
                    let copied = encoded.and_then(|encoded| out.copy_encoded(&encoded));
                    copied.map_err(|error| JobError::write(&self.path, error))?;
                }
                Leaf::Id => self.write_ids(group, out)?,
                Leaf::ContextNames => self.write_contexts(group, out, Side::Name)?,
                Leaf::ContextValues => self.write_contexts(group, out, Side::Value)?,
                Leaf::Blobs => {
                    let Some((first, rows)) = blobs.take() else {
                        continue;
                    };
                    if !self.write_blobs(first, rows, out)? {
                        return Ok(false);
                    }
                }
                Leaf::CreatedAt => {
                    let now = self.shared.runtime.clock.now();
                    let properties = Arc::clone(&self.own.properties);
                    out.write(properties, |writer| write_time(writer, now, group.wanted))
                        .map_err(|error| JobError::write(&self.path, error))?;
                }
            }
        }
        let sorting = self.sorting(group);
        out.end_group(group.wanted, sorting)
            .map_err(|error| JobError::write(&self.path, error))?;
        Ok(true)
    }

    /// The rows of a group that are not left out; these columns.
    fn rows(&self, group: &Group, columns: &[String]) -> Result<GroupRows<'a>, JobError> {
        let rows = self
            .file
            .rows_of_group(group.number, group.first_row, columns)?;
        Ok(GroupRows {
            name: self.file.name(),
            rows,
            kept: (group.wanted < group.rows).then_some(self.kept),
        })
    }

    /// Wraps the next rows; none after the last.
    fn wrap(&mut self, rows: &mut GroupRows<'_>) -> Result<Option<Blobs>, JobError> {
        let Some(batch) = rows.next()? else {
            return Ok(None);
        };
        let mut blobs = Blobs::of_rows(batch.numbers.len());
        let key = self.wrapper.wrap(self.part.file, &batch, &mut blobs)?;
        match &self.begun {
            Some(begun) if begun.key == key => {}
            Some(_) => return Err(SourceError::MaterialChanged.into()),
            None => {
                let begun = Begun::new(self.ledger, self.task, Some(key), &self.shared.said)?;
                self.own.begin(Constants {
                    key: begun.key.clone(),
                    key_spec: begun.key_spec.clone(),
                    context: EncryptionContext::default(),
                });
                self.begun = Some(begun);
            }
        }
        self.shared.runtime.progress.advance(blobs.rows());
        Ok(Some(blobs))
    }

    /// Copies a chunk, or writes it without the rows that are left out.
    fn keep<S: Write + Send>(
        &self,
        group: &Group,
        leaf: usize,
        out: &mut PartFile<'_, S>,
    ) -> Result<(), JobError> {
        let source = Source {
            file: self.file,
            group: group.number,
            leaf,
        };
        let told = |error: CopyError| match error {
            CopyError::Input(error) => error.into(),
            CopyError::Write(error) => JobError::write(&self.path, error),
        };
        if group.wanted == group.rows {
            return out.copy(&source).map_err(told);
        }
        let wanted = Wanted {
            group: group.number,
            rows: group.rows,
            is_wanted: &|row| !self.kept.leaves_out(group.first_row + row),
        };
        filtered::write(self.file, leaf, &wanted, out).map_err(|error| match error {
            Failure::Read(error) => error.into(),
            Failure::Write(error) => JobError::write(&self.path, error),
        })?;
        out.keep_filter(&source).map_err(told)
    }

    fn write_blobs<S: Write + Send>(
        &mut self,
        mut first: Option<Blobs>,
        mut rows: GroupRows<'_>,
        out: &mut PartFile<'_, S>,
    ) -> Result<bool, JobError> {
        let path = self.path.clone();
        let next = || match first.take() {
            // Another worker failed: a part more would not save the job.
            _ if self.ledger.has_failed() => Err(JobError::Stopped),
            Some(first) => Ok(Some(first)),
            None => self.wrap(&mut rows),
        };
        match out.write_blobs(next, |error| JobError::write(&path, error)) {
            Err(JobError::Stopped) => Ok(false),
            written => written.map(|()| true),
        }
    }

    /// Hands every batch of these columns to `write`.
    fn write_rows<S: Write + Send>(
        &self,
        group: &Group,
        columns: &[String],
        out: &mut PartFile<'_, S>,
        mut write: impl FnMut(
            &Batch,
            &mut ColumnWriter<'_>,
        ) -> Result<Result<(), ParquetError>, TableError>,
    ) -> Result<(), JobError> {
        let mut rows = self.rows(group, columns)?;
        let mut unread = None;
        let properties = self.own.properties_of(&rows.rows);
        let written = out.write(Arc::clone(properties), |writer| {
            loop {
                let batch = rows.next().map_err(|error| {
                    unread = Some(error);
                    given_up()
                })?;
                let Some(batch) = batch else {
                    return Ok(());
                };
                let written = write(&batch, writer).map_err(|error| {
                    unread = Some(error);
                    given_up()
                })?;
                written?;
            }
        });
        match unread {
            Some(error) => Err(error.into()),
            None => written.map_err(|error| JobError::write(&self.path, error)),
        }
    }

    fn write_ids<S: Write + Send>(
        &self,
        group: &Group,
        out: &mut PartFile<'_, S>,
    ) -> Result<(), JobError> {
        let column = self.shared.id_column.unwrap_or_default();
        let mut rows = self.rows(group, &[column.to_owned()])?;
        let properties = Arc::clone(self.own.properties_of(&rows.rows));
        let may_be_long = rows.rows.may_be_long();
        let mut next = || {
            let Some(batch) = rows.next()? else {
                return Ok(None);
            };
            let ids = batch.rows.column_by_name(column).cloned();
            let changed = || TableError::Changed(self.file.name().to_owned()).into();
            ids.map(Some).ok_or_else(changed)
        };
        let told = |error| JobError::write(&self.path, error);
        if may_be_long {
            return out.write_arrays(properties, next, told);
        }
        let next = || {
            let ids: Option<ArrayRef> = next()?;
            ids.map(|ids| self.packed(&ids)).transpose()
        };
        out.write_ids(&properties, next, told)
    }

    fn packed(&self, ids: &ArrayRef) -> Result<Packed, JobError> {
        let changed = || TableError::Changed(self.file.name().to_owned());
        let texts = Texts::of(ids).ok_or_else(changed)?;
        let mut packed = Packed::default();
        for row in 0..ids.len() {
            packed.push(texts.text(row).ok_or_else(changed)?.as_bytes());
        }
        Ok(packed)
    }

    fn write_contexts<S: Write + Send>(
        &self,
        group: &Group,
        out: &mut PartFile<'_, S>,
        side: Side,
    ) -> Result<(), JobError> {
        let source = self.shared.context;
        self.write_rows(group, &source.columns(), out, |batch, writer| {
            let unusable = |reason: String| TableError::Column {
                name: self.file.name().to_owned(),
                reason,
            };
            let contexts = source.of(&batch.rows).map_err(unusable)?;
            let rows = 0..batch.rows.num_rows();
            let contexts: Result<Vec<_>, _> = rows.map(|row| contexts.of(row)).collect();
            let contexts = contexts.map_err(unusable)?;
            Ok(write_contexts(writer, &contexts, side))
        })
    }

    /// How the rows of a group are sorted, by columns as a part has them; as far as it has them.
    fn sorting(&self, group: &Group) -> Option<Vec<SortingColumn>> {
        let of_group = self.file.metadata().row_groups().get(group.number)?;
        let mut sorting = Vec::new();
        for by in of_group.sorting_columns()? {
            let leaf = usize::try_from(by.column_idx).ok()?;
            // Rows that are sorted by a column that is gone have no order by the next.
            let Some(place) = self.schema.place_of(leaf) else {
                break;
            };
            sorting.push(SortingColumn {
                column_idx: i32::try_from(place).ok()?,
                ..*by
            });
        }
        Some(sorting)
    }
}

/// Ends a chunk; the error that matters is kept elsewhere.
fn given_up() -> ParquetError {
    ParquetError::General("given up".to_owned())
}

/// The rows of a row group that are not left out.
struct GroupRows<'a> {
    name: &'a str,
    rows: ParquetRows,
    /// Says which are, where any is.
    kept: Option<&'a FilePlan>,
}

impl GroupRows<'_> {
    /// The next few, at least one; `None` after the last.
    fn next(&mut self) -> Result<Option<Batch>, TableError> {
        while let Some(mut batch) = self.rows.next()? {
            let mut bad = std::mem::take(&mut batch.bad).into_iter();
            let is_wanted = |row| self.kept.is_none_or(|kept| !kept.leaves_out(row));
            if let Some((row, reason)) = bad.find(|(row, _)| is_wanted(*row)) {
                return Err(TableError::Row {
                    name: self.name.to_owned(),
                    row,
                    reason,
                    is_skippable: false,
                });
            }
            if let Some(kept) = self.kept {
                let left = kept.leave_out(&mut batch);
                left.map_err(|error| malformed(self.name, error))?;
            }
            if !batch.numbers.is_empty() {
                return Ok(Some(batch));
            }
        }
        Ok(None)
    }
}
