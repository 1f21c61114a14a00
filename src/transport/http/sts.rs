//! Requests of the query protocol: a form in, XML out. The caller is authenticated before the form
//! is read, as on every route, but for one operation: the form of `AssumeRoleWithWebIdentity` alone
//! says who asks.

use crate::api::{ApiError, Reply, RequestId, Requester};
use crate::auth::{AuthError, ScopeService};
use crate::operation::sts::StsOperation;
use crate::policy::Principal;
use crate::sts::error::in_words_of_sts;
use crate::sts::{self, Form, NotTaken};
use crate::transport::answered::Answered;
use crate::transport::caller::Caller;
use crate::transport::http::{HttpEndpoint, Refusal, log_failure, requester, whole};
use crate::transport::request_body::RequestBody;
use crate::transport::tally::{Outcome, Subject};
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderValue, Response, StatusCode};

/// Bytes of a form at most that is read before its sender is known: a token of 20,000 characters, a
/// policy of 2,048 percent-encoded, and the rest.
const ANONYMOUS_BYTES_MAX: u64 = 64 * 1024;

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
        if let Some(form) = self.of_token(head, body).await? {
            *subject = Subject::Sts(StsOperation::AssumeRoleWithWebIdentity);
            return self.assume(id, caller, head, &form).await;
        }
        let service = ScopeService::Sts;
        let authenticated = self.authenticate(service, id, caller, head, body).await;
        let (requester, body) = authenticated.map_err(as_sts)?;
        let refusal = |error: ApiError| Refusal::Sts(in_words_of_sts(error));
        let form = Form::parse(head.uri.query().unwrap_or_default(), &body).map_err(refusal)?;
        let operation = sts::operation(&form).map_err(refusal)?;
        *subject = Subject::Sts(operation);
        if operation == StsOperation::AssumeRoleWithWebIdentity {
            return self.assume(id, caller, head, &form).await;
        }
        let api = &self.service.api;
        let reply = api.call_sts(operation, &requester, &form).await;
        Ok(done(reply.map_err(refusal)?))
    }

    /// The form of a request that asks for `AssumeRoleWithWebIdentity`. Without an issuer of tokens
    /// there is none, and no form is read for it. A form with a fault is refused later, when its
    /// caller is authenticated.
    async fn of_token(
        &self,
        head: &Parts,
        body: &mut RequestBody,
    ) -> Result<Option<Form>, Refusal> {
        let identities = &self.service.api.web_identities;
        if identities.are_none() || !body.is_within(ANONYMOUS_BYTES_MAX) {
            return Ok(None);
        }
        let body = self
            .read(body)
            .await
            .map_err(|error| as_sts(error.into()))?;
        let form = Form::parse(head.uri.query().unwrap_or_default(), &body).ok();
        let asks = |form: &Form| {
            sts::operation(form)
                .is_ok_and(|operation| operation == StsOperation::AssumeRoleWithWebIdentity)
        };
        Ok(form.filter(asks))
    }

    /// Answers the holder of a token of another issuer. A signature beside it is not looked at, nor
    /// is the connection's own principal.
    async fn assume(
        &self,
        id: RequestId,
        caller: &Caller,
        head: &Parts,
        form: &Form,
    ) -> Result<Response<Answered>, Refusal> {
        let refusal = |error: ApiError| Refusal::Sts(in_words_of_sts(error));
        let api = &self.service.api;
        let held = sts::holder(api, form, caller.source.ip()).await;
        let identity = held.map_err(|not_taken| match not_taken {
            NotTaken::Request(error) => refusal(error),
            NotTaken::Token(error) => {
                let code = error.code();
                let message = error.message().to_owned().into();
                as_sts(self.unknown(id, caller, head, AuthError { code, message }))
            }
        })?;
        let before = caller.place.begin_for_stranger();
        let principal = Principal::web_identity(&identity.provider_arn, identity.account);
        let requester = Requester {
            web_identity: Some(identity),
            until: None,
            ..requester(id, principal, caller, head)
        };
        let operation = StsOperation::AssumeRoleWithWebIdentity;
        let reply = api.call_sts(operation, &requester, form).await;
        if reply.is_err() {
            caller.place.again(before);
        }
        Ok(done(reply.map_err(refusal)?))
    }
}

fn done(reply: Reply) -> Response<Answered> {
    let mut response = whole(StatusCode::OK, reply.into_bytes());
    response.headers_mut().insert(CONTENT_TYPE, XML);
    response
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
