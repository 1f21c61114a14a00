//! A million keys in one stream, and ten million rows of an export, each beside the sum of its
//! parts.
//!
//! *Stream.* The daemon has core 0, its client core 1. Beside it: the same keys minted and bound on
//! core 0 into a buffer that is kept, and as many bytes written there in pieces of 1 MiB over a
//! Unix socket to a reader on core 1. The two times are added up.
//!
//! *Export.* The library's own run over both cores, whose source mints in the process. Files stand
//! in memory (`/dev/shm`), where syncing one costs nothing, for all sides; so neither a disk nor
//! its sync is in any figure. Beside it: the same rows minted and bound on both cores; the very
//! table that the export has made, held in memory, written part by part on two threads by the
//! Parquet crate and by pyarrow, with the export's own settings; and its bytes written in pieces of
//! 1 MiB. What an export does beside: a SHA-256 of each part.
//!
//! `KEYS` and `ROWS` in the environment change the counts, to try the bench out.

#![expect(clippy::unwrap_used, reason = "a bench fails by panicking")]
#![expect(clippy::print_stdout, reason = "the table is the result")]

mod machine;
mod mill;
mod minting;
mod rows;
mod served;

use arrow_array::RecordBatch;
use keymill::bulk::local::{Keys, Local};
use keymill::bulk::parquet::properties;
use keymill::bulk::{Progress, Runtime};
use keymill::clock::Clock;
use keymill::crypto::entropy::Entropy;
use keymill::export::{self, IdPattern, Mint, Plan};
use keymill::keystore::KeyEntry;
use keymill::pool;
use keymill::pool::CloneWord;
use mill::Mill;
use minting::{LENGTH, Minting, context};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use rows::{Goal, ROUNDS, Row};
use served::{CLIENT_CORE, Call, Daemon, SERVER_CORE, Transport, pin};
use std::fs::File;
use std::io::{BufRead, BufReader, Lines, Read, Write};
use std::num::{NonZeroU64, NonZeroUsize};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

const BLOB_BYTES: u64 = 96;
/// Bytes of one write.
const PIECE: usize = 1 << 20;
/// Threads that write parts.
const WRITERS: usize = 2;

/// Rows that are encoded at a time, as an export does.
const BATCH_ROWS: usize = 8192;

fn main() {
    if !machine::begins() {
        return;
    }
    std::thread::spawn(|| stream(count("KEYS", 1_000_000)))
        .join()
        .unwrap();
    export(u64::from(count("ROWS", 10_000_000)));
}

fn count(variable: &str, default: u32) -> u32 {
    std::env::var(variable).map_or(default, |count| count.parse().unwrap())
}

fn key() -> Arc<KeyEntry> {
    let unpooled = pool::Config {
        enabled: false,
        ..pool::Config::default()
    };
    Mill::open(unpooled).create_key()
}

fn seconds(work: impl FnOnce()) -> f64 {
    let clock = Clock::system();
    work();
    clock.monotonic().as_secs_f64()
}

/// Million keys a second.
fn rate(keys: u64, seconds: f64) -> f64 {
    keys as f64 / seconds / 1e6
}

fn stream(keys: u32) {
    let daemon = Daemon::start(Some(SERVER_CORE));
    let request = daemon.request(Call::Batch(keys), Transport::Unix);
    pin(CLIENT_CORE);
    let mut client = daemon.address(Transport::Unix).connect();
    let entry = key();
    let keys = u64::from(keys);
    let on_the_servers_core = |work: &(dyn Fn() + Sync)| {
        std::thread::scope(|scope| {
            let work = || {
                pin(SERVER_CORE);
                seconds(work)
            };
            scope.spawn(work).join().unwrap()
        })
    };
    let (mut ours, mut minting, mut writing) = (Vec::new(), Vec::new(), Vec::new());
    client.call(&request);
    for round in 0..ROUNDS {
        for turn in 0..3 {
            match (round + turn) % 3 {
                0 => ours.push(seconds(|| client.call(&request))),
                1 => minting.push(on_the_servers_core(&|| {
                    Minting::under(&entry).mint_and_bind(keys)
                })),
                _ => writing.push(written_to_a_socket(keys * BLOB_BYTES)),
            }
        }
    }
    println!(
        "a stream of {keys} keys: mint and bind alone {:.1} ms, 1 MiB writes of the same bytes {:.1} ms",
        rows::median(minting.clone()) * 1e3,
        rows::median(writing.clone()) * 1e3
    );
    let ours = ours.into_iter().map(|seconds| rate(keys, seconds));
    let sums = minting.into_iter().zip(writing);
    let sums = sums.map(|(minting, writing)| rate(keys, minting + writing));
    Row::new(
        "1,000,000 keys in one octet stream, Unix socket",
        "M keys/s",
    )
    .beside(
        "keymill",
        ours.collect(),
        "mint + bind, and writes",
        sums.collect(),
    )
    .reach(Goal::AtLeast(0.8));
}

/// `bytes` in pieces from a thread on the server's core to this one.
fn written_to_a_socket(bytes: u64) -> f64 {
    let (mut from, mut to) = UnixStream::pair().unwrap();
    let writer = std::thread::spawn(move || {
        pin(SERVER_CORE);
        write_pieces(&mut from, bytes);
    });
    let mut buffer = vec![0; 256 * 1024];
    let took = seconds(|| while to.read(&mut buffer).unwrap() > 0 {});
    writer.join().unwrap();
    took
}

fn write_pieces(to: &mut impl Write, bytes: u64) {
    let piece = vec![7; PIECE];
    let mut left = bytes;
    while left > 0 {
        let count = usize::try_from(left.min(PIECE as u64)).unwrap();
        to.write_all(&piece[..count]).unwrap();
        left -= count as u64;
    }
}

/// Runs `write` for every part, on both cores.
fn by_part<P: Sync>(parts: &[P], write: impl Fn(usize, &P) + Sync) -> f64 {
    seconds(|| {
        std::thread::scope(|scope| {
            for writer in 0..WRITERS {
                let write = &write;
                scope.spawn(move || {
                    for (number, part) in parts.iter().enumerate().skip(writer).step_by(WRITERS) {
                        write(number, part);
                    }
                });
            }
        });
    })
}

fn export(rows: u64) {
    let folder = tempfile::tempdir_in("/dev/shm").unwrap();
    let path = |name: &str| folder.path().join(name);
    let entry = key();
    // The table of one run, which the others write.
    let first = path("first");
    exported(&entry, rows, &first);
    let parts = parts(&first);
    let bytes: Vec<u64> = parts
        .iter()
        .map(|part| part.metadata().unwrap().len())
        .collect();
    let tables: Vec<Vec<RecordBatch>> = parts.iter().map(|part| table(part)).collect();
    for out in ["crate", "pyarrow", "write"] {
        std::fs::create_dir(path(out)).unwrap();
    }
    let mut pyarrow = Pyarrow::start(&first, &path("pyarrow"));
    std::fs::remove_dir_all(&first).unwrap();

    let half = [rows / 2, rows - rows / 2];
    let mut times: [Vec<f64>; 5] = Default::default();
    let (mut by_crate_bytes, mut by_pyarrow_bytes) = (0, 0);
    for round in 0..ROUNDS {
        for turn in 0..times.len() {
            let side = (round + turn) % times.len();
            let took = match side {
                0 => {
                    let out = path("ours");
                    let took = exported(&entry, rows, &out);
                    std::fs::remove_dir_all(&out).unwrap();
                    took
                }
                1 => by_part(&half, |_, rows| Minting::under(&entry).mint_and_bind(*rows)),
                2 => {
                    let took = by_part(&tables, |number, table| {
                        write_table(&path("crate").join(number.to_string()), table);
                    });
                    by_crate_bytes = emptied(&path("crate"));
                    took
                }
                3 => {
                    let took = pyarrow.write();
                    by_pyarrow_bytes = emptied(&path("pyarrow"));
                    took
                }
                _ => {
                    let took = by_part(&bytes, |number, bytes| {
                        let path = path("write").join(number.to_string());
                        write_pieces(&mut File::create(path).unwrap(), *bytes);
                    });
                    emptied(&path("write"));
                    took
                }
            };
            times[side].push(took);
        }
    }
    let [ours, minting, by_crate, by_pyarrow, written] = times;
    println!(
        "an export of {rows} rows, {} bytes (the crate's {by_crate_bytes}, pyarrow's {by_pyarrow_bytes}): mint and bind alone {:.2} s, the Parquet crate alone {:.2} s",
        bytes.iter().sum::<u64>(),
        rows::median(minting.clone()),
        rows::median(by_crate.clone())
    );
    let rates = |times: &[f64]| {
        times
            .iter()
            .map(|time| rate(rows, *time))
            .collect::<Vec<_>>()
    };
    let sums: Vec<f64> = minting
        .iter()
        .zip(&by_crate)
        .map(|(mint, write)| mint + write)
        .collect();
    let row = |beside: &str| {
        Row::new(
            format!("export, 10,000,000 rows, both cores, no fsync, beside {beside}"),
            "M rows/s",
        )
    };
    row("mint + bind and the Parquet crate")
        .beside("keymill", rates(&ours), "the sum", rates(&sums))
        .reach(Goal::AtLeast(0.8));
    row("pyarrow")
        .beside(
            "keymill",
            rates(&ours),
            "pyarrow, ready-made",
            rates(&by_pyarrow),
        )
        .reach(Goal::AtLeast(1.0));
    row("write(2)")
        .beside(
            "keymill",
            rates(&ours),
            "write(2) of the same bytes",
            rates(&written),
        )
        .reach(Goal::Shown);
}

/// Seconds of a run.
fn exported(entry: &Arc<KeyEntry>, rows: u64, out: &Path) -> f64 {
    let entropy = Arc::new(Entropy::os());
    let plan = Plan {
        key: entry.arn.clone(),
        length: LENGTH,
        count: NonZeroU64::new(rows).unwrap(),
        id_pattern: IdPattern::DEFAULT.parse().unwrap(),
        context: context(),
        rows_per_part: None,
        out: out.to_owned().into(),
        workers: NonZeroUsize::new(WRITERS).unwrap(),
    };
    let source = Local {
        work: Mint {
            key: entry.arn.clone(),
            length: LENGTH,
            context: context(),
        },
        keys: Keys {
            entry: Arc::clone(entry),
            entropy: Arc::clone(&entropy),
            clone_word: Arc::new(CloneWord::new()),
        },
        recorder: None,
    };
    let runtime = Runtime {
        clock: Clock::system(),
        entropy: &entropy,
        progress: &Progress::silent(),
        stop: &AtomicBool::new(false),
    };
    seconds(|| {
        let outcome = export::run(&plan, &source, &runtime).unwrap();
        assert_eq!(outcome.rows_written, rows);
    })
}

fn parts(folder: &Path) -> Vec<PathBuf> {
    let files = std::fs::read_dir(folder).unwrap();
    let mut parts: Vec<_> = files
        .map(|file| file.unwrap().path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "parquet")
        })
        .collect();
    parts.sort();
    parts
}

fn table(part: &Path) -> Vec<RecordBatch> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(part).unwrap()).unwrap();
    let reader = reader.with_batch_size(BATCH_ROWS);
    reader.build().unwrap().map(Result::unwrap).collect()
}

fn write_table(path: &Path, table: &[RecordBatch]) {
    let file = File::create(path).unwrap();
    let properties = Some(properties::properties().build());
    let mut writer = ArrowWriter::try_new(file, table[0].schema(), properties).unwrap();
    for batch in table {
        writer.write(batch).unwrap();
    }
    writer.close().unwrap();
}

/// Removes the files of a folder, and returns their bytes.
fn emptied(folder: &Path) -> u64 {
    let files = std::fs::read_dir(folder).unwrap();
    let bytes = files.map(|file| {
        let file = file.unwrap();
        let bytes = file.metadata().unwrap().len();
        std::fs::remove_file(file.path()).unwrap();
        bytes
    });
    bytes.sum()
}

/// pyarrow in a process of its own, the table in its memory.
struct Pyarrow {
    child: Child,
    orders: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Pyarrow {
    fn start(parts: &Path, out: &Path) -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let python = root.join("tests/clients/.venv/bin/python");
        assert!(
            python.exists(),
            "`benches/table` and `tests/run` install pyarrow"
        );
        let mut child = Command::new(python)
            .arg(root.join("benches/ready_made.py"))
            .args([parts, out])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let answers = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut started = Self {
            orders: child.stdin.take().unwrap(),
            answers,
            child,
        };
        assert_eq!(started.answer(), "ready");
        started
    }

    fn answer(&mut self) -> String {
        self.answers.next().unwrap().unwrap()
    }

    /// Seconds that the table took.
    fn write(&mut self) -> f64 {
        self.orders.write_all(b"write\n").unwrap();
        self.answer().parse().unwrap()
    }
}

impl Drop for Pyarrow {
    fn drop(&mut self) {
        let killed = self.child.kill().and_then(|()| self.child.wait());
        assert!(killed.is_ok(), "{killed:?}");
    }
}
