//! Generations of imported material: each is of one material for good.

use super::*;
use crate::context::EncryptionContext;
use crate::envelope;
use crate::key::material::BackingKey;
use crate::key::regions::RegionalId;
use base64_simd::STANDARD;

/// A blob that a holder of the material has made, as if it were of this generation.
fn foreign(bench: &Bench, id: &str, generation: u32, material: u8) -> Value {
    let id = id.parse().unwrap();
    let secret = crate::crypto::secret::Secret::filled(|bytes: &mut [u8; 32]| bytes.fill(material));
    let backing = BackingKey::from_material(id, generation, NOW, secret);
    let context = EncryptionContext::from_pairs([("a", "b")]).unwrap();
    let blob = envelope::seal(id, &backing, &context, &[7; 32], &bench.api.entropy);
    json!(STANDARD.encode_to_string(blob.unwrap()))
}

#[tokio::test]
async fn a_generation_is_never_given_twice_and_opens_nothing_before_its_rotation() {
    let bench = Bench::new().await;
    let id = bench.external(json!({})).await;
    bench.import(&id, &[1; 32], json!({})).await.unwrap();
    let new = json!({"ImportType": "NEW_KEY_MATERIAL"});
    let second = bench.import(&id, &[2; 32], new.clone()).await.unwrap();
    let early = foreign(&bench, &id, 2, 2);
    assert!(
        bench.opened(&early).await.is_err(),
        "it waits for its rotation"
    );
    let delete = json!({"KeyId": id, "KeyMaterialId": second["KeyMaterialId"]});
    bench.done("DeleteImportedKeyMaterial", delete).await;

    bench.import(&id, &[3; 32], new).await.unwrap();
    bench.done_to("RotateKeyOnDemand", &id).await;
    let key: RegionalId = id.parse().unwrap();
    let snapshot = bench.api.keystore.snapshot();
    let entry = &snapshot.keys[&key];
    let given: Vec<_> = entry.key.imports.iter().map(|one| one.generation).collect();
    assert_eq!(given, [1, 3]);
    assert_eq!(entry.current().unwrap().generation(), 3);
    for (generation, material) in [(2, 2), (2, 3), (3, 2)] {
        let blob = foreign(&bench, &id, generation, material);
        assert!(
            bench.opened(&blob).await.is_err(),
            "{generation} {material}"
        );
    }
    assert!(bench.opened(&foreign(&bench, &id, 3, 3)).await.is_ok());
}
