//! The names of principals in key policies and grants.
//!
//! Source: AWS IAM, "AWS JSON policy elements: Principal",
//! <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_principal.html>.

use crate::key::arn::{AccountId, Arn};
use crate::policy::Principal;
use crate::policy::principal::PrincipalKind;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// The name of a principal that can be given permissions: an account (12 digits, or the ARN of its
/// root), a user, a role, a role's session or a federated user. Groups, services and names with a
/// wildcard are refused.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PrincipalName {
    text: Arc<str>,
    account: AccountId,
    kind: NameKind,
}

/// The text does not name a principal.
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

/// How a name covers a principal; each gives it more than the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::policy) enum Naming {
    Not,
    /// It names the principal's account, whose own policies may allow the principal.
    Account,
    /// It names the role of the principal's session, which a session policy limits.
    Role,
    /// It names the principal.
    Principal,
}

impl PrincipalName {
    /// The text as it was given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The text, shared.
    pub(in crate::policy) fn text(&self) -> &Arc<str> {
        &self.text
    }

    /// The account that it names, or that the named principal belongs to.
    #[must_use]
    pub fn account(&self) -> AccountId {
        self.account
    }

    /// Whether it names an account and not a principal in one.
    #[must_use]
    pub fn is_account(&self) -> bool {
        self.kind == NameKind::Account
    }

    pub(in crate::policy) fn kind(&self) -> NameKind {
        self.kind
    }

    /// How the name covers `principal`. The name of an account covers every principal in it, and is
    /// the name of its root user; the name of a role is also that of its sessions.
    pub(in crate::policy) fn names(&self, principal: &Principal) -> Naming {
        match self.kind {
            NameKind::Account if self.account != principal.account => Naming::Not,
            NameKind::Account if principal.kind() == PrincipalKind::Root => Naming::Principal,
            NameKind::Account => Naming::Account,
            _ if *self.text == *principal.arn => Naming::Principal,
            _ if *self.text == *principal.lasting_arn() => Naming::Role,
            _ => Naming::Not,
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

/// A name, preceded by any number of folders.
fn is_path(text: &str) -> bool {
    let (folders, name) = text.rsplit_once('/').unwrap_or(("", text));
    // Printable characters, except wildcards and the sign of a variable.
    let folder = |byte: u8| byte.is_ascii_graphic() && !b"*?$:".contains(&byte);
    is_name(name) && folders.bytes().all(folder) && !text.starts_with('/') && !text.contains("//")
}

fn is_name(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_+=,.@-".contains(&byte);
    (1..=NAME_CHARACTERS_MAX).contains(&text.len()) && text.bytes().all(allowed)
}

/// The most characters of the name of a user, role or session.
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
