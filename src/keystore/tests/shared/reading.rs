//! A shared store that is read from its first record to its last.

use super::node::Node;
use super::server::Server;
use super::*;
use crate::keystore::tests::checked;
use crate::keystore::tests::conformance::{self, Place};

/// In the order of an SQLite file, so that both have one digest; each damaged record is named.
pub(super) async fn the_whole_of_it_is_read_and_checked(server: &Server) {
    let node = Node::new(server).await;
    let store = node.begin().await;
    let drafts: Vec<_> = (0..300).map(|_| draft(KeyState::Enabled)).collect();
    let mut changes: Vec<_> = drafts.iter().cloned().map(Change::PutKey).collect();
    changes.push(Change::PutAlias(alias(drafts[0].key.regional_id())));
    apply(&store, changes).await.unwrap();
    // A record that was removed is none.
    let removed = drafts[1].key.regional_id();
    apply(&store, vec![Change::RemoveKey(removed)])
        .await
        .unwrap();
    let place = || checked::Place::Database(node.access.clone());
    let (summary, findings) = checked::found(place(), &node.root).await.unwrap();
    assert_eq!((summary.records, findings), (300, Vec::new()));
    let mut reading = store.read_all().await.unwrap();
    let mut names = Vec::new();
    while let Some(batch) = reading.checked.next().await.unwrap() {
        let named = batch
            .records
            .iter()
            .map(|record| (record.kind.name(), record.id.clone()));
        names.extend(named);
    }
    let mut sorted = names.clone();
    sorted.sort();
    assert_eq!(names, sorted);
    node.attack(conformance::Attack::EditAlias).await;
    let (_, findings) = checked::found(place(), &node.root).await.unwrap();
    assert!(
        matches!(findings[..], [Corrupt::Record(Kind::Alias, ..)]),
        "{findings:?}"
    );
    node.sql("DELETE FROM keymill.head").await;
    let headless = checked::found(place(), &node.root).await.unwrap_err();
    assert!(
        matches!(headless, KeystoreError::Empty { .. }),
        "{headless}"
    );
}
