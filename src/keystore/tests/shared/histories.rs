//! A database in which another history is than a node has seen: an older copy, or what is left
//! after a failover that has lost changes.

use super::*;
use crate::keystore::store::{Commit, REMEMBERED_REVISIONS, Store};

/// A running node keeps what is in force, says so, and takes no change.
pub(super) async fn what_is_put_back_under_a_running_node_is_not_taken(server: &Server) {
    let place = Node::new(server).await;
    let node = Arc::new(place.begin().await);
    let key = draft(KeyState::Enabled);
    let id = key.key.regional_id();
    apply(&node, vec![Change::PutKey(key)]).await.unwrap();
    place.keep().await;
    let entry = Arc::clone(&node.snapshot().keys[&id]);
    let disabled = KmsKey {
        state: KeyState::Disabled,
        ..entry.key.clone()
    };
    apply(&node, vec![Change::PutKey(entry.with_key(disabled))])
        .await
        .unwrap();
    let revision = node.revision();
    place.put_back(PutBack::All).await;
    let mut follower = place.store().follower(Arc::clone(&node));
    follower.follow().await;
    let problem = node.halt().freshness().unwrap().problem().unwrap();
    assert!(problem.contains("went back to revision 2"), "{problem}");
    let refused = apply(&node, vec![Change::RemoveKey(id)]).await.unwrap_err();
    assert!(refused.to_string().contains("went back"), "{refused}");
    assert_eq!(node.snapshot().keys[&id].key.state, KeyState::Disabled);
    // Another head of the same revision: the same change, made again on the older copy.
    let other = place.another();
    let two = other.open().await.unwrap();
    let entry = Arc::clone(&two.snapshot().keys[&id]);
    let described = KmsKey {
        description: "fork".to_owned(),
        ..entry.key.clone()
    };
    apply(&two, vec![Change::PutKey(entry.with_key(described))])
        .await
        .unwrap();
    assert_eq!(two.revision(), revision);
    follower.follow().await;
    let problem = node.halt().freshness().unwrap().problem().unwrap();
    assert!(problem.contains("another head of revision 3"), "{problem}");
    // So it is when the other history goes on, which is sound as a whole.
    for _ in 0..2 {
        apply(&two, vec![Change::PutKey(draft(KeyState::Enabled))])
            .await
            .unwrap();
        follower.follow().await;
        let problem = node.halt().freshness().unwrap().problem().unwrap();
        assert!(problem.contains("another head of revision 3"), "{problem}");
        let refused = apply(&node, vec![Change::RemoveKey(id)]).await.unwrap_err();
        assert!(refused.to_string().contains("lost changes"), "{refused}");
        assert_eq!(node.revision(), revision);
    }
    // Rows under the right head: a record that was put back, and one whose content is edited.
    let place = Node::new(server).await;
    let node = Arc::new(place.begin().await);
    let other = Arc::new(place.another().open().await.unwrap());
    apply(&other, vec![Change::PutKey(draft(KeyState::Enabled))])
        .await
        .unwrap();
    place
        .sql("UPDATE keymill.record SET sealed = NULL WHERE k LIKE 'key %'")
        .await;
    let mut follower = place.store().follower(Arc::clone(&node));
    follower.follow().await;
    let problem = node.halt().freshness().unwrap().problem().unwrap();
    assert!(
        problem.contains("does not hold the set of records of its revision 2"),
        "{problem}"
    );
    assert_eq!(node.revision(), 1);
}

/// What is remembered of removed records goes after a while; a node that has missed it still finds
/// what is there.
pub(super) async fn a_node_that_is_far_behind_reads_everything(server: &Server) {
    let place = Node::new(server).await;
    let one = place.begin().await;
    let drafts = [draft(KeyState::Enabled), draft(KeyState::Enabled)];
    let ids = drafts.each_ref().map(|draft| draft.key.regional_id());
    for draft in drafts {
        apply(&one, vec![Change::PutKey(draft)]).await.unwrap();
    }
    let behind = place.another();
    let two = Arc::new(behind.open().await.unwrap());
    let fence = two.snapshot().keys[&ids[1]].fence;
    apply(&one, vec![Change::RemoveKey(ids[0])]).await.unwrap();
    let removed = "SELECT count(*)::text FROM keymill.record WHERE sealed IS NULL";
    assert_eq!(server.value(&place.database, removed).await, "1");
    for number in 0..=REMEMBERED_REVISIONS {
        let name = format!("alias/{number}");
        let alias = Alias {
            name: name.parse().unwrap(),
            ..alias(ids[1])
        };
        apply(&one, vec![Change::PutAlias(alias)]).await.unwrap();
    }
    assert_eq!(server.value(&place.database, removed).await, "0");
    assert_eq!(
        follows(&two, &behind.store(), |now| now.keys.len() == 1).await,
        1
    );
    assert_eq!(
        two.snapshot().keys[&ids[1]].fence,
        fence,
        "it is used as before"
    );
    apply(&two, vec![Change::RemoveKey(ids[1])]).await.unwrap();
}

/// Another database has taken the place of the one that was read, with another head of the same
/// revision.
pub(super) async fn a_change_goes_to_the_head_that_was_read_and_to_none_like_it(server: &Server) {
    let place = Node::new(server).await;
    let node = place.begin().await;
    apply(&node, vec![Change::PutKey(draft(KeyState::Enabled))])
        .await
        .unwrap();
    let read = node.head.load_full().unwrap();
    let mut store = postgres::PostgresStore::new(place.access.clone());
    let commit = |head: Vec<u8>, revision| Commit {
        expected: read.revision,
        expected_head: Some(head),
        head: Record {
            revision,
            ..Record::clone(&read)
        },
        puts: Vec::new(),
        removals: Vec::new(),
        takes_secrets: false,
        request: uuid::Uuid::nil(),
    };
    let mut other = read.body.clone();
    other[40] ^= 1;
    let lost = store.commit(commit(other, read.revision + 1)).await;
    assert!(matches!(lost, Err(KeystoreError::Lost { .. })), "{lost:?}");
    let moved = store.commit(commit(read.body.clone(), read.revision + 1));
    moved.await.unwrap();
}
