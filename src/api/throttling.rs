//! Takes a request's keys from the limits: after it was authorized and found a usable key, before
//! its work.
//!
//! So a refused caller takes nothing from the limit of a key that it may not use. The operator has
//! no limits, as no policy limits the operator.

use crate::api::attempt::Attempt;
use crate::api::{Api, ApiError, ErrorCode};
use crate::key::regions::RegionalId;
use crate::policy::Principal;
use crate::rates::{Exceeded, Paid, Urgency};
use std::sync::atomic::Ordering;

impl Attempt<'_> {
    /// Takes one key for a single request: from the caller's limit, and from that of the KMS key if
    /// there is one. What a request has paid outlives its attempts.
    pub(super) fn charge(&self, key: Option<RegionalId>) -> Result<(), ApiError> {
        let mut paid = self.paid.borrow_mut();
        self.api
            .take(&self.principal, key, 1, Urgency::Online, &mut paid)
            .map_err(|exceeded| self.api.throttled(exceeded))
    }
}

impl Api {
    pub(crate) fn take(
        &self,
        principal: &Principal,
        key: Option<RegionalId>,
        keys: u64,
        urgency: Urgency,
        paid: &mut Paid,
    ) -> Result<(), Exceeded> {
        if principal.is_operator() {
            return Ok(());
        }
        let now = self.clock.monotonic();
        self.rates
            .take(&principal.arn, key, keys, urgency, now, paid)
    }

    /// Takes a refused call from the caller's limit: it is recorded, and a caller without rights
    /// must not be able to fill the disk. The operator has no limits.
    ///
    /// # Errors
    /// The refusal to answer with instead, without a record; the next record of a refused call says
    /// so.
    pub(crate) fn take_refused(&self, principal: &Principal) -> Result<(), ApiError> {
        let now = self.clock.monotonic();
        if principal.is_operator() || self.rates.take_refused(&principal.arn, now).is_ok() {
            return Ok(());
        }
        self.unrecorded.fetch_add(1, Ordering::Relaxed);
        self.counters.throttled_refused.increment(1);
        Err(ApiError::new(
            ErrorCode::ThrottlingException,
            "Too many of your calls were refused. Reduce the frequency of your calls.",
        ))
    }

    /// Counts a refusal, in the shape that SDKs retry.
    pub(crate) fn throttled(&self, exceeded: Exceeded) -> ApiError {
        self.counters.throttled[exceeded.scope as usize].increment(1);
        too_many_calls()
    }
}

/// The refusal of a call beyond a rate, in AWS's words.
pub(super) fn too_many_calls() -> ApiError {
    ApiError::new(
        ErrorCode::ThrottlingException,
        "You have exceeded the rate at which you may call KMS. Reduce the frequency of your calls.",
    )
}
