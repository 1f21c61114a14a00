//! The store and everything that works on it, opened in the bench's own process, for questions that
//! need access to the pool or the store itself.

// Each bench uses its own part of it.
#![allow(dead_code, reason = "compiled into each bench that asks for it")]

use keymill::api::Requester;
use keymill::config::{Config, Environment};
use keymill::daemon::{Core, Daemon, Listeners, Opening, Source};
use keymill::key::regions::RegionalId;
use keymill::keystore::KeyEntry;
use keymill::operation::Operation;
use keymill::policy::Principal;
use keymill::pool;
use keymill::service_manager::PassedSockets;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::runtime::Runtime;

/// An opened store.
pub(crate) struct Mill {
    pub(crate) runtime: Runtime,
    pub(crate) core: Core,
    config: Config,
    _folder: tempfile::TempDir,
}

impl Mill {
    /// A new store with a pool of this configuration.
    pub(crate) fn open(pool: pool::Config) -> Self {
        // In memory: no question is about a disk.
        let folder = tempfile::tempdir_in("/dev/shm").unwrap();
        let uid = match rustix::process::geteuid().as_raw() {
            0 => "root".to_owned(),
            uid => uid.to_string(),
        };
        let text = format!(
            "account = \"111122223333\"\n\
             [listen]\ntcp = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\n\
             [peers.users]\n{uid} = \"arn:aws:iam::111122223333:user/provisioner\"\n"
        );
        let file = folder.path().join("keymill.toml");
        let config = Config::read(Some((&file, &text)), &Environment::default(), &[]);
        let config = config.unwrap().config;
        let runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = { runtime }.worker_threads(1).enable_all().build().unwrap();
        let core = runtime.block_on(Core::open(&config, pool, Opening::First(|_| ())));
        let mill = Self {
            core: core.unwrap(),
            runtime,
            config,
            _folder: folder,
        };
        let actions = ["kms:GenerateDataKeyWithoutPlaintext", "kms:DescribeKey"];
        let statement = json!({ "Effect": "Allow", "Action": actions, "Resource": "*" });
        let policy = json!({ "Version": "2012-10-17", "Statement": [statement] });
        let body = json!({ "Name": "provisioner", "Policies": [policy.to_string()] }).to_string();
        let operator = mill.operator();
        let administer = mill
            .core
            .api
            .administer("CreatePrincipal", &operator, body.as_bytes());
        assert!(mill.runtime.block_on(administer).is_ok());
        mill
    }

    /// The user that owns the process.
    pub(crate) fn operator(&self) -> Requester {
        let uid = rustix::process::geteuid().as_raw();
        Requester::local(Principal::operator(uid, self.config.account))
    }

    /// The user that may ask for data keys.
    pub(crate) fn provisioner(&self) -> Requester {
        let snapshot = self.core.keystore.snapshot();
        let entry = &snapshot.principals[self.config.user_arn("provisioner").as_str()];
        Requester::local(Arc::clone(&entry.principal))
    }

    /// Performs an operation of KMS as the operator.
    pub(crate) fn call(&self, name: &str, body: &Value) -> Value {
        let operation = Operation::named(name).unwrap();
        let (requester, body) = (self.operator(), body.to_string());
        let called = self.core.api.call(operation, &requester, body.as_bytes());
        let reply = self.runtime.block_on(called);
        let reply = reply.unwrap_or_else(|error| panic!("{name}: {}", error.message()));
        if reply.body().is_empty() {
            return Value::Null;
        }
        serde_json::from_slice(reply.body()).unwrap()
    }

    /// Creates a KMS key.
    pub(crate) fn create_key(&self) -> Arc<KeyEntry> {
        let created = self.call("CreateKey", &json!({}));
        self.entry(created["KeyMetadata"]["KeyId"].as_str().unwrap())
    }

    /// The key as it is now.
    pub(crate) fn entry(&self, id: &str) -> Arc<KeyEntry> {
        let snapshot = self.core.keystore.snapshot();
        let id = RegionalId::home(id.parse().unwrap());
        let entry = snapshot.key(self.config.account, id);
        Arc::clone(entry.unwrap())
    }

    /// Serves on a Unix socket, on the cores that the calling thread has, until the process ends.
    pub(crate) fn serve(self) -> PathBuf {
        let Self {
            runtime,
            core,
            config,
            _folder: folder,
        } = self;
        let daemon = runtime.block_on(async {
            let passed = PassedSockets::default();
            let listeners = Listeners::bind(&config, &core, passed).await.unwrap();
            let source = Source {
                settings: BTreeMap::new(),
                read: Box::new(|| Err("a bench has no configuration to read again".to_owned())),
                set_log_level: Box::new(|_| ()),
            };
            Daemon::start(&config, core, listeners, source, false).unwrap()
        });
        let socket = daemon.socket().to_owned();
        std::thread::spawn(move || {
            runtime.block_on(async {
                let signals = keymill::daemon::Signals::catch().unwrap();
                daemon.run(signals).await
            });
            drop(folder);
        });
        socket
    }
}
