//! Principals and their access keys: the operator's own operations, since AWS KMS leaves them to IAM.
//!
//! A secret is told once, by the call that drew it, and sealed at rest.

use crate::api::validation::{Pattern, Violations};
use crate::api::wire::{self, Object, Text};
use crate::api::{Answer, Api, ApiError, KmsErrorCode, Reply, Requester};
use crate::crypto::secret::SecretBytes;
use crate::keystore::{AccessKey, Change, PrincipalEntry, Snapshot};
use crate::policy::{PolicyDocument, Principal};
use serde::Deserialize;
use std::sync::Arc;

/// Access keys of a principal: two, so that they can be rolled.
const ACCESS_KEYS_MAX: usize = 2;
/// Policies of a principal.
const POLICIES_MAX: usize = 10;
const NAME_CHARACTERS_MAX: usize = 64;

/// The operations by their names, for tables by operation.
pub const ADMINISTRATION: [&str; 5] = [
    "CreateAccessKey",
    "CreatePrincipal",
    "DeleteAccessKey",
    "DeletePrincipal",
    "ListPrincipals",
];

/// An IAM user's name.
const NAME: Pattern = Pattern {
    text: "^[\\w+=,.@-]+$",
    matches: |text| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_+=,.@-".contains(&byte);
        !text.is_empty() && text.bytes().all(allowed)
    },
};

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Input<'a> {
    #[serde(borrow)]
    name: Text<'a>,
    policies: Option<Vec<String>>,
    #[serde(borrow)]
    access_key_id: Text<'a>,
}

/// Performs an operation by its name.
pub(super) async fn administer(
    api: &Api,
    operation: &str,
    operator: &Requester,
    body: &[u8],
) -> Answer {
    if !ADMINISTRATION.contains(&operation) {
        return Err(ApiError::bare(KmsErrorCode::UnknownOperationException));
    }
    let input: Input<'_> = wire::decode(body)?;
    if operation == "ListPrincipals" {
        return Ok(list(&api.keystore.snapshot()));
    }
    let mut violations = Violations::default();
    let name = input.name.as_deref();
    violations.required_text("name", name, NAME_CHARACTERS_MAX, Some(&NAME));
    violations.check()?;
    let region = api.keystore.region();
    let account = operator.principal.account;
    let arn = format!(
        "arn:{}:iam::{account}:user/{}",
        region.partition,
        name.unwrap_or_default()
    );
    match operation {
        "CreatePrincipal" => create(api, operator, arn, input.policies.unwrap_or_default()).await,
        "DeletePrincipal" => delete(api, operator, arn).await,
        "CreateAccessKey" => create_access_key(api, operator, arn).await,
        "DeleteAccessKey" => {
            delete_access_key(
                api,
                operator,
                arn,
                input.access_key_id.as_deref().unwrap_or_default(),
            )
            .await
        }
        _ => Err(ApiError::bare(KmsErrorCode::UnknownOperationException)),
    }
}

async fn create(api: &Api, operator: &Requester, arn: String, policies: Vec<String>) -> Answer {
    if policies.len() > POLICIES_MAX {
        let message = format!("A principal has at most {POLICIES_MAX} policies.");
        return Err(ApiError::new(KmsErrorCode::LimitExceededException, message));
    }
    let parse = |policy: &String| {
        PolicyDocument::parse(policy)
            .map(Arc::new)
            .map_err(|error| {
                ApiError::new(
                    KmsErrorCode::MalformedPolicyDocumentException,
                    error.to_string(),
                )
            })
    };
    let policies = policies.iter().map(parse).collect::<Result<_, _>>()?;
    let (key, reply) = draw_access_key(api, Some(&arn))?;
    let principal = Principal::new(&arn, policies).map_err(ApiError::internal)?;
    api.change(operator, None, |under| {
        if under.snapshot.principals.contains_key(&arn) {
            let message = format!("Principal {arn} already exists");
            return Err(ApiError::new(KmsErrorCode::AlreadyExistsException, message));
        }
        let entry = PrincipalEntry {
            principal: Arc::new(principal),
            access_keys: vec![key],
        };
        Ok((vec![Change::PutPrincipal(entry)], reply))
    })
    .await
}

fn list(snapshot: &Snapshot) -> Reply {
    let item = |entry: &Arc<PrincipalEntry>| {
        let mut object = Object::new();
        object.text("Arn", &entry.principal.arn);
        let ids: Vec<&str> = entry
            .access_keys
            .iter()
            .map(|key| key.id.as_str())
            .collect();
        let policies: Vec<&str> = entry
            .principal
            .policies
            .iter()
            .map(|policy| policy.source())
            .collect();
        for (name, texts) in [("AccessKeyIds", ids), ("Policies", policies)] {
            serde_json::to_writer(object.member(name), &texts)
                .expect("writing text to a vector cannot fail");
        }
        object
    };
    let mut object = Object::new();
    object.list("Principals", snapshot.principals.values().map(item));
    object.end()
}

async fn delete(api: &Api, operator: &Requester, arn: String) -> Answer {
    api.change(operator, None, |under| {
        find(under.snapshot, &arn)?;
        Ok((vec![Change::RemovePrincipal(arn)], Reply::empty()))
    })
    .await
}

async fn create_access_key(api: &Api, operator: &Requester, arn: String) -> Answer {
    let (key, reply) = draw_access_key(api, None)?;
    api.change(operator, None, |under| {
        let entry = find(under.snapshot, &arn)?;
        if entry.access_keys.len() >= ACCESS_KEYS_MAX {
            let message = format!("{arn} has {ACCESS_KEYS_MAX} access keys: delete one first");
            return Err(ApiError::new(KmsErrorCode::LimitExceededException, message));
        }
        let mut access_keys = entry.access_keys.clone();
        access_keys.push(key);
        Ok((vec![with_access_keys(entry, access_keys)], reply))
    })
    .await
}

async fn delete_access_key(api: &Api, operator: &Requester, arn: String, id: &str) -> Answer {
    api.change(operator, None, |under| {
        let entry = find(under.snapshot, &arn)?;
        let mut access_keys = entry.access_keys.clone();
        access_keys.retain(|key| key.id != id);
        if access_keys.len() == entry.access_keys.len() {
            let message = format!("{arn} has no access key {id}");
            return Err(ApiError::new(KmsErrorCode::NotFoundException, message));
        }
        Ok((vec![with_access_keys(entry, access_keys)], Reply::empty()))
    })
    .await
}

fn find<'a>(snapshot: &'a Snapshot, arn: &str) -> Result<&'a Arc<PrincipalEntry>, ApiError> {
    snapshot.principals.get(arn).ok_or_else(|| {
        let message = format!("Principal {arn} does not exist");
        ApiError::new(KmsErrorCode::NotFoundException, message)
    })
}

fn with_access_keys(entry: &PrincipalEntry, access_keys: Vec<Arc<AccessKey>>) -> Change {
    Change::PutPrincipal(PrincipalEntry {
        principal: Arc::clone(&entry.principal),
        access_keys,
    })
}

/// Draws an access key, and the reply that tells it: 80 bits of id in IAM's form, 240 secret bits in 40 characters.
fn draw_access_key(api: &Api, arn: Option<&str>) -> Result<(Arc<AccessKey>, Reply), ApiError> {
    let mut id_bits = [0; 16];
    api.entropy.draw(&mut id_bits)?;
    let digit = |byte: &u8| char::from(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"[usize::from(byte & 31)]);
    let id: String = "AKIA".chars().chain(id_bits.iter().map(digit)).collect();
    let drawn = api.entropy.draw_secret::<30>()?;
    let secret = SecretBytes::filled(40, |text| {
        use base64_simd::{AsOut, STANDARD};
        let _written = STANDARD.encode(drawn.expose(), text.as_out());
    });
    let mut object = Object::new();
    if let Some(arn) = arn {
        object.text("Arn", arn);
    }
    object.plain("AccessKeyId", &id);
    let out = object.member("SecretAccessKey");
    out.push(b'"');
    out.extend_from_slice(secret.expose());
    out.push(b'"');
    let key = AccessKey { id, secret };
    Ok((Arc::new(key), object.end()))
}
