//! What several targets need: the inside of a daemon in a folder of its own, and a verifier.
//!
//! A fuzzer ends without destructors, in its ordinary end too: `fuzz/run` gives it a folder for
//! temporary files, and removes that.

use keymill::api::{Api, ApiError, Parts, Requester};
use keymill::attestation::{Attestations, Roots};
use keymill::audit::{self, Audit};
use keymill::clock::Clock;
use keymill::crypto::entropy::Entropy;
use keymill::key::regions::Regions;
use keymill::keystore::{Keystore, RootKeyFile};
use keymill::metrics::Metrics;
use keymill::operation::Operation;
use keymill::policy::Principal;
use keymill::pool::{self, CloneWord, Pool};
use keymill::rates::{self, Rates};
use keymill::web_identity::WebIdentities;
use keymill::xks_proxy::Proxies;
use keymill::xks::Target;
use std::error::Error;
use std::sync::Arc;
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

pub mod tables;
pub mod verifier;

/// The account of the one who asks.
pub const ACCOUNT: &str = "111122223333";

/// The operations on a new store, without a pool, and the operator, who may do everything.
pub struct Inside {
    pub api: Arc<Api>,
    pub requester: Requester,
    runtime: Runtime,
    /// Removed when this is dropped.
    _folder: TempDir,
}

impl Inside {
    /// An empty store.
    pub fn new() -> Result<Self, Box<dyn Error>> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let folder = tempfile::tempdir()?;
        let metrics = Arc::new(Metrics::new()?);
        let entropy = Arc::new(Entropy::os());
        let root = RootKeyFile::clear(&folder.path().join("root.key")).create(&entropy)?;
        let regions = Regions::new("aws", "us-east-1", ["us-west-2"]);
        let parts = (Arc::clone(&entropy), Arc::clone(&metrics));
        let path = folder.path().join("keystore.db");
        let keystore =
            runtime.block_on(Keystore::create(&path, &root, regions.clone(), parts.0, parts.1))?;
        let (clock, clone_word) = (Clock::system(), Arc::new(CloneWord::new()));
        let config = pool::Config {
            enabled: false,
            ..pool::Config::default()
        };
        let parts = (Arc::clone(&entropy), clock.clone(), Arc::clone(&clone_word));
        let pool = Pool::new(config, parts.0, parts.1, parts.2, &metrics)?;
        let log = audit::Config {
            path: folder.path().join("audit"),
            // A fuzzer is faster than a disk.
            journal_bytes: 64 << 20,
            ..audit::Config::default()
        };
        let audit = Audit::open(
            &log,
            audit::key(&root),
            None,
            &regions,
            clock.clone(),
            &entropy,
            &metrics,
        )?;
        let parts = Parts {
            keystore: Arc::new(keystore),
            pool,
            web_identities: WebIdentities::none(&clock, &metrics),
            attestations: Attestations::new(Roots::default(), &metrics),
            xks_proxies: Proxies::none(&clock),
            clone_word,
            entropy,
            clock,
            rates: Rates::new(&rates::Config::default(), &regions),
            audit: Arc::new(audit),
        };
        let principal = Principal::operator(0, ACCOUNT.parse()?);
        Ok(Self {
            api: Api::new(parts, &metrics),
            requester: Requester::local(principal),
            runtime,
            _folder: folder,
        })
    }

    /// Performs an operation, and returns the text of its answer.
    pub fn call(&self, name: &str, body: &[u8]) -> Result<Vec<u8>, ApiError> {
        let operation = Operation::named(name).expect("an operation");
        let call = self.api.call(operation, &self.requester, body);
        let reply = self.runtime.block_on(call)?;
        Ok(reply.body().to_vec())
    }

    /// Performs an operation of an external key store, and returns the text of its answer.
    pub fn call_xks(&self, target: &Target<'_>, body: &[u8]) -> Result<Vec<u8>, ApiError> {
        let call = self.api.call_xks(target, &self.requester, body);
        let reply = self.runtime.block_on(call)?;
        Ok(reply.body().to_vec())
    }

    /// The text of a member of what an operation answers, wherever in it that is; for what must
    /// succeed.
    pub fn member(&self, name: &str, body: &str, member: &str) -> Result<String, Box<dyn Error>> {
        let answer = self.call(name, body.as_bytes());
        let answer = answer.map_err(|error| format!("{name} {body}: {}", error.message()))?;
        let answer = String::from_utf8(answer)?;
        let begin = format!("\"{member}\":\"");
        let (_, rest) = answer.split_once(&begin).ok_or(begin.clone())?;
        let (value, _) = rest.split_once('"').ok_or(begin)?;
        Ok(value.to_owned())
    }

    /// A new key's id.
    pub fn key(&self, members: &str) -> Result<String, Box<dyn Error>> {
        self.member("CreateKey", members, "KeyId")
    }
}
