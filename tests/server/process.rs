//! The whole program with a configuration: several sockets, each with its principals, and a signal that has the files of TLS read again.

use crate::certificates::{Authority, Client};
use crate::daemon::{ALIAS, TlsFiles};
use crate::wire::{Answer, Request, Wire, within};
use rustix::process::{Pid, Signal, kill_process};
use rustls::pki_types::ServerName;
use serde_json::{Value, json};
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

const HOST: &str = "localhost";

/// `keymill dev` with settings of the test's, killed when dropped.
struct Dev {
    child: Child,
    ready: Value,
    folder: tempfile::TempDir,
}

impl Dev {
    fn start(settings: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("keymill.toml"), settings).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_keymill"))
            .env_clear()
            .args(["dev", "--json", "--listen", "127.0.0.1:0"])
            .args(["--admin-listen", "127.0.0.1:0", "--dir"])
            .arg(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        stdout.read_line(&mut line).unwrap();
        let ready = serde_json::from_str(&line);
        Self {
            child,
            ready: ready.unwrap_or_else(|error| panic!("{error}: it said {line:?}")),
            folder,
        }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    fn hang_up(&self) {
        kill_process(Pid::from_child(&self.child), Signal::HUP).unwrap();
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

async fn ask(socket: &Path, request: &Request) -> Answer {
    let stream = within(UnixStream::connect(socket)).await.unwrap();
    Wire::new(stream).ask(request).await
}

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

    let body = json!({"KeyId": ALIAS, "KeySpec": "AES_256"});
    let generate = Request::kms("GenerateDataKeyWithoutPlaintext", HOST, &body);
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

    // The operator's uid is the same everywhere here; his routes are on one socket.
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
    // The timer has no part in this.
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
