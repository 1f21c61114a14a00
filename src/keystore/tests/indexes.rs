//! The indexes of a snapshot, and what they share with those before it.

use super::*;
use crate::key::rotation::RotationSchedule;
use crate::key::{Tag, UNAVAILABLE};
use crate::keystore::Due;
use crate::policy::PrincipalName;

/// Whether every index says what the entries say.
fn check(snapshot: &Snapshot) {
    let metrics = Metrics::new().unwrap();
    snapshot.count(&metrics);
    let mut keys: BTreeMap<_, Vec<KeyId>> = BTreeMap::new();
    let mut states: BTreeMap<&str, usize> = BTreeMap::new();
    for (id, entry) in snapshot.keys.iter() {
        let place = (id.region, entry.key.account);
        keys.entry(place).or_default().push(id.id);
        *states.entry(entry.key.state_name()).or_default() += 1;
    }
    for ((region, account), ids) in keys {
        let listed = snapshot.listed_keys(region, account).unwrap();
        assert!(listed.keys().eq(&ids));
    }
    check_dates_and_tags(snapshot);
    let shown = metrics.render();
    for state in <KeyState as strum::VariantNames>::VARIANTS
        .iter()
        .chain([&UNAVAILABLE])
    {
        let count = states.get(state).unwrap_or(&0);
        let line = format!("keymill_kms_keys{{state=\"{state}\"}} {count}\n");
        assert!(shown.contains(&line), "{line}{shown}");
    }
    let mut retirable = 0;
    for grant in snapshot.grants.values().flat_map(|grants| grants.iter()) {
        if let Some(name) = grant.parameters.retiring_principal().unwrap().principal() {
            let listed = snapshot.retirable(name).unwrap();
            assert_eq!(listed.get(&(grant.key, grant.id)), Some(grant));
            retirable += 1;
        }
    }
    let app: PrincipalName = APP.parse().unwrap();
    let listed = snapshot.retirable(&app).map_or(0, |grants| grants.len());
    assert_eq!(listed, retirable);
    let named = snapshot.aliases_of.iter().flat_map(|(id, names)| {
        let found = names
            .iter()
            .map(|name| snapshot.alias(id.region, account(), name));
        found.map(move |alias| (id.id, alias))
    });
    let mut aliases = 0;
    for (id, alias) in named {
        assert_eq!(alias.unwrap().target, id);
        aliases += 1;
    }
    let listed = snapshot.aliases(RegionNumber::HOME, account());
    assert_eq!(listed.map_or(0, |aliases| aliases.len()), aliases);
}

/// When something comes to a key, by what the key says.
fn date(due: Due, key: &KmsKey) -> Option<Timestamp> {
    match (due, key.state) {
        (Due::Deletion, KeyState::PendingDeletion { deletion_date }) => Some(deletion_date),
        (Due::Deletion, _) => None,
        (Due::Expiry, _) => {
            let dates = key.imports.iter().filter(|import| import.present);
            dates.filter_map(|import| import.valid_to).min()
        }
        (Due::Rotation, KeyState::Enabled) if !key.is_replica() => Some(key.rotation?.next_date),
        (Due::Rotation, _) => None,
    }
}

fn check_dates_and_tags(snapshot: &Snapshot) {
    for now in [0, 8, 9, 10, 11, u64::MAX].map(Timestamp) {
        for due in [Due::Deletion, Due::Expiry, Due::Rotation] {
            let dates = snapshot.keys.values().filter_map(|entry| {
                let date = date(due, &entry.key).filter(|date| *date <= now)?;
                Some((date, entry.key.regional_id()))
            });
            let mut walked: Vec<_> = dates.collect();
            walked.sort();
            let found = snapshot.due(due, now).map(|entry| entry.key.regional_id());
            assert!(
                found.eq(walked.iter().map(|(_, id)| *id)),
                "{due:?} {now:?}"
            );
        }
    }
    let tagged = snapshot.keys.values();
    let tagged = tagged.filter(|entry| !entry.key.tags.is_empty());
    let tagged: Vec<_> = tagged.map(|entry| entry.key.regional_id()).collect();
    let all = snapshot.all_tagged_keys(account());
    assert!(all.map(|entry| entry.key.regional_id()).eq(tagged.clone()));
    let listed = snapshot.tagged_keys(RegionNumber::HOME, account());
    let listed = listed.into_iter().flat_map(|keys| keys.keys());
    assert!(listed.copied().eq(tagged.iter().map(|id| id.id)));
}

#[tokio::test]
async fn dates_and_tags_of_keys_are_found_without_a_walk() {
    let (place, store) = TestStore::created().await;
    let drafts = [0; 4].map(|_| draft(KeyState::Enabled));
    let ids = drafts.each_ref().map(|draft| draft.key.regional_id());
    apply(&store, drafts.map(Change::PutKey).into())
        .await
        .unwrap();
    let put = async |store: &Keystore, at: usize, with: &dyn Fn(KmsKey) -> KmsKey| {
        let entry = Arc::clone(&store.snapshot().keys[&ids[at]]);
        let draft = entry.with_key(with(entry.key.clone()));
        apply(store, vec![Change::PutKey(draft)]).await.unwrap();
        check(&store.snapshot());
    };
    let tags = |key: KmsKey| KmsKey {
        tags: vec![Tag {
            key: "a".to_owned(),
            value: String::new(),
        }],
        ..key
    };
    let rotated = |date| {
        move |key: KmsKey| KmsKey {
            rotation: Some(RotationSchedule {
                period_days: 90,
                next_date: Timestamp(date),
            }),
            ..key
        }
    };
    let state = |state| move |key: KmsKey| KmsKey { state, ..key };
    put(&store, 0, &tags).await;
    put(&store, 1, &tags).await;
    put(&store, 0, &rotated(10)).await;
    put(&store, 1, &rotated(9)).await;
    put(&store, 2, &state(due_at(9))).await;
    put(&store, 3, &state(due_at(8))).await;
    let found = |due| {
        let snapshot = store.snapshot();
        let found = snapshot.due(due, Timestamp(10));
        found
            .map(|entry| entry.key.regional_id())
            .collect::<Vec<_>>()
    };
    assert_eq!(found(Due::Rotation), [ids[1], ids[0]]);
    assert_eq!(found(Due::Deletion), [ids[3], ids[2]]);
    put(&store, 0, &rotated(11)).await;
    put(&store, 1, &state(KeyState::Disabled)).await;
    put(&store, 2, &state(KeyState::Enabled)).await;
    assert_eq!(found(Due::Rotation), []);
    assert_eq!(found(Due::Deletion), [ids[3]]);
    store.close().await.unwrap();
    let store = place.open().await.unwrap();
    check(&store.snapshot());
    put(&store, 0, &|key| KmsKey {
        tags: Vec::new(),
        ..key
    })
    .await;
    for id in ids {
        apply(&store, vec![Change::RemoveKey(id)]).await.unwrap();
        check(&store.snapshot());
    }
}

const APP: &str = "arn:aws:iam::111122223333:role/path/App";

#[tokio::test]
async fn each_change_moves_every_index() {
    let (place, store) = TestStore::created().await;
    let drafts = [
        draft(KeyState::Enabled),
        draft(KeyState::Disabled),
        draft(due_at(9)),
    ];
    let ids = drafts.each_ref().map(|draft| draft.key.regional_id());
    let grant = |key: usize, id| Change::PutGrant(access::grant(ids[key], id, None));
    let named = |name: &str, key: usize| {
        Change::PutAlias(Alias {
            name: name.parse().unwrap(),
            ..alias(ids[key])
        })
    };
    let state = |key: usize, state| {
        move |snapshot: &Snapshot| {
            let entry = &snapshot.keys[&ids[key]];
            let key = KmsKey {
                state,
                ..entry.key.clone()
            };
            vec![Change::PutKey(entry.with_key(key))]
        }
    };
    let [one, two, three] = drafts.map(Change::PutKey);
    apply(&store, vec![one, two, three]).await.unwrap();
    check(&store.snapshot());
    let grants = vec![grant(0, 1), grant(0, 2), grant(1, 3), grant(1, 3)];
    let aliases = vec![
        named("alias/a", 0),
        named("alias/b", 0),
        named("alias/c", 1),
    ];
    for changes in [grants, aliases, vec![named("alias/a", 1)]] {
        apply(&store, changes).await.unwrap();
        check(&store.snapshot());
    }
    let changes = [state(0, KeyState::Disabled), state(1, KeyState::Enabled)];
    for change in changes {
        let decide = |snapshot: &Snapshot| Ok::<_, KeystoreError>((change(snapshot), ()));
        store.apply(decide).await.unwrap();
        check(&store.snapshot());
    }
    store.close().await.unwrap();
    let store = place.open().await.unwrap();
    check(&store.snapshot());
    let removals = [
        Change::RemoveGrant(ids[0], GrantId([2; 32])),
        Change::RemoveGrant(ids[1], GrantId([3; 32])),
        Change::RemoveAlias(RegionNumber::HOME, account(), "alias/b".parse().unwrap()),
        Change::RemoveAlias(RegionNumber::HOME, account(), "alias/none".parse().unwrap()),
        Change::RemoveKey(ids[2]),
    ];
    for change in removals {
        apply(&store, vec![change]).await.unwrap();
        check(&store.snapshot());
    }
    assert_eq!(store.snapshot().keys.len(), 2);
}
