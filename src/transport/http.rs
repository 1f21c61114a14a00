//! The HTTP service: routes, authentication, bounds of bodies, dispatch, answers.
//!
//! The order of checks is AWS's: first method and path, then the credentials in the head. Only then
//! is the body read, its signature compared, and its content looked at. Work for a caller begins
//! only when its access key is known.

use crate::admin::{DESCRIBE_DAEMON, READ_STORE};
use crate::api::{ApiError, ErrorCode, Reply, RequestId, Requester};
use crate::auth::sigv4::{self, Head, Signer};
use crate::auth::{AuthError, ScopeService, Verifier};
use crate::clock::Timestamp;
use crate::key::regions::RegionNumber;
use crate::keystore::Snapshot;
use crate::operation::Operation;
use crate::policy::Principal;
use crate::rates::LogLines;
use crate::transport::Service;
use crate::transport::answered::Answered;
use crate::transport::caller::Caller;
use crate::transport::request_body::{DISCARD_TIME, RequestBody, TOGETHER_BYTES_MAX};
use crate::transport::room::Room;
use crate::transport::route::{self, Route, Target};
use crate::transport::strangers;
use crate::transport::tally::{Outcome, Subject, Tally};
use bytes::Bytes;
use http::header::{
    ALLOW, AUTHORIZATION, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HOST, HeaderName,
};
use http::request::Parts;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use std::sync::Arc;
use std::time::Duration;

const JSON: HeaderValue = HeaderValue::from_static("application/x-amz-json-1.1");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-amzn-requestid");
const ERROR_TYPE: HeaderName = HeaderName::from_static("x-amzn-errortype");
const SECURITY_TOKEN: HeaderName = HeaderName::from_static("x-amz-security-token");
/// Answers that carry keys must not be stored on their way.
const NO_STORE: HeaderValue =
    HeaderValue::from_static("no-cache, no-store, must-revalidate, private");

/// Log lines of failed requests.
static FAILED: LogLines = LogLines::new();

/// The caller of the admin routes.
pub(super) struct Operator {
    pub(super) uid: u32,
    pub(super) principal: Arc<Principal>,
}

/// Answers the requests of one listener.
pub(super) struct HttpEndpoint {
    service: Arc<Service>,
    /// `Some` only on the daemon's own Unix socket.
    operator: Option<Operator>,
    tally: Tally,
    bodies: Room,
}

/// Why a request was refused.
enum Refusal {
    /// There is no such route. The answer is plain text, because the client does not speak KMS.
    Route(Outcome),
    /// A refusal with its status: that of the code, or a more precise one of HTTP.
    Api(StatusCode, ApiError),
    /// A refusal in the words of STS, which is answered in XML.
    Sts(ApiError),
    /// A refusal in the words of the External Key Store Proxy API.
    Xks(ApiError),
}

impl From<ApiError> for Refusal {
    fn from(error: ApiError) -> Self {
        Self::Api(error.code().status(), error)
    }
}

impl From<Outcome> for Refusal {
    fn from(outcome: Outcome) -> Self {
        Self::Route(outcome)
    }
}

impl HttpEndpoint {
    pub(super) fn new(
        service: Arc<Service>,
        transport: &'static str,
        operator: Option<Operator>,
    ) -> Self {
        let tally = Tally::new(Arc::clone(&service.metrics), transport);
        Self {
            service,
            operator,
            tally,
            bodies: Room::new(TOGETHER_BYTES_MAX),
        }
    }

    /// Answers one request.
    pub(super) async fn respond(
        &self,
        caller: &Caller,
        request: Request<Incoming>,
    ) -> Response<Answered> {
        let began = self.service.clock.monotonic();
        let id = RequestId::draw(&self.service.api.entropy);
        let (head, incoming) = request.into_parts();
        let mut body = RequestBody::new(incoming);
        let mut subject = Subject::None;
        let answered = self
            .answer(id, &mut subject, caller, &head, &mut body)
            .await;
        let (mut response, outcome) = match answered {
            Ok(response) => (response, Outcome::Ok),
            Err(refusal) => refused(id, subject, refusal),
        };
        // The answer is known; the rest decides whether the connection can take another request.
        let patience = match subject {
            // Its answer has a time of its own, and must not wait for a body after it.
            Subject::Xks(_) => xks::time_left(self.service.clock.monotonic(), began),
            _ => DISCARD_TIME,
        };
        let is_over = body.is_read || body.discard(&head, patience).await;
        let headers = response.headers_mut();
        if !is_over || caller.place.is_last() {
            // The listener shuts down, or an unread body is in the way of the next request: the
            // peer is told to connect again.
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        headers.insert(REQUEST_ID, id.to_header());
        headers.insert(CACHE_CONTROL, NO_STORE);
        let ended = self.service.clock.monotonic();
        let duration = ended.saturating_sub(began);
        if matches!(response.body(), Either::Left(_)) {
            caller.place.rest(ended);
        }
        self.tally.request(subject, outcome, duration);
        tracing::trace!(
            request_id = %id,
            operation = subject.label(),
            code = outcome.label(),
            source = %caller.source,
            secure_transport = caller.secure_transport,
            "answered"
        );
        response
    }

    async fn answer(
        &self,
        id: RequestId,
        subject: &mut Subject,
        caller: &Caller,
        head: &Parts,
        body: &mut RequestBody,
    ) -> Result<Response<Answered>, Refusal> {
        if route::is_query(head) {
            return Box::pin(self.sts(id, subject, caller, head, body)).await;
        }
        let route = match Route::of(&head.method, head.uri.path()) {
            Err(outcome) if !self.service.xks.is_empty() => {
                return Box::pin(self.xks(id, outcome, subject, caller, head, body)).await;
            }
            route => route?,
        };
        match route {
            Route::Kms => {
                let target = route::target(&head.headers);
                if let Some(Target::Tagging(name)) = target {
                    return Box::pin(self.tagging(id, name, subject, caller, head, body)).await;
                }
                let (requester, body) = self
                    .authenticate(ScopeService::Kms, id, caller, head, body)
                    .await?;
                let unknown = || ApiError::bare(ErrorCode::UnknownOperationException);
                let Some(Target::Kms(name)) = target else {
                    return Err(unknown().into());
                };
                let operation = Operation::named(name).ok_or_else(unknown)?;
                *subject = Subject::Operation(operation);
                Ok(done(
                    self.service.api.call(operation, &requester, &body).await?,
                ))
            }
            // The other futures are boxed: hyper moves the future of a request into its
            // connection's memory, and that of a KMS operation is much smaller than theirs (rows
            // "beside the build before" of benches/RESULTS.md).
            Route::DataKeys => {
                *subject = Subject::DataKeys;
                Box::pin(self.data_keys(id, caller, head, body)).await
            }
            Route::Containers(purpose) => {
                *subject = Subject::Containers(purpose);
                Box::pin(self.containers(id, purpose, caller, head, body)).await
            }
            Route::Admin { region, operation } => {
                *subject = Subject::Admin;
                let call = (region, operation);
                Box::pin(self.administer(id, call, caller, head, body)).await
            }
        }
    }

    /// Runs an operation for the operator, in the Region that the path names.
    async fn administer(
        &self,
        id: RequestId,
        (region, name): (Option<&str>, &str),
        caller: &Caller,
        head: &Parts,
        body: &mut RequestBody,
    ) -> Result<Response<Answered>, Refusal> {
        let operator = self.operator(caller, head).ok_or_else(not_operator)?;
        let api = &self.service.api;
        let region = region.map_or(Ok(RegionNumber::HOME), |name| api.region_named(name))?;
        let requester = Requester {
            region,
            ..requester(id, Arc::clone(operator), caller, head)
        };
        let body = self.read(body).await?;
        if name == READ_STORE {
            return self.store(caller, &requester, &body).await;
        }
        if name == DESCRIBE_DAEMON {
            let told = Arc::clone(&self.service.told);
            let reply = api.describe_daemon(&requester, &body, move || told.status());
            return Ok(done(reply.await?));
        }
        let called = match Operation::named(name) {
            Some(operation) => api.call(operation, &requester, &body).await,
            None => api.administer(name, &requester, &body).await,
        };
        Ok(done(called?))
    }

    /// The operator, if the caller is the operator: the uid is right, and nothing in the head
    /// claims another identity.
    fn operator(&self, caller: &Caller, head: &Parts) -> Option<&Arc<Principal>> {
        let operator = self.operator.as_ref()?;
        let is_he = caller.uid == Some(operator.uid) && !claims_a_signature(head);
        if is_he {
            caller.place.begin();
        }
        is_he.then_some(&operator.principal)
    }

    /// Authenticates the caller of `service`. Returns the requester and the body, whose signature
    /// was compared.
    async fn authenticate(
        &self,
        service: ScopeService,
        id: RequestId,
        caller: &Caller,
        head: &Parts,
        body: &mut RequestBody,
    ) -> Result<(Requester, Bytes), Refusal> {
        let Service {
            keystore, verifier, ..
        } = &*self.service;
        if claims_a_signature(head) {
            let signed = self.verify(verifier, service, id, caller, head, body);
            return signed.await;
        }
        let unknown = |error| self.unknown(id, caller, head, error);
        let snapshot = keystore.snapshot();
        let now = self.service.clock.now();
        let mut principal = of_connection(caller, now, &snapshot).map_err(unknown)?;
        let body = self.read(body).await?;
        // Not earlier: a slow sender would keep its connection busy for as long as it likes.
        caller.place.begin();
        // A body may take a long time. A principal that was removed meanwhile must not be served.
        if keystore.revision() != snapshot.revision {
            principal = of_connection(caller, now, &keystore.snapshot()).map_err(unknown)?;
        }
        Ok((requester(id, principal, caller, head), body))
    }

    /// Authenticates the caller of `service` by its signature.
    async fn verify(
        &self,
        verifier: &Verifier,
        service: ScopeService,
        id: RequestId,
        caller: &Caller,
        head: &Parts,
        body: &mut RequestBody,
    ) -> Result<(Requester, Bytes), Refusal> {
        let keystore = &self.service.keystore;
        let unknown = |error| self.unknown(id, caller, head, error);
        let (snapshot, now) = (keystore.snapshot(), self.service.clock.now());
        let signed = Head {
            method: &head.method,
            uri: &head.uri,
            headers: &head.headers,
        };
        let claim = verifier
            .begin(service, signed, &snapshot, now)
            .map_err(unknown)?;
        let body = self.read(body).await?;
        // After a change, the head is verified again on the current snapshot.
        let signer = if keystore.revision() != snapshot.revision {
            let snapshot = keystore.snapshot();
            let claim = verifier.begin(service, signed, &snapshot, now);
            claim.and_then(|claim| claim.finish(&body))
        } else {
            claim.finish(&body)
        };
        let Signer {
            principal,
            region,
            access_key,
        } = signer.map_err(unknown)?;
        caller.place.begin();
        let signed = Requester {
            access_key: Some(access_key),
            until: None,
            region,
            ..requester(id, principal, caller, head)
        };
        Ok((signed, body))
    }

    /// Counts and logs a caller that could not be authenticated.
    fn unknown(&self, id: RequestId, caller: &Caller, head: &Parts, error: AuthError) -> Refusal {
        let refusal = ApiError::new(error.code, error.message);
        self.tally.auth_failure(refusal.code());
        strangers::tell(id, caller, &head.uri, &head.headers, &refusal);
        refusal.into()
    }

    /// Reads the body within its bounds.
    async fn read(&self, body: &mut RequestBody) -> Result<Bytes, ApiError> {
        let time = Duration::from_millis(self.service.limits.body_timeout_ms);
        body.read(&self.bodies, time).await
    }
}

/// Whether the head has any part of a signature. Such a request is authenticated by its signature
/// alone, and never by peer credentials or a client certificate.
fn claims_a_signature(head: &Parts) -> bool {
    head.headers.contains_key(AUTHORIZATION)
        || head.headers.contains_key(SECURITY_TOKEN)
        || sigv4::claims_a_signature(&head.uri)
}

/// The requester, with the transport's knowledge of the connection.
fn requester(
    request_id: RequestId,
    principal: Arc<Principal>,
    caller: &Caller,
    head: &Parts,
) -> Requester {
    let tls = caller.tls.as_ref();
    Requester {
        principal,
        web_identity: None,
        access_key: None,
        until: caller.until,
        region: RegionNumber::HOME,
        source: caller.origin(),
        secure_transport: caller.secure_transport,
        tls_details: tls.map(|tls| tls.of_request(head.headers.get(HOST))),
        request_id,
    }
}

/// The principal of a connection: that of a Unix socket's peer or of a client certificate.
fn of_connection(
    caller: &Caller,
    now: Timestamp,
    snapshot: &Snapshot,
) -> Result<Arc<Principal>, AuthError> {
    caller.with_arn_at(now, |arn| {
        match arn.and_then(|arn| snapshot.principals.get(arn)) {
            Some(entry) if entry.enabled => Ok(Arc::clone(&entry.principal)),
            Some(_) => Err(AuthError::unrecognized_client()),
            None => Err(AuthError::missing_token()),
        }
    })
}

fn done(reply: Reply) -> Response<Answered> {
    let mut response = whole(StatusCode::OK, reply.into_bytes());
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    response
}

fn whole(status: StatusCode, body: impl Into<Bytes>) -> Response<Answered> {
    let mut response = Response::new(Either::Left(Full::new(body.into())));
    *response.status_mut() = status;
    response
}

fn refused(id: RequestId, subject: Subject, refusal: Refusal) -> (Response<Answered>, Outcome) {
    match refusal {
        Refusal::Route(outcome) => {
            let not_allowed = outcome == Outcome::MethodNotAllowed;
            let mut response = if not_allowed {
                whole(StatusCode::METHOD_NOT_ALLOWED, "method not allowed\n")
            } else {
                whole(StatusCode::NOT_FOUND, "not found\n")
            };
            let headers = response.headers_mut();
            headers.insert(CONTENT_TYPE, TEXT);
            if not_allowed {
                headers.insert(ALLOW, HeaderValue::from_static("POST"));
            }
            (response, outcome)
        }
        Refusal::Sts(error) => sts::refused(id, subject, &error),
        Refusal::Xks(error) => xks::refused(id, subject, &error),
        Refusal::Api(status, error) => {
            let code = error.code();
            log_failure(id, subject, status, &error);
            let mut response = whole(status, error.body());
            let headers = response.headers_mut();
            headers.insert(CONTENT_TYPE, JSON);
            headers.insert(ERROR_TYPE, HeaderValue::from_static(code.name()));
            (response, Outcome::Error(code))
        }
    }
}

/// Logs the cause of a failure, which the caller does not learn.
fn log_failure(id: RequestId, subject: Subject, status: StatusCode, error: &ApiError) {
    if status.is_server_error()
        && let Some(left_out) = FAILED.admit()
    {
        tracing::error!(
            request_id = %id,
            operation = subject.label(),
            code = error.code().name(),
            source = error.source().map(ToString::to_string),
            left_out,
            "a request failed"
        );
    }
}

fn not_operator() -> Refusal {
    let message = "Admin routes are for the daemon's own user, over its Unix socket and without an Authorization header.";
    let error = ApiError::new(ErrorCode::AccessDeniedException, message);
    Refusal::Api(StatusCode::FORBIDDEN, error)
}

mod bulk;
mod store;
mod sts;
mod tagging;
mod xks;

#[cfg(test)]
mod tests;
