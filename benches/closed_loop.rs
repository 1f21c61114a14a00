//! A closed loop over epoll: one request in flight on each connection. It learns a response's
//! length and then counts bytes, which costs about 2 µs a request.

// Each bench uses its own part of it.
#![allow(dead_code, reason = "compiled into each bench that asks for it")]

use crate::served::Address;
use keymill::clock::Clock;
use mio::event::Source;
use mio::{Events, Interest, Poll, Token};
use std::io::{ErrorKind, Read, Write};
use std::time::Duration;

/// How long a turn is counted, after a warm-up.
const WINDOW: Duration = Duration::from_millis(400);
const WARM_UP: Duration = Duration::from_millis(120);
/// What both ends of a thousand connections take, with some to spare.
const OPEN_FILES_MIN: u64 = 4096;

/// Fails where a thousand connections would.
pub(crate) fn check_open_files() {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let (soft, hard) = (limit.current, limit.maximum);
    assert!(
        soft.max(hard).is_none_or(|files| files >= OPEN_FILES_MIN),
        "open files are limited to {soft:?}"
    );
}

pub(crate) fn microseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// The results of a closed loop.
pub(crate) struct Load {
    /// Requests a second.
    pub(crate) rate: f64,
    /// Microseconds.
    pub(crate) p99: f64,
}

/// One connection of a closed loop.
struct Connection {
    stream: Stream,
    sent_at: Duration,
    /// Bytes of the response so far.
    filled: usize,
}

pub(crate) enum Stream {
    Tcp(mio::net::TcpStream),
    Unix(mio::net::UnixStream),
}

impl Stream {
    pub(crate) fn connect(address: &Address, poll: &Poll, token: Token) -> Self {
        match address {
            Address::Tcp(address) => {
                let stream = std::net::TcpStream::connect(address).unwrap();
                stream.set_nodelay(true).unwrap();
                stream.set_nonblocking(true).unwrap();
                let stream = mio::net::TcpStream::from_std(stream);
                Self::Tcp(registered(stream, poll, token))
            }
            Address::Unix(path) => {
                let stream = std::os::unix::net::UnixStream::connect(path).unwrap();
                stream.set_nonblocking(true).unwrap();
                let stream = mio::net::UnixStream::from_std(stream);
                Self::Unix(registered(stream, poll, token))
            }
        }
    }

    pub(crate) fn send(&mut self, request: &[u8]) {
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

    /// Reads the available bytes; nothing if there are none.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> usize {
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

fn registered<S: Source>(mut stream: S, poll: &Poll, token: Token) -> S {
    let registry = poll.registry();
    registry
        .register(&mut stream, token, Interest::READABLE)
        .unwrap();
    stream
}

/// Keeps one request in flight on each connection.
pub(crate) fn closed_loop(address: &Address, request: &[u8], connections: usize) -> Load {
    looped(address, request, connections, true)
}

/// Does the same with a new connection for each request, for servers that close a connection after
/// an answer.
pub(crate) fn closed_loop_unkept(address: &Address, request: &[u8], connections: usize) -> Load {
    looped(address, request, connections, false)
}

fn looped(address: &Address, request: &[u8], connections: usize, kept: bool) -> Load {
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
            if !kept {
                connection.stream = Stream::connect(address, &poll, event.token());
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
