//! The allowed values of each setting. The ranges of numbers exclude values that can only be a
//! mistake. What a setting is by default, the `Default` of its section says.

use crate::attestation;
use crate::auth::certificate;
use crate::config::SocketMode;
use crate::config::sockets::peer_id;
use crate::key::arn::AccountId;
use crate::key::regions::{Regions, is_name as is_region};
use crate::keystore::postgres::{DatabaseUrl, UrlError};
use crate::web_identity::{Url, issuer};
use std::net::SocketAddr;
use std::str::FromStr;
use toml::Value;

mod external_keys;

/// The allowed values of a setting.
#[derive(Clone, Copy)]
pub enum Allowed {
    /// A whole number from the first to the second, in units of the third.
    Integer(i64, i64, &'static str),
    /// `true` or `false`.
    Boolean,
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// Text that the function accepts; it returns the reason of a refusal.
    Text(fn(&str) -> Result<(), &'static str>),
    /// A list of texts that the function accepts; in a variable, commas divide them.
    Texts(fn(&[&str]) -> Result<(), &'static str>),
}

use Allowed::{Boolean, Integer, OneOf, Text, Texts};
use external_keys::{
    entries, external_key_id, kms_key, name, proxy_host, regions, uri_path, usage,
};

/// The upper bound is more than one machine can make.
const KEYS_PER_SECOND: Allowed = Integer(0, 100_000_000, "keys a second");

/// Every key with a fixed name. Others are those of [`NAMED`] tables and the entries of maps
/// ([`entry`]).
pub const KEYS: [(&str, Allowed); 59] = [
    ("region", Text(region)),
    ("regions", Texts(served_regions)),
    ("partition", Text(partition)),
    ("account", Text(account)),
    ("store.path", Text(path)),
    ("store.root_key", Text(path)),
    ("store.passphrase_file", Text(optional_path)),
    (
        "store.revision_min",
        Integer(0, 1_000_000_000_000, "revisions"),
    ),
    ("store.url", Text(database)),
    ("store.notify_url", Text(database)),
    ("store.password_file", Text(optional_path)),
    ("store.ca_file", Text(optional_path)),
    ("store.poll_ms", Integer(50, 60_000, "milliseconds")),
    (
        "store.max_staleness_ms",
        Integer(500, 600_000, "milliseconds"),
    ),
    ("listen.tcp", Text(address)),
    ("listen.socket", Text(path)),
    ("listen.socket_mode", Text(socket_mode)),
    ("listen.admin", Text(admin_address)),
    ("listen.admin_beyond_loopback", Boolean),
    ("attestation.roots", Texts(paths)),
    ("pkcs11.module", Text(optional_path)),
    ("pkcs11.token", Text(label)),
    (
        "pkcs11.slot",
        Integer(-1, 4_294_967_295, "as slots are numbered"),
    ),
    ("pkcs11.key", Text(label)),
    ("pkcs11.pin_file", Text(optional_path)),
    ("tls.certificate", Text(optional_path)),
    ("tls.key", Text(optional_path)),
    ("tls.client_ca", Text(optional_path)),
    ("tls.client_crl", Text(optional_path)),
    ("tls.client_certificate", OneOf(&["optional", "required"])),
    ("tls.client_common_names", Texts(common_names)),
    ("tls.reload_seconds", Integer(1, 86_400, "seconds")),
    (
        "limits.connections_max",
        Integer(1, 1_000_000, "connections"),
    ),
    (
        "limits.handshake_timeout_ms",
        Integer(100, 3_600_000, "milliseconds"),
    ),
    (
        "limits.head_timeout_ms",
        Integer(100, 3_600_000, "milliseconds"),
    ),
    (
        "limits.body_timeout_ms",
        Integer(100, 3_600_000, "milliseconds"),
    ),
    (
        "limits.write_timeout_ms",
        Integer(100, 3_600_000, "milliseconds"),
    ),
    ("limits.drain_seconds", Integer(0, 3600, "seconds")),
    ("rates.principal_keys_per_second", KEYS_PER_SECOND),
    ("rates.kms_key_keys_per_second", KEYS_PER_SECOND),
    ("rates.burst_ms", Integer(100, 3_600_000, "milliseconds")),
    (
        "rates.refused_calls_per_second",
        Integer(0, 1_000_000, "calls a second"),
    ),
    (
        "rates.address_tokens_per_second",
        Integer(0, 1_000_000, "tokens a second"),
    ),
    ("pool.enabled", Boolean),
    ("pool.fillers", Integer(0, 1024, "threads")),
    ("pool.lane_keys_min", Integer(64, 1 << 30, "keys")),
    ("pool.lane_keys_max", Integer(64, 1 << 30, "keys")),
    ("pool.keys_max", Integer(64, 1 << 30, "keys")),
    ("pool.age_max_seconds", Integer(1, 86_400, "seconds")),
    ("pool.pairs_per_spec", Integer(0, 4096, "pairs")),
    ("signatures.skew_seconds", Integer(1, 900, "seconds")),
    ("audit.path", Text(path)),
    ("store.freshness", OneOf(&["read", "write"])),
    ("audit.durability", OneOf(&["process", "disk"])),
    ("audit.file_bytes_max", Integer(1 << 20, 1 << 40, "bytes")),
    ("audit.file_seconds_max", Integer(60, 31_622_400, "seconds")),
    ("audit.journal_bytes", Integer(1 << 20, 1 << 32, "bytes")),
    ("log.format", OneOf(&["text", "json"])),
    (
        "log.level",
        OneOf(&["error", "warn", "info", "debug", "trace"]),
    ),
];

/// The sections whose tables have names of their own, and the keys of such a table:
/// `sockets.<name>.<key>`, `issuers.<name>.<key>`, and so on.
pub const NAMED: [(&str, &[(&str, Allowed)]); 5] = [
    (
        "sockets",
        &[
            ("path", Text(path)),
            ("mode", Text(socket_mode)),
            ("principal", Text(arn)),
        ],
    ),
    (
        "issuers",
        &[
            ("url", Text(issuer_url)),
            ("audiences", Texts(audiences)),
            ("account", Text(account)),
            ("jwks_file", Text(path)),
            ("jwks_url", Text(url)),
            ("ca_file", Text(path)),
            ("bearer_token_file", Text(path)),
        ],
    ),
    (
        "xks",
        &[
            ("uri_path", Text(uri_path)),
            ("principal", Text(arn)),
            ("regions", Texts(regions)),
            ("client_common_names", Texts(common_names)),
        ],
    ),
    (
        "xks_keys",
        &[
            ("store", Text(name)),
            ("id", Text(external_key_id)),
            ("key", Text(kms_key)),
            ("usage", Texts(usage)),
            ("aws_principals", Texts(entries)),
            ("kms_operations", Texts(entries)),
            ("kms_key_arns", Texts(entries)),
        ],
    ),
    (
        "xks_proxies",
        &[
            ("host", Text(proxy_host)),
            ("address", Text(address)),
            ("ca_file", Text(path)),
            ("certificate", Text(path)),
            ("private_key", Text(path)),
            ("timeout_ms", Integer(10, 5000, "milliseconds")),
        ],
    ),
];

/// The keys that a table of such a section must have.
#[must_use]
pub fn needed(section: &str) -> &'static [&'static str] {
    match section {
        "sockets" => &["path"],
        "issuers" => &["url", "audiences"],
        "xks" => &["uri_path", "principal", "regions"],
        "xks_proxies" => &["host"],
        _ => &["store", "id", "key"],
    }
}

/// The maps from names to the ARNs of principals, and from ARNs to limits. Further sockets have
/// their own, `sockets.<name>.users` and `sockets.<name>.groups`.
pub const MAPS: [&str; 5] = [
    "peers.users",
    "peers.groups",
    "tls.clients",
    "rates.principals",
    "rates.kms_keys",
];

/// The allowed values of this setting; `None` when there is no such setting.
#[must_use]
pub fn allowed(key: &str) -> Option<Allowed> {
    let of = |keys: &[(&str, Allowed)], key: &str| {
        let found = keys.iter().find(|(name, _)| *name == key);
        found.map(|(_, allowed)| *allowed)
    };
    of(&KEYS, key).or_else(|| {
        let table = named(key)?;
        of(table.keys, table.rest)
    })
}

/// A key of a table that has a name of its own.
pub struct Named<'a> {
    /// `sockets`, `issuers`, `xks`, `xks_keys`, `xks_proxies`
    pub section: &'static str,
    /// Its name.
    pub name: &'a str,
    /// The rest of the key.
    pub rest: &'a str,
    /// The keys of such a table.
    pub keys: &'static [(&'static str, Allowed)],
}

/// The table with a name of its own that a key is of.
#[must_use]
pub fn named(key: &str) -> Option<Named<'_>> {
    let (first, rest) = key.split_once('.')?;
    let (name, rest) = rest.split_once('.')?;
    let found = NAMED.iter().find(|(section, _)| *section == first);
    found.map(|(section, keys)| Named {
        section,
        name,
        rest,
        keys,
    })
}

/// Whether this is a map of a socket, `users` or `groups`.
#[must_use]
pub fn is_socket_map(key: &str) -> bool {
    named(key).is_some_and(|of| of.section == "sockets" && matches!(of.rest, "users" | "groups"))
}

/// The map of a setting, and its name in the map, which may contain dots.
#[must_use]
pub fn entry(key: &str) -> Option<(&str, &str)> {
    let name = MAPS
        .iter()
        .find_map(|map| key.strip_prefix(map)?.strip_prefix('.'));
    let of_socket = || {
        let of = named(key).filter(|of| of.section == "sockets")?;
        let (map, name) = of.rest.split_once('.')?;
        matches!(map, "users" | "groups").then_some(name)
    };
    let name = name.or_else(of_socket)?;
    Some((&key[..key.len() - name.len() - 1], name))
}

impl Allowed {
    /// The allowed values in words.
    #[must_use]
    pub fn words(self) -> String {
        match self {
            Integer(min, max, unit) => format!("{min} to {max} {unit}"),
            Boolean => "true or false".to_owned(),
            OneOf(words) => words.join(", "),
            Text(_) => "text".to_owned(),
            Texts(_) => "a list of texts".to_owned(),
        }
    }

    /// Checks whether `value` is allowed.
    ///
    /// # Errors
    /// The allowed values.
    pub fn check(self, value: &Value) -> Result<(), String> {
        let fits = match (self, value) {
            (Integer(min, max, _), Value::Integer(number)) => (min..=max).contains(number),
            (Boolean, Value::Boolean(_)) => true,
            (OneOf(words), Value::String(text)) => words.contains(&text.as_str()),
            (Text(check), Value::String(text)) => return check(text).map_err(str::to_owned),
            (Texts(check), Value::Array(list)) => {
                let texts: Option<Vec<_>> = list.iter().map(Value::as_str).collect();
                if let Some(texts) = texts {
                    return check(&texts).map_err(str::to_owned);
                }
                false
            }
            _ => false,
        };
        if fits {
            Ok(())
        } else {
            Err(format!("allowed: {}", self.words()))
        }
    }

    /// The text of a variable or flag as a value of this type. Text that is not such a value is
    /// kept, and [`Self::check`] refuses it.
    #[must_use]
    pub fn value(self, text: &str) -> Value {
        let parsed = match self {
            Integer(..) => text.parse().ok().map(Value::Integer),
            Boolean => text.parse().ok().map(Value::Boolean),
            OneOf(_) | Text(_) => None,
            Texts(_) => {
                let texts = text.split(',').map(|one| Value::from(one.trim()));
                Some(Value::Array(texts.collect()))
            }
        };
        parsed.unwrap_or_else(|| Value::String(text.to_owned()))
    }
}

/// Checks an entry of `map`: the name must be one that may be mapped, and the value an ARN or a
/// limit. The ARN of a limit is checked with the rest of the configuration.
///
/// # Errors
/// The allowed values.
pub fn check_entry(map: &str, name: &str, value: &Value) -> Result<(), String> {
    match map {
        "rates.principals" | "rates.kms_keys" => return KEYS_PER_SECOND.check(value),
        "tls.clients" => certificate::check_name(name)?,
        _ => drop(peer_id(name).map_err(str::to_owned)?),
    }
    match value {
        Value::String(_) => Ok(()),
        _ => Err("allowed: a principal's ARN".to_owned()),
    }
}

/// Whether a table may have this name.
#[must_use]
pub fn is_name(name: &str) -> bool {
    words_of(&name.replace('_', "-"), 32)
}

fn words_of(text: &str, length_max: usize) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=length_max).contains(&text.len()) && text.bytes().all(allowed)
}

fn parses_as<T: FromStr>(text: &str, allowed: &'static str) -> Result<(), &'static str> {
    text.parse::<T>().map(drop).map_err(|_| allowed)
}

fn region(text: &str) -> Result<(), &'static str> {
    let fits = is_region(text);
    fits.then_some(())
        .ok_or("allowed: 1 to 32 of a-z, 0-9 and -")
}

fn served_regions(texts: &[&str]) -> Result<(), &'static str> {
    let is_once = |text: &&&str| texts.iter().filter(|other| other == text).count() == 1;
    let fits = texts.len() <= Regions::MAX && texts.iter().all(|text| is_region(text));
    let fits = fits && texts.iter().filter(is_once).count() == texts.len();
    fits.then_some(())
        .ok_or("allowed: at most 64 different Regions, each 1 to 32 of a-z, 0-9 and -")
}

fn partition(text: &str) -> Result<(), &'static str> {
    let fits = text == "aws" || text.starts_with("aws-") && words_of(text, 32);
    fits.then_some(()).ok_or("allowed: aws, aws-cn, aws-us-gov")
}

fn account(text: &str) -> Result<(), &'static str> {
    parses_as::<AccountId>(text, "allowed: 12 digits, in quotes")
}

fn path(text: &str) -> Result<(), &'static str> {
    let fits = !text.is_empty() && !text.contains('\0');
    fits.then_some(())
        .ok_or("allowed: a path, relative to the file's folder")
}

fn paths(texts: &[&str]) -> Result<(), &'static str> {
    let fits = texts.len() <= attestation::Config::ROOTS_MAX;
    let all = fits && texts.iter().all(|text| path(text).is_ok());
    all.then_some(())
        .ok_or("allowed: at most 16 paths, relative to the file's folder")
}

fn optional_path(text: &str) -> Result<(), &'static str> {
    let fits = !text.contains('\0');
    fits.then_some(())
        .ok_or("allowed: a path, relative to the file's folder, or nothing")
}

/// PKCS #11 pads the labels of tokens to 32 bytes with spaces.
fn label(text: &str) -> Result<(), &'static str> {
    let fits = text.len() <= 32 && text.trim() == text && !text.contains(char::is_control);
    fits.then_some(())
        .ok_or("allowed: a label of at most 32 bytes, without space around it")
}

fn arn(text: &str) -> Result<(), &'static str> {
    // The rest of the ARN is checked together with the account.
    let fits = !text.is_empty();
    fits.then_some(()).ok_or("allowed: a principal's ARN")
}

fn url(text: &str) -> Result<(), &'static str> {
    parses_as::<Url>(
        text,
        "allowed: https://HOST[:PORT][/PATH], at most 255 characters; http:// on a loopback address alone",
    )
}

fn issuer_url(text: &str) -> Result<(), &'static str> {
    url(text)?;
    let fits = !text.contains('?');
    fits.then_some(()).ok_or("allowed: a URL without a query")
}

fn audiences(texts: &[&str]) -> Result<(), &'static str> {
    let fits =
        |text: &&str| (1..=issuer::Config::AUDIENCE_CHARACTERS_MAX).contains(&text.chars().count());
    let count = (1..=issuer::Config::AUDIENCES_MAX).contains(&texts.len());
    let all = count && texts.iter().all(fits);
    all.then_some(())
        .ok_or("allowed: 1 to 100 texts of 1 to 255 characters")
}

fn common_names(texts: &[&str]) -> Result<(), &'static str> {
    // The longest common name (RFC 5280, appendix A.1, `ub-common-name`).
    let fits = |text: &&str| (1..=64).contains(&text.chars().count());
    let all = texts.len() <= 100 && texts.iter().all(fits);
    all.then_some(())
        .ok_or("allowed: at most 100 common names of 1 to 64 characters")
}

fn database(text: &str) -> Result<(), &'static str> {
    if text.is_empty() {
        return Ok(());
    }
    let parsed = text.parse::<DatabaseUrl>();
    parsed.map(drop).map_err(|UrlError(reason)| reason)
}

fn socket_mode(text: &str) -> Result<(), &'static str> {
    parses_as::<SocketMode>(
        text,
        "allowed: \"0600\" to \"0777\", octal, with 6 or 7 for the owner",
    )
}

/// Checks an address. Whether it may be other than loopback depends on TLS.
fn address(text: &str) -> Result<(), &'static str> {
    parses_as::<SocketAddr>(
        text,
        "allowed: an address with its port, such as 127.0.0.1:5645 or [::1]:5645",
    )
}

/// Whether it may be other than loopback, another setting says.
fn admin_address(text: &str) -> Result<(), &'static str> {
    parses_as::<SocketAddr>(
        text,
        "allowed: a loopback address with its port, such as 127.0.0.1:5646 or [::1]:5646",
    )
}
