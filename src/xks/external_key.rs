//! An external key, `[xks_keys.NAME]` in the configuration: a KMS key under a name for AWS, what it
//! may be used for, and its callers in AWS. The specification calls the latter secondary
//! authorization.

use crate::key::key_store::ExternalKeyId;
use crate::xks_proxy::sealed::{DECRYPT, ENCRYPT};
use serde::{Deserialize, Serialize};

/// An external key. An empty list allows every value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The key store, by its name in the configuration.
    pub store: String,
    /// `XksKeyId`, as AWS KMS is given it.
    pub id: String,
    /// The KMS key: its id, its ARN, an alias or the ARN of one. What has no account is of the
    /// account of the key store's principal. It is one of the daemon's home Region, whichever
    /// Regions of AWS call.
    pub key: String,
    /// What it may be used for: `ENCRYPT`, `DECRYPT`; both where it is left out.
    #[serde(default = "both")]
    pub usage: Vec<String>,
    /// Who may use it: patterns of `awsPrincipalArn`.
    #[serde(default)]
    pub aws_principals: Vec<String>,
    /// For which operations of AWS KMS: `kmsOperation`.
    #[serde(default)]
    pub kms_operations: Vec<String>,
    /// As which KMS keys in AWS: patterns of `kmsKeyArn`.
    #[serde(default)]
    pub kms_key_arns: Vec<String>,
}

/// The usages, as the specification calls them.
pub const USAGES: [&str; 2] = [ENCRYPT, DECRYPT];

fn both() -> Vec<String> {
    USAGES.map(str::to_owned).to_vec()
}

impl Config {
    /// The most external keys.
    pub const KEYS_MAX: usize = 10_000;
    /// The most entries of a list.
    pub const ENTRIES_MAX: usize = 1000;
    /// The most characters of an entry (specification: ARNs have up to 2,048).
    pub const ENTRY_CHARACTERS_MAX: usize = 2048;
}

/// Whether AWS KMS takes this `XksKeyId`.
#[must_use]
pub fn is_id(text: &str) -> bool {
    text.parse::<ExternalKeyId>().is_ok()
}

/// An external key that is served.
pub struct ExternalKey {
    config: Config,
}

/// What AWS KMS says of the call that a request serves.
#[derive(Clone, Copy)]
pub(super) struct CallInAws<'a> {
    pub(super) principal: &'a str,
    pub(super) operation: &'a str,
    /// Absent while a key is being created in AWS.
    pub(super) key_arn: Option<&'a str>,
}

impl ExternalKey {
    pub(super) fn new(config: &Config) -> Self {
        let config = config.clone();
        Self { config }
    }

    pub(super) fn id(&self) -> &str {
        &self.config.id
    }

    /// The KMS key, as a request would name it.
    pub(super) fn key(&self) -> &str {
        &self.config.key
    }

    pub(super) fn usage(&self) -> impl Iterator<Item = &str> {
        self.config.usage.iter().map(String::as_str)
    }

    pub(super) fn is_for(&self, usage: &str) -> bool {
        self.usage().any(|one| one == usage)
    }

    /// The member of the metadata that a list does not have, if there is one.
    pub(super) fn denied(&self, call: CallInAws<'_>) -> Option<&'static str> {
        let fits = |list: &[String], text: &str| {
            list.is_empty() || list.iter().any(|pattern| matches(pattern, text))
        };
        let Config {
            aws_principals,
            kms_operations,
            kms_key_arns,
            ..
        } = &self.config;
        if !fits(aws_principals, call.principal) {
            return Some("awsPrincipalArn");
        }
        if !(kms_operations.is_empty() || kms_operations.iter().any(|one| one == call.operation)) {
            return Some("kmsOperation");
        }
        let key_fits = call.key_arn.is_none_or(|arn| fits(kms_key_arns, arn));
        (!key_fits).then_some("kmsKeyArn")
    }
}

/// Whether `text` is what `pattern` says, in which `*` is any text. Linear in the text for each
/// part of the pattern.
fn matches(pattern: &str, text: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else {
        return pattern == text;
    };
    let Some(mut text) = text.strip_prefix(first) else {
        return false;
    };
    let mut parts = rest.split('*').peekable();
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return text.ends_with(part);
        }
        let Some(at) = text.find(part) else {
            return false;
        };
        text = &text[at + part.len()..];
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_is_any_text() {
        for (pattern, text, expected) in [
            ("", "", true),
            ("", "a", false),
            ("a", "a", true),
            ("a", "ab", false),
            ("*", "", true),
            ("*", "abc", true),
            ("a*", "abc", true),
            ("a*", "ba", false),
            ("*c", "abc", true),
            ("*c", "cb", false),
            ("a*c", "abc", true),
            ("a*c", "ac", true),
            ("ab*ba", "aba", false),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c", false),
            ("a**c", "ac", true),
            ("*b*", "abc", true),
            ("*b*", "ac", false),
            ("arn:aws:iam::1:role/*", "arn:aws:iam::1:role/a/b", true),
            ("arn:aws:iam::1:role/*", "arn:aws:iam::2:role/a", false),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn each_list_is_held_and_an_empty_one_allows_all() {
        let call = CallInAws {
            principal: "arn:aws:iam::1:user/a",
            operation: "Encrypt",
            key_arn: Some("arn:aws:kms:r:1:key/k"),
        };
        let key = |principals: &[&str], operations: &[&str], keys: &[&str]| {
            let list = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
            ExternalKey::new(&Config {
                store: "a".to_owned(),
                id: "a".to_owned(),
                key: "alias/a".to_owned(),
                usage: both(),
                aws_principals: list(principals),
                kms_operations: list(operations),
                kms_key_arns: list(keys),
            })
        };
        assert_eq!(key(&[], &[], &[]).denied(call), None);
        let all = key(
            &["x", "arn:aws:iam::1:*"],
            &["Decrypt", "Encrypt"],
            &["*/k"],
        );
        assert_eq!(all.denied(call), None);
        let denied = [
            (key(&["arn:aws:iam::2:*"], &[], &[]), "awsPrincipalArn"),
            (key(&[], &["Enc*"], &[]), "kmsOperation"),
            (key(&[], &[], &["*/l"]), "kmsKeyArn"),
        ];
        for (key, member) in denied {
            assert_eq!(key.denied(call), Some(member));
        }
        // A key that is being created has no ARN yet.
        let creating = CallInAws {
            key_arn: None,
            ..call
        };
        assert_eq!(key(&[], &[], &["*/l"]).denied(creating), None);
    }
}
