//! Blobs streamed from a running daemon: one call of the batch endpoint for each part, on a
//! connection that is kept.

use crate::bulk::client::{Client, Target};
use crate::bulk::connection::Connection;
use crate::bulk::keys::{KeySource, KeyWorker, RowsError};
use crate::bulk::remote::Remote;
use crate::bulk::{KeyIdentity, SourceError};
use crate::envelope::BlobHeader;
use crate::envelope::blob::{CiphertextBlob, OVERHEAD_BYTES};
use crate::export::mint::Mint;
use crate::key::KeyId;
use crate::key::arn::Arn;
use crate::key::data_key::DataKeyLength;
use crate::stream::data_keys::{BLOB_BYTES, KEY_ARN, KEY_MATERIAL_ID, PATH};
use bytes::{Buf, Bytes};
use http::HeaderMap;
use hyper::body::Incoming;
use serde::Serialize;
use std::collections::BTreeMap;

impl KeySource for Remote<Mint> {
    type Operation = Mint;
    type Worker = RemoteMinter;

    fn key_arn(&self) -> Option<&str> {
        None
    }

    fn worker(&self) -> Result<RemoteMinter, SourceError> {
        Ok(RemoteMinter {
            remote: self.clone(),
            connection: Connection::new(&self.daemons)?,
            stream: None,
        })
    }

    /// The first call of the job shows it.
    fn rehearse(&self, _row: usize) -> Result<(), RowsError> {
        Ok(())
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

impl Remote<Mint> {
    fn blob_bytes(&self) -> usize {
        OVERHEAD_BYTES + self.work.length.bytes()
    }

    fn request(&self, client: &Client, rows: u64) -> Result<Bytes, SourceError> {
        let (key_spec, number_of_bytes) = match self.work.length {
            DataKeyLength::AES_256 => (Some("AES_256"), None),
            DataKeyLength::AES_128 => (Some("AES_128"), None),
            length => (None, Some(length.bytes())),
        };
        let body = serde_json::to_vec(&DataKeysRequest {
            key_id: &self.work.key,
            key_spec,
            number_of_bytes,
            encryption_context: self.work.context.pairs().collect(),
            count: rows,
        });
        body.map(Bytes::from).map_err(|error| client.broken(&error))
    }

    /// Checks that the head of an answer promises the rows that the request asks for.
    fn check_head(
        &self,
        client: &Client,
        headers: &HeaderMap,
        rows: u64,
    ) -> Result<(KeyIdentity, KeyId), SourceError> {
        let text = |name: &'static str| {
            let value = headers.get(name).and_then(|value| value.to_str().ok());
            value.ok_or_else(|| client.answered(format!("without {name}")))
        };
        let is = |name: &'static str, expected: u64| match text(name)?.parse::<u64>() {
            Ok(value) if value == expected => Ok(()),
            _ => Err(client.answered(format!("{name} {}, not {expected}", text(name)?))),
        };
        is(BLOB_BYTES, self.blob_bytes() as u64)?;
        is("content-length", rows * self.blob_bytes() as u64)?;
        let arn = text(KEY_ARN)?;
        let key_id = Arn::split(arn)
            .and_then(|arn| arn.resource.strip_prefix("key/")?.parse().ok())
            .ok_or_else(|| client.answered(format!("{KEY_ARN} {arn}")))?;
        let key = KeyIdentity {
            arn: arn.to_owned(),
            material_id: text(KEY_MATERIAL_ID)?.to_owned(),
        };
        Ok((key, key_id))
    }
}

/// One connection, and the part that is on its way over it.
pub struct RemoteMinter {
    remote: Remote<Mint>,
    connection: Connection,
    stream: Option<Stream>,
}

/// The blobs of one part.
struct Stream {
    body: Incoming,
    /// The key that the answer's head names.
    key: KeyIdentity,
    key_id: KeyId,
    /// Received, not yet handed on.
    rest: Bytes,
    /// Bytes still to be received or handed on.
    bytes_left: u64,
    /// That of the first blob, which all must have.
    header: Option<BlobHeader>,
}

impl KeyWorker for RemoteMinter {
    type Operation = Mint;

    fn begin(&mut self, rows: u64) -> Result<(), SourceError> {
        let remote = &self.remote;
        let target = Target {
            path: PATH,
            operation: None,
            content_type: "application/json",
            accept: "application/octet-stream",
        };
        let request = remote.request(self.connection.client(), rows)?;
        let response = self.connection.call(&target, request)?;
        let (head, body) = response.into_parts();
        let (key, key_id) = remote.check_head(self.connection.client(), &head.headers, rows)?;
        self.stream = Some(Stream {
            body,
            key,
            key_id,
            rest: Bytes::new(),
            bytes_left: rows * remote.blob_bytes() as u64,
            header: None,
        });
        Ok(())
    }

    fn work(&mut self, count: usize, out: &mut Vec<u8>) -> Result<KeyIdentity, RowsError> {
        let Self {
            remote,
            connection,
            stream,
        } = self;
        let Some(stream) = stream else {
            return Err(connection.client().answered("no part").into());
        };
        let from = out.len();
        stream.read(connection, count * remote.blob_bytes(), out)?;
        stream.check(connection.client(), &out[from..], remote.blob_bytes())?;
        Ok(stream.key.clone())
    }

    fn end(&mut self) -> Result<(), SourceError> {
        let connection = &mut self.connection;
        let Some(mut stream) = self.stream.take() else {
            return Err(connection.client().answered("no part"));
        };
        let mut is_more = stream.bytes_left > 0 || !stream.rest.is_empty();
        // The end of the body must be seen, or the connection cannot be used again.
        while let Some(data) = connection.next(&mut stream.body)? {
            is_more |= !data.is_empty();
            if is_more {
                break;
            }
        }
        match is_more {
            true => Err(connection.client().answered("with more than was asked for")),
            false => Ok(()),
        }
    }
}

impl Stream {
    /// Appends the next `bytes` bytes.
    fn read(
        &mut self,
        connection: &mut Connection,
        bytes: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), SourceError> {
        let mut left = bytes;
        while left > 0 {
            if self.rest.is_empty() {
                let next = connection.next(&mut self.body)?;
                self.rest = next.ok_or_else(|| {
                    let ended =
                        format_args!("the stream ended {} bytes before its end", self.bytes_left);
                    connection.client().broken(&ended)
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

    /// Every blob is one of the key's, and all are under one generation of its material.
    fn check(
        &mut self,
        client: &Client,
        blobs: &[u8],
        blob_bytes: usize,
    ) -> Result<(), SourceError> {
        let none = "with bytes that are not a ciphertext blob";
        for blob in blobs.chunks_exact(blob_bytes) {
            let blob = CiphertextBlob::parse(blob).map_err(|_| client.answered(none))?;
            if blob.header().key_id != self.key_id {
                return Err(client.answered("with a blob of another key"));
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
