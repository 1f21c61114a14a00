//! The algorithm. Not beside its code, which the loom models include with loom's types.

use crate::rates::bucket::{Bucket, Rate, Refused, Urgency};
use proptest::prelude::*;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

fn rate(keys_per_second: u64, burst: Duration) -> Rate {
    Rate::new(keys_per_second, burst).unwrap()
}

fn bucket() -> Bucket {
    Bucket::full(Duration::ZERO)
}

fn wait(taken: Result<(), Refused>) -> Duration {
    match taken {
        Err(Refused::Wait(wait)) => wait,
        other => panic!("{other:?}"),
    }
}

/// Takes one key after the other, until there is none; how many there were.
fn drain(bucket: &Bucket, rate: Rate, urgency: Urgency, now: Duration) -> u64 {
    let taken = std::iter::repeat_with(|| bucket.take(rate, 1, urgency, now));
    taken.take_while(Result::is_ok).count() as u64
}

#[test]
fn no_keys_a_second_is_no_rate_and_the_burst_is_at_least_one_key() {
    assert_eq!(Rate::new(0, SECOND), None);
    for (keys_per_second, burst_ms, burst) in [
        (1, 1, 1),
        (1, 1000, 1),
        (3, 999, 2),
        (50, 1000, 50),
        (1000, 100, 100),
    ] {
        let rate = rate(keys_per_second, Duration::from_millis(burst_ms));
        assert_eq!(
            rate.share(Urgency::Online),
            burst,
            "{keys_per_second} {burst_ms}"
        );
    }
}

#[test]
fn the_burst_leaves_at_once_and_then_one_key_an_interval_to_the_nanosecond() {
    // Of the last, the interval is rounded up by a third of a tick.
    for (keys_per_second, interval) in [
        (1, 1_000_000_000),
        (50, 20_000_000),
        (1_000_000, 1000),
        (3_000_000, 334),
    ] {
        let (rate, bucket) = (rate(keys_per_second, SECOND), bucket());
        let interval = Duration::from_nanos(interval);
        let late = Duration::from_secs(1_000_000);
        assert_eq!(
            bucket.take(rate, rate.share(Urgency::Online), Urgency::Online, late),
            Ok(())
        );
        assert_eq!(wait(bucket.take(rate, 1, Urgency::Online, late)), interval);
        let early = late + interval - Duration::from_nanos(1);
        assert_eq!(
            wait(bucket.take(rate, 1, Urgency::Online, early)),
            Duration::from_nanos(1)
        );
        assert_eq!(
            bucket.take(rate, 1, Urgency::Online, late + interval),
            Ok(())
        );
        assert!(
            bucket
                .take(rate, 1, Urgency::Online, late + interval)
                .is_err()
        );
    }
}

#[test]
fn a_bucket_is_never_more_than_full() {
    let (rate, bucket) = (rate(50, SECOND), bucket());
    for now in [0, 1, 2, 1_000_000] {
        let now = Duration::from_secs(now);
        assert_eq!(drain(&bucket, rate, Urgency::Online, now), 50);
    }
}

#[test]
fn all_or_none() {
    let (rate, bucket) = (rate(50, SECOND), bucket());
    assert!(
        bucket
            .take(rate, 51, Urgency::Online, Duration::ZERO)
            .is_err()
    );
    assert_eq!(
        bucket.take(rate, 49, Urgency::Online, Duration::ZERO),
        Ok(())
    );
    assert_eq!(
        wait(bucket.take(rate, 2, Urgency::Online, Duration::ZERO)),
        SECOND / 50
    );
    assert_eq!(
        bucket.take(rate, 1, Urgency::Online, Duration::ZERO),
        Ok(())
    );
}

#[test]
fn a_time_before_the_last_one_gives_nothing() {
    let (rate, bucket) = (rate(1, SECOND), bucket());
    bucket.take(rate, 1, Urgency::Online, SECOND * 10).unwrap();
    assert_eq!(
        wait(bucket.take(rate, 1, Urgency::Online, SECOND * 9)),
        SECOND * 2
    );
}

#[test]
fn bulk_leaves_half_of_the_burst_to_single_requests() {
    for (keys_per_second, bulk, online) in [(50, 25, 25), (5, 3, 2), (1, 1, 0)] {
        let (rate, bucket) = (rate(keys_per_second, SECOND), bucket());
        let now = SECOND * 100;
        assert_eq!(drain(&bucket, rate, Urgency::Bulk, now), bulk);
        assert_eq!(drain(&bucket, rate, Urgency::Online, now), online);
    }
    // Below half there is nothing for bulk, until it would leave half again.
    let (rate, bucket) = (rate(50, SECOND), bucket());
    bucket.take(rate, 30, Urgency::Online, SECOND).unwrap();
    assert_eq!(
        wait(bucket.take(rate, 1, Urgency::Bulk, SECOND)),
        SECOND * 6 / 50
    );
}

#[test]
fn bulk_alone_has_all_of_the_rate() {
    for keys_per_second in [1, 7, 50, 100_000] {
        let (rate, bucket) = (rate(keys_per_second, SECOND), bucket());
        let (mut now, mut had) = (SECOND * 10, 0);
        let end = now + SECOND * 20;
        while now < end {
            match bucket.take(rate, rate.bulk_keys(), Urgency::Bulk, now) {
                Ok(()) => had += rate.bulk_keys(),
                refused => now += wait(refused),
            }
        }
        let expected = keys_per_second * 20 + rate.share(Urgency::Bulk);
        assert!(
            (expected - rate.bulk_keys()..=expected).contains(&had),
            "{had} of {expected}"
        );
    }
}

#[test]
fn what_bulk_takes_at_a_time_fits_its_share() {
    for keys_per_second in [1, 99, 100, 101, 1_000_000, 100_000_000] {
        for burst_ms in [1, 100, 1000, 3_600_000] {
            let rate = rate(keys_per_second, Duration::from_millis(burst_ms));
            assert!((1..=rate.share(Urgency::Bulk)).contains(&rate.bulk_keys()));
        }
    }
}

#[test]
fn retired_is_for_good_and_only_after_it_was_full_for_long_enough() {
    let (rate, bucket) = (rate(1, SECOND), bucket());
    bucket.take(rate, 1, Urgency::Online, SECOND * 5).unwrap();
    assert!(!bucket.retire(SECOND * 60, SECOND * 65));
    assert!(bucket.retire(SECOND * 60, SECOND * 66));
    assert!(bucket.is_retired());
    assert!(!bucket.retire(SECOND * 60, SECOND * 1000), "once");
    let taken = bucket.take(rate, 1, Urgency::Online, SECOND * 1000);
    assert_eq!(taken, Err(Refused::Retired));
}

#[test]
fn takers_at_once_get_the_burst_and_no_more() {
    let (rate, bucket, had) = (rate(1000, SECOND), bucket(), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..1000 {
                    let taken = bucket.take(rate, 1, Urgency::Online, SECOND);
                    had.fetch_add(u64::from(taken.is_ok()), Ordering::Relaxed);
                }
            });
        }
    });
    assert_eq!(had.into_inner(), 1000);
}

proptest! {
    /// In no stretch of time leaves more than the burst and what the rate yields in it, and a
    /// refusal's wait is exact.
    #[test]
    fn never_more_than_the_burst_and_the_rate(
        keys_per_second in prop_oneof![1..100_u64, 1..100_000_000_u64],
        burst_ms in 1..5000_u64,
        asked in prop::collection::vec((0..50_000_000_u64, 1..200_u64, any::<bool>()), 1..60),
    ) {
        let rate = rate(keys_per_second, Duration::from_millis(burst_ms));
        let bucket = bucket();
        let mut now = Duration::ZERO;
        let mut had: Vec<(Duration, u64)> = Vec::new();
        for (pause, keys, bulk) in asked {
            now += Duration::from_nanos(pause);
            let keys = keys.min(rate.share(Urgency::Bulk));
            let urgency = if bulk { Urgency::Bulk } else { Urgency::Online };
            if let Err(refused) = bucket.take(rate, keys, urgency, now) {
                let wait = wait(Err(refused));
                prop_assert!(wait > Duration::ZERO);
                let early = now + wait - Duration::from_nanos(1);
                prop_assert!(bucket.take(rate, keys, urgency, early).is_err());
                now += wait;
                prop_assert_eq!(bucket.take(rate, keys, urgency, now), Ok(()));
            }
            had.push((now, keys));
        }
        for (from, (begin, _)) in had.iter().enumerate() {
            let mut sum = 0;
            for (end, keys) in &had[from..] {
                sum += keys;
                let stretch = (*end - *begin).as_nanos();
                let yielded = stretch * u128::from(keys_per_second) / 1_000_000_000;
                prop_assert!(u128::from(sum) <= u128::from(rate.share(Urgency::Online)) + yielded);
            }
        }
    }

    /// Nothing overflows, whatever is asked of whatever rate at whatever time.
    #[test]
    fn nothing_overflows(
        keys_per_second in 1..=u64::MAX,
        burst in any::<u64>(),
        times in prop::collection::vec(any::<(u64, u64, bool)>(), 1..8),
    ) {
        let rate = rate(keys_per_second, Duration::from_nanos(burst));
        let bucket = Bucket::full(Duration::from_nanos(burst));
        for (now, keys, bulk) in times {
            let urgency = if bulk { Urgency::Bulk } else { Urgency::Online };
            let taken = bucket.take(rate, keys, urgency, Duration::from_nanos(now));
            prop_assert_ne!(taken, Err(Refused::Retired));
        }
        bucket.retire(Duration::from_nanos(burst), Duration::MAX);
    }
}
