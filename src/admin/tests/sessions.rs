//! Sessions of roles: what they are told, and what they may do for how long.

use super::ErrorCode as Code;
use super::*;
use crate::policy::principal::PrincipalKind;

const INVALID: &str = "The security token included in the request is invalid.";
const EXPIRED: &str = "The security token included in the request is expired";

impl Bench {
    async fn role(&self, actions: &[&str]) -> Value {
        let statement = json!({"Effect": "Allow", "Action": actions, "Resource": "*"});
        let policy = json!({ "Statement": statement }).to_string();
        let body = json!({"Name": "batch", "Kind": "role", "Policies": [policy]});
        self.administer("CreatePrincipal", body).await.unwrap()
    }

    /// A session of the role as the verifier would make it.
    fn session(&self, seconds: u64) -> Arc<Principal> {
        let snapshot = self.api.keystore.snapshot();
        let role = &snapshot.principals[format!("arn:aws:iam::{ACCOUNT}:role/batch").as_str()];
        let now = self.api.clock.now();
        let session = role.principal.session("nightly", now).unwrap();
        let expiration = now.after(Duration::from_secs(seconds));
        Arc::new(session.with_expiration(expiration))
    }
}

#[tokio::test]
async fn a_session_is_told_once_and_kept_nowhere() {
    let bench = Bench::new().await;
    bench.role(&["kms:Decrypt"]).await;
    let revision = bench.api.keystore.revision();
    let body = json!({"Name": "batch", "SessionName": "nightly"});
    let told = bench.administer("CreateSession", body).await.unwrap();
    assert_eq!(
        told["Arn"],
        format!("arn:aws:sts::{ACCOUNT}:assumed-role/batch/nightly")
    );
    let id = told["AccessKeyId"].as_str().unwrap();
    assert!(id.len() == 20 && id.starts_with("ASIA"), "{id}");
    assert_eq!(told["SecretAccessKey"].as_str().unwrap().len(), 40);
    // NOW and an hour.
    assert_eq!(told["Expiration"], "2023-11-14T23:13:20Z");
    assert_eq!(decoded(&told["SessionToken"])[0], 1);
    assert_eq!(bench.api.keystore.revision(), revision);
    let body = json!({"Name": format!("arn:aws:iam::{ACCOUNT}:role/batch"), "SessionName": "nightly", "DurationSeconds": 900});
    let other = bench.administer("CreateSession", body).await.unwrap();
    assert_eq!(other["Expiration"], "2023-11-14T22:28:20Z");
    for member in ["AccessKeyId", "SecretAccessKey", "SessionToken"] {
        assert_ne!(told[member], other[member]);
    }
}

#[tokio::test]
async fn only_enabled_roles_have_sessions_of_bounded_length() {
    let bench = Bench::new().await;
    bench.role(&["kms:Decrypt"]).await;
    bench.allowed("user", &["kms:Decrypt"]).await;
    let one = "1 validation error detected: ";
    let role = format!("arn:aws:iam::{ACCOUNT}:role/batch");
    let cases = [
        (
            json!({"Name": "batch"}),
            Code::ValidationException,
            format!(
                "{one}Value null at 'sessionName' failed to satisfy constraint: Member must not be null"
            ),
        ),
        (
            json!({"SessionName": "nightly"}),
            Code::ValidationException,
            format!(
                "{one}Value null at 'name' failed to satisfy constraint: Member must not be null"
            ),
        ),
        (
            json!({"Name": "batch", "SessionName": "n"}),
            Code::ValidationException,
            format!(
                "{one}Value 'n' at 'sessionName' failed to satisfy constraint: Member must have length greater than or equal to 2"
            ),
        ),
        (
            json!({"Name": "batch", "SessionName": "a/b"}),
            Code::ValidationException,
            format!(
                "{one}Value 'a/b' at 'sessionName' failed to satisfy constraint: Member must satisfy regular expression pattern: ^[\\w+=,.@-]+$"
            ),
        ),
        (
            json!({"Name": "batch", "SessionName": "nightly", "DurationSeconds": 899}),
            Code::ValidationException,
            format!(
                "{one}Value '899' at 'durationSeconds' failed to satisfy constraint: Member must have value greater than or equal to 900"
            ),
        ),
        (
            json!({"Name": "batch", "SessionName": "nightly", "DurationSeconds": 43201}),
            Code::ValidationException,
            format!(
                "{one}Value '43201' at 'durationSeconds' failed to satisfy constraint: Member must have value less than or equal to 43200"
            ),
        ),
        (
            json!({"Name": "user", "SessionName": "nightly"}),
            Code::NotFoundException,
            format!("Principal arn:aws:iam::{ACCOUNT}:role/user does not exist"),
        ),
        (
            json!({"Name": format!("arn:aws:iam::{ACCOUNT}:user/user"), "SessionName": "nightly"}),
            Code::ValidationException,
            "Only roles have sessions.".to_owned(),
        ),
    ];
    for (body, code, message) in cases {
        let text = body.to_string();
        let answer = bench.administer("CreateSession", body).await;
        assert_eq!(answer, Err((code, message)), "{text}");
    }
    bench
        .administer("DisablePrincipal", json!({"Name": role}))
        .await
        .unwrap();
    let body = json!({"Name": "batch", "SessionName": "nightly"});
    let refused = bench.administer("CreateSession", body.clone()).await;
    assert_eq!(
        refused,
        Err((Code::DisabledException, format!("{role} is disabled.")))
    );
    bench
        .administer("EnablePrincipal", json!({"Name": role}))
        .await
        .unwrap();
    bench.faults.0.store(true, Ordering::SeqCst);
    let failed = bench.administer("CreateSession", body).await;
    assert_eq!(failed, Err((Code::KMSInternalException, String::new())));
}

#[tokio::test]
async fn a_session_has_its_roles_rights_as_they_are_now() {
    let bench = Bench::new().await;
    let role = bench.role(&["kms:GenerateDataKey"]).await;
    let key = bench.key().await;
    let session = bench.session(3600);
    assert_eq!(session.kind(), PrincipalKind::AssumedRole);
    let ask = json!({"KeyId": key, "KeySpec": "AES_256"});
    bench
        .done_as(&session, "GenerateDataKey", ask.clone())
        .await;
    let policy = r#"{"Statement":{"Effect":"Deny","Action":"kms:*","Resource":"*"}}"#;
    let body = json!({"Name": role["Arn"], "Policies": [policy]});
    bench
        .administer("PutPrincipalPolicies", body)
        .await
        .unwrap();
    let denied = format!(
        "User: arn:aws:sts::{ACCOUNT}:assumed-role/batch/nightly is not authorized to perform: kms:GenerateDataKey on resource: {} with an explicit deny in an identity-based policy",
        key_arn(&key)
    );
    bench
        .denied(&session, "GenerateDataKey", ask.clone(), &denied)
        .await;
    let body = json!({"Name": role["Arn"]});
    bench.administer("DeletePrincipal", body).await.unwrap();
    bench
        .refused_as(
            &session,
            "GenerateDataKey",
            ask.clone(),
            Code::UnrecognizedClientException,
            INVALID,
        )
        .await;
    // Another role of the same name is another role.
    bench.role(&["kms:*"]).await;
    bench
        .refused_as(
            &session,
            "GenerateDataKey",
            ask,
            Code::UnrecognizedClientException,
            INVALID,
        )
        .await;
}

#[tokio::test]
async fn a_batch_ends_with_its_session_or_its_role() {
    let bench = Bench::new().await;
    let role = bench.role(&["kms:*"]).await;
    let key = bench.key().await;
    let ask =
        json!({"KeyId": key, "KeySpec": "AES_256", "Count": 4 * DataKeys::CHUNK_KEYS}).to_string();
    let begin = |session: &Arc<Principal>| {
        let mut batch = bench
            .api
            .data_keys(&Requester::local(Arc::clone(session)), ask.as_bytes())
            .unwrap();
        assert_eq!(batch.blobs(&mut Vec::new()), DataKeys::CHUNK_KEYS);
        batch
    };
    let ends = |mut batch: DataKeys| {
        let mut out = Vec::new();
        let error = batch.next_chunk(&mut out).unwrap_err();
        assert!(out.is_empty());
        (error.code(), error.message().to_owned())
    };
    let mut batch = begin(&bench.session(60));
    bench.api.clock.advance(Duration::from_secs(59));
    assert_eq!(batch.blobs(&mut Vec::new()), DataKeys::CHUNK_KEYS);
    bench.api.clock.advance(Duration::from_secs(1));
    assert_eq!(
        ends(batch),
        (Code::ExpiredTokenException, EXPIRED.to_owned())
    );
    let batch = begin(&bench.session(3600));
    let name = json!({"Name": role["Arn"]});
    bench
        .administer("DisablePrincipal", name.clone())
        .await
        .unwrap();
    assert_eq!(
        ends(batch),
        (Code::UnrecognizedClientException, INVALID.to_owned())
    );
    bench.administer("EnablePrincipal", name).await.unwrap();
    let batch = begin(&bench.session(3600));
    let body = json!({"Name": role["Arn"], "Policies": []});
    bench
        .administer("PutPrincipalPolicies", body)
        .await
        .unwrap();
    assert_eq!(ends(batch).0, Code::AccessDeniedException);
}

#[tokio::test]
async fn sessions_issued_before_a_time_can_be_denied() {
    let bench = Bench::new().await;
    let role = bench.role(&["kms:*"]).await;
    let key = bench.key().await;
    let ask = json!({"KeyId": key, "KeySpec": "AES_256"});
    let old = bench.session(3600);
    bench.api.clock.advance(Duration::from_secs(600));
    let new = bench.session(3600);
    let all = r#"{"Statement":{"Effect":"Allow","Action":"kms:*","Resource":"*"}}"#;
    // As IAM's "revoke sessions" does it; NOW is 22:13:20.
    let revoked = r#"{"Statement":{"Effect":"Deny","Action":"*","Resource":"*","Condition":{"DateLessThan":{"aws:TokenIssueTime":"2023-11-14T22:20:00Z"}}}}"#;
    let body = json!({"Name": role["Arn"], "Policies": [all, revoked]});
    bench
        .administer("PutPrincipalPolicies", body)
        .await
        .unwrap();
    let denied = bench.call_as(&old, "GenerateDataKey", ask.clone()).await;
    assert_eq!(denied.unwrap_err().0, Code::AccessDeniedException);
    bench.done_as(&new, "GenerateDataKey", ask).await;
}
