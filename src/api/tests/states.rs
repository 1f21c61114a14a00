//! What each operation makes of a key's state: the whole table, for the states that keys have here.

use super::KmsErrorCode as Code;
use super::*;

/// How an operation ends in a state.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Done,
    Disabled,
    PendingDeletion,
    PendingImport,
    NotPendingDeletion,
    Origin,
    /// Not to be had without material; elsewhere.
    Elsewhere,
}

use End::{
    Disabled as D, Done as OK, Elsewhere as X, NotPendingDeletion as N, Origin as O,
    PendingDeletion as P, PendingImport as I,
};

const DISABLED: usize = 0;
const PENDING_DELETION: usize = 1;
const PENDING_IMPORT: usize = 2;

const SYMMETRIC: (&str, &str) = ("SYMMETRIC_DEFAULT", "ENCRYPT_DECRYPT");
const SIGN: (&str, &str) = ("ECC_NIST_P256", "SIGN_VERIFY");
const MAC: (&str, &str) = ("HMAC_256", "GENERATE_VERIFY_MAC");

/// Operation, kind of key, other members than `KeyId`, and the ends when disabled, pending
/// deletion, pending import.
type Row = (&'static str, (&'static str, &'static str), Value, [End; 3]);

fn rows() -> Vec<Row> {
    let data_key = json!({"KeySpec": "AES_256"});
    let pair = json!({"KeyPairSpec": "ECC_NIST_P256"});
    let mac =
        json!({"Message": "AAEC", "MacAlgorithm": "HMAC_SHA_256", "Mac": "AAEC", "DryRun": true});
    let sign = json!({"Message": "AAEC", "SigningAlgorithm": "ECDSA_SHA_256", "Signature": "AAEC"});
    let none = json!({});
    let tags = json!({"Tags": [{"TagKey": "a", "TagValue": "b"}]});
    let grant = json!({"GranteePrincipal": root_of(ACCOUNT), "Operations": ["DescribeKey"]});
    let policy = json!({"Statement": [to(&root_of(ACCOUNT), &["kms:*"])]}).to_string();
    vec![
        ("GenerateDataKey", SYMMETRIC, data_key.clone(), [D, P, I]),
        (
            "GenerateDataKeyWithoutPlaintext",
            SYMMETRIC,
            data_key,
            [D, P, I],
        ),
        ("GenerateDataKeyPair", SYMMETRIC, pair.clone(), [D, P, I]),
        (
            "GenerateDataKeyPairWithoutPlaintext",
            SYMMETRIC,
            pair,
            [D, P, I],
        ),
        (
            "Encrypt",
            SYMMETRIC,
            json!({"Plaintext": "AAEC"}),
            [D, P, I],
        ),
        // With the key's blob, and the key as the one or the other.
        ("Decrypt", SYMMETRIC, none.clone(), [D, P, X]),
        ("ReEncrypt from", SYMMETRIC, none.clone(), [D, P, X]),
        ("ReEncrypt to", SYMMETRIC, none.clone(), [D, P, I]),
        ("GenerateMac", MAC, mac.clone(), [D, P, I]),
        ("VerifyMac", MAC, mac, [D, P, I]),
        ("Sign", SIGN, sign.clone(), [D, P, I]),
        ("Verify", SIGN, sign, [D, P, I]),
        ("GetPublicKey", SIGN, none.clone(), [OK, P, I]),
        ("DescribeKey", SYMMETRIC, none.clone(), [OK; 3]),
        ("GetKeyLastUsage", SYMMETRIC, none.clone(), [OK; 3]),
        ("GetKeyPolicy", SYMMETRIC, none.clone(), [OK; 3]),
        (
            "PutKeyPolicy",
            SYMMETRIC,
            json!({"Policy": policy}),
            [OK; 3],
        ),
        ("ListKeyPolicies", SYMMETRIC, none.clone(), [OK; 3]),
        ("ListAliases", SYMMETRIC, none.clone(), [OK; 3]),
        ("ListGrants", SYMMETRIC, none.clone(), [OK; 3]),
        ("ListResourceTags", SYMMETRIC, none.clone(), [OK; 3]),
        ("ListKeyRotations", SYMMETRIC, none.clone(), [OK; 3]),
        ("RetireGrant", SYMMETRIC, none.clone(), [OK, OK, X]),
        ("RevokeGrant", SYMMETRIC, none.clone(), [OK, OK, X]),
        ("DeleteAlias", SYMMETRIC, none.clone(), [OK; 3]),
        ("CreateAlias", SYMMETRIC, none.clone(), [OK, P, OK]),
        ("UpdateAlias", SYMMETRIC, none.clone(), [OK, P, OK]),
        ("CreateGrant", SYMMETRIC, grant, [D, P, I]),
        ("EnableKey", SYMMETRIC, none.clone(), [OK, P, I]),
        ("DisableKey", SYMMETRIC, none.clone(), [OK, P, I]),
        ("ScheduleKeyDeletion", SYMMETRIC, none.clone(), [OK, P, OK]),
        ("CancelKeyDeletion", SYMMETRIC, none.clone(), [N, OK, N]),
        ("TagResource", SYMMETRIC, tags, [OK, P, OK]),
        (
            "UntagResource",
            SYMMETRIC,
            json!({"TagKeys": ["a"]}),
            [OK, P, OK],
        ),
        (
            "UpdateKeyDescription",
            SYMMETRIC,
            json!({"Description": "d"}),
            [OK, P, OK],
        ),
        ("EnableKeyRotation", SYMMETRIC, none.clone(), [D, P, O]),
        ("DisableKeyRotation", SYMMETRIC, none.clone(), [D, P, O]),
        ("GetKeyRotationStatus", SYMMETRIC, none.clone(), [OK; 3]),
        ("RotateKeyOnDemand", SYMMETRIC, none.clone(), [D, P, I]),
        (
            "GetParametersForImport",
            SYMMETRIC,
            json!({"WrappingAlgorithm": "RSAES_OAEP_SHA_256", "WrappingKeySpec": "RSA_2048"}),
            [O, O, OK],
        ),
        ("DeleteImportedKeyMaterial", SYMMETRIC, none, [O, O, OK]),
    ]
}

/// A key in a state, with what some operations need of it from before.
struct Stateful<'a> {
    bench: &'a Bench,
    id: String,
    blob: Value,
    grant: Value,
    alias: String,
}

impl<'a> Stateful<'a> {
    async fn new(
        bench: &'a Bench,
        (spec, usage): (&str, &str),
        state: usize,
        number: usize,
    ) -> Self {
        let origin = if state == PENDING_IMPORT {
            "EXTERNAL"
        } else {
            "AWS_KMS"
        };
        let body = json!({"KeySpec": spec, "KeyUsage": usage, "Origin": origin});
        let created = bench.done("CreateKey", body).await;
        let id = created["KeyMetadata"]["KeyId"].as_str().unwrap().to_owned();
        let alias = format!("alias/{state}-{number}");
        let body = json!({"AliasName": alias, "TargetKeyId": id});
        bench.done("CreateAlias", body).await;
        let (mut blob, mut grant) = (Value::Null, Value::Null);
        if (spec, usage) == SYMMETRIC && state != PENDING_IMPORT {
            let body = json!({"KeyId": id, "Plaintext": "AAEC"});
            blob = bench.done("Encrypt", body).await["CiphertextBlob"].take();
            let body = json!({
                "KeyId": id, "GranteePrincipal": root_of(ACCOUNT), "RetiringPrincipal": root_of(ACCOUNT), "Operations": ["DescribeKey"],
            });
            grant = bench.done("CreateGrant", body).await["GrantId"].take();
        }
        match state {
            DISABLED => bench.done_to("DisableKey", &id).await,
            PENDING_DELETION => bench.done_to("ScheduleKeyDeletion", &id).await,
            _ => Value::Null,
        };
        Self {
            bench,
            id,
            blob,
            grant,
            alias,
        }
    }

    async fn ask(&self, name: &str, mut body: Value) -> Result<Value, (Code, String)> {
        let id = &self.id;
        let name = match name {
            "ListAliases" | "RevokeGrant" | "RetireGrant" => {
                body = json!({"KeyId": key_arn(id), "GrantId": self.grant});
                name
            }
            "Decrypt" => {
                body["CiphertextBlob"] = self.blob.clone();
                let unnamed = self.bench.call(name, body.clone()).await;
                body["KeyId"] = json!(id);
                let named = self.bench.call(name, body).await;
                assert_eq!(named, unnamed);
                return named;
            }
            "ReEncrypt from" => {
                let other = self.bench.key().await;
                body = json!({"CiphertextBlob": self.blob, "DestinationKeyId": other});
                "ReEncrypt"
            }
            "ReEncrypt to" => {
                let other = self.bench.key().await;
                let seal = json!({"KeyId": other, "Plaintext": "AAEC"});
                let sealed = self.bench.done("Encrypt", seal).await;
                body = json!({"CiphertextBlob": sealed["CiphertextBlob"], "DestinationKeyId": id});
                "ReEncrypt"
            }
            "CreateAlias" => {
                body = json!({"AliasName": format!("{}-more", self.alias), "TargetKeyId": id});
                name
            }
            "UpdateAlias" => {
                let other = self.bench.key().await;
                let alias = format!("{}-other", self.alias);
                let create = json!({"AliasName": alias, "TargetKeyId": other});
                self.bench.done("CreateAlias", create).await;
                body = json!({"AliasName": alias, "TargetKeyId": id});
                name
            }
            "DeleteAlias" => {
                body = json!({"AliasName": self.alias});
                name
            }
            name => {
                body["KeyId"] = json!(id);
                name
            }
        };
        self.bench.call(name, body).await
    }
}

#[tokio::test]
async fn every_operation_ends_in_every_state_as_the_table_says() {
    let bench = Bench::new().await;
    for (number, (name, kind, body, ends)) in rows().into_iter().enumerate() {
        for (state, end) in ends.into_iter().enumerate() {
            if end == X {
                continue;
            }
            let key = Stateful::new(&bench, kind, state, number).await;
            let answer = key.ask(name, body.clone()).await;
            let arn = key_arn(&key.id);
            let (code, message) = match end {
                OK | X => {
                    assert!(answer.is_ok(), "{name} in state {state}: {answer:?}");
                    continue;
                }
                D => (Code::DisabledException, format!("{arn} is disabled.")),
                P => (
                    Code::KMSInvalidStateException,
                    format!("{arn} is pending deletion."),
                ),
                I => (
                    Code::KMSInvalidStateException,
                    format!("{arn} is pending import."),
                ),
                N => (
                    Code::KMSInvalidStateException,
                    format!("{arn} is not pending deletion."),
                ),
                O => {
                    let origin = if state == PENDING_IMPORT {
                        "EXTERNAL"
                    } else {
                        "AWS_KMS"
                    };
                    let message =
                        format!("{arn} origin is {origin} which is not valid for this operation.");
                    (Code::UnsupportedOperationException, message)
                }
            };
            assert_eq!(answer, Err((code, message)), "{name} in state {state}");
        }
    }
}

#[tokio::test]
async fn usage_is_told_before_state() {
    let bench = Bench::new().await;
    let sign = json!({"Message": "AAEC", "SigningAlgorithm": "ECDSA_SHA_256"});
    let mac = json!({"Message": "AAEC", "MacAlgorithm": "HMAC_SHA_256"});
    for (number, (name, kind, mut body)) in [
        ("GenerateDataKey", SIGN, json!({"KeySpec": "AES_256"})),
        (
            "GenerateDataKeyWithoutPlaintext",
            MAC,
            json!({"KeySpec": "AES_256"}),
        ),
        (
            "GenerateDataKeyPair",
            SIGN,
            json!({"KeyPairSpec": "ECC_NIST_P256"}),
        ),
        ("Encrypt", SIGN, json!({"Plaintext": "AAEC"})),
        ("Sign", SYMMETRIC, sign),
        ("GenerateMac", SYMMETRIC, mac),
    ]
    .into_iter()
    .enumerate()
    {
        for state in [DISABLED, PENDING_DELETION, PENDING_IMPORT] {
            let key = Stateful::new(&bench, kind, state, number).await;
            body["KeyId"] = json!(key.id);
            let message = format!(
                "{} key usage is {} which is not valid for {name}.",
                key_arn(&key.id),
                kind.1
            );
            bench
                .refused(name, body.clone(), Code::InvalidKeyUsageException, &message)
                .await;
        }
    }
}
