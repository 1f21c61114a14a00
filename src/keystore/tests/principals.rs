//! Principals at rest: what comes back, and records from before principals had more than names,
//! policies and keys.

use super::*;
use crate::crypto::secret::SecretBytes;
use crate::policy::principal::{PrincipalKind, Tag};
use crate::policy::{PolicyDocument, Principal};

const ROLE: &str = "arn:aws:iam::444455556666:role/batch";
const USER: &str = "arn:aws:iam::111122223333:user/backup";
const POLICY: &str = r#"{"Statement":{"Effect":"Allow","Action":"kms:Decrypt","Resource":"*"}}"#;

fn secret(text: &str) -> SecretBytes {
    SecretBytes::copy_of(text.as_bytes())
}

fn plaintext(metadata: &str, secrets: &str) -> SecretBytes {
    let length = u32::try_from(metadata.len()).unwrap().to_be_bytes();
    let parts = [
        &[1],
        length.as_slice(),
        metadata.as_bytes(),
        secrets.as_bytes(),
    ];
    let bytes = parts.concat();
    SecretBytes::copy_of(&bytes)
}

fn decoded(id: &str, metadata: &str, secrets: &str) -> Option<PrincipalEntry> {
    let record = Record {
        kind: Kind::Principal,
        id: id.to_owned(),
        revision: 1,
        body: Vec::new(),
    };
    match body::decode(&record, &plaintext(metadata, secrets), &regions()) {
        Ok(Entry::Principal(entry)) => Some(entry),
        Ok(_) => panic!("another kind"),
        Err(error) => {
            let expected = Corrupt::Layout(Kind::Principal, id.to_owned());
            assert_eq!(error, expected);
            None
        }
    }
}

#[tokio::test]
async fn all_of_a_principal_is_read_back() {
    let (place, store) = TestStore::created().await;
    let policy = Arc::new(PolicyDocument::parse(POLICY).unwrap());
    let tag = |key: &str, value: &str| Tag {
        key: key.to_owned(),
        value: value.to_owned(),
    };
    let tags = vec![tag("team", "storage"), tag("é", "")];
    let role = Principal::new(ROLE, vec![policy]).unwrap();
    let role = role.with_tags(tags.clone()).with_unique_id("AROAEXAMPLE");
    let role = PrincipalEntry {
        enabled: false,
        ..PrincipalEntry::new(role, Vec::new())
    };
    let user = Principal::new(USER, Vec::new()).unwrap();
    let first = AccessKey {
        active: false,
        ..AccessKey::new("AKIAFIRST".to_owned(), secret("first"))
    };
    let second = AccessKey::new("AKIASECOND".to_owned(), secret("second secret"));
    let user = PrincipalEntry::new(user, vec![Arc::new(first), Arc::new(second)]);
    let changes = vec![Change::PutPrincipal(role), Change::PutPrincipal(user)];
    apply(&store, changes).await.unwrap();
    let token_key = place.root.subkey("session tokens");
    assert!(store.session_token_key().ct_eq(token_key.expose()));
    store.close().await.unwrap();
    let snapshot = place.open().await.unwrap().snapshot();
    let role = &snapshot.principals[ROLE];
    assert!(!role.enabled && role.access_keys.is_empty());
    let principal = &role.principal;
    assert_eq!(principal.kind(), PrincipalKind::Role);
    assert_eq!(principal.account.as_str(), "444455556666");
    assert_eq!(principal.unique_id(), Some("AROAEXAMPLE"));
    assert_eq!(principal.tags(), tags);
    assert_eq!(principal.policies[0].source(), POLICY);
    let user = &snapshot.principals[USER];
    assert!(user.enabled && user.principal.unique_id().is_none());
    let keys: Vec<_> = user
        .access_keys
        .iter()
        .map(|key| (key.id.as_str(), key.secret.expose(), key.active))
        .collect();
    let expected = [
        ("AKIAFIRST", b"first".as_slice(), false),
        ("AKIASECOND", b"second secret".as_slice(), true),
    ];
    assert_eq!(keys, expected);
    assert_eq!(snapshot.access_keys.len(), 2);
}

/// Records written before 2026-11-24 have neither ids, tags nor states.
#[test]
fn a_record_from_before_there_were_states_is_an_enabled_principals() {
    let metadata = r#"{"account":"111122223333","policies":["{\"Statement\":{\"Effect\":\"Allow\",\"Action\":\"kms:Decrypt\",\"Resource\":\"*\"}}"],"access_keys":[{"id":"AKIAOLD","secret_bytes":3}]}"#;
    let entry = decoded(USER, metadata, "old").unwrap();
    assert!(entry.enabled && entry.access_keys[0].active);
    assert_eq!(entry.access_keys[0].secret.expose(), b"old");
    assert_eq!(entry.principal.unique_id(), None);
    assert!(entry.principal.tags().is_empty());
    assert_eq!(entry.principal.policies[0].source(), POLICY);
}

#[test]
fn what_does_not_fit_together_is_refused() {
    let whole = r#"{"account":"111122223333","policies":[],"access_keys":[{"id":"A","secret_bytes":3,"active":true}],"enabled":true,"unique_id":"AIDA","tags":[{"key":"k","value":"v"}]}"#;
    assert!(decoded(USER, whole, "abc").is_some());
    for (from, to, secrets) in [
        ("", "", "ab"),
        ("", "", "abcd"),
        ("111122223333", "444455556666", "abc"),
        ("\"enabled\":true", "\"enabled\":1", "abc"),
        ("\"enabled\"", "\"disabled\"", "abc"),
        ("\"value\":\"v\"", "\"worth\":\"v\"", "abc"),
        ("[],\"access", "[\"{}\"],\"access", "abc"),
    ] {
        let metadata = whole.replace(from, to);
        let metadata = if from.is_empty() { whole } else { &metadata };
        assert!(decoded(USER, metadata, secrets).is_none(), "{metadata}");
    }
    assert!(decoded("arn:aws:iam::111122223333:group/x", whole, "abc").is_none());
}
