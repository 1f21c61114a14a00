//! The servers: the daemon in a process of its own, a plain hyper server that answers as many
//! bytes, and a blocking echo; and clients for all three.
//!
//! The daemon is `keymill dev`; each server may be bound to one core, so that what is compared is
//! the work of a request and not the scheduler's.

// Each bench uses its own part of it.
#![allow(dead_code, reason = "compiled into each bench that asks for it")]

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
use rustix::thread::{CpuSet, sched_setaffinity};
use serde::Deserialize;
use std::convert::Infallible;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// Where servers run, and where their clients do.
pub(crate) const SERVER_CORE: usize = 0;
pub(crate) const CLIENT_CORE: usize = 1;
/// The most bytes of one read.
const READ_BYTES: usize = 256 * 1024;

/// Binds the calling thread to one core.
pub(crate) fn pin(core: usize) {
    let mut cores = CpuSet::new();
    cores.set(core);
    sched_setaffinity(None, &cores).unwrap();
}

/// The request.
#[derive(Clone, Copy)]
pub(crate) enum Call {
    One,
    /// So many keys, as octets.
    Batch(u32),
    /// So many keys of 1,024 bytes, as lines.
    Lines(u32),
}

impl Call {
    pub(crate) fn keys(self) -> u32 {
        match self {
            Self::One => 1,
            Self::Batch(keys) | Self::Lines(keys) => keys,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    Tcp,
    Unix,
}

#[derive(Clone)]
pub(crate) enum Address {
    Tcp(String),
    Unix(PathBuf),
}

impl Address {
    pub(crate) fn connect(&self) -> Client {
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

pub(crate) trait Stream: Read + Write + Send {}
impl<S: Read + Write + Send> Stream for S {}

/// One connection.
pub(crate) struct Client {
    stream: Box<dyn Stream>,
    buffer: Vec<u8>,
}

/// A response as it was sent.
pub(crate) struct Answer {
    head: Vec<u8>,
    body: Vec<u8>,
}

impl Answer {
    pub(crate) fn body(&self) -> &[u8] {
        &self.body
    }

    pub(crate) fn whole(&self) -> Vec<u8> {
        [self.head.as_slice(), &self.body].concat()
    }
}

impl Client {
    /// Sends and waits for the whole response, which must be a success; `head` and `body` are shown
    /// its bytes.
    fn send(&mut self, request: &[u8], head: impl FnMut(&[u8]), body: impl FnMut(&[u8])) {
        let status = self.exchange(request, head, body);
        assert_eq!(
            status,
            200,
            "{}",
            String::from_utf8_lossy(&self.buffer[..512])
        );
    }

    /// The status of the response.
    pub(crate) fn status(&mut self, request: &[u8]) -> u16 {
        self.exchange(request, |_| {}, |_| {})
    }

    fn exchange(
        &mut self,
        request: &[u8],
        mut head: impl FnMut(&[u8]),
        mut body: impl FnMut(&[u8]),
    ) -> u16 {
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
        let status = text.split(' ').nth(1).unwrap().parse().unwrap();
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
        status
    }

    fn read(&mut self, from: usize) -> usize {
        let read = self.stream.read(&mut self.buffer[from..]).unwrap();
        assert!(read > 0, "the server closed the connection");
        read
    }

    /// Sends and reads nothing.
    pub(crate) fn only_send(&mut self, request: &[u8]) {
        self.stream.write_all(request).unwrap();
    }

    pub(crate) fn answer(&mut self, request: &[u8]) -> Answer {
        let (mut head, mut body) = (Vec::new(), Vec::new());
        self.send(
            request,
            |bytes| head.extend_from_slice(bytes),
            |bytes| body.extend_from_slice(bytes),
        );
        Answer { head, body }
    }

    /// One call, whose answer is read and dropped.
    pub(crate) fn call(&mut self, request: &[u8]) {
        self.send(request, |_| {}, |_| {});
    }

    /// How long each of `times` calls took.
    pub(crate) fn repeat(&mut self, request: &[u8], times: usize) -> Vec<Duration> {
        let clock = Clock::system();
        let mut before = Duration::ZERO;
        let calls = (0..times).map(|_| {
            self.call(request);
            let now = clock.monotonic();
            now - std::mem::replace(&mut before, now)
        });
        calls.collect()
    }
}

/// The output of `keymill dev --json` once it is ready.
#[derive(Deserialize)]
struct Ready {
    endpoint: String,
    socket: PathBuf,
    admin_endpoint: String,
    region: String,
    principals: Principals,
}

#[derive(Deserialize)]
struct Principals {
    admin: AccessKey,
    provisioner: AccessKey,
}

#[derive(Deserialize)]
struct AccessKey {
    access_key_id: String,
    secret_access_key: String,
}

/// `keymill dev` in a folder that is removed with it.
pub(crate) struct Daemon {
    child: Child,
    admin_credentials: Credentials,
    credentials: Credentials,
    authority: String,
    socket: PathBuf,
    admin: String,
    folder: tempfile::TempDir,
}

impl Daemon {
    /// A daemon, on one core or on all.
    pub(crate) fn start(core: Option<usize>) -> Self {
        Self::start_with(core, &[])
    }

    /// The same with these variables: `KEYMILL_POOL__ENABLED` and the like.
    pub(crate) fn start_with(core: Option<usize>, variables: &[(&str, &str)]) -> Self {
        Self::of_build(env!("CARGO_BIN_EXE_keymill"), core, variables)
    }

    /// A daemon of another build, whose binary the variable `BEFORE` names; none without it.
    pub(crate) fn before(core: Option<usize>) -> Option<Self> {
        let binary = std::env::var("BEFORE").ok()?;
        Some(Self::of_build(&binary, core, &[]))
    }

    fn of_build(binary: &str, core: Option<usize>, variables: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut command = match core {
            None => Command::new(binary),
            Some(core) => {
                let mut command = Command::new("taskset");
                command.args(["--cpu-list", &core.to_string(), binary]);
                command
            }
        };
        let mut child = command
            .envs(variables.iter().copied())
            .args(["dev", "--json", "--listen", "127.0.0.1:0"])
            .args(["--admin-listen", "127.0.0.1:0", "--dir"])
            .arg(folder.path().join("keymill-dev"))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let stdout = child.stdout.take().unwrap();
        BufReader::new(stdout).read_line(&mut line).unwrap();
        let ready: Ready = serde_json::from_str(&line).unwrap();
        let credentials = |key: AccessKey| Credentials {
            access_key_id: key.access_key_id,
            secret_access_key: SecretBytes::copy_of(key.secret_access_key.as_bytes()),
            session_token: None,
            region: ready.region.clone(),
        };
        Self {
            child,
            admin_credentials: credentials(ready.principals.admin),
            credentials: credentials(ready.principals.provisioner),
            authority: ready.endpoint.strip_prefix("http://").unwrap().to_owned(),
            socket: ready.socket,
            admin: ready
                .admin_endpoint
                .strip_prefix("http://")
                .unwrap()
                .to_owned(),
            folder,
        }
    }

    /// Of the process that serves: `taskset` has become it.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The value for `--dir`.
    pub(crate) fn dir(&self) -> PathBuf {
        self.folder.path().join("keymill-dev")
    }

    /// The text of `/metrics`.
    pub(crate) fn metrics(&self) -> String {
        let mut request = String::from("GET /metrics HTTP/1.1\r\n");
        request.push_str(&format!("host: {}\r\n\r\n", self.admin));
        let address = Address::Tcp(self.admin.clone());
        let answer = address.connect().answer(request.as_bytes());
        String::from_utf8(answer.body).unwrap()
    }

    /// The sum of a metric's series whose labels contain `part`.
    pub(crate) fn metric(&self, name: &str, part: &str) -> f64 {
        let metrics = self.metrics();
        let series = metrics.lines().filter_map(|line| {
            let (series, value) = line.rsplit_once(' ')?;
            let is_it = series.split('{').next() == Some(name) && series.contains(part);
            is_it.then(|| value.parse::<f64>().unwrap())
        });
        series.sum()
    }

    /// Ends the daemon in order, so that its store is free; the folder stays.
    pub(crate) fn stop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        assert!(self.child.wait().unwrap().success());
    }

    pub(crate) fn address(&self, transport: Transport) -> Address {
        match transport {
            Transport::Tcp => Address::Tcp(self.authority.clone()),
            Transport::Unix => Address::Unix(self.socket.clone()),
        }
    }

    /// The bytes of a request, signed now where it goes over TCP.
    pub(crate) fn request(&self, call: Call, transport: Transport) -> Vec<u8> {
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
            Call::Batch(keys) | Call::Lines(keys) => {
                let (form, length) = match call {
                    Call::Lines(_) => ("application/x-ndjson", r#""NumberOfBytes":1024"#),
                    _ => ("application/octet-stream", r#""KeySpec":"AES_256""#),
                };
                headers.insert(header::ACCEPT, HeaderValue::from_static(form));
                let json = HeaderValue::from_static("application/json");
                headers.insert(header::CONTENT_TYPE, json);
                let body =
                    format!(r#"{{"KeyId":"alias/containers",{length},{context},"Count":{keys}}}"#);
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
        whole(path, &mut headers, &body)
    }

    /// The bytes of another operation's request over TCP, signed now by the admin.
    pub(crate) fn admin_request(&self, target: &'static str, body: &str) -> Vec<u8> {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, self.authority.parse().unwrap());
        let target = HeaderValue::from_static(target);
        headers.insert(HeaderName::from_static("x-amz-target"), target);
        let json = HeaderValue::from_static("application/x-amz-json-1.1");
        headers.insert(header::CONTENT_TYPE, json);
        let now = Clock::system().now();
        self.admin_credentials
            .sign(&Method::POST, "/", &mut headers, body.as_bytes(), now)
            .unwrap();
        whole("/", &mut headers, body)
    }

    /// The 837 bytes that boto3 sends for a data key, signed now.
    pub(crate) fn boto3_request(&self) -> Vec<u8> {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("host", self.authority.as_str()),
            ("accept-encoding", "identity"),
            (
                "x-amz-target",
                "TrentService.GenerateDataKeyWithoutPlaintext",
            ),
            ("content-type", "application/x-amz-json-1.1"),
            ("user-agent", USER_AGENT),
        ] {
            let name = HeaderName::from_static(name);
            headers.insert(name, HeaderValue::from_str(value).unwrap());
        }
        let body = r#"{"KeyId":"alias/containers","KeySpec":"AES_256","EncryptionContext":{"container":"container-000000000042","tenant":"tenant-000000000007"}}"#;
        let unsigned = headers.remove(header::USER_AGENT).unwrap();
        let now = Clock::system().now();
        self.credentials
            .sign(&Method::POST, "/", &mut headers, body.as_bytes(), now)
            .unwrap();
        headers.insert(header::USER_AGENT, unsigned);
        let invocation = HeaderValue::from_static("1f0355b1-f53d-487c-8a81-fd035b9b5b8d");
        headers.insert(HeaderName::from_static("amz-sdk-invocation-id"), invocation);
        let attempt = HeaderValue::from_static("attempt=1");
        headers.insert(HeaderName::from_static("amz-sdk-request"), attempt);
        whole("/", &mut headers, body)
    }
}

/// As botocore writes it, to the length that makes a request of 837 bytes.
const USER_AGENT: &str = "Boto3/1.43 md/Botocore#1.43.11 ua/2.1 os/linux#6.1 md/arch#x86_64 lang/python#3.11.2 md/pyimpl#CPython cfg/retry-mode#legacy";

/// A request for one data key, unsigned, with this JSON.
pub(crate) fn unsigned_request(body: &str) -> Vec<u8> {
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("host", "localhost"),
        (
            "x-amz-target",
            "TrentService.GenerateDataKeyWithoutPlaintext",
        ),
        ("content-type", "application/x-amz-json-1.1"),
    ] {
        let name = HeaderName::from_static(name);
        headers.insert(name, HeaderValue::from_static(value));
    }
    whole("/", &mut headers, body)
}

/// A request's bytes.
fn whole(path: &str, headers: &mut HeaderMap, body: &str) -> Vec<u8> {
    headers.insert(header::CONTENT_LENGTH, body.len().into());
    let mut request = format!("POST {path} HTTP/1.1\r\n").into_bytes();
    for (name, value) in &*headers {
        request.extend_from_slice(name.as_str().as_bytes());
        request.extend_from_slice(b": ");
        request.extend_from_slice(value.as_bytes());
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"\r\n");
    request.extend_from_slice(body.as_bytes());
    request
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Of one that was stopped there is nothing left to kill.
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

/// hyper on tokio's ordinary runtime, or on a thread of its own on one core: reads each request
/// whole, and answers with the head and body of `answer`.
pub(crate) fn plain_hyper(transport: Transport, answer: &Answer, core: Option<usize>) -> Address {
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
        core.into_iter().for_each(pin);
        let mut runtime = match core {
            Some(_) => tokio::runtime::Builder::new_current_thread(),
            None => tokio::runtime::Builder::new_multi_thread(),
        };
        let runtime = runtime.enable_all().build().unwrap();
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
pub(crate) fn blocking_echo(
    transport: Transport,
    request_bytes: usize,
    answer: Vec<u8>,
    core: Option<usize>,
) -> Address {
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
                core.into_iter().for_each(pin);
                let mut request = vec![0; request_bytes];
                while stream.read_exact(&mut request).is_ok() && stream.write_all(&answer).is_ok() {
                }
            });
        }
    });
    address
}
