//! The slowest of many: takers beside fillers that are preempted, requests while both cores refill,
//! and a thousand first requests of an empty pool.
//!
//! *Preempted fillers.* Fillers of a small lane have one core with a thread that is nearly always
//! busy there, so that they are stopped again and again in the middle of whatever they do; the
//! taker has the other core and empties their lane all the time. Beside it the same taker and the
//! same busy thread, and a lane so full that its fillers sleep. What the machine's host does to the
//! taker it does to both sides.
//!
//! *Both cores refill.* The daemon is this process: its requests have core 0, the clients core 1,
//! its fillers both. Requests come at fixed instants, at 40 % of the rate that a closed loop gets,
//! and a request is late from the instant that it was due, unless only its client woke up late. Two
//! more lanes are filled, purged when they are full, and filled again, by threads of the fillers'
//! own priority: so fillers have work without end, as they would under some other load that needs
//! no core. Beside it the same daemon with these threads at rest: its lane is full, and its fillers
//! sleep.
//!
//! *Cold start.* A new daemon for each turn. A thousand connections are open and have been answered
//! once, with something that no pool has; then each sends its first request for a pooled key, all
//! at once. Beside it the same again once the lane is full.

#![expect(clippy::unwrap_used, reason = "a bench fails by panicking")]
#![expect(clippy::print_stdout, reason = "the table is the result")]

mod closed_loop;
mod machine;
mod mill;
mod open_loop;
mod rows;
mod served;

use closed_loop::{Stream, closed_loop, microseconds};
use keymill::clock::Clock;
use keymill::key::data_key::DataKeyLength;
use keymill::keystore::KeyEntry;
use keymill::metrics::Metrics;
use keymill::pool::{self, CloneWord, Pool};
use mill::Mill;
use mio::{Events, Poll, Token};
use open_loop::{OPEN, lower_priority, open_loop};
use rows::{Goal, ROUNDS, Row, median};
use rustix::process::Pid;
use served::{Address, CLIENT_CORE, Daemon, SERVER_CORE, Transport, pin, unsigned_request};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

const LENGTH: DataKeyLength = DataKeyLength::AES_256;

fn main() {
    if !machine::begins() {
        return;
    }
    closed_loop::check_open_files();
    on_a_thread(preempted_fillers);
    on_a_thread(refill);
    on_a_thread(cold_start);
}

/// On a thread of its own, which may be bound to a core without the others.
fn on_a_thread(question: fn()) {
    std::thread::spawn(question).join().unwrap();
}

/// How long a turn of takes is, and how far apart they are: a lane that is full at the beginning of
/// a turn is more than half full at its end.
const TAKES: Duration = Duration::from_secs(1);
const BETWEEN_TAKES: Duration = Duration::from_micros(2);
const SMALL_LANE: usize = 4096;
const LARGE_LANE: usize = 1 << 21;
/// The busy thread works and rests, so that fillers have begun something when it goes on.
const BUSY: Duration = Duration::from_millis(2);
const REST: Duration = Duration::from_micros(100);
/// The time from which a take counts as a wait.
const LONG: Duration = Duration::from_millis(1);

/// A pool with one lane, and the key to take from it.
struct Lane {
    pool: Arc<Pool>,
    entry: Arc<KeyEntry>,
    word: u64,
}

impl Lane {
    fn take(&self) -> Option<keymill::envelope::PooledKey> {
        self.pool.take(&self.entry, LENGTH, self.word)
    }

    /// Fills it, from below its low watermark: only there do fillers begin.
    fn fill(&self) {
        let status = || {
            self.pool
                .lanes()
                .first()
                .map(|lane| (lane.depth, lane.capacity))
        };
        while status().is_none_or(|(depth, capacity)| depth * 2 >= capacity) {
            drop(self.take());
        }
        while status().is_some_and(|(depth, capacity)| depth < capacity) {
            std::thread::sleep(Duration::from_micros(100));
        }
    }
}

/// The results of a turn of takes.
#[derive(Clone, Copy)]
struct Takes {
    longest: Duration,
    long: u64,
    taken: u64,
    hits: u64,
}

fn preempted_fillers() {
    // The pools' threads inherit it.
    pin(SERVER_CORE);
    let (mill, metrics) = (Mill::open(unpooled()), Metrics::new().unwrap());
    let entry = mill.create_key();
    let lane = |keys| {
        let config = pool::Config {
            fillers: 2,
            lane_keys_min: keys,
            lane_keys_max: keys,
            ..pool::Config::default()
        };
        let clone_word = Arc::new(CloneWord::new());
        let word = clone_word.read();
        let entropy = Arc::clone(&mill.core.entropy);
        let pool = Pool::new(config, entropy, Clock::system(), clone_word, &metrics);
        let (pool, entry) = (pool.unwrap(), Arc::clone(&entry));
        Lane { pool, entry, word }
    };
    let (small, large) = (lane(SMALL_LANE), lane(LARGE_LANE));
    pin(CLIENT_CORE);
    let mut sides = [Vec::new(), Vec::new()];
    for round in 0..ROUNDS {
        for turn in 0..2 {
            let side = (round + turn) % 2;
            let lane = [&small, &large][side];
            lane.fill();
            sides[side].push(beside_a_busy_thread(|| takes(lane)));
        }
    }
    let count = |side: &[Takes], of: fn(&Takes) -> u64| side.iter().map(of).sum::<u64>();
    let longest = |side: &[Takes]| {
        let longest = side.iter().map(|takes| takes.longest);
        microseconds(longest.max().unwrap_or_default())
    };
    let [with, without] = &sides;
    println!(
        "takes beside a busy thread: {} with fillers, of which {} found a key, the longest {:.0} µs; {} without, {} found one, the longest {:.0} µs",
        count(with, |takes| takes.taken),
        count(with, |takes| takes.hits),
        longest(with),
        count(without, |takes| takes.taken),
        count(without, |takes| takes.hits),
        longest(without),
    );
    Row::new(
        "longest wait of a taker while fillers are preempted, takes above 1 ms",
        "takes",
    )
    .no_more_than(
        "fillers preempted",
        count(with, |takes| takes.long),
        "no filler at work",
        count(without, |takes| takes.long),
    );
    small.pool.shut_down();
    large.pool.shut_down();
}

fn unpooled() -> pool::Config {
    pool::Config {
        enabled: false,
        ..pool::Config::default()
    }
}

fn beside_a_busy_thread<T>(work: impl FnOnce() -> T) -> T {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            pin(SERVER_CORE);
            while !stop.load(Ordering::Relaxed) {
                let clock = Clock::system();
                while clock.monotonic() < BUSY {
                    std::hint::spin_loop();
                }
                std::thread::sleep(REST);
            }
        });
        let done = work();
        stop.store(true, Ordering::Relaxed);
        done
    })
}

fn takes(lane: &Lane) -> Takes {
    let mut takes = Takes {
        longest: Duration::ZERO,
        long: 0,
        taken: 0,
        hits: 0,
    };
    let clock = Clock::system();
    let mut next = Duration::ZERO;
    while next < TAKES {
        let before = clock.monotonic();
        if before < next {
            std::hint::spin_loop();
            continue;
        }
        let key = lane.take();
        let took = clock.monotonic() - before;
        takes.taken += 1;
        takes.hits += u64::from(key.is_some());
        takes.longest = takes.longest.max(took);
        takes.long += u64::from(took > LONG);
        next = before + BETWEEN_TAKES;
    }
    takes
}

/// How busy the server is: of the closed loop's rate.
const LOAD: f64 = 0.4;
/// Keys of a lane that is refilled: several milliseconds of both cores.
const REFILL_LANE: usize = 1 << 20;

fn refill() {
    // What a thread of the daemon's inherits: but for the fillers it has the server's core alone,
    // and nothing of it holds up the clients.
    pin(SERVER_CORE);
    let mill = Mill::open(pool::Config {
        fillers: 2,
        lane_keys_min: REFILL_LANE,
        lane_keys_max: REFILL_LANE,
        ..pool::Config::default()
    });
    fillers_on_both_cores();
    let served = mill.create_key();
    let refilled = [mill.create_key(), mill.create_key()];
    let (pool, word) = (Arc::clone(&mill.core.pool), mill.core.clone_word.read());
    let address = Address::Unix(mill.serve());
    let body = format!(
        r#"{{"KeyId":"{}","KeySpec":"AES_256","EncryptionContext":{{"container":"container-000000000042"}}}}"#,
        served.key.id
    );
    let request = unsigned_request(&body);
    let lane = |entry: &Arc<KeyEntry>| Lane {
        pool: Arc::clone(&pool),
        entry: Arc::clone(entry),
        word,
    };
    // The first take is a miss and makes the lane.
    address.connect().call(&request);
    let depth = |entry: &KeyEntry| {
        let id = entry.key.id.to_string();
        let lanes = pool.lanes();
        let lane = lanes.iter().find(|lane| lane.lane.starts_with(&id));
        lane.map_or(0, |lane| lane.depth)
    };
    let of_served = lane(&served);
    let wait_for_the_lane = || {
        // Fillers begin below the low watermark only: what was left between is taken out.
        if depth(&served) < REFILL_LANE * 3 / 4 {
            while depth(&served) * 2 >= REFILL_LANE {
                (0..1024).for_each(|_| drop(of_served.take()));
            }
        }
        while depth(&served) < REFILL_LANE * 3 / 4 {
            std::thread::sleep(Duration::from_millis(1));
        }
    };
    wait_for_the_lane();
    pin(CLIENT_CORE);
    let closed: Vec<f64> = (0..3)
        .map(|_| closed_loop(&address, &request, 64).rate)
        .collect();
    let rate = median(closed) * LOAD;
    let (refilling, filled) = (AtomicBool::new(false), AtomicU64::new(0));
    let stop = AtomicBool::new(false);
    let mut sides = [(Vec::new(), Vec::new()), (Vec::new(), Vec::new())];
    let mut minted = 0;
    std::thread::scope(|scope| {
        for entry in &refilled {
            let (lane, depth, refilling, filled, stop) =
                (lane(entry), &depth, &refilling, &filled, &stop);
            scope.spawn(move || {
                on_both_cores(None);
                lower_priority();
                while !stop.load(Ordering::Relaxed) {
                    if !refilling.load(Ordering::Relaxed) {
                        std::thread::sleep(Duration::from_millis(1));
                        continue;
                    }
                    // The first of these is a miss: it tells the fillers.
                    drop(lane.take());
                    while depth(entry) < REFILL_LANE && refilling.load(Ordering::Relaxed) {
                        std::thread::sleep(Duration::from_millis(1));
                    }
                    filled.fetch_add(depth(entry) as u64, Ordering::Relaxed);
                    lane.pool.purge(entry.key.id);
                }
            });
        }
        for round in 0..ROUNDS {
            for turn in 0..2 {
                let side = (round + turn) % 2;
                wait_for_the_lane();
                refilling.store(side == 0, Ordering::Relaxed);
                // Until the others have begun, or have come to rest.
                std::thread::sleep(Duration::from_millis(50));
                filled.store(0, Ordering::Relaxed);
                let mut late = open_loop(&address, &request, rate);
                minted += filled.load(Ordering::Relaxed) * u64::from(side == 0);
                refilling.store(false, Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(50));
                late.sort_unstable();
                let at = |per_mille: usize| microseconds(late[late.len() * per_mille / 1000]);
                sides[side].0.push(at(990));
                sides[side].1.push(at(999));
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    println!(
        "{rate:.0} requests/s, {LOAD} of the closed loop's; while they came, {:.1} million keys/s were minted in the turns with filling",
        minted as f64 / ROUNDS as f64 / OPEN.as_secs_f64() / 1e6
    );
    let [(with_99, with_999), (without_99, without_999)] = sides;
    Row::new("tail while both cores refill, server 40 % busy, p99", "µs")
        .beside("refilling", with_99, "filling off", without_99)
        .reach(Goal::AtMost(1.2));
    Row::new(
        "tail while both cores refill, server 40 % busy, p99.9",
        "µs",
    )
    .beside("refilling", with_999, "filling off", without_999)
    .reach(Goal::AtMost(1.5));
}

/// Lets a thread of this process run on both cores; the calling one where none is named.
fn on_both_cores(thread: Option<Pid>) {
    let mut cores = rustix::thread::CpuSet::new();
    cores.set(SERVER_CORE);
    cores.set(CLIENT_CORE);
    rustix::thread::sched_setaffinity(thread, &cores).unwrap();
}

fn fillers_on_both_cores() {
    for thread in std::fs::read_dir("/proc/self/task").unwrap() {
        let thread = thread.unwrap();
        let name = std::fs::read_to_string(thread.path().join("comm")).unwrap();
        if name.starts_with("filler-") {
            let id = thread.file_name().to_str().unwrap().parse().unwrap();
            on_both_cores(Pid::from_raw(id));
        }
    }
}

const FIRST_REQUESTS: usize = 1000;

fn cold_start() {
    let request = |what: &str| {
        unsigned_request(&format!(
            r#"{{"KeyId":"alias/containers",{what},"EncryptionContext":{{"container":"container-000000000042"}}}}"#
        ))
    };
    let (pooled, unpooled) = (
        request(r#""KeySpec":"AES_256""#),
        request(r#""NumberOfBytes":64"#),
    );
    let answers = {
        let daemon = Daemon::start(Some(SERVER_CORE));
        let mut client = daemon.address(Transport::Unix).connect();
        [&unpooled, &pooled].map(|request| client.answer(request).whole().len())
    };
    pin(CLIENT_CORE);
    let mut p99 = [Vec::new(), Vec::new()];
    let mut longest = [Vec::new(), Vec::new()];
    let mut misses = Vec::new();
    for _ in 0..ROUNDS {
        let daemon = Daemon::start(Some(SERVER_CORE));
        let mut crowd = Crowd::connect(&daemon.address(Transport::Unix));
        for _ in 0..3 {
            crowd.burst(&unpooled, answers[0]);
        }
        assert_eq!(
            daemon.metric("keymill_pool_depth", ""),
            0.0,
            "nobody has asked for one"
        );
        for side in 0..2 {
            let mut late = crowd.burst(&pooled, answers[1]);
            late.sort_unstable();
            p99[side].push(microseconds(late[FIRST_REQUESTS * 99 / 100]));
            longest[side].push(microseconds(late[FIRST_REQUESTS - 1]));
            if side == 0 {
                misses.push(
                    daemon.metric("keymill_data_keys_total", "miss") - 3.0 * FIRST_REQUESTS as f64,
                );
                while daemon.metric("keymill_pool_depth", "") < 3.0 * FIRST_REQUESTS as f64 {
                    std::thread::sleep(Duration::from_millis(10));
                }
            }
        }
    }
    println!(
        "of {FIRST_REQUESTS} first requests, {:.0} found no key and minted their own",
        median(misses)
    );
    let [cold, warm] = p99;
    Row::new("cold start, 1,000 concurrent first requests, p99", "µs")
        .beside("empty pool", cold, "warm pool", warm)
        .reach(Goal::AtMost(1.5));
    // A request that waited for a fill would be the last.
    let [cold, warm] = longest;
    Row::new("cold start, nobody waits for a fill: the longest", "µs")
        .beside("empty pool", cold, "warm pool", warm)
        .reach(Goal::AtMost(1.5));
}

/// A thousand connections that ask at once.
struct Crowd {
    poll: Poll,
    streams: Vec<Stream>,
}

impl Crowd {
    fn connect(address: &Address) -> Self {
        let poll = Poll::new().unwrap();
        let connect = |number| Stream::connect(address, &poll, Token(number));
        let streams = (0..FIRST_REQUESTS).map(connect).collect();
        Self { poll, streams }
    }

    /// One request on each: how long each took, from its own sending.
    fn burst(&mut self, request: &[u8], answer_bytes: usize) -> Vec<Duration> {
        let clock = Clock::system();
        let mut sent_at = Vec::with_capacity(FIRST_REQUESTS);
        for stream in &mut self.streams {
            sent_at.push(clock.monotonic());
            stream.send(request);
        }
        let (mut events, mut buffer) = (Events::with_capacity(1024), vec![0; 64 * 1024]);
        let mut filled = vec![0; FIRST_REQUESTS];
        let mut late = Vec::with_capacity(FIRST_REQUESTS);
        while late.len() < FIRST_REQUESTS {
            let wait = Some(Duration::from_secs(10));
            self.poll.poll(&mut events, wait).unwrap();
            assert!(!events.is_empty(), "no answer for ten seconds");
            for event in &events {
                let at = event.token().0;
                filled[at] += self.streams[at].read(&mut buffer);
                if filled[at] == answer_bytes {
                    late.push(clock.monotonic() - sent_at[at]);
                }
                assert!(filled[at] <= answer_bytes, "every answer has as many bytes");
            }
        }
        late
    }
}
