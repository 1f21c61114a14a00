//! How a worker writes a part: row group after row group, and each blob from where it was minted.

use crate::bulk::footer::{Begun, Said};
use crate::bulk::keys::KeyWorker;
use crate::bulk::ledger::FinishedPart;
use crate::bulk::parquet::BATCH_ROWS;
use crate::bulk::parquet::properties::{ROW_GROUP_ROWS, column, properties};
use crate::bulk::{JobError, Ledger, PartMaker, Runtime, SourceError, Task};
use crate::export::mint::Mint;
use crate::export::{Parameters, Plan};
use crate::splice::{
    Blobs, Constants, Leaf, Own, OwnColumns, Packed, PartFile, PartSchema, write_time,
};
use parquet::errors::ParquetError;
use parquet::file::metadata::{FileMetaData, KeyValue};
use parquet::schema::types::{SchemaDescriptor, Type};
use std::io::Write;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

/// The columns, in order.
pub(super) const COLUMNS: [&str; 7] = [
    column::CONTAINER_ID,
    column::KEY_ARN,
    column::KEY_MATERIAL_ID,
    column::KEY_SPEC,
    column::ENCRYPTION_CONTEXT,
    column::CIPHERTEXT_BLOB,
    column::CREATED_AT,
];

/// One worker's way through the parts.
pub(super) struct MintedParts<'a, W> {
    pub(super) plan: &'a Plan,
    pub(super) runtime: &'a Runtime<'a>,
    /// What every part says.
    pub(super) said: &'a Said,
    pub(super) schema: &'a PartSchema,
    pub(super) own: OwnColumns,
    pub(super) worker: W,
}

/// The columns of every part: all are the job's own.
pub(super) fn part_schema() -> Result<PartSchema, ParquetError> {
    let none = Type::group_type_builder("arrow_schema").build()?;
    let own = Own {
        names: COLUMNS.to_vec(),
        replaces: false,
    };
    PartSchema::new(&SchemaDescriptor::new(Arc::new(none)), &own)
}

/// How they are encoded.
pub(super) fn own_columns() -> OwnColumns {
    OwnColumns::new(properties(), properties())
}

impl<W: KeyWorker<Operation = Mint>> PartMaker<Parameters> for MintedParts<'_, W> {
    fn write(
        &mut self,
        task: &Task,
        ledger: &Ledger<'_, Parameters>,
    ) -> Result<Option<FinishedPart>, JobError> {
        let folder = ledger.folder();
        let path = folder.path(&task.file);
        let encode = |error| JobError::write(&path, error);
        let schema = Arc::clone(&self.schema.parquet);
        let mut sink = folder.begin(&task.file)?;
        let mut out = PartFile::new(&mut sink, schema).map_err(encode)?;
        self.worker.begin(task.rows)?;
        let mut writing = Writing {
            of: self,
            task,
            ledger,
            path: path.clone(),
            begun: None,
        };
        let mut left = task.first_row..task.first_row + task.rows;
        while !left.is_empty() {
            let group = left.start..left.end.min(left.start + ROW_GROUP_ROWS as u64);
            left.start = group.end;
            if !writing.group(group, &mut out)? {
                return Ok(None);
            }
        }
        let begun = writing.begun.ok_or(JobError::Stopped)?;
        // The source has recorded the part, or the part is not kept.
        self.worker.end()?;
        let said = begun.footer.into_iter();
        let pairs = said.map(|(name, value)| KeyValue::new(name.to_owned(), value));
        let properties = &self.own.properties;
        let of_file = FileMetaData::new(
            properties.writer_version().as_num(),
            0,
            Some(properties.created_by().to_owned()),
            None,
            Arc::clone(&self.schema.parquet),
            None,
        );
        let elements = vec![None; COLUMNS.len()];
        out.finish(&of_file, pairs.collect(), &elements)
            .map_err(encode)?;
        Ok(Some(FinishedPart {
            finished: folder.finish(sink)?,
            key_material_id: begun.key.material_id,
        }))
    }
}

/// A part on its way.
struct Writing<'a, 'b, 'c, W> {
    of: &'a mut MintedParts<'b, W>,
    task: &'a Task,
    ledger: &'a Ledger<'c, Parameters>,
    path: PathBuf,
    /// What the first rows have shown.
    begun: Option<Begun>,
}

impl<W: KeyWorker<Operation = Mint>> Writing<'_, '_, '_, W> {
    /// Writes a row group of these rows; `false` when another worker's failure makes it pointless.
    fn group<S: Write + Send>(
        &mut self,
        rows: Range<u64>,
        out: &mut PartFile<'_, S>,
    ) -> Result<bool, JobError> {
        let count = rows.end - rows.start;
        let path = self.path.clone();
        let told = |error| JobError::write(&path, error);
        // The first keys show which generation the part is under.
        let mut unminted = rows.clone();
        let mut first = self.mint(&mut unminted)?;
        for (place, leaf) in self.of.schema.leaves.iter().enumerate() {
            match *leaf {
                Leaf::Id => {
                    let properties = Arc::clone(&self.of.own.properties);
                    let mut unnamed = rows.clone();
                    out.write_ids(&properties, || Ok(self.ids(&mut unnamed)), told)?;
                }
                Leaf::Blobs => {
                    let next = || match first.take() {
                        // Another worker failed: a part more would not save the job.
                        _ if self.ledger.has_failed() => Err(JobError::Stopped),
                        Some(first) => Ok(Some(first)),
                        None => self.mint(&mut unminted),
                    };
                    match out.write_blobs(next, told) {
                        Err(JobError::Stopped) => return Ok(false),
                        written => written?,
                    }
                }
                Leaf::CreatedAt => {
                    let now = self.of.runtime.clock.now();
                    let properties = Arc::clone(&self.of.own.properties);
                    out.write(properties, |writer| write_time(writer, now, count))
                        .map_err(told)?;
                }
                constant => {
                    let descriptor = &self.of.schema.parquet.columns()[place];
                    let encoded = self.of.own.constant(constant, descriptor, count);
                    let copied = encoded.and_then(|encoded| out.copy_encoded(&encoded));
                    copied.map_err(told)?;
                }
            }
        }
        out.end_group(count, None).map_err(told)?;
        Ok(true)
    }

    /// Mints keys for the next of these rows; none after the last.
    fn mint(&mut self, left: &mut Range<u64>) -> Result<Option<Blobs>, JobError> {
        let (rows, count) = next_batch(left);
        if count == 0 {
            return Ok(None);
        }
        let mut blobs = Blobs::of_rows(count);
        let minted = blobs.append(count, |out| self.of.worker.work(count, out));
        let key = minted.map_err(|error| error.of_file(&self.task.file, &[rows.start]))?;
        match &self.begun {
            Some(begun) if begun.key == key => {}
            Some(_) => return Err(SourceError::MaterialChanged.into()),
            None => {
                let begun = Begun::new(self.ledger, self.task, Some(key), self.of.said)?;
                self.of.own.begin(Constants {
                    key: begun.key.clone(),
                    key_spec: begun.key_spec.clone(),
                    context: self.of.plan.context.clone(),
                });
                self.begun = Some(begun);
            }
        }
        self.of.runtime.progress.advance(count);
        Ok(Some(blobs))
    }

    /// The names of the next of these rows; none after the last.
    fn ids(&self, left: &mut Range<u64>) -> Option<Packed> {
        let (rows, count) = next_batch(left);
        let mut ids = Packed::default();
        ids.append(|bytes, ends| self.of.plan.id_pattern.append_rows(rows, bytes, ends));
        (count > 0).then_some(ids)
    }
}

/// Takes the next rows off these, and says how many they are.
fn next_batch(left: &mut Range<u64>) -> (Range<u64>, usize) {
    let rows = left.start..left.end.min(left.start + BATCH_ROWS as u64);
    left.start = rows.end;
    let count = usize::try_from(rows.end - rows.start).unwrap_or(BATCH_ROWS);
    (rows, count)
}
