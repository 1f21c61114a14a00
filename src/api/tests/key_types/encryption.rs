//! RSA-OAEP beside the envelope.

use super::*;
use crate::crypto::entropy::probed;
use crate::crypto::oaep::{self, OaepHash};
use crate::crypto::pair::{PairSpec, PrivateKey};

#[tokio::test]
async fn rsa_keys_encrypt_with_oaep_and_interoperate_with_local_encryption() {
    let bench = Bench::new().await;
    let (id, symmetric) = (
        bench.key_of("RSA_2048", "ENCRYPT_DECRYPT").await,
        bench.key().await,
    );
    let arn = key_arn(&id);
    let local = {
        let snapshot = bench.api.keystore.snapshot();
        let secret = snapshot.keys[&id.parse().unwrap()].secret.clone().unwrap();
        let der = secret.pair().unwrap().expose_der().to_vec();
        let der = crate::crypto::secret::SecretBytes::copy_of(&der);
        PrivateKey::from_der(PairSpec::Rsa2048, der).unwrap()
    };
    for (name, hash, max) in [
        ("RSAES_OAEP_SHA_1", OaepHash::Sha1, 214),
        ("RSAES_OAEP_SHA_256", OaepHash::Sha256, 190),
    ] {
        let encrypt = |bytes: usize| json!({"KeyId": id, "Plaintext": encoded(&vec![7; bytes]), "EncryptionAlgorithm": name});
        let sealed = bench.done("Encrypt", encrypt(max)).await;
        assert_eq!(
            (&sealed["KeyId"], &sealed["EncryptionAlgorithm"]),
            (&json!(arn), &json!(name))
        );
        let ciphertext = decoded(&sealed["CiphertextBlob"]);
        assert_eq!(
            oaep::decrypt(&local, hash, &ciphertext, probed())
                .unwrap()
                .expose(),
            vec![7; max]
        );
        let message = format!(
            "Algorithm {name} and key spec RSA_2048 cannot encrypt data larger than {max} bytes."
        );
        bench.invalid("Encrypt", encrypt(max + 1), &message).await;
        let sealed = encoded(&oaep::encrypt(&local, hash, b"local", probed()).unwrap());
        let decrypt = json!({"KeyId": id, "CiphertextBlob": sealed, "EncryptionAlgorithm": name});
        let opened = bench.done("Decrypt", decrypt.clone()).await;
        let expected =
            json!({"KeyId": arn, "Plaintext": encoded(b"local"), "EncryptionAlgorithm": name});
        assert_eq!(opened, expected);
        // The blob is parsed before the algorithm is compared.
        bench
            .unopened(json!({"KeyId": id, "CiphertextBlob": sealed}))
            .await;
        for garbage in [vec![1; 256], vec![1; 3]] {
            let body = json!({"KeyId": id, "CiphertextBlob": encoded(&garbage), "EncryptionAlgorithm": name});
            bench.unopened(body).await;
        }
        let message = "KeyId must not be null";
        bench
            .invalid(
                "Decrypt",
                json!({"CiphertextBlob": sealed, "EncryptionAlgorithm": name}),
                message,
            )
            .await;
        let message =
            "EncryptionContext is not supported when encrypting/decrypting with asymmetric CMKs.";
        for operation in ["Encrypt", "Decrypt"] {
            let body = json!({"KeyId": id, "CiphertextBlob": sealed, "Plaintext": "AA==", "EncryptionAlgorithm": name, "EncryptionContext": {"a": "b"}});
            bench.invalid(operation, body, message).await;
        }
        // To a symmetric key and back.
        let moved = bench.done("ReEncrypt", json!({"CiphertextBlob": sealed, "SourceKeyId": id, "SourceEncryptionAlgorithm": name, "DestinationKeyId": symmetric})).await;
        assert_eq!(
            (&moved["SourceKeyId"], &moved["SourceEncryptionAlgorithm"]),
            (&json!(arn), &json!(name))
        );
        assert!(
            moved["SourceKeyMaterialId"].is_null() && moved["DestinationKeyMaterialId"].is_string()
        );
        let back = bench.done("ReEncrypt", json!({"CiphertextBlob": moved["CiphertextBlob"], "DestinationKeyId": id, "DestinationEncryptionAlgorithm": name})).await;
        let opened =
            oaep::decrypt(&local, hash, &decoded(&back["CiphertextBlob"]), probed()).unwrap();
        assert_eq!(opened.expose(), b"local");
        let long = bench
            .done(
                "Encrypt",
                json!({"KeyId": symmetric, "Plaintext": encoded(&[7; 215])}),
            )
            .await;
        let body = json!({"CiphertextBlob": long["CiphertextBlob"], "DestinationKeyId": id, "DestinationEncryptionAlgorithm": name});
        let refused = bench.call("ReEncrypt", body).await.unwrap_err();
        assert!(
            refused.1.contains("cannot encrypt data larger"),
            "{refused:?}"
        );
    }
    let message = "Algorithm SYMMETRIC_DEFAULT is incompatible with key spec RSA_2048.";
    bench
        .refused(
            "Encrypt",
            json!({"KeyId": id, "Plaintext": "AA=="}),
            Code::InvalidKeyUsageException,
            message,
        )
        .await;
    let blob = bench
        .done("Encrypt", json!({"KeyId": symmetric, "Plaintext": "AA=="}))
        .await["CiphertextBlob"]
        .take();
    let message =
        "The key ID in the request does not identify a CMK that can perform this operation.";
    for other in [
        id,
        bench.key_of("ECC_NIST_P256", "SIGN_VERIFY").await,
        bench.key_of("HMAC_256", "GENERATE_VERIFY_MAC").await,
    ] {
        let body = json!({"KeyId": other, "CiphertextBlob": blob});
        bench
            .refused("Decrypt", body, Code::IncorrectKeyException, message)
            .await;
    }
}
