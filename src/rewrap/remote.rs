//! Blobs opened and sealed by a running daemon, with the caller's rights: `ReEncrypt` for each row, several under way at once.

use crate::bulk::client::{Connections, Target};
use crate::bulk::{Daemon, KeyIdentity, SourceError};
use crate::context::EncryptionContext;
use crate::envelope::CiphertextBlob;
use crate::rewrap::sealer::{Row, SealError, Sealer, Source};
use arrow_array::builder::BinaryBuilder;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// Calls that are made before the first refusal among them ends the job.
const CALLS: usize = 512;

/// A daemon that re-encrypts.
pub struct Remote {
    /// The daemon.
    pub daemon: Daemon,
    /// The destination as the caller names it.
    pub key: String,
}

impl Source for Remote {
    type Sealer = RemoteSealer;

    fn key_arn(&self) -> Option<&str> {
        None
    }

    fn sealer(&self) -> Result<RemoteSealer, SourceError> {
        Ok(RemoteSealer {
            connections: self.daemon.connections()?,
            key: self.key.clone(),
        })
    }
}

/// Seals over connections of its own.
pub struct RemoteSealer {
    connections: Connections,
    key: String,
}

/// The pairs of a context as a JSON object.
#[must_use]
pub fn pairs(context: &EncryptionContext) -> Map<String, Value> {
    let pairs = context.pairs();
    pairs
        .map(|(name, value)| (name.to_owned(), value.into()))
        .collect()
}

/// A blob as JSON has it.
#[must_use]
pub fn base64(blob: &[u8]) -> String {
    base64_simd::STANDARD.encode_to_string(blob)
}

impl Sealer for RemoteSealer {
    fn begin(&mut self, _rows: u64) {}

    fn seal(
        &mut self,
        rows: &[Row<'_>],
        out: &mut BinaryBuilder,
    ) -> Result<KeyIdentity, SealError> {
        let mut key: Option<KeyIdentity> = None;
        for (number, rows) in rows.chunks(CALLS).enumerate() {
            let bodies = rows.iter().map(|row| {
                let body = json!({
                    "CiphertextBlob": base64(row.blob),
                    "SourceEncryptionContext": pairs(&row.context),
                    "DestinationKeyId": self.key,
                    "DestinationEncryptionContext": pairs(row.destination()),
                });
                Bytes::from(body.to_string())
            });
            let bodies: Vec<_> = bodies.collect();
            let answers = self
                .connections
                .call_all(&Target::kms("ReEncrypt"), &bodies);
            for (at, answer) in answers.into_iter().enumerate() {
                let answer = answer.map_err(|error| match error {
                    SourceError::Refused { code, message } => SealError::Row {
                        at: number * CALLS + at,
                        code,
                        message,
                    },
                    error => error.into(),
                })?;
                let (of_row, blob) = self.read(&answer)?;
                if *key.get_or_insert_with(|| of_row.clone()) != of_row {
                    return Err(SourceError::MaterialChanged.into());
                }
                out.append_value(blob);
            }
        }
        let none = || self.connections.daemon().answered("no rows");
        Ok(key.ok_or_else(none)?)
    }

    fn end(&mut self) -> Result<(), SourceError> {
        Ok(())
    }
}

impl RemoteSealer {
    fn read(&self, answer: &[u8]) -> Result<(KeyIdentity, Vec<u8>), SourceError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Answer {
            ciphertext_blob: String,
            key_id: String,
            destination_key_material_id: String,
        }
        let odd = || {
            let daemon = self.connections.daemon();
            daemon.answered("with what is no answer to ReEncrypt")
        };
        let answer: Answer = serde_json::from_slice(answer).map_err(|_| odd())?;
        let blob = base64_simd::STANDARD.decode_to_vec(answer.ciphertext_blob);
        let blob = blob.map_err(|_| odd())?;
        CiphertextBlob::parse(&blob).map_err(|_| odd())?;
        let key = KeyIdentity {
            arn: answer.key_id,
            material_id: answer.destination_key_material_id,
        };
        Ok((key, blob))
    }
}
