//! How a worker writes a part.

use crate::bulk::ledger::FinishedPart;
use crate::bulk::manifest::SOFTWARE;
use crate::bulk::parquet::properties::{self, ContextsBuilder, Layout, column};
use crate::bulk::parquet::{Constants, PartEncoder};
use crate::bulk::{JobError, KeyIdentity, Ledger, PartMaker, Runtime, SourceError, Task, footer};
use crate::columns::Blobs;
use crate::context::EncryptionContext;
use crate::rewrap::sealer::{Row, SealError, Sealer};
use crate::rewrap::{Parameters, Plan};
use crate::table::TableError;
use crate::table::part_rows::{PartRows, Table};
use crate::table::rows::Batch;
use arrow_array::ArrayRef;
use arrow_array::builder::BinaryBuilder;
use parquet::errors::ParquetError;
use std::sync::Arc;

/// What all workers read.
pub(super) struct Shared<'a> {
    pub(super) plan: &'a Plan,
    pub(super) runtime: &'a Runtime<'a>,
    pub(super) layout: Layout,
    /// The table's columns that are kept.
    pub(super) places: Vec<usize>,
    pub(super) table: Table<'a>,
}

/// One worker's way through the parts.
pub(super) struct PartWriter<'a, S> {
    shared: &'a Shared<'a>,
    sealer: S,
    encoder: Option<PartEncoder>,
}

/// Rows with their new blobs.
struct Sealed {
    key: KeyIdentity,
    columns: Vec<ArrayRef>,
}

impl<'a, S: Sealer> PartWriter<'a, S> {
    pub(super) fn new(shared: &'a Shared<'a>, sealer: S) -> Self {
        Self {
            shared,
            sealer,
            encoder: None,
        }
    }

    /// The new columns of these rows.
    fn seal(&mut self, file: usize, batch: &Batch) -> Result<Sealed, JobError> {
        let Shared { plan, table, .. } = self.shared;
        let name = &table.objects[file].name;
        let unusable = |reason: String| TableError::Column {
            name: name.clone(),
            reason,
        };
        let number = |at: usize| batch.numbers.get(at).copied().unwrap_or_default();
        let bad_row = |at: usize, reason: String| TableError::Row {
            name: name.clone(),
            row: number(at),
            reason,
            is_skippable: false,
        };
        // The columns of the batch: blobs, and the contexts before and after.
        let blobs = batch
            .rows
            .column_by_name(column::CIPHERTEXT_BLOB)
            .and_then(Blobs::of)
            .ok_or_else(|| unusable("its blobs are not binary".to_owned()))?;
        let old = plan.context.of(&batch.rows).map_err(unusable)?;
        let new = plan
            .new_context
            .as_ref()
            .map(|source| source.of(&batch.rows))
            .transpose()
            .map_err(unusable)?;
        let count = batch.rows.num_rows();
        // A row that cannot be read ends the part, before a key is opened.
        let rows = (0..count)
            .map(|at| {
                let blob = blobs
                    .get(at)
                    .ok_or_else(|| bad_row(at, "its blob is null".to_owned()))?;
                let told = |reason| bad_row(at, reason);
                let new = new.as_ref().map(|new| new.of(at));
                Ok(Row {
                    blob,
                    context: old.of(at).map_err(told)?,
                    new_context: new.transpose().map_err(told)?,
                })
            })
            .collect::<Result<Vec<_>, TableError>>()?;
        let mut out = BinaryBuilder::new();
        let key = self
            .sealer
            .seal(&rows, &mut out)
            .map_err(|error| match error {
                SealError::Source(error) => error.into(),
                SealError::Row { at, code, message } => JobError::Row {
                    name: name.clone(),
                    row: number(at),
                    code,
                    message,
                },
            })?;
        // The user's columns, then those that the job adds.
        let columns = batch.rows.columns();
        let kept = self.shared.places.iter();
        let mut columns: Vec<_> = kept.filter_map(|at| columns.get(*at).cloned()).collect();
        let mut contexts = ContextsBuilder::default();
        for row in &rows {
            let appended = contexts.append(row.destination().pairs());
            appended.map_err(|error| unusable(error.to_string()))?;
        }
        columns.push(contexts.finish());
        columns.push(Arc::new(out.finish()));
        columns.push(properties::created_at(
            self.shared.runtime.clock.now(),
            count,
        ));
        Ok(Sealed { key, columns })
    }
}

impl<S: Sealer> PartMaker<Parameters> for PartWriter<'_, S> {
    fn write(
        &mut self,
        task: &Task,
        ledger: &Ledger<'_, Parameters>,
    ) -> Result<Option<FinishedPart>, JobError> {
        let mut reader = PartRows::new(&self.shared.table, task.first_row, task.rows)?;
        self.sealer.begin(task.rows);
        let folder = ledger.folder();
        let path = folder.path(&task.file);
        let encode = |error: ParquetError| JobError::write(&path, error);

        // The first rows show which key the part is under.
        let (file, batch) = reader.next_batch()?;
        let sealed = self.seal(file, &batch)?;
        let key = sealed.key.clone();
        let (run, parameters) = ledger.begin(&key)?;
        let constants = Constants {
            key_arn: key.arn.clone(),
            key_material_id: key.material_id.clone(),
            key_spec: String::new(),
            context: EncryptionContext::default(),
        };
        let mut encoder = match self.encoder.take() {
            Some(same) if *same.constants() == constants => same,
            _ => PartEncoder::new(self.shared.layout.clone(), constants),
        };
        let said = [
            (footer::SOFTWARE, SOFTWARE.to_owned()),
            (footer::RUN, run),
            (footer::FIRST_ROW, task.first_row.to_string()),
            (footer::KEY_ARN, parameters.key_arn),
            (footer::KEY_MATERIAL_ID, key.material_id.clone()),
        ];
        let sink = folder.begin(&task.file)?;
        let mut out = encoder.begin(sink, said).map_err(encode)?;
        let mut next = Some(sealed);
        while let Some(Sealed { columns, .. }) = next.take() {
            if ledger.has_failed() {
                return Ok(None);
            }
            out.write(&columns).map_err(encode)?;
            let rows = columns.first().map_or(0, |column| column.len());
            self.shared.runtime.progress.advance(rows);
            if !reader.is_over() {
                let (file, batch) = reader.next_batch()?;
                let sealed = self.seal(file, &batch)?;
                if sealed.key != key {
                    return Err(SourceError::MaterialChanged.into());
                }
                next = Some(sealed);
            }
        }
        self.sealer.end()?;
        let finished = folder.finish(out.finish().map_err(encode)?)?;
        self.encoder = Some(encoder);
        Ok(Some(FinishedPart {
            finished,
            key_material_id: key.material_id,
        }))
    }
}
