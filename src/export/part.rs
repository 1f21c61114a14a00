//! How a worker of an export writes a part.

use crate::bulk::ledger::FinishedPart;
use crate::bulk::parquet::properties::{Layout, column};
use crate::bulk::parquet::{BATCH_ROWS, Constants, PartEncoder};
use crate::bulk::{JobError, Ledger, PartMaker, Runtime, Task, footer};
use crate::export::rows::Rows;
use crate::export::source::Worker;
use crate::export::{Parameters, Plan};

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
/// Those of them that are the same in every row.
const CONSTANT: [&str; 4] = [
    column::KEY_ARN,
    column::KEY_MATERIAL_ID,
    column::KEY_SPEC,
    column::ENCRYPTION_CONTEXT,
];

/// One worker's way through the parts.
pub(super) struct PartWriter<'a, W> {
    pub(super) plan: &'a Plan,
    pub(super) runtime: &'a Runtime<'a>,
    pub(super) worker: W,
    pub(super) encoder: Option<PartEncoder>,
    pub(super) rows: Rows,
}

impl<W: Worker> PartMaker<Parameters> for PartWriter<'_, W> {
    fn write(
        &mut self,
        task: &Task,
        ledger: &Ledger<'_, Parameters>,
    ) -> Result<Option<FinishedPart>, JobError> {
        self.rows.clear();
        let key = self.worker.begin(task.rows)?;
        let (run, parameters) = ledger.begin(&key)?;
        let constants = Constants {
            key_arn: key.arn,
            key_material_id: key.material_id,
            key_spec: parameters.key_spec.clone(),
            context: self.plan.context.clone(),
        };
        // Constant columns are encoded once, as long as key and material stay the same.
        let kept = match self.encoder.take() {
            Some(same) if *same.constants() == constants => same,
            _ => PartEncoder::new(Layout::own(&COLUMNS, &CONSTANT), constants),
        };
        let encoder = self.encoder.insert(kept);
        let key_material_id = encoder.constants().key_material_id.clone();
        let said = footer_of(&run, &parameters, &key_material_id, task.first_row);

        let folder = ledger.folder();
        let path = folder.path(&task.file);
        let encode = |error| JobError::write(&path, error);
        let sink = folder.begin(&task.file)?;
        let mut out = encoder.begin(sink, said).map_err(encode)?;
        let end = task.first_row + task.rows;
        for from in (task.first_row..end).step_by(BATCH_ROWS) {
            // Another worker failed: a part more would not save the job.
            if ledger.has_failed() {
                return Ok(None);
            }
            let rows = from..end.min(from + BATCH_ROWS as u64);
            let count = usize::try_from(rows.end - rows.start).unwrap_or(BATCH_ROWS);
            self.worker.fill(count, self.rows.blobs())?;
            for row in rows {
                self.rows
                    .push_id(|out| self.plan.id_pattern.append(row, out));
            }
            let created_at = self.runtime.clock.now();
            self.rows
                .write(created_at, |columns| out.write(columns))
                .map_err(encode)?;
            self.runtime.progress.advance(count);
        }
        // The source has recorded the part, or the part is not kept.
        self.worker.end()?;
        Ok(Some(FinishedPart {
            finished: folder.finish(out.finish().map_err(encode)?)?,
            key_material_id,
        }))
    }
}

fn footer_of(
    run: &str,
    parameters: &Parameters,
    key_material_id: &str,
    first_row: u64,
) -> [(&'static str, String); 9] {
    let context = serde_json::json!(parameters.encryption_context);
    [
        (footer::SOFTWARE, crate::bulk::manifest::SOFTWARE.to_owned()),
        (footer::RUN, run.to_owned()),
        (footer::FIRST_ROW, first_row.to_string()),
        (footer::KEY_ARN, parameters.key_arn.clone()),
        (footer::KEY_MATERIAL_ID, key_material_id.to_owned()),
        (footer::KEY_SPEC, parameters.key_spec.clone()),
        ("keymill.id_pattern", parameters.id_pattern.clone()),
        (footer::CONTEXT_CONSTANTS, context.to_string()),
        (footer::CONTEXT_COLUMNS, "[]".to_owned()),
    ]
}
