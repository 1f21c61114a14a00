//! What a request asks of a proxy, while it waits for the answer.

use crate::envelope::external::{self, InnerText};
use crate::keystore::{KeyEntry, KeyStoreEntry};
use std::fmt;
use std::sync::Arc;

/// A call of an external key store proxy that a request needs.
pub(super) struct ProxyCall {
    pub(super) by: Arc<KeyEntry>,
    pub(super) store: Arc<KeyStoreEntry>,
    pub(super) additional: [u8; external::ADDITIONAL_BYTES],
    pub(super) asked: Asked,
}

/// What the proxy is asked for.
pub(super) enum Asked {
    /// To encrypt.
    Encrypt(InnerText),
    /// To decrypt this blob.
    Decrypt(Vec<u8>),
}

impl fmt::Debug for ProxyCall {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "a call of the proxy of {}", self.store.id)
    }
}
