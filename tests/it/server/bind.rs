//! Streams of containers: answered as they come, ended early where all can see it, and refused.

use crate::server::daemon::{ADMIN, ALIAS, Daemon, PROVISIONER, Setup};
use crate::server::wire::{Answer, Request, Wire};
use arrow_array::cast::AsArray;
use arrow_array::{ArrayRef, RecordBatch, StringArray};
use arrow_ipc::reader::StreamReader;
use arrow_ipc::writer::StreamWriter;
use base64_simd::STANDARD;
use keymill::transport::Limits;
use serde_json::json;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};

const HOST: &str = "localhost";
const CHUNK: usize = 8192;
const ARROW: &str = "application/vnd.apache.arrow.stream";
const MALFORMED: &str = "After 0 rows: The body is not an Arrow IPC stream: ";

/// Rows of a tenant each, with an id each; `-` stands for null.
fn rows<'a>(tenants: impl IntoIterator<Item = &'a str>) -> RecordBatch {
    let tenants = tenants
        .into_iter()
        .map(|name| (name != "-").then_some(name));
    let tenants = StringArray::from_iter(tenants);
    let ids = (0..arrow_array::Array::len(&tenants)).map(|row| format!("c{row}"));
    let ids = StringArray::from_iter_values(ids);
    let columns = [
        ("id", Arc::new(ids) as ArrayRef, false),
        ("tenant", Arc::new(tenants), true),
    ];
    RecordBatch::try_from_iter_with_nullable(columns).unwrap()
}

pub(crate) fn of_tenant(tenant: &str, count: usize) -> RecordBatch {
    rows(std::iter::repeat_n(tenant, count))
}

/// A writer's bytes, batch by batch; the schema before the first, the end after the last.
pub(crate) fn pieces(batches: &[RecordBatch]) -> Vec<Vec<u8>> {
    let mut writer = StreamWriter::try_new(Vec::new(), &batches[0].schema()).unwrap();
    let mut pieces = Vec::new();
    for batch in batches {
        writer.write(batch).unwrap();
        pieces.push(std::mem::take(writer.get_mut()));
    }
    writer.finish().unwrap();
    pieces.push(writer.into_inner().unwrap());
    pieces
}

pub(crate) fn bind(query: &str, body: Vec<u8>) -> Request {
    let path = format!("/v1/data-keys/bind?key={ALIAS}&{query}");
    Request {
        body,
        ..Request::post(&path, HOST, &json!(null)).with("content-type", ARROW)
    }
}

pub(crate) const ASK: &str = "spec=AES_256&context=tenant,id";

pub(crate) fn stream(batches: &[RecordBatch]) -> Request {
    bind(ASK, pieces(batches).concat())
}

fn read(body: &[u8]) -> Vec<RecordBatch> {
    let batches = StreamReader::try_new(body, None).unwrap();
    batches.map(|batch| batch.unwrap()).collect()
}

/// The rows of a body that was cut: all whole batches before that. A stream without its end is one
/// that a reader of files takes, and a reader of HTTP does not.
pub(crate) fn rows_of_cut(answer: &Answer) -> usize {
    assert!(answer.cut, "{} bytes", answer.body.len());
    assert!(!answer.body.ends_with(&[0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]));
    let batches = StreamReader::try_new(&answer.body[..], None).unwrap();
    batches
        .map_while(Result::ok)
        .map(|batch| batch.num_rows())
        .sum()
}

async fn opens(daemon: &Daemon, batch: &RecordBatch, row: usize, tenant: &str) {
    let blob = batch.column_by_name("ciphertext_blob").unwrap();
    let blob = STANDARD.encode_to_string(blob.as_binary::<i32>().value(row));
    let context = json!({"tenant": tenant, "id": format!("c{row}")});
    let body = json!({"CiphertextBlob": blob, "EncryptionContext": context});
    let opened = daemon.call("Decrypt", body).await;
    assert_eq!(opened["KeyId"], daemon.key_arn.as_str());
}

/// A request whose body is sent in pieces.
pub(crate) struct Writer<S>(pub(crate) Wire<S>);

impl<S: AsyncRead + AsyncWrite + Unpin> Writer<S> {
    pub(crate) async fn begin(mut wire: Wire<S>) -> Self {
        let head = bind(ASK, Vec::new()).head();
        wire.send(format!("{head}transfer-encoding: chunked\r\n\r\n"))
            .await;
        Self(wire)
    }

    pub(crate) async fn send(&mut self, piece: &[u8]) {
        let size = format!("{:x}\r\n", piece.len());
        self.0
            .send([size.as_bytes(), piece, b"\r\n"].concat())
            .await;
    }

    pub(crate) async fn answer(mut self) -> Answer {
        self.0.answer().await
    }
}

/// Denies the rows of tenant 8.
async fn deny_8(daemon: &Daemon) {
    let root = "arn:aws:iam::111122223333:root";
    let policy = json!({"Statement": [
        {"Effect": "Allow", "Principal": {"AWS": root}, "Action": "kms:*", "Resource": "*"},
        {"Effect": "Deny", "Principal": {"AWS": "*"}, "Action": "kms:GenerateDataKeyWithoutPlaintext", "Resource": "*",
         "Condition": {"StringEquals": {"kms:EncryptionContext:tenant": "8"}}},
    ]});
    let body = json!({"KeyId": daemon.key_id, "Policy": policy.to_string()});
    daemon.call("PutKeyPolicy", body).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_is_answered_as_it_comes() {
    let daemon = Daemon::start().await;
    let sent = [
        of_tenant("7", 100),
        of_tenant("8", 3),
        of_tenant("7", CHUNK + 1),
    ];
    let pieces = pieces(&sent);
    let mut writer = Writer::begin(daemon.over_unix().await).await;
    writer.send(&pieces[0]).await;
    assert_eq!(
        writer.0.peek_head().await,
        200,
        "before the second batch was sent"
    );
    for piece in &pieces[1..] {
        writer.send(piece).await;
    }
    writer.send(b"").await;
    let answer = writer.0.answer().await;
    assert!(!answer.cut);
    assert_eq!(answer.header("content-type"), Some(ARROW));
    let batches = read(&answer.body);
    let lengths: Vec<_> = batches.iter().map(RecordBatch::num_rows).collect();
    assert_eq!(lengths, [100, 3, CHUNK, 1]);
    assert_eq!(batches[0].columns()[..2], sent[0].columns()[..]);
    opens(&daemon, &batches[0], 99, "7").await;
    opens(&daemon, &batches[1], 2, "8").await;
    // The connection goes on.
    let again = writer.0.ask(&stream(&sent[..1])).await;
    assert_eq!(read(&again.body)[0].num_rows(), 100);
    let count = r#"keymill_requests_total{operation="Bind",code="OK"}"#;
    assert_eq!(daemon.metric(count), Some(2.0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_signed_comes_whole() {
    let daemon = Daemon::start().await;
    let mut tcp = daemon.over_tcp().await;
    let answer = tcp
        .ask(&stream(&[of_tenant("7", 10)]).signed(&PROVISIONER))
        .await;
    assert_eq!(answer.status, 200, "{:?}", answer.body);
    opens(&daemon, &read(&answer.body)[0], 9, "7").await;
    let mut other = stream(&[of_tenant("7", 10)]).signed(&PROVISIONER);
    let last = other.body.len() - 100;
    other.body[last] ^= 1;
    tcp.ask(&other)
        .await
        .refusal(400, "InvalidSignatureException");
    let mut unsigned_payload = stream(&[of_tenant("7", 10)]);
    unsigned_payload = unsigned_payload.with("x-amz-content-sha256", "UNSIGNED-PAYLOAD");
    let answer = daemon
        .over_tcp()
        .await
        .ask(&unsigned_payload.signed(&PROVISIONER))
        .await;
    assert_eq!(answer.status, 400, "{:?}", answer.body);
    let large = bind(ASK, vec![0; (1 << 20) + 1]).signed(&PROVISIONER);
    let answer = daemon.over_tcp().await.ask(&large).await;
    answer.refusal(413, "RequestEntityTooLarge");
    let answer = daemon
        .over_tcp()
        .await
        .ask(&stream(&[of_tenant("7", 1)]))
        .await;
    answer.refusal(400, "MissingAuthenticationTokenException");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_before_the_first_chunk_have_a_status_and_name_the_row() {
    let daemon = Daemon::start().await;
    deny_8(&daemon).await;
    let mixed = ["7", "7", "7", "7", "7", "8", "7", "8"];
    let answer = daemon.over_unix().await.ask(&stream(&[rows(mixed)])).await;
    let message = answer.refusal(400, "AccessDeniedException");
    assert_eq!(
        message,
        format!(
            "Row 5: User: {} is not authorized to perform: kms:GenerateDataKeyWithoutPlaintext on resource: {} with an explicit deny in a resource-based policy",
            PROVISIONER.arn(),
            daemon.key_arn
        )
    );
    let null = stream(&[rows(["7", "-"])]);
    let answer = daemon.over_unix().await.ask(&null).await;
    let message = answer.refusal(400, "ValidationException");
    assert_eq!(message, "Row 1: Context column \"tenant\" is null.");
    let good = pieces(&[of_tenant("7", 2)]).concat();
    let key = |key: &str| {
        let path = format!("/v1/data-keys/bind?key={key}&{ASK}");
        Request {
            path,
            ..stream(&[of_tenant("7", 1)])
        }
    };
    for (request, status, code, said) in [
        (
            bind("spec=AES_256&context=nothing", good.clone()),
            400,
            "ValidationException",
            "After 0 rows: There is no column \"nothing\".",
        ),
        (
            bind("context=tenant", good.clone()),
            400,
            "ValidationException",
            "Please specify either number of bytes or key spec.",
        ),
        (
            bind("spec=AES_256&count=3", good.clone()),
            400,
            "ValidationException",
            "There is no parameter \"count\".",
        ),
        (
            key("alias/none"),
            400,
            "NotFoundException",
            "Row 0: Alias arn:aws:kms:",
        ),
        (
            bind(ASK, b"{}".to_vec()),
            400,
            "SerializationException",
            MALFORMED,
        ),
        (
            bind(ASK, vec![7; 1000]),
            400,
            "SerializationException",
            MALFORMED,
        ),
        (
            bind(ASK, good[..good.len() - 9].to_vec()),
            400,
            "SerializationException",
            MALFORMED,
        ),
        (
            bind(ASK, Vec::new()),
            400,
            "SerializationException",
            MALFORMED,
        ),
        (
            stream(&[of_tenant(&"x".repeat(17 << 20), 1)]),
            413,
            "RequestEntityTooLarge",
            "After 0 rows: A message's body has at most 16777216 bytes.",
        ),
    ] {
        let mut wire = daemon.over_unix().await;
        // Refused before it is read to its end.
        let bytes = request.bytes();
        wire.send(&bytes[..bytes.len().min(1 << 20)]).await;
        let answer = wire.answer().await;
        let message = answer.refusal(status, code);
        assert!(message.starts_with(said), "{message}");
    }
    let denied = r#"keymill_requests_total{operation="Bind",code="AccessDeniedException"}"#;
    assert_eq!(daemon.metric(denied), Some(1.0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_ends_early_is_cut_before_its_end() {
    let daemon = Daemon::start().await;
    deny_8(&daemon).await;
    let good = of_tenant("7", 50);
    let late = pieces(&[good.clone(), rows(["7", "8"])]);
    let whole = pieces(&[good.clone(), good.clone()]);
    let disable = json!({"KeyId": daemon.key_id});
    for case in [
        "a denied row",
        "a disabled key",
        "a body that is cut",
        "garbage",
        "no end",
    ] {
        let mut writer = Writer::begin(daemon.over_unix().await).await;
        writer.send(&whole[0]).await;
        assert_eq!(writer.0.peek_head().await, 200);
        match case {
            "a denied row" => writer.send(&late[1]).await,
            "a disabled key" => {
                daemon.call("DisableKey", disable.clone()).await;
                writer.send(&whole[1]).await;
            }
            "a body that is cut" => writer.0.send("10\r\nfour\r\n").await,
            "garbage" => writer.send(&[7; 64]).await,
            _ => {
                writer.send(&whole[1]).await;
                writer.send(b"").await;
            }
        }
        if case == "a body that is cut" {
            writer.0.finish().await;
        }
        // The finished part is sent before the connection is cut.
        let rows = rows_of_cut(&writer.answer().await);
        assert!(
            rows == 50 || rows == 100 && case == "no end",
            "{rows}: {case}"
        );
        daemon.call("EnableKey", disable.clone()).await;
    }
    let answer = daemon.over_unix().await.ask(&stream(&[good])).await;
    assert_eq!(answer.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_stands_still_is_given_up() {
    let daemon = Daemon::start_with(Setup::with_limits(Limits {
        body_timeout_ms: 100,
        ..Limits::default()
    }))
    .await;
    let pieces = pieces(&[of_tenant("7", 10), of_tenant("7", 10)]);
    let mut writer = Writer::begin(daemon.over_unix().await).await;
    writer.send(&pieces[0][..100]).await;
    let message = writer
        .answer()
        .await
        .refusal(408, "RequestTimeoutException");
    assert_eq!(
        message,
        "After 0 rows: Nothing of the body came for 100 ms."
    );
    let mut writer = Writer::begin(daemon.over_unix().await).await;
    writer.send(&pieces[0]).await;
    assert_eq!(rows_of_cut(&writer.answer().await), 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_may_not_is_told_as_a_single_call_would_tell_him() {
    let daemon = Daemon::start_with(Setup {
        peer: None,
        ..Setup::default()
    })
    .await;
    let request = stream(&[of_tenant("7", 1)]);
    let answer = daemon.over_unix().await.ask(&request).await;
    answer.refusal(400, "MissingAuthenticationTokenException");
    let answer = daemon.over_unix().await.ask(&request.signed(&ADMIN)).await;
    assert_eq!(answer.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_waits_in_vain_is_cut() {
    let daemon = Daemon::start_with(Setup {
        limits: Limits {
            write_timeout_ms: 100,
            ..Limits::default()
        },
        rates: keymill::rates::Config {
            principal_keys_per_second: 10,
            ..keymill::rates::Config::default()
        },
        ..Setup::default()
    })
    .await;
    // Half of the burst is there, and the clock does not move.
    let answer = daemon
        .over_unix()
        .await
        .ask(&stream(&[of_tenant("7", 100)]))
        .await;
    assert!((1..=5).contains(&rows_of_cut(&answer)));
    let throttled = daemon.metric(r#"keymill_throttled_total{scope="principal"}"#);
    assert_eq!(throttled, Some(1.0));
}
