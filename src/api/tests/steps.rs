//! AUTH-1: policies cannot hold a core. What takes long to decide on is decided elsewhere, and what
//! takes too long is denied.

use super::ErrorCode as Code;
use super::*;
use crate::api::handler::Thread;
use crate::api::proxied::Proxied;
use crate::policy::steps::briefly;

const MINT: &str = "GenerateDataKeyWithoutPlaintext";

/// A key policy that lets everybody of the account, behind so many patterns that each name of a
/// context is compared with.
fn patterns(count: usize) -> Value {
    let patterns: Vec<_> = (0..count).map(|at| format!("*{at}a*")).collect();
    json!([
        {"Effect": "Deny", "Principal": "*", "Action": "kms:Generate*", "Resource": "*",
            "Condition": {"ForAnyValue:StringLike": {"kms:EncryptionContextKeys": patterns}}},
        to(&root_of(ACCOUNT), &["kms:*"]),
    ])
}

fn context(pairs: usize) -> Value {
    (0..pairs)
        .map(|at| (format!("{at:04}"), json!("")))
        .collect()
}

/// What a call would be answered on a thread that serves connections, with no thread to perform it
/// again.
fn on_a_serving_thread(bench: &Bench, who: &Arc<Principal>, body: &Value) -> Result<(), ApiError> {
    let Handler::Relaying(handler) = handler(Operation::named(MINT).unwrap()) else {
        panic!("{MINT} waits for nothing");
    };
    let requester = Requester::local(Arc::clone(who));
    let body = body.to_string();
    let proxied = Proxied::default();
    let call = || {
        handler(
            &bench.api,
            &requester,
            body.as_bytes(),
            Thread::Async,
            &proxied,
        )
    };
    briefly(call).map(|_| ())
}

#[tokio::test]
async fn auth_1_a_decision_that_takes_long_is_made_where_nobody_waits_behind_it() {
    let bench = Bench::new().await;
    let who = bench.allowed("a", &["kms:*"]).await;
    let id = bench.key().await;
    bench.put_policy(&id, patterns(500)).await;
    let few = json!({"KeyId": id, "KeySpec": "AES_256", "EncryptionContext": context(2)});
    assert!(on_a_serving_thread(&bench, &who, &few).is_ok());
    let many = json!({"KeyId": id, "KeySpec": "AES_256", "EncryptionContext": context(200)});
    let undecided = on_a_serving_thread(&bench, &who, &many).unwrap_err();
    assert!(undecided.is_undecided());
    for body in [few, many.clone()] {
        bench.done_as(&who, MINT, body).await;
    }
    // The other ways of being called: waiting for something, and weighing.
    let sealed = bench.done_as(&who, MINT, many.clone()).await["CiphertextBlob"].clone();
    let open = json!({"CiphertextBlob": sealed, "EncryptionContext": many["EncryptionContext"]});
    bench.done_as(&who, "Decrypt", open).await;
    let pair = json!({"KeyId": id, "KeyPairSpec": "ECC_NIST_P256", "EncryptionContext": many["EncryptionContext"]});
    bench
        .done_as(&who, "GenerateDataKeyPairWithoutPlaintext", pair)
        .await;
    assert_eq!(bench.counted("keymill_policy_undecided_total"), 0);
}

#[tokio::test]
async fn auth_1_a_decision_beyond_its_steps_is_denied_and_counted() {
    let bench = Bench::new().await;
    let who = bench.allowed("a", &["kms:*"]).await;
    let id = bench.key().await;
    bench.put_policy(&id, patterns(2500)).await;
    let body = json!({"KeyId": id, "KeySpec": "AES_256", "EncryptionContext": context(900)});
    let message = format!(
        "User: {} is not authorized to perform: kms:{MINT} on resource: {} because its policies take more than 5000000 steps to decide on \
         the kms:{MINT} action",
        who.arn,
        key_arn(&id)
    );
    let denied = refusal(Code::AccessDeniedException, &message);
    assert_eq!(bench.call_as(&who, MINT, body.clone()).await, denied);
    // A batch is denied in the same way.
    let requester = Requester::local(Arc::clone(&who));
    let mut batch = body.clone();
    batch["Count"] = json!(1);
    let refused = bench
        .api
        .data_keys(&requester, batch.to_string().as_bytes());
    assert_eq!(
        refused.err().map(|error| error.code()),
        Some(Code::AccessDeniedException)
    );
    assert_eq!(bench.counted("keymill_policy_undecided_total"), 2);
    // What the same policy allows within its steps goes on.
    let body = json!({"KeyId": id, "KeySpec": "AES_256", "EncryptionContext": context(3)});
    bench.done_as(&who, MINT, body).await;
    // `policy check` says so too.
    let asked = json!({"Principal": who.arn, "Action": format!("kms:{MINT}"), "KeyId": id, "EncryptionContext": context(900)});
    let answer = bench.administer("CheckPolicy", asked).await.unwrap();
    assert_eq!(answer["Allowed"], false);
    assert!(
        answer["Reason"].as_str().unwrap().contains("5000000 steps"),
        "{answer}"
    );
}
