//! The principals that a grant names, services of AWS among them.

use crate::policy::PrincipalName;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// A grantee or a retiring principal, as a request or a record gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Named<'a> {
    /// `GranteePrincipal`, `RetiringPrincipal`
    Principal(&'a str),
    /// `GranteeServicePrincipal`, `RetiringServicePrincipal`
    Service(&'a str),
}

/// A grantee or a retiring principal.
#[derive(Clone, PartialEq, Eq)]
pub enum GrantPrincipal {
    /// An account, a user, a role, a session of a role or a federated user.
    Principal(PrincipalName),
    /// A service of AWS. None calls here, so it never uses what the grant gives it.
    Service(ServicePrincipal),
}

/// The name of a service of AWS, such as `rds.amazonaws.com`.
#[derive(Clone, PartialEq, Eq)]
pub struct ServicePrincipal(Arc<str>);

/// The text is not the name of a service.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a service principal is three or more labels of letters, digits and hyphens")]
pub struct InvalidServicePrincipal;

impl<'a> Named<'a> {
    /// As a record has it: only the ARN of a principal has a colon.
    #[must_use]
    pub fn of_record(text: &'a str) -> Self {
        if text.contains(':') {
            Self::Principal(text)
        } else {
            Self::Service(text)
        }
    }

    /// The text.
    #[must_use]
    pub fn as_str(self) -> &'a str {
        match self {
            Self::Principal(text) | Self::Service(text) => text,
        }
    }

    /// The principal or service of this name. A principal is named by an ARN; a bare account id is
    /// refused.
    pub(super) fn parse(self) -> Option<GrantPrincipal> {
        match self {
            Self::Principal(text) if text.starts_with("arn:") => {
                text.parse().ok().map(GrantPrincipal::Principal)
            }
            Self::Principal(_) => None,
            Self::Service(text) => text.parse().ok().map(GrantPrincipal::Service),
        }
    }
}

impl GrantPrincipal {
    /// The text as it was given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Principal(name) => name.as_str(),
            Self::Service(name) => &name.0,
        }
    }

    /// The text, shared.
    pub(super) fn text(&self) -> &Arc<str> {
        match self {
            Self::Principal(name) => name.text(),
            Self::Service(name) => &name.0,
        }
    }

    /// The principal, unless it is a service.
    #[must_use]
    pub fn principal(&self) -> Option<&PrincipalName> {
        match self {
            Self::Principal(name) => Some(name),
            Self::Service(_) => None,
        }
    }

    /// The name of the service, if it is one.
    #[must_use]
    pub fn service(&self) -> Option<&str> {
        match self {
            Self::Principal(_) => None,
            Self::Service(name) => Some(&name.0),
        }
    }
}

impl fmt::Debug for GrantPrincipal {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}

impl ServicePrincipal {
    /// The most characters (service model of AWS KMS, `ServicePrincipalType`).
    pub const CHARACTERS_MAX: usize = 128;
    /// The model's pattern.
    pub const PATTERN: &str = r"^([A-Za-z0-9\-]+)\.([A-Za-z0-9\-]+)(\.[A-Za-z0-9\-]+)+$";

    /// Whether a text matches [`Self::PATTERN`].
    #[must_use]
    pub fn matches(text: &str) -> bool {
        const LABELS_MIN: usize = 3;
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        let is_label = |label: &str| !label.is_empty() && label.bytes().all(allowed);
        text.split('.').all(is_label) && text.split('.').count() >= LABELS_MIN
    }
}

impl FromStr for ServicePrincipal {
    type Err = InvalidServicePrincipal;

    fn from_str(text: &str) -> Result<Self, InvalidServicePrincipal> {
        let fits = text.len() <= Self::CHARACTERS_MAX && Self::matches(text);
        let name = fits.then(|| Self(text.into()));
        name.ok_or(InvalidServicePrincipal)
    }
}
