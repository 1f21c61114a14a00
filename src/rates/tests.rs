use super::*;
use crate::key::KeyId;

mod bucket;

const SECOND: Duration = Duration::from_secs(1);
const ALICE: &str = "arn:aws:iam::111122223333:user/alice";
const BOB: &str = "arn:aws:iam::111122223333:user/bob";

fn key(number: u8) -> RegionalId {
    RegionalId::home(KeyId::from_random([number; 16]))
}

fn arn(key: RegionalId) -> String {
    format!("arn:aws:kms:us-east-1:111122223333:key/{}", key.id)
}

fn of(config: &Config) -> Rates {
    Rates::new(config, &Regions::one("aws", "us-east-1"))
}

/// So many keys a second for each principal and for each KMS key.
fn limited(principal_keys_per_second: u64, kms_key_keys_per_second: u64) -> Rates {
    of(&Config {
        principal_keys_per_second,
        kms_key_keys_per_second,
        ..Config::default()
    })
}

/// One key for a request that has not paid yet.
fn one(rates: &Rates, principal: &str, key: impl Into<Option<RegionalId>>) -> Result<(), Scope> {
    let taken = rates.take(
        principal,
        key.into(),
        1,
        Urgency::Online,
        SECOND,
        &mut Paid::default(),
    );
    taken.map_err(|exceeded| exceeded.scope)
}

#[test]
fn nothing_is_limited_unless_somebody_says_so() {
    let rates = of(&Config::default());
    for _ in 0..10_000 {
        assert_eq!(one(&rates, ALICE, key(1)), Ok(()));
    }
    assert_eq!(rates.bulk_keys(ALICE, key(1), 8192), 8192);
}

#[test]
fn a_request_with_two_keys_pays_each_once_and_its_caller_once() {
    let rates = limited(1, 1);
    let mut paid = Paid::default();
    // As often as it starts again.
    for _ in 0..3 {
        for key in [key(1), key(2)] {
            let taken = rates.take(ALICE, Some(key), 1, Urgency::Online, SECOND, &mut paid);
            assert_eq!(taken, Ok(()));
        }
    }
    assert_eq!(one(&rates, ALICE, None), Err(Scope::Principal));
    assert_eq!(one(&rates, BOB, key(1)), Err(Scope::Key));
    assert_eq!(one(&rates, "carol", key(2)), Err(Scope::Key));
}

#[test]
fn principals_and_keys_have_limits_of_their_own() {
    let rates = limited(3, 4);
    for _ in 0..3 {
        assert_eq!(one(&rates, ALICE, key(1)), Ok(()));
    }
    // What Alice's limit refuses takes nothing from the key's.
    for _ in 0..10 {
        assert_eq!(one(&rates, ALICE, key(1)), Err(Scope::Principal));
    }
    assert_eq!(one(&rates, BOB, key(1)), Ok(()));
    assert_eq!(one(&rates, BOB, key(1)), Err(Scope::Key));
    // That refusal has cost Bob one, and a call without a key has a limit too.
    assert_eq!(one(&rates, BOB, None), Ok(()));
    assert_eq!(one(&rates, BOB, None), Err(Scope::Principal));
}

#[test]
fn overrides_are_by_arn() {
    let config = Config {
        principal_keys_per_second: 1,
        kms_key_keys_per_second: 1,
        principals: BTreeMap::from([(ALICE.to_owned(), 0), (BOB.to_owned(), 5)]),
        kms_keys: BTreeMap::from([(arn(key(1)), 0), (arn(key(2)), 2), ("x".to_owned(), 0)]),
        ..Config::default()
    };
    let rates = of(&config);
    for _ in 0..100 {
        assert_eq!(one(&rates, ALICE, key(1)), Ok(()));
    }
    assert_eq!(one(&rates, ALICE, key(2)), Ok(()));
    assert_eq!(one(&rates, ALICE, key(2)), Ok(()));
    assert_eq!(one(&rates, ALICE, key(2)), Err(Scope::Key));
    assert_eq!(one(&rates, ALICE, key(3)), Ok(()));
    assert_eq!(one(&rates, ALICE, key(3)), Err(Scope::Key));
    for _ in 0..5 {
        assert_eq!(one(&rates, BOB, key(1)), Ok(()));
    }
    assert_eq!(one(&rates, BOB, key(1)), Err(Scope::Principal));
}

#[test]
fn whoever_comes_back_has_paid_already() {
    let rates = limited(2, 1);
    let mut paid = Paid::default();
    let mut take = |key, now| {
        let taken = rates.take(ALICE, Some(key), 1, Urgency::Online, now, &mut paid);
        taken.map_err(|exceeded| (exceeded.scope, exceeded.wait))
    };
    for _ in 0..10 {
        assert_eq!(take(key(1), SECOND), Ok(()));
    }
    // By the time it starts again its alias may name another key; the principal has paid all the
    // same.
    assert_eq!(take(key(2), SECOND), Ok(()));
    assert_eq!(take(key(1), SECOND), Ok(()));
    // The last two are remembered.
    assert_eq!(take(key(3), SECOND), Ok(()));
    assert_eq!(take(key(1), SECOND), Err((Scope::Key, SECOND)));
    assert_eq!(take(key(1), SECOND * 2), Ok(()));
    assert_eq!(one(&rates, ALICE, None), Ok(()));
}

#[test]
fn a_batch_takes_what_the_slower_of_both_makes_in_ten_milliseconds() {
    let config = Config {
        principal_keys_per_second: 100_000,
        kms_keys: BTreeMap::from([(arn(key(1)), 500), (arn(key(2)), 5)]),
        ..Config::default()
    };
    let rates = of(&config);
    let bulk = |number| rates.bulk_keys(ALICE, key(number), 8192);
    assert_eq!([bulk(1), bulk(2), bulk(3)], [5, 1, 1000]);
    assert_eq!(rates.bulk_keys(ALICE, key(3), 10), 10);
}

#[test]
fn sessions_share_the_limit_of_their_role() {
    let session = |name: &str| format!("arn:aws:sts::111122223333:assumed-role/{name}");
    let rates = of(&Config {
        principal_keys_per_second: 2,
        ..Config::default()
    });
    assert_eq!(one(&rates, &session("app/one"), None), Ok(()));
    assert_eq!(one(&rates, &session("app/two"), None), Ok(()));
    assert_eq!(
        one(&rates, &session("app/three"), None),
        Err(Scope::Principal)
    );
    assert_eq!(one(&rates, &session("other/one"), None), Ok(()));
    for whole in [
        ALICE,
        "arn:aws:iam::111122223333:user/a/b",
        "arn:aws:iam::111122223333:root",
        "local:0",
        ":assumed-role/",
        "",
    ] {
        assert_eq!(charged(whole), whole);
    }
}

#[test]
fn web_3_tokens_are_counted_by_address_and_by_the_first_half_of_an_ipv6_one() {
    let rates = of(&Config {
        address_tokens_per_second: 1,
        ..Config::default()
    });
    let take = |address: Option<&str>, seconds| {
        let address = address.map(|address| address.parse().unwrap());
        rates
            .take_token(address, Duration::from_secs(seconds))
            .is_ok()
    };
    for (one, same) in [
        (Some("192.0.2.7"), Some("192.0.2.7")),
        (Some("2001:db8:0:1::1"), Some("2001:db8:0:1:ffff::2")),
        (None, None),
    ] {
        for _ in 0..10 {
            assert!(take(one, 0), "{one:?}");
        }
        assert!(!take(same, 0), "{same:?}");
        assert!(take(same, 1), "{same:?}");
    }
    assert!(take(Some("192.0.2.8"), 0));
    assert!(take(Some("2001:db8:0:2::1"), 0));
}
