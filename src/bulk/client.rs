//! How a daemon is called: where it is, with whose credentials, and what its refusals say.

use crate::auth::Credentials;
use crate::bulk::authorities::{self, Authorities};
use crate::bulk::source::SourceError;
use crate::clock::Clock;
use crate::endpoint::Endpoint;
use crate::error_code::ErrorCode;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use std::error::Error;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

/// A daemon that sends nothing for so long is taken for dead.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// A refusal is a short JSON document.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// What a proxy answers that has no daemon behind it.
const AWAY: [StatusCode; 3] = [
    StatusCode::BAD_GATEWAY,
    StatusCode::SERVICE_UNAVAILABLE,
    StatusCode::GATEWAY_TIMEOUT,
];

/// Sends requests on a connection, one after the other.
pub(super) type Sender = SendRequest<Full<Bytes>>;

/// How a daemon is called: where it is, and with whose credentials.
#[derive(Clone)]
pub struct Client {
    /// Where it listens.
    pub endpoint: Endpoint,
    /// The address that is connected to, where the name of `endpoint` has several.
    pub address: Option<SocketAddr>,
    /// `None` on a Unix socket: the kernel names the caller's process.
    pub credentials: Option<Arc<Credentials>>,
    /// The certificate authorities that are trusted on `https`; `None` trusts none.
    pub authorities: Option<Authorities>,
    /// The time of signatures.
    pub clock: Clock,
    /// Set when the work is to end: a daemon that is away is not waited for then.
    pub stop: Arc<AtomicBool>,
}

/// The head of a request.
pub struct Target<'a> {
    /// Path, with the query if there is one.
    pub path: &'a str,
    /// The operation of AWS KMS, where it is called as AWS's clients do.
    pub operation: Option<&'static str>,
    /// The body's media type.
    pub content_type: &'static str,
    /// The media type of the answer.
    pub accept: &'static str,
}

impl Target<'_> {
    /// An operation of AWS KMS.
    #[must_use]
    pub fn of_operation(name: &'static str) -> Self {
        const JSON: &str = "application/x-amz-json-1.1";
        Self {
            path: "/",
            operation: Some(name),
            content_type: JSON,
            accept: JSON,
        }
    }
}

impl Client {
    /// The same, at one of the addresses of its name.
    #[must_use]
    pub fn at(&self, address: Option<SocketAddr>) -> Self {
        Self {
            address,
            ..self.clone()
        }
    }

    /// What messages call the daemon.
    #[must_use]
    pub fn name(&self) -> String {
        match self.address {
            None => self.endpoint.to_string(),
            Some(address) => format!("{} ({})", self.endpoint, address.ip()),
        }
    }

    /// The error of a connection that broke.
    #[must_use]
    pub fn broken(&self, reason: &dyn fmt::Display) -> SourceError {
        SourceError::Connection {
            endpoint: self.name(),
            reason: reason.to_string(),
        }
    }

    /// The error of an answer that is none of a daemon's.
    #[must_use]
    pub fn answered(&self, reason: impl Into<String>) -> SourceError {
        SourceError::Answer {
            endpoint: self.name(),
            reason: reason.into(),
        }
    }

    /// Connects to the daemon.
    ///
    /// # Errors
    /// [`SourceError::Connection`], [`SourceError::Untrusted`], [`SourceError::Answer`].
    pub(super) async fn connect(&self) -> Result<Sender, SourceError> {
        match &self.endpoint {
            Endpoint::Unix(path) => {
                let connected = self.in_time(UnixStream::connect(path)).await?;
                self.shake_hands(connected).await
            }
            Endpoint::Http(authority) => {
                let connected = self.connect_to(authority).await?;
                self.shake_hands(connected).await
            }
            Endpoint::Https { authority, name } => {
                let Some(authorities) = &self.authorities else {
                    return Err(self.broken(&"no authority is known that could vouch for it"));
                };
                let connected = self.connect_to(authority).await?;
                let secured = self
                    .in_time(authorities.connector().connect(name.clone(), connected))
                    .await?;
                self.shake_hands(secured).await
            }
        }
    }

    async fn connect_to(&self, authority: &str) -> Result<TcpStream, SourceError> {
        match self.address {
            None => self.in_time(TcpStream::connect(authority)).await,
            Some(address) => self.in_time(TcpStream::connect(address)).await,
        }
    }

    async fn shake_hands<S>(&self, stream: S) -> Result<Sender, SourceError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let handshake = http1::handshake(TokioIo::new(stream));
        let (sender, connection) = self.in_time(handshake).await?;
        // Its errors are those of the requests on it.
        tokio::spawn(async move { drop(connection.await) });
        Ok(sender)
    }

    /// The error of a connection that ended. A refusal by TLS is an error of its own, because
    /// trying again does not help.
    fn failed(&self, error: &(dyn Error + 'static)) -> SourceError {
        if let Some(reason) = authorities::objection(error) {
            return SourceError::Untrusted {
                endpoint: self.name(),
                reason,
            };
        }
        match error.downcast_ref::<hyper::Error>() {
            Some(error) if error.is_parse() => self.answered("with bytes that are not HTTP"),
            _ => self.broken(&error),
        }
    }

    /// The result of `future`, unless the daemon is silent for too long.
    ///
    /// # Errors
    /// [`SourceError`], when the future fails, or takes too long.
    pub async fn in_time<T, E: Error + 'static>(
        &self,
        future: impl Future<Output = Result<T, E>>,
    ) -> Result<T, SourceError> {
        match tokio::time::timeout(SILENCE_MAX, future).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(self.failed(&error)),
            Err(_) => Err(self.broken(&format_args!(
                "nothing came for {} seconds",
                SILENCE_MAX.as_secs()
            ))),
        }
    }

    fn request(
        &self,
        target: &Target<'_>,
        body: Bytes,
    ) -> Result<Request<Full<Bytes>>, SourceError> {
        let broken = |error: &dyn fmt::Display| self.broken(error);
        let host = match &self.endpoint {
            Endpoint::Unix(_) => "localhost",
            Endpoint::Http(authority) | Endpoint::Https { authority, .. } => authority,
        };
        let host = HeaderValue::from_str(host).map_err(|error| broken(&error))?;
        let mut request = Request::new(Full::new(body.clone()));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = Uri::try_from(target.path).map_err(|error| broken(&error))?;
        let headers = request.headers_mut();
        headers.insert(header::HOST, host);
        let media_type = HeaderValue::from_static(target.content_type);
        headers.insert(header::CONTENT_TYPE, media_type);
        headers.insert(header::ACCEPT, HeaderValue::from_static(target.accept));
        if let Some(operation) = target.operation {
            let name = HeaderValue::try_from(format!("TrentService.{operation}"));
            headers.insert("x-amz-target", name.map_err(|error| broken(&error))?);
        }
        if let Some(credentials) = &self.credentials {
            credentials
                .sign(&Method::POST, target.path, headers, &body, self.clock.now())
                .map_err(|error| broken(&error))?;
        }
        Ok(request)
    }

    /// Sends one request on a connection, and returns its answer, whatever it is.
    ///
    /// # Errors
    /// [`SourceError`], when the connection breaks or the daemon is silent.
    pub(super) async fn send(
        &self,
        sender: &mut Sender,
        target: &Target<'_>,
        body: Bytes,
    ) -> Result<Response<Incoming>, SourceError> {
        self.in_time(sender.ready()).await?;
        let sent = sender.send_request(self.request(target, body)?);
        self.in_time(sent).await
    }

    /// An answer, whose body is still to be read.
    ///
    /// # Errors
    /// [`SourceError`], the daemon's refusal.
    pub(super) async fn taken(
        &self,
        response: Response<Incoming>,
    ) -> Result<Response<Incoming>, SourceError> {
        match response.status() {
            StatusCode::OK => Ok(response),
            _ => Err(self.refused(response).await),
        }
    }

    /// The daemon's own word on why not.
    async fn refused(&self, response: Response<Incoming>) -> SourceError {
        #[derive(Deserialize)]
        struct Refusal {
            #[serde(rename = "__type")]
            code: String,
            #[serde(alias = "Message", default)]
            message: Option<String>,
        }
        let status = response.status();
        let received = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect();
        let body = match tokio::time::timeout(SILENCE_MAX, received).await {
            Ok(Ok(body)) => body.to_bytes(),
            _ => Bytes::new(),
        };
        match serde_json::from_slice::<Refusal>(&body) {
            // A node that is cut off from its store, or whose disk is full, may do it later.
            Ok(Refusal { code, message }) if code == ErrorCode::KMSInternalException.name() => {
                let message = message.filter(|message| !message.is_empty());
                let message = message.map(|message| format!(": {message}"));
                self.broken(&format_args!(
                    "it answered {code}{}",
                    message.unwrap_or_default()
                ))
            }
            Ok(refusal) => SourceError::Refused {
                code: refusal.code,
                message: refusal.message.unwrap_or_default(),
            },
            // That of a proxy, which has no daemon behind it now.
            Err(_) if AWAY.contains(&status) => {
                self.broken(&format_args!("it answered with status {status}"))
            }
            Err(_) => self.answered(format!("with status {status}")),
        }
    }
}
