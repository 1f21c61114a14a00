//! Streams of containers: whatever their bytes are, they are answered or refused, and never with a
//! failure of the daemon's own.
//!
//! An input that begins with an even byte is a stream as it stands. Else it is edits of one of some
//! sound ones: three bytes each, two for the place and one to put there, so that what lies behind
//! the framing is reached at once.

#![no_main]

use arrow_array::types::{Int32Type, Int64Type};
use arrow_array::{
    ArrayRef, BooleanArray, DictionaryArray, FixedSizeBinaryArray, Int64Array, ListArray,
    RecordBatch, StringArray, StringViewArray,
};
use arrow_ipc::CompressionType;
use arrow_ipc::writer::{DictionaryHandling, IpcWriteOptions, StreamWriter};
use bytes::Bytes;
use keymill::api::ApiError;
use keymill::stream::{Purpose, RowStream, Step};
use keymill_fuzz::Inside;
use libfuzzer_sys::fuzz_target;
use std::sync::{Arc, LazyLock};

struct Daemon {
    inside: Inside,
    query: String,
    /// Sound ones: plain, with dictionaries that grow, and compressed.
    streams: Vec<Vec<u8>>,
}

static DAEMON: LazyLock<Daemon> = LazyLock::new(|| start().expect("a daemon in a new folder"));

/// Two batches with columns of many types, two of them the context's.
fn stream(options: IpcWriteOptions) -> Result<Vec<u8>, Box<dyn std::error::Error>> {
    let numbers = [1, 2, 3, 4_i64];
    let keyed: DictionaryArray<Int32Type> = ["x", "y", "x", "y"].into_iter().collect();
    let lists = numbers.map(|number| Some(vec![Some(number), None]));
    let columns: [(&str, ArrayRef); 7] = [
        ("a", Arc::new(StringArray::from(vec!["1", "2", "3", "4"]))),
        ("b", Arc::new(keyed)),
        (
            "n",
            Arc::new(Int64Array::from(vec![Some(1), None, Some(3), Some(4)])),
        ),
        (
            "f",
            Arc::new(BooleanArray::from(vec![true, false, true, true])),
        ),
        (
            "l",
            Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>(lists)),
        ),
        (
            "x",
            Arc::new(FixedSizeBinaryArray::try_from_iter(
                numbers.map(|n| n.to_le_bytes()).into_iter(),
            )?),
        ),
        (
            "v",
            Arc::new(StringViewArray::from(vec![
                "short",
                "a view that is long",
                "",
                "z",
            ])),
        ),
    ];
    let columns = columns.map(|(name, array)| (name, array, true));
    let rows = RecordBatch::try_from_iter_with_nullable(columns)?;
    let mut writer = StreamWriter::try_new_with_options(Vec::new(), &rows.schema(), options)?;
    writer.write(&rows)?;
    let more: DictionaryArray<Int32Type> = ["x", "y", "z", "y"].into_iter().collect();
    let mut columns = rows.columns().to_vec();
    columns[1] = Arc::new(more);
    writer.write(&RecordBatch::try_new(rows.schema(), columns)?)?;
    writer.write(&rows.slice(1, 2))?;
    writer.finish()?;
    Ok(writer.into_inner()?)
}

/// An inside of a daemon with one key.
fn start() -> Result<Daemon, Box<dyn std::error::Error>> {
    let inside = Inside::new()?;
    let plain = IpcWriteOptions::default;
    let id = inside.key("{}")?;
    Ok(Daemon {
        inside,
        query: format!("key={id}&spec=AES_256&context=a,b&constant=c=1"),
        streams: vec![
            stream(plain())?,
            stream(plain().with_dictionary_handling(DictionaryHandling::Delta))?,
            stream(plain().try_with_compression(Some(CompressionType::LZ4_FRAME))?)?,
            stream(plain().try_with_compression(Some(CompressionType::ZSTD))?)?,
        ],
    })
}

fn run(bind: &mut RowStream, body: &[u8]) -> Result<(), ApiError> {
    // Pieces of a length that no message has.
    for piece in body.chunks(61) {
        let mut piece = Bytes::copy_from_slice(piece);
        while !piece.is_empty() {
            bind.feed(&mut piece)?;
            while bind.is_sated() {
                bind.step()?;
            }
        }
    }
    bind.close()?;
    while !matches!(bind.step()?, Step::End(..)) {}
    Ok(())
}

fuzz_target!(|bytes: &[u8]| {
    let Some((which, rest)) = bytes.split_first() else {
        return;
    };
    let mut body = rest.to_vec();
    if which % 2 == 1 {
        let streams = &DAEMON.streams;
        body.clone_from(&streams[usize::from(which / 2) % streams.len()]);
        for edit in rest.chunks_exact(3) {
            let place = usize::from(u16::from_le_bytes([edit[0], edit[1]])) % body.len();
            body[place] = edit[2];
        }
    }
    let inside = &DAEMON.inside;
    let begun = inside
        .api
        .containers(&inside.requester, Purpose::Bind, &DAEMON.query);
    let mut bind = begun.expect("the query is sound");
    if let Err(error) = run(&mut bind, &body) {
        assert!(error.code().status().is_client_error(), "{error:?}");
    }
});
