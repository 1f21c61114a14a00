//! `UpdatePrimaryRegion`: another of the related multi-Region keys becomes their primary key, and
//! the former one a replica key. Both stay what they are otherwise, and are usable all the time.

use crate::api::admission::Ask;
use crate::api::attempt::Attempt;
use crate::api::keys::replication::region;
use crate::api::members::Members;
use crate::api::usability;
use crate::api::validation::Violations;
use crate::api::wire::{self, Text};
use crate::api::{Answer, Api, ApiError, ErrorCode, Reply, Requester};
use crate::key::KmsKey;
use crate::keystore::{Change, KeyEntry};
use crate::operation::Action;
use crate::operation::words::States;
use crate::policy::ConditionKey;
use std::sync::Arc;

wire::input! {
    struct Input<'a> {
        key_id: Text<'a>,
        primary_region: Text<'a>,
    }
}

const UPDATE: Action = Action::UpdatePrimaryRegion;

/// `UpdatePrimaryRegion`
pub(in crate::api) async fn update(api: Arc<Api>, requester: Requester, body: Vec<u8>) -> Answer {
    let input: Input<'_> = wire::decode(&body)?;
    let mut violations = Violations::default();
    let key = violations.key_id("keyId", &input.key_id);
    let name = region(
        "primaryRegion",
        input.primary_region.as_deref(),
        &mut violations,
    );
    let (key, name) = violations.check((key, name))?;
    let named = [(ConditionKey::PrimaryRegion, name)];
    let members = Members::Texts(&named);
    let ask = Ask::on(UPDATE, &key).members(members);
    api.change(&requester, None, |attempt| {
        let admitted = attempt.admit(ask, |entry| {
            check_primary(entry)?;
            usability::state(entry, States::Enabled)?;
            next(entry, name, attempt)
        })?;
        let changes = match admitted.prepared {
            None => Vec::new(),
            Some(next) => {
                let caller = attempt.caller(UPDATE).with(members);
                caller.authorize_key(next, attempt.snapshot)?;
                usability::state(next, States::Enabled)?;
                let primary = Some(next.key.region);
                let key = KmsKey {
                    primary,
                    ..next.key.clone()
                };
                // The others follow, the former primary key among them.
                vec![Change::PutKey(next.with_key(key))]
            }
        };
        Ok((changes, admitted.answer(Reply::empty())?))
    })
    .await
}

fn check_primary(entry: &KeyEntry) -> Result<(), ApiError> {
    if entry.key.is_primary() {
        return Ok(());
    }
    let code = match entry.key.is_replica() {
        true => ErrorCode::KMSInvalidStateException,
        false => ErrorCode::UnsupportedOperationException,
    };
    let message = format!("{} is not a multi-Region primary key.", entry.arn);
    Err(ApiError::new(code, message))
}

/// The key that is to be the primary key; `None` if it is that already.
fn next<'s>(
    entry: &KeyEntry,
    name: &str,
    attempt: &Attempt<'s>,
) -> Result<Option<&'s Arc<KeyEntry>>, ApiError> {
    let region = attempt.api.keystore.regions().named(name);
    if region.is_some_and(|region| region.number == entry.key.region) {
        return Ok(None);
    }
    let next = region.and_then(|region| attempt.snapshot.keys.get(&region.id(entry.key.id)));
    next.map(Some).ok_or_else(|| {
        let message = format!(
            "{} does not have a replica key in the specified Region.",
            entry.key.id
        );
        ApiError::new(ErrorCode::ValidationException, message)
    })
}
