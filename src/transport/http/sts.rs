//! Requests of the query protocol: a form in, XML out. The caller is authenticated before the form
//! is read, as on every route.

use crate::api::{ApiError, RequestId};
use crate::auth::ScopeService;
use crate::sts::error::in_words_of_sts;
use crate::sts::{self, Form};
use crate::transport::answered::Answered;
use crate::transport::caller::Caller;
use crate::transport::http::{HttpEndpoint, Refusal, log_failure, whole};
use crate::transport::request_body::RequestBody;
use crate::transport::tally::{Outcome, Subject};
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderValue, Response, StatusCode};

const XML: HeaderValue = HeaderValue::from_static("text/xml");

impl HttpEndpoint {
    /// Answers a request of the query protocol.
    pub(super) async fn sts(
        &self,
        id: RequestId,
        subject: &mut Subject,
        caller: &Caller,
        head: &Parts,
        body: &mut RequestBody,
    ) -> Result<Response<Answered>, Refusal> {
        let service = ScopeService::Sts;
        let authenticated = self.authenticate(service, id, caller, head, body).await;
        let (requester, body) = authenticated.map_err(as_sts)?;
        let refusal = |error: ApiError| Refusal::Sts(in_words_of_sts(error));
        let form = Form::parse(head.uri.query().unwrap_or_default(), &body).map_err(refusal)?;
        let operation = sts::operation(&form).map_err(refusal)?;
        *subject = Subject::Sts(operation);
        let api = &self.service.api;
        let reply = api.call_sts(operation, &requester, &form).await;
        let mut response = whole(StatusCode::OK, reply.map_err(refusal)?.into_bytes());
        response.headers_mut().insert(CONTENT_TYPE, XML);
        Ok(response)
    }
}

/// A refusal of a request's caller or body, as STS answers it.
fn as_sts(refusal: Refusal) -> Refusal {
    match refusal {
        Refusal::Api(_, error) => Refusal::Sts(in_words_of_sts(error)),
        refusal => refusal,
    }
}

/// The answer of a refusal.
pub(super) fn refused(
    id: RequestId,
    subject: Subject,
    error: &ApiError,
) -> (Response<Answered>, Outcome) {
    let status = error.code().status();
    log_failure(id, subject, status, error);
    let mut response = whole(status, sts::error::body(error, &id));
    response.headers_mut().insert(CONTENT_TYPE, XML);
    (response, Outcome::Error(error.code()))
}
