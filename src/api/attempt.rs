//! One attempt at a request: the principal, the snapshot and the clone word that it works under.
//!
//! A request that hands something out compares, as its last act, the revision (and with it every
//! fence) and the clone word that it worked under with the present ones (POOL-4, POOL-5). If they
//! have moved, it is attempted again from the start, twice at most.

use crate::api::members::Members;
use crate::api::resolve::Caller;
use crate::api::{Api, ApiError, Requester};
use crate::audit::Source;
use crate::clock::Timestamp;
use crate::key::KeyId;
use crate::key::regions::Region;
use crate::keystore::{Change, Snapshot};
use crate::operation::Action;
use crate::policy::{Circumstances, Principal};
use crate::pool::thread_number;
use crate::rates::Paid;
use std::borrow::Cow;
use std::cell::RefCell;
use std::sync::Arc;

/// Attempts of a request whose snapshot may move under it. The last one is a last section from its
/// beginning: changes wait for it, so that a caller that keeps changing the store cannot starve the
/// requests of others.
pub(super) const ATTEMPTS_MAX: usize = 3;

/// What a request works under, until its last check.
pub(crate) struct Attempt<'a> {
    pub(crate) api: &'a Api,
    pub(crate) snapshot: &'a Snapshot,
    pub(crate) clone_word: u64,
    pub(crate) principal: Cow<'a, Arc<Principal>>,
    pub(crate) source: Source,
    pub(crate) secure_transport: bool,
    pub(crate) region: &'a Region,
    pub(crate) now: Timestamp,
    /// What the request has paid, over all of its attempts.
    pub(crate) paid: RefCell<Paid>,
}

impl Attempt<'_> {
    /// The caller, as it asks for this action.
    pub(crate) fn caller(&self, action: Action) -> Caller<'_> {
        Caller {
            principal: &self.principal,
            action,
            region: self.region,
            context: None,
            members: Members::None,
            circumstances: Circumstances {
                now: self.now,
                source_ip: self.source.ip(),
                secure_transport: self.secure_transport,
                region: &self.region.name,
            },
        }
    }
}

/// Clients repeat a call that fails so.
fn unknown() -> ApiError {
    ApiError::internal("it is unknown what the store holds: see /ready")
}

impl Api {
    /// An attempt on this snapshot, for the principal as it is now.
    pub(crate) fn attempt<'a>(
        &'a self,
        requester: &'a Requester,
        snapshot: &'a Snapshot,
    ) -> Result<Attempt<'a>, ApiError> {
        if self.keystore.halt().is_unknown() {
            return Err(unknown());
        }
        let now = self.clock.now();
        Ok(Attempt {
            api: self,
            principal: requester.current(snapshot, now)?,
            source: requester.source,
            secure_transport: requester.secure_transport,
            region: self.keystore.regions().get(requester.region),
            now,
            snapshot,
            clone_word: self.clone_word.read(),
            paid: RefCell::default(),
        })
    }

    /// Reads for the principal as it is now. Nothing secret is in the outcome, so no last check
    /// holds it back.
    pub(crate) fn read<T>(
        &self,
        requester: &Requester,
        work: impl FnOnce(&Attempt<'_>) -> Result<T, ApiError>,
    ) -> Result<T, ApiError> {
        let snapshot = self.keystore.snapshot();
        work(&self.attempt(requester, &snapshot)?)
    }

    /// Works for the principal as it is now, on one snapshot and under one clone word, and lets the
    /// outcome go only if neither has moved since (POOL-4, POOL-5).
    ///
    /// The last attempt may let it go under a snapshot that has moved: the change that moved it is
    /// not answered before this attempt is over, which costs that change the time of one chunk.
    pub(crate) fn under_last_check<T>(
        &self,
        requester: &Requester,
        work: impl FnMut(&Attempt<'_>) -> Result<T, ApiError>,
    ) -> Result<T, ApiError> {
        self.under_last_check_of(requester, &RefCell::default(), work)
    }

    /// As [`Self::under_last_check`], for a request that may have paid already, and may come again.
    pub(crate) fn under_last_check_of<T>(
        &self,
        requester: &Requester,
        paid: &RefCell<Paid>,
        mut work: impl FnMut(&Attempt<'_>) -> Result<T, ApiError>,
    ) -> Result<T, ApiError> {
        for number in 1..=ATTEMPTS_MAX {
            let enter = || self.last_check.enter(thread_number());
            let whole = (number == ATTEMPTS_MAX).then(enter);
            let snapshot = self.keystore.snapshot();
            let attempt = self.attempt(requester, &snapshot)?;
            attempt.paid.swap(paid);
            let outcome = work(&attempt);
            attempt.paid.swap(paid);
            let outcome = outcome?;
            #[cfg(test)]
            crate::api::tests::between_work_and_last_check();
            let is_waited_for = whole.is_some();
            let _section = whole.unwrap_or_else(enter);
            // The work may have taken longer than the store may be silent.
            if self.keystore.halt().is_unknown() {
                return Err(unknown());
            }
            let is_current = is_waited_for || self.keystore.revision() == snapshot.revision;
            if is_current && self.clone_word.read() == attempt.clone_word {
                return Ok(outcome);
            }
        }
        Err(ApiError::internal(
            "the machine kept being cloned during the request",
        ))
    }

    /// Decides a change for the principal as it is then, again if another node was first, makes it
    /// durable and published, and returns once no request that began before can still pass its last
    /// check. The pooled keys of `changed`, and of those related to it, are dropped.
    pub(crate) async fn change<T>(
        &self,
        requester: &Requester,
        changed: Option<KeyId>,
        mut decide: impl FnMut(&Attempt<'_>) -> Result<(Vec<Change>, T), ApiError>,
    ) -> Result<T, ApiError> {
        self.changed(requester, |attempt| {
            let (changes, outcome) = decide(attempt)?;
            Ok((changes, (changed, outcome)))
        })
        .await
    }

    /// As [`Self::change`], of a key that only the newest state of the store may have.
    pub(crate) async fn change_key<T>(
        &self,
        requester: &Requester,
        mut decide: impl FnMut(&Attempt<'_>) -> Result<(KeyId, Vec<Change>, T), ApiError>,
    ) -> Result<T, ApiError> {
        self.changed(requester, |attempt| {
            let (key, changes, outcome) = decide(attempt)?;
            Ok((changes, (Some(key), outcome)))
        })
        .await
    }

    async fn changed<T>(
        &self,
        requester: &Requester,
        mut decide: impl FnMut(&Attempt<'_>) -> Result<(Vec<Change>, (Option<KeyId>, T)), ApiError>,
    ) -> Result<T, ApiError> {
        let decide = |snapshot: &Snapshot| decide(&self.attempt(requester, snapshot)?);
        let (changed, outcome) = self.keystore.apply(decide).await?;
        if let Some(key) = changed {
            self.pool.purge(key);
        }
        let last_check = Arc::clone(&self.last_check);
        // It waits for other threads, which must not wait for this one.
        let quiet = tokio::task::spawn_blocking(move || last_check.quiesce());
        quiet.await.map_err(ApiError::internal)?;
        Ok(outcome)
    }
}
