//! Who asks.

use crate::key::arn::AccountId;
use crate::policy::PolicyDocument;
use std::sync::Arc;

/// An authenticated caller with his identity policies.
pub struct Principal {
    /// `arn:<partition>:iam::<account>:user/<name>`, or `local:<uid>` for an operator at the store.
    pub arn: String,
    /// 12 digits.
    pub account: AccountId,
    /// Attached policies.
    pub policies: Vec<Arc<PolicyDocument>>,
}

impl Principal {
    /// Whether this is [`Self::operator`]'s.
    #[must_use]
    pub fn is_operator(&self) -> bool {
        self.arn.starts_with(Self::OPERATOR_PREFIX)
    }

    const OPERATOR_PREFIX: &str = "local:";

    /// The operator of this user id: whoever may open the store's files, or the socket of its daemon's admin routes, may do everything.
    ///
    /// It is named `local:<uid>`, which is no ARN and no principal of the store: no policy can name it, no access key and no entry of a
    /// socket's map leads to it, and it is never written. A peer of the same uid that a map names is that map's principal, not this one.
    ///
    /// # Panics
    /// Never: the policy is the constant below.
    #[must_use]
    pub fn operator(uid: u32, account: AccountId) -> Arc<Self> {
        let everything = r#"{"Statement":{"Effect":"Allow","Action":"kms:*","Resource":"*"}}"#;
        let everything = PolicyDocument::parse(everything).expect("the text above is a policy");
        Arc::new(Self {
            arn: format!("{}{uid}", Self::OPERATOR_PREFIX),
            account,
            policies: vec![Arc::new(everything)],
        })
    }
}
