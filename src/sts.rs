//! AWS STS beside KMS: who a caller is, and sessions of roles. It speaks the query protocol: a form
//! in, XML out.
//!
//! Sources: AWS STS API reference (API version 2011-06-15); "AWS query protocol" of the Smithy
//! documentation for the form of requests and answers.
//!
//! What this module does not do: know HTTP, or verify signatures; it is handed a principal. Trust
//! policies are stored with their roles and decided on by `policy`.

use crate::api::trail::Event;
use crate::api::{Answer, Api, ApiError, ErrorCode, Reply, Requester};
use crate::operation::sts::StsOperation;
use std::sync::Arc;

mod access_key_info;
mod assume_role;
mod caller_identity;
pub mod error;
pub mod form;
mod issued;
mod refusals;
mod role_request;
mod web_identity;
mod xml;

pub use form::Form;
pub use web_identity::{NotTaken, holder};

/// The one version of the API.
const VERSION: &str = "2011-06-15";

/// The operation that a form asks for.
///
/// # Errors
/// `MissingAction`; `InvalidAction` for an operation or a version that does not exist.
pub fn operation(form: &Form) -> Result<StsOperation, ApiError> {
    let Some(action) = form.text("Action") else {
        let message = "The request names no Action.";
        return Err(ApiError::new(ErrorCode::MissingAction, message));
    };
    let version = form.text("Version").unwrap_or_default();
    StsOperation::named(action)
        .filter(|_| version == VERSION)
        .ok_or_else(|| {
            let message = format!("Could not find operation {action} for version {version}");
            ApiError::new(ErrorCode::InvalidAction, message)
        })
}

impl Api {
    /// Performs `operation` for `requester`, and records it. The error is in the words of STS.
    ///
    /// # Errors
    /// [`ApiError`]: the operation is refused or failed, or cannot be recorded.
    pub async fn call_sts(
        self: &Arc<Self>,
        operation: StsOperation,
        requester: &Requester,
        form: &Form,
    ) -> Result<Reply, ApiError> {
        let parameters = form.to_json(operation.records());
        let answer = perform(self, operation, requester, form);
        let answer = answer.map_err(error::in_words_of_sts);
        self.told(requester, Event::of_sts(operation, &parameters), answer)
            .await
            .map_err(error::in_words_of_sts)
    }
}

fn perform(api: &Api, operation: StsOperation, requester: &Requester, form: &Form) -> Answer {
    match operation {
        StsOperation::GetAccessKeyInfo => access_key_info::get(api, requester, form),
        StsOperation::AssumeRole => assume_role::perform(api, requester, form),
        StsOperation::AssumeRoleWithWebIdentity => web_identity::perform(api, requester, form),
        StsOperation::GetCallerIdentity => caller_identity::get(api, requester),
        _ => Err(refusals::of(operation, requester)),
    }
}

#[cfg(test)]
mod tests;
