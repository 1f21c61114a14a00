//! An open loop: requests at fixed instants, and how late each was answered. A client that wakes up
//! late is not counted against the server.
//!
//! One thread over epoll, woken by a timer: threads that block, one for each connection, take their
//! core to its limit at the rates that a server has on another.

use crate::closed_loop::Stream;
use crate::served::Address;
use keymill::clock::Clock;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use std::collections::VecDeque;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;
use thread_priority::ThreadPriority;
use thread_priority::unix::{
    NormalThreadSchedulePolicy, ThreadSchedulePolicy, set_thread_priority_and_policy,
    thread_native_id,
};

/// How long requests come in a turn.
pub(crate) const OPEN: Duration = Duration::from_millis(1500);
/// Connections; a request that finds all of them busy waits for one, and is late from when it was
/// due.
const CONNECTIONS: usize = 64;
const TIMER: Token = Token(CONNECTIONS);

/// As the fillers do.
pub(crate) fn lower_priority() {
    let policy = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
    set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Min, policy).unwrap();
}

/// One connection, and its request in flight.
struct Connection {
    stream: Stream,
    /// Since when its answer is late.
    from: Duration,
    /// Bytes of the answer so far.
    filled: usize,
}

impl Connection {
    fn send(&mut self, request: &[u8], from: Duration) {
        (self.from, self.filled) = (from, 0);
        self.stream.send(request);
    }
}

/// Sends `rate` requests a second at fixed instants, whether or not they are answered, and returns
/// how late each was answered.
pub(crate) fn open_loop(address: &Address, request: &[u8], rate: f64) -> Vec<Duration> {
    let answer_bytes = address.connect().answer(request).whole().len();
    let (mut poll, timer) = (Poll::new().unwrap(), timer());
    let mut source = SourceFd(&timer.as_raw_fd());
    let registry = poll.registry();
    registry
        .register(&mut source, TIMER, Interest::READABLE)
        .unwrap();
    let mut connections: Vec<_> = (0..CONNECTIONS)
        .map(|number| Connection {
            stream: Stream::connect(address, &poll, Token(number)),
            from: Duration::ZERO,
            filled: 0,
        })
        .collect();
    let mut free: VecDeque<_> = (0..CONNECTIONS).collect();
    let mut waiting: VecDeque<Duration> = VecDeque::new();
    let (period, clock) = (Duration::from_secs_f64(1.0 / rate), Clock::system());
    let (mut due, mut late) = (Duration::ZERO, Vec::new());
    let (mut events, mut buffer) = (Events::with_capacity(256), vec![0; 64 * 1024]);
    loop {
        while due < OPEN && due <= clock.monotonic() {
            match free.pop_front() {
                Some(at) => connections[at].send(request, clock.monotonic()),
                None => waiting.push_back(due),
            }
            due += period;
        }
        if due < OPEN {
            ring_in(&timer, due.saturating_sub(clock.monotonic()));
        } else if free.len() == CONNECTIONS {
            return late;
        }
        let wait = Some(Duration::from_secs(10));
        poll.poll(&mut events, wait).unwrap();
        assert!(!events.is_empty(), "no answer for ten seconds");
        for event in events.iter().filter(|event| event.token() != TIMER) {
            let connection = &mut connections[event.token().0];
            connection.filled += connection.stream.read(&mut buffer);
            assert!(
                connection.filled <= answer_bytes,
                "every answer has as many bytes"
            );
            if connection.filled == answer_bytes {
                late.push(clock.monotonic() - connection.from);
                match waiting.pop_front() {
                    Some(due) => connection.send(request, due),
                    None => free.push_back(event.token().0),
                }
            }
        }
    }
}

fn timer() -> OwnedFd {
    timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC).unwrap()
}

/// Lets the timer ring once.
fn ring_in(timer: &OwnedFd, time: Duration) {
    // No time at all would stop it.
    let time = time.max(Duration::from_nanos(1));
    let once = Itimerspec {
        it_interval: Timespec::default(),
        it_value: time.try_into().unwrap(),
    };
    timerfd_settime(timer, TimerfdTimerFlags::empty(), &once).unwrap();
}
