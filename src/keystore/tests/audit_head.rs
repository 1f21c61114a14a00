//! The sealed head of the audit log.

use super::*;

const HEAD: AuditHead = AuditHead {
    log: [1; 16],
    group: 7,
    mac: [2; 32],
};

#[tokio::test]
async fn the_head_of_the_audit_log_is_sealed_and_replaced() {
    let (place, ids) = filled().await;
    let store = place.open().await.unwrap();
    // A store from before there was an audit log.
    assert_eq!(store.snapshot().audit_head(""), None);
    let fence = store.snapshot().keys[&ids[0]].fence;
    for group in [7, 8] {
        let head = AuditHead { group, ..HEAD };
        apply(&store, vec![Change::PutAuditHead(String::new(), head)])
            .await
            .unwrap();
        assert_eq!(store.snapshot().audit_head(""), Some(head));
    }
    assert_eq!(
        store.snapshot().keys[&ids[0]].fence,
        fence,
        "no key has changed"
    );
    store.close().await.unwrap();
    let store = place.open().await.unwrap();
    let expected = AuditHead { group: 8, ..HEAD };
    assert_eq!(store.snapshot().audit_head(""), Some(expected));
}

#[tokio::test]
async fn store_1_a_head_of_the_audit_log_that_was_touched_is_named() {
    let (place, _) = filled().await;
    let store = place.open().await.unwrap();
    apply(&store, vec![Change::PutAuditHead(String::new(), HEAD)])
        .await
        .unwrap();
    store.close().await.unwrap();
    let kept = std::fs::read(place.path()).unwrap();
    let cases = [
        (
            "UPDATE record SET body = zeroblob(length(body)) WHERE kind = 'audit'",
            "edited, swapped or copied from another store: audit",
        ),
        (
            "DELETE FROM record WHERE kind = 'audit'",
            "not hold the set of records of its revision",
        ),
    ];
    place.each_refused(&kept, &cases).await;
}
