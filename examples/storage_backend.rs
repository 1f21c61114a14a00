//! A storage backend in one file: creates a volume's wrapped key over one Unix socket of Keymill,
//! and opens it over another.
//!
//!     storage_backend keymill-dev/keymill.sock keymill-dev/consumer.sock
//!
//! A call is made again where that helps (see `docs/storage-developer.md`).

#![expect(clippy::print_stdout, reason = "an example shows its result")]

use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::error::Error;
use std::time::Duration;
use tokio::net::UnixStream;

/// Calls of one request at most, and the pauses between them.
const ATTEMPTS: u32 = 8;
const PAUSE_FIRST: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(5);

type Failure = Box<dyn Error + Send + Sync>;

/// One call on a connection of its own; a service keeps its connections.
async fn once(socket: &str, operation: &str, members: &Value) -> Result<Value, Failure> {
    let stream = UnixStream::connect(socket).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = Request::post("/")
        .header("Host", "localhost")
        .header("Content-Type", "application/x-amz-json-1.1")
        .header("X-Amz-Target", format!("TrentService.{operation}"))
        .body(Full::new(Bytes::from(members.to_string())))?;
    let answer = sender.send_request(request).await?;
    let body = answer.into_body().collect().await?.to_bytes();
    Ok(serde_json::from_slice(&body)?)
}

async fn call(socket: &str, operation: &str, members: &Value) -> Result<Value, Failure> {
    let mut pause = PAUSE_FIRST;
    for attempt in 1.. {
        let answer = once(socket, operation, members).await;
        let is_passing = match &answer {
            Ok(answer) => matches!(
                answer["__type"].as_str(),
                Some("ThrottlingException" | "KMSInternalException")
            ),
            // Refused, reset, or restarting.
            Err(_) => true,
        };
        if is_passing && attempt < ATTEMPTS {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
            continue;
        }
        let answer = answer?;
        if answer["__type"].is_string() {
            return Err(format!("{operation}: {answer}").into());
        }
        return Ok(answer);
    }
    unreachable!("the last attempt returns")
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let sockets: Vec<String> = std::env::args().skip(1).collect();
    let [provisioner, consumer] = &sockets[..] else {
        return Err("name the provisioner's socket and the consumer's".into());
    };
    let context = json!({ "volume": "vol-3", "tenant": "blue" });
    let members = json!({
        "KeyId": "alias/containers", "KeySpec": "AES_256", "EncryptionContext": context,
    });
    let made = call(provisioner, "GenerateDataKeyWithoutPlaintext", &members).await?;
    // The row to store: the blob, the KMS key's ARN, and what the context is made of.
    let members = json!({
        "CiphertextBlob": made["CiphertextBlob"], "KeyId": made["KeyId"],
        "EncryptionContext": context,
    });
    let opened = call(consumer, "Decrypt", &members).await?;
    let text = opened["Plaintext"].as_str().unwrap_or_default();
    let key = base64_simd::STANDARD.decode_to_vec(text)?;
    println!("{} bytes of data key", key.len());
    Ok(())
}
