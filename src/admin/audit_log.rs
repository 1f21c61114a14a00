//! The audit log, as the operator asks for its head and acknowledges it.

use crate::api::{Answer, Api, ApiError, ErrorCode, Reply, wire};
use serde::Deserialize;

/// `DescribeAuditLog`: the head of the durable log.
pub(super) fn describe(api: &Api, body: &[u8]) -> Answer {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Input {}
    let Input {} = wire::decode(body)?;
    Ok(Reply::of(&api.audit.head().to_json()))
}

/// `AcknowledgeAuditLog`: the operator takes the log's beginning after this group for good.
/// Nothing is done but that it is recorded, in the log itself.
pub(super) fn acknowledge(api: &Api, body: &[u8]) -> Answer {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields, rename_all = "PascalCase")]
    struct Input {
        log: String,
        group: u64,
    }
    let Input { log, group } = wire::decode(body)?;
    let head = api.audit.head();
    let now = head.to_json();
    if now["Log"] != log || group > head.group {
        let said = "Log and Group are not of the log as it is now";
        return Err(ApiError::new(ErrorCode::ValidationException, said));
    }
    Ok(Reply::of(&now))
}
