//! Raises the format of a shared store, when its operator says that every node knows the new one.
//!
//! Only the head changes. It is moved as every change moves it, from the very head that was read,
//! so nodes may change the store meanwhile; from their next look on, they write in the new format
//! too. An embedded store has one writer, which raises its format at the start: see `upgrade`.

use crate::crypto::entropy::Entropy;
use crate::keystore::postgres::PostgresStore;
use crate::keystore::reading::{Pages, Place, Reading};
use crate::keystore::record::{Head, Sealer};
use crate::keystore::seen::SeenFile;
use crate::keystore::store::Commit;
use crate::keystore::{KeystoreError, RootKey, SharedStore};
use std::cmp::Ordering;
use std::path::Path;
use uuid::Uuid;

/// How often it is begun again where another node was first.
const ATTEMPTS_MAX: u32 = 100;

/// A store whose format is as it was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Raised {
    /// The format of before; the same where nothing was to be done.
    pub before: u8,
    /// The format.
    pub format: u8,
    /// The revision of the store.
    pub revision: u64,
}

impl SharedStore {
    /// Raises the format to `format`, or does nothing where the store has it.
    ///
    /// # Errors
    /// [`KeystoreError::Downgrade`] where the store is of a later format, and [`KeystoreError`].
    pub async fn raise(
        &self,
        format: u8,
        root: &RootKey,
        entropy: &Entropy,
    ) -> Result<Raised, KeystoreError> {
        let mut store = PostgresStore::new(self.access.clone());
        store.check_server().await?;
        let mut attempts = 0;
        loop {
            let row = store.head().await?;
            let row = row.ok_or_else(|| KeystoreError::Empty {
                store: store.name(),
            })?;
            let corrupt = |source| KeystoreError::Corrupt {
                path: store.name().into(),
                source,
            };
            let (sealer, head) = Sealer::open_head(root, &row).map_err(corrupt)?;
            let seen = SeenFile::beside(&self.path).check(&row, head.format);
            seen.map_err(corrupt)?;
            let mut raised = Raised {
                before: head.format,
                format,
                revision: head.revision,
            };
            match format.cmp(&head.format) {
                Ordering::Equal => return Ok(raised),
                Ordering::Less => {
                    return Err(KeystoreError::Downgrade {
                        store: store.name(),
                        found: head.format,
                        asked: format,
                    });
                }
                Ordering::Greater => {}
            }
            raised.revision += 1;
            let next = Head {
                format,
                revision: raised.revision,
                ..head
            };
            let mut request = [0; 16];
            entropy.draw(&mut request)?;
            let commit = Commit {
                expected: head.revision,
                expected_head: Some(row.body),
                head: sealer.seal_head(&next, entropy)?,
                puts: Vec::new(),
                removals: Vec::new(),
                takes_secrets: false,
                request: Uuid::from_bytes(request),
            };
            match store.write(commit).await {
                Ok(()) => return Ok(raised),
                Err(KeystoreError::Lost { .. }) if attempts < ATTEMPTS_MAX => attempts += 1,
                Err(error) => return Err(error),
            }
        }
    }
}

/// The format and the revision of the embedded store at `path`, which is only read.
///
/// # Errors
/// [`KeystoreError`].
pub async fn found(path: &Path, root: &RootKey) -> Result<Raised, KeystoreError> {
    let place = Place::File(path.to_owned());
    let reading = Reading::begin(place, Pages::AsTheyCome).await?;
    let opened = Sealer::open_head(root, reading.head());
    let (_, head) = opened.map_err(|source| reading.place().corrupt(source))?;
    Ok(Raised {
        before: head.format,
        format: head.format,
        revision: head.revision,
    })
}
