//! Keys at rest: what comes back, and records from before keys had more than a state and material.

use super::*;
use crate::crypto::block_cipher::BlockCipher;
use crate::crypto::pair::PairSpec;
use crate::key::Tag;
use crate::key::import::Import;
use crate::key::material::{KeyMaterialId, KeySecret};
use crate::key::regions::Region;
use crate::key::rotation::{RotationSchedule, RotationType};
use crate::key::spec::{KeyOrigin, KeySpec, KeyUsage};

/// The key of this metadata with material of `generations` generations, if it can be read.
fn decoded(metadata: &str, generations: usize) -> Option<KeyEntry> {
    let layout = Corrupt::Layout(Kind::Key, ID.to_owned());
    match decoded_in(&regions(), metadata, generations * 32) {
        Ok(entry) => Some(entry),
        Err(error) => {
            assert_eq!(error, layout);
            None
        }
    }
}

const ID: &str = "1234abcd-12ab-34cd-56ef-1234567890ab";

fn decoded_in(
    regions: &Regions,
    metadata: &str,
    material_bytes: usize,
) -> Result<KeyEntry, Corrupt> {
    let id = ID.to_owned();
    let length = u32::try_from(metadata.len()).unwrap().to_be_bytes();
    let materials = vec![7; material_bytes];
    let parts = [&[1], length.as_slice(), metadata.as_bytes(), &materials];
    let bytes = parts.concat();
    let plaintext = crate::crypto::secret::SecretBytes::copy_of(&bytes);
    let record = Record {
        kind: Kind::Key,
        id: id.clone(),
        revision: 7,
        body: Vec::new(),
    };
    match body::decode(&record, &plaintext, regions)? {
        Entry::Key(entry) => Ok(entry),
        _ => panic!("another kind"),
    }
}

#[test]
fn a_key_is_of_its_partition_s_cipher_or_refused() {
    let china = Regions::one(Region::CHINA, "cn-north-1");
    let refused = Corrupt::Partition(ID.to_owned());
    for (regions, bytes, other) in [(regions(), 32, 16), (china, 16, 32)] {
        let entry = decoded_in(&regions, FIRST, bytes).unwrap();
        assert_eq!(entry.materials[0].expose(), vec![7; bytes]);
        let error = decoded_in(&regions, FIRST, other).err();
        assert_eq!(error.as_ref(), Some(&refused));
        assert!(
            refused
                .to_string()
                .contains("set `region` and `partition` as they were")
        );
        assert!(decoded_in(&regions, FIRST, 24).is_err());
    }
}

const FIRST: &str = r#"{"account":"111122223333","description":"a","state":"Enabled","creation_date":5,"materials":[{"generation":1,"creation_date":5}]}"#;

/// Records written before 2026-11-24 have neither tags nor rotations.
#[test]
fn a_record_from_before_there_were_tags_is_a_key_without() {
    let entry = decoded(FIRST, 1).unwrap();
    let expected = KmsKey {
        description: "a".to_owned(),
        ..KmsKey::new(entry.key.id, account(), Timestamp(5))
    };
    assert_eq!(entry.key, expected);
    assert_eq!((entry.materials.len(), entry.fence), (1, 7));
    for (from, to, generations) in [
        ("", "", 0),
        ("", "", 2),
        (
            "\"creation_date\":5,\"m",
            "\"creation_date\":5,\"tags\":[{\"key\":\"a\"}],\"m",
            1,
        ),
        ("\"description\"", "\"descriptions\"", 1),
        ("Enabled", "Rotated", 1),
        (
            "\"creation_date\":5}]",
            "\"creation_date\":5,\"rotation\":\"Late\"}]",
            1,
        ),
        ("5}]}", "5}],\"rotation\":{\"period_days\":90}}", 1),
    ] {
        let metadata = if from.is_empty() {
            FIRST.to_owned()
        } else {
            FIRST.replace(from, to)
        };
        assert!(decoded(&metadata, generations).is_none(), "{metadata}");
    }
}

/// An earlier build can read what a later one has not put anything new into.
#[tokio::test]
async fn a_key_without_tags_is_written_as_it_was_before_there_were_any() {
    let draft = draft(KeyState::Enabled);
    let plaintext = body::key::encode(&draft, &regions());
    let text = String::from_utf8_lossy(plaintext.expose());
    assert!(text.contains(r#""creation_date":5}]}"#), "{text}");
}

#[tokio::test]
async fn generations_and_the_next_date_are_read_back() {
    let (place, store) = TestStore::created().await;
    let mut key = draft(KeyState::Enabled);
    let id = key.key.regional_id();
    key.key.rotation = Some(RotationSchedule::after(Timestamp(7), 90));
    let types = [RotationType::OnDemand, RotationType::Automatic];
    for (generation, rotation) in (2..).zip(types) {
        let date = Timestamp(generation.into());
        let material =
            BackingKey::draw(BlockCipher::Aes256, id.id, generation, date, &Entropy::os()).unwrap();
        key.materials.push(Arc::new(material.by_rotation(rotation)));
    }
    apply(&store, vec![Change::PutKey(key)]).await.unwrap();
    let written = Arc::clone(&store.snapshot().keys[&id]);
    store.close().await.unwrap();
    let read = Arc::clone(&place.open().await.unwrap().snapshot().keys[&id]);
    assert_eq!(read.key, written.key);
    let told = |entry: &KeyEntry| -> Vec<_> {
        let materials = entry.materials.iter();
        materials
            .map(|key| {
                let (made, by) = (key.creation_date(), key.rotation());
                (key.generation(), key.id(), made, by)
            })
            .collect()
    };
    assert_eq!(told(&read), told(&written));
    let by: Vec<_> = told(&read).into_iter().map(|(_, _, _, by)| by).collect();
    assert_eq!(by, [None, Some(types[0]), Some(types[1])]);
}

#[tokio::test]
async fn tags_are_read_back_and_move_no_fence() {
    let (place, store) = TestStore::created().await;
    let key = draft(KeyState::Enabled);
    let (id, materials) = (key.key.regional_id(), key.materials.clone());
    apply(&store, vec![Change::PutKey(key)]).await.unwrap();
    let before = Arc::clone(&store.snapshot().keys[&id]);
    let tag = |key: &str, value: &str| Tag {
        key: key.to_owned(),
        value: value.to_owned(),
    };
    let tags = vec![tag("team", "storage"), tag("é", "")];
    let draft = |state| KeyDraft {
        key: KmsKey {
            tags: tags.clone(),
            state,
            ..before.key.clone()
        },
        materials: materials.clone(),
        secret: None,
    };
    let change = Change::PutKey(draft(KeyState::Enabled));
    apply(&store, vec![change]).await.unwrap();
    let tagged = Arc::clone(&store.snapshot().keys[&id]);
    assert_eq!((&tagged.key.tags, tagged.fence), (&tags, before.fence));
    let change = Change::PutKey(draft(KeyState::Disabled));
    apply(&store, vec![change]).await.unwrap();
    let disabled = Arc::clone(&store.snapshot().keys[&id]);
    assert_eq!(disabled.fence, store.revision());
    store.close().await.unwrap();
    let read = place.open().await.unwrap().snapshot();
    assert_eq!(read.keys[&id].key, disabled.key);
}

#[tokio::test]
async fn keys_of_other_kinds_are_read_back() {
    let (place, store) = TestStore::created().await;
    let mut ids = Vec::new();
    for (spec, usage) in [
        ("RSA_2048", "ENCRYPT_DECRYPT"),
        ("ECC_NIST_P256", "SIGN_VERIFY"),
        ("ECC_NIST_EDWARDS25519", "SIGN_VERIFY"),
        ("ML_DSA_44", "SIGN_VERIFY"),
        ("ML_KEM_512", "ENCAPSULATE_DECAPSULATE"),
        ("HMAC_224", "GENERATE_VERIFY_MAC"),
    ] {
        let mut draft = draft(KeyState::Enabled);
        draft.key.spec = spec.parse().unwrap();
        draft.key.usage = usage.parse().unwrap();
        draft.materials.clear();
        let secret = KeySecret::draw(draft.key.spec, &Entropy::os()).unwrap();
        draft.secret = Some(Arc::new(secret));
        ids.push(draft.key.regional_id());
        apply(&store, vec![Change::PutKey(draft)]).await.unwrap();
    }
    let written = store.snapshot();
    store.close().await.unwrap();
    let read = place.open().await.unwrap().snapshot();
    for id in ids {
        let (read, written) = (&read.keys[&id], &written.keys[&id]);
        assert_eq!(read.key, written.key);
        let exposed = |entry: &KeyEntry| entry.secret.as_ref().unwrap().expose().to_vec();
        assert_eq!(exposed(read), exposed(written));
        assert!(read.current().is_none());
    }
}

#[test]
fn a_key_whose_kind_and_material_do_not_fit_is_refused() {
    let kind = |spec: &str, usage: &str, origin: &str| {
        let kind =
            format!(r#","kind":{{"spec":"{spec}","usage":"{usage}","origin":"{origin}"}}}}"#);
        let none = FIRST.replace(r#"{"generation":1,"creation_date":5}"#, "");
        none[..none.len() - 1].to_owned() + &kind
    };
    // 32 bytes of material for each of `generations`.
    assert!(decoded(&kind("HMAC_256", "GENERATE_VERIFY_MAC", "AWS_KMS"), 1).is_some());
    for (spec, usage, origin, generations) in [
        ("HMAC_256", "GENERATE_VERIFY_MAC", "AWS_KMS", 0),
        ("HMAC_256", "GENERATE_VERIFY_MAC", "AWS_KMS", 2),
        ("HMAC_256", "SIGN_VERIFY", "AWS_KMS", 1),
        ("HMAC_256", "GENERATE_VERIFY_MAC", "AWS_CLOUDHSM", 1),
        ("HMAC_256", "GENERATE_VERIFY_MAC", "EXTERNAL", 1),
        ("ECC_NIST_P256", "SIGN_VERIFY", "AWS_KMS", 1),
        ("SM2", "SIGN_VERIFY", "AWS_KMS", 1),
        ("SYMMETRIC_DEFAULT", "ENCRYPT_DECRYPT", "AWS_KMS", 1),
    ] {
        let metadata = kind(spec, usage, origin);
        assert!(decoded(&metadata, generations).is_none(), "{metadata}");
    }
}

#[tokio::test]
async fn what_was_imported_is_read_back_whether_its_bytes_are_there_or_not() {
    let (place, store) = TestStore::created().await;
    let mut draft = draft(KeyState::PendingImport);
    let id = draft.key.regional_id();
    draft.key.origin = KeyOrigin::External;
    // 4 was given too, and is of no material any more.
    draft.key.generations = 4;
    draft.key.was_disabled = true;
    draft.materials.clear();
    for (generation, present, pending) in [(1, false, false), (2, true, false), (3, true, true)] {
        let date = Timestamp(generation.into());
        let material =
            BackingKey::draw(BlockCipher::Aes256, id.id, generation, date, &Entropy::os()).unwrap();
        draft.key.imports.push(Import {
            generation,
            id: material.id(),
            date,
            rotation: (generation == 2).then_some(RotationType::OnDemand),
            present,
            pending,
            valid_to: (generation == 3).then_some(Timestamp(99)),
            description: "from \"the\" safe".to_owned(),
        });
        if present {
            draft.materials.push(Arc::new(material));
        }
    }
    apply(&store, vec![Change::PutKey(draft)]).await.unwrap();
    let written = Arc::clone(&store.snapshot().keys[&id]);
    store.close().await.unwrap();
    let read = Arc::clone(&place.open().await.unwrap().snapshot().keys[&id]);
    assert_eq!(read.key, written.key);
    let generations: Vec<_> = read.materials.iter().map(|one| one.generation()).collect();
    assert_eq!(generations, [2, 3]);
    assert_eq!(
        read.current().unwrap().generation(),
        2,
        "pending material is not in use"
    );
}

#[test]
fn imported_material_that_is_not_what_its_record_says_is_refused() {
    let id = "1234abcd-12ab-34cd-56ef-1234567890ab".parse().unwrap();
    let named = KeyMaterialId::of(id, &[7; 32]).to_string();
    let metadata = |material: &str, present: bool, state: &str| {
        FIRST.replace(
            r#""creation_date":5}]}"#,
            &format!(
                r#""creation_date":5,"import":{{"id":"{material}","present":{present},"pending":false,"valid_to":null,"description":""}}}}],"kind":{{"spec":"SYMMETRIC_DEFAULT","usage":"ENCRYPT_DECRYPT","origin":"EXTERNAL"}}}}"#
            ),
        )
        .replace("Enabled", state)
    };
    assert!(decoded(&metadata(&named, true, "Enabled"), 1).is_some());
    assert!(decoded(&metadata(&named, false, "PendingImport"), 0).is_some());
    for (material, present, state, generations) in [
        (&named, false, "Enabled", 0),
        (&named, true, "Enabled", 0),
        (&named, false, "PendingImport", 1),
        (&"0".repeat(64), true, "Enabled", 1),
        (
            &named,
            true,
            r#"Enabled","was_disabled":true,"state":"Enabled"#,
            1,
        ),
        (&named.to_uppercase(), true, "Enabled", 1),
    ] {
        let metadata = metadata(material, present, state);
        assert!(decoded(&metadata, generations).is_none(), "{metadata}");
    }
}

/// The first builds derived the id of an imported private key from the bytes that it came in.
#[tokio::test]
async fn an_imported_private_key_is_named_by_its_public_key_from_then_on() {
    for (named_by, is_read) in [
        ("public key", true),
        ("bytes", true),
        ("other bytes", false),
    ] {
        let (place, store) = TestStore::created().await;
        let mut draft = draft(KeyState::Enabled);
        let id = draft.key.regional_id();
        draft.key.origin = KeyOrigin::External;
        draft.key.spec = KeySpec::Pair(PairSpec::EccNistP256);
        draft.key.usage = KeyUsage::SignVerify;
        draft.materials.clear();
        let secret = KeySecret::draw(draft.key.spec, &Entropy::os()).unwrap();
        let expected = secret.id(id.id);
        draft.key.imports.push(Import {
            generation: 1,
            id: match named_by {
                "public key" => expected,
                "bytes" => KeyMaterialId::of(id.id, secret.expose()),
                _ => KeyMaterialId::of(id.id, b"other"),
            },
            date: Timestamp(1),
            rotation: None,
            present: true,
            pending: false,
            valid_to: None,
            description: String::new(),
        });
        draft.key.generations = 1;
        draft.secret = Some(Arc::new(secret));
        apply(&store, vec![Change::PutKey(draft)]).await.unwrap();
        store.close().await.unwrap();
        let read = place.open().await;
        assert_eq!(read.is_ok(), is_read, "{named_by}");
        if let Ok(read) = read {
            let read = read.snapshot();
            assert_eq!(read.keys[&id].key.imports[0].id, expected, "{named_by}");
        }
    }
}
