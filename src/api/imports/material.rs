//! What an import, its deletion, its expiry and its rotation make of a key: from one state of it to
//! the next.

use crate::api::{ApiError, KmsErrorCode};
use crate::clock::Timestamp;
use crate::crypto::secret::{Secret, SecretBytes};
use crate::key::import::Import;
use crate::key::material::{BackingKey, KeyMaterialId, KeySecret};
use crate::key::rotation::RotationType;
use crate::key::spec::KeySpec;
use crate::key::{KeyState, KmsKey};
use crate::keystore::{KeyDraft, KeyEntry};
use std::sync::Arc;

/// Bytes of a symmetric key's material.
const SYMMETRIC_BYTES: usize = 32;

/// The material of an import, unwrapped.
pub(super) struct Imported {
    pub(super) bytes: SecretBytes,
    /// `ImportType`, or as it is by default.
    pub(super) is_new: Option<bool>,
    /// `KeyMaterialId`
    pub(super) named: Option<KeyMaterialId>,
    pub(super) valid_to: Option<Timestamp>,
    pub(super) description: Option<String>,
}

fn incorrect(message: impl Into<std::borrow::Cow<'static, str>>) -> ApiError {
    ApiError::new(KmsErrorCode::IncorrectKeyMaterialException, message)
}

/// The key with this material, and the name of that.
pub(super) fn imported(
    entry: &KeyEntry,
    imported: &Imported,
    now: Timestamp,
) -> Result<(KeyDraft, KeyMaterialId), ApiError> {
    let key = &entry.key;
    let bytes = imported.bytes.expose();
    let id = KeyMaterialId::of(key.id, bytes);
    let mut draft = entry.with_key(key.clone());
    let at = place(&mut draft.key, id, imported, now)?;
    let import = &mut draft.key.imports[at];
    import.present = true;
    import.valid_to = imported.valid_to;
    if let Some(description) = &imported.description {
        import.description.clone_from(description);
    }
    // A symmetric key keeps all its generations; other keys have one material.
    if key.spec == KeySpec::Symmetric {
        if bytes.len() != SYMMETRIC_BYTES {
            return Err(incorrect("Symmetric key material has 32 bytes."));
        }
        let backing = Arc::new(backing(key, import, bytes));
        let generation = import.generation;
        draft.materials.retain(|one| one.generation() != generation);
        draft.materials.push(backing);
        draft.materials.sort_by_key(|one| one.generation());
    } else {
        let bytes = SecretBytes::copy_of(bytes);
        let secret = KeySecret::from_bytes(key.spec, bytes)
            .map_err(|_| incorrect(format!("The key material is not of key spec {}.", key.spec)))?;
        draft.secret = Some(Arc::new(secret));
    }
    // The key can be used when its last missing material is back.
    if draft.key.state == KeyState::PendingImport && !draft.key.lacks_material() {
        draft.key.state = KeyState::Enabled;
    }
    Ok((draft, id))
}

/// The place of the material of this name in the key's list, which grows by one if it is new.
fn place(
    key: &mut KmsKey,
    id: KeyMaterialId,
    imported: &Imported,
    now: Timestamp,
) -> Result<usize, ApiError> {
    if imported.named.is_some_and(|named| named != id) {
        return Err(incorrect(
            "The key material is not the one that KeyMaterialId names.",
        ));
    }
    let found = key.imports.iter().position(|import| import.id == id);
    let is_new = imported.is_new.unwrap_or(key.imports.is_empty());
    match found {
        // What waits for its rotation may be imported again either way.
        Some(at) if !is_new || key.imports[at].pending => return Ok(at),
        Some(_) => {
            return Err(incorrect(
                "The key material is not new: it has been imported before.",
            ));
        }
        None if !is_new => return Err(incorrect("The key material has not been imported before.")),
        None => {}
    }
    if let Some(pending) = key.imports.iter().find(|import| import.pending) {
        let message = format!(
            "New key material (id: {id}) cannot be imported into KMS key {}, because another key material (id: {}) is pending rotation.",
            key.id, pending.id
        );
        return Err(ApiError::new(
            KmsErrorCode::KMSInvalidStateException,
            message,
        ));
    }
    let is_first = key.imports.is_empty();
    if !is_first && key.spec != KeySpec::Symmetric {
        return Err(incorrect(
            "A key of this spec has one key material for good.",
        ));
    }
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

fn backing(key: &KmsKey, import: &Import, bytes: &[u8]) -> BackingKey {
    let secret = Secret::filled(|to: &mut [u8; SYMMETRIC_BYTES]| to.copy_from_slice(bytes));
    let backing = BackingKey::from_material(key.id, import.generation, import.date, secret);
    match import.rotation {
        Some(rotation) => backing.by_rotation(rotation),
        None => backing,
    }
}

/// The key without the bytes of the materials that `goes` selects. A material that was never
/// permanent is removed whole.
pub(super) fn without(entry: &KeyEntry, goes: impl Fn(&Import) -> bool) -> KeyDraft {
    let mut draft = entry.with_key(entry.key.clone());
    for import in draft.key.imports.iter_mut().filter(|import| goes(import)) {
        import.present = false;
    }
    draft
        .key
        .imports
        .retain(|import| import.present || !import.pending);
    let KeyDraft {
        key,
        materials,
        secret,
    } = &mut draft;
    let here = |generation| {
        let mut imports = key.imports.iter();
        imports.any(|import| import.generation == generation && import.present)
    };
    materials.retain(|material| here(material.generation()));
    if key.lacks_material() {
        *secret = None;
        if !matches!(key.state, KeyState::PendingDeletion { .. }) {
            key.state = KeyState::PendingImport;
        }
    }
    draft
}

/// The key with what waited for it as its current material.
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
            ApiError::new(KmsErrorCode::KMSInvalidStateException, message)
        })?;
    pending.pending = false;
    pending.date = now;
    pending.rotation = Some(RotationType::OnDemand);
    let rotated = draft.materials.last_mut();
    if let Some(material) = rotated.filter(|last| last.generation() == pending.generation) {
        *material = Arc::new(backing(&entry.key, pending, material.expose()));
    }
    Ok(draft)
}
