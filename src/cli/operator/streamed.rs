//! A long answer of the daemon, whose bytes are taken as they come.

use crate::backup::BackupError;
use crate::backup::Chunks;
use crate::cli::failure::Failure;
use crate::cli::operator::{ADMIN_PATH, begin, refused_answer, silent};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http_body_util::BodyExt;
use std::path::Path;
use std::time::Duration;
use tokio::time::timeout;

/// A daemon that sends nothing for so long is taken for dead.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// Calls an operation in the home Region, and returns the bytes of its answer.
///
/// # Errors
/// [`Failure`], with the code and message of the refusal.
pub(in crate::cli) async fn streamed(socket: &Path, operation: &str) -> Result<Chunks, Failure> {
    let path = format!("{ADMIN_PATH}{operation}");
    let begun = timeout(SILENCE_MAX, begin(socket, path, b"{}".to_vec()));
    let response = begun.await.map_err(|_| silent(socket, &no_byte()))??;
    if !response.status().is_success() {
        return Err(refused_answer(socket, response).await);
    }
    let body = response.into_body();
    let chunks = stream::unfold(Some(body), |body| async {
        let mut body = body?;
        match timeout(SILENCE_MAX, body.frame()).await {
            Ok(None) => None,
            Ok(Some(Ok(frame))) => {
                let bytes = frame.into_data().unwrap_or_else(|_| Bytes::new());
                Some((Ok(bytes), Some(body)))
            }
            Ok(Some(Err(error))) => Some((Err(error.to_string()), None)),
            Err(_) => Some((Err(no_byte()), None)),
        }
    });
    Ok(chunks.boxed())
}

fn no_byte() -> String {
    format!("no byte for {} seconds", SILENCE_MAX.as_secs())
}

impl From<BackupError> for Failure {
    fn from(error: BackupError) -> Self {
        match error {
            BackupError::Keystore(error) => error.into(),
            BackupError::InUse { .. } => Self::unavailable(error),
            error => Self::failed(error),
        }
    }
}
