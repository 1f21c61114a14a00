//! The log under crashes at each step, full disks, power cuts and slow disks.
//!
//! The writer runs a turn only when a test says so, on a clock that the test moves.

use super::*;
use crate::audit::disk::{Disk, SystemDisk};
use crate::audit::reader::LogFile;
use crate::audit::start::Start;
use crate::audit::writer::Writer;
use crate::clock::Timestamp;
use crate::crypto::entropy::Entropy;
use crate::key::regions::Regions;
use crate::keystore::RootKeyFile;
use crate::metrics::Metrics;
use std::path::Path;
use tempfile::TempDir;

mod crashes;
mod disks;
mod durable;
mod full;
mod places;
mod power;
mod rotation;
mod starts;

/// A folder with a log, and the parameters to open it.
pub(super) struct TestLog {
    pub(super) folder: TempDir,
    pub(super) config: Config,
    pub(super) clock: Clock,
    /// The name of the node, for the headers.
    pub(super) node: Option<String>,
    metrics: Arc<Metrics>,
}

impl TestLog {
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = Config {
            path: folder.path().join("audit"),
            journal_bytes: 0,
            ..Config::default()
        };
        Self {
            folder,
            config,
            clock: Clock::manual(Timestamp(1_700_000_000_000_000)),
            node: None,
            metrics: Arc::new(Metrics::new().unwrap()),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.config.path
    }

    pub(super) fn start(
        &self,
        disk: impl Disk + 'static,
        sealed: Option<AuditHead>,
    ) -> Result<(Audit, Writer), OpenError> {
        let start = Start {
            config: &self.config,
            known: Known {
                sealed,
                node: self.node.clone(),
            },
            regions: &Regions::one("aws", "us-east-1"),
            clock: self.clock.clone(),
            entropy: &Entropy::os(),
            metrics: &self.metrics,
        };
        start.prepare(chain_key(), Box::new(disk))
    }

    pub(super) fn open(&self) -> (Audit, Writer) {
        self.start(SystemDisk, None).unwrap()
    }

    /// Opens the log, expects a refusal, and returns its text.
    pub(super) fn refused(&self, sealed: Option<AuditHead>) -> String {
        let refused = self.start(SystemDisk, sealed).err();
        refused.expect("must be refused").to_string()
    }

    /// The numbers of the records in the log, in its order.
    pub(super) fn logged(&self) -> Vec<u64> {
        let files = LogFile::all(self.path()).unwrap();
        let texts = files
            .iter()
            .map(|file| std::fs::read_to_string(&file.path).unwrap());
        let numbers = texts.flat_map(|text| {
            let lines = text.lines().filter_map(|line| line.strip_prefix(START));
            lines
                .map(|rest| rest.trim_end_matches('}').parse().unwrap())
                .collect::<Vec<u64>>()
        });
        numbers.collect()
    }

    pub(super) fn files(&self) -> Vec<PathBuf> {
        let files = LogFile::all(self.path()).unwrap();
        files.into_iter().map(|file| file.path).collect()
    }

    pub(super) fn report(&self, sealed: Option<AuditHead>) -> Report {
        verify(self.path(), &chain_key(), sealed.as_ref()).unwrap()
    }

    pub(super) fn assert_sound(&self, sealed: Option<AuditHead>) {
        let report = self.report(sealed);
        assert_eq!(report.findings, []);
        assert_eq!(report.records, self.logged().len() as u64);
    }

    fn rendered(&self) -> String {
        self.metrics.render()
    }
}

pub(super) fn chain_key() -> Secret<32> {
    Secret::filled(|bytes| bytes.fill(7))
}

const START: &str = "{\"eventVersion\":\"1.11\",\"number\":";

/// A record that has only a number.
pub(super) fn line(number: u64) -> Vec<u8> {
    format!("{START}{number}}}\n").into_bytes()
}

pub(super) fn record(audit: &Audit, number: u64) -> Result<(), AuditError> {
    audit.record(&line(number)).map(drop)
}

/// Records it, and has it written.
pub(super) fn log(audit: &Audit, writer: &mut Writer, number: u64) {
    record(audit, number).unwrap();
    writer.turn();
}

/// Makes three files with records in groups of three, the last file not full. Returns the sealed
/// head too.
pub(super) fn log_of_three_files() -> (TestLog, AuditHead) {
    let mut place = TestLog::new();
    place.config.file_bytes_max = 1700;
    let (audit, mut writer) = place.open();
    let mut number = 0;
    let groups = |writer: &Writer| writer.current.as_ref().unwrap().groups;
    while place.files().len() < 3 || groups(&writer) < 3 {
        for _ in 0..3 {
            record(&audit, number).unwrap();
            number += 1;
        }
        writer.turn();
    }
    let sealed = audit.head();
    place.assert_sound(Some(sealed));
    assert_eq!(place.files().len(), 3);
    (place, sealed)
}

#[test]
fn audit_1_records_are_in_the_log_in_their_order_and_the_chain_holds() {
    let place = TestLog::new();
    let (audit, mut writer) = place.open();
    let first = audit.head();
    for number in 0..100 {
        record(&audit, number).unwrap();
        if number % 7 == 0 {
            writer.turn();
        }
    }
    writer.turn();
    assert_eq!(place.logged(), Vec::from_iter(0..100));
    place.assert_sound(Some(audit.head()));
    assert!(audit.head().group > first.group);
    let text = place.rendered();
    assert!(text.contains("keymill_audit_records_total 100"), "{text}");
    assert!(text.contains("keymill_audit_failures_total 0"), "{text}");
    assert!(text.contains("keymill_audit_backlog_bytes 0"), "{text}");
}

#[test]
fn what_is_no_record_is_refused_and_counted() {
    let place = TestLog::new();
    let (audit, mut writer) = place.open();
    let mut long = line(1);
    long.truncate(long.len() - 2);
    long.resize(LINE_BYTES_MAX - 2, b' ');
    long.extend_from_slice(b"}\n");
    let _kept = audit.record(&long).unwrap();
    long.insert(long.len() - 2, b' ');
    let refused = audit.record(&long).err();
    assert_eq!(refused, Some(AuditError::TooLong(LINE_BYTES_MAX + 1)));
    let two = [line(1), line(2)].concat();
    for line in [b"".as_slice(), b"\n", &two, b"{\"keymillChain\":{}}\n"] {
        assert_eq!(audit.record(line).err(), Some(AuditError::Malformed));
    }
    writer.turn();
    assert_eq!(place.report(None).records, 1);
    place.assert_sound_chain();
    assert!(place.rendered().contains("keymill_audit_failures_total 5"));
}

impl TestLog {
    fn assert_sound_chain(&self) {
        assert_eq!(self.report(None).findings, []);
    }
}

#[test]
fn one_process_has_the_log() {
    let place = TestLog::new();
    let open = place.open();
    let error = place.refused(None);
    assert!(error.contains("in use by another process"), "{error}");
    drop(open);
    place.open();
}

#[test]
fn a_journal_of_another_size_is_made_when_it_is_empty() {
    let mut place = TestLog::new();
    let (audit, writer) = place.open();
    for number in 0..50 {
        record(&audit, number).unwrap();
    }
    let small = writer.shared.journal.capacity();
    drop((audit, writer));
    place.config.journal_bytes = 2 * small;
    let (audit, mut writer) = place.open();
    assert_eq!(writer.shared.journal.capacity(), 2 * small);
    log(&audit, &mut writer, 50);
    assert_eq!(place.logged(), Vec::from_iter(0..51));
    place.assert_sound(Some(audit.head()));
}

#[test]
fn the_configuration_is_read_as_it_is_written() {
    let text = toml::to_string(&Config::default()).unwrap();
    assert_eq!(toml::from_str::<Config>(&text).unwrap(), Config::default());
    let disk: Config = toml::from_str("durability = \"disk\"").unwrap();
    assert_eq!(disk.durability, Durability::Disk);
    for bad in ["durability = \"none\"", "retention = 3", "path = 7"] {
        assert!(toml::from_str::<Config>(bad).is_err(), "{bad}");
    }
}

#[test]
fn files_are_for_the_owner_and_his_group() {
    use std::os::unix::fs::MetadataExt;
    let place = TestLog::new();
    let _open = place.open();
    let mode = |path: &Path| path.metadata().unwrap().mode() & 0o777;
    assert_eq!(mode(&place.path().join("journal")), 0o600);
    assert_eq!(mode(place.path()) & 0o027, 0);
    assert_eq!(mode(&place.files()[0]) & 0o137, 0);
}

#[tokio::test]
async fn the_head_is_sealed_into_the_store_when_it_has_moved() {
    let place = TestLog::new();
    let root = place.folder.path().join("root.key");
    let root = RootKeyFile::clear(&root).create(&Entropy::os()).unwrap();
    let regions = Regions::one("aws", "us-east-1");
    let (entropy, metrics) = (Arc::new(Entropy::os()), Arc::clone(&place.metrics));
    let store = place.folder.path().join("store.sqlite");
    let store = Keystore::create(&store, &root, regions, entropy, metrics);
    let store = store.await.unwrap();
    let (audit, mut writer) = place.open();
    audit.seal_head(&store).await.unwrap();
    assert_eq!(store.snapshot().audit_head(""), Some(audit.head()));
    let revision = store.revision();
    audit.seal_head(&store).await.unwrap();
    assert_eq!(store.revision(), revision, "not moved, no commit");
    log(&audit, &mut writer, 1);
    audit.seal_head(&store).await.unwrap();
    assert_eq!(store.snapshot().audit_head(""), Some(audit.head()));
    place.assert_sound(store.snapshot().audit_head(""));
    assert!(!key(&root).ct_eq(root.subkey("head").expose()));
}
