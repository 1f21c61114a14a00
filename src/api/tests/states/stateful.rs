//! A key in one of its states: what requests about it are made of, and how each must end.

use super::table::*;
use super::*;
use crate::keystore::KeyEntry;
use crate::policy::grant::{Draft, GrantId, Named};
use crate::policy::{Grant, GrantParameters};

/// A key in a state, with what some operations need of it from before.
pub(super) struct Stateful<'a> {
    pub(super) bench: &'a Bench,
    pub(super) kind: Kind,
    pub(super) related: Related,
    pub(super) state: usize,
    pub(super) entry: Arc<KeyEntry>,
    /// What the store has of it, and of the keys that are related to it.
    family: Vec<Arc<KeyEntry>>,
    /// A ciphertext of the key, or of another one if the key makes none.
    blob: Value,
    peers: &'a Peers,
}

/// Other keys that requests need.
pub(super) struct Peers {
    symmetric: String,
    blob: Value,
    public: Value,
}

impl Peers {
    /// In this Region.
    pub(super) async fn new(bench: &Bench, region: &str) -> Self {
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
    pub(super) async fn new(bench: &'a Bench, peers: &'a Peers, kind: Kind, state: usize) -> Self {
        Self::related(bench, peers, kind, Related::Not, state).await
    }

    pub(super) async fn related(
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
        let kind = Kind { origin, ..kind };
        Self::of(bench, peers, &id, (kind, related, state), blob).await
    }

    /// A key in this custom key store, which is connected, and is not any more if the state is
    /// `Unavailable`.
    pub(super) async fn in_key_store(
        scene: &'a Scene,
        peers: &'a Peers,
        store: &str,
        state: usize,
    ) -> Self {
        let bench = &scene.bench;
        let created = new_key(store, STATES[state]);
        let created = bench.done("CreateKey", created).await;
        let id = created["KeyMetadata"]["KeyId"].as_str().unwrap();
        let body = json!({"KeyId": id, "Plaintext": "AAEC"});
        let blob = bench.done("Encrypt", body).await["CiphertextBlob"].take();
        match state {
            DISABLED => bench.done_to("DisableKey", id).await,
            PENDING_DELETION => bench.done_to("ScheduleKeyDeletion", id).await,
            UNAVAILABLE => {
                let named = json!({"CustomKeyStoreId": store});
                bench.done("DisconnectCustomKeyStore", named).await
            }
            _ => Value::Null,
        };
        let what = (IN_KEY_STORE, Related::Not, state);
        Self::of(bench, peers, id, what, blob).await
    }

    /// A key as it is now.
    async fn of(
        bench: &'a Bench,
        peers: &'a Peers,
        id: &str,
        (kind, related, state): (Kind, Related, usize),
        blob: Value,
    ) -> Self {
        let region = region_of(related);
        let described = bench.done_in(region, "DescribeKey", json!({"KeyId": id}));
        assert_eq!(described.await["KeyMetadata"]["KeyState"], STATES[state]);
        let snapshot = bench.api.keystore.snapshot();
        let regional = bench.api.keystore.regions().named(region).unwrap();
        let family = snapshot.related(id.parse().unwrap()).cloned().collect();
        Self {
            bench,
            kind,
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
    pub(super) async fn put_back(&self) {
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
    pub(super) fn body(&self, operation: Operation) -> Value {
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
    pub(super) fn expected(&self, operation: Operation, row: &Row) -> Result<(), (Code, String)> {
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
            U => return refused(Code::KMSInvalidStateException, NOT_CONNECTED.to_owned()),
            N => "not pending deletion",
        };
        refused(Code::KMSInvalidStateException, format!("{arn} is {state}."))
    }

    fn fits(&self, fit: Fit) -> Result<(), (Code, String)> {
        let is_symmetric = self.kind.spec == SYMMETRIC.spec;
        let unsupported = Err((Code::UnsupportedOperationException, String::new()));
        match fit {
            Fit::DataKeys | Fit::DataKeyPairs if !is_symmetric => {
                let message = "You cannot generate a data key with an asymmetric CMK";
                Err((Code::InvalidKeyUsageException, message.to_owned()))
            }
            Fit::DataKeyPairs if self.kind == IN_KEY_STORE => {
                let message = format!(
                    "{} is in a custom key store, which is not valid for this operation.",
                    self.entry.arn
                );
                Err((Code::UnsupportedOperationException, message))
            }
            Fit::Public if is_symmetric || self.kind == MAC => unsupported,
            Fit::Rotation | Fit::Schedule if !is_symmetric => unsupported,
            Fit::Rotation if self.kind == IN_KEY_STORE => {
                let message = format!(
                    "{} origin is EXTERNAL_KEY_STORE which is not valid for this operation.",
                    self.entry.arn
                );
                Err((Code::UnsupportedOperationException, message))
            }
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

pub(super) fn region_of(related: Related) -> &'static str {
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
