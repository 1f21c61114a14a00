//! The indexes of a snapshot, and what they share with those before it.

use super::*;
use crate::key::UNAVAILABLE;
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
