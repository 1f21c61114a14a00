//! The verified content of a store: the only way from its rows to a snapshot.

use crate::crypto::secret::Secret;
use crate::key::regions::Regions;
use crate::keystore::format1;
use crate::keystore::opening::{Old, Verified};
use crate::keystore::reading::{Place, Reading};
use crate::keystore::record::{FORMAT_OF_OLD, Record, Sealer};
use crate::keystore::seen::SeenFile;
use crate::keystore::{GrantTokens, ImportTokens, KeystoreError, RootKey};
use std::path::Path;
use std::sync::Arc;

/// The result of loading, and the keys that are derived from the root key.
pub(super) struct Loaded {
    pub(super) sealer: Arc<Sealer>,
    /// The format in which the store was found.
    pub(super) format: u8,
    pub(super) verified: Verified,
    /// Where it is read again.
    pub(super) place: Place,
    /// The head's row.
    pub(super) row: Record,
    pub(super) session_token_key: Arc<Secret<32>>,
    pub(super) grant_tokens: GrantTokens,
    pub(super) import_tokens: ImportTokens,
}

impl Loaded {
    /// Reads and verifies the store as [`Self::verify`] does, and that it is not older than what
    /// this host had seen of it before, in the file beside `path`.
    pub(super) async fn read(
        place: Place,
        root: &RootKey,
        regions: &Regions,
        path: &Path,
    ) -> Result<Self, KeystoreError> {
        // First: another process may write a later revision while this one is read.
        let file = SeenFile::beside(path);
        let seen = file.seen().map_err(|source| place.corrupt(source))?;
        let reading = Reading::start(place.clone()).await?;
        let loaded = Self::verify(reading, root, regions).await?;
        let compared = file.compare(seen, &loaded.row, loaded.format);
        compared.map_err(|source| place.corrupt(source))?;
        Ok(loaded)
    }

    /// Verifies what is read, with a head that must be of this root key.
    pub(super) async fn verify(
        mut reading: Reading,
        root: &RootKey,
        regions: &Regions,
    ) -> Result<Self, KeystoreError> {
        let (sealer, head) = match Sealer::open_head(root, reading.head()) {
            Ok((sealer, head)) => (Arc::new(sealer), head),
            Err(source) => return Err(reading.refused(source).await),
        };
        // A store of format 1 is also checked against its roster.
        let old = (head.format == FORMAT_OF_OLD).then(|| Old {
            term_key: format1::term_key(root),
            roster: reading.take_roster(),
            records: Vec::new(),
        });
        Ok(Self {
            place: reading.place().clone(),
            row: reading.head().clone(),
            format: head.format,
            verified: Verified::of(reading, &sealer, head, regions, old).await?,
            sealer,
            session_token_key: Arc::new(root.subkey("session tokens")),
            grant_tokens: GrantTokens::new(root),
            import_tokens: ImportTokens::new(root),
        })
    }
}
