//! The plaintext of a record: `layout 1 ‖ metadata length u32 BE ‖ metadata (JSON) ‖ secrets`.
//!
//! Metadata are serde types; secrets never pass through serde. The secrets of a key are described
//! in [`key`]. Those of a principal are the secrets of its access keys, with the lengths in the
//! metadata.

use crate::clock::Timestamp;
use crate::crypto::secret::SecretBytes;
use crate::key::Tag;
use crate::key::arn::{AccountId, AliasName};
use crate::key::regions::{RegionNumber, RegionalId, Regions, Unnamed};
use crate::keystore::access_key::AccessKey;
use crate::keystore::entry::{Alias, AuditHead, KeyEntry, PrincipalEntry};
use crate::keystore::key_store::KeyStoreEntry;
use crate::keystore::last_use::UsesRecord;
use crate::keystore::node;
use crate::keystore::record::{Corrupt, Kind, Record};
use crate::policy::{Grant, KeyPolicy, PolicyDocument, Principal, TrustPolicy};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

pub(super) mod grant;
pub(super) mod key;
pub(super) mod key_store;
pub(super) mod last_uses;

const LAYOUT: u8 = 1;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct AliasBody {
    target: String,
    creation_date: u64,
    last_updated_date: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PrincipalBody {
    account: String,
    policies: Vec<String>,
    access_keys: Vec<AccessKeyBody>,
    #[serde(default = "yes")]
    enabled: bool,
    #[serde(default)]
    unique_id: Option<String>,
    #[serde(default)]
    tags: Vec<TagBody>,
    // Left out where they would say nothing, so that a version that does not know them opens the
    // store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    trust_policy: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    session_seconds_max: Option<u32>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct AccessKeyBody {
    id: String,
    secret_bytes: usize,
    #[serde(default = "yes")]
    active: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TagBody {
    key: String,
    value: String,
}

/// The default of `enabled` and `active`, for bodies that are older than these members.
fn yes() -> bool {
    true
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyPolicyBody {
    policy: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct AuditHeadBody {
    log: [u8; 16],
    group: u64,
    mac: [u8; 32],
}

/// The id of an alias's record: names are unique for each account.
pub(super) fn alias_id(account: AccountId, name: &AliasName) -> String {
    format!("{account} {name}")
}

fn tag_body(tag: &Tag) -> TagBody {
    TagBody {
        key: tag.key.clone(),
        value: tag.value.clone(),
    }
}

fn tag(TagBody { key, value }: TagBody) -> Tag {
    Tag { key, value }
}

pub(super) fn encode_alias(alias: &Alias) -> SecretBytes {
    let metadata = AliasBody {
        target: alias.target.to_string(),
        creation_date: alias.creation_date.0,
        last_updated_date: alias.last_updated_date.0,
    };
    encode(&metadata, &[])
}

pub(super) fn encode_principal(entry: &PrincipalEntry) -> SecretBytes {
    let access_key = |key: &Arc<AccessKey>| AccessKeyBody {
        id: key.id.clone(),
        secret_bytes: key.secret.expose().len(),
        active: key.active,
    };
    let principal = &entry.principal;
    let metadata = PrincipalBody {
        account: principal.account.to_string(),
        policies: principal
            .policies
            .iter()
            .map(|policy| policy.source().to_owned())
            .collect(),
        access_keys: entry.access_keys.iter().map(access_key).collect(),
        enabled: entry.enabled,
        unique_id: principal.unique_id().map(str::to_owned),
        tags: principal.tags().iter().map(tag_body).collect(),
        trust_policy: entry
            .trust_policy
            .as_ref()
            .map(|policy| policy.source().to_owned()),
        session_seconds_max: Some(entry.session_seconds_max)
            .filter(|seconds| *seconds != PrincipalEntry::SESSION_SECONDS_MAX),
    };
    let secrets: Vec<&[u8]> = entry
        .access_keys
        .iter()
        .map(|key| key.secret.expose())
        .collect();
    encode(&metadata, &secrets)
}

pub(super) fn encode_key_policy(policy: &KeyPolicy) -> SecretBytes {
    let policy = policy.source().to_owned();
    encode(&KeyPolicyBody { policy }, &[])
}

pub(super) fn encode_audit_head(head: &AuditHead) -> SecretBytes {
    let metadata = AuditHeadBody {
        log: head.log,
        group: head.group,
        mac: head.mac,
    };
    encode(&metadata, &[])
}

fn encode(metadata: &impl Serialize, secrets: &[&[u8]]) -> SecretBytes {
    let json = serde_json::to_vec(metadata).expect("plain structs of strings and numbers");
    let json_bytes = u32::try_from(json.len())
        .expect("metadata are bounded by request bodies and the number of keys")
        .to_be_bytes();
    let open_parts = [&[LAYOUT], json_bytes.as_slice(), json.as_slice()];
    let parts = open_parts.iter().chain(secrets);
    SecretBytes::filled(parts.clone().map(|part| part.len()).sum(), |bytes| {
        let mut rest = bytes;
        for part in parts {
            let (here, after) = rest.split_at_mut(part.len());
            here.copy_from_slice(part);
            rest = after;
        }
    })
}

/// The parsed content of a record.
pub(super) enum Entry {
    Key(KeyEntry),
    Alias(Alias),
    Principal(PrincipalEntry),
    KeyPolicy(RegionalId, Arc<KeyPolicy>),
    Grant(Arc<Grant>),
    Audit(String, AuditHead, u64),
    Uses(UsesRecord),
    KeyStore(KeyStoreEntry),
}

/// Parses a record's plaintext, or refuses it; for the fuzz target alone.
#[doc(hidden)]
pub fn fuzz(record: &Record, plaintext: &[u8], regions: &Regions) -> bool {
    let plaintext = SecretBytes::copy_of(plaintext);
    decode(record, &plaintext, regions).is_ok()
}

/// Parses an opened record's plaintext.
pub(super) fn decode(
    record: &Record,
    plaintext: &SecretBytes,
    regions: &Regions,
) -> Result<Entry, Corrupt> {
    let id = record.id.as_str();
    let parsed = match record.kind {
        Kind::Head => None,
        Kind::Key => {
            let key = regions.read_key(id);
            let key = key.and_then(|key| key::decode(record, plaintext, key, regions));
            let key = key.map_err(|error| corrupt(record, error))?;
            if !key.is_of(regions.home().cipher()) {
                return Err(Corrupt::Partition(record.id.clone()));
            }
            return Ok(Entry::Key(key));
        }
        Kind::Alias => {
            let (region, id) = regions.read(id).map_err(|error| corrupt(record, error))?;
            decode_alias(region, id, plaintext).map(Entry::Alias)
        }
        Kind::Principal => decode_principal(record, plaintext).map(Entry::Principal),
        Kind::KeyPolicy => {
            let key = regions
                .read_key(id)
                .map_err(|error| corrupt(record, error))?;
            decode_key_policy(key, plaintext)
        }
        Kind::Grant => {
            let (key, id) = id.split_once(' ').unwrap_or_default();
            let key = regions
                .read_key(key)
                .map_err(|error| corrupt(record, error))?;
            grant::decode(key, id, plaintext).map(|grant| Entry::Grant(Arc::new(grant)))
        }
        Kind::Audit => decode_audit_head(record, plaintext),
        Kind::Uses => last_uses::decode(record, plaintext, regions).map(Entry::Uses),
        Kind::KeyStore => {
            let (region, id) = regions.read(id).map_err(|error| corrupt(record, error))?;
            key_store::decode(region, id, plaintext).map(Entry::KeyStore)
        }
    };
    parsed.ok_or_else(|| corrupt(record, Unnamed::Text))
}

fn corrupt(record: &Record, error: Unnamed) -> Corrupt {
    let (kind, id) = (record.kind, record.id.clone());
    match error {
        Unnamed::Region(region) => Corrupt::Region { kind, id, region },
        Unnamed::Text => Corrupt::Layout(kind, id),
    }
}

fn split<'a, T: Deserialize<'a>>(plaintext: &'a SecretBytes) -> Option<(T, &'a [u8])> {
    let (&layout, rest) = plaintext.expose().split_first()?;
    let (json_bytes, rest) = rest.split_first_chunk::<4>()?;
    let json_bytes = usize::try_from(u32::from_be_bytes(*json_bytes)).ok()?;
    let (json, secrets) = rest.split_at_checked(json_bytes)?;
    let metadata = serde_json::from_slice(json).ok()?;
    (layout == LAYOUT).then_some((metadata, secrets))
}

fn decode_alias(region: RegionNumber, id: &str, plaintext: &SecretBytes) -> Option<Alias> {
    let (body, secrets) = split::<AliasBody>(plaintext)?;
    let (account, name) = id.split_once(' ')?;
    let alias = Alias {
        region,
        account: account.parse().ok()?,
        name: name.parse().ok()?,
        target: body.target.parse().ok()?,
        creation_date: Timestamp(body.creation_date),
        last_updated_date: Timestamp(body.last_updated_date),
    };
    secrets.is_empty().then_some(alias)
}

fn decode_principal(record: &Record, plaintext: &SecretBytes) -> Option<PrincipalEntry> {
    let (body, mut secrets) = split::<PrincipalBody>(plaintext)?;
    let mut access_keys = Vec::new();
    // The secrets are side by side, in the order of the access keys.
    for key in body.access_keys {
        let (secret, rest) = secrets.split_at_checked(key.secret_bytes)?;
        let secret = SecretBytes::copy_of(secret);
        access_keys.push(Arc::new(AccessKey {
            id: key.id,
            secret,
            active: key.active,
        }));
        secrets = rest;
    }
    let policies = body
        .policies
        .iter()
        .map(|policy| PolicyDocument::parse(policy).ok().map(Arc::new));
    let mut principal = Principal::new(&record.id, policies.collect::<Option<_>>()?)
        .ok()?
        .with_tags(body.tags.into_iter().map(tag).collect());
    if let Some(id) = &body.unique_id {
        principal = principal.with_unique_id(id);
    }
    let trust_policy = match &body.trust_policy {
        None => None,
        Some(policy) => Some(Arc::new(TrustPolicy::parse(policy).ok()?)),
    };
    // Bytes that are left over, or another account than the ARN's: this is not our record.
    let whole = secrets.is_empty() && body.account == principal.account.as_str();
    whole.then(|| PrincipalEntry {
        principal: Arc::new(principal),
        access_keys,
        enabled: body.enabled,
        trust_policy,
        session_seconds_max: body
            .session_seconds_max
            .unwrap_or(PrincipalEntry::SESSION_SECONDS_MAX),
    })
}

fn decode_audit_head(record: &Record, plaintext: &SecretBytes) -> Option<Entry> {
    let (body, secrets) = split::<AuditHeadBody>(plaintext)?;
    let head = AuditHead {
        log: body.log,
        group: body.group,
        mac: body.mac,
    };
    let node = record.id.clone();
    let is_node = node.is_empty() || node::is_name(&node);
    let whole = is_node && secrets.is_empty();
    whole.then_some(Entry::Audit(node, head, record.revision))
}

fn decode_key_policy(key: RegionalId, plaintext: &SecretBytes) -> Option<Entry> {
    let (body, secrets) = split::<KeyPolicyBody>(plaintext)?;
    let policy = KeyPolicy::parse(&body.policy).ok()?;
    let entry = Entry::KeyPolicy(key, Arc::new(policy));
    secrets.is_empty().then_some(entry)
}
