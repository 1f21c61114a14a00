//! Upgrades an embedded store of an older format, and leaves a copy of it as it was.
//!
//! The copy is durable and verified before the store is changed, so that there is a way back: to
//! the release before, with what the store had then. Where the copy cannot be kept, the store is
//! not changed.

use crate::crypto::entropy::Entropy;
use crate::file::open;
use crate::key::regions::Regions;
use crate::keystore::loaded::Loaded;
use crate::keystore::reading::{Place, Reading};
use crate::keystore::record::{FORMAT, FORMAT_OF_OLD, Head, Record};
use crate::keystore::sqlite::SqliteStore;
use crate::keystore::{KeystoreError, RootKey, root_key};
use std::path::{Path, PathBuf};

/// The name of the copy that is left by an upgrade to `format`.
pub(super) fn copy_path(path: &Path, format: i64) -> PathBuf {
    path.with_added_extension(format!("before-{format}"))
}

/// Upgrades the store at `path`, which was verified. Its head moves by one revision. Returns it,
/// and its row.
pub(super) async fn upgrade(
    store: &mut SqliteStore,
    path: &Path,
    root: &RootKey,
    regions: &Regions,
    loaded: &Loaded,
    entropy: &Entropy,
) -> Result<(Head, Record), KeystoreError> {
    let copy = copy_path(path, FORMAT.into());
    keep(store, &copy, root, regions, loaded)
        .await
        .map_err(|reason| KeystoreError::NoCopy {
            path: path.to_owned(),
            copy: copy.clone(),
            reason,
        })?;
    let before = loaded.verified.head.revision;
    let head = Head {
        format: FORMAT,
        revision: before + 1,
        ..loaded.verified.head
    };
    let row = loaded.sealer.seal_head(&head, entropy)?;
    if loaded.format == FORMAT_OF_OLD {
        store.wipe_freed().await?;
    }
    store.rewrite(before, row.clone()).await?;
    tracing::info!(
        revision = head.revision,
        copy = %copy.display(),
        "the store was of format {} and is of format {FORMAT} now: the copy is as it was before; remove it when you will not go back",
        loaded.format
    );
    Ok((head, row))
}

/// Copies the store, and verifies the copy.
async fn keep(
    store: &mut SqliteStore,
    copy: &Path,
    root: &RootKey,
    regions: &Regions,
    loaded: &Loaded,
) -> Result<(), String> {
    let unfinished = copy.with_added_extension("new");
    let io = |error: std::io::Error| error.to_string();
    // An empty file of the right mode, which SQLite fills.
    drop(open::anew(&unfinished, 0o600).map_err(io)?);
    store.copy_into(&unfinished).await?;
    let reading = Reading::start(Place::File(unfinished.clone())).await;
    let reading = reading.map_err(|error| error.to_string())?;
    let copied = Loaded::verify(reading, root, regions).await;
    let copied = copied.map_err(|error| format!("of the copy: {error}"))?;
    if copied.verified.head != loaded.verified.head {
        return Err(
            "the copy is not the store that was read: another process has changed it".to_owned(),
        );
    }
    let durable = open::own(&unfinished).and_then(|file| file.sync_all());
    durable
        .and_then(|()| std::fs::rename(&unfinished, copy))
        .and_then(|()| root_key::sync_folder_of(copy))
        .map_err(io)
}
