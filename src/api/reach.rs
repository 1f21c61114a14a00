//! How the proxy of a custom key store is reached, and what it is told of a caller.

use crate::api::{Api, ApiError, Requester};
use crate::crypto::secret::SecretBytes;
use crate::keystore::KeyStoreEntry;
use crate::operation::Operation;
use crate::xks_proxy::{ProxyAddress, ProxyCredential, RequestMetadata, Store};

/// The way to a proxy, for one call.
pub(super) struct Reach<'a> {
    address: ProxyAddress,
    credential: ProxyCredential,
    region: &'a str,
}

impl<'a> Reach<'a> {
    /// The way to the proxy of this key store, whose parts were checked before they were written.
    pub(super) fn of(api: &'a Api, store: &KeyStoreEntry) -> Result<Self, ApiError> {
        let address = ProxyAddress::parse(&store.uri_endpoint, &store.uri_path);
        let secret = SecretBytes::copy_of(store.credential.secret.expose());
        let credential = ProxyCredential::new(&store.credential.id, secret);
        Ok(Self {
            address: address.map_err(ApiError::internal)?,
            credential: credential.map_err(ApiError::internal)?,
            region: &api.keystore.regions().get(store.region).name,
        })
    }

    pub(super) fn store(&self) -> Store<'_> {
        Store {
            address: &self.address,
            credential: &self.credential,
            region: self.region,
        }
    }
}

/// What a proxy is told of a call: who calls, what, and for which KMS key.
pub(super) fn metadata<'a>(
    requester: &'a Requester,
    operation: Operation,
    key_arn: Option<&'a str>,
) -> RequestMetadata<'a> {
    /// The specification's word for a caller that is not a principal of the account: here, the
    /// operator of the daemon.
    const INTERNAL: &str = "AWS Internal";
    let principal = if requester.principal.is_operator() {
        INTERNAL
    } else {
        &requester.principal.arn
    };
    RequestMetadata {
        principal,
        operation: operation.name(),
        request_id: requester.request_id.as_str(),
        key_arn,
        via_service: None,
    }
}
