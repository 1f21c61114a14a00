//! A daemon in this process: store, pool, operations and every listener, in a folder that goes with
//! it.

use crate::server::certificates::Issued;
use crate::server::wire::{Answer, Wire, within};
use arc_swap::ArcSwap;
use keymill::api::{Api, Parts, Requester};
use keymill::attestation::{Attestations, Roots};
use keymill::audit::{self, Audit};
use keymill::auth::{Credentials, PeerMap, Peers, Verifier};
use keymill::clock::{Clock, Timestamp};
use keymill::crypto::entropy::Entropy;
use keymill::crypto::secret::{Secret, SecretBytes};
use keymill::key::regions::Regions;
use keymill::keystore::{AccessKey, Change, Keystore, KeystoreError, PrincipalEntry, RootKeyFile};
use keymill::metrics::Metrics;
use keymill::operation::Operation;
use keymill::policy::{PolicyDocument, Principal};
use keymill::pool::{self, CloneWord, Pool};
use keymill::rates::{self, Rates};
use keymill::transport::admin::Admin;
use keymill::transport::tls::{self, Tls};
use keymill::transport::{self, Limits, Makers, Service, Socket};
use keymill::web_identity::{WebIdentities, issuer};
use keymill::xks_proxy::Proxies;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinSet;

pub(crate) const ACCOUNT: &str = "111122223333";
pub(crate) const REGION: &str = "us-east-1";
pub(crate) const ALIAS: &str = "alias/containers";
/// 2026-01-15T12:00:00Z, the time of the daemon's clock, which does not move.
pub(crate) const NOW: Timestamp = Timestamp(1_768_478_400_000_000);

/// A principal of the daemon.
pub(crate) struct Who {
    pub(crate) name: &'static str,
    pub(crate) access_key_id: &'static str,
    pub(crate) secret_access_key: &'static str,
    pub(crate) policy: &'static str,
}

pub(crate) const ADMIN: Who = Who {
    name: "admin",
    access_key_id: "AKIAADMINADMINADMIN1",
    secret_access_key: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKE1",
    policy: r#"{"Statement":{"Effect":"Allow","Action":"kms:*","Resource":"*"}}"#,
};
pub(crate) const PROVISIONER: Who = Who {
    name: "provisioner",
    access_key_id: "AKIAPROVISIONERPROV2",
    secret_access_key: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKE2",
    policy: r#"{"Statement":{"Effect":"Allow","Action":"kms:GenerateDataKeyWithoutPlaintext","Resource":"*"}}"#,
};

impl Who {
    pub(crate) fn arn(&self) -> String {
        self.arn_in(&regions())
    }

    /// Its ARN in the partition of these Regions.
    pub(crate) fn arn_in(&self, regions: &Regions) -> String {
        let partition = &regions.home().partition;
        format!("arn:{partition}:iam::{ACCOUNT}:user/{}", self.name)
    }

    /// The credentials of the principal for `region`.
    pub(crate) fn credentials(&self, region: &str) -> Credentials {
        Credentials {
            access_key_id: self.access_key_id.to_owned(),
            secret_access_key: secret(self.secret_access_key),
            session_token: None,
            region: region.to_owned(),
        }
    }
}

fn secret(text: &str) -> SecretBytes {
    SecretBytes::copy_of(text.as_bytes())
}

/// The deviations of a test from the usual daemon.
pub(crate) struct Setup {
    pub(crate) regions: Regions,
    pub(crate) limits: Limits,
    pub(crate) rates: rates::Config,
    /// The principal of the peer of the Unix socket.
    pub(crate) peer: Option<Who>,
    /// Whether the peer of the Unix socket is the operator.
    pub(crate) operator: bool,
    /// TLS on the TCP listener.
    pub(crate) tls: Option<TlsFiles>,
    /// Other issuers of identities.
    pub(crate) issuers: BTreeMap<String, issuer::Config>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            regions: regions(),
            limits: Limits::default(),
            rates: rates::Config {
                refused_calls_per_second: 0,
                ..rates::Config::default()
            },
            peer: Some(PROVISIONER),
            operator: true,
            tls: None,
            issuers: BTreeMap::new(),
        }
    }
}

impl Setup {
    /// The usual daemon with these limits.
    pub(crate) fn with_limits(limits: Limits) -> Self {
        Self {
            limits,
            ..Self::default()
        }
    }
}

/// The files of a listener with TLS, in a folder that goes with them.
pub(crate) struct TlsFiles {
    pub(crate) config: tls::Config,
    folder: tempfile::TempDir,
}

impl TlsFiles {
    pub(crate) fn new(server: &Issued) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = tls::Config {
            certificate: folder.path().join("server.pem"),
            key: folder.path().join("server.key"),
            ..tls::Config::default()
        };
        let files = Self { config, folder };
        files.server(server);
        files
    }

    pub(crate) fn server(&self, server: &Issued) {
        fs::write(&self.config.certificate, &server.certificate).unwrap();
        fs::write(&self.config.key, &server.key).unwrap();
        let narrow = fs::Permissions::from_mode(0o600);
        fs::set_permissions(&self.config.key, narrow).unwrap();
    }

    /// Sets the CA of client certificates. It must be called before the daemon starts, and may be
    /// called again later.
    pub(crate) fn client_ca(&self, pem: &str) -> PathBuf {
        self.put("ca.pem", pem)
    }

    /// Sets the list of revoked certificates, under the same rule.
    pub(crate) fn client_crl(&self, pem: &str) -> PathBuf {
        self.put("crl.pem", pem)
    }

    fn put(&self, name: &str, pem: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::write(&path, pem).unwrap();
        path
    }
}

/// A running daemon. Dropping it stops it at once.
pub(crate) struct Daemon {
    pub(crate) tcp: SocketAddr,
    pub(crate) socket: PathBuf,
    pub(crate) admin: SocketAddr,
    pub(crate) ready: Arc<AtomicBool>,
    pub(crate) api: Arc<Api>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) clock: Clock,
    /// The id of the key that [`ALIAS`] names.
    pub(crate) key_id: String,
    pub(crate) key_arn: String,
    shutdown: watch::Sender<bool>,
    listeners: JoinSet<()>,
    _fetching: (watch::Sender<()>, JoinSet<()>),
    tls: Option<(TlsFiles, Arc<Tls>)>,
    _folder: tempfile::TempDir,
}

impl Daemon {
    pub(crate) async fn start() -> Self {
        Self::start_with(Setup::default()).await
    }

    pub(crate) async fn start_with(setup: Setup) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let metrics = Arc::new(Metrics::new().unwrap());
        let (entropy, clock) = (Arc::new(Entropy::os()), Clock::manual(NOW));
        let regions = setup.regions;
        let keystore = keystore(&folder, &regions, &entropy, &metrics).await;
        let clone_word = Arc::new(CloneWord::new());
        let config = pool::Config {
            fillers: 1,
            ..pool::Config::default()
        };
        let parts = (Arc::clone(&entropy), clock.clone(), Arc::clone(&clone_word));
        let pool = Pool::new(config, parts.0, parts.1, parts.2, &metrics).unwrap();
        let log = audit::Config {
            path: folder.path().join("audit"),
            journal_bytes: 1 << 20,
            ..audit::Config::default()
        };
        let key = Secret::filled(|bytes| bytes.fill(1));
        let audit = Audit::open(
            &log,
            key,
            None,
            &regions,
            Clock::system(),
            &entropy,
            &metrics,
        );
        let audit = Arc::new(audit.unwrap());
        let account = ACCOUNT.parse().unwrap();
        let partition = &regions.home().partition;
        let parts = Parts {
            keystore: Arc::clone(&keystore),
            pool: Arc::clone(&pool),
            web_identities: WebIdentities::new(
                &setup.issuers,
                partition,
                account,
                &clock,
                &metrics,
            ),
            attestations: Attestations::new(Roots::default(), &metrics),
            xks_proxies: Proxies::none(&clock),
            clone_word,
            entropy,
            clock: clock.clone(),
            rates: Rates::new(&setup.rates, &regions),
            audit: Arc::clone(&audit),
        };
        let api = Api::new(parts, &metrics);
        let token_key = Arc::clone(keystore.session_token_key());
        let store = Arc::clone(keystore.halt());
        let ready = Arc::new(AtomicBool::new(false));
        let desk = Arc::new(Admin {
            metrics: Arc::clone(&metrics),
            pool,
            ready: Arc::clone(&ready),
            audit,
            store,
            facts: json!({"version": "test"}),
            live: Box::new(serde_json::Map::new),
        });
        let service = Arc::new(Service {
            api: Arc::clone(&api),
            keystore,
            verifier: Verifier::new(&regions, Duration::from_secs(300), token_key),
            account: ACCOUNT.parse().unwrap(),
            clock: clock.clone(),
            limits: setup.limits,
            metrics: Arc::clone(&metrics),
            cores: vec![Handle::current()],
            makers: Makers::start().unwrap(),
            told: Arc::clone(&desk),
            xks: keymill::xks::Proxy::default(),
        });
        let (shutdown, down) = watch::channel(false);
        let mut listeners = JoinSet::new();
        let (stop_fetching, mut fetching) = (watch::Sender::new(()), JoinSet::new());
        let stopped = stop_fetching.subscribe();
        api.web_identities.keep(&mut fetching, &stopped);
        let local = || async { TcpListener::bind("127.0.0.1:0").await.unwrap() };
        let (tcp, admin) = (local().await, local().await);
        let addresses = (tcp.local_addr().unwrap(), admin.local_addr().unwrap());
        let socket = folder.path().join("keymill.sock");
        let unix = transport::unix::bind(&socket, 0o600).unwrap();
        let uid = rustix::process::getuid().as_raw();
        let mut peers = PeerMap::default();
        peers
            .uids
            .extend(setup.peer.iter().map(|who| (uid, who.arn_in(&regions))));
        let operator = if setup.operator { uid } else { uid + 1 };
        let tls = setup.tls.map(|files| {
            let loaded = Tls::load(&files.config, clock.clone(), Arc::clone(&metrics)).unwrap();
            (files, Arc::new(loaded))
        });
        match &tls {
            None => listeners.spawn(transport::serve_tcp(
                Arc::clone(&service),
                tcp,
                down.clone(),
            )),
            Some((_, tls)) => listeners.spawn(transport::serve_tls(
                Arc::clone(&service),
                tcp,
                Arc::clone(tls),
                down.clone(),
            )),
        };
        listeners.spawn(transport::serve_unix(
            service,
            unix,
            Socket {
                name: "listen.socket".to_owned(),
                peers: Arc::new(ArcSwap::from_pointee(Peers::Mapped(peers))),
                operator_uid: Some(operator),
            },
            down.clone(),
        ));
        let served = transport::admin::serve(desk, admin, addresses.1, down);
        listeners.spawn(served.unwrap());
        let mut daemon = Self {
            tcp: addresses.0,
            socket,
            admin: addresses.1,
            ready,
            api,
            metrics,
            clock,
            key_id: String::new(),
            key_arn: String::new(),
            shutdown,
            listeners,
            _fetching: (stop_fetching, fetching),
            tls,
            _folder: folder,
        };
        let created = daemon.call("CreateKey", json!({})).await;
        let text = |name: &str| {
            created["KeyMetadata"][name]
                .as_str()
                .expect("a created key has it")
                .to_owned()
        };
        (daemon.key_id, daemon.key_arn) = (text("KeyId"), text("Arn"));
        let alias = json!({"AliasName": ALIAS, "TargetKeyId": daemon.key_id});
        daemon.call("CreateAlias", alias).await;
        daemon
    }

    /// Performs an operation as the operator, past every listener.
    pub(crate) async fn call(&self, name: &str, body: Value) -> Value {
        let operation = Operation::named(name).expect("a known operation");
        let operator = Principal::operator(0, ACCOUNT.parse().unwrap());
        let body = body.to_string();
        let reply = self
            .api
            .call(operation, &Requester::local(operator), body.as_bytes())
            .await;
        let reply = reply.expect("the operator may do everything");
        match reply.body() {
            [] => Value::Null,
            body => serde_json::from_slice(body).unwrap(),
        }
    }

    pub(crate) async fn over_tcp(&self) -> Wire<TcpStream> {
        Wire::new(within(TcpStream::connect(self.tcp)).await.unwrap())
    }

    /// The first call without a signature was refused and counted.
    pub(crate) fn refused_unsigned(&self, answer: &Answer) {
        let message = answer.refusal(400, "MissingAuthenticationTokenException");
        assert_eq!(message, "Missing Authentication Token");
        let count = r#"keymill_auth_failures_total{reason="MissingAuthenticationTokenException"}"#;
        assert_eq!(self.metric(count), Some(1.0));
    }

    pub(crate) async fn over_unix(&self) -> Wire<UnixStream> {
        Wire::new(within(UnixStream::connect(&self.socket)).await.unwrap())
    }

    pub(crate) async fn at_admin(&self) -> Wire<TcpStream> {
        Wire::new(within(TcpStream::connect(self.admin)).await.unwrap())
    }

    /// The files of TLS.
    pub(crate) fn tls(&self) -> &TlsFiles {
        &self.tls.as_ref().expect("a daemon with TLS").0
    }

    /// Reads the files of TLS again, as at SIGHUP.
    pub(crate) fn reload(&self) {
        let (files, tls) = self.tls.as_ref().expect("a daemon with TLS");
        tls.reload(&files.config).unwrap();
    }

    /// Reads the files of TLS again, as the timer does.
    pub(crate) fn reload_if_changed(&self) {
        let (_, tls) = self.tls.as_ref().expect("a daemon with TLS");
        tls.reload_if_changed();
    }

    /// The `Host` of requests over TCP.
    pub(crate) fn host(&self) -> String {
        self.tcp.to_string()
    }

    /// Makes the listeners drain.
    pub(crate) fn begin_to_drain(&self) {
        self.shutdown.send(true).unwrap();
    }

    /// Waits until every listener has ended.
    pub(crate) async fn drained(&mut self) {
        while let Some(ended) = within(self.listeners.join_next()).await {
            ended.unwrap();
        }
    }

    /// One line of the exposition, with this beginning; its value.
    pub(crate) fn metric(&self, beginning: &str) -> Option<f64> {
        self.metrics.upkeep();
        let text = self.metrics.render();
        let line = text.lines().find(|line| line.starts_with(beginning))?;
        line.rsplit(' ').next()?.parse().ok()
    }
}

/// Those of the usual daemon.
pub(crate) fn regions() -> Regions {
    Regions::new("aws", REGION, ["us-west-2"])
}

async fn keystore(
    folder: &tempfile::TempDir,
    regions: &Regions,
    entropy: &Arc<Entropy>,
    metrics: &Arc<Metrics>,
) -> Arc<Keystore> {
    let root = RootKeyFile::clear(&folder.path().join("root.key"))
        .create(entropy)
        .unwrap();
    let path = folder.path().join("keystore.db");
    let (entropy, metrics) = (Arc::clone(entropy), Arc::clone(metrics));
    let keystore = Keystore::create(&path, &root, regions.clone(), entropy, metrics)
        .await
        .unwrap();
    let principals = [ADMIN, PROVISIONER].map(|who| {
        let policy = Arc::new(PolicyDocument::parse(who.policy).unwrap());
        let principal = Principal::new(&who.arn_in(regions), vec![policy]).unwrap();
        let id = who.access_key_id.to_owned();
        let access_key = AccessKey::new(id, secret(who.secret_access_key));
        let entry = PrincipalEntry::new(principal, vec![Arc::new(access_key)]);
        Change::PutPrincipal(entry)
    });
    let put = keystore.apply(|_| Ok::<_, KeystoreError>((principals.to_vec(), ())));
    put.await.unwrap();
    Arc::new(keystore)
}
