//! Where the time of a row of `export`, `provision` and `rewrap` goes, as a table and as the
//! picture `docs/stages.svg`.
//!
//! Each job runs whole, with one worker, on a store in this process; its parts stand in memory
//! (`/dev/shm`). Then each of its stages is done by itself, for as many rows, by the functions that
//! the job calls. What is left of the job's time is *the rest*: reading the table, ids, pages,
//! footers. All figures are CPU time of the process, which holds on a machine that does other
//! things as well: the median of a few turns.
//!
//! `ROWS` in the environment changes the count, to try the bench out.

#![expect(clippy::unwrap_used, reason = "a bench fails by panicking")]

mod bars;
mod machine;
mod mill;
mod rows;
mod volumes;

use bars::Bar;
use keymill::audit::RowsDigest;
use keymill::bulk::local::{Keys, Local, LocalWork};
use keymill::bulk::parquet::BATCH_ROWS;
use keymill::bulk::{Out, Progress, Runtime, TableJob};
use keymill::clock::Clock;
use keymill::context::{ContextRuns, EncryptionContext};
use keymill::envelope::blob::OVERHEAD_BYTES;
use keymill::envelope::{self, CiphertextBlob, Nonce};
use keymill::export;
use keymill::key::data_key::DataKeyLength;
use keymill::keystore::KeyEntry;
use keymill::pool;
use keymill::provision;
use keymill::rewrap;
use keymill::table::{self, FolderNames, Format, Input, Location, Question};
use mill::Mill;
use rows::median;
use rustix::time::{ClockId, clock_gettime};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::hint::black_box;
use std::io::Write;
use std::num::{NonZeroU64, NonZeroUsize};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

const LENGTH: DataKeyLength = DataKeyLength::AES_256;
const BLOB_BYTES: usize = OVERHEAD_BYTES + 32;
const TURNS: usize = 5;
/// Bytes that are hashed or written at a time: a page of blobs.
const PAGE_BYTES: usize = BATCH_ROWS * BLOB_BYTES;

fn main() {
    if !machine::begins() {
        return;
    }
    let rows = std::env::var("ROWS").map_or(2_000_000, |rows| rows.parse().unwrap());
    Bench::new(rows).run();
}

/// CPU seconds of this process so far.
fn cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// A store, a table, and the contexts of its rows.
struct Bench {
    rows: u64,
    mill: Mill,
    key: Arc<KeyEntry>,
    folder: tempfile::TempDir,
    contexts: Vec<EncryptionContext>,
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
            contexts: volumes::contexts(&volumes::rows(0, BATCH_ROWS)),
        };
        volumes::write(&bench.path("volumes.parquet"), rows);
        bench
    }

    fn run(&self) {
        let export = self.job("export", || self.exported());
        let provision = self.job("provision", || self.provisioned("out"));
        self.provisioned("provisioned");
        let rewrap = self.job("rewrap", || self.rewrapped());
        let bars = [
            export
                .and(
                    "mint and bind",
                    self.cost(|| self.minted(&self.one_context())),
                )
                .and("digest of the rows", self.cost(|| self.digested()))
                .with_bytes(self),
            provision
                .and("first look", self.cost(|| self.looked()))
                .and("mint and bind", self.cost(|| self.minted(&self.contexts)))
                .and("digest of the rows", self.cost(|| self.digested()))
                .with_bytes(self),
            rewrap
                .and("open", self.cost(|| self.opened()))
                .and("seal", self.cost(|| self.sealed()))
                .and("digest of the rows", self.cost(|| self.digested()))
                .with_bytes(self),
        ]
        .map(Stages::bar);
        bars::print(&bars);
        let machine = machine::machine();
        let title = "CPU time of a row of AES_256, one worker, in nanoseconds";
        std::fs::write(bars::path("stages"), bars::svg(title, &machine, &bars)).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn location(&self, name: &str) -> Location {
        self.path(name).to_str().unwrap().parse().unwrap()
    }

    /// Nanoseconds of a row that `work` takes.
    fn cost(&self, work: impl Fn()) -> f64 {
        let turns = (0..TURNS).map(|_| {
            let before = cpu_seconds();
            work();
            (cpu_seconds() - before) * 1e9 / self.rows as f64
        });
        median(turns.collect())
    }

    /// The cost of a job that writes `out`.
    fn job(&self, name: &'static str, work: impl Fn()) -> Stages {
        let out = self.path("out");
        let mut bytes = 0;
        let mut turns = Vec::new();
        for _ in 0..TURNS {
            let before = cpu_seconds();
            work();
            turns.push((cpu_seconds() - before) * 1e9 / self.rows as f64);
            let parts = std::fs::read_dir(&out).unwrap();
            bytes = parts
                .map(|part| part.unwrap().metadata().unwrap().len())
                .sum();
            std::fs::remove_dir_all(&out).unwrap();
        }
        Stages {
            name,
            whole: median(turns),
            bytes,
            stages: Vec::new(),
        }
    }

    fn local<W: LocalWork>(&self, work: W) -> Local<W> {
        Local {
            work,
            keys: Keys {
                entry: Arc::clone(&self.key),
                entropy: Arc::clone(&self.mill.core.entropy),
                clone_word: Arc::clone(&self.mill.core.clone_word),
            },
            recorder: None,
        }
    }

    fn performed<T>(&self, perform: impl FnOnce(&Runtime<'_>) -> T) -> T {
        perform(&Runtime {
            clock: Clock::system(),
            entropy: &self.mill.core.entropy,
            progress: &Progress::silent(),
            stop: &AtomicBool::new(false),
        })
    }

    fn out(&self, name: &str) -> Out {
        self.path(name).into()
    }

    fn one_context(&self) -> Vec<EncryptionContext> {
        let context = EncryptionContext::from_pairs([("purpose", "containers")]);
        vec![context.unwrap(); BATCH_ROWS]
    }

    fn exported(&self) {
        let context = self.one_context().remove(0);
        let plan = export::Plan {
            key: self.key.arn.clone(),
            length: LENGTH,
            count: NonZeroU64::new(self.rows).unwrap(),
            id_pattern: export::IdPattern::DEFAULT.parse().unwrap(),
            context: context.clone(),
            rows_per_part: None,
            out: self.out("out"),
            workers: NonZeroUsize::MIN,
        };
        let source = self.local(export::Mint {
            key: self.key.arn.clone(),
            length: LENGTH,
            context,
        });
        let outcome = self.performed(|runtime| export::run(&plan, &source, runtime));
        assert_eq!(outcome.unwrap().rows_written, self.rows);
    }

    /// A job on a table that is there.
    fn on(&self, table: &str, out: &str) -> TableJob {
        TableJob {
            key: self.key.arn.clone(),
            inputs: vec![self.location(table)],
            folder_names: FolderNames::default(),
            rows_per_part: None,
            out: self.out(out),
            workers: NonZeroUsize::MIN,
            runtime: self.mill.runtime.handle().clone(),
        }
    }

    fn provisioned(&self, out: &str) {
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
        let source = self.local(provision::Bind {
            key: self.key.arn.clone(),
            length: LENGTH,
            pairs: volumes::pairs(),
        });
        let run = |runtime: &Runtime<'_>| provision::run(&plan, &source, &b""[..], runtime);
        assert_eq!(self.performed(run).unwrap().rows_written, self.rows);
    }

    fn rewrapped(&self) {
        let plan = rewrap::Plan {
            job: self.on("provisioned", "out"),
            context: None,
            new_context: None,
            context_map: false,
        };
        let reseal = rewrap::LocalReseal(self.mill.core.keystore.snapshot());
        let source = self.local(reseal);
        let run = |runtime: &Runtime<'_>| rewrap::run(&plan, &source, runtime);
        assert_eq!(self.performed(run).unwrap().rows_written, self.rows);
    }

    /// Goes through the rows, a batch at a time.
    fn by_batches(&self, mut of_batch: impl FnMut(usize)) {
        for (_, count) in volumes::batches(self.rows) {
            of_batch(count);
        }
    }

    fn minted(&self, contexts: &[EncryptionContext]) {
        let (key, material) = (&self.key, self.key.current().unwrap());
        let entropy = &self.mill.core.entropy;
        let mut runs = ContextRuns::default();
        for context in contexts {
            let pairs: Vec<_> = context.pairs().collect();
            runs.push(pairs.iter().copied()).unwrap();
        }
        let mut blobs = Vec::new();
        self.by_batches(|_| {
            blobs.clear();
            envelope::mint_rows(
                key.key.id,
                material,
                LENGTH,
                entropy,
                runs.iter(),
                &mut blobs,
            )
            .unwrap();
            black_box(&blobs);
        });
    }

    fn digested(&self) {
        let blobs = vec![7; PAGE_BYTES];
        let mut digest = RowsDigest::default();
        self.by_batches(|count| digest.add(count as u64, black_box(&blobs[..count * BLOB_BYTES])));
        black_box(digest.batch());
    }

    fn hashed(&self, bytes: u64) {
        let page = vec![7; PAGE_BYTES];
        let mut hash = Sha256::new();
        by_pages(bytes, |length| hash.update(black_box(&page[..length])));
        black_box(hash.finalize());
    }

    fn written(&self, bytes: u64) {
        let path = self.path("written");
        let page = vec![7; PAGE_BYTES];
        let mut file = File::create(&path).unwrap();
        by_pages(bytes, |length| file.write_all(&page[..length]).unwrap());
        drop(file);
        std::fs::remove_file(path).unwrap();
    }

    fn looked(&self) {
        let path = self.path("volumes.parquet");
        let object = table::location::file(&path, "volumes.parquet".to_owned()).unwrap();
        let input = Input {
            format: Format::Parquet,
            objects: &[object],
            workers: NonZeroUsize::MIN,
            watch: &AtomicBool::new(false),
        };
        let question = Question {
            id_column: volumes::ID,
            pairs: &volumes::pairs(),
            skip: false,
        };
        let scanned = table::scan(&input, &question, &self.path("spill")).unwrap();
        assert_eq!(scanned.plan.count(), self.rows);
    }

    /// Blobs of a batch of rows, one for each context.
    fn blobs(&self) -> Vec<Vec<u8>> {
        let (key, material) = (&self.key, self.key.current().unwrap());
        let entropy = &self.mill.core.entropy;
        let blob = |context| envelope::seal(key.key.id, material, context, &[7; 32], entropy);
        self.contexts
            .iter()
            .map(|context| blob(context).unwrap())
            .collect()
    }

    fn opened(&self) {
        let (key, material, blobs) = (&self.key, self.key.current().unwrap(), self.blobs());
        self.by_batches(|count| {
            for (context, blob) in self.contexts.iter().zip(&blobs).take(count) {
                let blob = CiphertextBlob::parse(blob).unwrap();
                assert!(envelope::open(key.key.id, material, context, &blob).is_ok());
            }
        });
    }

    fn sealed(&self) {
        let (key, material) = (&self.key, self.key.current().unwrap());
        self.by_batches(|count| {
            let nonces = Nonce::draw_many(&self.mill.core.entropy, count).unwrap();
            let mut blobs = Vec::new();
            for (context, nonce) in self.contexts.iter().zip(nonces) {
                let id = key.key.id;
                envelope::seal_under(nonce, id, material, context, &[7; 32], &mut blobs);
            }
            black_box(blobs);
        });
    }
}

fn by_pages(bytes: u64, mut of_page: impl FnMut(usize)) {
    let mut left = usize::try_from(bytes).unwrap();
    while left > 0 {
        let length = left.min(PAGE_BYTES);
        of_page(length);
        left -= length;
    }
}

/// A job, and those of its stages that were measured by themselves.
struct Stages {
    name: &'static str,
    whole: f64,
    /// Of all its parts.
    bytes: u64,
    stages: Vec<(&'static str, f64)>,
}

impl Stages {
    fn and(mut self, name: &'static str, cost: f64) -> Self {
        self.stages.push((name, cost));
        self
    }

    /// What is done with every byte of its parts.
    fn with_bytes(self, bench: &Bench) -> Self {
        let bytes = self.bytes;
        self.and("SHA-256 of the part", bench.cost(|| bench.hashed(bytes)))
            .and("write(2)", bench.cost(|| bench.written(bytes)))
    }

    fn bar(mut self) -> Bar {
        let known: f64 = self.stages.iter().map(|(_, cost)| cost).sum();
        self.stages
            .push(("the rest", (self.whole - known).max(0.0)));
        Bar {
            name: self.name,
            pieces: self.stages,
        }
    }
}
