//! The operator's way to keys, aliases and principals: the opened store, or the admin routes of the
//! daemon that holds it.

use crate::api::{ApiError, Reply, Requester};
use crate::cli::failure::Failure;
use crate::cli::output;
use crate::cli::target::Target;
use crate::config::Config;
use crate::daemon::{Core, OpenError, Opening};
use crate::endpoint::Endpoint;
use crate::key::regions::RegionNumber;
use crate::keystore::KeystoreError;
use crate::operation::Operation;
use crate::policy::Principal;
use crate::{memory, pool};
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UnixStream;

mod streamed;

pub(super) use streamed::streamed;

/// A daemon that does not answer for so long is taken for dead; a change waits for its disk.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(30);
/// A page of a listing is far smaller.
const ANSWER_BYTES_MAX: usize = 16 << 20;
/// Where the daemon takes operators' calls, followed by the Region and a slash, unless it is the
/// home Region, and the operation's name.
const ADMIN_PATH: &str = "/v1/admin/";

/// An operator's calls, in one Region.
pub struct Operator {
    by: By,
    /// `None` for the home Region.
    region: Option<String>,
}

/// Who performs an operator's calls.
enum By {
    /// This process, with the store's lock.
    Store(Box<Core>, Arc<Principal>),
    /// The daemon behind this socket.
    Daemon(PathBuf),
}

impl Operator {
    /// Opens the store of `target` or turns to the daemon that has it, lets `work` do its work in
    /// the home Region, and closes the store again.
    ///
    /// # Errors
    /// [`Failure`], when neither store nor daemon can be reached, or the work fails.
    pub fn with<T>(
        target: Target,
        work: impl AsyncFnOnce(&Self) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        Self::within(None, target, work)
    }

    /// As [`Self::with`], in this Region.
    ///
    /// # Errors
    /// As [`Self::with`].
    pub fn within<T>(
        region: Option<&str>,
        target: Target,
        work: impl AsyncFnOnce(&Self) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        super::runtime()?.block_on(async {
            let operator = Self {
                by: By::open(target).await?,
                region: region.map(ToOwned::to_owned),
            };
            let worked = work(&operator).await;
            let closed = operator.close().await;
            worked.and_then(|outcome| closed.map(|()| outcome))
        })
    }

    /// Calls of the daemon behind this socket, in the home Region.
    pub fn of_daemon(socket: PathBuf) -> Self {
        Self {
            by: By::Daemon(socket),
            region: None,
        }
    }

    /// Performs `operation` with `body`; operations without output answer with null.
    ///
    /// # Errors
    /// [`Failure`], with the code and message of the refusal.
    pub async fn call(&self, operation: &str, body: Value) -> Result<Value, Failure> {
        let body = body.to_string().into_bytes();
        match &self.by {
            By::Store(core, principal) => {
                let requester = Requester {
                    region: self.region_of(core)?,
                    ..Requester::local(Arc::clone(principal))
                };
                read(&reply(core, &requester, operation, &body).await?)
            }
            By::Daemon(socket) => {
                let sent = send(socket, self.path_of(operation), body);
                let called = tokio::time::timeout(ANSWER_TIME_MAX, sent);
                match called.await {
                    Ok(answer) => answer,
                    Err(_) => {
                        let seconds = ANSWER_TIME_MAX.as_secs();
                        Err(silent(
                            socket,
                            &format_args!("no answer for {seconds} seconds"),
                        ))
                    }
                }
            }
        }
    }

    /// Every item of a listing, page by page.
    ///
    /// # Errors
    /// [`Failure`], when a call is refused or fails.
    pub async fn list(&self, operation: &str, member: &str) -> Result<Vec<Value>, Failure> {
        let mut items = Vec::new();
        let mut request = serde_json::json!({});
        loop {
            let mut page = self.call(operation, request.clone()).await?;
            if let Value::Array(found) = page[member].take() {
                items.extend(found);
            }
            let next = page["NextMarker"].take();
            if page["Truncated"] != Value::Bool(true) || !next.is_string() {
                return Ok(items);
            }
            request["Marker"] = next;
        }
    }

    fn region_of(&self, core: &Core) -> Result<RegionNumber, Failure> {
        let named = self.region.as_deref();
        let found = named.map_or(Ok(RegionNumber::HOME), |name| core.api.region_named(name));
        found.map_err(|error| refused(&error))
    }

    fn path_of(&self, operation: &str) -> String {
        match &self.region {
            Some(region) => format!("{ADMIN_PATH}{region}/{operation}"),
            None => format!("{ADMIN_PATH}{operation}"),
        }
    }

    async fn close(self) -> Result<(), Failure> {
        self.by.close().await
    }
}

impl By {
    async fn open(target: Target) -> Result<Self, Failure> {
        match target {
            Target::Store(config) => Self::at_store(&config).await,
            Target::Daemon(Endpoint::Unix(socket)) => Ok(Self::Daemon(socket)),
            Target::Daemon(_) => Err(Failure::usage(
                "the operator's commands go through the daemon's Unix socket, --endpoint unix:PATH; over HTTP use an AWS client",
            )),
        }
    }

    async fn at_store(config: &Config) -> Result<Self, Failure> {
        match open_store(config).await {
            Ok(core) => Ok(Self::Store(Box::new(core), operator(config))),
            Err(OpenError::Keystore(error @ KeystoreError::InUse { .. })) => {
                let socket = config.listen.socket.clone();
                // Not every holder is a daemon: an export has no socket.
                match UnixStream::connect(&socket).await {
                    Ok(_) => Ok(Self::Daemon(socket)),
                    Err(_) => Err(error.into()),
                }
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn close(self) -> Result<(), Failure> {
        match self {
            Self::Store(core, _) => Ok(core.close().await?),
            Self::Daemon(_) => Ok(()),
        }
    }
}

/// The principal of the user that runs this process.
pub(super) fn operator(config: &Config) -> Arc<Principal> {
    Principal::operator(rustix::process::geteuid().as_raw(), config.account)
}

/// Opens the store of `config` for this process alone, without a pool; an error that says that it
/// is in use names the daemon's real socket.
pub(super) async fn open_store(config: &Config) -> Result<Core, OpenError> {
    forbid_leaks();
    let unpooled = pool::Config {
        enabled: false,
        ..config.pool.clone()
    };
    let opened = Core::open(config, unpooled, Opening::Existing).await;
    opened.map_err(|error| match error {
        OpenError::Keystore(KeystoreError::InUse { path, holder, .. }) => {
            let socket = config.listen.socket.clone();
            KeystoreError::InUse {
                path,
                holder,
                socket,
            }
            .into()
        }
        other => other,
    })
}

/// Keeps what a short-lived command reads out of core dumps and swap, as far as it may; only a
/// daemon warns when it may not.
pub(super) fn forbid_leaks() {
    if let Err(error) = memory::forbid_dumps() {
        tracing::warn!(%error, "core dumps could not be forbidden");
    }
    if let Err(error) = memory::lock() {
        tracing::debug!(%error, "memory is not locked");
    }
}

/// Performs an operation in this process.
pub(super) async fn perform(
    core: &Core,
    principal: &Arc<Principal>,
    operation: &str,
    body: &[u8],
) -> Result<Value, Failure> {
    let requester = Requester::local(Arc::clone(principal));
    let reply = reply(core, &requester, operation, body).await?;
    read(&reply)
}

fn read(reply: &Reply) -> Result<Value, Failure> {
    if reply.body().is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_slice(reply.body()).map_err(Failure::failed)
}

/// Calls an operation without reading the answer, which may hold a secret and is wiped when it is
/// dropped.
pub(super) async fn perform_unread(
    core: &Core,
    principal: &Arc<Principal>,
    operation: &str,
    body: &[u8],
) -> Result<(), Failure> {
    let requester = Requester::local(Arc::clone(principal));
    reply(core, &requester, operation, body).await.map(|_| ())
}

async fn reply(
    core: &Core,
    requester: &Requester,
    operation: &str,
    body: &[u8],
) -> Result<Reply, Failure> {
    let reply = match Operation::named(operation) {
        Some(operation) => core.api.call(operation, requester, body).await,
        None => core.api.administer(operation, requester, body).await,
    };
    reply.map_err(|error| refused(&error))
}

fn refused(error: &ApiError) -> Failure {
    let source = error.source().map(ToString::to_string);
    Failure::failed(refusal(
        error.code().name(),
        source.as_deref().unwrap_or(error.message()),
    ))
}

fn refusal(code: &str, message: &str) -> String {
    match message {
        "" => code.to_owned(),
        message => format!("{code}: {}", output::shown(message)),
    }
}

fn silent(socket: &Path, reason: &dyn fmt::Display) -> Failure {
    Failure::unavailable(format!(
        "unix:{}: {reason}; is a keymill daemon running there?",
        socket.display()
    ))
}

/// One call over a connection of its own, and the head of its answer.
async fn begin(socket: &Path, path: String, body: Vec<u8>) -> Result<Response<Incoming>, Failure> {
    let stream = UnixStream::connect(socket)
        .await
        .map_err(|error| silent(socket, &error))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| silent(socket, &error))?;
    // Its errors are those of the request on it.
    tokio::spawn(async move { drop(connection.await) });
    let mut request = Request::new(Full::new(Bytes::from(body)));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = Uri::try_from(path).map_err(Failure::failed)?;
    let headers = request.headers_mut();
    headers.insert(header::HOST, HeaderValue::from_static("localhost"));
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/x-amz-json-1.1"),
    );
    let sent = sender.send_request(request).await;
    sent.map_err(|error| silent(socket, &error))
}

/// One call and its answer.
async fn send(socket: &Path, path: String, body: Vec<u8>) -> Result<Value, Failure> {
    answer(socket, begin(socket, path, body).await?).await
}

/// Why a call was refused.
async fn refused_answer(socket: &Path, response: Response<Incoming>) -> Failure {
    let said = answer(socket, response).await;
    said.err()
        .unwrap_or_else(|| silent(socket, &"its answer is not a refusal"))
}

async fn answer(socket: &Path, response: Response<Incoming>) -> Result<Value, Failure> {
    let status = response.status();
    let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX)
        .collect()
        .await
        .map_err(|error| silent(socket, &error))?
        .to_bytes();
    let answer = if body.is_empty() {
        Ok(Value::Null)
    } else {
        serde_json::from_slice::<Value>(&body)
    };
    match answer {
        Ok(answer) if status.is_success() => Ok(answer),
        Ok(answer) if answer["__type"].is_string() => {
            let message = answer["message"].as_str().or(answer["Message"].as_str());
            let code = answer["__type"].as_str().unwrap_or_default();
            Err(Failure::failed(refusal(code, message.unwrap_or_default())))
        }
        _ => Err(silent(
            socket,
            &format_args!("it answered with status {status}"),
        )),
    }
}
