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

use crate::attestation::Attestations;
use crate::audit::Audit;
use crate::clock::Clock;
use crate::crypto::entropy::Entropy;
use crate::key::data_key::DataKeyLength;
use crate::keystore::Keystore;
use crate::metrics::Metrics;
use crate::operation::Operation;
use crate::pool::{CloneWord, LastCheck, Pool};
use crate::rates::{Rates, Scope};
use crate::web_identity::WebIdentities;
use crate::xks_proxy::Proxies;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use zeroize::Zeroizing;

pub(crate) mod admission;
mod aliases;
pub(crate) mod attempt;
pub(crate) mod blob_key;
pub(crate) mod cipher;
pub(crate) mod decrypt;
mod dispatch;
mod encapsulation;
mod encrypt;
pub mod error;
pub(crate) mod generate;
mod grant_tokens;
mod grants;
mod handler;
mod imports;
mod key_changes;
mod key_pairs;
mod key_policies;
pub(crate) mod key_reference;
mod key_stores;
pub(crate) mod keys;
mod macs;
pub(crate) mod marker;
pub(crate) mod members;
mod own_thread;
mod proxied;
mod proxy_call;
mod proxy_refusal;
mod public_keys;
mod random;
mod re_encrypt;
mod reach;
mod recipient;
mod relay;
mod reply;
mod request_id;
mod requester;
pub(crate) mod resolve;
mod rotation;
mod signatures;
mod tags;
mod throttling;
pub(crate) mod trail;
pub(crate) mod usability;
pub(crate) mod validation;
pub(crate) mod wire;

pub use crate::error_code::ErrorCode;
pub use error::ApiError;
pub use reply::Reply;
pub use request_id::RequestId;
pub use requester::Requester;

pub(crate) use reply::Resources;

use crate::policy::steps::briefly;
use dispatch::handler;
use handler::Handler;
use own_thread::Turns;
use trail::Event;
use usability::invalid_state;

/// What an operation ends with.
pub(crate) type Answer = Result<Reply, ApiError>;

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
    /// Other issuers whose tokens are taken.
    pub web_identities: WebIdentities,
    /// Whose attestation documents are believed.
    pub attestations: Attestations,
    /// External key store proxies that may be called.
    pub xks_proxies: Proxies,
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
            // The rare case is boxed: otherwise the future of every call would have room for it.
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
                // It may have a credential of an external key store proxy.
                let body = Zeroizing::new(body.to_vec());
                let (api, requester) = (Arc::clone(self), requester.clone());
                let change = async move {
                    api.check_recordable()?;
                    let answer = api.waiting(handler, &requester, &body).await;
                    let event = Event::of(operation, &body);
                    api.told(&requester, event, answer).await
                };
                return tokio::spawn(change).await.map_err(ApiError::internal)?;
            }
            Handler::Weighing(handler) => self.weighed(handler, requester, body).await,
            Handler::Relaying(handler) => self.relayed(handler, operation, requester, body).await,
        };
        self.told(requester, Event::of(operation, body), answer)
            .await
    }
}

fn unsupported(what: &str) -> ApiError {
    let message = format!("{what} is not supported.");
    ApiError::new(ErrorCode::UnsupportedOperationException, message)
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
