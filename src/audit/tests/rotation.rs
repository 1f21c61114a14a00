//! When the next file begins, and what happens to files that were not finished.

use super::*;

#[test]
fn a_file_ends_at_its_size_and_the_next_carries_the_chain_on() {
    let mut place = TestLog::new();
    place.config.file_bytes_max = 2000;
    let (audit, mut writer) = place.open();
    for number in 0..200 {
        record(&audit, number).unwrap();
    }
    writer.turn();
    let files = place.files();
    assert!(files.len() >= 5, "{}", files.len());
    for file in &files {
        // The last line and its chain line may exceed the size.
        assert!(file.metadata().unwrap().len() < 2000 + 300);
        let text = std::fs::read_to_string(file).unwrap();
        assert!(
            text.starts_with("{\"keymillLog\":{\"version\":1,"),
            "{text}"
        );
    }
    assert_eq!(place.logged(), Vec::from_iter(0..200));
    place.assert_sound(Some(audit.head()));
    let report = place.report(None);
    assert_eq!(
        (report.files, report.head),
        (files.len() as u64, Some(audit.head()))
    );
}

#[test]
fn a_file_ends_at_its_age_once_it_holds_a_record() {
    let mut place = TestLog::new();
    place.config.file_seconds_max = 60;
    let (audit, mut writer) = place.open();
    place.clock.advance(Duration::from_secs(600));
    writer.turn();
    assert_eq!(place.files().len(), 1, "an empty one goes on");
    log(&audit, &mut writer, 1);
    assert_eq!(place.files().len(), 2, "ends with its first record");
    place.clock.advance(Duration::from_secs(59));
    log(&audit, &mut writer, 2);
    writer.turn();
    assert_eq!(place.files().len(), 2);
    drop((audit, writer));
    // A restart does not reset its age.
    place.clock.advance(Duration::from_secs(1));
    let (audit, _writer) = place.open();
    assert_eq!(place.files().len(), 3);
    assert_eq!(place.logged(), [1, 2]);
    place.assert_sound(Some(audit.head()));
    let names: Vec<_> = place
        .files()
        .iter()
        .map(|path| path.file_name().unwrap().to_owned())
        .collect();
    assert_eq!(names[0], "audit-20231114T221320Z-000000000001.jsonl");
    assert_eq!(names[1], "audit-20231114T222320Z-000000000003.jsonl");
}

#[test]
fn a_restart_goes_on_in_the_same_file() {
    let place = TestLog::new();
    for number in 0..5 {
        let (audit, mut writer) = place.open();
        log(&audit, &mut writer, number);
    }
    assert_eq!(place.files().len(), 1);
    place.assert_sound(None);
    assert_eq!(place.report(None).records, 5);
}

#[test]
fn a_clock_that_steps_back_neither_stops_nor_reorders_the_log() {
    let mut place = TestLog::new();
    place.config.file_bytes_max = 500;
    for (number, seconds) in [1_700_000_000, 1_600_000_000, 1_650_000_000]
        .into_iter()
        .enumerate()
    {
        place.clock = Clock::manual(Timestamp(seconds * 1_000_000));
        let (audit, mut writer) = place.open();
        for step in 0..20 {
            record(&audit, number as u64 * 20 + step).unwrap();
            writer.turn();
        }
    }
    assert_eq!(place.logged(), Vec::from_iter(0..60));
    place.assert_sound(None);
}
