//! The whole program with a configuration: several sockets, each with its principals, and a signal
//! that has the files of TLS read again.

use crate::server::certificates::{Authority, Client};
use crate::server::daemon::TlsFiles;
use crate::server::dev::{Dev, ask};
use crate::server::wire::{Request, within};
use rustls::pki_types::ServerName;
use serde_json::json;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

const HOST: &str = "localhost";

#[tokio::test]
async fn every_socket_has_its_mode_and_its_own_principals() {
    let uid = match rustix::process::geteuid().as_raw() {
        0 => "root".to_owned(),
        uid => uid.to_string(),
    };
    let arn = |name| format!("arn:aws:iam::111122223333:user/{name}");
    let (provisioner, consumer, admin) = (arn("provisioner"), arn("consumer"), arn("admin"));
    let dev = Dev::start(&format!(
        "peers.users.{uid} = '{provisioner}'\n\
         [sockets.pod]\npath = 'pod.sock'\nmode = '0666'\nprincipal = '{consumer}'\n\
         [sockets.desk]\npath = 'desk.sock'\nmode = '0600'\nusers.{uid} = '{admin}'\n\
         [sockets.strangers]\npath = 'strangers.sock'\ngroups.4242 = '{admin}'\n"
    ));
    let [own, pod, desk, strangers] =
        ["keymill.sock", "pod.sock", "desk.sock", "strangers.sock"].map(|name| dev.path(name));
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let modes = [&own, &pod, &desk, &strangers].map(|path| mode(path));
    assert_eq!(modes, [0o660, 0o666, 0o600, 0o660]);

    let generate = Request::mint(HOST);
    let made = ask(&own, &generate).await.done();
    let body = json!({"CiphertextBlob": made["CiphertextBlob"]});
    let decrypt = Request::kms("Decrypt", HOST, &body);
    ask(&pod, &decrypt).await.done();
    ask(&desk, &decrypt).await.done();
    ask(&desk, &generate).await.done();
    for (socket, request) in [(&own, &decrypt), (&pod, &generate)] {
        let answer = ask(socket, request).await;
        answer.refusal(400, "AccessDeniedException");
    }
    let answer = ask(&strangers, &decrypt).await;
    answer.refusal(400, "MissingAuthenticationTokenException");

    // The operator's uid is the same on all sockets here; the admin routes are on one socket.
    let list = Request::post("/v1/admin/ListPrincipals", HOST, &json!({}));
    ask(&own, &list).await.done();
    for socket in [&pod, &desk, &strangers] {
        let answer = ask(socket, &list).await;
        answer.refusal(403, "AccessDeniedException");
    }
}

#[tokio::test]
async fn a_hangup_has_the_files_of_tls_read_again() {
    let (old, new) = (Authority::new("old CA"), Authority::new("new CA"));
    let files = TlsFiles::new(&old.server());
    // The timer plays no part in this.
    let dev = Dev::start(&format!(
        "[tls]\ncertificate = '{}'\nkey = '{}'\nreload_seconds = 86400\n",
        files.config.certificate.display(),
        files.config.key.display()
    ));
    let endpoint = dev.ready["endpoint"].as_str().unwrap();
    let address: SocketAddr = endpoint.strip_prefix("https://").unwrap().parse().unwrap();
    let connects = async |authority: &Authority| {
        let stream = within(TcpStream::connect(address)).await.unwrap();
        let connector = TlsConnector::from(Client::new(authority, None).config());
        let connected = connector.connect(ServerName::from(address.ip()), stream);
        within(connected).await.is_ok()
    };
    assert!(connects(&old).await && !connects(&new).await);
    files.server(&new.server());
    assert!(connects(&old).await);
    dev.hang_up();
    within(async { while !connects(&new).await {} }).await;
    assert!(!connects(&old).await);
}

#[tokio::test]
async fn hold_4_a_hangup_without_tls_is_told_and_ends_nothing() {
    let dev = Dev::start("");
    dev.hang_up();
    dev.logs("SIGHUP: nothing is read again").await;
    let list = Request::post("/v1/admin/ListPrincipals", HOST, &json!({}));
    dev.ask("keymill.sock", &list).await.done();
}
