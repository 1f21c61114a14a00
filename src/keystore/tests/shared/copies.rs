//! A keystore that goes from one machine into a database, and back.

use super::node::Node;
use super::proxy::{Cut, Proxy};
use super::server::Server;
use super::*;
use crate::keystore::copy::{Copied, Copy, Phase, Way};
use crate::keystore::reading::{Pages, Place, Reading};
use crate::keystore::tests::checked;
use crate::keystore::tests::conformance::{Attack, Place as _};
use tokio::runtime::Handle;

const HEAD: AuditHead = AuditHead {
    log: [1; 16],
    group: 7,
    mac: [2; 32],
};

/// An embedded store with 701 records and the head of an audit log; closed.
async fn embedded() -> TestStore {
    let place = checked::large().await;
    let store = place.open().await.unwrap();
    apply(&store, vec![Change::PutAuditHead(String::new(), HEAD)])
        .await
        .unwrap();
    store.close().await.unwrap();
    place
}

/// The host of an embedded store as a node of this database.
fn node_of(place: &TestStore, node: &Node<'_>) -> SharedStore {
    let path = place.path();
    SharedStore {
        path,
        ..node.store()
    }
}

async fn open(place: &TestStore, node: &Node<'_>) -> Result<Keystore, KeystoreError> {
    let (entropy, metrics) = parts();
    let store = node_of(place, node);
    store.open(&place.root, regions(), entropy, metrics).await
}

fn into_database(place: &TestStore, to: &Access) -> Way {
    Way::IntoDatabase {
        from: place.path(),
        is_backup: false,
        to: to.clone(),
    }
}

async fn copy_with(
    way: Way,
    host: &Path,
    root: &RootKey,
    progress: &mut (dyn FnMut(Phase, u64) + Send),
) -> Result<Copied, KeystoreError> {
    let copy = Copy {
        way,
        host,
        root,
        regions: &regions(),
        entropy: &Entropy::os(),
    };
    copy.run(progress).await
}

async fn copy(place: &TestStore, way: Way) -> Result<Copied, KeystoreError> {
    copy_with(way, &place.path(), &place.root, &mut |_, _| ()).await
}

/// Every record of a store but its head, by name: its revision and its bytes.
async fn records(place: Place) -> BTreeMap<(Kind, String), (u64, Vec<u8>)> {
    let reading = Reading::begin(place, Pages::AsTheyCome).await.unwrap();
    let (mut records, mut found) = (reading.one_by_one(), BTreeMap::new());
    while let Some(record) = records.next().await.unwrap() {
        found.insert((record.kind, record.id), (record.revision, record.body));
    }
    found
}

/// The same records, to the byte, but for the head of the audit log.
async fn are_the_same(file: &Path, database: &Access, node: &str) {
    let mut left = records(Place::File(file.to_owned())).await;
    let mut right = records(Place::Database(database.clone())).await;
    let own = left.remove(&(Kind::Audit, String::new()));
    let named = right.remove(&(Kind::Audit, node.to_owned()));
    assert!(own.is_some() && named.is_some());
    assert!(left == right, "{} and {}", left.len(), right.len());
}

/// Records stay as they are, the audit log is continued, and no revision is there twice.
pub(super) async fn a_store_goes_into_a_database_and_back(server: &Server) {
    let place = embedded().await;
    let node = Node::new(server).await;
    let before = std::fs::read(place.path()).unwrap();
    let (mut copied_so_far, mut verified_so_far) = (Vec::new(), Vec::new());
    let progress = &mut |phase, done| match phase {
        Phase::Copying => copied_so_far.push(done),
        Phase::Verifying => verified_so_far.push(done),
    };
    let way = into_database(&place, &node.access);
    let copied = copy_with(way, &place.path(), &place.root, progress)
        .await
        .unwrap();
    assert_eq!((copied.records, copied.written), (702, 702));
    assert_eq!((copied.source.revision, copied.revision), (3, 4));
    assert_eq!(copied_so_far.last(), Some(&702));
    assert!(copied_so_far.len() > 2 && verified_so_far.contains(&702));
    assert_eq!(
        std::fs::read(place.path()).unwrap(),
        before,
        "left as it is"
    );
    are_the_same(&place.path(), &node.access, &copied.node).await;
    let again = copy(&place, into_database(&place, &node.access)).await;
    let again = again.unwrap_err().to_string();
    assert!(
        again.contains("has this keystore already, at revision 4"),
        "{again}"
    );

    let opened = open(&place, &node).await.unwrap();
    assert_eq!((opened.node(), opened.revision()), (&*copied.node, 4));
    assert_eq!(opened.snapshot().audit_head(opened.node()), Some(HEAD));
    assert_eq!(opened.snapshot().keys.len(), 700);
    let key = draft(KeyState::Enabled);
    let id = key.key.regional_id();
    let head = AuditHead { group: 9, ..HEAD };
    let changes = vec![
        Change::PutKey(key),
        Change::PutAuditHead(opened.node().to_owned(), head),
    ];
    apply(&opened, changes).await.unwrap();
    opened.close().await.unwrap();
    // This host has seen that revision, so the store that was copied is not taken for the present
    // one.
    place.refused("an older copy was put in its place").await;

    let kept = place.folder.path().join("kept.sqlite");
    std::fs::rename(place.path(), &kept).unwrap();
    let back = || Way::IntoFile {
        from: node.access.clone(),
        to: place.path(),
    };
    let copied = copy(&place, back()).await.unwrap();
    assert_eq!((copied.records, copied.revision), (703, 6));
    are_the_same(&place.path(), &node.access, &copied.node).await;
    let there = copy(&place, back()).await.unwrap_err().to_string();
    assert!(there.contains("it is there already"), "{there}");
    let store = place.open().await.unwrap();
    assert!(store.snapshot().keys.contains_key(&id));
    assert_eq!(store.snapshot().audit_head(""), Some(head));
    assert_eq!(store.snapshot().audit_heads.len(), 1);
    store.close().await.unwrap();
    let late = open(&place, &node).await.err().unwrap().to_string();
    assert!(late.contains("host has seen revision 6"), "{late}");
}

/// Whatever is lost, and whatever changes in the source before the next run.
pub(super) async fn a_copy_that_is_broken_off_is_no_store_and_is_gone_on_with(server: &Server) {
    let place = embedded().await;
    let socket = server
        .folder
        .path()
        .join(format!(".s.PGSQL.{}", server.port));
    let mut spared = 0;
    // Three batches of records, the head of the audit log, and the head.
    for (number, cut) in [
        (0, Cut::Question),
        (0, Cut::Answer),
        (2, Cut::Answer),
        (3, Cut::Question),
        (4, Cut::Question),
        (4, Cut::Answer),
    ] {
        let node = Node::new(server).await;
        let proxy = Proxy::start(&socket).await;
        let folder = proxy.folder.path().display();
        let database = &node.database;
        let url = format!("postgres://keymill@/{database}?host={folder}&port=5432");
        let through = server.through(&url);
        proxy.cut_after(number, cut);
        let first = copy(&place, into_database(&place, &through)).await;
        assert_eq!(proxy.cuts(), 1, "{number} {cut:?}");
        if (number, cut) == (4, Cut::Answer) {
            // It was done, and that is found out.
            assert_eq!(first.unwrap().written, 702);
            continue;
        }
        assert!(first.is_err(), "{number} {cut:?}");
        let half = open(&place, &node).await.err().unwrap().to_string();
        assert!(half.contains("copy that was not finished"), "{half}");
        let half = checked::found(Place::Database(node.access.clone()), &place.root).await;
        assert!(half.unwrap_err().to_string().contains("not finished"));
        // The source goes on meanwhile.
        let store = place.open().await.unwrap();
        let snapshot = store.snapshot();
        let mut ids = snapshot.keys.keys();
        let removed = *ids.find(|id| snapshot.aliases_of(**id).is_none()).unwrap();
        let changes = vec![
            Change::RemoveKey(removed),
            Change::PutKey(draft(KeyState::Enabled)),
        ];
        apply(&store, changes).await.unwrap();
        store.close().await.unwrap();
        let second = copy(&place, into_database(&place, &node.access))
            .await
            .unwrap();
        assert_eq!(second.records, 702);
        spared += second.records - second.written;
        are_the_same(&place.path(), &node.access, &second.node).await;
        let (summary, findings) = checked::found(Place::Database(node.access.clone()), &place.root)
            .await
            .unwrap();
        assert_eq!((summary.records, findings.len()), (702, 0));
    }
    assert!(spared > 1000, "{spared} records were not written again");
}

/// Of two runs on one copy, the later one does it.
pub(super) async fn a_run_gives_way_to_the_next_one(server: &Server) {
    let place = embedded().await;
    let node = Node::new(server).await;
    // A copy of the store, whose lock is another one.
    let twin = TestStore::new();
    std::fs::copy(place.path(), twin.path()).unwrap();
    let mut done = None;
    let (root, access) = (&place.root, &node.access);
    // The first batch is written.
    let mut progress = |_, _| {
        if done.is_none() {
            let other = async {
                let way = into_database(&twin, access);
                copy_with(way, &twin.path(), root, &mut |_, _| ()).await
            };
            let other = tokio::task::block_in_place(|| Handle::current().block_on(other));
            done = Some(other.map(|copied| copied.records));
        }
    };
    let way = into_database(&place, access);
    let first = copy_with(way, &place.path(), root, &mut progress).await;
    let refused = first.unwrap_err();
    assert!(
        matches!(refused, KeystoreError::Overtaken { .. }),
        "{refused}"
    );
    assert_eq!(done.unwrap().unwrap(), 702);
    let (_, findings) = checked::found(Place::Database(node.access.clone()), &place.root)
        .await
        .unwrap();
    assert_eq!(findings, []);
}

/// Every refusal says what is in the way, and leaves it as it was.
pub(super) async fn what_is_not_copied_is_said(server: &Server) {
    let place = embedded().await;
    let node = Node::new(server).await;
    let way = || into_database(&place, &node.access);
    let refused = async |way: Way, expected: &str| {
        let error = copy(&place, way).await.expect_err(expected).to_string();
        assert!(error.contains(expected) && !error.contains('\n'), "{error}");
    };
    // A source that is open, that is not there, or older than what was seen.
    let store = place.open().await.unwrap();
    refused(way(), "is in use by process").await;
    store.close().await.unwrap();
    let absent = Way::IntoDatabase {
        from: place.folder.path().join("absent.db"),
        is_backup: false,
        to: node.access.clone(),
    };
    refused(absent, "does not exist").await;
    let seen = place.folder.path().join("store.seen");
    let kept_seen = std::fs::read(&seen).unwrap();
    std::fs::write(&seen, "00000000000000000099 format 2\n").unwrap();
    refused(way(), "this host has seen revision 99").await;
    assert!(!node.store().is_begun().await.unwrap(), "nothing was begun");
    // As a backup it is taken, and goes on above what was seen.
    let other = Node::new(server).await;
    let backup = Way::IntoDatabase {
        from: place.path(),
        is_backup: true,
        to: other.access.clone(),
    };
    assert_eq!(copy(&place, backup).await.unwrap().revision, 100);
    std::fs::write(&seen, kept_seen).unwrap();
    // A record that was edited, and one that was removed.
    let kept = std::fs::read(place.path()).unwrap();
    for (statement, expected) in [
        (
            "UPDATE record SET body = zeroblob(90) WHERE kind = 'alias'",
            "edited, swapped or copied from another store: alias 111122223333 alias/containers",
        ),
        (
            "DELETE FROM record WHERE kind = 'alias'",
            "not hold the set of records of its revision 3",
        ),
    ] {
        place.sql(statement).await;
        refused(way(), expected).await;
        let half = open(&place, &node).await.err().unwrap().to_string();
        assert!(half.contains("copy that was not finished"), "{half}");
        std::fs::write(place.path(), &kept).unwrap();
    }
    // A record of the copy that was edited in the database meanwhile.
    let edited = {
        let mut is_edited = false;
        let progress = &mut |_, done| {
            if done >= 702 && !std::mem::replace(&mut is_edited, true) {
                let edit = node.attack(Attack::EditAlias);
                tokio::task::block_in_place(|| Handle::current().block_on(edit));
            }
        };
        copy_with(way(), &place.path(), &place.root, progress).await
    };
    let edited = edited.unwrap_err().to_string();
    assert!(
        edited.contains("alias 111122223333 alias/containers"),
        "{edited}"
    );
    assert_eq!(copy(&place, way()).await.unwrap().written, 2);
    // Another store, another root key, and rows without a head.
    let strange = Node::new(server).await;
    drop(strange.begin().await);
    let into = |node: &Node<'_>| into_database(&place, &node.access);
    refused(
        into(&strange),
        "another keystore, or one under another root key",
    )
    .await;
    strange.sql("UPDATE keymill.head SET revision = 0").await;
    refused(into(&strange), "another keystore").await;
    strange.sql("DELETE FROM keymill.head; INSERT INTO keymill.record VALUES ('key x', 1, gen_random_uuid(), '\\x00')").await;
    refused(into(&strange), "it has records and no head").await;
    let second = TestStore {
        folder: tempfile::tempdir().unwrap(),
        root: RootKeyFile::clear(&place.folder.path().join("root.key"))
            .read()
            .unwrap(),
    };
    second.create().await.close().await.unwrap();
    let marked = Node::new(server).await;
    half_of(&place, &marked).await;
    let refusal = copy(&second, into_database(&second, &marked.access)).await;
    let refusal = refusal.unwrap_err().to_string();
    assert!(
        refusal.contains("unfinished copy of another keystore"),
        "{refusal}"
    );
    a_source_that_moves_is_not_taken(&place, &node).await;
}

/// The mark of a copy and nothing else.
async fn half_of(place: &TestStore, node: &Node<'_>) {
    let kept = std::fs::read(place.path()).unwrap();
    place
        .sql("UPDATE record SET body = zeroblob(90) WHERE kind = 'alias'")
        .await;
    copy(place, into_database(place, &node.access))
        .await
        .unwrap_err();
    std::fs::write(place.path(), &kept).unwrap();
}

/// A node that changes the shared store while it is copied is noticed.
async fn a_source_that_moves_is_not_taken(place: &TestStore, node: &Node<'_>) {
    let to = place.folder.path().join("moved.db");
    let changed = {
        let mut has_moved = false;
        let progress = &mut |phase, _| {
            if phase == Phase::Verifying && !std::mem::replace(&mut has_moved, true) {
                let change = async {
                    let store = open(place, node).await.unwrap();
                    apply(&store, vec![Change::PutKey(draft(KeyState::Enabled))])
                        .await
                        .unwrap();
                };
                tokio::task::block_in_place(|| Handle::current().block_on(change));
            }
        };
        let way = Way::IntoFile {
            from: node.access.clone(),
            to: to.clone(),
        };
        copy_with(way, &place.path(), &place.root, progress).await
    };
    let changed = changed.unwrap_err().to_string();
    assert!(changed.contains("stop every daemon"), "{changed}");
    assert!(!to.exists());
    let way = Way::IntoFile {
        from: node.access.clone(),
        to: to.clone(),
    };
    assert_eq!(copy(place, way).await.unwrap().records, 703);
}
