//! The caller of a request.

use crate::clock::Timestamp;
pub use crate::key::Tag;
use crate::key::arn::AccountId;
use crate::policy::PolicyDocument;
use std::sync::Arc;

pub mod name;
mod parameters;

use name::NameKind;
pub use name::{InvalidPrincipal, PrincipalName};
pub use parameters::{SessionParameters, same_key};

/// An authenticated caller with its identity policies.
///
/// Policies are shared: a role shares them with each of its sessions, and any number of principals
/// share one document.
pub struct Principal {
    /// `arn:<partition>:iam::<account>:user/<name>` and the other forms of [`PrincipalName`], or
    /// `local:<uid>` for an operator at the store.
    pub arn: String,
    /// 12 digits.
    pub account: AccountId,
    /// The attached policies.
    pub policies: Vec<Arc<PolicyDocument>>,
    kind: Kind,
    tags: Arc<[Tag]>,
    unique_id: Option<String>,
}

/// The kind of a principal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PrincipalKind {
    /// An IAM user.
    User,
    /// A role itself.
    Role,
    /// A session of a role.
    AssumedRole,
    /// A federated user.
    FederatedUser,
    /// The holder of an identity provider's token, while it assumes a role.
    WebIdentity,
    /// The account's root user.
    Root,
    /// A user who may open the store.
    Operator,
}

enum Kind {
    User,
    Role,
    Session(Session),
    FederatedUser,
    WebIdentity,
    Root,
    Operator,
}

struct Session {
    role_arn: String,
    role_tags: Arc<[Tag]>,
    issue_time: Timestamp,
    expiration: Option<Timestamp>,
    parameters: Arc<SessionParameters>,
}

impl Principal {
    /// The user, role, federated user or account root of this ARN, without tags. A role's session
    /// is made by [`Self::session`].
    ///
    /// # Errors
    /// [`InvalidPrincipal`].
    pub fn new(arn: &str, policies: Vec<Arc<PolicyDocument>>) -> Result<Self, InvalidPrincipal> {
        let name: PrincipalName = arn.parse()?;
        let kind = match name.kind() {
            NameKind::User => Kind::User,
            NameKind::Role => Kind::Role,
            NameKind::FederatedUser => Kind::FederatedUser,
            NameKind::Account if arn.starts_with("arn:") => Kind::Root,
            NameKind::Account | NameKind::Session => return Err(InvalidPrincipal),
        };
        Ok(Self {
            arn: arn.to_owned(),
            account: name.account(),
            policies,
            kind,
            tags: Arc::default(),
            unique_id: None,
        })
    }

    /// The holder of a token of the identity provider with this ARN, which belongs to `account`. It
    /// can only assume roles that trust the provider.
    #[must_use]
    pub fn web_identity(provider_arn: &str, account: AccountId) -> Arc<Self> {
        Arc::new(Self {
            arn: provider_arn.to_owned(),
            account,
            policies: Vec::new(),
            kind: Kind::WebIdentity,
            tags: Arc::default(),
            unique_id: None,
        })
    }

    /// A session of this role, with the role's policies and tags.
    ///
    /// # Errors
    /// [`InvalidPrincipal`]: this is not a role, or `name` is not the name of a session (2 to 64
    /// characters of letters, digits and `_+=,.@-`).
    pub fn session(&self, name: &str, issue_time: Timestamp) -> Result<Self, InvalidPrincipal> {
        let role = match self.kind {
            Kind::Role => self.arn.rsplit('/').next(),
            _ => None,
        };
        let partition = self.arn.split(':').nth(1);
        let (Some(role), Some(partition)) = (role, partition) else {
            return Err(InvalidPrincipal);
        };
        let arn = format!(
            "arn:{partition}:sts::{}:assumed-role/{role}/{name}",
            self.account
        );
        let _checked: PrincipalName = arn.parse()?;
        let unique_id = self.unique_id.as_ref();
        Ok(Self {
            arn,
            account: self.account,
            policies: self.policies.clone(),
            kind: Kind::Session(Session {
                role_arn: self.arn.clone(),
                role_tags: Arc::clone(&self.tags),
                issue_time,
                expiration: None,
                parameters: Arc::default(),
            }),
            tags: Arc::clone(&self.tags),
            unique_id: unique_id.map(|id| format!("{id}:{name}")),
        })
    }

    /// This session with the present policies and tags of its role; the session itself if nothing
    /// has changed. `None` when it is not a session of `role`, or is one of an earlier role of that
    /// name, which has another unique id.
    #[must_use]
    pub fn renewed(self: &Arc<Self>, role: &Self) -> Option<Arc<Self>> {
        let Kind::Session(session) = &self.kind else {
            return None;
        };
        // A later role of the same name has another unique id.
        let same_role = match (&self.unique_id, &role.unique_id) {
            (Some(own), Some(id)) => own
                .strip_prefix(id.as_str())
                .is_some_and(|rest| rest.starts_with(':')),
            (own, id) => own.is_none() && id.is_none(),
        };
        if session.role_arn != role.arn || !same_role {
            return None;
        }
        // Policies are shared, so equal pointers mean that nothing has changed.
        let mut policies = self.policies.iter().zip(&role.policies);
        if self.policies.len() == role.policies.len()
            && policies.all(|(old, new)| Arc::ptr_eq(old, new))
            && session.role_tags == role.tags
        {
            return Some(Arc::clone(self));
        }
        let name = self.arn.rsplit('/').next()?;
        let renewed = role.session(name, session.issue_time).ok()?;
        let renewed = renewed.with_parameters(&session.parameters);
        Some(Arc::new(match session.expiration {
            Some(expiration) => renewed.with_expiration(expiration),
            None => renewed,
        }))
    }

    /// The operator with this user id. A user who may open the store's files, or the socket of its
    /// daemon's admin routes, may do everything in the operator's account. A key policy does not
    /// bind the operator there, who could replace it.
    ///
    /// Its name is `local:<uid>`, which is not an ARN and not a principal of the store. No policy
    /// can name it, no access key and no entry of a socket's map leads to it, and it is never
    /// stored. If a map names a peer of the same uid, the peer is the map's principal and not the
    /// operator.
    ///
    /// # Panics
    /// Never: the policy is the constant below.
    #[must_use]
    pub fn operator(uid: u32, account: AccountId) -> Arc<Self> {
        let everything =
            r#"{"Statement":{"Sid":"Operator","Effect":"Allow","Action":"kms:*","Resource":"*"}}"#;
        let everything = PolicyDocument::parse(everything).expect("the text above is a policy");
        Arc::new(Self {
            arn: format!("local:{uid}"),
            account,
            policies: vec![Arc::new(everything)],
            kind: Kind::Operator,
            tags: Arc::default(),
            unique_id: None,
        })
    }

    /// Sets the tags.
    #[must_use]
    pub fn with_tags(mut self, tags: Vec<Tag>) -> Self {
        self.tags = tags.into();
        self
    }

    /// Sets what a session was given when its role was assumed; others were given nothing.
    #[must_use]
    pub fn with_parameters(mut self, parameters: &Arc<SessionParameters>) -> Self {
        if let Kind::Session(session) = &mut self.kind {
            self.tags = parameters.over(&session.role_tags);
            session.parameters = Arc::clone(parameters);
        }
        self
    }

    /// Sets the unique id, which no later principal of the same name has (`AIDA…`, `AROA…`).
    #[must_use]
    pub fn with_unique_id(mut self, id: &str) -> Self {
        self.unique_id = Some(id.to_owned());
        self
    }

    /// Sets when the credentials of a session expire; others do not expire.
    #[must_use]
    pub fn with_expiration(mut self, expiration: Timestamp) -> Self {
        if let Kind::Session(session) = &mut self.kind {
            session.expiration = Some(expiration);
        }
        self
    }

    /// Whether this is an operator, see [`Self::operator`].
    #[must_use]
    pub fn is_operator(&self) -> bool {
        matches!(self.kind, Kind::Operator)
    }

    /// The kind of principal.
    #[must_use]
    pub fn kind(&self) -> PrincipalKind {
        match self.kind {
            Kind::User => PrincipalKind::User,
            Kind::Role => PrincipalKind::Role,
            Kind::Session(_) => PrincipalKind::AssumedRole,
            Kind::FederatedUser => PrincipalKind::FederatedUser,
            Kind::WebIdentity => PrincipalKind::WebIdentity,
            Kind::Root => PrincipalKind::Root,
            Kind::Operator => PrincipalKind::Operator,
        }
    }

    /// The tags.
    #[must_use]
    pub fn tags(&self) -> &[Tag] {
        &self.tags
    }

    /// The unique id, if one was given. For a session it is its role's id, a colon, and its name.
    #[must_use]
    pub fn unique_id(&self) -> Option<&str> {
        self.unique_id.as_deref()
    }

    /// What a session was given when its role was assumed.
    #[must_use]
    pub fn parameters(&self) -> Option<&Arc<SessionParameters>> {
        match &self.kind {
            Kind::Session(session) => Some(&session.parameters),
            _ => None,
        }
    }

    /// When a session's credentials end.
    #[must_use]
    pub fn expiration(&self) -> Option<Timestamp> {
        match &self.kind {
            Kind::Session(session) => session.expiration,
            _ => None,
        }
    }

    /// The role's ARN for a session (as in `aws:PrincipalArn`), else the principal's own.
    #[must_use]
    pub fn lasting_arn(&self) -> &str {
        match &self.kind {
            Kind::Session(session) => &session.role_arn,
            _ => &self.arn,
        }
    }

    /// `aws:username`: a user's name without its path; `None` for others.
    pub(super) fn user_name(&self) -> Option<&str> {
        match self.kind {
            Kind::User => self.arn.rsplit('/').next(),
            _ => None,
        }
    }

    /// `aws:userid`, as defined in the table of principal key values on the IAM User Guide's page
    /// about policy variables.
    pub(crate) fn user_id(&self) -> Option<&str> {
        match self.kind {
            Kind::Root => Some(self.account.as_str()),
            _ => self.unique_id.as_deref(),
        }
    }

    /// `aws:principaltype`.
    pub(super) fn type_name(&self) -> Option<&'static str> {
        match self.kind {
            Kind::User => Some("User"),
            Kind::Role | Kind::Session(_) => Some("AssumedRole"),
            Kind::FederatedUser => Some("FederatedUser"),
            Kind::Root => Some("Account"),
            Kind::WebIdentity | Kind::Operator => None,
        }
    }

    /// When a session's credentials were issued; `None` for permanent credentials.
    pub(super) fn token_issue_time(&self) -> Option<Timestamp> {
        match &self.kind {
            Kind::Session(session) => Some(session.issue_time),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
