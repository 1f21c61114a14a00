//! When a key may leave.

use super::disks::Plan;
use super::*;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

/// Polls `durable` once.
fn poll(
    durable: &mut std::pin::Pin<&mut impl Future<Output = Result<(), AuditError>>>,
) -> Poll<Result<(), AuditError>> {
    durable
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()))
}

fn on_disk() -> TestLog {
    let mut place = TestLog::new();
    place.config.durability = Durability::Disk;
    place
}

#[test]
fn a_key_leaves_at_once_while_the_disk_keeps_up() {
    let place = TestLog::new();
    let (audit, mut writer) = place.open();
    for turn in 0..10 {
        let recorded = audit.record(&line(turn)).unwrap();
        assert!(!recorded.waits);
        assert_eq!(
            poll(&mut pin!(audit.durable(recorded))),
            Poll::Ready(Ok(()))
        );
        place.clock.advance(LAG_MAX);
        writer.turn();
    }
}

#[test]
fn with_disk_durability_a_key_leaves_after_the_sync_of_its_group() {
    let place = on_disk();
    let (audit, mut writer) = place.open();
    let one = audit.record(&line(1)).unwrap();
    let two = audit.record(&line(2)).unwrap();
    let (mut one, mut two) = (pin!(audit.durable(one)), pin!(audit.durable(two)));
    assert!(poll(&mut one).is_pending() && poll(&mut two).is_pending());
    writer.turn();
    let three = audit.record(&line(3)).unwrap();
    let mut three = pin!(audit.durable(three));
    assert_eq!(poll(&mut one), Poll::Ready(Ok(())));
    assert_eq!(poll(&mut two), Poll::Ready(Ok(())));
    assert!(poll(&mut three).is_pending());
    writer.turn();
    assert_eq!(poll(&mut three), Poll::Ready(Ok(())));
}

#[test]
fn a_slow_disk_is_waited_for_before_more_than_100_ms_of_records_are_at_stake() {
    let place = TestLog::new();
    let (audit, mut writer) = place.open();
    place.clock.advance(LAG_MAX);
    assert!(!audit.record(&line(1)).unwrap().waits);
    place.clock.advance(Duration::from_millis(1));
    let late = audit.record(&line(2)).unwrap();
    assert!(late.waits);
    let mut late = pin!(audit.durable(late));
    assert!(poll(&mut late).is_pending());
    writer.turn();
    assert_eq!(poll(&mut late), Poll::Ready(Ok(())));
    assert!(!audit.record(&line(3)).unwrap().waits);
}

#[test]
fn whoever_waits_for_a_disk_that_fails_is_refused() {
    let place = on_disk();
    let plan = Plan::never();
    let (audit, mut writer) = place.start(plan.disk(), None).unwrap();
    let recorded = audit.record(&line(1)).unwrap();
    let mut durable = pin!(audit.durable(recorded));
    assert!(poll(&mut durable).is_pending());
    plan.fail_after(1);
    writer.turn();
    assert_eq!(poll(&mut durable), Poll::Ready(Err(AuditError::Unwritable)));
    assert!(place.rendered().contains("keymill_audit_failures_total 1"));
    // A caller that tries again after the disk has recovered is served.
    plan.heal();
    writer.turn();
    let recorded = audit.record(&line(2)).unwrap();
    let mut durable = pin!(audit.durable(recorded));
    writer.turn();
    assert_eq!(poll(&mut durable), Poll::Ready(Ok(())));
}

#[test]
fn whoever_waits_for_a_writer_that_is_gone_is_refused() {
    let place = on_disk();
    let (audit, writer) = place.open();
    let recorded = audit.record(&line(1)).unwrap();
    drop(writer);
    assert_eq!(
        poll(&mut pin!(audit.durable(recorded))),
        Poll::Ready(Err(AuditError::Unwritable))
    );
}

#[tokio::test]
async fn the_writer_is_woken_by_whoever_waits_and_closing_writes_the_rest() {
    let mut place = on_disk();
    place.clock = Clock::system();
    let open = |place: &TestLog| {
        let (clock, entropy) = (place.clock.clone(), Entropy::os());
        Audit::open(
            &place.config,
            chain_key(),
            None,
            &Regions::one("aws", "us-east-1"),
            clock,
            &entropy,
            &place.metrics,
        )
        .unwrap()
    };
    let audit = open(&place);
    for number in 0..20 {
        let recorded = audit.record(&line(number)).unwrap();
        audit.durable(recorded).await.unwrap();
        assert_eq!(place.logged().len() as u64, number + 1);
    }
    for number in 20..40 {
        record(&audit, number).unwrap();
    }
    audit.close();
    assert_eq!(record(&audit, 40), Err(AuditError::Unwritable));
    assert_eq!(place.logged(), Vec::from_iter(0..40));
    place.assert_sound(Some(audit.head()));
    drop(audit);
    open(&place);
    assert_eq!(place.logged(), Vec::from_iter(0..40));
}
