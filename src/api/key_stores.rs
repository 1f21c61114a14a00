//! Custom key stores of type `EXTERNAL_KEY_STORE`: the keys in them are those of another key
//! manager, which is asked through its proxy. `CreateCustomKeyStore` is in [`creation`],
//! `UpdateCustomKeyStore` in [`update`], `ConnectCustomKeyStore` and `DisconnectCustomKeyStore` in
//! [`connection`].
//!
//! Identity policies alone decide on these operations, and nothing of them crosses accounts. Of the
//! other types and of VPC endpoint services each member is refused by its name. The China Regions
//! have no external key stores.

use crate::api::attempt::Attempt;
use crate::api::marker::{Marker, Page, PageSize};
use crate::api::members::Members;
use crate::api::validation::Violations;
use crate::api::wire::{self, Object, Text};
use crate::api::{Answer, Api, ApiError, ErrorCode, Reply, Requester, unsupported};
use crate::key::key_store::KeyStoreId;
use crate::keystore::{Change, Connection, KeyStoreEntry};
use crate::operation::{Action, Operation};
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

pub(super) mod connection;
pub(super) mod creation;
mod probe;
mod settings;
pub(super) mod update;

/// Characters of a `CustomKeyStoreId` (AWS KMS API reference).
pub(super) const ID_CHARACTERS_MAX: usize = 64;
/// Characters of a `CustomKeyStoreName` (AWS KMS API reference).
const NAME_CHARACTERS_MAX: usize = 256;

wire::input! {
    struct Input<'a> {
        custom_key_store_id: Text<'a>,
    }
}

impl Input<'_> {
    fn id(&self) -> Result<&str, ApiError> {
        let mut violations = Violations::default();
        let id = check_id(self.custom_key_store_id.as_deref(), &mut violations);
        violations.check(id)
    }
}

/// Checks the required member `CustomKeyStoreId`.
fn check_id<'a>(id: Option<&'a str>, violations: &mut Violations) -> &'a str {
    violations.required_text("customKeyStoreId", id, ID_CHARACTERS_MAX, None)
}

/// Refuses what a China Region does not have.
fn check_region(attempt: &Attempt<'_>, operation: Operation) -> Result<(), ApiError> {
    if attempt.region.is_in_china() {
        return Err(unsupported(operation.name()));
    }
    Ok(())
}

/// The caller's key stores in the Region that is called.
fn own<'a>(attempt: &Attempt<'a>) -> impl Iterator<Item = &'a Arc<KeyStoreEntry>> {
    let (account, region) = (attempt.principal.account, attempt.region.number);
    let stores = attempt.snapshot.key_stores.values();
    stores.filter(move |store| store.account == account && store.region == region)
}

/// The caller's key store of this id.
pub(super) fn find<'a>(
    attempt: &Attempt<'a>,
    id: &str,
) -> Result<&'a Arc<KeyStoreEntry>, ApiError> {
    let parsed = id.parse::<KeyStoreId>().ok();
    let found = own(attempt).find(|store| Some(store.id) == parsed);
    found.ok_or_else(not_found)
}

fn not_found() -> ApiError {
    ApiError::bare(ErrorCode::CustomKeyStoreNotFoundException)
}

/// The refusal of an operation in the state that the connection is in.
fn invalid_state(store: &KeyStoreEntry, operation: Operation) -> ApiError {
    let message = format!(
        "The custom key store {} is {}, which is not valid for {operation}.",
        store.id,
        store.connection.name()
    );
    let code = ErrorCode::CustomKeyStoreInvalidStateException;
    ApiError::new(code, message)
}

/// `DeleteCustomKeyStore`
pub(super) async fn delete(api: Arc<Api>, requester: Requester, body: Vec<u8>) -> Answer {
    const OPERATION: Operation = Operation::DeleteCustomKeyStore;
    let input: Input<'_> = wire::decode(&body)?;
    let id = input.id()?;
    api.change(&requester, None, |attempt| {
        let action = Action::DeleteCustomKeyStore;
        let store = attempt.admit_alone(action, Members::None, || {
            check_region(attempt, OPERATION)?;
            let store = find(attempt, id)?;
            if store.connection != Connection::Disconnected {
                return Err(invalid_state(store, OPERATION));
            }
            if attempt.snapshot.keys_in(store.id).next().is_some() {
                let code = ErrorCode::CustomKeyStoreHasCMKsException;
                return Err(ApiError::bare(code));
            }
            Ok(store)
        })?;
        Ok((vec![Change::RemoveKeyStore(store.id)], done()))
    })
    .await
}

/// The answer of an operation without output.
fn done() -> Reply {
    Object::new().end()
}

wire::input! {
    struct DescribeInput<'a> {
        custom_key_store_id: Text<'a>,
        custom_key_store_name: Text<'a>,
        limit: Option<i64>,
        marker: Text<'a>,
    }
}

/// `DescribeCustomKeyStores`: of the caller's account, by id.
pub(super) fn describe(api: &Api, requester: &Requester, body: &[u8]) -> Answer {
    const PAGE: PageSize = PageSize::of_default_and_max(100, 1000);
    let input: DescribeInput<'_> = wire::decode(body)?;
    let mut violations = Violations::default();
    let (id, name) = (
        input.custom_key_store_id.as_deref(),
        input.custom_key_store_name.as_deref(),
    );
    if let Some(id) = id {
        violations.text("customKeyStoreId", id, 1, ID_CHARACTERS_MAX, None);
    }
    if let Some(name) = name {
        violations.text("customKeyStoreName", name, 1, NAME_CHARACTERS_MAX, None);
    }
    let marker = input.marker.as_deref();
    let limit = PAGE.check(input.limit, marker, &mut violations);
    let limit = violations.check(limit)?;
    api.read(requester, |attempt| {
        let action = Action::DescribeCustomKeyStores;
        let asked = attempt.admit_alone(action, Members::None, || {
            check_region(attempt, Operation::DescribeCustomKeyStores)?;
            match (id, name) {
                (Some(_), Some(_)) => {
                    let message =
                        "You cannot specify CustomKeyStoreId and CustomKeyStoreName in the same request.";
                    Err(ApiError::new(ErrorCode::ValidationException, message))
                }
                (Some(id), None) => find(attempt, id).map(Some),
                (None, Some(name)) => {
                    let found = own(attempt).find(|store| store.name == name);
                    found.ok_or_else(not_found).map(Some)
                }
                (None, None) => Ok(None),
            }
        })?;
        let listing = Marker::of_listing("DescribeCustomKeyStores");
        let after: Option<KeyStoreId> = listing.read(marker)?;
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let stores = own(attempt)
            .filter(|store| asked.is_none_or(|asked| asked.id == store.id))
            .filter(|store| (start, Bound::Unbounded).contains(&store.id));
        let after = |last: &&Arc<KeyStoreEntry>| listing.after(last.id);
        Ok(Page::of(stores, limit).reply("CustomKeyStores", |store| described(store), after))
    })
}

/// An element of `CustomKeyStores`. The secret of the credential is in no answer.
fn described(store: &KeyStoreEntry) -> Object {
    let mut proxy = Object::with_room(512);
    proxy.plain("Connectivity", KeyStoreEntry::CONNECTIVITY);
    proxy.plain("AccessKeyId", &store.credential.id);
    proxy.plain("UriEndpoint", &store.uri_endpoint);
    proxy.plain("UriPath", &store.uri_path);
    let mut object = Object::with_room(2048);
    object.shown("CustomKeyStoreId", store.id);
    object.text("CustomKeyStoreName", &store.name);
    object.plain("CustomKeyStoreType", KeyStoreEntry::TYPE);
    object.plain("ConnectionState", store.connection.name());
    if let Connection::Failed(error) = store.connection {
        object.plain("ConnectionErrorCode", error.name());
    }
    object.time("CreationDate", store.creation_date);
    object.object("XksProxyConfiguration", proxy);
    object
}
