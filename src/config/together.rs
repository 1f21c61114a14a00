//! Checks that need more than one setting: whole paths, and settings that depend on each other.

use crate::config::layers::{Layers, Origin};
use crate::config::sockets::{FURTHER_SOCKETS, OWN_SOCKET};
use crate::config::{Config, Environment, credentials};
use crate::key::arn::{AccountId, Arn};
use crate::key::regions::{Region, Regions};
use crate::keystore::freshness::Look;
use crate::policy::Principal;
use crate::policy::principal::PrincipalKind;
use crate::transport::tls::ClientCertificate;
use crate::web_identity::issuer;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The most bytes of a Unix socket's path: `sun_path` without its final zero.
const SOCKET_PATH_BYTES_MAX: usize = 107;

impl Config {
    pub(super) fn resolve_paths(
        &mut self,
        folder: &Path,
        environment: &Environment,
        layers: &mut Layers,
    ) {
        for (key, path) in self.paths_mut() {
            // An empty path means no file; it does not mean the folder.
            if path.as_os_str().is_empty() {
                continue;
            }
            let resolved = match credentials::file(path, environment) {
                Some(_) if is_written(&key) => Err("a credential can only be read".to_owned()),
                Some(file) => file.map_err(str::to_owned),
                None => std::path::absolute(folder.join(&*path)).map_err(|error| error.to_string()),
            };
            match resolved {
                Ok(resolved) => *path = resolved,
                Err(problem) => layers.refuse(&key, &problem),
            }
        }
    }

    fn paths_mut(&mut self) -> Vec<(String, &mut PathBuf)> {
        let fixed = [
            ("store.path", &mut self.store.path),
            ("store.root_key", &mut self.store.root_key),
            ("store.passphrase_file", &mut self.store.passphrase_file),
            ("store.password_file", &mut self.store.password_file),
            ("store.ca_file", &mut self.store.ca_file),
            ("pkcs11.module", &mut self.pkcs11.module),
            ("pkcs11.pin_file", &mut self.pkcs11.pin_file),
            ("listen.socket", &mut self.listen.socket),
            ("audit.path", &mut self.audit.path),
            ("tls.certificate", &mut self.tls.certificate),
            ("tls.key", &mut self.tls.key),
            ("tls.client_ca", &mut self.tls.client_ca),
            ("tls.client_crl", &mut self.tls.client_crl),
        ];
        let paths = fixed.map(|(key, path)| (key.to_owned(), path));
        let sockets = self.sockets.iter_mut();
        let sockets =
            sockets.map(|(name, socket)| (format!("sockets.{name}.path"), &mut socket.path));
        let issuers = self.issuers.iter_mut().flat_map(|(name, issuer)| {
            [
                (format!("issuers.{name}.jwks_file"), &mut issuer.jwks_file),
                (format!("issuers.{name}.ca_file"), &mut issuer.ca_file),
                (
                    format!("issuers.{name}.bearer_token_file"),
                    &mut issuer.bearer_token_file,
                ),
            ]
        });
        let roots = self.attestation.roots.iter_mut();
        let roots = roots.map(|path| ("attestation.roots".to_owned(), path));
        let proxies = self.xks_proxies.iter_mut().flat_map(|(name, proxy)| {
            let key = |key: &str| format!("xks_proxies.{name}.{key}");
            [
                (key("ca_file"), &mut proxy.ca_file),
                (key("certificate"), &mut proxy.certificate),
                (key("private_key"), &mut proxy.private_key),
            ]
        });
        let further = sockets.chain(issuers).chain(proxies).chain(roots);
        paths.into_iter().chain(further).collect()
    }

    pub(super) fn check_together(&mut self, layers: &mut Layers) {
        self.check_regions(layers);
        self.check_partition(layers);
        if self.partition == Region::CHINA {
            // AWS KMS has none there; and the secret of an external key would be as short as SM4's.
            for name in self.xks.keys() {
                let problem = "AWS KMS has external key stores outside of the China Regions alone";
                layers.refuse(&format!("xks.{name}.principal"), problem);
            }
        }
        self.check_store(layers);
        self.check_paths(layers);
        self.check_addresses(layers);
        self.check_tls(layers);
        self.check_sockets(layers);
        self.check_issuers(layers);
        external_keys::check(self, layers);
        proxies::check(self, layers);
        self.check_principals(layers);
        if self.pool.lane_keys_min > self.pool.lane_keys_max {
            let (key, other) = ("pool.lane_keys_min", "pool.lane_keys_max");
            layers.refuse_beside(key, "must not exceed", other);
        }
        if self.pool.lane_keys_max > self.pool.keys_max {
            layers.refuse_beside("pool.lane_keys_max", "must not exceed", "pool.keys_max");
        }
        self.check_rates(layers);
    }

    /// There is one way to give the Regions: `region` for one, or `regions`.
    fn check_regions(&mut self, layers: &mut Layers) {
        let Some(home) = self.regions.first() else {
            return;
        };
        let region = layers.settings.get("region");
        if region.is_some_and(|region| region.source != Origin::Default) {
            layers.refuse_beside("regions", "stands in place of, and not beside,", "region");
        }
        self.region.clone_from(home);
    }

    /// SM4 keys in a Region of another name, or the reverse, would surprise every client.
    fn check_partition(&self, layers: &mut Layers) {
        let is_china = self.partition == Region::CHINA;
        let is_of_it = |name: &String| (Regions::partition_of(name) == Region::CHINA) == is_china;
        if !self.region_names().iter().all(is_of_it) {
            let list = match self.regions.as_slice() {
                [] => "region",
                _ => "regions",
            };
            layers.refuse_beside("partition", "is not the partition of", list);
        }
    }

    /// What belongs to a shared store needs one, and a node must miss several looks before it
    /// stops. A root key is sealed in one way, and a token is named whole.
    fn check_store(&self, layers: &mut Layers) {
        let store = &self.store;
        if store.url.is_empty() {
            for (key, is_set) in [
                ("store.notify_url", !store.notify_url.is_empty()),
                (
                    "store.password_file",
                    !store.password_file.as_os_str().is_empty(),
                ),
                ("store.ca_file", !store.ca_file.as_os_str().is_empty()),
                ("store.freshness", store.freshness == Look::Write),
            ] {
                if is_set {
                    layers.refuse(key, "needs store.url");
                }
            }
        }
        if self.pkcs11.is_set() {
            let Self { pkcs11, .. } = self;
            for (key, is_set) in [
                ("pkcs11.token", !pkcs11.token.is_empty() || pkcs11.slot >= 0),
                ("pkcs11.key", !pkcs11.key.is_empty()),
                ("pkcs11.pin_file", !pkcs11.pin_file.as_os_str().is_empty()),
            ] {
                if !is_set {
                    layers.refuse(key, "is needed with pkcs11.module");
                }
            }
            if !pkcs11.token.is_empty() && pkcs11.slot >= 0 {
                let key = "pkcs11.slot";
                layers.refuse_beside(key, "stands in place of, and not beside,", "pkcs11.token");
            }
            if !store.passphrase_file.as_os_str().is_empty() {
                let key = "store.passphrase_file";
                layers.refuse_beside(key, "stands in place of, and not beside,", "pkcs11.module");
            }
        }
        if store.max_staleness_ms < 3 * store.poll_ms {
            let key = "store.max_staleness_ms";
            layers.refuse_beside(key, "must be at least three times", "store.poll_ms");
        }
    }

    fn check_paths(&mut self, layers: &mut Layers) {
        let paths = self.paths_mut();
        for (at, (key, path)) in paths.iter().enumerate() {
            let bytes = path.as_os_str().len();
            if is_socket(key) && bytes > SOCKET_PATH_BYTES_MAX {
                let problem = format!(
                    "the whole path has {bytes} bytes, allowed are at most {SOCKET_PATH_BYTES_MAX}"
                );
                layers.refuse(key, &problem);
            }
            // A certificate and its key may be in one file, and so may a CA and its list. Issuers
            // and proxies may have files in common.
            let may_be_shared = ["tls.", "issuers.", "xks_proxies.", "attestation."];
            let is_absent = path.as_os_str().is_empty();
            if !is_absent && !may_be_shared.iter().any(|section| key.starts_with(section)) {
                for (other, _) in paths[..at].iter().filter(|(_, other)| other == path) {
                    layers.refuse_beside(key, "must differ from", other);
                }
            }
        }
    }

    fn check_addresses(&self, layers: &mut Layers) {
        if self.listen.tcp == self.listen.admin && self.listen.tcp.port() != 0 {
            layers.refuse_beside("listen.admin", "must differ from", "listen.tcp");
        }
        if !self.listen.tcp.ip().is_loopback() && !self.tls.is_on() {
            layers.refuse(
                "listen.tcp",
                "refused without TLS, because an eavesdropper could read plaintext keys and repeat requests; \
                 allowed: a loopback address, such as 127.0.0.1:5645 or [::1]:5645, or tls.certificate and tls.key",
            );
        }
        if !self.listen.admin.ip().is_loopback() && !self.listen.admin_beyond_loopback {
            layers.refuse(
                "listen.admin",
                "refused, because there is neither TLS nor authentication here; \
                 allowed: a loopback address with its port, such as 127.0.0.1:5646 or [::1]:5646, or any with \
                 listen.admin_beyond_loopback, which shows other hosts /metrics, /live and /ready alone",
            );
        }
    }

    fn check_tls(&self, layers: &mut Layers) {
        let tls = &self.tls;
        let is_set = |path: &PathBuf| !path.as_os_str().is_empty();
        let (certificate, key) = (is_set(&tls.certificate), is_set(&tls.key));
        let (ca, crl) = (is_set(&tls.client_ca), is_set(&tls.client_crl));
        let required = tls.client_certificate == ClientCertificate::Required;
        let names = !tls.client_common_names.is_empty();
        for (setting, set, other, other_set) in [
            ("tls.key", key, "tls.certificate", certificate),
            ("tls.certificate", certificate, "tls.key", key),
            ("tls.client_ca", ca, "tls.certificate", certificate),
            ("tls.client_crl", crl, "tls.client_ca", ca),
            ("tls.client_certificate", required, "tls.client_ca", ca),
            ("tls.client_common_names", names, "tls.client_ca", ca),
        ] {
            if set && !other_set {
                layers.refuse(setting, &format!("needs {other}"));
            }
        }
        if !ca {
            for name in tls.clients.keys() {
                let key = format!("tls.clients.{name}");
                layers.refuse(&key, "needs tls.client_ca");
            }
        }
    }

    fn check_sockets(&self, layers: &mut Layers) {
        for (name, socket) in &self.sockets {
            let maps = !(socket.users.is_empty() && socket.groups.is_empty());
            if socket.principal.is_some() && maps {
                let key = format!("sockets.{name}.principal");
                let problem = "every caller is this principal: remove users and groups";
                layers.refuse(&key, problem);
            }
        }
    }

    fn check_issuers(&self, layers: &mut Layers) {
        let mut seen = BTreeMap::new();
        for (at, (name, issuer)) in self.issuers.iter().enumerate() {
            let key = |key: &str| format!("issuers.{name}.{key}");
            if at == issuer::Config::ISSUERS_MAX {
                let most = issuer::Config::ISSUERS_MAX;
                layers.refuse(&key("url"), &format!("allowed are at most {most} issuers"));
            }
            let account = issuer.account_or(self.account);
            if let Some(other) = seen.insert((&issuer.url, account), name) {
                let other = format!("issuers.{other}.url");
                let relation = "must differ, for one account, from";
                layers.refuse_beside(&key("url"), relation, &other);
            }
            let is_set = |path: &PathBuf| !path.as_os_str().is_empty();
            for (setting, set) in [
                ("jwks_url", !issuer.jwks_url.is_empty()),
                ("ca_file", is_set(&issuer.ca_file)),
                ("bearer_token_file", is_set(&issuer.bearer_token_file)),
            ] {
                if set && is_set(&issuer.jwks_file) {
                    let problem = format!(
                        "remove it, or {}: the keys are in that file",
                        key("jwks_file")
                    );
                    layers.refuse(&key(setting), &problem);
                }
            }
        }
    }

    /// The ARN of each principal that callers are without a signature, or that AWS KMS signs as,
    /// by its setting.
    #[must_use]
    pub fn mapped_principals(&self) -> Vec<(String, String)> {
        let of = |section: &str, map: &BTreeMap<String, String>| {
            let keyed = |(id, arn): (&String, &String)| (format!("{section}.{id}"), arn.clone());
            map.iter().map(keyed).collect::<Vec<_>>()
        };
        let mut principals = of("peers.users", &self.peers.users);
        principals.extend(of("peers.groups", &self.peers.groups));
        principals.extend(of("tls.clients", &self.tls.clients));
        for (name, socket) in &self.sockets {
            principals.extend(of(&format!("sockets.{name}.users"), &socket.users));
            principals.extend(of(&format!("sockets.{name}.groups"), &socket.groups));
            let fixed = socket.principal.iter();
            principals.extend(fixed.map(|arn| (format!("sockets.{name}.principal"), arn.clone())));
        }
        let stores = self.xks.iter();
        let stores =
            stores.map(|(name, of)| (format!("xks.{name}.principal"), of.principal.clone()));
        principals.extend(stores);
        principals
    }

    fn check_principals(&self, layers: &mut Layers) {
        for (key, arn) in self.mapped_principals() {
            if !self.may_be_mapped(&arn) {
                let problem = format!("allowed is an ARN like {}", self.user_arn("name"));
                layers.refuse(&key, &problem);
            }
        }
    }

    fn check_rates(&self, layers: &mut Layers) {
        for arn in self.rates.principals.keys() {
            let fits = Arn::split(arn).is_some_and(|split| {
                split.partition == self.partition
                    && matches!(split.service, "iam" | "sts")
                    && split.region.is_empty()
                    && split.account.parse::<AccountId>().is_ok()
                    && !split.resource.is_empty()
            });
            if !fits {
                let problem = format!("allowed is an ARN like {}", self.user_arn("name"));
                layers.refuse(&format!("rates.principals.{arn}"), &problem);
            }
        }
        let regions = self.served_regions();
        for arn in self.rates.kms_keys.keys() {
            let fits = Arn::split(arn).is_some_and(|split| {
                split.partition == self.partition
                    && split.service == "kms"
                    && split.account.parse::<AccountId>().is_ok()
                    && regions.key_of(arn).is_some()
            });
            if !fits {
                let example = regions.home().arn(self.account, "key/<key id>");
                let problem = format!("allowed is a key's ARN, {example}");
                layers.refuse(&format!("rates.kms_keys.{arn}"), &problem);
            }
        }
    }

    /// Whether unsigned callers may be this principal: a user, or the root of an account. A role
    /// acts only in sessions, each with its own credentials.
    fn may_be_mapped(&self, arn: &str) -> bool {
        let kind = Principal::new(arn, Vec::new()).map(|principal| principal.kind());
        let partition = Arn::split(arn).is_some_and(|arn| arn.partition == self.partition);
        partition && matches!(kind, Ok(PrincipalKind::User | PrincipalKind::Root))
    }
}

/// Whether the daemon writes at this path.
fn is_written(key: &str) -> bool {
    matches!(key, "store.path" | "audit.path") || is_socket(key)
}

fn is_socket(key: &str) -> bool {
    key == OWN_SOCKET || key.starts_with(FURTHER_SOCKETS)
}

mod external_keys;
mod proxies;

#[cfg(test)]
mod tests;
