//! An open loop: requests at fixed instants, and how late each was answered. Whoever wakes up late is not counted against the server.

use crate::served::Address;
use keymill::clock::Clock;
use std::num::NonZeroU64;
use std::time::Duration;
use thread_priority::ThreadPriority;
use thread_priority::unix::{
    NormalThreadSchedulePolicy, ThreadSchedulePolicy, set_thread_priority_and_policy,
    thread_native_id,
};

/// How long requests come in a turn.
pub(crate) const OPEN: Duration = Duration::from_millis(1500);
/// Threads that send, each on a connection of its own.
const SENDERS: u32 = 16;

/// As the fillers do.
pub(crate) fn lower_priority() {
    let policy = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
    set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Min, policy).unwrap();
}

/// `rate` requests a second at fixed instants, whatever becomes of them: how late each was answered.
pub(crate) fn open_loop(address: &Address, request: &[u8], rate: f64) -> Vec<Duration> {
    let period = Duration::from_secs_f64(f64::from(SENDERS) / rate);
    let clock = Clock::system();
    let begin = clock.monotonic() + Duration::from_millis(5);
    std::thread::scope(|scope| {
        let senders: Vec<_> = (0..SENDERS)
            .map(|sender| {
                let (clock, mut client) = (clock.clone(), address.connect());
                scope.spawn(move || {
                    rustix::thread::set_current_timer_slack(NonZeroU64::new(1)).unwrap();
                    let mut due = begin + period * sender / SENDERS;
                    let (mut late, mut answered) = (Vec::new(), Duration::ZERO);
                    while due < begin + OPEN {
                        let now = clock.monotonic();
                        std::thread::sleep(due.saturating_sub(now));
                        // Late for a late answer: that is the server's. Late for waking up late: that is not.
                        let from = if answered > due {
                            due
                        } else {
                            clock.monotonic()
                        };
                        client.call(request);
                        answered = clock.monotonic();
                        late.push(answered - from);
                        due += period;
                    }
                    late
                })
            })
            .collect();
        senders
            .into_iter()
            .flat_map(|sender| sender.join().unwrap())
            .collect()
    })
}
