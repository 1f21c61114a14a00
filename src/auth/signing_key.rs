//! Signing keys: derived from a secret once a day and cached.
//!
//! An entry belongs to one [`AccessKey`] in memory and not to its id, so the key of a secret that
//! was replaced or removed is never used again.

use crate::auth::ScopeService;
use crate::auth::authorization::ALGORITHM;
use crate::auth::time::RequestTime;
use crate::crypto::secret::SecretBytes;
use crate::key::regions::Region;
use crate::keystore::AccessKey;
use arc_swap::ArcSwap;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::{Arc, Weak};
use zeroize::Zeroizing;

/// The last element of every scope.
pub(super) const TERMINATOR: &str = "aws4_request";

thread_local! {
    static TEXT: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// HMAC with the key of one secret, date, Region and service absorbed. It is wiped when it is
/// dropped, and so are the MACs made from it.
pub(super) struct SigningKey {
    keyed: Hmac<Sha256>,
    service: ScopeService,
}

impl SigningKey {
    pub(super) fn derive(
        secret: &SecretBytes,
        date: &str,
        region: &str,
        service: ScopeService,
    ) -> Self {
        const PREFIX: &[u8] = b"AWS4";
        let secret = secret.expose();
        let prefixed = SecretBytes::filled(PREFIX.len() + secret.len(), |bytes| {
            let (prefix, rest) = bytes.split_at_mut(PREFIX.len());
            prefix.copy_from_slice(PREFIX);
            rest.copy_from_slice(secret);
        });
        // The names of the steps are those of AWS's documentation.
        let date_key = hmac(prefixed.expose(), date);
        let date_region_key = hmac(date_key.as_slice(), region);
        let date_region_service_key = hmac(date_region_key.as_slice(), service.name());
        let signing_key = hmac(date_region_service_key.as_slice(), TERMINATOR);
        let keyed = keyed(signing_key.as_slice());
        Self { keyed, service }
    }

    /// Absorbs the string to sign, up to the hash of the canonical request: `AWS4-HMAC-SHA256 \n
    /// time \n date/region/service/aws4_request \n`.
    pub(super) fn string_to_sign(&self, time: &RequestTime, region: &str) -> Hmac<Sha256> {
        let mut mac = self.keyed.clone();
        // In one call (row "SigV4 verification" of benches/RESULTS.md).
        TEXT.with_borrow_mut(|text| {
            text.clear();
            for piece in [
                ALGORITHM,
                "\n",
                time.as_str(),
                "\n",
                time.date(),
                "/",
                region,
                "/",
                self.service.name(),
                "/",
                TERMINATOR,
                "\n",
            ] {
                text.extend_from_slice(piece.as_bytes());
            }
            mac.update(text);
        });
        mac
    }
}

fn hmac(key: &[u8], message: &str) -> Zeroizing<[u8; 32]> {
    let mut mac = keyed(key);
    mac.update(message.as_bytes());
    Zeroizing::new(mac.finalize().into_bytes().into())
}

fn keyed(key: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("HMAC takes keys of every length")
}

/// The recently used signing keys of one Region. Readers never lock; a new entry copies the table's
/// pointers.
pub(super) struct SigningKeys {
    region: Region,
    /// By service.
    tables: [ArcSwap<HashMap<Use, Arc<Entry>>>; ScopeService::COUNT],
}

/// An access key on a day. While its entry holds a [`Weak`], no other key can have its address.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Use {
    address: usize,
    /// The day, counted from 1970-01-01.
    day: i64,
}

pub(super) struct Entry {
    access_key: Weak<AccessKey>,
    pub(super) key: SigningKey,
}

impl SigningKeys {
    /// The most entries of a service. A daemon with more principals at the same time derives some
    /// keys again.
    const ENTRIES_MAX: usize = 1024;

    pub(super) fn new(region: Region) -> Self {
        Self {
            region,
            tables: Default::default(),
        }
    }

    pub(super) fn region(&self) -> &Region {
        &self.region
    }

    /// The key of `access_key` on the day of `time`. The time must be near the present: an entry of
    /// a later day drops the entries from two or more days before.
    pub(super) fn of(
        &self,
        access_key: &Arc<AccessKey>,
        time: &RequestTime,
        service: ScopeService,
    ) -> Arc<Entry> {
        let entries = &self.tables[service as usize];
        let this = Use {
            address: Arc::as_ptr(access_key).addr(),
            day: time.day(),
        };
        if let Some(entry) = entries.load().get(&this) {
            return Arc::clone(entry);
        }
        let key = SigningKey::derive(&access_key.secret, time.date(), &self.region.name, service);
        let entry = Arc::new(Entry {
            access_key: Arc::downgrade(access_key),
            key,
        });
        entries.rcu(|entries| {
            let mut next = HashMap::clone(entries);
            // Keys of removed access keys and of past days go; a full table is cleared.
            next.retain(|at, entry| {
                entry.access_key.strong_count() > 0 && at.day >= this.day.saturating_sub(1)
            });
            if next.len() >= Self::ENTRIES_MAX {
                next.clear();
            }
            next.insert(this, Arc::clone(&entry));
            next
        });
        entry
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::canonical::hex;
    use crate::clock::Timestamp;
    use crate::key::regions::Regions;

    const DAY_MICROS: u64 = 86_400_000_000;

    fn access_key(secret: &[u8]) -> Arc<AccessKey> {
        let secret = SecretBytes::copy_of(secret);
        Arc::new(AccessKey::new("AKIDEXAMPLE".to_owned(), secret))
    }

    fn day(day: u64) -> RequestTime {
        RequestTime::at(Timestamp(day * DAY_MICROS))
    }

    /// The entries of KMS.
    fn entries(keys: &SigningKeys) -> usize {
        keys.tables[KMS as usize].load().len()
    }

    /// Two keys are equal when they authenticate a string alike.
    fn tag(key: &SigningKey) -> [u8; 32] {
        key.keyed.clone().finalize().into_bytes().into()
    }

    const KMS: ScopeService = ScopeService::Kms;

    #[test]
    fn the_published_chain_is_derived() {
        let secret = access_key(b"wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY");
        let key = SigningKey::derive(&secret.secret, "20260115", "us-east-1", KMS);
        let published = "4aa2373794a3cd6f811598de986d3dc4f6b5d922348f827d307b6b18df57d936";
        let bytes: Vec<u8> = (0..32)
            .map(|at| u8::from_str_radix(&published[2 * at..2 * at + 2], 16).unwrap())
            .collect();
        let published = SigningKey {
            keyed: keyed(&bytes),
            service: KMS,
        };
        assert_eq!(tag(&key), tag(&published));
        // Case 2: a session token is signed like any other header.
        let key = SigningKey::derive(&secret.secret, "20260115", "us-east-1", KMS);
        let time = RequestTime::at(Timestamp(1_768_478_400_000_000));
        let mut mac = key.string_to_sign(&time, "us-east-1");
        mac.update(b"85035e1b8517e5703e1f032d2dd9bb4fd3f6473f6f14c5f09960f2fa1f0edcff");
        assert_eq!(
            &hex(&mac.finalize().into_bytes().into()),
            b"8c68c4b930d17ff3144597d947f14bea471ea6e7b53af41a121c07c8b1231cc0"
        );
    }

    #[test]
    fn a_key_is_kept_for_its_access_key_day_and_service_only() {
        let keys = SigningKeys::new(Regions::one("aws", "us-east-1").home().clone());
        let (one, same_id) = (access_key(b"one"), access_key(b"two"));
        for _ in 0..2 {
            for (access_key, day, service) in [
                (&one, day(3), KMS),
                (&same_id, day(3), KMS),
                (&one, day(4), KMS),
                (&one, day(3), ScopeService::Sts),
            ] {
                let date = day.date();
                let derived = SigningKey::derive(&access_key.secret, date, "us-east-1", service);
                assert_eq!(tag(&keys.of(access_key, &day, service).key), tag(&derived));
            }
        }
        assert_eq!(entries(&keys), 3);
        let of = |service: ScopeService| keys.tables[service as usize].load().len();
        assert_eq!(of(ScopeService::Sts), 1);
    }

    #[test]
    fn entries_of_removed_access_keys_and_of_past_days_go() {
        let keys = SigningKeys::new(Regions::one("aws", "us-east-1").home().clone());
        let (stays, goes) = (access_key(b"stays"), access_key(b"goes"));
        keys.of(&stays, &day(3), KMS);
        keys.of(&goes, &day(3), KMS);
        drop(goes);
        keys.of(&stays, &day(4), KMS);
        let table = keys.tables[KMS as usize].load();
        let mut days: Vec<_> = table.keys().map(|at| at.day).collect();
        days.sort_unstable();
        assert_eq!(days, [3, 4]);
        keys.of(&stays, &day(5), KMS);
        assert_eq!(entries(&keys), 2);
    }

    #[test]
    fn the_table_is_bounded() {
        let keys = SigningKeys::new(Regions::one("aws", "us-east-1").home().clone());
        let many: Vec<_> = (0..=SigningKeys::ENTRIES_MAX)
            .map(|_| access_key(b"secret"))
            .collect();
        for access_key in &many {
            keys.of(access_key, &day(3), KMS);
            assert!(entries(&keys) <= SigningKeys::ENTRIES_MAX);
        }
    }
}
