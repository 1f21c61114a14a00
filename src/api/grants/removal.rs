//! `RetireGrant`, by whom the grant itself lets, and `RevokeGrant`, by whom the key's policies let.

use crate::api::grants::{GRANT_ID_CHARACTERS_MAX, grant_id};
use crate::api::members::Members;
use crate::api::validation::{ASCII, KEY_ID_CHARACTERS_MAX, Violations};
use crate::api::wire::{self, Text};
use crate::api::{Answer, Api, ApiError, KmsErrorCode, Reply, Requester, Under, dry_run};
use crate::keystore::{Change, KeyEntry};
use crate::operation::Action;
use crate::policy::Grant;
use crate::policy::grant::{GrantId, GrantToken};
use serde::Deserialize;
use std::sync::Arc;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Input<'a> {
    #[serde(borrow)]
    grant_token: Text<'a>,
    #[serde(borrow)]
    key_id: Text<'a>,
    #[serde(borrow)]
    grant_id: Text<'a>,
    dry_run: Option<bool>,
}

/// `RetireGrant`
pub(in crate::api) async fn retire(api: Arc<Api>, requester: Requester, body: Vec<u8>) -> Answer {
    let input: Input<'_> = wire::decode(&body)?;
    let mut violations = Violations::default();
    if let Some(token) = input.grant_token.as_deref() {
        let max = GrantToken::CHARACTERS_MAX;
        // It stands for the grant: not echoed.
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
    if let Some(key_id) = input.key_id.as_deref() {
        violations.text("keyId", key_id, 1, KEY_ID_CHARACTERS_MAX, Some(&ASCII));
    }
    if let Some(id) = input.grant_id.as_deref() {
        violations.text("grantId", id, 1, GRANT_ID_CHARACTERS_MAX, None);
    }
    violations.check()?;
    let named = Named::of(&api, &input)?;
    api.change(&requester, None, |under| {
        let (entry, grant) = named.find(under)?;
        let caller = under.caller(RETIRE).with(Members::Retired(grant));
        caller.authorize_key(entry, under.snapshot)?;
        dry_run(input.dry_run)?;
        let change = Change::RemoveGrant(grant.key, grant.id);
        Ok((vec![change], Reply::empty().about(entry)))
    })
    .await
}

const RETIRE: Action = Action::RetireGrant;

/// How a request names the grant to retire.
enum Named<'a> {
    ByToken(crate::key::KeyId, GrantId),
    ById(&'a str, GrantId),
}

impl<'a> Named<'a> {
    fn of(api: &Api, input: &'a Input<'_>) -> Result<Self, ApiError> {
        let (key_id, id) = (input.key_id.as_deref(), input.grant_id.as_deref());
        match (input.grant_token.as_deref(), key_id, id) {
            (Some(token), None, None) => {
                let read = api.keystore.grant_tokens().read(token);
                read.map(|(key, id)| Self::ByToken(key, id))
                    .ok_or_else(|| ApiError::bare(KmsErrorCode::InvalidGrantTokenException))
            }
            (None, Some(key_id), Some(id)) => Ok(Self::ById(key_id, grant_id(id)?)),
            _ => Err(ApiError::new(
                KmsErrorCode::ValidationException,
                "Please specify either a grant token, or a key ARN and a grant ID.",
            )),
        }
    }

    /// The grant and its key. Whoever has a token knows of its grant, and is told when it is gone;
    /// of a grant that was named by its id that is told in the key's own account, to whom the
    /// action on the key is allowed.
    fn find<'s>(&self, under: &'s Under<'_>) -> Result<(&'s Arc<KeyEntry>, &'s Grant), ApiError> {
        let (caller, snapshot) = (under.caller(RETIRE), under.snapshot);
        let grant = |key, id| Some(&**snapshot.grants.get(key)?.get(id)?);
        match self {
            Self::ByToken(key, id) => {
                let found = snapshot.keys.get(key).zip(grant(key, *id));
                found.ok_or_else(|| ApiError::new(KmsErrorCode::NotFoundException, not_found(*id)))
            }
            Self::ById(key_id, id) => {
                let entry = caller.entry_not_alias(key_id, snapshot)?;
                match grant(&entry.key.id, *id) {
                    Some(grant) => Ok((entry, grant)),
                    None if entry.key.account == under.principal.account => {
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
    let (key_id, id) = (input.key_id.as_deref(), input.grant_id.as_deref());
    violations.required_text("keyId", key_id, KEY_ID_CHARACTERS_MAX, Some(&ASCII));
    violations.required_text("grantId", id, GRANT_ID_CHARACTERS_MAX, None);
    violations.check()?;
    let (key_id, id) = (key_id.unwrap_or_default(), id.unwrap_or_default());
    api.change(&requester, None, |under| {
        let caller = under.caller(Action::RevokeGrant).with(Members::OfGrants);
        let request = caller.key_not_alias(key_id, under.snapshot)?;
        let entry = request.request().entry();
        let (key, id) = (entry.key.id, grant_id(id)?);
        let grants = under.snapshot.grants.get(&key);
        if grants.and_then(|grants| grants.get(id)).is_none() {
            return Err(ApiError::new(
                KmsErrorCode::NotFoundException,
                not_found(id),
            ));
        }
        dry_run(input.dry_run)?;
        let reply = Reply::empty().about(entry);
        Ok((vec![Change::RemoveGrant(key, id)], reply))
    })
    .await
}
