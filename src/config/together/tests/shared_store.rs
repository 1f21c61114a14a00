//! Settings of a store that many nodes share.

use super::{FILE, mistakes, read};
use std::path::{Path, PathBuf};
use std::time::Duration;

#[test]
fn a_database_takes_the_place_of_the_embedded_store() {
    assert_eq!(read("").unwrap().config.store.shared(), None);
    let text = "[store]\nurl = 'postgres://k@db.example/keys'\npassword_file = 'pw'\nca_file = 'ca.pem'\nnotify_url = 'postgres://k@10.0.0.1:5433/keys'\npoll_ms = 500";
    let store = read(text).unwrap().config.store;
    let shared = store.shared().unwrap();
    assert_eq!(store.shown(), "postgres://k@db.example:5432/keys");
    let beside = |name: &str| Path::new(FILE).with_file_name(name);
    assert_eq!(shared.access.password_file, Some(beside("pw")));
    assert_eq!(shared.access.ca_file, Some(beside("ca.pem")));
    let direct = shared.direct.unwrap();
    assert_eq!(direct.url.to_string(), "postgres://k@10.0.0.1:5433/keys");
    assert_eq!(shared.look_every, Duration::from_millis(500));
    assert_eq!(shared.age_max, Duration::from_secs(10));
    assert_eq!(shared.path, beside("keystore.db"));
    let bare = read("store.url = 'postgres://k@/keys?host=/run'").unwrap();
    let bare = bare.config.store;
    assert_eq!(bare.shared().unwrap().direct, None);
    assert_eq!(
        (bare.password_file, bare.ca_file),
        (PathBuf::new(), PathBuf::new())
    );
}

#[test]
fn what_belongs_to_a_database_needs_one_and_several_looks_may_fail() {
    for (text, expected) in [
        ("store.ca_file = 'ca.pem'", "needs store.url"),
        ("store.password_file = 'pw'", "needs store.url"),
        ("store.notify_url = 'postgres://k@h/d'", "needs store.url"),
        ("store.url = 'postgres://k:pw@h/d'", "store.password_file"),
        ("store.url = 'keystore.db'", "allowed: postgres://"),
        ("store.freshness = 'write'", "needs store.url"),
        ("store.freshness = 'commit'", "read"),
        ("store.poll_ms = 4000", "must be at least three times"),
        (
            "store.max_staleness_ms = 2000",
            "must be at least three times",
        ),
    ] {
        let found = mistakes(text);
        let is_named = found.iter().any(|line| line.contains(expected));
        assert!(is_named, "{text}: {found:?}");
        assert!(!found.iter().any(|line| line.contains("k:pw")), "{found:?}");
    }
}
