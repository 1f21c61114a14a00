//! Principals: the operator's own operations, since AWS KMS leaves them to IAM.
//!
//! There are users and roles of any account, and each account's root. They come with names that are
//! unique for each account and kind, and with ids that are never given twice. A bare name is the
//! name of a user of the operator's account (in `CreateSession`, of a role). Every principal can be
//! named by its ARN.
//!
//! A secret is returned once, by the call that drew it. Those of access keys are sealed at rest;
//! those of a session are kept nowhere.

use crate::admin::access_keys;
use crate::admin::lookup::{
    NAME, NAME_CHARACTERS_MAX, arn, arn_in_body, arn_of_name, check_name, find, invalid, is_arn,
    known_arn, limit, replace,
};
use crate::admin::trust::Trust;
use crate::api::validation::{Pattern, Violations};
use crate::api::wire::{self, Object, Text};
use crate::api::{Answer, Api, ApiError, ErrorCode, Reply, Requester};
use crate::key::arn::AccountId;
use crate::keystore::{AccessKey, Change, PrincipalEntry, draw_id};
use crate::policy::principal::{PrincipalKind, Tag};
use crate::policy::{PolicyDocument, Principal};
use serde::Deserialize;
use std::collections::BTreeSet;
use std::sync::Arc;

/// The digits of a unique id, after its prefix.
const UNIQUE_ID_DIGITS: usize = 17;
/// Principals of a store at most.
const PRINCIPALS_MAX: usize = 10_000;
/// Policies of a principal (IAM: managed policies of a user or a role).
const POLICIES_MAX: usize = 10;
/// Tags of a principal (IAM).
const TAGS_MAX: usize = 50;
const TAG_KEY_CHARACTERS_MAX: usize = 128;
const TAG_VALUE_CHARACTERS_MAX: usize = 256;
/// The key or the value of a tag.
const TAG: Pattern = Pattern {
    text: r"^[\p{L}\p{N} _.:/=+\-@]*$",
    matches: |text| {
        let allowed = |one: char| one.is_alphanumeric() || " _.:/=+-@".contains(one);
        text.chars().all(allowed)
    },
};

wire::input! {
    #[serde(deny_unknown_fields)]
    struct CreateInput<'a> {
        name: Text<'a>,
        kind: Text<'a>,
        account: Text<'a>,
        policies: Option<Vec<String>>,
        tags: Option<Vec<TagInput>>,
        trust_policy: Text<'a>,
        max_session_duration: Option<i64>,
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct TagInput {
    key: String,
    value: String,
}

wire::input! {
    #[serde(deny_unknown_fields)]
    struct PoliciesInput<'a> {
        name: Text<'a>,
        policies: Option<Vec<String>>,
    }
}

wire::input! {
    #[serde(deny_unknown_fields)]
    struct TagsInput<'a> {
        name: Text<'a>,
        tags: Option<Vec<TagInput>>,
    }
}

/// `CreatePrincipal`: a user and an account's root with their first access key, a role without any.
pub(super) async fn create(api: &Api, operator: &Requester, body: &[u8]) -> Answer {
    let input: CreateInput<'_> = wire::decode(body)?;
    let principal = new_principal(api, operator, &input)?;
    let trust = Trust::parse(
        input.trust_policy.as_deref(),
        input.max_session_duration,
        Violations::default(),
    )?;
    let arn = principal.arn.clone();
    let is_role = principal.kind() == PrincipalKind::Role;
    let mut reply = Object::new();
    reply.text("Arn", &arn);
    if let Some(id) = principal.unique_id() {
        reply.plain("UniqueId", id);
    }
    let mut access_keys = Vec::new();
    if !is_role {
        let key = AccessKey::draw(AccessKey::LASTING, &api.entropy)?;
        access_keys::write_secret(&key, &mut reply);
        access_keys.push(Arc::new(key));
    }
    let entry = trust.apply(api, PrincipalEntry::new(principal, access_keys))?;
    api.change(operator, None, |under| {
        let principals = &under.snapshot.principals;
        if principals.contains_key(arn.as_str()) {
            let message = format!("Principal {arn} already exists");
            return Err(ApiError::new(ErrorCode::AlreadyExistsException, message));
        }
        if principals.len() >= PRINCIPALS_MAX {
            return Err(limit(format!(
                "A store has at most {PRINCIPALS_MAX} principals."
            )));
        }
        Ok((vec![Change::PutPrincipal(entry.clone())], ()))
    })
    .await?;
    Ok(reply.end())
}

fn new_principal(
    api: &Api,
    operator: &Requester,
    input: &CreateInput<'_>,
) -> Result<Principal, ApiError> {
    let mut violations = Violations::default();
    let kind = input.kind.as_deref();
    violations.one_of("kind", kind, "user, role, root");
    let account = input.account.as_deref().map(str::parse::<AccountId>);
    if let (Some(Err(_)), Some(text)) = (&account, &input.account) {
        violations.value("account", &**text, "Member must have 12 digits");
    }
    let tags = input.tags.as_deref().unwrap_or_default();
    check_tags(tags, &mut violations);
    let account = account
        .and_then(Result::ok)
        .unwrap_or(operator.principal.account);
    let name = input.name.as_deref();
    // An ARN has account and kind in it; the root has no name; a bare name needs both.
    let arn = match (name, kind) {
        (Some(arn), _) if is_arn(arn) => {
            violations.check(())?;
            if kind.is_some() || input.account.is_some() {
                return Err(invalid(
                    "An ARN says itself of which kind and account it is.",
                ));
            }
            known_arn(api, arn)?
        }
        (None, Some("root")) => {
            violations.check(())?;
            format!(
                "arn:{}:iam::{account}:root",
                api.keystore.regions().home().partition
            )
        }
        (Some(_), Some("root")) => {
            violations.check(())?;
            return Err(invalid("The root of an account has no name."));
        }
        (name, kind) => {
            let name = violations.required_text("name", name, NAME_CHARACTERS_MAX, Some(&NAME));
            arn(
                api,
                kind.unwrap_or("user"),
                account,
                violations.check(name)?,
            )
        }
    };
    let policies = parse_policies(input.policies.as_deref().unwrap_or_default())?;
    let tags = unique_tags(tags)?;
    let principal = assemble(&arn, policies, tags, None)?;
    // An id is never given twice, so a new user of an old name has none of its rights.
    let prefix = match principal.kind() {
        PrincipalKind::User => "AIDA",
        PrincipalKind::Role => "AROA",
        _ => return Ok(principal),
    };
    Ok(principal.with_unique_id(&draw_id(prefix, UNIQUE_ID_DIGITS, &api.entropy)?))
}

/// `DisablePrincipal`, `EnablePrincipal`: a disabled principal keeps its keys, policies and tags,
/// and cannot authenticate.
pub(super) async fn enable(api: &Api, operator: &Requester, body: &[u8], enabled: bool) -> Answer {
    let arn = arn_in_body(api, operator, body)?;
    replace(api, operator, &arn, |entry| {
        Ok(PrincipalEntry { enabled, ..entry })
    })
    .await
}

/// `DeletePrincipal`
pub(super) async fn delete(api: &Api, operator: &Requester, body: &[u8]) -> Answer {
    let arn = arn_in_body(api, operator, body)?;
    api.change(operator, None, |under| {
        find(under.snapshot, &arn)?;
        Ok((vec![Change::RemovePrincipal(arn.clone())], Reply::empty()))
    })
    .await
}

/// Puts another principal into an entry; access keys and state stay.
async fn replace_principal(
    api: &Api,
    operator: &Requester,
    arn: &str,
    new: impl Fn(&Principal) -> Result<Principal, ApiError>,
) -> Answer {
    replace(api, operator, arn, |entry| {
        let principal = Arc::new(new(&entry.principal)?);
        Ok(PrincipalEntry { principal, ..entry })
    })
    .await
}

/// `PutPrincipalPolicies`: replaces all policies of the principal.
pub(super) async fn put_policies(api: &Api, operator: &Requester, body: &[u8]) -> Answer {
    let input: PoliciesInput<'_> = wire::decode(body)?;
    let mut violations = Violations::default();
    let name = check_name(input.name.as_deref(), &mut violations);
    let policies = violations.required("policies", input.policies.as_deref());
    let (name, policies) = violations.check((name, policies))?;
    let arn = arn_of_name(api, operator, name, "user")?;
    let policies = parse_policies(policies)?;
    replace_principal(api, operator, &arn, |old| {
        assemble(&arn, policies.clone(), old.tags().to_vec(), old.unique_id())
    })
    .await
}

/// `PutPrincipalTags`: replaces all tags of the principal.
pub(super) async fn put_tags(api: &Api, operator: &Requester, body: &[u8]) -> Answer {
    let input: TagsInput<'_> = wire::decode(body)?;
    let mut violations = Violations::default();
    let name = check_name(input.name.as_deref(), &mut violations);
    let tags = violations.required("tags", input.tags.as_deref());
    check_tags(tags, &mut violations);
    let (name, tags) = violations.check((name, tags))?;
    let arn = arn_of_name(api, operator, name, "user")?;
    let tags = unique_tags(tags)?;
    replace_principal(api, operator, &arn, |old| {
        assemble(&arn, old.policies.clone(), tags.clone(), old.unique_id())
    })
    .await
}

/// The principal of these parts. An account's root has every right by itself and nothing attached,
/// as in IAM.
fn assemble(
    arn: &str,
    policies: Vec<Arc<PolicyDocument>>,
    tags: Vec<Tag>,
    unique_id: Option<&str>,
) -> Result<Principal, ApiError> {
    let attached = !policies.is_empty() || !tags.is_empty();
    let principal = Principal::new(arn, policies).map_err(ApiError::internal)?;
    if principal.kind() == PrincipalKind::Root && attached {
        return Err(invalid(
            "The root of an account has neither policies nor tags.",
        ));
    }
    let principal = principal.with_tags(tags);
    Ok(match unique_id {
        Some(id) => principal.with_unique_id(id),
        None => principal,
    })
}

fn parse_policies(policies: &[String]) -> Result<Vec<Arc<PolicyDocument>>, ApiError> {
    if policies.len() > POLICIES_MAX {
        return Err(limit(format!(
            "A principal has at most {POLICIES_MAX} policies."
        )));
    }
    let parse = |policy: &String| {
        PolicyDocument::parse(policy)
            .map(Arc::new)
            .map_err(|error| {
                ApiError::new(
                    ErrorCode::MalformedPolicyDocumentException,
                    error.to_string(),
                )
            })
    };
    policies.iter().map(parse).collect()
}

fn check_tags(tags: &[TagInput], violations: &mut Violations) {
    if tags.len() > TAGS_MAX {
        let must = format!("Member must have length less than or equal to {TAGS_MAX}");
        violations.unnamed("tags", must);
    }
    for (at, TagInput { key, value }) in tags.iter().take(TAGS_MAX).enumerate() {
        let member = |name| format!("tags.{}.member.{name}", at + 1);
        violations.text(&member("key"), key, 1, TAG_KEY_CHARACTERS_MAX, Some(&TAG));
        let max = TAG_VALUE_CHARACTERS_MAX;
        violations.text(&member("value"), value, 0, max, Some(&TAG));
    }
}

/// Tags whose keys differ by more than case, as IAM requires, and do not have AWS's own prefix.
fn unique_tags(tags: &[TagInput]) -> Result<Vec<Tag>, ApiError> {
    let refused = |message: String| Err(ApiError::new(ErrorCode::TagException, message));
    let mut keys = BTreeSet::new();
    for TagInput { key, .. } in tags {
        let folded = key.to_lowercase();
        if folded.starts_with("aws:") {
            return refused(format!("Tag key {key} begins with aws:, which is reserved"));
        }
        if !keys.insert(folded) {
            return refused(format!("Tag key {key} occurs twice; case does not matter"));
        }
    }
    let tag = |tag: &TagInput| Tag {
        key: tag.key.clone(),
        value: tag.value.clone(),
    };
    Ok(tags.iter().map(tag).collect())
}
