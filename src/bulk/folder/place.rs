//! A prefix of a bucket, and what is asked of it.

use futures_util::TryStreamExt;
use object_store::multipart::MultipartStore;
use object_store::path::Path as Key;
use object_store::{
    Error, MultipartId, ObjectMeta, ObjectStore, PutMode, PutOptions, UpdateVersion,
};
use std::sync::Arc;
use tokio::runtime::Handle;

/// What a bucket must be able to do.
pub(super) trait Store: ObjectStore + MultipartStore {}

impl<S: ObjectStore + MultipartStore> Store for S {}

/// A prefix of a bucket.
pub(super) struct Place {
    pub(super) store: Arc<dyn Store>,
    pub(super) prefix: String,
    pub(super) runtime: Handle,
}

impl Place {
    /// The key of a file.
    pub(super) fn key(&self, name: &str) -> Key {
        let key = match self.prefix.as_str() {
            "" => name.to_owned(),
            prefix => format!("{prefix}/{name}"),
        };
        // Taken as it is: the client encodes it for the wire.
        Key::parse(&key).unwrap_or_else(|_| Key::from(key))
    }

    pub(super) async fn put(
        &self,
        name: &str,
        bytes: Vec<u8>,
        mode: PutMode,
    ) -> Result<UpdateVersion, Error> {
        let options = PutOptions {
            mode,
            ..PutOptions::default()
        };
        let key = self.key(name);
        let put = self.store.put_opts(&key, bytes.into(), options).await;
        put.map(UpdateVersion::from)
    }

    /// Ends an upload that is not wanted. It may be gone.
    pub(super) async fn abort(&self, name: &str, id: &MultipartId) {
        let aborted = self.store.abort_multipart(&self.key(name), id).await;
        if let Err(error) = aborted
            && !matches!(error, Error::NotFound { .. })
        {
            tracing::warn!(%error, name, "an upload was not ended; its chunks may be kept");
        }
    }

    /// What is there, by its name.
    pub(super) async fn list(&self) -> Result<Vec<(String, ObjectMeta)>, Error> {
        let prefix = Some(self.prefix.as_str()).filter(|prefix| !prefix.is_empty());
        let prefix = prefix.map(|prefix| Key::parse(prefix).unwrap_or_else(|_| Key::from(prefix)));
        let listed: Vec<ObjectMeta> = self.store.list(prefix.as_ref()).try_collect().await?;
        let named = listed.into_iter().map(|meta| {
            let key = meta.location.as_ref();
            let name = key.strip_prefix(&self.prefix).unwrap_or(key);
            (name.trim_start_matches('/').to_owned(), meta)
        });
        Ok(named.collect())
    }
}
