//! The daemon beside other programs that hand out data keys: moto's server, and SoftHSM2, which
//! makes and wraps a key in its caller's process.
//!
//! `benches/peers` installs both and runs this. Servers have core 0, their clients core 1; SoftHSM2
//! and the Python that drives it have core 0 too. To the daemon, requests are signed and
//! connections are kept; moto closes each connection that it has answered on, and compares no
//! signature.

#![expect(clippy::unwrap_used, reason = "a bench fails by panicking")]
#![expect(clippy::print_stdout, reason = "the table is the result")]

mod closed_loop;
mod machine;
mod rows;
mod served;

use closed_loop::{closed_loop, closed_loop_unkept};
use rows::{Goal, ROUNDS, Row};
use served::{Address, CLIENT_CORE, Daemon, SERVER_CORE, Transport, pin, unsigned_request};
use std::io::{BufRead, BufReader, Lines, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

fn main() {
    if !machine::begins() {
        return;
    }
    let Some(peers) = std::env::var_os("PEERS").map(PathBuf::from) else {
        println!("`benches/peers` runs this");
        return;
    };
    let daemon = Daemon::start(Some(SERVER_CORE));
    let moto = Moto::start(&peers);
    let mut softhsm = SoftHsm::start(&peers);
    pin(CLIENT_CORE);
    let (tcp, unix) = (
        daemon.address(Transport::Tcp),
        daemon.address(Transport::Unix),
    );
    let asked_of_moto = moto.request();
    for connections in [1, 8, 64] {
        let mut sides: [Vec<f64>; 4] = Default::default();
        for round in 0..ROUNDS {
            let request = daemon.boto3_request();
            for turn in 0..sides.len() {
                let side = (round + turn) % sides.len();
                sides[side].push(match side {
                    0 => closed_loop(&tcp, &request, connections).rate,
                    1 => closed_loop_unkept(&moto.address, &asked_of_moto, connections).rate,
                    2 => closed_loop(&unix, &request, connections).rate,
                    _ => softhsm.rate(connections),
                });
            }
        }
        let [by_tcp, by_moto, by_unix, by_softhsm] = sides;
        let many = if connections == 1 {
            "connection"
        } else {
            "connections"
        };
        Row::new(
            format!("data keys, {connections} {many}, beside moto_server"),
            "requests/s",
        )
        .beside("keymill, TCP", by_tcp, "moto_server", by_moto)
        .reach(Goal::Shown);
        Row::new(
            format!("data keys, {connections} {many}, beside SoftHSM2"),
            "keys/s",
        )
        .beside(
            "keymill, Unix socket",
            by_unix,
            "SoftHSM2, as many sessions",
            by_softhsm,
        )
        .reach(Goal::Shown);
    }
}

/// The command on the servers' core.
fn on_the_servers_core(program: &Path) -> Command {
    let mut command = Command::new("taskset");
    command
        .args(["--cpu-list", &SERVER_CORE.to_string()])
        .arg(program);
    command
}

/// Ends with the bench.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let killed = self.0.kill().and_then(|()| self.0.wait());
        assert!(killed.is_ok(), "{killed:?}");
    }
}

struct Moto {
    _process: Process,
    address: Address,
}

impl Moto {
    fn start(peers: &Path) -> Self {
        // A port that was free a moment ago: moto takes none by itself.
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let child = on_the_servers_core(&peers.join("bin/moto_server"))
            .args(["--port", &port.to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let address = format!("127.0.0.1:{port}");
        while TcpStream::connect(&address).is_err() {
            std::thread::sleep(Duration::from_millis(50));
        }
        Self {
            _process: Process(child),
            address: Address::Tcp(address),
        }
    }

    /// For a data key under a key that is made now.
    fn request(&self) -> Vec<u8> {
        let create = String::from_utf8(unsigned_request("{}")).unwrap();
        let operation = "TrentService.GenerateDataKeyWithoutPlaintext";
        let create = signed_for_moto(&create.replace(operation, "TrentService.CreateKey"));
        let answer = self.address.connect().answer(&create).whole();
        let answer = String::from_utf8(answer).unwrap();
        let (_, rest) = answer.split_once(r#""KeyId": ""#).unwrap();
        let (id, _) = rest.split_once('"').unwrap();
        let body = format!(
            r#"{{"KeyId":"{id}","KeySpec":"AES_256","EncryptionContext":{{"container":"container-000000000042","tenant":"tenant-000000000007"}}}}"#
        );
        let generate = String::from_utf8(unsigned_request(&body)).unwrap();
        signed_for_moto(&generate)
    }
}

/// It only looks for the service and the Region.
fn signed_for_moto(request: &str) -> Vec<u8> {
    let authorization = "authorization: AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20260101/us-east-1/kms/aws4_request, SignedHeaders=host, Signature=00";
    request
        .replacen("\r\n\r\n", &format!("\r\n{authorization}\r\n\r\n"), 1)
        .into_bytes()
}

struct SoftHsm {
    _process: Process,
    orders: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
    _folder: tempfile::TempDir,
}

impl SoftHsm {
    fn start(peers: &Path) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut child = on_the_servers_core(&peers.join("bin/python"))
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/softhsm.py"))
            .arg(folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut started = Self {
            orders: child.stdin.take().unwrap(),
            answers: BufReader::new(child.stdout.take().unwrap()).lines(),
            _process: Process(child),
            _folder: folder,
        };
        assert_eq!(started.answer(), "ready");
        started
    }

    fn answer(&mut self) -> String {
        self.answers.next().unwrap().unwrap()
    }

    /// Keys a second, by so many threads.
    fn rate(&mut self, threads: usize) -> f64 {
        writeln!(self.orders, "{threads}").unwrap();
        self.answer().parse().unwrap()
    }
}
