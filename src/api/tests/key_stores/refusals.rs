//! What is refused of key stores, and of keys in them.

use super::*;
use crate::operation::Operation;

/// One of the members of `CreateCustomKeyStore` as it is not taken.
fn edited(member: &str, value: Value) -> Value {
    with(asked("orders"), member, value)
}

fn credential(id: &str, secret: &str) -> Value {
    let pair = json!({"AccessKeyId": id, "RawSecretAccessKey": secret});
    edited("XksProxyAuthenticationCredential", pair)
}

#[tokio::test]
async fn a_key_store_is_not_made_with_other_members() {
    let bench = Bench::new().await;
    let create = "CreateCustomKeyStore";
    for (body, what) in [
        (
            json!({"CustomKeyStoreName": "a"}),
            "CustomKeyStoreType AWS_CLOUDHSM",
        ),
        (
            edited("CustomKeyStoreType", json!("AWS_CLOUDHSM")),
            "CustomKeyStoreType AWS_CLOUDHSM",
        ),
        (
            edited("CloudHsmClusterId", json!("cluster-1a23b4cdefg")),
            "CloudHsmClusterId",
        ),
        (
            edited("TrustAnchorCertificate", json!("x")),
            "TrustAnchorCertificate",
        ),
        (
            edited("KeyStorePassword", json!("kmsPswd")),
            "KeyStorePassword",
        ),
        (
            edited("XksProxyConnectivity", json!("VPC_ENDPOINT_SERVICE")),
            "XksProxyConnectivity VPC_ENDPOINT_SERVICE",
        ),
        (
            edited(
                "XksProxyVpcEndpointServiceName",
                json!("com.amazonaws.vpce.us-east-1.vpce-svc-1"),
            ),
            "XksProxyVpcEndpointServiceName",
        ),
        (
            edited("XksProxyVpcEndpointServiceOwner", json!(ACCOUNT)),
            "XksProxyVpcEndpointServiceOwner",
        ),
    ] {
        bench.unsupported(create, body, what).await;
    }
    for member in [
        "XksProxyConnectivity",
        "XksProxyUriEndpoint",
        "XksProxyUriPath",
        "XksProxyAuthenticationCredential",
    ] {
        let message =
            format!("{member} is required for a custom key store of type EXTERNAL_KEY_STORE.");
        bench
            .invalid(create, edited(member, Value::Null), &message)
            .await;
    }
    let value = "failed to satisfy constraint: Member must";
    let name = "xksProxyAuthenticationCredential";
    for (body, violated) in [
        (
            edited("CustomKeyStoreName", Value::Null),
            format!("Value null at 'customKeyStoreName' {value} not be null"),
        ),
        (
            edited("CustomKeyStoreType", json!("FOO")),
            format!(
                "Value 'FOO' at 'customKeyStoreType' {value} satisfy enum value set: [AWS_CLOUDHSM, EXTERNAL_KEY_STORE]"
            ),
        ),
        (
            edited("XksProxyUriEndpoint", json!("http://proxy.example")),
            format!(
                "Value 'http://proxy.example' at 'xksProxyUriEndpoint' {value} satisfy regular expression pattern: ^https://[a-zA-Z0-9.-]+$"
            ),
        ),
        (
            edited("XksProxyUriPath", json!("/kms/xks/vx")),
            format!(
                "Value '/kms/xks/vx' at 'xksProxyUriPath' {value} satisfy regular expression pattern: ^(/[a-zA-Z0-9\\/_-]+/kms/xks/v\\d{{1,2}})$|^(/kms/xks/v\\d{{1,2}})$"
            ),
        ),
        // What is sensitive is not repeated.
        (
            credential("A1", SECRET),
            format!(
                "Value at '{name}.accessKeyId' {value} have length greater than or equal to 20; \
                 Value at '{name}.accessKeyId' {value} satisfy regular expression pattern: ^[A-Z2-7]+$"
            ),
        ),
        (
            credential("ABCDEFGHIJKLMNOPQR27", &"a".repeat(65)),
            format!(
                "Value at '{name}.rawSecretAccessKey' {value} have length less than or equal to 64"
            ),
        ),
    ] {
        let (_, message) = bench.call(create, body).await.unwrap_err();
        assert!(message.ends_with(&violated), "{message}\n{violated}");
    }
    let half = edited(
        "XksProxyAuthenticationCredential",
        json!({"AccessKeyId": "ABCDEFGHIJKLMNOPQR27"}),
    );
    let (code, message) = bench.call(create, half).await.unwrap_err();
    assert_eq!(code, Code::ValidationException);
    assert!(message.contains("rawSecretAccessKey"), "{message}");
    let code = Code::XksProxyInvalidConfigurationException;
    for (member, other) in [
        ("XksProxyUriEndpoint", "https://192.0.2.1"),
        ("XksProxyUriPath", "/orders/kms/xks/v2"),
        ("XksProxyUriPath", "//orders/kms/xks/v1"),
    ] {
        let answer = bench.call(create, edited(member, json!(other))).await;
        assert_eq!(answer.unwrap_err().0, code, "{other}");
    }
    // Nothing is called that the configuration does not name.
    let message =
        "The configuration of this daemon does not name the host of the external key store proxy.";
    let code = Code::XksProxyUriUnreachableException;
    bench.refused(create, asked("orders"), code, message).await;
}

#[tokio::test]
async fn a_proxy_must_answer_before_there_is_a_key_store() {
    let scene = Scene::new().await;
    let (bench, create) = (&scene.bench, "CreateCustomKeyStore");
    let refusal = async |body: Value| bench.call(create, body).await.unwrap_err().0;
    for (name, code) in [
        (
            ErrorName::AuthenticationFailedException,
            Code::XksProxyIncorrectAuthenticationCredentialException,
        ),
        (
            ErrorName::ThrottlingException,
            Code::XksProxyUriUnreachableException,
        ),
        (
            ErrorName::InternalException,
            Code::XksProxyInvalidResponseException,
        ),
    ] {
        scene.refuses(name);
        assert_eq!(refusal(asked("orders")).await, code);
    }
    scene.refuses(None);
    scene.mode.lock().unwrap().is_unavailable = true;
    let unreachable = Code::XksProxyUriUnreachableException;
    assert_eq!(refusal(asked("orders")).await, unreachable);
    scene.mode.lock().unwrap().is_unavailable = false;
    let elsewhere = edited("XksProxyUriEndpoint", json!("https://nowhere.example"));
    assert_eq!(refusal(elsewhere).await, unreachable);
    let path = edited("XksProxyUriPath", json!("/other/kms/xks/v1"));
    let code = Code::XksProxyInvalidConfigurationException;
    assert_eq!(refusal(path).await, code);
    assert!(bench.api.keystore.snapshot().key_stores.is_empty());
}

#[tokio::test]
async fn names_and_addresses_are_of_one_key_store_and_ten_are_enough() {
    let scene = Scene::new().await;
    let (bench, create) = (&scene.bench, "CreateCustomKeyStore");
    let numbered = |number: usize| {
        let path = json!(format!("/orders-{number}/kms/xks/v1"));
        with(asked(&number.to_string()), "XksProxyUriPath", path)
    };
    for number in 0..10 {
        bench.done(create, numbered(number)).await;
    }
    let named = with(numbered(11), "CustomKeyStoreName", json!("3"));
    let code = Code::CustomKeyStoreNameInUseException;
    bench.refused(create, named, code, "").await;
    let there = with(numbered(3), "CustomKeyStoreName", json!("11"));
    let there = with(there, "XksProxyUriEndpoint", json!("https://PROXY.example"));
    bench
        .refused(create, there, Code::XksProxyUriInUseException, "")
        .await;
    let message = "An account has at most 10 custom key stores.";
    let code = Code::LimitExceededException;
    bench.refused(create, numbered(11), code, message).await;
    // Another account has its own.
    let other = Principal::operator(0, OTHER.parse().unwrap());
    bench.done_as(&other, create, numbered(3)).await;
}

#[tokio::test]
async fn what_is_not_there_and_what_goes_wrong_with_an_update_is_refused() {
    let scene = Scene::new().await;
    let bench = &scene.bench;
    let gone = Code::CustomKeyStoreNotFoundException;
    for operation in [
        "ConnectCustomKeyStore",
        "DeleteCustomKeyStore",
        "DescribeCustomKeyStores",
        "DisconnectCustomKeyStore",
        "UpdateCustomKeyStore",
    ] {
        for id in ["cks-1234567890abcdef0", "cks-1", "orders"] {
            let body = json!({"CustomKeyStoreId": id});
            bench.refused(operation, body, gone, "").await;
        }
    }
    let both = json!({"CustomKeyStoreId": "cks-1", "CustomKeyStoreName": "a"});
    let message = "You cannot specify CustomKeyStoreId and CustomKeyStoreName in the same request.";
    bench
        .invalid("DescribeCustomKeyStores", both, message)
        .await;
    let by_name = json!({"CustomKeyStoreName": "a"});
    bench
        .refused("DescribeCustomKeyStores", by_name, gone, "")
        .await;
    let (store, _) = scene.key().await;
    let named = json!({"CustomKeyStoreId": store});
    let update = |member: &str, value: Value| with(named.clone(), member, value);
    // While it is connected, it is reached where it is.
    for (member, value) in [
        ("XksProxyUriEndpoint", json!("https://nowhere.example")),
        ("XksProxyConnectivity", json!("PUBLIC_ENDPOINT")),
    ] {
        let message = format!(
            "The custom key store {store} is CONNECTED, which is not valid for UpdateCustomKeyStore."
        );
        let code = Code::CustomKeyStoreInvalidStateException;
        let body = update(member, value);
        bench
            .refused("UpdateCustomKeyStore", body, code, &message)
            .await;
    }
    let answer = bench.call(
        "UpdateCustomKeyStore",
        update("KeyStorePassword", json!("kmsPswd")),
    );
    assert_eq!(
        answer.await.unwrap_err().0,
        Code::UnsupportedOperationException
    );
    let before = bench.api.keystore.revision();
    let path = update("XksProxyUriPath", json!("/other/kms/xks/v1"));
    let answer = bench.call("UpdateCustomKeyStore", path).await;
    assert_eq!(
        answer.unwrap_err().0,
        Code::XksProxyInvalidConfigurationException
    );
    assert_eq!(bench.api.keystore.revision(), before);
    bench.done("DisconnectCustomKeyStore", named.clone()).await;
    let code = Code::CustomKeyStoreHasCMKsException;
    bench.refused("DeleteCustomKeyStore", named, code, "").await;
}

#[tokio::test]
async fn a_key_is_made_only_on_a_key_that_serves() {
    let scene = Scene::new().await;
    let (bench, create) = (&scene.bench, "CreateKey");
    let store = scene.store("orders").await;
    let code = Code::CustomKeyStoreInvalidStateException;
    bench
        .refused(create, new_key(&store, "main"), code, NOT_CONNECTED)
        .await;
    scene.connect(&store).await;
    for (member, value, message) in [
        (
            "CustomKeyStoreId",
            Value::Null,
            "CustomKeyStoreId is required for Origin EXTERNAL_KEY_STORE.",
        ),
        (
            "XksKeyId",
            Value::Null,
            "XksKeyId is required for Origin EXTERNAL_KEY_STORE.",
        ),
        (
            "Origin",
            Value::Null,
            "CustomKeyStoreId is valid only for a KMS key with Origin EXTERNAL_KEY_STORE.",
        ),
    ] {
        let body = with(new_key(&store, "main"), member, value);
        bench.invalid(create, body, message).await;
    }
    let body = json!({"XksKeyId": "main"});
    let message = "XksKeyId is valid only for a KMS key with Origin EXTERNAL_KEY_STORE.";
    bench.invalid(create, body, message).await;
    let rsa = with(new_key(&store, "main"), "KeySpec", json!("RSA_2048"));
    let rsa = with(rsa, "KeyUsage", json!("ENCRYPT_DECRYPT"));
    let message = "KeySpec RSA_2048 is not supported for Origin EXTERNAL_KEY_STORE";
    bench.invalid(create, rsa, message).await;
    let multi = with(new_key(&store, "main"), "MultiRegion", json!(true));
    bench
        .unsupported(create, multi, "MultiRegion with Origin EXTERNAL_KEY_STORE")
        .await;
    let odd = bench
        .call(create, new_key(&store, "a/b"))
        .await
        .unwrap_err();
    assert!(odd.1.contains("pattern: ^[a-zA-Z0-9-_.]+$"), "{odd:?}");
    let gone = new_key("cks-1234567890abcdef0", "main");
    bench
        .refused(create, gone, Code::CustomKeyStoreNotFoundException, "")
        .await;
    let refusal = async |external: &str| {
        let answer = bench.call(create, new_key(&store, external)).await;
        answer.unwrap_err().0
    };
    assert_eq!(refusal("none").await, Code::XksKeyNotFoundException);
    for other in ["small", "disabled"] {
        let code = Code::XksKeyInvalidConfigurationException;
        assert_eq!(refusal(other).await, code);
    }
    bench.done(create, new_key(&store, "main")).await;
    assert_eq!(refusal("main").await, Code::XksKeyAlreadyInUseException);
    scene.refuses(ErrorName::AccessDeniedException);
    assert_eq!(refusal("second").await, Code::KMSInvalidStateException);
    let body = json!({"NumberOfBytes": 1, "CustomKeyStoreId": store});
    let what = "CustomKeyStoreId of an external key store";
    bench.unsupported("GenerateRandom", body, what).await;
}

#[tokio::test]
async fn china_has_no_key_stores_and_rights_are_those_of_identity_policies() {
    let operations = Operation::ALL.iter().map(|operation| operation.name());
    let operations: Vec<_> = operations
        .filter(|name| name.contains("CustomKeyStore"))
        .collect();
    assert_eq!(operations.len(), 6);
    let china = Bench::in_china().await;
    let bench = Bench::new().await;
    let powerless = bench.powerless("powerless").await;
    let allowed = bench.allowed("allowed", &["kms:*CustomKeyStore*"]).await;
    for operation in operations {
        let body = with(
            asked("orders"),
            "CustomKeyStoreId",
            json!("cks-1234567890abcdef0"),
        );
        let body = match operation {
            "DescribeCustomKeyStores" => json!({}),
            _ => body,
        };
        china.unsupported(operation, body.clone(), operation).await;
        let denied = bench.call_as(&powerless, operation, body.clone()).await;
        let expected = not_allowed(&powerless, operation, "*", "identity");
        assert_eq!(denied, Err(expected));
        let answer = bench.call_as(&allowed, operation, body).await;
        let code = answer.err().map(|(code, _)| code);
        assert_ne!(code, Some(Code::AccessDeniedException), "{operation}");
    }
    let body = new_key("cks-1234567890abcdef0", "main");
    china
        .unsupported("CreateKey", body, "Origin EXTERNAL_KEY_STORE")
        .await;
}
