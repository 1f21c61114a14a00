//! The records of the last uses of the keys.

use super::*;
use crate::keystore::body;
use crate::keystore::last_use::{LastUse, LastUses, UsesRecord, UsesShard};
use crate::operation::Operation;

fn last(operation: &str) -> Arc<LastUse> {
    Arc::new(LastUse {
        operation: Operation::using_a_key(operation).unwrap(),
        time: Timestamp(1_700_000_000_000_000),
        event_id: "4aa7e4d5-d047-452a-a5a6-2cce282a7e82".to_owned(),
        request_id: "93746dd6-63bc-11e4-bc2b-4198b6150d5c".to_owned(),
    })
}

/// A use of each of these keys of one shard, written.
pub(super) fn used(keys: &[RegionalId]) -> Change {
    let uses = keys.iter().map(|key| (*key, last("Sign")));
    Change::PutLastUses(UsesShard::of(keys[0]), uses.collect())
}

fn put(key: RegionalId, last: &Arc<LastUse>) -> Change {
    Change::PutLastUses(UsesShard::of(key), vec![(key, Arc::clone(last))])
}

#[tokio::test]
async fn the_last_uses_are_sealed_and_replaced() {
    let (place, ids) = filled().await;
    let store = place.open().await.unwrap();
    // A store from before they were noted.
    assert_eq!(store.snapshot().last_uses, None);
    let fence = store.snapshot().keys[&ids[0]].fence;
    let since = Change::PutUsesSince(Timestamp(7));
    apply(&store, vec![since, put(ids[0], &last("Sign"))])
        .await
        .unwrap();
    let mut uses = LastUses::since(Timestamp(7));
    for operation in ["Decrypt", "Sign"] {
        let last = last(operation);
        apply(&store, vec![put(ids[0], &last), put(ids[1], &last)])
            .await
            .unwrap();
        uses.by_key
            .extend(ids.iter().map(|id| (*id, Arc::clone(&last))));
        assert_eq!(store.snapshot().last_uses.as_ref(), Some(&uses));
    }
    assert_eq!(store.snapshot().keys[&ids[0]].fence, fence);
    store.close().await.unwrap();
    let store = place.open().await.unwrap();
    assert_eq!(store.snapshot().last_uses.as_ref(), Some(&uses));
    // With a key its last use goes, and with the last of a shard the record.
    apply(&store, vec![Change::RemoveKey(ids[0])])
        .await
        .unwrap();
    uses.by_key.remove(&ids[0]);
    assert_eq!(store.snapshot().last_uses.as_ref(), Some(&uses));
    store.close().await.unwrap();
    let store = place.open().await.unwrap();
    assert_eq!(store.snapshot().last_uses.as_ref(), Some(&uses));
    store.close().await.unwrap();
    place.sql("DELETE FROM record WHERE kind = 'uses'").await;
    place
        .refused("not hold the set of records of its revision")
        .await;
}

fn decoded(id: &str, text: &str) -> Option<UsesRecord> {
    let length = u32::try_from(text.len()).unwrap().to_be_bytes();
    let plaintext = [&[1], &length[..], text.as_bytes()].concat();
    let plaintext = crate::crypto::secret::SecretBytes::copy_of(&plaintext);
    let record = Record {
        kind: Kind::Uses,
        id: id.to_owned(),
        revision: 1,
        body: Vec::new(),
    };
    match body::decode(&record, &plaintext, &regions()) {
        Ok(Entry::Uses(uses)) => Some(uses),
        Ok(_) => panic!("another entry"),
        Err(error) => {
            assert_eq!(error, Corrupt::Layout(Kind::Uses, id.to_owned()));
            None
        }
    }
}

#[test]
fn one_record_of_all_keys_is_read_and_a_key_of_another_shard_refused() {
    let keys = r#"{"1234abcd-12ab-34cd-56ef-1234567890ab":{"operation":"Sign","time":9,"event_id":"e","request_id":"r"}}"#;
    let former = format!(r#"{{"since":7,"keys":{keys}}}"#);
    let Some(UsesRecord::Since(Timestamp(7), uses)) = decoded("", &former) else {
        panic!("a record of a former build");
    };
    assert_eq!(uses.len(), 1);
    let mut snapshot = Snapshot::default();
    let since = |keys| UsesRecord::Since(Timestamp(7), keys);
    snapshot.put_uses(since(uses));
    assert!(snapshot.last_uses.as_ref().unwrap().is_one_record);
    snapshot.put_uses(since(Vec::new()));
    assert!(!snapshot.last_uses.as_ref().unwrap().is_one_record);
    let shard = format!(r#"{{"keys":{keys}}}"#);
    let Some(UsesRecord::OfShard(uses)) = decoded("123", &shard) else {
        panic!("the record of a shard");
    };
    assert_eq!(uses.len(), 1);
    for (id, text) in [
        ("", shard.as_str()),
        ("124", &shard),
        ("1234", &shard),
        ("12", &shard),
        ("123", &former),
        ("123", r#"{"keys":{}}"#),
    ] {
        assert!(decoded(id, text).is_none(), "{id} {text}");
    }
}

#[test]
fn a_shard_is_of_neighbours() {
    let keys = ["000f", "0010", "001f", "0020", "ffff"]
        .map(|digits| format!("{digits}abcd-12ab-34cd-56ef-1234567890ab"));
    let keys: Vec<RegionalId> = keys.iter().map(|key| key.parse().unwrap()).collect();
    let shards: Vec<_> = keys.iter().map(|key| UsesShard::of(*key)).collect();
    let names: Vec<_> = shards.iter().map(|shard| shard.to_string()).collect();
    assert_eq!(names, ["000", "001", "001", "002", "fff"]);
    for (key, shard) in keys.iter().zip(&shards) {
        assert!(shard.first_key() <= *key && UsesShard::of(shard.first_key()) == *shard);
    }
    let mut uses = LastUses::since(Timestamp(7));
    uses.by_key
        .extend(keys.iter().map(|key| (*key, last("Sign"))));
    let of_shard = |uses: &LastUses| uses.of_shard(shards[1]).count();
    assert_eq!(of_shard(&uses), 2);
    uses.replace(shards[1], vec![(keys[1], last("Decrypt"))]);
    assert_eq!((of_shard(&uses), uses.by_key.len()), (1, 4));
}

#[test]
fn operations_that_use_no_key_are_none() {
    for name in ["", "DescribeKey", "GenerateRandom", "encrypt"] {
        assert_eq!(Operation::using_a_key(name), None);
    }
}
