//! A listener under faults, over pipes in memory and with a service of a few lines.

use super::*;
use crate::transport::connection::task::LAST_CALL;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::service::service_fn;
use std::convert::Infallible;
use std::future::ready;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;

/// Bytes that a pipe holds before its writer waits.
const PIPE_BYTES: usize = 1024;
const HELLO: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";
const WAIT: &[u8] = b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n";

/// A listener that delivers the connections and failures of a test.
struct Fake {
    incoming: Mutex<UnboundedReceiver<io::Result<DuplexStream>>>,
    accepted: Arc<AtomicUsize>,
}

impl Listener for Fake {
    type Accepted = DuplexStream;
    type Stream = DuplexStream;

    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<DuplexStream>> {
        match ready!(self.incoming.lock().unwrap().poll_recv(cx)) {
            Some(accepted) => {
                self.accepted.fetch_add(1, Ordering::SeqCst);
                Poll::Ready(accepted)
            }
            None => Poll::Pending,
        }
    }

    fn open(accepted: DuplexStream) -> io::Result<DuplexStream> {
        Ok(accepted)
    }
}

/// A listener that serves, and its controls.
struct Bench {
    incoming: UnboundedSender<io::Result<DuplexStream>>,
    accepted: Arc<AtomicUsize>,
    /// One permit for each request for `/wait` that has begun.
    begun: Arc<Semaphore>,
    /// Each permit lets one of them be answered.
    gate: Arc<Semaphore>,
    shutdown: watch::Sender<bool>,
    server: JoinHandle<()>,
}

fn bounds() -> Bounds {
    Bounds {
        connections_max: 4,
        head_timeout: Duration::from_secs(60),
        write_timeout: Duration::from_secs(60),
        drain: Duration::from_secs(60),
    }
}

impl Bench {
    fn new(bounds: Bounds) -> Self {
        let (incoming, receiver) = unbounded_channel();
        let (shutdown, down) = watch::channel(false);
        let accepted = Arc::<AtomicUsize>::default();
        let (begun, gate) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
        let listener = Fake {
            incoming: Mutex::new(receiver),
            accepted: Arc::clone(&accepted),
        };
        let waits = [Arc::clone(&begun), Arc::clone(&gate)];
        let connect = move |stream: DuplexStream, place: Arc<Place>| {
            let waits = waits.clone();
            let service =
                service_fn(move |request| answer(request, Arc::clone(&place), waits.clone()));
            ready(Ok((stream, service)))
        };
        let server = async move {
            let here = [Handle::current()];
            serve(
                listener,
                "test",
                bounds,
                Counts {
                    open: Gauge::noop(),
                    let_go: Counter::noop(),
                    failures: Counter::noop(),
                },
                &here,
                connect,
                down,
            )
            .await;
        };
        Self {
            incoming,
            accepted,
            begun,
            gate,
            shutdown,
            server: tokio::spawn(server),
        }
    }

    fn connect(&self) -> DuplexStream {
        let (near, far) = duplex(PIPE_BYTES);
        self.incoming.send(Ok(far)).unwrap();
        near
    }

    /// A client that has sent `bytes`.
    async fn send(&self, bytes: &[u8]) -> DuplexStream {
        let mut client = self.connect();
        client.write_all(bytes).await.unwrap();
        client
    }

    async fn end(self) {
        self.shutdown.send(true).unwrap();
        self.server.await.unwrap();
    }
}

/// Answers a request. A caller is known from its first request on, except for `/stranger`.
async fn answer(
    request: Request<Incoming>,
    place: Arc<Place>,
    [begun, gate]: [Arc<Semaphore>; 2],
) -> Result<Response<Full<Bytes>>, Infallible> {
    if request.uri().path() != "/stranger" {
        place.begin();
    }
    let body = match request.uri().path() {
        "/big" => Bytes::from(vec![b'x'; 100 * PIPE_BYTES]),
        "/panic" => panic!("asked for"),
        "/wait" => {
            begun.add_permits(1);
            gate.acquire().await.unwrap().forget();
            Bytes::from_static(b"waited")
        }
        _ => Bytes::from_static(b"hello"),
    };
    place.rest(Duration::from_secs(1));
    let mut response = Response::new(Full::new(body));
    if place.is_last() {
        let close = http::HeaderValue::from_static("close");
        response.headers_mut().insert("connection", close);
    }
    Ok(response)
}

/// Reads up to the end of `ending`.
async fn read_to(stream: &mut DuplexStream, ending: &str) -> String {
    let mut read = Vec::new();
    while !read.ends_with(ending.as_bytes()) {
        let byte = stream.read_u8().await;
        read.push(byte.unwrap_or_else(|error| {
            panic!(
                "{error} instead of {ending:?} after {:?}",
                String::from_utf8_lossy(&read)
            )
        }));
    }
    String::from_utf8(read).unwrap()
}

async fn read_to_end(stream: &mut DuplexStream) -> String {
    let mut read = Vec::new();
    stream.read_to_end(&mut read).await.unwrap();
    String::from_utf8(read).unwrap()
}

#[tokio::test]
async fn failures_to_accept_do_not_end_the_listener() {
    let bench = Bench::new(bounds());
    for code in [
        rustix::io::Errno::MFILE,
        rustix::io::Errno::CONNABORTED,
        rustix::io::Errno::NFILE,
    ] {
        bench.incoming.send(Err(code.into())).unwrap();
    }
    let mut client = bench.send(HELLO).await;
    read_to(&mut client, "hello").await;
    assert_eq!(bench.accepted.load(Ordering::SeqCst), 4);
    bench.end().await;
}

#[tokio::test]
async fn hold_2_a_busy_connection_keeps_its_place_and_one_waits_inside() {
    let bench = Bench::new(Bounds {
        connections_max: 1,
        ..bounds()
    });
    let mut busy = bench.send(WAIT).await;
    bench.begun.acquire().await.unwrap().forget();
    let (mut second, mut third) = (bench.connect(), bench.connect());
    second.write_all(HELLO).await.unwrap();
    third.write_all(HELLO).await.unwrap();
    sleep(3 * FULL_PAUSE).await;
    assert_eq!(bench.accepted.load(Ordering::SeqCst), 2);
    bench.gate.add_permits(1);
    // Idle now, it makes room for the second, and that one for the third.
    for client in [&mut second, &mut third] {
        read_to(client, "hello").await;
    }
    assert!(read_to_end(&mut busy).await.ends_with("waited"));
    bench.end().await;
}

#[tokio::test]
async fn hold_2_strangers_only_drive_out_each_other() {
    let bench = Bench::new(bounds());
    let mut known = bench.send(HELLO).await;
    read_to(&mut known, "hello").await;
    // One in its head, one that was answered as unknown, one that sends nothing; and then many.
    let mut strangers: Vec<_> = (0..3).map(|_| bench.connect()).collect();
    strangers[0].write_all(b"GET / HT").await.unwrap();
    let asked = b"GET /stranger HTTP/1.1\r\nHost: x\r\n\r\n";
    strangers[1].write_all(asked).await.unwrap();
    read_to(&mut strangers[1], "hello").await;
    strangers.extend((0..20).map(|_| bench.connect()));
    // The last one to come is served at once, and the known one still is.
    let mut fresh = bench.send(HELLO).await;
    read_to(&mut fresh, "hello").await;
    for stranger in &mut strangers[..21] {
        assert_eq!(read_to_end(stranger).await, "");
    }
    known.write_all(HELLO).await.unwrap();
    read_to(&mut known, "hello").await;
    bench.end().await;
}

#[tokio::test]
async fn hold_2_the_idlest_of_those_that_are_known_makes_room() {
    let bench = Bench::new(bounds());
    let mut known: Vec<_> = (0..4).map(|_| bench.connect()).collect();
    for client in &mut known {
        client.write_all(HELLO).await.unwrap();
        read_to(client, "hello").await;
    }
    let mut fresh = bench.send(HELLO).await;
    read_to(&mut fresh, "hello").await;
    let mut gone = 0;
    for client in &mut known {
        let asked = client.write_all(HELLO).await;
        let mut byte = [0];
        let read = client.read(&mut byte).await;
        gone += usize::from(asked.is_err() || read.is_ok_and(|read| read == 0));
    }
    assert_eq!(gone, 1);
    bench.end().await;
}

#[tokio::test]
async fn a_client_that_closes_its_sending_half_is_answered() {
    let bench = Bench::new(bounds());
    let mut client = bench.send(WAIT).await;
    client.shutdown().await.unwrap();
    bench.begun.acquire().await.unwrap().forget();
    bench.gate.add_permits(1);
    // The answer comes, and then the end: nothing is kept open for a second request.
    assert!(read_to_end(&mut client).await.ends_with("waited"));
    let mut silent = bench.connect();
    silent.shutdown().await.unwrap();
    assert_eq!(read_to_end(&mut silent).await, "");
    bench.end().await;
}

#[tokio::test]
async fn hold_4_whoever_asks_during_a_shutdown_is_answered_for_the_last_time() {
    let bench = Bench::new(bounds());
    let (mut used, mut new) = (bench.connect(), bench.connect());
    used.write_all(HELLO).await.unwrap();
    read_to(&mut used, "hello").await;
    bench.shutdown.send(true).unwrap();
    // Told in one step and asked in the next.
    sleep(LAST_CALL / 10).await;
    for client in [&mut used, &mut new] {
        client.write_all(HELLO).await.unwrap();
        let answer = read_to_end(client).await.to_ascii_lowercase();
        assert!(answer.contains("connection: close"), "{answer}");
        assert!(answer.ends_with("hello"), "{answer}");
    }
    bench.server.await.unwrap();
}

#[tokio::test]
async fn heads_are_bounded() {
    let bench = Bench::new(bounds());
    let long = format!(
        "GET / HTTP/1.1\r\nHost: x\r\nA: {}\r\n\r\n",
        "a".repeat(HEAD_BYTES_MAX)
    );
    let endless = "GET / HTTP/1.1\r\nA: ".to_owned() + &"a".repeat(HEAD_BYTES_MAX);
    let target = format!("GET /{} HTTP/1.1\r\n", "a".repeat(HEAD_BYTES_MAX));
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "A: a\r\n".repeat(101));
    for (head, status) in [
        (long, "431"),
        (endless, "431"),
        (target, "431"),
        (many, "431"),
        ("\0\r\n\r\n".to_owned(), "400"),
        (
            "GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n".to_owned(),
            "400",
        ),
    ] {
        let mut client = bench.send(head.as_bytes()).await;
        let answer = read_to_end(&mut client).await;
        let expected = format!("HTTP/1.1 {status} ");
        assert!(answer.starts_with(&expected), "{answer:?}");
    }
    let fits = format!(
        "GET / HTTP/1.1\r\nHost: x\r\nA: {}\r\n\r\n",
        "a".repeat(HEAD_BYTES_MAX - 100)
    );
    let mut client = bench.send(fits.as_bytes()).await;
    read_to(&mut client, "hello").await;
    bench.end().await;
}

#[tokio::test]
async fn slow_heads_and_idle_connections_are_closed() {
    let bench = Bench::new(Bounds {
        head_timeout: Duration::from_millis(20),
        ..bounds()
    });
    for head in ["", "GET / HTTP/1.1\r\nHost:"] {
        let mut client = bench.send(head.as_bytes()).await;
        assert_eq!(read_to_end(&mut client).await, "");
    }
    let mut idle = bench.send(HELLO).await;
    assert!(read_to_end(&mut idle).await.ends_with("hello"));
    bench.end().await;
}

#[tokio::test]
async fn a_reader_that_takes_nothing_is_cut_off() {
    let bench = Bench::new(Bounds {
        connections_max: 1,
        write_timeout: Duration::from_millis(20),
        ..bounds()
    });
    let request = "GET /big HTTP/1.1\r\nHost: x\r\n\r\n";
    let mut slow = bench.send(request.as_bytes()).await;
    // There is one permit: this one is served once the slow one has lost it.
    let mut next = bench.send(HELLO).await;
    read_to(&mut next, "hello").await;
    assert!(read_to_end(&mut slow).await.len() <= PIPE_BYTES);
    bench.end().await;
}

#[tokio::test]
async fn an_answer_reaches_a_peer_that_is_still_sending() {
    let bench = Bench::new(bounds());
    let mut client = bench.connect();
    let length = 100 * PIPE_BYTES;
    let head = format!("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n");
    client.write_all(head.as_bytes()).await.unwrap();
    // The answer does not wait for the body, and the pipe is not cut while the body comes.
    client.write_all(&vec![b'x'; length]).await.unwrap();
    assert!(read_to_end(&mut client).await.ends_with("hello"));
    bench.end().await;
}

#[tokio::test]
async fn a_panic_ends_one_connection() {
    let bench = Bench::new(bounds());
    let request = b"GET /panic HTTP/1.1\r\nHost: x\r\n\r\n";
    let mut client = bench.send(request).await;
    assert_eq!(read_to_end(&mut client).await, "");
    let mut next = bench.send(HELLO).await;
    read_to(&mut next, "hello").await;
    bench.end().await;
}

#[tokio::test]
async fn draining_answers_what_is_in_flight_and_closes_what_is_idle() {
    let bench = Bench::new(bounds());
    let (mut idle, mut used) = (bench.connect(), bench.connect());
    used.write_all(HELLO).await.unwrap();
    read_to(&mut used, "hello").await;
    let mut busy = bench.send(WAIT).await;
    bench.begun.acquire().await.unwrap().forget();
    bench.shutdown.send(true).unwrap();
    assert_eq!(read_to_end(&mut idle).await, "");
    assert_eq!(read_to_end(&mut used).await, "");
    assert!(!bench.server.is_finished());
    bench.gate.add_permits(1);
    let answer = read_to_end(&mut busy).await;
    assert!(answer.ends_with("waited"), "{answer:?}");
    assert!(bench.incoming.is_closed(), "the listener is closed");
    bench.server.await.unwrap();
}

#[tokio::test]
async fn what_outlasts_the_deadline_is_cut() {
    let bench = Bench::new(Bounds {
        drain: Duration::from_millis(20),
        ..bounds()
    });
    let mut busy = bench.send(WAIT).await;
    bench.begun.acquire().await.unwrap().forget();
    bench.shutdown.send(true).unwrap();
    bench.server.await.unwrap();
    assert_eq!(read_to_end(&mut busy).await, "");
}

#[tokio::test]
async fn a_lost_sender_of_the_shutdown_is_a_shutdown() {
    let bench = Bench::new(bounds());
    drop(bench.shutdown);
    bench.server.await.unwrap();
}
