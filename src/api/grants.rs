//! Grants: `CreateGrant`, and in the files beside this one the operations that list and remove
//! them.
//!
//! A grant is in force when `CreateGrant` is answered, and no longer when `RetireGrant` or
//! `RevokeGrant` is; on AWS both take a while. Members that cannot make a grant are refused before
//! the key is looked up, unless that depends on the key. As in a key policy, a user or role that a
//! grant names must be in the store.

use crate::api::admission::Ask;
use crate::api::grants::named::{GRANTEE, RETIRING};
use crate::api::key_policies::exists;
use crate::api::key_reference::KeyReference;
use crate::api::members::{Members, NewGrant};
use crate::api::validation::{Pattern, Violations};
use crate::api::wire::{self, ContextMember, Object, Text};
use crate::api::{Answer, Api, ApiError, ErrorCode, Reply, Requester};
use crate::key::arn::AccountId;
use crate::key::regions::RegionalId;
use crate::keystore::{Change, KeyEntry, Snapshot};
use crate::operation::Action;
use crate::policy::grant::{
    Draft, GrantId, GrantName, GrantPrincipal, InvalidGrant, Named, SourceArn,
};
use crate::policy::{Grant, GrantParameters};
use serde::Deserialize;
use std::borrow::Cow;
use std::sync::Arc;

pub(super) mod listing;
mod named;
pub(super) mod removal;

/// Characters of a `GrantId` by the model; ours have 64.
const GRANT_ID_CHARACTERS_MAX: usize = 128;

/// `Constraints.SourceArn`
const SOURCE_ARN: Pattern = Pattern {
    text: SourceArn::PATTERN,
    matches: SourceArn::matches,
};

/// `Name`
const NAME: Pattern = Pattern {
    text: "^[a-zA-Z0-9:/_-]+$",
    matches: |text| text.parse::<GrantName>().is_ok() || text.len() > GrantName::CHARACTERS_MAX,
};

wire::input! {
    struct Input<'a> {
        key_id: Text<'a>,
        grantee_principal: Text<'a>,
        retiring_principal: Text<'a>,
        operations: Option<Vec<Cow<'a, str>>>,
        constraints: Option<Constraints<'a>>,
        grant_tokens: Option<Vec<Cow<'a, str>>>,
        name: Text<'a>,
        dry_run: Option<bool>,
        grantee_service_principal: Text<'a>,
        retiring_service_principal: Text<'a>,
    }
}

/// A constraint that is not known is an error: a grant without it would let more than was meant.
#[derive(Deserialize)]
#[serde(
    rename_all = "PascalCase",
    deny_unknown_fields,
    bound(deserialize = "'de: 'a")
)]
struct Constraints<'a> {
    encryption_context_subset: Option<ContextMember>,
    encryption_context_equals: Option<ContextMember>,
    source_arn: Text<'a>,
}

/// The members of a `CreateGrant`, checked.
struct Checked<'a> {
    key: KeyReference<'a>,
    grantee: Named<'a>,
    retiring_principal: Option<Named<'a>>,
    operations: &'a [Cow<'a, str>],
    source_arn: Option<SourceArn>,
    name: Option<GrantName>,
    grant_tokens: &'a [Cow<'a, str>],
}

fn check<'a>(input: &'a Input<'_>) -> Result<Checked<'a>, ApiError> {
    let mut violations = Violations::default();
    let key = violations.key_id("keyId", &input.key_id);
    let grantee = GRANTEE.check(
        input.grantee_principal.as_deref(),
        input.grantee_service_principal.as_deref(),
        &mut violations,
    );
    let retiring = RETIRING.check(
        input.retiring_principal.as_deref(),
        input.retiring_service_principal.as_deref(),
        &mut violations,
    );
    let operations = violations.required("operations", input.operations.as_deref());
    check_operations(operations, &mut violations);
    let constraints = input.constraints.as_ref();
    let source_arn = constraints.and_then(|constraints| constraints.source_arn.as_deref());
    if let Some(arn) = source_arn {
        let (min, max) = (SourceArn::CHARACTERS_MIN, SourceArn::CHARACTERS_MAX);
        violations.text("constraints.sourceArn", arn, min, max, Some(&SOURCE_ARN));
    }
    let grant_tokens = violations.grant_tokens(&input.grant_tokens);
    if let Some(name) = input.name.as_deref() {
        violations.text("name", name, 1, GrantName::CHARACTERS_MAX, Some(&NAME));
    }
    let (key, operations, grant_tokens) = violations.check((key, operations, grant_tokens))?;
    Ok(Checked {
        key,
        grantee: grantee?.ok_or_else(|| GRANTEE.not_one())?,
        retiring_principal: retiring?,
        operations,
        source_arn: source_arn.and_then(|arn| arn.parse().ok()),
        name: input.name.as_deref().and_then(|name| name.parse().ok()),
        grant_tokens,
    })
}

impl Checked<'_> {
    /// What the grant says, if that makes one.
    fn parameters(
        &self,
        constraints: Option<&Constraints<'_>>,
    ) -> Result<GrantParameters, ApiError> {
        let (mut equals, mut subset) = (None, None);
        if let Some(constraints) = constraints {
            let context = |member: &'_ Option<ContextMember>| {
                let member = member.as_ref().map(ContextMember::sound);
                member.transpose().map(|context| context.cloned())
            };
            equals = context(&constraints.encryption_context_equals)?;
            subset = context(&constraints.encryption_context_subset)?;
        }
        let operations = self.operations.iter();
        let operations = operations.filter_map(|name| Action::of_grant(name));
        let parameters = GrantParameters::check(Draft {
            grantee: self.grantee,
            retiring_principal: self.retiring_principal,
            operations: operations.collect(),
            equals: equals.as_ref(),
            subset: subset.as_ref(),
            source_arn: self.source_arn.as_ref(),
            name: self.name.as_ref(),
        });
        parameters.map_err(|error| match error {
            InvalidGrant::Grantee => no_principal(self.grantee.as_str()),
            InvalidGrant::RetiringPrincipal => {
                no_principal(self.retiring_principal.map_or("", Named::as_str))
            }
            other => invalid(other),
        })
    }
}

fn invalid(error: InvalidGrant) -> ApiError {
    ApiError::new(ErrorCode::ValidationException, error.to_string())
}

fn check_operations(operations: &[Cow<'_, str>], violations: &mut Violations) {
    let known = |name: &Cow<'_, str>| Action::of_grant(name).is_some();
    if !operations.iter().all(known) {
        let all = Action::grantable().map(Action::bare_name).join(", ");
        let must = format!(
            "Member must satisfy constraint: [Member must satisfy enum value set: [{all}]]"
        );
        violations.value("operations", format!("[{}]", operations.join(", ")), must);
    }
}

fn no_principal(text: &str) -> ApiError {
    let message = format!("ARN does not refer to a valid principal: {text}");
    ApiError::new(ErrorCode::InvalidArnException, message)
}

/// `CreateGrant`
pub(super) async fn create(api: Arc<Api>, requester: Requester, body: Vec<u8>) -> Answer {
    let input: Input<'_> = wire::decode(&body)?;
    let checked = check(&input)?;
    let new = NewGrant::new(checked.parameters(input.constraints.as_ref())?);
    let parameters = &new.parameters;
    let now = api.clock.now();
    let mut ask = Ask::on(Action::CreateGrant, &checked.key)
        .members(Members::NewGrant(&new))
        .grant_tokens(checked.grant_tokens)
        .dry_run(input.dry_run == Some(true));
    if let Some(constraint) = parameters.constraint() {
        ask = ask.context(constraint.pairs());
    }
    api.change(&requester, None, |attempt| {
        let snapshot = attempt.snapshot;
        let issuing_account = requester.principal.account;
        let admitted = attempt.admit(ask, |entry| {
            // Both principals must exist: a later one of that name would get the grant.
            let grantee = std::iter::once(parameters.grantee());
            let mut named = grantee
                .chain(parameters.retiring_principal())
                .filter_map(GrantPrincipal::principal);
            if let Some(missing) = named.find(|name| !exists(name, snapshot)) {
                return Err(no_principal(missing.as_str()));
            }
            let fits = parameters.check_key(entry.key.spec, entry.key.usage);
            fits.map_err(invalid)?;
            let key = entry.key.regional_id();
            same(parameters, key, issuing_account, snapshot)
        })?;
        let (entry, same) = (admitted.entry(), admitted.prepared);
        // Creating it again under the same name returns the first one.
        if let Some(id) = same {
            return Ok((Vec::new(), reply(&api, entry, id)?));
        }
        let mut id = GrantId([0; 32]);
        api.entropy.draw(&mut id.0)?;
        let grant = Grant {
            id,
            key: entry.key.regional_id(),
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
    key: RegionalId,
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
    Err(ApiError::new(ErrorCode::LimitExceededException, message))
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
        .map_err(|_| ApiError::bare(ErrorCode::InvalidGrantIdException))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_a_bounded_number_of_grants() {
        assert!(room(49_999).is_ok());
        let error = room(50_000).err().unwrap();
        assert_eq!(error.code(), ErrorCode::LimitExceededException);
        assert_eq!(error.message(), "A KMS key has at most 50000 grants.");
    }
}
