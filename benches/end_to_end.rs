//! The whole daemon over loopback HTTP and over its Unix socket. Beside it are a plain hyper server
//! that answers as many bytes, and a blocking echo that reads as many bytes and writes as many. The
//! rest of the first ratio is ours, that of the second is hyper's.
//!
//! The daemon is `keymill dev` in a process of its own. The clients are blocking and the same for
//! all sides, and connections are kept. Over TCP requests are signed; over the socket the kernel
//! reports the caller. Signatures are made before the clock starts.

#![expect(clippy::unwrap_used, reason = "a bench fails by panicking")]
#![expect(clippy::print_stdout, reason = "the table is the result")]

mod served;
mod side_by_side;

use keymill::clock::Clock;
use served::{Call, Client, Daemon, Transport, blocking_echo, plain_hyper};
use side_by_side::{Question, Side};
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// Keys of a batch: 6 MB of blobs.
const BATCH: Call = Call::Batch(65_536);
/// Connections of a loaded server.
const CONNECTIONS: usize = 16;

fn main() {
    let daemon = Arc::new(Daemon::start(None));
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
        ("65536 keys, TCP", BATCH, Transport::Tcp, 1),
        ("65536 keys, Unix socket", BATCH, Transport::Unix, 1),
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
            ("plain hyper", plain_hyper(transport, &answer, None)),
            (
                "blocking echo",
                blocking_echo(transport, request_bytes, answer.whole(), None),
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
