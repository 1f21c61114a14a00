//! The store as a whole, which the operator reads for a check or a backup, and when that was.

use crate::api::trail::Event;
use crate::api::{Answer, Api, ApiError, ErrorCode, Reply, Requester, wire};
use crate::keystore::KeystoreError;
use crate::keystore::last_backup::{Backup, StoreReading};
use serde::Deserialize;
use serde_json::json;
use std::sync::Arc;

/// The operation whose answer is the store.
pub const READ_STORE: &str = "ReadStore";

impl Api {
    /// `ReadStore`: the store as it is now, from its first record to its last.
    ///
    /// # Errors
    /// [`ApiError`]: it is refused or failed, or cannot be recorded.
    pub async fn read_store(
        self: &Arc<Self>,
        requester: &Requester,
        body: &[u8],
    ) -> Result<StoreReading, ApiError> {
        self.check_recordable()?;
        let begun = begin(self, body).await;
        let event = Event::own(READ_STORE, true, body);
        match begun {
            Ok(reading) => {
                let told = self.told(requester, event, Ok(Reply::empty()));
                told.await.map(|_| reading)
            }
            Err(error) => match self.told(requester, event, Err(error)).await {
                Err(error) => Err(error),
                Ok(_) => Err(ApiError::internal("a refusal was lost")),
            },
        }
    }
}

async fn begin(api: &Api, body: &[u8]) -> Result<StoreReading, ApiError> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Input {}
    let Input {} = wire::decode(body)?;
    api.keystore.read_all().await.map_err(|error| {
        let code = match error {
            KeystoreError::BeingRead { .. } => ErrorCode::LimitExceededException,
            _ => ErrorCode::KMSInternalException,
        };
        // The operator is told the cause.
        ApiError::new(code, error.to_string())
    })
}

/// `RecordBackup`: the operator has a verified backup of the store at this revision.
pub(super) fn record(api: &Api, body: &[u8]) -> Answer {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields, rename_all = "PascalCase")]
    struct Input {
        revision: u64,
    }
    let Input { revision } = wire::decode(body)?;
    let present = api.keystore.revision();
    if revision > present {
        let said = format!("Revision is {revision}, and the store is at {present}");
        return Err(ApiError::new(ErrorCode::ValidationException, said));
    }
    let backup = Backup::at(api.clock.now(), revision);
    api.keystore.record_backup(backup)?;
    Ok(Reply::of(&json!({ "MadeAt": backup.unix_seconds })))
}
