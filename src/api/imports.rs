//! Keys of origin `EXTERNAL`: `GetParametersForImport`, `ImportKeyMaterial`,
//! `DeleteImportedKeyMaterial`, and expiry by the clock.
//!
//! The same material is imported again under the same name, which is derived from key and material;
//! other material becomes a further generation of a symmetric key, by `RotateKeyOnDemand`. A key
//! whose material has gone is `PendingImport` until all of it is back: blobs under it open again,
//! and nothing else would open them. A key that was disabled is disabled then too: the right to
//! import is not the right to enable. Material that expires goes within a minute of its date, at
//! the start if the date passed while the daemon did not run.

use crate::api::admission::Ask;
use crate::api::key_changes;
use crate::api::key_reference::KeyReference;
use crate::api::members::Members;
use crate::api::validation::{Pattern, Violations};
use crate::api::wire::{self, Blob, Object, Text};
use crate::api::{Answer, Api, ApiError, ErrorCode, Requester, unsupported};
use crate::clock::Timestamp;
use crate::crypto::pair::{PairSpec, PrivateKey};
use crate::crypto::stack;
use crate::crypto::wrapping::WrappingAlgorithm;
use crate::key::KmsKey;
use crate::key::material::KeyMaterialId;
use crate::key::regions::Region;
use crate::key::regions::RegionalId;
use crate::key::spec::KeySpec;
use crate::keystore::{Change, Due, ImportToken, KeyEntry, Snapshot};
use crate::operation::Action;
use crate::policy::ConditionKey;
use material::{Imported, NamedMaterial};
use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

pub(super) mod material;

/// How long an import token can be used.
const TOKEN_VALID: Duration = Duration::from_secs(24 * 60 * 60);
/// How far ahead material may expire.
const EXPIRY_MAX: Duration = Duration::from_secs(365 * 24 * 60 * 60);
/// Bytes of an import token, and of wrapped material (AWS KMS API reference).
const BLOB_BYTES_MAX: usize = 6144;
const DESCRIPTION_CHARACTERS_MAX: usize = 256;
const MATERIAL_ID_CHARACTERS: usize = 64;
/// Keys whose material expires in one change: other changes, and requests that start again after
/// each, have room between.
const EXPIRED_KEYS_AT_ONCE: usize = 256;

/// Known to the service model, and taken for no key.
const RSAES_PKCS1: &str = "RSAES_PKCS1_V1_5";
const ALGORITHMS: &str = "RSAES_PKCS1_V1_5, RSAES_OAEP_SHA_1, RSAES_OAEP_SHA_256, RSA_AES_KEY_WRAP_SHA_1, RSA_AES_KEY_WRAP_SHA_256, SM2PKE";
const SPECS: &str = "RSA_2048, RSA_3072, RSA_4096, SM2";
const EXPIRES: &str = "KEY_MATERIAL_EXPIRES";

/// `KeyMaterialId`
const MATERIAL_ID: Pattern = Pattern {
    text: "^[a-f0-9]+$",
    matches: |text| {
        let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        !text.is_empty() && text.bytes().all(hex)
    },
};

/// `KeyMaterialDescription`
const DESCRIPTION: Pattern = Pattern {
    text: r"^[a-zA-Z0-9:/_\s.-]+$",
    matches: |text| {
        let allowed = |one: char| {
            one.is_ascii_alphanumeric() || one.is_ascii_whitespace() || ":/_.-".contains(one)
        };
        !text.is_empty() && text.chars().all(allowed)
    },
};

wire::input! {
    struct ParametersInput<'a> {
        key_id: Text<'a>,
        wrapping_algorithm: Text<'a>,
        wrapping_key_spec: Text<'a>,
    }
}

/// `GetParametersForImport`
pub(super) async fn parameters(api: Arc<Api>, requester: Requester, body: Vec<u8>) -> Answer {
    let input: ParametersInput<'_> = wire::decode(&body)?;
    let mut violations = Violations::default();
    let key = violations.key_id("keyId", &input.key_id);
    let algorithm = violations.required_one_of(
        "wrappingAlgorithm",
        input.wrapping_algorithm.as_deref(),
        ALGORITHMS,
    );
    let spec =
        violations.required_one_of("wrappingKeySpec", input.wrapping_key_spec.as_deref(), SPECS);
    let (key, algorithm, spec) = violations.check((key, algorithm, spec))?;
    let named = [
        (ConditionKey::WrappingAlgorithm, algorithm),
        (ConditionKey::WrappingKeySpec, spec),
    ];
    let ask = Ask::on(Action::GetParametersForImport, &key).members(Members::Texts(&named));
    let allowed = || {
        api.read(&requester, |attempt| {
            let admitted = attempt.admit(ask, |_| Ok(()))?;
            Ok(Arc::clone(admitted.entry()))
        })
    };
    api.keystore.refresh().await?;
    let entry = allowed()?;
    let (algorithm, spec) = wrapping(
        api.keystore.regions().home(),
        entry.key.spec,
        algorithm,
        spec,
    )?;
    let entropy = Arc::clone(&api.entropy);
    let generate = move || {
        entropy
            .probe()
            .map(|probed| PrivateKey::generate(spec, probed))
    };
    let wrapping_key = api.in_turn(generate).await??;
    // It may have taken seconds.
    let entry = allowed()?;
    let token = ImportToken {
        key: entry.key.id,
        valid_to: api.clock.now().after(TOKEN_VALID),
        algorithm,
        wrapping_key: wrapping_key.map_err(ApiError::internal)?,
    };
    let region = api.keystore.regions().written(entry.key.region, "");
    let tokens = api.keystore.import_tokens();
    let sealed = tokens.issue(&token, &region, &api.entropy)?;
    let mut object = Object::new();
    object.plain("KeyId", &entry.arn);
    object.base64("ImportToken", &sealed);
    object.base64("PublicKey", token.wrapping_key.public_der());
    object.time("ParametersValidTo", token.valid_to);
    Ok(object.end().about(&entry))
}

/// The wrapping algorithm and the spec of its key, if they are built and AWS KMS takes material of
/// this spec by them in this Region.
fn wrapping(
    region: &Region,
    material: KeySpec,
    algorithm: &str,
    spec: &str,
) -> Result<(WrappingAlgorithm, PairSpec), ApiError> {
    let refused = || {
        let message = format!(
            "Wrapping algorithm {algorithm} and wrapping key spec {spec} cannot be used to import a {material} key."
        );
        invalid(message)
    };
    if algorithm == RSAES_PKCS1 {
        return Err(refused());
    }
    let known = algorithm.parse().ok();
    let known = known
        .filter(|known| *known != WrappingAlgorithm::Sm2Pke || region.is_in_china())
        .ok_or_else(|| unsupported(&format!("WrappingAlgorithm {algorithm}")))?;
    let pair = spec.parse().ok();
    let pair = pair
        .filter(|pair| KeySpec::Pair(*pair).is_offered_in(region))
        .ok_or_else(|| unsupported(&format!("WrappingKeySpec {spec}")))?;
    if (known == WrappingAlgorithm::Sm2Pke) != (pair == PairSpec::Sm2) {
        return Err(refused());
    }
    let is_taken = match (material, known) {
        (_, WrappingAlgorithm::AesKeyWrap(_)) if region.is_in_china() => false,
        // A private key of RSA is longer than SM2 encrypts.
        (KeySpec::Pair(of), WrappingAlgorithm::Sm2Pke) => {
            of.is_importable() && of.modulus_bytes().is_none()
        }
        (KeySpec::Symmetric, WrappingAlgorithm::AesKeyWrap(_)) => false,
        (KeySpec::Pair(of), WrappingAlgorithm::Oaep(_)) => match of {
            // Too long for the block of RSA.
            PairSpec::Rsa2048 | PairSpec::Rsa3072 | PairSpec::Rsa4096 => false,
            PairSpec::EccNistP521 | PairSpec::EccNistEdwards25519 => pair != PairSpec::Rsa2048,
            PairSpec::EccNistP256
            | PairSpec::EccNistP384
            | PairSpec::EccSecgP256K1
            | PairSpec::Sm2 => true,
            // There are no such keys of origin `EXTERNAL`.
            PairSpec::MlKem512 | PairSpec::MlKem768 | PairSpec::MlKem1024 => false,
            PairSpec::MlDsa44 | PairSpec::MlDsa65 | PairSpec::MlDsa87 => false,
        },
        (KeySpec::Mac(_), _) | (KeySpec::Symmetric, _) | (KeySpec::Pair(_), _) => true,
    };
    is_taken.then_some((known, pair)).ok_or_else(refused)
}

fn invalid(message: impl Into<Cow<'static, str>>) -> ApiError {
    ApiError::new(ErrorCode::ValidationException, message)
}

wire::input! {
    struct ImportInput<'a> {
        key_id: Text<'a>,
        import_token: Option<Blob>,
        encrypted_key_material: Option<Blob>,
        valid_to: Option<f64>,
        expiration_model: Text<'a>,
        import_type: Text<'a>,
        key_material_description: Text<'a>,
        key_material_id: Text<'a>,
    }
}

/// The members of an `ImportKeyMaterial` that are needed, checked.
struct Checked<'a> {
    key: KeyReference<'a>,
    token: &'a [u8],
    wrapped: &'a [u8],
}

impl ImportInput<'_> {
    fn check(&self) -> Result<Checked<'_>, ApiError> {
        let mut violations = Violations::default();
        let key = violations.key_id("keyId", &self.key_id);
        let token = violations.blob("importToken", self.import_token.as_ref(), BLOB_BYTES_MAX);
        let wrapped = violations.blob(
            "encryptedKeyMaterial",
            self.encrypted_key_material.as_ref(),
            BLOB_BYTES_MAX,
        );
        let set = "KEY_MATERIAL_EXPIRES, KEY_MATERIAL_DOES_NOT_EXPIRE";
        violations.one_of("expirationModel", self.expiration_model.as_deref(), set);
        let set = "NEW_KEY_MATERIAL, EXISTING_KEY_MATERIAL";
        violations.one_of("importType", self.import_type.as_deref(), set);
        if let Some(description) = self.key_material_description.as_deref() {
            let max = DESCRIPTION_CHARACTERS_MAX;
            let member = "keyMaterialDescription";
            violations.text(member, description, 0, max, Some(&DESCRIPTION));
        }
        check_material_id(self.key_material_id.as_deref(), &mut violations);
        violations.check(Checked {
            key,
            token,
            wrapped,
        })
    }

    fn is_new(&self) -> Option<bool> {
        let kind = self.import_type.as_deref();
        kind.map(|kind| kind == "NEW_KEY_MATERIAL")
    }

    fn model(&self) -> &str {
        self.expiration_model.as_deref().unwrap_or(EXPIRES)
    }

    /// When the material expires.
    fn valid_to(&self, now: Timestamp) -> Result<Option<Timestamp>, ApiError> {
        let seconds = match (self.model() == EXPIRES, self.valid_to) {
            (false, None) => return Ok(None),
            (false, Some(_)) => {
                return Err(invalid(
                    "A validTo date cannot be set if the ExpirationModel is KEY_MATERIAL_DOES_NOT_EXPIRE",
                ));
            }
            (true, None) => {
                return Err(invalid(
                    "A validTo date must be set if the ExpirationModel is KEY_MATERIAL_EXPIRES",
                ));
            }
            (true, Some(seconds)) => seconds,
        };
        let date = timestamp(seconds);
        if seconds <= 0.0 || date.is_some_and(|date| date <= now) {
            return Err(invalid("ValidTo must be in the future"));
        }
        let soon = date.filter(|date| *date <= now.after(EXPIRY_MAX));
        let soon =
            soon.ok_or_else(|| invalid("ValidTo must be less than 365 days in the future"))?;
        Ok(Some(soon))
    }

    /// Refuses members that do not go with the key, or with each other.
    fn check_together(&self, key: &KmsKey) -> Result<(), ApiError> {
        let spec = key.spec;
        let of_generations = [
            ("importType", self.import_type.is_some()),
            ("keyMaterialId", self.key_material_id.is_some()),
            (
                "keyMaterialDescription",
                self.key_material_description.is_some(),
            ),
        ];
        let given = of_generations.into_iter().find(|(_, is_given)| *is_given);
        if let Some((member, _)) = given.filter(|_| spec != KeySpec::Symmetric) {
            return Err(invalid(format!(
                "Input parameter {member} cannot be used with {spec} imported keys."
            )));
        }
        if key.is_replica() && self.key_material_description.is_some() {
            return Err(invalid(
                "Key material description can only be specified on primary Multi-Region keys",
            ));
        }
        if key.is_replica() && self.is_new() == Some(true) {
            return Err(invalid(
                "Input parameter ImportType NEW_KEY_MATERIAL cannot be used on replica Multi-Region keys",
            ));
        }
        if self.key_material_id.is_some() && self.is_new() == Some(true) {
            return Err(invalid(
                "Input parameter keyMaterialId cannot be used with NEW_KEY_MATERIAL importType.",
            ));
        }
        Ok(())
    }
}

/// Seconds since the epoch, with a fraction; `None` for a number that is not such a time.
fn timestamp(seconds: f64) -> Option<Timestamp> {
    // The year 9999: beyond it a date is a slip of the pen.
    const SECONDS_MAX: f64 = 253_402_300_800.0;
    if !(0.0..SECONDS_MAX).contains(&seconds) {
        return None;
    }
    let duration = Duration::try_from_secs_f64(seconds).ok()?;
    Some(Timestamp(0).after(duration))
}

fn check_material_id(id: Option<&str>, violations: &mut Violations) {
    if let Some(id) = id {
        let (member, length) = ("keyMaterialId", MATERIAL_ID_CHARACTERS);
        violations.text(member, id, length, length, Some(&MATERIAL_ID));
    }
}

/// `ImportKeyMaterial`
pub(super) async fn import(api: Arc<Api>, requester: Requester, body: Vec<u8>) -> Answer {
    let input: ImportInput<'_> = wire::decode(&body)?;
    let checked = input.check()?;
    let now = api.clock.now();
    let members = Members::Import(input.model(), input.valid_to.and_then(timestamp));
    let ask = Ask::on(Action::ImportKeyMaterial, &checked.key).members(members);
    let prepare = |entry: &Arc<KeyEntry>| {
        input.valid_to(now)?;
        input.check_together(&entry.key)
    };
    // Admitted before anything is unwrapped, and again by the writer, on the store as it is then.
    api.keystore.refresh().await?;
    let (id, spec) = api.read(&requester, |attempt| {
        let admitted = attempt.admit(ask, prepare)?;
        let key = &admitted.entry().key;
        Ok((key.regional_id(), key.spec))
    })?;
    let imported = Imported {
        material: unwrapped(&api, id, spec, &checked, now).await?,
        is_new: input.is_new(),
        named: input
            .key_material_id
            .as_deref()
            .and_then(KeyMaterialId::parse),
        valid_to: input.valid_to(now)?,
        description: input.key_material_description.as_deref().map(str::to_owned),
    };
    api.change(&requester, Some(id.id), |attempt| {
        let admitted = attempt.admit(ask, prepare)?;
        let entry = admitted.entry();
        let (draft, material) = material::imported(entry, &imported, attempt.now)?;
        Ok((vec![Change::PutKey(draft)], reply(entry, Some(material))))
    })
    .await
}

/// The material, if the token is one of this key and still valid.
async fn unwrapped(
    api: &Arc<Api>,
    key: RegionalId,
    spec: KeySpec,
    checked: &Checked<'_>,
    now: Timestamp,
) -> Result<NamedMaterial, ApiError> {
    let (token, wrapped) = (checked.token.to_vec(), checked.wrapped.to_vec());
    let reader = Arc::clone(api);
    let region = api.keystore.regions().written(key.region, "");
    let unwrap = move || {
        let token = reader
            .keystore
            .import_tokens()
            .read(&token, &region)
            .filter(|token| token.key == key.id)
            .ok_or_else(|| ApiError::bare(ErrorCode::InvalidImportTokenException))?;
        if token.valid_to <= now {
            return Err(ApiError::bare(ErrorCode::ExpiredImportTokenException));
        }
        let probed = reader.entropy.probe()?;
        let bytes = token
            .algorithm
            .unwrap(&token.wrapping_key, &wrapped, probed)
            .map_err(|_| ApiError::bare(ErrorCode::InvalidCiphertextException))?;
        let cipher = reader.keystore.regions().home().cipher();
        NamedMaterial::read(key.id, spec, cipher, bytes.expose())
    };
    api.in_turn(|| stack::wiped(unwrap)).await?
}

fn reply(entry: &Arc<KeyEntry>, material: Option<KeyMaterialId>) -> crate::api::Reply {
    let mut object = Object::new();
    object.plain("KeyId", &entry.arn);
    if entry.key.spec == KeySpec::Symmetric
        && let Some(id) = material
    {
        object.material_id("KeyMaterialId", id);
    }
    object.end().about(entry)
}

wire::input! {
    struct DeleteInput<'a> {
        key_id: Text<'a>,
        key_material_id: Text<'a>,
    }
}

/// `DeleteImportedKeyMaterial`
pub(super) async fn delete(api: Arc<Api>, requester: Requester, body: Vec<u8>) -> Answer {
    let input: DeleteInput<'_> = wire::decode(&body)?;
    let mut violations = Violations::default();
    let key = violations.key_id("keyId", &input.key_id);
    check_material_id(input.key_material_id.as_deref(), &mut violations);
    let key = violations.check(key)?;
    let ask = Ask::on(Action::DeleteImportedKeyMaterial, &key);
    let named = input.key_material_id.as_deref();
    api.change_key(&requester, |attempt| {
        let admitted = attempt.admit(ask, |_| Ok(()))?;
        let entry = admitted.entry();
        let import = match named {
            None => entry.key.current_import(),
            Some(text) => {
                let id = KeyMaterialId::parse(text);
                let mut imports = entry.key.imports.iter();
                let found = imports.find(|import| Some(import.id) == id);
                Some(found.ok_or_else(|| {
                    invalid(format!(
                        "Key material (id: {text}) has never been imported into KMS key {}.",
                        entry.arn
                    ))
                })?)
            }
        };
        let reply = reply(entry, import.map(|import| import.id));
        // Deleting it again succeeds and changes nothing. What expired while it waited for its
        // rotation is still there to be given up.
        let Some(import) = import.filter(|import| import.present || import.pending) else {
            return Ok((entry.key.id, Vec::new(), reply));
        };
        let draft = material::deleted(entry, import.id);
        Ok((entry.key.id, vec![Change::PutKey(draft)], reply))
    })
    .await
}

impl Api {
    /// Drops imported material whose date has come by `now`, and returns of how many keys.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn drop_expired_material(&self, now: Timestamp) -> Result<usize, ApiError> {
        let some = || self.drop_some_expired_material(now);
        key_changes::in_turns(EXPIRED_KEYS_AT_ONCE, some).await
    }

    async fn drop_some_expired_material(&self, now: Timestamp) -> Result<usize, ApiError> {
        let expired = |snapshot: &Snapshot| -> Vec<Arc<KeyEntry>> {
            let keys = snapshot.due(Due::Expiry, now);
            keys.take(EXPIRED_KEYS_AT_ONCE).cloned().collect()
        };
        if expired(&self.keystore.snapshot()).is_empty() {
            return Ok(0);
        }
        self.check_recordable()?;
        let decide = |snapshot: &Snapshot| {
            let keys = expired(snapshot);
            let changes = keys
                .iter()
                .map(|entry| Change::PutKey(material::expired(entry, now)));
            Ok::<_, ApiError>((changes.collect(), keys))
        };
        let dropped = self.keystore.apply(decide).await?;
        self.did_when_due("DeleteExpiredKeyMaterial", &dropped);
        Ok(dropped.len())
    }
}
