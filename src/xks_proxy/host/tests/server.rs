//! A server of HTTP/1.1 that does as it is told.

use crate::xks_proxy::ErrorName;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

/// A request.
#[derive(Clone)]
pub(crate) struct Asked {
    /// How many requests came before it.
    pub(crate) number: usize,
    /// How many came before it on its connection.
    pub(crate) of_connection: usize,
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) text: Vec<u8>,
    pub(crate) body: Value,
}

impl Asked {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        let found = headers.find(|(other, _)| other == name);
        found.map(|(_, value)| value.as_str())
    }
}

/// What becomes of a request.
#[derive(Clone)]
pub(crate) enum Reply {
    /// These bytes, and the connection is kept where HTTP says so.
    Bytes(Vec<u8>),
    /// These bytes, and nothing more.
    Begun(Vec<u8>),
    Silence,
    Close,
}

fn answer(status: u16, body: &Value) -> Reply {
    let body = body.to_string();
    let head = format!(
        "HTTP/1.1 {status} x\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    Reply::Bytes([head.as_bytes(), body.as_bytes()].concat())
}

pub(crate) fn ok(body: &Value) -> Reply {
    answer(200, body)
}

pub(crate) fn refused(name: ErrorName) -> Reply {
    let body = json!({"errorName": name.name(), "errorMessage": "why"});
    answer(name.status().as_u16(), &body)
}

/// A server on a loopback address.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Seen>>,
    _tasks: JoinSet<()>,
}

#[derive(Default)]
struct Seen {
    connections: usize,
    asked: Vec<Asked>,
}

impl Server {
    pub(crate) async fn new(
        tls: TlsAcceptor,
        answer: impl Fn(&Asked) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::<Mutex<Seen>>::default();
        let answer = Arc::new(answer);
        let mut tasks = JoinSet::new();
        let of_server = Arc::clone(&seen);
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (tls, seen, answer) =
                    (tls.clone(), Arc::clone(&of_server), Arc::clone(&answer));
                seen.lock().unwrap().connections += 1;
                connections.spawn(async move {
                    if let Ok(stream) = tls.accept(stream).await {
                        serve(stream, &seen, &*answer).await;
                    }
                });
            }
        });
        Self {
            address,
            seen,
            _tasks: tasks,
        }
    }

    /// Connections so far.
    pub(crate) fn connections(&self) -> usize {
        self.seen.lock().unwrap().connections
    }

    /// Requests so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.seen.lock().unwrap().asked.clone()
    }
}

async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    seen: &Mutex<Seen>,
    answer: &impl Fn(&Asked) -> Reply,
) {
    for of_connection in 0.. {
        let Some(mut asked) = read(&mut stream).await else {
            return;
        };
        asked.of_connection = of_connection;
        {
            let mut seen = seen.lock().unwrap();
            asked.number = seen.asked.len();
            seen.asked.push(asked.clone());
        }
        let (bytes, and_then) = match answer(&asked) {
            Reply::Bytes(bytes) => (bytes, Some(())),
            Reply::Begun(bytes) => (bytes, None),
            Reply::Silence => (Vec::new(), None),
            Reply::Close => return,
        };
        stream.write_all(&bytes).await.ok();
        stream.flush().await.ok();
        if and_then.is_none() {
            std::future::pending::<()>().await;
        }
        // One whose length is wrong ends here.
        if !is_whole(&bytes) {
            stream.shutdown().await.ok();
            return;
        }
    }
}

/// Whether an answer is as long as it says.
fn is_whole(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    let mut lines = head.lines();
    let length = lines.find_map(|line| line.strip_prefix("content-length: "));
    length.is_some_and(|length| length == body.len().to_string())
}

async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Option<Asked> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).unwrap();
    let mut lines = head.lines();
    let mut first = lines.next().unwrap().split(' ').map(str::to_owned);
    let (method, path) = (first.next().unwrap(), first.next().unwrap());
    let header = |line: &str| {
        let (name, value) = line.split_once(": ")?;
        Some((name.to_owned(), value.to_owned()))
    };
    let mut asked = Asked {
        number: 0,
        of_connection: 0,
        method,
        path,
        headers: lines.filter_map(header).collect(),
        text: Vec::new(),
        body: Value::Null,
    };
    let length = asked.header("content-length").unwrap().parse().unwrap();
    asked.text = vec![0; length];
    stream.read_exact(&mut asked.text).await.ok()?;
    asked.body = serde_json::from_slice(&asked.text).unwrap();
    Some(asked)
}

/// The address of a listener whose queue is full, so that the kernel answers no connection; and
/// what keeps it so.
pub(crate) async fn full() -> (SocketAddr, (TcpListener, Vec<TcpStream>)) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut held = Vec::new();
    let wait = Duration::from_millis(100);
    while let Ok(stream) = tokio::time::timeout(wait, TcpStream::connect(address)).await {
        held.push(stream.unwrap());
        assert!(held.len() < 16, "the queue is bounded");
    }
    (address, (listener, held))
}
