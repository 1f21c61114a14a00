//! `DescribeDaemon`: what `/status` says, for the operator at the daemon's own socket.

use crate::api::trail::Event;
use crate::api::{Answer, Api, ApiError, Reply, Requester, wire};
use serde::Deserialize;
use serde_json::Value;
use std::sync::Arc;

/// The operation.
pub const DESCRIBE_DAEMON: &str = "DescribeDaemon";

impl Api {
    /// `DescribeDaemon`, of which `status` is the answer.
    ///
    /// # Errors
    /// [`ApiError`]: it is refused or failed, or cannot be recorded.
    pub async fn describe_daemon(
        self: &Arc<Self>,
        requester: &Requester,
        body: &[u8],
        status: impl FnOnce() -> Value + Send + 'static,
    ) -> Result<Reply, ApiError> {
        let answer = described(body, status).await;
        let event = Event::own(DESCRIBE_DAEMON, true, body);
        self.told(requester, event, answer).await
    }
}

async fn described(body: &[u8], status: impl FnOnce() -> Value + Send + 'static) -> Answer {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Input {}
    let Input {} = wire::decode(body)?;
    // It walks over all keys.
    let status = tokio::task::spawn_blocking(status).await;
    Ok(Reply::of(&status.map_err(ApiError::internal)?))
}
