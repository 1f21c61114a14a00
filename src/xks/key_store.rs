//! An external key store, `[xks.NAME]` in the configuration: a prefix of paths, and who calls it.

use crate::auth::Verifier;
use crate::xks::ExternalKey;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The end of every `XksProxyUriPath`.
pub const URI_PATH_END: &str = "/kms/xks/v1";

/// An external key store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// `XksProxyUriPath`, as AWS KMS is given it: ends in [`URI_PATH_END`].
    pub uri_path: String,
    /// The ARN of the principal whose credentials and rights AWS KMS has here.
    pub principal: String,
    /// The Regions of AWS that call.
    pub regions: Vec<String>,
    /// The common names of client certificates that may call; with none, a caller needs no
    /// certificate.
    #[serde(default)]
    pub client_common_names: Vec<String>,
}

impl Config {
    /// The most key stores.
    pub const STORES_MAX: usize = 100;
    /// The most Regions: as many as AWS has, and some.
    pub const REGIONS_MAX: usize = 64;

    /// Whether AWS KMS takes this `XksProxyUriPath` (AWS KMS API reference, `CreateCustomKeyStore`,
    /// and the specification's characters).
    #[must_use]
    pub fn is_uri_path(text: &str) -> bool {
        let prefix = text.strip_suffix(URI_PATH_END);
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"/-_".contains(&byte);
        (10..=128).contains(&text.len())
            && prefix.is_some_and(|prefix| {
                let segments = prefix.split('/').skip(1);
                (prefix.is_empty() || prefix.starts_with('/'))
                    && prefix.bytes().all(allowed)
                    && segments.into_iter().all(|segment| !segment.is_empty())
            })
    }
}

/// An external key store that is served.
pub struct KeyStore {
    name: String,
    config: Config,
    /// Of each Region, in the order of the configuration.
    verifiers: Vec<Verifier>,
    /// By their ids.
    keys: BTreeMap<String, Arc<ExternalKey>>,
}

impl KeyStore {
    pub(super) fn new(
        name: &str,
        config: &Config,
        keys: Vec<ExternalKey>,
        verifier: impl Fn(&String) -> Verifier,
    ) -> Self {
        let keys = keys
            .into_iter()
            .map(|key| (key.id().to_owned(), Arc::new(key)));
        Self {
            name: name.to_owned(),
            config: config.clone(),
            verifiers: config.regions.iter().map(verifier).collect(),
            keys: keys.collect(),
        }
    }

    /// Its name in the configuration.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn uri_path(&self) -> &str {
        &self.config.uri_path
    }

    /// The ARN of the principal that signs.
    #[must_use]
    pub fn principal(&self) -> &str {
        &self.config.principal
    }

    /// What verifies the signature of a request that is scoped to `region`. A Region that does not
    /// call here gets a verifier that refuses it.
    ///
    /// # Panics
    /// When the key store has no Region; the configuration was checked.
    #[must_use]
    pub fn verifier(&self, region: Option<&str>) -> &Verifier {
        let mut regions = self.config.regions.iter();
        let at = regions.position(|one| Some(one.as_str()) == region);
        &self.verifiers[at.unwrap_or_default()]
    }

    /// Whether a caller may have this common name in its certificate, or none.
    #[must_use]
    pub fn takes_client(&self, common_name: Option<&str>) -> bool {
        let names = &self.config.client_common_names;
        names.is_empty() || names.iter().any(|one| Some(one.as_str()) == common_name)
    }

    pub(super) fn key(&self, id: &str) -> Option<&Arc<ExternalKey>> {
        self.keys.get(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_those_that_aws_takes() {
        let long = format!("/{}{URI_PATH_END}", "a".repeat(116));
        for path in ["/kms/xks/v1", "/a/kms/xks/v1", "/A-1_/b/kms/xks/v1", &long] {
            assert!(Config::is_uri_path(path), "{path}");
        }
        let longer = format!("/{}{URI_PATH_END}", "a".repeat(117));
        for path in [
            "",
            "/",
            "kms/xks/v1",
            "/kms/xks/v2",
            "/kms/xks/v1/",
            "a/kms/xks/v1",
            "//kms/xks/v1",
            "/a//kms/xks/v1",
            "/a.b/kms/xks/v1",
            "/a%20/kms/xks/v1",
            "/ä/kms/xks/v1",
            &longer,
        ] {
            assert!(!Config::is_uri_path(path), "{path}");
        }
    }
}
