//! Tables as people may have left them, put through a whole job: the first look, and every part.

use keymill::bulk::keys::{KeySource, KeyWorker, RowsError};
use keymill::bulk::{Ending, JobError, KeyIdentity, Progress, Runtime, SourceError, TableJob};
use keymill::census::census;
use keymill::clock::Clock;
use keymill::columns::ContextPairs;
use keymill::crypto::entropy::Entropy;
use keymill::key::data_key::DataKeyLength;
use keymill::provision::bind::Contexts;
use keymill::provision::{self, Bind, Plan};
use keymill::table::{FolderNames, Format, Input, Location};
use std::error::Error;
use std::fs;
use std::num::{NonZeroU64, NonZeroUsize};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use tempfile::TempDir;

/// The column of ids of every table.
pub const ID_COLUMN: &str = "id";
/// The column of every table's contexts.
pub const CONTEXT_COLUMN: &str = "tenant";
/// The key that parts name.
const KEY_ARN: &str = "arn:aws:kms:us-east-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab";
/// Bytes of a blob of AES_256.
const BLOB_BYTES: usize = 96;

/// Blobs that are the header of one key and a count: what a table is made of is what matters here.
struct Blobs {
    /// The last part's rows are refused.
    fails: bool,
}

impl KeySource for Blobs {
    type Operation = Bind;
    type Worker = Counted;

    fn key_arn(&self) -> Option<&str> {
        Some(KEY_ARN)
    }

    fn worker(&self) -> Result<Counted, SourceError> {
        Ok(Counted {
            made: 0,
            fails: self.fails,
        })
    }

    fn rehearse(&self, _row: Contexts<'_>) -> Result<(), RowsError> {
        Ok(())
    }
}

struct Counted {
    made: u64,
    fails: bool,
}

impl KeyWorker for Counted {
    type Operation = Bind;

    fn work(&mut self, rows: Contexts<'_>, out: &mut Vec<u8>) -> Result<KeyIdentity, RowsError> {
        let count: usize = rows.runs.iter().map(|(_, rows)| rows).sum();
        for _ in 0..count {
            let mut blob = [0; BLOB_BYTES];
            blob[..2].fill(1);
            blob[20] = 1;
            blob[24..32].copy_from_slice(&self.made.to_le_bytes());
            self.made += 1;
            out.extend(blob);
        }
        Ok(KeyIdentity {
            arn: KEY_ARN.to_owned(),
            material_id: "0".repeat(64),
        })
    }

    fn end(&mut self) -> Result<(), SourceError> {
        match self.fails {
            true => Err(SourceError::Cloned),
            false => Ok(()),
        }
    }
}

/// Provisions one file again and again, each time as it is then.
pub struct Tables {
    folder: TempDir,
    entropy: Entropy,
    runtime: tokio::runtime::Runtime,
}

impl Tables {
    /// In a folder for temporary files.
    pub fn new() -> Result<Self, Box<dyn Error>> {
        Ok(Self {
            folder: tempfile::tempdir()?,
            entropy: Entropy::os(),
            runtime: tokio::runtime::Builder::new_current_thread().build()?,
        })
    }

    /// The folder of the job.
    pub fn out(&self) -> PathBuf {
        self.folder.path().join("out")
    }

    /// Writes the table.
    pub fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::write(&path, bytes).expect("a file in a new folder");
        path
    }

    /// Removes what a job has left.
    pub fn clear(&self) {
        let _ = fs::remove_dir_all(self.out());
    }

    /// Provisions the table at `path`, in parts of so many rows; what it wrote.
    pub fn provision(&self, path: &Path, skip: bool, rows: u64) -> Result<u64, JobError> {
        self.run(path, skip, rows, false)
    }

    /// Begins to provision the table, and has no part when it ends.
    pub fn begin(&self, path: &Path, rows: u64) {
        let begun = self.run(path, true, rows, true);
        assert!(begun.is_err());
    }

    fn run(&self, path: &Path, skip: bool, rows: u64, fails: bool) -> Result<u64, JobError> {
        let location = path.to_string_lossy().into_owned();
        let plan = Plan {
            job: TableJob {
                key: "alias/any".to_owned(),
                inputs: vec![location.parse::<Location>().expect("the name of a file")],
                folder_names: FolderNames::Columns,
                rows_per_part: NonZeroU64::new(rows),
                out: self.out().into(),
                workers: NonZeroUsize::MIN,
                runtime: self.runtime.handle().clone(),
            },
            length: DataKeyLength::AES_256,
            format: None,
            encoding: None,
            id_column: ID_COLUMN.to_owned(),
            pairs: ContextPairs {
                columns: vec![CONTEXT_COLUMN.to_owned()],
                ..ContextPairs::default()
            },
            skip,
            context_map: false,
        };
        let progress = Progress::silent();
        let runtime = Runtime {
            clock: Clock::system(),
            entropy: &self.entropy,
            progress: &progress,
            stop: &AtomicBool::new(false),
        };
        let outcome = provision::run(&plan, &Blobs { fails }, std::io::empty(), &runtime)?;
        assert_ne!(outcome.ending, Ending::Stopped);
        Ok(outcome.manifest.rows)
    }

    /// The rows of every part of the job, as a census of them counts.
    pub fn rows(&self) -> u64 {
        let out = self.out();
        let location: Location = out.to_string_lossy().parse().expect("the name of a folder");
        let objects = location.objects(Some(Format::Parquet), self.runtime.handle());
        let objects = objects.expect("parts");
        let input = Input {
            format: Format::Parquet,
            objects: &objects,
            workers: NonZeroUsize::MIN,
            watch: &AtomicBool::new(false),
        };
        let counted = census(&input).expect("parts that can be read");
        assert_eq!(counted.findings.count, 0);
        counted.rows
    }

    /// Counts the blobs of a file that is not ours.
    pub fn census(&self, path: &Path) {
        let location: Location = path.to_string_lossy().parse().expect("the name of a file");
        let objects = location.objects(Some(Format::Parquet), self.runtime.handle());
        let objects = objects.expect("a file");
        let input = Input {
            format: Format::Parquet,
            objects: &objects,
            workers: NonZeroUsize::MIN,
            watch: &AtomicBool::new(false),
        };
        let _ = census(&input);
    }
}
