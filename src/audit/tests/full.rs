//! A full disk and a full journal.

use super::disks::Plan;
use super::*;

#[test]
fn audit_1_a_full_disk_is_noticed_before_a_record_is_taken_that_has_no_room() {
    let place = TestLog::new();
    let plan = Plan::only("reserve");
    let (audit, mut writer) = place.start(plan.disk(), None).unwrap();
    // From now on the disk gives only the room that was reserved at the start.
    plan.fail_after(0);
    let room = writer.current.as_ref().unwrap().reserved;
    let mut long = line(7);
    long.truncate(long.len() - 2);
    long.resize(100_000, b' ');
    long.extend_from_slice(b"}\n");
    let mut accepted = 0;
    while audit.record(&long).is_ok() {
        accepted += 1;
        writer.turn();
        assert!(accepted < 1000, "a full disk was never noticed");
    }
    // All accepted records are in the log, within the room. There was room for another full
    // journal.
    let length = place.files()[0].metadata().unwrap().len();
    assert_eq!(place.report(None).records, accepted);
    assert!(
        length + writer.shared.journal.capacity() <= room,
        "{length} of {room}"
    );
    plan.heal();
    writer.turn();
    log(&audit, &mut writer, 8);
    assert_eq!(place.report(Some(audit.head())).records, accepted + 1);
}

#[test]
fn a_failure_is_said_in_metrics_and_refuses_until_there_is_room() {
    let place = TestLog::new();
    let plan = Plan::never();
    let (audit, mut writer) = place.start(plan.disk(), None).unwrap();
    plan.fail_after(0);
    // Accepted before the failure is known: the journal has it.
    log(&audit, &mut writer, 0);
    for number in 1..=3 {
        assert_eq!(record(&audit, number), Err(AuditError::Unwritable));
        writer.turn();
    }
    let text = place.rendered();
    assert!(text.contains("keymill_audit_failures_total 3"), "{text}");
    assert!(!text.contains("keymill_audit_backlog_bytes 0"), "{text}");
    plan.heal();
    writer.turn();
    log(&audit, &mut writer, 4);
    assert_eq!(place.logged(), [0, 4]);
    place.assert_sound(Some(audit.head()));
}

#[test]
fn a_full_journal_refuses_until_the_log_has_caught_up() {
    let place = TestLog::new();
    let (audit, mut writer) = place.open();
    let mut accepted = 0;
    while record(&audit, accepted).is_ok() {
        accepted += 1;
    }
    assert_eq!(record(&audit, accepted), Err(AuditError::Full));
    writer.turn();
    log(&audit, &mut writer, accepted);
    assert_eq!(place.logged(), Vec::from_iter(0..=accepted));
    place.assert_sound(Some(audit.head()));
}
