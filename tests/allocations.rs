//! Counts the allocations on the path of one data key: verifying its signature, and performing the
//! operation with a warm pool.
//!
//! The allocator counts for each thread, so that what the audit log's writer and the fillers do
//! meanwhile is not in the figures. A request in a hundred may allocate more: the one that finds a
//! buffer full, or retires what others may still be reading.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../benches/mill.rs"]
mod mill;
#[path = "../benches/signature.rs"]
mod signature;

use keymill::operation::Operation;
use keymill::pool;
use mill::Mill;
use signature::Signature;
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::hint::black_box;
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

#[test]
fn a_signature_allocates_nothing() {
    let signature = Signature::new();
    assert_eq!(allocations(|| signature.verify()), OF_A_SIGNATURE);
}
