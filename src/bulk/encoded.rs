//! Parts of which every column is encoded. Parquet that is copied is `splice`'s.

use crate::bulk::footer::{Begun, Said};
use crate::bulk::ledger::FinishedPart;
use crate::bulk::parquet::properties::Layout;
use crate::bulk::parquet::{Constants, PartEncoder, PartWriter};
use crate::bulk::source::{KeyIdentity, SourceError};
use crate::bulk::{JobError, Kind, Ledger, PartMaker, Runtime, Task};
use crate::context::EncryptionContext;
use arrow_array::ArrayRef;

/// Takes the next rows: their key, and the columns of [`Layout::written`].
pub type Sink<'a> = dyn FnMut(&KeyIdentity, &[ArrayRef]) -> Result<(), JobError> + 'a;

/// One worker's way to the rows of its parts.
pub trait MadeRows {
    /// Begins a part.
    ///
    /// # Errors
    /// [`JobError`], when its rows cannot be read, or the key cannot be used.
    fn begin(&mut self, task: &Task) -> Result<(), JobError>;

    /// Hands the next rows of the part to `write`; returns whether there were any.
    ///
    /// # Errors
    /// [`JobError`], that of `write` among others; the part is then not to be kept.
    fn next(&mut self, write: &mut Sink<'_>) -> Result<bool, JobError>;

    /// Ends the part.
    ///
    /// # Errors
    /// [`SourceError`]; the part is then not to be kept.
    fn end(&mut self) -> Result<(), SourceError>;
}

/// What all workers of a job have.
pub struct Encoding<'a> {
    /// The job's clock and progress.
    pub runtime: &'a Runtime<'a>,
    /// The columns.
    pub layout: Layout,
    /// The context of every row, or its names, where the values are in columns.
    pub context: EncryptionContext,
    /// What the footer of every part says beside what all jobs say, and the length of its keys.
    pub said: Said,
}

/// One worker's way through the parts.
pub struct EncodedParts<'a, R> {
    encoding: &'a Encoding<'a>,
    rows: R,
    encoder: Option<PartEncoder>,
}

impl<'a, R> EncodedParts<'a, R> {
    /// A worker that writes these rows.
    #[must_use]
    pub fn new(encoding: &'a Encoding<'a>, rows: R) -> Self {
        Self {
            encoding,
            rows,
            encoder: None,
        }
    }
}

impl<K: Kind, R: MadeRows> PartMaker<K> for EncodedParts<'_, R> {
    fn write(
        &mut self,
        task: &Task,
        ledger: &Ledger<'_, K>,
    ) -> Result<Option<FinishedPart>, JobError> {
        let Encoding {
            runtime,
            layout,
            context,
            said,
        } = self.encoding;
        let folder = ledger.folder();
        let path = folder.path(&task.file);
        let encode = |error| JobError::write(&path, error);
        let mut unused = Some(&mut self.encoder);
        let mut part: Option<(PartWriter<'_, _>, KeyIdentity)> = None;
        // A part without rows has their columns.
        if task.rows == 0 {
            let begun = Begun::new(ledger, task, None, said)?;
            let mut encoder = PartEncoder::new(layout.clone(), Constants::default());
            let writer = encoder.begin(folder.begin(&task.file)?, begun.footer);
            let sink = writer.and_then(PartWriter::finish).map_err(encode)?;
            return Ok(Some(FinishedPart {
                finished: folder.finish(sink)?,
                key_material_id: begun.key.material_id,
            }));
        }
        self.rows.begin(task)?;
        loop {
            // Another worker failed: a part more would not save the job.
            if ledger.has_failed() {
                return Ok(None);
            }
            let more = self.rows.next(&mut |key, columns| {
                // The first rows show which key the part is under.
                if let Some(encoder) = unused.take() {
                    let begun = Begun::new(ledger, task, Some(key.clone()), said)?;
                    let constants = Constants {
                        key_arn: begun.key.arn.clone(),
                        key_material_id: begun.key.material_id.clone(),
                        key_spec: begun.key_spec,
                        context: context.clone(),
                    };
                    // Constant columns are encoded once, as long as key and material stay the same.
                    let kept = match encoder.take() {
                        Some(same) if *same.constants() == constants => same,
                        _ => PartEncoder::new(layout.clone(), constants),
                    };
                    let sink = folder.begin(&task.file)?;
                    let writer = encoder.insert(kept).begin(sink, begun.footer);
                    part = Some((writer.map_err(encode)?, begun.key));
                }
                match &mut part {
                    Some((writer, of_part)) if of_part == key => {
                        writer.write(columns).map_err(encode)?;
                        let rows = columns.first().map_or(0, |column| column.len());
                        runtime.progress.advance(rows);
                        Ok(())
                    }
                    _ => Err(SourceError::MaterialChanged.into()),
                }
            })?;
            if !more {
                break;
            }
        }
        // The source has recorded the part, or the part is not kept.
        self.rows.end()?;
        let (writer, key) = part.ok_or(JobError::Stopped)?;
        let sink = writer.finish().map_err(encode)?;
        Ok(Some(FinishedPart {
            finished: folder.finish(sink)?,
            key_material_id: key.material_id,
        }))
    }
}
