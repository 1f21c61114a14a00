//! Asks a proxy how it is.

use crate::api::proxy_refusal::Unhealthy;
use crate::api::reach::Reach;
use crate::api::{Api, ApiError};
use crate::keystore::KeyStoreEntry;
use crate::operation::Operation;
use crate::xks_proxy::{HealthStatus, RequestMetadata};

impl Api {
    /// Whether the proxy of a key store answers, and one key manager behind it serves at least. The
    /// outer error is one of this daemon.
    pub(super) async fn probe(
        &self,
        store: &KeyStoreEntry,
        operation: Operation,
        request_id: &str,
    ) -> Result<Result<(), Unhealthy>, ApiError> {
        let reach = Reach::of(self, store)?;
        let metadata = RequestMetadata {
            principal: "",
            operation: operation.name(),
            request_id,
            key_arn: None,
            via_service: None,
        };
        let health = self.xks_proxies.health(&reach.store(), &metadata).await;
        Ok(match health {
            Err(error) => Err(Unhealthy::Failed(error)),
            Ok(health) => {
                let serves = |status: &HealthStatus| *status != HealthStatus::Unavailable;
                let any = health.managers.iter().any(serves);
                any.then_some(()).ok_or(Unhealthy::AllUnavailable)
            }
        })
    }
}
