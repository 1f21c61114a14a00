//! The allowed texts of external key stores, of their keys, and of the proxies that are called.

use super::{is_name, region};
use crate::xks::{external_key, key_store};
use crate::xks_proxy::address::{host_name, is_uri_path};

pub(super) fn uri_path(text: &str) -> Result<(), &'static str> {
    is_uri_path(text)
        .then_some(())
        .ok_or("allowed: /PREFIX/kms/xks/v1, at most 128 of a-z, A-Z, 0-9, /, - and _")
}

pub(super) fn proxy_host(text: &str) -> Result<(), &'static str> {
    let fits = host_name(text).is_some_and(|name| name == text);
    fits.then_some(())
        .ok_or("allowed: a host's DNS name in lower case, without a port")
}

pub(super) fn regions(texts: &[&str]) -> Result<(), &'static str> {
    let count = (1..=key_store::Config::REGIONS_MAX).contains(&texts.len());
    let all = count && texts.iter().all(|text| region(text).is_ok());
    all.then_some(())
        .ok_or("allowed: 1 to 64 Regions, each of 1 to 32 of a-z, 0-9 and -")
}

pub(super) fn name(text: &str) -> Result<(), &'static str> {
    is_name(text)
        .then_some(())
        .ok_or("allowed: the name of a table, 1 to 32 of a-z, 0-9, - and _")
}

pub(super) fn external_key_id(text: &str) -> Result<(), &'static str> {
    external_key::is_id(text)
        .then_some(())
        .ok_or("allowed: 1 to 128 of a-z, A-Z, 0-9, -, _ and .")
}

pub(super) fn kms_key(text: &str) -> Result<(), &'static str> {
    let fits = (1..=2048).contains(&text.len()) && text.is_ascii();
    fits.then_some(())
        .ok_or("allowed: a key's id or ARN, an alias or its ARN")
}

pub(super) fn usage(texts: &[&str]) -> Result<(), &'static str> {
    let mut known = external_key::USAGES.iter();
    let is_known = |text: &&str| external_key::USAGES.contains(text);
    let once = known.all(|usage| texts.iter().filter(|text| *text == usage).count() < 2);
    (once && texts.iter().all(is_known))
        .then_some(())
        .ok_or("allowed: ENCRYPT, DECRYPT, each at most once")
}

pub(super) fn entries(texts: &[&str]) -> Result<(), &'static str> {
    let most = external_key::Config::ENTRY_CHARACTERS_MAX;
    let fits = |text: &&str| (1..=most).contains(&text.chars().count());
    let all = texts.len() <= external_key::Config::ENTRIES_MAX && texts.iter().all(fits);
    all.then_some(())
        .ok_or("allowed: at most 1000 texts of 1 to 2048 characters")
}
