//! Against a daemon that answers what each case says, byte for byte.

use super::*;
use crate::bulk::local::{Keys, Local};
use crate::bulk::{Authorities, Client, Daemons};
use crate::clock::{Clock, Timestamp};
use crate::context::EncryptionContext;
use crate::crypto::block_cipher::BlockCipher;
use crate::crypto::entropy::Entropy;
use crate::endpoint::Endpoint;
use crate::key::KmsKey;
use crate::key::material::BackingKey;
use crate::keystore::KeyEntry;
use crate::pool::CloneWord;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::thread::JoinHandle;

const ROWS: u64 = 100;
const NOW: Timestamp = Timestamp(1_700_000_000_000_000);

/// A daemon that answers one request after the other on one connection, and gives back what it was
/// asked.
struct Daemon {
    _folder: tempfile::TempDir,
    endpoint: Endpoint,
    thread: JoinHandle<Vec<String>>,
}

impl Daemon {
    fn answering(answers: Vec<Vec<u8>>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        let thread = std::thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let mut asked = Vec::new();
            for answer in answers {
                let mut head = String::new();
                while !head.ends_with("\r\n\r\n") {
                    assert_ne!(reader.read_line(&mut head).unwrap(), 0, "{head}");
                }
                let lower = head.to_ascii_lowercase();
                let (_, length) = lower.split_once("content-length: ").unwrap();
                let length = length.split("\r\n").next().unwrap().parse().unwrap();
                let mut body = vec![0; length];
                reader.read_exact(&mut body).unwrap();
                asked.push(head + std::str::from_utf8(&body).unwrap());
                // The client may have hung up already: that is what some cases are about.
                (&stream).write_all(&answer).ok();
            }
            asked
        });
        Self {
            endpoint: Endpoint::Unix(path),
            _folder: folder,
            thread,
        }
    }
}

struct Key {
    arn: String,
    local: Local<Mint>,
}

fn key(generation: u32, id: KeyId) -> Key {
    let entropy = Entropy::os();
    let material = BackingKey::draw(BlockCipher::Aes256, id, generation, NOW, &entropy).unwrap();
    let arn = format!("arn:aws:kms:us-east-1:111122223333:key/{id}");
    let entry = KeyEntry {
        key: KmsKey::new(id, "111122223333".parse().unwrap(), NOW),
        arn: arn.clone(),
        materials: vec![Arc::new(material)],
        secret: None,
        fence: 1,
    };
    let local = Local {
        work: Mint {
            key: arn.clone(),
            length: DataKeyLength::AES_256,
            context: EncryptionContext::default(),
        },
        keys: Keys {
            entry: Arc::new(entry),
            entropy: Arc::new(Entropy::os()),
            clone_word: Arc::new(CloneWord::new()),
        },
        recorder: None,
    };
    Key { arn, local }
}

fn id(byte: u8) -> KeyId {
    KeyId::from_random([byte; 16])
}

fn blobs(key: &Key, count: u64) -> Vec<u8> {
    let mut out = Vec::new();
    let mut worker = key.local.worker().unwrap();
    worker
        .work(usize::try_from(count).unwrap(), &mut out)
        .unwrap();
    out
}

fn head(key: &Key, blob_bytes: usize, length: usize) -> String {
    format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nKeymill-Key-Arn: {}\r\n\
         Keymill-Key-Material-Id: 00ff\r\nKeymill-Blob-Bytes: {blob_bytes}\r\n\r\n",
        key.arn
    )
}

fn answer(key: &Key, body: &[u8]) -> Vec<u8> {
    [head(key, 96, body.len()).as_bytes(), body].concat()
}

fn client(endpoint: &Endpoint) -> Client {
    Client {
        endpoint: endpoint.clone(),
        address: None,
        credentials: None,
        authorities: None,
        clock: Clock::manual(NOW),
        stop: Arc::default(),
    }
}

fn remote(endpoint: &Endpoint) -> Remote<Mint> {
    of_client(client(endpoint))
}

fn of_client(client: Client) -> Remote<Mint> {
    Remote {
        daemons: Daemons::new(client, Vec::new()),
        work: Mint {
            key: "alias/containers".to_owned(),
            length: DataKeyLength::AES_256,
            context: EncryptionContext::from_pairs([("tenant", "t")]).unwrap(),
        },
    }
}

fn part(worker: &mut RemoteMinter, out: &mut Vec<u8>) -> Result<KeyIdentity, SourceError> {
    let told = |error| match error {
        RowsError::Source(error) => error,
        RowsError::Row { .. } => panic!("a batch has no rows to refuse: {error:?}"),
    };
    worker.begin(ROWS)?;
    let key = worker.work(64, out).map_err(told)?;
    worker.work(36, out).map_err(told)?;
    worker.end()?;
    Ok(key)
}

/// What comes of a daemon that answers so.
fn outcome(answer: Vec<u8>) -> Result<KeyIdentity, SourceError> {
    let daemon = Daemon::answering(vec![answer]);
    let mut worker = remote(&daemon.endpoint).worker().unwrap();
    let outcome = part(&mut worker, &mut Vec::new());
    drop(worker);
    daemon.thread.join().unwrap();
    outcome
}

#[test]
fn parts_come_one_after_the_other_over_one_connection() {
    let key = key(1, id(7));
    let bodies = [blobs(&key, ROWS), blobs(&key, ROWS)];
    let daemon = Daemon::answering(bodies.iter().map(|body| answer(&key, body)).collect());
    let mut worker = remote(&daemon.endpoint).worker().unwrap();
    for body in &bodies {
        let mut out = Vec::new();
        let identity = part(&mut worker, &mut out).unwrap();
        assert_eq!(
            (identity.arn, identity.material_id.as_str()),
            (key.arn.clone(), "00ff")
        );
        assert_eq!(&out, body);
    }
    drop(worker);
    for asked in daemon.thread.join().unwrap() {
        assert!(
            asked.starts_with("POST /v1/data-keys HTTP/1.1\r\n"),
            "{asked}"
        );
        assert!(
            asked.contains("accept: application/octet-stream\r\n"),
            "{asked}"
        );
        assert!(!asked.contains("authorization"), "{asked}");
        let body = r#"{"KeyId":"alias/containers","KeySpec":"AES_256","EncryptionContext":{"tenant":"t"},"Count":100}"#;
        assert!(asked.ends_with(body), "{asked}");
    }
}

#[test]
fn a_stream_that_ends_early_is_an_error() {
    let key = key(1, id(7));
    let mut cut = answer(&key, &blobs(&key, ROWS));
    cut.truncate(cut.len() - 1);
    let error = outcome(cut).unwrap_err();
    assert!(matches!(error, SourceError::Connection { .. }), "{error}");
}

#[test]
fn an_answer_must_promise_what_was_asked_for() {
    let key = key(1, id(7));
    let body = blobs(&key, ROWS);
    let with = |head: String| {
        outcome([head.as_bytes(), &body].concat())
            .unwrap_err()
            .to_string()
    };
    let good = head(&key, 96, body.len());
    for (from, to, says) in [
        (
            "Content-Length: 9600",
            "Content-Length: 9504",
            "content-length 9504, not 9600",
        ),
        (
            "Blob-Bytes: 96",
            "Blob-Bytes: 80",
            "keymill-blob-bytes 80, not 96",
        ),
        (
            "Keymill-Blob-Bytes",
            "X-Other",
            "without keymill-blob-bytes",
        ),
        ("Keymill-Key-Arn", "X-Other", "without keymill-key-arn"),
        (
            "Keymill-Key-Material-Id",
            "X-Other",
            "without keymill-key-material-id",
        ),
        (":key/", ":alias/", "keymill-key-arn arn:"),
    ] {
        let refusal = with(good.replace(from, to));
        assert!(refusal.contains(says), "{refusal}");
    }
}

#[test]
fn blobs_must_be_the_keys_own_and_of_one_generation() {
    let (ours, rotated, other) = (key(1, id(7)), key(2, id(7)), key(1, id(8)));
    let after_half = |second: &Key| [blobs(&ours, 50), blobs(second, 50)].concat();
    let error = outcome(answer(&ours, &after_half(&rotated))).unwrap_err();
    assert!(matches!(error, SourceError::MaterialChanged), "{error}");
    let error = outcome(answer(&ours, &after_half(&other))).unwrap_err();
    assert!(
        error.to_string().contains("a blob of another key"),
        "{error}"
    );
    let error = outcome(answer(&ours, &[0; 9600])).unwrap_err();
    assert!(
        error.to_string().contains("not a ciphertext blob"),
        "{error}"
    );
}

#[test]
fn a_refusal_is_told_with_its_code() {
    let refused = |body: &str| {
        let length = body.len();
        let head = format!("HTTP/1.1 400 Bad Request\r\nContent-Length: {length}\r\n\r\n{body}");
        outcome(head.into_bytes()).unwrap_err().to_string()
    };
    assert_eq!(
        refused(r#"{"__type":"DisabledException","message":"key is disabled."}"#),
        "the daemon refused: DisabledException: key is disabled."
    );
    assert_eq!(
        refused(r#"{"__type":"DisabledException"}"#),
        "the daemon refused: DisabledException"
    );
    assert!(refused("<html>").contains("with status 400 Bad Request"));
}

#[test]
fn nobody_at_the_endpoint_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let endpoint = Endpoint::Unix(folder.path().join("socket"));
    let mut worker = remote(&endpoint).worker().unwrap();
    let refusal = worker.begin(ROWS).unwrap_err().to_string();
    assert!(refusal.starts_with(&format!("{endpoint}: ")), "{refusal}");
}

/// What a worker says of a listener that answers whatever it is sent with `answer`.
fn of_listener(scheme: &str, answer: &'static [u8]) -> SourceError {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let thread = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        // The client may hang up first.
        let _read = stream.read(&mut [0; 4096]);
        let _written = stream.write_all(answer);
    });
    let mut client = client(&format!("{scheme}://{address}").parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let bundle = folder.path().join("ca.pem");
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::default().self_signed(&key);
    std::fs::write(&bundle, certificate.unwrap().pem()).unwrap();
    client.authorities = Some(Authorities::load(Some(&bundle), &client.clock).unwrap());
    let error = of_client(client).worker().unwrap().begin(ROWS).unwrap_err();
    thread.join().unwrap();
    assert!(
        error
            .to_string()
            .starts_with(&format!("{scheme}://{address}")),
        "{error}"
    );
    error
}

#[test]
fn the_wrong_scheme_is_told() {
    let error = of_listener("https", b"HTTP/1.1 400 Bad Request\r\n\r\n");
    assert!(matches!(error, SourceError::Untrusted { .. }), "{error}");
    // An alert, as a listener with TLS answers plain HTTP.
    let error = of_listener("http", &[21, 3, 3, 0, 2, 2, 50]);
    assert!(
        error.to_string().contains("bytes that are not HTTP"),
        "{error}"
    );
}

#[test]
fn an_end_within_the_handshake_can_be_tried_again() {
    let error = of_listener("https", b"");
    assert!(matches!(error, SourceError::Connection { .. }), "{error}");
}

#[test]
fn without_authorities_nothing_is_sent_over_tls() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let remote = remote(&format!("https://{address}").parse().unwrap());
    let refusal = remote.worker().unwrap().begin(ROWS).unwrap_err();
    assert!(
        refusal.to_string().contains("no authority is known"),
        "{refusal}"
    );
    assert!(listener.accept().is_err(), "it was connected to");
}
