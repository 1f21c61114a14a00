//! A running daemon, as a job's worker calls it: over a connection of its own that is kept, from a
//! thread that waits for the answer.

use crate::auth::Credentials;
use crate::bulk::authorities::{self, Authorities};
use crate::bulk::source::SourceError;
use crate::clock::Clock;
use crate::endpoint::Endpoint;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::runtime::Runtime;

/// A daemon that sends nothing for so long is taken for dead.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// A refusal is a short JSON document.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// How long a throttled call is made again, and the pauses between.
const PATIENCE: Duration = Duration::from_secs(120);
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// How a daemon is called: where it is, and with whose credentials.
#[derive(Clone)]
pub struct Client {
    /// Where it listens.
    pub endpoint: Endpoint,
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
    /// A connection that is made when it is needed.
    ///
    /// # Errors
    /// [`SourceError::Connection`], when this process cannot start a runtime.
    pub fn connection(&self) -> Result<Connection, SourceError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| self.broken(&error))?;
        Ok(Connection {
            client: self.clone(),
            runtime,
            sender: None,
        })
    }

    /// Connects once, so that a wrong endpoint shows before there is work to lose.
    ///
    /// # Errors
    /// [`SourceError::Connection`], [`SourceError::Untrusted`].
    pub async fn reach(&self) -> Result<(), SourceError> {
        self.connect().await.map(drop)
    }

    /// The error of a connection that broke.
    #[must_use]
    pub fn broken(&self, reason: &dyn fmt::Display) -> SourceError {
        SourceError::Connection {
            endpoint: self.endpoint.to_string(),
            reason: reason.to_string(),
        }
    }

    /// The error of an answer that is none of a daemon's.
    #[must_use]
    pub fn answered(&self, reason: impl Into<String>) -> SourceError {
        SourceError::Answer {
            endpoint: self.endpoint.to_string(),
            reason: reason.into(),
        }
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, SourceError> {
        match &self.endpoint {
            Endpoint::Unix(path) => {
                let connected = self.in_time(UnixStream::connect(path)).await?;
                self.shake_hands(connected).await
            }
            Endpoint::Http(authority) => {
                let connected = self.in_time(TcpStream::connect(authority)).await?;
                self.shake_hands(connected).await
            }
            Endpoint::Https { authority, name } => {
                let Some(authorities) = &self.authorities else {
                    return Err(self.broken(&"no authority is known that could vouch for it"));
                };
                let connected = self.in_time(TcpStream::connect(authority)).await?;
                let secured = self
                    .in_time(authorities.connector().connect(name.clone(), connected))
                    .await?;
                self.shake_hands(secured).await
            }
        }
    }

    async fn shake_hands<S>(&self, stream: S) -> Result<SendRequest<Full<Bytes>>, SourceError>
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
                endpoint: self.endpoint.to_string(),
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

    async fn send(
        &self,
        sender: &mut Option<SendRequest<Full<Bytes>>>,
        target: &Target<'_>,
        body: Bytes,
    ) -> Result<Response<Incoming>, SourceError> {
        let mut connected = match sender.take() {
            Some(connected) if !connected.is_closed() => connected,
            _ => self.connect().await?,
        };
        self.in_time(connected.ready()).await?;
        let sent = connected.send_request(self.request(target, body)?);
        let response = self.in_time(sent).await?;
        *sender = Some(connected);
        if response.status() != StatusCode::OK {
            return Err(self.refused(response).await);
        }
        Ok(response)
    }

    async fn send_patiently(
        &self,
        sender: &mut Option<SendRequest<Full<Bytes>>>,
        target: &Target<'_>,
        body: Bytes,
    ) -> Result<Response<Incoming>, SourceError> {
        let (mut pause, mut waited) = (PAUSE_MIN, Duration::ZERO);
        loop {
            match self.send(sender, target, body.clone()).await {
                Err(SourceError::Refused { code, .. })
                    if code == "ThrottlingException" && waited < PATIENCE => {}
                sent => return sent,
            }
            tokio::time::sleep(pause).await;
            waited += pause;
            pause = (2 * pause).min(PAUSE_MAX);
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
            Ok(refusal) => SourceError::Refused {
                code: refusal.code,
                message: refusal.message.unwrap_or_default(),
            },
            Err(_) => self.answered(format!("with status {status}")),
        }
    }
}

/// One connection of one worker.
pub struct Connection {
    client: Client,
    runtime: Runtime,
    sender: Option<SendRequest<Full<Bytes>>>,
}

impl Connection {
    /// The client that it is of.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Sends one request, and returns its answer, whose body is still to be read.
    ///
    /// # Errors
    /// [`SourceError`], the daemon's refusal among others.
    pub fn call(
        &mut self,
        target: &Target<'_>,
        body: Bytes,
    ) -> Result<Response<Incoming>, SourceError> {
        let sent = self.client.send(&mut self.sender, target, body);
        self.runtime.block_on(sent)
    }

    /// As [`Self::call`]; a call that is throttled is made again, for a while.
    ///
    /// # Errors
    /// [`SourceError`], the daemon's refusal among others.
    pub fn call_patiently(
        &mut self,
        target: &Target<'_>,
        body: Bytes,
    ) -> Result<Response<Incoming>, SourceError> {
        let sent = self.client.send_patiently(&mut self.sender, target, body);
        self.runtime.block_on(sent)
    }

    /// The next bytes of an answer; `None` at its end, which must be seen before the next call.
    ///
    /// # Errors
    /// [`SourceError`], when the connection breaks or the daemon is silent.
    pub fn next(&mut self, body: &mut Incoming) -> Result<Option<Bytes>, SourceError> {
        let Self {
            client, runtime, ..
        } = self;
        let received = async { body.frame().await.transpose() };
        let frame = runtime.block_on(client.in_time(received))?;
        Ok(frame.map(|frame| frame.into_data().unwrap_or_default()))
    }
}
