//! What SIGHUP puts in force without a restart: the level of the log, the principals of unsigned
//! callers, the rates, and TLS.
//!
//! The configuration is read again as a whole, as at the start. A configuration that is refused
//! changes nothing. Settings that need a restart stay as they are, and the log names them. Nothing
//! is closed: connections that are open keep their bounds and their encryption, and their next
//! unsigned request is judged by the new maps.
//!
//! This module does not read a configuration itself: the command line says how.

use crate::api::Api;
use crate::auth::Peers;
use crate::config::{Loaded, LogLevel, Setting};
use crate::daemon::{Core, Listeners, Stranger};
use crate::keystore::Keystore;
use crate::metrics::Metrics;
use crate::transport::tls::Tls;
use arc_swap::ArcSwap;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Where the configuration is read again.
pub struct Source {
    /// The settings that the daemon was started with.
    pub settings: BTreeMap<String, Setting>,
    /// Reads the configuration as at the start. Its error has a line for each mistake.
    pub read: Box<dyn Fn() -> Result<Loaded, String> + Send + Sync>,
    /// Sets the level of the log.
    pub set_log_level: Box<dyn Fn(LogLevel) + Send + Sync>,
}

/// The parts of a daemon that are configured anew while it runs.
pub(super) struct Reload {
    source: Source,
    /// The settings in force.
    in_force: Mutex<BTreeMap<String, Setting>>,
    /// The principals of each Unix socket, by the socket's setting.
    peers: Vec<(String, Arc<ArcSwap<Peers>>)>,
    tls: Option<Arc<Tls>>,
    api: Arc<Api>,
    keystore: Arc<Keystore>,
    metrics: Arc<Metrics>,
}

impl Reload {
    pub(super) fn new(source: Source, core: &Core, listeners: &Listeners) -> Self {
        let sockets = listeners.unix.iter().map(|(_, socket)| socket);
        // Both are shown from 0 on.
        let _shown = [OK, FAILED].map(|result| core.metrics.config_reloads(result));
        Self {
            in_force: Mutex::new(source.settings.clone()),
            source,
            peers: sockets
                .map(|socket| (socket.name.clone(), Arc::clone(&socket.peers)))
                .collect(),
            tls: listeners.tls.clone(),
            api: Arc::clone(&core.api),
            keystore: Arc::clone(&core.keystore),
            metrics: Arc::clone(&core.metrics),
        }
    }

    /// The files of TLS, which are also read again when they change.
    pub(super) fn tls(&self) -> Option<&Arc<Tls>> {
        self.tls.as_ref()
    }

    /// Reads the configuration again and puts it in force. This blocks on files.
    pub(super) fn run(&self) {
        let done = match (self.source.read)() {
            Ok(loaded) => self.put_in_force(&loaded),
            Err(mistakes) => {
                for mistake in mistakes.lines() {
                    tracing::error!(mistake, "SIGHUP: the configuration is refused");
                }
                tracing::error!(
                    "SIGHUP: nothing was changed: correct the configuration, and repeat"
                );
                false
            }
        };
        let result = if done { OK } else { FAILED };
        self.metrics.config_reloads(result).increment(1);
        self.metrics.config_refused.set(u8::from(!done));
    }

    /// Whether all of it could be used.
    fn put_in_force(&self, loaded: &Loaded) -> bool {
        let config = &loaded.config;
        let mut in_force = self.in_force.lock().unwrap_or_else(PoisonError::into_inner);
        (self.source.set_log_level)(config.log.level);
        for (name, peers) in &self.peers {
            // A socket that is not configured any more is served until a restart, to signed
            // requests.
            peers.store(Arc::new(config.peers_of(name)));
        }
        self.api.rates.set(&config.rates, self.keystore.regions());
        let strangers = Stranger::all(config, &self.keystore.snapshot());
        strangers.iter().for_each(Stranger::log);
        let tls = match &self.tls {
            Some(tls) if config.tls.is_on() => tls.reload(&config.tls).is_ok(),
            _ => true,
        };
        let mut changes = Changes::between(
            &in_force,
            &loaded.settings,
            self.tls.is_some() && config.tls.is_on(),
        );
        // What is wrong with the files was logged.
        changes.applied.retain(|key| tls || !key.starts_with(TLS));
        for key in &changes.applied {
            match loaded.settings.get(key) {
                Some(setting) => drop(in_force.insert(key.clone(), setting.clone())),
                None => drop(in_force.remove(key)),
            }
        }
        if !changes.need_restart.is_empty() {
            tracing::warn!(
                settings = changes.need_restart.join(", "),
                "SIGHUP: these settings have changed, and need a restart"
            );
        }
        tracing::info!(
            changed = changes.applied.join(", "),
            "SIGHUP: the configuration was read again"
        );
        tls
    }
}

const OK: &str = "ok";
const FAILED: &str = "failed";
/// The prefix of the settings of TLS.
const TLS: &str = "tls.";

/// The settings whose values differ.
#[derive(Debug, Default, PartialEq, Eq)]
struct Changes {
    applied: Vec<String>,
    need_restart: Vec<String>,
}

impl Changes {
    /// `tls` is whether there was TLS and is.
    fn between(
        before: &BTreeMap<String, Setting>,
        after: &BTreeMap<String, Setting>,
        tls: bool,
    ) -> Self {
        let value =
            |of: &BTreeMap<String, Setting>, key: &str| of.get(key).map(|of| of.value.clone());
        let added = after.keys().filter(|key| !before.contains_key(*key));
        let mut changes = Self::default();
        for key in before.keys().chain(added) {
            if value(before, key) == value(after, key) {
                continue;
            }
            let is_served = |socket: &str| {
                let path = format!("sockets.{socket}.path");
                before.contains_key(&path) && after.contains_key(&path)
            };
            let is_applied = match key.split_once('.') {
                Some(("peers" | "rates", _)) => true,
                Some(("log", "level")) => true,
                Some(("tls", _)) => tls,
                Some(("sockets", rest)) => rest.split_once('.').is_some_and(|(socket, key)| {
                    let key = key.split('.').next().unwrap_or_default();
                    is_served(socket) && matches!(key, "principal" | "users" | "groups")
                }),
                _ => false,
            };
            if is_applied {
                changes.applied.push(key.clone());
            } else {
                changes.need_restart.push(key.clone());
            }
        }
        changes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Environment};
    use std::path::Path;

    fn settings(text: &str) -> BTreeMap<String, Setting> {
        let file = Path::new("/etc/keymill/keymill.toml");
        let loaded = Config::read(Some((file, text)), &Environment::default(), &[]);
        loaded.unwrap().settings
    }

    const USER: &str = "\"arn:aws:iam::111122223333:user/a\"";

    fn check(before: &str, after: &str, tls: bool, applied: &[&str], need_restart: &[&str]) {
        for (before, after) in [(before, after), (after, before)] {
            let mut changes = Changes::between(&settings(before), &settings(after), tls);
            changes.applied.sort();
            changes.need_restart.sort();
            assert_eq!(changes.applied, applied, "{before} to {after}");
            assert_eq!(changes.need_restart, need_restart, "{before} to {after}");
        }
    }

    #[test]
    fn each_setting_is_put_in_force_or_named() {
        check("", "", false, &[], &[]);
        check("", "log.level = 'debug'", false, &["log.level"], &[]);
        check("", "log.format = 'json'", false, &[], &["log.format"]);
        let maps =
            format!("peers.users.7 = {USER}\nrates.burst_ms = 200\n[rates.principals]\n{USER} = 1");
        let keys = [
            "peers.users.7",
            "rates.burst_ms",
            "rates.principals.arn:aws:iam::111122223333:user/a",
        ];
        check("", &maps, false, &keys, &[]);
        let others = "listen.tcp = '127.0.0.1:1'\npool.enabled = false\nregion = 'us-west-2'";
        check(
            "",
            others,
            false,
            &[],
            &["listen.tcp", "pool.enabled", "region"],
        );
    }

    #[test]
    fn the_callers_of_a_socket_may_change_but_not_the_socket() {
        let path = "sockets.a.path = 'a.sock'\n";
        let fixed = format!("{path}sockets.a.principal = {USER}");
        let mapped = format!("{path}sockets.a.users.7 = {USER}\nsockets.a.groups.8 = {USER}");
        let keys = [
            "sockets.a.groups.8",
            "sockets.a.principal",
            "sockets.a.users.7",
        ];
        check(&fixed, &mapped, false, &keys, &[]);
        let whole = ["sockets.a.mode", "sockets.a.path", "sockets.a.principal"];
        check("", &fixed, false, &[], &whole);
        check(
            &fixed,
            &format!("{fixed}\nsockets.a.mode = '0600'"),
            false,
            &[],
            &["sockets.a.mode"],
        );
    }

    #[test]
    fn tls_cannot_be_turned_on_or_off() {
        let on = "tls.certificate = 'a.pem'\ntls.key = 'a.key'\n";
        let keys = ["tls.certificate", "tls.key"];
        check("", on, false, &[], &keys);
        let others = "tls.certificate = 'b.pem'\ntls.key = 'b.key'\ntls.reload_seconds = 5\n";
        let keys = ["tls.certificate", "tls.key", "tls.reload_seconds"];
        check(on, others, true, &keys, &[]);
    }
}
