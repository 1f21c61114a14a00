//! Files and folders that another program moves, cuts or removes while they are in use.

use super::disks::Plan;
use super::*;
use std::fs;

/// Renames the file that is written to, as `logrotate` does, and returns its new path.
fn rotate_away(place: &TestLog, suffix: &str) -> PathBuf {
    let from = place.files().pop().unwrap();
    let to = PathBuf::from(format!("{}{suffix}", from.display()));
    fs::rename(&from, &to).unwrap();
    to
}

#[test]
fn audit_2_a_renamed_file_is_followed_by_another_and_the_log_stays_whole() {
    let place = TestLog::new();
    let (audit, mut writer) = place.open();
    log(&audit, &mut writer, 0);
    for (number, suffix) in [(1, ".1"), (2, "-20261128")] {
        rotate_away(&place, suffix);
        log(&audit, &mut writer, number);
        assert!(audit.is_writable());
        place.assert_sound(Some(audit.head()));
    }
    assert_eq!(place.logged(), [0, 1, 2]);
    assert_eq!(place.files().len(), 3);
    // Without a record too: the turn alone notices it.
    rotate_away(&place, ".1");
    writer.turn();
    assert_eq!(place.files().len(), 4);
    // Renamed while no writer runs: nothing more is written to it.
    drop((audit, writer));
    let moved = rotate_away(&place, ".1");
    let length = moved.metadata().unwrap().len();
    let (audit, mut writer) = place.open();
    log(&audit, &mut writer, 3);
    assert_eq!(moved.metadata().unwrap().len(), length);
    assert_eq!(place.logged(), [0, 1, 2, 3]);
    place.assert_sound(Some(audit.head()));
}

#[test]
fn audit_2_a_file_that_was_put_out_of_reach_is_missed_until_it_is_back() {
    let place = TestLog::new();
    let (audit, mut writer) = place.open();
    log(&audit, &mut writer, 0);
    let name = place.files().pop().unwrap();
    let elsewhere = rotate_away(&place, ".1.gz");
    log(&audit, &mut writer, 1);
    let faults = place.report(Some(audit.head())).findings;
    assert!(
        matches!(faults[0].fault, Fault::Earlier { to: 2 }),
        "{faults:?}"
    );
    fs::rename(elsewhere, name).unwrap();
    place.assert_sound(Some(audit.head()));
    assert_eq!(place.logged(), [0, 1]);
}

/// Records that were written and not released go into the next file. Without this they would be in
/// a file without a name.
#[test]
fn audit_2_no_record_goes_into_a_file_without_a_name() {
    let place = TestLog::new();
    let (audit, mut writer) = place.open();
    log(&audit, &mut writer, 0);
    record(&audit, 1).unwrap();
    writer.write_ahead().unwrap();
    fs::remove_file(place.files().pop().unwrap()).unwrap();
    log(&audit, &mut writer, 2);
    assert!(audit.is_writable());
    assert_eq!(place.logged(), [1, 2], "what was durable before is gone");
}

#[test]
fn audit_2_a_file_that_was_cut_is_not_written_to_and_found() {
    let place = TestLog::new();
    let (audit, mut writer) = place.open();
    log(&audit, &mut writer, 0);
    let file = place.files().pop().unwrap();
    fs::OpenOptions::new()
        .write(true)
        .open(&file)
        .unwrap()
        .set_len(10)
        .unwrap();
    log(&audit, &mut writer, 1);
    assert_eq!(place.files().len(), 2);
    assert_eq!(place.logged(), [1]);
    assert!(!place.report(Some(audit.head())).is_sound());
}

/// Without this check keys would still leave, and their records would be lost.
#[test]
fn audit_2_without_its_folder_no_key_is_issued_and_no_record_is_lost() {
    let place = TestLog::new();
    let (audit, mut writer) = place.open();
    log(&audit, &mut writer, 0);
    fs::remove_dir_all(place.path()).unwrap();
    // Answered before the loss is noticed.
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
    log(&audit, &mut writer, 4);
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
    let place = TestLog::new();
    let (audit, mut writer) = place.open();
    log(&audit, &mut writer, 0);
    let away = place.folder.path().join("away");
    fs::rename(place.path(), &away).unwrap();
    writer.turn();
    assert!(!audit.is_writable());
    assert!(!place.path().exists());
    fs::rename(&away, place.path()).unwrap();
    writer.turn();
    log(&audit, &mut writer, 1);
    assert_eq!(place.logged(), [0, 1]);
    place.assert_sound(Some(audit.head()));
    // The journal alone.
    fs::remove_file(place.path().join("journal")).unwrap();
    writer.turn();
    assert!(!audit.is_writable());
}

/// For example when descriptors are used up. Without this, issuing would stop.
#[test]
fn audit_3_the_current_file_goes_on_while_the_next_cannot_be_begun() {
    for step in ["folder", "create"] {
        let mut place = TestLog::new();
        place.config.file_bytes_max = 1000;
        let plan = Plan::only(step);
        let (audit, mut writer) = place.start(plan.disk(), None).unwrap();
        plan.fail_after(0);
        for number in 0..100 {
            log(&audit, &mut writer, number);
            assert!(audit.is_writable(), "{step}");
        }
        assert_eq!(place.files().len(), 1, "{step}");
        assert_eq!(*plan.failed.lock().unwrap(), Some(step));
        plan.heal();
        for number in 100..102 {
            log(&audit, &mut writer, number);
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

/// A next file that was made and not finished holds a position of the log; the current file is not
/// continued past that position.
#[test]
fn audit_3_a_file_that_was_half_begun_is_begun_anew() {
    let mut place = TestLog::new();
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

/// Without an anchor, verification would fail forever once the log's first files were moved away.
#[test]
fn audit_4_verifying_begins_at_an_anchor_and_holds_the_log_to_it() {
    let (place, sealed) = log_of_three_files();
    let from = |anchor: &AuditHead| {
        let report = verify_from(place.path(), &chain_key(), Some(&sealed), Some(anchor));
        report.unwrap()
    };
    // A group of the second file, and where that file ends.
    let files = place.files();
    let last = LogFile::all(place.path()).unwrap().pop().unwrap();
    let text = fs::read_to_string(&files[1]).unwrap();
    let heads: Vec<AuditHead> = text
        .lines()
        .filter_map(|line| line.split_once("\"mac\":\""))
        .enumerate()
        .map(|(number, (_, rest))| AuditHead {
            log: sealed.log,
            group: LogFile::all(place.path()).unwrap()[1].group + number as u64,
            mac: chain::parse_hex(&rest.as_bytes()[..64]).unwrap(),
        })
        .collect();
    assert_eq!(heads.last().unwrap().group + 1, last.group);
    let (middle, end) = (heads[1], *heads.last().unwrap());
    fs::remove_file(&files[0]).unwrap();
    assert!(!place.report(Some(sealed)).is_sound());
    for anchor in [&middle, &end, &sealed] {
        assert_eq!(from(anchor).findings, [], "{anchor:?}");
    }
    fs::remove_file(&files[1]).unwrap();
    assert_eq!(from(&end).findings, []);
    let faults = |anchor: &AuditHead| -> Vec<Fault> {
        let findings = from(anchor).findings.into_iter();
        findings.map(|finding| finding.fault).collect()
    };
    let (first, to) = (middle.group + 1, end.group);
    assert_eq!(faults(&middle), [Fault::Missing { from: first, to }]);
    // An anchor of another history, of another log, of a longer log.
    let other = AuditHead {
        mac: [1; 32],
        ..end
    };
    assert!(faults(&other).contains(&Fault::NotAnchored { group: end.group }));
    let other = AuditHead {
        mac: [1; 32],
        ..sealed
    };
    assert_eq!(
        faults(&other),
        [Fault::NotAnchored {
            group: sealed.group
        }]
    );
    let other = AuditHead {
        log: [1; 16],
        ..end
    };
    assert!(faults(&other).contains(&Fault::OtherLog));
    let (group, anchor) = (sealed.group, sealed.group + 9);
    let longer = AuditHead {
        group: anchor,
        ..sealed
    };
    assert!(faults(&longer).contains(&Fault::EndsBefore { group, anchor }));
    // The part after the anchor is still checked.
    let edited = fs::read_to_string(&files[2]).unwrap();
    let edited = edited.replacen("\"number\":", "\"number\":1", 1);
    fs::write(&files[2], edited).unwrap();
    assert!(!from(&end).is_sound());
}

#[test]
fn audit_4_a_beginning_is_told_and_the_log_is_whole_from_it() {
    let (place, sealed) = log_of_three_files();
    for file in place.files() {
        fs::remove_file(file).unwrap();
    }
    let (audit, mut writer) = place.start(SystemDisk, Some(sealed)).unwrap();
    log(&audit, &mut writer, 1);
    let head = audit.head();
    let report = place.report(Some(head));
    assert!(
        report
            .findings
            .iter()
            .all(|finding| finding.fault.is_of_the_beginning())
    );
    let before = report.begins_after.unwrap();
    assert_eq!((before.log, before.group), (head.log, 0));
    let from = |anchor| verify_from(place.path(), &chain_key(), Some(&head), Some(anchor));
    assert_eq!(from(&before).unwrap().findings, []);
    // A beginning that an attacker makes up is not accepted.
    let other = AuditHead {
        mac: [1; 32],
        ..before
    };
    assert!(!from(&other).unwrap().is_sound());
}
