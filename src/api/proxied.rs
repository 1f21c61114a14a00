//! Requests with keys in external key stores. Such a key encrypts twice: here, and then by the
//! proxy of its key store.
//!
//! A request that needs an answer of a proxy ends with the call that it needs ([`ProxyCall`]). The
//! call is made while nothing is held (`relay`), and the request is performed again from its
//! beginning, with the answer at hand ([`Proxied`]). So what was decided before the call is decided
//! again after it, and the last check (POOL-4) stands between the answer of the proxy and that of
//! the request: a key that was disabled, or cut off, meanwhile gives nothing.
//!
//! Of a request that is waiting, nothing in the clear is kept: what it has is an inner text, which
//! is opened, or sealed once more, when the request is performed again.

use crate::api::ApiError;
use crate::api::attempt::Attempt;
use crate::api::cipher::Cipher;
use crate::api::proxy_call::{Asked, ProxyCall};
use crate::api::proxy_refusal::other_ciphertext;
use crate::context::EncryptionContext;
use crate::crypto::entropy::EntropyError;
use crate::envelope::BlobHeader;
use crate::envelope::external::{self, ExternalBlob, InnerText};
use crate::key::data_key::PlaintextDataKey;
use crate::key::material::BackingKey;
use crate::keystore::KeyEntry;
use crate::rates::Paid;
use std::cell::RefCell;
use std::sync::Arc;

/// The answers of proxies that a request has, and what it has paid, over all times that it is
/// performed.
#[derive(Default)]
pub(super) struct Proxied {
    pub(super) sealed: Option<SealedThere>,
    pub(super) opened: Option<OpenedThere>,
    paid: RefCell<Paid>,
}

/// What a proxy has made of an inner text.
pub(super) struct SealedThere {
    pub(super) by: Arc<KeyEntry>,
    pub(super) additional: [u8; external::ADDITIONAL_BYTES],
    pub(super) text: InnerText,
    pub(super) blob: Vec<u8>,
}

/// The inner text that a proxy has decrypted.
pub(super) struct OpenedThere {
    pub(super) by: Arc<KeyEntry>,
    pub(super) additional: [u8; external::ADDITIONAL_BYTES],
    pub(super) blob: Vec<u8>,
    pub(super) text: Vec<u8>,
}

impl Proxied {
    /// What the request has paid, over all times that it is performed, and `already` with it.
    pub(super) fn paid(&self, already: Paid) -> &RefCell<Paid> {
        self.paid.borrow_mut().add(&already);
        &self.paid
    }

    /// The ciphertext of 1..=4096 bytes under a key of whatever kind.
    pub(super) fn encrypt(
        &self,
        attempt: &Attempt<'_>,
        entry: &Arc<KeyEntry>,
        cipher: &Cipher<'_>,
        context: &EncryptionContext,
        plaintext: &[u8],
    ) -> Result<Vec<u8>, ApiError> {
        let entropy = &attempt.api.entropy;
        let Cipher::External(_) = cipher else {
            return cipher.encrypt(entry, context, plaintext, entropy);
        };
        let (blob, _) = self.seal(attempt, entry, context, |inner| {
            InnerText::seal(entry.key.id, inner, context, plaintext, entropy)
        })?;
        Ok(blob.to_vec())
    }

    /// The blob that the proxy has made of an inner text, and that. `make` makes an inner text, if
    /// the proxy has not been asked yet.
    pub(super) fn seal(
        &self,
        attempt: &Attempt<'_>,
        entry: &Arc<KeyEntry>,
        context: &EncryptionContext,
        make: impl FnOnce(&BackingKey) -> Result<InnerText, EntropyError>,
    ) -> Result<(&[u8], &InnerText), ApiError> {
        let inner = inner(entry)?;
        let header = BlobHeader::external(entry.key.id, inner);
        let additional = external::additional_data(&header, context);
        let mut sealed = self.sealed.iter();
        let is_of =
            |there: &&SealedThere| is_same(&there.by, entry) && there.additional == additional;
        match sealed.find(is_of) {
            Some(there) => Ok((there.blob.as_slice(), &there.text)),
            None => {
                let asked = Asked::Encrypt(make(inner)?);
                Err(needed(attempt, entry, additional, asked)?)
            }
        }
    }

    /// Opens a blob of a key in an external key store.
    pub(super) fn open(
        &self,
        attempt: &Attempt<'_>,
        entry: &Arc<KeyEntry>,
        context: &EncryptionContext,
        blob: &ExternalBlob<'_>,
    ) -> Result<PlaintextDataKey, ApiError> {
        let text = self.decrypted(attempt, entry, context, blob)?;
        self.open_inner(entry, context, text)
    }

    fn decrypted(
        &self,
        attempt: &Attempt<'_>,
        entry: &Arc<KeyEntry>,
        context: &EncryptionContext,
        blob: &ExternalBlob<'_>,
    ) -> Result<&[u8], ApiError> {
        let additional = external::additional_data(&blob.header(), context);
        let mut opened = self.opened.iter();
        let is_of = |there: &&OpenedThere| {
            is_same(&there.by, entry)
                && there.additional == additional
                && there.blob == blob.bytes()
        };
        match opened.find(is_of) {
            Some(there) => Ok(there.text.as_slice()),
            None => {
                let asked = Asked::Decrypt(blob.bytes().to_vec());
                Err(needed(attempt, entry, additional, asked)?)
            }
        }
    }

    /// Opens an inner text.
    pub(super) fn open_inner(
        &self,
        entry: &KeyEntry,
        context: &EncryptionContext,
        text: &[u8],
    ) -> Result<PlaintextDataKey, ApiError> {
        let opened = external::open_inner(entry.key.id, inner(entry)?, context, text);
        opened.map_err(|_| other_ciphertext())
    }
}

fn inner(entry: &KeyEntry) -> Result<&BackingKey, ApiError> {
    let missing = || ApiError::internal("a key in an external key store has no material here");
    entry.inner().ok_or_else(missing)
}

/// Whether this is the KMS key, and the external key, that a proxy was asked about.
fn is_same(asked: &KeyEntry, entry: &KeyEntry) -> bool {
    let external = |entry: &KeyEntry| {
        let store = entry.key.key_store.clone();
        store.map(|store| (store.id, store.external_key))
    };
    asked.key.regional_id() == entry.key.regional_id() && external(asked) == external(entry)
}

fn needed(
    attempt: &Attempt<'_>,
    entry: &Arc<KeyEntry>,
    additional: [u8; external::ADDITIONAL_BYTES],
    asked: Asked,
) -> Result<ApiError, ApiError> {
    let store = entry.key.key_store.as_ref();
    let store = store.and_then(|store| attempt.snapshot.key_stores.get(&store.id));
    let missing = || ApiError::internal("a key's custom key store is missing");
    Ok(ApiError::at_proxy(ProxyCall {
        by: Arc::clone(entry),
        store: Arc::clone(store.ok_or_else(missing)?),
        additional,
        asked,
    }))
}
