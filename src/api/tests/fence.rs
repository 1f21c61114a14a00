//! POOL-4 and POOL-5 at a request's last check: what changes between its work and its hand-over.

use super::ErrorCode as Code;
use super::*;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

/// Runs a call on a thread and runtime of its own, in the middle of another request.
pub(crate) fn at_once(api: &Arc<Api>, name: &'static str, body: &Value) {
    let (api, body) = (Arc::clone(api), body.to_string());
    let admin = Principal::operator(0, ACCOUNT.parse().unwrap());
    let call = move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let operation = Operation::named(name).unwrap();
        runtime
            .block_on(api.call(operation, &Requester::local(admin), body.as_bytes()))
            .unwrap();
    };
    std::thread::spawn(call).join().unwrap();
}

/// Puts `act` between the work and the last check of this thread's requests, `times` times.
pub(crate) fn between(times: usize, mut act: impl FnMut() + 'static) {
    let mut left = times;
    let act = move || {
        if left > 0 {
            left -= 1;
            act();
        }
    };
    BETWEEN.set(Some(Box::new(act)));
}

#[tokio::test]
async fn pool_4_a_change_between_work_and_last_check_is_seen() {
    let bench = Bench::new().await;
    let id = bench.key().await;
    let made = bench
        .done("Encrypt", json!({"KeyId": id, "Plaintext": "AA=="}))
        .await;
    for (operation, body) in [
        (
            "GenerateDataKeyWithoutPlaintext",
            json!({"KeyId": id, "KeySpec": "AES_256"}),
        ),
        (
            "GenerateDataKey",
            json!({"KeyId": id, "KeySpec": "AES_256"}),
        ),
        ("Encrypt", json!({"KeyId": id, "Plaintext": "AA=="})),
        ("Decrypt", json!({"CiphertextBlob": made["CiphertextBlob"]})),
        (
            "ReEncrypt",
            json!({"CiphertextBlob": made["CiphertextBlob"], "DestinationKeyId": id}),
        ),
    ] {
        let (api, key) = (Arc::clone(&bench.api), json!({"KeyId": id}));
        between(1, move || at_once(&api, "DisableKey", &key));
        bench.disabled(operation, body, &id).await;
        BETWEEN.set(None);
        bench.done_to("EnableKey", &id).await;
    }
}

#[tokio::test]
async fn pool_4_a_request_that_changes_keep_overtaking_makes_the_next_one_wait() {
    let bench = Bench::new().await;
    let id = bench.key().await;
    let ask = json!({"KeyId": id, "KeySpec": "AES_256"});
    for operation in ["GenerateDataKeyWithoutPlaintext", "GenerateDataKey"] {
        let (api, key) = (Arc::clone(&bench.api), json!({"KeyId": id}));
        let is_answered = Arc::new(AtomicBool::new(false));
        let (seen, waiting) = (Arc::clone(&is_answered), Arc::new(Mutex::new(None)));
        let (begun, mut attempts) = (Arc::clone(&waiting), 0);
        between(usize::MAX, move || {
            attempts += 1;
            if attempts < ATTEMPTS_MAX {
                return at_once(&api, "CreateKey", &json!({}));
            }
            let (api, key, told) = (Arc::clone(&api), key.clone(), Arc::clone(&seen));
            let change = std::thread::spawn(move || {
                at_once(&api, "DisableKey", &key);
                told.store(true, Ordering::SeqCst);
            });
            *begun.lock().unwrap() = Some(change);
            // Committed long before, and not answered while the request has not been let go.
            std::thread::sleep(Duration::from_millis(100));
            assert!(!seen.load(Ordering::SeqCst), "the change was answered");
        });
        bench.done(operation, ask.clone()).await;
        BETWEEN.set(None);
        let change = waiting.lock().unwrap().take();
        change.expect("a third attempt").join().unwrap();
        assert!(is_answered.load(Ordering::SeqCst));
        bench.disabled(operation, ask.clone(), &id).await;
        bench.done_to("EnableKey", &id).await;
    }
}

#[tokio::test]
async fn pool_5_a_clone_between_work_and_last_check_drops_what_was_bound() {
    let bench = Bench::new().await;
    let id = bench.key().await;
    let ask = json!({"KeyId": id, "KeySpec": "AES_256"});
    let handle = bench.api.clone_word.handle();
    between(1, move || {
        handle.fetch_add(1, Ordering::SeqCst);
    });
    bench
        .done("GenerateDataKeyWithoutPlaintext", ask.clone())
        .await;
    let handle = bench.api.clone_word.handle();
    between(9, move || {
        handle.fetch_add(1, Ordering::SeqCst);
    });
    bench
        .refused(
            "GenerateDataKeyWithoutPlaintext",
            ask,
            Code::KMSInternalException,
            "",
        )
        .await;
    BETWEEN.set(None);
}

#[tokio::test]
async fn a_removed_principals_change_is_decided_on_what_is_current() {
    let bench = Bench::new().await;
    let id = bench.key().await;
    bench.done_to("ScheduleKeyDeletion", &id).await;
    // The same decision twice: the second finds the state that the first left.
    bench
        .pending_deletion("ScheduleKeyDeletion", json!({"KeyId": id}), &id)
        .await;
}

#[tokio::test]
async fn a_change_runs_to_its_end_when_its_caller_is_gone() {
    let bench = Bench::new().await;
    let id = bench.key().await;
    let body = json!({"KeyId": id}).to_string();
    let operation = Operation::named("DisableKey").unwrap();
    let requester = Requester::local(Arc::clone(&bench.admin));
    let mut call = Box::pin(bench.api.call(operation, &requester, body.as_bytes()));
    // Polled once, so that it has begun, then dropped.
    let begun = std::future::poll_fn(|context| {
        std::task::Poll::Ready(call.as_mut().poll(context).is_pending())
    });
    assert!(begun.await);
    drop(call);
    // Changes are serialized: the next one waits for it, and the store still takes changes.
    bench.key().await;
    let described = bench.done_to("DescribeKey", &id).await;
    assert_eq!(described["KeyMetadata"]["KeyState"], "Disabled");
}
