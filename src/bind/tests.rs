//! Streams and files that are bound by a binder of the tests.

use super::*;
use crate::bulk::Progress;
use crate::clock::{Clock, Timestamp};
use crate::crypto::entropy::Entropy;
use arrow_array::cast::AsArray;
use arrow_array::types::Int32Type;
use arrow_array::{ArrayRef, DictionaryArray, Int64Array, StringArray};
use arrow_ipc::reader::StreamReader;
use arrow_ipc::writer::{DictionaryHandling, FileWriter, IpcWriteOptions, StreamWriter};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Binds a row to its first column, under the key of the call.
#[derive(Default)]
struct Echo {
    calls: usize,
    /// Of each call.
    keys: Vec<KeyIdentity>,
    /// Errors before any call is done.
    errors: Vec<RowsError>,
}

fn key(arn: &str, material: char) -> KeyIdentity {
    KeyIdentity {
        arn: arn.to_owned(),
        material_id: material.to_string().repeat(64),
    }
}

impl KeyWorker for Echo {
    type Operation = Bind;

    fn work(
        &mut self,
        contexts: Contexts<'_>,
        out: &mut Vec<u8>,
    ) -> Result<KeyIdentity, RowsError> {
        if let Some(error) = self.errors.pop() {
            return Err(error);
        }
        let rows: usize = contexts.runs.iter().map(|(_, rows)| rows).sum();
        for row in 0..rows {
            let text = contexts.rows.columns()[0].text(row).unwrap();
            out.extend_from_slice(format!("{text:>8}").as_bytes());
        }
        self.calls += 1;
        let of_call = self.keys.get(self.calls - 1);
        Ok(of_call.cloned().unwrap_or_else(|| key("arn:a", 'a')))
    }
}

fn pairs() -> ContextPairs {
    ContextPairs {
        columns: vec!["id".to_owned()],
        constants: Vec::new(),
    }
}

fn bound(binder: &mut Echo, input: &[u8]) -> (Result<Outcome, StreamError>, Vec<u8>) {
    stopped(binder, input, false)
}

fn stopped(binder: &mut Echo, input: &[u8], stop: bool) -> (Result<Outcome, StreamError>, Vec<u8>) {
    let runtime = Runtime {
        clock: Clock::manual(Timestamp(0)),
        entropy: &Entropy::os(),
        progress: &Progress::silent(),
        stop: &AtomicBool::new(stop),
    };
    let mut sink = Vec::new();
    let bound = run(&pairs(), input, binder, &mut sink, &runtime);
    (bound, sink)
}

fn rows(from: usize, count: usize) -> RecordBatch {
    let ids = (from..from + count).map(|row| format!("c{row}"));
    let ids = StringArray::from_iter_values(ids);
    let numbers = Int64Array::from_iter((0..count).map(|row| (row % 3 > 0).then_some(row as i64)));
    let columns = [
        ("id", Arc::new(ids) as ArrayRef, true),
        ("n", Arc::new(numbers), true),
    ];
    RecordBatch::try_from_iter_with_nullable(columns).unwrap()
}

fn stream(batches: &[RecordBatch], options: IpcWriteOptions) -> Vec<u8> {
    let schema = batches[0].schema();
    let mut writer = StreamWriter::try_new_with_options(Vec::new(), &schema, options).unwrap();
    for batch in batches {
        writer.write(batch).unwrap();
    }
    writer.finish().unwrap();
    writer.into_inner().unwrap()
}

fn plain(batches: &[RecordBatch]) -> Vec<u8> {
    stream(batches, IpcWriteOptions::default())
}

fn read(bytes: &[u8]) -> Vec<RecordBatch> {
    let batches = StreamReader::try_new(bytes, None).unwrap();
    batches.map(|batch| batch.unwrap()).collect()
}

#[test]
fn every_row_keeps_its_columns_and_has_its_own_key() {
    // One batch of more rows than a call has, and a file.
    let count = 2 * CALL_ROWS_MAX + 5;
    let sent = rows(0, count);
    let mut file = FileWriter::try_new(Vec::new(), &sent.schema()).unwrap();
    file.write(&sent).unwrap();
    file.finish().unwrap();
    for input in [
        plain(&[sent.slice(0, 0), sent.clone()]),
        file.into_inner().unwrap(),
    ] {
        let mut binder = Echo::default();
        let (outcome, answer) = bound(&mut binder, &input);
        let outcome = outcome.unwrap();
        assert_eq!((outcome.rows, binder.calls), (count as u64, 3));
        assert_eq!(outcome.bytes, answer.len() as u64);
        assert_eq!(outcome.key_arn.as_deref(), Some("arn:a"));
        assert!(answer.ends_with(&[0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]));
        let mut from = 0;
        for batch in read(&answer) {
            let part = sent.slice(from, batch.num_rows());
            assert_eq!(batch.columns()[..2], part.columns()[..]);
            let blobs = batch.column(2).as_binary::<i32>();
            let ids = part.column(0).as_string::<i32>();
            for (blob, id) in blobs.iter().zip(ids) {
                assert_eq!(blob.unwrap(), format!("{:>8}", id.unwrap()).as_bytes());
            }
            from += batch.num_rows();
        }
        assert_eq!(from, count);
    }
}

#[test]
fn a_stream_without_rows_is_bound_without_a_call() {
    let mut binder = Echo::default();
    let (outcome, answer) = bound(&mut binder, &plain(&[rows(0, 0)]));
    let outcome = outcome.unwrap();
    assert_eq!((outcome.rows, outcome.key_arn, binder.calls), (0, None, 0));
    assert!(read(&answer).is_empty());
}

#[test]
fn a_dictionary_that_grows_is_written_as_it_came() {
    let ids = |count: usize| -> RecordBatch {
        let ids: Vec<_> = (0..count).map(|row| format!("{row:08}")).collect();
        let ids: DictionaryArray<Int32Type> = ids.iter().map(String::as_str).collect();
        RecordBatch::try_from_iter([("id", Arc::new(ids) as ArrayRef)]).unwrap()
    };
    let sent: Vec<_> = (1..=20).map(|number| ids(number * 100)).collect();
    let growing = IpcWriteOptions::default().with_dictionary_handling(DictionaryHandling::Delta);
    let input = stream(&sent, growing);
    let (outcome, answer) = bound(&mut Echo::default(), &input);
    assert_eq!(outcome.unwrap().rows, 21_000);
    // Blobs with their offsets, and keys of two dictionaries. As a whole for each batch, the
    // dictionary of ids would have 252,000 bytes more.
    let added = 21_000 * (8 + 4 + 2 * 4);
    assert!(
        answer.len() < input.len() + added + 20 * 2_000,
        "{} bytes for {}",
        answer.len(),
        input.len()
    );
    let read: Vec<_> = read(&answer);
    for (batch, sent) in read.iter().zip(&sent) {
        let ids = |batch: &RecordBatch| {
            let ids = batch.column(0).as_dictionary::<Int32Type>().clone();
            let ids = ids.downcast_dict::<StringArray>().unwrap();
            let ids: Vec<_> = ids.into_iter().map(|id| id.unwrap().to_owned()).collect();
            ids
        };
        assert_eq!(ids(batch), ids(sent));
    }
    assert_eq!(read.len(), sent.len());
}

#[test]
fn a_refused_row_is_named_among_all_rows() {
    let input = plain(&[rows(0, 10), rows(10, 10)]);
    let refusal = |at, message: &str| RowsError::Row {
        at,
        code: "AccessDeniedException".to_owned(),
        message: message.to_owned(),
    };
    for (message, said) in [
        ("no.", "row 4: AccessDeniedException: no"),
        ("", "row 4: AccessDeniedException"),
    ] {
        let mut binder = Echo {
            errors: vec![refusal(3, message)],
            ..Echo::default()
        };
        let (refused, answer) = bound(&mut binder, &input);
        assert_eq!(refused.unwrap_err().to_string(), said);
        assert!(answer.is_empty());
    }
    let null = StringArray::from(vec![Some("a"), None]);
    let null = RecordBatch::try_from_iter_with_nullable([
        ("id", Arc::new(null) as ArrayRef, true),
        ("n", Arc::new(Int64Array::from(vec![1, 2])), true),
    ]);
    let (refused, answer) = bound(&mut Echo::default(), &plain(&[rows(0, 10), null.unwrap()]));
    let said = "row 12: Context column \"id\" is null";
    assert_eq!(refused.unwrap_err().to_string(), said);
    assert_eq!(read_cut(&answer), 10, "rows before it, without an end");
}

/// Rows of an output without its end.
fn read_cut(bytes: &[u8]) -> usize {
    assert!(!bytes.ends_with(&[0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]));
    let batches = StreamReader::try_new(bytes, None).unwrap();
    batches.map(|batch| batch.unwrap().num_rows()).sum()
}

#[test]
fn an_input_that_is_cut_gives_an_output_without_its_end() {
    let input = plain(&[rows(0, 10), rows(10, 10)]);
    let (refused, answer) = bound(&mut Echo::default(), &input[..input.len() - 8]);
    let said = "after 20 rows: it is not an Arrow IPC stream or file: it ends without its end-of-stream marker";
    assert_eq!(refused.unwrap_err().to_string(), said);
    assert_eq!(read_cut(&answer), 20);
}

#[test]
fn a_rotation_goes_on_and_another_key_does_not() {
    let input = plain(&[rows(0, 10), rows(10, 10)]);
    let mut binder = Echo {
        keys: vec![key("arn:a", 'a'), key("arn:a", 'b')],
        errors: vec![RowsError::Source(SourceError::MaterialChanged)],
        ..Echo::default()
    };
    let (outcome, answer) = bound(&mut binder, &input);
    assert_eq!(outcome.unwrap().rows, 20);
    let materials: Vec<_> = read(&answer)
        .iter()
        .map(|batch| {
            let column = batch.column(4).as_dictionary::<Int32Type>();
            column.values().as_string::<i32>().value(0)[..1].to_owned()
        })
        .collect();
    assert_eq!(materials, ["a", "b"]);
    let mut binder = Echo {
        keys: vec![key("arn:a", 'a'), key("arn:b", 'b')],
        ..Echo::default()
    };
    let (refused, _) = bound(&mut binder, &input);
    let said = "after 10 rows: the key is arn:b, and was arn:a when the first row was bound";
    assert_eq!(refused.unwrap_err().to_string(), said);
    let again = || RowsError::Source(SourceError::MaterialChanged);
    let mut binder = Echo {
        errors: (0..=ROTATIONS_MAX).map(|_| again()).collect(),
        ..Echo::default()
    };
    let (refused, _) = bound(&mut binder, &input);
    assert!(matches!(refused, Err(StreamError::Source { rows: 0, .. })));
}

#[test]
fn columns_that_cannot_be_bound_are_refused_before_a_call() {
    let other = |name: &str| {
        let names = StringArray::from(vec!["a"]);
        let columns = [
            ("id", rows(0, 1).column(0).clone()),
            (name, Arc::new(names) as ArrayRef),
        ];
        plain(&[RecordBatch::try_from_iter(columns).unwrap()])
    };
    let without = Int64Array::from(vec![1]);
    let without = RecordBatch::try_from_iter([("n", Arc::new(without) as ArrayRef)]).unwrap();
    for (input, said) in [
        (other("key_arn"), "There is a column \"key_arn\" already"),
        (other("id"), "There are several columns \"id\""),
        (plain(&[without]), "There is no column \"id\""),
    ] {
        let mut binder = Echo::default();
        let (refused, _) = bound(&mut binder, &input);
        assert_eq!(refused.unwrap_err().to_string(), said);
        assert_eq!(binder.calls, 0);
    }
}

#[test]
fn a_signal_stops_between_two_calls() {
    let mut binder = Echo::default();
    let (refused, _) = stopped(&mut binder, &plain(&[rows(0, 10)]), true);
    assert!(matches!(refused, Err(StreamError::Stopped { rows: 0 })));
    assert_eq!(binder.calls, 0);
}
