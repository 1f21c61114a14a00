//! Files and folders that another program moves, cuts or removes while they are written.

use super::disks::Plan;
use super::*;
use std::fs;

/// Renames the file that is written to, as `logrotate` does, and returns its new path.
fn rotate_away(place: &Place, suffix: &str) -> PathBuf {
    let from = place.files().pop().unwrap();
    let to = PathBuf::from(format!("{}{suffix}", from.display()));
    fs::rename(&from, &to).unwrap();
    to
}

#[test]
fn audit_2_a_renamed_file_is_followed_by_another_and_the_log_stays_whole() {
    let place = Place::new();
    let (audit, mut writer) = place.open();
    record(&audit, 0).unwrap();
    writer.turn();
    for (number, suffix) in [(1, ".1"), (2, "-20261128")] {
        rotate_away(&place, suffix);
        record(&audit, number).unwrap();
        writer.turn();
        assert!(audit.is_writable());
        place.assert_sound(Some(audit.head()));
    }
    assert_eq!(place.logged(), [0, 1, 2]);
    assert_eq!(place.files().len(), 3);
    // Without a record too: it is noticed by the turn alone.
    rotate_away(&place, ".1");
    writer.turn();
    assert_eq!(place.files().len(), 4);
    // Renamed while nothing runs: nothing more is written to it.
    drop((audit, writer));
    let moved = rotate_away(&place, ".1");
    let length = moved.metadata().unwrap().len();
    let (audit, mut writer) = place.open();
    record(&audit, 3).unwrap();
    writer.turn();
    assert_eq!(moved.metadata().unwrap().len(), length);
    assert_eq!(place.logged(), [0, 1, 2, 3]);
    place.assert_sound(Some(audit.head()));
}

#[test]
fn audit_2_a_file_that_was_put_out_of_reach_is_missed_until_it_is_back() {
    let place = Place::new();
    let (audit, mut writer) = place.open();
    record(&audit, 0).unwrap();
    writer.turn();
    let name = place.files().pop().unwrap();
    let elsewhere = rotate_away(&place, ".1.gz");
    record(&audit, 1).unwrap();
    writer.turn();
    let faults = place.report(Some(audit.head())).findings;
    assert!(
        matches!(faults[0].fault, Fault::Earlier { to: 2 }),
        "{faults:?}"
    );
    fs::rename(elsewhere, name).unwrap();
    place.assert_sound(Some(audit.head()));
    assert_eq!(place.logged(), [0, 1]);
}

/// What was written and not yet let go goes into the next file. Without the fix it is in a file without a name.
#[test]
fn audit_2_no_record_goes_into_a_file_without_a_name() {
    let place = Place::new();
    let (audit, mut writer) = place.open();
    record(&audit, 0).unwrap();
    writer.turn();
    record(&audit, 1).unwrap();
    writer.write_ahead().unwrap();
    fs::remove_file(place.files().pop().unwrap()).unwrap();
    record(&audit, 2).unwrap();
    writer.turn();
    assert!(audit.is_writable());
    assert_eq!(place.logged(), [1, 2], "what was durable before is gone");
}

#[test]
fn audit_2_a_file_that_was_cut_is_not_written_to_and_found() {
    let place = Place::new();
    let (audit, mut writer) = place.open();
    record(&audit, 0).unwrap();
    writer.turn();
    let file = place.files().pop().unwrap();
    fs::OpenOptions::new()
        .write(true)
        .open(&file)
        .unwrap()
        .set_len(10)
        .unwrap();
    record(&audit, 1).unwrap();
    writer.turn();
    assert_eq!(place.files().len(), 2);
    assert_eq!(place.logged(), [1]);
    assert!(!place.report(Some(audit.head())).is_sound());
}

/// Without the fix keys go on leaving, and their records are nowhere.
#[test]
fn audit_2_without_its_folder_no_key_is_issued_and_no_record_is_lost() {
    let place = Place::new();
    let (audit, mut writer) = place.open();
    record(&audit, 0).unwrap();
    writer.turn();
    fs::remove_dir_all(place.path()).unwrap();
    // Answered before it is noticed.
    record(&audit, 1).unwrap();
    for number in 2..4 {
        writer.turn();
        assert!(!audit.is_writable());
        assert_eq!(record(&audit, number), Err(AuditError::Unwritable));
    }
    assert_eq!(place.logged(), [1]);
    let sealed = audit.head();
    drop((audit, writer));
    let (audit, mut writer) = place.start(SystemDisk, Some(sealed)).unwrap();
    record(&audit, 4).unwrap();
    writer.turn();
    assert_eq!(place.logged(), [1, 4]);
    let faults = place.report(Some(audit.head())).findings;
    let faults: Vec<_> = faults.into_iter().map(|finding| finding.fault).collect();
    assert!(
        matches!(faults[..], [Fault::Earlier { to: 2 }]),
        "{faults:?}"
    );
}

#[test]
fn audit_2_a_folder_that_was_moved_is_waited_for() {
    let place = Place::new();
    let (audit, mut writer) = place.open();
    record(&audit, 0).unwrap();
    writer.turn();
    let away = place.folder.path().join("away");
    fs::rename(place.path(), &away).unwrap();
    writer.turn();
    assert!(!audit.is_writable());
    assert!(!place.path().exists());
    fs::rename(&away, place.path()).unwrap();
    writer.turn();
    record(&audit, 1).unwrap();
    writer.turn();
    assert_eq!(place.logged(), [0, 1]);
    place.assert_sound(Some(audit.head()));
    // The journal alone.
    fs::remove_file(place.path().join("journal")).unwrap();
    writer.turn();
    assert!(!audit.is_writable());
}

/// Out of descriptors, for example. Without the fix issuing stops.
#[test]
fn audit_3_the_current_file_goes_on_while_the_next_cannot_be_begun() {
    for step in ["folder", "create"] {
        let mut place = Place::new();
        place.config.file_bytes_max = 1000;
        let plan = Plan::only(step);
        let (audit, mut writer) = place.start(plan.disk(), None).unwrap();
        plan.fail_after(0);
        for number in 0..100 {
            record(&audit, number).unwrap();
            writer.turn();
            assert!(audit.is_writable(), "{step}");
        }
        assert_eq!(place.files().len(), 1, "{step}");
        assert_eq!(*plan.failed.lock().unwrap(), Some(step));
        plan.heal();
        for number in 100..102 {
            record(&audit, number).unwrap();
            writer.turn();
        }
        assert!(place.files().len() > 1, "{step}: it heals by itself");
        assert_eq!(place.logged(), Vec::from_iter(0..102));
        place.assert_sound(Some(audit.head()));
        let report = place.report(None);
        drop((audit, writer));
        place.open();
        assert_eq!(place.report(None).records, report.records);
    }
}

/// A next file that was made and not finished says where the log stood: the current one does not go on past it.
#[test]
fn audit_3_a_file_that_was_half_begun_is_begun_anew() {
    let mut place = Place::new();
    place.config.file_bytes_max = 1000;
    let plan = Plan::only("sync_folder");
    let (audit, mut writer) = place.start(plan.disk(), None).unwrap();
    plan.fail_after(0);
    let mut kept = Vec::new();
    for number in 0..100 {
        if record(&audit, number).is_ok() {
            kept.push(number);
        }
        writer.turn();
    }
    assert!(!audit.is_writable());
    plan.heal();
    writer.turn();
    assert!(audit.is_writable());
    assert_eq!(place.logged(), kept);
    place.assert_sound(Some(audit.head()));
}
