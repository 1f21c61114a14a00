//! The operations: a table of data, and what each does between the decoded request and the encoded reply.
//!
//! A request runs once from left to right: decode, resolve the key, authorize, check its state, take and bind, encode; and as its last act it
//! compares the revision (and with it every fence) and the clone word that it worked under with the present ones (POOL-4, POOL-5). If they moved it starts
//! again from resolving the key, twice at most. The order of checks is that of AWS KMS: model validation, lookup, authorization, what the members ask for
//! together, state, limits, `DryRun`, work.
//!
//! What this module does not do: know HTTP, or who the caller is (that is `auth`); it is handed a principal.

use crate::clock::{Clock, Timestamp};
use crate::crypto::entropy::Entropy;
use crate::key::InvalidState;
use crate::key::KeyId;
use crate::key::arn::Region;
use crate::key::data_key::DataKeyLength;
use crate::keystore::{Change, KeyEntry, Keystore, Snapshot};
use crate::limit::{Limits, Scope};
use crate::metrics::Metrics;
use crate::policy::{Action, Circumstances, Principal};
use crate::pool::{CloneWord, LastCheck, Pool, thread_number};
use bytes::Bytes;
use members::Members;
use resolve::Caller;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use zeroize::Zeroizing;

mod aliases;
pub mod batch;
mod charge;
mod decrypt;
mod encrypt;
pub mod error;
mod generate;
mod grant_tokens;
mod grants;
mod key_policies;
mod keys;
mod marker;
mod members;
mod principals;
mod resolve;
mod validation;
mod wire;

pub use batch::{Chunk, DataKeys};
pub use error::{ApiError, KmsErrorCode};
pub use principals::ADMINISTRATION;

/// What an operation ends with.
type Answer = Result<Reply, ApiError>;

/// A change under way.
type Changed = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// One row of the operation table.
pub struct Operation {
    /// As `X-Amz-Target` names it after `TrentService.`.
    pub name: &'static str,
    /// Its place in [`OPERATIONS`], for tables by operation.
    pub index: usize,
    handler: Handler,
}

/// How an operation is performed.
#[derive(Clone, Copy)]
enum Handler {
    /// Without waiting for anything.
    AtOnce(fn(&Api, &Requester, &[u8]) -> Answer),
    /// By changing the store: runs to its end whatever becomes of the caller.
    Changing(fn(Arc<Api>, Requester, Vec<u8>) -> Changed),
    /// Known to AWS KMS, not built here.
    Unbuilt,
}

macro_rules! changing {
    ($function:path) => {
        Handler::Changing(|api, requester, body| Box::pin($function(api, requester, body)))
    };
}

/// Every operation of the service model, built or not.
pub static OPERATIONS: [Operation; 54] = table([
    ("CancelKeyDeletion", changing!(keys::cancel_deletion)),
    ("ConnectCustomKeyStore", Handler::Unbuilt),
    ("CreateAlias", changing!(aliases::create)),
    ("CreateCustomKeyStore", Handler::Unbuilt),
    ("CreateGrant", changing!(grants::create)),
    ("CreateKey", changing!(keys::create)),
    ("Decrypt", Handler::AtOnce(decrypt::decrypt)),
    ("DeleteAlias", changing!(aliases::delete)),
    ("DeleteCustomKeyStore", Handler::Unbuilt),
    ("DeleteImportedKeyMaterial", Handler::Unbuilt),
    ("DeriveSharedSecret", Handler::Unbuilt),
    ("DescribeCustomKeyStores", Handler::Unbuilt),
    ("DescribeKey", Handler::AtOnce(keys::describe)),
    ("DisableKey", changing!(keys::disable)),
    ("DisableKeyRotation", Handler::Unbuilt),
    ("DisconnectCustomKeyStore", Handler::Unbuilt),
    ("EnableKey", changing!(keys::enable)),
    ("EnableKeyRotation", Handler::Unbuilt),
    ("Encrypt", Handler::AtOnce(encrypt::encrypt)),
    ("GenerateDataKey", Handler::AtOnce(generate::with_plaintext)),
    ("GenerateDataKeyPair", Handler::Unbuilt),
    ("GenerateDataKeyPairWithoutPlaintext", Handler::Unbuilt),
    (
        "GenerateDataKeyWithoutPlaintext",
        Handler::AtOnce(generate::without_plaintext),
    ),
    ("GenerateMac", Handler::Unbuilt),
    ("GenerateRandom", Handler::AtOnce(encrypt::random)),
    ("GetKeyLastUsage", Handler::Unbuilt),
    ("GetKeyPolicy", Handler::AtOnce(key_policies::get)),
    ("GetKeyRotationStatus", Handler::Unbuilt),
    ("GetParametersForImport", Handler::Unbuilt),
    ("GetPublicKey", Handler::Unbuilt),
    ("ImportKeyMaterial", Handler::Unbuilt),
    ("ListAliases", Handler::AtOnce(aliases::list)),
    ("ListGrants", Handler::AtOnce(grants::listing::of_key)),
    ("ListKeyPolicies", Handler::AtOnce(key_policies::list)),
    ("ListKeyRotations", Handler::Unbuilt),
    ("ListKeys", Handler::AtOnce(keys::list)),
    ("ListResourceTags", Handler::Unbuilt),
    (
        "ListRetirableGrants",
        Handler::AtOnce(grants::listing::retirable),
    ),
    ("PutKeyPolicy", changing!(key_policies::put)),
    ("ReEncrypt", Handler::Unbuilt),
    ("ReplicateKey", Handler::Unbuilt),
    ("RetireGrant", changing!(grants::removal::retire)),
    ("RevokeGrant", changing!(grants::removal::revoke)),
    ("RotateKeyOnDemand", Handler::Unbuilt),
    ("ScheduleKeyDeletion", changing!(keys::schedule_deletion)),
    ("Sign", Handler::Unbuilt),
    ("TagResource", Handler::Unbuilt),
    ("UntagResource", Handler::Unbuilt),
    ("UpdateAlias", changing!(aliases::update)),
    ("UpdateCustomKeyStore", Handler::Unbuilt),
    ("UpdateKeyDescription", Handler::Unbuilt),
    ("UpdatePrimaryRegion", Handler::Unbuilt),
    ("Verify", Handler::Unbuilt),
    ("VerifyMac", Handler::Unbuilt),
]);

const fn table<const N: usize>(rows: [(&'static str, Handler); N]) -> [Operation; N] {
    let mut table = [const {
        Operation {
            name: "",
            index: 0,
            handler: Handler::Unbuilt,
        }
    }; N];
    let mut index = 0;
    while index < N {
        let (name, handler) = rows[index];
        table[index].name = name;
        table[index].index = index;
        table[index].handler = handler;
        index += 1;
    }
    table
}

impl Operation {
    /// Whether the operation is built.
    #[must_use]
    pub fn is_built(&self) -> bool {
        !matches!(self.handler, Handler::Unbuilt)
    }
}

/// Finds an operation by its name; case matters.
#[must_use]
pub fn operation(name: &str) -> Option<&'static Operation> {
    let found = OPERATIONS.binary_search_by(|operation| operation.name.cmp(name));
    found.ok().map(|index| &OPERATIONS[index])
}

/// Restarts of a request whose snapshot moved under it.
const RESTARTS_MAX: usize = 2;

/// What the operations work on.
pub struct Api {
    /// Keys, aliases, principals.
    pub keystore: Arc<Keystore>,
    /// Pooled keys.
    pub pool: Arc<Pool>,
    /// Whether the machine or process may have a twin.
    pub clone_word: Arc<CloneWord>,
    /// The last section of requests.
    pub last_check: Arc<LastCheck>,
    /// Randomness.
    pub entropy: Arc<Entropy>,
    /// Time.
    pub clock: Clock,
    /// Keys a second.
    pub limits: Limits,
    counters: Counters,
}

impl Api {
    /// The operations on these parts.
    #[must_use]
    pub fn new(
        keystore: Arc<Keystore>,
        pool: Arc<Pool>,
        clone_word: Arc<CloneWord>,
        entropy: Arc<Entropy>,
        clock: Clock,
        limits: Limits,
        metrics: &Metrics,
    ) -> Arc<Self> {
        Arc::new(Self {
            keystore,
            pool,
            clone_word,
            last_check: Arc::default(),
            entropy,
            clock,
            limits,
            counters: Counters::new(metrics),
        })
    }

    /// Performs `operation` for `requester` with the JSON `body`. A change of the store runs to its end even when this future is dropped.
    ///
    /// # Errors
    /// [`ApiError`], in the order of checks of AWS KMS.
    pub async fn call(
        self: &Arc<Self>,
        operation: &'static Operation,
        requester: &Requester,
        body: &[u8],
    ) -> Result<Reply, ApiError> {
        match operation.handler {
            Handler::AtOnce(handler) => handler(self, requester, body),
            Handler::Changing(handler) => {
                let change = handler(Arc::clone(self), requester.clone(), body.to_vec());
                tokio::spawn(change).await.map_err(ApiError::internal)?
            }
            Handler::Unbuilt => Err(unsupported(operation.name)),
        }
    }

    /// Performs one of the operator's own operations, [`ADMINISTRATION`].
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn administer(
        self: &Arc<Self>,
        operation: &str,
        requester: &Requester,
        body: &[u8],
    ) -> Result<Reply, ApiError> {
        let (api, requester, body) = (Arc::clone(self), requester.clone(), body.to_vec());
        let operation = operation.to_owned();
        let change =
            async move { principals::administer(&api, &operation, &requester, &body).await };
        tokio::spawn(change).await.map_err(ApiError::internal)?
    }

    fn under<'a>(
        &'a self,
        requester: &'a Requester,
        snapshot: &'a Snapshot,
    ) -> Result<Under<'a>, ApiError> {
        Ok(Under {
            principal: current(&requester.principal, snapshot)?,
            source_ip: requester.source_ip,
            secure_transport: requester.secure_transport,
            region: self.keystore.region(),
            now: self.clock.now(),
            snapshot,
            clone_word: self.clone_word.read(),
        })
    }

    /// Works for the principal as he is now, on one snapshot and under one clone word, and lets the outcome go only if neither has moved since (POOL-4, POOL-5).
    fn under_last_check<T>(
        &self,
        requester: &Requester,
        mut work: impl FnMut(&Under<'_>) -> Result<T, ApiError>,
    ) -> Result<T, ApiError> {
        for _ in 0..=RESTARTS_MAX {
            let snapshot = self.keystore.snapshot();
            let under = self.under(requester, &snapshot)?;
            let outcome = work(&under)?;
            #[cfg(test)]
            tests::between_work_and_last_check();
            let _section = self.last_check.enter(thread_number());
            if self.keystore.revision() == snapshot.revision
                && self.clone_word.read() == under.clone_word
            {
                return Ok(outcome);
            }
        }
        Err(ApiError::internal(
            "the store kept changing during the request",
        ))
    }

    /// Decides a change for the principal as he is then, makes it durable and published, and returns once no request that began before can still pass its
    /// last check. The pooled keys of `changed` are dropped.
    async fn change<T>(
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

/// Who asks, and over what: as the transport knows it.
#[derive(Clone)]
pub struct Requester {
    /// The authenticated principal, as he was then.
    pub principal: Arc<Principal>,
    /// Where the connection comes from (`aws:SourceIp`); none for a Unix socket.
    pub source_ip: Option<IpAddr>,
    /// Whether nobody but the two ends can read the connection (`aws:SecureTransport`).
    pub secure_transport: bool,
}

impl Requester {
    /// Somebody of this process, or at the other end of a Unix socket.
    #[must_use]
    pub fn local(principal: Arc<Principal>) -> Self {
        Self {
            principal,
            source_ip: None,
            secure_transport: true,
        }
    }
}

/// What a request works under, until its last check.
struct Under<'a> {
    snapshot: &'a Snapshot,
    clone_word: u64,
    principal: &'a Arc<Principal>,
    source_ip: Option<IpAddr>,
    secure_transport: bool,
    region: &'a Region,
    now: Timestamp,
}

impl<'a> Under<'a> {
    fn caller(&self, action: &'static str) -> Caller<'a> {
        Caller {
            principal: self.principal,
            action: Action(action),
            region: self.region,
            context: None,
            members: Members::None,
            circumstances: Circumstances {
                now: self.now,
                source_ip: self.source_ip,
                secure_transport: self.secure_transport,
                region: &self.region.name,
            },
        }
    }
}

/// The principal as the snapshot has him: who was authenticated may be gone, or have other rights, by now. The operator is in no store.
fn current<'a>(
    principal: &'a Arc<Principal>,
    snapshot: &'a Snapshot,
) -> Result<&'a Arc<Principal>, ApiError> {
    match snapshot.principals.get(&principal.arn) {
        Some(entry) => Ok(&entry.principal),
        None if principal.is_operator() => Ok(principal),
        None => Err(ApiError::new(
            KmsErrorCode::UnrecognizedClientException,
            "The security token included in the request is invalid.",
        )),
    }
}

/// `DisabledException` or `KMSInvalidStateException` when cryptographic operations may not use the key.
fn state(entry: &KeyEntry) -> Result<(), ApiError> {
    entry
        .key
        .state
        .usable()
        .map_err(|state| invalid_state(entry, state))
}

fn invalid_state(entry: &KeyEntry, state: InvalidState) -> ApiError {
    let code = match state {
        InvalidState::Disabled => KmsErrorCode::DisabledException,
        InvalidState::PendingDeletion | InvalidState::NotPendingDeletion => {
            KmsErrorCode::KMSInvalidStateException
        }
    };
    ApiError::new(code, format!("{} {state}.", entry.arn))
}

fn unsupported(what: &str) -> ApiError {
    let message = format!("{what} is not supported.");
    ApiError::new(KmsErrorCode::UnsupportedOperationException, message)
}

fn dry_run(asked: Option<bool>) -> Result<(), ApiError> {
    if asked != Some(true) {
        return Ok(());
    }
    Err(ApiError::new(
        KmsErrorCode::DryRunOperationException,
        "The request would have succeeded, but the DryRun option is set.",
    ))
}

/// The body of a successful response; wiped when dropped, because it may carry a plaintext data key.
pub struct Reply(Zeroizing<Vec<u8>>);

impl Reply {
    /// Of an operation without output.
    fn empty() -> Self {
        Self(Zeroizing::default())
    }

    /// The JSON text; empty for operations without output.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.0
    }

    /// The text without a copy, still wiped when the last reference is dropped.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        Bytes::from_owner(self.0)
    }
}

/// Data keys handed out, by spec and by whether the pool had one; registered once.
struct DataKeyCounters([[metrics::Counter; 2]; 3]);

impl DataKeyCounters {
    fn new(metrics: &Metrics, operation: &'static str) -> Self {
        Self(
            ["AES_256", "AES_128", "BYTES"].map(|spec| {
                ["miss", "hit"].map(|result| metrics.data_keys(operation, spec, result))
            }),
        )
    }

    fn count(&self, length: DataKeyLength, hit: bool, keys: u64) {
        let spec = match length {
            DataKeyLength::AES_256 => 0,
            DataKeyLength::AES_128 => 1,
            _ => 2,
        };
        self.0[spec][usize::from(hit)].increment(keys);
    }
}

struct Counters {
    without_plaintext: DataKeyCounters,
    with_plaintext: DataKeyCounters,
    batch: DataKeyCounters,
    /// By [`Scope`].
    throttled: [metrics::Counter; Scope::LABELS.len()],
}

impl Counters {
    fn new(metrics: &Metrics) -> Self {
        Self {
            without_plaintext: DataKeyCounters::new(metrics, "GenerateDataKeyWithoutPlaintext"),
            with_plaintext: DataKeyCounters::new(metrics, "GenerateDataKey"),
            batch: DataKeyCounters::new(metrics, "DataKeys"),
            throttled: Scope::LABELS.map(|scope| metrics.throttled(scope)),
        }
    }
}

#[cfg(test)]
mod tests;
