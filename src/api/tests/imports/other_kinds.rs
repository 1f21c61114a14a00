//! Imported material of asymmetric and HMAC keys.

use super::*;
use crate::crypto::entropy::probed;
use crate::crypto::pair::{PairSpec, PrivateKey};

#[tokio::test]
async fn asymmetric_and_hmac_material_is_imported_once_for_good() {
    let bench = Bench::new().await;
    let id = bench
        .external(json!({"KeySpec": "HMAC_256", "KeyUsage": "GENERATE_VERIFY_MAC"}))
        .await;
    let imported = bench.import(&id, &[7; 32], json!({})).await.unwrap();
    assert_eq!(imported, json!({"KeyId": key_arn(&id)}));
    let mac = json!({"KeyId": id, "Message": "AA==", "MacAlgorithm": "HMAC_SHA_256"});
    let made = bench.done("GenerateMac", mac.clone()).await;
    let other = bench.import(&id, &[8; 32], json!({})).await.unwrap_err();
    assert_eq!(other.0, Code::IncorrectKeyMaterialException);
    bench.done_to("DeleteImportedKeyMaterial", &id).await;
    assert_eq!(
        bench.call("GenerateMac", mac.clone()).await,
        Err(pending_import(&id))
    );
    bench.import(&id, &[7; 32], json!({})).await.unwrap();
    assert_eq!(bench.done("GenerateMac", mac).await, made);
    let id = bench
        .external(json!({"KeySpec": "ECC_NIST_P256", "KeyUsage": "SIGN_VERIFY"}))
        .await;
    let given = bench.import(&id, &[7; 32], json!({})).await.unwrap_err();
    let expected = "The key material is not of key spec ECC_NIST_P256.";
    assert_eq!(
        given,
        (Code::IncorrectKeyMaterialException, expected.to_owned())
    );
    let described = bench
        .import(&id, b"x", json!({"KeyMaterialDescription": "x"}))
        .await
        .unwrap_err();
    assert_eq!(described.0, Code::ValidationException);
    let pair = PrivateKey::generate(PairSpec::EccNistP256, probed()).unwrap();
    bench
        .import(&id, pair.expose_der(), json!({}))
        .await
        .unwrap();
    let public = bench.done_to("GetPublicKey", &id).await;
    assert_eq!(decoded(&public["PublicKey"]), pair.public_der());
    let rsa = bench
        .external(json!({"KeySpec": "RSA_2048", "KeyUsage": "SIGN_VERIFY"}))
        .await;
    let body = json!({"KeyId": rsa, "WrappingAlgorithm": "RSAES_OAEP_SHA_256", "WrappingKeySpec": "RSA_4096"});
    bench
        .unsupported(
            "GetParametersForImport",
            body,
            "WrappingAlgorithm RSAES_OAEP_SHA_256 of RSA_4096 for key material of RSA_2048",
        )
        .await;
    let algorithm = "RSA_AES_KEY_WRAP_SHA_256";
    let parameters = bench.parameters(&rsa, algorithm).await;
    let pair = PrivateKey::generate(PairSpec::Rsa2048, probed()).unwrap();
    let wrapped = wrap(
        &decoded(&parameters["PublicKey"]),
        algorithm,
        pair.expose_der(),
    );
    let body = json!({"KeyId": rsa, "ImportToken": parameters["ImportToken"], "EncryptedKeyMaterial": encoded(&wrapped), "ExpirationModel": FOREVER});
    bench.done("ImportKeyMaterial", body).await;
    let sign = json!({"KeyId": rsa, "Message": "AA==", "SigningAlgorithm": "RSASSA_PSS_SHA_256"});
    bench.done("Sign", sign).await;
}
