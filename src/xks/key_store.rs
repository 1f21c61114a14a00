//! An external key store, `[xks.NAME]` in the configuration: a prefix of paths, and who calls it.

use crate::auth::Verifier;
use crate::xks::ExternalKey;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// An external key store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// `XksProxyUriPath`, as AWS KMS is given it: ends in `/kms/xks/v1`.
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
