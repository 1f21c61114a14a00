//! Requests that are too large or too slow.

use crate::server::daemon::{Daemon, PROVISIONER, Setup};
use crate::server::wire::Request;
use keymill::transport::Limits;
use serde_json::json;

const BODY_BYTES_MAX: usize = 1024 * 1024;

/// A request whose body is padded with spaces to `length` bytes.
fn padded(length: usize) -> Request {
    let mut request = Request::mint("localhost");
    request.body.resize(length, b' ');
    request
}

fn in_chunks(request: &Request, chunk: usize) -> Vec<u8> {
    let head = format!("{}transfer-encoding: chunked\r\n\r\n", request.head());
    let mut bytes = head.into_bytes();
    for data in request.body.chunks(chunk) {
        bytes.extend_from_slice(format!("{:x}\r\n", data.len()).as_bytes());
        bytes.extend_from_slice(data);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"0\r\n\r\n");
    bytes
}

#[tokio::test]
async fn heads_that_are_too_large_are_refused() {
    let daemon = Daemon::start().await;
    let long = padded(100).with("x-long", &"x".repeat(32 * 1024));
    let mut many = padded(100);
    for _ in 0..100 {
        many = many.with("x-many", "x");
    }
    for request in [long, many] {
        let mut unix = daemon.over_unix().await;
        unix.send(request.bytes()).await;
        assert_eq!(unix.head().await.status, 431);
        assert!(unix.is_closed().await);
    }
    let fits = padded(100).with("x-long", &"x".repeat(31 * 1024));
    daemon.over_unix().await.ask(&fits).await.done();
}

#[tokio::test]
async fn bodies_of_a_mebibyte_are_taken_and_larger_ones_are_not() {
    let daemon = Daemon::start().await;
    let (fits, over) = (padded(BODY_BYTES_MAX), padded(BODY_BYTES_MAX + 1));
    let mut unix = daemon.over_unix().await;
    unix.ask(&fits).await.done();
    unix.send(in_chunks(&fits, 100_000)).await;
    unix.answer().await.done();
    let mut refused = Vec::new();
    // The whole of it is sent, and the refusal still arrives.
    refused.push(daemon.over_unix().await.ask(&over).await);
    refused.push(
        daemon
            .over_tcp()
            .await
            .ask(&over.clone().signed(&PROVISIONER))
            .await,
    );
    unix.send(in_chunks(&over, 100_000)).await;
    refused.push(unix.answer().await);
    for answer in refused {
        let message = answer.refusal(413, "RequestEntityTooLarge");
        assert!(message.contains("1048576 bytes"), "{message}");
    }
}

#[tokio::test]
async fn what_content_length_announces_is_refused_before_it_comes() {
    let daemon = Daemon::start().await;
    let announced = |request: &Request| {
        let length = u64::MAX / 2;
        format!(
            "{}expect: 100-continue\r\ncontent-length: {length}\r\n\r\n",
            request.head()
        )
    };
    let mut unix = daemon.over_unix().await;
    unix.send(announced(&padded(0))).await;
    let first = unix.line_until("\r\n").await.unwrap();
    assert!(
        first.contains(" 413 "),
        "{first}: nobody asks for such a body"
    );
    // A caller that is not authenticated gets that answer, and does not learn the size limit.
    let mut tcp = daemon.over_tcp().await;
    tcp.send(announced(&padded(0))).await;
    let answer = tcp.answer().await;
    answer.refusal(400, "MissingAuthenticationTokenException");
}

#[tokio::test]
async fn a_body_is_asked_for_only_when_the_caller_is_known() {
    let daemon = Daemon::start().await;
    let expecting = |request: &Request| {
        let length = request.body.len();
        format!(
            "{}expect: 100-continue\r\ncontent-length: {length}\r\n\r\n",
            request.head()
        )
    };
    let request = padded(200);
    let mut unix = daemon.over_unix().await;
    unix.send(expecting(&request)).await;
    let first = unix.line_until("\r\n\r\n").await.unwrap();
    assert_eq!(first, "HTTP/1.1 100 Continue");
    unix.send(&request.body).await;
    unix.answer().await.done();
    let mut tcp = daemon.over_tcp().await;
    tcp.send(expecting(&request)).await;
    let first = tcp.line_until("\r\n").await.unwrap();
    assert!(first.contains(" 400 "), "{first}");
}

#[tokio::test]
async fn whoever_is_refused_before_his_body_is_read_is_told_to_begin_anew() {
    let daemon = Daemon::start().await;
    let request = padded(200);
    let head = format!("{}content-length: 200\r\n\r\n", request.head());
    let mut tcp = daemon.over_tcp().await;
    // A client that writes head and body apart would send its next request behind this body.
    tcp.send(&head).await;
    let answer = tcp.answer().await;
    answer.refusal(400, "MissingAuthenticationTokenException");
    assert_eq!(answer.header("connection"), Some("close"));
    assert!(tcp.is_closed().await);
    let mut unix = daemon.over_unix().await;
    let read = Request::kms("Decrypt", "localhost", &json!({}));
    for request in [&padded(200), &read, &padded(200)] {
        let answer = unix.ask(request).await;
        assert_eq!(answer.header("connection"), None, "{}", answer.text());
    }
}

#[tokio::test]
async fn slow_heads_are_cut_and_slow_bodies_told() {
    let daemon = Daemon::start_with(Setup::with_limits(Limits {
        head_timeout_ms: 50,
        body_timeout_ms: 50,
        ..Limits::default()
    }))
    .await;
    let mut tcp = daemon.over_tcp().await;
    tcp.send("POST / HTTP/1.1\r\nHost: ").await;
    assert!(tcp.is_closed().await);
    let mut unix = daemon.over_unix().await;
    let request = padded(200);
    unix.send(&request.bytes()[..request.bytes().len() - 1])
        .await;
    let answer = unix.answer().await;
    answer.refusal(408, "RequestTimeoutException");
    assert!(
        unix.is_closed().await,
        "bytes that follow are not a request"
    );
}

#[tokio::test]
async fn a_body_that_breaks_off_harms_nobody() {
    let daemon = Daemon::start().await;
    let request = padded(200);
    for end in [request.bytes().len() - 1, request.head().len() + 10, 5] {
        let mut unix = daemon.over_unix().await;
        unix.send(&request.bytes()[..end]).await;
        drop(unix);
    }
    let mut unix = daemon.over_unix().await;
    unix.send(format!(
        "{}transfer-encoding: chunked\r\n\r\nnot hex\r\n",
        request.head()
    ))
    .await;
    let answer = unix.answer().await;
    answer.refusal(400, "SerializationException");
    daemon.over_unix().await.ask(&request).await.done();
}

#[tokio::test]
async fn hold_5_bodies_that_stall_give_way_to_those_that_come() {
    /// One more than there is room for.
    const HELD: usize = 33;
    let daemon = Daemon::start().await;
    let large = padded(BODY_BYTES_MAX).signed(&PROVISIONER);
    let head = large.head();
    let head = format!("{head}content-length: {}\r\n\r\n", large.body.len());
    // A caller that knows the id of an access key can send a body before its signature is checked.
    let mut held = Vec::new();
    for _ in 0..HELD {
        let mut tcp = daemon.over_tcp().await;
        tcp.send(&head).await;
        tcp.send(&large.body[..large.body.len() - 1]).await;
        held.push(tcp);
    }
    for _ in 0..3 {
        daemon.over_tcp().await.ask(&large).await.done();
    }
    let mut refused = 0;
    for mut tcp in held {
        tcp.send(&large.body[large.body.len() - 1..]).await;
        let answer = tcp.answer().await;
        if answer.status == 400 {
            answer.refusal(400, "ThrottlingException");
            refused += 1;
        } else {
            answer.done();
        }
    }
    assert!((1..=4).contains(&refused), "{refused} gave way");
    daemon.over_tcp().await.ask(&large).await.done();
}

#[tokio::test]
async fn a_client_that_closes_its_sending_half_is_answered() {
    let daemon = Daemon::start().await;
    let request = padded(200);
    let signed = request.clone().signed(&PROVISIONER);
    for _ in 0..20 {
        let mut tcp = daemon.over_tcp().await;
        tcp.send(signed.bytes()).await;
        tcp.finish().await;
        tcp.answer().await.done();
        assert!(tcp.is_closed().await);
        let mut unix = daemon.over_unix().await;
        unix.send(request.bytes()).await;
        unix.finish().await;
        unix.answer().await.done();
        assert!(unix.is_closed().await);
    }
    // Half a request is not a request, and nothing waits for the rest.
    let mut half = daemon.over_tcp().await;
    half.send(&signed.bytes()[..signed.bytes().len() - 1]).await;
    half.finish().await;
    half.answer().await.refusal(400, "SerializationException");
    assert!(half.is_closed().await);
}
