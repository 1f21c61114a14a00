//! The cost of an audit record for a request: making the line and storing it in the journal, beside
//! other ways to store it.
//!
//! The log is the real one, with its writer running. Lines are stored in runs. Between two runs the
//! bench waits, uncounted, until the writer has caught up, so that the measured journal always has
//! room.

#![expect(clippy::unwrap_used, reason = "a bench fails by panicking")]

mod side_by_side;

use keymill::audit::{
    Audit, AuditRecord, CALL, Config, Durability, Identity, KMS, Resource, ResourceKind, Source,
};
use keymill::clock::{Clock, Timestamp};
use keymill::crypto::entropy::Entropy;
use keymill::crypto::secret::Secret;
use keymill::key::regions::Regions;
use keymill::metrics::Metrics;
use side_by_side::{Question, Side, by_runs, slowest};
use std::fs::File;
use std::hint::black_box;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Lines kept before the writer is waited for.
const RUN: usize = 4096;
const JOURNAL_BYTES: u64 = 32 << 20;

fn main() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let audit = Arc::new(open(&folder.path().join("audit")));
    let mut questions = questions(&audit, folder.path());
    side_by_side::answer(&mut questions);
    audit.close();
}

fn open(path: &Path) -> Audit {
    let config = Config {
        path: path.to_owned(),
        journal_bytes: JOURNAL_BYTES,
        // Only so that the bench has something to wait for between two runs; storing a record takes
        // as long with any file size.
        durability: Durability::Disk,
        ..Config::default()
    };
    let key = Secret::filled(|bytes| bytes.fill(7));
    let metrics = Arc::new(Metrics::new().unwrap());
    let (clock, entropy) = (Clock::system(), Entropy::os());
    let regions = Regions::one("aws", "us-east-1");
    Audit::open(&config, key, None, &regions, clock, &entropy, &metrics).unwrap()
}

fn questions(audit: &Arc<Audit>, folder: &Path) -> Vec<Question> {
    let file = File::create(folder.join("lines")).unwrap();
    vec![
        Question::new(
            "make a record, 64 bytes of context",
            1,
            vec![
                Side::new("append to a kept buffer", made()),
                Side::new("serde_json::Value, to a string", by_value()),
            ],
        ),
        Question::new(
            "keep a record, one thread",
            1,
            vec![
                Side::new("journal", kept(audit, 1)),
                Side::new("memcpy", copied()),
                Side::new("write(2)", written(file)),
            ],
        ),
        Question::new(
            "keep a record, two threads at once",
            1,
            vec![
                Side::new("journal", kept(audit, 2)),
                Side::new("memcpy, one thread", copied()),
            ],
        ),
    ]
}

fn append(body: &[u8], line: &mut Vec<u8>) {
    const KEY: &str = "arn:aws:kms:us-east-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab";
    let record = AuditRecord {
        time: Timestamp(1_700_000_000_000_000),
        event_source: KMS,
        event_name: "GenerateDataKeyWithoutPlaintext",
        event_type: CALL,
        region: "us-east-1",
        identity: Identity {
            arn: Some("arn:aws:iam::111122223333:user/provisioner"),
            account_id: Some("111122223333"),
            access_key_id: Some("AKIAIOSFODNN7EXAMPLE"),
            source_identity: None,
            web_user: None,
        },
        source: Source::Unix(1000),
        tls_details: None,
        request_id: "7a1b2c3d-0000-4000-8000-0123456789ab",
        event_id: "8a1b2c3d-0000-4000-8000-0123456789ab",
        read_only: true,
        body,
        response_elements: None,
        resources: &[Resource {
            arn: KEY,
            account_id: "111122223333",
            kind: ResourceKind::Key,
        }],
        key_material_id: None,
        recipient: None,
        batch: None,
        node: None,
        error: None,
    };
    record.append(line);
}

/// As SDKs send it.
const BODY: &[u8] = br#"{"KeyId":"alias/containers","KeySpec":"AES_256","EncryptionContext":{"container":"container-000000000042","tenant":"a-tenant-of-some-name"}}"#;

fn line() -> Vec<u8> {
    let mut line = Vec::new();
    append(BODY, &mut line);
    line
}

fn made() -> impl FnMut(u64) -> Duration {
    let mut line = line();
    timed(move || {
        line.clear();
        append(black_box(BODY), &mut line);
        black_box(&line);
    })
}

fn by_value() -> impl FnMut(u64) -> Duration {
    let value: serde_json::Value = serde_json::from_slice(&line()).unwrap();
    timed(move || {
        black_box(black_box(&value).clone().to_string());
    })
}

fn copied() -> impl FnMut(u64) -> Duration {
    let (line, mut out) = (line(), Vec::with_capacity(32 << 20));
    timed(move || {
        if out.len() + line.len() > out.capacity() {
            out.clear();
        }
        out.extend_from_slice(black_box(&line));
        black_box(&mut out);
    })
}

fn written(mut file: File) -> impl FnMut(u64) -> Duration {
    let line = line();
    timed(move || file.write_all(black_box(&line)).unwrap())
}

fn timed(mut once: impl FnMut()) -> impl FnMut(u64) -> Duration {
    move |times| {
        let clock = Clock::system();
        for _ in 0..times {
            once();
        }
        clock.monotonic()
    }
}

/// Wall-clock time of all threads, divided among the records.
fn kept(audit: &Arc<Audit>, threads: usize) -> impl FnMut(u64) -> Duration + use<> {
    let audit = Arc::clone(audit);
    let line = line();
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.build().unwrap();
    by_runs(RUN, move |count| {
        let share = count.div_ceil(threads);
        let last = audit.record(&line).unwrap();
        runtime.block_on(audit.durable(last)).unwrap();
        let took = slowest(threads, || {
            for _ in 0..share {
                let _kept = black_box(audit.record(black_box(&line)).unwrap());
            }
        });
        took.mul_f64(count as f64 / (share * threads) as f64)
    })
}
