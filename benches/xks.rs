//! What AWS KMS waits for: `Encrypt` of an external key store beside `Encrypt` of the KMS API, on
//! one TLS listener, at 64 connections.
//!
//! The daemon has core 0; the client is a closed loop over epoll on core 1, whose TLS is the same
//! for both sides. Texts have 100 bytes, additional data and encryption contexts some 30. The
//! external key store also computes an integrity value and decrypts what it has encrypted.

#![expect(clippy::unwrap_used, reason = "a bench fails by panicking")]

mod machine;
mod rows;

use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use keymill::clock::Clock;
use mio::{Events, Interest, Poll, Token};
use rcgen::{CertificateParams, KeyPair};
use rows::{Goal, ROUNDS, Row};
use rustix::thread::{CpuSet, sched_setaffinity};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

const SERVER_CORE: &str = "0";
const CLIENT_CORE: usize = 1;
const CONNECTIONS: usize = 64;
/// How long a turn is counted, after a warm-up.
const WINDOW: Duration = Duration::from_millis(400);
const WARM_UP: Duration = Duration::from_millis(120);
const REGION: &str = "us-east-1";
const KMS_XKS: &str = "/orders/kms/xks/v1";
const BINARY: &str = env!("CARGO_BIN_EXE_keymill");

fn main() {
    if !machine::begins() {
        return;
    }
    let daemon = Daemon::start();
    let mut cores = CpuSet::new();
    cores.set(CLIENT_CORE);
    sched_setaffinity(None, &cores).unwrap();
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        // A signature is good for five minutes.
        let (xks, kms) = (daemon.xks_encrypt(), daemon.encrypt());
        let mut sides = [(&xks, &mut ours), (&kms, &mut theirs)];
        sides.rotate_left(round % 2);
        for (request, loads) in sides {
            loads.push(daemon.closed_loop(request));
        }
    }
    let p99 = |loads: &[Load]| loads.iter().map(|load| load.p99).collect();
    let rate = |loads: &[Load]| loads.iter().map(|load| load.rate).collect();
    Row::new("XKS Encrypt, one TLS listener, 64 connections, p99", "µs")
        .beside("XKS", p99(&ours), "Encrypt", p99(&theirs))
        .reach(Goal::AtMost(1.3));
    Row::new("the same, requests", "requests/s")
        .beside("XKS", rate(&ours), "Encrypt", rate(&theirs))
        .reach(Goal::Shown);
}

/// The results of a closed loop.
struct Load {
    /// Requests a second.
    rate: f64,
    /// Microseconds.
    p99: f64,
}

/// An access key.
struct Signer {
    id: String,
    secret: String,
}

/// `keymill dev` with TLS and an external key store, in a folder that is removed with it.
struct Daemon {
    child: Child,
    authority: String,
    tls: Arc<ClientConfig>,
    admin: Signer,
    aws: Signer,
    _folder: tempfile::TempDir,
}

impl Daemon {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
        let certificate = params.self_signed(&key).unwrap();
        std::fs::write(path("server.pem"), certificate.pem()).unwrap();
        std::fs::write(path("server.key"), key.serialize_pem()).unwrap();
        let narrow = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(path("server.key"), narrow).unwrap();
        let variables = [
            ("TLS__CERTIFICATE", path("server.pem")),
            ("TLS__KEY", path("server.key")),
            ("XKS__ORDERS__URI_PATH", KMS_XKS.to_owned()),
            (
                "XKS__ORDERS__PRINCIPAL",
                "arn:aws:iam::111122223333:user/aws-kms".to_owned(),
            ),
            ("XKS__ORDERS__REGIONS", REGION.to_owned()),
            ("XKS_KEYS__MAIN__STORE", "orders".to_owned()),
            ("XKS_KEYS__MAIN__ID", "main".to_owned()),
            ("XKS_KEYS__MAIN__KEY", "alias/containers".to_owned()),
        ];
        let variables = variables.map(|(name, value)| (format!("KEYMILL_{name}"), value));
        let mut child = Command::new("taskset")
            .args(["--cpu-list", SERVER_CORE, BINARY, "dev", "--json"])
            .args(["--listen", "127.0.0.1:0", "--dir", &path("dev")])
            .envs(variables)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let stdout = child.stdout.take().unwrap();
        BufReader::new(stdout).read_line(&mut line).unwrap();
        let ready: Value = serde_json::from_str(&line).unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let socket = format!("unix:{}", text(&ready["socket"]));
        let policy = r#"{"Statement":{"Effect":"Allow","Action":"kms:*","Resource":"*"}}"#;
        std::fs::write(path("policy.json"), policy).unwrap();
        let principal = |arguments: &[&str]| {
            let done = Command::new(BINARY)
                .arg("principal")
                .args(arguments)
                .args(["--endpoint", &socket, "--json"])
                .output()
                .unwrap();
            assert!(done.status.success(), "{done:?}");
            serde_json::from_slice::<Value>(&done.stdout).unwrap()
        };
        principal(&["create", "aws-kms", "--policy", &path("policy.json")]);
        let file = principal(&["new-xks-credential", "aws-kms", "--uri-path", KMS_XKS]);
        let aws = &file["XksProxyAuthenticationCredential"];
        let admin = &ready["principals"]["admin"];
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from(certificate.der().to_vec()))
            .unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self {
            child,
            authority: text(&ready["endpoint"]).replace("https://", ""),
            tls: Arc::new(tls),
            admin: Signer {
                id: text(&admin["access_key_id"]),
                secret: text(&admin["secret_access_key"]),
            },
            aws: Signer {
                id: text(&aws["AccessKeyId"]),
                secret: text(&aws["RawSecretAccessKey"]),
            },
            _folder: folder,
        }
    }

    fn encrypt(&self) -> Vec<u8> {
        let body = json!({
            "KeyId": "alias/containers",
            "Plaintext": "A".repeat(136),
            "EncryptionContext": {"container": "container-000042"},
        });
        let headers = [
            ("content-type", "application/x-amz-json-1.1"),
            ("x-amz-target", "TrentService.Encrypt"),
        ];
        self.signed(&self.admin, "kms", "/", &headers, &body)
    }

    fn xks_encrypt(&self) -> Vec<u8> {
        let body = json!({
            "requestMetadata": {
                "awsPrincipalArn": "arn:aws:iam::123456789012:user/Alice",
                "kmsKeyArn": "arn:aws:kms:us-east-2:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab",
                "kmsOperation": "GenerateDataKey",
                "kmsRequestId": "4112f4d6-db54-4af4-ae30-c55a22a8dfae",
            },
            "plaintext": "A".repeat(136),
            "additionalAuthenticatedData": "cHJvamVjdD1uaWxlLGRlcGFydG1lbnQ9bWFya2V0aW5n",
            "encryptionAlgorithm": "AES_GCM",
            "ciphertextDataIntegrityValueAlgorithm": "SHA_256",
        });
        let path = format!("{KMS_XKS}/keys/main/encrypt");
        let headers = [("content-type", "application/json")];
        self.signed(&self.aws, "kms-xks-proxy", &path, &headers, &body)
    }

    /// The bytes of a request, signed now.
    fn signed(
        &self,
        signer: &Signer,
        service: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &Value,
    ) -> Vec<u8> {
        let body = body.to_string();
        let credentials =
            aws_credential_types::Credentials::new(&signer.id, &signer.secret, None, None, "bench");
        let identity = credentials.into();
        let parameters = v4::SigningParams::builder()
            .identity(&identity)
            .region(REGION)
            .name(service)
            .time(UNIX_EPOCH + Duration::from_micros(Clock::system().now().0))
            .settings(SigningSettings::default())
            .build()
            .unwrap()
            .into();
        let url = format!("https://{}{path}", self.authority);
        let host = [("host", self.authority.as_str())];
        let all = || host.iter().chain(headers).copied();
        let signable = SignableBody::Bytes(body.as_bytes());
        let request = SignableRequest::new("POST", url, all(), signable).unwrap();
        let (instructions, _) = sign(request, &parameters).unwrap().into_parts();
        let (signed, _) = instructions.into_parts();
        let signed = signed.iter().map(|header| (header.name(), header.value()));
        let mut text = format!("POST {path} HTTP/1.1\r\n");
        for (name, value) in all().chain(signed) {
            text += &format!("{name}: {value}\r\n");
        }
        text += &format!("content-length: {}\r\n\r\n{body}", body.len());
        text.into_bytes()
    }

    /// Keeps one request in flight on each connection.
    fn closed_loop(&self, request: &[u8]) -> Load {
        let mut poll = Poll::new().unwrap();
        let mut open: Vec<_> = (0..CONNECTIONS)
            .map(|number| Connection::open(self, &poll, Token(number)))
            .collect();
        let response_bytes = open[0].answer_bytes(request, &mut poll);
        let clock = Clock::system();
        let counted_from = clock.monotonic() + WARM_UP;
        let end = counted_from + WINDOW;
        for connection in &mut open {
            connection.send(request, clock.monotonic());
        }
        let mut events = Events::with_capacity(1024);
        let mut latencies = Vec::with_capacity(1 << 16);
        'window: loop {
            poll.poll(&mut events, Some(Duration::from_secs(10)))
                .unwrap();
            assert!(!events.is_empty(), "no answer for ten seconds");
            for event in &events {
                let connection = &mut open[event.token().0];
                connection.read();
                if connection.filled < response_bytes {
                    continue;
                }
                assert_eq!(connection.filled, response_bytes, "answers are as long");
                let now = clock.monotonic();
                if now >= end {
                    break 'window;
                }
                if now >= counted_from {
                    latencies.push(now - connection.sent_at);
                }
                connection.send(request, now);
            }
        }
        latencies.sort_unstable();
        Load {
            rate: latencies.len() as f64 / WINDOW.as_secs_f64(),
            p99: latencies[latencies.len() * 99 / 100].as_secs_f64() * 1e6,
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let killed = self.child.kill().and_then(|()| self.child.wait());
        assert!(killed.is_ok(), "{killed:?}");
    }
}

/// One connection with TLS.
struct Connection {
    socket: mio::net::TcpStream,
    tls: ClientConnection,
    sent_at: Duration,
    /// Bytes of the response so far.
    filled: usize,
    first: Vec<u8>,
}

impl Connection {
    fn open(daemon: &Daemon, poll: &Poll, token: Token) -> Self {
        let mut socket = std::net::TcpStream::connect(&daemon.authority).unwrap();
        socket.set_nodelay(true).unwrap();
        let name = ServerName::try_from("127.0.0.1").unwrap();
        let mut tls = ClientConnection::new(Arc::clone(&daemon.tls), name).unwrap();
        while tls.is_handshaking() {
            tls.complete_io(&mut socket).unwrap();
        }
        socket.set_nonblocking(true).unwrap();
        let mut socket = mio::net::TcpStream::from_std(socket);
        let registry = poll.registry();
        registry
            .register(&mut socket, token, Interest::READABLE)
            .unwrap();
        Self {
            socket,
            tls,
            sent_at: Duration::ZERO,
            filled: 0,
            first: Vec::new(),
        }
    }

    fn send(&mut self, request: &[u8], now: Duration) {
        (self.sent_at, self.filled) = (now, 0);
        self.tls.writer().write_all(request).unwrap();
        while self.tls.wants_write() {
            self.tls.write_tls(&mut self.socket).unwrap();
        }
    }

    /// Reads what there is.
    fn read(&mut self) {
        let mut buffer = [0; 16 * 1024];
        loop {
            match self.tls.read_tls(&mut self.socket) {
                Ok(0) => panic!("the server closed the connection"),
                Ok(_) => drop(self.tls.process_new_packets().unwrap()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) => panic!("{error}"),
            }
            while let Ok(read) = self.tls.reader().read(&mut buffer) {
                if self.first.len() < buffer.len() {
                    self.first.extend_from_slice(&buffer[..read]);
                }
                self.filled += read;
            }
        }
    }

    /// The length of an answer, of one that is awaited whole.
    fn answer_bytes(&mut self, request: &[u8], poll: &mut Poll) -> usize {
        self.send(request, Duration::ZERO);
        let mut events = Events::with_capacity(16);
        loop {
            poll.poll(&mut events, Some(Duration::from_secs(10)))
                .unwrap();
            self.read();
            let text = String::from_utf8_lossy(&self.first).to_lowercase();
            let Some((head, body)) = text.split_once("\r\n\r\n") else {
                continue;
            };
            assert!(head.starts_with("http/1.1 200 "), "{text}");
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "));
            if length.is_some_and(|length| length == body.len().to_string()) {
                return self.filled;
            }
        }
    }
}
