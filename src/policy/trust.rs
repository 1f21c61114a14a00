//! Trust policies: who may assume a role.
//!
//! Source: AWS IAM, "How to use trust policies with IAM roles"; AWS IAM, "Create a role for OpenID
//! Connect federation", for identity providers and the claims of their tokens.

use crate::operation::Action;
use crate::policy::document;
use crate::policy::element::{Effect, Grammar};
use crate::policy::error::{InvalidPolicy, refuse};
use crate::policy::statement::{List, PrincipalPattern, Statement};
use crate::policy::template::Template;
use crate::policy::wildcard::Case;

/// Actions of AWS STS that a trust policy may name and that no caller can perform here.
const UNBUILT: [&str; 2] = ["sts:AssumeRoleWithSAML", "sts:SetContext"];
/// What stands in a provider's ARN before its issuer.
const PROVIDER: &str = ":oidc-provider/";

/// Claims that say nothing of who the holder of a token is: all of an issuer's have them alike.
const OF_ALL: [&str; 5] = ["aud", "exp", "iat", "iss", "nbf"];

/// A parsed trust policy. It applies to the role that it is attached to, and names principals and
/// identity providers.
pub struct TrustPolicy {
    source: Box<str>,
    pub(super) statements: Box<[Statement]>,
}

impl TrustPolicy {
    /// The most bytes of a document.
    pub const BYTES_MAX: usize = document::TRUST_BYTES_MAX;

    /// Parses and compiles the JSON text; an unknown element is an error.
    ///
    /// An allow for an identity provider must say which callers it means: with a condition on the
    /// audience alone, every holder of a token of the provider could assume the role.
    ///
    /// # Errors
    /// [`InvalidPolicy`].
    pub fn parse(json: &str) -> Result<Self, InvalidPolicy> {
        let statements = document::parse(json, Grammar::Trust)?;
        for (at, statement) in statements.iter().enumerate() {
            check(statement).map_err(|error| error.at(&format!("Statement {}", at + 1)))?;
        }
        let source = json.into();
        Ok(Self { source, statements })
    }

    /// The JSON text as it was given.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The ARNs of the identity providers that it names, each as often as it is named.
    pub fn providers(&self) -> impl Iterator<Item = &str> {
        let patterns = self.statements.iter().flat_map(|found| &found.principals);
        patterns.filter_map(|pattern| match pattern {
            PrincipalPattern::Provider(arn) => Some(&**arn),
            _ => None,
        })
    }

    /// The issuers whose claims its conditions read, each as often as they do: URLs without
    /// `https://`.
    pub fn issuers(&self) -> impl Iterator<Item = &str> {
        let conditions = self.statements.iter().flat_map(|found| &found.conditions);
        conditions.filter_map(|condition| condition.issuer())
    }
}

/// The rules of a statement that need all of it.
fn check(statement: &Statement) -> Result<(), InvalidPolicy> {
    if let List::Of(actions) = &statement.actions
        && !actions.iter().all(is_of_sts)
    {
        return refuse("AssumeRole policy may only specify STS AssumeRole actions.");
    }
    let providers = statement.principals.iter().filter_map(|one| match one {
        PrincipalPattern::Provider(arn) => Some(arn.split_once(PROVIDER)),
        _ => None,
    });
    for provider in providers.filter(|_| statement.effect == Effect::Allow) {
        let Some((_, of)) = provider else {
            return refuse(
                "Principal: Federated: only arn:aws:iam::<account>:oidc-provider/<issuer> can let anybody in",
            );
        };
        let mut conditions = statement.conditions.iter();
        let says_who = conditions.any(|condition| {
            let claim = condition.claim();
            claim.is_some_and(|(issuer, claim)| issuer == of && !OF_ALL.contains(&claim))
        });
        if !says_who {
            return refuse(format!(
                "Condition: an allow for {of} needs a condition on {of}:sub, or on another claim that says who the caller is"
            ));
        }
    }
    Ok(())
}

fn is_of_sts(pattern: &Template) -> bool {
    let all = Action::ALL.iter().map(|action| action.name());
    let mut of_sts = all.filter(|name| name.starts_with("sts:")).chain(UNBUILT);
    of_sts.any(|name| pattern.is(name, Case::Insensitive))
}

#[cfg(test)]
mod tests;
