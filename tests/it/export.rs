//! Bulk export: the content of the folder after a run, after a run that was killed, and after one
//! that was refused.

use arrow_array::Array;
use keymill::bulk::keys::{KeySource, KeyWorker, RowsError};
use keymill::bulk::local::{Keys, Local};
use keymill::bulk::{Ending, JobError, KeyIdentity, Parameter, Progress, Runtime, SourceError};
use keymill::clock::{Clock, Timestamp};
use keymill::context::EncryptionContext;
use keymill::crypto::block_cipher::BlockCipher;
use keymill::crypto::entropy::Entropy;
use keymill::envelope::{self, CiphertextBlob};
use keymill::export::{self, IdPattern, Manifest, Mint, Plan};
use keymill::key::data_key::DataKeyLength;
use keymill::key::material::BackingKey;
use keymill::key::{KeyId, KeyState, KmsKey};
use keymill::keystore::KeyEntry;
use keymill::pool::CloneWord;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::{Compression, Encoding};
use std::collections::HashSet;
use std::fs::{self, File};
use std::num::{NonZeroU64, NonZeroUsize};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

const NOW: Timestamp = Timestamp(1_700_000_000_000_001);

fn entry(state: KeyState) -> Arc<KeyEntry> {
    let entropy = Entropy::os();
    let mut bytes = [0; 16];
    entropy.draw(&mut bytes).unwrap();
    let id = KeyId::from_random(bytes);
    let material = BackingKey::draw(BlockCipher::Aes256, id, 1, NOW, &entropy).unwrap();
    Arc::new(KeyEntry {
        key: KmsKey {
            state,
            ..KmsKey::new(id, "111122223333".parse().unwrap(), NOW)
        },
        arn: format!("arn:aws:kms:us-east-1:111122223333:key/{id}"),
        materials: vec![Arc::new(material)],
        secret: None,
        fence: 1,
    })
}

fn context() -> EncryptionContext {
    EncryptionContext::from_pairs([("tenant", "t-1"), ("purpose", "containers")]).unwrap()
}

fn local(entry: &Arc<KeyEntry>, length: DataKeyLength) -> Local<Mint> {
    Local {
        work: Mint {
            key: "alias/containers".to_owned(),
            length,
            context: context(),
        },
        keys: Keys {
            entry: Arc::clone(entry),
            entropy: Arc::new(Entropy::os()),
            clone_word: Arc::new(CloneWord::new()),
        },
        recorder: None,
    }
}

fn plan(out: &Path, count: u64, rows_per_part: u64) -> Plan {
    Plan {
        key: "alias/containers".to_owned(),
        length: DataKeyLength::AES_256,
        count: NonZeroU64::new(count).unwrap(),
        id_pattern: IdPattern::DEFAULT.parse().unwrap(),
        context: context(),
        rows_per_part: NonZeroU64::new(rows_per_part),
        out: out.to_owned().into(),
        workers: NonZeroUsize::new(2).unwrap(),
    }
}

fn run<S: KeySource<Operation = Mint>>(
    plan: &Plan,
    source: &S,
) -> Result<export::Outcome, JobError> {
    run_until(plan, source, &AtomicBool::new(false))
}

fn run_until<S: KeySource<Operation = Mint>>(
    plan: &Plan,
    source: &S,
    stop: &AtomicBool,
) -> Result<export::Outcome, JobError> {
    let runtime = Runtime {
        clock: Clock::manual(NOW),
        entropy: &Entropy::os(),
        progress: &Progress::silent(),
        stop,
    };
    export::run(plan, source, &runtime)
}

/// One row of a part.
struct Row {
    container_id: String,
    blob: Vec<u8>,
}

fn read(path: &Path, entry: &KeyEntry, key_spec: &str) -> Vec<Row> {
    use arrow_array::cast::AsArray;
    use arrow_array::types::TimestampMicrosecondType;
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(path).unwrap())
        .unwrap()
        .build()
        .unwrap();
    let mut rows = Vec::new();
    for batch in reader {
        let batch = batch.unwrap();
        assert_eq!(batch.schema().fields(), export::schema().fields());
        let text = |name: &str| {
            batch
                .column_by_name(name)
                .unwrap()
                .as_string::<i32>()
                .clone()
        };
        let (ids, arns, materials, specs) = (
            text("container_id"),
            text("key_arn"),
            text("key_material_id"),
            text("key_spec"),
        );
        let contexts = batch.column_by_name("encryption_context").unwrap().as_map();
        let blobs = batch
            .column_by_name("ciphertext_blob")
            .unwrap()
            .as_binary::<i32>();
        let created_at = batch
            .column_by_name("created_at")
            .unwrap()
            .as_primitive::<TimestampMicrosecondType>();
        for at in 0..batch.num_rows() {
            assert_eq!(arns.value(at), entry.arn);
            assert_eq!(
                materials.value(at),
                entry.current().unwrap().id().to_string()
            );
            assert_eq!(specs.value(at), key_spec);
            assert_eq!(created_at.value(at).unsigned_abs(), NOW.0);
            let pairs = contexts.value(at);
            let (names, values) = (
                pairs.column(0).as_string::<i32>(),
                pairs.column(1).as_string::<i32>(),
            );
            let pairs = names
                .iter()
                .zip(values)
                .map(|(n, v)| (n.unwrap(), v.unwrap()));
            assert!(pairs.eq(context().pairs()));
            rows.push(Row {
                container_id: ids.value(at).to_owned(),
                blob: blobs.value(at).to_vec(),
            });
        }
    }
    rows
}

/// Every row of the folder, which must be what `plan` asked for.
fn check(plan: &Plan, entry: &KeyEntry, manifest: &Manifest) {
    let mut rows = Vec::new();
    for part in &manifest.parts {
        let path = plan.out.path().join(&part.file);
        assert_eq!(fs::metadata(&path).unwrap().len(), part.bytes);
        let of_part = read(&path, entry, &plan.length.spec());
        assert_eq!(of_part.len() as u64, part.rows);
        rows.extend(of_part);
    }
    assert_eq!(rows.len() as u64, plan.count.get());
    let mut distinct = HashSet::new();
    for (number, row) in rows.iter().enumerate() {
        assert_eq!(row.container_id, format!("container-{number:012}"));
        assert!(distinct.insert(&row.blob), "row {number} repeats a blob");
    }
    for row in rows.iter().step_by(97) {
        let blob = CiphertextBlob::parse(&row.blob).unwrap();
        let open = |context: &EncryptionContext| {
            envelope::open(entry.key.id, entry.current().unwrap(), context, &blob)
        };
        let key = open(&context()).unwrap();
        assert_eq!(key.expose().len(), plan.length.bytes());
        assert!(open(&EncryptionContext::default()).is_err());
    }
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn every_row_is_distinct_and_opens_under_the_key_with_its_context() {
    let folder = tempfile::tempdir().unwrap();
    let entry = entry(KeyState::Enabled);
    // Whole batches and a rest, in parts that two workers share.
    let plan = plan(&folder.path().join("new/run"), 50_000, 20_000);
    let outcome = run(&plan, &local(&entry, DataKeyLength::AES_256)).unwrap();
    assert_eq!(
        (outcome.ending, outcome.rows_written),
        (Ending::Finished, 50_000)
    );
    assert!(outcome.manifest.complete);
    assert_eq!(
        names(plan.out.path()),
        [
            "_manifest.json",
            "part-00000.parquet",
            "part-00001.parquet",
            "part-00002.parquet"
        ]
    );
    check(&plan, &entry, &outcome.manifest);

    let digest = |name: &str| {
        use sha2::Digest;
        let bytes = fs::read(plan.out.path().join(name)).unwrap();
        let digest = sha2::Sha256::digest(bytes);
        digest
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
    };
    let parts = &outcome.manifest.parts;
    assert!(parts.iter().all(|part| part.sha256 == digest(&part.file)));
}

#[test]
fn other_lengths_and_an_empty_context_work_too() {
    for (bytes, spec) in [(16, "AES_128"), (1, "BYTES_1"), (1024, "BYTES_1024")] {
        let folder = tempfile::tempdir().unwrap();
        let entry = entry(KeyState::Enabled);
        let mut plan = plan(folder.path(), 1_000, 1_000);
        plan.length = DataKeyLength::new(bytes).unwrap();
        let outcome = run(&plan, &local(&entry, plan.length)).unwrap();
        assert_eq!(outcome.manifest.parameters.kind.key_spec, spec);
        if bytes >= 16 {
            check(&plan, &entry, &outcome.manifest);
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let entry = entry(KeyState::Enabled);
    let mut plan = plan(folder.path(), 10, 10);
    plan.context = EncryptionContext::default();
    let mut source = local(&entry, DataKeyLength::AES_256);
    source.work.context = EncryptionContext::default();
    run(&plan, &source).unwrap();
    let file = File::open(folder.path().join("part-00000.parquet")).unwrap();
    let reader = ParquetRecordBatchReaderBuilder::try_new(file)
        .unwrap()
        .build()
        .unwrap();
    let batch = reader.last().unwrap().unwrap();
    let contexts = batch.column_by_name("encryption_context").unwrap();
    assert_eq!(
        arrow_array::cast::AsArray::as_map(contexts.as_ref())
            .entries()
            .len(),
        0
    );
}

#[test]
fn columns_are_encoded_as_the_design_says() {
    let folder = tempfile::tempdir().unwrap();
    let entry = entry(KeyState::Enabled);
    // More than one row group, the last one not full.
    let plan = plan(folder.path(), 140_000, 140_000);
    run(&plan, &local(&entry, DataKeyLength::AES_256)).unwrap();
    let file = File::open(folder.path().join("part-00000.parquet")).unwrap();
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
    let metadata = reader.metadata();
    let groups = metadata.row_groups();
    assert_eq!(
        groups
            .iter()
            .map(|group| group.num_rows())
            .collect::<Vec<_>>(),
        [131_072, 8_928]
    );
    for column in groups.iter().flat_map(|group| group.columns()) {
        let path = column.column_path().string();
        let encodings: Vec<_> = column.encodings().collect();
        assert_eq!(column.compression(), Compression::UNCOMPRESSED, "{path}");
        match path.as_str() {
            "ciphertext_blob" => {
                assert!(
                    encodings.contains(&Encoding::DELTA_LENGTH_BYTE_ARRAY),
                    "{encodings:?}"
                );
                assert!(column.statistics().is_none());
                assert_eq!(column.dictionary_page_offset(), None);
                // The blobs, and next to nothing else.
                let bytes = column.compressed_size().unsigned_abs();
                let blobs = column.num_values().unsigned_abs() * 96;
                assert!(bytes < blobs + blobs / 100, "{bytes} for {blobs}");
            }
            "created_at" => assert!(encodings.contains(&Encoding::DELTA_BINARY_PACKED)),
            "container_id" => assert!(column.statistics().is_some()),
            _ => assert!(
                encodings.contains(&Encoding::RLE_DICTIONARY),
                "{path}: {encodings:?}"
            ),
        }
    }
    let pairs = metadata.file_metadata().key_value_metadata().unwrap();
    let says = |name: &str| {
        let pair = pairs.iter().find(|pair| pair.key == name);
        pair.and_then(|pair| pair.value.clone()).unwrap()
    };
    assert_eq!(
        says("keymill.software"),
        concat!("keymill ", env!("CARGO_PKG_VERSION"))
    );
    assert_eq!(says("keymill.key_arn"), entry.arn);
    assert_eq!(says("keymill.run").len(), 32);
    assert_eq!(
        says("keymill.context_constants"),
        r#"{"purpose":"containers","tenant":"t-1"}"#
    );
}

/// Serves `rows` rows in all and then fails as a broken connection would; or stops the run.
struct Failing<'a> {
    local: Local<Mint>,
    rows: AtomicU64,
    stop: Option<&'a AtomicBool>,
}

struct FailingWorker<'a> {
    worker: <Local<Mint> as KeySource>::Worker,
    rows: &'a AtomicU64,
    stop: Option<&'a AtomicBool>,
}

impl<'a> KeySource for &'a Failing<'_> {
    type Operation = Mint;
    type Worker = FailingWorker<'a>;

    fn key_arn(&self) -> Option<&str> {
        None
    }

    fn worker(&self) -> Result<FailingWorker<'a>, SourceError> {
        let (worker, rows, stop) = (self.local.worker()?, &self.rows, self.stop);
        Ok(FailingWorker { worker, rows, stop })
    }

    fn rehearse(&self, _row: usize) -> Result<(), RowsError> {
        Ok(())
    }
}

impl KeyWorker for FailingWorker<'_> {
    type Operation = Mint;

    fn begin(&mut self, rows: u64) -> Result<(), SourceError> {
        self.worker.begin(rows)
    }

    fn work(&mut self, count: usize, out: &mut Vec<u8>) -> Result<KeyIdentity, RowsError> {
        let count64 = count as u64;
        let left = self
            .rows
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |rows| {
                rows.checked_sub(count64)
            });
        match (left, self.stop) {
            (Ok(_), _) => {}
            (Err(_), Some(stop)) => stop.store(true, Ordering::SeqCst),
            (Err(_), None) => {
                return Err(SourceError::Connection {
                    endpoint: "test".to_owned(),
                    reason: "broke".to_owned(),
                }
                .into());
            }
        }
        self.worker.work(count, out)
    }

    fn end(&mut self) -> Result<(), SourceError> {
        self.worker.end()
    }
}

fn failing(entry: &Arc<KeyEntry>, rows: u64) -> Failing<'static> {
    Failing {
        local: local(entry, DataKeyLength::AES_256),
        rows: AtomicU64::new(rows),
        stop: None,
    }
}

#[test]
fn a_run_that_fails_keeps_its_parts_and_is_resumed_without_making_them_again() {
    let folder = tempfile::tempdir().unwrap();
    let entry = entry(KeyState::Enabled);
    let plan = plan(folder.path(), 10_500, 1_000);
    let source = failing(&entry, 4_500);
    let error = run(&plan, &&source).unwrap_err();
    assert!(
        matches!(
            error.cause(),
            JobError::Source(SourceError::Connection { .. })
        ),
        "{error}"
    );
    let standing: Vec<_> = names(folder.path())
        .into_iter()
        .filter(|name| name.starts_with("part-"))
        .map(|name| (fs::read(folder.path().join(&name)).unwrap(), name))
        .collect();
    assert!((1..=4).contains(&standing.len()), "{}", standing.len());
    assert!(
        !names(folder.path())
            .iter()
            .any(|name| name.ends_with(".partial"))
    );

    let outcome = run(&plan, &local(&entry, DataKeyLength::AES_256)).unwrap();
    assert_eq!(outcome.ending, Ending::Finished);
    assert_eq!(outcome.rows_written, 10_500 - 1_000 * standing.len() as u64);
    check(&plan, &entry, &outcome.manifest);
    for (bytes, name) in standing {
        assert_eq!(
            fs::read(folder.path().join(&name)).unwrap(),
            bytes,
            "{name} was made again"
        );
    }
}

#[test]
fn what_a_killed_run_left_is_cleared_and_a_part_that_stood_before_its_manifest_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let entry = entry(KeyState::Enabled);
    let plan = plan(folder.path(), 4_000, 1_000);
    let source = local(&entry, DataKeyLength::AES_256);
    let mut manifest = run(&plan, &source).unwrap().manifest;
    // The state after a kill: one part missing, one half written, one renamed but not in the
    // manifest, the lock file.
    let kept = fs::read(folder.path().join("part-00002.parquet")).unwrap();
    manifest
        .parts
        .retain(|part| part.first_row < 1_000 || part.first_row == 3_000);
    manifest.complete = false;
    manifest.rows = 2_000;
    manifest.bytes = manifest.parts.iter().map(|part| part.bytes).sum();
    let text = serde_json::to_vec(&manifest).unwrap();
    fs::write(folder.path().join("_manifest.json"), text).unwrap();
    fs::remove_file(folder.path().join("part-00001.parquet")).unwrap();
    fs::write(
        folder.path().join("_part-00001.parquet.partial"),
        &kept[..5000],
    )
    .unwrap();
    fs::write(folder.path().join("_manifest.json.partial"), "{").unwrap();
    fs::write(folder.path().join("_lock"), "").unwrap();

    let outcome = run(&plan, &source).unwrap();
    assert_eq!(
        (outcome.ending, outcome.rows_written),
        (Ending::Finished, 1_000)
    );
    assert_eq!(
        fs::read(folder.path().join("part-00002.parquet")).unwrap(),
        kept
    );
    assert_eq!(names(folder.path()).len(), 5, "{:?}", names(folder.path()));
    check(&plan, &entry, &outcome.manifest);
}

#[test]
fn told_to_stop_it_ends_after_the_parts_in_progress_and_is_resumed() {
    let folder = tempfile::tempdir().unwrap();
    let entry = entry(KeyState::Enabled);
    let plan = plan(folder.path(), 10_000, 1_000);
    let stop = AtomicBool::new(false);
    let mut source = failing(&entry, 3_000);
    source.stop = Some(&stop);
    let outcome = run_until(&plan, &&source, &stop).unwrap();
    assert_eq!(outcome.ending, Ending::Stopped);
    let rows = outcome.manifest.rows;
    assert!(
        rows.is_multiple_of(1_000) && (1_000..10_000).contains(&rows),
        "{rows}"
    );
    let outcome = run(&plan, &local(&entry, DataKeyLength::AES_256)).unwrap();
    assert_eq!(
        (outcome.ending, outcome.rows_written),
        (Ending::Finished, 10_000 - rows)
    );
    check(&plan, &entry, &outcome.manifest);
}

#[test]
fn a_finished_run_is_not_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let entry = entry(KeyState::Enabled);
    let plan = plan(folder.path(), 2_000, 1_000);
    let first = run(&plan, &local(&entry, DataKeyLength::AES_256)).unwrap();
    // No key was requested at all.
    let again = run(&plan, &&failing(&entry, 0)).unwrap();
    assert_eq!(
        (again.ending, again.rows_written),
        (Ending::FoundFinished, 0)
    );
    assert_eq!(again.manifest, first.manifest);
}

#[test]
fn a_folder_with_other_files_is_refused_and_left_as_it_was() {
    for name in [
        "holiday.jpg",
        "part-1.parquet",
        "part-00000.parquet",
        "_other.partial",
    ] {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(name), "x").unwrap();
        let entry = entry(KeyState::Enabled);
        let refused = run(
            &plan(folder.path(), 10, 10),
            &local(&entry, DataKeyLength::AES_256),
        );
        let foreign = folder.path().join(name);
        assert!(matches!(refused, Err(JobError::ForeignFile(path)) if path == foreign));
        assert_eq!(names(folder.path()), [name]);
    }
}

#[test]
fn a_part_of_another_run_is_not_taken_for_ours() {
    let (ours, theirs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let entry = entry(KeyState::Enabled);
    let source = local(&entry, DataKeyLength::AES_256);
    run(&plan(theirs.path(), 20_000, 10_000), &source).unwrap();
    let plan = plan(ours.path(), 20_000, 10_000);
    // The first rows of a part come, and then no more: there is a manifest, and no part.
    assert!(run(&plan, &&failing(&entry, 8 * 1024)).is_err());
    assert!(ours.path().join("_manifest.json").exists());
    for name in ["part-00000.parquet", "part-00007.parquet"] {
        fs::copy(
            theirs.path().join("part-00000.parquet"),
            ours.path().join(name),
        )
        .unwrap();
        let refused = run(&plan, &source);
        assert!(matches!(refused, Err(JobError::ForeignFile(path)) if path.ends_with(name)));
        fs::remove_file(ours.path().join(name)).unwrap();
    }
    assert!(run(&plan, &source).is_ok());
}

#[test]
fn a_second_run_on_a_folder_in_use_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let entry = entry(KeyState::Enabled);
    let lock = File::create(folder.path().join("_lock")).unwrap();
    lock.try_lock().unwrap();
    let plan = plan(folder.path(), 10, 10);
    let source = local(&entry, DataKeyLength::AES_256);
    assert!(matches!(run(&plan, &source), Err(JobError::FolderInUse(_))));
    drop(lock);
    assert!(run(&plan, &source).is_ok());
}

#[test]
fn other_parameters_do_not_resume_a_run() {
    let folder = tempfile::tempdir().unwrap();
    let entry = entry(KeyState::Enabled);
    let source = failing(&entry, 1_000);
    let begun = plan(folder.path(), 4_000, 1_000);
    run(&begun, &&source).unwrap_err();
    let source = local(&entry, DataKeyLength::AES_256);
    let refused = |plan: &Plan, source: &Local<Mint>| match run(plan, source) {
        Err(JobError::Mismatch { parameter, .. }) => parameter,
        other => panic!("{:?}", other.map(|outcome| outcome.ending)),
    };
    let mut other = begun.clone();
    other.count = NonZeroU64::new(5_000).unwrap();
    assert_eq!(refused(&other, &source), Parameter::Count);
    let mut other = begun.clone();
    other.id_pattern = "c-{}".parse().unwrap();
    assert_eq!(refused(&other, &source), Parameter::IdPattern);
    let mut other = begun.clone();
    other.context = EncryptionContext::default();
    assert_eq!(refused(&other, &source), Parameter::Constants);
    let mut other = begun.clone();
    other.length = DataKeyLength::AES_128;
    assert_eq!(refused(&other, &source), Parameter::KeySpec);
    let another_key = local(&self::entry(KeyState::Enabled), DataKeyLength::AES_256);
    assert_eq!(refused(&begun, &another_key), Parameter::Key);
    // Parts of no particular size: those of the run.
    let mut same = begun.clone();
    same.rows_per_part = None;
    assert_eq!(run(&same, &source).unwrap().ending, Ending::Finished);
    assert_eq!(run(&same, &source).unwrap().ending, Ending::FoundFinished);
}

#[test]
fn a_damaged_folder_is_refused() {
    let entry = entry(KeyState::Enabled);
    let source = local(&entry, DataKeyLength::AES_256);
    let damage = |damage: fn(&Path)| {
        let folder = tempfile::tempdir().unwrap();
        let plan = plan(folder.path(), 2_000, 1_000);
        run(&plan, &source).unwrap();
        damage(folder.path());
        run(&plan, &source).unwrap_err().to_string()
    };
    let cut = damage(|folder| {
        let part = File::options()
            .write(true)
            .open(folder.join("part-00001.parquet"))
            .unwrap();
        part.set_len(100).unwrap();
    });
    assert!(
        cut.contains("part-00001.parquet is not what the manifest says"),
        "{cut}"
    );
    let gone = damage(|folder| fs::remove_file(folder.join("part-00001.parquet")).unwrap());
    assert!(gone.contains("part-00001.parquet"), "{gone}");
    let garbage = damage(|folder| fs::write(folder.join("_manifest.json"), "{}").unwrap());
    assert!(
        garbage.contains("_manifest.json cannot be used"),
        "{garbage}"
    );
    let newer = damage(|folder| {
        let path = folder.join("_manifest.json");
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replace("keymill-export/1", "keymill-export/2")).unwrap();
    });
    assert!(
        newer.contains("its format is keymill-export/2, not keymill-export/1"),
        "{newer}"
    );
}

#[test]
fn a_key_that_may_not_be_used_exports_nothing() {
    let deletion_date = Timestamp(NOW.0 + 1);
    for (state, says) in [
        (KeyState::Disabled, "is disabled"),
        (
            KeyState::PendingDeletion { deletion_date },
            "is pending deletion",
        ),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let refused = run(
            &plan(folder.path(), 10, 10),
            &local(&entry(state), DataKeyLength::AES_256),
        );
        let refusal = refused.unwrap_err().to_string();
        assert!(refusal.contains(says), "{refusal}");
        assert_eq!(names(folder.path()), ["_lock"]);
    }
}

#[test]
fn a_file_system_that_fails_ends_the_run_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let entry = entry(KeyState::Enabled);
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    for (out, said) in [
        (file.clone(), "is a file; name a folder"),
        (file.join("below"), "cannot "),
    ] {
        let refused = run(&plan(&out, 10, 10), &local(&entry, DataKeyLength::AES_256));
        let refusal = refused.unwrap_err().to_string();
        assert!(refusal.contains(said), "{refusal}");
    }
}

#[test]
fn bounds_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let source = local(&entry(KeyState::Enabled), DataKeyLength::AES_256);
    let many = run(&plan(folder.path(), 100_001, 1), &source);
    assert!(matches!(many, Err(JobError::TooManyParts { .. })));
    let large = run(&plan(folder.path(), 10, 1 << 32), &source);
    assert!(matches!(large, Err(JobError::PartTooLarge)));
}
