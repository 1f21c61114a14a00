//! A process that is killed at each step of the writer, and a writer that fails at each step and
//! continues.

use super::disks::Plan;
use super::*;

/// Files of a few records, so that a run passes every step: begin, write, sync, rotate.
fn small_files() -> TestLog {
    let mut place = TestLog::new();
    place.config.file_bytes_max = 900;
    place
}

/// Records and runs turns until the disk fails; collects the accepted numbers.
fn run(audit: &Audit, writer: &mut Writer, from: u64, accepted: &mut Vec<u64>) {
    for number in from..from + 24 {
        if record(audit, number).is_ok() {
            accepted.push(number);
        }
        match number % 3 {
            0 => writer.turn(),
            // The next turn reports a failure of this one.
            1 if number < from + 20 => drop(writer.write_ahead()),
            _ => {}
        }
    }
}

#[test]
fn audit_1_a_kill_at_each_step_loses_no_record_and_writes_none_twice() {
    let mut steps = std::collections::BTreeSet::new();
    for kill_at in 0.. {
        let place = small_files();
        let mut accepted = Vec::new();
        let plan = Plan::after(kill_at);
        let mut sealed = None;
        if let Ok((audit, mut writer)) = place.start(plan.disk(), None) {
            run(&audit, &mut writer, 0, &mut accepted);
            sealed = Some(audit.head());
        }
        let Some(step) = *plan.failed.lock().unwrap() else {
            break;
        };
        steps.insert(step);
        // Killed again, at each of the first steps of recovery.
        for again in 0..6 {
            let plan = Plan::after(again);
            drop(place.start(plan.disk(), sealed));
        }
        let (audit, mut writer) = place.start(SystemDisk, sealed).unwrap();
        assert_eq!(place.logged(), accepted, "killed at {step}, {kill_at}");
        place.assert_sound(Some(audit.head()));
        run(&audit, &mut writer, 1000, &mut accepted);
        writer.turn();
        assert_eq!(place.logged(), accepted, "killed at {step}, {kill_at}");
        place.assert_sound(Some(audit.head()));
    }
    assert_eq!(
        Vec::from_iter(steps),
        [
            "at",
            "create",
            "cut",
            "folder",
            "reserve",
            "sync",
            "sync_folder",
            "write"
        ]
    );
}

#[test]
fn audit_1_a_failure_at_each_step_stops_issuing_and_ends_by_itself() {
    for fail_at in 0.. {
        let place = small_files();
        let plan = Plan::never();
        let (audit, mut writer) = place.start(plan.disk(), None).unwrap();
        let mut accepted = Vec::new();
        plan.fail_after(fail_at);
        run(&audit, &mut writer, 0, &mut accepted);
        let Some(step) = *plan.failed.lock().unwrap() else {
            break;
        };
        let ends_in_cut = step == "cut";
        if !ends_in_cut {
            assert!(accepted.len() < 24, "failed at {step}, {fail_at}");
            assert_eq!(record(&audit, 99), Err(AuditError::Unwritable));
            assert!(!audit.is_writable());
        }
        writer.turn();
        plan.heal();
        writer.turn();
        assert!(audit.is_writable());
        assert_eq!(place.logged(), accepted, "failed at {step}, {fail_at}");
        run(&audit, &mut writer, 100, &mut accepted);
        writer.turn();
        assert_eq!(place.logged(), accepted, "failed at {step}, {fail_at}");
        place.assert_sound(Some(audit.head()));
    }
}

#[test]
fn a_start_that_cannot_write_says_what_and_leaves_the_journal() {
    let place = TestLog::new();
    let (audit, writer) = place.open();
    record(&audit, 1).unwrap();
    drop((audit, writer));
    let plan = Plan::after(0);
    let error = place.start(plan.disk(), None).err().unwrap().to_string();
    assert!(
        error.contains("No space left on device") && error.contains(".jsonl"),
        "{error}"
    );
    place.open();
    assert_eq!(place.logged(), [1]);
}

#[test]
fn a_lost_journal_shows_in_the_log() {
    let place = TestLog::new();
    let (audit, mut writer) = place.open();
    log(&audit, &mut writer, 1);
    record(&audit, 2).unwrap();
    drop((audit, writer));
    std::fs::remove_file(place.path().join("journal")).unwrap();
    let (audit, mut writer) = place.open();
    log(&audit, &mut writer, 3);
    assert_eq!(place.logged(), [1, 3]);
    let findings = place.report(Some(audit.head())).findings;
    assert!(
        matches!(
            findings.as_slice(),
            [Finding {
                line: 5,
                fault: Fault::Lost { .. },
                ..
            }]
        ),
        "{findings:?}"
    );
    // A loss that was found once does not prevent a start.
    drop((audit, writer));
    place.open();
}

#[test]
fn an_older_journal_put_back_writes_nothing_twice() {
    let place = TestLog::new();
    let journal = place.path().join("journal");
    let (audit, mut writer) = place.open();
    for number in 0..5 {
        record(&audit, number).unwrap();
    }
    let older = std::fs::read(&journal).unwrap();
    for number in 5..9 {
        record(&audit, number).unwrap();
    }
    writer.turn();
    drop((audit, writer));
    std::fs::write(&journal, older).unwrap();
    let (audit, mut writer) = place.open();
    assert_eq!(place.logged(), Vec::from_iter(0..9));
    log(&audit, &mut writer, 9);
    assert_eq!(place.logged(), Vec::from_iter(0..10));
    place.assert_sound(Some(audit.head()));
}
