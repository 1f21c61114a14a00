//! Rates: how many keys a second a principal may have, and how many may leave under a KMS key.
//!
//! Rates count keys, not calls: one for each data key that is handed out, singly or in a batch, and
//! one for every other cryptographic call. There is a bucket for each principal that asks and for
//! each KMS key that is asked for; a request takes from both, from the principal's first, so that a
//! principal beyond its own limit takes nothing from others that use the same KMS key. **Online
//! before bulk:** a single request may empty a bucket and is refused at once when it is empty; a
//! batch takes only while half of the burst is left, and waits. So a batch has what single requests
//! leave, and all of the rate where there are none.
//!
//! Finding a bucket neither locks nor allocates. The first request of a principal or for a KMS key
//! adds its bucket, and a timer removes those that have not been used for a while. The number of
//! buckets is bounded; principals beyond it share one bucket, and so do KMS keys.
//!
//! Log lines that a caller can cause have limits of their own ([`LogLines`]).
//!
//! What this module does not do: decide which requests are counted, or what becomes of one that is
//! refused (`api`).

use crate::key::regions::{RegionalId, Regions};
use bucket::Rate;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;
use table::Table;

mod bucket;
mod log_lines;
mod table;

pub use bucket::Urgency;
pub use log_lines::LogLines;

/// What the bucket is built on; the loom model puts loom's types in its place.
mod sync {
    pub(super) use std::sync::atomic::{AtomicU64, Ordering};
}

/// How many keys a second. Everywhere 0 means without a limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Keys a second of each principal that is not in `principals`.
    pub principal_keys_per_second: u64,
    /// Keys a second under each KMS key that is not in `kms_keys`.
    pub kms_key_keys_per_second: u64,
    /// Milliseconds of each rate that may be taken at once.
    pub burst_ms: u64,
    /// Refused calls a second of each principal.
    pub refused_calls_per_second: u64,
    /// Tokens of other issuers a second from each address.
    pub address_tokens_per_second: u64,
    /// Keys a second by the principal's ARN.
    pub principals: BTreeMap<String, u64>,
    /// Keys a second by the KMS key's ARN.
    pub kms_keys: BTreeMap<String, u64>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            principal_keys_per_second: 0,
            kms_key_keys_per_second: 0,
            burst_ms: 1000,
            refused_calls_per_second: 10,
            address_tokens_per_second: 100,
            principals: BTreeMap::new(),
            kms_keys: BTreeMap::new(),
        }
    }
}

/// Which limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The caller's.
    Principal,
    /// The KMS key's.
    Key,
}

impl Scope {
    /// The label of `keymill_throttled_total`.
    pub const LABELS: [&'static str; 2] = ["principal", "key"];
}

/// A bucket has no keys left for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exceeded {
    /// In this bucket.
    pub scope: Scope,
    /// They would be there after this time, if no other request takes any.
    pub wait: Duration,
}

/// What a request has paid: one that starts again, or waits, pays nothing twice.
#[derive(Debug, Default)]
pub struct Paid {
    principal: bool,
    /// The latest first: `ReEncrypt` uses two.
    keys: [Option<RegionalId>; 2],
}

impl Paid {
    /// The principal's limit has given its keys, and no KMS key's has.
    #[must_use]
    pub fn of_principal() -> Self {
        Self {
            principal: true,
            ..Self::default()
        }
    }

    /// Notes that the principal's limit has given its keys, if it has for `other`.
    pub fn add(&mut self, other: &Self) {
        self.principal |= other.principal;
    }
}

/// Every rate limit of one process.
pub struct Rates {
    principals: Table<String>,
    keys: Table<RegionalId>,
    /// Refused calls by principal: each writes a record, for which its caller needs no right.
    refused: Table<String>,
    /// Tokens of other issuers by the address that they come from.
    tokens: Table<IpAddr>,
}

/// How many seconds of refused calls a principal may make at once after a pause: enough for a
/// program that tries which operations it may call.
const REFUSED_BURST: Duration = Duration::from_secs(10);
/// How many seconds of tokens an address may send at once after a pause: the pods of a cluster come
/// from one address, and all of them start together.
const TOKENS_BURST: Duration = Duration::from_secs(10);

impl Rates {
    /// The limits that `config` sets, for keys in these Regions. An override whose name is not an
    /// ARN of its kind is left out: `config` has refused it before.
    #[must_use]
    pub fn new(config: &Config, regions: &Regions) -> Self {
        let rates = Self {
            principals: Table::new(None, std::iter::empty()),
            refused: Table::new(None, std::iter::empty()),
            tokens: Table::new(None, std::iter::empty()),
            keys: Table::new(None, std::iter::empty()),
        };
        rates.set(config, regions);
        rates
    }

    /// Replaces the limits by those that `config` sets. What was taken stays taken, and a batch
    /// under way has the new ones from its next keys on.
    pub fn set(&self, config: &Config, regions: &Regions) {
        let burst = Duration::from_millis(config.burst_ms);
        let rate = |keys_per_second: u64| Rate::new(keys_per_second, burst);
        let principals = config.principals.iter();
        let keys = config.kms_keys.iter();
        self.principals.set(
            rate(config.principal_keys_per_second),
            principals.map(|(arn, keys)| (arn.clone(), rate(*keys))),
        );
        self.refused.set(
            Rate::new(config.refused_calls_per_second, REFUSED_BURST),
            std::iter::empty(),
        );
        self.tokens.set(
            Rate::new(config.address_tokens_per_second, TOKENS_BURST),
            std::iter::empty(),
        );
        self.keys.set(
            rate(config.kms_key_keys_per_second),
            keys.filter_map(|(arn, keys)| Some((regions.key_of(arn)?, rate(*keys)))),
        );
    }

    /// Takes `keys` keys for the principal of this ARN and, where there is one, from the KMS key,
    /// and notes in `paid` what it has taken.
    ///
    /// # Errors
    /// [`Exceeded`]. What the principal's bucket has given is then not lost to a caller that comes
    /// back with the same `paid`.
    pub fn take(
        &self,
        principal: &str,
        key: Option<RegionalId>,
        keys: u64,
        urgency: Urgency,
        now: Duration,
        paid: &mut Paid,
    ) -> Result<(), Exceeded> {
        let exceeded = |scope| move |wait| Exceeded { scope, wait };
        if !paid.principal {
            let taken = self.principals.take(charged(principal), keys, urgency, now);
            taken.map_err(exceeded(Scope::Principal))?;
            paid.principal = true;
        }
        if let Some(key) = key.filter(|key| !paid.keys.contains(&Some(*key))) {
            let taken = self.keys.take(&key, keys, urgency, now);
            taken.map_err(exceeded(Scope::Key))?;
            paid.keys = [Some(key), paid.keys[0]];
        }
        Ok(())
    }

    /// Takes a refused call of the principal of this ARN.
    ///
    /// # Errors
    /// How long to wait for it.
    pub fn take_refused(&self, principal: &str, now: Duration) -> Result<(), Duration> {
        let (whose, urgency) = (charged(principal), Urgency::Online);
        self.refused.take(whose, 1, urgency, now)
    }

    /// Takes a token of another issuer that came from `address`; all callers without one share a
    /// bucket. Of an IPv6 address the first half counts: a host has the other half to itself
    /// (RFC 4291, section 2.5.1).
    ///
    /// # Errors
    /// How long to wait for it.
    pub fn take_token(&self, address: Option<IpAddr>, now: Duration) -> Result<(), Duration> {
        let whose = match address {
            Some(IpAddr::V6(address)) => {
                let [a, b, c, d, ..] = address.segments();
                Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
            }
            Some(address) => address,
            None => Ipv4Addr::UNSPECIFIED.into(),
        };
        self.tokens.take(&whose, 1, Urgency::Online, now)
    }

    /// Keys that a batch of this principal under this KMS key takes at a time, at most `most`; at
    /// least 1.
    #[must_use]
    pub fn bulk_keys(&self, principal: &str, key: RegionalId, most: usize) -> usize {
        let rates = [
            self.principals.rate(charged(principal)),
            self.keys.rate(&key),
        ];
        let keys = rates.into_iter().flatten().map(Rate::bulk_keys);
        keys.filter_map(|keys| usize::try_from(keys).ok())
            .fold(most, usize::min)
    }

    /// Removes buckets that have not been used for a while. A timer calls it once a second.
    pub fn tick(&self, now: Duration) {
        self.principals.tick(now);
        self.keys.tick(now);
        self.refused.tick(now);
        self.tokens.tick(now);
    }
}

/// Whose bucket a principal takes from: its own, but sessions share that of their role,
/// `arn:<partition>:sts::<account>:assumed-role/<role>`. The caller that assumes the role names the
/// session. With a bucket for each session it could have as many buckets as it can think of names.
fn charged(arn: &str) -> &str {
    const SESSIONS: &str = ":assumed-role/";
    let role = arn.find(SESSIONS).map(|at| at + SESSIONS.len());
    let name = role.and_then(|role| Some(role + arn.get(role..)?.find('/')?));
    name.and_then(|name| arn.get(..name)).unwrap_or(arn)
}

#[cfg(test)]
mod tests;
