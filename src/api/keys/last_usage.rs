//! `GetKeyLastUsage`: what the audit log has of a key's uses.

use crate::api::admission::Ask;
use crate::api::key_changes::KeyInput;
use crate::api::wire::{self, Object};
use crate::api::{Answer, Api, ApiError, Requester};
use crate::operation::Action;
use std::sync::Arc;

/// `GetKeyLastUsage`. Whatever was answered before it came in counts.
pub(in crate::api) async fn get(api: Arc<Api>, requester: Requester, body: Vec<u8>) -> Answer {
    let input: KeyInput<'_> = wire::decode(&body)?;
    let key = input.key()?;
    let entry = api.read(&requester, |attempt| {
        let admitted = attempt.admit(Ask::on(Action::GetKeyLastUsage, &key), |_| Ok(()))?;
        Ok(Arc::clone(admitted.entry()))
    })?;
    let key = entry.key.regional_id();
    let known = api.audit.last_use(key, &api.keystore).await;
    let (since, last) = known.map_err(ApiError::internal)?;
    let created = entry.key.creation_date;
    let mut usage = Object::new();
    if let Some(last) = last {
        usage.plain("Operation", last.operation.name());
        // The log has whole seconds, and nothing is used before it is there.
        usage.time("Timestamp", last.time.max(created));
        usage.text("CloudTrailEventId", &last.event_id);
        usage.text("KmsRequestId", &last.request_id);
    }
    let mut object = Object::new();
    object.plain("KeyId", &entry.arn);
    object.object("KeyLastUsage", usage);
    object.time("TrackingStartDate", since.max(created));
    object.time("KeyCreationDate", created);
    Ok(object.end().about(&entry))
}
