//! Fetches the keys of an issuer: from a file, from a URL, or from where the issuer says they are.
//!
//! An issuer that answers too late, too much, or with a redirect has not answered. The bearer token
//! goes to the host that is configured and to no other, whatever the issuer says.
//!
//! Sources: OpenID Connect Discovery 1.0, section 4; RFC 9111 (HTTP caching), section 5.2.2.

use crate::causes::with_causes;
use crate::clock::Clock;
use crate::file::open;
use crate::policy::json::Json;
use crate::tls_files;
use crate::web_identity::issuer;
use crate::web_identity::key_set::KeySet;
use crate::web_identity::url::Url;
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CACHE_CONTROL, HOST};
use http::{HeaderMap, HeaderValue, Request, StatusCode};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use std::error::Error;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use zeroize::Zeroizing;

/// Time for one answer, from the look-up of the host's name to the last byte.
const TIME_MAX: Duration = Duration::from_secs(5);
/// How long keys are used without a word of the issuer on it, and the bounds of that word.
const FRESH_DEFAULT: Duration = Duration::from_secs(300);
const FRESH_MIN: Duration = Duration::from_secs(60);
const FRESH_MAX: Duration = Duration::from_secs(3600);
/// How often a file is read again.
const FILE_INTERVAL: Duration = Duration::from_secs(30);
/// Bytes of a bearer token at most.
const BEARER_BYTES_MAX: u64 = 16 * 1024;
/// Bytes of the head of an answer at most.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// Where the keys of an issuer come from.
pub(super) enum Source {
    /// This file.
    File(PathBuf),
    /// The issuer, or a host in its place.
    Web(Box<Web>),
}

/// Keys that are served.
pub(super) struct Web {
    issuer: Url,
    /// Where they are; `None` asks the issuer.
    keys: Option<Url>,
    ca_file: Option<PathBuf>,
    bearer_token_file: Option<PathBuf>,
    clock: Clock,
}

/// The keys of an issuer, and how long to use them before they are fetched again.
pub(super) struct Fetched {
    pub(super) keys: KeySet,
    pub(super) fresh_for: Duration,
}

/// Why keys could not be fetched, or a file of an issuer cannot be used, as one line.
#[derive(Debug, thiserror::Error)]
#[error("{place}: {reason}")]
pub struct FetchError {
    place: String,
    reason: String,
}

type Reason = Box<dyn Error + Send + Sync>;

fn failed(place: impl fmt::Display, reason: impl fmt::Display) -> FetchError {
    FetchError {
        place: place.to_string(),
        reason: reason.to_string(),
    }
}

impl Source {
    pub(super) fn of(config: &issuer::Config, issuer: Url, clock: Clock) -> Self {
        let some = |path: &PathBuf| (!path.as_os_str().is_empty()).then(|| path.clone());
        match some(&config.jwks_file) {
            Some(path) => Self::File(path),
            None => Self::Web(Box::new(Web {
                issuer,
                keys: config.jwks_url.parse().ok(),
                ca_file: some(&config.ca_file),
                bearer_token_file: some(&config.bearer_token_file),
                clock,
            })),
        }
    }

    /// Fetches the keys.
    pub(super) async fn fetch(&self) -> Result<Fetched, FetchError> {
        match self {
            Self::File(path) => {
                let read = path.clone();
                let keys = blocking(&path.display(), move || key_set(&read)).await?;
                Ok(Fetched {
                    keys,
                    fresh_for: FILE_INTERVAL,
                })
            }
            Self::Web(web) => web.fetch().await,
        }
    }
}

/// Reads the files of an issuer and checks that they can be used. `name` is the issuer's.
pub(super) fn check_files(
    name: &str,
    config: &issuer::Config,
    clock: &Clock,
) -> Result<(), FetchError> {
    let check = |setting: &str, path: &Path, read: &dyn Fn(&Path) -> Result<(), Reason>| {
        if path.as_os_str().is_empty() {
            return Ok(());
        }
        let place = format_args!("issuers.{name}.{setting}: {}", path.display());
        read(path).map_err(|reason| failed(place, reason))
    };
    check("jwks_file", &config.jwks_file, &|path| {
        key_set(path).map(|_| ())
    })?;
    check("ca_file", &config.ca_file, &|path| {
        connector(Some(path), clock.clone()).map(|_| ())
    })?;
    check("bearer_token_file", &config.bearer_token_file, &|path| {
        bearer(path).map(|_| ())
    })
}

fn key_set(path: &Path) -> Result<KeySet, Reason> {
    let bytes = open::named_bytes(path, KeySet::BYTES_MAX as u64)?;
    Ok(KeySet::parse(&bytes)?)
}

/// What a header has of the token in a file.
fn bearer(path: &Path) -> Result<HeaderValue, Reason> {
    let bytes = open::named_bytes(path, BEARER_BYTES_MAX).map(Zeroizing::new)?;
    let token = bytes.trim_ascii();
    let value = Zeroizing::new([b"Bearer ", token].concat());
    let value = HeaderValue::from_bytes(&value).ok();
    let value = value.filter(|_| !token.is_empty());
    let mut value = value.ok_or("it is not a bearer token")?;
    value.set_sensitive(true);
    Ok(value)
}

impl Web {
    async fn fetch(&self) -> Result<Fetched, FetchError> {
        // Both files are read each time, because both are replaced while the daemon runs.
        let connector = self.connector().await?;
        let bearer = self.bearer().await?;
        let keys = match &self.keys {
            Some(keys) => keys.clone(),
            None => self.discover(&connector, bearer.as_ref()).await?,
        };
        let trusted = self.keys.as_ref().unwrap_or(&self.issuer);
        let bearer = bearer.filter(|_| keys.has_origin_of(trusted));
        let (head, body) = get(&keys, &connector, bearer.as_ref()).await?;
        Ok(Fetched {
            keys: KeySet::parse(&body).map_err(|error| failed(&keys, error))?,
            fresh_for: fresh_for(&head),
        })
    }

    /// Where the issuer says its keys are. It must say too that it is this issuer: a document of
    /// another one has been put in its place.
    async fn discover(
        &self,
        connector: &TlsConnector,
        bearer: Option<&HeaderValue>,
    ) -> Result<Url, FetchError> {
        let place = self.issuer.discovery();
        let place = place.map_err(|error| failed(&self.issuer, error))?;
        let (_, body) = get(&place, connector, bearer).await?;
        let Ok(Json::Object(members)) = serde_json::from_slice(&body) else {
            return Err(failed(&place, "it is not a JSON object"));
        };
        let text = |name: &str| match members.iter().find(|(other, _)| other == name) {
            Some((_, Json::Text(text))) => text.as_str(),
            _ => "",
        };
        if text("issuer") != self.issuer.as_str() {
            return Err(failed(&place, "its \"issuer\" is another one"));
        }
        let keys: Result<Url, _> = text("jwks_uri").parse();
        let keys =
            keys.map_err(|error| failed(&place, format_args!("its \"jwks_uri\": {error}")))?;
        // An issuer that is asked over TLS sends this daemon to no service of this machine, for
        // whose keys no authority vouches.
        if self.issuer.is_secure() && !keys.is_secure() {
            return Err(failed(&place, "its \"jwks_uri\" is not https"));
        }
        Ok(keys)
    }

    /// The bearer token for the host that is configured.
    async fn bearer(&self) -> Result<Option<HeaderValue>, FetchError> {
        let Some(path) = self.bearer_token_file.clone() else {
            return Ok(None);
        };
        let place = path.display().to_string();
        blocking(&place, move || bearer(&path)).await.map(Some)
    }

    /// TLS that trusts the authorities of the file, or, without one, those of this machine.
    async fn connector(&self) -> Result<TlsConnector, FetchError> {
        let (path, clock) = (self.ca_file.clone(), self.clock.clone());
        let place = match &path {
            Some(path) => path.display().to_string(),
            None => "the authorities of this machine".to_owned(),
        };
        blocking(&place, move || connector(path.as_deref(), clock)).await
    }
}

fn connector(ca: Option<&Path>, clock: Clock) -> Result<TlsConnector, Reason> {
    let roots = tls_files::authorities(ca)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_details(provider, Arc::new(clock))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}

/// Runs `work`, which waits for a disk, on a thread of its own.
async fn blocking<T, E>(
    place: &(impl fmt::Display + ?Sized),
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, FetchError>
where
    T: Send + 'static,
    E: fmt::Display + Send + 'static,
{
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done.map_err(|error| failed(place, error)),
        Err(error) => Err(failed(place, error)),
    }
}

/// The head and the body of an answer with status 200.
async fn get(
    url: &Url,
    connector: &TlsConnector,
    bearer: Option<&HeaderValue>,
) -> Result<(HeaderMap, Bytes), FetchError> {
    let answer = async {
        let stream = TcpStream::connect((url.host(), url.port())).await?;
        match url.server_name() {
            Some(name) => ask(connector.connect(name, stream).await?, url, bearer).await,
            None => ask(stream, url, bearer).await,
        }
    };
    match tokio::time::timeout(TIME_MAX, answer).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(failed(url, with_causes(&*error))),
        Err(_) => {
            let seconds = TIME_MAX.as_secs();
            Err(failed(
                url,
                format_args!("no answer within {seconds} seconds"),
            ))
        }
    }
}

async fn ask<S>(
    stream: S,
    url: &Url,
    bearer: Option<&HeaderValue>,
) -> Result<(HeaderMap, Bytes), Reason>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(HEAD_BYTES_MAX)
        .handshake(TokioIo::new(stream))
        .await?;
    // Dropped, and with it the connection, when the answer is there or its time is over.
    let mut driver = JoinSet::new();
    driver.spawn(connection);
    let mut request = Request::get(url.target())
        .header(HOST, url.authority())
        .header(ACCEPT, "application/json, application/jwk-set+json");
    if let Some(bearer) = bearer {
        request = request.header(AUTHORIZATION, bearer);
    }
    let response = sender
        .send_request(request.body(Empty::<Bytes>::new())?)
        .await?;
    let (head, body) = response.into_parts();
    if head.status != StatusCode::OK {
        let status = head.status.as_u16();
        return Err(format!("the answer has status {status}; only 200 is taken").into());
    }
    let body = Limited::new(body, KeySet::BYTES_MAX).collect().await?;
    Ok((head.headers, body.to_bytes()))
}

/// How long an answer may be used: its `max-age`, within bounds.
fn fresh_for(head: &HeaderMap) -> Duration {
    let values = head.get_all(CACHE_CONTROL).into_iter();
    let texts = values.filter_map(|value| value.to_str().ok());
    let directives = texts.flat_map(|text| text.split(',')).map(str::trim);
    let mut seconds = None;
    for directive in directives {
        let (name, value) = directive.split_once('=').unwrap_or((directive, ""));
        match name.to_ascii_lowercase().as_str() {
            "no-store" | "no-cache" => return FRESH_MIN,
            "max-age" => seconds = seconds.or(value.trim_matches('"').parse().ok()),
            _ => {}
        }
    }
    let fresh_for = seconds.map_or(FRESH_DEFAULT, Duration::from_secs);
    fresh_for.clamp(FRESH_MIN, FRESH_MAX)
}

#[cfg(test)]
pub(super) mod tests;
