//! Requests as bytes, and answers taken apart by hand: no HTTP library stands between a test and
//! the wire.

use crate::server::daemon::{ALIAS, NOW, REGION, Who};
use keymill::auth::Credentials;
use keymill::clock::Timestamp;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// A test that takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// Awaits `future`, but not forever.
pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .expect("an answer within a minute")
}

/// A request, to be changed at will before and after it is signed.
#[derive(Clone)]
pub(crate) struct Request {
    pub(crate) method: &'static str,
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Request {
    pub(crate) fn post(path: &str, host: &str, body: &Value) -> Self {
        Self {
            method: "POST",
            path: path.to_owned(),
            headers: vec![("host".to_owned(), host.to_owned())],
            body: body.to_string().into_bytes(),
        }
    }

    pub(crate) fn get(path: &str, host: &str) -> Self {
        Self {
            method: "GET",
            body: Vec::new(),
            ..Self::post(path, host, &Value::Null)
        }
    }

    /// For a data key without its plaintext.
    pub(crate) fn mint(host: &str) -> Self {
        let body = json!({"KeyId": ALIAS, "KeySpec": "AES_256"});
        Self::kms("GenerateDataKeyWithoutPlaintext", host, &body)
    }

    /// A call of AWS KMS.
    pub(crate) fn kms(operation: &str, host: &str, body: &Value) -> Self {
        Self::post("/", host, body)
            .with("content-type", "application/x-amz-json-1.1")
            .with("x-amz-target", &format!("TrentService.{operation}"))
    }

    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn header(&mut self, name: &str) -> &mut String {
        let header = self.headers.iter_mut().find(|header| header.0 == name);
        &mut header.expect("a header of the request").1
    }

    pub(crate) fn signed(self, who: &Who) -> Self {
        self.signed_with(&who.credentials(REGION), NOW)
    }

    pub(crate) fn signed_with(mut self, credentials: &Credentials, now: Timestamp) -> Self {
        let mut headers = http::HeaderMap::new();
        for (name, value) in &self.headers {
            let name: http::HeaderName = name.parse().unwrap();
            headers.append(name, value.parse().unwrap());
        }
        let method = self.method.parse().unwrap();
        credentials
            .sign(&method, &self.path, &mut headers, &self.body, now)
            .unwrap();
        let text = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
            (name.to_string(), value.to_str().unwrap().to_owned())
        };
        self.headers = headers.iter().map(text).collect();
        self
    }

    pub(crate) fn head(&self) -> String {
        let mut head = format!("{} {} HTTP/1.1\r\n", self.method, self.path);
        for (name, value) in &self.headers {
            head += &format!("{name}: {value}\r\n");
        }
        head
    }

    /// With `Content-Length`.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let head = format!("{}content-length: {}\r\n\r\n", self.head(), self.body.len());
        [head.as_bytes(), &self.body].concat()
    }
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// The connection ended before the body did.
    pub(crate) cut: bool,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|header| header.0 == name);
        found.map(|header| header.1.as_str())
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error} in {:?}", self.text()))
    }

    /// Expects a refusal of the shape that SDKs read; returns its message.
    pub(crate) fn refusal(&self, status: u16, code: &str) -> String {
        assert_eq!(self.status, status, "{}", self.text());
        let json = self.json();
        assert_eq!(json["__type"], code, "{json}");
        assert_eq!(self.header("x-amzn-errortype"), Some(code));
        let media_type = self.header("content-type");
        assert_eq!(media_type, Some("application/x-amz-json-1.1"));
        let members = json.as_object().unwrap();
        let message = members.get("message").or(members.get("Message"));
        message.map_or(String::new(), |text| text.as_str().unwrap().to_owned())
    }

    /// Expects success; returns the reply.
    pub(crate) fn done(&self) -> Value {
        assert_eq!(self.status, 200, "{}", self.text());
        self.json()
    }
}

/// One connection.
pub(crate) struct Wire<S> {
    stream: S,
    /// Received, not yet taken apart.
    received: Vec<u8>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self {
            stream,
            received: Vec::new(),
        }
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let sent = self.stream.write_all(bytes.as_ref());
        within(sent).await.unwrap();
    }

    /// Signals that nothing more will be sent.
    pub(crate) async fn finish(&mut self) {
        within(self.stream.shutdown()).await.unwrap();
    }

    /// Sends a request and reads its answer.
    pub(crate) async fn ask(&mut self, request: &Request) -> Answer {
        self.send(request.bytes()).await;
        self.answer().await
    }

    /// Sends a request, and waits for the first of its answer; false if the connection ends
    /// instead.
    pub(crate) async fn is_answered(&mut self, request: &Request) -> bool {
        let sent = within(self.stream.write_all(&request.bytes())).await;
        sent.is_ok() && (!self.received.is_empty() || self.read().await)
    }

    /// Reads a whole answer.
    pub(crate) async fn answer(&mut self) -> Answer {
        let mut answer = self.head().await;
        if answer.header("transfer-encoding") == Some("chunked") {
            self.chunks(&mut answer).await;
        } else {
            let length = answer.header("content-length").expect("a length");
            let length = length.parse().unwrap();
            while self.received.len() < length {
                if !self.read().await {
                    answer.cut = true;
                    break;
                }
            }
            let length = length.min(self.received.len());
            answer.body = self.received.drain(..length).collect();
        }
        answer
    }

    /// Waits for the head of an answer and leaves it where it is; returns its status.
    pub(crate) async fn peek_head(&mut self) -> u16 {
        while !self.received.windows(4).any(|window| window == b"\r\n\r\n") {
            assert!(self.read().await, "the connection ended before the head");
        }
        let status = &self.received["HTTP/1.1 ".len()..][..3];
        std::str::from_utf8(status).unwrap().parse().unwrap()
    }

    /// Reads the head of an answer, but for `100 Continue`.
    pub(crate) async fn head(&mut self) -> Answer {
        loop {
            let text = self.line_until("\r\n\r\n").await;
            let text = text.expect("an answer, not the end of the connection");
            let mut lines = text.split("\r\n");
            let status = lines.next().unwrap();
            let status = status.strip_prefix("HTTP/1.1 ").expect("a status line");
            let status = status[..3].parse().unwrap();
            let header = |line: &str| {
                let (name, value) = line.split_once(':').expect("a header");
                (name.to_ascii_lowercase(), value.trim().to_owned())
            };
            if status != 100 {
                return Answer {
                    status,
                    headers: lines.map(header).collect(),
                    body: Vec::new(),
                    cut: false,
                };
            }
        }
    }

    async fn chunks(&mut self, answer: &mut Answer) {
        loop {
            let Some(size) = self.line_until("\r\n").await else {
                answer.cut = true;
                return;
            };
            let size = usize::from_str_radix(&size, 16).expect("the size of a chunk");
            while self.received.len() < size + 2 {
                assert!(self.read().await, "the connection ended within a chunk");
            }
            answer.body.extend(self.received.drain(..size));
            assert_eq!(self.received.drain(..2).collect::<Vec<_>>(), b"\r\n");
            if size == 0 {
                return;
            }
        }
    }

    /// The text before `ending`; none at the end of the connection.
    pub(crate) async fn line_until(&mut self, ending: &str) -> Option<String> {
        loop {
            let mut windows = self.received.windows(ending.len());
            if let Some(at) = windows.position(|window| window == ending.as_bytes()) {
                let line = self.received.drain(..at).collect();
                self.received.drain(..ending.len());
                return Some(String::from_utf8(line).unwrap());
            }
            if !self.read().await {
                assert_eq!(self.received, b"", "the connection ended within a line");
                return None;
            }
        }
    }

    /// Whether the daemon has closed the connection, without another byte.
    pub(crate) async fn is_closed(&mut self) -> bool {
        self.received.is_empty() && !self.read().await
    }

    /// Reads once; false at the end of the connection.
    async fn read(&mut self) -> bool {
        // Not on the stack: every answer that a test awaits would take as much of it.
        let mut buffer = vec![0; 64 * 1024];
        let read = match within(self.stream.read(&mut buffer)).await {
            Ok(read) => read,
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => 0,
            Err(error) => panic!("{error}"),
        };
        self.received.extend_from_slice(&buffer[..read]);
        read > 0
    }
}
