//! Data keys, one a call: `GenerateDataKeyWithoutPlaintext` and `GenerateDataKey`.
//!
//! Without plaintext, the data key exists nowhere: a pooled key, or one minted on the spot, is
//! bound to the request's context (SEAL-4). With plaintext, what was minted is opened for the
//! caller.

use crate::api::resolve::OnKey;
use crate::api::usability::{data_key_material, material};
use crate::api::validation::{ASCII, KEY_ID_CHARACTERS_MAX, Violations};
use crate::api::wire::{self, ContextMember, Object, Text};
use crate::api::{Api, ApiError, KmsErrorCode, Origin, Reply, Requester, dry_run, unsupported};
use crate::context::EncryptionContext;
use crate::envelope::{self, CiphertextBlob};
use crate::key::data_key::{DataKeyLength, PlaintextDataKey};
use crate::operation::Action;
use crate::policy::Authorized;
use crate::rates::Paid;
use serde::Deserialize;
use serde::de::IgnoredAny;
use std::borrow::Cow;
use std::cell::RefCell;

/// The members that say what data key is asked for.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Input<'a> {
    #[serde(borrow)]
    key_id: Text<'a>,
    #[serde(borrow)]
    key_spec: Text<'a>,
    number_of_bytes: Option<i64>,
    encryption_context: Option<ContextMember>,
    #[serde(borrow)]
    grant_tokens: Option<Vec<Cow<'a, str>>>,
    dry_run: Option<bool>,
    recipient: Option<IgnoredAny>,
}

/// The endpoint lists the specs of KMS keys where those of data keys would be right.
const KEY_SPECS: &str = "RSA_2048, RSA_3072, RSA_4096, ECC_NIST_P256, ECC_NIST_P384, ECC_NIST_P521, ECC_SECG_P256K1, ECC_NIST_EDWARDS25519, \
     SYMMETRIC_DEFAULT, HMAC_224, HMAC_256, HMAC_384, HMAC_512, SM2, ML_DSA_44, ML_DSA_65, ML_DSA_87";

/// The response without a plaintext, but for its values.
const WITHOUT_PLAINTEXT: &str = r#"{"CiphertextBlob":"","KeyId":"","KeyMaterialId":""}"#;
const MATERIAL_ID_DIGITS: usize = 64;

/// What a request asks for, once its members are valid.
pub(crate) struct Asked {
    /// Absent or given twice: told only after the key was found.
    length: Option<DataKeyLength>,
}

impl Asked {
    /// Checks the two members that give a length; exactly one of them must be there.
    pub(crate) fn check(
        key_spec: Option<&str>,
        number_of_bytes: Option<i64>,
        violations: &mut Violations,
    ) -> Self {
        let spec = match key_spec {
            None => None,
            Some("AES_256") => Some(DataKeyLength::AES_256),
            Some("AES_128") => Some(DataKeyLength::AES_128),
            Some(other) => {
                let must = format_args!("Member must satisfy enum value set: [{KEY_SPECS}]");
                violations.value("keySpec", other, must);
                None
            }
        };
        let number = number_of_bytes.and_then(|number| {
            violations.number("numberOfBytes", number, 1, DataKeyLength::BYTES_MAX as i64);
            usize::try_from(number)
                .ok()
                .and_then(|bytes| DataKeyLength::new(bytes).ok())
        });
        let length = match (spec, number) {
            (Some(length), None) | (None, Some(length)) => Some(length),
            _ => None,
        };
        Self { length }
    }

    pub(crate) fn length(&self) -> Result<DataKeyLength, ApiError> {
        self.length.ok_or_else(|| {
            ApiError::new(
                KmsErrorCode::ValidationException,
                "Please specify either number of bytes or key spec.",
            )
        })
    }
}

/// `GenerateDataKeyWithoutPlaintext`
pub(crate) fn without_plaintext(
    api: &Api,
    requester: &Requester,
    body: &[u8],
) -> Result<Reply, ApiError> {
    generate(api, requester, body, Variant::WithoutPlaintext)
}

/// `GenerateDataKey`
pub(crate) fn with_plaintext(
    api: &Api,
    requester: &Requester,
    body: &[u8],
) -> Result<Reply, ApiError> {
    generate(api, requester, body, Variant::WithPlaintext)
}

thread_local! {
    /// The blob of the request that this thread is at, so that its memory is allocated once.
    static BLOB: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Variant {
    WithoutPlaintext,
    WithPlaintext,
}

fn generate(
    api: &Api,
    requester: &Requester,
    body: &[u8],
    variant: Variant,
) -> Result<Reply, ApiError> {
    let input: Input<'_> = wire::decode(body)?;
    let mut violations = Violations::default();
    let key_id = input.key_id.as_deref();
    violations.required_text("keyId", key_id, KEY_ID_CHARACTERS_MAX, Some(&ASCII));
    let asked = Asked::check(
        input.key_spec.as_deref(),
        input.number_of_bytes,
        &mut violations,
    );
    violations.grant_tokens(input.grant_tokens.as_deref());
    violations.check()?;
    let context = wire::context(input.encryption_context)?;
    let (action, counters) = match variant {
        Variant::WithoutPlaintext => (
            Action::GenerateDataKeyWithoutPlaintext,
            &api.counters.without_plaintext,
        ),
        // With a recipient the plaintext may leave only under the recipient's key, which is not
        // built: never ignored.
        Variant::WithPlaintext if input.recipient.is_some() => {
            return Err(unsupported("Recipient"));
        }
        Variant::WithPlaintext => (Action::GenerateDataKey, &api.counters.with_plaintext),
    };
    let mut paid = Paid::default();
    api.under_last_check(requester, |under| {
        let caller = under.caller(action).under(&context);
        let request = caller.key(key_id.unwrap_or_default(), under.snapshot)?;
        let entry = request.request().entry();
        api.check_grant_tokens(under, &[entry], input.grant_tokens.as_deref())?;
        let length = asked.length()?;
        data_key_material(entry, caller.action.bare_name())?;
        api.charge(under, Some(entry.key.id), &mut paid)?;
        dry_run(input.dry_run)?;
        BLOB.with_borrow_mut(|blob| {
            blob.clear();
            let origin = take_and_bind(api, &request, length, &context, under.clone_word, blob)?;
            let reply = match variant {
                Variant::WithoutPlaintext => encode(&request, blob, None).public(),
                Variant::WithPlaintext => {
                    let plaintext = open(&request, &context, blob)?;
                    encode(&request, blob, Some(plaintext.expose()))
                }
            };
            Ok((reply, (length, origin)))
        })
    })
    .map(|(reply, (length, origin))| {
        counters.count(length, origin);
        reply
    })
}

/// Takes a pooled key, or mints one at once, and binds it; appends its blob.
fn take_and_bind(
    api: &Api,
    request: &Authorized<OnKey<'_>>,
    length: DataKeyLength,
    context: &EncryptionContext,
    clone_word: u64,
    blob: &mut Vec<u8>,
) -> Result<Origin, ApiError> {
    let entry = request.request().entry();
    let pooled = api.pool.take(entry, length, clone_word);
    let (key, origin) = match pooled {
        Some(key) => (key, Origin::Hit),
        None => {
            let key = envelope::mint_one(entry.key.id, material(entry)?, length, &api.entropy)?;
            let has_lane = api.pool.has_lanes_of(length);
            (
                key,
                if has_lane {
                    Origin::Miss
                } else {
                    Origin::Direct
                },
            )
        }
    };
    key.bind(context, blob);
    Ok(origin)
}

fn open(
    request: &Authorized<OnKey<'_>>,
    context: &EncryptionContext,
    blob: &[u8],
) -> Result<PlaintextDataKey, ApiError> {
    let entry = request.request().entry();
    let blob = CiphertextBlob::parse(blob).map_err(ApiError::internal)?;
    envelope::open(entry.key.id, material(entry)?, context, &blob).map_err(ApiError::internal)
}

fn encode(request: &Authorized<OnKey<'_>>, blob: &[u8], plaintext: Option<&[u8]>) -> Reply {
    let entry = request.request().entry();
    let material = entry.current();
    let mut object = match plaintext {
        // To the byte: what is filled becomes the response's body as it is.
        None => Object::with_room(
            WITHOUT_PLAINTEXT.len()
                + wire::base64_bytes(blob)
                + entry.arn.len()
                + MATERIAL_ID_DIGITS,
        ),
        Some(_) => Object::new(),
    };
    object.base64("CiphertextBlob", blob);
    if let Some(plaintext) = plaintext {
        object.base64("Plaintext", plaintext);
    }
    object.plain("KeyId", &entry.arn);
    if let Some(material) = material {
        object.material_id("KeyMaterialId", material.id());
    }
    object.end().about(entry).with(material)
}
