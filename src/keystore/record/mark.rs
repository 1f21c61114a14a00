//! The mark of an unfinished copy: what is in the place of the head while a store is copied into a
//! database. It is at revision 0, which no head has, so a copy that was broken off is never taken
//! for a store, nor for an empty place.
//!
//! Body: `version 0x01 ‖ store id 16`, sealed as the head is, with the word `copy` as associated
//! data. Each run of the command seals one of its own, so that two runs do not work on one copy.

use crate::crypto::entropy::{Entropy, EntropyError};
use crate::crypto::secret::Secret;
use crate::crypto::xaes;
use crate::keystore::record::{Kind, Record, Sealer, fields};

const VERSION: u8 = 1;
/// The revision of a mark.
pub(super) const REVISION: u64 = 0;

impl Sealer {
    /// A mark of this store's copy.
    ///
    /// # Errors
    /// [`EntropyError`].
    pub(in crate::keystore) fn seal_mark(&self, entropy: &Entropy) -> Result<Record, EntropyError> {
        let mut plaintext = vec![VERSION];
        plaintext.extend_from_slice(&self.store_id);
        let body = xaes::seal(self.head_key.expose(), &associated(), &plaintext, entropy)?;
        Ok(Record {
            kind: Kind::Head,
            id: String::new(),
            revision: REVISION,
            body,
        })
    }

    /// Whether this is a mark of this store's copy.
    pub(in crate::keystore) fn is_own_mark(&self, record: &Record) -> bool {
        opened(&self.head_key, record) == Some(self.store_id)
    }
}

/// The id of the store whose copy this marks; `None` if it is not a mark under this key.
pub(super) fn opened(head_key: &Secret<32>, record: &Record) -> Option<[u8; 16]> {
    if record.revision != REVISION {
        return None;
    }
    let opened = xaes::open(head_key.expose(), &associated(), &record.body).ok()?;
    match opened.expose() {
        [VERSION, store_id @ ..] => store_id.try_into().ok(),
        _ => None,
    }
}

fn associated() -> Vec<u8> {
    fields(&[b"copy"])
}
