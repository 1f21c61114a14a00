//! Loaded servers on one core: the cost of a whole request there, beside a plain hyper server that
//! answers as many bytes to the same requests, and beside a blocking echo of as many.
//!
//! The server has core 0, the clients core 1; the first two questions are a closed loop over epoll,
//! which learns a response's length and then counts bytes. In the question of one connection both
//! have core 0: across cores the time of a round trip is that of waking a core. Both sides of a
//! question take turns.
//!
//! With the variable `BEFORE`, the path of an older build's binary, the daemon of that build is a
//! further side: what a change costs on the request path is measured in one run.

#![expect(clippy::unwrap_used, reason = "a bench fails by panicking")]

mod closed_loop;
mod machine;
mod rows;
mod served;

use closed_loop::{Load, closed_loop, microseconds};
use rows::{Goal, ROUNDS, Row};
use served::{CLIENT_CORE, Daemon, SERVER_CORE, Transport, blocking_echo, pin, plain_hyper};

/// Turns of each build; odd, and more of them, since a few percent are to be seen.
const TURNS_BESIDE_BEFORE: usize = 21;
/// Calls of one turn on one connection.
const CALLS: usize = 20_000;

fn main() {
    if !machine::begins() {
        return;
    }
    closed_loop::check_open_files();
    let daemon = Daemon::start(Some(SERVER_CORE));
    for (transport, name) in [(Transport::Unix, "Unix socket"), (Transport::Tcp, "TCP")] {
        loaded(&daemon, transport, name);
    }
    alone(&daemon);
    drop(daemon);
    beside_the_build_before();
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

/// The closed loop at 64 connections beside the same of the build that `BEFORE` names.
fn beside_the_build_before() {
    let Some(before) = Daemon::before(Some(SERVER_CORE)) else {
        return;
    };
    let daemon = Daemon::start(Some(SERVER_CORE));
    pin(CLIENT_CORE);
    for (transport, name) in [(Transport::Unix, "Unix socket"), (Transport::Tcp, "TCP")] {
        let [mut ours, mut theirs] = [Vec::new(), Vec::new()];
        for round in 0..TURNS_BESIDE_BEFORE {
            let mut sides = [(&daemon, &mut ours), (&before, &mut theirs)];
            sides.rotate_left(round % 2);
            for (daemon, loads) in sides {
                let request = daemon.boto3_request();
                loads.push(closed_loop(&daemon.address(transport), &request, 64).rate);
            }
        }
        Row::new(
            format!("whole request, 64 connections, {name}, beside the build before"),
            "requests/s",
        )
        .beside("keymill", ours, "before", theirs)
        .reach(Goal::AtLeast(0.97));
    }
}
