//! Principals, their access keys, policies and tags: what the operator sees, and what becomes of
//! requests under way.

use super::ErrorCode as Code;
use super::*;
use crate::policy::principal::PrincipalKind;

mod refusals;

const DECRYPT: &str = r#"{"Statement":{"Effect":"Allow","Action":"kms:Decrypt","Resource":"*"}}"#;
const OTHER: &str = "444455556666";

impl Bench {
    async fn administered(&self, name: &str, body: Value) -> Value {
        let text = body.to_string();
        let answer = self.administer(name, body).await;
        answer.unwrap_or_else(|error| panic!("{name} {text}: {error:?}"))
    }

    #[track_caller]
    fn is(answer: Result<Value, (Code, String)>, code: Code, message: &str) {
        assert_eq!(answer, Err((code, message.to_owned())));
    }

    fn current(&self, arn: &str) -> Arc<Principal> {
        let snapshot = self.api.keystore.snapshot();
        Arc::clone(&snapshot.principals[arn].principal)
    }
}

fn arn(account: &str, what: &str) -> String {
    format!("arn:aws:iam::{account}:{what}")
}

#[tokio::test]
async fn users_roles_and_roots_of_several_accounts_are_made_and_listed() {
    let bench = Bench::new().await;
    let user = bench
        .administered(
            "CreatePrincipal",
            json!({"Name": "consumer", "Policies": [DECRYPT]}),
        )
        .await;
    assert_eq!(user["Arn"], arn(ACCOUNT, "user/consumer"));
    let (id, secret) = (
        user["AccessKeyId"].as_str().unwrap(),
        &user["SecretAccessKey"],
    );
    assert!(id.len() == 20 && id.starts_with("AKIA"));
    assert_eq!(secret.as_str().unwrap().len(), 40);
    let unique = user["UniqueId"].as_str().unwrap();
    assert!(unique.len() == 21 && unique.starts_with("AIDA"), "{unique}");
    let tags = json!([{"Key": "team", "Value": "storage"}]);
    let body = json!({"Name": "consumer", "Kind": "role", "Account": OTHER, "Policies": [DECRYPT], "Tags": tags});
    let role = bench.administered("CreatePrincipal", body).await;
    assert_eq!(role["Arn"], arn(OTHER, "role/consumer"));
    let unique = role["UniqueId"].as_str().unwrap();
    assert!(unique.len() == 21 && unique.starts_with("AROA"), "{unique}");
    assert!(role.get("AccessKeyId").is_none(), "a role has sessions");
    let root = bench
        .administered("CreatePrincipal", json!({"Kind": "root", "Account": OTHER}))
        .await;
    assert_eq!(root["Arn"], arn(OTHER, "root"));
    assert!(root["AccessKeyId"].is_string() && root.get("UniqueId").is_none());
    let named = bench
        .administered("CreatePrincipal", json!({"Name": arn(OTHER, "user/named")}))
        .await;
    assert_eq!(named["Arn"], arn(OTHER, "user/named"));

    let listed = bench.administered("ListPrincipals", json!({})).await;
    assert!(
        !listed.to_string().contains(secret.as_str().unwrap()),
        "a secret is told once"
    );
    let active = |made: &Value| json!([{"AccessKeyId": made["AccessKeyId"], "Status": "Active"}]);
    let expected = json!({"Principals": [
        {"Arn": user["Arn"], "Kind": "user", "Account": ACCOUNT, "UniqueId": user["UniqueId"], "Enabled": true, "AccessKeys": active(&user), "PolicyCount": 1},
        {"Arn": role["Arn"], "Kind": "role", "Account": OTHER, "UniqueId": role["UniqueId"], "Enabled": true, "AccessKeys": [], "PolicyCount": 1},
        {"Arn": root["Arn"], "Kind": "root", "Account": OTHER, "Enabled": true, "AccessKeys": active(&root), "PolicyCount": 0},
        {"Arn": named["Arn"], "Kind": "user", "Account": OTHER, "UniqueId": named["UniqueId"], "Enabled": true, "AccessKeys": active(&named), "PolicyCount": 0},
    ], "Truncated": false});
    assert_eq!(listed, expected);
    let described = bench
        .administered("DescribePrincipal", json!({"Name": role["Arn"]}))
        .await;
    assert_eq!(described["Policies"], json!([DECRYPT]));
    assert_eq!(described["Tags"], tags);
    let kinds =
        [&user, &role, &root].map(|made| bench.current(made["Arn"].as_str().unwrap()).kind());
    assert_eq!(
        kinds,
        [
            PrincipalKind::User,
            PrincipalKind::Role,
            PrincipalKind::Root
        ]
    );
}

#[tokio::test]
async fn principals_are_listed_in_pages() {
    let bench = Bench::new().await;
    for number in 0..5 {
        bench
            .administered("CreatePrincipal", json!({"Name": format!("u{number}")}))
            .await;
    }
    let (mut seen, mut marker) = (Vec::new(), Value::Null);
    loop {
        let page = bench
            .administered("ListPrincipals", json!({"Limit": 2, "Marker": marker}))
            .await;
        let arns = page["Principals"].as_array().unwrap().iter();
        seen.extend(arns.map(|one| one["Arn"].as_str().unwrap().to_owned()));
        if page["Truncated"] == false {
            break;
        }
        marker = page["NextMarker"].clone();
    }
    let all: Vec<_> = (0..5)
        .map(|number| arn(ACCOUNT, &format!("user/u{number}")))
        .collect();
    assert_eq!(seen, all);
    let answer = bench
        .administer("ListPrincipals", json!({"Marker": "x"}))
        .await;
    Bench::is(answer, Code::InvalidMarkerException, "");
    let answer = bench
        .administer("ListPrincipals", json!({"Limit": 1001}))
        .await;
    assert_eq!(answer.unwrap_err().0, Code::ValidationException);
}

#[tokio::test]
async fn access_keys_are_rolled_one_after_the_other() {
    let bench = Bench::new().await;
    let name = json!({"Name": "consumer"});
    let first = bench.administered("CreatePrincipal", name.clone()).await["AccessKeyId"].clone();
    let second = bench.administered("CreateAccessKey", name.clone()).await;
    assert!(second.get("Arn").is_none() && second["SecretAccessKey"].is_string());
    let second = second["AccessKeyId"].clone();
    let message = format!(
        "{} has 2 access keys: delete one first",
        arn(ACCOUNT, "user/consumer")
    );
    let third = bench.administer("CreateAccessKey", name.clone()).await;
    Bench::is(third, Code::LimitExceededException, &message);
    let status = async || {
        let described = bench.administered("DescribePrincipal", name.clone()).await;
        let keys = described["AccessKeys"].as_array().unwrap().clone();
        let pair = |key: &Value| {
            (
                key["AccessKeyId"].clone(),
                key["Status"].as_str().unwrap().to_owned(),
            )
        };
        keys.iter().map(pair).collect::<Vec<_>>()
    };
    let key_of = |id: &Value| {
        let snapshot = bench.api.keystore.snapshot();
        let entry = &snapshot.access_keys[id.as_str().unwrap()];
        let mut keys = entry.access_keys.iter();
        Arc::clone(keys.find(|key| *key.id == *id.as_str().unwrap()).unwrap())
    };
    let before = key_of(&first);
    for (set, word) in [
        ("Inactive", "Inactive"),
        ("Active", "Active"),
        ("Inactive", "Inactive"),
    ] {
        let body = json!({"Name": "consumer", "AccessKeyId": first, "Status": set});
        assert_eq!(
            bench.administered("UpdateAccessKey", body).await,
            Value::Null
        );
        let expected = [
            (first.clone(), word.to_owned()),
            (second.clone(), "Active".to_owned()),
        ];
        assert_eq!(status().await, expected);
    }
    let after = key_of(&first);
    assert!(
        !Arc::ptr_eq(&before, &after),
        "what was derived from it is not found again"
    );
    assert_eq!(before.secret.expose(), after.secret.expose());
    let gone = json!({"Name": "consumer", "AccessKeyId": first});
    bench.administered("DeleteAccessKey", gone.clone()).await;
    assert_eq!(status().await, [(second.clone(), "Active".to_owned())]);
    assert!(
        !bench
            .api
            .keystore
            .snapshot()
            .access_keys
            .contains_key(first.as_str().unwrap())
    );
    let message = format!(
        "{} has no access key {}",
        arn(ACCOUNT, "user/consumer"),
        first.as_str().unwrap()
    );
    let again = bench.administer("DeleteAccessKey", gone).await;
    Bench::is(again, Code::NotFoundException, &message);
    let update = json!({"Name": "consumer", "AccessKeyId": first, "Status": "Active"});
    let again = bench.administer("UpdateAccessKey", update).await;
    Bench::is(again, Code::NotFoundException, &message);
    bench
        .administered("CreatePrincipal", json!({"Name": "batch", "Kind": "role"}))
        .await;
    let of_role = bench
        .administer(
            "CreateAccessKey",
            json!({"Name": arn(ACCOUNT, "role/batch")}),
        )
        .await;
    let message = format!(
        "{} is a role: it has sessions in place of access keys",
        arn(ACCOUNT, "role/batch")
    );
    Bench::is(of_role, Code::ValidationException, &message);
}

#[tokio::test]
async fn a_credential_of_an_external_key_store_is_of_its_own_kind() {
    let bench = Bench::new().await;
    let name = json!({"Name": "aws-kms"});
    bench.administered("CreatePrincipal", name.clone()).await;
    let mut for_xks = name.clone();
    for_xks["ServiceName"] = "kms-xks-proxy".into();
    for _ in 0..2 {
        let made = bench.administered("CreateAccessKey", for_xks.clone()).await;
        let id = made["AccessKeyId"].as_str().unwrap();
        let secret = made["SecretAccessKey"].as_str().unwrap();
        // As AWS KMS takes them.
        let digit = |byte: u8| matches!(byte, b'A'..=b'Z' | b'2'..=b'7');
        assert!(id.starts_with("XKSP") && id.len() == 20 && id.bytes().all(digit));
        assert_eq!(secret.len(), 43);
        // It outlives a restart: its length is kept with it.
        let snapshot = bench.api.keystore.snapshot();
        assert!(snapshot.access_keys.contains_key(id));
    }
    let arn = arn(ACCOUNT, "user/aws-kms");
    let message = format!("{arn} has 2 access keys for kms-xks-proxy: delete one first");
    let third = bench.administer("CreateAccessKey", for_xks).await;
    Bench::is(third, Code::LimitExceededException, &message);
    // Those for other services are counted apart.
    bench.administered("CreateAccessKey", name.clone()).await;
    let message = format!("{arn} has 2 access keys: delete one first");
    let third = bench.administer("CreateAccessKey", name.clone()).await;
    Bench::is(third, Code::LimitExceededException, &message);
    let mut other = name;
    other["ServiceName"] = "kms".into();
    let message = "1 validation error detected: Value 'kms' at 'serviceName' failed to satisfy constraint: \
                   Member must satisfy enum value set: [kms-xks-proxy]";
    let refused = bench.administer("CreateAccessKey", other).await;
    Bench::is(refused, Code::ValidationException, message);
}

#[tokio::test]
async fn policies_and_tags_are_replaced_and_the_rest_is_kept() {
    let bench = Bench::new().await;
    let made = bench
        .administered(
            "CreatePrincipal",
            json!({"Name": "consumer", "Policies": [DECRYPT]}),
        )
        .await;
    let arn = made["Arn"].as_str().unwrap();
    let key = bench.key().await;
    let caller = bench.current(arn);
    let ask = json!({"KeyId": key, "KeySpec": "AES_256"});
    let denied = bench.call_as(&caller, "GenerateDataKey", ask.clone()).await;
    assert_eq!(denied.unwrap_err().0, Code::AccessDeniedException);
    let tags = json!([{"Key": "Team", "Value": "a b"}, {"Key": "stage", "Value": ""}]);
    bench
        .administered("PutPrincipalTags", json!({"Name": arn, "Tags": tags}))
        .await;
    let mint = r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"kms:GenerateDataKey","Resource":"*",
        "Condition":{"StringEquals":{"aws:PrincipalTag/team":"a b","aws:userid":"UNIQUE"}}}}"#;
    let mint = mint.replace("UNIQUE", made["UniqueId"].as_str().unwrap());
    let body = json!({"Name": "consumer", "Policies": [mint, DECRYPT]});
    bench.administered("PutPrincipalPolicies", body).await;
    // A caller that was authenticated before has the rights of now.
    bench.done_as(&caller, "GenerateDataKey", ask.clone()).await;
    let described = bench
        .administered("DescribePrincipal", json!({"Name": arn}))
        .await;
    assert_eq!(described["Policies"], json!([mint, DECRYPT]));
    assert_eq!(
        (&described["Tags"], &described["UniqueId"]),
        (&tags, &made["UniqueId"])
    );
    assert_eq!(
        described["AccessKeys"][0]["AccessKeyId"],
        made["AccessKeyId"]
    );
    bench
        .administered("PutPrincipalTags", json!({"Name": arn, "Tags": []}))
        .await;
    let denied = bench.call_as(&caller, "GenerateDataKey", ask).await;
    assert_eq!(denied.unwrap_err().0, Code::AccessDeniedException);
    bench
        .administered("PutPrincipalPolicies", json!({"Name": arn, "Policies": []}))
        .await;
    let described = bench
        .administered("DescribePrincipal", json!({"Name": arn}))
        .await;
    assert_eq!(
        (&described["Policies"], &described["Tags"]),
        (&json!([]), &json!([]))
    );
}

#[tokio::test]
async fn who_is_disabled_is_nobody_until_he_is_enabled() {
    let bench = Bench::new().await;
    let caller = bench.allowed("provisioner", &["kms:*"]).await;
    let key = bench.key().await;
    let ask = json!({"KeyId": key, "KeySpec": "AES_256", "Count": 3 * DataKeys::CHUNK_KEYS});
    let mut batch = bench
        .api
        .data_keys(
            &Requester::local(Arc::clone(&caller)),
            ask.to_string().as_bytes(),
        )
        .unwrap();
    let mut out = Vec::new();
    assert_eq!(batch.blobs(&mut out), DataKeys::CHUNK_KEYS);
    let name = json!({"Name": "provisioner"});
    bench.administered("DisablePrincipal", name.clone()).await;
    let length = out.len();
    let ended = batch.next_chunk(&mut out).unwrap_err();
    assert_eq!(ended.code(), Code::UnrecognizedClientException);
    assert_eq!(out.len(), length, "nothing of the chunk is handed out");
    let invalid = "The security token included in the request is invalid.";
    let ask = json!({"KeyId": key, "KeySpec": "AES_256"});
    for (operation, body) in [("GenerateDataKey", ask.clone()), ("CreateKey", json!({}))] {
        bench
            .refused_as(
                &caller,
                operation,
                body,
                Code::UnrecognizedClientException,
                invalid,
            )
            .await;
    }
    let described = bench.administered("DescribePrincipal", name.clone()).await;
    assert_eq!(
        (&described["Enabled"], &described["PolicyCount"]),
        (&json!(false), &json!(1))
    );
    // A change in the meantime does not enable it.
    let again = json!({"Name": "provisioner", "Tags": []});
    bench.administered("PutPrincipalTags", again).await;
    bench.administered("CreateAccessKey", name.clone()).await;
    bench.administered("DisablePrincipal", name.clone()).await;
    bench
        .refused_as(
            &caller,
            "GenerateDataKey",
            ask.clone(),
            Code::UnrecognizedClientException,
            invalid,
        )
        .await;
    bench.administered("EnablePrincipal", name.clone()).await;
    bench.done_as(&caller, "GenerateDataKey", ask.clone()).await;
    bench.administered("DeletePrincipal", name.clone()).await;
    bench
        .refused_as(
            &caller,
            "GenerateDataKey",
            ask,
            Code::UnrecognizedClientException,
            invalid,
        )
        .await;
    let message = format!(
        "Principal {} does not exist",
        arn(ACCOUNT, "user/provisioner")
    );
    for operation in [
        "EnablePrincipal",
        "DisablePrincipal",
        "DeletePrincipal",
        "DescribePrincipal",
        "CreateAccessKey",
    ] {
        Bench::is(
            bench.administer(operation, name.clone()).await,
            Code::NotFoundException,
            &message,
        );
    }
}
