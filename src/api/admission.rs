//! What every request about a key goes through, in this order, before its operation is performed:
//!
//! 1. The key is found.
//! 2. The caller is authorized, by policies and grants.
//! 3. Grant tokens are checked.
//! 4. Members that do not go together are refused.
//! 5. The origin of the key's material, then its usage, then its state must be one that the
//!    operation takes.
//! 6. The operation prepares: it refuses algorithms, key specs and lengths that do not fit.
//! 7. The request is charged against the limits.
//! 8. A dry run is answered; where the operation's work is the check, it is answered after the
//!    work, in the place of the result.
//!
//! This is the order of AWS KMS, as far as it is measured. Operations differ in their facts
//! ([`crate::operation::words`]), not in the order. `ReEncrypt` goes through it with two keys at
//! once, each step for both.

use crate::api::attempt::Attempt;
use crate::api::blob_key::{self, KeyOfBlob};
use crate::api::key_reference::KeyReference;
use crate::api::members::Members;
use crate::api::resolve::OnKey;
use crate::api::usability::{origin, replica, state, usage};
use crate::api::{Answer, ApiError, ErrorCode, Reply};
use crate::context::EncryptionContext;
use crate::keystore::KeyEntry;
use crate::operation::{Action, Operation};
use crate::policy::Authorized;
use std::borrow::Cow;
use std::sync::Arc;

/// What a request asks of one key.
#[derive(Clone, Copy)]
pub(crate) struct Ask<'a> {
    action: Action,
    key: AskedKey<'a>,
    also: Option<&'a str>,
    context: Option<&'a EncryptionContext>,
    members: Members<'a>,
    grant_tokens: &'a [Cow<'a, str>],
    dry_run: bool,
    conflict: Option<fn() -> ApiError>,
}

/// How a request names the key.
#[derive(Clone, Copy)]
enum AskedKey<'a> {
    ByReference(&'a KeyReference<'a>),
    ByBlob(KeyOfBlob<'a>),
    /// By something else, which has been followed to the key.
    Found(&'a Arc<KeyEntry>),
}

impl<'a> Ask<'a> {
    /// This action on the key of this reference.
    pub(crate) fn on(action: Action, key: &'a KeyReference<'a>) -> Self {
        Self::new(action, AskedKey::ByReference(key))
    }

    /// This action on the key that a blob was made under.
    pub(crate) fn on_key_of(action: Action, blob: KeyOfBlob<'a>) -> Self {
        Self::new(action, AskedKey::ByBlob(blob))
    }

    /// This action on a key that has been found already.
    pub(crate) fn on_found(action: Action, entry: &'a Arc<KeyEntry>) -> Self {
        Self::new(action, AskedKey::Found(entry))
    }

    fn new(action: Action, key: AskedKey<'a>) -> Self {
        Self {
            action,
            key,
            also: None,
            context: None,
            members: Members::None,
            grant_tokens: &[],
            dry_run: false,
            conflict: None,
        }
    }

    /// On the resource of this ARN too.
    pub(crate) fn and_on(self, arn: &'a str) -> Self {
        let also = Some(arn);
        Self { also, ..self }
    }

    /// With this encryption context.
    pub(crate) fn context(self, context: &'a EncryptionContext) -> Self {
        let context = Some(context);
        Self { context, ..self }
    }

    /// With what conditions ask of the request's other members.
    pub(crate) fn members(self, members: Members<'a>) -> Self {
        Self { members, ..self }
    }

    /// With these grant tokens.
    pub(crate) fn grant_tokens(self, grant_tokens: &'a [Cow<'a, str>]) -> Self {
        Self {
            grant_tokens,
            ..self
        }
    }

    /// As a dry run, if the request asks for one.
    pub(crate) fn dry_run(self, dry_run: bool) -> Self {
        Self { dry_run, ..self }
    }

    /// With members that do not go together, if there is such a refusal.
    pub(crate) fn conflict(self, conflict: Option<fn() -> ApiError>) -> Self {
        Self { conflict, ..self }
    }
}

/// A request about one key that may be performed.
pub(crate) struct Admitted<'a, P> {
    pub(crate) authorized: Authorized<OnKey<'a>>,
    /// What the operation prepared.
    pub(crate) prepared: P,
    /// Whether the result is to be kept back, since only a dry run was asked for.
    is_dry_run: bool,
}

impl<'a, P> Admitted<'a, P> {
    /// The key.
    pub(crate) fn entry(&self) -> &'a Arc<KeyEntry> {
        self.authorized.request().entry()
    }

    /// The answer: this reply, as one about the key, or that of a dry run.
    pub(crate) fn answer(&self, reply: Reply) -> Answer {
        if self.is_dry_run {
            return Err(would_have_succeeded());
        }
        Ok(reply.about(self.entry()))
    }
}

impl Attempt<'_> {
    /// Takes a request about one key through all steps. `prepare` is the sixth.
    pub(crate) fn admit<'s, P>(
        &'s self,
        ask: Ask<'s>,
        mut prepare: impl FnMut(&'s Arc<KeyEntry>) -> Result<P, ApiError>,
    ) -> Result<Admitted<'s, P>, ApiError> {
        let [admitted] = self.admit_all([ask], |_, entry| prepare(entry))?;
        Ok(admitted)
    }

    /// Takes a request about several keys through all steps, each step for all of them. `prepare`
    /// gets the number of the key, from 0.
    pub(crate) fn admit_all<'s, P, const KEYS: usize>(
        &'s self,
        asks: [Ask<'s>; KEYS],
        mut prepare: impl FnMut(usize, &'s Arc<KeyEntry>) -> Result<P, ApiError>,
    ) -> Result<[Admitted<'s, P>; KEYS], ApiError> {
        // 1 and 2: a caller that may not use a key learns no more about it.
        let mut authorized = [const { None }; KEYS];
        for (found, ask) in authorized.iter_mut().zip(&asks) {
            *found = Some(self.authorized(ask)?);
        }
        let authorized = authorized.map(|found| found.expect("each key was looked for"));
        let entries = authorized.each_ref().map(|found| found.request().entry());
        // 3: each of the asks has all tokens of the request.
        for ask in &asks {
            self.check_grant_tokens(ask.grant_tokens)?;
        }
        // 4 to 6: conflict, state and usage, for one key after the other.
        let mut prepared = [const { None }; KEYS];
        for (at, (ask, entry)) in asks.iter().zip(entries).enumerate() {
            if let Some(refusal) = ask.conflict {
                return Err(refusal());
            }
            check_key(entry, ask.action)?;
            prepared[at] = Some(prepare(at, entry)?);
        }
        // 7: once for the caller, and once for each key.
        for (ask, entry) in asks.iter().zip(entries) {
            if ask.action.facts().is_limited {
                self.charge(Some(entry.key.regional_id()))?;
            }
        }
        // 8: a dry run ends here, unless the operation works in dry runs too.
        let is_dry_run = asks.iter().any(|ask| ask.dry_run);
        let works = asks.iter().any(|ask| ask.action.facts().works_in_dry_runs);
        if is_dry_run && !works {
            return Err(would_have_succeeded());
        }
        let mut prepared = prepared.into_iter().flatten();
        Ok(authorized.map(|authorized| Admitted {
            authorized,
            prepared: prepared.next().expect("each key was prepared"),
            is_dry_run,
        }))
    }

    fn authorized<'s>(&'s self, ask: &Ask<'s>) -> Result<Authorized<OnKey<'s>>, ApiError> {
        let mut caller = self.caller(ask.action).with(ask.members);
        if let Some(context) = ask.context {
            caller = caller.under(context);
        }
        let authorized = match ask.key {
            AskedKey::ByReference(key) if ask.action.facts().takes_alias => {
                caller.key(key, self.snapshot)
            }
            AskedKey::ByReference(key) => caller.key_not_alias(key, self.snapshot),
            AskedKey::ByBlob(blob) => blob_key::authorize(caller, blob, self.snapshot),
            AskedKey::Found(entry) => caller.authorize_key(entry, self.snapshot),
        }?;
        if let Some(arn) = ask.also {
            caller.authorize(arn)?;
        }
        Ok(authorized)
    }

    /// Takes a request about no key through the steps that it has: authorization and limits.
    /// `prepare` runs between them.
    pub(crate) fn admit_alone<P>(
        &self,
        action: Action,
        members: Members<'_>,
        prepare: impl FnOnce() -> Result<P, ApiError>,
    ) -> Result<P, ApiError> {
        self.caller(action).with(members).authorize("*")?;
        let prepared = prepare()?;
        if action.facts().is_limited {
            self.charge(None)?;
        }
        Ok(prepared)
    }
}

/// Whether the key is one that the operation of this action takes: step 5.
pub(crate) fn check_key(entry: &KeyEntry, action: Action) -> Result<(), ApiError> {
    let facts = action.facts();
    if let Some(needed) = facts.origin {
        origin(entry, needed)?;
    }
    let name = action
        .operation()
        .map_or(action.bare_name(), Operation::name);
    if entry.key.is_replica() && !facts.on_replicas {
        return Err(replica(entry, name));
    }
    if let Some(needed) = facts.keys.usage() {
        usage(entry, needed, name)?;
    }
    state(entry, facts.states)
}

/// The answer of a dry run that found no fault.
pub(crate) fn would_have_succeeded() -> ApiError {
    let message = "The request would have succeeded, but the DryRun option is set.";
    ApiError::new(ErrorCode::DryRunOperationException, message)
}
