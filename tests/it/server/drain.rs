//! A daemon that is stopped: requests in progress are finished, new ones are refused, and nothing
//! waits forever.

use crate::server::daemon::{ALIAS, Daemon, PROVISIONER, Setup};
use crate::server::wire::{Request, Wire, within};
use keymill::transport::Limits;
use serde_json::json;
use std::net::SocketAddr;
use tokio::net::{TcpStream, UnixStream};

const MANY: u64 = 100_000;

fn batch() -> Request {
    let body = json!({"KeyId": ALIAS, "KeySpec": "AES_256", "Count": MANY});
    Request::post("/v1/data-keys", "localhost", &body)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_in_flight_is_finished_and_new_connections_are_refused() {
    let mut daemon = Daemon::start().await;
    let (mut idle, mut busy) = (daemon.over_tcp().await, daemon.over_unix().await);
    busy.send(batch().bytes()).await;
    assert_eq!(busy.peek_head().await, 200);
    daemon.begin_to_drain();
    assert!(idle.is_closed().await);
    let answer = busy.answer().await;
    assert!(!answer.cut && answer.body.len() as u64 == MANY * 96);
    assert!(busy.is_closed().await);
    daemon.drained().await;
    assert!(within(TcpStream::connect(daemon.tcp)).await.is_err());
    assert!(within(UnixStream::connect(&daemon.socket)).await.is_err());
    assert!(within(TcpStream::connect(daemon.admin)).await.is_err());
    let open = r#"keymill_connections{transport="unix"}"#;
    assert_eq!(daemon.metric(open), Some(0.0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_deadline_cuts_what_does_not_end() {
    let mut daemon = Daemon::start_with(Setup::with_limits(Limits {
        drain_seconds: 0,
        ..Limits::default()
    }))
    .await;
    let mut stuck = daemon.over_unix().await;
    stuck.send(batch().bytes()).await;
    assert_eq!(stuck.peek_head().await, 200);
    daemon.begin_to_drain();
    daemon.drained().await;
    assert!(stuck.answer().await.cut);
}

/// Asks without a pause, on a connection for as long as its answers let it, until nobody listens;
/// how often it was answered. A request on a connection that has answered before is answered; a new
/// one may come to an end unheard, when its listener closes in that moment.
async fn ask_until_refused(address: SocketAddr) -> usize {
    let request = Request::mint("localhost");
    let request = request.signed(&PROVISIONER);
    let mut answered = 0;
    while let Ok(stream) = within(TcpStream::connect(address)).await {
        let (mut wire, mut is_new) = (Wire::new(stream), true);
        loop {
            if !wire.is_answered(&request).await {
                assert!(is_new, "a request was not answered");
                break;
            }
            let answer = wire.answer().await;
            answer.done();
            answered += 1;
            is_new = false;
            if answer.header("connection") == Some("close") {
                break;
            }
        }
    }
    answered
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hold_4_ten_restarts_under_load_leave_no_request_without_an_answer() {
    for _ in 0..10 {
        let mut daemon = Daemon::start().await;
        let callers: Vec<_> = (0..6)
            .map(|_| tokio::spawn(ask_until_refused(daemon.tcp)))
            .collect();
        let of_tcp =
            r#"keymill_requests_total{operation="GenerateDataKeyWithoutPlaintext",code="OK"}"#;
        within(async {
            while daemon.metric(of_tcp).unwrap_or_default() < 100.0 {
                tokio::task::yield_now().await;
            }
        })
        .await;
        daemon.begin_to_drain();
        daemon.drained().await;
        let mut answered = 0;
        for caller in callers {
            answered += caller.await.unwrap();
        }
        // Every change was answered.
        assert_eq!(daemon.metric(of_tcp), Some(answered as f64));
    }
}
