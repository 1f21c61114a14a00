//! Counts the allocations on the path of one data key: verifying its signature, and performing the
//! operation with a warm pool.
//!
//! The allocator counts for each thread, so that what the audit log's writer and the fillers do
//! meanwhile is not in the figures. A request in a hundred may allocate more: the one that finds a
//! buffer full, or retires what others may still be reading.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../benches/mill.rs"]
mod mill;

use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header};
use keymill::auth::{Credentials, Head, Verifier};
use keymill::clock::Timestamp;
use keymill::crypto::secret::{Secret, SecretBytes};
use keymill::keystore::{AccessKey, PrincipalEntry, Snapshot};
use keymill::operation::Operation;
use keymill::policy::Principal;
use keymill::pool;
use mill::Mill;
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

/// Of a data key without its plaintext, from the JSON to the bytes of the answer.
const OF_A_DATA_KEY: usize = 1;
/// Of a signature whose signing key is known.
const OF_A_SIGNATURE: usize = 0;

/// Requests before anything is counted: buffers have grown, the signing key is known.
const WARM_UP: usize = 200;
const REQUESTS: usize = 1000;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

/// The system's allocator, counting.
struct Counting;

fn count() {
    // A thread that is ending has no counter any more; its allocations are not counted.
    let _ended = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
}

#[expect(
    unsafe_code,
    reason = "allocators have no safe trait; each call is handed on as it is"
)]
// SAFETY: every method is the system allocator's, which keeps the trait's promises, with the same
// arguments; counting neither allocates nor unwinds.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promises are handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are handed on.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promises are handed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        count();
        // SAFETY: the caller's promises are handed on.
        unsafe { System.realloc(pointer, layout, bytes) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Allocations of this thread in each of many calls, but for the highest hundredth, of which the
/// highest.
fn allocations(mut once: impl FnMut()) -> usize {
    (0..WARM_UP).for_each(|_| once());
    let mut each: Vec<usize> = Vec::with_capacity(REQUESTS);
    for _ in 0..REQUESTS {
        let before = ALLOCATIONS.get();
        once();
        each.push(ALLOCATIONS.get() - before);
    }
    each.sort_unstable();
    each[REQUESTS * 99 / 100 - 1]
}

#[test]
fn the_counter_counts() {
    let each = allocations(|| drop(black_box(Box::new(7))));
    assert_eq!(each, 1);
}

#[test]
fn a_data_key_allocates_its_answer_and_nothing_else() {
    let mill = Mill::open(pool::Config::default());
    let id = mill.create_key().key.id;
    let generate = Operation::named("GenerateDataKeyWithoutPlaintext").unwrap();
    let body = format!(
        r#"{{"KeyId":"{id}","KeySpec":"AES_256","EncryptionContext":{{"container":"container-000000000042","tenant":"tenant-000000000007"}}}}"#
    );
    let requester = mill.provisioner();
    let ask = || {
        let call = mill.core.api.call(generate, &requester, body.as_bytes());
        let reply = mill.runtime.block_on(call).ok().unwrap();
        drop(black_box(reply.into_bytes()));
    };
    // The first is a miss, and makes the lane.
    ask();
    let depth = || mill.core.pool.lanes().first().map_or(0, |lane| lane.depth);
    while depth() < WARM_UP + REQUESTS {
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(allocations(ask), OF_A_DATA_KEY);
}

const ACCESS_KEY_ID: &str = "AKIAIOSFODNN7EXAMPLE";
const NOW: Timestamp = Timestamp(1_768_478_400_000_000);
const BODY: &[u8] = br#"{"KeyId":"alias/containers","KeySpec":"AES_256","EncryptionContext":{"container":"container-000000000042"}}"#;

fn secret() -> SecretBytes {
    SecretBytes::filled(40, |bytes| bytes.fill(b'x'))
}

fn signed() -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("host", "127.0.0.1:5645"),
        (
            "x-amz-target",
            "TrentService.GenerateDataKeyWithoutPlaintext",
        ),
        ("content-type", "application/x-amz-json-1.1"),
    ] {
        let name = HeaderName::from_static(name);
        headers.insert(name, HeaderValue::from_static(value));
    }
    let credentials = Credentials {
        access_key_id: ACCESS_KEY_ID.to_owned(),
        secret_access_key: secret(),
        session_token: None,
        region: "us-east-1".to_owned(),
    };
    credentials
        .sign(&Method::POST, "/", &mut headers, BODY, NOW)
        .unwrap();
    let agent = HeaderValue::from_static("Boto3/1.43.11");
    headers.insert(header::USER_AGENT, agent);
    headers
}

#[test]
fn a_signature_allocates_nothing() {
    let token_key = Arc::new(Secret::filled(|bytes| bytes.fill(7)));
    let verifier = Verifier::new("us-east-1".to_owned(), Duration::from_secs(300), token_key);
    let access_key = AccessKey::new(ACCESS_KEY_ID.to_owned(), secret());
    let principal = Principal::new("arn:aws:iam::111122223333:user/provisioner", Vec::new());
    let entry = PrincipalEntry::new(principal.unwrap(), vec![Arc::new(access_key)]);
    let mut snapshot = Snapshot::default();
    snapshot
        .access_keys
        .insert(ACCESS_KEY_ID.to_owned(), Arc::new(entry));
    let (headers, uri) = (signed(), Uri::from_static("/"));
    let verify = || {
        let head = Head {
            method: &Method::POST,
            uri: &uri,
            headers: &headers,
        };
        let claim = verifier.begin(head, &snapshot, NOW).ok().unwrap();
        drop(black_box(claim.finish(BODY).ok().unwrap()));
    };
    assert_eq!(allocations(verify), OF_A_SIGNATURE);
}
