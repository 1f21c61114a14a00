//! The record of the last uses of the keys.

use super::*;
use crate::clock::Timestamp;
use crate::keystore::last_use::{LastUse, LastUses};
use crate::operation::Operation;

#[tokio::test]
async fn the_last_uses_are_sealed_and_replaced() {
    let (place, ids) = filled().await;
    let store = place.open().await.unwrap();
    // A store from before they were noted.
    assert_eq!(store.snapshot().last_uses, None);
    let fence = store.snapshot().keys[&ids[0]].fence;
    let mut uses = LastUses {
        since: Timestamp(7),
        by_key: BTreeMap::new(),
    };
    for operation in ["Decrypt", "Sign"] {
        let last = LastUse {
            operation: Operation::using_a_key(operation).unwrap(),
            time: Timestamp(1_700_000_000_000_000),
            event_id: "4aa7e4d5-d047-452a-a5a6-2cce282a7e82".to_owned(),
            request_id: "93746dd6-63bc-11e4-bc2b-4198b6150d5c".to_owned(),
        };
        uses.by_key.insert(ids[0], last);
        apply(&store, vec![Change::PutLastUses(Arc::new(uses.clone()))])
            .await
            .unwrap();
    }
    assert_eq!(store.snapshot().keys[&ids[0]].fence, fence);
    store.close().await.unwrap();
    let store = place.open().await.unwrap();
    assert_eq!(store.snapshot().last_uses.as_deref(), Some(&uses));
    store.close().await.unwrap();
    place.sql("DELETE FROM record WHERE kind = 'uses'").await;
    place
        .refused("not hold the set of records of its revision")
        .await;
}

#[test]
fn operations_that_use_no_key_are_none() {
    for name in ["", "DescribeKey", "GenerateRandom", "encrypt"] {
        assert_eq!(Operation::using_a_key(name), None);
    }
}
