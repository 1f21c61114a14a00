//! One connection to a proxy: HTTP/1.1 over TLS, one request at a time.

use crate::tls_files::tls_error_in;
use crate::xks_proxy::error::ProxyError;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use std::error::Error;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinSet;

/// Bytes of the head of an answer at most.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Bytes of the body of an answer at most: 4,300 bytes of ciphertext have 5,736 in base64, and a
/// fleet of ten its names.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// A connection.
pub(super) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    /// Its task ends with it.
    _driver: JoinSet<hyper::Result<()>>,
    /// When it answered last, of a monotonic clock.
    pub(super) idle_since: Duration,
}

/// A request, which may be sent twice.
pub(super) struct Prepared {
    pub(super) uri: Uri,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

/// An answer.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) body: Bytes,
}

/// Why there is no answer.
pub(super) enum Broken {
    /// Nothing of an answer came before the connection ended.
    Unanswered(ProxyError),
    /// An answer began.
    Answered(ProxyError),
}

impl From<Broken> for ProxyError {
    fn from(broken: Broken) -> Self {
        match broken {
            Broken::Unanswered(error) | Broken::Answered(error) => error,
        }
    }
}

impl Prepared {
    fn request(&self) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(self.body.clone()));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.uri.clone();
        request.headers_mut().clone_from(&self.headers);
        request
    }
}

impl Connection {
    /// Speaks HTTP over `stream`.
    pub(super) async fn over<S>(stream: S) -> Result<Self, ProxyError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let handshake = http1::Builder::new()
            .max_buf_size(HEAD_BYTES_MAX)
            .handshake(TokioIo::new(stream));
        let (sender, connection) = handshake.await.map_err(|error| broken(&error))?;
        let mut driver = JoinSet::new();
        driver.spawn(connection);
        Ok(Self {
            sender,
            _driver: driver,
            idle_since: Duration::ZERO,
        })
    }

    /// Whether the other side, or an error, has closed it.
    pub(super) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Sends a request, and reads its answer whole. After an error it is of no more use.
    pub(super) async fn send(&mut self, request: &Prepared) -> Result<Answer, Broken> {
        let unanswered = |error: hyper::Error| Broken::Unanswered(broken(&error));
        self.sender.ready().await.map_err(unanswered)?;
        let sent = self.sender.send_request(request.request()).await;
        let response = sent.map_err(|error| match error.is_parse() {
            true => Broken::Answered(invalid(&error)),
            false => unanswered(error),
        })?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, BODY_BYTES_MAX).collect().await;
        let body = body.map_err(|error| Broken::Answered(invalid(&*error)))?;
        Ok(Answer {
            status: head.status,
            body: body.to_bytes(),
        })
    }
}

fn invalid(error: &(dyn Error + 'static)) -> ProxyError {
    ProxyError::InvalidResponse(with_cause(error))
}

/// The error of a connection that ended. With TLS 1.3 a server refuses the certificate of a client
/// only after the handshake.
fn broken(error: &(dyn Error + 'static)) -> ProxyError {
    match tls_error_in(error) {
        Some(error) => ProxyError::Tls(error.to_string()),
        None => ProxyError::NotReachable(with_cause(error)),
    }
}

fn with_cause(error: &(dyn Error + 'static)) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}
