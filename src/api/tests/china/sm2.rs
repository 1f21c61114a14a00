//! SM2 keys of all three usages, pairs, imports and wrapping keys.

use super::*;
use crate::crypto::entropy::probed;
use crate::crypto::pair::PrivateKey;
use crate::crypto::sm2;

const LONG: &str = "Algorithm SM2PKE and key spec SM2 cannot encrypt data larger than 1024 bytes.";

impl Bench {
    /// The id of a new SM2 key of this usage.
    async fn sm2_key(&self, usage: &str) -> String {
        let body = json!({"KeySpec": "SM2", "KeyUsage": usage});
        let created = self.done("CreateKey", body).await;
        created["KeyMetadata"]["KeyId"].as_str().unwrap().to_owned()
    }

    async fn public_of(&self, id: &str) -> Vec<u8> {
        decoded(&self.done_to("GetPublicKey", id).await["PublicKey"])
    }
}

#[tokio::test]
async fn keys_say_what_they_are_for() {
    let bench = Bench::in_china().await;
    for (usage, member, algorithm) in [
        ("SIGN_VERIFY", "SigningAlgorithms", "SM2DSA"),
        ("ENCRYPT_DECRYPT", "EncryptionAlgorithms", "SM2PKE"),
        ("KEY_AGREEMENT", "KeyAgreementAlgorithms", "ECDH"),
    ] {
        let id = bench.sm2_key(usage).await;
        let described = bench.done_to("DescribeKey", &id).await;
        let public = bench.done_to("GetPublicKey", &id).await;
        for facts in [&described["KeyMetadata"], &public] {
            assert_eq!(facts["KeySpec"], "SM2");
            assert_eq!(facts["CustomerMasterKeySpec"], "SM2");
            assert_eq!(facts["KeyUsage"], usage);
            assert_eq!(facts[member], json!([algorithm]));
        }
        assert_eq!(decoded(&public["PublicKey"]).len(), 91);
    }
    let body = json!({"KeySpec": "SM2", "KeyUsage": "GENERATE_VERIFY_MAC"});
    let message = "KeyUsage GENERATE_VERIFY_MAC is not compatible with KeySpec SM2";
    bench.invalid("CreateKey", body, message).await;
    let message =
        "You must specify a KeyUsage value for all KMS keys except for symmetric encryption keys.";
    let body = json!({"KeySpec": "SM2"});
    bench.invalid("CreateKey", body, message).await;
}

#[tokio::test]
async fn what_is_signed_verifies_by_message_and_by_hash() {
    let bench = Bench::in_china().await;
    let id = bench.sm2_key("SIGN_VERIFY").await;
    let ask = |message: &[u8], kind: &str| json!({"KeyId": id, "Message": encoded(message), "MessageType": kind, "SigningAlgorithm": "SM2DSA"});
    let with = |mut body: Value, signature: &Value| {
        body["Signature"] = signature.clone();
        body
    };
    let public = bench.public_of(&id).await;
    for (message, kind) in [(&b"message"[..], "RAW"), (&[7; 32], "DIGEST")] {
        let signed = bench.done("Sign", ask(message, kind)).await;
        assert_eq!(signed["SigningAlgorithm"], "SM2DSA");
        let signature = &signed["Signature"];
        let raw = match kind {
            "RAW" => sm2::Message::Raw(message),
            _ => sm2::Message::Digest(message),
        };
        assert_eq!(sm2::verify(&public, raw, &decoded(signature)), Ok(()));
        let verified = bench.done("Verify", with(ask(message, kind), signature));
        assert_eq!(verified.await["SignatureValid"], true);
        let other = with(ask(&[8; 32], kind), signature);
        let code = Code::KMSInvalidSignatureException;
        bench.refused("Verify", other, code, "").await;
    }
    for length in [1, 31, 33, 64] {
        let message = "Digest is invalid length for algorithm SM2DSA.";
        let body = ask(&vec![7; length], "DIGEST");
        bench.invalid("Sign", body.clone(), message).await;
        let body = with(body, &json!("AAAA"));
        bench.invalid("Verify", body, message).await;
    }
    let message = "Message type EXTERNAL_MU is incompatible with key spec SM2.";
    bench
        .invalid("Sign", ask(b"m", "EXTERNAL_MU"), message)
        .await;
    let other = json!({"KeyId": id, "Message": "AAAA", "SigningAlgorithm": "ECDSA_SHA_256"});
    let message = "Algorithm ECDSA_SHA_256 is incompatible with key spec SM2.";
    let code = Code::InvalidKeyUsageException;
    bench.refused("Sign", other, code, message).await;
}

fn encrypt(id: &str, length: usize) -> Value {
    json!({"KeyId": id, "Plaintext": encoded(&vec![7; length]), "EncryptionAlgorithm": "SM2PKE"})
}

fn decrypt(id: &str, blob: &Value) -> Value {
    json!({"KeyId": id, "CiphertextBlob": blob, "EncryptionAlgorithm": "SM2PKE"})
}

#[tokio::test]
async fn what_is_encrypted_opens_and_what_is_damaged_does_not() {
    let bench = Bench::in_china().await;
    let id = &bench.sm2_key("ENCRYPT_DECRYPT").await;
    for length in [1, 1024] {
        let sealed = bench.done("Encrypt", encrypt(id, length)).await;
        assert_eq!(sealed["EncryptionAlgorithm"], "SM2PKE");
        let body = decrypt(id, &sealed["CiphertextBlob"]);
        let opened = bench.done("Decrypt", body).await;
        assert_eq!(opened["Plaintext"], json!(encoded(&vec![7; length])));
        assert_eq!(opened["EncryptionAlgorithm"], "SM2PKE");
        assert!(opened.get("KeyMaterialId").is_none());
    }
    bench.invalid("Encrypt", encrypt(id, 1025), LONG).await;
    // As another program encrypts, under the public key.
    let public = bench.public_of(id).await;
    let sealed = json!(encoded(&sm2::encrypt(&public, &[7; 32]).unwrap()));
    let opened = bench.done("Decrypt", decrypt(id, &sealed)).await;
    assert_eq!(opened["Plaintext"], json!(encoded(&[7; 32])));
    for at in [4, 40, 110] {
        let mut damaged = decoded(&sealed);
        damaged[at] ^= 1;
        let body = decrypt(id, &json!(encoded(&damaged)));
        bench.unopened(body).await;
    }
    let mut with_context = encrypt(id, 1);
    with_context["EncryptionContext"] = json!({"a": "b"});
    let message =
        "EncryptionContext is not supported when encrypting/decrypting with asymmetric CMKs.";
    bench.invalid("Encrypt", with_context, message).await;
    let mut nameless = decrypt(id, &sealed);
    nameless.as_object_mut().unwrap().remove("KeyId");
    let message = "KeyId must not be null";
    bench.invalid("Decrypt", nameless, message).await;
    let mut other = encrypt(id, 1);
    other["EncryptionAlgorithm"] = json!("RSAES_OAEP_SHA_256");
    let message = "Algorithm RSAES_OAEP_SHA_256 is incompatible with key spec SM2.";
    let code = Code::InvalidKeyUsageException;
    bench.refused("Encrypt", other, code, message).await;
}

#[tokio::test]
async fn plaintexts_move_between_sm2_and_sm4_keys() {
    let (bench, symmetric) = bench_with_key().await;
    let id = &bench.sm2_key("ENCRYPT_DECRYPT").await;
    let sealed = bench.done("Encrypt", encrypt(id, 32)).await;
    let sealed = &sealed["CiphertextBlob"];
    let moved = json!({"SourceKeyId": id, "SourceEncryptionAlgorithm": "SM2PKE", "CiphertextBlob": sealed, "DestinationKeyId": symmetric});
    let moved = bench.done("ReEncrypt", moved).await;
    assert_eq!(decoded(&moved["CiphertextBlob"])[1], 2);
    let to_sm2 = |blob: &Value| json!({"CiphertextBlob": blob, "DestinationKeyId": id, "DestinationEncryptionAlgorithm": "SM2PKE"});
    let back = bench.done("ReEncrypt", to_sm2(&moved["CiphertextBlob"]));
    let body = decrypt(id, &back.await["CiphertextBlob"]);
    let opened = bench.done("Decrypt", body).await;
    assert_eq!(opened["Plaintext"], json!(encoded(&[7; 32])));
    let long = json!({"KeyId": symmetric, "Plaintext": encoded(&[7; 1025])});
    let long = bench.done("Encrypt", long).await;
    let body = to_sm2(&long["CiphertextBlob"]);
    bench.invalid("ReEncrypt", body, LONG).await;
}

#[tokio::test]
async fn both_ends_agree_and_a_point_of_another_curve_is_refused() {
    let bench = Bench::in_china().await;
    let one = bench.sm2_key("KEY_AGREEMENT").await;
    let other = bench.sm2_key("KEY_AGREEMENT").await;
    let ask = |id: &str, public: &[u8]| json!({"KeyId": id, "KeyAgreementAlgorithm": "ECDH", "PublicKey": encoded(public)});
    let publics = [bench.public_of(&one).await, bench.public_of(&other).await];
    let secret = bench.done("DeriveSharedSecret", ask(&one, &publics[1]));
    let secret = secret.await;
    let same = bench.done("DeriveSharedSecret", ask(&other, &publics[0]));
    assert_eq!(secret["SharedSecret"], same.await["SharedSecret"]);
    assert_eq!(decoded(&secret["SharedSecret"]).len(), 32);
    let stranger = PrivateKey::generate(PairSpec::EccNistP256, probed()).unwrap();
    for public in [stranger.public_der(), &publics[1][..90], b"x"] {
        let body = ask(&one, public);
        bench.invalid("DeriveSharedSecret", body, "").await;
    }
}

#[tokio::test]
async fn pairs_are_sealed_and_read_by_their_public_key() {
    let (bench, id) = bench_with_key().await;
    for name in ["GenerateDataKeyPair", "GenerateDataKeyPairWithoutPlaintext"] {
        let made = bench.done(name, json!({"KeyId": id, "KeyPairSpec": "SM2"}));
        let made = made.await;
        assert_eq!(made["KeyPairSpec"], "SM2");
        let body = json!({"CiphertextBlob": made["PrivateKeyCiphertextBlob"]});
        let opened = bench.done("Decrypt", body).await;
        let private = decoded(&opened["Plaintext"]);
        assert_eq!(private.len(), 138);
        let key = PrivateKey::import(PairSpec::Sm2, &private).unwrap();
        assert_eq!(key.public_der(), decoded(&made["PublicKey"]));
    }
}

#[tokio::test]
async fn material_comes_in_wrapped_by_sm2() {
    let bench = Bench::in_china().await;
    let brought = PrivateKey::generate(PairSpec::Sm2, probed()).unwrap();
    let curve = PrivateKey::generate(PairSpec::EccNistP521, probed()).unwrap();
    for (spec, usage, material) in [
        ("SM2", "SIGN_VERIFY", brought.expose_der()),
        ("SM2", "ENCRYPT_DECRYPT", brought.expose_der()),
        ("ECC_NIST_P521", "SIGN_VERIFY", curve.expose_der()),
        ("HMAC_512", "GENERATE_VERIFY_MAC", &[7; 128]),
        ("SYMMETRIC_DEFAULT", "ENCRYPT_DECRYPT", &[7; 16]),
    ] {
        let kind = json!({"KeySpec": spec, "KeyUsage": usage});
        let id = bench.external(kind).await;
        let ask = json!({"KeyId": id, "WrappingAlgorithm": "SM2PKE", "WrappingKeySpec": "SM2"});
        let parameters = bench.done("GetParametersForImport", ask).await;
        let public = decoded(&parameters["PublicKey"]);
        let wrapped = encoded(&sm2::encrypt(&public, material).unwrap());
        let body = json!({"KeyId": id, "ImportToken": parameters["ImportToken"], "EncryptedKeyMaterial": wrapped, "ExpirationModel": "KEY_MATERIAL_DOES_NOT_EXPIRE"});
        bench.done("ImportKeyMaterial", body).await;
        let described = bench.done_to("DescribeKey", &id).await;
        assert_eq!(described["KeyMetadata"]["KeyState"], "Enabled", "{spec}");
        if spec == "SM2" {
            assert_eq!(bench.public_of(&id).await, brought.public_der());
        }
    }
}

#[tokio::test]
async fn other_material_and_other_wrapping_is_refused() {
    let bench = Bench::in_china().await;
    let external = async || {
        let kind = json!({"KeySpec": "SM2", "KeyUsage": "SIGN_VERIFY"});
        bench.external(kind).await
    };
    let brought = PrivateKey::generate(PairSpec::Sm2, probed()).unwrap();
    let id = external().await;
    let imported = bench.import(&id, brought.expose_der(), json!({}));
    imported.await.unwrap();
    let p256 = PrivateKey::generate(PairSpec::EccNistP256, probed()).unwrap();
    let message = "The key material is not a PKCS #8 private key of key spec SM2 in DER.";
    let id = external().await;
    let refused = bench.import(&id, p256.expose_der(), json!({}));
    let expected = (Code::InvalidCiphertextException, message.to_owned());
    assert_eq!(refused.await, Err(expected));
    for (spec, algorithm, wrapping) in [
        ("RSA_2048", "SM2PKE", "SM2"),
        ("SM2", "SM2PKE", "RSA_2048"),
        ("SM2", "RSAES_OAEP_SHA_256", "SM2"),
        ("SM2", "RSAES_PKCS1_V1_5", "SM2"),
        ("SM2", "RSA_AES_KEY_WRAP_SHA_256", "RSA_4096"),
    ] {
        let kind = json!({"KeySpec": spec, "KeyUsage": "SIGN_VERIFY"});
        let id = bench.external(kind).await;
        let body =
            json!({"KeyId": id, "WrappingAlgorithm": algorithm, "WrappingKeySpec": wrapping});
        let message = format!(
            "Wrapping algorithm {algorithm} and wrapping key spec {wrapping} cannot be used to import a {spec} key."
        );
        let name = "GetParametersForImport";
        bench.invalid(name, body, &message).await;
    }
}

#[tokio::test]
async fn rng_1_a_failed_source_makes_no_key_signature_or_ciphertext() {
    let bench = Bench::in_china().await;
    let signer = bench.sm2_key("SIGN_VERIFY").await;
    let sealer = bench.sm2_key("ENCRYPT_DECRYPT").await;
    bench.faults.0.store(true, Ordering::SeqCst);
    let kind = json!({"KeySpec": "SM2", "KeyUsage": "SIGN_VERIFY"});
    let sign = json!({"KeyId": signer, "Message": "AAAA", "SigningAlgorithm": "SM2DSA"});
    for (name, body) in [
        ("CreateKey", kind),
        ("Sign", sign),
        ("Encrypt", encrypt(&sealer, 1)),
    ] {
        let refused = bench.call(name, body).await.unwrap_err();
        assert_eq!(refused.0, Code::KMSInternalException, "{name}");
    }
}
