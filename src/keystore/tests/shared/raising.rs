//! Two builds on one store, and the day on which its format is raised.

use super::node::Node;
use super::server::Server;
use super::*;
use crate::keystore::postgres::PostgresStore;
use crate::keystore::record::{FORMAT, Head, Record, Sealer};
use crate::keystore::tests::conformance::Place;

/// Begins a store as the build before does.
async fn begin_as_before(node: &Node<'_>) {
    let sealer = Sealer::create(&node.root, &Entropy::os()).unwrap();
    let first = Head {
        format: 2,
        ..Head::first()
    };
    let head = sealer.seal_head(&first, &Entropy::os()).unwrap();
    let mut store = PostgresStore::new(node.access.clone());
    store.begin(head).await.unwrap();
}

async fn head(node: &Node<'_>) -> (Record, Sealer, Head) {
    let mut store = PostgresStore::new(node.access.clone());
    let row = store.head().await.unwrap().unwrap();
    let (sealer, head) = Sealer::open_head(&node.root, &row).unwrap();
    (row, sealer, head)
}

/// What the node's host remembers of the store.
fn memory(node: &Node<'_>) -> String {
    std::fs::read_to_string(node.folder.path().join("keystore.seen")).unwrap()
}

async fn put_head(node: &Node<'_>, row: &Record) {
    let digits = hex_simd::encode_to_string(&row.body, hex_simd::AsciiCase::Lower);
    let revision = row.revision;
    node.sql(&format!(
        "UPDATE keymill.head SET revision = {revision}, sealed = '\\x{digits}'"
    ))
    .await;
}

/// Whatever a node writes has the format that the store has, until an operator raises it.
pub(super) async fn two_builds_share_a_store_until_its_format_is_raised(server: &Server) {
    let first = Node::new(server).await;
    begin_as_before(&first).await;
    let second = first.another();
    let one = first.open().await.unwrap();
    let two = Arc::new(second.open().await.unwrap());
    let put = || vec![Change::PutKey(draft(KeyState::Enabled))];
    apply(&one, put()).await.unwrap();
    follows(&two, &second.store(), |now| now.keys.len() == 1).await;
    apply(&two, put()).await.unwrap();
    assert_eq!(head(&first).await.2.format, 2);
    assert_eq!((one.format(), two.format()), (2, 2));
    for node in [&first, &second] {
        let line = memory(node);
        assert!(line.ends_with(" format 2\n"), "{line}");
    }
    let (entropy, store) = (Entropy::os(), first.store());
    let raise = async |format| store.raise(format, &first.root, &entropy).await;
    let same = raise(2).await.unwrap();
    assert_eq!((same.before, same.format, same.revision), (2, 2, 3));
    let raised = raise(FORMAT).await.unwrap();
    assert_eq!((raised.before, raised.format, raised.revision), (2, 3, 4));
    let again = raise(FORMAT).await.unwrap();
    assert_eq!((again.before, again.format, again.revision), (3, 3, 4));
    let back = raise(2).await.unwrap_err().to_string();
    assert!(
        back.contains("is of format 3 and does not go back to format 2"),
        "{back}"
    );
    assert!(!back.contains('\n'), "{back}");
    // The nodes that are running go on in the new format.
    follows(&two, &second.store(), |now| now.revision == 4).await;
    apply(&one, put()).await.unwrap();
    follows(&two, &second.store(), |now| now.keys.len() == 3).await;
    apply(&two, put()).await.unwrap();
    assert_eq!(head(&first).await.2.format, 3);
    let line = memory(&second);
    assert!(line.contains(" format 3 head "), "{line}");
    assert_eq!((one.format(), two.format()), (3, 3));
    // Nor does a node that has seen it go back with the database, whatever the revision is.
    let (row, sealer, now) = head(&first).await;
    let older = Head {
        format: 2,
        revision: now.revision + 1,
        ..now
    };
    put_head(&first, &sealer.seal_head(&older, &entropy).unwrap()).await;
    let refused = apply(&one, put()).await.unwrap_err().to_string();
    assert!(refused.contains("a failover has lost changes"), "{refused}");
    let refused = second.another();
    std::fs::write(refused.folder.path().join("keystore.seen"), memory(&second)).unwrap();
    let refused = refused.open().await.err().unwrap().to_string();
    assert!(
        refused.contains("is of format 2, but this host has seen it in format 3"),
        "{refused}"
    );
    // A later format is refused by name, by a node that runs and by one that starts.
    let later = Head {
        format: FORMAT + 1,
        revision: now.revision + 1,
        ..now
    };
    put_head(&first, &sealer.seal_head(&later, &entropy).unwrap()).await;
    let newer = "was written by a newer keymill (head of format 4, this build knows 3)";
    let refused = apply(&one, put()).await.unwrap_err().to_string();
    assert!(refused.contains(newer), "{refused}");
    let refused = first.another().open().await.err().unwrap().to_string();
    assert!(refused.contains(newer), "{refused}");
    let refused = raise(FORMAT).await.unwrap_err().to_string();
    assert!(refused.contains(newer), "{refused}");
    put_head(&first, &row).await;
    apply(&one, put()).await.unwrap();
}

/// At the same revision, a database that lost a change and has another one in its place is told
/// apart.
pub(super) async fn a_node_that_starts_again_knows_the_head_that_it_has_seen(server: &Server) {
    for (format, is_told_apart) in [(2, false), (3, true)] {
        let node = Node::new(server).await;
        begin_as_before(&node).await;
        let store = node.store();
        store
            .raise(format, &node.root, &Entropy::os())
            .await
            .unwrap();
        let one = node.open().await.unwrap();
        apply(&one, vec![Change::PutKey(draft(KeyState::Enabled))])
            .await
            .unwrap();
        one.close().await.unwrap();
        node.open().await.unwrap().close().await.unwrap();
        let (row, sealer, now) = head(&node).await;
        put_head(&node, &sealer.seal_head(&now, &Entropy::os()).unwrap()).await;
        match (is_told_apart, node.open().await) {
            (false, Ok(opened)) => opened.close().await.unwrap(),
            (true, Err(error)) => {
                let error = error.to_string();
                assert!(error.contains("another head of revision"), "{error}");
                assert!(error.contains("keystore.seen"), "{error}");
            }
            (_, opened) => panic!("format {format}: {}", opened.is_ok()),
        }
        put_head(&node, &row).await;
        if is_told_apart {
            node.open().await.unwrap().close().await.unwrap();
        }
    }
}

/// Neither a change nor the new format is lost.
pub(super) async fn a_format_is_raised_while_nodes_change_the_store(server: &Server) {
    let node = Node::new(server).await;
    begin_as_before(&node).await;
    let (one, two) = (node.open().await.unwrap(), node.another());
    let two = two.open().await.unwrap();
    let changes = async |node: &Keystore| {
        for _ in 0..30 {
            apply(node, vec![Change::PutKey(draft(KeyState::Enabled))])
                .await
                .unwrap();
        }
    };
    let store = node.store();
    let raising = async {
        // Amid the changes.
        tokio::time::sleep(Duration::from_millis(100)).await;
        store.raise(FORMAT, &node.root, &Entropy::os()).await
    };
    let (raised, (), ()) = tokio::join!(raising, changes(&one), changes(&two));
    let raised = raised.unwrap();
    assert_eq!((raised.before, raised.format), (2, 3));
    let (_, _, now) = head(&node).await;
    assert_eq!((now.format, now.records), (3, 60));
    let read = node.another().open().await.unwrap();
    assert_eq!(read.snapshot().keys.len(), 60);
}
