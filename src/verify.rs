//! Whether every blob of a table opens with its row's context, and none is there twice: what must
//! pass before a generation is removed. No key is shown.
//!
//! Memory holds the rows that the threads read, a count for each generation, and the buffers that
//! find duplicates (`table::distinct`): as much for any number of rows.

use crate::bulk::stream::{self, Stream};
use crate::bulk::{Client, JobError, SourceError};
use crate::census::{FINDINGS_KEPT_MAX, Findings, Groups, blobs, group, unfinished};
use crate::columns::{ContextSource, Texts};
use crate::context::EncryptionContext;
use crate::envelope::blob::{HEADER_BYTES, NONCE_BYTES};
use crate::keystore::Snapshot;
use crate::rewrap::remote::{batch, next_call};
use crate::rewrap::sealer::open;
use crate::stream::Purpose;
use crate::table::distinct::{Distinct, Fingerprint, Twins};
use crate::table::rows::Batch;
use crate::table::{Input, RowNumber, RowPosition, TableError};
use arrow_array::cast::AsArray;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

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

/// A supply of checkers for one job.
pub trait Checkers: Sync {
    /// What one thread checks with.
    type Checker: Checker;

    /// A checker for the calling thread.
    ///
    /// # Errors
    /// [`SourceError`], when the connection to the daemon cannot be set up.
    fn checker(&self) -> Result<Self::Checker, SourceError>;
}

/// One thread's way of opening blobs.
pub trait Checker: Send {
    /// Returns for each blob why it does not open; `None` if it opens.
    ///
    /// # Errors
    /// [`SourceError`], when blobs cannot be opened at all.
    fn check(
        &mut self,
        blobs: &[(&[u8], EncryptionContext)],
    ) -> Result<Vec<Option<String>>, SourceError>;
}

/// Keys of the opened store.
pub struct Store(pub Arc<Snapshot>);

impl Checkers for Store {
    type Checker = Arc<Snapshot>;

    fn checker(&self) -> Result<Arc<Snapshot>, SourceError> {
        Ok(Arc::clone(&self.0))
    }
}

impl Checker for Arc<Snapshot> {
    fn check(
        &mut self,
        blobs: &[(&[u8], EncryptionContext)],
    ) -> Result<Vec<Option<String>>, SourceError> {
        let why = |(blob, context): &(&[u8], EncryptionContext)| {
            let opened = open(self, blob, context);
            opened.err().map(|(_, reason)| reason)
        };
        Ok(blobs.iter().map(why).collect())
    }
}

/// A daemon, which opens blobs and does not send the data keys.
pub struct Remote(pub Client);

impl Checkers for Remote {
    type Checker = Stream;

    fn checker(&self) -> Result<Stream, SourceError> {
        Stream::new(&self.0, Purpose::Verify, "")
    }
}

impl Checker for Stream {
    fn check(
        &mut self,
        blobs: &[(&[u8], EncryptionContext)],
    ) -> Result<Vec<Option<String>>, SourceError> {
        let mut reasons = Vec::with_capacity(blobs.len());
        while let left @ [_, ..] = &blobs[reasons.len()..] {
            let sizes = left
                .iter()
                .map(|(blob, context)| blob.len() + context.canonical().len());
            let rows = &left[..next_call(sizes)];
            let contexts = rows.iter().map(|(_, context)| context);
            let batch = batch(rows.iter().map(|(blob, _)| *blob), contexts, None)
                .map_err(|error| self.client().broken(&error))?;
            for answer in self.call(&batch, REFUSAL_BYTES_MAX)? {
                let refusals =
                    stream::column(self.client(), &answer, "refusal")?.as_string_opt::<i32>();
                let none = || self.client().answered("without refusal");
                let of_rows = refusals.ok_or_else(none)?.iter();
                reasons.extend(of_rows.map(|refusal| refusal.map(ToOwned::to_owned)));
            }
        }
        Ok(reasons)
    }
}

/// Checks every row of a table.
///
/// # Errors
/// [`JobError`], when it cannot be read, or when nothing can be opened.
pub fn verify<C: Checkers>(
    input: &Input<'_>,
    question: &Question<'_>,
    check: &C,
) -> Result<Report, JobError> {
    let spill = |what: &str| {
        let name = format!(".keymill-verify-{}-{what}", std::process::id());
        Distinct::new(question.scratch.join(name))
    };
    let verification = Verification {
        input,
        question,
        check,
        // A thread takes one, and gives it back.
        checkers: Mutex::default(),
        report: Mutex::default(),
        refused: Mutex::default(),
        hash: Fingerprint::default(),
        nonces: spill("nonces"),
        ids: spill("ids"),
    };
    let mut columns = question.context.columns();
    columns.push(crate::bulk::parquet::properties::column::CIPHERTEXT_BLOB.to_owned());
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
        return Err(error.into());
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

struct Verification<'a, C: Checkers> {
    input: &'a Input<'a>,
    question: &'a Question<'a>,
    check: &'a C,
    checkers: Mutex<Vec<C::Checker>>,
    report: Mutex<Report>,
    /// Why blobs cannot be opened at all.
    refused: Mutex<Option<SourceError>>,
    hash: Fingerprint,
    nonces: Distinct,
    ids: Distinct,
}

impl<C: Checkers> Verification<'_, C> {
    fn look_at(&self, file: usize, batch: &Batch) -> Result<(), TableError> {
        let blobs = blobs(self.input, file, batch)?;
        let unusable = |reason: String| TableError::Column {
            name: self.input.objects[file].name.clone(),
            reason,
        };
        let contexts = self.question.context.of(&batch.rows).map_err(unusable)?;
        let mut report = Report {
            rows: batch.numbers.len() as u64,
            ..Report::default()
        };
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
                .ok_or_else(|| unusable(format!("there is no column {id_column:?} of text")))?;
            let rows = batch.numbers.iter().enumerate();
            let entries = rows.map(|(at, row)| {
                let place = RowPosition { file, row: *row };
                self.hash
                    .of(ids.text(at).unwrap_or_default().as_bytes(), place)
            });
            self.ids.add(&entries.collect::<Vec<_>>())?;
        }
        let mut checker = match locked(&self.checkers).pop() {
            Some(checker) => checker,
            None => self.check.checker().map_err(|error| self.refuse(error))?,
        };
        let reasons = checker
            .check(&to_open)
            .map_err(|error| self.refuse(error))?;
        locked(&self.checkers).push(checker);
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

    /// Notes why blobs cannot be opened at all. The error that it returns only ends the walk.
    fn refuse(&self, error: SourceError) -> TableError {
        locked(&self.refused).get_or_insert(error);
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
