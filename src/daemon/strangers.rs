//! Settings that name a principal or a key that the store does not have. Most likely they are
//! misspelt, or it was deleted; nothing is refused for it, because they may be made later.

use crate::config::Config;
use crate::keystore::Snapshot;
use std::fmt;

/// A setting, and what it names in vain.
pub struct Stranger {
    setting: String,
    /// What it should be: a principal or a key.
    kind: &'static str,
    arn: String,
}

impl Stranger {
    /// Every one of a configuration.
    #[must_use]
    pub fn all(config: &Config, snapshot: &Snapshot) -> Vec<Self> {
        let mapped = config.mapped_principals().into_iter();
        let limited = config.rates.principals.keys();
        let limited = limited.map(|arn| ("rates.principals".to_owned(), arn.clone()));
        let principals = mapped.chain(limited).filter(|(_, arn)| {
            // The sessions of a role are not in the store.
            !arn.contains(":assumed-role/") && !snapshot.principals.contains_key(arn.as_str())
        });
        let strangers = principals.map(|(setting, arn)| Self {
            setting,
            kind: "principal",
            arn,
        });
        let regions = config.served_regions();
        let keys = config.rates.kms_keys.keys().filter(|arn| {
            let key = regions.key_of(arn);
            !key.is_some_and(|key| snapshot.keys.contains_key(&key))
        });
        let keys = keys.map(|arn| Self {
            setting: "rates.kms_keys".to_owned(),
            kind: "key",
            arn: arn.clone(),
        });
        strangers.chain(keys).collect()
    }

    /// Logs it.
    pub(super) fn log(&self) {
        let Self { setting, kind, arn } = self;
        tracing::warn!(arn, "{setting} names a {kind} that does not exist");
    }
}

impl fmt::Display for Stranger {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { setting, kind, arn } = self;
        write!(out, "{setting} names a {kind} that does not exist: {arn}")
    }
}
