//! Account ids, aliases and the ARNs of keys and aliases, parsed at the edge.
//!
//! Source: AWS KMS contract, "Key identifiers"; ARN syntax
//! `arn:<partition>:kms:<region>:<account>:<resource>`.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// A 12-digit account id.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AccountId([u8; 12]);

/// Text that is not 12 digits.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("an account id is 12 digits")]
pub struct InvalidAccountId;

impl AccountId {
    /// The 12 digits.
    ///
    /// # Panics
    /// Never: digits are ASCII.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("digits are ASCII: checked by the only constructor")
    }
}

impl FromStr for AccountId {
    type Err = InvalidAccountId;

    fn from_str(text: &str) -> Result<Self, InvalidAccountId> {
        let digits: [u8; 12] = text.as_bytes().try_into().map_err(|_| InvalidAccountId)?;
        if digits.iter().all(u8::is_ascii_digit) {
            Ok(Self(digits))
        } else {
            Err(InvalidAccountId)
        }
    }
}

impl fmt::Display for AccountId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}

impl fmt::Debug for AccountId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}

/// An alias with its `alias/` prefix: 7..=256 characters of `[a-zA-Z0-9:/_-]`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AliasName(Arc<str>);

/// Why text is not an alias name.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidAliasName {
    /// It does not begin with `alias/`.
    #[error("an alias begins with alias/")]
    Prefix,
    /// It is empty after the prefix, longer than 256 characters, or has a character that is not
    /// allowed.
    #[error("an alias has 7 to 256 characters of a-z, A-Z, 0-9, ':', '/', '_' and '-'")]
    Characters,
}

impl AliasName {
    /// The prefix of every alias.
    pub const PREFIX: &str = "alias/";
    /// The most characters, with the prefix.
    pub const CHARACTERS_MAX: usize = 256;

    /// The name with its prefix.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the name is in the part that AWS reserves for its services, `alias/aws/`.
    #[must_use]
    pub fn is_reserved(&self) -> bool {
        self.0.starts_with("alias/aws/")
    }
}

impl FromStr for AliasName {
    type Err = InvalidAliasName;

    fn from_str(text: &str) -> Result<Self, InvalidAliasName> {
        let name = text
            .strip_prefix(Self::PREFIX)
            .ok_or(InvalidAliasName::Prefix)?;
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b":/_-".contains(&byte);
        if name.is_empty() || text.len() > Self::CHARACTERS_MAX || !name.bytes().all(allowed) {
            return Err(InvalidAliasName::Characters);
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for AliasName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl fmt::Debug for AliasName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// The six parts of an ARN, not checked: `arn:<partition>:<service>:<region>:<account>:<resource>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arn<'a> {
    /// `aws`, `aws-cn`, …
    pub partition: &'a str,
    /// `kms`, `iam`, `sts`.
    pub service: &'a str,
    /// Empty for services without Regions.
    pub region: &'a str,
    /// 12 digits in a sound ARN.
    pub account: &'a str,
    /// The rest, colons included.
    pub resource: &'a str,
}

impl<'a> Arn<'a> {
    /// Splits `text`; `None` when it does not have the six parts.
    #[must_use]
    pub fn split(text: &'a str) -> Option<Self> {
        let mut parts = text.splitn(6, ':');
        let scheme = parts.next()?;
        let arn = Arn {
            partition: parts.next()?,
            service: parts.next()?,
            region: parts.next()?,
            account: parts.next()?,
            resource: parts.next()?,
        };
        (scheme == "arn").then_some(arn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_and_aliases_are_refused_unless_well_formed() {
        assert_eq!(
            "111122223333".parse::<AccountId>().unwrap().as_str(),
            "111122223333"
        );
        for text in [
            "",
            "11112222333",
            "1111222233334",
            "11112222333x",
            "１11122223",
        ] {
            assert!(text.parse::<AccountId>().is_err(), "{text}");
        }
        assert_eq!(
            "alias/a:/_-9".parse::<AliasName>().unwrap().as_str(),
            "alias/a:/_-9"
        );
        assert_eq!(
            "containers".parse::<AliasName>(),
            Err(InvalidAliasName::Prefix)
        );
        let long = format!("alias/{}", "x".repeat(251));
        for text in ["alias/", "alias/a b", "alias/ä", long.as_str()] {
            assert_eq!(
                text.parse::<AliasName>(),
                Err(InvalidAliasName::Characters),
                "{text}"
            );
        }
        assert!(long[..256].parse::<AliasName>().is_ok());
    }

    #[test]
    fn an_arn_has_six_parts() {
        let arn = Arn::split("arn:aws:kms:us-east-1:111122223333:alias/a:b").unwrap();
        assert_eq!((arn.service, arn.resource), ("kms", "alias/a:b"));
        assert_eq!(Arn::split("arn:aws:kms:us-east-1:111122223333"), None);
        assert_eq!(Arn::split("urn:aws:kms:us-east-1:111122223333:key/x"), None);
    }
}
