//! `UpdateCustomKeyStore`

use crate::api::attempt::Attempt;
use crate::api::key_stores::creation::check_free;
use crate::api::key_stores::settings::Members;
use crate::api::key_stores::{
    NAME_CHARACTERS_MAX, check_id, check_region, done, find, invalid_state,
};
use crate::api::members::Members as Conditions;
use crate::api::proxy_refusal;
use crate::api::validation::Violations;
use crate::api::wire::{self, Text};
use crate::api::{Answer, Api, ApiError, Requester};
use crate::keystore::{Change, Connection, KeyStoreEntry};
use crate::operation::{Action, Operation};
use std::sync::Arc;
use zeroize::Zeroizing;

const OPERATION: Operation = Operation::UpdateCustomKeyStore;

wire::input! {
    struct Input<'a> {
        custom_key_store_id: Text<'a>,
        new_custom_key_store_name: Text<'a>,
    }
}

/// `UpdateCustomKeyStore`: a proxy that is reached in another way must answer before it is.
pub(in crate::api) async fn update(api: Arc<Api>, requester: Requester, body: Vec<u8>) -> Answer {
    let body = Zeroizing::new(body);
    let input: Input<'_> = wire::decode(&body)?;
    let members: Members<'_> = wire::decode(&body)?;
    let mut violations = Violations::default();
    let id = check_id(input.custom_key_store_id.as_deref(), &mut violations);
    let name = input.new_custom_key_store_name.as_deref();
    if let Some(name) = name {
        violations.text("newCustomKeyStoreName", name, 1, NAME_CHARACTERS_MAX, None);
    }
    members.check(&mut violations);
    let id = violations.check(id)?;
    let credential = members.credential();
    let updated = |attempt: &Attempt<'_>| {
        check_region(attempt, OPERATION)?;
        members.check_built()?;
        let present = find(attempt, id)?;
        check_state(present, &members)?;
        let named = KeyStoreEntry {
            name: name.unwrap_or(&present.name).to_owned(),
            ..KeyStoreEntry::clone(present)
        };
        let store = members.applied(named, credential.as_ref())?;
        check_free(&store, attempt)?;
        Ok(store)
    };
    let action = Action::UpdateCustomKeyStore;
    api.keystore.refresh().await?;
    let asked = api.read(&requester, |attempt| {
        attempt.admit_alone(action, Conditions::None, || updated(attempt))
    })?;
    if members.change_reach() {
        let request_id = requester.request_id.as_str();
        let probed = api.probe(&asked, OPERATION, request_id).await?;
        probed.map_err(|unhealthy| proxy_refusal::of_key_store(&unhealthy))?;
    }
    api.change(&requester, None, |attempt| {
        let store = attempt.admit_alone(action, Conditions::None, || updated(attempt))?;
        Ok((vec![Change::PutKeyStore(store)], done()))
    })
    .await
}

/// While a key store is connected, its name, its path and its credential may change, and nothing
/// else; while it is being connected, and when that has failed, nothing at all.
fn check_state(store: &KeyStoreEntry, members: &Members<'_>) -> Result<(), ApiError> {
    let may_change = match store.connection {
        Connection::Disconnected => true,
        Connection::Connected => !members.changes_endpoint() && !members.changes_connectivity(),
        Connection::Connecting | Connection::Failed(_) => false,
    };
    if may_change {
        return Ok(());
    }
    Err(invalid_state(store, OPERATION))
}
