//! What comes of itself to a key on a date, in the order of the dates: what looks for it does not
//! look at all keys.

use crate::clock::Timestamp;
use crate::key::regions::RegionalId;
use crate::key::{KeyState, KmsKey};
use crate::keystore::{KeyEntry, Snapshot};
use std::sync::Arc;

/// What comes to a key on a date.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Due {
    /// It is removed.
    Deletion,
    /// Imported material goes: the first of it.
    Expiry,
    /// Its material is rotated, if it is enabled; a replica key's with that of its primary key.
    Rotation,
}

/// Where a date of a key is in order.
pub(super) type Place = (Due, Timestamp, RegionalId);

impl Due {
    /// When it comes to this key, if it does.
    fn date(self, key: &KmsKey) -> Option<Timestamp> {
        match self {
            Self::Deletion => match key.state {
                KeyState::PendingDeletion { deletion_date } => Some(deletion_date),
                _ => None,
            },
            Self::Expiry => {
                let present = key.imports.iter().filter(|import| import.present);
                present.filter_map(|import| import.valid_to).min()
            }
            Self::Rotation if key.state == KeyState::Enabled && !key.is_replica() => {
                key.rotation.map(|schedule| schedule.next_date)
            }
            Self::Rotation => None,
        }
    }
}

/// The places of all dates of a key.
pub(super) fn places(key: &KmsKey) -> impl Iterator<Item = Place> {
    let all = [Due::Deletion, Due::Expiry, Due::Rotation];
    let id = key.regional_id();
    let dates = all.map(|due| due.date(key).map(|date| (due, date, id)));
    dates.into_iter().flatten()
}

impl Snapshot {
    /// The keys to which this has come by `now`, in the order of the dates.
    pub fn due(&self, due: Due, now: Timestamp) -> impl Iterator<Item = &Arc<KeyEntry>> {
        let later = self.due.seek(move |(of, ..)| *of < due);
        let come = later.take_while(move |((of, date, _), _)| *of == due && *date <= now);
        come.map(|(_, entry)| entry)
    }
}
