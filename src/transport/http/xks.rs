//! Requests of AWS KMS to an external key store proxy: on paths of their own, over TLS, signed by
//! the credentials of one key store, and answered in a time of their own.

use crate::api::{ApiError, ErrorCode, RequestId, Requester};
use crate::auth::{AuthError, sigv4};
use crate::transport::TLS;
use crate::transport::answered::Answered;
use crate::transport::caller::Caller;
use crate::transport::http::{HttpEndpoint, Refusal, TEXT, log_failure, whole};
use crate::transport::request_body::RequestBody;
use crate::transport::tally::{Outcome, Subject};
use crate::xks::error::{self, in_words_of_xks};
use crate::xks::{ANSWER_TIME, BODY_BYTES_MAX, SERVICE, Target};
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderValue, Method, Response, StatusCode};
use std::time::Duration;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
/// What load balancers ask for, which sign nothing (specification, "Load balancer health checks").
const PING: &str = "/ping";

impl HttpEndpoint {
    /// Answers a request that no other route has taken, because of `outcome`.
    pub(super) async fn xks(
        &self,
        id: RequestId,
        outcome: Outcome,
        subject: &mut Subject,
        caller: &Caller,
        head: &Parts,
        body: &mut RequestBody,
    ) -> Result<Response<Answered>, Refusal> {
        let path = head.uri.path();
        if !self.tally.is_of(TLS) {
            return Err(outcome.into());
        }
        if path == PING && head.method == Method::GET {
            let mut response = whole(StatusCode::OK, "ok\n");
            response.headers_mut().insert(CONTENT_TYPE, TEXT);
            return Ok(response);
        }
        let target = match self.service.xks.target(path) {
            None => return Err(outcome.into()),
            Some(Ok(target)) if head.uri.query().is_none() => target,
            Some(_) => return Err(Refusal::Xks(invalid_path())),
        };
        if head.method != Method::POST {
            return Err(Outcome::MethodNotAllowed.into());
        }
        *subject = Subject::Xks(target.operation);
        let answered = tokio::time::timeout(
            ANSWER_TIME,
            self.answer_xks(id, &target, caller, head, body),
        );
        answered.await.unwrap_or_else(|_| Err(Refusal::Xks(late())))
    }

    async fn answer_xks(
        &self,
        id: RequestId,
        target: &Target<'_>,
        caller: &Caller,
        head: &Parts,
        body: &mut RequestBody,
    ) -> Result<Response<Answered>, Refusal> {
        let authenticated = self.signed_by_aws(id, target, caller, head, body).await;
        let (requester, body) = authenticated.map_err(as_xks)?;
        let api = &self.service.api;
        let reply = api.call_xks(target, &requester, &body).await;
        let reply = reply.map_err(Refusal::Xks)?;
        let mut response = whole(StatusCode::OK, reply.into_bytes());
        response.headers_mut().insert(CONTENT_TYPE, JSON);
        Ok(response)
    }

    /// The requester, if the key store's principal has signed, over a connection that it may use.
    async fn signed_by_aws(
        &self,
        id: RequestId,
        target: &Target<'_>,
        caller: &Caller,
        head: &Parts,
        body: &mut RequestBody,
    ) -> Result<(Requester, Bytes), Refusal> {
        let unknown = |error| self.unknown(id, caller, head, error);
        let now = self.service.clock.now();
        if !target.store.takes_client(caller.common_name_at(now)) {
            return Err(unknown(wrong_client()));
        }
        if body.is_longer_than(BODY_BYTES_MAX as u64) {
            return Err(too_long().into());
        }
        let region = sigv4::scope_region(&head.headers);
        let verifier = target.store.verifier(region);
        let verified = self.verify(verifier, SERVICE, id, caller, head, body);
        let (requester, body) = verified.await?;
        if requester.principal.arn != target.store.principal() {
            return Err(unknown(AuthError::unrecognized_client()));
        }
        if body.len() > BODY_BYTES_MAX {
            return Err(too_long().into());
        }
        Ok((requester, body))
    }
}

/// What is left of the time of an answer that began then.
pub(super) fn time_left(now: Duration, began: Duration) -> Duration {
    ANSWER_TIME.saturating_sub(now.saturating_sub(began))
}

fn wrong_client() -> AuthError {
    let message = "The client certificate is not one of this key store's.";
    AuthError {
        code: ErrorCode::UnrecognizedClientException,
        message: message.into(),
    }
}

fn invalid_path() -> ApiError {
    let message = "No key store has this path, or it has no such operation.";
    ApiError::new(ErrorCode::InvalidUriPathException, message)
}

fn late() -> ApiError {
    let message = format!("The answer took more than {} ms.", ANSWER_TIME.as_millis());
    ApiError::new(ErrorCode::DependencyTimeoutException, message)
}

fn too_long() -> ApiError {
    let message = format!("The body is larger than {BODY_BYTES_MAX} bytes.");
    ApiError::new(ErrorCode::RequestEntityTooLarge, message)
}

/// A refusal of a request's caller or body, as AWS KMS reads it.
fn as_xks(refusal: Refusal) -> Refusal {
    match refusal {
        Refusal::Api(_, error) => Refusal::Xks(in_words_of_xks(error)),
        refusal => refusal,
    }
}

/// The answer of a refusal.
pub(super) fn refused(
    id: RequestId,
    subject: Subject,
    error: &ApiError,
) -> (Response<Answered>, Outcome) {
    let status = error::status(error.code());
    // A body that comes too late or is too large is not a failure here.
    if error.code() == ErrorCode::InternalException {
        log_failure(id, subject, status, error);
    }
    let mut response = whole(status, error::body(error));
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    (response, Outcome::Error(error.code()))
}
