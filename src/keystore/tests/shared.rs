//! The shared store, in a real PostgreSQL: what every store does and refuses, then what several
//! nodes do to each other. One server serves all of it, since making one takes seconds.

use super::conformance::{self, Place, PutBack};
use super::*;
use crate::keystore::postgres::Access;
pub(crate) use node::Node;
use proxy::{Cut, Proxy};
use server::PASSWORD;
pub(crate) use server::Server;
use std::time::Duration;

mod confirmed;
mod copies;
mod histories;
mod node;
mod proxy;
mod raising;
mod reading;
mod server;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn store_1_the_shared_store_conforms() {
    let mut server = Server::start().await;
    conformance::what_was_written_is_read_back(&Node::new(&server).await).await;
    conformance::changes_are_serialized(&Node::new(&server).await).await;
    conformance::what_was_touched_is_refused(&Node::new(&server).await).await;
    nodes_start_at_once(&server).await;
    a_change_reaches_the_other_nodes(&server).await;
    nodes_that_change_the_store_at_once_lose_nothing(&server).await;
    histories::what_is_put_back_under_a_running_node_is_not_taken(&server).await;
    histories::a_change_goes_to_the_head_that_was_read_and_to_none_like_it(&server).await;
    histories::a_node_that_is_far_behind_reads_everything(&server).await;
    the_last_uses_of_removed_keys_go_everywhere(&server).await;
    an_answer_that_is_lost_is_looked_up(&server).await;
    a_commit_is_durable_whatever_the_database_is_set_to(&server).await;
    the_way_to_the_database_is_guarded(&server).await;
    reading::the_whole_of_it_is_read_and_checked(&server).await;
    confirmed::a_primary_that_was_deposed_confirms_no_write(&server).await;
    raising::two_builds_share_a_store_until_its_format_is_raised(&server).await;
    raising::a_format_is_raised_while_nodes_change_the_store(&server).await;
    raising::a_node_that_starts_again_knows_the_head_that_it_has_seen(&server).await;
    copies::a_store_goes_into_a_database_and_back(&server).await;
    copies::a_copy_that_is_broken_off_is_no_store_and_is_gone_on_with(&server).await;
    copies::a_run_gives_way_to_the_next_one(&server).await;
    copies::what_is_not_copied_is_said(&server).await;
    a_standby_is_refused(&mut server).await;
}

/// It may be behind without a sign.
async fn a_standby_is_refused(server: &mut Server) {
    let node = Node::new(server).await;
    drop(node.begin().await);
    let store = node.store();
    let Node { folder, root, .. } = node;
    server.become_standby().await;
    let (entropy, metrics) = parts();
    let opened = store.open(&root, regions(), entropy, metrics).await;
    drop(folder);
    let refused = opened.err().unwrap();
    let text = crate::causes::with_causes(&refused);
    assert!(text.contains("name the primary server"), "{text}");
}

/// One head is made, and every node finds it.
async fn nodes_start_at_once(server: &Server) {
    let first = Node::new(server).await;
    assert!(!first.store().is_begun().await.unwrap());
    let empty = first.open().await.err().unwrap();
    assert!(matches!(
        empty,
        KeystoreError::Unreachable { .. } | KeystoreError::Empty { .. }
    ));
    let mut starts = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (store, root) = (first.another().store(), Arc::clone(&first.root));
        starts.spawn(async move { store.begin(&root, &Entropy::os()).await });
    }
    for begun in starts.join_all().await {
        begun.unwrap();
    }
    assert!(first.store().is_begun().await.unwrap());
    let node = first.open().await.unwrap();
    apply(&node, vec![Change::PutKey(draft(KeyState::Enabled))])
        .await
        .unwrap();
    // A daily role needs no right to make anything.
    first.sql("CREATE ROLE daily LOGIN; GRANT USAGE ON SCHEMA keymill TO daily; GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA keymill TO daily").await;
    let mut daily = first.another();
    let (folder, port) = (server.folder.path().display(), server.port);
    let url = format!(
        "postgres://daily@/{}?host={folder}&port={port}",
        first.database
    );
    daily.access = server.through(&url);
    let daily = daily.begin().await;
    assert_eq!(daily.snapshot().keys.len(), 1);
    apply(&daily, vec![Change::PutKey(draft(KeyState::Enabled))])
        .await
        .unwrap();
    let lacking = Node::new(server).await;
    let url = format!(
        "postgres://daily@/{}?host={folder}&port={port}",
        lacking.database
    );
    let lacking = SharedStore {
        access: server.through(&url),
        ..lacking.store()
    };
    let refused = lacking
        .begin(&first.root, &Entropy::os())
        .await
        .unwrap_err()
        .to_string();
    assert!(refused.contains("start once as the owner"), "{refused}");
}

/// Looks until this holds of the node's snapshot.
async fn follows(
    node: &Arc<Keystore>,
    store: &SharedStore,
    holds: impl Fn(&Snapshot) -> bool,
) -> usize {
    let mut follower = store.follower(Arc::clone(node));
    let mut keys = 0;
    for _ in 0..200 {
        keys += follower.follow().await.len();
        if holds(&node.snapshot()) {
            return keys;
        }
    }
    panic!("the change did not arrive: {:?}", node.halt().reason());
}

/// Keys, their fences and removals come into force on the other node, and nothing that was pooled
/// under a key that is used as before is lost.
async fn a_change_reaches_the_other_nodes(server: &Server) {
    let first = Node::new(server).await;
    let second = first.another();
    let one = first.begin().await;
    let two = Arc::new(second.open().await.unwrap());
    let key = draft(KeyState::Enabled);
    let id = key.key.regional_id();
    apply(&one, vec![Change::PutKey(key), Change::PutAlias(alias(id))])
        .await
        .unwrap();
    assert_eq!(
        follows(&two, &second.store(), |now| now.aliases_of(id).is_some()).await,
        1
    );
    let before = Arc::clone(&two.snapshot().keys[&id]);
    let described = KmsKey {
        description: "other".to_owned(),
        ..before.key.clone()
    };
    apply(&one, vec![Change::PutKey(before.with_key(described))])
        .await
        .unwrap();
    let is_described = |now: &Snapshot| now.keys[&id].key.description == "other";
    assert_eq!(follows(&two, &second.store(), is_described).await, 0);
    assert_eq!(two.snapshot().keys[&id].fence, before.fence);
    let now = Arc::clone(&one.snapshot().keys[&id]);
    let disabled = KmsKey {
        state: KeyState::Disabled,
        ..now.key.clone()
    };
    apply(&one, vec![Change::PutKey(now.with_key(disabled))])
        .await
        .unwrap();
    let is_disabled = |now: &Snapshot| now.keys[&id].key.state == KeyState::Disabled;
    assert_eq!(follows(&two, &second.store(), is_disabled).await, 1);
    assert!(two.snapshot().keys[&id].fence > before.fence);
    // A change there is decided on the newest state, whether or not it was looked at.
    let name = alias(id).name;
    apply(&one, vec![Change::RemoveAlias(id.region, account(), name)])
        .await
        .unwrap();
    let seen: Result<bool, KeystoreError> = two
        .apply(|now| Ok((Vec::new(), now.aliases_of(id).is_some())))
        .await;
    assert!(!seen.unwrap());
    apply(&two, vec![Change::RemoveKey(id)]).await.unwrap();
    let one = Arc::new(one);
    assert_eq!(
        follows(&one, &first.store(), |now| now.keys.is_empty()).await,
        1
    );
    assert_eq!(one.revision(), two.revision());
    // The audit logs' heads of both nodes are there, each under its own name.
    let head = AuditHead {
        log: [1; 16],
        group: 1,
        mac: [2; 32],
    };
    for node in [&one, &two] {
        let put = Change::PutAuditHead(node.node().to_owned(), head);
        apply(node, vec![put]).await.unwrap();
    }
    assert_eq!(two.snapshot().audit_heads.len(), 2);
}

/// Where a key is removed, the records say so; elsewhere nothing is left of them in memory.
async fn the_last_uses_of_removed_keys_go_everywhere(server: &Server) {
    let first = Node::new(server).await;
    let second = first.another();
    let one = first.begin().await;
    let two = Arc::new(second.open().await.unwrap());
    apply(&one, vec![Change::PutUsesSince(Timestamp(7))])
        .await
        .unwrap();
    // The first two have one record of last uses, the last one has its own.
    let ids = ["1230", "1231", "4560"].map(|begin| {
        let id = format!("{begin}abcd-12ab-34cd-56ef-1234567890ab");
        id.parse::<RegionalId>().unwrap()
    });
    for id in ids {
        let key = draft_of(id.id, KeyState::Enabled);
        apply(&one, vec![Change::PutKey(key)]).await.unwrap();
    }
    let uses = [&ids[..2], &ids[2..]].map(last_uses::used);
    apply(&one, uses.into()).await.unwrap();
    let used = |node: &Snapshot| {
        let uses = node.last_uses.as_ref();
        uses.map_or(0, |uses| uses.by_key.len())
    };
    follows(&two, &second.store(), |now| used(now) == 3).await;
    for (removed, left) in [(ids[0], 2), (ids[2], 1)] {
        apply(&one, vec![Change::RemoveKey(removed)]).await.unwrap();
        let is_gone = |now: &Snapshot| !now.keys.contains_key(&removed);
        follows(&two, &second.store(), is_gone).await;
        assert_eq!((used(&one.snapshot()), used(&two.snapshot())), (left, left));
    }
}

/// Three nodes add to one list, each as it finds it.
async fn nodes_that_change_the_store_at_once_lose_nothing(server: &Server) {
    let first = Node::new(server).await;
    let one = first.begin().await;
    let key = draft(KeyState::Enabled);
    let id = key.key.regional_id();
    apply(&one, vec![Change::PutKey(key)]).await.unwrap();
    let mut nodes = vec![Arc::new(one)];
    let others = [first.another(), first.another()];
    for other in &others {
        nodes.push(Arc::new(other.open().await.unwrap()));
    }
    let mut tasks = tokio::task::JoinSet::new();
    for node in &nodes {
        let node = Arc::clone(node);
        tasks.spawn(async move {
            for _ in 0..10 {
                let longer = |now: &Snapshot| {
                    let entry = &now.keys[&id];
                    let description = format!("{}x", entry.key.description);
                    let key = KmsKey {
                        description,
                        ..entry.key.clone()
                    };
                    Ok::<_, KeystoreError>((vec![Change::PutKey(entry.with_key(key))], ()))
                };
                node.apply(longer).await.unwrap();
            }
        });
    }
    tasks.join_all().await;
    let read = others[0].another().open().await.unwrap();
    let snapshot = read.snapshot();
    let crosses = snapshot.keys[&id].key.description.matches('x').count();
    assert_eq!(crosses, 30);
    let lost = |node: &Arc<Keystore>| {
        let text = node.metrics.render();
        let mut lines = text.lines();
        let count = lines.find_map(|line| line.strip_prefix("keymill_keystore_lost_races_total "));
        count.unwrap().parse::<u64>().unwrap()
    };
    assert!(nodes.iter().map(lost).sum::<u64>() > 0, "they never met");
}

/// A change whose answer is lost on its way is looked up: it was made, or is made once more.
async fn an_answer_that_is_lost_is_looked_up(server: &Server) {
    let place = Node::new(server).await;
    drop(place.begin().await);
    let socket = server
        .folder
        .path()
        .join(format!(".s.PGSQL.{}", server.port));
    for cut in [Cut::Answer, Cut::Question] {
        let (proxy, mut through) = (Proxy::start(&socket).await, place.another());
        let (folder, port) = (proxy.folder.path().display(), 5432);
        let url = format!(
            "postgres://keymill@/{}?host={folder}&port={port}",
            place.database
        );
        through.access = server.through(&url);
        let node = through.open().await.unwrap();
        let keys = node.snapshot().keys.len();
        let mut decided = 0;
        let key = draft(KeyState::Enabled);
        let decide = |_: &Snapshot| {
            decided += 1;
            if decided == 1 {
                proxy.cut_next(cut);
            }
            Ok::<_, KeystoreError>((vec![Change::PutKey(key.clone())], ()))
        };
        node.apply(decide).await.unwrap();
        assert_eq!(proxy.cuts(), 1, "{cut:?}");
        let expected = match cut {
            Cut::Answer => 1,
            Cut::Question => 2,
        };
        assert_eq!(decided, expected, "{cut:?}");
        assert_eq!(node.snapshot().keys.len(), keys + 1);
        let read = place.another().open().await.unwrap();
        assert_eq!(read.snapshot().keys.len(), keys + 1, "{cut:?}");
        assert_eq!(read.revision(), node.revision());
    }
}

async fn a_commit_is_durable_whatever_the_database_is_set_to(server: &Server) {
    let place = Node::new(server).await;
    drop(place.begin().await);
    let off = format!(
        "ALTER DATABASE {} SET synchronous_commit = off",
        place.database
    );
    // What a transaction is set to when it ends.
    place.sql(&off).await;
    place.sql(
        "CREATE TABLE noted (setting text); \
         CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
         INSERT INTO noted VALUES (current_setting('synchronous_commit')); RETURN NULL; END $$; \
         CREATE CONSTRAINT TRIGGER noting AFTER UPDATE ON keymill.head DEFERRABLE INITIALLY DEFERRED \
         FOR EACH ROW EXECUTE FUNCTION note()",
    )
    .await;
    let setting = server
        .value(&place.database, "SHOW synchronous_commit")
        .await;
    assert_eq!(setting, "off");
    let node = place.open().await.unwrap();
    apply(&node, vec![Change::PutKey(draft(KeyState::Enabled))])
        .await
        .unwrap();
    let noted = server
        .value(
            &place.database,
            "SELECT string_agg(setting, ' ') FROM noted",
        )
        .await;
    assert_eq!(noted, "on");
    // A server that would lose what it has answered is refused.
    place.sql("ALTER SYSTEM SET fsync = off").await;
    place.sql("SELECT pg_reload_conf()").await;
    let mut refused = String::new();
    for _ in 0..100 {
        refused = match place.another().open().await {
            Err(error) => error.to_string(),
            Ok(_) => String::new(),
        };
        if !refused.is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(refused.contains("fsync is off"), "{refused}");
    place.sql("ALTER SYSTEM RESET fsync").await;
    place.sql("SELECT pg_reload_conf()").await;
}

/// Over TCP: a password from a file, and TLS that knows the host.
async fn the_way_to_the_database_is_guarded(server: &Server) {
    let place = Node::new(server).await;
    drop(place.begin().await);
    let (port, database) = (server.port, &place.database);
    let password = server.file("password.txt", &format!("{PASSWORD}\n"));
    let ca = server.folder.path().join("server.crt");
    let other = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let other = server.file("other.crt", &other.cert.pem());
    let plain = format!("postgres://keymill@127.0.0.1:{port}/{database}");
    let tls = format!("{plain}?sslmode=verify-full");
    let named = format!("postgres://keymill@localhost:{port}/{database}?sslmode=verify-full");
    let wide = server.file("wide.txt", PASSWORD);
    std::fs::set_permissions(&wide, std::os::unix::fs::PermissionsExt::from_mode(0o640)).unwrap();
    let wrong = server.file("wrong.txt", "guessed");
    for (url, password_file, ca_file, expected) in [
        (&plain, Some(&password), None, Ok(())),
        (&tls, Some(&password), Some(&ca), Ok(())),
        (&plain, None, None, Err("password missing")),
        (
            &plain,
            Some(&wrong),
            None,
            Err("password authentication failed"),
        ),
        (&plain, Some(&wide), None, Err("has mode 0640")),
        (
            &tls,
            Some(&password),
            Some(&other),
            Err("invalid peer certificate"),
        ),
        (&tls, Some(&password), None, Err("UnknownIssuer")),
        (
            &named,
            Some(&password),
            Some(&ca),
            Err("not valid for name"),
        ),
    ] {
        let mut node = place.another();
        node.access = Access {
            password_file: password_file.cloned(),
            ca_file: ca_file.cloned(),
            ..server.through(url)
        };
        match (node.open().await, expected) {
            (Ok(store), Ok(())) => {
                apply(&store, vec![Change::PutKey(draft(KeyState::Enabled))])
                    .await
                    .unwrap();
            }
            (Err(error), Err(expected)) => {
                let line = error.to_string();
                assert!(line.contains(expected), "{url}: {line}");
                assert!(!line.contains(PASSWORD) && !line.contains("guessed"));
            }
            (Ok(_), Err(expected)) => panic!("{url} was taken instead of {expected}"),
            (Err(error), Ok(())) => panic!("{url}: {error}"),
        }
    }
    // Without TLS of the server, no connection is made: nothing is sent but the question for it.
    place.sql("ALTER SYSTEM SET ssl = off").await;
    place.sql("SELECT pg_reload_conf()").await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let mut node = place.another();
    node.access = Access {
        password_file: Some(password),
        ca_file: Some(ca),
        ..server.through(&tls)
    };
    let refused = node.open().await.err().unwrap().to_string();
    assert!(refused.contains("it has no TLS"), "{refused}");
}
