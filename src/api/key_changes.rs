//! What requests about one key have in common: the input that names it, and changes of it.

use crate::api::admission::Ask;
use crate::api::key_reference::KeyReference;
use crate::api::validation::Violations;
use crate::api::wire::{self, Text};
use crate::api::{Answer, Api, ApiError, Reply, Requester};
use crate::key::KmsKey;
use crate::keystore::{Change, KeyEntry};
use std::borrow::Cow;
use std::sync::Arc;

wire::input! {
    pub(super) struct KeyInput<'a> {
        pub(super) key_id: Text<'a>,
        pub(super) grant_tokens: Option<Vec<Cow<'a, str>>>,
        pub(super) pending_window_in_days: Option<i64>,
    }
}

impl KeyInput<'_> {
    /// The key, for an operation that asks for nothing else.
    pub(super) fn key(&self) -> Result<KeyReference<'_>, ApiError> {
        let mut violations = Violations::default();
        let key = violations.key_id("keyId", &self.key_id);
        violations.check(key)
    }

    /// The key and the grant tokens, for an operation that asks for both.
    pub(super) fn key_and_tokens(&self) -> Result<(KeyReference<'_>, &[Cow<'_, str>]), ApiError> {
        let mut violations = Violations::default();
        let key = violations.key_id("keyId", &self.key_id);
        let grant_tokens = violations.grant_tokens(&self.grant_tokens);
        violations.check((key, grant_tokens))
    }
}

/// Changes at most `most` keys at a time, until fewer are left; returns how many were changed.
pub(super) async fn in_turns<F: Future<Output = Result<usize, ApiError>>>(
    most: usize,
    mut some: impl FnMut() -> F,
) -> Result<usize, ApiError> {
    let mut count = 0;
    loop {
        let changed = some().await?;
        count += changed;
        if changed < most {
            return Ok(count);
        }
    }
}

impl Api {
    /// Ends what was done with these keys because it was due: the keys that were pooled under them
    /// go, and it is recorded and logged as `event`.
    pub(super) fn did_when_due(&self, event: &'static str, entries: &[Arc<KeyEntry>]) {
        for entry in entries {
            self.pool.purge(entry.key.id);
            self.tell_service_event(event, entry);
            tracing::info!(key_id = %entry.key.id, event, "done: its date had come");
        }
    }
}

/// Changes the description, policy or other facts of a key, but not its state and material. Does
/// nothing if they are so already.
pub(super) async fn edit(
    api: &Api,
    requester: &Requester,
    ask: Ask<'_>,
    edited: impl Fn(&KmsKey) -> Result<KmsKey, ApiError>,
) -> Answer {
    api.change(requester, None, |attempt| {
        let admitted = attempt.admit(ask, |_| Ok(()))?;
        let entry = admitted.entry();
        let key = edited(&entry.key)?;
        let changes = if key == entry.key {
            Vec::new()
        } else {
            vec![Change::PutKey(entry.with_key(key))]
        };
        Ok((changes, admitted.answer(Reply::empty())?))
    })
    .await
}
