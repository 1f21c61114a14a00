//! The operations against a real store: exact codes, messages and the order of checks.
//!
//! Source of codes and messages: the wire contract of AWS KMS; each test names what it is about.

use super::*;
use crate::api::attempt::ATTEMPTS_MAX;
use crate::api::handler::Handler;
use crate::attestation::Roots;
use crate::audit;
use crate::audit::Source;
use crate::clock::Timestamp;
use crate::crypto::entropy::faulty::FaultyEntropy;
use crate::crypto::pair::PairSpec;
use crate::key::KeyId;
use crate::key::regions::{Region, Regions};
use crate::key::spec::KeySpec;
use crate::keystore::Change;
use crate::keystore::{RootKey, RootKeyFile};
use crate::policy::Principal;
use crate::pool;
use crate::rates;
use crate::web_identity::{WebIdentities, issuer};
use crate::xks_proxy::{self, Proxies};
use inside::Inside;
use serde_json::{Value, json};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

mod accounts;
mod china;
mod conditions;
mod contract;
mod decisions;
mod decrypt;
mod dry_runs;
mod enumerations;
pub(crate) mod fence;
mod grants;
mod held;
mod imports;
mod inside;
mod key_pairs;
mod key_policies;
pub(crate) mod key_stores;
mod key_types;
mod last_usage;
pub(crate) mod limits;
mod manage;
mod multi_region;
mod names;
mod order;
mod re_encrypt;
mod recipient;
mod regions;
mod rotation;
mod states;
mod steps;
mod store;
mod tags;
mod trail;

pub(crate) const ACCOUNT: &str = "111122223333";
pub(crate) const OTHER: &str = "444455556666";
pub(crate) const NOW: Timestamp = Timestamp(1_700_000_000_123_456);
pub(crate) const UNKNOWN: &str = "1234abcd-12ab-34cd-56ef-1234567890ab";

thread_local! {
    static BETWEEN: RefCell<Option<Box<dyn FnMut()>>> = const { RefCell::new(None) };
}

/// Runs what a test has put between a request's work and its last check.
pub(super) fn between_work_and_last_check() {
    if let Some(mut act) = BETWEEN.with_borrow_mut(Option::take) {
        act();
        BETWEEN.set(Some(act));
    }
}

/// A daemon's inside: a store in a folder, the operations on it, and principals.
pub(crate) struct Bench {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) api: Arc<Api>,
    pub(crate) faults: FaultyEntropy,
    pub(crate) metrics: Metrics,
    pub(crate) admin: Arc<Principal>,
}

impl Bench {
    pub(crate) async fn new() -> Self {
        Self::with_rates(&rates::Config {
            refused_calls_per_second: 0,
            ..rates::Config::default()
        })
        .await
    }

    pub(crate) async fn with_rates(rates: &rates::Config) -> Self {
        Self::with(rates, &BTreeMap::new()).await
    }

    /// With other issuers of identities, whose keys the test has to have fetched.
    pub(crate) async fn with(
        rates: &rates::Config,
        issuers: &BTreeMap<String, issuer::Config>,
    ) -> Self {
        Self::with_roots(rates, issuers, Roots::default()).await
    }

    /// With roots whose attestation documents are believed.
    pub(crate) async fn with_roots(
        rates: &rates::Config,
        issuers: &BTreeMap<String, issuer::Config>,
        roots: Roots,
    ) -> Self {
        let (region, hosts) = (("aws", "us-east-1"), BTreeMap::new());
        Self::in_region(rates, issuers, roots, region, &hosts).await
    }

    /// That may call external key store proxies.
    pub(crate) async fn with_proxies(hosts: &BTreeMap<String, xks_proxy::Config>) -> Self {
        let (rates, issuers) = (rates::Config::default(), BTreeMap::new());
        let region = ("aws", "us-east-1");
        Self::in_region(&rates, &issuers, Roots::default(), region, hosts).await
    }

    /// In a China Region.
    pub(crate) async fn in_china() -> Self {
        let region = (Region::CHINA, "cn-north-1");
        let (rates, issuers) = (rates::Config::default(), BTreeMap::new());
        let hosts = BTreeMap::new();
        Self::in_region(&rates, &issuers, Roots::default(), region, &hosts).await
    }

    async fn in_region(
        rates: &rates::Config,
        issuers: &BTreeMap<String, issuer::Config>,
        roots: Roots,
        (partition, name): (&str, &str),
        hosts: &BTreeMap<String, xks_proxy::Config>,
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let metrics = Metrics::new().unwrap();
        let faults = FaultyEntropy::default();
        let failures = metrics.entropy_failures.clone();
        let entropy = Arc::new(Entropy::new(Box::new(faults.clone()), failures));
        let root = RootKeyFile::clear(&folder.path().join("root.key"))
            .create(&entropy)
            .unwrap();
        let others: &[&str] = match partition {
            Region::CHINA => &["cn-northwest-1"],
            _ => &["us-west-2", "eu-west-1"],
        };
        let regions = Regions::new(partition, name, others.iter().copied());
        let store_metrics = Arc::new(Metrics::new().unwrap());
        let path = folder.path().join("keystore.db");
        let keystore = Keystore::create(&path, &root, regions, Arc::clone(&entropy), store_metrics);
        let inside = Inside {
            folder,
            metrics,
            faults,
            entropy,
            keystore: keystore.await.unwrap(),
            clock: Clock::manual(NOW),
        };
        inside.bench(&root, rates, issuers, roots, hosts)
    }

    /// The specs of pairs in this Region, without those that take seconds to make.
    pub(crate) fn quick_pairs(&self) -> impl Iterator<Item = PairSpec> {
        let region = self.api.keystore.regions().home().clone();
        PairSpec::quick().filter(move |spec| KeySpec::Pair(*spec).is_offered_in(&region))
    }

    pub(crate) async fn call_as(
        &self,
        principal: &Arc<Principal>,
        name: &str,
        body: Value,
    ) -> Result<Value, (ErrorCode, String)> {
        self.call_raw(principal, name, body.to_string().as_bytes())
            .await
    }

    pub(crate) async fn call_raw(
        &self,
        principal: &Arc<Principal>,
        name: &str,
        body: &[u8],
    ) -> Result<Value, (ErrorCode, String)> {
        let operation = Operation::named(name).expect("a known operation");
        let requester = Requester::local(Arc::clone(principal));
        outcome(self.api.call(operation, &requester, body).await)
    }

    pub(crate) async fn call(&self, name: &str, body: Value) -> Result<Value, (ErrorCode, String)> {
        self.call_as(&self.admin, name, body).await
    }

    pub(crate) async fn done(&self, name: &str, body: Value) -> Value {
        self.call(name, body).await.unwrap()
    }

    /// Performs an operation on a key; no other member is given.
    pub(crate) async fn done_to(&self, name: &str, id: &str) -> Value {
        self.done(name, json!({"KeyId": id})).await
    }

    /// Gives a key an alias.
    pub(crate) async fn alias(&self, name: &str, id: &str) {
        let body = json!({"AliasName": name, "TargetKeyId": id});
        self.done("CreateAlias", body).await;
    }

    /// Expects a refusal with this code and message.
    pub(crate) async fn refused(&self, name: &str, body: Value, code: ErrorCode, message: &str) {
        self.refused_as(&self.admin, name, body, code, message)
            .await;
    }

    /// Performs an operation for this principal.
    pub(crate) async fn done_as(&self, who: &Arc<Principal>, name: &str, body: Value) -> Value {
        self.call_as(who, name, body).await.unwrap()
    }

    /// Expects an `AccessDeniedException` with this message.
    pub(crate) async fn denied(&self, who: &Arc<Principal>, name: &str, body: Value, why: &str) {
        let code = ErrorCode::AccessDeniedException;
        self.refused_as(who, name, body, code, why).await;
    }

    /// Expects that `Decrypt` does not open what this body has.
    pub(crate) async fn unopened(&self, body: Value) {
        let code = ErrorCode::InvalidCiphertextException;
        self.refused("Decrypt", body, code, "").await;
    }

    /// Expects a `NotFoundException` with this message.
    pub(crate) async fn not_found(&self, name: &str, body: Value, message: &str) {
        let code = ErrorCode::NotFoundException;
        self.refused(name, body, code, message).await;
    }

    /// Expects a `KMSInvalidStateException` with this message.
    pub(crate) async fn invalid_state(&self, name: &str, body: Value, message: &str) {
        let code = ErrorCode::KMSInvalidStateException;
        self.refused(name, body, code, message).await;
    }

    /// Expects a `ValidationException` with this message.
    pub(crate) async fn invalid(&self, name: &str, body: Value, message: &str) {
        let code = ErrorCode::ValidationException;
        self.refused(name, body, code, message).await;
    }

    /// Expects to be told that there is no such key.
    pub(crate) async fn missing(&self, name: &str, body: Value, id: &str) {
        let message = format!("Key '{}' does not exist", key_arn(id));
        self.not_found(name, body, &message).await;
    }

    /// Expects to be told that the key is disabled.
    pub(crate) async fn disabled(&self, name: &str, body: Value, id: &str) {
        let message = format!("{} is disabled.", key_arn(id));
        let code = ErrorCode::DisabledException;
        self.refused(name, body, code, &message).await;
    }

    /// Expects to be told that the key is to be deleted.
    pub(crate) async fn pending_deletion(&self, name: &str, body: Value, id: &str) {
        let message = format!("{} is pending deletion.", key_arn(id));
        self.invalid_state(name, body, &message).await;
    }

    /// Expects to be told that this is not built.
    pub(crate) async fn unsupported(&self, name: &str, body: Value, what: &str) {
        let message = format!("{what} is not supported.");
        let code = ErrorCode::UnsupportedOperationException;
        self.refused(name, body, code, &message).await;
    }

    pub(crate) async fn refused_as(
        &self,
        principal: &Arc<Principal>,
        name: &str,
        body: Value,
        code: ErrorCode,
        message: &str,
    ) {
        let text = body.to_string();
        let answer = self.call_as(principal, name, body).await;
        assert_eq!(answer, Err((code, message.to_owned())), "{name} {text}");
    }

    pub(crate) async fn administer(
        &self,
        name: &str,
        body: Value,
    ) -> Result<Value, (ErrorCode, String)> {
        let body = body.to_string();
        let operator = Requester::local(Arc::clone(&self.admin));
        outcome(self.api.administer(name, &operator, body.as_bytes()).await)
    }

    /// A new key's id.
    pub(crate) async fn key(&self) -> String {
        let created = self.done("CreateKey", json!({})).await;
        created["KeyMetadata"]["KeyId"].as_str().unwrap().to_owned()
    }

    /// A principal of the store with one policy.
    pub(crate) async fn principal(&self, name: &str, policy: Value) -> Arc<Principal> {
        self.principal_of(&self.admin, name, policy).await
    }

    /// A principal of the account of this operator.
    pub(crate) async fn principal_of(
        &self,
        operator: &Arc<Principal>,
        name: &str,
        policy: Value,
    ) -> Arc<Principal> {
        let body = json!({"Name": name, "Policies": [policy.to_string()]}).to_string();
        let operator = Requester::local(Arc::clone(operator));
        let created = self
            .api
            .administer("CreatePrincipal", &operator, body.as_bytes());
        let created = outcome(created.await).unwrap();
        let snapshot = self.api.keystore.snapshot();
        let entry = &snapshot.principals[created["Arn"].as_str().unwrap()];
        Arc::clone(&entry.principal)
    }

    pub(crate) async fn allowed(&self, name: &str, actions: &[&str]) -> Arc<Principal> {
        self.principal(name, allowing(actions)).await
    }

    /// A principal whose own policies allow nothing.
    pub(crate) async fn powerless(&self, name: &str) -> Arc<Principal> {
        self.allowed(name, &["s3:GetObject"]).await
    }

    /// Gives a key a policy of these statements.
    pub(crate) async fn put_policy(&self, id: &str, statements: Value) {
        let policy = json!({"Version": "2012-10-17", "Statement": statements}).to_string();
        self.done("PutKeyPolicy", json!({"KeyId": id, "Policy": policy}))
            .await;
    }

    /// Ends the audit log and returns its records.
    pub(crate) fn records(&self) -> Vec<Value> {
        self.api.audit.close();
        let files = std::fs::read_dir(self.folder.path().join("audit")).unwrap();
        let mut paths: Vec<_> = files.map(|file| file.unwrap().path()).collect();
        paths.retain(|path| path.extension().is_some_and(|kind| kind == "jsonl"));
        paths.sort();
        let texts = paths
            .iter()
            .map(|path| std::fs::read_to_string(path).unwrap());
        let text: String = texts.collect();
        let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
        lines
            .filter(|line: &Value| line["eventVersion"].is_string())
            .collect()
    }

    pub(crate) fn counted(&self, line: &str) -> u64 {
        let text = self.metrics.render();
        let found = text
            .lines()
            .find_map(|one| one.strip_prefix(line)?.trim().parse().ok());
        found.unwrap_or_else(|| panic!("no {line} in {text}"))
    }
}

/// A log of its own, with the least journal.
pub(crate) fn audit(path: &Path, root: &RootKey, entropy: &Entropy) -> Arc<Audit> {
    let config = audit::Config {
        path: path.to_owned(),
        journal_bytes: 1 << 20,
        ..audit::Config::default()
    };
    let metrics = Arc::new(Metrics::new().unwrap());
    // Its time is its writer's, not that of the operations.
    let (key, clock) = (audit::key(root), Clock::system());
    let regions = Regions::new("aws", "us-east-1", ["us-west-2", "eu-west-1"]);
    Arc::new(Audit::open(&config, key, None, &regions, clock, entropy, &metrics).unwrap())
}

/// This body with that member.
pub(crate) fn with(mut body: Value, member: &str, value: Value) -> Value {
    body[member] = value;
    body
}

/// An identity policy.
pub(crate) fn allowing(actions: &[&str]) -> Value {
    json!({"Statement": {"Effect": "Allow", "Action": actions, "Resource": "*"}})
}

/// A statement of a key policy.
pub(crate) fn to(principal: &str, actions: &[&str]) -> Value {
    json!({"Effect": "Allow", "Principal": {"AWS": principal}, "Action": actions, "Resource": "*"})
}

pub(crate) fn root_of(account: &str) -> String {
    format!("arn:aws:iam::{account}:root")
}

/// The refusal of an action that no policy of this kind allows.
pub(crate) fn not_allowed(
    principal: &Principal,
    action: &str,
    resource: &str,
    kind: &str,
) -> (ErrorCode, String) {
    let message = format!(
        "User: {} is not authorized to perform: kms:{action} on resource: {resource} because no {kind}-based policy allows the kms:{action} action",
        principal.arn
    );
    (ErrorCode::AccessDeniedException, message)
}

/// The refusal of an action on whatever is another account's.
pub(crate) fn foreign(principal: &Principal, action: &str) -> (ErrorCode, String) {
    let message = format!(
        "User: {} is not authorized to perform: kms:{action} on this resource because the resource does not exist in this Region, no resource-based \
         policies allow access, or a resource-based policy explicitly denies access",
        principal.arn
    );
    (ErrorCode::AccessDeniedException, message)
}

pub(crate) fn refusal(code: ErrorCode, message: &str) -> Result<Value, (ErrorCode, String)> {
    Err((code, message.to_owned()))
}

pub(crate) fn outcome(answer: Answer) -> Result<Value, (ErrorCode, String)> {
    match answer {
        Ok(reply) if reply.body().is_empty() => Ok(Value::Null),
        Ok(reply) => Ok(serde_json::from_slice(reply.body()).expect("a reply is JSON")),
        Err(error) => Err((error.code(), error.message().to_owned())),
    }
}

pub(crate) fn key_arn(id: &str) -> String {
    format!("arn:aws:kms:us-east-1:{ACCOUNT}:key/{id}")
}

pub(crate) fn alias_arn(name: &str) -> String {
    format!("arn:aws:kms:us-east-1:{ACCOUNT}:alias/{name}")
}

pub(crate) fn decoded(value: &Value) -> Vec<u8> {
    base64_simd::STANDARD
        .decode_to_vec(value.as_str().unwrap())
        .unwrap()
}

pub(crate) fn encoded(bytes: &[u8]) -> String {
    base64_simd::STANDARD.encode_to_string(bytes)
}
