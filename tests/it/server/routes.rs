//! Methods, paths and targets, and the headers of every answer.

use crate::server::daemon::{ADMIN, ALIAS, Daemon, PROVISIONER};
use crate::server::wire::Request;
use serde_json::json;
use std::collections::HashSet;

#[tokio::test]
async fn other_paths_and_methods_are_refused_in_plain_text() {
    let daemon = Daemon::start().await;
    let mut tcp = daemon.over_tcp().await;
    let host = daemon.host();
    for (method, path, status) in [
        ("GET", "/", 405),
        ("PUT", "/", 405),
        ("DELETE", "/v1/data-keys", 405),
        ("GET", "/v1/admin/ListPrincipals", 405),
        ("GET", "/metrics", 404),
        ("POST", "/index.html", 404),
        ("POST", "/v1/data-keys/", 404),
        ("POST", "//", 404),
    ] {
        let mut request = Request::get(path, &host);
        request.method = method;
        let answer = tcp.ask(&request).await;
        assert_eq!(answer.status, status, "{method} {path}");
        let media_type = answer.header("content-type");
        assert_eq!(media_type, Some("text/plain; charset=utf-8"));
        let allow = (status == 405).then_some("POST");
        assert_eq!(answer.header("allow"), allow);
        assert!(answer.header("x-amzn-requestid").is_some());
    }
    let count = |code| format!(r#"keymill_requests_total{{operation="none",code="{code}"}}"#);
    assert_eq!(daemon.metric(&count("NotFound")), Some(4.0));
    assert_eq!(daemon.metric(&count("MethodNotAllowed")), Some(4.0));
}

#[tokio::test]
async fn header_names_are_written_as_aws_writes_them() {
    let daemon = Daemon::start().await;
    let (mut tcp, host) = (daemon.over_tcp().await, daemon.host());
    let request = Request::kms("DescribeKey", &host, &json!({"KeyId": ALIAS})).signed(&ADMIN);
    tcp.send(request.bytes()).await;
    let head = tcp.line_until("\r\n\r\n").await.unwrap();
    for name in ["Content-Length", "Content-Type", "Date", "X-Amzn-Requestid"] {
        let line = format!("\r\n{name}: ");
        assert!(head.contains(&line), "{name} is not in {head}");
    }
}

#[tokio::test]
async fn every_answer_carries_what_clients_and_proxies_read() {
    let daemon = Daemon::start().await;
    let (mut tcp, host) = (daemon.over_tcp().await, daemon.host());
    let known = Request::kms("DescribeKey", &host, &json!({"KeyId": ALIAS})).signed(&ADMIN);
    let unknown = Request::kms("DescribeKey", &host, &json!({"KeyId": ALIAS}));
    let mut ids = HashSet::new();
    for request in [&known, &unknown, &known] {
        let answer = tcp.ask(request).await;
        let id = answer.header("x-amzn-requestid").unwrap().to_owned();
        assert_eq!((id.len(), &id[14..15]), (36, "4"), "{id}");
        assert!(ids.insert(id), "ids differ");
        let cache = answer.header("cache-control");
        let never = "no-cache, no-store, must-revalidate, private";
        assert_eq!(cache, Some(never));
        assert!(
            answer.header("date").is_some(),
            "SDKs set their clock by it"
        );
    }
}

#[tokio::test]
async fn the_target_is_looked_at_after_the_caller() {
    let daemon = Daemon::start().await;
    let (mut tcp, host) = (daemon.over_tcp().await, daemon.host());
    let unsigned = Request::kms("NoSuchOperation", &host, &json!({}));
    let answer = tcp.ask(&unsigned).await;
    answer.refusal(400, "MissingAuthenticationTokenException");
    let answer = tcp.ask(&unsigned.signed(&ADMIN)).await;
    assert_eq!(answer.refusal(400, "UnknownOperationException"), "");
    let without = Request::post("/", &host, &json!({})).signed(&ADMIN);
    let foreign = Request::post("/", &host, &json!({}))
        .with("x-amz-target", "DynamoDB_20120810.GetItem")
        .signed(&ADMIN);
    let lower = Request::kms("describekey", &host, &json!({})).signed(&ADMIN);
    for request in [without, foreign, lower] {
        let answer = tcp.ask(&request).await;
        assert_eq!(answer.refusal(400, "UnknownOperationException"), "");
    }
    let unbuilt = json!({"CustomKeyStoreName": "a"});
    let unbuilt = Request::kms("CreateCustomKeyStore", &host, &unbuilt).signed(&ADMIN);
    let answer = tcp.ask(&unbuilt).await;
    answer.refusal(400, "UnsupportedOperationException");
    let label = r#"keymill_requests_total{operation="CreateCustomKeyStore",code="UnsupportedOperationException"}"#;
    assert_eq!(daemon.metric(label), Some(1.0));
}

#[tokio::test]
async fn a_target_is_of_one_service_and_so_is_its_signature() {
    let daemon = Daemon::start().await;
    let (mut tcp, host) = (daemon.over_tcp().await, daemon.host());
    let tagging = |name: &str| {
        let target = format!("ResourceGroupsTaggingAPI_20170126.{name}");
        Request::post("/", &host, &json!({})).with("x-amz-target", &target)
    };
    let answer = tcp.ask(&tagging("GetResources")).await;
    answer.refusal(400, "MissingAuthenticationTokenException");
    // Whoever may sign for KMS alone has not signed for it.
    for name in ["GetResources", "NoSuchOperation"] {
        let answer = tcp.ask(&tagging(name).signed(&ADMIN)).await;
        let scope = "Credential should be scoped to correct service: 'tagging'. ";
        assert_eq!(answer.refusal(400, "InvalidSignatureException"), scope);
    }
}

#[tokio::test]
async fn a_signed_call_is_answered_over_both() {
    let daemon = Daemon::start().await;
    let (mut tcp, mut unix) = (daemon.over_tcp().await, daemon.over_unix().await);
    let body = json!({"KeyId": ALIAS, "KeySpec": "AES_256"});
    let name = "GenerateDataKeyWithoutPlaintext";
    let request = Request::kms(name, &daemon.host(), &body).signed(&PROVISIONER);
    for answer in [tcp.ask(&request).await, unix.ask(&request).await] {
        let reply = answer.done();
        assert_eq!(reply["KeyId"], daemon.key_arn);
        assert_eq!(reply["CiphertextBlob"].as_str().unwrap().len(), 128);
        assert!(reply.get("Plaintext").is_none());
        let media_type = answer.header("content-type");
        assert_eq!(media_type, Some("application/x-amz-json-1.1"));
    }
    // No output is an empty body with a length, and the connection stays.
    let alias = json!({"AliasName": "alias/other", "TargetKeyId": daemon.key_id});
    let request = Request::kms("CreateAlias", &daemon.host(), &alias).signed(&ADMIN);
    let answer = tcp.ask(&request).await;
    assert_eq!((answer.status, answer.body.len()), (200, 0));
    let answer = tcp.ask(&request).await;
    answer.refusal(400, "AlreadyExistsException");
    let calls = format!(r#"keymill_requests_total{{operation="{name}",code="OK"}}"#);
    assert_eq!(daemon.metric(&calls), Some(2.0));
    for transport in ["tcp", "unix"] {
        let count = format!(
            r#"keymill_request_duration_seconds_count{{operation="{name}",transport="{transport}"}}"#
        );
        assert_eq!(daemon.metric(&count), Some(1.0));
        let open = format!(r#"keymill_connections{{transport="{transport}"}}"#);
        assert_eq!(daemon.metric(&open), Some(1.0));
    }
}
