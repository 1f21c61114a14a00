//! Imported material of asymmetric and HMAC keys.

use super::*;
use crate::crypto::ber::tests::{Form, in_ber};
use crate::crypto::entropy::probed;
use crate::crypto::mac::MacSpec;
use crate::crypto::pair::{PairSpec, PrivateKey};
use crate::key::regions::RegionalId;
use crate::keystore::Snapshot;
use std::iter::repeat;

const MAC: (&str, &str) = ("HMAC_256", "GENERATE_VERIFY_MAC");

impl Bench {
    async fn external_of(&self, (spec, usage): (&str, &str)) -> String {
        self.external(json!({"KeySpec": spec, "KeyUsage": usage}))
            .await
    }

    /// Imports what is too long for a block of RSA.
    async fn import_long(&self, id: &str, material: &[u8]) -> Result<Value, (Code, String)> {
        let algorithm = "RSA_AES_KEY_WRAP_SHA_256";
        let parameters = self.parameters(id, algorithm).await;
        let wrapped = wrap(&decoded(&parameters["PublicKey"]), algorithm, material);
        let body = json!({"KeyId": id, "ImportToken": parameters["ImportToken"], "EncryptedKeyMaterial": encoded(&wrapped), "ExpirationModel": FOREVER});
        self.call("ImportKeyMaterial", body).await
    }

    async fn import_id(&self, id: &str) -> KeyMaterialId {
        let snapshot = self.api.keystore.snapshot();
        snapshot.keys[&id.parse().unwrap()].key.imports[0].id
    }
}

fn other(expected: KeyMaterialId) -> Result<Value, (Code, String)> {
    let message =
        format!("Imported key material does not have the expected identifier ({expected}).");
    Err((Code::IncorrectKeyMaterialException, message))
}

fn sec1(key: &PrivateKey) -> &[u8] {
    // P-256: SEQUENCE, INTEGER, algorithm of 21 bytes, OCTET STRING.
    &key.expose_der()[29..]
}

#[tokio::test]
async fn hmac_material_is_imported_once_for_good() {
    let bench = Bench::new().await;
    let id = bench.external_of(MAC).await;
    let bare = json!({"KeyId": key_arn(&id)});
    let imported = bench.import(&id, &[7; 32], json!({})).await.unwrap();
    assert_eq!(imported, bare);
    let mac = json!({"KeyId": id, "Message": "AA==", "MacAlgorithm": "HMAC_SHA_256"});
    let made = bench.done("GenerateMac", mac.clone()).await;
    let refused = bench.import(&id, &[8; 32], json!({})).await;
    assert_eq!(refused, other(bench.import_id(&id).await));
    for _ in 0..2 {
        let deleted = bench.done_to("DeleteImportedKeyMaterial", &id).await;
        assert_eq!(deleted, bare);
    }
    assert_eq!(
        bench.call("GenerateMac", mac.clone()).await,
        Err(pending_import(&id))
    );
    bench.import(&id, &[7; 32], json!({})).await.unwrap();
    assert_eq!(bench.done("GenerateMac", mac).await, made);
}

#[tokio::test]
async fn hmac_material_is_from_its_hash_to_its_block() {
    let bench = Bench::new().await;
    for (spec, least, most) in [
        (MacSpec::Hmac224, 28, 64),
        (MacSpec::Hmac256, 32, 64),
        (MacSpec::Hmac384, 48, 128),
        (MacSpec::Hmac512, 64, 128),
    ] {
        for (length, is_taken) in [
            (least - 1, false),
            (least, true),
            (most, true),
            (most + 1, false),
        ] {
            let id = bench.external_of((spec.name(), MAC.1)).await;
            let material = vec![7; length];
            let answer = bench.import(&id, &material, json!({})).await;
            if !is_taken {
                let expected = (Code::InvalidCiphertextException, String::new());
                assert_eq!(answer, Err(expected), "{spec:?} {length}");
                continue;
            }
            answer.unwrap();
            let snapshot = bench.api.keystore.snapshot();
            let entry = &snapshot.keys[&id.parse().unwrap()];
            assert_eq!(entry.secret.as_ref().unwrap().expose(), material);
        }
    }
}

#[tokio::test]
async fn members_of_generations_are_refused() {
    let bench = Bench::new().await;
    for kind in [MAC, ("ECC_NIST_P256", "SIGN_VERIFY")] {
        let id = bench.external_of(kind).await;
        for (member, value) in [
            ("importType", json!("NEW_KEY_MATERIAL")),
            ("keyMaterialId", json!("0".repeat(64))),
            ("keyMaterialDescription", json!("mine")),
        ] {
            let name = format!("{}{}", member[..1].to_uppercase(), &member[1..]);
            let refused = bench.import(&id, &[7; 32], json!({name: value})).await;
            let message = format!(
                "Input parameter {member} cannot be used with {} imported keys.",
                kind.0
            );
            assert_eq!(refused, Err((Code::ValidationException, message)));
        }
    }
}

#[tokio::test]
async fn a_private_key_is_the_same_in_whatever_form_it_comes() {
    let bench = Bench::new().await;
    for (spec, algorithm) in [
        (PairSpec::EccNistP256, "ECDSA_SHA_256"),
        (PairSpec::Rsa2048, "RSASSA_PSS_SHA_256"),
    ] {
        let id = bench.external_of((spec.name(), "SIGN_VERIFY")).await;
        let pair = PrivateKey::generate(spec, probed()).unwrap();
        let ber = |form| in_ber(pair.expose_der(), &mut repeat(form));
        let forms = [
            ber(Form::Indefinite),
            pair.expose_der().to_vec(),
            ber(Form::LongLength),
            ber(Form::IndefiniteParts),
        ];
        for form in &forms {
            let imported = bench.import_long(&id, form).await.unwrap();
            assert_eq!(imported, json!({"KeyId": key_arn(&id)}));
            let public = bench.done_to("GetPublicKey", &id).await;
            assert_eq!(decoded(&public["PublicKey"]), pair.public_der());
            let sign = json!({"KeyId": id, "Message": "AA==", "SigningAlgorithm": algorithm});
            bench.done("Sign", sign).await;
            bench.done_to("DeleteImportedKeyMaterial", &id).await;
        }
        let another = PrivateKey::generate(spec, probed()).unwrap();
        let refused = bench.import_long(&id, another.expose_der()).await;
        assert_eq!(refused, other(bench.import_id(&id).await));
    }
}

/// The first builds named a private key by the bytes that it came in, and kept these.
#[tokio::test]
async fn a_private_key_that_an_earlier_build_imported_is_imported_again() {
    let bench = Bench::new().await;
    let pair = PrivateKey::generate(PairSpec::EccNistP256, probed()).unwrap();
    let ber = |form| in_ber(pair.expose_der(), &mut repeat(form));
    let strange = ber(Form::LongLength);
    for (named_by, comes, is_taken) in [
        (pair.expose_der(), ber(Form::Indefinite), true),
        (&strange, strange.clone(), true),
        (&strange, ber(Form::Indefinite), false),
    ] {
        let id = bench.external_of(("ECC_NIST_P256", "SIGN_VERIFY")).await;
        bench.import_long(&id, pair.expose_der()).await.unwrap();
        bench.done_to("DeleteImportedKeyMaterial", &id).await;
        let name = bench.import_id(&id).await;
        let key: RegionalId = id.parse().unwrap();
        let former = KeyMaterialId::of(key.id, named_by);
        let make_former = |snapshot: &Snapshot| {
            let entry = &snapshot.keys[&key];
            let mut draft = entry.with_key(entry.key.clone());
            draft.key.imports[0].id = former;
            Ok::<_, ApiError>((vec![Change::PutKey(draft)], ()))
        };
        bench.api.keystore.apply(make_former).await.unwrap();
        let answer = bench.import_long(&id, &comes).await;
        if is_taken {
            answer.unwrap();
            assert_eq!(bench.import_id(&id).await, name);
        } else {
            assert_eq!(answer, other(former));
        }
    }
}

#[tokio::test]
async fn what_is_no_private_key_of_the_spec_is_refused_with_what_is_wanted() {
    let bench = Bench::new().await;
    let p256 = PrivateKey::generate(PairSpec::EccNistP256, probed()).unwrap();
    let rsa = PrivateKey::generate(PairSpec::Rsa2048, probed()).unwrap();
    let edwards = PrivateKey::generate(PairSpec::EccNistEdwards25519, probed()).unwrap();
    let pkcs_1 = &rsa.expose_der()[26..];
    // rsaEncryption made id-RSASSA-PSS.
    let mut pss = rsa.expose_der().to_vec();
    assert_eq!(pss[19], 1);
    pss[19] = 10;
    let in_ber = |key: &PrivateKey| in_ber(key.expose_der(), &mut repeat(Form::Indefinite));
    for (spec, what, bytes) in [
        ("ECC_NIST_P256", "SEC 1", sec1(&p256).to_vec()),
        ("ECC_NIST_P256", "raw", vec![7; 32]),
        (
            "ECC_NIST_P384",
            "of another curve",
            p256.expose_der().to_vec(),
        ),
        ("RSA_2048", "PKCS #1", pkcs_1.to_vec()),
        ("RSA_2048", "id-RSASSA-PSS", pss),
        ("RSA_3072", "shorter", rsa.expose_der().to_vec()),
        ("ECC_NIST_EDWARDS25519", "BER", in_ber(&edwards)),
    ] {
        let id = bench.external_of((spec, "SIGN_VERIFY")).await;
        let message =
            format!("The key material is not a PKCS #8 private key of key spec {spec} in DER.");
        let refused = bench.import_long(&id, &bytes).await;
        let expected = (Code::InvalidCiphertextException, message);
        assert_eq!(refused, Err(expected), "{what}");
        assert_eq!(bench.metadata(&id).await["KeyState"], "PendingImport");
    }
    let id = bench
        .external_of(("ECC_NIST_EDWARDS25519", "SIGN_VERIFY"))
        .await;
    bench.import_long(&id, edwards.expose_der()).await.unwrap();
}
