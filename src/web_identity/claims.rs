//! The claims of a verified token: its subject, its audiences, its times, and what its issuer adds.
//!
//! Sources: RFC 7519, section 4.1; AWS STS API reference, `AssumeRoleWithWebIdentity`, for the
//! claims that a token must have; AWS IAM user guide, "Pass session tags", for those that a session
//! takes over.

use crate::clock::Timestamp;
use crate::policy::json::Json;
use crate::web_identity::error::TokenError;
use std::collections::BTreeMap;

/// Seconds by which the clocks of an issuer and this daemon may differ: AWS's grace.
const GRACE_SECONDS: u64 = 300;
/// Seconds after which a token is too old, whenever it expires. API servers of Kubernetes stretch
/// their tokens to a year.
const AGE_SECONDS_MAX: u64 = 86_400;
/// Characters of a subject at most (AWS STS API reference, `SubjectFromWebIdentityToken`).
const SUBJECT_CHARACTERS_MAX: usize = 255;
/// Audiences of a token at most; tokens have one or two.
const AUDIENCES_MAX: usize = 100;

/// The claim with tags for the session.
const TAGS: &str = "https://aws.amazon.com/tags";
/// The claim with the session's source identity.
const SOURCE_IDENTITY: &str = "https://aws.amazon.com/source_identity";

/// The claims of a token that is signed and valid.
#[derive(Clone, PartialEq, Eq)]
pub struct Claims {
    /// `sub`, of 1 to 255 characters.
    pub subject: String,
    /// `aud`, at least one.
    pub audiences: Vec<String>,
    /// `iat`, in seconds since 1970.
    pub issued: u64,
    /// `exp`, in seconds since 1970.
    pub expires: u64,
    /// Tags for the session, in the order of the token.
    pub tags: Vec<(String, String)>,
    /// The keys of those that go on to sessions of this session.
    pub transitive_tag_keys: Vec<String>,
    /// The session's source identity.
    pub source_identity: Option<String>,
    /// The other claims that conditions can ask for, by name: texts, numbers and truth values as
    /// one text, lists of them as several. `sub` and `amr` are among them; `aud` is not, because a
    /// condition sees the audience that was matched.
    pub values: BTreeMap<String, Vec<String>>,
}

impl Claims {
    /// The claims of a token whose signature holds, at `now`.
    pub(super) fn read(members: Vec<(String, Json)>, now: Timestamp) -> Result<Self, TokenError> {
        let members: BTreeMap<String, Json> = members.into_iter().collect();
        let audiences = audiences(&members)?;
        let subject = match members.get("sub") {
            Some(Json::Text(subject)) => subject.clone(),
            Some(_) => return Err(TokenError::Invalid("\"sub\" is not a text")),
            None => return Err(TokenError::Missing("sub")),
        };
        if !(1..=SUBJECT_CHARACTERS_MAX).contains(&subject.chars().count()) {
            return Err(TokenError::Invalid("\"sub\" has 1 to 255 characters"));
        }
        let (issued, expires) = within_time(&members, now.unix_seconds())?;
        let (tags, transitive_tag_keys) = match members.get(TAGS) {
            Some(claim) => tags(claim).ok_or(TokenError::Invalid(
                "\"https://aws.amazon.com/tags\" is not of the form \
                 {\"principal_tags\": {\"Key\": [\"Value\"]}, \"transitive_tag_keys\": [\"Key\"]}",
            ))?,
            None => Default::default(),
        };
        let source_identity = match members.get(SOURCE_IDENTITY) {
            Some(Json::Text(text)) => Some(text.clone()),
            Some(_) => {
                let problem = "\"https://aws.amazon.com/source_identity\" is not a text";
                return Err(TokenError::Invalid(problem));
            }
            None => None,
        };
        let others = members.into_iter().filter(|(name, _)| name != "aud");
        let values = others.filter_map(|(name, value)| Some((name, values(&value)?)));
        Ok(Self {
            subject,
            audiences,
            issued,
            expires,
            tags,
            transitive_tag_keys,
            source_identity,
            values: values.collect(),
        })
    }
}

/// `aud`: a text or a list of texts.
fn audiences(members: &BTreeMap<String, Json>) -> Result<Vec<String>, TokenError> {
    match members.get("aud") {
        Some(Json::Text(one)) => Ok(vec![one.clone()]),
        Some(list) => {
            let audiences = texts(list).filter(|all| (1..=AUDIENCES_MAX).contains(&all.len()));
            audiences.ok_or(TokenError::Invalid("\"aud\" is not 1 to 100 texts"))
        }
        None => Err(TokenError::Missing("aud")),
    }
}

/// `iat` and `exp`, if the token is valid at `now`.
fn within_time(members: &BTreeMap<String, Json>, now: u64) -> Result<(u64, u64), TokenError> {
    let expires = time(members, "exp")?.ok_or(TokenError::Missing("exp"))?;
    let issued = time(members, "iat")?.ok_or(TokenError::Missing("iat"))?;
    let begins = time(members, "nbf")?.unwrap_or(issued).max(issued);
    if now >= expires.saturating_add(GRACE_SECONDS) {
        return Err(TokenError::Expired { now, expires });
    }
    if now.saturating_add(GRACE_SECONDS) < begins {
        return Err(TokenError::TooEarly { now, begins });
    }
    let age = now.saturating_sub(issued);
    if age > AGE_SECONDS_MAX {
        return Err(TokenError::TooOld(age));
    }
    Ok((issued, expires))
}

/// A time in whole seconds since 1970.
fn time(members: &BTreeMap<String, Json>, name: &'static str) -> Result<Option<u64>, TokenError> {
    match members.get(name) {
        None => Ok(None),
        Some(Json::Number(number)) => match number.parse() {
            Ok(seconds) => Ok(Some(seconds)),
            Err(_) => Err(TokenError::Invalid(
                "a time in it is not whole seconds since 1970",
            )),
        },
        Some(_) => Err(TokenError::Invalid("a time in it is not a number")),
    }
}

type Tags = (Vec<(String, String)>, Vec<String>);

/// `principal_tags`, each with one value in an array, and `transitive_tag_keys`.
fn tags(claim: &Json) -> Option<Tags> {
    let Json::Object(members) = claim else {
        return None;
    };
    let member = |name: &str| {
        let found = members.iter().find(|(other, _)| other == name);
        found.map(|(_, value)| value)
    };
    let tag = |(key, value): &(String, Json)| match value {
        Json::Array(values) => match values.as_slice() {
            [Json::Text(value)] => Some((key.clone(), value.clone())),
            _ => None,
        },
        _ => None,
    };
    let tags = match member("principal_tags") {
        Some(Json::Object(tags)) => tags.iter().map(tag).collect::<Option<Vec<_>>>()?,
        Some(_) => return None,
        None => Vec::new(),
    };
    let transitive = match member("transitive_tag_keys") {
        Some(keys) => texts(keys)?,
        None => Vec::new(),
    };
    Some((tags, transitive))
}

fn texts(list: &Json) -> Option<Vec<String>> {
    let Json::Array(list) = list else {
        return None;
    };
    let text = |one: &Json| match one {
        Json::Text(text) => Some(text.clone()),
        _ => None,
    };
    list.iter().map(text).collect()
}

/// A claim as conditions compare it; `None` for an object, nothing, and an empty list.
fn values(claim: &Json) -> Option<Vec<String>> {
    let one = |value: &Json| match value {
        Json::Text(text) | Json::Number(text) => Some(text.clone()),
        Json::Bool(value) => Some(value.to_string()),
        Json::Object(_) | Json::Array(_) | Json::Null => None,
    };
    match claim {
        Json::Array(list) if list.is_empty() => None,
        Json::Array(list) => list.iter().map(one).collect(),
        claim => Some(vec![one(claim)?]),
    }
}

#[cfg(test)]
mod tests;
