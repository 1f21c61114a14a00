//! The admin listener, as a scraper, a probe and a web page see it.

use crate::server::daemon::Daemon;
use crate::server::wire::Request;
use serde_json::json;
use std::sync::atomic::Ordering;

#[tokio::test]
async fn probes_and_scrapers_are_answered() {
    let daemon = Daemon::start().await;
    let mut unix = daemon.over_unix().await;
    let request = Request::mint("localhost");
    unix.ask(&request).await.done();
    let mut admin = daemon.at_admin().await;
    let host = daemon.admin.to_string();
    let get = |path| Request::get(path, &host);
    assert_eq!(admin.ask(&get("/live")).await.text(), "live\n");
    assert_eq!(admin.ask(&get("/ready")).await.status, 503);
    daemon.ready.store(true, Ordering::SeqCst);
    assert_eq!(admin.ask(&get("/ready")).await.status, 200);
    let metrics = admin.ask(&get("/metrics")).await;
    let media_type = metrics.header("content-type");
    assert_eq!(media_type, Some("text/plain; version=0.0.4; charset=utf-8"));
    for line in [
        "# TYPE keymill_requests_total counter",
        r#"keymill_requests_total{operation="GenerateDataKeyWithoutPlaintext",code="OK"} 1"#,
        "keymill_pool_capacity{lane=",
    ] {
        assert!(metrics.text().contains(line), "{line}: {}", metrics.text());
    }
    let status = admin.ask(&get("/status")).await.json();
    assert_eq!(status["version"], "test");
    let lane = format!("{}/AES_256", daemon.key_id);
    assert_eq!(status["lanes"][0]["lane"], lane.as_str(), "{status}");
    assert_eq!(admin.ask(&get("/")).await.status, 404);
}

#[tokio::test]
async fn a_rebound_name_and_another_method_are_refused() {
    let daemon = Daemon::start().await;
    let mut admin = daemon.at_admin().await;
    let port = daemon.admin.port();
    for host in ["evil.example:80", "localhost.evil.example", ""] {
        let answer = admin.ask(&Request::get("/metrics", host)).await;
        assert_eq!(answer.status, 403, "{host}");
    }
    let host = format!("localhost:{port}");
    assert_eq!(admin.ask(&Request::get("/live", &host)).await.status, 200);
    let post = Request::post("/metrics", &host, &json!({}));
    assert_eq!(admin.ask(&post).await.status, 405);
    let kms = Request::kms("ListKeys", &host, &json!({}));
    assert_eq!(admin.ask(&kms).await.status, 405, "no operation is here");
}
