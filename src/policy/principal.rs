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
