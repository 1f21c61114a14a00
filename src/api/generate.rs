//! Data keys, one a call: `GenerateDataKeyWithoutPlaintext` and `GenerateDataKey`.
//!
//! Without plaintext, the data key exists nowhere: a pooled key, or one minted on the spot, is
//! bound to the request's context (SEAL-4). With plaintext, the minted blob is opened for the
//! caller.

use crate::api::admission::Ask;
use crate::api::attempt::Attempt;
use crate::api::handler::{Thread, Weighed};
use crate::api::key_reference::KeyReference;
use crate::api::members::Members;
use crate::api::proxied::Proxied;
use crate::api::recipient::{Receiver, Recipient};
use crate::api::usability::material;
use crate::api::validation::Violations;
use crate::api::wire::{self, ContextMember, Object, Text};
use crate::api::{Answer, Api, ApiError, ErrorCode, Origin, Reply, Requester};
use crate::context::EncryptionContext;
use crate::envelope::PooledKey;
use crate::envelope::external::InnerText;
use crate::envelope::{self, CiphertextBlob};
use crate::key::data_key::{DataKeyLength, PlaintextDataKey};
use crate::key::material::BackingKey;
use crate::keystore::KeyEntry;
use crate::operation::Action;
use crate::rates::Paid;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::cell::RefCell;
use std::sync::Arc;

wire::input! {
    /// The members that say what data key is asked for.
    struct Input<'a> {
        key_id: Text<'a>,
        key_spec: Text<'a>,
        number_of_bytes: Option<i64>,
        encryption_context: ContextMember,
        grant_tokens: Option<Vec<Cow<'a, str>>>,
        dry_run: Option<bool>,
        recipient: Option<&'a RawValue>,
    }
}

/// The endpoint lists the specs of KMS keys where those of data keys would be right.
const KEY_SPECS: &str = "RSA_2048, RSA_3072, RSA_4096, ECC_NIST_P256, ECC_NIST_P384, ECC_NIST_P521, ECC_SECG_P256K1, ECC_NIST_EDWARDS25519, \
     SYMMETRIC_DEFAULT, HMAC_224, HMAC_256, HMAC_384, HMAC_512, SM2, ML_DSA_44, ML_DSA_65, ML_DSA_87, \
     ML_KEM_512, ML_KEM_768, ML_KEM_1024";

/// The response without a plaintext, but for its values.
const WITHOUT_PLAINTEXT: &str = r#"{"CiphertextBlob":"","KeyId":"","KeyMaterialId":""}"#;
const MATERIAL_ID_DIGITS: usize = 64;

/// Checks the two members that give a data key's length. Exactly one of them must be there:
/// [`no_length`] refuses the request otherwise, after the key was found.
pub(crate) fn check_length(
    key_spec: Option<&str>,
    number_of_bytes: Option<i64>,
    violations: &mut Violations,
) -> Option<DataKeyLength> {
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
    let max = DataKeyLength::BYTES_MAX as i64;
    let number = violations
        .number::<usize>("numberOfBytes", number_of_bytes, 1, max)
        .and_then(|bytes| DataKeyLength::new(bytes).ok());
    match (spec, number) {
        (Some(length), None) | (None, Some(length)) => Some(length),
        _ => None,
    }
}

/// The refusal of a request that gives no length, or two.
pub(crate) fn no_length() -> ApiError {
    ApiError::new(
        ErrorCode::ValidationException,
        "Please specify either number of bytes or key spec.",
    )
}

/// `GenerateDataKeyWithoutPlaintext`
pub(super) fn without_plaintext(
    api: &Api,
    requester: &Requester,
    body: &[u8],
    _thread: Thread,
    proxied: &Proxied,
) -> Weighed {
    let input: Input<'_> = wire::decode(body)?;
    let checked = check(&input, Violations::default())?;
    make(api, requester, &checked, None, proxied).map(Some)
}

/// `GenerateDataKey`
pub(super) fn with_plaintext(
    api: &Api,
    requester: &Requester,
    body: &[u8],
    thread: Thread,
    proxied: &Proxied,
) -> Weighed {
    let input: Input<'_> = wire::decode(body)?;
    let recipient = Recipient::read(api, input.recipient)?;
    let mut violations = Violations::default();
    recipient.check(&mut violations);
    let checked = check(&input, violations)?;
    match recipient.receiver(api, requester, thread)? {
        Some(receiver) => make(api, requester, &checked, Some(&receiver), proxied).map(Some),
        None => Ok(None),
    }
}

thread_local! {
    /// The blob of the request that this thread is at, so that its memory is allocated once.
    static BLOB: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// What a request asks for, its members checked.
struct Checked<'a> {
    key: KeyReference<'a>,
    /// `None` for a request that gives no length, or two.
    length: Option<DataKeyLength>,
    context: &'a EncryptionContext,
    grant_tokens: &'a [Cow<'a, str>],
    dry_run: bool,
}

fn check<'a>(input: &'a Input<'_>, mut violations: Violations) -> Result<Checked<'a>, ApiError> {
    let key = violations.key_id("keyId", &input.key_id);
    let spec = input.key_spec.as_deref();
    let length = check_length(spec, input.number_of_bytes, &mut violations);
    let grant_tokens = violations.grant_tokens(&input.grant_tokens);
    let (key, grant_tokens) = violations.check((key, grant_tokens))?;
    Ok(Checked {
        key,
        length,
        context: input.encryption_context.sound()?,
        grant_tokens,
        dry_run: input.dry_run == Some(true),
    })
}

/// Makes a data key. Without a receiver its plaintext exists nowhere.
fn make(
    api: &Api,
    requester: &Requester,
    checked: &Checked<'_>,
    receiver: Option<&Receiver>,
    proxied: &Proxied,
) -> Answer {
    let (action, counters) = match receiver {
        None => (
            Action::GenerateDataKeyWithoutPlaintext,
            &api.counters.without_plaintext,
        ),
        Some(_) => (Action::GenerateDataKey, &api.counters.with_plaintext),
    };
    let (length, context) = (checked.length, checked.context);
    let ask = Ask::on(action, &checked.key)
        .context(context)
        .members(receiver.map_or(Members::None, |receiver| receiver.members(&[])))
        .grant_tokens(checked.grant_tokens)
        .dry_run(checked.dry_run)
        .conflict(length.is_none().then_some(no_length));
    let paid = proxied.paid(receiver.map_or_else(Paid::default, Receiver::paid));
    let made = api.under_last_check_of(requester, paid, |attempt| {
        let admitted = attempt.admit(ask, |entry| {
            let length = length.ok_or_else(no_length)?;
            // Of a key in an external key store, its proxy makes the blob.
            let own = entry.inner().is_none().then(|| material(entry));
            Ok((length, own.transpose()?))
        })?;
        let (entry, (length, material)) = (admitted.entry(), admitted.prepared);
        let Some(material) = material else {
            let reply = make_there(attempt, proxied, entry, length, context, receiver)?;
            return Ok((admitted.answer(reply)?, (length, Origin::Direct)));
        };
        BLOB.with_borrow_mut(|blob| {
            blob.clear();
            let (key, origin) = take(attempt, entry, material, length)?;
            key.bind(context, blob);
            let reply = match receiver {
                None => encode(entry, blob),
                Some(receiver) => {
                    let plaintext = open(entry, material, context, blob)?;
                    encode_for(receiver, api, entry, blob, &plaintext)?
                }
            };
            Ok((admitted.answer(reply)?, (length, origin)))
        })
    });
    made.map(|(reply, (length, origin))| {
        counters.count(length, origin);
        reply
    })
}

/// A data key of a key in an external key store: minted, then encrypted once more by its proxy.
fn make_there(
    attempt: &Attempt<'_>,
    proxied: &Proxied,
    entry: &Arc<KeyEntry>,
    length: DataKeyLength,
    context: &EncryptionContext,
    receiver: Option<&Receiver>,
) -> Result<Reply, ApiError> {
    let (id, api) = (entry.key.id, attempt.api);
    let (blob, text) = proxied.seal(attempt, entry, context, |inner| {
        InnerText::mint(id, inner, length, context, &api.entropy)
    })?;
    let Some(receiver) = receiver else {
        return Ok(encode(entry, blob));
    };
    let plaintext = proxied.open_inner(entry, context, text.bytes())?;
    encode_for(receiver, api, entry, blob, &plaintext)
}

/// A pooled key, or one minted at once.
fn take(
    attempt: &Attempt<'_>,
    entry: &Arc<KeyEntry>,
    material: &BackingKey,
    length: DataKeyLength,
) -> Result<(PooledKey, Origin), ApiError> {
    let api = attempt.api;
    if let Some(key) = api.pool.take(entry, length, attempt.clone_word) {
        return Ok((key, Origin::Hit));
    }
    let key = envelope::mint_one(entry.key.id, material, length, &api.entropy)?;
    let has_lane = api.pool.has_lanes_of(length);
    let origin = if has_lane {
        Origin::Miss
    } else {
        Origin::Direct
    };
    Ok((key, origin))
}

fn open(
    entry: &KeyEntry,
    material: &BackingKey,
    context: &EncryptionContext,
    blob: &[u8],
) -> Result<PlaintextDataKey, ApiError> {
    let blob = CiphertextBlob::parse(blob).map_err(ApiError::internal)?;
    envelope::open(entry.key.id, material, context, &blob).map_err(ApiError::internal)
}

/// The answer without a plaintext. Its exact size is known: the buffer becomes the response's body
/// as it is.
fn encode(entry: &KeyEntry, blob: &[u8]) -> Reply {
    let mut object = Object::with_room(
        WITHOUT_PLAINTEXT.len() + wire::base64_bytes(blob) + entry.arn.len() + MATERIAL_ID_DIGITS,
    );
    object.base64("CiphertextBlob", blob);
    about_key(object, entry).public()
}

/// The answer with the plaintext, for the caller or sealed.
fn encode_for(
    receiver: &Receiver,
    api: &Api,
    entry: &KeyEntry,
    blob: &[u8],
    plaintext: &PlaintextDataKey,
) -> Result<Reply, ApiError> {
    let mut object = Object::new();
    object.base64("CiphertextBlob", blob);
    receiver.put(api, &mut object, "Plaintext", plaintext.expose())?;
    Ok(receiver.note(about_key(object, entry)))
}

fn about_key(mut object: Object, entry: &KeyEntry) -> Reply {
    let material = entry.current_id();
    object.plain("KeyId", &entry.arn);
    if let Some(material) = material {
        object.material_id("KeyMaterialId", material);
    }
    object.end().with_id(material)
}
