//! SIGHUP on the whole program: what is put in force while it serves, what is named because it
//! needs a restart, and what is refused.

use crate::server::certificates::{Authority, Client, Issued};
use crate::server::daemon::TlsFiles;
use crate::server::dev::Dev;
use crate::server::wire::{Request, Wire, within};
use rustls::pki_types::ServerName;
use serde_json::json;
use std::fs::{self, Permissions};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

const HOST: &str = "localhost";
const READ: &str = "SIGHUP: the configuration was read again";
const REFUSED: &str = "SIGHUP: nothing was changed";

/// The configuration of a daemon whose own socket knows its user as this principal.
fn known_as(principal: &str, rest: &str) -> String {
    let uid = match rustix::process::geteuid().as_raw() {
        0 => "root".to_owned(),
        uid => uid.to_string(),
    };
    format!("peers.users.{uid} = 'arn:aws:iam::111122223333:user/{principal}'\n{rest}")
}

/// Replaces the configuration, hangs up, and waits until the daemon has logged `what` once more.
async fn reload(dev: &Dev, settings: &str, what: &str) {
    fs::write(dev.path("keymill.toml"), settings).unwrap();
    hang_up(dev, what).await;
}

async fn hang_up(dev: &Dev, what: &str) {
    let before = dev.log().matches(what).count();
    dev.hang_up();
    let told = async {
        while dev.log().matches(what).count() == before {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    within(told).await;
}

async fn connect(dev: &Dev, socket: &str) -> Wire<UnixStream> {
    let connected = UnixStream::connect(dev.path(socket));
    Wire::new(within(connected).await.unwrap())
}

/// A series of the daemon's metrics.
async fn metric(dev: &Dev, series: &str) -> f64 {
    let address = dev.ready["admin_endpoint"].as_str().unwrap();
    let address: SocketAddr = address.trim_start_matches("http://").parse().unwrap();
    let mut wire = Wire::new(within(TcpStream::connect(address)).await.unwrap());
    let scrape = Request::get("/metrics", &address.to_string());
    let scraped = wire.ask(&scrape).await;
    let line = scraped
        .text()
        .lines()
        .find_map(|line| line.strip_prefix(series));
    let value = line.unwrap_or_else(|| panic!("{series}: {}", scraped.text()));
    value.trim().parse().unwrap()
}

const RELOADED: &str = "keymill_config_reloads_total{result=\"ok\"}";
const FAILED: &str = "keymill_config_reloads_total{result=\"failed\"}";

#[tokio::test]
async fn principals_are_judged_anew_on_a_connection_that_is_open() {
    let dev = Dev::start(&known_as("provisioner", ""));
    let mint = Request::mint(HOST);
    let mut open = connect(&dev, "keymill.sock").await;
    let made = open.ask(&mint).await.done();
    let body = json!({"CiphertextBlob": made["CiphertextBlob"]});
    let decrypt = Request::kms("Decrypt", HOST, &body);
    open.ask(&decrypt)
        .await
        .refusal(400, "AccessDeniedException");

    reload(&dev, &known_as("consumer", ""), READ).await;
    open.ask(&decrypt).await.done();
    open.ask(&mint).await.refusal(400, "AccessDeniedException");

    reload(&dev, "", READ).await;
    let answer = open.ask(&decrypt).await;
    answer.refusal(400, "MissingAuthenticationTokenException");
    let mut new = connect(&dev, "keymill.sock").await;
    let answer = new.ask(&mint).await;
    answer.refusal(400, "MissingAuthenticationTokenException");
    assert_eq!(metric(&dev, RELOADED).await, 2.0);
    assert_eq!(metric(&dev, FAILED).await, 0.0);
}

#[tokio::test]
async fn the_callers_of_a_further_socket_are_replaced_and_gone_with_it() {
    let of = |principal: &str| {
        format!(
            "[sockets.pod]\npath = 'pod.sock'\nprincipal = 'arn:aws:iam::111122223333:user/{principal}'\n"
        )
    };
    let dev = Dev::start(&of("consumer"));
    let mint = Request::mint(HOST);
    let mut open = connect(&dev, "pod.sock").await;
    open.ask(&mint).await.refusal(400, "AccessDeniedException");
    reload(&dev, &of("provisioner"), READ).await;
    open.ask(&mint).await.done();
    reload(&dev, "", READ).await;
    let answer = open.ask(&mint).await;
    answer.refusal(400, "MissingAuthenticationTokenException");
    dev.logs("settings=\"sockets.pod.mode, sockets.pod.path")
        .await;
}

#[tokio::test]
async fn rates_and_the_level_of_the_log_change_while_the_daemon_serves() {
    let dev = Dev::start(&known_as("provisioner", ""));
    let mint = Request::mint(HOST);
    let mut open = connect(&dev, "keymill.sock").await;
    for _ in 0..5 {
        open.ask(&mint).await.done();
    }
    // At trace there is a line for each request.
    assert!(!dev.log().contains("TRACE"), "{}", dev.log());
    let slow =
        "[rates]\nprincipal_keys_per_second = 1\nburst_ms = 3600000\n[log]\nlevel = 'trace'\n";
    reload(&dev, &known_as("provisioner", slow), READ).await;
    open.ask(&mint).await.done();
    dev.logs("TRACE").await;
    let few = "[rates]\nprincipal_keys_per_second = 1\nburst_ms = 100\n";
    reload(&dev, &known_as("provisioner", few), READ).await;
    let mut answer = open.ask(&mint).await;
    for _ in 0..20 {
        if answer.status == 200 {
            answer = open.ask(&mint).await;
        }
    }
    answer.refusal(400, "ThrottlingException");
    reload(&dev, &known_as("provisioner", ""), READ).await;
    open.ask(&mint).await.done();
}

#[tokio::test]
async fn settings_that_need_a_restart_are_named_each_time_and_the_rest_is_in_force() {
    let dev = Dev::start(&known_as("provisioner", ""));
    let others = "[pool]\nenabled = false\n[listen]\nsocket_mode = '0600'\n";
    let named = "settings=\"listen.socket_mode, pool.enabled\"";
    for _ in 0..2 {
        reload(&dev, &known_as("consumer", others), named).await;
    }
    let mut open = connect(&dev, "keymill.sock").await;
    let answer = open.ask(&Request::mint(HOST)).await;
    answer.refusal(400, "AccessDeniedException");
    reload(&dev, &known_as("provisioner", ""), READ).await;
    open.ask(&Request::mint(HOST)).await.done();
    assert_eq!(
        dev.log().matches("need a restart").count(),
        2,
        "the third has nothing to name"
    );
    assert_eq!(metric(&dev, RELOADED).await, 3.0);
}

#[tokio::test]
async fn a_configuration_that_is_refused_changes_nothing_and_each_mistake_is_told() {
    let dev = Dev::start(&known_as("provisioner", ""));
    let file = dev.path("keymill.toml");
    let mut open = connect(&dev, "keymill.sock").await;
    let (mint, consumer) = (Request::mint(HOST), known_as("consumer", ""));
    let mistakes = format!("{consumer}\n[log]\nlevel = 'loud'\n[rates]\nburst_ms = 1\n");
    let absent = || fs::remove_file(&file).unwrap();
    let written = |text: &str| fs::write(&file, text).unwrap();
    let open_to_all = || {
        written(&consumer);
        fs::set_permissions(&file, Permissions::from_mode(0o646)).unwrap();
    };
    let cases: [(&dyn Fn(), &[&str]); 4] = [
        (
            &|| written(&mistakes),
            &[
                "log.level = \\\"loud\\\": allowed",
                "rates.burst_ms = 1: allowed",
            ],
        ),
        (&|| written("peers = ["), &["line 1:"]),
        (&open_to_all, &["mode 0646"]),
        (&absent, &["cannot be read"]),
    ];
    for (count, (harm, told)) in cases.iter().enumerate() {
        harm();
        hang_up(&dev, REFUSED).await;
        for mistake in *told {
            assert!(dev.log().contains(mistake), "{mistake}");
        }
        open.ask(&mint).await.done();
        assert_eq!(metric(&dev, FAILED).await, count as f64 + 1.0);
        assert_eq!(metric(&dev, "keymill_config_refused").await, 1.0);
    }
    reload(&dev, &consumer, READ).await;
    open.ask(&mint).await.refusal(400, "AccessDeniedException");
    assert_eq!(metric(&dev, "keymill_config_refused").await, 0.0);
    assert_eq!(metric(&dev, RELOADED).await, 1.0);
}

#[tokio::test]
async fn hold_4_hangups_one_after_the_other_end_nothing() {
    let dev = Dev::start(&known_as("provisioner", ""));
    let mut open = connect(&dev, "keymill.sock").await;
    for _ in 0..50 {
        dev.hang_up();
        open.ask(&Request::mint(HOST)).await.done();
    }
    dev.logs(READ).await;
}

/// A daemon with TLS that a timer does not look at.
struct Encrypted {
    dev: Dev,
    address: SocketAddr,
}

impl Encrypted {
    fn start(settings: &str) -> Self {
        let dev = Dev::start(settings);
        let endpoint = dev.ready["endpoint"].as_str().unwrap();
        let address = endpoint.strip_prefix("https://").unwrap().parse().unwrap();
        Self { dev, address }
    }

    async fn connect(
        &self,
        authority: &Authority,
        of: Option<&Issued>,
    ) -> Option<TlsStream<TcpStream>> {
        let stream = within(TcpStream::connect(self.address)).await.unwrap();
        let connector = TlsConnector::from(Client::new(authority, of).config());
        let connected = connector.connect(ServerName::from(self.address.ip()), stream);
        within(connected).await.ok()
    }
}

fn tls(files: &TlsFiles, rest: &str) -> String {
    format!(
        "[tls]\ncertificate = '{}'\nkey = '{}'\nreload_seconds = 86400\n{rest}",
        files.config.certificate.display(),
        files.config.key.display()
    )
}

#[tokio::test]
async fn a_hangup_has_the_files_of_tls_read_again() {
    let (old, new) = (Authority::new("old CA"), Authority::new("new CA"));
    let files = TlsFiles::new(&old.server());
    let daemon = Encrypted::start(&tls(&files, ""));
    let connects = async |authority: &Authority| daemon.connect(authority, None).await.is_some();
    assert!(connects(&old).await && !connects(&new).await);
    files.server(&new.server());
    assert!(connects(&old).await);
    hang_up(&daemon.dev, READ).await;
    assert!(!connects(&old).await && connects(&new).await);
}

#[tokio::test]
async fn other_files_and_other_clients_of_tls_are_put_in_force() {
    let (old, new) = (Authority::new("old CA"), Authority::new("new CA"));
    let (first, second) = (TlsFiles::new(&old.server()), TlsFiles::new(&new.server()));
    let daemon = Encrypted::start(&tls(&first, ""));
    let client = new.client("pod");
    let ca = second.client_ca(&new.pem);
    let known = |principal: &str| {
        tls(
            &second,
            &format!(
                "client_ca = '{}'\nclients.'CN=pod' = 'arn:aws:iam::111122223333:user/{principal}'\n",
                ca.display()
            ),
        )
    };
    assert!(daemon.connect(&old, None).await.is_some());
    reload(&daemon.dev, &known("consumer"), READ).await;
    assert!(daemon.connect(&old, None).await.is_none());
    let mut open = Wire::new(daemon.connect(&new, Some(&client)).await.unwrap());
    let mint = Request::mint(HOST);
    open.ask(&mint).await.refusal(400, "AccessDeniedException");
    reload(&daemon.dev, &known("provisioner"), READ).await;
    open.ask(&mint).await.done();

    // Files that cannot be used leave those that are in force, with their clients.
    fs::write(&first.config.key, "nonsense").unwrap();
    reload(&daemon.dev, &tls(&first, ""), READ).await;
    open.ask(&mint).await.done();
    let mut again = Wire::new(daemon.connect(&new, Some(&client)).await.unwrap());
    again.ask(&mint).await.done();
    assert_eq!(metric(&daemon.dev, FAILED).await, 1.0);
    assert_eq!(
        metric(&daemon.dev, "keymill_tls_reload_failures_total").await,
        1.0
    );

    reload(&daemon.dev, "", "need a restart").await;
    open.ask(&mint).await.done();
}
