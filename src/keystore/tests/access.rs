//! Key policies and grants at rest and in snapshots.

use super::*;
use crate::context::EncryptionContext;
use crate::operation::Action;
use crate::policy::GrantParameters;
use crate::policy::grant::{Draft, Named};

const POLICY: &str =
    r#"{"Statement":{"Effect":"Allow","Principal":"*","Action":"kms:*","Resource":"*"}}"#;

pub(super) fn policy() -> Arc<KeyPolicy> {
    Arc::new(KeyPolicy::parse(POLICY).unwrap())
}

/// A grant that says everything that one can say.
pub(super) fn grant(key: RegionalId, id: u8, constraint: Option<bool>) -> Arc<Grant> {
    let pairs = EncryptionContext::from_pairs([("tenant", "é"), ("a", "")]).unwrap();
    let name = "a/name".parse().unwrap();
    let parameters = GrantParameters::check(Draft {
        grantee: Named::Principal("arn:aws:iam::444455556666:user/alice"),
        retiring_principal: Some(Named::Principal("arn:aws:iam::111122223333:role/path/App")),
        operations: [Action::Decrypt, Action::RetireGrant].into_iter().collect(),
        equals: (constraint == Some(true)).then_some(&pairs),
        subset: (constraint == Some(false)).then_some(&pairs),
        source_arn: None,
        name: Some(&name),
    });
    Arc::new(Grant {
        id: GrantId([id; 32]),
        key,
        parameters: parameters.unwrap(),
        issuing_account: account(),
        creation_date: Timestamp(8),
    })
}

/// A grant to a service of AWS, bound to a resource.
fn grant_to_service(key: RegionalId, id: u8) -> Arc<Grant> {
    let source = "arn:aws:rds:us-east-1:111122223333:db:one".parse().unwrap();
    let parameters = GrantParameters::check(Draft {
        grantee: Named::Service("rds.amazonaws.com"),
        retiring_principal: Some(Named::Service("rds.amazonaws.com")),
        operations: [Action::Decrypt].into_iter().collect(),
        equals: None,
        subset: None,
        source_arn: Some(&source),
        name: None,
    });
    let plain = grant(key, id, None);
    Arc::new(Grant {
        parameters: parameters.unwrap(),
        ..Grant::clone(&plain)
    })
}

fn grants(snapshot: &Snapshot, key: RegionalId) -> Vec<Arc<Grant>> {
    let grants = snapshot.grants.get(&key).into_iter();
    grants.flat_map(|grants| grants.iter()).cloned().collect()
}

#[tokio::test]
async fn store_1_policies_and_grants_are_read_back_and_removed() {
    let (place, ids) = filled().await;
    let store = place.open().await.unwrap();
    assert!(store.snapshot().key_policies.is_empty() && store.snapshot().grants.is_empty());
    let fence = store.snapshot().keys[&ids[0]].fence;
    let before = store.snapshot();
    let made = [None, Some(true), Some(false)];
    let made: Vec<_> = (1..)
        .zip(made)
        .map(|(id, constraint)| grant(ids[0], id, constraint))
        .chain([grant_to_service(ids[0], 4)])
        .collect();
    let mut changes = vec![Change::PutKeyPolicy(ids[0], policy())];
    changes.extend(made.iter().cloned().map(Change::PutGrant));
    changes.push(Change::PutGrant(grant(ids[1], 1, None)));
    apply(&store, changes).await.unwrap();
    assert!(before.grants.is_empty(), "a snapshot never changes");
    store.close().await.unwrap();

    let store = place.open().await.unwrap();
    let snapshot = store.snapshot();
    assert_eq!(snapshot.key_policies[&ids[0]].source(), POLICY);
    assert!(!snapshot.key_policies.contains_key(&ids[1]));
    assert_eq!(grants(&snapshot, ids[0]), made);
    assert_eq!(grants(&snapshot, ids[1]).len(), 1);
    assert_eq!(
        snapshot.keys[&ids[0]].fence, fence,
        "no policy moves a fence"
    );
    let changes = vec![
        Change::RemoveKeyPolicy(ids[0]),
        Change::RemoveGrant(ids[0], made[1].id),
        Change::RemoveGrant(ids[1], made[0].id),
        Change::RemoveGrant(ids[1], made[0].id),
    ];
    apply(&store, changes).await.unwrap();
    assert_eq!(grants(&snapshot, ids[0]), made, "a snapshot never changes");
    store.close().await.unwrap();

    let snapshot = place.open().await.unwrap().snapshot();
    assert!(snapshot.key_policies.is_empty());
    let left: Vec<_> = [0, 2, 3].map(|at| Arc::clone(&made[at])).into();
    assert_eq!(grants(&snapshot, ids[0]), left);
    assert!(!snapshot.grants.contains_key(&ids[1]));
}

#[tokio::test]
async fn store_1_a_grant_moved_to_another_key_and_an_unknown_kind_are_named() {
    let (place, ids) = filled().await;
    let store = place.open().await.unwrap();
    let made = grant(ids[0], 1, None);
    let changes = vec![
        Change::PutKeyPolicy(ids[0], policy()),
        Change::PutGrant(made),
    ];
    apply(&store, changes).await.unwrap();
    store.close().await.unwrap();
    let kept = std::fs::read(place.path()).unwrap();
    let cases = [
        (
            "UPDATE record SET id = '00000000-0000-4000-8000-000000000000' || substr(id, 37) WHERE kind = 'grant'",
            "edited, swapped or copied from another store: grant 00000000",
        ),
        (
            "DELETE FROM record WHERE kind = 'key-policy'",
            "not hold the set of records of its revision",
        ),
        (
            "UPDATE record SET kind = 'grants' WHERE kind = 'grant'",
            "a record of an unknown kind: grants; upgrade keymill",
        ),
    ];
    place.each_refused(&kept, &cases).await;
    place.open().await.unwrap().close().await.unwrap();
}

#[test]
fn what_a_grant_says_is_checked_again_when_it_is_read() {
    let mut key = [7; 16];
    key[6] = 0x47;
    let key = RegionalId::home(KeyId::from_random(key));
    let grant = grant(key, 1, Some(true));
    let plaintext = body::grant::encode(&grant);
    let text = String::from_utf8_lossy(&plaintext.expose()[5..]).into_owned();
    let decode = |id: &str, json: &str| {
        let length = u32::try_from(json.len()).unwrap().to_be_bytes();
        let bytes = [&[1], &length[..], json.as_bytes()].concat();
        let secret = crate::crypto::secret::SecretBytes::copy_of(&bytes);
        let record = Record {
            kind: Kind::Grant,
            id: id.to_owned(),
            revision: 1,
            body: Vec::new(),
        };
        body::decode(&record, &secret, &regions()).is_ok()
    };
    let id = body::grant::record_id(&regions().written_key(key), grant.id);
    assert!(decode(&id, &text));
    for (from, to) in [
        ("user/alice", "group/alice"),
        ("Decrypt", "Everything"),
        ("a/name", "a name"),
        ("EncryptionContextEquals", "SourceArn"),
        ("111122223333", "11112222333"),
        ("{", "{\"more\":1,"),
        ("}", ""),
    ] {
        assert!(text.contains(from), "{from} in {text}");
        assert!(!decode(&id, &text.replacen(from, to, 1)), "{to}");
    }
    for id in ["", "x y", &id[..36], &id[..99], &id.replace(' ', "")] {
        assert!(!decode(id, &text), "{id}");
    }
}
