//! The JSON of requests.
//!
//! Source: AWS KMS External Key Store Proxy API specification, "API operations".

use crate::xks_proxy::sealed::{AES_GCM, SHA_256, Sealed};
use bytes::Bytes;
use serde::{Serialize, Serializer};

/// What a proxy learns of the call that its answer serves. The members for VPCs are not sent: this
/// daemon knows none.
#[derive(Clone, Copy, Debug)]
pub struct RequestMetadata<'a> {
    /// `awsPrincipalArn`: the ARN of the caller.
    pub principal: &'a str,
    /// `kmsOperation`: the operation of AWS KMS that was called.
    pub operation: &'a str,
    /// `kmsRequestId`: its request id.
    pub request_id: &'a str,
    /// `kmsKeyArn`: the KMS key; absent while it is being created.
    pub key_arn: Option<&'a str>,
    /// `kmsViaService`: the service that calls for the caller.
    pub via_service: Option<&'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct MetadataMember<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    aws_principal_arn: Option<&'a str>,
    kms_operation: &'a str,
    kms_request_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    kms_key_arn: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kms_via_service: Option<&'a str>,
}

impl<'a> From<&RequestMetadata<'a>> for MetadataMember<'a> {
    fn from(metadata: &RequestMetadata<'a>) -> Self {
        Self {
            aws_principal_arn: Some(metadata.principal),
            kms_operation: metadata.operation,
            kms_request_id: metadata.request_id,
            kms_key_arn: metadata.key_arn,
            kms_via_service: metadata.via_service,
        }
    }
}

struct Base64<'a>(&'a [u8]);

impl Base64<'_> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Serialize for Base64<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&base64_simd::STANDARD.encode_to_string(self.0))
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Plain<'a> {
    request_metadata: MetadataMember<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Encrypt<'a> {
    request_metadata: MetadataMember<'a>,
    plaintext: Base64<'a>,
    encryption_algorithm: &'a str,
    #[serde(skip_serializing_if = "Base64::is_empty")]
    additional_authenticated_data: Base64<'a>,
    ciphertext_data_integrity_value_algorithm: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Decrypt<'a> {
    request_metadata: MetadataMember<'a>,
    ciphertext: Base64<'a>,
    initialization_vector: Base64<'a>,
    authentication_tag: Base64<'a>,
    encryption_algorithm: &'a str,
    #[serde(skip_serializing_if = "Base64::is_empty")]
    ciphertext_metadata: Base64<'a>,
    #[serde(skip_serializing_if = "Base64::is_empty")]
    additional_authenticated_data: Base64<'a>,
}

/// Of the call, a request for the health of a proxy has its operation and request id alone.
pub(super) fn health(metadata: &RequestMetadata<'_>) -> Bytes {
    let request_metadata = MetadataMember {
        aws_principal_arn: None,
        kms_key_arn: None,
        kms_via_service: None,
        ..metadata.into()
    };
    body(&Plain { request_metadata })
}

pub(super) fn key_metadata(metadata: &RequestMetadata<'_>) -> Bytes {
    let request_metadata = metadata.into();
    body(&Plain { request_metadata })
}

pub(super) fn encrypt(
    metadata: &RequestMetadata<'_>,
    plaintext: &[u8],
    additional: &[u8],
) -> Bytes {
    body(&Encrypt {
        request_metadata: metadata.into(),
        plaintext: Base64(plaintext),
        encryption_algorithm: AES_GCM,
        additional_authenticated_data: Base64(additional),
        ciphertext_data_integrity_value_algorithm: SHA_256,
    })
}

pub(super) fn decrypt(metadata: &RequestMetadata<'_>, sealed: &Sealed, additional: &[u8]) -> Bytes {
    body(&Decrypt {
        request_metadata: metadata.into(),
        ciphertext: Base64(sealed.ciphertext()),
        initialization_vector: Base64(sealed.vector()),
        authentication_tag: Base64(sealed.tag()),
        encryption_algorithm: AES_GCM,
        ciphertext_metadata: Base64(sealed.metadata()),
        additional_authenticated_data: Base64(additional),
    })
}

fn body(request: &impl Serialize) -> Bytes {
    let text = serde_json::to_vec(request);
    text.expect("texts in a vector can be written").into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const METADATA: RequestMetadata<'_> = RequestMetadata {
        principal: "arn:aws:iam::111122223333:user/a",
        operation: "Encrypt",
        request_id: "4112f4d6-db54-4af4-ae30-c55a22a8dfae",
        key_arn: Some("arn:aws:kms:us-east-1:111122223333:key/k"),
        via_service: None,
    };

    fn value(body: &Bytes) -> Value {
        serde_json::from_slice(body).unwrap()
    }

    #[test]
    fn requests_have_the_members_of_the_specification() {
        let told = json!({
            "awsPrincipalArn": METADATA.principal,
            "kmsOperation": "Encrypt",
            "kmsRequestId": METADATA.request_id,
            "kmsKeyArn": METADATA.key_arn,
        });
        let short = json!({"kmsOperation": "Encrypt", "kmsRequestId": METADATA.request_id});
        assert_eq!(value(&health(&METADATA)), json!({"requestMetadata": short}));
        assert_eq!(
            value(&key_metadata(&METADATA)),
            json!({"requestMetadata": told})
        );
        let expected = json!({
            "requestMetadata": told,
            "plaintext": "AAEC",
            "encryptionAlgorithm": "AES_GCM",
            "additionalAuthenticatedData": "YQ==",
            "ciphertextDataIntegrityValueAlgorithm": "SHA_256",
        });
        assert_eq!(value(&encrypt(&METADATA, &[0, 1, 2], b"a")), expected);
        let sealed = Sealed::new(vec![0, 1, 2], &[3; 12], [4; 16], b"m").unwrap();
        let expected = json!({
            "requestMetadata": told,
            "ciphertext": "AAEC",
            "initializationVector": "AwMDAwMDAwMDAwMD",
            "authenticationTag": "BAQEBAQEBAQEBAQEBAQEBA==",
            "encryptionAlgorithm": "AES_GCM",
            "ciphertextMetadata": "bQ==",
            "additionalAuthenticatedData": "YQ==",
        });
        assert_eq!(value(&decrypt(&METADATA, &sealed, b"a")), expected);
    }

    #[test]
    fn what_is_empty_is_not_sent() {
        let sealed = Sealed::new(vec![], &[3; 12], [4; 16], b"").unwrap();
        let metadata = RequestMetadata {
            key_arn: None,
            via_service: Some("s3.us-east-1.amazonaws.com"),
            ..METADATA
        };
        let sent = value(&decrypt(&metadata, &sealed, b""));
        assert_eq!(sent["ciphertext"], "");
        for member in ["ciphertextMetadata", "additionalAuthenticatedData"] {
            assert!(sent.get(member).is_none(), "{member}");
        }
        assert!(sent["requestMetadata"].get("kmsKeyArn").is_none());
        assert_eq!(
            sent["requestMetadata"]["kmsViaService"],
            "s3.us-east-1.amazonaws.com"
        );
        let sent = value(&encrypt(&metadata, b"a", b""));
        assert!(sent.get("additionalAuthenticatedData").is_none());
    }
}
