//! A PostgreSQL server of a bench's own, in a folder that goes with it: the one that is installed
//! (Debian's package `postgresql`), as it is configured by default, with the extension that counts
//! statements. It is reached over its Unix socket, by way of a relay where bytes are counted.

use crate::processes::parent;
use keymill::clock::Clock;
use rustix::process::{Pid, Signal, geteuid, kill_process};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::chown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio_postgres::{Client, NoTls};

/// The user that every machine has and that owns nothing: the server refuses to run as root.
const NOBODY: u32 = 65534;
const START_TIME_MAX: Duration = Duration::from_secs(60);
/// The name of its socket; the number is of no other use.
const SOCKET: &str = ".s.PGSQL.5432";

pub(crate) struct Server {
    child: Child,
    folder: TempDir,
    /// Of connections, which are driven while something waits for them.
    pub(crate) runtime: Runtime,
}

impl Server {
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        if geteuid().is_root() {
            chown(folder.path(), Some(NOBODY), Some(NOBODY)).unwrap();
        }
        let data = folder.path().join("data").display().to_string();
        let made = program("initdb", folder.path())
            .args(["-D", &data, "-U", "keymill", "--auth=trust"])
            .args(["-E", "UTF8", "--locale=C", "--no-sync"])
            .stdout(Stdio::null())
            .status();
        assert!(made.unwrap().success(), "initdb");
        let child = program("postgres", folder.path())
            .args(["-D", &data, "-k", &folder.path().display().to_string()])
            .args(["-c", "listen_addresses="])
            .args(["-c", "shared_preload_libraries=pg_stat_statements"])
            .stdout(Stdio::null())
            .stderr(File::create(folder.path().join("log")).unwrap())
            .spawn()
            .unwrap();
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().build().unwrap();
        let server = Self {
            child,
            folder,
            runtime,
        };
        let clock = Clock::system();
        while server
            .runtime
            .block_on(server.connected("postgres"))
            .is_none()
        {
            assert!(
                clock.monotonic() < START_TIME_MAX,
                "PostgreSQL is not there"
            );
            thread::sleep(Duration::from_millis(50));
        }
        server.run("CREATE EXTENSION pg_stat_statements");
        server
    }

    /// Makes an empty database, and returns its URL.
    pub(crate) fn database(&self, name: &str) -> String {
        self.run(&format!("CREATE DATABASE {name}"));
        self.url(name)
    }

    fn url(&self, name: &str) -> String {
        url(name, self.folder.path())
    }

    /// Runs statements beside every keystore.
    pub(crate) fn run(&self, statements: &str) {
        let client = self.client("postgres");
        self.runtime
            .block_on(client.batch_execute(statements))
            .unwrap();
    }

    pub(crate) fn client(&self, database: &str) -> Client {
        let client = self.runtime.block_on(self.connected(database));
        client.unwrap()
    }

    async fn connected(&self, database: &str) -> Option<Client> {
        let socket = self.folder.path().join(SOCKET);
        let stream = tokio::net::UnixStream::connect(socket).await.ok()?;
        let mut config = tokio_postgres::Config::new();
        config.user("keymill").dbname(database);
        let (client, connection) = config.connect_raw(stream, NoTls).await.ok()?;
        tokio::spawn(connection);
        Some(client)
    }

    /// The processes of its connections.
    pub(crate) fn connections(&self) -> BTreeSet<u32> {
        let entries = fs::read_dir("/proc").unwrap();
        let ids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        let is_connection = |id: &u32| {
            let title = fs::read_to_string(format!("/proc/{id}/cmdline")).unwrap_or_default();
            parent(*id) == Some(self.child.id()) && title.contains("[local]")
        };
        ids.filter(is_connection).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // SIGQUIT ends the server with all of its processes at once.
        let _gone = kill_process(Pid::from_child(&self.child), Signal::QUIT);
        drop(self.child.wait());
    }
}

fn url(database: &str, folder: &Path) -> String {
    format!("postgres://keymill@/{database}?host={}", folder.display())
}

/// A program of the newest PostgreSQL here, under an ordinary user.
fn program(name: &str, folder: &Path) -> Command {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    let numbers = versions.filter_map(|entry| {
        let name = entry.ok()?.file_name();
        name.to_str()?.parse::<u32>().ok()
    });
    let path = numbers.max().map_or_else(
        || name.to_owned(),
        |version| format!("/usr/lib/postgresql/{version}/bin/{name}"),
    );
    let mut command = if geteuid().is_root() {
        let mut command = Command::new("setpriv");
        let (user, group) = (format!("--reuid={NOBODY}"), format!("--regid={NOBODY}"));
        command.args([&user, &group, "--clear-groups", &path]);
        command
    } else {
        Command::new(path)
    };
    command.current_dir(folder);
    command
}

/// Passes connections on to a server, and counts their bytes.
pub(crate) struct Relay {
    folder: TempDir,
    counts: Arc<[AtomicU64; 2]>,
}

impl Relay {
    pub(crate) fn to(server: &Server) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join(SOCKET)).unwrap();
        let counts: Arc<[AtomicU64; 2]> = Arc::default();
        let (socket, counted) = (server.folder.path().join(SOCKET), Arc::clone(&counts));
        thread::spawn(move || {
            for client in listener.incoming() {
                let (client, server) = (client.unwrap(), UnixStream::connect(&socket).unwrap());
                let ends = [
                    (client.try_clone().unwrap(), server.try_clone().unwrap()),
                    (server, client),
                ];
                for (way, (from, to)) in ends.into_iter().enumerate() {
                    let counted = Arc::clone(&counted);
                    thread::spawn(move || pass(from, to, &counted[way]));
                }
            }
        });
        Self { folder, counts }
    }

    pub(crate) fn url(&self, database: &str) -> String {
        url(database, self.folder.path())
    }

    /// The bytes to the server and from it since the last call: those of the protocol, without
    /// what TLS, TCP and IP add.
    pub(crate) fn bytes(&self) -> [f64; 2] {
        [0, 1].map(|way| self.counts[way].swap(0, Ordering::SeqCst) as f64)
    }
}

/// Until one end closes.
fn pass(mut from: UnixStream, mut to: UnixStream, counted: &AtomicU64) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        counted.fetch_add(read as u64, Ordering::SeqCst);
        if to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    // The other end may be gone already.
    let _gone = to.shutdown(Shutdown::Both);
}
