//! Every operation, the batch routes and every admin route, with each of several principals, over
//! TCP and over the socket: what is built has an expected answer here, or this fails. Every
//! operation in a China Region, too, with what is of those Regions alone.

use crate::server::daemon::{ACCOUNT, ADMIN, Daemon, NOW, PROVISIONER, Setup, Who, regions};
use crate::server::wire::{Answer, Request};
use arrow_array::{ArrayRef, RecordBatch, StringArray};
use arrow_ipc::writer::StreamWriter;
use aws_lc_rs::rsa::{OAEP_SHA256_MGF1SHA256, OaepPublicEncryptingKey, PublicEncryptingKey};
use keymill::admin::{ADMINISTRATION, DESCRIBE_DAEMON, READ_STORE};
use keymill::api::Requester;
use keymill::auth::Credentials;
use keymill::crypto::secret::SecretBytes;
use keymill::key::regions::Regions;
use keymill::operation::Operation;
use keymill::policy::Principal;
use keymill::stream::{self, Purpose};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

const OK: &str = "OK";
const DENIED: &str = "AccessDeniedException";
const MISSING: &str = "NotFoundException";
const OTHER: &str = "444455556666";

/// The admin has `kms:*`, the provisioner and the consumer one action each, the grantee no policy
/// but a grant on each key, `nobody` nothing, and the visitor `kms:*` in another account. Keys have
/// the default policy.
const CALLERS: [&str; 6] = [
    "admin",
    "provisioner",
    "consumer",
    "grantee",
    "nobody",
    "visitor",
];

/// The expected answer to each of [`CALLERS`]. Keys are named by ARN where an operation takes one,
/// so that the visitor asks for keys of the other account.
const TABLE: [(&str, [&str; 6]); 56] = [
    ("CancelKeyDeletion", FOR_ADMIN),
    ("ConnectCustomKeyStore", NO_KEY_STORE),
    ("CreateAlias", FOR_ADMIN),
    ("CreateCustomKeyStore", UNSUPPORTED),
    ("CreateGrant", FOR_GRANTEE_TOO),
    ("CreateKey", AT_HOME),
    ("Decapsulate", FOR_ADMIN),
    ("Decrypt", [OK, DENIED, OK, OK, DENIED, DENIED]),
    // Names are looked up in the caller's own account.
    ("DeleteAlias", [OK, DENIED, DENIED, DENIED, DENIED, MISSING]),
    ("DeleteCustomKeyStore", NO_KEY_STORE),
    ("DeleteImportedKeyMaterial", FOR_ADMIN),
    ("DeriveSharedSecret", FOR_ADMIN),
    ("DescribeCustomKeyStores", AT_HOME),
    ("DescribeKey", FOR_GRANTEE_TOO),
    ("DisableKey", FOR_ADMIN),
    ("DisableKeyRotation", FOR_ADMIN),
    ("DisconnectCustomKeyStore", NO_KEY_STORE),
    ("EnableKey", FOR_ADMIN),
    ("EnableKeyRotation", FOR_ADMIN),
    ("Encapsulate", FOR_ADMIN),
    ("Encrypt", FOR_ADMIN),
    ("GenerateDataKey", FOR_ADMIN),
    ("GenerateDataKeyPair", FOR_ADMIN),
    ("GenerateDataKeyPairWithoutPlaintext", FOR_ADMIN),
    ("GenerateDataKeyWithoutPlaintext", MINTING),
    ("GenerateMac", FOR_ADMIN),
    ("GenerateRandom", AT_HOME),
    ("GetKeyLastUsage", FOR_ADMIN),
    ("GetKeyPolicy", FOR_ADMIN),
    ("GetKeyRotationStatus", FOR_ADMIN),
    ("GetParametersForImport", FOR_ADMIN),
    ("GetPublicKey", FOR_ADMIN),
    ("ImportKeyMaterial", FOR_ADMIN),
    ("ListAliases", AT_HOME),
    ("ListGrants", FOR_ADMIN),
    ("ListKeyPolicies", FOR_ADMIN),
    ("ListKeyRotations", FOR_ADMIN),
    ("ListKeys", AT_HOME),
    ("ListResourceTags", FOR_ADMIN),
    ("ListRetirableGrants", AT_HOME),
    ("PutKeyPolicy", FOR_ADMIN),
    ("ReEncrypt", FOR_ADMIN),
    ("ReplicateKey", FOR_ADMIN),
    ("RetireGrant", FOR_GRANTEE_TOO),
    ("RevokeGrant", FOR_ADMIN),
    ("RotateKeyOnDemand", FOR_ADMIN),
    ("ScheduleKeyDeletion", FOR_ADMIN),
    ("Sign", FOR_ADMIN),
    ("TagResource", FOR_ADMIN),
    ("UntagResource", FOR_ADMIN),
    ("UpdateAlias", FOR_ADMIN),
    ("UpdateCustomKeyStore", NO_KEY_STORE),
    ("UpdateKeyDescription", FOR_ADMIN),
    ("UpdatePrimaryRegion", FOR_ADMIN),
    ("Verify", FOR_ADMIN),
    ("VerifyMac", FOR_ADMIN),
];
const FOR_ADMIN: [&str; 6] = [OK, DENIED, DENIED, DENIED, DENIED, DENIED];
const FOR_GRANTEE_TOO: [&str; 6] = [OK, DENIED, DENIED, OK, DENIED, DENIED];
/// About no key: identity policies alone decide.
const AT_HOME: [&str; 6] = [OK, DENIED, DENIED, DENIED, DENIED, OK];
/// About a key store, of which there are none.
const NO_KEY_STORE: [&str; 6] = of_home("CustomKeyStoreNotFoundException");
/// A key store of a type that is not built, or in a Region that has none.
const UNSUPPORTED: [&str; 6] = of_home("UnsupportedOperationException");
const MINTING: [&str; 6] = [OK, OK, DENIED, OK, DENIED, DENIED];

/// What differs in the China Regions: they have no keys of ML-KEM, so the key is of another kind.
const IN_CHINA: [(&str, [&str; 6]); 8] = [
    ("ConnectCustomKeyStore", UNSUPPORTED),
    ("CreateCustomKeyStore", UNSUPPORTED),
    ("Decapsulate", FOR_NO_KEY_THERE),
    ("DeleteCustomKeyStore", UNSUPPORTED),
    ("DescribeCustomKeyStores", UNSUPPORTED),
    ("DisconnectCustomKeyStore", UNSUPPORTED),
    ("Encapsulate", FOR_NO_KEY_THERE),
    ("UpdateCustomKeyStore", UNSUPPORTED),
];
const FOR_NO_KEY_THERE: [&str; 6] = [USAGE, DENIED, DENIED, DENIED, DENIED, DENIED];
const USAGE: &str = "InvalidKeyUsageException";

/// The answer to those who may, in whichever account.
const fn of_home(answer: &'static str) -> [&'static str; 6] {
    [answer, DENIED, DENIED, DENIED, DENIED, answer]
}

/// A daemon and its callers.
struct Walk {
    daemon: Daemon,
    regions: Regions,
    credentials: Vec<(String, Credentials)>,
    scenes: AtomicUsize,
}

/// The objects of one call, made for it alone.
struct Scene {
    number: usize,
    key: String,
    alias: String,
    grant: Value,
    blob: Value,
    /// A signature, a MAC or a public key of a key of another kind.
    proof: Value,
}

impl Walk {
    async fn new() -> Self {
        Self::in_regions(regions()).await
    }

    async fn in_regions(regions: Regions) -> Self {
        let setup = Setup {
            regions: regions.clone(),
            ..Setup::default()
        };
        let daemon = Daemon::start_with(setup).await;
        let home = regions.home();
        let known = |who: Who| (who.arn_in(&regions), who.credentials(&home.name));
        let mut credentials = vec![known(ADMIN), known(PROVISIONER)];
        for (name, account, action) in [
            ("consumer", ACCOUNT, "kms:Decrypt"),
            ("grantee", ACCOUNT, "s3:GetObject"),
            ("nobody", ACCOUNT, "s3:GetObject"),
            ("visitor", OTHER, "kms:*"),
        ] {
            let policy =
                json!({"Statement": {"Effect": "Allow", "Action": action, "Resource": "*"}});
            let body = json!({"Name": name, "Policies": [policy.to_string()]}).to_string();
            let operator = Requester::local(Principal::operator(0, account.parse().unwrap()));
            let made = daemon
                .api
                .administer("CreatePrincipal", &operator, body.as_bytes());
            let made: Value = serde_json::from_slice(made.await.unwrap().body()).unwrap();
            let text = |member: &str| made[member].as_str().unwrap().to_owned();
            let secret = text("SecretAccessKey");
            let secret_access_key = SecretBytes::copy_of(secret.as_bytes());
            let signs = Credentials {
                access_key_id: text("AccessKeyId"),
                secret_access_key,
                session_token: None,
                region: home.name.clone(),
            };
            credentials.push((text("Arn"), signs));
        }
        Self {
            daemon,
            regions,
            credentials,
            scenes: AtomicUsize::new(0),
        }
    }

    fn is_in_china(&self) -> bool {
        self.regions.home().is_in_china()
    }

    /// The expected answers of a built operation.
    fn expected(&self, operation: &str) -> Option<[&'static str; 6]> {
        let rows = IN_CHINA.iter().filter(|_| self.is_in_china());
        let row = rows.chain(&TABLE).find(|(name, _)| *name == operation);
        row.map(|(_, answers)| *answers)
    }

    fn arn(&self, caller: &str) -> &str {
        let at = CALLERS.iter().position(|name| *name == caller);
        &self.credentials[at.unwrap()].0
    }

    async fn scene(&self, operation: &str) -> Scene {
        let number = self.scenes.fetch_add(1, Ordering::Relaxed);
        let created = self.daemon.call("CreateKey", json!({})).await;
        let key = created["KeyMetadata"]["Arn"].as_str().unwrap().to_owned();
        let alias = format!("alias/walk-{number}");
        self.daemon
            .call(
                "CreateAlias",
                json!({"AliasName": alias, "TargetKeyId": key}),
            )
            .await;
        let operations = [
            "GenerateDataKeyWithoutPlaintext",
            "Decrypt",
            "DescribeKey",
            "CreateGrant",
            "RetireGrant",
        ];
        let grant = json!({"KeyId": key, "GranteePrincipal": self.arn("grantee"), "Operations": operations});
        let grant = self.daemon.call("CreateGrant", grant).await["GrantId"].clone();
        let sealed = json!({"KeyId": key, "Plaintext": "AA=="});
        let blob = self.daemon.call("Encrypt", sealed).await["CiphertextBlob"].clone();
        if operation == "CancelKeyDeletion" {
            self.daemon
                .call("ScheduleKeyDeletion", json!({"KeyId": key}))
                .await;
        }
        let (key, proof) = self
            .other_key(operation)
            .await
            .unwrap_or((key, Value::Null));
        Scene {
            number,
            key,
            alias,
            grant,
            blob,
            proof,
        }
    }

    /// A key of the kind that an operation needs, and what its body brings; none if that is the
    /// usual one.
    async fn other_key(&self, operation: &str) -> Option<(String, Value)> {
        if let "ReplicateKey" | "UpdatePrimaryRegion" = operation {
            let created = self.daemon.call("CreateKey", json!({"MultiRegion": true}));
            let key = created.await["KeyMetadata"]["Arn"]
                .as_str()
                .unwrap()
                .to_owned();
            return Some((key, Value::Null));
        }
        let is_in_china = self.is_in_china();
        let curve = self.curve();
        let kind = match operation {
            "Sign" | "Verify" | "GetPublicKey" => (curve, "SIGN_VERIFY"),
            "GenerateMac" | "VerifyMac" => ("HMAC_256", "GENERATE_VERIFY_MAC"),
            "DeriveSharedSecret" => (curve, "KEY_AGREEMENT"),
            "Encapsulate" | "Decapsulate" if is_in_china => ("HMAC_256", "GENERATE_VERIFY_MAC"),
            "Encapsulate" | "Decapsulate" => ("ML_KEM_768", "ENCAPSULATE_DECAPSULATE"),
            "DeleteImportedKeyMaterial" | "GetParametersForImport" | "ImportKeyMaterial" => {
                ("SYMMETRIC_DEFAULT", "ENCRYPT_DECRYPT")
            }
            _ => return None,
        };
        let origin = match kind.0 {
            "SYMMETRIC_DEFAULT" => "EXTERNAL",
            _ => "AWS_KMS",
        };
        let body = json!({"KeySpec": kind.0, "KeyUsage": kind.1, "Origin": origin});
        let created = self.daemon.call("CreateKey", body).await;
        let key = created["KeyMetadata"]["Arn"].as_str().unwrap().to_owned();
        let made_by = match operation {
            "Verify" => ("Sign", "Signature"),
            "VerifyMac" => ("GenerateMac", "Mac"),
            "DeriveSharedSecret" => ("GetPublicKey", "PublicKey"),
            "Decapsulate" if is_in_china => return Some((key, json!("AA=="))),
            "Decapsulate" => ("Encapsulate", "SharedSecretCiphertextBlob"),
            "ImportKeyMaterial" => return Some((key.clone(), self.import(&key).await)),
            _ => return Some((key, Value::Null)),
        };
        let body = json!({
            "KeyId": key, "Message": "AA==", "SigningAlgorithm": self.signs(), "MacAlgorithm": "HMAC_SHA_256",
            "EncapsulationAlgorithm": "ML_KEM",
        });
        let proof = self.daemon.call(made_by.0, body).await[made_by.1].clone();
        Some((key, proof))
    }

    /// The curve of keys, and how they sign.
    fn curve(&self) -> &'static str {
        if self.is_in_china() {
            "SM2"
        } else {
            "ECC_NIST_P256"
        }
    }

    fn signs(&self) -> &'static str {
        match self.curve() {
            "SM2" => "SM2DSA",
            _ => "ECDSA_SHA_256",
        }
    }

    /// The body of an import.
    async fn import(&self, key: &str) -> Value {
        let body = json!({
            "KeyId": key, "WrappingAlgorithm": "RSAES_OAEP_SHA_256", "WrappingKeySpec": "RSA_2048",
        });
        let parameters = self.daemon.call("GetParametersForImport", body).await;
        let public = base64_simd::STANDARD
            .decode_to_vec(parameters["PublicKey"].as_str().unwrap())
            .unwrap();
        let public = PublicEncryptingKey::from_der(&public).unwrap();
        let public = OaepPublicEncryptingKey::new(public).unwrap();
        let mut room = vec![0; public.ciphertext_size()];
        let bytes = if self.is_in_china() { 16 } else { 32 };
        let wrapped = public
            .encrypt(&OAEP_SHA256_MGF1SHA256, &vec![7; bytes], &mut room, None)
            .unwrap();
        json!({
            "KeyId": key,
            "ImportToken": parameters["ImportToken"],
            "EncryptedKeyMaterial": base64_simd::STANDARD.encode_to_string(&*wrapped),
            "ExpirationModel": "KEY_MATERIAL_DOES_NOT_EXPIRE",
        })
    }

    /// A valid body of a call.
    fn body(&self, operation: &str, scene: &Scene, caller_arn: &str) -> Value {
        let Scene {
            number,
            key,
            alias,
            grant,
            blob,
            proof,
        } = scene;
        match operation {
            "CreateKey" | "DescribeCustomKeyStores" | "ListAliases" | "ListKeys" => json!({}),
            "CreateCustomKeyStore" => json!({"CustomKeyStoreName": "walked"}),
            "ConnectCustomKeyStore"
            | "DeleteCustomKeyStore"
            | "DisconnectCustomKeyStore"
            | "UpdateCustomKeyStore" => json!({"CustomKeyStoreId": "cks-1234567890abcdef0"}),
            "CreateAlias" => {
                json!({"AliasName": format!("alias/new-{number}"), "TargetKeyId": key})
            }
            "ReplicateKey" => {
                let there = self.regions.iter().nth(1).unwrap();
                json!({"KeyId": key, "ReplicaRegion": there.name})
            }
            "UpdatePrimaryRegion" => {
                json!({"KeyId": key, "PrimaryRegion": self.regions.home().name})
            }
            "UpdateAlias" => json!({"AliasName": alias, "TargetKeyId": key}),
            "DeleteAlias" => json!({"AliasName": alias}),
            "ReEncrypt" => json!({"CiphertextBlob": blob, "DestinationKeyId": key}),
            "Decrypt" => json!({"CiphertextBlob": blob}),
            "Encrypt" => json!({"KeyId": key, "Plaintext": "AA=="}),
            "GenerateDataKey" | "GenerateDataKeyWithoutPlaintext" => {
                json!({"KeyId": key, "KeySpec": "AES_256"})
            }
            "TagResource" => json!({"KeyId": key, "Tags": [{"TagKey": "a", "TagValue": ""}]}),
            "UntagResource" => json!({"KeyId": key, "TagKeys": ["a"]}),
            "UpdateKeyDescription" => json!({"KeyId": key, "Description": "walked"}),
            "GenerateRandom" => json!({"NumberOfBytes": 1}),
            "CreateGrant" => {
                json!({"KeyId": key, "GranteePrincipal": self.arn("nobody"), "Operations": ["Decrypt"]})
            }
            "GenerateDataKeyPair" | "GenerateDataKeyPairWithoutPlaintext" => {
                json!({"KeyId": key, "KeyPairSpec": self.curve()})
            }
            "ImportKeyMaterial" => proof.clone(),
            "GetParametersForImport" => {
                json!({"KeyId": key, "WrappingAlgorithm": "RSAES_OAEP_SHA_1", "WrappingKeySpec": "RSA_2048"})
            }
            "Sign" | "Verify" => {
                json!({"KeyId": key, "Message": "AA==", "SigningAlgorithm": self.signs(), "Signature": proof})
            }
            "GenerateMac" | "VerifyMac" => {
                json!({"KeyId": key, "Message": "AA==", "MacAlgorithm": "HMAC_SHA_256", "Mac": proof})
            }
            "DeriveSharedSecret" => {
                json!({"KeyId": key, "KeyAgreementAlgorithm": "ECDH", "PublicKey": proof})
            }
            "Encapsulate" | "Decapsulate" => {
                json!({"KeyId": key, "EncapsulationAlgorithm": "ML_KEM", "SharedSecretCiphertextBlob": proof})
            }
            "ListRetirableGrants" => json!({"RetiringPrincipal": caller_arn}),
            "RetireGrant" | "RevokeGrant" => json!({"KeyId": key, "GrantId": grant}),
            "PutKeyPolicy" => {
                let partition = &self.regions.home().partition;
                let root = format!("arn:{partition}:iam::{ACCOUNT}:root");
                let statement = json!({
                    "Effect": "Allow", "Principal": {"AWS": root}, "Action": "kms:*", "Resource": "*",
                });
                json!({"KeyId": key, "Policy": json!({"Statement": statement}).to_string()})
            }
            _ => json!({"KeyId": key}),
        }
    }

    /// Asks over TCP, or over the socket.
    async fn ask(&self, request: &Request, over_tcp: bool) -> Answer {
        if over_tcp {
            self.daemon.over_tcp().await.ask(request).await
        } else {
            self.daemon.over_unix().await.ask(request).await
        }
    }
}

/// `OK`, or the code of the refusal.
fn outcome(answer: &Answer) -> String {
    match answer.status {
        200 => OK.to_owned(),
        _ => answer.json()["__type"].as_str().unwrap().to_owned(),
    }
}

#[tokio::test]
async fn every_operation_answers_every_principal_as_the_table_says() {
    every_operation(&Walk::new().await).await;
}

#[tokio::test]
async fn every_operation_answers_every_principal_in_a_china_region_too() {
    let regions = Regions::new("aws-cn", "cn-north-1", ["cn-northwest-1"]);
    every_operation(&Walk::in_regions(regions).await).await;
}

async fn every_operation(walk: &Walk) {
    let host = walk.daemon.host();
    for operation in Operation::ALL {
        let name = operation.name();
        let answers = match walk.expected(name) {
            Some(answers) => answers,
            None => panic!("{name} has no expected answer in the table"),
        };
        let mut scene = walk.scene(name).await;
        for over_tcp in [true, false] {
            for ((caller, (arn, signs)), expected) in
                CALLERS.iter().zip(&walk.credentials).zip(answers)
            {
                let body = walk.body(name, &scene, arn);
                let request = Request::kms(name, &host, &body).signed_with(signs, NOW);
                let answer = walk.ask(&request, over_tcp).await;
                let what = format!("{name} by {caller} over TCP {over_tcp}: {}", answer.text());
                assert_eq!(outcome(&answer), expected, "{what}");
                if expected == OK {
                    // A call must not depend on the one before.
                    scene = walk.scene(name).await;
                }
            }
            // Unsigned: not authenticated over TCP, and the mapped principal over the socket.
            let body = walk.body(name, &scene, walk.arn("provisioner"));
            let answer = walk.ask(&Request::kms(name, &host, &body), over_tcp).await;
            let stranger = "MissingAuthenticationTokenException";
            let expected = if over_tcp { stranger } else { answers[1] };
            assert_eq!(
                outcome(&answer),
                expected,
                "{name} unsigned: {}",
                answer.text()
            );
        }
    }
}

#[tokio::test]
async fn the_batch_answers_every_principal_as_a_single_call_would_be() {
    let walk = Walk::new().await;
    let host = walk.daemon.host();
    let scene = walk.scene(stream::data_keys::PATH).await;
    let body = json!({"KeyId": scene.key, "KeySpec": "AES_256", "Count": 2});
    for over_tcp in [true, false] {
        for ((caller, (_, signs)), expected) in CALLERS.iter().zip(&walk.credentials).zip(MINTING) {
            let request =
                Request::post(stream::data_keys::PATH, &host, &body).signed_with(signs, NOW);
            let answer = walk.ask(&request, over_tcp).await;
            if expected == OK {
                assert_eq!(
                    (answer.status, answer.body.len()),
                    (200, 2 * 96),
                    "{caller}"
                );
            } else {
                assert_eq!(outcome(&answer), expected, "{caller}");
            }
        }
        let unsigned = Request::post(stream::data_keys::PATH, &host, &body);
        let answer = walk.ask(&unsigned, over_tcp).await;
        assert_eq!(answer.status, if over_tcp { 400 } else { 200 });
    }
}

#[tokio::test]
async fn the_stream_of_containers_answers_every_principal_as_a_single_call_would_be() {
    let walk = Walk::new().await;
    let host = walk.daemon.host();
    let scene = walk.scene(Purpose::Bind.path()).await;
    let path = format!(
        "{}?key={}&spec=AES_256&context=id",
        Purpose::Bind.path(),
        scene.key
    );
    let ids = Arc::new(StringArray::from(vec!["a", "b"])) as ArrayRef;
    let rows = RecordBatch::try_from_iter([("id", ids)]).unwrap();
    let mut body = StreamWriter::try_new(Vec::new(), &rows.schema()).unwrap();
    body.write(&rows).unwrap();
    body.finish().unwrap();
    let unsigned = Request {
        body: body.into_inner().unwrap(),
        ..Request::post(&path, &host, &Value::Null)
    };
    for over_tcp in [true, false] {
        for ((caller, (_, signs)), expected) in CALLERS.iter().zip(&walk.credentials).zip(MINTING) {
            let request = unsigned.clone().signed_with(signs, NOW);
            let answer = walk.ask(&request, over_tcp).await;
            assert_eq!(outcome(&answer), expected, "{caller}");
        }
        let answer = walk.ask(&unsigned, over_tcp).await;
        let expected = if over_tcp {
            "MissingAuthenticationTokenException"
        } else {
            OK
        };
        assert_eq!(outcome(&answer), expected);
    }
}

/// The body of an operation of the operator's own, made possible first; none is without one.
async fn administration(daemon: &Daemon, operation: &str, number: usize) -> Value {
    let name = format!("walk-{number}");
    let kind = match operation {
        "CreateSession" | "PutTrustPolicy" => "role",
        _ => "user",
    };
    let body = json!({"Name": name, "Kind": kind, "Policies": []}).to_string();
    let operator = Requester::local(Principal::operator(0, ACCOUNT.parse().unwrap()));
    let mut made = Value::Null;
    if !matches!(
        operation,
        "CreatePrincipal" | "DescribeAuditLog" | "DescribeKeys" | "ListPrincipals"
    ) {
        let create = daemon
            .api
            .administer("CreatePrincipal", &operator, body.as_bytes());
        made = serde_json::from_slice(create.await.unwrap().body()).unwrap();
    }
    match operation {
        "DescribeAuditLog" | "DescribeKeys" | "ListPrincipals" | "ReadStore" | "DescribeDaemon" => {
            json!({})
        }
        "RecordBackup" => json!({"Revision": 1}),
        "AcknowledgeAuditLog" => {
            let head = daemon.api.audit.head().to_json();
            json!({"Log": head["Log"], "Group": head["Group"]})
        }
        "CreatePrincipal" => json!({"Name": name, "Policies": []}),
        "CreateAccessKey" | "DeletePrincipal" | "DescribePrincipal" | "DisablePrincipal"
        | "EnablePrincipal" => json!({"Name": name}),
        "PutPrincipalPolicies" => json!({"Name": name, "Policies": []}),
        "PutPrincipalTags" => json!({"Name": name, "Tags": []}),
        "PutTrustPolicy" => {
            let policy = r#"{"Statement":{"Effect":"Deny","Principal":"*","Action":"sts:*"}}"#;
            json!({"Name": name, "TrustPolicy": policy})
        }
        "CreateSession" => json!({"Name": name, "SessionName": "walk"}),
        "DeleteAccessKey" => json!({"Name": name, "AccessKeyId": made["AccessKeyId"]}),
        "UpdateAccessKey" => {
            json!({"Name": name, "AccessKeyId": made["AccessKeyId"], "Status": "Inactive"})
        }
        "CheckPolicy" => json!({"Principal": made["Arn"], "Action": "kms:ListKeys"}),
        _ => panic!("{operation} has no expected answer here"),
    }
}

/// The operator's operations that the transport answers by itself.
const STREAMED: [&str; 2] = [READ_STORE, DESCRIBE_DAEMON];

#[tokio::test]
async fn admin_routes_answer_the_operator_and_nobody_else() {
    let walk = Walk::new().await;
    let host = walk.daemon.host();
    let known = Operation::ALL.iter().map(|operation| operation.name());
    let known = known.chain(ADMINISTRATION).chain(STREAMED);
    for (number, name) in known.enumerate() {
        let path = format!("/v1/admin/{name}");
        let is_own = ADMINISTRATION.contains(&name) || STREAMED.contains(&name);
        let (body, expected_of_operator) = if is_own {
            (administration(&walk.daemon, name, number).await, OK)
        } else {
            let scene = walk.scene(name).await;
            // As the admin is answered: policies do not limit the operator either.
            let [answer, ..] = walk.expected(name).unwrap();
            (walk.body(name, &scene, walk.arn("admin")), answer)
        };
        let unsigned = Request::post(&path, &host, &body);
        for over_tcp in [true, false] {
            for (caller, (_, signs)) in CALLERS.iter().zip(&walk.credentials) {
                let answer = walk
                    .ask(&unsigned.clone().signed_with(signs, NOW), over_tcp)
                    .await;
                assert_eq!(answer.status, 403, "{name} by {caller}");
                assert_eq!(outcome(&answer), DENIED, "{name} by {caller}");
            }
        }
        let answer = walk.ask(&unsigned, true).await;
        assert_eq!(
            (answer.status, outcome(&answer).as_str()),
            (403, DENIED),
            "{name}"
        );
        // Last, since it is done.
        let answer = walk.ask(&unsigned, false).await;
        assert_eq!(
            outcome(&answer),
            expected_of_operator,
            "{name}: {}",
            answer.text()
        );
    }
}
