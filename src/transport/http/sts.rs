//! Requests of the query protocol: a form in, XML out.
//!
//! The body is read before the caller is known, because the operation is a member of it, and some
//! operations take no signature.

use crate::api::{ApiError, RequestId, Requester};
use crate::auth::ScopeService;
use crate::auth::sigv4::{Head, Signer};
use crate::sts::error::in_words_of_sts;
use crate::sts::{self, Form};
use crate::transport::answered::Answered;
use crate::transport::caller::Caller;
use crate::transport::http::{
    HttpEndpoint, Refusal, claims_a_signature, log_failure, of_connection, requester, whole,
};
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
        let refusal = |error: ApiError| Refusal::Sts(in_words_of_sts(error));
        let body = self.read(body).await.map_err(refusal)?;
        let form = Form::parse(head.uri.query().unwrap_or_default(), &body).map_err(refusal)?;
        let operation = sts::operation(&form).map_err(refusal)?;
        *subject = Subject::Sts(operation);
        let requester = self.signer(ScopeService::Sts, id, caller, head, &body)?;
        let api = &self.service.api;
        let reply = api.call_sts(operation, &requester, &form).await;
        let mut response = whole(StatusCode::OK, reply.map_err(refusal)?.into_bytes());
        response.headers_mut().insert(CONTENT_TYPE, XML);
        Ok(response)
    }

    /// Authenticates the caller of a request whose body has been read.
    fn signer(
        &self,
        service: ScopeService,
        id: RequestId,
        caller: &Caller,
        head: &Parts,
        body: &[u8],
    ) -> Result<Requester, Refusal> {
        let snapshot = self.service.keystore.snapshot();
        let now = self.service.clock.now();
        let unknown = |error| match self.unknown(id, caller, head, error) {
            Refusal::Api(_, error) => Refusal::Sts(in_words_of_sts(error)),
            refusal => refusal,
        };
        let requester = if claims_a_signature(head) {
            let signed = Head {
                method: &head.method,
                uri: &head.uri,
                headers: &head.headers,
            };
            let claim = self.service.verifier.begin(service, signed, &snapshot, now);
            let signer = claim.and_then(|claim| claim.finish(body));
            let Signer {
                principal,
                access_key,
            } = signer.map_err(unknown)?;
            Requester {
                access_key: Some(access_key),
                until: None,
                ..requester(id, principal, caller)
            }
        } else {
            let principal = of_connection(caller, now, &snapshot).map_err(unknown)?;
            requester(id, principal, caller)
        };
        caller.place.begin();
        Ok(requester)
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
