//! `CreateCustomKeyStore`

use crate::api::attempt::Attempt;
use crate::api::key_stores::settings::Members;
use crate::api::key_stores::{NAME_CHARACTERS_MAX, check_region, own};
use crate::api::members::Members as Conditions;
use crate::api::proxy_refusal;
use crate::api::validation::Violations;
use crate::api::wire::{self, Object, Text};
use crate::api::{Answer, Api, ApiError, ErrorCode, Requester, unsupported};
use crate::key::key_store::KeyStoreId;
use crate::keystore::{Change, Connection, KeyStoreEntry};
use crate::operation::{Action, Operation};
use serde_json::json;
use std::sync::Arc;
use zeroize::Zeroizing;

/// Custom key stores of an account in a Region (AWS KMS, "Resource quotas").
const KEY_STORES_MAX: usize = 10;
const OPERATION: Operation = Operation::CreateCustomKeyStore;
const TYPES: &str = "AWS_CLOUDHSM, EXTERNAL_KEY_STORE";

wire::input! {
    struct Input<'a> {
        custom_key_store_name: Text<'a>,
        custom_key_store_type: Text<'a>,
    }
}

/// `CreateCustomKeyStore`: the proxy must answer before there is a key store for it.
pub(in crate::api) async fn create(api: Arc<Api>, requester: Requester, body: Vec<u8>) -> Answer {
    let body = Zeroizing::new(body);
    let input: Input<'_> = wire::decode(&body)?;
    let members: Members<'_> = wire::decode(&body)?;
    let mut violations = Violations::default();
    let name = input.custom_key_store_name.as_deref();
    let name = violations.required_text("customKeyStoreName", name, NAME_CHARACTERS_MAX, None);
    let kind = input.custom_key_store_type.as_deref();
    let kind = violations.one_of("customKeyStoreType", kind, TYPES);
    members.check(&mut violations);
    let (name, kind) = violations.check((name, kind))?;
    let id = draw_id(&api)?;
    let credential = members.credential();
    let made = |attempt: &Attempt<'_>| {
        check_region(attempt, OPERATION)?;
        check_built(kind, &members)?;
        let (Some(credential), None) = (&credential, members.missing()) else {
            return Err(required(members.missing()));
        };
        let empty = KeyStoreEntry {
            id,
            region: attempt.region.number,
            account: attempt.principal.account,
            name: name.to_owned(),
            uri_endpoint: String::new(),
            uri_path: String::new(),
            credential: Arc::clone(credential),
            connection: Connection::Disconnected,
            creation_date: attempt.now,
        };
        let store = members.applied(empty, None)?;
        check_free(&store, attempt)?;
        check_room(attempt)?;
        Ok(store)
    };
    let action = Action::CreateCustomKeyStore;
    api.keystore.refresh().await?;
    let asked = api.read(&requester, |attempt| {
        attempt.admit_alone(action, Conditions::None, || made(attempt))
    })?;
    let request_id = requester.request_id.as_str();
    let probed = api.probe(&asked, OPERATION, request_id).await?;
    probed.map_err(|unhealthy| proxy_refusal::of_key_store(&unhealthy))?;
    // Decided again by the writer, on the store as it is then.
    api.change(&requester, None, |attempt| {
        let store = attempt.admit_alone(action, Conditions::None, || made(attempt))?;
        let mut object = Object::new();
        object.shown("CustomKeyStoreId", store.id);
        let elements = json!({"customKeyStoreId": store.id.to_string()});
        let reply = object.end().telling(elements.to_string());
        Ok((vec![Change::PutKeyStore(store)], reply))
    })
    .await
}

fn draw_id(api: &Api) -> Result<KeyStoreId, ApiError> {
    let mut bytes = [0; 16];
    api.entropy.draw(&mut bytes)?;
    Ok(KeyStoreId::from_random(bytes))
}

fn check_built(kind: Option<&str>, members: &Members<'_>) -> Result<(), ApiError> {
    if kind != Some(KeyStoreEntry::TYPE) {
        return Err(unsupported("CustomKeyStoreType AWS_CLOUDHSM"));
    }
    members.check_built()
}

fn required(member: Option<&str>) -> ApiError {
    let message = format!(
        "{} is required for a custom key store of type {}.",
        member.unwrap_or_default(),
        KeyStoreEntry::TYPE
    );
    ApiError::new(ErrorCode::ValidationException, message)
}

/// Refuses a name or an address that another key store of the account has in the Region.
pub(super) fn check_free(store: &KeyStoreEntry, attempt: &Attempt<'_>) -> Result<(), ApiError> {
    let others = || own(attempt).filter(|other| other.id != store.id);
    if others().any(|other| other.name == store.name) {
        return Err(ApiError::bare(ErrorCode::CustomKeyStoreNameInUseException));
    }
    // Host names are compared whatever their case.
    let is_there = |other: &Arc<KeyStoreEntry>| {
        other.uri_endpoint.eq_ignore_ascii_case(&store.uri_endpoint)
            && other.uri_path == store.uri_path
    };
    if others().any(is_there) {
        return Err(ApiError::bare(ErrorCode::XksProxyUriInUseException));
    }
    Ok(())
}

fn check_room(attempt: &Attempt<'_>) -> Result<(), ApiError> {
    if own(attempt).count() < KEY_STORES_MAX {
        return Ok(());
    }
    let message = format!("An account has at most {KEY_STORES_MAX} custom key stores.");
    Err(ApiError::new(ErrorCode::LimitExceededException, message))
}
