//! Which logs are continued, and what happens to the others.

use super::*;

#[test]
fn a_start_refuses_a_log_that_the_store_knows_to_be_another() {
    let (place, sealed) = log_of_three_files();
    let last = place.files().pop().unwrap();
    let kept = std::fs::read_to_string(&last).unwrap();
    let edited = kept.replacen("\"number\":", "\"number\":1", 1);
    let half = &kept[..kept.len() / 2];
    for (bytes, expected) in [
        (edited.as_str(), "edited: lines up to"),
        (half, "not closed by a chain line"),
        ("", "cut off"),
    ] {
        std::fs::write(&last, bytes).unwrap();
        let error = place.refused(Some(sealed));
        assert!(
            error.contains(expected) && error.contains("keymill audit verify"),
            "{error}"
        );
        assert!(!error.contains('\n'), "{error}");
        if !bytes.is_empty() {
            let left = std::fs::read_to_string(&last).unwrap();
            assert_eq!(left, bytes, "left as it was");
        }
    }
    std::fs::write(&last, &kept).unwrap();
    let elsewhere = AuditHead {
        log: [1; 16],
        ..sealed
    };
    let error = place.refused(Some(elsewhere));
    assert!(error.contains("another log"), "{error}");
    place.open();
}

#[test]
fn what_was_torn_after_the_sealed_head_is_put_aside_and_told() {
    let mut place = TestLog::new();
    place.config.file_bytes_max = 1 << 20;
    let (audit, mut writer) = place.open();
    log(&audit, &mut writer, 0);
    let sealed = audit.head();
    log(&audit, &mut writer, 1);
    drop((audit, writer));
    let file = place.files().swap_remove(0);
    let edited = std::fs::read_to_string(&file)
        .unwrap()
        .replace("\"number\":1}", "\"number\":2}");
    std::fs::write(&file, &edited).unwrap();
    let (audit, _writer) = place.start(SystemDisk, Some(sealed)).unwrap();
    // The journal still had the record.
    assert_eq!(place.logged(), [0, 1]);
    place.assert_sound(Some(audit.head()));
    let torn: Vec<_> = std::fs::read_dir(place.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "torn")
        })
        .collect();
    assert_eq!(torn.len(), 1);
    let aside = std::fs::read_to_string(&torn[0]).unwrap();
    assert!(aside.contains("\"number\":2}") && edited.ends_with(&aside));
}

#[test]
fn a_log_that_is_gone_is_begun_anew_and_says_so() {
    let (place, sealed) = log_of_three_files();
    for file in place.files() {
        std::fs::remove_file(file).unwrap();
    }
    let (audit, mut writer) = place.start(SystemDisk, Some(sealed)).unwrap();
    log(&audit, &mut writer, 1);
    assert_ne!(audit.head().log, sealed.log);
    let old = sealed;
    for sealed in [old, audit.head()] {
        let findings = place.report(Some(sealed)).findings;
        let group = old.group;
        assert_eq!(findings.len(), 1, "{findings:?}");
        assert_eq!(findings[0].fault, Fault::BeganAnew { group });
    }
    // Killed before the new head was sealed; it continues all the same.
    drop((audit, writer));
    let (audit, _writer) = place.start(SystemDisk, Some(sealed)).unwrap();
    assert_eq!(place.logged(), [1]);
    assert_ne!(audit.head().log, sealed.log);
}
