//! Streams whose batches are compressed: taken as others are, and bounded before they are believed.

use super::ErrorCode as Code;
use super::arrow::{all_types, bench, refused};
use super::rows::{batch, read, run, stream, text};
use super::*;
use arrow_array::types::Int32Type;
use arrow_array::{ArrayRef, DictionaryArray, RecordBatch};
use arrow_ipc::CompressionType;
use arrow_ipc::writer::{IpcWriteOptions, StreamWriter};

const ASK: &str = "key=alias/a&spec=AES_256&context=tenant";
const CODECS: [CompressionType; 2] = [CompressionType::LZ4_FRAME, CompressionType::ZSTD];

fn compressed(batches: &[RecordBatch], codec: CompressionType) -> Vec<u8> {
    let options = IpcWriteOptions::default();
    let options = options.try_with_compression(Some(codec)).unwrap();
    let schema = batches[0].schema();
    let mut writer = StreamWriter::try_new_with_options(Vec::new(), &schema, options).unwrap();
    for batch in batches {
        writer.write(batch).unwrap();
    }
    writer.finish().unwrap();
    writer.into_inner().unwrap()
}

/// A row with a long text, which is the last buffer.
fn long(bytes: usize) -> RecordBatch {
    batch([("tenant", text(["7"])), ("long", text(["x".repeat(bytes)]))])
}

/// The stream with another length in the place of the last one that is `length`.
fn claiming(stream: &[u8], length: usize, claimed: i64) -> Vec<u8> {
    let mut stream = stream.to_vec();
    let length = (length as i64).to_le_bytes();
    let at = stream.windows(8).rposition(|eight| *eight == length);
    let at = at.unwrap();
    stream[at..at + 8].copy_from_slice(&claimed.to_le_bytes());
    stream
}

#[tokio::test]
async fn compressed_batches_come_back_as_others_do() {
    let bench = bench().await;
    let dictionary = |rows: usize| {
        let tenants = (0..rows).map(|row| format!("a tenant of a long name {}", row % 40));
        let tenants: Vec<_> = tenants.collect();
        let tenants: DictionaryArray<Int32Type> = tenants.iter().map(String::as_str).collect();
        batch([("tenant", Arc::new(tenants) as ArrayRef)])
    };
    for sent in [
        vec![all_types(), all_types().slice(3, 7)],
        vec![dictionary(9000), dictionary(0), dictionary(20)],
        vec![long(1 << 20)],
    ] {
        let kept = sent[0].num_columns();
        let columns = |body: &[u8]| {
            let mut bind = bench.bind(&bench.admin, ASK);
            let answer = read(&run(&mut bind, body, 70_000).unwrap());
            let columns = answer
                .into_iter()
                .map(|batch| batch.columns()[..kept].to_vec());
            columns.collect::<Vec<_>>()
        };
        let plain = columns(&stream(&sent));
        for codec in CODECS {
            assert_eq!(columns(&compressed(&sent, codec)), plain, "{codec:?}");
        }
    }
}

#[tokio::test]
async fn a_length_is_held_against_the_bound_before_it_is_believed() {
    let bench = bench().await;
    let bytes = 1_000_000;
    for codec in CODECS {
        let sound = compressed(&[long(bytes)], codec);
        assert!(sound.len() < 20_000, "{} bytes", sound.len());
        for claimed in [(16 << 20) + 1, 8 << 30, i64::MAX] {
            let body = claiming(&sound, bytes, claimed);
            let said =
                "After 0 rows: The body of a message, decompressed, has at most 16777216 bytes.";
            let refusal = refused(&bench, &body, usize::MAX);
            assert_eq!(refusal, (Code::RequestEntityTooLarge, said.to_owned()));
        }
        for claimed in [i64::MIN, -2, 0, 1, 999_999, 1_000_001, 15 << 20] {
            let body = claiming(&sound, bytes, claimed);
            let (code, message) = refused(&bench, &body, usize::MAX);
            assert_eq!(code, Code::SerializationException, "{claimed}: {message}");
        }
        // What one column has not taken another one may not either.
        let many = compressed(&[wide(20)], codec);
        let (code, message) = refused(&bench, &many, usize::MAX);
        assert_eq!(code, Code::RequestEntityTooLarge, "{message}");
    }
}

/// Columns of a million bytes each.
fn wide(columns: usize) -> RecordBatch {
    let long: ArrayRef = text(["x".repeat(1 << 20)]);
    let columns = (0..columns).map(|at| (format!("c{at}"), Arc::clone(&long)));
    let tenant = [("tenant".to_owned(), text(["7"]))];
    RecordBatch::try_from_iter(tenant.into_iter().chain(columns)).unwrap()
}

/// Compressed bytes that are changed here and there: they are refused, or other values.
#[tokio::test]
async fn changed_bytes_of_compressed_batches_make_no_panic() {
    let bench = bench().await;
    for codec in CODECS {
        let good = compressed(&[long(3000)], codec);
        let mut answered = 0;
        for at in 0..good.len() {
            let mut body = good.clone();
            body[at] ^= 1 << (at % 8);
            let mut bind = bench.bind(&bench.admin, ASK);
            match run(&mut bind, &body, usize::MAX) {
                Ok(_) => answered += 1,
                Err((code, message)) => {
                    assert_ne!(code, Code::KMSInternalException, "{at}: {message}");
                }
            }
        }
        assert!(answered > 0);
    }
}
