use super::*;
use crate::clock::Timestamp;
use crate::columns::ContextPairs;
use crate::crypto::block_cipher::BlockCipher;
use crate::crypto::entropy::Entropy;
use crate::envelope::{self, Nonce};
use crate::key::material::BackingKey;
use crate::key::{KeyId, KeyState, KmsKey};
use crate::keystore::KeyEntry;
use crate::table::{Format, Object, location};
use arrow_array::{ArrayRef, BinaryArray, StringArray};
use parquet::arrow::ArrowWriter;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// A key of the store.
fn entry(number: u8, state: KeyState) -> Arc<KeyEntry> {
    let id = KeyId::from_random([number; 16]);
    let material =
        BackingKey::draw(BlockCipher::Aes256, id, 1, Timestamp(0), &Entropy::os()).unwrap();
    let mut key = KmsKey::new(id, "111122223333".parse().unwrap(), Timestamp(0));
    key.state = state;
    Arc::new(KeyEntry {
        key,
        arn: format!("arn:{number}"),
        materials: vec![Arc::new(material)],
        secret: None,
        fence: 1,
    })
}

fn store(entries: &[&Arc<KeyEntry>]) -> Store {
    let keys = entries
        .iter()
        .map(|entry| (entry.key.regional_id(), Arc::clone(entry)));
    let mut snapshot = Snapshot::default();
    snapshot.keys.extend(keys);
    Store(Arc::new(snapshot))
}

fn context() -> EncryptionContext {
    EncryptionContext::from_pairs([("tenant", "a")]).unwrap()
}

/// A blob under a key, bound to [`context`].
fn blob(entry: &KeyEntry) -> Vec<u8> {
    let nonce = Nonce::draw_many(&Entropy::os(), 1).unwrap().next().unwrap();
    let current = entry.current().unwrap();
    let mut blob = Vec::new();
    let (id, context) = (entry.key.id, context());
    envelope::seal_under(nonce, id, current, &context, &[7; 32], &mut blob);
    blob
}

/// A file for each of these lists of blobs.
fn files(folder: &Path, of_files: &[Vec<Vec<u8>>]) -> Vec<Object> {
    let file = |(at, blobs): (usize, &Vec<Vec<u8>>)| {
        let name = format!("{at}.parquet");
        let tenants: ArrayRef = Arc::new(StringArray::from(vec!["a"; blobs.len()]));
        let blobs: ArrayRef = Arc::new(BinaryArray::from_iter_values(blobs));
        let rows = [("tenant", tenants), (column::CIPHERTEXT_BLOB, blobs)];
        let rows = RecordBatch::try_from_iter(rows).unwrap();
        let path = folder.join(&name);
        let out = std::fs::File::create(&path).unwrap();
        let mut writer = ArrowWriter::try_new(out, rows.schema(), None).unwrap();
        writer.write(&rows).unwrap();
        writer.close().unwrap();
        location::file(&path, name).unwrap()
    };
    of_files.iter().enumerate().map(file).collect()
}

fn verified<S: KeySource<Operation = Check, Worker: Send>>(
    of_files: &[Vec<Vec<u8>>],
    source: &S,
) -> Result<Report, JobError> {
    let folder = tempfile::tempdir().unwrap();
    let objects = files(folder.path(), of_files);
    let input = Input {
        format: Format::Parquet,
        objects: &objects,
        workers: NonZeroUsize::MIN,
        watch: &AtomicBool::new(false),
    };
    let pairs = ContextPairs {
        columns: vec!["tenant".to_owned()],
        ..ContextPairs::default()
    };
    let question = Question {
        context: &ContextSource::Pairs(pairs),
        id_column: None,
        scratch: folder.path(),
    };
    verify(&input, &question, source)
}

/// A daemon whose caller may open blobs under some keys alone.
struct Rights {
    opens: Store,
    tried: AtomicUsize,
}

impl KeySource for Rights {
    type Operation = Check;
    type Worker = Store;

    fn key_arn(&self) -> Option<&str> {
        None
    }

    fn worker(&self) -> Result<Store, SourceError> {
        self.opens.worker()
    }

    fn rehearse(&self, row: RowsOf<'_, Check>) -> Result<(), RowsError> {
        self.tried.fetch_add(1, Ordering::SeqCst);
        self.opens.rehearse(row)
    }
}

#[test]
fn a_table_of_which_nothing_opens_is_not_looked_at_however_few_rows_it_has() {
    let (other, mine) = (entry(1, KeyState::Enabled), entry(2, KeyState::Enabled));
    for (rows, tried) in [
        (&[1][..], 1),
        (&[2], 2),
        (&[1, 1], 2),
        (&[1, 0, 1, 1, 1], 3),
        (&[50], 3),
    ] {
        let source = Rights {
            opens: store(&[&mine]),
            tried: AtomicUsize::new(0),
        };
        let of_files = rows.iter().map(|rows| vec![blob(&other); *rows]);
        let refused = verified(&of_files.collect::<Vec<_>>(), &source).unwrap_err();
        assert!(matches!(refused, JobError::Rehearsal { .. }), "{refused}");
        let said = refused.to_string();
        let begin = format!(
            "0.parquet, row 1: NotFoundException: there is no key {}",
            other.key.id
        );
        assert!(said.starts_with(&begin), "{said}");
        assert!(said.ends_with("and nothing else was done"), "{said}");
        assert_eq!(source.tried.into_inner(), tried, "{rows:?}");
    }
}

#[test]
fn one_key_that_is_gone_is_a_finding() {
    let (gone, mine) = (entry(1, KeyState::Enabled), entry(2, KeyState::Enabled));
    let source = store(&[&mine]);
    let good = || blob(&mine);
    for of_files in [
        vec![vec![blob(&gone)], vec![blob(&gone)], vec![good()]],
        vec![vec![blob(&gone), blob(&gone), good()]],
        // What is not a blob is not tried.
        vec![vec![b"no blob".to_vec(), b"no blob".to_vec()], vec![good()]],
    ] {
        let report = verified(&of_files, &source).unwrap();
        assert_eq!((report.rows, report.findings.count), (3, 2));
    }
}

#[test]
fn a_store_without_the_key_and_a_disabled_key_are_one_refusal() {
    let (enabled, disabled) = (entry(1, KeyState::Enabled), entry(1, KeyState::Disabled));
    let rows = [vec![blob(&enabled); 5]];
    for (source, said) in [
        (store(&[]), "row 1: NotFoundException: there is no key"),
        (
            store(&[&disabled]),
            "row 1: KMSInvalidStateException: arn:1 is disabled",
        ),
    ] {
        let refused = verified(&rows, &source).unwrap_err().to_string();
        assert!(refused.contains(said), "{refused}");
    }
    // Blobs that do not open under a key that is there are findings.
    let mut damaged = blob(&enabled);
    *damaged.last_mut().unwrap() ^= 1;
    let report = verified(&[vec![damaged; 2]], &store(&[&enabled])).unwrap();
    assert_eq!(
        report.findings.kept[0].reason,
        "the ciphertext blob does not open"
    );
    // Each is there twice, too.
    assert_eq!(report.findings.count, 3);
}
