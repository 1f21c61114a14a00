//! The audit log under real kills and on a real full disk: every acknowledged record is in the log,
//! once.
//!
//! The processes are this test binary itself, started again with one of its ignored tests; what
//! they are to do comes in the environment.

use keymill::audit::{
    Audit, AuditError, AuditRecord, CALL, Config, Durability, Identity, KMS, Source, verify,
};
use keymill::clock::Clock;
use keymill::crypto::entropy::Entropy;
use keymill::crypto::secret::Secret;
use keymill::key::regions::Regions;
use keymill::metrics::Metrics;
use serde_json::Value;
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const FOLDER: &str = "KEYMILL_TEST_AUDIT_FOLDER";
const FIRST: &str = "KEYMILL_TEST_AUDIT_FIRST";
const ON_DISK: &str = "KEYMILL_TEST_AUDIT_ON_DISK";

fn config(folder: &Path) -> Config {
    Config {
        path: folder.to_owned(),
        journal_bytes: 1 << 20,
        // Small, so that kills fall into rotations too.
        file_bytes_max: 300_000,
        ..Config::default()
    }
}

fn key() -> Secret<32> {
    Secret::filled(|bytes| bytes.fill(7))
}

fn open(config: &Config) -> Audit {
    let metrics = Arc::new(Metrics::new().unwrap());
    Audit::open(
        config,
        key(),
        None,
        &Regions::one("aws", "us-east-1"),
        Clock::system(),
        &Entropy::os(),
        &metrics,
    )
    .unwrap()
}

/// A record that is known by its request id.
fn append(number: u64, line: &mut Vec<u8>) {
    let body = format!(r#"{{"EncryptionContext":{{"container":"{number}"}}}}"#);
    let record = AuditRecord {
        time: Clock::system().now(),
        event_source: KMS,
        event_name: "GenerateDataKeyWithoutPlaintext",
        event_type: CALL,
        region: "us-east-1",
        identity: Identity {
            arn: Some("arn:aws:iam::111122223333:user/provisioner"),
            account_id: Some("111122223333"),
            access_key_id: None,
            source_identity: None,
            web_user: None,
        },
        source: Source::Unix(1000),
        tls_details: None,
        request_id: &number.to_string(),
        event_id: "8a1b2c3d-0000-4000-8000-0123456789ab",
        read_only: true,
        body: body.as_bytes(),
        response_elements: None,
        resources: &[],
        key_material_id: None,
        recipient: None,
        batch: None,
        node: None,
        error: None,
    };
    line.clear();
    record.append(line);
}

/// How often each request id is in the log.
fn logged(folder: &Path) -> HashMap<u64, u64> {
    let mut counts = HashMap::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path: PathBuf = entry.unwrap().path();
        if path
            .extension()
            .is_none_or(|extension| extension != "jsonl")
        {
            continue;
        }
        for line in std::fs::read_to_string(path).unwrap().lines() {
            let line: Value = serde_json::from_str(line).unwrap();
            if let Some(id) = line["requestID"].as_str() {
                *counts.entry(id.parse().unwrap()).or_insert(0) += 1;
            }
        }
    }
    counts
}

fn again(test: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--ignored", "--exact", "--nocapture", test]);
    command
}

/// Starts a process that records as fast as it can and prints each record that was stored.
fn recorder(folder: &Path, first: u64, on_disk: bool) -> Child {
    let mut command = again("audit::process_that_records");
    command.env(FOLDER, folder).env(FIRST, first.to_string());
    command.env(ON_DISK, on_disk.to_string());
    command.stdout(Stdio::piped()).spawn().unwrap()
}

#[test]
#[ignore = "what the test below starts and kills"]
fn process_that_records() {
    let Ok(folder) = std::env::var(FOLDER) else {
        return;
    };
    let variable = |name: &str| std::env::var(name).unwrap();
    let mut config = config(Path::new(&folder));
    if variable(ON_DISK) == "true" {
        config.durability = Durability::Disk;
    }
    let audit = open(&config);
    let next = AtomicU64::new(variable(FIRST).parse().unwrap());
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread();
                let runtime = { runtime }.build().unwrap();
                let mut line = Vec::new();
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    append(number, &mut line);
                    let Ok(recorded) = audit.record(&line) else {
                        continue;
                    };
                    if runtime.block_on(audit.durable(recorded)).is_ok() {
                        // As a key that leaves: one system call, at once.
                        let kept = format!("kept {number}\n");
                        std::io::stdout().write_all(kept.as_bytes()).unwrap();
                    }
                }
            });
        }
    });
}

#[test]
fn audit_1_kill_9_under_load_loses_no_record_of_what_was_acknowledged() {
    const ROUNDS: u64 = 24;
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("audit");
    let mut kept: Vec<u64> = Vec::new();
    for round in 0..ROUNDS {
        let on_disk = round % 4 == 3;
        let mut child = recorder(&folder, round * 1_000_000_000, on_disk);
        let output = BufReader::new(child.stdout.take().unwrap());
        // Somewhere within the first turns of the writer, or among the later ones.
        let kill_after = if on_disk {
            5 + round
        } else {
            1 + round * round * 53
        };
        let mut heard = 0;
        for line in output.lines() {
            // The last line is never cut off: a pipe takes short writes whole.
            let line = line.unwrap();
            let Some(number) = line.strip_prefix("kept ") else {
                continue;
            };
            kept.push(number.parse().unwrap());
            heard += 1;
            if heard == kill_after {
                child.kill().unwrap();
            }
        }
        assert!(heard >= kill_after, "round {round}: ended by itself");
        child.wait().unwrap();
    }
    let audit = open(&config(&folder));
    audit.close();
    let logged = logged(&folder);
    let lost: Vec<_> = kept
        .iter()
        .filter(|number| !logged.contains_key(number))
        .collect();
    assert!(
        lost.is_empty(),
        "{} of {} lost: {lost:?}",
        lost.len(),
        kept.len()
    );
    let twice: Vec<_> = logged.iter().filter(|(_, count)| **count > 1).collect();
    assert!(twice.is_empty(), "twice: {twice:?}");
    let report = verify(&folder, &key(), Some(&audit.head())).unwrap();
    assert_eq!(report.findings, []);
    assert!(report.files > 1 && report.records >= kept.len() as u64);
}

#[test]
fn audit_1_a_full_disk_stops_issuing_and_ends_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    // A mount of its own, which needs no rights where user namespaces are allowed.
    let script = "mount -t tmpfs -o size=16m tmpfs \"$0\" && exec \"$@\"";
    let inside = again("audit::process_on_a_small_disk");
    let mut command = Command::new("unshare");
    command.args(["--map-root-user", "--mount", "sh", "-c", script]);
    command.arg(folder.path()).arg(inside.get_program());
    command.args(inside.get_args());
    command.env(FOLDER, folder.path());
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}"
    );
}

#[test]
#[ignore = "what the test above starts in a mount of its own"]
fn process_on_a_small_disk() {
    let Ok(folder) = std::env::var(FOLDER) else {
        return;
    };
    let folder = Path::new(&folder);
    let config = Config {
        file_bytes_max: 128 << 20,
        ..config(&folder.join("audit"))
    };
    let audit = open(&config);
    let filler = folder.join("filler");
    let mut line = Vec::new();
    let mut kept = Vec::new();
    let mut number = 0;
    for round in 0..3 {
        // Another program fills the disk.
        let mut file = std::fs::File::create(&filler).unwrap();
        while file.write_all(&[0; 4096]).is_ok() {}
        drop(file);
        // Every record that is accepted now has its room: the records end before the room does.
        loop {
            number += 1;
            append(number, &mut line);
            match audit.record(&line) {
                Ok(_recorded) => kept.push(number),
                Err(AuditError::Full) => std::thread::yield_now(),
                Err(error) => break assert_eq!(error, AuditError::Unwritable),
            }
            assert!(
                number < 100_000 * (round + 1),
                "a full disk was never noticed"
            );
        }
        assert!(!audit.is_writable());
        std::fs::remove_file(&filler).unwrap();
        while !audit.is_writable() {
            std::thread::yield_now();
        }
        number += 1;
        append(number, &mut line);
        let _recorded = audit.record(&line).unwrap();
        kept.push(number);
    }
    audit.close();
    let logged = logged(&config.path);
    assert_eq!(logged.len(), kept.len());
    assert!(kept.iter().all(|number| logged[number] == 1));
    let report = verify(&config.path, &key(), Some(&audit.head())).unwrap();
    assert_eq!(report.findings, []);
}
