//! A million containers through `POST /v1/data-keys/bind`, beside the sum of its parts; and the
//! effect on single requests.
//!
//! *Stream.* The daemon has core 0, its client core 1; each row has a context of two columns.
//! Beside it: a thread on core 0 that reads the same request from a Unix socket and writes as many
//! bytes as the answer has, in pieces, while they come; and as many keys minted on core 0, each
//! bound to its row's context, which is there already. The two times are added up.
//!
//! *Online.* The daemon has core 0. Requests for single keys come from core 1 at fixed instants, at
//! 40 % of the rate of a closed loop, and are late from the instant that they were due. Meanwhile
//! one stream of containers after the other runs as fast as it can, its client at the priority of
//! the fillers, so that it takes nothing from the clients that are measured. Beside it the same
//! requests alone.
//!
//! `KEYS` in the environment changes the count, to try the bench out.

#![expect(clippy::unwrap_used, reason = "a bench fails by panicking")]
#![expect(clippy::print_stdout, reason = "the table is the result")]

mod closed_loop;
mod machine;
mod mill;
mod open_loop;
mod rows;
mod served;
mod volumes;

use arrow_array::{ArrayRef, RecordBatch};
use arrow_ipc::writer::StreamWriter;
use closed_loop::{closed_loop, microseconds};
use keymill::clock::Clock;
use keymill::context::EncryptionContext;
use keymill::crypto::entropy::Entropy;
use keymill::envelope::{Epoch, MintedKeys};
use keymill::key::data_key::DataKeyLength;
use keymill::keystore::KeyEntry;
use keymill::pool;
use mill::Mill;
use open_loop::{OPEN, lower_priority, open_loop};
use rows::{Goal, ROUNDS, Row, median};
use served::{Address, CLIENT_CORE, Call, Daemon, SERVER_CORE, Transport, pin};
use std::hint::black_box;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

const LENGTH: DataKeyLength = DataKeyLength::AES_256;
/// Keys minted at a time, as the daemon does.
const MINT: usize = 256;
/// Bytes of one read or write.
const PIECE: usize = 1 << 20;
/// The load of the server by online requests, as a share of the closed loop's rate.
const LOAD: f64 = 0.4;

fn main() {
    if !machine::begins() {
        return;
    }
    let keys = std::env::var("KEYS").map_or(1_000_000, |keys| keys.parse().unwrap());
    for question in [stream, online] {
        // On a thread of its own, which may be bound to a core without the others.
        std::thread::spawn(move || question(keys)).join().unwrap();
    }
}

fn seconds(work: impl FnOnce()) -> f64 {
    let clock = Clock::system();
    work();
    clock.monotonic().as_secs_f64()
}

/// A request with the contexts' columns of `keys` rows.
fn request(keys: u64) -> Vec<u8> {
    let of_contexts = |rows: &RecordBatch| {
        let columns = volumes::CONTEXT.map(|name| {
            let column: ArrayRef = rows.column_by_name(name).unwrap().clone();
            (name, column)
        });
        RecordBatch::try_from_iter(columns).unwrap()
    };
    let schema = of_contexts(&volumes::rows(0, 0)).schema();
    let mut writer = StreamWriter::try_new(Vec::new(), &schema).unwrap();
    for (first, count) in volumes::batches(keys) {
        let batch = of_contexts(&volumes::rows(first, count));
        writer.write(&batch).unwrap();
    }
    writer.finish().unwrap();
    let body = writer.into_inner().unwrap();
    let context = volumes::CONTEXT.join(",");
    let mut request = format!(
        "POST /v1/data-keys/bind?key=alias/containers&spec=AES_256&context={context} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/vnd.apache.arrow.stream\r\ncontent-length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    request.extend_from_slice(&body);
    request
}

fn connect(address: &Address) -> UnixStream {
    let Address::Unix(path) = address else {
        panic!("a stream of containers goes over the Unix socket")
    };
    UnixStream::connect(path).unwrap()
}

/// Sends `request`, reads meanwhile until the other end closes, and returns how many bytes came and
/// the last of them.
fn exchange(stream: &UnixStream, request: &[u8]) -> (usize, Vec<u8>) {
    let (mut from, mut to) = (stream, stream);
    std::thread::scope(|scope| {
        scope.spawn(move || to.write_all(request).unwrap());
        let (mut buffer, mut end, mut bytes) = (vec![0; PIECE], Vec::new(), 0);
        loop {
            let read = from.read(&mut buffer).unwrap();
            if read == 0 {
                return (bytes, end);
            }
            bytes += read;
            end.clear();
            end.extend_from_slice(&buffer[read.saturating_sub(64)..read]);
        }
    })
}

/// One stream; the bytes of its answer.
fn bound(daemon: &Daemon, request: &[u8]) -> usize {
    let (bytes, end) = exchange(&connect(&daemon.address(Transport::Unix)), request);
    assert!(end.ends_with(b"0\r\n\r\n"), "the stream came to its end");
    bytes
}

fn stream(keys: u64) {
    let daemon = Daemon::start(Some(SERVER_CORE));
    let request = request(keys);
    pin(CLIENT_CORE);
    let answer_bytes = bound(&daemon, &request);
    let mill = Mill::open(pool::Config {
        enabled: false,
        ..pool::Config::default()
    });
    let entry = mill.create_key();
    let contexts: Vec<_> = volumes::batches(keys)
        .flat_map(|(first, count)| volumes::contexts(&volumes::rows(first, count)))
        .collect();
    let (mut ours, mut minting, mut echoing) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        for turn in 0..3 {
            match (round + turn) % 3 {
                0 => ours.push(seconds(|| {
                    assert_eq!(bound(&daemon, &request), answer_bytes);
                })),
                1 => minting.push(on_the_servers_core(|| mint_and_bind(&entry, &contexts))),
                _ => echoing.push(echoed(&request, answer_bytes)),
            }
        }
    }
    println!(
        "a stream of {keys} containers, {} bytes there and {answer_bytes} back: {:.1} ms; mint and bind alone {:.1} ms, echo alone {:.1} ms",
        request.len(),
        median(ours.clone()) * 1e3,
        median(minting.clone()) * 1e3,
        median(echoing.clone()) * 1e3
    );
    let rate = |seconds: f64| keys as f64 / seconds / 1e6;
    let ours = ours.into_iter().map(rate);
    let sums = minting.into_iter().zip(echoing);
    let sums = sums.map(|(minting, echoing)| rate(minting + echoing));
    Row::new(
        "bind, 1,000,000 containers, context of two columns, Unix socket",
        "M rows/s",
    )
    .beside(
        "keymill",
        ours.collect(),
        "mint + bind, and echo",
        sums.collect(),
    )
    .reach(Goal::AtLeast(0.7));
}

fn on_the_servers_core(work: impl Fn() + Sync) -> f64 {
    let work = &work;
    std::thread::scope(|scope| {
        let pinned = scope.spawn(move || {
            pin(SERVER_CORE);
            seconds(work)
        });
        pinned.join().unwrap()
    })
}

/// Mints a key for each context, and binds it.
fn mint_and_bind(entry: &KeyEntry, contexts: &[EncryptionContext]) {
    let entropy = Entropy::os();
    let material = entry.current().unwrap();
    let begin = || Epoch::begin(entry.key.id, material, &entropy, Duration::ZERO).unwrap();
    let (mut epoch, mut minted, mut out) = (begin(), MintedKeys::new(), Vec::new());
    for contexts in contexts.chunks(MINT) {
        while epoch
            .mint_into(&mut minted, LENGTH, contexts.len(), Duration::ZERO)
            .is_err()
        {
            epoch = begin();
        }
        out.clear();
        for context in contexts {
            minted.bind_many(1, context, &mut out);
        }
        black_box(&out);
    }
}

/// Sends the same request to a thread on the server's core that answers with as many bytes as the
/// daemon, piece by piece.
fn echoed(request: &[u8], answer_bytes: usize) -> f64 {
    let (here, there) = UnixStream::pair().unwrap();
    let request_bytes = request.len();
    let server = std::thread::spawn(move || {
        pin(SERVER_CORE);
        let (mut piece, mut read, mut written) = (vec![7; PIECE], 0, 0);
        let answer = vec![7; PIECE];
        while read < request_bytes {
            read += (&there).read(&mut piece).unwrap();
            // As much of the answer as has arrived of the request.
            let due = (answer_bytes as u128 * read as u128 / request_bytes as u128) as usize;
            while written < due {
                let next = (due - written).min(PIECE);
                (&there).write_all(&answer[..next]).unwrap();
                written += next;
            }
        }
    });
    let took = seconds(|| assert_eq!(exchange(&here, request).0, answer_bytes));
    server.join().unwrap();
    took
}

fn online(keys: u64) {
    let daemon = Daemon::start(Some(SERVER_CORE));
    let stream = request(keys.min(250_000));
    pin(CLIENT_CORE);
    let one = daemon.request(Call::One, Transport::Unix);
    let address = daemon.address(Transport::Unix);
    let closed: Vec<f64> = (0..3)
        .map(|_| closed_loop(&address, &one, 64).rate)
        .collect();
    let rate = median(closed) * LOAD;
    let (streaming, stop) = (AtomicBool::new(false), AtomicBool::new(false));
    let streams = AtomicU64::new(0);
    let mut sides = [Vec::new(), Vec::new()];
    std::thread::scope(|scope| {
        scope.spawn(|| {
            lower_priority();
            while !stop.load(Ordering::Relaxed) {
                match streaming.load(Ordering::Relaxed) {
                    true => {
                        bound(&daemon, &stream);
                        streams.fetch_add(1, Ordering::Relaxed);
                    }
                    false => std::thread::sleep(Duration::from_millis(1)),
                }
            }
        });
        for round in 0..ROUNDS {
            for turn in 0..2 {
                let side = (round + turn) % 2;
                streaming.store(side == 0, Ordering::Relaxed);
                // Until the stream has begun or ended.
                std::thread::sleep(Duration::from_millis(500));
                let mut late = open_loop(&address, &one, rate);
                late.sort_unstable();
                sides[side].push(microseconds(late[late.len() * 99 / 100]));
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    println!(
        "{rate:.0} online requests/s, {LOAD} of the closed loop's; beside them {} streams of {} containers in {ROUNDS} turns of {:.1} s and what was around them",
        streams.into_inner(),
        keys.min(250_000),
        OPEN.as_secs_f64()
    );
    let [with, without] = sides;
    Row::new(
        "online p99 beside a stream of containers at full speed",
        "µs",
    )
    .beside("streaming", with, "no stream", without)
    .reach(Goal::AtMost(1.5));
}
