//! Blobs streamed from a running daemon: one call of the batch endpoint for each part, on a connection that is kept.

use crate::api::batch::{BLOB_BYTES, KEY_ARN, KEY_MATERIAL_ID, PATH};
use crate::auth::Credentials;
use crate::clock::Clock;
use crate::context::EncryptionContext;
use crate::envelope::BlobHeader;
use crate::envelope::blob::{CiphertextBlob, OVERHEAD_BYTES};
use crate::export::authorities::{self, Authorities};
use crate::export::endpoint::Endpoint;
use crate::export::source::{KeyIdentity, Source, SourceError, Worker};
use crate::key::KeyId;
use crate::key::arn::Arn;
use crate::key::data_key::DataKeyLength;
use bytes::{Buf, Bytes};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::runtime::Runtime;

/// A daemon that sends nothing for so long is taken for dead.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// A refusal is a short JSON document.
const REFUSAL_BYTES_MAX: usize = 64 * 1024;

/// Blobs from a daemon, with the rights of the caller.
#[derive(Clone)]
pub struct Remote {
    /// Where it listens.
    pub endpoint: Endpoint,
    /// `None` on a Unix socket: the kernel says who asks.
    pub credentials: Option<Arc<Credentials>>,
    /// Who may vouch for the daemon on `https`; `None` is nobody.
    pub authorities: Option<Authorities>,
    /// The key as the caller names it.
    pub key: String,
    /// The length of every data key.
    pub length: DataKeyLength,
    /// The context that every blob is bound to.
    pub context: EncryptionContext,
    /// The time of signatures.
    pub clock: Clock,
}

impl Source for Remote {
    type Worker = RemoteWorker;

    fn key_arn(&self) -> Option<&str> {
        None
    }

    fn worker(&self) -> Result<RemoteWorker, SourceError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| self.broken(&error))?;
        Ok(RemoteWorker {
            remote: self.clone(),
            runtime,
            connection: None,
            stream: None,
        })
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct DataKeysRequest<'a> {
    key_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_spec: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    number_of_bytes: Option<usize>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    encryption_context: BTreeMap<&'a str, &'a str>,
    count: u64,
}

impl Remote {
    fn broken(&self, reason: &dyn fmt::Display) -> SourceError {
        SourceError::Connection {
            endpoint: self.endpoint.to_string(),
            reason: reason.to_string(),
        }
    }

    fn answered(&self, reason: impl Into<String>) -> SourceError {
        SourceError::Answer {
            endpoint: self.endpoint.to_string(),
            reason: reason.into(),
        }
    }

    fn blob_bytes(&self) -> usize {
        OVERHEAD_BYTES + self.length.bytes()
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
                let secured = authorities.connector().connect(name.clone(), connected);
                let secured = self.in_time(secured).await?;
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

    /// What a connection ended with: what TLS has against it is told apart, because trying again does not help.
    fn failed(&self, error: &(dyn Error + 'static)) -> SourceError {
        if let Some(reason) = authorities::objection(error) {
            return SourceError::Untrusted {
                endpoint: self.endpoint.to_string(),
                reason,
            };
        }
        match error.downcast_ref::<hyper::Error>() {
            Some(error) if error.is_parse() => self.answered("with what is no HTTP"),
            _ => self.broken(&error),
        }
    }

    async fn in_time<T, E: Error + 'static>(
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

    fn request(&self, rows: u64) -> Result<Request<Full<Bytes>>, SourceError> {
        let (key_spec, number_of_bytes) = match self.length {
            DataKeyLength::AES_256 => (Some("AES_256"), None),
            DataKeyLength::AES_128 => (Some("AES_128"), None),
            length => (None, Some(length.bytes())),
        };
        let body = serde_json::to_vec(&DataKeysRequest {
            key_id: &self.key,
            key_spec,
            number_of_bytes,
            encryption_context: self.context.pairs().collect(),
            count: rows,
        })
        .map_err(|error| self.broken(&error))?;
        let host = match &self.endpoint {
            Endpoint::Unix(_) => "localhost",
            Endpoint::Http(authority) | Endpoint::Https { authority, .. } => authority,
        };
        let host = HeaderValue::from_str(host).map_err(|error| self.broken(&error))?;
        let mut request = Request::new(Full::new(Bytes::from(body.clone())));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = http::Uri::from_static(PATH);
        let headers = request.headers_mut();
        headers.insert(header::HOST, host);
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
        headers.insert(
            header::ACCEPT,
            HeaderValue::from_static("application/octet-stream"),
        );
        if let Some(credentials) = &self.credentials {
            credentials
                .sign(&Method::POST, PATH, headers, &body, self.clock.now())
                .map_err(|error| self.broken(&error))?;
        }
        Ok(request)
    }

    /// What an answer promises must be what was asked for.
    fn check_head(
        &self,
        headers: &HeaderMap,
        rows: u64,
    ) -> Result<(KeyIdentity, KeyId), SourceError> {
        let text = |name: &'static str| {
            let value = headers.get(name).and_then(|value| value.to_str().ok());
            value.ok_or_else(|| self.answered(format!("without {name}")))
        };
        let is = |name: &'static str, expected: u64| match text(name)?.parse::<u64>() {
            Ok(value) if value == expected => Ok(()),
            _ => Err(self.answered(format!("{name} {}, not {expected}", text(name)?))),
        };
        is(BLOB_BYTES, self.blob_bytes() as u64)?;
        is("content-length", rows * self.blob_bytes() as u64)?;
        let arn = text(KEY_ARN)?;
        let key_id = Arn::split(arn)
            .and_then(|arn| arn.resource.strip_prefix("key/")?.parse().ok())
            .ok_or_else(|| self.answered(format!("{KEY_ARN} {arn}")))?;
        let key = KeyIdentity {
            arn: arn.to_owned(),
            material_id: text(KEY_MATERIAL_ID)?.to_owned(),
        };
        Ok((key, key_id))
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
        let body = Limited::new(response.into_body(), REFUSAL_BYTES_MAX).collect();
        let body = match tokio::time::timeout(SILENCE_MAX, body).await {
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

/// One connection, and the part that is on its way over it.
pub struct RemoteWorker {
    remote: Remote,
    runtime: Runtime,
    connection: Option<SendRequest<Full<Bytes>>>,
    stream: Option<Stream>,
}

/// The blobs of one part.
struct Stream {
    body: Incoming,
    /// The key that the answer's head names.
    key_id: KeyId,
    /// Received, not yet handed on.
    rest: Bytes,
    /// Bytes still to be received or handed on.
    bytes_left: u64,
    /// That of the first blob, which all must have.
    header: Option<BlobHeader>,
}

impl Worker for RemoteWorker {
    fn begin(&mut self, rows: u64) -> Result<KeyIdentity, SourceError> {
        let Self {
            remote,
            runtime,
            connection,
            stream,
        } = self;
        runtime.block_on(async {
            let mut sender = match connection.take() {
                Some(sender) if !sender.is_closed() => sender,
                _ => remote.connect().await?,
            };
            remote.in_time(sender.ready()).await?;
            let sent = sender.send_request(remote.request(rows)?);
            let response = remote.in_time(sent).await?;
            if response.status() != StatusCode::OK {
                return Err(remote.refused(response).await);
            }
            let (head, body) = response.into_parts();
            let (key, key_id) = remote.check_head(&head.headers, rows)?;
            *stream = Some(Stream {
                body,
                key_id,
                rest: Bytes::new(),
                bytes_left: rows * remote.blob_bytes() as u64,
                header: None,
            });
            *connection = Some(sender);
            Ok(key)
        })
    }

    fn fill(&mut self, count: usize, out: &mut Vec<u8>) -> Result<(), SourceError> {
        let Self {
            remote,
            runtime,
            stream,
            ..
        } = self;
        let Some(stream) = stream else {
            return Err(remote.answered("no part"));
        };
        let from = out.len();
        runtime.block_on(stream.read(remote, count * remote.blob_bytes(), out))?;
        stream.check(remote, &out[from..])
    }

    fn end(&mut self) -> Result<(), SourceError> {
        let Self {
            remote,
            runtime,
            stream,
            ..
        } = self;
        let Some(mut stream) = stream.take() else {
            return Err(remote.answered("no part"));
        };
        // The end of the body must be seen, or the connection cannot be used again.
        runtime.block_on(async {
            while let Some(data) = stream.next(remote).await? {
                if !data.is_empty() {
                    return Err(remote.answered("with more than was asked for"));
                }
            }
            Ok(())
        })?;
        if stream.bytes_left > 0 || !stream.rest.is_empty() {
            return Err(remote.answered("with more than was asked for"));
        }
        Ok(())
    }
}

impl Stream {
    /// Appends the next `bytes` bytes.
    async fn read(
        &mut self,
        remote: &Remote,
        bytes: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), SourceError> {
        let mut left = bytes;
        while left > 0 {
            if self.rest.is_empty() {
                self.rest = self.next(remote).await?.ok_or_else(|| {
                    remote.broken(&format_args!(
                        "the stream ended {} bytes before its end",
                        self.bytes_left
                    ))
                })?;
            }
            let taken = left.min(self.rest.len());
            out.extend_from_slice(&self.rest[..taken]);
            self.rest.advance(taken);
            self.bytes_left = self.bytes_left.saturating_sub(taken as u64);
            left -= taken;
        }
        Ok(())
    }

    async fn next(&mut self, remote: &Remote) -> Result<Option<Bytes>, SourceError> {
        let frame = self.body.frame();
        let frame = remote.in_time(async { frame.await.transpose() }).await?;
        Ok(frame.map(|frame| frame.into_data().unwrap_or_default()))
    }

    /// Every blob is one of the key's, and all are under one generation of its material.
    fn check(&mut self, remote: &Remote, blobs: &[u8]) -> Result<(), SourceError> {
        for blob in blobs.chunks_exact(remote.blob_bytes()) {
            let blob = CiphertextBlob::parse(blob)
                .map_err(|_| remote.answered("with bytes that are no ciphertext blob"))?;
            if blob.header().key_id != self.key_id {
                return Err(remote.answered("with a blob of another key"));
            }
            if *self.header.get_or_insert(blob.header()) != blob.header() {
                return Err(SourceError::MaterialChanged);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
