//! The number of open answers, of which no principal can have all.

use crate::server::batch::{batch, lines};
use crate::server::bind::{of_tenant, stream};
use crate::server::daemon::{ADMIN, Daemon};
use crate::server::wire::{Request, Wire};
use tokio::net::UnixStream;

/// More than hyper, the kernel and a chunk under way hold together.
const MANY: u64 = 100_000;
/// The most that one principal may have open: half of all.
const SHARE: usize = 32;

/// Sends this on connections of their own until one more is refused, reading nothing.
async fn hold(daemon: &Daemon, sent: &str, asked: &Request) -> (Vec<Wire<UnixStream>>, String) {
    let mut open = Vec::new();
    let mut refused = daemon.over_unix().await;
    // The daemon takes the heads in its own time, and the one that looks may stand in the place of
    // another for a moment.
    loop {
        let mut unix = daemon.over_unix().await;
        unix.send(sent).await;
        open.push(unix);
        if open.len() < SHARE {
            continue;
        }
        let answer = refused.ask(asked).await;
        if answer.status != 200 {
            return (open, answer.refusal(400, "ThrottlingException"));
        }
    }
}

/// Asks until it is served: places come back in their own time.
async fn served(daemon: &Daemon, request: &Request) {
    loop {
        let mut unix = daemon.over_unix().await;
        if unix.ask(request).await.status == 200 {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hold_6_streams_at_once_are_bounded_and_no_principal_has_them_all() {
    let daemon = Daemon::start().await;
    let request = stream(&[of_tenant("a", 1)]);
    let head = format!("{}transfer-encoding: chunked\r\n\r\n", request.head());
    let (open, message) = hold(&daemon, &head, &request).await;
    assert!(message.starts_with("Too many streams of containers are open."));
    // Another principal is served meanwhile, over another listener.
    let of_admin = stream(&[of_tenant("a", 1)]).signed(&ADMIN);
    let answer = daemon.over_tcp().await.ask(&of_admin).await;
    assert_eq!(answer.status, 200);
    drop(open);
    served(&daemon, &request).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hold_6_unread_batches_are_bounded_in_bytes_and_no_principal_has_them_all() {
    let daemon = Daemon::start().await;
    for request in [batch, lines] {
        let large = String::from_utf8(request(MANY).bytes()).unwrap();
        let (open, message) = hold(&daemon, &large, &request(1)).await;
        assert!(message.starts_with("Too many batches wait for their readers."));
        let of_admin = request(MANY).signed(&ADMIN);
        let answer = daemon.over_tcp().await.ask(&of_admin).await;
        assert_eq!(answer.status, 200);
        drop(open);
        served(&daemon, &request(1)).await;
    }
    // What is read holds nothing: more of them than there are places for at once.
    let mut unix = daemon.over_unix().await;
    for _ in 0..2 * SHARE {
        assert_eq!(unix.ask(&batch(9_000)).await.status, 200);
    }
}
