//! How a worker writes a part.

use crate::bulk::ledger::FinishedPart;
use crate::bulk::manifest::SOFTWARE;
use crate::bulk::parquet::properties::{self, ContextsBuilder, Layout, column};
use crate::bulk::parquet::{Constants, PartEncoder};
use crate::bulk::{JobError, KeyIdentity, Ledger, PartMaker, Runtime, SourceError, Task, footer};
use crate::columns::{ColumnError, Rows, Texts};
use crate::context::EncryptionContext;
use crate::provision::binder::{BindError, Binder, Contexts};
use crate::provision::{Parameters, Plan};
use crate::table::TableError;
use crate::table::part_rows::{PartRows, Table};
use crate::table::rows::Batch;
use arrow_array::{ArrayRef, RecordBatch, StringArray};
use arrow_buffer::Buffer;
use arrow_schema::DataType;
use parquet::errors::ParquetError;
use std::sync::Arc;

/// What all workers read.
pub(super) struct Shared<'a> {
    pub(super) plan: &'a Plan,
    pub(super) runtime: &'a Runtime<'a>,
    pub(super) table: Table<'a>,
    pub(super) layout: Layout,
}

/// One worker's way through the parts.
pub(super) struct PartWriter<'a, B> {
    shared: &'a Shared<'a>,
    binder: B,
    encoder: Option<PartEncoder>,
}

impl<'a, B: Binder> PartWriter<'a, B> {
    pub(super) fn new(shared: &'a Shared<'a>, binder: B) -> Self {
        Self {
            shared,
            binder,
            encoder: None,
        }
    }

    /// Binds these rows.
    fn bind(&mut self, file: usize, batch: &Batch) -> Result<Bound, JobError> {
        let pairs = &self.shared.plan.pairs;
        let name = &self.shared.table.objects[file].name;
        let unusable = |error: ColumnError| TableError::Column {
            name: name.clone(),
            reason: error.to_string(),
        };
        let places = pairs.places(&batch.rows.schema()).map_err(unusable)?;
        let rows = pairs.rows(&batch.rows, &places).map_err(unusable)?;
        let count = batch.rows.num_rows();
        // Neighbours with the same context are bound in one step.
        let runs = runs(&rows, count).map_err(unusable)?;
        let contexts = Contexts {
            rows: &rows,
            runs: &runs,
        };
        let mut blobs = Vec::new();
        let key = self
            .binder
            .bind(&contexts, &mut blobs)
            .map_err(|error| match error {
                BindError::Source(error) => error.into(),
                BindError::Row { at, code, message } => JobError::Row {
                    name: name.clone(),
                    row: batch.numbers.get(at).copied().unwrap_or_default(),
                    code,
                    message,
                },
            })?;
        // The column of contexts, as readers of the part will need them.
        let mut made = ContextsBuilder::default();
        for row in 0..count {
            let appended = made.append(rows.pairs(row));
            appended.map_err(|error| TableError::Column {
                name: name.clone(),
                reason: error.to_string(),
            })?;
        }
        Ok(Bound {
            key,
            names: runs
                .first()
                .map_or_else(EncryptionContext::default, |(context, _)| context.names()),
            contexts: made.finish(),
            blobs,
        })
    }

    /// Every column that differs from row to row.
    fn columns(&self, batch: &RecordBatch, bound: Bound) -> Result<Vec<ArrayRef>, ParquetError> {
        let count = batch.num_rows();
        let mut columns = batch.columns().to_vec();
        let id_column = &self.shared.plan.id_column;
        if id_column != column::CONTAINER_ID
            && let Some(ids) = batch.column_by_name(id_column)
        {
            columns.push(plain(ids));
        }
        columns.push(bound.contexts);
        columns.push(properties::blobs(count, Buffer::from_vec(bound.blobs))?);
        columns.push(properties::created_at(
            self.shared.runtime.clock.now(),
            count,
        ));
        Ok(columns)
    }

    /// The metadata in the part's footer.
    fn footer(
        &self,
        run: &str,
        parameters: &Parameters,
        key: &KeyIdentity,
        first_row: u64,
    ) -> [(&'static str, String); 9] {
        let constants = serde_json::json!(parameters.context_constants);
        let columns = serde_json::json!(parameters.context_columns);
        [
            (footer::SOFTWARE, SOFTWARE.to_owned()),
            (footer::RUN, run.to_owned()),
            (footer::FIRST_ROW, first_row.to_string()),
            (footer::KEY_ARN, parameters.key_arn.clone()),
            (footer::KEY_MATERIAL_ID, key.material_id.clone()),
            (footer::KEY_SPEC, parameters.key_spec.clone()),
            (footer::ID_COLUMN, parameters.id_column.clone()),
            (footer::CONTEXT_COLUMNS, columns.to_string()),
            (footer::CONTEXT_CONSTANTS, constants.to_string()),
        ]
    }
}

/// Rows that have their blobs.
struct Bound {
    key: KeyIdentity,
    /// The names of their contexts.
    names: EncryptionContext,
    contexts: ArrayRef,
    blobs: Vec<u8>,
}

impl<B: Binder> PartMaker<Parameters> for PartWriter<'_, B> {
    fn write(
        &mut self,
        task: &Task,
        ledger: &Ledger<'_, Parameters>,
    ) -> Result<Option<FinishedPart>, JobError> {
        let mut reader = PartRows::new(&self.shared.table, task.first_row, task.rows)?;
        self.binder.begin(task.rows)?;
        let folder = ledger.folder();
        let path = folder.path(&task.file);
        let encode = |error| JobError::write(&path, error);

        // The first rows show which key the part is under.
        let (file, batch) = reader.next_batch()?;
        let bound = self.bind(file, &batch)?;
        let key = bound.key.clone();
        let (run, parameters) = ledger.begin(&key)?;
        let constants = Constants {
            key_arn: key.arn.clone(),
            key_material_id: key.material_id.clone(),
            key_spec: parameters.key_spec.clone(),
            context: bound.names.clone(),
        };
        let mut encoder = match self.encoder.take() {
            Some(same) if *same.constants() == constants => same,
            _ => PartEncoder::new(self.shared.layout.clone(), constants),
        };
        let said = self.footer(&run, &parameters, &key, task.first_row);
        let sink = folder.begin(&task.file)?;
        let mut out = encoder.begin(sink, said).map_err(encode)?;
        let mut next = Some((batch.rows, bound));
        while let Some((rows, bound)) = next.take() {
            if ledger.has_failed() {
                return Ok(None);
            }
            let count = rows.num_rows();
            let columns = self.columns(&rows, bound).map_err(encode)?;
            out.write(&columns).map_err(encode)?;
            self.shared.runtime.progress.advance(count);
            if !reader.is_over() {
                let (file, batch) = reader.next_batch()?;
                let bound = self.bind(file, &batch)?;
                if bound.key != key {
                    return Err(SourceError::MaterialChanged.into());
                }
                next = Some((batch.rows, bound));
            }
        }
        self.binder.end()?;
        let finished = folder.finish(out.finish().map_err(encode)?)?;
        self.encoder = Some(encoder);
        Ok(Some(FinishedPart {
            finished,
            key_material_id: key.material_id,
        }))
    }
}

/// The contexts of `count` rows, those in a row that are alike as one.
fn runs(rows: &Rows<'_>, count: usize) -> Result<Vec<(EncryptionContext, usize)>, ColumnError> {
    let mut runs: Vec<(EncryptionContext, usize)> = Vec::new();
    for row in 0..count {
        match runs.last_mut() {
            Some((_, length)) if rows.are_alike(row - 1, row) => *length += 1,
            _ => runs.push((rows.context(row)?, 1)),
        }
    }
    Ok(runs)
}

/// Text of any of Arrow's kinds as the plainest of them.
fn plain(column: &ArrayRef) -> ArrayRef {
    if *column.data_type() == DataType::Utf8 {
        return Arc::clone(column);
    }
    let texts = Texts::of(column);
    let rows = 0..column.len();
    Arc::new(StringArray::from_iter(
        rows.map(|row| texts.as_ref().and_then(|texts| texts.text(row))),
    ))
}
