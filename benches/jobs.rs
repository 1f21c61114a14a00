//! `provision` and `rewrap` of ten million rows, each beside the sum of its parts.
//!
//! Both are the library's own runs over both cores, on a store in this process: a row has a context
//! of two columns, and every part its record in the audit log. Files stand in memory (`/dev/shm`),
//! where syncing one costs nothing, for all sides.
//!
//! *Copy.* The same table with 96 random bytes in every row, read and written part by part on two
//! threads by the reader and the writer of the jobs. It has no columns beside these and one that is
//! the same in every row, makes no context, looks through nothing beforehand and sums nothing up;
//! jobs do.
//!
//! *Open, seal.* As many blobs opened, and as many keys sealed, on both cores, with contexts that
//! are there already.
//!
//! `ROWS` in the environment changes the count, to try the bench out.

#![expect(clippy::unwrap_used, reason = "a bench fails by panicking")]
#![expect(clippy::print_stdout, reason = "the table is the result")]

mod machine;
mod mill;
mod rows;
mod volumes;

use arrow_array::{BinaryArray, RecordBatch};
use keymill::bulk::local::{Keys, Local, Recorder};
use keymill::bulk::parquet::properties::{Layout, ROW_GROUP_ROWS, column};
use keymill::bulk::parquet::{BATCH_ROWS, Constants, PartEncoder};
use keymill::bulk::{Progress, Runtime, TableJob, rows_per_part};
use keymill::clock::Clock;
use keymill::context::EncryptionContext;
use keymill::crypto::entropy::Entropy;
use keymill::envelope::{self, CiphertextBlob, Epoch};
use keymill::key::data_key::DataKeyLength;
use keymill::keystore::KeyEntry;
use keymill::pool;
use keymill::provision;
use keymill::rewrap;
use keymill::table::{FolderNames, Location};
use mill::Mill;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder,
};
use parquet::file::properties::WriterProperties;
use rows::{Goal, ROUNDS, Row, median};
use std::fs::File;
use std::hint::black_box;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

const LENGTH: DataKeyLength = DataKeyLength::AES_256;
const WORKERS: NonZeroUsize = NonZeroUsize::new(2).unwrap();
/// Blobs and contexts that open and seal go through, again and again: more than any cache holds.
const SAMPLE: usize = 1 << 18;

fn main() {
    if !machine::begins() {
        return;
    }
    let rows = std::env::var("ROWS").map_or(10_000_000, |rows| rows.parse().unwrap());
    let bench = Bench::new(rows);
    bench.run();
}

/// A store, and the tables.
struct Bench {
    rows: u64,
    mill: Mill,
    key: Arc<KeyEntry>,
    folder: tempfile::TempDir,
}

fn seconds(work: impl FnOnce()) -> f64 {
    let clock = Clock::system();
    work();
    clock.monotonic().as_secs_f64()
}

/// Runs `work` on as many threads as a job has workers.
fn on_each_core(work: impl Fn() + Sync) -> f64 {
    seconds(|| {
        std::thread::scope(|scope| {
            for _ in 0..WORKERS.get() {
                scope.spawn(&work);
            }
        });
    })
}

impl Bench {
    fn new(rows: u64) -> Self {
        let mill = Mill::open(pool::Config {
            enabled: false,
            ..pool::Config::default()
        });
        let bench = Self {
            rows,
            key: mill.create_key(),
            mill,
            folder: tempfile::tempdir_in("/dev/shm").unwrap(),
        };
        volumes::write(&bench.path("volumes.parquet"), rows);
        bench.write_ready_made();
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn location(&self, name: &str) -> Location {
        self.path(name).to_str().unwrap().parse().unwrap()
    }

    /// The table with a column of ready blobs.
    fn write_ready_made(&self) {
        let with_blobs = |rows: &RecordBatch| {
            let mut blobs = vec![0; rows.num_rows() * 96];
            Entropy::os().draw(&mut blobs).unwrap();
            let blobs = BinaryArray::from_iter_values(blobs.chunks(96));
            let fields = rows.schema().fields().iter().cloned().collect::<Vec<_>>();
            let own = Arc::new(keymill::bulk::parquet::properties::field(
                column::CIPHERTEXT_BLOB,
            ));
            let fields: Vec<_> = fields.into_iter().chain([own]).collect();
            let mut columns = rows.columns().to_vec();
            columns.push(Arc::new(blobs));
            let schema = Arc::new(arrow_schema::Schema::new(fields));
            RecordBatch::try_new(schema, columns).unwrap()
        };
        let properties = WriterProperties::builder()
            .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
            .set_column_dictionary_enabled(column::CIPHERTEXT_BLOB.into(), false)
            .build();
        let file = File::create(self.path("ready.parquet")).unwrap();
        let schema = with_blobs(&volumes::rows(0, 0)).schema();
        let mut writer = ArrowWriter::try_new(file, schema, Some(properties)).unwrap();
        for (first, count) in volumes::batches(self.rows) {
            writer
                .write(&with_blobs(&volumes::rows(first, count)))
                .unwrap();
        }
        writer.close().unwrap();
    }

    /// The table of ready blobs, read and written.
    fn copied(&self) -> f64 {
        let out = self.path("copy");
        std::fs::create_dir(&out).unwrap();
        let ready = || File::open(self.path("ready.parquet")).unwrap();
        let footer = ArrowReaderMetadata::load(&ready(), ArrowReaderOptions::new()).unwrap();
        let kept = arrow_schema::Schema::new(footer.schema().fields()[..3].to_vec());
        // One column that is the same in every row of a part: the writer has at least one.
        let own = [column::CIPHERTEXT_BLOB, column::KEY_ARN];
        let layout = Layout::beside(&kept, &own, &[column::KEY_ARN], &[volumes::ID]);
        let part_rows = rows_per_part(self.rows, WORKERS);
        let groups_of_part = usize::try_from(part_rows).unwrap() / ROW_GROUP_ROWS;
        let groups = footer.metadata().num_row_groups();
        let next = AtomicUsize::new(0);
        let took = on_each_core(|| {
            let constants = Constants {
                key_arn: String::new(),
                key_material_id: String::new(),
                key_spec: String::new(),
                context: EncryptionContext::default(),
            };
            let mut encoder = PartEncoder::new(layout.clone(), constants);
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let first = number * groups_of_part;
                if first >= groups {
                    break;
                }
                let reader =
                    ParquetRecordBatchReaderBuilder::new_with_metadata(ready(), footer.clone())
                        .with_row_groups((first..groups.min(first + groups_of_part)).collect())
                        .with_batch_size(BATCH_ROWS)
                        .build()
                        .unwrap();
                let file = File::create(out.join(number.to_string())).unwrap();
                let mut writer = encoder.begin(file, []).unwrap();
                for batch in reader {
                    writer.write(batch.unwrap().columns()).unwrap();
                }
                writer.finish().unwrap();
            }
        });
        std::fs::remove_dir_all(out).unwrap();
        took
    }

    fn recorder(&self, event: &'static str) -> Recorder {
        Recorder {
            api: Arc::clone(&self.mill.core.api),
            requester: self.mill.operator(),
            runtime: self.mill.runtime.handle().clone(),
            event,
        }
    }

    fn local<W>(&self, work: W, event: &'static str) -> Local<W> {
        Local {
            work,
            keys: Keys {
                entry: Arc::clone(&self.key),
                entropy: Arc::clone(&self.mill.core.entropy),
                clone_word: Arc::clone(&self.mill.core.clone_word),
            },
            recorder: Some(self.recorder(event)),
        }
    }

    fn job<T>(&self, perform: impl FnOnce(&Runtime<'_>) -> T) -> T {
        perform(&Runtime {
            clock: Clock::system(),
            entropy: &self.mill.core.entropy,
            progress: &Progress::silent(),
            stop: &AtomicBool::new(false),
        })
    }

    /// A job on a table that is there.
    fn on(&self, table: &str, out: &Path) -> TableJob {
        TableJob {
            key: self.key.arn.clone(),
            inputs: vec![self.location(table)],
            folder_names: FolderNames::default(),
            rows_per_part: None,
            out: out.to_owned().into(),
            workers: WORKERS,
            runtime: self.mill.runtime.handle().clone(),
        }
    }

    fn provisioned(&self, out: &Path) -> f64 {
        let plan = provision::Plan {
            job: self.on("volumes.parquet", out),
            length: LENGTH,
            format: None,
            encoding: None,
            id_column: volumes::ID.to_owned(),
            pairs: volumes::pairs(),
            skip: false,
            context_map: false,
        };
        let bind = provision::Bind {
            key: self.key.arn.clone(),
            length: LENGTH,
            pairs: volumes::pairs(),
        };
        let source = self.local(bind, "Provision");
        seconds(|| {
            let run = |runtime: &Runtime<'_>| provision::run(&plan, &source, &b""[..], runtime);
            assert_eq!(self.job(run).unwrap().rows_written, self.rows);
        })
    }

    fn rewrapped(&self, from: &str, out: &Path) -> f64 {
        let plan = rewrap::Plan {
            job: self.on(from, out),
            context: None,
            new_context: None,
            context_map: false,
        };
        let reseal = rewrap::LocalReseal(self.mill.core.keystore.snapshot());
        let source = self.local(reseal, "Rewrap");
        seconds(|| {
            let run = |runtime: &Runtime<'_>| rewrap::run(&plan, &source, runtime);
            assert_eq!(self.job(run).unwrap().rows_written, self.rows);
        })
    }

    fn run(&self) {
        let sample = Sample::new(&self.mill, &self.key);
        let provisioned = self.path("provisioned");
        self.provisioned(&provisioned);
        let mut times: [Vec<f64>; 5] = Default::default();
        let out = self.path("out");
        for round in 0..ROUNDS {
            for turn in 0..times.len() {
                let side = (round + turn) % times.len();
                let took = match side {
                    0 => self.provisioned(&out),
                    1 => self.copied(),
                    2 => self.rewrapped("provisioned", &out),
                    3 => sample.opened(self.rows),
                    _ => sample.sealed(self.rows),
                };
                if out.exists() {
                    std::fs::remove_dir_all(&out).unwrap();
                }
                times[side].push(took);
            }
        }
        let [provision, copy, rewrap, open, seal] = times;
        println!(
            "{} rows on both cores: provision {:.2} s, copy {:.2} s, rewrap {:.2} s, open {:.2} s, seal {:.2} s",
            self.rows,
            median(provision.clone()),
            median(copy.clone()),
            median(rewrap.clone()),
            median(open.clone()),
            median(seal.clone())
        );
        let rate = |time: &f64| self.rows as f64 / time / 1e6;
        let rates = |times: &[f64]| times.iter().map(rate).collect::<Vec<_>>();
        Row::new(
            "provision, 10,000,000 rows, context of two columns, no fsync",
            "M rows/s",
        )
        .beside(
            "keymill",
            rates(&provision),
            "copy of a ready table",
            rates(&copy),
        )
        .reach(Goal::AtLeast(0.45));
        let sums: Vec<_> = copy
            .iter()
            .zip(&open)
            .zip(&seal)
            .map(|((copy, open), seal)| copy + open + seal)
            .collect();
        Row::new("rewrap, 10,000,000 rows, no fsync", "M rows/s")
            .beside(
                "keymill",
                rates(&rewrap),
                "open, seal and the copy",
                rates(&sums),
            )
            .reach(Goal::AtLeast(0.7));
    }
}

/// Blobs, their contexts, and a key to put them under.
struct Sample {
    key: Arc<KeyEntry>,
    entropy: Arc<Entropy>,
    contexts: Vec<EncryptionContext>,
    blobs: Vec<u8>,
}

impl Sample {
    fn new(mill: &Mill, key: &Arc<KeyEntry>) -> Self {
        let entropy = Arc::clone(&mill.core.entropy);
        let contexts = volumes::contexts(&volumes::rows(0, SAMPLE));
        let material = key.current().unwrap();
        let mut epoch = Epoch::begin(key.key.id, material, &entropy, Duration::ZERO).unwrap();
        let mut minted = epoch.mint(LENGTH, SAMPLE, Duration::ZERO).unwrap();
        let mut blobs = Vec::new();
        for context in &contexts {
            minted.bind_many(1, context, &mut blobs);
        }
        Self {
            key: Arc::clone(key),
            entropy,
            contexts,
            blobs,
        }
    }

    /// Goes through `rows` rows on both cores.
    fn go_through(&self, rows: u64, of_row: impl Fn(&EncryptionContext, &[u8]) + Sync) -> f64 {
        let each = usize::try_from(rows).unwrap() / WORKERS.get();
        on_each_core(|| {
            let rows = self.contexts.iter().zip(self.blobs.chunks_exact(96));
            for (context, blob) in rows.cycle().take(each) {
                of_row(context, blob);
            }
        })
    }

    fn opened(&self, rows: u64) -> f64 {
        let (key, material) = (&self.key, self.key.current().unwrap());
        self.go_through(rows, |context, blob| {
            let blob = CiphertextBlob::parse(blob).unwrap();
            black_box(envelope::open(key.key.id, material, context, &blob).is_ok());
        })
    }

    fn sealed(&self, rows: u64) -> f64 {
        let (key, material) = (&self.key, self.key.current().unwrap());
        self.go_through(rows, |context, blob| {
            let sealed = envelope::seal(key.key.id, material, context, &blob[..32], &self.entropy);
            black_box(sealed.is_ok());
        })
    }
}
