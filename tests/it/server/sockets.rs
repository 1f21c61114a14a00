//! The caller at the other end of a Unix socket, and the operator's rights there.

use crate::server::daemon::{ADMIN, ALIAS, Daemon, PROVISIONER, Setup};
use crate::server::wire::Request;
use serde_json::{Value, json};

const HOST: &str = "localhost";

fn administer(operation: &str, body: &Value) -> Request {
    Request::post(&format!("/v1/admin/{operation}"), HOST, body)
}

#[tokio::test]
async fn the_peer_is_the_principal_that_the_map_names() {
    let daemon = Daemon::start().await;
    let mut unix = daemon.over_unix().await;
    let reply = unix.ask(&Request::mint(HOST)).await.done();
    let decrypt = json!({"CiphertextBlob": reply["CiphertextBlob"]});
    let answer = unix.ask(&Request::kms("Decrypt", HOST, &decrypt)).await;
    answer.refusal(400, "AccessDeniedException");
    // The same connection serves a signed request too.
    let signed = Request::kms("Decrypt", HOST, &decrypt).signed(&ADMIN);
    let reply = unix.ask(&signed).await.done();
    assert_eq!(reply["Plaintext"].as_str().unwrap().len(), 44);
}

#[tokio::test]
async fn the_operator_names_a_region_of_the_daemon_in_the_path() {
    let daemon = Daemon::start().await;
    let mut unix = daemon.over_unix().await;
    let body = json!({});
    let listed = unix.ask(&administer("ListKeys", &body)).await.done();
    let same = administer("us-east-1/ListKeys", &body);
    assert_eq!(unix.ask(&same).await.done(), listed);
    let there = unix.ask(&administer("us-west-2/CreateKey", &body)).await;
    let there = there.done()["KeyMetadata"]["Arn"].clone();
    assert!(
        there
            .as_str()
            .unwrap()
            .starts_with("arn:aws:kms:us-west-2:")
    );
    let west = administer("us-west-2/ListKeys", &body);
    let west = unix.ask(&west).await.done();
    assert_eq!(west["Keys"][0]["KeyArn"], there);
    let listed_again = unix.ask(&administer("ListKeys", &body)).await.done();
    assert_eq!(listed_again, listed);
    for region in ["eu-west-1", "", "US-EAST-1", "us%2deast-1"] {
        let answer = unix
            .ask(&administer(&format!("{region}/ListKeys"), &body))
            .await;
        let refused = answer.refusal(400, "ValidationException");
        let message = format!("Region '{region}' is not one of this daemon's.");
        assert_eq!(refused, message);
    }
    let answer = unix
        .ask(&administer("us-east-1/us-east-1/ListKeys", &body))
        .await;
    answer.refusal(400, "UnknownOperationException");
    // It is told to the operator alone.
    let mut tcp = daemon.over_tcp().await;
    let signed = administer("eu-west-1/ListKeys", &body).signed(&ADMIN);
    tcp.ask(&signed).await.refusal(403, "AccessDeniedException");
}

#[tokio::test]
async fn a_peer_that_nobody_mapped_is_a_stranger() {
    let unmapped = Daemon::start_with(Setup {
        peer: None,
        ..Setup::default()
    });
    let daemon = unmapped.await;
    let mut unix = daemon.over_unix().await;
    let answer = unix.ask(&Request::mint(HOST)).await;
    daemon.refused_unsigned(&answer);
}

#[tokio::test]
async fn a_principal_that_was_removed_is_a_stranger() {
    let daemon = Daemon::start().await;
    let mut unix = daemon.over_unix().await;
    unix.ask(&Request::mint(HOST)).await.done();
    let name = json!({"Name": PROVISIONER.name});
    let removed = unix.ask(&administer("DeletePrincipal", &name)).await;
    assert_eq!(removed.status, 200, "{}", removed.text());
    let answer = unix.ask(&Request::mint(HOST)).await;
    answer.refusal(400, "MissingAuthenticationTokenException");
}

#[tokio::test]
async fn whoever_is_removed_while_his_body_comes_is_a_stranger() {
    let daemon = Daemon::start().await;
    let signed = Request::mint(HOST).signed(&PROVISIONER);
    let (mut peer, mut signer) = (daemon.over_unix().await, daemon.over_unix().await);
    for (wire, request) in [
        (&mut peer, Request::mint(HOST)),
        (&mut signer, signed.clone()),
    ] {
        let length = request.body.len();
        wire.send(format!(
            "{}expect: 100-continue\r\ncontent-length: {length}\r\n\r\n",
            request.head()
        ))
        .await;
        // The daemon asks for the body: it has accepted the head.
        let asked = wire.line_until("\r\n\r\n").await.unwrap();
        assert_eq!(asked, "HTTP/1.1 100 Continue");
    }
    let name = json!({"Name": PROVISIONER.name});
    let request = administer("DeletePrincipal", &name);
    let removed = daemon.over_unix().await.ask(&request).await;
    assert_eq!(removed.status, 200, "{}", removed.text());
    peer.send(&signed.body).await;
    let answer = peer.answer().await;
    answer.refusal(400, "MissingAuthenticationTokenException");
    signer.send(&signed.body).await;
    let answer = signer.answer().await;
    answer.refusal(400, "UnrecognizedClientException");
}

#[tokio::test]
async fn the_operator_uses_the_admin_routes() {
    let daemon = Daemon::start().await;
    let mut unix = daemon.over_unix().await;
    let policy = r#"{"Statement":{"Effect":"Allow","Action":"kms:Decrypt","Resource":"*"}}"#;
    let body = json!({"Name": "consumer", "Policies": [policy]});
    let created = unix.ask(&administer("CreatePrincipal", &body)).await.done();
    assert_eq!(created["SecretAccessKey"].as_str().unwrap().len(), 40);
    let listed = unix.ask(&administer("ListPrincipals", &json!({}))).await;
    assert!(listed.text().contains("user/consumer"), "{}", listed.text());
    // The operations of KMS are there too, with the operator's rights and not with those of the
    // mapped principal.
    let described = unix
        .ask(&administer("DescribeKey", &json!({"KeyId": ALIAS})))
        .await
        .done();
    assert_eq!(described["KeyMetadata"]["Arn"], daemon.key_arn);
    let answer = unix
        .ask(&administer("NoSuchThing", &json!({"Name": "x"})))
        .await;
    answer.refusal(400, "UnknownOperationException");
    let count = r#"keymill_requests_total{operation="Admin",code="OK"}"#;
    assert!(daemon.metric(count).is_some());
}

#[tokio::test]
async fn admin_routes_are_refused_to_everybody_else() {
    let daemon = Daemon::start().await;
    let request = administer("ListPrincipals", &json!({}));
    let over_tcp = daemon.over_tcp().await;
    let mut refused = Vec::new();
    let mut wire = over_tcp;
    refused.push(wire.ask(&request).await);
    refused.push(wire.ask(&request.clone().signed(&ADMIN)).await);
    let mut unix = daemon.over_unix().await;
    refused.push(unix.ask(&request.clone().signed(&ADMIN)).await);
    let bearer = request.clone().with("authorization", "Bearer x");
    refused.push(unix.ask(&bearer).await);
    let other = Daemon::start_with(Setup {
        operator: false,
        peer: Some(ADMIN),
        ..Setup::default()
    });
    let other = other.await;
    refused.push(other.over_unix().await.ask(&request).await);
    for answer in refused {
        let message = answer.refusal(403, "AccessDeniedException");
        assert!(message.starts_with("Admin routes are for the daemon's own user"));
    }
}
