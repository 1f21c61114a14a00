//! A primary that was deposed: its synchronous standby follows another one, so it answers reads and
//! no commit.

use super::node::Node;
use super::server::Server;
use super::*;
use crate::keystore::freshness::Look;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

const AGE_MAX: Duration = Duration::from_millis(1500);
/// Time for what a node finds out by itself: a write that is not answered, and what it takes.
const TIME_MAX: Duration = Duration::from_secs(10);

async fn opened(node: &Node<'_>, confirmed_by: Look) -> Result<Keystore, KeystoreError> {
    let (entropy, metrics) = parts();
    let store = SharedStore {
        confirmed_by,
        age_max: AGE_MAX,
        ..node.store()
    };
    store.open(&node.root, regions(), entropy, metrics).await
}

/// Looks for the node without end.
fn follow(node: &Node<'_>, keystore: &Arc<Keystore>, tasks: &mut JoinSet<()>) {
    let mut follower = node.store().follower(Arc::clone(keystore));
    tasks.spawn(async move {
        loop {
            follower.follow().await;
        }
    });
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < TIME_MAX, "{what}");
        sleep(Duration::from_millis(20)).await;
    }
}

/// How many processes of the server wait for a standby.
async fn waiting(server: &Server, node: &Node<'_>) -> String {
    let query = "SELECT count(*)::text FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
    server.value(&node.database, query).await
}

pub(super) async fn a_primary_that_was_deposed_confirms_no_write(server: &Server) {
    let first = Node::new(server).await;
    drop(first.begin().await);
    let second = first.another();
    let reads = Arc::new(opened(&first, Look::Read).await.unwrap());
    let writes = Arc::new(opened(&second, Look::Write).await.unwrap());
    let mut tasks = JoinSet::new();
    follow(&first, &reads, &mut tasks);
    follow(&second, &writes, &mut tasks);
    let is_stale = |node: &Keystore| node.halt().is_unknown();
    let begun = Instant::now();
    while begun.elapsed() < AGE_MAX * 2 {
        assert!(!is_stale(&writes), "{:?}", writes.halt().reason());
        sleep(Duration::from_millis(20)).await;
    }
    // A change is taken over as before.
    apply(&reads, vec![Change::PutKey(draft(KeyState::Enabled))])
        .await
        .unwrap();
    until("it follows", || writes.snapshot().keys.len() == 1).await;

    second
        .sql("ALTER SYSTEM SET synchronous_standby_names = 'elsewhere'")
        .await;
    second.sql("SELECT pg_reload_conf()").await;
    until("it stops", || is_stale(&writes)).await;
    let reason = writes.halt().reason().unwrap();
    assert!(reason.contains("has not confirmed"), "{reason}");
    assert!(!is_stale(&reads), "reads are answered");
    // However long that lasts, one process of the server waits for it.
    sleep(AGE_MAX * 2).await;
    assert_eq!(waiting(server, &second).await, "1");
    let problem = writes.halt().freshness().unwrap().problem().unwrap();
    assert!(problem.contains("still waits there"), "{problem}");
    assert!(is_stale(&writes) && !is_stale(&reads));
    let third = first.another();
    let refused = opened(&third, Look::Write).await.err().unwrap().to_string();
    assert!(refused.contains("did not answer in time"), "{refused}");

    second
        .sql("ALTER SYSTEM RESET synchronous_standby_names")
        .await;
    second.sql("SELECT pg_reload_conf()").await;
    until("it goes on", || !is_stale(&writes)).await;
    assert_eq!(waiting(server, &second).await, "0");
    drop(opened(&third, Look::Write).await.unwrap());
    tasks.shutdown().await;
}
