//! Checks of external key stores and their keys.

use crate::config::Config;
use crate::config::layers::Layers;
use crate::xks::{external_key, key_store};
use std::collections::BTreeMap;

pub(super) fn check(config: &Config, layers: &mut Layers) {
    check_stores(config, layers);
    check_keys(config, layers);
}

fn check_stores(config: &Config, layers: &mut Layers) {
    let mut seen = BTreeMap::new();
    for (at, (name, store)) in config.xks.iter().enumerate() {
        let key = |key: &str| format!("xks.{name}.{key}");
        if at == key_store::Config::STORES_MAX {
            let most = key_store::Config::STORES_MAX;
            let problem = format!("allowed are at most {most} external key stores");
            layers.refuse(&key("uri_path"), &problem);
        }
        if !config.tls.is_on() {
            layers.refuse(&key("uri_path"), "needs tls.certificate");
        }
        if config.partition == "aws-cn" {
            let problem = "AWS has no external key stores in its partition aws-cn";
            layers.refuse(&key("uri_path"), problem);
        }
        if !store.client_common_names.is_empty() && config.tls.client_ca.as_os_str().is_empty() {
            layers.refuse(&key("client_common_names"), "needs tls.client_ca");
        }
        if let Some(other) = seen.insert(&store.uri_path, name) {
            let other = format!("xks.{other}.uri_path");
            layers.refuse_beside(&key("uri_path"), "must differ from", &other);
        }
    }
}

fn check_keys(config: &Config, layers: &mut Layers) {
    let mut seen = BTreeMap::new();
    for (at, (name, external)) in config.xks_keys.iter().enumerate() {
        let key = |key: &str| format!("xks_keys.{name}.{key}");
        if at == external_key::Config::KEYS_MAX {
            let most = external_key::Config::KEYS_MAX;
            let problem = format!("allowed are at most {most} external keys");
            layers.refuse(&key("id"), &problem);
        }
        if !config.xks.contains_key(&external.store) {
            let problem = format!("there is not a table [xks.{}]", external.store);
            layers.refuse(&key("store"), &problem);
        }
        if let Some(other) = seen.insert((&external.store, &external.id), name) {
            let other = format!("xks_keys.{other}.id");
            let relation = "must differ, in one key store, from";
            layers.refuse_beside(&key("id"), relation, &other);
        }
    }
}
