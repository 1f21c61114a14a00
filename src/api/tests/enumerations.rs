//! Every value of the service model's enumerations is served, or refused by what AWS KMS or we
//! would say of it: never ignored, and never said to be none.

use super::ErrorCode as Code;
use super::*;

const SPECS: [&str; 20] = [
    "RSA_2048",
    "RSA_3072",
    "RSA_4096",
    "ECC_NIST_P256",
    "ECC_NIST_P384",
    "ECC_NIST_P521",
    "ECC_SECG_P256K1",
    "SYMMETRIC_DEFAULT",
    "HMAC_224",
    "HMAC_256",
    "HMAC_384",
    "HMAC_512",
    "SM2",
    "ML_DSA_44",
    "ML_DSA_65",
    "ML_DSA_87",
    "ECC_NIST_EDWARDS25519",
    "ML_KEM_512",
    "ML_KEM_768",
    "ML_KEM_1024",
];
const USAGES: [&str; 5] = [
    "SIGN_VERIFY",
    "ENCRYPT_DECRYPT",
    "GENERATE_VERIFY_MAC",
    "KEY_AGREEMENT",
    "ENCAPSULATE_DECAPSULATE",
];
/// Whether SM2, which is not built, has this usage on AWS.
fn sm2_has(usage: &str) -> bool {
    !["GENERATE_VERIFY_MAC", "ENCAPSULATE_DECAPSULATE"].contains(&usage)
}

#[tokio::test]
async fn every_spec_has_its_usages_and_no_other() {
    let bench = Bench::new().await;
    for spec in SPECS {
        for usage in USAGES {
            // Without material: none has to be made for so many keys.
            let body = json!({"KeySpec": spec, "KeyUsage": usage, "Origin": "EXTERNAL"});
            let answer = bench.call("CreateKey", body).await;
            let fits = match spec {
                // Of a usage that the spec has on AWS; of any other it is told first.
                "SM2" if sm2_has(usage) => {
                    let message = format!("KeySpec {spec} is not supported.");
                    assert_eq!(
                        answer,
                        refusal(Code::UnsupportedOperationException, &message)
                    );
                    continue;
                }
                "SM2" => false,
                "SYMMETRIC_DEFAULT" => usage == "ENCRYPT_DECRYPT",
                _ if spec.starts_with("HMAC") => usage == "GENERATE_VERIFY_MAC",
                _ if spec.starts_with("ML_KEM") => usage == "ENCAPSULATE_DECAPSULATE",
                _ if spec.starts_with("RSA") => ["ENCRYPT_DECRYPT", "SIGN_VERIFY"].contains(&usage),
                _ if spec.starts_with("ECC_NIST_P") => {
                    ["KEY_AGREEMENT", "SIGN_VERIFY"].contains(&usage)
                }
                _ => usage == "SIGN_VERIFY",
            };
            if fits && spec.starts_with("ML_") {
                let message = format!("KeySpec {spec} is not supported for Origin EXTERNAL");
                assert_eq!(answer, refusal(Code::ValidationException, &message));
                continue;
            }
            if fits {
                let metadata = &answer.unwrap()["KeyMetadata"];
                assert_eq!(metadata["KeySpec"], spec);
                assert_eq!(metadata["KeyUsage"], usage);
                continue;
            }
            let message = format!("KeyUsage {usage} is not compatible with KeySpec {spec}");
            assert_eq!(answer, refusal(Code::ValidationException, &message));
        }
    }
    // The deprecated member has had no new value since SM2.
    let body = json!({"CustomerMasterKeySpec": "ML_DSA_44", "KeyUsage": "SIGN_VERIFY"});
    let message = "1 validation error detected: Value 'ML_DSA_44' at 'customerMasterKeySpec' failed to satisfy constraint: Member must satisfy enum \
                   value set: [RSA_2048, RSA_3072, RSA_4096, ECC_NIST_P256, ECC_NIST_P384, ECC_NIST_P521, ECC_SECG_P256K1, SYMMETRIC_DEFAULT, HMAC_224, \
                   HMAC_256, HMAC_384, HMAC_512, SM2]";
    bench.invalid("CreateKey", body, message).await;
}

#[tokio::test]
async fn every_origin_is_served_or_refused_by_name() {
    let bench = Bench::new().await;
    for (origin, is_built) in [
        ("AWS_KMS", true),
        ("EXTERNAL", true),
        ("AWS_CLOUDHSM", false),
    ] {
        let answer = bench.call("CreateKey", json!({"Origin": origin})).await;
        if is_built {
            assert_eq!(answer.unwrap()["KeyMetadata"]["Origin"], origin);
        } else {
            let message = "Origin is not supported.";
            assert_eq!(
                answer,
                refusal(Code::UnsupportedOperationException, message)
            );
        }
    }
    let body = json!({"Origin": "EXTERNAL_KEY_STORE"});
    let message = "CustomKeyStoreId is required for Origin EXTERNAL_KEY_STORE.";
    bench.invalid("CreateKey", body, message).await;
}

#[tokio::test]
async fn every_algorithm_is_of_the_key_or_said_not_to_be() {
    let bench = Bench::new().await;
    let encrypting = [
        "SYMMETRIC_DEFAULT",
        "RSAES_OAEP_SHA_1",
        "RSAES_OAEP_SHA_256",
        "SM2PKE",
    ];
    let signing = [
        "RSASSA_PSS_SHA_256",
        "RSASSA_PSS_SHA_384",
        "RSASSA_PSS_SHA_512",
        "RSASSA_PKCS1_V1_5_SHA_256",
        "RSASSA_PKCS1_V1_5_SHA_384",
        "RSASSA_PKCS1_V1_5_SHA_512",
        "ECDSA_SHA_256",
        "ECDSA_SHA_384",
        "ECDSA_SHA_512",
        "SM2DSA",
        "ML_DSA_SHAKE_256",
        "ED25519_SHA_512",
        "ED25519_PH_SHA_512",
    ];
    let macs = [
        "HMAC_SHA_224",
        "HMAC_SHA_256",
        "HMAC_SHA_384",
        "HMAC_SHA_512",
    ];
    for (spec, usage, name, members, algorithms, of_key) in [
        (
            "SYMMETRIC_DEFAULT",
            "ENCRYPT_DECRYPT",
            "Encrypt",
            ["Plaintext", "EncryptionAlgorithm"],
            &encrypting[..],
            1,
        ),
        (
            "RSA_2048",
            "ENCRYPT_DECRYPT",
            "Encrypt",
            ["Plaintext", "EncryptionAlgorithm"],
            &encrypting,
            2,
        ),
        (
            "RSA_2048",
            "SIGN_VERIFY",
            "Sign",
            ["Message", "SigningAlgorithm"],
            &signing,
            6,
        ),
        (
            "ECC_NIST_P384",
            "SIGN_VERIFY",
            "Sign",
            ["Message", "SigningAlgorithm"],
            &signing,
            1,
        ),
        (
            "ECC_NIST_EDWARDS25519",
            "SIGN_VERIFY",
            "Sign",
            ["Message", "SigningAlgorithm"],
            &signing,
            2,
        ),
        (
            "ML_DSA_44",
            "SIGN_VERIFY",
            "Sign",
            ["Message", "SigningAlgorithm"],
            &signing,
            1,
        ),
        (
            "HMAC_384",
            "GENERATE_VERIFY_MAC",
            "GenerateMac",
            ["Message", "MacAlgorithm"],
            &macs,
            1,
        ),
    ] {
        let created = bench.done("CreateKey", json!({"KeySpec": spec, "KeyUsage": usage}));
        let id = created.await["KeyMetadata"]["KeyId"].clone();
        let mut served = 0;
        for algorithm in algorithms {
            // The one algorithm that takes a hash alone.
            let (message, kind) = match *algorithm {
                "ED25519_PH_SHA_512" if spec != "ML_DSA_44" => (encoded(&[7; 64]), json!("DIGEST")),
                _ => ("AAEC".to_owned(), Value::Null),
            };
            let body = json!({"KeyId": id, members[0]: message, members[1]: algorithm, "MessageType": kind});
            let Err((code, message)) = bench.call(name, body).await else {
                served += 1;
                continue;
            };
            let expected = format!("Algorithm {algorithm} is incompatible with key spec {spec}.");
            assert_eq!((code, message), (Code::InvalidKeyUsageException, expected));
        }
        assert_eq!(served, of_key, "{spec} {usage}");
    }
}

/// In the endpoint's order, which is not that of the service model (measured on AWS, September
/// 2026); with the values of ML-KEM of the model since.
#[tokio::test]
async fn messages_list_an_enumeration_in_the_order_of_the_endpoint() {
    let bench = Bench::new().await;
    let signing = "RSASSA_PSS_SHA_256, RSASSA_PSS_SHA_384, RSASSA_PSS_SHA_512, RSASSA_PKCS1_V1_5_SHA_256, RSASSA_PKCS1_V1_5_SHA_384, \
                   RSASSA_PKCS1_V1_5_SHA_512, ECDSA_SHA_256, ECDSA_SHA_384, ECDSA_SHA_512, ED25519_SHA_512, ED25519_PH_SHA_512, SM2DSA, ML_DSA_SHAKE_256";
    let macs = "HMAC_SHA_384, HMAC_SHA_256, HMAC_SHA_224, HMAC_SHA_512";
    let ciphers = "RSAES_OAEP_SHA_1, RSAES_OAEP_SHA_256, SM2PKE, SYMMETRIC_DEFAULT";
    let specs = "RSA_2048, RSA_3072, RSA_4096, ECC_NIST_P256, ECC_NIST_P384, ECC_NIST_P521, ECC_SECG_P256K1, ECC_NIST_EDWARDS25519, SYMMETRIC_DEFAULT, \
                 HMAC_224, HMAC_256, HMAC_384, HMAC_512, SM2, ML_DSA_44, ML_DSA_65, ML_DSA_87, ML_KEM_512, ML_KEM_768, ML_KEM_1024";
    let usages =
        "ENCRYPT_DECRYPT, SIGN_VERIFY, GENERATE_VERIFY_MAC, KEY_AGREEMENT, ENCAPSULATE_DECAPSULATE";
    let types = "RAW, DIGEST, EXTERNAL_MU";
    for (operation, member, values) in [
        ("Sign", "SigningAlgorithm", signing),
        ("Verify", "SigningAlgorithm", signing),
        ("Sign", "MessageType", types),
        ("GenerateMac", "MacAlgorithm", macs),
        ("VerifyMac", "MacAlgorithm", macs),
        ("Encrypt", "EncryptionAlgorithm", ciphers),
        ("Decrypt", "EncryptionAlgorithm", ciphers),
        ("GenerateDataKey", "KeySpec", specs),
        ("CreateKey", "KeyUsage", usages),
        ("Encapsulate", "EncapsulationAlgorithm", "ML_KEM"),
        ("Decapsulate", "EncapsulationAlgorithm", "ML_KEM"),
    ] {
        let body = json!({
            "KeyId": UNKNOWN, "Message": "AAEC", "Mac": "AAEC", "Signature": "AAEC", "Plaintext": "AAEC", "CiphertextBlob": "AAEC",
            "SigningAlgorithm": "ECDSA_SHA_256", "MacAlgorithm": "HMAC_SHA_256", "SharedSecretCiphertextBlob": "AAEC",
        });
        let named = member[..1].to_lowercase() + &member[1..];
        // In another case, too, it is none.
        for value in ["FOO", &values.split(", ").next().unwrap().to_lowercase()] {
            let body = with(body.clone(), member, json!(value));
            let message = format!(
                "1 validation error detected: Value '{value}' at '{named}' failed to satisfy constraint: Member must satisfy enum value set: [{values}]"
            );
            bench.invalid(operation, body, &message).await;
        }
    }
}

#[tokio::test]
async fn every_wrapping_is_offered_or_refused_by_name() {
    let bench = Bench::new().await;
    // A kind of key whose material comes by each that is built.
    let body =
        json!({"Origin": "EXTERNAL", "KeySpec": "HMAC_256", "KeyUsage": "GENERATE_VERIFY_MAC"});
    let created = bench.done("CreateKey", body).await;
    let id = created["KeyMetadata"]["KeyId"].clone();
    let ask = |algorithm: &str, spec: &str| {
        let body = json!({"KeyId": id, "WrappingAlgorithm": algorithm, "WrappingKeySpec": spec});
        bench.call("GetParametersForImport", body)
    };
    for algorithm in [
        "RSAES_OAEP_SHA_1",
        "RSAES_OAEP_SHA_256",
        "RSA_AES_KEY_WRAP_SHA_1",
        "RSA_AES_KEY_WRAP_SHA_256",
    ] {
        assert!(ask(algorithm, "RSA_2048").await.is_ok(), "{algorithm}");
    }
    let message = "Wrapping algorithm RSAES_PKCS1_V1_5 and wrapping key spec RSA_2048 cannot be used to import a HMAC_256 key.";
    assert_eq!(
        ask("RSAES_PKCS1_V1_5", "RSA_2048").await,
        refusal(Code::ValidationException, message)
    );
    let message = "WrappingAlgorithm SM2PKE is not supported.";
    assert_eq!(
        ask("SM2PKE", "RSA_2048").await,
        refusal(Code::UnsupportedOperationException, message)
    );
    let message = "WrappingKeySpec SM2 is not supported.";
    let answer = ask("RSAES_OAEP_SHA_256", "SM2").await;
    assert_eq!(
        answer,
        refusal(Code::UnsupportedOperationException, message)
    );
}
