//! What each operation makes of a key's state: every operation with every kind of key, in every
//! state that keys have here.
//!
//! Sources: AWS KMS Developer Guide, "Key states of AWS KMS keys", and what was measured on AWS in
//! September 2026: the origin of the key's material is told first, then its usage, then its state,
//! and only then that its spec or an algorithm does not fit.

use super::ErrorCode as Code;
use super::regions::{EAST, WEST};
use super::*;
use crate::keystore::KeyEntry;
use crate::policy::grant::{Draft, GrantId, Named};
use crate::policy::{Grant, GrantParameters};

mod table;

use table::*;

/// A key in a state, with what some operations need of it from before.
struct Stateful<'a> {
    bench: &'a Bench,
    kind: Kind,
    related: Related,
    state: usize,
    entry: Arc<KeyEntry>,
    /// What the store has of it, and of the keys that are related to it.
    family: Vec<Arc<KeyEntry>>,
    /// A ciphertext of the key, or of another one if the key makes none.
    blob: Value,
    peers: &'a Peers,
}

/// Other keys that requests need.
struct Peers {
    symmetric: String,
    blob: Value,
    public: Value,
}

impl Peers {
    /// In this Region.
    async fn new(bench: &Bench, region: &str) -> Self {
        let made = bench.done_in(region, "CreateKey", json!({})).await;
        let symmetric = made["KeyMetadata"]["KeyId"].as_str().unwrap().to_owned();
        let body = json!({"KeyId": symmetric, "Plaintext": "AAEC"});
        let blob = bench.done_in(region, "Encrypt", body).await["CiphertextBlob"].take();
        let agree = json!({"KeySpec": "ECC_NIST_P256", "KeyUsage": "KEY_AGREEMENT"});
        let agree = bench.done("CreateKey", agree).await["KeyMetadata"]["KeyId"].take();
        let public = bench.done_to("GetPublicKey", agree.as_str().unwrap()).await;
        Self {
            symmetric,
            blob,
            public: public["PublicKey"].clone(),
        }
    }
}

impl<'a> Stateful<'a> {
    async fn new(bench: &'a Bench, peers: &'a Peers, kind: Kind, state: usize) -> Self {
        Self::related(bench, peers, kind, Related::Not, state).await
    }

    async fn related(
        bench: &'a Bench,
        peers: &'a Peers,
        kind: Kind,
        related: Related,
        state: usize,
    ) -> Self {
        let origin = match state {
            PENDING_IMPORT => "EXTERNAL",
            _ => kind.origin,
        };
        let is_multi_region = related != Related::Not;
        let body = json!({"KeySpec": kind.spec, "KeyUsage": kind.usage, "Origin": origin, "MultiRegion": is_multi_region});
        let created = bench.done("CreateKey", body).await;
        let id = created["KeyMetadata"]["KeyId"].as_str().unwrap().to_owned();
        let material = [7; 32];
        if origin == "EXTERNAL" && (state != PENDING_IMPORT || is_multi_region) {
            bench.import(&id, &material, json!({})).await.unwrap();
        }
        if is_multi_region {
            bench.replicate(&id, WEST).await;
        }
        let region = region_of(related);
        if origin == "EXTERNAL" && state != PENDING_IMPORT && is_multi_region {
            let imported = bench.import_in(WEST, &id, &material, json!({})).await;
            imported.unwrap();
        }
        let mut blob = peers.blob.clone();
        if kind.usage == "ENCRYPT_DECRYPT" && state != PENDING_IMPORT {
            let body =
                json!({"KeyId": id, "Plaintext": "AAEC", "EncryptionAlgorithm": kind.cipher()});
            blob = bench.done_in(region, "Encrypt", body).await["CiphertextBlob"].take();
        }
        let done = async |name: &str| bench.done_in(region, name, json!({"KeyId": id})).await;
        match (state, related) {
            (DISABLED, _) => done("DisableKey").await,
            (PENDING_DELETION | PENDING_REPLICA_DELETION, _) => done("ScheduleKeyDeletion").await,
            (PENDING_IMPORT, Related::Primary) => done("DeleteImportedKeyMaterial").await,
            _ => Value::Null,
        };
        let described = done("DescribeKey").await;
        assert_eq!(described["KeyMetadata"]["KeyState"], STATES[state]);
        let snapshot = bench.api.keystore.snapshot();
        let regional = bench.api.keystore.regions().named(region).unwrap();
        let family = snapshot.related(id.parse().unwrap()).cloned().collect();
        Self {
            bench,
            kind: Kind { origin, ..kind },
            related,
            state,
            entry: Arc::clone(&snapshot.keys[&regional.id(id.parse().unwrap())]),
            family,
            blob,
            peers,
        }
    }

    /// Whether [`Self::blob`] is the key's own.
    fn has_blob(&self) -> bool {
        self.kind.usage == "ENCRYPT_DECRYPT" && self.state != PENDING_IMPORT
    }

    fn alias(&self) -> String {
        format!("alias/{}", self.entry.key.id)
    }

    /// Puts the key back as it was, with a grant and an alias.
    async fn put_back(&self) {
        let parameters = GrantParameters::check(Draft {
            grantee: Named::Principal(&root_of(ACCOUNT)),
            retiring_principal: None,
            operations: [crate::operation::Action::DescribeKey]
                .into_iter()
                .collect(),
            equals: None,
            subset: None,
            source_arn: None,
            name: None,
        });
        let (key, account) = (self.entry.key.regional_id(), self.entry.key.account);
        let grant = Grant {
            id: GRANT,
            key,
            parameters: parameters.unwrap(),
            issuing_account: account,
            creation_date: NOW,
        };
        let alias = crate::keystore::Alias {
            region: key.region,
            account,
            name: self.alias().parse().unwrap(),
            target: key.id,
            creation_date: NOW,
            last_updated_date: NOW,
        };
        let mut changes = vec![Change::PutGrant(Arc::new(grant)), Change::PutAlias(alias)];
        let family = self.family.iter();
        changes.extend(family.map(|entry| Change::PutKey(entry.with_key(entry.key.clone()))));
        let keystore = &self.bench.api.keystore;
        let put = keystore.apply(|_| Ok::<_, ApiError>((changes.clone(), ())));
        put.await.unwrap();
    }

    /// A request that the key would serve if it were enabled, had the usage and the spec.
    fn body(&self, operation: Operation) -> Value {
        let id = self.entry.key.id.to_string();
        let kind = self.kind;
        let policy = json!({"Statement": [to(&root_of(ACCOUNT), &["kms:*"])]}).to_string();
        let body = match operation {
            Operation::GenerateDataKey | Operation::GenerateDataKeyWithoutPlaintext => {
                json!({"KeySpec": "AES_256"})
            }
            Operation::GenerateDataKeyPair | Operation::GenerateDataKeyPairWithoutPlaintext => {
                json!({"KeyPairSpec": "ECC_NIST_P256"})
            }
            Operation::Encrypt => {
                json!({"Plaintext": "AAEC", "EncryptionAlgorithm": kind.cipher()})
            }
            Operation::Decrypt if self.has_blob() || kind.cipher() != "SYMMETRIC_DEFAULT" => {
                json!({"CiphertextBlob": self.blob, "EncryptionAlgorithm": kind.cipher()})
            }
            Operation::Decrypt => json!({"CiphertextBlob": self.peers.blob}),
            Operation::ReEncrypt => {
                return json!({
                    "CiphertextBlob": self.peers.blob, "SourceKeyId": self.peers.symmetric, "DestinationKeyId": id,
                    "DestinationEncryptionAlgorithm": kind.cipher(),
                });
            }
            Operation::GenerateMac | Operation::VerifyMac => {
                json!({"Message": "AAEC", "MacAlgorithm": "HMAC_SHA_256", "Mac": "AAEC"})
            }
            Operation::Sign | Operation::Verify => {
                json!({"Message": "AAEC", "SigningAlgorithm": kind.signs(), "Signature": "AAEC"})
            }
            Operation::DeriveSharedSecret => {
                json!({"KeyAgreementAlgorithm": "ECDH", "PublicKey": self.peers.public})
            }
            Operation::Encapsulate | Operation::Decapsulate => {
                // Of the right length, it opens.
                json!({"EncapsulationAlgorithm": "ML_KEM", "SharedSecretCiphertextBlob": encoded(&[7; 768])})
            }
            Operation::CreateGrant => {
                json!({"GranteePrincipal": root_of(ACCOUNT), "Operations": ["DescribeKey"]})
            }
            Operation::RetireGrant | Operation::RevokeGrant => {
                return json!({"KeyId": self.entry.arn, "GrantId": GRANT.to_string()});
            }
            Operation::PutKeyPolicy => json!({"Policy": policy}),
            Operation::CreateAlias => {
                return json!({"AliasName": format!("{}-more", self.alias()), "TargetKeyId": id});
            }
            Operation::UpdateAlias => {
                return json!({"AliasName": self.alias(), "TargetKeyId": id});
            }
            Operation::DeleteAlias => return json!({"AliasName": self.alias()}),
            Operation::TagResource => json!({"Tags": [{"TagKey": "a", "TagValue": "b"}]}),
            Operation::UntagResource => json!({"TagKeys": ["a"]}),
            Operation::UpdateKeyDescription => json!({"Description": "d"}),
            Operation::GetParametersForImport if kind.spec == "SYMMETRIC_DEFAULT" => {
                json!({"WrappingAlgorithm": "RSAES_OAEP_SHA_256", "WrappingKeySpec": "RSA_2048"})
            }
            Operation::GetParametersForImport => {
                json!({"WrappingAlgorithm": "RSA_AES_KEY_WRAP_SHA_256", "WrappingKeySpec": "RSA_2048"})
            }
            Operation::ReplicateKey => json!({"ReplicaRegion": "eu-west-1"}),
            Operation::UpdatePrimaryRegion => json!({"PrimaryRegion": WEST}),
            Operation::ImportKeyMaterial => {
                json!({"ImportToken": "AAEC", "EncryptedKeyMaterial": "AAEC", "ExpirationModel": "KEY_MATERIAL_DOES_NOT_EXPIRE"})
            }
            _ => json!({}),
        };
        with(body, "KeyId", json!(id))
    }

    /// What the table says, of an operation about a key.
    fn expected(&self, operation: Operation, row: &Row) -> Result<(), (Code, String)> {
        let (kind, arn) = (self.kind, &self.entry.arn);
        let refused = |code, message: String| Err((code, message));
        if operation == Operation::Decrypt && !self.has_blob() && kind.cipher() == SYMMETRIC.spec {
            let message = "The key ID in the request does not identify a CMK that can perform this operation.";
            return refused(Code::IncorrectKeyException, message.to_owned());
        }
        if !row.origin.is_empty() && row.origin != kind.origin {
            let message = format!(
                "{arn} origin is {} which is not valid for this operation.",
                kind.origin
            );
            return refused(Code::UnsupportedOperationException, message);
        }
        if self.related == Related::Replica && !row.on_replicas {
            let message =
                format!("{arn} is a multi-region replica key which is not valid for {operation}.");
            return refused(Code::UnsupportedOperationException, message);
        }
        if !row.usage.is_empty() && row.usage != kind.usage {
            let message = format!(
                "{arn} key usage is {} which is not valid for {operation}.",
                kind.usage
            );
            return refused(Code::InvalidKeyUsageException, message);
        }
        if let Fit::Primary(code, ending) = row.fit
            && self.related != Related::Primary
        {
            let code = match (operation, self.related) {
                (Operation::UpdatePrimaryRegion, Related::Replica) => {
                    Code::KMSInvalidStateException
                }
                _ => code,
            };
            return refused(code, format!("{arn} {ending}"));
        }
        let waits_for_replicas = self.state == PENDING_REPLICA_DELETION;
        let end = match waits_for_replicas {
            true => row.ends[PENDING_DELETION],
            false => row.ends[self.state],
        };
        let state = match end {
            OK => return self.fits(row.fit),
            D => return refused(Code::DisabledException, format!("{arn} is disabled.")),
            P if waits_for_replicas => "pending replica deletion",
            P => "pending deletion",
            I => "pending import",
            N => "not pending deletion",
        };
        refused(Code::KMSInvalidStateException, format!("{arn} is {state}."))
    }

    fn fits(&self, fit: Fit) -> Result<(), (Code, String)> {
        let is_symmetric = self.kind.spec == SYMMETRIC.spec;
        let unsupported = Err((Code::UnsupportedOperationException, String::new()));
        match fit {
            Fit::DataKeys if !is_symmetric => {
                let message = "You cannot generate a data key with an asymmetric CMK";
                Err((Code::InvalidKeyUsageException, message.to_owned()))
            }
            Fit::Public if is_symmetric || self.kind == MAC => unsupported,
            Fit::Rotation | Fit::Schedule if !is_symmetric => unsupported,
            Fit::Rotation if self.kind.origin == "EXTERNAL" => {
                let message = format!(
                    "No available key material pending rotation for the key: {}.",
                    self.entry.arn
                );
                Err((Code::KMSInvalidStateException, message))
            }
            Fit::Proof(code) => Err((code, String::new())),
            _ => Ok(()),
        }
    }
}

const GRANT: GrantId = GrantId([7; 32]);

fn region_of(related: Related) -> &'static str {
    match related {
        Related::Not | Related::Primary => EAST,
        Related::Replica => WEST,
    }
}

impl Kind {
    fn cipher(self) -> &'static str {
        match (self.spec, self.usage) {
            ("RSA_2048", "ENCRYPT_DECRYPT") => "RSAES_OAEP_SHA_256",
            _ => "SYMMETRIC_DEFAULT",
        }
    }

    fn signs(self) -> &'static str {
        match self.spec {
            "RSA_2048" => "RSASSA_PKCS1_V1_5_SHA_256",
            "ECC_NIST_EDWARDS25519" => "ED25519_SHA_512",
            "ML_DSA_44" => "ML_DSA_SHAKE_256",
            _ => "ECDSA_SHA_256",
        }
    }
}

/// Every operation on this key: those that do not end as the table says.
async fn wrong_ends(key: &Stateful<'_>) -> Vec<String> {
    let mut wrong = Vec::new();
    for operation in Operation::ALL.iter().copied() {
        let Some(row) = row(operation) else {
            continue;
        };
        key.put_back().await;
        let region = region_of(key.related);
        let body = key.body(operation);
        let answer = key.bench.call_in(region, operation.name(), body).await;
        let (answer, expected) = (answer.map(drop), key.expected(operation, &row));
        if answer != expected {
            let (kind, related, state) = (key.kind, key.related, STATES[key.state]);
            let what = format!("{operation} of {kind:?}, {related:?}, {state}");
            wrong.push(format!("{what}: {answer:?}, not {expected:?}"));
        }
    }
    wrong
}

#[tokio::test]
async fn every_operation_ends_in_every_state_of_every_kind_of_key_as_the_table_says() {
    let bench = Bench::new().await;
    let peers = Peers::new(&bench, EAST).await;
    let mut wrong = Vec::new();
    for kind in KINDS {
        for state in Related::Not.states() {
            if *state == PENDING_IMPORT && kind.spec.starts_with("ML_") {
                continue; // There are none of origin `EXTERNAL`.
            }
            let key = Stateful::new(&bench, &peers, kind, *state).await;
            wrong.extend(wrong_ends(&key).await);
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn every_operation_ends_in_every_state_of_related_keys_as_the_table_says() {
    let bench = Bench::new().await;
    let mut wrong = Vec::new();
    for related in [Related::Primary, Related::Replica] {
        let peers = Peers::new(&bench, region_of(related)).await;
        for kind in MULTI_REGION_KINDS {
            for state in related.states() {
                if *state == PENDING_IMPORT && kind.spec != SYMMETRIC.spec {
                    continue; // These tests wrap the material of symmetric keys.
                }
                let key = Stateful::related(&bench, &peers, kind, related, *state).await;
                wrong.extend(wrong_ends(&key).await);
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn what_is_about_no_key_is_performed() {
    let bench = Bench::new().await;
    let without: Vec<_> = Operation::ALL
        .iter()
        .filter(|one| row(**one).is_none())
        .collect();
    for operation in without {
        let body = json!({"NumberOfBytes": 1, "RetiringPrincipal": root_of(ACCOUNT)});
        let answer = bench.call(operation.name(), body).await;
        // Those on one key store have tests of their own, in `key_stores`.
        if operation.name().ends_with("CustomKeyStore") {
            continue;
        }
        assert!(answer.is_ok(), "{operation}: {answer:?}");
    }
}

#[tokio::test]
async fn members_that_fit_no_key_are_told_after_usage_and_state() {
    let bench = Bench::new().await;
    let peers = Peers::new(&bench, EAST).await;
    for (kind, state, end) in [
        (SIGN, DISABLED, "is disabled."),
        (SIGN, PENDING_DELETION, "is pending deletion."),
        (SIGN, PENDING_IMPORT, "is pending import."),
        (MAC, DISABLED, "is disabled."),
        (MAC, PENDING_DELETION, "is pending deletion."),
        (MAC, PENDING_IMPORT, "is pending import."),
    ] {
        let key = Stateful::new(&bench, &peers, kind, state).await;
        let (name, body) = match kind {
            // Of other curves, and with a message type that no such key takes.
            SIGN => (
                "Sign",
                json!({"SigningAlgorithm": "ECDSA_SHA_384", "MessageType": "EXTERNAL_MU"}),
            ),
            _ => ("GenerateMac", json!({"MacAlgorithm": "HMAC_SHA_512"})),
        };
        let body = with(body, "Message", json!("AAEC"));
        let body = with(body, "KeyId", json!(key.entry.key.id.to_string()));
        let (_, message) = bench.call(name, body).await.unwrap_err();
        assert_eq!(message, format!("{} {end}", key.entry.arn));
    }
}
