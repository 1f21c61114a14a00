//! Proxies that refuse, answer with a fault, or do not answer.

use super::server::{self, Reply, Server, ok, refused};
use super::{Caller, HOST, base64, config, proxy};
use crate::tls_files::tests::Authority;
use crate::xks_proxy::host::{Config, Stage};
use crate::xks_proxy::sealed::integrity_value;
use crate::xks_proxy::{ErrorName, ProxyError};
use rustls::version::TLS13;
use serde_json::{Value, json};

#[tokio::test]
async fn each_name_of_an_error_is_understood() {
    let authority = Authority::new();
    let names = ErrorName::ALL;
    let (caller, server) = Caller::of(&authority, |asked| refused(names[asked.number])).await;
    for name in names {
        assert_eq!(caller.encrypt().await, Err(ProxyError::Refused(*name)));
    }
    assert_eq!(
        (server.connections(), server.asked().len()),
        (1, names.len())
    );
    let metrics = caller.metrics.render();
    let line =
        "keymill_xks_proxy_calls_total{operation=\"XksEncrypt\",result=\"KeyNotFoundException\"} 1";
    assert!(metrics.contains(line), "{metrics}");
}

#[tokio::test]
async fn an_answer_with_a_fault_is_not_taken() {
    let authority = Authority::new();
    let invalid = |reason: &str| ProxyError::InvalidResponse(reason.to_owned());
    let raw = |text: &str| Reply::Bytes(text.as_bytes().to_vec());
    let changed = |member: &str, new: Value| {
        let text = b"text".map(|byte| !byte);
        let value = integrity_value(b"context", b"", &[2; 12], &text, &[3; 16]);
        let mut answer = json!({
            "ciphertext": base64(&text),
            "initializationVector": base64(&[2; 12]),
            "authenticationTag": base64(&[3; 16]),
            "ciphertextDataIntegrityValue": base64(&value),
        });
        answer[member] = new;
        ok(&answer)
    };
    let long_head = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "x".repeat(64 * 1024));
    let unnamed = |status: u16| invalid(&format!("status {status} without a known errorName"));
    let cases = [
        (
            ok(&json!(" ".repeat(64 * 1024))),
            invalid("length limit exceeded"),
        ),
        (
            raw("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{}"),
            invalid(
                "error reading a body from connection: end of file before message length reached",
            ),
        ),
        (
            raw(
                "HTTP/1.1 302 Found\r\nlocation: https://other.example/\r\ncontent-length: 0\r\n\r\n",
            ),
            unnamed(302),
        ),
        (
            raw("HTTP/1.1 502 x\r\ncontent-length: 6\r\n\r\n<html>"),
            unnamed(502),
        ),
        (raw("HTTP/1.1 204 x\r\n\r\n"), unnamed(204)),
        (
            raw("SSH-2.0-x\r\n\r\n"),
            invalid("invalid HTTP version parsed"),
        ),
        (raw(&long_head), invalid("message head is too large")),
        (ok(&json!([])), invalid("it is not a JSON object")),
        (
            changed("ciphertextDataIntegrityValue", json!(base64(&[0; 32]))),
            invalid("ciphertextDataIntegrityValue is another one"),
        ),
        (
            changed("ciphertext", json!(base64(b"texts"))),
            invalid("ciphertext is not as long as the plaintext"),
        ),
        (
            changed("authenticationTag", json!(base64(&[3; 12]))),
            invalid("authenticationTag has not 16 bytes"),
        ),
    ];
    for (reply, error) in cases {
        let (caller, server) = Caller::of(&authority, move |_| reply.clone()).await;
        assert_eq!(caller.encrypt().await, Err(error));
        assert_eq!(server.asked().len(), 1, "it is not asked again");
        assert!(
            caller
                .metrics
                .render()
                .contains("result=\"invalid_response\"} ")
        );
    }
}

#[tokio::test]
async fn a_call_ends_in_time_at_each_stage() {
    let authority = Authority::new();
    let timed_out = |at: Stage| Err(ProxyError::TimedOut(Stage::ALL[at as usize]));
    let quick = |address| Config {
        timeout_ms: 100,
        ..config(address, &authority.path)
    };
    let (full, _held) = server::full().await;
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    for (address, stage) in [
        (full, Stage::Connection),
        (silent.local_addr().unwrap(), Stage::Handshake),
    ] {
        assert_eq!(Caller::new(quick(address)).health().await, timed_out(stage));
    }
    let begun = b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{}".to_vec();
    for reply in [Reply::Silence, Reply::Begun(begun)] {
        let tls = authority.server(HOST, &TLS13);
        let server = Server::new(tls, move |_| reply.clone()).await;
        // The handshake is in the same time as the answer.
        let patient = Config {
            timeout_ms: 1000,
            ..quick(server.address)
        };
        assert_eq!(
            Caller::new(patient).health().await,
            timed_out(Stage::Answer)
        );
        assert_eq!(server.asked().len(), 1);
    }
    // A look-up that hangs.
    let caller = Caller::new(Config {
        address: String::new(),
        ..quick(full)
    });
    let hanging = caller.host().look_up.hang().await;
    assert_eq!(caller.health().await, timed_out(Stage::LookUp));
    drop(hanging);
}

#[tokio::test]
async fn a_port_that_is_closed_is_not_reached() {
    let authority = Authority::new();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let called = Caller::new(config(address, &authority.path)).health().await;
    assert!(
        matches!(&called, Err(ProxyError::NotReachable(reason)) if reason.contains("refused")),
        "{called:?}"
    );
}

#[tokio::test]
async fn after_a_time_out_no_idle_connection_is_trusted() {
    let authority = Authority::new();
    let tls = authority.server(HOST, &TLS13);
    let server = Server::new(tls, |asked| match asked.number {
        2 => Reply::Silence,
        _ => proxy(asked),
    })
    .await;
    let caller = Caller::new(Config {
        timeout_ms: 1000,
        ..config(server.address, &authority.path)
    });
    let (one, other) = tokio::join!(caller.health(), caller.health());
    assert_eq!((one, other), (Ok(()), Ok(())));
    assert_eq!(caller.host().locked().len(), 2);
    let timed_out = ProxyError::TimedOut(Stage::ALL[Stage::Answer as usize]);
    assert_eq!(caller.health().await, Err(timed_out));
    assert!(caller.host().locked().is_empty());
    assert_eq!(caller.health().await, Ok(()));
    assert_eq!(server.connections(), 3);
}
