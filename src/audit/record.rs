//! One audit record: a JSON line in CloudTrail's form. The order of its members is part of the
//! contract.
//!
//! The content of a record is a closed set: the caller, the operation, the source, the [parameters]
//! on a list, and for a batch a count and a digest. No member holds bytes, so a record never
//! contains a plaintext, a blob, a signature or a secret.
//!
//! Source: AWS CloudTrail user guide, "CloudTrail record contents"; AWS KMS developer guide,
//! "Logging AWS KMS API calls with AWS CloudTrail".

use crate::audit::parameters;
use crate::clock::Timestamp;
use crate::clock::calendar::Iso8601;
use crate::key::material::KeyMaterialId;
use crate::operation::Operation;
use crate::operation::sts::StsOperation;
use crate::operation::tagging::TaggingOperation;
use crate::operation::xks::XksOperation;
use std::fmt;
use std::io::Write;
use std::net::IpAddr;

/// The first bytes of every record; [`Audit::record`](crate::audit::Audit::record) accepts nothing
/// else.
pub(super) const RECORD_START: &[u8] = b"{\"eventVersion\":";

/// The `eventSource` of operations of AWS KMS.
pub const KMS: &str = "kms.amazonaws.com";
/// The `eventSource` of operations of AWS STS.
pub const STS: &str = "sts.amazonaws.com";
/// The `eventSource` of operations of the AWS Resource Groups Tagging API.
pub const TAGGING: &str = "tagging.amazonaws.com";
/// The `eventSource` of operations of an external key store proxy.
pub const XKS: &str = "kms-xks-proxy";
/// The `eventSource` of operations that AWS KMS does not have: batches, exports and the operator's.
pub const KEYMILL: &str = "keymill";

/// The `eventType` of a call.
pub const CALL: &str = "AwsApiCall";
/// The `eventType` of an action that the daemon took because it was due.
pub const SERVICE_EVENT: &str = "AwsServiceEvent";

/// One call, answered or refused; or an action of the daemon itself.
pub struct AuditRecord<'a> {
    /// When the call was decided.
    pub time: Timestamp,
    /// The owner of the operation: [`KMS`], [`STS`], [`TAGGING`], [`XKS`] or [`KEYMILL`].
    pub event_source: &'static str,
    /// The operation.
    pub event_name: &'a str,
    /// [`CALL`] or [`SERVICE_EVENT`].
    pub event_type: &'static str,
    /// The Region that was called.
    pub region: &'a str,
    /// The caller.
    pub identity: Identity<'a>,
    /// Where the call came from.
    pub source: Source,
    /// The version, cipher suite and so on of its TLS, a JSON object; none without TLS.
    pub tls_details: Option<&'a str>,
    /// The value of `x-amzn-RequestId`.
    pub request_id: &'a str,
    /// The id of this record, a UUID.
    pub event_id: &'a str,
    /// Whether the call changes nothing, as cryptographic operations do.
    pub read_only: bool,
    /// The JSON body of the request, if it was understood.
    pub body: &'a [u8],
    /// The elements of the answer that may be written down, a JSON object.
    pub response_elements: Option<&'a str>,
    /// The keys, aliases and roles that the call used or changed.
    pub resources: &'a [Resource<'a>],
    /// The generation of the key's material that was used.
    pub key_material_id: Option<KeyMaterialId>,
    /// The attested recipient that a plaintext was sealed to, a JSON object.
    pub recipient: Option<&'a str>,
    /// The rows of a batch, which has no record for each row.
    pub batch: Option<Batch>,
    /// The name of this node of a shared store; `None` where a store has one daemon.
    pub node: Option<&'a str>,
    /// The refusal, if it was refused.
    pub error: Option<Refusal<'a>>,
}

/// The caller, for `userIdentity`.
#[derive(Clone, Copy)]
pub struct Identity<'a> {
    /// The principal's ARN, or `local:<uid>`; `None` for an action of the daemon itself.
    pub arn: Option<&'a str>,
    /// The principal's account.
    pub account_id: Option<&'a str>,
    /// The id of the access key that signed the request.
    pub access_key_id: Option<&'a str>,
    /// Who stands behind the caller's session, if it was said.
    pub source_identity: Option<&'a str>,
    /// The user of another issuer whose token the request had; then the other members are left
    /// out, as CloudTrail does.
    pub web_user: Option<WebUser<'a>>,
}

/// A user of another issuer of identities.
#[derive(Clone, Copy)]
pub struct WebUser<'a> {
    /// The ARN of the issuer as an identity provider.
    pub provider_arn: &'a str,
    /// The audience that was matched.
    pub audience: &'a str,
    /// The user, as the issuer calls it.
    pub subject: &'a str,
}

impl Identity<'_> {
    /// `userIdentity.type`: `Root`, `IAMUser`, `AssumedRole`, `FederatedUser` or `Role` by the
    /// ARN's resource; `WebIdentityUser` for the holder of a token of another issuer; `Operator`
    /// for a user who opened the store's own files; `AWSService` for an action of the daemon
    /// itself; else `Unknown`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        if self.web_user.is_some() {
            return "WebIdentityUser";
        }
        let Some(arn) = self.arn else {
            return "AWSService";
        };
        if arn.starts_with("local:") {
            return "Operator";
        }
        // The resource of such an ARN, a name or a path, has no colon.
        let resource = arn.rsplit_once(':').map_or("", |(_, resource)| resource);
        match resource.split_once('/').map_or(resource, |(kind, _)| kind) {
            "root" => "Root",
            "user" => "IAMUser",
            "assumed-role" => "AssumedRole",
            "federated-user" => "FederatedUser",
            "role" => "Role",
            _ => "Unknown",
        }
    }
}

/// Where a call came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Over TCP.
    Address(IpAddr),
    /// Over the Unix socket, from this uid.
    Unix(u32),
    /// From a command that opened the store itself.
    Local,
}

impl Source {
    /// The address; a Unix socket has none.
    #[must_use]
    pub fn ip(self) -> Option<IpAddr> {
        match self {
            Self::Address(ip) => Some(ip),
            Self::Unix(_) | Self::Local => None,
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(out),
            Self::Unix(uid) => write!(out, "unix:{uid}"),
            Self::Local => out.write_str("local"),
        }
    }
}

/// A key, alias or role that a call concerned.
#[derive(Clone, Copy)]
pub struct Resource<'a> {
    /// Its ARN.
    pub arn: &'a str,
    /// Its account.
    pub account_id: &'a str,
    /// What it is.
    pub kind: ResourceKind,
}

/// The type of a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResourceKind {
    /// `AWS::KMS::Key`
    Key,
    /// `AWS::KMS::Alias`
    Alias,
    /// `AWS::IAM::Role`
    Role,
}

/// A refusal, as the caller received it.
#[derive(Clone, Copy)]
pub struct Refusal<'a> {
    /// The error code, such as `AccessDeniedException`.
    pub code: &'a str,
    /// Its message, if it has one.
    pub message: Option<&'a str>,
}

/// Represents the rows of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Rows handed out.
    pub count: u64,
    /// BLAKE3 over them, see [`RowsDigest`].
    pub digest: [u8; 32],
}

/// BLAKE3 over the rows of a batch: their blobs one after the other, as a caller of the fixed-size
/// format receives them. So `b3sum` of the delivered bytes shows whether a record is about them.
/// The tag of a blob covers the encryption context of its row. SHA-256 took as long as minting
/// (benches/RESULTS.md, section 31399b8).
#[derive(Clone, Default)]
pub struct RowsDigest {
    hash: blake3::Hasher,
    count: u64,
}

impl RowsDigest {
    /// Adds `count` rows, whose blobs are `blobs` end to end.
    pub fn add(&mut self, count: u64, blobs: &[u8]) {
        self.hash.update(blobs);
        self.count += count;
    }

    /// The count and the digest of the rows so far.
    #[must_use]
    pub fn batch(&self) -> Batch {
        Batch {
            count: self.count,
            digest: self.hash.finalize().into(),
        }
    }
}

impl AuditRecord<'_> {
    /// Appends the record and its line feed.
    ///
    /// # Panics
    /// Never: the record is written to memory.
    pub fn append(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"eventVersion\":\"1.11\",\"eventTime\":\"");
        out.extend_from_slice(Iso8601::of(self.time).as_bytes());
        out.extend_from_slice(b"\",\"eventSource\":");
        text(out, self.event_source);
        out.extend_from_slice(b",\"eventName\":");
        text(out, self.event_name);
        out.extend_from_slice(b",\"awsRegion\":");
        text(out, self.region);
        out.extend_from_slice(b",\"eventType\":");
        text(out, self.event_type);
        out.extend_from_slice(b",\"userIdentity\":");
        self.append_identity(out);
        out.extend_from_slice(b",\"sourceIPAddress\":\"");
        shown(out, self.source);
        out.extend_from_slice(b"\",\"requestID\":");
        text(out, self.request_id);
        out.extend_from_slice(b",\"eventID\":");
        text(out, self.event_id);
        out.extend_from_slice(if self.read_only {
            b",\"readOnly\":true,\"requestParameters\":".as_slice()
        } else {
            b",\"readOnly\":false,\"requestParameters\":"
        });
        parameters::append(self.body, self.recorded(), self.error.is_some(), out);
        out.extend_from_slice(b",\"responseElements\":");
        out.extend_from_slice(self.response_elements.unwrap_or("null").as_bytes());
        out.extend_from_slice(b",\"resources\":");
        self.append_resources(out);
        self.append_additional(out);
        if let Some(error) = &self.error {
            out.extend_from_slice(b",\"errorCode\":");
            text(out, error.code);
            if let Some(message) = error.message {
                out.extend_from_slice(b",\"errorMessage\":");
                text(out, message);
            }
        }
        if let Some(details) = self.tls_details {
            out.extend_from_slice(b",\"tlsDetails\":");
            out.extend_from_slice(details.as_bytes());
        }
        out.extend_from_slice(b"}\n");
    }

    /// The members of the request that may be recorded.
    fn recorded(&self) -> &'static [&'static str] {
        let name = self.event_name;
        match self.event_source {
            KMS => Operation::named(name).map_or(&[], |operation| operation.facts().records),
            STS => StsOperation::named(name).map_or(&[], StsOperation::records),
            TAGGING => TaggingOperation::named(name).map_or(&[], TaggingOperation::records),
            XKS => &XksOperation::RECORDS,
            _ => &parameters::OWN,
        }
    }

    fn append_identity(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"type\":");
        text(out, self.identity.kind());
        if let Some(user) = self.identity.web_user {
            let id = [user.provider_arn, user.audience, user.subject].join(":");
            for (name, value) in [
                ("principalId", id.as_str()),
                ("userName", user.subject),
                ("identityProvider", user.provider_arn),
            ] {
                member(out, name, value);
            }
            out.push(b'}');
            return;
        }
        for (name, value) in [
            ("arn", self.identity.arn),
            ("accountId", self.identity.account_id),
            ("accessKeyId", self.identity.access_key_id),
        ] {
            if let Some(value) = value {
                member(out, name, value);
            }
        }
        if let Some(identity) = self.identity.source_identity {
            out.extend_from_slice(b",\"sessionContext\":{\"sourceIdentity\":");
            text(out, identity);
            out.push(b'}');
        }
        out.push(b'}');
    }

    fn append_resources(&self, out: &mut Vec<u8>) {
        out.push(b'[');
        for (number, resource) in self.resources.iter().enumerate() {
            out.extend_from_slice(if number == 0 {
                b"{\"ARN\":"
            } else {
                b",{\"ARN\":"
            });
            text(out, resource.arn);
            out.extend_from_slice(b",\"accountId\":");
            text(out, resource.account_id);
            out.extend_from_slice(match resource.kind {
                ResourceKind::Key => b",\"type\":\"AWS::KMS::Key\"}".as_slice(),
                ResourceKind::Alias => b",\"type\":\"AWS::KMS::Alias\"}",
                ResourceKind::Role => b",\"type\":\"AWS::IAM::Role\"}",
            });
        }
        out.push(b']');
    }

    /// The member that CloudTrail leaves to each service; left out when it would be empty.
    fn append_additional(&self, out: &mut Vec<u8>) {
        if self.key_material_id.is_none()
            && self.recipient.is_none()
            && self.batch.is_none()
            && self.node.is_none()
        {
            return;
        }
        out.extend_from_slice(b",\"additionalEventData\":");
        let start = out.len();
        if let Some(id) = self.key_material_id {
            out.extend_from_slice(b",\"keyMaterialId\":\"");
            out.extend_from_slice(&id.hex());
            out.push(b'"');
        }
        if let Some(recipient) = self.recipient {
            out.extend_from_slice(b",\"recipient\":");
            out.extend_from_slice(recipient.as_bytes());
        }
        if let Some(batch) = &self.batch {
            out.extend_from_slice(b",\"count\":");
            shown(out, batch.count);
            out.extend_from_slice(b",\"rowsBlake3\":\"");
            append_hex(out, &batch.digest);
            out.push(b'"');
        }
        if let Some(node) = self.node {
            member(out, "node", node);
        }
        // In the place of the first comma.
        out[start] = b'{';
        out.push(b'}');
    }
}

/// A further member of an object.
fn member(out: &mut Vec<u8>, name: &str, value: &str) {
    out.push(b',');
    text(out, name);
    out.push(b':');
    text(out, value);
}

/// Appends a JSON string. Line feeds and other control characters are escaped, so a record is
/// always one line.
fn text(out: &mut Vec<u8>, value: &str) {
    // Most texts have nothing to escape. The loop has no branch for each byte (bench `audit`, "make
    // a record in a kept buffer").
    let escaped = |byte: &u8| (*byte < 0x20) | (*byte == b'"') | (*byte == b'\\');
    if !value.bytes().fold(false, |any, byte| any | escaped(&byte)) {
        out.push(b'"');
        out.extend_from_slice(value.as_bytes());
        out.push(b'"');
        return;
    }
    serde_json::to_writer(out, value).expect("writing text to a vector cannot fail");
}

/// Appends a value whose text needs no escapes.
fn shown(out: &mut Vec<u8>, value: impl fmt::Display) {
    write!(out, "{value}").expect("writing to a vector cannot fail");
}

/// Appends lower-case hex.
pub(super) fn append_hex(out: &mut Vec<u8>, bytes: &[u8]) {
    hex_simd::encode_append(bytes, out, hex_simd::AsciiCase::Lower);
}

#[cfg(test)]
mod tests;
