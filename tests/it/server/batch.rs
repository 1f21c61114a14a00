//! Batches: every form, whole, ended early, and refused.

use crate::server::daemon::{ALIAS, Daemon, PROVISIONER, Setup};
use crate::server::wire::{Answer, Request, Wire};
use arrow_array::Array;
use arrow_array::cast::AsArray;
use arrow_array::types::Int32Type;
use arrow_ipc::reader::StreamReader;
use base64_simd::STANDARD;
use keymill::envelope::CiphertextBlob;
use keymill::transport::Limits;
use serde_json::{Value, json};
use std::collections::HashSet;
use tokio::io::{AsyncRead, AsyncWrite};

const HOST: &str = "localhost";
const BLOB_BYTES: usize = 96;
pub(crate) const ARROW: &str = "application/vnd.apache.arrow.stream";
/// The end of an Arrow stream.
const END: [u8; 8] = [0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0];
/// More than hyper, the kernel and a chunk under way hold together.
const MANY: u64 = 400_000;

pub(crate) fn batch(count: u64) -> Request {
    let body = json!({"KeyId": ALIAS, "KeySpec": "AES_256", "Count": count});
    Request::post("/v1/data-keys", HOST, &body)
}

pub(crate) fn lines(count: u64) -> Request {
    batch(count).with("accept", "application/x-ndjson")
}

/// All blobs, each one that parses and no two alike.
fn blobs(body: &[u8]) -> HashSet<&[u8]> {
    let blobs = body.chunks(BLOB_BYTES).inspect(|blob| {
        CiphertextBlob::parse(blob).unwrap();
    });
    let blobs = blobs.collect::<HashSet<_>>();
    assert_eq!(blobs.len() * BLOB_BYTES, body.len(), "blobs repeat");
    blobs
}

/// The JSON objects of the lines.
fn objects(answer: &Answer) -> Vec<Value> {
    assert!(answer.text().ends_with('\n'));
    let lines = answer.text().lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

async fn decrypts(daemon: &Daemon, blob: &[u8]) -> bool {
    let body = json!({"CiphertextBlob": STANDARD.encode_to_string(blob)});
    let opened = daemon.call("Decrypt", body).await;
    opened["KeyId"] == daemon.key_arn.as_str()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn octets_are_blobs_of_one_length() {
    let daemon = Daemon::start().await;
    let mut unix = daemon.over_unix().await;
    // Around a chunk, and around what is made on the spot.
    for count in [1, 682, 683, 8191, 8192, 8193, 20_000] {
        let answer = unix.ask(&batch(count)).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let media_type = answer.header("content-type");
        assert_eq!(media_type, Some("application/octet-stream"));
        let length = (count * BLOB_BYTES as u64).to_string();
        assert_eq!(answer.header("content-length"), Some(length.as_str()));
        assert_eq!(answer.header("keymill-blob-bytes"), Some("96"));
        let arn = answer.header("keymill-key-arn");
        assert_eq!(arn, Some(daemon.key_arn.as_str()));
        assert_eq!(answer.header("keymill-key-material-id").unwrap().len(), 64);
        assert_eq!(blobs(&answer.body).len() as u64, count);
        assert!(decrypts(&daemon, &answer.body[..BLOB_BYTES]).await);
    }
    let count = r#"keymill_requests_total{operation="DataKeys",code="OK"}"#;
    assert_eq!(daemon.metric(count), Some(7.0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lines_are_objects_and_an_end() {
    let daemon = Daemon::start().await;
    let mut tcp = daemon.over_tcp().await;
    for count in [1, 8192, 9000] {
        let answer = tcp.ask(&lines(count).signed(&PROVISIONER)).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let media_type = answer.header("content-type");
        assert_eq!(media_type, Some("application/x-ndjson"));
        let mut objects = objects(&answer);
        let end = objects.pop().unwrap();
        assert_eq!(end, json!({"End": {"Count": count}}));
        let material = answer.header("keymill-key-material-id").unwrap();
        let mut all = Vec::new();
        for object in &objects {
            assert_eq!(object["KeyId"], daemon.key_arn);
            assert_eq!(object["KeyMaterialId"], material);
            let blob = object["CiphertextBlob"].as_str().unwrap();
            all.extend(STANDARD.decode_to_vec(blob).unwrap());
        }
        assert_eq!(blobs(&all).len() as u64, count);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_arrow_stream_has_record_batches_and_an_end() {
    let daemon = Daemon::start().await;
    let mut tcp = daemon.over_tcp().await;
    for count in [1, 8192, 9000] {
        let ask = batch(count).with("accept", ARROW).signed(&PROVISIONER);
        let answer = tcp.ask(&ask).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.header("content-type"), Some(ARROW));
        assert!(answer.body.ends_with(&END), "the stream has its end");
        let mut all = Vec::new();
        for batch in StreamReader::try_new(&answer.body[..], None).unwrap() {
            let batch = batch.unwrap();
            let column = |name| batch.column_by_name(name).unwrap();
            for blob in column("ciphertext_blob").as_binary::<i32>() {
                all.extend_from_slice(blob.unwrap());
            }
            for (name, header) in [
                ("key_arn", "keymill-key-arn"),
                ("key_material_id", "keymill-key-material-id"),
            ] {
                let names = column(name).as_dictionary::<Int32Type>();
                let values = names.values().as_string::<i32>();
                assert_eq!(values.iter().next(), Some(answer.header(header)));
                assert_eq!(values.len(), 1);
            }
        }
        assert_eq!(blobs(&all).len() as u64, count);
        assert!(decrypts(&daemon, &all[..BLOB_BYTES]).await);
    }
}

#[tokio::test]
async fn other_forms_are_not_acceptable() {
    let daemon = Daemon::start().await;
    let mut unix = daemon.over_unix().await;
    for accept in ["application/json", "application/vnd.apache.arrow.file"] {
        let answer = unix.ask(&batch(1).with("accept", accept)).await;
        let message = answer.refusal(406, "UnsupportedOperationException");
        assert!(
            message.contains("application/octet-stream, application/x-ndjson"),
            "{message}"
        );
    }
}

#[tokio::test]
async fn refusals_come_before_the_first_blob() {
    let daemon = Daemon::start().await;
    let mut unix = daemon.over_unix().await;
    for (body, code) in [
        (
            json!({"KeyId": ALIAS, "KeySpec": "AES_256"}),
            "ValidationException",
        ),
        (
            json!({"KeyId": ALIAS, "KeySpec": "AES_256", "Count": 0}),
            "ValidationException",
        ),
        (
            json!({"KeyId": ALIAS, "KeySpec": "AES_256", "Count": 4_294_967_296_u64}),
            "ValidationException",
        ),
        (
            json!({"KeyId": "alias/none", "KeySpec": "AES_256", "Count": 1}),
            "NotFoundException",
        ),
        (json!([]), "SerializationException"),
    ] {
        for request in [
            Request::post("/v1/data-keys", HOST, &body),
            Request::post("/v1/data-keys", HOST, &body).with("accept", "application/x-ndjson"),
        ] {
            unix.ask(&request).await.refusal(400, code);
        }
    }
    let answer = daemon.over_tcp().await.ask(&batch(1)).await;
    answer.refusal(400, "MissingAuthenticationTokenException");
    let mut other = batch(1).signed(&PROVISIONER);
    other.path = "/".to_owned();
    let answer = daemon.over_tcp().await.ask(&other).await;
    answer.refusal(400, "InvalidSignatureException");
}

/// Keys that the daemon has made for batches.
pub(crate) fn made(daemon: &Daemon) -> f64 {
    let metric = r#"keymill_data_keys_total{operation="DataKeys",spec="AES_256",result="direct"}"#;
    daemon.metric(metric).unwrap()
}

/// Begins a large batch, takes nothing of it but its head, disables the key, and reads on.
async fn disabled_midway<S: AsyncRead + AsyncWrite + Unpin>(
    daemon: &Daemon,
    mut wire: Wire<S>,
    request: &Request,
) -> Answer {
    wire.send(request.bytes()).await;
    let key = json!({"KeyId": daemon.key_id});
    let head = wire.peek_head().await;
    assert_eq!(head, 200);
    daemon.call("DisableKey", key).await;
    wire.answer().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn octets_that_end_early_are_cut_before_their_length() {
    let daemon = Daemon::start().await;
    let wire = daemon.over_unix().await;
    let answer = disabled_midway(&daemon, wire, &batch(MANY)).await;
    assert!(answer.cut, "{} bytes", answer.body.len());
    assert!((answer.body.len() as u64) < MANY * BLOB_BYTES as u64);
    // The finished part was sent before the connection was cut.
    assert_eq!(blobs(&answer.body).len() as f64, made(&daemon));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lines_that_end_early_end_with_the_error() {
    let daemon = Daemon::start().await;
    let wire = daemon.over_tcp().await;
    let request = lines(MANY).signed(&PROVISIONER);
    let answer = disabled_midway(&daemon, wire, &request).await;
    assert!(!answer.cut, "the framing is whole");
    let objects = objects(&answer);
    let (last, blobs) = objects.split_last().unwrap();
    assert_eq!(last["__type"], "DisabledException", "{last}");
    assert!((blobs.len() as u64) < MANY);
    assert_eq!(blobs.len() as f64, made(&daemon));
    assert!(blobs.iter().all(|blob| blob["CiphertextBlob"].is_string()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_takes_nothing_is_cut_off_and_others_are_served() {
    let daemon = Daemon::start_with(Setup::with_limits(Limits {
        write_timeout_ms: 100,
        ..Limits::default()
    }))
    .await;
    let mut slow = Vec::new();
    for _ in 0..8 {
        let mut wire = daemon.over_unix().await;
        wire.send(batch(MANY).bytes()).await;
        slow.push(wire);
    }
    let mut other = daemon.over_unix().await;
    for _ in 0..100 {
        let answer = other.ask(&batch(10)).await;
        assert_eq!(answer.body.len(), 10 * BLOB_BYTES);
    }
    // They are cut without having read a byte: only then does this one, which reads no more than it
    // finds, come to an end.
    while daemon.metric(r#"keymill_connections{transport="unix"}"#) != Some(1.0) {
        tokio::task::yield_now().await;
    }
    for mut wire in slow {
        let answer = wire.answer().await;
        assert!(answer.cut && (answer.body.len() as u64) < MANY * BLOB_BYTES as u64);
    }
}
