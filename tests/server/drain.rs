//! A daemon that is told to stop: what is in flight is finished, what is new is refused, and nothing waits for ever.

use crate::daemon::{ALIAS, Daemon, Setup};
use crate::wire::{Request, within};
use keymill::transport::Config;
use serde_json::json;
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
    let mut daemon = Daemon::start_with(Setup {
        config: Config {
            drain_seconds: 0,
            ..Config::default()
        },
        ..Setup::default()
    })
    .await;
    let mut stuck = daemon.over_unix().await;
    stuck.send(batch().bytes()).await;
    assert_eq!(stuck.peek_head().await, 200);
    daemon.begin_to_drain();
    daemon.drained().await;
    assert!(stuck.answer().await.cut);
}
