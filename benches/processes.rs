//! The CPU time of other processes.

// Each bench uses its own part of it.
#![allow(dead_code, reason = "compiled into each bench that asks for it")]

use std::time::Duration;

/// Of all threads, as the scheduler counts it.
pub(crate) fn on_a_core(pid: u32) -> Duration {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let times = threads.map(|thread| {
        let path = thread.unwrap().path().join("schedstat");
        let text = std::fs::read_to_string(path).unwrap();
        let nanoseconds = text.split(' ').next().unwrap().parse().unwrap();
        Duration::from_nanos(nanoseconds)
    });
    times.sum()
}

/// `utime` and `stime`.
pub(crate) fn ticks(pid: u32) -> u64 {
    let fields = stat(pid).unwrap();
    let tick = |at: usize| fields[at].parse::<u64>().unwrap();
    tick(11) + tick(12)
}

/// The process that started this one; none if it has ended.
pub(crate) fn parent(pid: u32) -> Option<u32> {
    stat(pid)?[1].parse().ok()
}

/// What `/proc` says of a process after its name, which may hold anything and ends with the last
/// parenthesis: its state, its parent, and at 11 and 12 its ticks.
fn stat(pid: u32) -> Option<Vec<String>> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    Some(fields.split_whitespace().map(str::to_owned).collect())
}
