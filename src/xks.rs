//! An external key store proxy of AWS KMS: keys of this store, used from AWS. AWS KMS calls it for
//! each operation on a KMS key of an external key store ("hold your own key").
//!
//! ```text
//! path ─► key store ─► signature ─► request ─► external key ─► admission ─► seal, verify ─► answer
//!          prefix       of its       JSON       may this        by the       or open
//!                       principal               call use it?    KMS API's
//!                                                               rules
//! ```
//!
//! A key store is a prefix of paths with a principal of this store. AWS KMS signs as this principal
//! does, and has its rights: its policies, the key policy and its grants decide, and its limits in
//! `[rates]` hold. An external key is a name for a KMS key, for one key store; beside the policies
//! it has lists of the callers in AWS that may use it.
//!
//! XKS-2: a credential of a key store signs nothing but its requests, and has no right that its
//! principal, the external key's usage and its lists do not all allow.
//!
//! Source: AWS KMS External Key Store Proxy API specification, version 1.0.3.
//!
//! What this module does not do: know HTTP, or verify signatures; it is handed a principal. It does
//! not make external keys.

use crate::auth::{ScopeService, Verifier};
use crate::crypto::secret::Secret;
use crate::key::regions::Regions;
use crate::operation::xks::XksOperation;
use crate::xks_proxy::address::last_segment;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

mod calls;
pub mod error;
pub mod external_key;
pub mod key_store;
mod request;
mod sealed;

pub use external_key::ExternalKey;
pub use key_store::KeyStore;

/// Where a path of the proxy leads.
pub struct Target<'a> {
    /// The key store.
    pub store: &'a KeyStore,
    /// The operation.
    pub operation: XksOperation,
    /// The id of the external key; empty for [`XksOperation::XksGetHealthStatus`].
    pub external_key_id: &'a str,
}

/// The key stores of one daemon.
#[derive(Default)]
pub struct Proxy {
    stores: Vec<KeyStore>,
}

/// What all paths of the API have, before their version.
const API: &str = "/kms/xks/v";
/// The most characters of a URI (specification, "API operations"), of which a path is a part.
const PATH_CHARACTERS_MAX: usize = 256;

/// The path is of the API, and leads nowhere.
#[derive(Debug, PartialEq, Eq)]
pub struct InvalidPath;

impl Proxy {
    /// The key stores of a configuration that was checked. Signatures are verified with clocks that
    /// differ by at most `skew_max`.
    #[must_use]
    pub fn new(
        stores: &BTreeMap<String, key_store::Config>,
        keys: &BTreeMap<String, external_key::Config>,
        skew_max: Duration,
        session_token_key: &Arc<Secret<32>>,
    ) -> Self {
        let store = |(name, config): (&String, &key_store::Config)| {
            let own = keys.values().filter(|key| key.store == *name);
            let own = own.map(ExternalKey::new).collect();
            let verifier = |region: &String| {
                let token_key = Arc::clone(session_token_key);
                Verifier::new(&Regions::one("aws", region), skew_max, token_key)
            };
            KeyStore::new(name, config, own, verifier)
        };
        Self {
            stores: stores.iter().map(store).collect(),
        }
    }

    /// Whether there is no key store.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.stores.is_empty()
    }

    /// Where this path leads, if it is one of the API.
    ///
    /// # Errors
    /// [`InvalidPath`]: it looks like one of the API, and is not the path of a key store, or has
    /// no operation. A path is compared as it is, without decoding.
    pub fn target<'a>(&'a self, path: &'a str) -> Option<Result<Target<'a>, InvalidPath>> {
        if self.is_empty() || !path.contains(API) {
            return None;
        }
        let find = || {
            if path.len() > PATH_CHARACTERS_MAX {
                return None;
            }
            let of = |store: &'a KeyStore| Some((store, path.strip_prefix(store.uri_path())?));
            let found = self.stores.iter().filter_map(of);
            found.filter_map(|(store, rest)| target(store, rest)).next()
        };
        Some(find().ok_or(InvalidPath))
    }
}

fn target<'a>(store: &'a KeyStore, rest: &'a str) -> Option<Target<'a>> {
    let health = last_segment(XksOperation::XksGetHealthStatus);
    if rest.strip_prefix('/') == Some(health) {
        return Some(Target {
            store,
            operation: XksOperation::XksGetHealthStatus,
            external_key_id: "",
        });
    }
    let (external_key_id, operation) = rest.strip_prefix("/keys/")?.split_once('/')?;
    let of_key = [
        XksOperation::XksGetKeyMetadata,
        XksOperation::XksEncrypt,
        XksOperation::XksDecrypt,
    ];
    let mut of_key = of_key.into_iter();
    let operation = of_key.find(|one| last_segment(*one) == operation)?;
    external_key::is_id(external_key_id).then_some(Target {
        store,
        operation,
        external_key_id,
    })
}

/// The scope of signatures.
pub const SERVICE: ScopeService = ScopeService::Xks;

/// The time within which a request is answered, from its head on. AWS KMS waits 250 ms, its own
/// way to the daemon and back included.
pub const ANSWER_TIME: Duration = Duration::from_millis(200);

/// The most bytes of a body: 4,300 bytes of plaintext and 8,192 of additional data in base64 have
/// 16,660; the ARNs and what else the metadata hold, some 10,000.
pub const BODY_BYTES_MAX: usize = 64 * 1024;

#[cfg(test)]
mod tests;
