//! Which operations take which forms of a key's name, and what every listing makes of its page's
//! members.

use super::ErrorCode as Code;
use super::*;

/// Operations that take a key's id or ARN alone, with the member that has it and the others that
/// they need.
fn keys_alone() -> Vec<(&'static str, &'static str, Value)> {
    let none = json!({});
    let wrapping =
        json!({"WrappingAlgorithm": "RSAES_OAEP_SHA_256", "WrappingKeySpec": "RSA_2048"});
    let material = json!({
        "ImportToken": "AAEC", "EncryptedKeyMaterial": "AAEC", "ExpirationModel": "KEY_MATERIAL_DOES_NOT_EXPIRE",
    });
    let grant = json!({"GranteePrincipal": root_of(ACCOUNT), "Operations": ["DescribeKey"]});
    let policy = json!({"Statement": [to(&root_of(ACCOUNT), &["kms:*"])]}).to_string();
    vec![
        ("CancelKeyDeletion", "KeyId", none.clone()),
        (
            "CreateAlias",
            "TargetKeyId",
            json!({"AliasName": "alias/new"}),
        ),
        ("CreateGrant", "KeyId", grant),
        ("DeleteImportedKeyMaterial", "KeyId", none.clone()),
        ("DisableKey", "KeyId", none.clone()),
        ("DisableKeyRotation", "KeyId", none.clone()),
        ("EnableKey", "KeyId", none.clone()),
        ("EnableKeyRotation", "KeyId", none.clone()),
        ("GetKeyLastUsage", "KeyId", none.clone()),
        ("GetKeyPolicy", "KeyId", none.clone()),
        ("GetKeyRotationStatus", "KeyId", none.clone()),
        ("GetParametersForImport", "KeyId", wrapping),
        ("ImportKeyMaterial", "KeyId", material),
        ("ListAliases", "KeyId", none.clone()),
        ("ListGrants", "KeyId", none.clone()),
        ("ListKeyPolicies", "KeyId", none.clone()),
        ("ListKeyRotations", "KeyId", none.clone()),
        ("ListResourceTags", "KeyId", none.clone()),
        ("PutKeyPolicy", "KeyId", json!({"Policy": policy})),
        ("RetireGrant", "KeyId", json!({"GrantId": "0".repeat(64)})),
        ("RevokeGrant", "KeyId", json!({"GrantId": "0".repeat(64)})),
        ("RotateKeyOnDemand", "KeyId", none.clone()),
        ("ScheduleKeyDeletion", "KeyId", none.clone()),
        ("TagResource", "KeyId", json!({"Tags": []})),
        ("UntagResource", "KeyId", json!({"TagKeys": []})),
        (
            "UpdateAlias",
            "TargetKeyId",
            json!({"AliasName": "alias/there"}),
        ),
        ("UpdateKeyDescription", "KeyId", json!({"Description": ""})),
    ]
}

/// Listings, with the most that they take as a limit, and what else they need.
fn listings(id: &str) -> [(&'static str, i64, Value); 8] {
    let key = json!({"KeyId": id});
    [
        ("ListKeys", 1000, json!({})),
        ("ListAliases", 100, json!({})),
        ("DescribeCustomKeyStores", 1000, json!({})),
        ("ListGrants", 100, key.clone()),
        (
            "ListRetirableGrants",
            100,
            json!({"RetiringPrincipal": root_of(ACCOUNT)}),
        ),
        ("ListKeyPolicies", 1000, key.clone()),
        ("ListResourceTags", 50, key.clone()),
        ("ListKeyRotations", 1000, key),
    ]
}

#[tokio::test]
async fn an_alias_is_refused_before_it_is_looked_up_where_only_keys_are_taken() {
    let bench = Bench::new().await;
    let id = bench.key().await;
    bench.alias("alias/there", &id).await;
    let message = "Key Aliases are not supported for this operation.";
    for (name, member, body) in keys_alone() {
        let aliases = [
            "alias/there",
            "alias/none",
            &alias_arn("there"),
            &alias_arn("none"),
        ];
        for alias in aliases {
            let body = with(body.clone(), member, json!(alias));
            bench
                .refused(name, body, Code::InvalidArnException, message)
                .await;
        }
        for unknown in [UNKNOWN, &key_arn(UNKNOWN)] {
            let body = with(body.clone(), member, json!(unknown));
            bench.missing(name, body, UNKNOWN).await;
        }
        let elsewhere = key_arn(&id).replace("us-east-1", "eu-west-1");
        let body = with(body, member, json!(elsewhere));
        bench.not_found(name, body, "Invalid arn eu-west-1").await;
    }
}

#[tokio::test]
async fn all_four_forms_name_the_key_of_a_cryptographic_operation() {
    let bench = Bench::new().await;
    let key_of = async |spec: &str, usage: &str, name: &str| {
        let created = bench.done("CreateKey", json!({"KeySpec": spec, "KeyUsage": usage}));
        let id = created.await["KeyMetadata"]["KeyId"]
            .as_str()
            .unwrap()
            .to_owned();
        let alias = json!({"AliasName": format!("alias/{name}"), "TargetKeyId": id});
        bench.done("CreateAlias", alias).await;
        id
    };
    let id = key_of("SYMMETRIC_DEFAULT", "ENCRYPT_DECRYPT", "symmetric").await;
    let sign = key_of("ECC_NIST_P256", "SIGN_VERIFY", "sign").await;
    let agree = key_of("ECC_NIST_P256", "KEY_AGREEMENT", "agree").await;
    let mac = key_of("HMAC_256", "GENERATE_VERIFY_MAC", "mac").await;
    let public = bench.done_to("GetPublicKey", &agree).await["PublicKey"].clone();
    let sealed = bench.done("Encrypt", json!({"KeyId": id, "Plaintext": "AAEC"}));
    let blob = sealed.await["CiphertextBlob"].clone();
    let of_sign = json!({"Message": "AAEC", "SigningAlgorithm": "ECDSA_SHA_256"});
    let signature = with(of_sign.clone(), "KeyId", json!(sign));
    let signature = bench.done("Sign", signature).await["Signature"].clone();
    let of_mac = json!({"Message": "AAEC", "MacAlgorithm": "HMAC_SHA_256"});
    let made = bench.done("GenerateMac", with(of_mac.clone(), "KeyId", json!(mac)));
    let made = made.await["Mac"].clone();
    let data_key = json!({"KeySpec": "AES_256"});
    let pair = json!({"KeyPairSpec": "ECC_NIST_P256"});
    let moved = json!({"CiphertextBlob": blob, "DestinationKeyId": id});
    for (name, member, body, of, alias) in [
        (
            "Encrypt",
            "KeyId",
            json!({"Plaintext": "AAEC"}),
            &id,
            "symmetric",
        ),
        (
            "Decrypt",
            "KeyId",
            json!({"CiphertextBlob": blob}),
            &id,
            "symmetric",
        ),
        ("ReEncrypt", "SourceKeyId", moved.clone(), &id, "symmetric"),
        ("ReEncrypt", "DestinationKeyId", moved, &id, "symmetric"),
        (
            "GenerateDataKey",
            "KeyId",
            data_key.clone(),
            &id,
            "symmetric",
        ),
        (
            "GenerateDataKeyWithoutPlaintext",
            "KeyId",
            data_key,
            &id,
            "symmetric",
        ),
        (
            "GenerateDataKeyPair",
            "KeyId",
            pair.clone(),
            &id,
            "symmetric",
        ),
        (
            "GenerateDataKeyPairWithoutPlaintext",
            "KeyId",
            pair,
            &id,
            "symmetric",
        ),
        ("Sign", "KeyId", of_sign.clone(), &sign, "sign"),
        (
            "Verify",
            "KeyId",
            with(of_sign, "Signature", signature),
            &sign,
            "sign",
        ),
        ("GenerateMac", "KeyId", of_mac.clone(), &mac, "mac"),
        ("VerifyMac", "KeyId", with(of_mac, "Mac", made), &mac, "mac"),
        (
            "DeriveSharedSecret",
            "KeyId",
            json!({"PublicKey": public, "KeyAgreementAlgorithm": "ECDH"}),
            &agree,
            "agree",
        ),
        ("GetPublicKey", "KeyId", json!({}), &sign, "sign"),
        ("DescribeKey", "KeyId", json!({}), &id, "symmetric"),
    ] {
        for form in [
            of,
            &key_arn(of),
            &format!("alias/{alias}"),
            &alias_arn(alias),
        ] {
            let answer = bench
                .done(name, with(body.clone(), member, json!(form)))
                .await;
            // The key's ARN, whatever it was named by; metadata have the bare id.
            let told = match name {
                "DescribeKey" => &answer["KeyMetadata"]["Arn"],
                _ => &answer["KeyId"],
            };
            assert_eq!(*told, key_arn(of), "{name} {form}");
        }
        let body = with(body, member, json!("alias/none"));
        let message = format!("Alias {} is not found.", alias_arn("none"));
        bench.not_found(name, body, &message).await;
    }
}

#[tokio::test]
async fn pages_are_as_long_as_the_listing_lets_them_be() {
    let bench = Bench::new().await;
    let id = bench.key().await;
    for (name, max, body) in listings(&id) {
        let must = |value: &str, member: &str, what: &str| {
            format!(
                "1 validation error detected: Value '{value}' at '{member}' failed to satisfy constraint: Member must have {what}"
            )
        };
        let long = "x".repeat(1025);
        let two = format!("value less than or equal to {max}");
        for (member, value, message) in [
            (
                "Limit",
                json!(0),
                must("0", "limit", "value greater than or equal to 1"),
            ),
            (
                "Limit",
                json!(max + 1),
                must(&(max + 1).to_string(), "limit", &two),
            ),
            (
                "Marker",
                json!(long),
                must(&long, "marker", "length less than or equal to 1024"),
            ),
        ] {
            let body = with(body.clone(), member, value);
            bench.invalid(name, body, &message).await;
        }
        for marker in ["x", "AAAA"] {
            let body = with(body.clone(), "Marker", json!(marker));
            bench
                .refused(name, body, Code::InvalidMarkerException, "")
                .await;
        }
        for limit in [1, max] {
            let page = bench
                .done(name, with(body.clone(), "Limit", json!(limit)))
                .await;
            assert_eq!(page["Truncated"], false, "{name}");
            assert!(page.get("NextMarker").is_none(), "{name}");
        }
    }
}
