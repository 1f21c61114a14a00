//! A PostgreSQL server of a test's own: in a temporary folder, on a Unix socket and on loopback,
//! under an ordinary user. It is the one that is installed (Debian's package `postgresql`); without
//! it the tests fail.

use crate::keystore::postgres::Access;
use std::fs::{self, File};
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tempfile::TempDir;
use tokio_postgres::{Client, NoTls};

/// The user that every machine has and that owns nothing, for a test that root runs.
const NOBODY: u32 = 65534;
const START_TIME_MAX: Duration = Duration::from_secs(120);
pub(super) const PASSWORD: &str = "not-a-secret-of-anyone";

pub(crate) struct Server {
    pub(super) folder: TempDir,
    process: Child,
    pub(super) port: u16,
    databases: AtomicUsize,
}

impl Server {
    pub(crate) async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let certified = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
        for (name, text) in [
            ("password", format!("{PASSWORD}\n")),
            ("server.crt", certified.cert.pem()),
            ("server.key", certified.signing_key.serialize_pem()),
        ] {
            write_private(&at(name), &text);
        }
        if is_root() {
            for name in ["", "password", "server.crt", "server.key"] {
                chown(at(name), Some(NOBODY), Some(NOBODY)).unwrap();
            }
        }
        let data = at("data").display().to_string();
        let password = at("password").display().to_string();
        let made = run("initdb", folder.path())
            .args(["-D", &data, "-U", "keymill", "--pwfile", &password])
            .args(["--auth-local=trust", "--auth-host=scram-sha-256"])
            .args(["-E", "UTF8", "--locale=C", "--no-sync"])
            .stdout(Stdio::null())
            .status();
        assert!(made.unwrap().success(), "initdb");
        let port = free_port();
        let process = spawn(folder.path(), port);
        let server = Self {
            folder,
            process,
            port,
            databases: AtomicUsize::new(0),
        };
        server.wait().await;
        // Not on the command line, which no test could overrule.
        server.sql("postgres", "ALTER SYSTEM SET ssl = on").await;
        server.sql("postgres", "SELECT pg_reload_conf()").await;
        server
    }

    /// Ends, and begins again as a standby that has no primary to follow.
    pub(super) async fn become_standby(&mut self) {
        // SIGINT ends the server once its state is on disk.
        self.end(rustix::process::Signal::INT);
        drop(self.file("data/standby.signal", ""));
        if is_root() {
            let signal = self.folder.path().join("data/standby.signal");
            chown(signal, Some(NOBODY), Some(NOBODY)).unwrap();
        }
        self.process = spawn(self.folder.path(), self.port);
        self.wait().await;
    }

    fn end(&mut self, signal: rustix::process::Signal) {
        let id = rustix::process::Pid::from_child(&self.process);
        let _gone = rustix::process::kill_process(id, signal);
        drop(self.process.wait());
    }

    async fn wait(&self) {
        let waited = tokio::time::timeout(START_TIME_MAX, async {
            while self.try_connect("postgres").await.is_err() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
        if waited.await.is_err() {
            let log = fs::read_to_string(self.folder.path().join("log"));
            panic!("the server did not start: {}", log.unwrap_or_default());
        }
    }

    async fn try_connect(&self, database: &str) -> Result<Client, tokio_postgres::Error> {
        let socket = self.folder.path().join(format!(".s.PGSQL.{}", self.port));
        let mut config = tokio_postgres::Config::new();
        config.user("keymill").dbname(database);
        let stream = tokio::net::UnixStream::connect(socket).await;
        let stream = stream.map_err(|_| tokio_postgres::Error::__private_api_timeout())?;
        let (client, connection) = config.connect_raw(stream, NoTls).await?;
        tokio::spawn(connection);
        Ok(client)
    }

    /// Runs statements in a database, beside keymill.
    pub(super) async fn sql(&self, database: &str, statements: &str) {
        let client = self.try_connect(database).await.unwrap();
        client.batch_execute(statements).await.unwrap();
    }

    /// The text of one value.
    pub(super) async fn value(&self, database: &str, query: &str) -> String {
        let client = self.try_connect(database).await.unwrap();
        let row = client.query_typed_one(query, &[]).await.unwrap();
        row.get(0)
    }

    /// A new database, by name.
    pub(super) async fn database(&self) -> String {
        let name = format!("d{}", self.databases.fetch_add(1, Ordering::SeqCst));
        self.sql("postgres", &format!("CREATE DATABASE {name}"))
            .await;
        name
    }

    /// A database over the Unix socket.
    pub(super) fn access(&self, database: &str) -> Access {
        let folder = self.folder.path().display();
        let port = self.port;
        self.through(&format!(
            "postgres://keymill@/{database}?host={folder}&port={port}"
        ))
    }

    /// A database over this URL, without a password.
    pub(super) fn through(&self, url: &str) -> Access {
        Access {
            url: url.parse().unwrap(),
            password_file: None,
            ca_file: None,
        }
    }

    /// A file that only its owner can read.
    pub(super) fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        write_private(&path, text);
        path
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // SIGQUIT ends the server with all of its processes at once.
        self.end(rustix::process::Signal::QUIT);
    }
}

/// A server on what is in the folder.
fn spawn(folder: &Path, port: u16) -> Child {
    let at = |name: &str| folder.join(name).display().to_string();
    run("postgres", folder)
        .args(["-D", &at("data"), "-k", &folder.display().to_string()])
        .args(["-p", &port.to_string()])
        .args(["-c", "listen_addresses=127.0.0.1"])
        .args(["-c", &format!("ssl_cert_file={}", at("server.crt"))])
        .args(["-c", &format!("ssl_key_file={}", at("server.key"))])
        .stdout(Stdio::null())
        .stderr(File::create(folder.join("log")).unwrap())
        .spawn()
        .unwrap()
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn write_private(path: &Path, text: &str) {
    drop(fs::remove_file(path));
    let mut file = crate::file::open::new(path, 0o600).unwrap();
    std::io::Write::write_all(&mut file, text.as_bytes()).unwrap();
}

/// A program of the newest PostgreSQL here.
fn run(program: &str, folder: &Path) -> Command {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    let version = |entry: std::io::Result<fs::DirEntry>| {
        entry.ok()?.file_name().to_str()?.parse::<u32>().ok()
    };
    let newest = versions.filter_map(version).max();
    let path = newest.map_or_else(
        || program.to_owned(),
        |version| format!("/usr/lib/postgresql/{version}/bin/{program}"),
    );
    let mut command = if is_root() {
        let mut command = Command::new("setpriv");
        let (user, group) = (format!("--reuid={NOBODY}"), format!("--regid={NOBODY}"));
        command.args([&user, &group, "--clear-groups", &path]);
        command
    } else {
        Command::new(path)
    };
    command
        .current_dir(folder)
        .env_clear()
        .env("PATH", "/usr/bin:/bin");
    command
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}
