//! `AssumeRoleWithWebIdentity`: the holder of a token of another issuer assumes a role that trusts
//! the issuer. The token alone says who asks; a signature beside it means nothing.
//!
//! Sources: AWS STS API reference, `AssumeRoleWithWebIdentity`; AWS IAM, "Pass session tags in AWS
//! STS", for tags and a source identity that come with a token; AWS IAM, "Available keys for AWS
//! OIDC federation", for the claims that a trust policy reads.

use crate::api::validation::Violations;
use crate::api::{Answer, Api, ApiError, ErrorCode, Requester};
use crate::key::Tag;
use crate::operation::Action;
use crate::policy::SessionParameters;
use crate::sts::assume_role::{Assuming, TokenClaims, seconds};
use crate::sts::form::{Form, invalid};
use crate::sts::issued;
use crate::sts::role_request::{RoleRequest, are_allowed, check_tags};
use crate::web_identity::{Claims, Identity, Token};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

/// Members of `AssumeRole` that this operation does not have: here they come with the token, which
/// the caller cannot change.
const OF_TOKENS: [&str; 4] = ["Tags", "TransitiveTagKeys", "SourceIdentity", "ExternalId"];

/// Why the holder of a token is not known.
pub enum NotTaken {
    /// The request is not of the right form.
    Request(ApiError),
    /// The token is refused.
    Token(ApiError),
}

/// Who the token of a form is of, for the account of the form's role. `source` is the address of
/// the caller.
///
/// # Errors
/// [`NotTaken`].
pub async fn holder(
    api: &Api,
    form: &Form,
    source: Option<IpAddr>,
) -> Result<Arc<Identity>, NotTaken> {
    let asked = parse(form).map_err(NotTaken::Request)?;
    let token = form.text("WebIdentityToken").unwrap_or_default();
    let verified = api
        .web_identities
        .verify(token, asked.account, source, &api.rates);
    let verified = verified.await;
    let refused = verified.map_err(|error| ApiError::new(error.code(), error.to_string()));
    refused.map(Arc::new).map_err(NotTaken::Token)
}

fn parse(form: &Form) -> Result<RoleRequest<'_>, ApiError> {
    let mut violations = Violations::default();
    match form.text("WebIdentityToken").map(str::len) {
        None => violations.null("webIdentityToken"),
        Some(length) if length < Token::CHARACTERS_MIN => {
            let min = Token::CHARACTERS_MIN;
            let must = format!("Member must have length greater than or equal to {min}");
            violations.unnamed("webIdentityToken", must);
        }
        Some(length) if length > Token::CHARACTERS_MAX => {
            let max = Token::CHARACTERS_MAX;
            let must = format!("Member must have length less than or equal to {max}");
            violations.unnamed("webIdentityToken", must);
        }
        Some(_) => {}
    }
    let asked = RoleRequest::parse_after(form, violations)?;
    if let Some(member) = OF_TOKENS.iter().find(|member| form.has(member)) {
        let problem = "it comes with the token, if at all";
        return Err(invalid(format!(
            "AssumeRoleWithWebIdentity does not take {member}: {problem}."
        )));
    }
    Ok(asked)
}

pub(super) fn perform(api: &Api, requester: &Requester, form: &Form) -> Answer {
    let Some(identity) = &requester.web_identity else {
        return Err(ApiError::internal("the caller has no token"));
    };
    let mut asked = parse(form)?;
    let claims = &identity.claims;
    asked.parameters = parameters(identity, &asked)?;
    let values = values(identity);
    let of_token = TokenClaims {
        issuer: &identity.provider,
        values: &values,
    };
    api.under_last_check(requester, |attempt| {
        let assuming = Assuming::new(&asked, &asked.parameters, Some(of_token));
        let action = Action::AssumeRoleWithWebIdentity;
        let role = assuming
            .role(action, attempt, &attempt.principal)
            .map_err(|refused| refused.of_holder())?;
        let seconds = seconds(&asked, role, false)?;
        let issued = issued::issue(
            attempt,
            role,
            &asked,
            seconds,
            parameters(identity, &asked)?,
        )?;
        Ok(issued.reply(
            "AssumeRoleWithWebIdentity",
            requester,
            &[
                ("SubjectFromWebIdentityToken", &claims.subject),
                ("Audience", &identity.audience),
                ("Provider", &identity.issuer),
            ],
        ))
    })
}

/// The claims as conditions read them, by their names in lower case: the case of a condition key
/// does not count. Of claims whose names differ in case alone, each has its values among the
/// others'.
fn values(identity: &Identity) -> BTreeMap<String, Vec<String>> {
    let mut values = BTreeMap::<String, Vec<String>>::new();
    for (name, texts) in &identity.claims.values {
        let all = values.entry(name.to_ascii_lowercase()).or_default();
        all.extend(texts.iter().cloned());
    }
    let audiences = values.entry("aud".to_owned()).or_default();
    audiences.push(identity.audience.clone());
    values
}

/// The parameters of the new session: those of the token, and the policy of the request.
fn parameters(identity: &Identity, asked: &RoleRequest<'_>) -> Result<SessionParameters, ApiError> {
    let Claims {
        tags,
        transitive_tag_keys,
        source_identity,
        ..
    } = &identity.claims;
    let tag = |(key, value): &(String, String)| Tag {
        key: key.clone(),
        value: value.clone(),
    };
    let tags: Vec<_> = tags.iter().map(tag).collect();
    if !are_allowed(&tags, source_identity.as_deref()) {
        let message = "The tags or the source identity of the web identity token are not such as a session may have.";
        return Err(ApiError::new(ErrorCode::InvalidIdentityToken, message));
    }
    check_tags(&tags, transitive_tag_keys)?;
    Ok(SessionParameters {
        tags,
        transitive_tag_keys: transitive_tag_keys.clone(),
        source_identity: source_identity.clone(),
        policy: asked.parameters.policy.clone(),
        provider: Some(identity.provider_arn.clone()),
    })
}

#[cfg(test)]
mod tests;
