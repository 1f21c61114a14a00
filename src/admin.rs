//! The operator's own operations, which AWS KMS leaves to IAM or does not have: principals, their
//! access keys and sessions, what a policy would decide, all keys at once, the audit log, and the
//! store as a whole.
//!
//! What this module does not do: decide who is an operator (that is `transport`), or the operations
//! of AWS KMS (that is `api`).

use crate::api::trail::Event;
use crate::api::{Answer, Api, ApiError, ErrorCode, Reply, Requester};
use std::sync::Arc;

mod access_keys;
mod audit_log;
mod backups;
mod daemon_status;
mod keys;
mod listing;
mod lookup;
mod policy_check;
mod principals;
mod sessions;
mod trust;

/// The operator's own operations by their names, for tables by operation.
pub const ADMINISTRATION: [&str; 18] = [
    "AcknowledgeAuditLog",
    "CheckPolicy",
    "CreateAccessKey",
    "CreatePrincipal",
    "CreateSession",
    "DeleteAccessKey",
    "DeletePrincipal",
    "DescribeAuditLog",
    "DescribeKeys",
    "DescribePrincipal",
    "DisablePrincipal",
    "EnablePrincipal",
    "ListPrincipals",
    "PutPrincipalPolicies",
    "PutPrincipalTags",
    "PutTrustPolicy",
    "RecordBackup",
    "UpdateAccessKey",
];

pub use backups::READ_STORE;
pub use daemon_status::DESCRIBE_DAEMON;

/// Whether an operation changes the store.
fn changes(operation: &str) -> bool {
    ![
        "CheckPolicy",
        "DescribeAuditLog",
        "DescribeKeys",
        "DescribePrincipal",
        "ListPrincipals",
    ]
    .contains(&operation)
}

impl Api {
    /// Performs one of the operator's own operations, [`ADMINISTRATION`]. A change of the store
    /// runs to its end even when this future is dropped.
    ///
    /// # Errors
    /// [`ApiError`]: the operation is refused or failed, or cannot be recorded.
    pub async fn administer(
        self: &Arc<Self>,
        operation: &str,
        requester: &Requester,
        body: &[u8],
    ) -> Result<Reply, ApiError> {
        let (api, requester, body) = (Arc::clone(self), requester.clone(), body.to_vec());
        let operation = operation.to_owned();
        let change = async move {
            api.check_recordable()?;
            let answer = perform(&api, &operation, &requester, &body).await;
            let event = Event::own(&operation, !changes(&operation), &body);
            api.told(&requester, event, answer).await
        };
        tokio::spawn(change).await.map_err(ApiError::internal)?
    }
}

async fn perform(api: &Arc<Api>, operation: &str, operator: &Requester, body: &[u8]) -> Answer {
    match operation {
        "AcknowledgeAuditLog" => audit_log::acknowledge(api, body),
        "CheckPolicy" => {
            let (api, operator, body) = (Arc::clone(api), operator.clone(), body.to_vec());
            // A decision may take all of its steps, and keeps a thread busy for that long.
            let check = move || policy_check::check(&api, &operator, &body);
            let checked = tokio::task::spawn_blocking(check).await;
            checked.unwrap_or_else(|error| Err(ApiError::internal(error)))
        }
        "DescribeAuditLog" => audit_log::describe(api, body),
        "DescribeKeys" => keys::describe(api, operator, body),
        "CreatePrincipal" => principals::create(api, operator, body).await,
        "ListPrincipals" => listing::list(api, body),
        "RecordBackup" => backups::record(api, body),
        "DescribePrincipal" => listing::describe(api, operator, body),
        "DisablePrincipal" => principals::enable(api, operator, body, false).await,
        "EnablePrincipal" => principals::enable(api, operator, body, true).await,
        "DeletePrincipal" => principals::delete(api, operator, body).await,
        "PutPrincipalPolicies" => principals::put_policies(api, operator, body).await,
        "PutPrincipalTags" => principals::put_tags(api, operator, body).await,
        "PutTrustPolicy" => trust::put(api, operator, body).await,
        "CreateAccessKey" => access_keys::create(api, operator, body).await,
        "UpdateAccessKey" => access_keys::update(api, operator, body).await,
        "DeleteAccessKey" => access_keys::delete(api, operator, body).await,
        "CreateSession" => sessions::create(api, operator, body),
        _ => Err(ApiError::bare(ErrorCode::UnknownOperationException)),
    }
}

#[cfg(test)]
mod tests;
