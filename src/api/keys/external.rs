//! The place of a new key in an external key store: the members that name it, and the external key
//! that the proxy must have.

use crate::api::attempt::Attempt;
use crate::api::key_stores;
use crate::api::proxy_refusal::{of_disabled_key, of_new_key, of_other_kind};
use crate::api::reach::{self, Reach};
use crate::api::usability::NOT_CONNECTED;
use crate::api::{Api, ApiError, ErrorCode, Requester, unsupported};
use crate::key::key_store::{ExternalKeyId, InKeyStore};
use crate::key::spec::{KeyOrigin, KeySpec};
use crate::keystore::KeyStoreEntry;
use crate::operation::Operation;
use std::sync::Arc;

const ORIGIN: KeyOrigin = KeyOrigin::ExternalKeyStore;

/// The members of a request that name a place in a key store.
#[derive(Clone, Copy)]
pub(super) struct Named<'a> {
    pub(super) store: Option<&'a str>,
    pub(super) external_key: Option<&'a str>,
    pub(super) multi_region: bool,
}

/// An external key in a key store that is connected, which no KMS key has yet.
pub(super) struct Place {
    store: Arc<KeyStoreEntry>,
    external_key: ExternalKeyId,
}

impl Named<'_> {
    /// The place, for a key of origin `EXTERNAL_KEY_STORE`; no other has one.
    pub(super) fn place(
        self,
        spec: KeySpec,
        origin: KeyOrigin,
        attempt: &Attempt<'_>,
    ) -> Result<Option<Place>, ApiError> {
        let members = [
            ("CustomKeyStoreId", self.store),
            ("XksKeyId", self.external_key),
        ];
        if origin != ORIGIN {
            let given = members.iter().find(|(_, value)| value.is_some());
            return match given {
                None => Ok(None),
                Some((member, _)) => Err(invalid(format!(
                    "{member} is valid only for a KMS key with Origin {ORIGIN}."
                ))),
            };
        }
        if attempt.region.is_in_china() {
            return Err(unsupported("Origin EXTERNAL_KEY_STORE"));
        }
        if spec != KeySpec::Symmetric {
            return Err(invalid(format!(
                "KeySpec {spec} is not supported for Origin {ORIGIN}"
            )));
        }
        if self.multi_region {
            return Err(unsupported("MultiRegion with Origin EXTERNAL_KEY_STORE"));
        }
        let [store, key] = members.map(required);
        let (store, key) = (store?, key?);
        // Its characters were checked.
        let external_key: ExternalKeyId = key.parse().map_err(ApiError::internal)?;
        let store = key_stores::find(attempt, store)?;
        if !store.is_connected() {
            let code = ErrorCode::CustomKeyStoreInvalidStateException;
            return Err(ApiError::new(code, NOT_CONNECTED));
        }
        let mut keys = attempt.snapshot.keys_in(store.id);
        let has_it = |in_store: &InKeyStore| in_store.external_key == external_key;
        if keys.any(|entry| entry.key.key_store.as_ref().is_some_and(has_it)) {
            return Err(ApiError::bare(ErrorCode::XksKeyAlreadyInUseException));
        }
        Ok(Some(Place {
            store: Arc::clone(store),
            external_key,
        }))
    }
}

fn required<'a>((member, value): (&str, Option<&'a str>)) -> Result<&'a str, ApiError> {
    value.ok_or_else(|| invalid(format!("{member} is required for Origin {ORIGIN}.")))
}

fn invalid(message: String) -> ApiError {
    ApiError::new(ErrorCode::ValidationException, message)
}

impl Place {
    /// Asks the proxy for the external key: it must be one of AES-256, for both directions, and
    /// enabled.
    pub(super) async fn check(&self, api: &Api, requester: &Requester) -> Result<(), ApiError> {
        let reach = Reach::of(api, &self.store)?;
        let metadata = reach::metadata(requester, Operation::CreateKey, None);
        let (store, id) = (reach.store(), &self.external_key);
        let found = api.xks_proxies.metadata(&store, &metadata, id).await;
        let found = found.map_err(|error| of_new_key(&error))?;
        if found.is_usable() {
            return Ok(());
        }
        Err(if found.is_enabled {
            of_other_kind()
        } else {
            of_disabled_key()
        })
    }

    /// As the key has it.
    pub(super) fn in_key_store(self) -> InKeyStore {
        InKeyStore {
            id: self.store.id,
            external_key: self.external_key,
            is_connected: true,
        }
    }
}
