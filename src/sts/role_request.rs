//! What a caller who assumes a role asks for: the members that `AssumeRole` and
//! `AssumeRoleWithWebIdentity` have in common.
//!
//! Source: the service model of AWS STS for constraints, in the words of its front end as measured.
//! A member that would narrow the session and is not built is refused: to pass over it would give
//! more rights than were asked for.

use crate::api::validation::{Pattern, Violations};
use crate::api::{ApiError, ErrorCode};
use crate::auth::Session;
use crate::key::Tag;
use crate::key::arn::{AccountId, Arn};
use crate::policy::principal::same_key;
use crate::policy::{PolicyDocument, SessionParameters};
use crate::sts::form::{Form, invalid};
use std::sync::Arc;

const ARN_CHARACTERS: (usize, usize) = (20, 2048);
const SESSION_NAME_CHARACTERS: (usize, usize) = (2, 64);
const SOURCE_IDENTITY_CHARACTERS: (usize, usize) = (2, 256);
const EXTERNAL_ID_CHARACTERS: (usize, usize) = (2, 1224);
/// Session policies and their tags must fit into a session token, so no more than a web identity
/// may pass is any use.
const POLICY_CHARACTERS: (usize, usize) = (1, 2048);
const TAG_KEY_CHARACTERS: (usize, usize) = (1, 128);
const TAG_VALUE_CHARACTERS: (usize, usize) = (0, 256);
const TAGS_MAX: usize = 50;

const ARN: Pattern = Pattern {
    text: r"[\u0009\u000A\u000D\u0020-\u007E\u0085\u00A0-\uD7FF\uE000-\uFFFD\u10000-\u10FFFF]+",
    matches: |text| {
        let allowed = |one: char| {
            matches!(
                one,
                '\t' | '\n' | '\r' | '\u{85}' | ' '..='~' | '\u{a0}'..='\u{fffd}' | '\u{10000}'..
            )
        };
        !text.is_empty() && text.chars().all(allowed)
    },
};
const NAME: Pattern = Pattern {
    text: r"[\w+=,.@-]*",
    matches: |text| {
        text.bytes()
            .all(|one| is_word(one) || b"+=,.@-".contains(&one))
    },
};
const EXTERNAL_ID: Pattern = Pattern {
    text: r"[\w+=,.@:\/-]*",
    matches: |text| {
        text.bytes()
            .all(|one| is_word(one) || b"+=,.@:/-".contains(&one))
    },
};
const POLICY: Pattern = Pattern {
    text: r"[\u0009\u000A\u000D\u0020-\u00FF]+",
    matches: |text| {
        let allowed = |one: char| matches!(one, '\t' | '\n' | '\r' | ' '..='\u{ff}');
        !text.is_empty() && text.chars().all(allowed)
    },
};
const TAG_KEY: Pattern = Pattern {
    text: r"[\p{L}\p{Z}\p{N}_.:/=+\-@]+",
    matches: |text| !text.is_empty() && text.chars().all(is_of_tag),
};
const TAG_VALUE: Pattern = Pattern {
    text: r"[\p{L}\p{Z}\p{N}_.:/=+\-@]*",
    matches: |text| text.chars().all(is_of_tag),
};

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

fn is_of_tag(one: char) -> bool {
    one.is_alphanumeric() || one.is_whitespace() && !one.is_control() || "_.:/=+-@".contains(one)
}

/// A role that is to be assumed, and the session that is asked for.
pub(super) struct RoleRequest<'a> {
    /// The role's ARN.
    pub(super) role: &'a str,
    /// The account in it.
    pub(super) account: AccountId,
    /// The session's name.
    pub(super) session_name: &'a str,
    /// How many seconds it shall last; `None`: the default.
    pub(super) seconds: Option<u32>,
    /// `ExternalId`
    pub(super) external_id: Option<&'a str>,
    /// Tags, source identity and policy, as they are in the request.
    pub(super) parameters: SessionParameters,
}

impl<'a> RoleRequest<'a> {
    /// Parses a form.
    ///
    /// # Errors
    /// `ValidationError`, `InvalidParameterValue`, `MalformedPolicyDocument`,
    /// `InvalidContextAssertion`.
    pub(super) fn parse(form: &'a Form) -> Result<Self, ApiError> {
        Self::parse_after(form, Violations::default())
    }

    /// As [`Self::parse`], after other members of the form, with their `violations`.
    ///
    /// # Errors
    /// Those of [`Self::parse`].
    pub(super) fn parse_after(
        form: &'a Form,
        mut violations: Violations,
    ) -> Result<Self, ApiError> {
        let mut text = |name: &str, member, lengths, pattern| {
            let value = form.text(name)?;
            check(&mut violations, member, value, lengths, pattern);
            Some(value)
        };
        let role = text("RoleArn", "roleArn", ARN_CHARACTERS, &ARN);
        let lengths = SESSION_NAME_CHARACTERS;
        let session_name = text("RoleSessionName", "roleSessionName", lengths, &NAME);
        let policy = text("Policy", "policy", POLICY_CHARACTERS, &POLICY);
        let lengths = EXTERNAL_ID_CHARACTERS;
        let external_id = text("ExternalId", "externalId", lengths, &EXTERNAL_ID);
        let lengths = SOURCE_IDENTITY_CHARACTERS;
        let source_identity = text("SourceIdentity", "sourceIdentity", lengths, &NAME);
        for (member, value) in [("roleArn", role), ("roleSessionName", session_name)] {
            if value.is_none() {
                violations.null(member);
            }
        }
        let seconds = seconds(form, &mut violations);
        let tags = tags(form, &mut violations);
        let transitive_tag_keys = transitive_tag_keys(form, &mut violations);
        let (role, session_name) = (role.unwrap_or_default(), session_name.unwrap_or_default());
        let (tags, seconds) = violations.check((tags, seconds))?;
        let account = account_of(role).ok_or_else(|| invalid(format!("{role} is invalid")))?;
        refuse_unbuilt(form)?;
        check_tags(&tags, &transitive_tag_keys)?;
        Ok(Self {
            role,
            account,
            session_name,
            seconds,
            external_id,
            parameters: SessionParameters {
                tags,
                transitive_tag_keys,
                source_identity: source_identity.map(str::to_owned),
                policy: policy.map(session_policy).transpose()?,
                provider: None,
            },
        })
    }
}

/// Checks a text as the front end of STS does: its pattern before its length.
pub(super) fn check(
    violations: &mut Violations,
    member: &str,
    value: &str,
    (min, max): (usize, usize),
    pattern: &Pattern,
) {
    violations.text(member, value, 0, usize::MAX, Some(pattern));
    violations.text(member, value, min, max, None);
}

fn seconds(form: &Form, violations: &mut Violations) -> Option<u32> {
    let text = form.text("DurationSeconds")?;
    let (min, max) = (Session::SECONDS_MIN, Session::SECONDS_MAX);
    let Ok(seconds) = text.parse() else {
        violations.value("durationSeconds", text, "Member must be an integer");
        return None;
    };
    violations.number("durationSeconds", Some(seconds), min, max)
}

fn tags(form: &Form, violations: &mut Violations) -> Vec<Tag> {
    let list = form.list("Tags");
    check_count("tags", list.len(), violations);
    let mut tags = Vec::new();
    for (at, tag) in list.values().take(TAGS_MAX).enumerate() {
        let mut member = |name: &str, in_message: &str, lengths, pattern| {
            let member = format!("tags.{}.member.{in_message}", at + 1);
            let value = tag.get(name).copied();
            match value {
                Some(value) => check(violations, &member, value, lengths, pattern),
                None => violations.null(&member),
            }
            value.unwrap_or_default().to_owned()
        };
        tags.push(Tag {
            key: member("Key", "key", TAG_KEY_CHARACTERS, &TAG_KEY),
            value: member("Value", "value", TAG_VALUE_CHARACTERS, &TAG_VALUE),
        });
    }
    tags
}

fn transitive_tag_keys(form: &Form, violations: &mut Violations) -> Vec<String> {
    let list = form.list("TransitiveTagKeys");
    check_count("transitiveTagKeys", list.len(), violations);
    let mut keys = Vec::new();
    for (at, key) in list.values().take(TAGS_MAX).enumerate() {
        let key = key.get("").copied().unwrap_or_default();
        let member = format!("transitiveTagKeys.{}.member", at + 1);
        check(violations, &member, key, TAG_KEY_CHARACTERS, &TAG_KEY);
        keys.push(key.to_owned());
    }
    keys
}

fn check_count(member: &str, count: usize, violations: &mut Violations) {
    if count > TAGS_MAX {
        let must = format!("Member must have length less than or equal to {TAGS_MAX}");
        violations.unnamed(member, must);
    }
}

/// The account of a role's ARN; `None` for other texts.
fn account_of(text: &str) -> Option<AccountId> {
    let arn = Arn::split(text)?;
    let is_role = arn.service == "iam" && arn.region.is_empty();
    let name = arn.resource.strip_prefix("role/").unwrap_or_default();
    let account = arn.account.parse().ok()?;
    (is_role && !name.is_empty()).then_some(account)
}

/// Members that are not built. `PolicyArns` and the like may be there as empty lists.
fn refuse_unbuilt(form: &Form) -> Result<(), ApiError> {
    for (member, why) in [
        ("PolicyArns", "there are no managed policies"),
        ("SerialNumber", "there are no MFA devices"),
        ("TokenCode", "there are no MFA devices"),
        ("ProviderId", "it is for OAuth 2.0 access tokens"),
    ] {
        if form.has(member) {
            return Err(invalid(format!("Keymill does not take {member}: {why}.")));
        }
    }
    if form.has("ProvidedContexts") {
        let message = "Keymill does not take ProvidedContexts: it trusts no context provider.";
        return Err(ApiError::new(ErrorCode::InvalidContextAssertion, message));
    }
    Ok(())
}

/// The rules for tags that need all of them.
///
/// # Errors
/// `InvalidParameterValue`.
pub(super) fn check_tags(tags: &[Tag], transitive: &[String]) -> Result<(), ApiError> {
    for (at, tag) in tags.iter().enumerate() {
        if tag.key.to_lowercase().starts_with("aws:") {
            return Err(bad_value("Tag keys beginning with aws: are reserved."));
        }
        if tags[..at]
            .iter()
            .any(|other| same_key(&other.key, &tag.key))
        {
            return Err(bad_value(
                "Duplicate tag keys found. Please note that Tag keys are case insensitive.",
            ));
        }
    }
    let is_tag = |key: &String| tags.iter().any(|tag| same_key(&tag.key, key));
    if !transitive.iter().all(is_tag) {
        return Err(bad_value(
            "The specified transitive tag key must be included in the requested tags.",
        ));
    }
    Ok(())
}

/// Whether tags and a source identity that were not parsed from a form are such as a form may have.
pub(super) fn are_allowed(tags: &[Tag], source_identity: Option<&str>) -> bool {
    let fits = |text: &str, (min, max): (usize, usize), pattern: &Pattern| {
        (min..=max).contains(&text.chars().count()) && (pattern.matches)(text)
    };
    let is_allowed = |tag: &Tag| {
        fits(&tag.key, TAG_KEY_CHARACTERS, &TAG_KEY)
            && fits(&tag.value, TAG_VALUE_CHARACTERS, &TAG_VALUE)
    };
    tags.len() <= TAGS_MAX
        && tags.iter().all(is_allowed)
        && source_identity.is_none_or(|text| fits(text, SOURCE_IDENTITY_CHARACTERS, &NAME))
}

pub(super) fn bad_value(message: &'static str) -> ApiError {
    ApiError::new(ErrorCode::InvalidParameterValue, message)
}

fn session_policy(policy: &str) -> Result<Arc<PolicyDocument>, ApiError> {
    let policy = PolicyDocument::parse(policy).map_err(|error| {
        let code = ErrorCode::MalformedPolicyDocument;
        ApiError::new(code, error.to_string())
    })?;
    Ok(Arc::new(policy))
}
