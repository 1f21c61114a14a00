//! A file of the audit log as anybody may have left it: verifying it finds faults or none, never a
//! panic, and never more than what is in it.

#![no_main]

use keymill::audit;
use keymill::crypto::secret::Secret;
use libfuzzer_sys::fuzz_target;
use std::path::PathBuf;
use std::sync::LazyLock;

/// In memory where there is such a folder.
static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
    let memory = PathBuf::from("/dev/shm");
    let parent = if memory.is_dir() {
        memory
    } else {
        std::env::temp_dir()
    };
    let folder = parent.join(format!("keymill-fuzz-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder for the log");
    folder
});

fuzz_target!(|bytes: &[u8]| {
    let path = FOLDER.join("audit-20260102T030405Z-000000000001.jsonl");
    std::fs::write(path, bytes).expect("a file of the log");
    let key = Secret::filled(|key| key.fill(7));
    let report = audit::verify(&FOLDER, &key, None).expect("a readable file");
    let lines = bytes.split(|byte| *byte == b'\n').count() as u64;
    assert!(report.groups + report.records <= lines);
    if report.records > 0 {
        assert!(report.groups > 0 || !report.findings.is_empty());
    }
});
