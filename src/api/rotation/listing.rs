//! `ListKeyRotations`.

use crate::api::admission::Ask;
use crate::api::marker::{Marker, Page, PageSize};
use crate::api::validation::Violations;
use crate::api::wire::{self, Object, Text};
use crate::api::{Answer, Api, Requester};
use crate::clock::Timestamp;
use crate::key::import::Import;
use crate::key::material::KeyMaterialId;
use crate::key::rotation::RotationType;
use crate::key::spec::{KeyOrigin, KeySpec};
use crate::keystore::{KeyEntry, Snapshot};
use crate::operation::Action;

wire::input! {
    struct ListInput<'a> {
        key_id: Text<'a>,
        include_key_material: Text<'a>,
        limit: Option<i64>,
        marker: Text<'a>,
    }
}

/// `ListKeyRotations`: from the oldest generation on.
pub(in crate::api) fn list(api: &Api, requester: &Requester, body: &[u8]) -> Answer {
    const PAGE: PageSize = PageSize::of_default_and_max(100, 1000);
    let input: ListInput<'_> = wire::decode(body)?;
    let mut violations = Violations::default();
    let key = violations.key_id("keyId", &input.key_id);
    let (include, set) = (
        input.include_key_material.as_deref(),
        "ALL_KEY_MATERIAL, ROTATIONS_ONLY",
    );
    let include = violations.one_of("includeKeyMaterial", include, set);
    let marker = input.marker.as_deref();
    let limit = PAGE.check(input.limit, marker, &mut violations);
    let (key, limit) = violations.check((key, limit))?;
    let all = include == Some("ALL_KEY_MATERIAL");
    let snapshot = api.keystore.snapshot();
    let attempt = api.attempt(requester, &snapshot)?;
    let admitted = attempt.admit(Ask::on(Action::ListKeyRotations, &key), |_| Ok(()))?;
    let entry = admitted.entry();
    let listing = Marker::of_listing(format_args!("ListKeyRotations {} {all}", entry.key.id));
    let after: u32 = listing.read(marker)?.unwrap_or_default();
    let materials = generations(entry, &snapshot)
        .filter(|material| material.generation > after)
        .filter(|material| all || material.rotation.is_some());
    let item = |material: &Generation<'_>| item(entry, material);
    let after = |last: &Generation<'_>| listing.after(last.generation);
    admitted.answer(Page::of(materials, limit).reply("Rotations", item, after))
}

/// A generation as it is listed.
struct Generation<'a> {
    generation: u32,
    id: KeyMaterialId,
    state: &'static str,
    date: Timestamp,
    rotation: Option<RotationType>,
    import: Option<&'a Import>,
}

/// The generations of a symmetric key, whether their material is here or has gone; of another key
/// there are none.
fn generations<'a>(
    entry: &'a KeyEntry,
    snapshot: &'a Snapshot,
) -> impl Iterator<Item = Generation<'a>> {
    let symmetric = entry.key.spec == KeySpec::Symmetric;
    let imported = entry.key.origin == KeyOrigin::External;
    // Of imported keys, only symmetric ones have generations to list.
    let imports = entry.key.imports.iter().filter(move |_| symmetric);
    let current = if imported {
        entry.key.current_import().map(|import| import.generation)
    } else {
        entry.current().map(|material| material.generation())
    };
    let state = move |generation, pending| {
        if pending && !is_in_all(generation, entry, snapshot) {
            "PENDING_MULTI_REGION_IMPORT_AND_ROTATION"
        } else if pending {
            "PENDING_ROTATION"
        } else if Some(generation) == current {
            "CURRENT"
        } else {
            "NON_CURRENT"
        }
    };
    let drawn = entry
        .materials
        .iter()
        .filter(move |_| !imported)
        .map(move |material| Generation {
            generation: material.generation(),
            id: material.id(),
            state: state(material.generation(), false),
            date: material.creation_date(),
            rotation: material.rotation(),
            import: None,
        });
    drawn.chain(imports.map(move |import| Generation {
        generation: import.generation,
        id: import.id,
        state: state(import.generation, import.pending),
        date: import.date,
        rotation: import.rotation,
        import: Some(import),
    }))
}

/// Whether no replica of this key lacks this material.
pub(super) fn is_in_all(generation: u32, entry: &KeyEntry, snapshot: &Snapshot) -> bool {
    let related = snapshot.related(entry.key.id);
    let mut replicas = related.filter(|other| other.key.is_replica());
    replicas.all(|replica| {
        let mut imports = replica.key.imports.iter();
        imports.any(|import| import.generation == generation && import.present)
    })
}

fn item(entry: &KeyEntry, material: &Generation<'_>) -> Object {
    let mut object = Object::with_room(1024);
    object.plain("KeyId", &entry.arn);
    object.material_id("KeyMaterialId", material.id);
    if let Some(import) = material.import {
        if !import.description.is_empty() {
            object.text("KeyMaterialDescription", &import.description);
        }
        let state = if import.present {
            "IMPORTED"
        } else {
            "PENDING_IMPORT"
        };
        object.plain("ImportState", state);
    }
    object.plain("KeyMaterialState", material.state);
    if let Some(import) = material.import.filter(|import| import.present) {
        object.plain("ExpirationModel", import.expiration_model());
        if let Some(date) = import.valid_to {
            object.time("ValidTo", date);
        }
    }
    if let Some(rotation) = material.rotation {
        object.time("RotationDate", material.date);
        object.plain("RotationType", rotation.name());
    }
    object
}
