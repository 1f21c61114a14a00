//! Grants: `CreateGrant`, and in the files beside this one what lists and what removes them.
//!
//! A grant is in force when `CreateGrant` is answered, and no longer when `RetireGrant` or
//! `RevokeGrant` is; on AWS both take a while. What makes no grant is told before the key is looked
//! up, unless it depends on the key. As in a key policy, a user or role that a grant names must be
//! in the store.

use crate::api::key_policies::exists;
use crate::api::members::{Members, NewGrant};
use crate::api::validation::{ASCII, KEY_ID_CHARACTERS_MAX, Pattern, Violations};
use crate::api::wire::{self, ContextMember, Object, Text};
use crate::api::{
    Answer, Api, ApiError, KmsErrorCode, Reply, Requester, dry_run, state, unsupported,
};
use crate::context::EncryptionContext;
use crate::key::KeyId;
use crate::key::arn::AccountId;
use crate::keystore::{Change, KeyEntry, Snapshot};
use crate::operation::Action;
use crate::policy::grant::{Draft, GrantConstraint, GrantId, GrantName, InvalidGrant};
use crate::policy::{Grant, GrantParameters};
use serde::Deserialize;
use serde::de::IgnoredAny;
use std::borrow::Cow;
use std::sync::Arc;

pub(super) mod listing;
pub(super) mod removal;

const PRINCIPAL_CHARACTERS_MAX: usize = 256;
/// Characters of a `GrantId` by the model; ours have 64.
const GRANT_ID_CHARACTERS_MAX: usize = 128;

/// `GranteePrincipal`, `RetiringPrincipal`
const PRINCIPAL: Pattern = Pattern {
    text: r"^[\w+=,.@:/-]+$",
    matches: |text| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_+=,.@:/-".contains(&byte);
        !text.is_empty() && text.bytes().all(allowed)
    },
};

/// `Name`
const NAME: Pattern = Pattern {
    text: "^[a-zA-Z0-9:/_-]+$",
    matches: |text| text.parse::<GrantName>().is_ok() || text.len() > GrantName::CHARACTERS_MAX,
};

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Input<'a> {
    #[serde(borrow)]
    key_id: Text<'a>,
    #[serde(borrow)]
    grantee_principal: Text<'a>,
    #[serde(borrow)]
    retiring_principal: Text<'a>,
    #[serde(borrow)]
    operations: Option<Vec<Cow<'a, str>>>,
    constraints: Option<Constraints>,
    #[serde(borrow)]
    grant_tokens: Option<Vec<Cow<'a, str>>>,
    #[serde(borrow)]
    name: Text<'a>,
    dry_run: Option<bool>,
    grantee_service_principal: Option<IgnoredAny>,
    retiring_service_principal: Option<IgnoredAny>,
}

/// A constraint that is not known is an error: a grant without it would let more than was meant.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Constraints {
    encryption_context_subset: Option<ContextMember>,
    encryption_context_equals: Option<ContextMember>,
    source_arn: Option<IgnoredAny>,
}

/// What grants can let on AWS that is not built here.
const UNBUILT: [&str; 2] = ["Encapsulate", "Decapsulate"];

impl Input<'_> {
    fn check(&self) -> Result<(), ApiError> {
        // Before what is missing: they stand in other members' places.
        no_service("GranteeServicePrincipal", self.grantee_service_principal)?;
        no_service("RetiringServicePrincipal", self.retiring_service_principal)?;
        let mut violations = Violations::default();
        let key_id = self.key_id.as_deref();
        violations.required_text("keyId", key_id, KEY_ID_CHARACTERS_MAX, Some(&ASCII));
        let grantee = self.grantee_principal.as_deref();
        violations.required_text(
            "granteePrincipal",
            grantee,
            PRINCIPAL_CHARACTERS_MAX,
            Some(&PRINCIPAL),
        );
        check_principal(
            "retiringPrincipal",
            self.retiring_principal.as_deref(),
            &mut violations,
        );
        match self.operations.as_deref() {
            None => violations.null("operations"),
            Some(operations) => check_operations(operations, &mut violations),
        }
        violations.grant_tokens(self.grant_tokens.as_deref());
        if let Some(name) = self.name.as_deref() {
            violations.text("name", name, 1, GrantName::CHARACTERS_MAX, Some(&NAME));
        }
        violations.check()
    }

    /// What the grant says, if that makes one.
    fn parameters(&mut self) -> Result<GrantParameters, ApiError> {
        let (mut equals, mut subset) = (None, None);
        if let Some(constraints) = self.constraints.take() {
            if constraints.source_arn.is_some() {
                return Err(unsupported("SourceArn"));
            }
            equals = context(constraints.encryption_context_equals)?;
            subset = context(constraints.encryption_context_subset)?;
        }
        let mut operations = self.operations.iter().flatten();
        if let Some(name) = operations.clone().find(|name| UNBUILT.contains(&&***name)) {
            return Err(unsupported(&format!("Operations {name}")));
        }
        let operations = operations
            .by_ref()
            .filter_map(|name| Action::of_grant(name));
        let name = self.name.as_deref().and_then(|name| name.parse().ok());
        let grantee = self.grantee_principal.as_deref().unwrap_or_default();
        let retiring_principal = self.retiring_principal.as_deref();
        let parameters = GrantParameters::check(Draft {
            grantee,
            retiring_principal,
            operations: operations.collect(),
            equals: equals.as_ref(),
            subset: subset.as_ref(),
            name: name.as_ref(),
        });
        parameters.map_err(|error| match error {
            InvalidGrant::Grantee => no_principal(grantee),
            InvalidGrant::RetiringPrincipal => no_principal(retiring_principal.unwrap_or_default()),
            other => invalid(other),
        })
    }
}

fn invalid(error: InvalidGrant) -> ApiError {
    ApiError::new(KmsErrorCode::ValidationException, error.to_string())
}

fn context(member: Option<ContextMember>) -> Result<Option<EncryptionContext>, ApiError> {
    member.map(|member| wire::context(Some(member))).transpose()
}

fn check_operations(operations: &[Cow<'_, str>], violations: &mut Violations) {
    let known =
        |name: &Cow<'_, str>| Action::of_grant(name).is_some() || UNBUILT.contains(&&**name);
    if !operations.iter().all(known) {
        let built = Action::grantable().map(Action::bare_name);
        let all = [built.as_slice(), &UNBUILT].concat().join(", ");
        let must = format!(
            "Member must satisfy constraint: [Member must satisfy enum value set: [{all}]]"
        );
        violations.value("operations", format!("[{}]", operations.join(", ")), must);
    }
}

fn check_principal(member: &str, principal: Option<&str>, violations: &mut Violations) {
    if let Some(principal) = principal {
        let max = PRINCIPAL_CHARACTERS_MAX;
        violations.text(member, principal, 1, max, Some(&PRINCIPAL));
    }
}

/// No service of AWS calls here, so that none has a grant.
fn no_service(member: &str, value: Option<IgnoredAny>) -> Result<(), ApiError> {
    value.map_or(Ok(()), |_| Err(unsupported(member)))
}

fn no_principal(text: &str) -> ApiError {
    let message = format!("ARN does not refer to a valid principal: {text}");
    ApiError::new(KmsErrorCode::InvalidArnException, message)
}

/// `CreateGrant`
pub(super) async fn create(api: Arc<Api>, requester: Requester, body: Vec<u8>) -> Answer {
    let mut input: Input<'_> = wire::decode(&body)?;
    input.check()?;
    let new = NewGrant::new(input.parameters()?);
    let now = api.clock.now();
    api.change(&requester, None, |under| {
        let caller = under
            .caller(Action::CreateGrant)
            .with(Members::NewGrant(&new));
        let parameters = &new.parameters;
        let constraint = parameters.constraint().map(GrantConstraint::pairs);
        let caller = constraint.map_or(caller, |pairs| caller.under(pairs));
        let key_id = input.key_id.as_deref().unwrap_or_default();
        let request = caller.key_not_alias(key_id, under.snapshot)?;
        let entry = request.request().entry();
        api.check_grant_tokens(under, &[entry], input.grant_tokens.as_deref())?;
        let named = [Some(parameters.grantee()), parameters.retiring_principal()];
        for name in named.into_iter().flatten() {
            if !exists(name, under.snapshot) {
                return Err(no_principal(name.as_str()));
            }
        }
        state(entry)?;
        let fits = parameters.check_key(entry.key.spec, entry.key.usage);
        fits.map_err(invalid)?;
        let (key, issuing_account) = (entry.key.id, requester.principal.account);
        let same = same(parameters, key, issuing_account, under.snapshot)?;
        dry_run(input.dry_run)?;
        if let Some(id) = same {
            return Ok((Vec::new(), reply(&api, entry, id)?));
        }
        let mut id = GrantId([0; 32]);
        api.entropy.draw(&mut id.0)?;
        let grant = Grant {
            id,
            key,
            parameters: parameters.clone(),
            issuing_account,
            creation_date: now,
        };
        let change = Change::PutGrant(Arc::new(grant));
        Ok((vec![change], reply(&api, entry, id)?))
    })
    .await
}

/// The grant that is there already under the same name; if there is none, there must be room for
/// another.
fn same(
    parameters: &GrantParameters,
    key: KeyId,
    issuing_account: AccountId,
    snapshot: &Snapshot,
) -> Result<Option<GrantId>, ApiError> {
    let Some(grants) = snapshot.grants.get(&key) else {
        return Ok(None);
    };
    if let Some(same) = grants.same(parameters, issuing_account) {
        return Ok(Some(same.id));
    }
    room(grants.len()).map(|()| None)
}

fn room(grants: usize) -> Result<(), ApiError> {
    if grants < Grant::PER_KEY_MAX {
        return Ok(());
    }
    let message = format!("A KMS key has at most {} grants.", Grant::PER_KEY_MAX);
    Err(ApiError::new(KmsErrorCode::LimitExceededException, message))
}

fn reply(api: &Api, entry: &Arc<KeyEntry>, id: GrantId) -> Result<Reply, ApiError> {
    let tokens = api.keystore.grant_tokens();
    let token = tokens.issue(entry.key.id, id, &api.entropy)?;
    let mut object = Object::new();
    object.plain("GrantToken", &token);
    object.shown("GrantId", id);
    Ok(object.end().about(entry))
}

/// Checks the form of a `GrantId` beyond the model's, which takes any text.
fn grant_id(text: &str) -> Result<GrantId, ApiError> {
    text.parse()
        .map_err(|_| ApiError::bare(KmsErrorCode::InvalidGrantIdException))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_a_bounded_number_of_grants() {
        assert!(room(49_999).is_ok());
        let error = room(50_000).err().unwrap();
        assert_eq!(error.code(), KmsErrorCode::LimitExceededException);
        assert_eq!(error.message(), "A KMS key has at most 50000 grants.");
    }
}
