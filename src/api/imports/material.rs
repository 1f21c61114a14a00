//! What an import, its deletion, its expiry and its rotation make of a key: from one state of it to
//! the next.

use crate::api::{ApiError, ErrorCode};
use crate::clock::Timestamp;
use crate::crypto::block_cipher::{BlockCipher, CipherKey};
use crate::key::import::{Import, ImportedMaterial, InvalidMaterial};
use crate::key::material::{BackingKey, KeyMaterialId};
use crate::key::rotation::RotationType;
use crate::key::spec::KeySpec;
use crate::key::{KeyId, KeyState, KmsKey};
use crate::keystore::{KeyDraft, KeyEntry};
use std::borrow::Cow;
use std::sync::Arc;

/// An import, unwrapped.
pub(super) struct Imported {
    pub(super) material: NamedMaterial,
    /// `ImportType`, or as it is by default.
    pub(super) is_new: Option<bool>,
    /// `KeyMaterialId`
    pub(super) named: Option<KeyMaterialId>,
    pub(super) valid_to: Option<Timestamp>,
    pub(super) description: Option<String>,
}

/// Material of a key, with its name.
pub(super) struct NamedMaterial {
    material: ImportedMaterial,
    id: KeyMaterialId,
    /// What the first builds called it, which named a private key by the bytes that it came in:
    /// these bytes, or those that are kept.
    former_ids: Vec<KeyMaterialId>,
}

impl NamedMaterial {
    /// Reads what was unwrapped for this key.
    pub(super) fn read(
        key: KeyId,
        spec: KeySpec,
        cipher: BlockCipher,
        bytes: &[u8],
    ) -> Result<Self, ApiError> {
        let code = ErrorCode::InvalidCiphertextException;
        let material =
            ImportedMaterial::read(spec, cipher, bytes).map_err(|error| match error {
                InvalidMaterial::Length => ApiError::bare(code),
                InvalidMaterial::PrivateKey(spec) => {
                    let spec = spec.name();
                    let message = format!(
                        "The key material is not a PKCS #8 private key of key spec {spec} in DER."
                    );
                    ApiError::new(code, message)
                }
            })?;
        let former_ids = match &material {
            ImportedMaterial::Symmetric(_) => Vec::new(),
            ImportedMaterial::Other(secret) => {
                let kept = KeyMaterialId::of(key, secret.expose());
                vec![KeyMaterialId::of(key, bytes), kept]
            }
        };
        let id = material.id(key);
        Ok(Self {
            material,
            id,
            former_ids,
        })
    }

    fn is_of(&self, import: &Import) -> bool {
        import.id == self.id || self.former_ids.contains(&import.id)
    }
}

fn incorrect(message: impl Into<Cow<'static, str>>) -> ApiError {
    ApiError::new(ErrorCode::IncorrectKeyMaterialException, message)
}

/// The key with this material, and the name of that.
pub(super) fn imported(
    entry: &KeyEntry,
    imported: &Imported,
    now: Timestamp,
) -> Result<(KeyDraft, KeyMaterialId), ApiError> {
    let key = &entry.key;
    let mut draft = entry.with_key(key.clone());
    let at = place(entry, &mut draft.key, imported, now)?;
    let import = &mut draft.key.imports[at];
    import.id = imported.material.id;
    import.present = true;
    import.valid_to = imported.valid_to;
    if let Some(description) = &imported.description {
        import.description.clone_from(description);
    }
    // A symmetric key keeps all its generations; other keys have one material.
    match &imported.material.material {
        ImportedMaterial::Symmetric(secret) => {
            let backing = Arc::new(backing(key, import, secret));
            let generation = import.generation;
            draft.materials.retain(|one| one.generation() != generation);
            draft.materials.push(backing);
            draft.materials.sort_by_key(|one| one.generation());
        }
        ImportedMaterial::Other(secret) => draft.secret = Some(Arc::clone(secret)),
    }
    // The key is as it was when its last missing material is back.
    if draft.key.state == KeyState::PendingImport && !draft.key.lacks_material() {
        draft.key.state = if draft.key.was_disabled {
            KeyState::Disabled
        } else {
            KeyState::Enabled
        };
        draft.key.was_disabled = false;
    }
    Ok((draft, imported.material.id))
}

/// The place of the material in the key's list, which grows by one if it is new.
fn place(
    entry: &KeyEntry,
    key: &mut KmsKey,
    imported: &Imported,
    now: Timestamp,
) -> Result<usize, ApiError> {
    let (arn, id) = (&entry.arn, imported.material.id);
    let mut imports = key.imports.iter();
    let found = imports.position(|import| imported.material.is_of(import));
    let is_new = imported.is_new.unwrap_or(key.imports.is_empty());
    let current = key.current_import().map(|import| import.id);
    let other = |expected| {
        incorrect(format!(
            "Imported key material does not have the expected identifier ({expected})."
        ))
    };
    if let Some(named) = imported.named.filter(|named| *named != id) {
        return Err(other(named));
    }
    match (found, current) {
        // What waits for its rotation may be imported again either way.
        (Some(at), _) if !is_new || key.imports[at].pending => return Ok(at),
        (Some(_), _) => {
            return Err(incorrect(format!(
                "Key material (id: {id}) being imported as NEW_KEY_MATERIAL is already associated with KMS key {arn}."
            )));
        }
        (None, Some(current)) if !is_new => return Err(other(current)),
        (None, None) if !is_new => {
            return Err(incorrect("The key material has not been imported before."));
        }
        (None, _) => {}
    }
    if let Some(pending) = key.imports.iter().find(|import| import.pending) {
        let message = format!(
            "New key material (id: {id}) cannot be imported into KMS key {arn}, because another key material (id: {}) is pending rotation.",
            pending.id
        );
        return Err(ApiError::new(ErrorCode::KMSInvalidStateException, message));
    }
    let is_first = key.imports.is_empty();
    // Not the one after the last in the list: material that was deleted before its rotation has had
    // one too.
    let generation = key
        .generations
        .checked_add(1)
        .ok_or_else(|| ApiError::internal("a key has no more generations"))?;
    key.generations = generation;
    key.imports.push(Import {
        generation,
        id,
        date: now,
        rotation: None,
        present: true,
        pending: !is_first,
        valid_to: None,
        description: String::new(),
    });
    Ok(key.imports.len() - 1)
}

fn backing(key: &KmsKey, import: &Import, material: &CipherKey) -> BackingKey {
    let (generation, date) = (import.generation, import.date);
    let backing = BackingKey::from_material(key.id, generation, date, material.copied());
    match import.rotation {
        Some(rotation) => backing.by_rotation(rotation),
        None => backing,
    }
}

/// The key without the bytes of this material. One that was never permanent is removed whole; a
/// replica key still knows of it, as long as its primary key has it.
pub(super) fn deleted(entry: &KeyEntry, id: KeyMaterialId) -> KeyDraft {
    let mut draft = without(entry, |import| import.id == id);
    if !entry.key.is_replica() {
        let imports = &mut draft.key.imports;
        imports.retain(|import| import.id != id || !import.pending);
    }
    draft
}

/// The key without the bytes whose date has come. What waited for its rotation still can become
/// current, as on AWS KMS.
pub(super) fn expired(entry: &KeyEntry, now: Timestamp) -> KeyDraft {
    without(entry, |import| import.is_expired(now))
}

fn without(entry: &KeyEntry, goes: impl Fn(&Import) -> bool) -> KeyDraft {
    let mut draft = entry.with_key(entry.key.clone());
    for import in draft.key.imports.iter_mut().filter(|import| goes(import)) {
        import.present = false;
    }
    draft.settled(&entry.key)
}

/// The key with what waited for it as its current material. If that has expired meanwhile, the key
/// waits for it.
pub(in crate::api) fn rotated(entry: &KeyEntry, now: Timestamp) -> Result<KeyDraft, ApiError> {
    let mut draft = entry.with_key(entry.key.clone());
    let pending = draft
        .key
        .imports
        .iter_mut()
        .find(|import| import.pending)
        .ok_or_else(|| {
            let message = format!(
                "No available key material pending rotation for the key: {}.",
                entry.arn
            );
            ApiError::new(ErrorCode::KMSInvalidStateException, message)
        })?;
    pending.pending = false;
    pending.date = now;
    pending.rotation = Some(RotationType::OnDemand);
    let rotated = draft.materials.last_mut();
    if let Some(material) = rotated.filter(|last| last.generation() == pending.generation) {
        *material = Arc::new(backing(&entry.key, pending, material.material()));
    }
    if draft.key.lacks_material() {
        draft.key.state = KeyState::PendingImport;
    }
    Ok(draft)
}
