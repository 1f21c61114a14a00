//! Requests: whatever the body holds, every operation that changes nothing answers or refuses, and never with a failure of its own.
//!
//! The input's first byte chooses the operation, or the batch; the rest is the body.

#![no_main]

use keymill::api::{self, Api, ApiError, Parts, Requester};
use keymill::audit::{self, Audit};
use keymill::clock::Clock;
use keymill::crypto::entropy::Entropy;
use keymill::key::arn::Region;
use keymill::keystore::{Keystore, RootKey};
use keymill::limit::{self, Limits};
use keymill::metrics::Metrics;
use keymill::policy::Principal;
use keymill::pool::{self, CloneWord, Pool};
use libfuzzer_sys::fuzz_target;
use std::sync::{Arc, LazyLock};
use tokio::runtime::Runtime;

const OPERATIONS: [&str; 12] = [
    "Decrypt",
    "DescribeKey",
    "Encrypt",
    "GenerateDataKey",
    "GenerateDataKeyWithoutPlaintext",
    "GenerateRandom",
    "GetKeyRotationStatus",
    "ListAliases",
    "ListKeyRotations",
    "ListKeys",
    "ListResourceTags",
    "ReEncrypt",
];

struct Daemon {
    runtime: Runtime,
    api: Arc<Api>,
    requester: Requester,
}

static DAEMON: LazyLock<Daemon> = LazyLock::new(|| start().expect("a daemon in a new folder"));

/// An inside of a daemon with one key that has a name.
fn start() -> Result<Daemon, Box<dyn std::error::Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let folder = tempfile::tempdir()?.keep();
    let metrics = Arc::new(Metrics::new()?);
    let entropy = Arc::new(Entropy::os());
    let root = RootKey::create(&folder.join("root.key"), &entropy)?;
    let region = Region {
        partition: "aws".to_owned(),
        name: "us-east-1".to_owned(),
    };
    let parts = (Arc::clone(&entropy), Arc::clone(&metrics));
    let path = folder.join("keystore.db");
    let keystore = runtime.block_on(Keystore::create(&path, &root, region, parts.0, parts.1))?;
    let (clock, clone_word) = (Clock::system(), Arc::new(CloneWord::new()));
    let config = pool::Config {
        enabled: false,
        ..pool::Config::default()
    };
    let parts = (Arc::clone(&entropy), clock.clone(), Arc::clone(&clone_word));
    let pool = Pool::new(config, parts.0, parts.1, parts.2, &metrics)?;
    let log = audit::Config {
        path: folder.join("audit"),
        // A fuzzer is faster than a disk.
        journal_bytes: 256 << 20,
        ..audit::Config::default()
    };
    let audit = Audit::open(
        &log,
        audit::key(&root),
        None,
        clock.clone(),
        &entropy,
        &metrics,
    )?;
    let parts = Parts {
        keystore: Arc::new(keystore),
        pool,
        clone_word,
        entropy,
        clock,
        limits: Limits::new(&limit::Config::default()),
        audit: Arc::new(audit),
    };
    let api = Api::new(parts, &metrics);
    let principal = Principal::operator(0, "111122223333".parse()?);
    let daemon = Daemon {
        runtime,
        api,
        requester: Requester::local(principal),
    };
    daemon.call("CreateKey", b"{}").expect("a key");
    let snapshot = daemon.api.keystore.snapshot();
    let id = snapshot.keys.keys().next().expect("the key");
    let alias = format!(r#"{{"AliasName":"alias/a","TargetKeyId":"{id}"}}"#);
    daemon
        .call("CreateAlias", alias.as_bytes())
        .expect("a name");
    Ok(daemon)
}

impl Daemon {
    fn call(&self, name: &str, body: &[u8]) -> Result<(), ApiError> {
        let operation = api::operation(name).expect("an operation");
        let call = self.api.call(operation, &self.requester, body);
        self.runtime.block_on(call).map(drop)
    }

    fn batch(&self, body: &[u8]) -> Result<(), ApiError> {
        let mut batch = self.api.data_keys(&self.requester, body)?;
        batch.next_chunk(&mut Vec::new()).map(drop)
    }
}

fuzz_target!(|bytes: &[u8]| {
    let Some((which, body)) = bytes.split_first() else {
        return;
    };
    let places = OPERATIONS.len() + 1;
    let answer = match OPERATIONS.get(usize::from(*which) % places) {
        Some(name) => DAEMON.call(name, body),
        None => DAEMON.batch(body),
    };
    if let Err(error) = answer {
        assert!(error.code().status().is_client_error(), "{error:?}");
    }
});
