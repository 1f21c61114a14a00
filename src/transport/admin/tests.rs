//! Answers of the admin listener, by caller and by the state of the daemon.

use super::*;
use crate::audit;
use crate::clock::{Clock, Timestamp};
use crate::crypto::entropy::Entropy;
use crate::crypto::secret::Secret;
use crate::key::regions::Regions;
use crate::keystore::freshness::{Freshness, Look};
use crate::pool::{self, CloneWord};
use http_body_util::BodyExt;

fn state() -> (tempfile::TempDir, Arc<AdminService>) {
    state_of(Halt::new(metrics::Gauge::noop()))
}

fn state_of(store: Halt) -> (tempfile::TempDir, Arc<AdminService>) {
    let metrics = Arc::new(Metrics::new().unwrap());
    let config = pool::Config {
        enabled: false,
        ..pool::Config::default()
    };
    let (entropy, clock) = (Arc::new(Entropy::os()), Clock::manual(Timestamp(0)));
    let folder = tempfile::tempdir().unwrap();
    let log = audit::Config {
        path: folder.path().to_owned(),
        journal_bytes: 1 << 20,
        ..audit::Config::default()
    };
    let key = Secret::filled(|bytes| bytes.fill(1));
    let regions = Regions::one("aws", "us-east-1");
    let audit = Audit::open(&log, key, None, &regions, clock.clone(), &entropy, &metrics);
    let pool = Pool::new(config, entropy, clock, Arc::new(CloneWord::new()), &metrics);
    let admin = Admin {
        metrics,
        pool: pool.unwrap(),
        ready: Arc::default(),
        audit: Arc::new(audit.unwrap()),
        store: Arc::new(store),
        facts: serde_json::json!({"version": "1.2.3"}),
        live: Box::new(serde_json::Map::new),
    };
    let address = "127.0.0.1:5646".parse().unwrap();
    let state = AdminService::new(Arc::new(admin), address).unwrap();
    (folder, Arc::new(state))
}

fn host(value: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(HOST, HeaderValue::from_str(value).unwrap());
    headers
}

async fn ask(state: &Arc<AdminService>, method: Method, path: &str) -> (u16, String) {
    ask_from(Distance::Here, state, method, path).await
}

async fn ask_from(
    from: Distance,
    state: &Arc<AdminService>,
    method: Method,
    path: &str,
) -> (u16, String) {
    let headers = host("localhost:5646");
    let response = state.answer(from, &method, path, &headers).await;
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

#[test]
fn hosts_are_the_listen_address_or_localhost() {
    let is_for = |value: &str, address: &str| is_for(&host(value), address.parse().unwrap());
    for value in [
        "127.0.0.1:5646",
        "localhost",
        "localhost:5646",
        "LOCALHOST:5646",
    ] {
        assert!(is_for(value, "127.0.0.1:5646"), "{value}");
    }
    for value in [
        "",
        ":",
        ":5646",
        "localhost:",
        "localhost:80",
        "localhost.example.org",
        "example.org",
        "example.org:5646",
        "127.0.0.1",
        "127.0.0.1:80",
        "127.0.0.1:99999",
        "127.0.0.1.example.org:5646",
        "127.0.0.2:5646",
        "10.0.0.1:5646",
        "x@localhost",
        "x@127.0.0.1:5646",
        "[::1]:5646",
    ] {
        assert!(!is_for(value, "127.0.0.1:5646"), "{value}");
    }
    assert!(is_for("[::1]:5646", "[::1]:5646"));
    assert!(is_for("127.0.0.1", "127.0.0.1:80"));
    assert!(is_for("10.0.0.1:5646", "0.0.0.0:5646"));
    assert!(!is_for("example.org:5646", "0.0.0.0:5646"));
    assert!(!is_for("10.0.0.1:80", "0.0.0.0:5646"));
    let address = "127.0.0.1:5646".parse().unwrap();
    assert!(!super::is_for(&HeaderMap::new(), address));
    let mut twice = host("localhost");
    twice.append(HOST, HeaderValue::from_static("localhost"));
    assert!(!super::is_for(&twice, address));
}

#[tokio::test]
async fn routes_answer_as_probes_expect() {
    let (_folder, state) = state();
    assert_eq!(
        ask(&state, Method::GET, "/live").await,
        (200, "live\n".into())
    );
    assert_eq!(ask(&state, Method::GET, "/ready").await.0, 503);
    state.admin.ready.store(true, Ordering::SeqCst);
    assert_eq!(ask(&state, Method::HEAD, "/ready").await.0, 200);
    state.admin.audit.close();
    let (status, text) = ask(&state, Method::GET, "/ready").await;
    assert_eq!(
        (status, text.as_str()),
        (
            503,
            "not ready: the audit log cannot be written: the cause was logged\n"
        ),
        "no record, no key"
    );
    let (status, text) = ask(&state, Method::GET, "/metrics").await;
    assert!(status == 200 && text.contains("keymill_build_info{version="));
    let (_, text) = ask(&state, Method::GET, "/status").await;
    let status: serde_json::Value = serde_json::from_str(&text).unwrap();
    let because = "the audit log cannot be written: the cause was logged";
    let expected = serde_json::json!({
        "version": "1.2.3", "ready": false, "not_ready_because": because, "lanes": [],
    });
    assert_eq!(status, expected);
    for path in ["/", "/metrics/", "/v1/admin/x"] {
        assert_eq!(ask(&state, Method::GET, path).await.0, 404, "{path}");
    }
    assert_eq!(ask(&state, Method::POST, "/metrics").await.0, 405);
    let foreign = host("example.org");
    let answer = state.answer(Distance::Here, &Method::GET, "/live", &foreign);
    assert_eq!(answer.await.status(), StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn a_caller_on_another_host_sees_what_probes_and_scrapers_need() {
    let (_folder, state) = state();
    state.admin.store.set("db.example.com is away".to_owned());
    let ask = |path| ask_from(Distance::Beyond, &state, Method::GET, path);
    for is_ready in [false, true] {
        state.admin.ready.store(is_ready, Ordering::SeqCst);
        assert_eq!(ask("/ready").await, (503, "not ready\n".into()));
    }
    assert!(state.admin.store.clear());
    assert_eq!(ask("/ready").await, (200, "ready\n".into()));
    assert_eq!(ask("/live").await, (200, "live\n".into()));
    assert_eq!(ask("/metrics").await.0, 200);
    for path in ["/status", "/status/", "/"] {
        assert_eq!(ask(path).await, (404, "not found\n".into()), "{path}");
    }
}

#[test]
fn only_a_loopback_address_is_here() {
    for (address, from) in [
        ("127.0.0.1:1", Distance::Here),
        ("127.9.9.9:1", Distance::Here),
        ("[::1]:1", Distance::Here),
        ("[::ffff:127.0.0.1]:1", Distance::Here),
        ("10.0.0.1:1", Distance::Beyond),
        ("0.0.0.0:1", Distance::Beyond),
        ("[fe80::1]:1", Distance::Beyond),
        ("[::ffff:10.0.0.1]:1", Distance::Beyond),
    ] {
        assert_eq!(
            Distance::of(Ok(address.parse().unwrap())),
            from,
            "{address}"
        );
    }
    let unknown = Distance::of(Err(io::ErrorKind::NotConnected.into()));
    assert_eq!(unknown, Distance::Beyond);
}

#[tokio::test]
async fn a_store_that_takes_no_changes_is_not_ready_and_says_why() {
    let (_folder, state) = state();
    state.admin.ready.store(true, Ordering::SeqCst);
    state.admin.store.set("disk full".to_owned());
    let (status, text) = ask(&state, Method::GET, "/ready").await;
    let expected = "not ready: the store takes no changes: disk full\n";
    assert_eq!((status, text.as_str()), (503, expected));
    let (_, text) = ask(&state, Method::GET, "/status").await;
    assert!(text.contains("disk full"), "{text}");
    assert!(state.admin.store.clear());
    assert_eq!(
        ask(&state, Method::GET, "/ready").await,
        (200, "ready\n".into())
    );
    let (_, text) = ask(&state, Method::GET, "/status").await;
    assert!(text.contains(r#""not_ready_because":null"#), "{text}");
}

/// From the first refused call on, whether or not a look has ended since.
#[tokio::test]
async fn a_stale_store_is_seen_at_once() {
    let clock = Clock::manual(Timestamp(0));
    let limit = Duration::from_secs(10);
    let fresh = Freshness::new(clock.clone(), limit, Look::Read);
    let (_folder, state) = state_of(Halt::of_shared(metrics::Gauge::noop(), fresh));
    state.admin.ready.store(true, Ordering::SeqCst);
    for (passed, value, status) in [(limit, 0, 200), (Duration::from_micros(1), 1, 503)] {
        clock.advance(passed);
        let (_, text) = ask(&state, Method::GET, "/metrics").await;
        let series = format!("keymill_keystore_stale {value}\n");
        assert!(text.contains(&series), "{text}");
        assert_eq!(ask(&state, Method::GET, "/ready").await.0, status);
    }
}

/// Series of keys that are gone would otherwise accumulate, one for every key that was ever
/// used.
#[test]
fn lanes_that_vanished_leave_no_series() {
    let metrics = Metrics::new().unwrap();
    let lane = |lane: &str, depth| LaneStatus {
        lane: lane.to_owned(),
        depth,
        low: 2048,
        capacity: 4096,
    };
    let text = exposition(&metrics, &[lane("a/AES_256", 7), lane("b/AES_256", 8)]);
    assert!(
        text.contains("keymill_pool_depth{lane=\"a/AES_256\"} 7\n"),
        "{text}"
    );
    let text = exposition(&metrics, &[lane("b/AES_256", 9)]);
    for line in [
        "# HELP keymill_pool_depth Pooled keys ready, by lane\n# TYPE keymill_pool_depth gauge\n",
        "keymill_pool_depth{lane=\"b/AES_256\"} 9\n",
        "keymill_pool_capacity{lane=\"b/AES_256\"} 4096\n",
    ] {
        assert!(text.contains(line), "{line} is not in {text}");
    }
    assert!(!text.contains("a/AES_256"), "{text}");
    assert!(!exposition(&metrics, &[]).contains("keymill_pool_depth"));
}
