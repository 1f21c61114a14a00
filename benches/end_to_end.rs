//! The whole daemon over loopback HTTP and over its Unix socket, beside a plain hyper server that answers as many bytes, and beside
//! a blocking echo that reads as many bytes and writes as many: what remains of the first ratio is ours, of the second hyper's.
//!
//! The daemon is `keymill dev` in a process of its own, the clients are blocking and the same for all sides, connections are kept. Over TCP requests
//! are signed, over the socket the kernel says who asks. Signatures are made before the clock starts.

#![expect(clippy::unwrap_used, reason = "a bench fails by panicking")]
#![expect(clippy::print_stdout, reason = "the table is the result")]

mod side_by_side;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use keymill::auth::Credentials;
use keymill::clock::Clock;
use keymill::crypto::secret::SecretBytes;
use serde::Deserialize;
use side_by_side::{Question, Side};
use std::cell::RefCell;
use std::convert::Infallible;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// Keys of a batch: 6 MB of blobs.
const BATCH: u32 = 65_536;
/// What one read takes at most.
const READ_BYTES: usize = 256 * 1024;
/// Connections of a loaded server.
const CONNECTIONS: usize = 16;

fn main() {
    let daemon = Arc::new(Daemon::start());
    let (mut questions, latencies) = questions(&daemon);
    side_by_side::criterion(&mut questions);
    if side_by_side::ratios_are_wanted() {
        latencies.borrow_mut().iter_mut().for_each(Latencies::clear);
        side_by_side::ratios(&mut questions);
        print_latencies(&latencies.borrow());
    }
}

fn questions(daemon: &Arc<Daemon>) -> (Vec<Question>, Rc<RefCell<Vec<Latencies>>>) {
    let latencies = Rc::new(RefCell::new(Vec::new()));
    let mut questions = Vec::new();
    for (name, what, transport, connections) in [
        ("one key, TCP", Call::One, Transport::Tcp, 1),
        ("one key, Unix socket", Call::One, Transport::Unix, 1),
        (
            "one key, TCP, 16 connections",
            Call::One,
            Transport::Tcp,
            CONNECTIONS,
        ),
        (
            "one key, Unix socket, 16 connections",
            Call::One,
            Transport::Unix,
            CONNECTIONS,
        ),
        ("65536 keys, TCP", Call::Batch, Transport::Tcp, 1),
        ("65536 keys, Unix socket", Call::Batch, Transport::Unix, 1),
    ] {
        let address = daemon.address(transport);
        let request: Arc<dyn Fn() -> Vec<u8> + Send + Sync> = {
            let daemon = Arc::clone(daemon);
            Arc::new(move || daemon.request(what, transport))
        };
        let request_bytes = request().len();
        let answer = address.connect().answer(&request());
        let sides = [
            ("keymill", address),
            ("plain hyper", plain_hyper(transport, &answer)),
            (
                "blocking echo",
                blocking_echo(transport, request_bytes, answer.whole()),
            ),
        ];
        let sides = sides.into_iter().map(|(side, address)| {
            let at = latencies.borrow().len();
            latencies.borrow_mut().push(Latencies::new(name, side));
            let latencies = Rc::clone(&latencies);
            let mut clients: Vec<_> = (0..connections).map(|_| address.connect()).collect();
            let request = Arc::clone(&request);
            Side::new(side, move |times| {
                let took = exchange(&mut clients, &request(), times);
                latencies.borrow_mut()[at].each.extend(&took.each);
                took.all
            })
        });
        questions.push(Question::new(name, what.keys(), sides.collect()));
    }
    (questions, latencies)
}

/// What is asked for.
#[derive(Clone, Copy)]
enum Call {
    One,
    Batch,
}

impl Call {
    fn keys(self) -> u32 {
        match self {
            Self::One => 1,
            Self::Batch => BATCH,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Transport {
    Tcp,
    Unix,
}

#[derive(Clone)]
enum Address {
    Tcp(String),
    Unix(PathBuf),
}

impl Address {
    fn connect(&self) -> Client {
        let stream: Box<dyn Stream> = match self {
            Self::Tcp(address) => {
                let stream = TcpStream::connect(address).unwrap();
                stream.set_nodelay(true).unwrap();
                Box::new(stream)
            }
            Self::Unix(path) => Box::new(UnixStream::connect(path).unwrap()),
        };
        Client {
            stream,
            buffer: vec![0; READ_BYTES],
        }
    }
}

trait Stream: Read + Write + Send {}
impl<S: Read + Write + Send> Stream for S {}

/// One connection.
struct Client {
    stream: Box<dyn Stream>,
    buffer: Vec<u8>,
}

/// A response as it was sent.
struct Answer {
    head: Vec<u8>,
    body: Vec<u8>,
}

impl Answer {
    fn whole(&self) -> Vec<u8> {
        [self.head.as_slice(), &self.body].concat()
    }
}

impl Client {
    /// Sends and waits for the whole response; `head` and `body` are shown its bytes.
    fn send(&mut self, request: &[u8], mut head: impl FnMut(&[u8]), mut body: impl FnMut(&[u8])) {
        self.stream.write_all(request).unwrap();
        let mut filled = 0;
        let head_bytes = loop {
            let end = self.buffer[..filled]
                .windows(4)
                .position(|bytes| bytes == b"\r\n\r\n");
            if let Some(end) = end {
                break end + 4;
            }
            filled += self.read(filled);
        };
        let text = std::str::from_utf8(&self.buffer[..head_bytes]).unwrap();
        assert!(text.starts_with("HTTP/1.1 200 "), "{text}");
        let length = |line: &str| {
            let (name, value) = line.split_once(':')?;
            let found = name.eq_ignore_ascii_case("content-length");
            found.then(|| value.trim().parse().unwrap())
        };
        let mut left: usize = text.lines().find_map(length).unwrap();
        head(&self.buffer[..head_bytes]);
        body(&self.buffer[head_bytes..filled]);
        left -= filled - head_bytes;
        while left > 0 {
            let read = self.read(0);
            body(&self.buffer[..read]);
            left -= read;
        }
    }

    fn read(&mut self, from: usize) -> usize {
        let read = self.stream.read(&mut self.buffer[from..]).unwrap();
        assert!(read > 0, "the server closed the connection");
        read
    }

    fn answer(&mut self, request: &[u8]) -> Answer {
        let (mut head, mut body) = (Vec::new(), Vec::new());
        self.send(
            request,
            |bytes| head.extend_from_slice(bytes),
            |bytes| body.extend_from_slice(bytes),
        );
        Answer { head, body }
    }

    /// How long each of `times` calls took.
    fn repeat(&mut self, request: &[u8], times: usize) -> Vec<Duration> {
        let clock = Clock::system();
        let mut before = Duration::ZERO;
        let calls = (0..times).map(|_| {
            self.send(request, |_| {}, |_| {});
            let now = clock.monotonic();
            now - std::mem::replace(&mut before, now)
        });
        calls.collect()
    }
}

struct Took {
    all: Duration,
    each: Vec<Duration>,
}

/// `times` calls over all connections at once.
fn exchange(clients: &mut [Client], request: &[u8], times: u64) -> Took {
    let times = usize::try_from(times).unwrap();
    let clock = Clock::system();
    if let [client] = clients {
        let each = client.repeat(request, times);
        let all = clock.monotonic();
        return Took { all, each };
    }
    let share = times.div_ceil(clients.len());
    let each: Vec<Duration> = thread::scope(|scope| {
        let calls: Vec<_> = clients
            .iter_mut()
            .map(|client| scope.spawn(move || client.repeat(request, share)))
            .collect();
        calls
            .into_iter()
            .flat_map(|calls| calls.join().unwrap())
            .collect()
    });
    let all = clock.monotonic().mul_f64(times as f64 / each.len() as f64);
    Took { all, each }
}

/// Every call of one side.
struct Latencies {
    question: &'static str,
    side: &'static str,
    each: Vec<Duration>,
}

impl Latencies {
    fn new(question: &'static str, side: &'static str) -> Self {
        Self {
            question,
            side,
            each: Vec::new(),
        }
    }

    fn clear(&mut self) {
        self.each.clear();
    }
}

fn print_latencies(latencies: &[Latencies]) {
    println!("\n| question | side | calls | p50 µs | p99 µs | p99.9 µs |");
    println!("|---|---|---|---|---|---|");
    for Latencies {
        question,
        side,
        each,
    } in latencies
    {
        let mut each = each.clone();
        each.sort_unstable();
        let calls = each.len();
        let [p50, p99, p999] = [(1, 2), (99, 100), (999, 1000)]
            .map(|(part, of)| each[(calls * part / of).min(calls - 1)].as_secs_f64() * 1e6);
        println!("| {question} | {side} | {calls} | {p50:.1} | {p99:.1} | {p999:.1} |");
    }
}

/// What `keymill dev --json` prints once it is ready.
#[derive(Deserialize)]
struct Ready {
    endpoint: String,
    socket: PathBuf,
    region: String,
    principals: Principals,
}

#[derive(Deserialize)]
struct Principals {
    provisioner: AccessKey,
}

#[derive(Deserialize)]
struct AccessKey {
    access_key_id: String,
    secret_access_key: String,
}

/// `keymill dev` in a folder that goes with it.
struct Daemon {
    child: Child,
    credentials: Credentials,
    authority: String,
    socket: PathBuf,
    _folder: tempfile::TempDir,
}

impl Daemon {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_keymill"))
            .args(["dev", "--json", "--listen", "127.0.0.1:0", "--dir"])
            .arg(folder.path().join("keymill-dev"))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let stdout = child.stdout.take().unwrap();
        BufReader::new(stdout).read_line(&mut line).unwrap();
        let ready: Ready = serde_json::from_str(&line).unwrap();
        let AccessKey {
            access_key_id,
            secret_access_key: secret,
        } = ready.principals.provisioner;
        let secret_access_key = SecretBytes::filled(secret.len(), |bytes| {
            bytes.copy_from_slice(secret.as_bytes())
        });
        Self {
            child,
            credentials: Credentials {
                access_key_id,
                secret_access_key,
                session_token: None,
                region: ready.region,
            },
            authority: ready.endpoint.strip_prefix("http://").unwrap().to_owned(),
            socket: ready.socket,
            _folder: folder,
        }
    }

    fn address(&self, transport: Transport) -> Address {
        match transport {
            Transport::Tcp => Address::Tcp(self.authority.clone()),
            Transport::Unix => Address::Unix(self.socket.clone()),
        }
    }

    /// The bytes of a request, signed now where it goes over TCP.
    fn request(&self, call: Call, transport: Transport) -> Vec<u8> {
        let context = r#""EncryptionContext":{"container":"container-000000000042"}"#;
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, self.authority.parse().unwrap());
        let (path, body) = match call {
            Call::One => {
                let target = "TrentService.GenerateDataKeyWithoutPlaintext";
                let target = HeaderValue::from_static(target);
                headers.insert(HeaderName::from_static("x-amz-target"), target);
                let json = HeaderValue::from_static("application/x-amz-json-1.1");
                headers.insert(header::CONTENT_TYPE, json);
                let body =
                    format!(r#"{{"KeyId":"alias/containers","KeySpec":"AES_256",{context}}}"#);
                ("/", body)
            }
            Call::Batch => {
                let binary = HeaderValue::from_static("application/octet-stream");
                headers.insert(header::ACCEPT, binary);
                let json = HeaderValue::from_static("application/json");
                headers.insert(header::CONTENT_TYPE, json);
                let body = format!(
                    r#"{{"KeyId":"alias/containers","KeySpec":"AES_256",{context},"Count":{BATCH}}}"#
                );
                ("/v1/data-keys", body)
            }
        };
        if transport == Transport::Tcp {
            let now = Clock::system().now();
            let body = body.as_bytes();
            self.credentials
                .sign(&Method::POST, path, &mut headers, body, now)
                .unwrap();
        }
        headers.insert(header::CONTENT_LENGTH, body.len().into());
        let mut request = format!("POST {path} HTTP/1.1\r\n").into_bytes();
        for (name, value) in &headers {
            request.extend_from_slice(name.as_str().as_bytes());
            request.extend_from_slice(b": ");
            request.extend_from_slice(value.as_bytes());
            request.extend_from_slice(b"\r\n");
        }
        request.extend_from_slice(b"\r\n");
        request.extend_from_slice(body.as_bytes());
        request
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let killed = self.child.kill().and_then(|()| self.child.wait());
        assert!(killed.is_ok(), "{killed:?}");
    }
}

/// A listener of a peer's own.
enum Listener {
    Tcp(TcpListener),
    /// With the folder of its socket.
    Unix(UnixListener, tempfile::TempDir),
}

impl Listener {
    fn bind(transport: Transport) -> (Self, Address) {
        match transport {
            Transport::Tcp => {
                let listener = TcpListener::bind("127.0.0.1:0").unwrap();
                let address = listener.local_addr().unwrap().to_string();
                (Self::Tcp(listener), Address::Tcp(address))
            }
            Transport::Unix => {
                let folder = tempfile::tempdir().unwrap();
                let path = folder.path().join("peer.sock");
                let listener = UnixListener::bind(&path).unwrap();
                (Self::Unix(listener, folder), Address::Unix(path))
            }
        }
    }
}

/// hyper on tokio's ordinary runtime: reads each request whole, and answers with the head and body of `answer`.
fn plain_hyper(transport: Transport, answer: &Answer) -> Address {
    let (listener, address) = Listener::bind(transport);
    let mut template = Response::new(Full::new(Bytes::from(answer.body.clone())));
    for line in std::str::from_utf8(&answer.head).unwrap().lines().skip(1) {
        let Some((name, value)) = line.split_once(": ") else {
            continue;
        };
        // These two hyper writes by itself.
        let name: HeaderName = name.parse().unwrap();
        if name != header::DATE && name != header::CONTENT_LENGTH {
            template.headers_mut().append(name, value.parse().unwrap());
        }
    }
    assert_eq!(template.status(), StatusCode::OK);
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async move {
            match listener {
                Listener::Tcp(listener) => {
                    listener.set_nonblocking(true).unwrap();
                    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                    loop {
                        let (stream, _) = listener.accept().await.unwrap();
                        stream.set_nodelay(true).unwrap();
                        tokio::spawn(serve(TokioIo::new(stream), template.clone()));
                    }
                }
                Listener::Unix(listener, _folder) => {
                    listener.set_nonblocking(true).unwrap();
                    let listener = tokio::net::UnixListener::from_std(listener).unwrap();
                    loop {
                        let (stream, _) = listener.accept().await.unwrap();
                        tokio::spawn(serve(TokioIo::new(stream), template.clone()));
                    }
                }
            }
        });
    });
    address
}

async fn serve<I>(stream: I, template: Response<Full<Bytes>>)
where
    I: hyper::rt::Read + hyper::rt::Write + Unpin,
{
    let service = service_fn(|request: Request<Incoming>| {
        let template = template.clone();
        async move {
            request.into_body().collect().await.unwrap();
            Ok::<_, Infallible>(template)
        }
    });
    // Ends when the client goes.
    drop(
        http1::Builder::new()
            .serve_connection(stream, service)
            .await,
    );
}

/// A thread for each connection: reads `request_bytes`, writes `answer`.
fn blocking_echo(transport: Transport, request_bytes: usize, answer: Vec<u8>) -> Address {
    let (listener, address) = Listener::bind(transport);
    let answer: Arc<[u8]> = answer.into();
    let accept = move || -> Box<dyn Stream> {
        match &listener {
            Listener::Tcp(listener) => {
                let (stream, _) = listener.accept().unwrap();
                stream.set_nodelay(true).unwrap();
                Box::new(stream)
            }
            Listener::Unix(listener, _) => Box::new(listener.accept().unwrap().0),
        }
    };
    thread::spawn(move || {
        loop {
            let (mut stream, answer) = (accept(), Arc::clone(&answer));
            thread::spawn(move || {
                let mut request = vec![0; request_bytes];
                while stream.read_exact(&mut request).is_ok() && stream.write_all(&answer).is_ok() {
                }
            });
        }
    });
    address
}
