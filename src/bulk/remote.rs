//! Rows that a running daemon works on, with the caller's rights: a call for each few thousand
//! rows.
//!
//! Only the columns that the work needs are sent.

use crate::bulk::client::{Client, Target};
use crate::bulk::connection::Connection;
use crate::bulk::daemons::Daemons;
use crate::bulk::keys::{KeySource, KeyWorker, Operation, RowsError, RowsOf};
use crate::bulk::source::SourceError;
use crate::bulk::stream::{self, CALL_BYTES_MAX, CALL_ROWS_MAX, Stream};
use crate::stream::Purpose;
use arrow_array::RecordBatch;
use arrow_schema::ArrowError;
use serde_json::Value;
use std::ops::Range;

/// Bytes of a row in a call beyond its values: the lengths of a blob, of a map, and of two texts or
/// so.
const ROW_BYTES_MORE: usize = 4 * size_of::<i32>();

/// What a job has a daemon do with rows.
pub trait RemoteWork: Clone + Send + Sync {
    /// What it is.
    type Operation: Operation;
    /// The endpoint.
    const PURPOSE: Purpose;
    /// Bytes that an answer has beyond each row at most.
    const ANSWER_BYTES_MAX: usize;

    /// The query of each call.
    fn query(&self) -> String;

    /// How many rows these are.
    fn count(rows: RowsOf<'_, Self::Operation>) -> usize;

    /// Bytes of the values that are sent of a row.
    fn bytes(rows: RowsOf<'_, Self::Operation>, row: usize) -> usize;

    /// What is sent of these rows.
    ///
    /// # Errors
    /// [`ArrowError`], when there is more than fits into one batch.
    fn batch(
        &self,
        rows: RowsOf<'_, Self::Operation>,
        range: Range<usize>,
    ) -> Result<RecordBatch, ArrowError>;

    /// Appends what an answer has.
    ///
    /// # Errors
    /// [`SourceError`], when it does not fit the request.
    fn take(
        &self,
        client: &Client,
        answer: &[RecordBatch],
        out: &mut <Self::Operation as Operation>::Out,
    ) -> Result<<Self::Operation as Operation>::Done, SourceError>;

    /// The operation of AWS KMS that does the same with the first of these rows, and its members:
    /// it is called with `DryRun`.
    fn rehearsal(&self, rows: RowsOf<'_, Self::Operation>) -> Option<(&'static str, Value)>;
}

/// Daemons that work on a job's rows.
#[derive(Clone)]
pub struct Remote<W> {
    /// Those that are called.
    pub daemons: Daemons,
    /// What is done.
    pub work: W,
}

impl<W: RemoteWork> KeySource for Remote<W> {
    type Operation = W::Operation;
    type Worker = RemoteWorker<W>;

    fn key_arn(&self) -> Option<&str> {
        None
    }

    fn worker(&self) -> Result<RemoteWorker<W>, SourceError> {
        Ok(RemoteWorker {
            stream: Stream::new(&self.daemons, W::PURPOSE, &self.work.query())?,
            work: self.work.clone(),
        })
    }

    fn rehearse(&self, row: RowsOf<'_, W::Operation>) -> Result<(), RowsError> {
        let Some((operation, mut members)) = self.work.rehearsal(row) else {
            return Ok(());
        };
        members["DryRun"] = true.into();
        let target = Target::of_operation(operation);
        let mut connection = Connection::new(&self.daemons)?;
        match connection.call_patiently(&target, members.to_string().into()) {
            Ok(_) => Ok(()),
            Err(SourceError::Refused { code, message }) => match code.as_str() {
                // What a dry run is answered that would have been done; and that of a damaged blob,
                // which is not a matter of rights.
                "DryRunOperationException" | "InvalidCiphertextException" => Ok(()),
                _ => Err(RowsError::Row {
                    at: 0,
                    code,
                    message,
                }),
            },
            Err(error) => Err(error.into()),
        }
    }
}

/// Works over one connection.
pub struct RemoteWorker<W> {
    stream: Stream,
    work: W,
}

impl<W: RemoteWork> KeyWorker for RemoteWorker<W> {
    type Operation = W::Operation;

    fn work(
        &mut self,
        rows: RowsOf<'_, W::Operation>,
        out: &mut <W::Operation as Operation>::Out,
    ) -> Result<<W::Operation as Operation>::Done, RowsError> {
        let all = W::count(rows);
        let (mut done, mut from) = (None, 0);
        while from < all {
            let range = next_call(from..all, |row| W::bytes(rows, row));
            let end = range.end;
            let of_call = self
                .call(rows, range, out)
                .map_err(|error| at_row(from, error))?;
            // All rows of a part are under one generation.
            if done.as_ref().is_some_and(|done| *done != of_call) {
                return Err(SourceError::MaterialChanged.into());
            }
            done = Some(of_call);
            from = end;
        }
        let none = || self.stream.client().answered("no rows");
        Ok(done.ok_or_else(none)?)
    }
}

impl<W: RemoteWork> RemoteWorker<W> {
    fn call(
        &mut self,
        rows: RowsOf<'_, W::Operation>,
        range: Range<usize>,
        out: &mut <W::Operation as Operation>::Out,
    ) -> Result<<W::Operation as Operation>::Done, SourceError> {
        let batch = self.work.batch(rows, range);
        let batch = batch.map_err(|error| self.stream.client().broken(&error))?;
        let answer = self.stream.call(&batch, W::ANSWER_BYTES_MAX)?;
        self.work.take(self.stream.client(), &answer, out)
    }
}

/// The first of these rows that fit into one call, at least one: the daemon says of a row that is
/// too large by itself why it is not taken.
fn next_call(rows: Range<usize>, bytes: impl Fn(usize) -> usize) -> Range<usize> {
    let (from, mut all) = (rows.start, 0);
    let fitting = rows.take(CALL_ROWS_MAX).take_while(|row| {
        all += bytes(*row) + ROW_BYTES_MORE;
        all <= CALL_BYTES_MAX
    });
    from..from + fitting.count().max(1)
}

/// The error for a refusal: it names a row of the call, and the error names the row among all that
/// were handed over.
fn at_row(from: usize, error: SourceError) -> RowsError {
    match stream::refused_row(error) {
        Ok((row, code, message)) => RowsError::Row {
            at: from.saturating_add(row),
            code,
            message,
        },
        Err(error) => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_has_as_many_rows_as_fit() {
        let long = |_| CALL_BYTES_MAX / 3;
        assert_eq!(next_call(0..7, long), 0..2);
        assert_eq!(next_call(6..7, long), 6..7);
        // One that is too long by itself still goes: the daemon says why not.
        assert_eq!(next_call(0..1, |_| 2 * CALL_BYTES_MAX), 0..1);
        assert_eq!(next_call(0..CALL_ROWS_MAX + 1, |_| 1), 0..CALL_ROWS_MAX);
    }

    #[test]
    fn a_refusal_names_its_row_among_those_that_were_handed_over() {
        let refused = |message: &str| SourceError::Refused {
            code: "AccessDeniedException".to_owned(),
            message: message.to_owned(),
        };
        match at_row(8192, refused("Row 41: no: not you")) {
            RowsError::Row { at, code, message } => {
                assert_eq!((at, code.as_str()), (8233, "AccessDeniedException"));
                assert_eq!(message, "no: not you");
            }
            other => panic!("{other:?}"),
        }
        for message in ["After 0 rows: no", "Row x: no", "Row 1", ""] {
            let error = at_row(0, refused(message));
            assert!(matches!(error, RowsError::Source(_)), "{message}");
        }
    }
}
