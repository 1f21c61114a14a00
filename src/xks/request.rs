//! The JSON of requests: what AWS KMS says of the call that it serves, and the members of each
//! operation. Members that the specification does not know are taken, since it may get more.

use crate::api::wire::{self, Blob, CowText, Object, Text};
use crate::api::{ApiError, ErrorCode};
use crate::operation::xks::XksOperation;
use crate::xks::external_key::CallInAws;
use crate::xks_proxy::sealed::{
    ADDITIONAL_BYTES_MAX, AES_GCM, METADATA_BYTES_MAX, SHA_256, TAG_BYTES, TEXT_BYTES_MAX,
    VECTOR_BYTES,
};
use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use std::fmt;

/// The most characters of a member of the metadata: the longest ARN.
const METADATA_CHARACTERS_MAX: usize = 2048;

/// The members of `requestMetadata`, in the order of their names.
const NAMES: [&str; 7] = [
    "awsPrincipalArn",
    "awsSourceVpc",
    "awsSourceVpce",
    "kmsKeyArn",
    "kmsOperation",
    "kmsRequestId",
    "kmsViaService",
];
const PRINCIPAL: usize = 0;
const KEY_ARN: usize = 3;
const OPERATION: usize = 4;
const REQUEST_ID: usize = 5;

/// What AWS KMS says of the call that it serves.
pub(super) struct RequestMetadata<'a> {
    members: [Text<'a>; NAMES.len()],
    /// Those that the specification does not know.
    others: Vec<(CowText<'a>, &'a RawValue)>,
}

impl<'de: 'a, 'a> Deserialize<'de> for RequestMetadata<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Members)
    }
}

struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = RequestMetadata<'de>;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = RequestMetadata {
            members: Default::default(),
            others: Vec::new(),
        };
        while let Some(name) = map.next_key::<CowText<'de>>()? {
            let Some(at) = NAMES.iter().position(|one| *one == &*name) else {
                found.others.push((name, map.next_value()?));
                continue;
            };
            let value: Text<'de> = map.next_value()?;
            if found.members[at].is_some() {
                return Err(A::Error::duplicate_field(NAMES[at]));
            }
            found.members[at] = value;
        }
        Ok(found)
    }
}

impl RequestMetadata<'_> {
    fn text(&self, at: usize) -> Option<&str> {
        self.members[at].as_deref()
    }

    /// Refuses metadata without a member that this operation needs.
    fn check(&self, operation: XksOperation) -> Result<(), ApiError> {
        let required: &[usize] = match operation {
            XksOperation::XksGetHealthStatus => &[OPERATION, REQUEST_ID],
            XksOperation::XksGetKeyMetadata => &[PRINCIPAL, OPERATION, REQUEST_ID],
            XksOperation::XksEncrypt | XksOperation::XksDecrypt => {
                &[PRINCIPAL, KEY_ARN, OPERATION, REQUEST_ID]
            }
        };
        if let Some(at) = required.iter().find(|at| self.members[**at].is_none()) {
            return Err(missing(&format!("requestMetadata.{}", NAMES[*at])));
        }
        let long = |text: &str| text.chars().nth(METADATA_CHARACTERS_MAX).is_some();
        let found = (0..NAMES.len()).find(|at| self.text(*at).is_some_and(long));
        match found {
            Some(at) => Err(too_long(&format!(
                "requestMetadata.{} has more than {METADATA_CHARACTERS_MAX} characters",
                NAMES[at]
            ))),
            None => Ok(()),
        }
    }

    /// What an external key is asked about.
    pub(super) fn call(&self) -> CallInAws<'_> {
        CallInAws {
            principal: self.text(PRINCIPAL).unwrap_or_default(),
            operation: self.text(OPERATION).unwrap_or_default(),
            key_arn: self.text(KEY_ARN),
        }
    }
}

/// The parameters of the audit record: the external key, and what is understood of the metadata.
pub(super) fn parameters(metadata: Option<&RequestMetadata<'_>>, external_key_id: &str) -> Vec<u8> {
    let mut object = Object::new();
    if !external_key_id.is_empty() {
        object.plain("ExternalKeyId", external_key_id);
    }
    if let Some(RequestMetadata { members, others }) = metadata {
        for (name, value) in XksOperation::RECORDS[1..].iter().zip(members) {
            if let Some(value) = value {
                object.text(name, value);
            }
        }
        if !others.is_empty() {
            // One that is nested too deeply is not written down.
            let read = |(name, value): &(CowText<'_>, &RawValue)| {
                let value = serde_json::from_str(value.get()).ok()?;
                Some((name.to_string(), value))
            };
            let others: Map<String, Value> = others.iter().filter_map(read).collect();
            let text = Value::Object(others).to_string();
            object.member("OtherMetadata").extend(text.into_bytes());
        }
    }
    object.end().body().to_vec()
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", bound(deserialize = "'de: 'a"))]
struct PlainInput<'a> {
    request_metadata: Option<RequestMetadata<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", bound(deserialize = "'de: 'a"))]
struct EncryptInput<'a> {
    request_metadata: Option<RequestMetadata<'a>>,
    plaintext: Option<Blob>,
    encryption_algorithm: Text<'a>,
    additional_authenticated_data: Option<Blob>,
    ciphertext_data_integrity_value_algorithm: Text<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", bound(deserialize = "'de: 'a"))]
struct DecryptInput<'a> {
    request_metadata: Option<RequestMetadata<'a>>,
    ciphertext: Option<Blob>,
    initialization_vector: Option<Blob>,
    authentication_tag: Option<Blob>,
    encryption_algorithm: Text<'a>,
    ciphertext_metadata: Option<Blob>,
    additional_authenticated_data: Option<Blob>,
}

/// A request whose members are there, and of a length that is taken.
pub(super) struct Request<'a> {
    pub(super) metadata: RequestMetadata<'a>,
    pub(super) asked: Asked,
}

/// What a request asks for.
pub(super) enum Asked {
    Health,
    KeyMetadata,
    Encrypt {
        plaintext: Blob,
        additional: Option<Blob>,
        /// Whether the answer has an integrity value.
        with_integrity_value: bool,
    },
    Decrypt {
        ciphertext: Blob,
        /// One of [`VECTOR_BYTES`]; ours have the first.
        vector: Blob,
        tag: [u8; TAG_BYTES],
        metadata: Option<Blob>,
        additional: Option<Blob>,
    },
}

/// What is understood of a request that is refused: the audit record has it.
pub(super) struct Refused<'a> {
    pub(super) error: ApiError,
    pub(super) metadata: Option<Box<RequestMetadata<'a>>>,
}

impl<'a> Request<'a> {
    /// Parses a body.
    pub(super) fn parse(operation: XksOperation, body: &'a [u8]) -> Result<Self, Refused<'a>> {
        let (metadata, asked) = match operation {
            XksOperation::XksGetHealthStatus => (plain(body)?, Ok(Asked::Health)),
            XksOperation::XksGetKeyMetadata => (plain(body)?, Ok(Asked::KeyMetadata)),
            XksOperation::XksEncrypt => {
                let mut input: EncryptInput<'_> = decode(body)?;
                (input.request_metadata.take(), input.asked())
            }
            XksOperation::XksDecrypt => {
                let mut input: DecryptInput<'_> = decode(body)?;
                (input.request_metadata.take(), input.asked())
            }
        };
        let Some(metadata) = metadata else {
            return Err(missing("requestMetadata").into());
        };
        let checked = metadata.check(operation).and(asked);
        match checked {
            Ok(asked) => Ok(Self { metadata, asked }),
            Err(error) => Err(Refused {
                error,
                metadata: Some(Box::new(metadata)),
            }),
        }
    }
}

impl From<ApiError> for Refused<'_> {
    fn from(error: ApiError) -> Self {
        Self {
            error,
            metadata: None,
        }
    }
}

fn decode<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, ApiError> {
    wire::decode(body)
}

fn plain(body: &[u8]) -> Result<Option<RequestMetadata<'_>>, ApiError> {
    let input: PlainInput<'_> = decode(body)?;
    Ok(input.request_metadata)
}

impl EncryptInput<'_> {
    fn asked(self) -> Result<Asked, ApiError> {
        let plaintext = self.plaintext.ok_or_else(|| missing("plaintext"))?;
        check_algorithm(self.encryption_algorithm.as_deref())?;
        let with_integrity_value = match self.ciphertext_data_integrity_value_algorithm.as_deref() {
            None => false,
            Some(SHA_256) => true,
            Some(_) => {
                let member = "ciphertextDataIntegrityValueAlgorithm";
                return Err(invalid(format!("{member} must be {SHA_256}.")));
            }
        };
        check_length("plaintext", &plaintext, TEXT_BYTES_MAX)?;
        let additional = self.additional_authenticated_data;
        check_additional(additional.as_ref())?;
        Ok(Asked::Encrypt {
            plaintext,
            additional,
            with_integrity_value,
        })
    }
}

impl DecryptInput<'_> {
    fn asked(self) -> Result<Asked, ApiError> {
        let ciphertext = self.ciphertext.ok_or_else(|| missing("ciphertext"))?;
        let vector = self.initialization_vector;
        let vector = vector.ok_or_else(|| missing("initializationVector"))?;
        let tag = self.authentication_tag;
        let tag = tag.ok_or_else(|| missing("authenticationTag"))?;
        check_algorithm(self.encryption_algorithm.as_deref())?;
        if !VECTOR_BYTES.contains(&vector.bytes().len()) {
            return Err(invalid("initializationVector must have 12 or 16 bytes."));
        }
        let tag = tag.bytes().try_into();
        let tag = tag.map_err(|_| invalid("authenticationTag must have 16 bytes."))?;
        let metadata = self.ciphertext_metadata;
        if let Some(metadata) = &metadata
            && metadata.bytes().len() > METADATA_BYTES_MAX
        {
            let most = METADATA_BYTES_MAX;
            return Err(invalid(format!(
                "ciphertextMetadata must have at most {most} bytes."
            )));
        }
        check_length("ciphertext", &ciphertext, TEXT_BYTES_MAX)?;
        let additional = self.additional_authenticated_data;
        check_additional(additional.as_ref())?;
        Ok(Asked::Decrypt {
            ciphertext,
            vector,
            tag,
            metadata,
            additional,
        })
    }
}

/// The bytes of a blob that may be absent.
pub(super) fn bytes(blob: Option<&Blob>) -> &[u8] {
    blob.map(Blob::bytes).unwrap_or_default()
}

fn check_algorithm(algorithm: Option<&str>) -> Result<(), ApiError> {
    match algorithm {
        Some(AES_GCM) => Ok(()),
        Some(_) => Err(invalid(format!("encryptionAlgorithm must be {AES_GCM}."))),
        None => Err(missing("encryptionAlgorithm")),
    }
}

fn check_additional(additional: Option<&Blob>) -> Result<(), ApiError> {
    let name = "additionalAuthenticatedData";
    additional.map_or(Ok(()), |blob| {
        check_length(name, blob, ADDITIONAL_BYTES_MAX)
    })
}

fn check_length(name: &str, blob: &Blob, bytes_max: usize) -> Result<(), ApiError> {
    if blob.bytes().len() <= bytes_max {
        return Ok(());
    }
    Err(too_long(&format!("{name} has more than {bytes_max} bytes")))
}

fn missing(name: &str) -> ApiError {
    invalid(format!("{name} is missing."))
}

fn invalid(message: impl Into<std::borrow::Cow<'static, str>>) -> ApiError {
    ApiError::new(ErrorCode::ValidationException, message)
}

/// The refusal of what is longer than the specification asks a proxy to take.
fn too_long(what: &str) -> ApiError {
    let message = format!("{what}, which is not supported.");
    ApiError::new(ErrorCode::UnsupportedOperationException, message)
}
