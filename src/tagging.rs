//! The AWS Resource Groups Tagging API beside KMS: the tags of keys in the form in which tools of
//! governance read and write those of every service.
//!
//! Its JSON, its front end and its refusals are those of KMS, but for some codes. A change is the
//! KMS operation of its caller: with the caller's rights to each key, and with an audit record for
//! each.
//!
//! Source: AWS Resource Groups Tagging API reference (API version 2017-01-26).
//!
//! What this module does not do: know HTTP, or who the caller is; it is handed a principal.

use crate::api::trail::Event;
use crate::api::{Answer, Api, ApiError, ErrorCode, Reply, Requester};
use crate::operation::tagging::TaggingOperation;
use std::sync::Arc;

mod arns;
mod changes;
pub mod error;
mod filter;
mod paging;
mod resources;
mod tag_texts;

impl Api {
    /// Performs `operation` for `requester`, and records it, to its end even when this future is
    /// dropped. The error is in the words of the tagging API.
    ///
    /// # Errors
    /// [`ApiError`]: the operation is refused or failed, or cannot be recorded.
    pub async fn call_tagging(
        self: &Arc<Self>,
        operation: TaggingOperation,
        requester: &Requester,
        body: &[u8],
    ) -> Result<Reply, ApiError> {
        let (api, requester, body) = (Arc::clone(self), requester.clone(), body.to_vec());
        let call = async move {
            let answer = perform(&api, operation, &requester, &body).await;
            let answer = answer.map_err(error::in_words_of_tagging);
            let event = Event::of_tagging(operation, &body);
            api.told(&requester, event, answer).await
        };
        let answer = tokio::spawn(call).await.map_err(ApiError::internal);
        answer
            .and_then(|answer| answer)
            .map_err(error::in_words_of_tagging)
    }
}

/// A reading may look at every key of the store: it is not made on a thread that serves others.
async fn perform(
    api: &Arc<Api>,
    operation: TaggingOperation,
    requester: &Requester,
    body: &[u8],
) -> Answer {
    let read = |reading: fn(&Api, &Requester, &[u8]) -> Answer| {
        api.at_length(requester, body, move |api, requester, body| {
            reading(api, requester, body)
        })
    };
    match operation {
        TaggingOperation::GetResources => read(resources::get).await,
        TaggingOperation::GetTagKeys => read(tag_texts::keys).await,
        TaggingOperation::GetTagValues => read(tag_texts::values).await,
        TaggingOperation::TagResources => changes::tag(api, requester, body).await,
        TaggingOperation::UntagResources => changes::untag(api, requester, body).await,
        _ => Err(ApiError::new(
            ErrorCode::ConstraintViolationException,
            "Keymill has no tag policies, so there is no compliance with them to report on.",
        )),
    }
}

#[cfg(test)]
mod tests;
