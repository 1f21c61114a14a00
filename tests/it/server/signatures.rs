//! Requests whose signature is missing, broken, of another request or of another time: each sent as
//! raw bytes, each refused with its own words.

use crate::server::daemon::{ADMIN, Daemon, NOW, PROVISIONER, REGION, Setup, Who};
use crate::server::wire::Request;
use keymill::clock::Timestamp;
use std::time::Duration;

const MISMATCH: &str = "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method. Consult the service documentation for details.";
const INVALID_TOKEN: &str = "The security token included in the request is invalid.";

/// Sends a request over TCP and over the Unix socket, whose peer is mapped, and expects the same
/// refusal; returns its message.
async fn refused(daemon: &Daemon, request: &Request, code: &str) -> String {
    let over_tcp = daemon.over_tcp().await.ask(request).await;
    let over_unix = daemon.over_unix().await.ask(request).await;
    let message = over_tcp.refusal(400, code);
    assert_eq!(over_unix.refusal(400, code), message);
    message
}

#[tokio::test]
async fn strangers_over_tcp_are_refused() {
    let daemon = Daemon::start().await;
    let answer = daemon
        .over_tcp()
        .await
        .ask(&Request::mint(&daemon.host()))
        .await;
    daemon.refused_unsigned(&answer);
}

#[tokio::test]
async fn a_request_that_differs_from_the_signed_one_is_refused() {
    let daemon = Daemon::start().await;
    let signed = Request::mint(&daemon.host()).signed(&PROVISIONER);
    let changed = |change: &dyn Fn(&mut Request)| {
        let mut request = signed.clone();
        change(&mut request);
        request
    };
    let body = |request: &mut Request| request.body.push(b' ');
    let target = |request: &mut Request| {
        "TrentService.GenerateDataKey".clone_into(request.header("x-amz-target"));
    };
    let host = |request: &mut Request| "localhost:1".clone_into(request.header("host"));
    let path = |request: &mut Request| "/?a=b".clone_into(&mut request.path);
    let date = |request: &mut Request| {
        "20260115T120001Z".clone_into(request.header("x-amz-date"));
    };
    let signature = |request: &mut Request| {
        let header = request.header("authorization");
        let last = if header.ends_with('0') { "1" } else { "0" };
        header.replace_range(header.len() - 1.., last);
    };
    let short = |request: &mut Request| {
        request.header("authorization").pop();
    };
    let changes: [&dyn Fn(&mut Request); 7] =
        [&body, &target, &host, &path, &date, &signature, &short];
    for (at, change) in changes.into_iter().enumerate() {
        let request = changed(change);
        let message = refused(&daemon, &request, "InvalidSignatureException").await;
        assert_eq!(message, MISMATCH, "change {at}");
    }
    let count = r#"keymill_auth_failures_total{reason="InvalidSignatureException"}"#;
    assert_eq!(daemon.metric(count), Some(14.0));
    let answer = daemon.over_tcp().await.ask(&signed).await;
    answer.done();
}

#[tokio::test]
async fn headers_of_aws_that_are_not_signed_are_refused() {
    let daemon = Daemon::start().await;
    let unsigned = Request::mint(&daemon.host())
        .signed(&PROVISIONER)
        .with("x-amz-meta", "1");
    refused(&daemon, &unsigned, "InvalidSignatureException").await;
    let twice = Request::mint(&daemon.host())
        .signed(&PROVISIONER)
        .with("x-amz-target", "TrentService.Decrypt");
    refused(&daemon, &twice, "InvalidSignatureException").await;
}

#[tokio::test]
async fn another_scope_is_refused() {
    let daemon = Daemon::start().await;
    let elsewhere = PROVISIONER.credentials("eu-west-1");
    let region = Request::mint(&daemon.host()).signed_with(&elsewhere, NOW);
    let message = refused(&daemon, &region, "InvalidSignatureException").await;
    assert_eq!(message, "Credential should be scoped to a valid region. ");
    let scoped = |from, to| {
        let mut request = Request::mint(&daemon.host()).signed(&PROVISIONER);
        let header = request.header("authorization");
        *header = header.replacen(from, to, 1);
        request
    };
    let service = scoped("/kms/", "/s3/");
    let message = refused(&daemon, &service, "InvalidSignatureException").await;
    let expected = "Credential should be scoped to correct service: 'kms'. ";
    assert_eq!(message, expected);
    let date = scoped("/20260115/", "/20260114/");
    let message = refused(&daemon, &date, "InvalidSignatureException").await;
    assert_eq!(
        message,
        "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: '20260114' != '20260115', from '20260115T120000Z'."
    );
}

#[tokio::test]
async fn another_time_is_refused() {
    let daemon = Daemon::start().await;
    let credentials = PROVISIONER.credentials(REGION);
    let at = |seconds: i64| {
        let micros = NOW.0.checked_add_signed(seconds * 1_000_000).unwrap();
        Request::mint(&daemon.host()).signed_with(&credentials, Timestamp(micros))
    };
    let message = refused(&daemon, &at(-301), "InvalidSignatureException").await;
    assert_eq!(
        message,
        "Signature expired: 20260115T115459Z is now earlier than 20260115T115500Z (20260115T120000Z - 5 min.)"
    );
    let message = refused(&daemon, &at(301), "InvalidSignatureException").await;
    assert_eq!(
        message,
        "Signature not yet current: 20260115T120501Z is still later than 20260115T120500Z (20260115T120000Z + 5 min.)"
    );
    let mut tcp = daemon.over_tcp().await;
    for seconds in [-300, 0, 300] {
        tcp.ask(&at(seconds)).await.done();
    }
    let once = at(0);
    daemon.clock.advance(Duration::from_secs(301));
    let message = refused(&daemon, &once, "InvalidSignatureException").await;
    assert!(message.starts_with("Signature expired: 20260115T120000Z"));
}

#[tokio::test]
async fn headers_that_are_not_whole_are_refused() {
    let daemon = Daemon::start().await;
    let rewritten = |rewrite: &dyn Fn(&str) -> String| {
        let mut request = Request::mint(&daemon.host()).signed(&PROVISIONER);
        let header = request.header("authorization");
        *header = rewrite(header);
        request
    };
    let duplicate = |header: &str| format!("{header}, Signature={}", "0".repeat(64));
    let without = |header: &str| {
        let (rest, _) = header.rsplit_once(", ").unwrap();
        rest.to_owned()
    };
    let loose = |header: &str| header.replacen(", ", ", loose, ", 1);
    let bearer = |_: &str| "Bearer token".to_owned();
    let empty = |_: &str| String::new();
    let cases: [&dyn Fn(&str) -> String; 5] = [&duplicate, &without, &loose, &bearer, &empty];
    for rewrite in cases {
        let request = rewritten(rewrite);
        refused(&daemon, &request, "IncompleteSignatureException").await;
    }
    let message = refused(
        &daemon,
        &rewritten(&without),
        "IncompleteSignatureException",
    )
    .await;
    assert!(
        message.starts_with("Authorization header requires 'Signature' parameter. "),
        "{message}"
    );
    let mut undated = Request::mint(&daemon.host()).signed(&PROVISIONER);
    undated.headers.retain(|(name, _)| name != "x-amz-date");
    let message = refused(&daemon, &undated, "IncompleteSignatureException").await;
    let expected = "requires existence of either a 'X-Amz-Date' or a 'Date' header. ";
    assert!(message.contains(expected), "{message}");
}

#[tokio::test]
async fn unknown_keys_and_tokens_are_refused() {
    let daemon = Daemon::start().await;
    let stranger = Who {
        access_key_id: "AKIANOBODYNOBODYNOB3",
        ..ADMIN
    };
    let unknown = Request::mint(&daemon.host()).signed(&stranger);
    let message = refused(&daemon, &unknown, "UnrecognizedClientException").await;
    assert_eq!(message, INVALID_TOKEN);
    let token = Request::mint(&daemon.host())
        .with("x-amz-security-token", "token")
        .signed(&PROVISIONER);
    let message = refused(&daemon, &token, "UnrecognizedClientException").await;
    assert_eq!(message, INVALID_TOKEN);
    let wrong = Who {
        secret_access_key: ADMIN.secret_access_key,
        ..PROVISIONER
    };
    let wrong = Request::mint(&daemon.host()).signed(&wrong);
    let message = refused(&daemon, &wrong, "InvalidSignatureException").await;
    assert_eq!(message, MISMATCH);
}

#[tokio::test]
async fn a_token_alone_is_a_claim_and_does_not_fall_back_to_the_peer() {
    let daemon = Daemon::start_with(Setup {
        peer: Some(ADMIN),
        ..Setup::default()
    })
    .await;
    let mut unix = daemon.over_unix().await;
    unix.ask(&Request::mint(&daemon.host())).await.done();
    let token = Request::mint(&daemon.host()).with("x-amz-security-token", "token");
    let answer = unix.ask(&token).await;
    answer.refusal(400, "MissingAuthenticationTokenException");
    let mut query = Request::mint(&daemon.host());
    query.path = "/?X-Amz-Signature=00".to_owned();
    let answer = unix.ask(&query).await;
    answer.refusal(400, "MissingAuthenticationTokenException");
}
