//! How a worker writes a part of a table of text: every column is encoded.

use crate::bulk::ledger::FinishedPart;
use crate::bulk::manifest::SOFTWARE;
use crate::bulk::parquet::properties::{self, Layout, column};
use crate::bulk::parquet::{Constants, PartEncoder};
use crate::bulk::{JobError, KeyIdentity, Ledger, PartMaker, Runtime, SourceError, Task, footer};
use crate::context::EncryptionContext;
use crate::provision::binder::Binder;
use crate::provision::binding::Binding;
use crate::provision::{Parameters, Plan};
use crate::table::part_rows::{PartRows, Table};
use crate::table::rows::Batch;
use arrow_array::ArrayRef;
use arrow_buffer::Buffer;
use parquet::errors::ParquetError;

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
    binding: Binding<'a, B>,
    encoder: Option<PartEncoder>,
}

impl<'a, B: Binder> PartWriter<'a, B> {
    pub(super) fn new(shared: &'a Shared<'a>, binder: B) -> Self {
        Self {
            shared,
            binding: Binding {
                plan: shared.plan,
                objects: shared.table.objects,
                binder,
            },
            encoder: None,
        }
    }

    /// Binds these rows; every column that differs from row to row.
    fn bind(&mut self, file: usize, batch: &Batch) -> Result<Bound, JobError> {
        let plan = self.shared.plan;
        let (key, blobs) = self.binding.bind(file, batch)?;
        // Columns of folders are not written: readers take them from there.
        let own = self.shared.table.schema.fields().len();
        let mut columns = batch.rows.columns().to_vec();
        columns.truncate(own);
        if plan.id_column != column::CONTAINER_ID {
            columns.extend(batch.rows.column_by_name(&plan.id_column).cloned());
        }
        if plan.context_map {
            columns.push(self.binding.contexts(file, batch)?);
        }
        Ok(Bound {
            key,
            columns,
            blobs,
        })
    }

    /// The names of every row's context.
    fn context_names(&self) -> EncryptionContext {
        let pairs = &self.shared.plan.pairs;
        let constants = pairs.constants.iter().map(|(name, _)| name);
        let names = pairs.columns.iter().chain(constants);
        EncryptionContext::from_pairs(names.map(|name| (name.as_str(), ""))).unwrap_or_default()
    }
}

/// Rows that have their blobs.
struct Bound {
    key: KeyIdentity,
    columns: Vec<ArrayRef>,
    blobs: Vec<u8>,
}

impl Bound {
    /// Every column, with the time.
    fn finish(self, runtime: &Runtime<'_>) -> Result<Vec<ArrayRef>, ParquetError> {
        let rows = self.columns.first().map_or(0, |column| column.len());
        let mut columns = self.columns;
        columns.push(properties::blobs(rows, Buffer::from_vec(self.blobs))?);
        columns.push(properties::created_at(runtime.clock.now(), rows));
        Ok(columns)
    }
}

impl<B: Binder> PartMaker<Parameters> for PartWriter<'_, B> {
    fn write(
        &mut self,
        task: &Task,
        ledger: &Ledger<'_, Parameters>,
    ) -> Result<Option<FinishedPart>, JobError> {
        let mut reader = PartRows::new(&self.shared.table, task.first_row, task.rows)?;
        self.binding.binder.begin(task.rows)?;
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
            context: self.context_names(),
        };
        let mut encoder = match self.encoder.take() {
            Some(same) if *same.constants() == constants => same,
            _ => PartEncoder::new(self.shared.layout.clone(), constants),
        };
        let mut said = vec![
            (footer::SOFTWARE, SOFTWARE.to_owned()),
            (footer::RUN, run),
            (footer::FIRST_ROW, task.first_row.to_string()),
            (footer::KEY_ARN, key.arn.clone()),
            (footer::KEY_MATERIAL_ID, key.material_id.clone()),
        ];
        said.extend(parameters.footer());
        let sink = folder.begin(&task.file)?;
        let mut out = encoder.begin(sink, said).map_err(encode)?;
        let mut next = Some(bound);
        while let Some(bound) = next.take() {
            if ledger.has_failed() {
                return Ok(None);
            }
            let columns = bound.finish(self.shared.runtime).map_err(encode)?;
            out.write(&columns).map_err(encode)?;
            let rows = columns.first().map_or(0, |column| column.len());
            self.shared.runtime.progress.advance(rows);
            if !reader.is_over() {
                let (file, batch) = reader.next_batch()?;
                let bound = self.bind(file, &batch)?;
                if bound.key != key {
                    return Err(SourceError::MaterialChanged.into());
                }
                next = Some(bound);
            }
        }
        self.binding.binder.end()?;
        let finished = folder.finish(out.finish().map_err(encode)?)?;
        self.encoder = Some(encoder);
        Ok(Some(FinishedPart {
            finished,
            key_material_id: key.material_id,
        }))
    }
}
