//! How many blobs of a table are under which key and generation, as their headers say; nothing is
//! opened.
//!
//! Memory is what the threads read, and a count for each generation: the same for any number of
//! rows.

mod finding;

pub use finding::{FINDINGS_KEPT_MAX, Finding, Findings};

use crate::bulk::JobError;
use crate::bulk::parquet::properties::column;
use crate::columns::Blobs;
use crate::envelope::AnyBlob;
use crate::key::KeyId;
use crate::table::rows::Batch;
use crate::table::{Input, RowPosition, TableError};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// Generations that are counted at most. A table with more does not hold wrapped keys.
pub const GENERATIONS_MAX: usize = 100_000;

/// What a blob's header and length say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Group {
    /// The KMS key.
    pub key_id: KeyId,
    /// The generation of its material.
    pub generation: u32,
    /// The length of the data key.
    pub data_key_bytes: usize,
}

/// How many blobs there are of each.
pub type Groups = BTreeMap<Group, u64>;

/// The result of a count.
#[derive(Debug, Default)]
pub struct Census {
    /// All rows.
    pub rows: u64,
    /// Those whose blob is null.
    pub without: u64,
    /// The others, unless they are among the findings.
    pub groups: Groups,
    /// Rows whose bytes are not a blob.
    pub findings: Findings,
}

/// Counts the blobs of a table.
///
/// # Errors
/// [`JobError`], when a file cannot be read, or has no column of blobs.
pub fn census(input: &Input<'_>) -> Result<Census, JobError> {
    let census = Mutex::new(Census::default());
    let columns = [column::CIPHERTEXT_BLOB.to_owned()];
    let walked = input.on_threads(|| {
        let count = |file, batch: Batch| {
            let of_batch = look_at(input, file, &batch)?;
            let mut census = census.lock().unwrap_or_else(PoisonError::into_inner);
            census.add(of_batch, &input.objects[file].name)
        };
        input.walk(&columns, &count).map(drop)
    });
    let mut census = census.into_inner().unwrap_or_else(PoisonError::into_inner);
    walked.map_err(|error| unfinished(error, census.rows, &census.findings))?;
    census.findings.kept.sort();
    Ok(census)
}

/// The error of a look at a table that has come so far.
pub(crate) fn unfinished(error: TableError, rows: u64, findings: &Findings) -> JobError {
    match error {
        TableError::Stopped => JobError::Unfinished {
            rows,
            findings: findings.count,
        },
        other => other.into(),
    }
}

fn look_at(input: &Input<'_>, file: usize, batch: &Batch) -> Result<Census, TableError> {
    let blobs = blobs(input, file, batch)?;
    let mut census = Census {
        rows: (batch.numbers.len() + batch.bad.len()) as u64,
        ..Census::default()
    };
    census.findings.add_bad(file, &batch.bad);
    for (at, row) in batch.numbers.iter().enumerate() {
        match blobs.get(at) {
            None => census.without += 1,
            Some(blob) => match group(blob) {
                Some(group) => *census.groups.entry(group).or_default() += 1,
                None => census.findings.add(
                    RowPosition { file, row: *row },
                    "its bytes are not a ciphertext blob".to_owned(),
                ),
            },
        }
    }
    Ok(census)
}

/// The batch's blobs.
pub(crate) fn blobs<'a>(
    input: &Input<'_>,
    file: usize,
    batch: &'a Batch,
) -> Result<Blobs<'a>, TableError> {
    let column = batch.rows.column_by_name(column::CIPHERTEXT_BLOB);
    let blobs = column.and_then(Blobs::of);
    blobs.ok_or_else(|| TableError::Column {
        name: input.objects[file].name.clone(),
        reason: format!("there is no column {:?} of bytes", column::CIPHERTEXT_BLOB),
    })
}

/// What a blob's header says; `None` if it is not a blob.
pub(crate) fn group(blob: &[u8]) -> Option<Group> {
    let blob = AnyBlob::parse(blob).ok()?;
    let header = blob.header();
    Some(Group {
        key_id: header.key_id,
        generation: header.generation,
        data_key_bytes: blob.plaintext_bytes(),
    })
}

impl Census {
    fn add(&mut self, other: Self, name: &str) -> Result<(), TableError> {
        self.rows += other.rows;
        self.without += other.without;
        for (group, count) in other.groups {
            *self.groups.entry(group).or_default() += count;
        }
        self.findings.extend(other.findings);
        if self.groups.len() > GENERATIONS_MAX {
            return Err(TableError::Column {
                name: name.to_owned(),
                reason: format!(
                    "more than {GENERATIONS_MAX} keys and generations: these are not wrapped keys"
                ),
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::{Format, Watch, location};
    use arrow_array::{ArrayRef, BinaryArray, RecordBatch};
    use parquet::arrow::ArrowWriter;
    use parquet::file::properties::WriterProperties;
    use std::num::NonZeroUsize;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    /// Stops a look once it has seen a row group, and knows what it was told.
    #[derive(Default)]
    struct AfterOne {
        seen: AtomicU64,
        of: AtomicU64,
    }

    impl Watch for AfterOne {
        fn is_stopped(&self) -> bool {
            self.seen.load(Ordering::SeqCst) > 0
        }

        fn begin(&self, rows: Option<u64>) {
            self.of.store(rows.unwrap_or_default(), Ordering::SeqCst);
        }

        fn seen(&self, rows: u64) {
            self.seen.fetch_add(rows, Ordering::SeqCst);
        }

        fn end(&self) {}
    }

    #[test]
    fn a_count_that_is_stopped_says_how_many_rows_it_saw() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.parquet");
        let blobs: ArrayRef = Arc::new(BinaryArray::from_iter_values(vec![b"no blob"; 30]));
        let rows = RecordBatch::try_from_iter([(column::CIPHERTEXT_BLOB, blobs)]).unwrap();
        let groups_of_ten = WriterProperties::builder()
            .set_max_row_group_row_count(Some(10))
            .build();
        let file = std::fs::File::create(&path).unwrap();
        let mut writer = ArrowWriter::try_new(file, rows.schema(), Some(groups_of_ten)).unwrap();
        writer.write(&rows).unwrap();
        writer.close().unwrap();
        let objects = [location::file(&path, "t.parquet".to_owned()).unwrap()];
        let watch = AfterOne::default();
        let counted = census(&Input {
            format: Format::Parquet,
            objects: &objects,
            workers: NonZeroUsize::MIN,
            watch: &watch,
        });
        let error = counted.err().unwrap();
        assert!(
            matches!(
                error,
                JobError::Unfinished {
                    rows: 10,
                    findings: 10
                }
            ),
            "{error}"
        );
        assert_eq!(watch.of.load(Ordering::SeqCst), 30);
    }
}
