//! `RetireGrant`, for principals that the grant itself names, and `RevokeGrant`, for those that the
//! key's policies allow.

use crate::api::admission::Ask;
use crate::api::attempt::Attempt;
use crate::api::grants::{GRANT_ID_CHARACTERS_MAX, grant_id};
use crate::api::key_reference::KeyReference;
use crate::api::members::Members;
use crate::api::validation::Violations;
use crate::api::wire::{self, Text};
use crate::api::{Answer, Api, ApiError, ErrorCode, Reply, Requester};
use crate::key::KeyId;
use crate::keystore::{Change, KeyEntry};
use crate::operation::Action;
use crate::policy::Grant;
use crate::policy::grant::{GrantId, GrantToken};
use std::sync::Arc;

wire::input! {
    struct Input<'a> {
        grant_token: Text<'a>,
        key_id: Text<'a>,
        grant_id: Text<'a>,
        dry_run: Option<bool>,
    }
}

/// `RetireGrant`
pub(in crate::api) async fn retire(api: Arc<Api>, requester: Requester, body: Vec<u8>) -> Answer {
    let input: Input<'_> = wire::decode(&body)?;
    let mut violations = Violations::default();
    if let Some(token) = input.grant_token.as_deref() {
        let max = GrantToken::CHARACTERS_MAX;
        // A token is a credential of the grant, so it is not echoed.
        if token.is_empty() {
            violations.unnamed(
                "grantToken",
                "Member must have length greater than or equal to 1",
            );
        } else if token.len() > max {
            let must = format_args!("Member must have length less than or equal to {max}");
            violations.unnamed("grantToken", must);
        }
    }
    let key = violations.optional_key_id("keyId", &input.key_id);
    if let Some(id) = input.grant_id.as_deref() {
        violations.text("grantId", id, 1, GRANT_ID_CHARACTERS_MAX, None);
    }
    let key = violations.check(key)?;
    let reference = GrantReference::of(&api, &input, key)?;
    api.change(&requester, None, |attempt| {
        let (entry, grant) = reference.find(attempt)?;
        let ask = Ask::on_found(RETIRE, entry)
            .members(Members::Retired(grant))
            .dry_run(input.dry_run == Some(true));
        let admitted = attempt.admit(ask, |_| Ok(()))?;
        let change = Change::RemoveGrant(grant.key, grant.id);
        Ok((vec![change], admitted.answer(Reply::empty())?))
    })
    .await
}

const RETIRE: Action = Action::RetireGrant;

/// How a request names the grant to retire.
enum GrantReference<'a> {
    ByToken(KeyId, GrantId),
    ById(KeyReference<'a>, GrantId),
}

impl<'a> GrantReference<'a> {
    fn of(api: &Api, input: &Input<'_>, key: Option<KeyReference<'a>>) -> Result<Self, ApiError> {
        match (input.grant_token.as_deref(), key, input.grant_id.as_deref()) {
            (Some(token), None, None) => {
                let read = api.keystore.grant_tokens().read(token);
                read.map(|(key, id)| Self::ByToken(key, id))
                    .ok_or_else(|| ApiError::bare(ErrorCode::InvalidGrantTokenException))
            }
            (None, Some(key), Some(id)) => Ok(Self::ById(key, grant_id(id)?)),
            _ => Err(ApiError::new(
                ErrorCode::ValidationException,
                "Please specify either a grant token, or a key ARN and a grant ID.",
            )),
        }
    }

    /// The grant and its key. A caller with a token knows of its grant, and learns when it is gone.
    /// For a grant that is named by its id only callers of the key's account learn that, and only
    /// if they may perform the action on the key.
    fn find<'s>(
        &self,
        attempt: &'s Attempt<'_>,
    ) -> Result<(&'s Arc<KeyEntry>, &'s Grant), ApiError> {
        let (caller, snapshot) = (attempt.caller(RETIRE), attempt.snapshot);
        let grant = |key, id| Some(&**snapshot.grants.get(key)?.get(id)?);
        match self {
            Self::ByToken(key, id) => {
                let key = attempt.region.id(*key);
                let found = snapshot.keys.get(&key).zip(grant(&key, *id));
                found.ok_or_else(|| ApiError::new(ErrorCode::NotFoundException, not_found(*id)))
            }
            Self::ById(key, id) => {
                let entry = caller.entry_not_alias(key, snapshot)?;
                match grant(&entry.key.regional_id(), *id) {
                    Some(grant) => Ok((entry, grant)),
                    None if entry.key.account == attempt.principal.account => {
                        Err(caller.not_found_on(&entry.arn, &not_found(*id)))
                    }
                    None => Err(caller.foreign()),
                }
            }
        }
    }
}

fn not_found(id: GrantId) -> String {
    format!("Grant {id} is not found.")
}

/// `RevokeGrant`
pub(in crate::api) async fn revoke(api: Arc<Api>, requester: Requester, body: Vec<u8>) -> Answer {
    let input: Input<'_> = wire::decode(&body)?;
    let mut violations = Violations::default();
    let key = violations.key_id("keyId", &input.key_id);
    let (id, max) = (input.grant_id.as_deref(), GRANT_ID_CHARACTERS_MAX);
    let id = violations.required_text("grantId", id, max, None);
    let (key, id) = violations.check((key, id))?;
    let ask = Ask::on(Action::RevokeGrant, &key)
        .members(Members::OfGrants)
        .dry_run(input.dry_run == Some(true));
    api.change(&requester, None, |attempt| {
        let admitted = attempt.admit(ask, |entry| {
            let id = grant_id(id)?;
            let grants = attempt.snapshot.grants.get(&entry.key.regional_id());
            if grants.and_then(|grants| grants.get(id)).is_none() {
                let message = not_found(id);
                return Err(ApiError::new(ErrorCode::NotFoundException, message));
            }
            Ok(id)
        })?;
        let change = Change::RemoveGrant(admitted.entry().key.regional_id(), admitted.prepared);
        Ok((vec![change], admitted.answer(Reply::empty())?))
    })
    .await
}
