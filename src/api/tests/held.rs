//! Deletions that are held back while two clocks disagree.

use super::*;

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

impl Bench {
    async fn scheduled(&self) -> String {
        let id = self.key().await;
        let body = json!({"KeyId": id, "PendingWindowInDays": 7});
        self.done("ScheduleKeyDeletion", body).await;
        id
    }

    fn has(&self, id: &str) -> bool {
        let snapshot = self.api.keystore.snapshot();
        snapshot.keys.contains_key(&id.parse().unwrap())
    }
}

#[tokio::test]
async fn a_clock_that_jumps_over_a_date_of_deletion_destroys_nothing() {
    let bench = Bench::new().await;
    let (one, other) = (bench.scheduled().await, bench.scheduled().await);
    assert_eq!(bench.api.remove_due_keys().await.unwrap(), 0);
    bench.api.clock.step(DAY * 8);
    assert_eq!(bench.api.remove_due_keys().await.unwrap(), 2, "held back");
    assert!(bench.has(&one) && bench.has(&other));
    bench.api.clock.advance(DAY * 6);
    assert_eq!(bench.api.remove_due_keys().await.unwrap(), 2);
    // There is time to keep one.
    bench.done_to("CancelKeyDeletion", &other).await;
    bench.api.clock.advance(DAY + HOUR);
    assert_eq!(bench.api.remove_due_keys().await.unwrap(), 0);
    assert!(!bench.has(&one) && bench.has(&other));
}

#[tokio::test]
async fn a_deletion_comes_an_hour_after_its_date_where_the_clocks_agree() {
    let bench = Bench::new().await;
    let id = bench.scheduled().await;
    bench.api.clock.advance(DAY * 7);
    assert_eq!(bench.api.remove_due_keys().await.unwrap(), 1, "told before");
    assert!(bench.has(&id));
    bench.api.clock.advance(HOUR);
    assert_eq!(bench.api.remove_due_keys().await.unwrap(), 0);
    assert!(!bench.has(&id));
}
