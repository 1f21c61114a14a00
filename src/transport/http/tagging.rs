//! Requests of the AWS Resource Groups Tagging API: JSON as that of KMS, under another target and
//! another scope.

use crate::api::{ApiError, ErrorCode, RequestId};
use crate::auth::ScopeService;
use crate::operation::tagging::TaggingOperation;
use crate::transport::answered::Answered;
use crate::transport::caller::Caller;
use crate::transport::http::{HttpEndpoint, Refusal, done};
use crate::transport::request_body::RequestBody;
use crate::transport::tally::Subject;
use http::Response;
use http::request::Parts;

impl HttpEndpoint {
    /// Answers a request for the operation of this name.
    pub(super) async fn tagging(
        &self,
        id: RequestId,
        name: &str,
        subject: &mut Subject,
        caller: &Caller,
        head: &Parts,
        body: &mut RequestBody,
    ) -> Result<Response<Answered>, Refusal> {
        let service = ScopeService::Tagging;
        let (requester, body) = self.authenticate(service, id, caller, head, body).await?;
        let unknown = || ApiError::bare(ErrorCode::UnknownOperationException);
        let operation = TaggingOperation::named(name).ok_or_else(unknown)?;
        *subject = Subject::Tagging(operation);
        let api = &self.service.api;
        let reply = api.call_tagging(operation, &requester, &body).await?;
        Ok(done(reply))
    }
}
