//! Connections without an authenticated request, as many as possible: a caller with a request is
//! served at once, and the daemon's own work goes on.

use crate::server::daemon::{ALIAS, Daemon, PROVISIONER, Setup};
use crate::server::dev::Dev;
use crate::server::wire::{Request, Wire, within};
use keymill::auth::Credentials;
use keymill::clock::Clock;
use keymill::crypto::secret::SecretBytes;
use keymill::transport::{Limits, admin};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::{Value, json};
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

const HOST: &str = "localhost";
/// Connections that a listener of these tests takes.
const CONNECTIONS_MAX: usize = 8;

/// A daemon with few connections, on which strangers would be left alone for a minute.
async fn crowded() -> Daemon {
    Daemon::start_with(Setup::with_limits(Limits {
        connections_max: CONNECTIONS_MAX,
        ..Limits::default()
    }))
    .await
}

/// So many connections on which nothing is asked, or nearly nothing.
async fn strangers<S, F>(count: usize, connect: impl Fn() -> F) -> Vec<S>
where
    S: AsyncRead + AsyncWrite + Unpin,
    F: Future<Output = std::io::Result<S>>,
{
    let mut strangers = Vec::new();
    for _ in 0..count {
        strangers.push(within(connect()).await.unwrap());
    }
    strangers
}

/// The time within which a request must be served; it is shorter than the timeout of a stranger.
async fn at_once<T>(future: impl Future<Output = T>) -> T {
    let patience = Duration::from_secs(5);
    tokio::time::timeout(patience, future).await.unwrap()
}

#[tokio::test]
async fn hold_2_a_caller_is_served_while_strangers_fill_tcp() {
    let daemon = crowded().await;
    let signed = Request::mint(HOST).signed(&PROVISIONER);
    let mut known = daemon.over_tcp().await;
    known.ask(&signed).await.done();
    let tcp = daemon.tcp;
    let mut idle = strangers(5 * CONNECTIONS_MAX, || TcpStream::connect(tcp)).await;
    for _ in 0..3 {
        let mut fresh = daemon.over_tcp().await;
        at_once(fresh.ask(&signed)).await.done();
    }
    at_once(known.ask(&signed)).await.done();
    // The first of the strangers have been let go, without a word.
    let mut said = Vec::new();
    at_once(idle[0].read_to_end(&mut said)).await.ok();
    assert!(said.is_empty());
    let counted = daemon.metric(r#"keymill_connections_let_go_total{transport="tcp"}"#);
    assert!(counted.unwrap() >= 4.0 * CONNECTIONS_MAX as f64);
    let open = daemon.metric(r#"keymill_connections{transport="tcp"}"#);
    assert!(open.unwrap() <= CONNECTIONS_MAX as f64);
    let bound = daemon.metric(r#"keymill_connections_max{transport="tcp"}"#);
    assert_eq!(bound, Some(CONNECTIONS_MAX as f64));
}

#[tokio::test]
async fn hold_2_a_caller_is_served_while_strangers_fill_the_unix_socket() {
    let daemon = crowded().await;
    let mut known = daemon.over_unix().await;
    known.ask(&Request::mint(HOST)).await.done();
    let socket = &daemon.socket;
    let _idle = strangers(5 * CONNECTIONS_MAX, || UnixStream::connect(socket)).await;
    all_are_served(&daemon, &mut known).await;
}

/// New callers and one that is known are answered at once.
async fn all_are_served(daemon: &Daemon, known: &mut Wire<UnixStream>) {
    for _ in 0..3 {
        let mut fresh = daemon.over_unix().await;
        at_once(fresh.ask(&Request::mint(HOST))).await.done();
    }
    at_once(known.ask(&Request::mint(HOST))).await.done();
}

#[tokio::test]
async fn hold_2_slow_bodies_of_a_mapped_caller_keep_nobody_out() {
    let daemon = crowded().await;
    let mut known = daemon.over_unix().await;
    known.ask(&Request::mint(HOST)).await.done();
    let mut slow = Vec::new();
    for _ in 0..5 * CONNECTIONS_MAX {
        let mut wire = daemon.over_unix().await;
        let whole = Request::mint(HOST).bytes();
        wire.send(&whole[..whole.len() - 1]).await;
        slow.push(wire);
    }
    all_are_served(&daemon, &mut known).await;
}

#[tokio::test]
async fn hold_2_probes_are_answered_while_strangers_fill_the_admin_listener() {
    let daemon = Daemon::start().await;
    let host = daemon.admin.to_string();
    let mut known = daemon.at_admin().await;
    known.ask(&Request::get("/live", &host)).await;
    let address = daemon.admin;
    let _idle = strangers(2 * admin::CONNECTIONS_MAX, || TcpStream::connect(address)).await;
    for path in ["/live", "/metrics"] {
        let mut fresh = daemon.at_admin().await;
        let answer = at_once(fresh.ask(&Request::get(path, &host))).await;
        assert_eq!(answer.status, 200);
    }
    let answer = at_once(known.ask(&Request::get("/live", &host))).await;
    assert_eq!(answer.status, 200, "a scraper keeps its connection");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hold_2_no_request_is_cut_that_was_authenticated() {
    const KEYS: usize = 100_000;
    let daemon = crowded().await;
    let body = json!({"KeyId": ALIAS, "KeySpec": "AES_256", "Count": KEYS});
    let batch = Request::post("/v1/data-keys", HOST, &body).signed(&PROVISIONER);
    // All places but one are those of callers who read their batches when it pleases them.
    let mut busy = Vec::new();
    for _ in 1..CONNECTIONS_MAX {
        let mut wire = daemon.over_tcp().await;
        wire.send(batch.bytes()).await;
        assert_eq!(wire.peek_head().await, 200);
        busy.push(wire);
    }
    let tcp = daemon.tcp;
    let _idle = strangers(3 * CONNECTIONS_MAX, || TcpStream::connect(tcp)).await;
    let signed = Request::mint(HOST).signed(&PROVISIONER);
    at_once(daemon.over_tcp().await.ask(&signed)).await.done();
    for mut wire in busy {
        let answer = wire.answer().await;
        assert!(!answer.cut && answer.body.len() == KEYS * 96);
    }
}

/// The credentials of a principal of the program.
fn credentials(dev: &Dev, name: &str) -> Credentials {
    let principal = &dev.ready["principals"][name];
    let text = |name: &str| principal[name].as_str().unwrap().to_owned();
    let secret = text("secret_access_key");
    Credentials {
        access_key_id: text("access_key_id"),
        secret_access_key: SecretBytes::copy_of(secret.as_bytes()),
        session_token: None,
        region: "us-east-1".to_owned(),
    }
}

fn address(dev: &Dev, name: &str) -> SocketAddr {
    let url = dev.ready[name].as_str().unwrap();
    url.strip_prefix("http://").unwrap().parse().unwrap()
}

fn audit_files(dev: &Dev) -> usize {
    let names = fs::read_dir(dev.path("audit")).unwrap();
    let names = names.map(|entry| entry.unwrap().path());
    let is_log = |path: &Path| path.extension().is_some_and(|end| end == "jsonl");
    names.filter(|path| is_log(path)).count()
}

#[tokio::test]
async fn hold_1_strangers_with_all_descriptors_stop_nothing() {
    const FILES: u32 = 256;
    // This process holds the strangers' connections, and needs a descriptor for each.
    let maximum = getrlimit(Resource::Nofile).maximum;
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    setrlimit(Resource::Nofile, raised).unwrap();
    let dev = Dev::start_with_files(
        FILES,
        "[limits]\nhead_timeout_ms = 3600000\n\
         [audit]\nfile_bytes_max = 1048576\n",
    );
    let told = "fewer connections than limits.connections_max";
    assert!(dev.log().contains(told), "{}", dev.log());
    let (tcp, admin) = (address(&dev, "endpoint"), address(&dev, "admin_endpoint"));
    let socket = dev.path("keymill.sock");
    let count = FILES as usize;
    let _tcp = strangers(count, || TcpStream::connect(tcp)).await;
    let _unix = strangers(count, || UnixStream::connect(&socket)).await;
    let _admin = strangers(count, || TcpStream::connect(admin)).await;

    let admin_call = |operation: &str, body: &Value| {
        Request::post(&format!("/v1/admin/{operation}"), HOST, body)
    };
    // Each on a connection of its own, as the command line does it.
    let call = async |operation: &str, body: Value| {
        at_once(dev.ask("keymill.sock", &admin_call(operation, &body))).await
    };
    let created = call("CreateKey", json!({})).await.done();
    let key = created["KeyMetadata"]["KeyId"].as_str().unwrap();
    let spec = json!({"KeyId": key, "KeySpec": "AES_256"});
    let generate = "GenerateDataKeyWithoutPlaintext";
    call(generate, spec.clone()).await.done();
    assert_eq!(call("DisableKey", json!({"KeyId": key})).await.status, 200);
    let refused = call(generate, spec).await;
    refused.refusal(400, "DisabledException");

    // A caller over TCP keeps its connection, and fills more than one file of the audit log.
    let mut caller = Wire::new(within(TcpStream::connect(tcp)).await.unwrap());
    let (provisioner, host) = (credentials(&dev, "provisioner"), tcp.to_string());
    let long = "x".repeat(4000);
    let body = json!({"KeyId": ALIAS, "KeySpec": "AES_256", "EncryptionContext": {"long": long}});
    let now = Clock::system().now();
    let generate = Request::kms(generate, &host, &body).signed_with(&provisioner, now);
    let before = audit_files(&dev);
    for _ in 0..2000 {
        at_once(caller.ask(&generate)).await.done();
        if audit_files(&dev) > before {
            break;
        }
    }
    assert!(audit_files(&dev) > before, "the next file was begun");

    let mut scraper = Wire::new(within(TcpStream::connect(admin)).await.unwrap());
    let host = admin.to_string();
    let ready = at_once(scraper.ask(&Request::get("/ready", &host))).await;
    assert_eq!(ready.status, 200, "{}", ready.text());
    let metrics = at_once(scraper.ask(&Request::get("/metrics", &host))).await;
    let metric = |series: &str| -> f64 {
        let line = metrics.text().lines().find(|line| line.starts_with(series));
        let value = line.and_then(|line| line.rsplit(' ').next());
        value.unwrap_or_else(|| panic!("{series}")).parse().unwrap()
    };
    for transport in ["tcp", "unix", "admin"] {
        let of = |family: &str| metric(&format!(r#"{family}{{transport="{transport}"}}"#));
        let bound = of("keymill_connections_max");
        assert!((8.0..100.0).contains(&bound), "{transport}: {bound}");
        assert!(of("keymill_connections") <= bound);
        assert!(of("keymill_connections_let_go_total") >= f64::from(FILES) - bound);
        assert_eq!(of("keymill_accept_failures_total"), 0.0, "{transport}");
    }
    assert!(!dev.log().contains("ERROR"), "{}", dev.log());
}

#[test]
fn hold_1_too_few_descriptors_to_serve_are_refused_at_the_start() {
    let refused = Dev::refused_with_files(128);
    let told = "this process may have 128 open files, and needs ";
    assert!(refused.contains(told), "{refused}");
    assert!(refused.contains("LimitNOFILE="), "{refused}");
}
