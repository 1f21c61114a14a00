//! Sessions of roles over the wire: the operator makes them, their holders use them, and they end
//! with their time or their role.

use crate::server::daemon::{ALIAS, Daemon, NOW, REGION};
use crate::server::wire::Request;
use keymill::auth::Credentials;
use keymill::clock::Timestamp;
use keymill::crypto::secret::SecretBytes;
use serde_json::{Value, json};
use std::time::Duration;

const INVALID_TOKEN: &str = "The security token included in the request is invalid.";
const EXPIRED_TOKEN: &str = "The security token included in the request is expired";
const ROLE: &str = "arn:aws:iam::111122223333:role/batch";

async fn administer(daemon: &Daemon, operation: &str, body: &Value) -> Value {
    let path = format!("/v1/admin/{operation}");
    let request = Request::post(&path, "localhost", body);
    // Boxed, because a test that waits for many of them keeps them all on its stack.
    let asked = async { daemon.over_unix().await.ask(&request).await };
    let answer = Box::pin(asked).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    match answer.text() {
        "" => Value::Null,
        _ => answer.json(),
    }
}

/// A role that may mint, and the credentials of a session of it.
async fn session(daemon: &Daemon) -> Credentials {
    let policy = r#"{"Statement":{"Effect":"Allow","Action":"kms:GenerateDataKeyWithoutPlaintext","Resource":"*"}}"#;
    let body = json!({"Name": "batch", "Kind": "role", "Policies": [policy]});
    administer(daemon, "CreatePrincipal", &body).await;
    let body = json!({"Name": "batch", "SessionName": "nightly", "DurationSeconds": 900});
    let told = administer(daemon, "CreateSession", &body).await;
    let text = |member: &str| told[member].as_str().unwrap().to_owned();
    let secret = text("SecretAccessKey");
    Credentials {
        access_key_id: text("AccessKeyId"),
        secret_access_key: SecretBytes::copy_of(secret.as_bytes()),
        session_token: Some(text("SessionToken")),
        region: REGION.to_owned(),
    }
}

#[tokio::test]
async fn a_session_works_over_both_listeners_until_it_ends() {
    let daemon = Daemon::start().await;
    let credentials = session(&daemon).await;
    let signed = Request::mint(&daemon.host()).signed_with(&credentials, NOW);
    let (mut tcp, mut unix) = (daemon.over_tcp().await, daemon.over_unix().await);
    for _ in 0..3 {
        tcp.ask(&signed).await.done();
        unix.ask(&signed).await.done();
    }
    let denied = json!({"KeyId": ALIAS});
    let denied = Request::kms("DisableKey", &daemon.host(), &denied);
    let answer = tcp.ask(&denied.signed_with(&credentials, NOW)).await;
    let message = answer.refusal(400, "InvalidArnException");
    assert_eq!(message, "Key Aliases are not supported for this operation.");
    let denied = Request::kms(
        "GenerateRandom",
        &daemon.host(),
        &json!({"NumberOfBytes": 1}),
    );
    let answer = tcp.ask(&denied.signed_with(&credentials, NOW)).await;
    let message = answer.refusal(400, "AccessDeniedException");
    let whom = "User: arn:aws:sts::111122223333:assumed-role/batch/nightly is not authorized";
    assert!(message.starts_with(whom), "{message}");
    daemon.clock.advance(Duration::from_secs(900));
    let now = Timestamp(NOW.0 + 900_000_000);
    let late = Request::mint(&daemon.host()).signed_with(&credentials, now);
    for answer in [tcp.ask(&late).await, unix.ask(&late).await] {
        let message = answer.refusal(400, "ExpiredTokenException");
        assert_eq!(message, EXPIRED_TOKEN);
    }
    let count = r#"keymill_auth_failures_total{reason="ExpiredTokenException"}"#;
    assert_eq!(daemon.metric(count), Some(2.0));
}

#[tokio::test]
async fn an_altered_token_is_refused() {
    let daemon = Daemon::start().await;
    let mut credentials = session(&daemon).await;
    let token = credentials.session_token.clone().unwrap();
    let mut tcp = daemon.over_tcp().await;
    for altered in [
        token[..token.len() - 4].to_owned(),
        format!("B{}", &token[1..]),
        format!("{token}{token}"),
    ] {
        credentials.session_token = Some(altered);
        let signed = Request::mint(&daemon.host()).signed_with(&credentials, NOW);
        let answer = tcp.ask(&signed).await;
        let message = answer.refusal(400, "UnrecognizedClientException");
        assert_eq!(message, INVALID_TOKEN);
    }
}

#[tokio::test]
async fn a_session_ends_with_its_role() {
    let daemon = Daemon::start().await;
    let credentials = session(&daemon).await;
    let signed = Request::mint(&daemon.host()).signed_with(&credentials, NOW);
    let mut tcp = daemon.over_tcp().await;
    let name = json!({"Name": ROLE});
    tcp.ask(&signed).await.done();
    administer(&daemon, "DisablePrincipal", &name).await;
    let message = tcp
        .ask(&signed)
        .await
        .refusal(400, "UnrecognizedClientException");
    assert_eq!(message, INVALID_TOKEN);
    administer(&daemon, "EnablePrincipal", &name).await;
    tcp.ask(&signed).await.done();
    administer(
        &daemon,
        "PutPrincipalPolicies",
        &json!({"Name": ROLE, "Policies": []}),
    )
    .await;
    tcp.ask(&signed).await.refusal(400, "AccessDeniedException");
    administer(&daemon, "DeletePrincipal", &name).await;
    tcp.ask(&signed)
        .await
        .refusal(400, "UnrecognizedClientException");
}

#[tokio::test]
async fn a_later_role_of_the_same_name_has_no_earlier_sessions() {
    let daemon = Daemon::start().await;
    let credentials = session(&daemon).await;
    let signed = Request::mint(&daemon.host()).signed_with(&credentials, NOW);
    administer(&daemon, "DeletePrincipal", &json!({"Name": ROLE})).await;
    let later = session(&daemon).await;
    let mut tcp = daemon.over_tcp().await;
    let answer = tcp.ask(&signed).await;
    answer.refusal(400, "UnrecognizedClientException");
    let signed = Request::mint(&daemon.host()).signed_with(&later, NOW);
    tcp.ask(&signed).await.done();
}

#[tokio::test]
async fn whoever_is_disabled_while_his_body_comes_is_refused() {
    let daemon = Daemon::start().await;
    let credentials = session(&daemon).await;
    let signed = Request::mint(&daemon.host()).signed_with(&credentials, NOW);
    let user = json!({"Name": "provisioner"});
    let role = json!({"Name": ROLE});
    // The peer of the socket, and the session.
    for (request, name) in [(Request::mint(&daemon.host()), user), (signed, role)] {
        let mut wire = daemon.over_unix().await;
        let length = request.body.len();
        let head = request.head();
        wire.send(format!(
            "{head}expect: 100-continue\r\ncontent-length: {length}\r\n\r\n"
        ))
        .await;
        let asked = wire.line_until("\r\n\r\n").await.unwrap();
        assert_eq!(asked, "HTTP/1.1 100 Continue");
        administer(&daemon, "DisablePrincipal", &name).await;
        wire.send(&request.body).await;
        let message = wire
            .answer()
            .await
            .refusal(400, "UnrecognizedClientException");
        assert_eq!(message, INVALID_TOKEN);
    }
}
