//! Loaded servers on one core, and what a whole request costs there beside a plain hyper server that answers as many bytes to the same requests, and
//! beside a blocking echo of as many.
//!
//! The server has core 0, the clients core 1; the first two questions are a closed loop over epoll, which learns a response's length and then counts bytes. In the
//! question of one connection both have core 0: across cores the time of a round trip is that of waking a core. Both sides of a question take turns.

#![expect(clippy::unwrap_used, reason = "a bench fails by panicking")]
#![expect(clippy::print_stdout, reason = "the table is the result")]

mod machine;
mod rows;
mod served;

use keymill::clock::Clock;
use mio::{Events, Interest, Poll, Token};
use rows::{Goal, Row};
use served::{Address, Daemon, Transport, blocking_echo, pin, plain_hyper};
use std::io::{ErrorKind, Read, Write};
use std::time::Duration;

/// Turns of each side; odd.
const ROUNDS: usize = 7;
/// How long a turn is counted, after a warm-up.
const WINDOW: Duration = Duration::from_millis(400);
const WARM_UP: Duration = Duration::from_millis(120);
/// Calls of one turn on one connection.
const CALLS: usize = 20_000;
const SERVER_CORE: usize = 0;
const CLIENT_CORE: usize = 1;

fn main() {
    // Under `cargo test` there is nothing to be run once: a closed loop is all there is.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let (soft, hard) = {
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        (limit.current, limit.maximum)
    };
    assert!(
        soft.max(hard).is_none_or(|files| files >= 4096),
        "open files are limited to {soft:?}"
    );
    let daemon = Daemon::start(Some(SERVER_CORE));
    println!("\n{}\n", machine::machine());
    for (transport, name) in [(Transport::Unix, "Unix socket"), (Transport::Tcp, "TCP")] {
        loaded(&daemon, transport, name);
    }
    alone(&daemon);
}

/// 64 connections beside plain hyper, and 1,000 beside 64.
fn loaded(daemon: &Daemon, transport: Transport, name: &str) {
    pin(CLIENT_CORE);
    let address = daemon.address(transport);
    let request = daemon.boto3_request();
    assert_eq!(request.len(), 837, "as boto3 sends it");
    let answer = address.connect().answer(&request);
    let hyper = plain_hyper(transport, &answer, Some(SERVER_CORE));
    let mut ours = Vec::new();
    let mut theirs = Vec::new();
    let mut many = Vec::new();
    for round in 0..ROUNDS {
        // A signature is good for five minutes.
        let request = daemon.boto3_request();
        let mut turns: [&mut dyn FnMut(); 3] = [
            &mut || ours.push(closed_loop(&address, &request, 64)),
            &mut || theirs.push(closed_loop(&hyper, &request, 64)),
            &mut || many.push(closed_loop(&address, &request, 1000)),
        ];
        turns.rotate_left(round % 3);
        turns.into_iter().for_each(|turn| turn());
    }
    let rates = |loads: &[Load]| loads.iter().map(|load| load.rate).collect::<Vec<_>>();
    let tails = |loads: &[Load]| loads.iter().map(|load| load.p99).collect::<Vec<_>>();
    let reach = match transport {
        Transport::Unix => Goal::AtLeast(0.75),
        Transport::Tcp => Goal::AtLeast(0.78),
    };
    Row::new(
        format!("whole request, one server core, 64 connections, {name}"),
        "requests/s",
    )
    .beside("keymill", rates(&ours), "plain hyper", rates(&theirs))
    .reach(reach);
    Row::new(format!("the same, p99, {name}"), "µs")
        .beside("keymill", tails(&ours), "plain hyper", tails(&theirs))
        .reach(Goal::AtMost(1.5));
    Row::new(
        format!("the same at 1,000 connections, {name}"),
        "requests/s",
    )
    .beside("1,000", rates(&many), "64", rates(&ours))
    .reach(Goal::AtLeast(0.8));
}

/// One connection over the Unix socket, all on one core.
fn alone(daemon: &Daemon) {
    pin(SERVER_CORE);
    let transport = Transport::Unix;
    let address = daemon.address(transport);
    let request = daemon.boto3_request();
    let answer = address.connect().answer(&request);
    let echo = blocking_echo(transport, request.len(), answer.whole(), Some(SERVER_CORE));
    let (mut ours, mut theirs) = (address.connect(), echo.connect());
    let mut p50 = (Vec::new(), Vec::new());
    let mut p99 = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let request = daemon.boto3_request();
        for (client, p50, p99) in [
            (&mut ours, &mut p50.0, &mut p99.0),
            (&mut theirs, &mut p50.1, &mut p99.1),
        ] {
            client.repeat(&request, CALLS / 10);
            let mut each = client.repeat(&request, CALLS);
            each.sort_unstable();
            p50.push(microseconds(each[CALLS / 2]));
            p99.push(microseconds(each[CALLS * 99 / 100]));
        }
    }
    Row::new(
        "one connection, same core, Unix socket, p50".to_owned(),
        "µs",
    )
    .beside("keymill", p50.0, "blocking echo", p50.1)
    .reach(Goal::AtMost(1.8));
    Row::new(
        "one connection, same core, Unix socket, p99".to_owned(),
        "µs",
    )
    .beside("keymill", p99.0, "blocking echo", p99.1)
    .reach(Goal::AtMost(2.5));
}

fn microseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// What a closed loop has seen.
struct Load {
    /// Requests a second.
    rate: f64,
    /// Microseconds.
    p99: f64,
}

/// One connection of a closed loop.
struct Connection {
    stream: Stream,
    sent_at: Duration,
    /// Bytes of the response so far.
    filled: usize,
}

enum Stream {
    Tcp(mio::net::TcpStream),
    Unix(mio::net::UnixStream),
}

impl Stream {
    fn connect(address: &Address, poll: &Poll, token: Token) -> Self {
        match address {
            Address::Tcp(address) => {
                let stream = std::net::TcpStream::connect(address).unwrap();
                stream.set_nodelay(true).unwrap();
                stream.set_nonblocking(true).unwrap();
                let mut stream = mio::net::TcpStream::from_std(stream);
                let registry = poll.registry();
                registry
                    .register(&mut stream, token, Interest::READABLE)
                    .unwrap();
                Self::Tcp(stream)
            }
            Address::Unix(path) => {
                let stream = std::os::unix::net::UnixStream::connect(path).unwrap();
                stream.set_nonblocking(true).unwrap();
                let mut stream = mio::net::UnixStream::from_std(stream);
                let registry = poll.registry();
                registry
                    .register(&mut stream, token, Interest::READABLE)
                    .unwrap();
                Self::Unix(stream)
            }
        }
    }

    fn send(&mut self, request: &[u8]) {
        let sent = match self {
            Self::Tcp(stream) => stream.write(request),
            Self::Unix(stream) => stream.write(request),
        };
        assert_eq!(
            sent.unwrap(),
            request.len(),
            "one request fits the socket's buffer"
        );
    }

    /// What there is to read; nothing if that is nothing.
    fn read(&mut self, buffer: &mut [u8]) -> usize {
        let read = match self {
            Self::Tcp(stream) => stream.read(buffer),
            Self::Unix(stream) => stream.read(buffer),
        };
        match read {
            Ok(0) => panic!("the server closed the connection"),
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            Err(error) => panic!("{error}"),
        }
    }
}

/// Keeps one request in flight on each connection.
fn closed_loop(address: &Address, request: &[u8], connections: usize) -> Load {
    let response_bytes = address.connect().answer(request).whole().len();
    let mut poll = Poll::new().unwrap();
    let mut buffer = vec![0; 64 * 1024];
    let clock = Clock::system();
    let mut open: Vec<_> = (0..connections)
        .map(|number| Connection {
            stream: Stream::connect(address, &poll, Token(number)),
            sent_at: Duration::ZERO,
            filled: 0,
        })
        .collect();
    let begin = clock.monotonic();
    for connection in &mut open {
        connection.sent_at = clock.monotonic();
        connection.stream.send(request);
    }
    let mut events = Events::with_capacity(1024);
    let mut latencies = Vec::with_capacity(1 << 20);
    let counted_from = begin + WARM_UP;
    let end = counted_from + WINDOW;
    'window: loop {
        poll.poll(&mut events, Some(Duration::from_secs(10)))
            .unwrap();
        assert!(!events.is_empty(), "no answer for ten seconds");
        for event in &events {
            let connection = &mut open[event.token().0];
            connection.filled += connection.stream.read(&mut buffer);
            if connection.filled < response_bytes {
                continue;
            }
            assert_eq!(
                connection.filled, response_bytes,
                "every answer has as many bytes"
            );
            let now = clock.monotonic();
            if now >= end {
                break 'window;
            }
            if now >= counted_from {
                latencies.push(now - connection.sent_at);
            }
            connection.filled = 0;
            connection.sent_at = now;
            connection.stream.send(request);
        }
    }
    latencies.sort_unstable();
    Load {
        rate: latencies.len() as f64 / WINDOW.as_secs_f64(),
        p99: microseconds(latencies[latencies.len() * 99 / 100]),
    }
}
