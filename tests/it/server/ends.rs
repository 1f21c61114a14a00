//! How an answer ends that fails: with a status while nothing was sent, else visibly, and after its
//! finished part.

use crate::server::batch::{ARROW, batch, lines, made};
use crate::server::bind::{ASK, bind, of_tenant, pieces, rows_of_cut, stream};
use crate::server::daemon::{ACCOUNT, Daemon, PROVISIONER};
use keymill::api::Requester;
use keymill::policy::Principal;
use serde_json::json;
use std::time::Duration;

/// More than hyper, the kernel and a chunk under way hold together.
const MANY: u64 = 400_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn audit_1_what_cannot_be_recorded_is_refused_with_a_status_in_every_form() {
    let daemon = Daemon::start().await;
    daemon.api.audit.close();
    for count in [1, 20_000] {
        for request in [
            batch(count),
            lines(count),
            batch(count).with("accept", ARROW),
            stream(&[of_tenant("7", 10)]),
        ] {
            let answer = daemon.over_unix().await.ask(&request).await;
            answer.refusal(500, "KMSInternalException");
        }
    }
    assert_eq!(made(&daemon), 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hold_7_what_was_made_leaves_before_a_stream_that_fails_is_cut() {
    let daemon = Daemon::start().await;
    let pieces = pieces(&[of_tenant("7", 50), of_tenant("8", 50)]);
    let bound = r#"keymill_data_keys_total{operation="Bind",spec="AES_256",result="direct"}"#;
    let mut rows = 0;
    let (first, second) = (&pieces[0], &pieces[1]);
    let cut = |length: usize| [first, &second[..length]].concat();
    let spoilt = |at: usize| {
        let mut body = pieces.concat();
        body[first.len() + at] ^= 0xff;
        body
    };
    let cuts = [0, 1, 4, 7, 8, 9, second.len() - 1, second.len()];
    let bodies = cuts.map(cut).into_iter().chain([0, 3, 8, 16].map(spoilt));
    for body in bodies {
        let request = bind(ASK, body);
        for signed in [false, true] {
            let answer = match signed {
                false => daemon.over_unix().await.ask(&request).await,
                true => {
                    let mut tcp = daemon.over_tcp().await;
                    tcp.ask(&bind(ASK, request.body.clone()).signed(&PROVISIONER))
                        .await
                }
            };
            assert_eq!(answer.status, 200);
            let here = rows_of_cut(&answer);
            assert!(here >= 50, "{here} rows of {} bytes", request.body.len());
            rows += here;
            assert_eq!(daemon.metric(bound), Some(rows as f64), "all that was made");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn auth_3_a_batch_ends_with_its_access_key_in_every_form() {
    for (accept, cut) in [
        ("application/octet-stream", true),
        ("application/x-ndjson", false),
        (ARROW, true),
    ] {
        let daemon = Daemon::start().await;
        let mut tcp = daemon.over_tcp().await;
        let request = batch(MANY).with("accept", accept).signed(&PROVISIONER);
        tcp.send(request.bytes()).await;
        assert_eq!(tcp.peek_head().await, 200);
        let operator = Principal::operator(0, ACCOUNT.parse().unwrap());
        let body = json!({"Name": PROVISIONER.name, "AccessKeyId": PROVISIONER.access_key_id});
        let operator = Requester::local(operator);
        let body = body.to_string();
        let deleted = daemon
            .api
            .administer("DeleteAccessKey", &operator, body.as_bytes());
        assert!(deleted.await.is_ok());
        // A chunk that passed its last check before the call was answered is counted a moment
        // later.
        tokio::time::sleep(Duration::from_millis(100)).await;
        let after = made(&daemon);
        let answer = tcp.answer().await;
        assert_eq!(answer.cut, cut, "{accept}");
        assert_eq!(made(&daemon), after, "{accept}: nothing is made afterwards");
        assert!(after > 0.0 && after < MANY as f64);
        if accept == ARROW {
            assert_eq!(rows_of_cut(&answer) as f64, after);
        }
        if !cut {
            let last = answer.text().lines().next_back().unwrap();
            assert!(last.contains("UnrecognizedClientException"), "{last}");
        }
    }
}
