//! What a misspelt setting was meant to be.

use crate::config::Environment;
use crate::config::allowed::{KEYS, MAPS};
use strsim::damerau_levenshtein;

/// The setting, or the section in brackets, that is nearest to `key`.
pub(super) fn setting(key: &str) -> Option<String> {
    let names = || KEYS.iter().map(|(name, _)| *name).chain(MAPS);
    let split = |name| str::rsplit_once(name, '.').unwrap_or(("", name));
    let (section, name) = split(key);
    let near = names().filter_map(|other| {
        let (other_section, other_name) = split(other);
        let distance = distance(section, other_section)? + distance(name, other_name)?;
        Some((distance, other.to_owned()))
    });
    let sections = names()
        .map(|other| split(other).0)
        .filter(|other| !other.is_empty());
    let whole = [section, key].into_iter().filter(|text| !text.is_empty());
    let near_sections = whole.flat_map(|text| {
        let near = sections.clone().filter(move |other| *other != text);
        near.filter_map(move |other| Some((distance(text, other)?, format!("[{other}]"))))
    });
    let nearest = near.min().or_else(|| near_sections.min());
    nearest.map(|(_, name)| name)
}

/// The variable that one without a section, `key` in small letters, was meant to be.
pub(super) fn variable(key: &str) -> Option<String> {
    let plain = |text: &str| text.replace(['_', '.'], "");
    let key = plain(key);
    let names = KEYS.iter().map(|(name, _)| *name).chain(["endpoint"]);
    let near = names.filter_map(|name| {
        let name_of = || format!("{}{}", Environment::PREFIX, name.replace('.', "__"));
        Some((
            distance(&key, &plain(name))?,
            name_of().to_ascii_uppercase(),
        ))
    });
    near.min().map(|(_, name)| name)
}

/// How many letters differ, unless too many do: one in four, and one in any case.
fn distance(one: &str, other: &str) -> Option<usize> {
    let distance = damerau_levenshtein(one, other);
    let allowed = match other.len() {
        0 => 0,
        length => (length / 4).max(1),
    };
    (distance <= allowed).then_some(distance)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_pen_is_told_from_another_word() {
        for (key, meant) in [
            ("regio", Some("region")),
            ("listen.tpc", Some("listen.tcp")),
            ("listne.tcp", Some("listen.tcp")),
            ("limits.conections_max", Some("limits.connections_max")),
            ("rates.principal", Some("rates.principals")),
            ("audits.x", Some("[audit]")),
            ("audits", Some("[audit]")),
            ("listen.udp", None),
            ("colour", None),
            ("", None),
        ] {
            assert_eq!(setting(key).as_deref(), meant, "{key}");
        }
    }

    #[test]
    fn a_variable_may_have_lost_a_letter_or_an_underscore() {
        for (key, meant) in [
            ("regon", Some("KEYMILL_REGION")),
            ("endpont", Some("KEYMILL_ENDPOINT")),
            ("listen_tcp", Some("KEYMILL_LISTEN__TCP")),
            ("port", None),
            ("service_host", None),
            ("audit_port", None),
            ("port_5645_tcp_addr", None),
        ] {
            assert_eq!(variable(key).as_deref(), meant, "{key}");
        }
    }
}
