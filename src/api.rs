//! The operations: a table of data, and what each does between the decoded request and the encoded
//! reply.
//!
//! A request runs once from left to right: decode, resolve the key, authorize, check its state,
//! take and bind, encode; and as its last act it compares the revision (and with it every fence)
//! and the clone word that it worked under with the present ones (POOL-4, POOL-5). If they moved it
//! starts again from resolving the key, twice at most. The order of checks is that of AWS KMS:
//! model validation, lookup, authorization, what the members ask for together, state, limits,
//! `DryRun`, work.
//!
//! What this module does not do: know HTTP, or who the caller is (that is `auth`); it is handed a
//! principal.

use crate::audit::{Audit, Source};
use crate::clock::{Clock, Timestamp};
use crate::crypto::entropy::Entropy;
use crate::key::KeyId;
use crate::key::arn::Region;
use crate::key::data_key::DataKeyLength;
use crate::keystore::{Change, Keystore, Snapshot};
use crate::metrics::Metrics;
use crate::operation::Action;
use crate::operation::Operation;
use crate::policy::{Circumstances, Principal};
use crate::pool::{CloneWord, LastCheck, Pool, thread_number};
use crate::rates::{Rates, Scope};
use members::Members;
use resolve::Caller;
use std::borrow::Cow;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

mod aliases;
mod charge;
pub(crate) mod cipher;
pub(crate) mod decrypt;
mod encrypt;
pub mod error;
pub(crate) mod generate;
mod grant_tokens;
mod grants;
mod handler;
mod imports;
mod key_pairs;
mod key_policies;
pub(crate) mod keys;
mod macs;
pub(crate) mod marker;
pub(crate) mod members;
mod own_thread;
mod public_keys;
mod re_encrypt;
mod reply;
mod request_id;
mod requester;
pub(crate) mod resolve;
mod rotation;
mod signatures;
mod tags;
pub(crate) mod trail;
pub(crate) mod usability;
pub(crate) mod validation;
pub(crate) mod wire;

pub use error::{ApiError, KmsErrorCode};
pub use handler::is_built;
pub use reply::Reply;
pub use request_id::RequestId;
pub use requester::Requester;

pub(crate) use reply::Resources;

use crate::policy::steps::briefly;
use handler::{Handler, handler};
use own_thread::Turns;
use trail::Event;
use usability::{invalid_state, state};

/// What an operation ends with.
pub(crate) type Answer = Result<Reply, ApiError>;

/// Attempts of a request whose snapshot may move under it. The last one is a last section from its
/// beginning: changes wait for it, so that whoever keeps changing the store ends nobody's request.
const ATTEMPTS_MAX: usize = 3;

/// What the operations work on.
pub struct Parts {
    /// Keys, aliases, principals.
    pub keystore: Arc<Keystore>,
    /// Pooled keys.
    pub pool: Arc<Pool>,
    /// Whether the machine or process may have a twin.
    pub clone_word: Arc<CloneWord>,
    /// Randomness.
    pub entropy: Arc<Entropy>,
    /// Time.
    pub clock: Clock,
    /// Keys a second.
    pub rates: Rates,
    /// Where every call is recorded.
    pub audit: Arc<Audit>,
}

/// The operations.
pub struct Api {
    parts: Parts,
    /// The last section of requests.
    last_check: Arc<LastCheck>,
    pub(crate) counters: Counters,
    turns: Turns,
    /// Refused calls that have no record, since the last record of one.
    unrecorded: AtomicU64,
}

impl Deref for Api {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.parts
    }
}

impl Api {
    /// The operations on these parts.
    #[must_use]
    pub fn new(parts: Parts, metrics: &Metrics) -> Arc<Self> {
        Arc::new(Self {
            parts,
            last_check: Arc::default(),
            counters: Counters::new(metrics),
            turns: Turns::new(),
            unrecorded: AtomicU64::new(0),
        })
    }

    /// Performs `operation` for `requester` with the JSON `body`. A change of the store runs to its
    /// end even when this future is dropped.
    ///
    /// # Errors
    /// [`ApiError`], in the order of checks of AWS KMS.
    pub async fn call(
        self: &Arc<Self>,
        operation: Operation,
        requester: &Requester,
        body: &[u8],
    ) -> Result<Reply, ApiError> {
        let answer = match handler(operation) {
            // What is rare is boxed: the future of every call would have room for it.
            Handler::AtOnce(handler) => match briefly(|| handler(self, requester, body)) {
                Err(error) if error.is_undecided() => {
                    Box::pin(self.at_length(requester, body, move |api, who, body| {
                        handler(api, who, body)
                    }))
                    .await
                }
                answer => answer,
            },
            Handler::Waiting(handler) => Box::pin(self.waiting(handler, requester, body)).await,
            Handler::Changing(handler) => {
                let (api, requester, body) = (Arc::clone(self), requester.clone(), body.to_vec());
                let change = async move {
                    api.check_recordable()?;
                    let answer = api.waiting(handler, &requester, &body).await;
                    let event = Event::of(operation, &body);
                    api.told(&requester, event, answer).await
                };
                return tokio::spawn(change).await.map_err(ApiError::internal)?;
            }
            Handler::Weighing(handler) => self.weighed(handler, requester, body).await,
            Handler::Unbuilt => Err(unsupported(operation.name())),
        };
        self.told(requester, Event::of(operation, body), answer)
            .await
    }

    pub(crate) fn under<'a>(
        &'a self,
        requester: &'a Requester,
        snapshot: &'a Snapshot,
    ) -> Result<Under<'a>, ApiError> {
        if self.keystore.halt().is_unknown() {
            return Err(ApiError::internal(
                "it is unknown what the store holds: see /ready",
            ));
        }
        let now = self.clock.now();
        Ok(Under {
            principal: requester.current(snapshot, now)?,
            source: requester.source,
            secure_transport: requester.secure_transport,
            region: self.keystore.region(),
            now,
            snapshot,
            clone_word: self.clone_word.read(),
        })
    }

    /// Works for the principal as it is now, on one snapshot and under one clone word, and lets the
    /// outcome go only if neither has moved since (POOL-4, POOL-5).
    ///
    /// The last attempt may let it go under a snapshot that has moved: the change that moved it is
    /// not answered before this attempt is over, which costs that change the time of one chunk.
    pub(crate) fn under_last_check<T>(
        &self,
        requester: &Requester,
        mut work: impl FnMut(&Under<'_>) -> Result<T, ApiError>,
    ) -> Result<T, ApiError> {
        for attempt in 1..=ATTEMPTS_MAX {
            let enter = || self.last_check.enter(thread_number());
            let whole = (attempt == ATTEMPTS_MAX).then(enter);
            let snapshot = self.keystore.snapshot();
            let under = self.under(requester, &snapshot)?;
            let outcome = work(&under)?;
            #[cfg(test)]
            tests::between_work_and_last_check();
            let is_waited_for = whole.is_some();
            let _section = whole.unwrap_or_else(enter);
            let is_current = is_waited_for || self.keystore.revision() == snapshot.revision;
            if is_current && self.clone_word.read() == under.clone_word {
                return Ok(outcome);
            }
        }
        Err(ApiError::internal(
            "the machine kept being cloned during the request",
        ))
    }

    /// Decides a change for the principal as he is then, makes it durable and published, and
    /// returns once no request that began before can still pass its last check. The pooled keys of
    /// `changed` are dropped.
    pub(crate) async fn change<T>(
        &self,
        requester: &Requester,
        changed: Option<KeyId>,
        decide: impl FnOnce(&Under<'_>) -> Result<(Vec<Change>, T), ApiError>,
    ) -> Result<T, ApiError> {
        let decide = |snapshot: &Snapshot| decide(&self.under(requester, snapshot)?);
        let outcome = self.keystore.apply(decide).await?;
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

/// What a request works under, until its last check.
pub(crate) struct Under<'a> {
    pub(crate) snapshot: &'a Snapshot,
    pub(crate) clone_word: u64,
    pub(crate) principal: Cow<'a, Arc<Principal>>,
    pub(crate) source: Source,
    pub(crate) secure_transport: bool,
    pub(crate) region: &'a Region,
    pub(crate) now: Timestamp,
}

impl Under<'_> {
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

fn unsupported(what: &str) -> ApiError {
    let message = format!("{what} is not supported.");
    ApiError::new(KmsErrorCode::UnsupportedOperationException, message)
}

fn dry_run(asked: Option<bool>) -> Result<(), ApiError> {
    if asked != Some(true) {
        return Ok(());
    }
    Err(would_have_succeeded())
}

fn would_have_succeeded() -> ApiError {
    let message = "The request would have succeeded, but the DryRun option is set.";
    ApiError::new(KmsErrorCode::DryRunOperationException, message)
}

/// Where a data key came from.
#[derive(Clone, Copy)]
enum Origin {
    /// Its lane had none: it was minted at once.
    Miss,
    /// The pool.
    Hit,
    /// No lane was asked: its length has none, the pool is off or shut down, or it is one of many.
    Direct,
}

impl Origin {
    const LABELS: [&'static str; 3] = ["miss", "hit", "direct"];
}

/// The specs that are counted.
const SPECS: [&str; 3] = ["AES_256", "AES_128", "BYTES"];

fn spec_of(length: DataKeyLength) -> usize {
    match length {
        DataKeyLength::AES_256 => 0,
        DataKeyLength::AES_128 => 1,
        _ => 2,
    }
}

/// Data keys handed out one by one, by spec and origin; registered once.
struct DataKeyCounters([[metrics::Counter; Origin::LABELS.len()]; SPECS.len()]);

impl DataKeyCounters {
    fn new(metrics: &Metrics, operation: &'static str) -> Self {
        let of = |spec, result| metrics.data_keys(operation, spec, result);
        Self(SPECS.map(|spec| Origin::LABELS.map(|result| of(spec, result))))
    }

    fn count(&self, length: DataKeyLength, origin: Origin) {
        self.0[spec_of(length)][origin as usize].increment(1);
    }
}

/// Data keys of batches or streams, by spec; they empty no lane.
pub(crate) struct BulkCounters([metrics::Counter; SPECS.len()]);

impl BulkCounters {
    fn new(metrics: &Metrics, operation: &'static str) -> Self {
        let result = Origin::LABELS[Origin::Direct as usize];
        Self(SPECS.map(|spec| metrics.data_keys(operation, spec, result)))
    }

    pub(crate) fn count(&self, length: DataKeyLength, keys: u64) {
        self.0[spec_of(length)].increment(keys);
    }
}

pub(crate) struct Counters {
    pairs: key_pairs::PairCounters,
    without_plaintext: DataKeyCounters,
    with_plaintext: DataKeyCounters,
    pub(crate) batch: BulkCounters,
    pub(crate) bind: BulkCounters,
    /// By [`Scope`].
    throttled: [metrics::Counter; Scope::LABELS.len()],
    throttled_refused: metrics::Counter,
    undecided: metrics::Counter,
}

impl Counters {
    fn new(metrics: &Metrics) -> Self {
        Self {
            pairs: key_pairs::PairCounters::new(metrics),
            without_plaintext: DataKeyCounters::new(metrics, "GenerateDataKeyWithoutPlaintext"),
            with_plaintext: DataKeyCounters::new(metrics, "GenerateDataKey"),
            batch: BulkCounters::new(metrics, "DataKeys"),
            bind: BulkCounters::new(metrics, "Bind"),
            throttled: Scope::LABELS.map(|scope| metrics.throttled(scope)),
            throttled_refused: metrics.throttled("refused"),
            undecided: metrics.policy_undecided(),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
