//! Whether every blob of a table opens with its row's context, and none is there twice: what must
//! pass before a generation is removed. No key is shown.
//!
//! Memory holds the rows that the threads read, a count for each generation, and the buffers that
//! find duplicates (`table::distinct`): as much for any number of rows.

use crate::bulk::keys::{KeySource, KeyWorker, Operation, RowsError, RowsOf};
use crate::bulk::parquet::properties::column;
use crate::bulk::remote::RemoteWork;
use crate::bulk::stream;
use crate::bulk::{Client, JobError, SourceError};
use crate::census::{FINDINGS_KEPT_MAX, Findings, Groups, blobs, group, unfinished};
use crate::columns::{ContextSource, Shown, Texts};
use crate::context::EncryptionContext;
use crate::envelope::blob::{HEADER_BYTES, NONCE_BYTES};
use crate::keystore::Snapshot;
use crate::rewrap::reseal::{INVALID, batch, open};
use crate::stream::Purpose;
use crate::table::distinct::{Distinct, Fingerprint, Twins};
use crate::table::rows::Batch;
use crate::table::{Input, RowNumber, RowPosition, TableError};
use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use arrow_schema::ArrowError;
use base64_simd::STANDARD;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// Rows that are tried before all others, at most, and files that they are looked for in.
const ROWS_TRIED_MAX: usize = 3;
const FILES_TRIED_MAX: usize = 16;
/// Bytes of a daemon's reason why a row does not open, at most: it may quote a context.
const REFUSAL_BYTES_MAX: usize = 4096;

/// What a run of `verify` found.
#[derive(Debug, Default)]
pub struct Report {
    /// All rows.
    pub rows: u64,
    /// Those that open, by what their headers say.
    pub groups: Groups,
    /// Rows that do not, and those that are there twice.
    pub findings: Findings,
}

/// What every row is checked for.
pub struct Question<'a> {
    /// Where the contexts are.
    pub context: &'a ContextSource,
    /// The column of container ids, if these are to be checked for duplicates too.
    pub id_column: Option<&'a str>,
    /// The folder for temporary files: entries that do not fit into memory.
    pub scratch: &'a Path,
}

/// Opens blobs, and shows no key.
#[derive(Clone, Copy, Debug)]
pub struct Check;

impl Operation for Check {
    /// Blobs and what each is bound to.
    type Rows<'a> = &'a [(&'a [u8], EncryptionContext)];
    /// Why each does not open; `None` if it opens.
    type Out = Vec<Option<String>>;
    type Done = ();
}

/// Keys of the opened store.
#[derive(Clone)]
pub struct Store(pub Arc<Snapshot>);

impl KeySource for Store {
    type Operation = Check;
    type Worker = Self;

    fn key_arn(&self) -> Option<&str> {
        None
    }

    fn worker(&self) -> Result<Self, SourceError> {
        Ok(self.clone())
    }

    fn rehearse(&self, row: RowsOf<'_, Check>) -> Result<(), RowsError> {
        let refused = row.first().and_then(|(blob, context)| {
            let refused = open(&self.0, blob, context).err();
            // A blob that does not open under its key is a finding.
            refused.filter(|(code, _)| *code != INVALID)
        });
        match refused {
            None => Ok(()),
            Some((code, message)) => Err(RowsError::Row {
                at: 0,
                code: code.to_owned(),
                message,
            }),
        }
    }
}

impl KeyWorker for Store {
    type Operation = Check;

    fn work(
        &mut self,
        blobs: RowsOf<'_, Check>,
        out: &mut Vec<Option<String>>,
    ) -> Result<(), RowsError> {
        let why = |(blob, context): &(&[u8], EncryptionContext)| {
            let opened = open(&self.0, blob, context);
            opened.err().map(|(_, reason)| reason)
        };
        out.extend(blobs.iter().map(why));
        Ok(())
    }
}

/// A daemon opens blobs and does not send the data keys.
impl RemoteWork for Check {
    type Operation = Self;

    const PURPOSE: Purpose = Purpose::Verify;
    const ANSWER_BYTES_MAX: usize = REFUSAL_BYTES_MAX;

    fn query(&self) -> String {
        String::new()
    }

    fn count(blobs: RowsOf<'_, Self>) -> usize {
        blobs.len()
    }

    fn bytes(blobs: RowsOf<'_, Self>, row: usize) -> usize {
        let (blob, context) = &blobs[row];
        blob.len() + context.canonical().len()
    }

    fn batch(
        &self,
        blobs: RowsOf<'_, Self>,
        range: Range<usize>,
    ) -> Result<RecordBatch, ArrowError> {
        let rows = &blobs[range];
        let contexts = rows.iter().map(|(_, context)| context);
        batch(rows.iter().map(|(blob, _)| *blob), contexts, None)
    }

    fn take(
        &self,
        client: &Client,
        answer: &[RecordBatch],
        out: &mut Vec<Option<String>>,
    ) -> Result<(), SourceError> {
        for answer in answer {
            let refusals = stream::column(client, answer, "refusal")?.as_string_opt::<i32>();
            let refusals = refusals.ok_or_else(|| client.answered("without refusal"))?;
            out.extend(
                refusals
                    .iter()
                    .map(|refusal| refusal.map(ToOwned::to_owned)),
            );
        }
        Ok(())
    }

    fn rehearsal(&self, blobs: RowsOf<'_, Self>) -> Option<(&'static str, Value)> {
        let (blob, context) = blobs.first()?;
        let members = json!({
            "CiphertextBlob": STANDARD.encode_to_string(blob),
            "EncryptionContext": context.pairs().collect::<BTreeMap<_, _>>(),
        });
        Some(("Decrypt", members))
    }
}

/// Checks every row of a table.
///
/// # Errors
/// [`JobError`], when it cannot be read, or when nothing can be opened.
pub fn verify<S: KeySource<Operation = Check, Worker: Send>>(
    input: &Input<'_>,
    question: &Question<'_>,
    source: &S,
) -> Result<Report, JobError> {
    let spill = |what: &str| {
        let name = format!(".keymill-verify-{}-{what}", std::process::id());
        Distinct::new(question.scratch.join(name))
    };
    let verification = Verification {
        input,
        question,
        source,
        // A thread takes one, and gives it back.
        workers: Mutex::default(),
        report: Mutex::default(),
        refused: Mutex::default(),
        hash: Fingerprint::default(),
        nonces: spill("nonces"),
        ids: spill("ids"),
    };
    rehearse(input, question, source)?;
    let mut columns = question.context.columns();
    columns.push(column::CIPHERTEXT_BLOB.to_owned());
    columns.extend(question.id_column.map(ToOwned::to_owned));
    columns.sort();
    columns.dedup();
    let walked = input
        .on_threads(|| input.walk(&columns, &|file, batch| verification.look_at(file, &batch)));
    let Verification {
        report,
        refused,
        nonces,
        ids,
        ..
    } = verification;
    if let Some(error) = refused.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(error);
    }
    let mut report = report.into_inner().unwrap_or_else(PoisonError::into_inner);
    walked.map_err(|error| unfinished(error, report.rows, &report.findings))?;
    let (nonces, ids) = input.on_threads(|| {
        Ok((
            nonces.twins(FINDINGS_KEPT_MAX)?,
            ids.twins(FINDINGS_KEPT_MAX)?,
        ))
    })?;
    for ((count, twins), what) in [(nonces, "its blob is that of"), (ids, "its id is that of")] {
        // All count, and the first of them are named.
        report.findings.count += count.saturating_sub(twins.len() as u64);
        for Twins { later, first } in twins {
            let name = &input.objects[first.file].name;
            let reason = format!("{what} {name}, row {}", RowNumber(first.row));
            report.findings.add(later, reason);
        }
    }
    report.findings.kept.sort();
    Ok(report)
}

/// The error of a look that has not begun.
#[must_use]
pub fn unseen(error: TableError) -> JobError {
    unfinished(error, 0, &Findings::default())
}

/// Finds out whether blobs of the table can be opened at all. A few rows are tried, of several
/// files where the first have one or two: the key of one may be gone, which is a finding.
fn rehearse<S: KeySource<Operation = Check>>(
    input: &Input<'_>,
    question: &Question<'_>,
    source: &S,
) -> Result<(), JobError> {
    let mut columns = question.context.columns();
    columns.push(column::CIPHERTEXT_BLOB.to_owned());
    let (mut tried, mut refused) = (0, None);
    for found in input.first_rows(&columns).take(FILES_TRIED_MAX) {
        let (file, batch) = found.map_err(unseen)?;
        let blobs = blobs(input, file, &batch)?;
        let Ok(contexts) = question.context.of(&batch.rows) else {
            return Ok(());
        };
        for at in spread(batch.numbers.len()) {
            // What is wrong with a row itself is a finding, and says nothing of the others.
            let row = blobs.get(at).zip(contexts.of(at).ok());
            let Some(row) = row.filter(|(blob, _)| group(blob).is_some()) else {
                continue;
            };
            match source.rehearse(&[row]) {
                Ok(()) => return Ok(()),
                Err(RowsError::Source(error)) => return Err(error.into()),
                Err(error) => {
                    let name = &input.objects[file].name;
                    refused.get_or_insert(error.of_rehearsal(name, batch.numbers[at]));
                }
            }
            tried += 1;
            if tried == ROWS_TRIED_MAX {
                return refused.map_or(Ok(()), Err);
            }
        }
    }
    refused.map_or(Ok(()), Err)
}

/// The first, the last and the middle one of so many.
fn spread(count: usize) -> impl Iterator<Item = usize> {
    let last = count.saturating_sub(1);
    let mut places = vec![0, last / 2, last];
    places.dedup();
    places.into_iter()
}

struct Verification<'a, S: KeySource> {
    input: &'a Input<'a>,
    question: &'a Question<'a>,
    source: &'a S,
    workers: Mutex<Vec<S::Worker>>,
    report: Mutex<Report>,
    /// Why blobs cannot be opened at all.
    refused: Mutex<Option<JobError>>,
    hash: Fingerprint,
    nonces: Distinct,
    ids: Distinct,
}

impl<S: KeySource<Operation = Check, Worker: Send>> Verification<'_, S> {
    fn look_at(&self, file: usize, batch: &Batch) -> Result<(), TableError> {
        let blobs = blobs(self.input, file, batch)?;
        let unusable = |reason: String| TableError::Column {
            name: self.input.objects[file].name.clone(),
            reason,
        };
        let contexts = self.question.context.of(&batch.rows).map_err(unusable)?;
        let mut report = Report {
            rows: (batch.numbers.len() + batch.bad.len()) as u64,
            ..Report::default()
        };
        report.findings.add_bad(file, &batch.bad);
        let (mut places, mut to_open, mut nonces) = (Vec::new(), Vec::new(), Vec::new());
        for (at, row) in batch.numbers.iter().enumerate() {
            let place = RowPosition { file, row: *row };
            let context = contexts.of(at);
            match (blobs.get(at), context) {
                (None, _) => report.findings.add(place, "its blob is null".to_owned()),
                (_, Err(reason)) => report.findings.add(place, reason),
                (Some(blob), Ok(context)) => {
                    // One key and one nonce are one data key, whatever else of the blob is
                    // different.
                    if let Some(nonce) = blob.get(..HEADER_BYTES + NONCE_BYTES) {
                        nonces.push(self.hash.of(nonce, place));
                    }
                    places.push(place);
                    to_open.push((blob, context));
                }
            }
        }
        self.nonces.add(&nonces)?;
        if let Some(id_column) = self.question.id_column {
            let ids = batch
                .rows
                .column_by_name(id_column)
                .and_then(Texts::of)
                .ok_or_else(|| {
                    unusable(format!("there is no column {} of text", Shown(id_column)))
                })?;
            let rows = batch.numbers.iter().enumerate();
            let entries = rows.map(|(at, row)| {
                let place = RowPosition { file, row: *row };
                self.hash
                    .of(ids.text(at).unwrap_or_default().as_bytes(), place)
            });
            self.ids.add(&entries.collect::<Vec<_>>())?;
        }
        let reasons = self.reasons(file, &places, &to_open)?;
        for ((place, (blob, _)), reason) in places.into_iter().zip(&to_open).zip(reasons) {
            match (reason, group(blob)) {
                (Some(reason), _) => report.findings.add(place, reason),
                (None, Some(group)) => *report.groups.entry(group).or_default() += 1,
                (None, None) => report
                    .findings
                    .add(place, "its bytes are not a ciphertext blob".to_owned()),
            }
        }
        locked(&self.report).add(report);
        Ok(())
    }

    /// Why each of these blobs does not open.
    fn reasons(
        &self,
        file: usize,
        places: &[RowPosition],
        blobs: &[(&[u8], EncryptionContext)],
    ) -> Result<Vec<Option<String>>, TableError> {
        let mut reasons = Vec::with_capacity(blobs.len());
        if blobs.is_empty() {
            return Ok(reasons);
        }
        let kept = locked(&self.workers).pop();
        let worker = kept.map_or_else(|| self.source.worker(), Ok);
        let mut worker = worker.map_err(|error| self.refuse(error.into()))?;
        if let Err(error) = worker.work(blobs, &mut reasons) {
            let numbers: Vec<_> = places.iter().map(|place| place.row).collect();
            let name = &self.input.objects[file].name;
            return Err(self.refuse(error.of_file(name, &numbers)));
        }
        locked(&self.workers).push(worker);
        Ok(reasons)
    }

    /// Notes why blobs cannot be opened at all. The error that it returns only ends the walk.
    fn refuse(&self, error: JobError) -> TableError {
        if !matches!(error, JobError::Stopped) {
            locked(&self.refused).get_or_insert(error);
        }
        TableError::Stopped
    }
}

impl Report {
    fn add(&mut self, other: Self) {
        self.rows += other.rows;
        for (group, count) in other.groups {
            *self.groups.entry(group).or_default() += count;
        }
        self.findings.extend(other.findings);
    }
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
