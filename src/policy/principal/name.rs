//! Principals as key policies and grants name them.
//!
//! Source: AWS IAM, "AWS JSON policy elements: Principal",
//! <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_principal.html>.

use crate::key::arn::{AccountId, Arn};
use crate::policy::Principal;
use crate::policy::principal::PrincipalKind;
use std::fmt;
use std::str::FromStr;

/// The name of a principal that can be given permissions: an account (12 digits, or the ARN of its
/// root), a user, a role, a role's session or a federated user. Groups, services and whatever has a
/// wildcard are refused.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PrincipalName {
    text: Box<str>,
    account: AccountId,
    kind: NameKind,
}

/// Text that names no principal.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the ARN of an account, a user, a role, a session of a role or a federated user")]
pub struct InvalidPrincipal;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(in crate::policy) enum NameKind {
    Account,
    User,
    Role,
    Session,
    FederatedUser,
}

/// How a name covers a principal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::policy) enum Naming {
    Not,
    /// It names his account, which may let him by its own policies.
    Account,
    /// It names him or the role of his session.
    Himself,
}

impl PrincipalName {
    /// As it was given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The account that it names or that the principal is of.
    #[must_use]
    pub fn account(&self) -> AccountId {
        self.account
    }

    /// Whether it is an account rather than somebody in it.
    #[must_use]
    pub fn is_account(&self) -> bool {
        self.kind == NameKind::Account
    }

    pub(in crate::policy) fn kind(&self) -> NameKind {
        self.kind
    }

    /// An account's name covers everybody in it, and is its root user's own; a role's name is also
    /// that of its sessions.
    pub(in crate::policy) fn names(&self, principal: &Principal) -> Naming {
        let himself = match self.kind {
            NameKind::Account if self.account != principal.account => return Naming::Not,
            NameKind::Account if principal.kind() == PrincipalKind::Root => true,
            NameKind::Account => return Naming::Account,
            _ => *self.text == *principal.arn || *self.text == *principal.lasting_arn(),
        };
        if himself {
            Naming::Himself
        } else {
            Naming::Not
        }
    }
}

impl FromStr for PrincipalName {
    type Err = InvalidPrincipal;

    fn from_str(text: &str) -> Result<Self, InvalidPrincipal> {
        let (account, kind) = match text.parse() {
            Ok(account) => (account, NameKind::Account),
            Err(_) => arn(text).ok_or(InvalidPrincipal)?,
        };
        Ok(Self {
            text: text.into(),
            account,
            kind,
        })
    }
}

fn arn(text: &str) -> Option<(AccountId, NameKind)> {
    let arn = Arn::split(text)?;
    let account = arn.account.parse().ok()?;
    let partition = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if arn.partition.is_empty() || !arn.partition.bytes().all(partition) || !arn.region.is_empty() {
        return None;
    }
    let (what, rest) = arn.resource.split_once('/').unwrap_or((arn.resource, ""));
    let kind = match (arn.service, what) {
        ("iam", "root") if arn.resource == "root" => NameKind::Account,
        ("iam", "user") if is_path(rest) => NameKind::User,
        ("iam", "role") if is_path(rest) => NameKind::Role,
        ("sts", "assumed-role") => {
            let (role, session) = rest.split_once('/')?;
            let fits = is_name(role) && is_name(session) && session.len() >= SESSION_CHARACTERS_MIN;
            fits.then_some(NameKind::Session)?
        }
        ("sts", "federated-user") if is_name(rest) => NameKind::FederatedUser,
        _ => return None,
    };
    Some((account, kind))
}

/// A name with any number of folders before it.
fn is_path(text: &str) -> bool {
    let (folders, name) = text.rsplit_once('/').unwrap_or(("", text));
    // Printable, and none of the wildcards and the sign of a variable.
    let folder = |byte: u8| byte.is_ascii_graphic() && !b"*?$:".contains(&byte);
    is_name(name) && folders.bytes().all(folder) && !text.starts_with('/') && !text.contains("//")
}

fn is_name(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_+=,.@-".contains(&byte);
    (1..=NAME_CHARACTERS_MAX).contains(&text.len()) && text.bytes().all(allowed)
}

/// Characters of a user's, role's or session's name.
const NAME_CHARACTERS_MAX: usize = 64;
const SESSION_CHARACTERS_MIN: usize = 2;

impl fmt::Display for PrincipalName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.text)
    }
}

impl fmt::Debug for PrincipalName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.text)
    }
}
