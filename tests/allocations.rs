//! Counts the allocations on the path of one data key: verifying its signature, and performing the
//! operation with a warm pool; and those of a change of the keystore, which do not grow with it.
//!
//! The allocator counts for each thread, so that what the audit log's writer and the fillers do
//! meanwhile is not in the figures. A request in a hundred may allocate more: the one that finds a
//! buffer full, or retires what others may still be reading.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../benches/mill.rs"]
mod mill;
#[path = "../benches/signature.rs"]
mod signature;

use keymill::clock::Timestamp;
use keymill::crypto::block_cipher::BlockCipher;
use keymill::crypto::entropy::Entropy;
use keymill::key::material::BackingKey;
use keymill::key::{KeyId, KmsKey};
use keymill::keystore::{Alias, Change, KeyDraft, KeystoreError};
use keymill::operation::{Action, Operation};
use keymill::policy::grant::{self, GrantId, Named};
use keymill::policy::{Grant, GrantParameters};
use keymill::pool;
use mill::Mill;
use signature::Signature;
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

#[test]
fn a_signature_allocates_nothing() {
    let signature = Signature::new();
    assert_eq!(allocations(|| signature.verify()), OF_A_SIGNATURE);
}

/// Of one change of the keystore, whatever its size: sealing and committing it, the paths to what
/// it changes, and the levels that these have more in a large store.
#[test]
fn a_change_allocates_no_more_in_a_large_store() {
    const FEW: usize = 50;
    const MANY: usize = 5_000;
    /// A tree of a hundred times as many entries is seven levels deeper, and a change has some six
    /// paths.
    const DEEPER: usize = 60;
    let mill = Mill::open(pool::Config::default());
    let keystore = &mill.core.keystore;
    let put = |changes: Vec<Change>| {
        let applied = keystore.apply(|_| Ok::<_, KeystoreError>((changes.clone(), ())));
        mill.runtime.block_on(applied).unwrap();
    };
    let fill = |keys: usize| {
        while keystore.snapshot().keys.len() < keys {
            put((0..50)
                .flat_map(|_| with_alias_and_grant(draft()))
                .collect());
        }
    };
    let cost = || {
        let each = (0..20).map(|_| {
            let changes = with_alias_and_grant(draft()).into();
            let before = ALLOCATIONS.get();
            put(changes);
            ALLOCATIONS.get() - before
        });
        each.min().unwrap()
    };
    fill(FEW);
    let few = cost();
    fill(MANY);
    let many = cost();
    assert!(
        many < few + DEEPER,
        "{few} among {FEW} keys, {many} among {MANY}"
    );
}

fn draft() -> KeyDraft {
    let entropy = Entropy::os();
    let mut bytes = [0; 16];
    entropy.draw(&mut bytes).unwrap();
    let id = KeyId::from_random(bytes);
    let material = BackingKey::draw(BlockCipher::Aes256, id, 1, Timestamp(0), &entropy).unwrap();
    KeyDraft {
        key: KmsKey::new(id, "111122223333".parse().unwrap(), Timestamp(0)),
        materials: vec![Arc::new(material)],
        secret: None,
    }
}

fn with_alias_and_grant(draft: KeyDraft) -> [Change; 3] {
    let (key, account) = (draft.key.regional_id(), draft.key.account);
    let alias = Alias {
        region: key.region,
        account,
        name: format!("alias/{}", key.id).parse().unwrap(),
        target: key.id,
        creation_date: Timestamp(0),
        last_updated_date: Timestamp(0),
    };
    let grantee = format!("arn:aws:iam::111122223333:user/{}", key.id);
    let parameters = GrantParameters::check(grant::Draft {
        grantee: Named::Principal(&grantee),
        retiring_principal: Some(Named::Principal("arn:aws:iam::111122223333:user/retires")),
        operations: [Action::Decrypt].into_iter().collect(),
        equals: None,
        subset: None,
        source_arn: None,
        name: None,
    });
    let grant = Grant {
        id: GrantId([7; 32]),
        key,
        parameters: parameters.unwrap(),
        issuing_account: account,
        creation_date: Timestamp(0),
    };
    [
        Change::PutKey(draft),
        Change::PutAlias(alias),
        Change::PutGrant(Arc::new(grant)),
    ]
}
