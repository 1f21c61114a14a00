//! The resources of the program: memory of pooled keys and of jobs, and the CPU of an idle daemon.
//!
//! *Pooled keys.* Resident memory of a daemon before and after it has filled a lane of a million
//! keys, divided among them.
//!
//! *Export.* The peak of `keymill export` on the store with every core, less the peak of the same
//! command that makes one row.
//!
//! *Tables.* The peak of `keymill provision`, `rewrap` and `verify` on the store with every core;
//! and that of `census` and `verify` with three times as many rows, beside the peak with those: the
//! same files under three names, so that two rows of three are found to be there twice, which costs
//! no less.
//!
//! *Unread batches.* The most resident memory of a daemon while 4,096 connections, half of them
//! over TCP, have each asked for a million keys of 1,024 bytes as lines and read nothing, less that
//! before.
//!
//! *Idle.* Time on a core of all threads of a daemon whose lane is full, over twenty seconds.
//!
//! `ROWS` in the environment changes the count of jobs, to try the bench out.

#![expect(clippy::unwrap_used, reason = "a bench fails by panicking")]
#![expect(clippy::print_stdout, reason = "the table is the result")]

mod machine;
mod processes;
mod rows;
mod served;
mod volumes;

use keymill::clock::Clock;
use processes::{on_a_core, ticks};
use rows::{Goal, ROUNDS, Row};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use served::{Call, Daemon, Transport};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// Keys of the lane that is weighed.
const LANE: u32 = 1 << 20;
const KIB: f64 = 1024.0;
const IDLE: Duration = Duration::from_secs(20);
/// Connections with a batch that they do not read; and how long they are looked at once all are
/// answered or refused.
const UNREAD: usize = 4096;
const UNREAD_TIME: Duration = Duration::from_secs(2);
/// Open files of this process beside those connections.
const OTHER_FILES: u64 = 256;
/// Until the last of what a start does is over.
const CALM: Duration = Duration::from_secs(3);

fn main() {
    if !machine::begins() {
        return;
    }
    let rows = std::env::var("ROWS").unwrap_or("10000000".to_owned());
    let mut daemon = Daemon::start(None);
    idle(&daemon);
    daemon.stop();
    export(&daemon, &rows);
    tables(&daemon, rows.parse().unwrap());
    pooled_keys();
    unread_batches();
}

fn take_one(daemon: &Daemon) {
    let transport = Transport::Unix;
    let request = daemon.request(Call::One, transport);
    daemon.address(transport).connect().call(&request);
}

fn wait_for(what: impl Fn() -> bool) {
    while !what() {
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// KiB in the line of that name in a process's status; `None` once the process is gone.
fn status(pid: u32, name: &str) -> Option<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let number = line.trim_start_matches(':').trim().trim_end_matches(" kB");
    Some(number.parse().unwrap())
}

fn pooled_keys() {
    let keys = LANE.to_string();
    let variables = [
        ("KEYMILL_POOL__LANE_KEYS_MIN", keys.as_str()),
        ("KEYMILL_POOL__LANE_KEYS_MAX", keys.as_str()),
    ];
    let each = (0..ROUNDS).map(|_| {
        let daemon = Daemon::start_with(None, &variables);
        let resident = || status(daemon.pid(), "VmRSS").unwrap();
        // The first reads of metrics and the first key of a length that is not pooled allocate
        // once.
        daemon.metrics();
        let before = resident();
        take_one(&daemon);
        wait_for(|| daemon.metric("keymill_pool_depth", "") >= f64::from(LANE));
        (resident() - before) * KIB / f64::from(LANE)
    });
    Row::new("memory of a pooled AES_256 key", "bytes")
        .beside("keymill", each.collect(), "as goal", vec![96.0; ROUNDS])
        .reach(Goal::AtMost(1.1));
}

fn unread_batches() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    setrlimit(Resource::Nofile, raised).unwrap();
    let enough = |files| files >= UNREAD as u64 + OTHER_FILES;
    assert!(limit.maximum.is_none_or(enough), "too few open files");
    let above = (0..ROUNDS).map(|_| {
        let daemon = Daemon::start(None);
        let resident = || status(daemon.pid(), "VmRSS").unwrap();
        for transport in [Transport::Tcp, Transport::Unix] {
            let request = daemon.request(Call::One, transport);
            daemon.address(transport).connect().call(&request);
        }
        std::thread::sleep(CALM);
        let before = resident();
        let unread = |at: usize| {
            let transport = [Transport::Tcp, Transport::Unix][at % 2];
            let request = daemon.request(Call::Lines(1_000_000), transport);
            let mut client = daemon.address(transport).connect();
            client.only_send(&request);
            client
        };
        let clients: Vec<_> = (0..UNREAD).map(unread).collect();
        let begun = || daemon.metric("keymill_requests_total", r#"operation="DataKeys""#);
        let mut most = resident();
        while begun() < UNREAD as f64 {
            most = resident().max(most);
            std::thread::sleep(Duration::from_millis(10));
        }
        let clock = Clock::system();
        while clock.monotonic() < UNREAD_TIME {
            most = resident().max(most);
            std::thread::sleep(Duration::from_millis(10));
        }
        drop(clients);
        (most - before) / KIB
    });
    Row::new("memory of 4,096 unread batches", "MiB").alone(
        "keymill",
        above.collect(),
        Goal::AtMost(256.0),
    );
}

fn export(daemon: &Daemon, rows: &str) {
    let (dir, folder) = (daemon.dir(), tempfile::tempdir_in("/dev/shm").unwrap());
    let above = (0..ROUNDS).map(|round| {
        let out = folder.path().join(round.to_string());
        let idle = peak_of_export(&dir, "1", &out.join("idle"));
        let peak = peak_of_export(&dir, rows, &out.join("whole"));
        std::fs::remove_dir_all(out).unwrap();
        (peak - idle) / KIB
    });
    let above = above.collect();
    Row::new("memory of export above an idle process", "MiB").alone(
        "keymill",
        above,
        Goal::AtMost(128.0),
    );
}

/// KiB.
fn peak_of_export(dir: &Path, rows: &str, out: &Path) -> f64 {
    let asked = ["export", "--key", "alias/containers", "--count", rows];
    let mut command = keymill(&asked);
    command.arg("--dir").arg(dir).arg("--out").arg(out);
    peak_of(command, true)
}

fn keymill(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_keymill"));
    command.args(arguments);
    command
}

/// Runs it; KiB.
fn peak_of(mut command: Command, succeeds: bool) -> f64 {
    let mut child = command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut peak = 0.0;
    loop {
        // It only grows: the last reading misses the growth in the last millisecond.
        peak = status(child.id(), "VmHWM").unwrap_or(peak);
        if let Some(status) = child.try_wait().unwrap() {
            assert_eq!(status.success(), succeeds, "{command:?}: {status}");
            return peak;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn tables(daemon: &Daemon, rows: u64) {
    let (dir, folder) = (daemon.dir(), tempfile::tempdir_in("/dev/shm").unwrap());
    let path = |name: &str| folder.path().join(name);
    volumes::write(&path("volumes.parquet"), rows);
    let job = |arguments: &[&str], inputs: &[&str], out: Option<&str>| {
        let mut command = keymill(arguments);
        command.args(inputs.iter().map(|name| path(name)));
        if arguments[0] != "census" {
            command.arg("--dir").arg(&dir);
        }
        if let Some(out) = out {
            command.arg("--out").arg(path(out));
        }
        // Every row is there three times where every file is.
        let succeeds = arguments[0] != "verify" || inputs.len() == 1;
        peak_of(command, succeeds) / KIB
    };
    let key = ["--key", "alias/containers"];
    let columns = ["--id-column", "volume", "--context", "tenant,volume"];
    let provision = [&["provision"], &key[..], &columns].concat();
    let rewrap = [&["rewrap"], &key[..]].concat();
    let verify = ["verify", "--id-column", "volume"];
    let mut peaks: [Vec<f64>; 3] = Default::default();
    let mut flat: [[Vec<f64>; 2]; 2] = Default::default();
    for _ in 0..ROUNDS {
        peaks[0].push(job(&provision, &["volumes.parquet"], Some("provisioned")));
        peaks[1].push(job(&rewrap, &["provisioned"], Some("rewrapped")));
        peaks[2].push(job(&verify, &["rewrapped"], None));
        for other in ["second", "third"] {
            link_all(&path("rewrapped"), &path(other));
        }
        let thrice = ["rewrapped", "second", "third"];
        for (arguments, [once, more]) in [&["census"][..], &verify].into_iter().zip(&mut flat) {
            more.push(job(arguments, &thrice, None));
            once.push(job(arguments, &["rewrapped"], None));
        }
        for name in ["provisioned", "rewrapped", "second", "third"] {
            std::fs::remove_dir_all(path(name)).unwrap();
        }
    }
    for (name, peaks) in ["provision", "rewrap", "verify"].into_iter().zip(peaks) {
        Row::new(format!("memory of {name}, 10,000,000 rows"), "MiB").alone(
            "keymill",
            peaks,
            Goal::AtMost(512.0),
        );
    }
    for (name, [once, more]) in ["census", "verify"].into_iter().zip(flat) {
        Row::new(format!("memory of {name}, three times the rows"), "MiB")
            .beside("30,000,000 rows", more, "10,000,000 rows", once)
            .reach(Goal::AtMost(1.2));
    }
}

/// The files of a folder once more, as others.
fn link_all(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for file in std::fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        std::fs::hard_link(file.path(), to.join(file.file_name())).unwrap();
    }
}

fn idle(daemon: &Daemon) {
    take_one(daemon);
    wait_for(|| {
        daemon.metric("keymill_pool_depth", "") >= daemon.metric("keymill_pool_capacity", "")
    });
    std::thread::sleep(CALM);
    let clock = Clock::system();
    let (before, before_ticks) = (on_a_core(daemon.pid()), ticks(daemon.pid()));
    std::thread::sleep(IDLE);
    let (after, after_ticks) = (on_a_core(daemon.pid()), ticks(daemon.pid()));
    let share = (after - before).as_secs_f64() / clock.monotonic().as_secs_f64();
    println!(
        "an idle daemon was on a core for {:.3} ms in {} s, {} ticks of its user and system time",
        (after - before).as_secs_f64() * 1e3,
        IDLE.as_secs(),
        after_ticks - before_ticks
    );
    Row::new("CPU of an idle daemon", "% of a core").alone(
        "keymill",
        vec![share * 100.0],
        Goal::AtMost(0.1),
    );
}
