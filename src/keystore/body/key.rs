//! A key's record: the metadata, followed by the material in the clear.
//!
//! A symmetric encryption key has the material of its present generations, all of 32 bytes or all
//! of 16 (SM4), in the order of the metadata. An asymmetric key has its PKCS#8 DER, one of ML-DSA
//! or ML-KEM its seed, an HMAC key its bytes, and a key in an external key store the 32 bytes that
//! go with its external key. Members that a symmetric key of origin `AWS_KMS`
//! does not need are not written, so that earlier builds can read it.

use crate::clock::Timestamp;
use crate::crypto::block_cipher::{BlockCipher, CipherKey};
use crate::crypto::secret::SecretBytes;
use crate::key::import::Import;
use crate::key::key_store::InKeyStore;
use crate::key::material::{BackingKey, KeyMaterialId, KeySecret};
use crate::key::regions::{RegionNumber, RegionalId, Regions, Unnamed};
use crate::key::rotation::{RotationSchedule, RotationType};
use crate::key::spec::{KeyOrigin, KeySpec, KeyUsage};
use crate::key::{KeyId, KeyState, KmsKey};
use crate::keystore::body::{TagBody, encode as encode_body, split, tag, tag_body};
use crate::keystore::entry::{KeyDraft, KeyEntry};
use crate::keystore::record::Record;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

const CIPHERS: [BlockCipher; 2] = [BlockCipher::Aes256, BlockCipher::Sm4];

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyBody {
    account: String,
    description: String,
    state: StateBody,
    creation_date: u64,
    materials: Vec<MaterialBody>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    tags: Vec<TagBody>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rotation: Option<ScheduleBody>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    kind: Option<KindBody>,
    /// The highest generation that was ever given, when no present material has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    generations: Option<u32>,
    /// Whether the key was disabled when its material went.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    was_disabled: bool,
    /// The name of the primary key's Region, of a multi-Region key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    primary: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key_store: Option<InKeyStoreBody>,
}

/// The kind of a key that is not `SYMMETRIC_DEFAULT` with origin `AWS_KMS`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KindBody {
    spec: String,
    usage: String,
    origin: String,
}

/// Of a key of origin `EXTERNAL_KEY_STORE`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct InKeyStoreBody {
    id: String,
    external_key: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ScheduleBody {
    period_days: u16,
    next_date: u64,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
enum RotationBody {
    Automatic,
    OnDemand,
}

#[derive(Serialize, Deserialize)]
enum StateBody {
    Enabled,
    Disabled,
    PendingDeletion { deletion_date: u64 },
    PendingImport,
    PendingReplicaDeletion { window_days: u16 },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct MaterialBody {
    generation: u32,
    creation_date: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rotation: Option<RotationBody>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    import: Option<ImportBody>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ImportBody {
    id: String,
    present: bool,
    pending: bool,
    valid_to: Option<u64>,
    description: String,
}

pub(in crate::keystore) fn encode(draft: &KeyDraft, regions: &Regions) -> SecretBytes {
    let key = &draft.key;
    let refers = refers(key);
    let state = match key.state {
        KeyState::Enabled => StateBody::Enabled,
        KeyState::Disabled => StateBody::Disabled,
        KeyState::PendingDeletion { deletion_date } => StateBody::PendingDeletion {
            deletion_date: deletion_date.0,
        },
        KeyState::PendingImport => StateBody::PendingImport,
        KeyState::PendingReplicaDeletion { window_days } => {
            StateBody::PendingReplicaDeletion { window_days }
        }
    };
    // The usual kind is left out: builds that knew no other kind can read such a record.
    let usual = key.spec == KeySpec::Symmetric && key.origin == KeyOrigin::AwsKms;
    let kind = (!usual).then(|| KindBody {
        spec: key.spec.to_string(),
        usage: key.usage.to_string(),
        origin: key.origin.to_string(),
    });
    let materials = match key.origin {
        _ if refers => Vec::new(),
        KeyOrigin::ExternalKeyStore => Vec::new(),
        KeyOrigin::AwsKms => draft.materials.iter().map(material_body).collect(),
        KeyOrigin::External => key.imports.iter().map(imported_body).collect(),
    };
    let metadata = KeyBody {
        account: key.account.to_string(),
        description: key.description.clone(),
        state,
        creation_date: key.creation_date.0,
        materials,
        tags: key.tags.iter().map(tag_body).collect(),
        rotation: key
            .rotation
            .filter(|_| !refers)
            .map(|schedule| ScheduleBody {
                period_days: schedule.period_days,
                next_date: schedule.next_date.0,
            }),
        kind,
        generations: (key.generations > last_generation(&key.imports)).then_some(key.generations),
        was_disabled: key.was_disabled,
        primary: key.primary.map(|number| regions.get(number).name.clone()),
        key_store: key.key_store.as_ref().map(|store| InKeyStoreBody {
            id: store.id.to_string(),
            external_key: store.external_key.as_str().to_owned(),
        }),
    };
    let generations = draft.materials.iter().map(|key| key.expose());
    let secret = draft.secret.iter().map(|secret| secret.expose());
    let secrets = generations.chain(secret).filter(|_| !refers);
    let secrets: Vec<&[u8]> = secrets.collect();
    encode_body(&metadata, &secrets)
}

/// Whether the record refers to that of the primary key for the material and its schedule. A
/// replica of imported material has its own: it is imported in each Region, and goes in each by
/// itself.
fn refers(key: &KmsKey) -> bool {
    key.is_replica() && key.origin == KeyOrigin::AwsKms
}

fn last_generation(imports: &[Import]) -> u32 {
    imports.last().map_or(0, |import| import.generation)
}

fn material_body(key: &Arc<BackingKey>) -> MaterialBody {
    MaterialBody {
        generation: key.generation(),
        creation_date: key.creation_date().0,
        rotation: key.rotation().map(rotation_body),
        import: None,
    }
}

fn imported_body(import: &Import) -> MaterialBody {
    MaterialBody {
        generation: import.generation,
        creation_date: import.date.0,
        rotation: import.rotation.map(rotation_body),
        import: Some(ImportBody {
            id: import.id.to_string(),
            present: import.present,
            pending: import.pending,
            valid_to: import.valid_to.map(|date| date.0),
            description: import.description.clone(),
        }),
    }
}

fn rotation_body(rotation: RotationType) -> RotationBody {
    match rotation {
        RotationType::Automatic => RotationBody::Automatic,
        RotationType::OnDemand => RotationBody::OnDemand,
    }
}

fn rotation_type(rotation: RotationBody) -> RotationType {
    match rotation {
        RotationBody::Automatic => RotationType::Automatic,
        RotationBody::OnDemand => RotationType::OnDemand,
    }
}

pub(super) fn decode(
    record: &Record,
    plaintext: &SecretBytes,
    id: RegionalId,
    regions: &Regions,
) -> Result<KeyEntry, Unnamed> {
    let (body, secrets) = split::<KeyBody>(plaintext).ok_or(Unnamed::Text)?;
    let primary = body.primary.as_deref().map(|name| {
        let region = regions
            .named(name)
            .ok_or_else(|| Unnamed::Region(name.to_owned()));
        region.map(|region| region.number)
    });
    let primary = primary.transpose()?;
    let entry = entry_of(id, primary, body, secrets, regions, record.revision);
    entry.ok_or(Unnamed::Text)
}

fn entry_of(
    RegionalId { id, region }: RegionalId,
    primary: Option<RegionNumber>,
    body: KeyBody,
    secrets: &[u8],
    regions: &Regions,
    fence: u64,
) -> Option<KeyEntry> {
    let account = body.account.parse().ok()?;
    // A record without a kind is of a symmetric key, the only kind when such records were written.
    let (spec, usage, origin) = match &body.kind {
        None => (
            KeySpec::Symmetric,
            KeyUsage::EncryptDecrypt,
            KeyOrigin::AwsKms,
        ),
        Some(kind) => (
            kind.spec.parse().ok()?,
            kind.usage.parse().ok()?,
            kind.origin.parse().ok()?,
        ),
    };
    let state = match body.state {
        StateBody::Enabled => KeyState::Enabled,
        StateBody::Disabled => KeyState::Disabled,
        StateBody::PendingDeletion { deletion_date } => KeyState::PendingDeletion {
            deletion_date: Timestamp(deletion_date),
        },
        StateBody::PendingImport => KeyState::PendingImport,
        StateBody::PendingReplicaDeletion { window_days } => {
            KeyState::PendingReplicaDeletion { window_days }
        }
    };
    // Only a key of origin `EXTERNAL` has imports.
    let imports = match origin {
        KeyOrigin::AwsKms if body.materials.iter().all(|one| one.import.is_none()) => Vec::new(),
        KeyOrigin::AwsKms => return None,
        KeyOrigin::ExternalKeyStore => Vec::new(),
        KeyOrigin::External => body
            .materials
            .iter()
            .map(imported)
            .collect::<Option<Vec<_>>>()?,
    };
    let last = last_generation(&imports);
    let mut key = KmsKey {
        id,
        region,
        primary,
        account,
        description: body.description,
        spec,
        usage,
        origin,
        state,
        creation_date: Timestamp(body.creation_date),
        tags: body.tags.into_iter().map(tag).collect(),
        rotation: body.rotation.map(|schedule| RotationSchedule {
            period_days: schedule.period_days,
            next_date: Timestamp(schedule.next_date),
        }),
        imports,
        generations: body.generations.unwrap_or(0).max(last),
        was_disabled: body.was_disabled,
        key_store: match &body.key_store {
            None => None,
            Some(store) => Some(in_key_store(store)?),
        },
    };
    // A record that contradicts itself is refused as corrupt, not repaired.
    let usable = key.state == KeyState::Enabled || key.state == KeyState::Disabled;
    let contradicts = if key.lacks_material() {
        usable
    } else {
        key.was_disabled
    };
    let is_elsewhere = origin == KeyOrigin::ExternalKeyStore;
    if !spec.fits(usage)
        || contradicts
        || primary.is_some() != id.is_multi_region()
        || is_elsewhere != key.key_store.is_some()
    {
        return None;
    }
    let (materials, secret) = if refers(&key) {
        let is_empty = body.materials.is_empty() && secrets.is_empty();
        (Vec::new(), is_empty.then_some(None)?)
    } else if is_elsewhere {
        let is_alone = spec == KeySpec::Symmetric && body.materials.is_empty() && primary.is_none();
        (Vec::new(), Some(inner(&key, secrets).filter(|_| is_alone)?))
    } else if spec == KeySpec::Symmetric {
        (materials(&key, &body.materials, secrets)?, None)
    } else {
        let secret = secret(&key, &body.materials, secrets)?;
        if let (Some(secret), [import]) = (&secret, key.imports.as_mut_slice()) {
            import.id = id_of(id, secret, import.id)?;
        }
        (Vec::new(), secret)
    };
    Some(KeyEntry {
        arn: regions.get(region).key_arn(account, id),
        key,
        materials,
        secret,
        fence,
    })
}

fn in_key_store(body: &InKeyStoreBody) -> Option<InKeyStore> {
    Some(InKeyStore {
        id: body.id.parse().ok()?,
        external_key: body.external_key.parse().ok()?,
        is_connected: false,
    })
}

/// The material of a key in an external key store: one generation, as old as the key.
fn inner(key: &KmsKey, secrets: &[u8]) -> Option<Arc<KeySecret>> {
    let material = CipherKey::copy_of(BlockCipher::Aes256, secrets)?;
    let inner = BackingKey::from_material(key.id, 1, key.creation_date, material);
    Some(Arc::new(KeySecret::Inner(inner)))
}

/// The id of this material of an asymmetric or HMAC key, if it is what the record says it is. The
/// first builds derived that of a private key from its bytes.
fn id_of(key: KeyId, secret: &KeySecret, said: KeyMaterialId) -> Option<KeyMaterialId> {
    let id = secret.id(key);
    let former = KeyMaterialId::of(key, secret.expose());
    [id, former].contains(&said).then_some(id)
}

fn imported(body: &MaterialBody) -> Option<Import> {
    let import = body.import.as_ref()?;
    Some(Import {
        generation: body.generation,
        id: KeyMaterialId::parse(&import.id)?,
        date: Timestamp(body.creation_date),
        rotation: body.rotation.map(rotation_type),
        present: import.present,
        pending: import.pending,
        valid_to: import.valid_to.map(Timestamp),
        description: import.description.clone(),
    })
}

/// The present generations of a symmetric encryption key.
fn materials(
    key: &KmsKey,
    bodies: &[MaterialBody],
    secrets: &[u8],
) -> Option<Vec<Arc<BackingKey>>> {
    let here = |body: &&MaterialBody| body.import.as_ref().is_none_or(|import| import.present);
    let bodies: Vec<_> = bodies.iter().filter(here).collect();
    let none_at_all = bodies.is_empty() && key.origin == KeyOrigin::AwsKms;
    if none_at_all {
        return None;
    }
    // There must be one secret for each generation whose bytes are present, in the same order, and
    // all of one cipher.
    let whole = |cipher: &BlockCipher| secrets.len() == bodies.len() * cipher.key_bytes();
    let cipher = CIPHERS.into_iter().find(whole)?;
    let secrets = secrets.chunks_exact(cipher.key_bytes());
    let materials = secrets.zip(bodies).map(|(material, body)| {
        let material = CipherKey::copy_of(cipher, material)?;
        let creation_date = Timestamp(body.creation_date);
        let backing = BackingKey::from_material(key.id, body.generation, creation_date, material);
        // The id of an import is derived from its bytes, so wrong bytes are noticed.
        let named = body.import.as_ref().map(|import| &import.id);
        if named.is_some_and(|id| *id != backing.id().to_string()) {
            return None;
        }
        Some(Arc::new(match body.rotation.map(rotation_type) {
            None => backing,
            Some(rotation) => backing.by_rotation(rotation),
        }))
    });
    materials.collect()
}

/// The material of an asymmetric or HMAC key, if it is present. The outer `None` is a corrupt
/// record.
fn secret(key: &KmsKey, bodies: &[MaterialBody], bytes: &[u8]) -> Option<Option<Arc<KeySecret>>> {
    let here = match (key.origin, bodies) {
        (KeyOrigin::AwsKms, []) => true,
        (KeyOrigin::External, []) => false,
        (KeyOrigin::External, [_]) => !key.lacks_material(),
        _ => return None,
    };
    if !here {
        return bytes.is_empty().then_some(None);
    }
    let bytes = SecretBytes::copy_of(bytes);
    let secret = KeySecret::from_bytes(key.spec, bytes).ok()?;
    // Only an import brings an HMAC key that is longer than its hash.
    let fits = match (key.spec, key.origin) {
        (KeySpec::Mac(spec), KeyOrigin::AwsKms) => secret.expose().len() == spec.bytes(),
        _ => true,
    };
    fits.then(|| Some(Arc::new(secret)))
}
