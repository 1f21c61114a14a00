//! Every row of a table once, by several threads, in no order: row groups of Parquet side by side,
//! files of text.

use crate::table::codec;
use crate::table::parquet::ParquetFile;
use crate::table::reader;
use crate::table::rows::{self, Batch, Columns, Rows, Seen};
use crate::table::{Format, Object, TableError, Watch};
use rayon::prelude::*;
use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A table, and how it is looked at.
pub struct Input<'a> {
    /// The format of its files.
    pub format: Format,
    /// The files, in order.
    pub objects: &'a [Object],
    /// Threads.
    pub workers: NonZeroUsize,
    /// Sees how far it is, and may end it early.
    pub watch: &'a dyn Watch,
}

impl Input<'_> {
    /// Runs `work` on a pool of the input's threads.
    ///
    /// # Errors
    /// What `work` fails with.
    pub fn on_threads<T: Send>(
        &self,
        work: impl FnOnce() -> Result<T, TableError> + Send,
    ) -> Result<T, TableError> {
        let threads = rayon::ThreadPoolBuilder::new()
            .num_threads(self.workers.get())
            .thread_name(|number| format!("scan-{number}"))
            .build()?;
        threads.install(work)
    }

    /// Refuses files whose columns are not those of the first.
    ///
    /// # Errors
    /// [`TableError::Columns`], when they differ; otherwise, when a file cannot be read.
    pub fn check_schemas(&self) -> Result<(), TableError> {
        let [first, others @ ..] = self.objects else {
            return Err(TableError::Absent("no file".to_owned()));
        };
        let schema = reader::compared(self.format, first)?;
        others.par_iter().try_for_each(|object| {
            if self.watch.is_stopped() {
                return Err(TableError::Stopped);
            }
            let of_file = reader::compared(self.format, object)?;
            rows::check_same(first, &schema, object, &of_file)
        })
    }

    /// Hands every row to `visit`, with the number of its file; only these columns are read.
    /// Returns what there is to know of each file: how many rows it has, and what its reader has
    /// seen. Called on the input's threads.
    ///
    /// # Errors
    /// What `visit` fails with, or [`TableError`].
    pub fn walk(
        &self,
        columns: &[String],
        visit: &(dyn Fn(usize, Batch) -> Result<(), TableError> + Sync),
    ) -> Result<Vec<(u64, Seen)>, TableError> {
        let segments: Vec<Vec<Segment>> = self
            .objects
            .par_iter()
            .enumerate()
            .map(|(file, object)| self.segments(file, object, columns))
            .collect::<Result<_, TableError>>()?;
        let segments: VecDeque<Segment> = segments.into_iter().flatten().collect();
        self.watch.begin(segments.iter().map(Segment::rows).sum());
        let walk = Walk {
            input: self,
            columns,
            visit,
            segments: Mutex::new(segments),
            files: Mutex::new(self.objects.iter().map(|_| Default::default()).collect()),
            failed: AtomicBool::new(false),
        };
        let results = rayon::broadcast(|_| {
            let walked = walk.run();
            if walked.is_err() {
                walk.failed.store(true, Ordering::Relaxed);
            }
            walked
        });
        self.watch.end();
        results.into_iter().collect::<Result<(), _>>()?;
        Ok(walk
            .files
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner))
    }

    /// The first rows of each file that has any, and the number of the file; only these columns
    /// are read, and only of the files that are asked for.
    pub fn first_rows(
        &self,
        columns: &[String],
    ) -> impl Iterator<Item = Result<(usize, Batch), TableError>> {
        (0..self.objects.len()).filter_map(|file| {
            let first = self.first_of(file, columns).transpose()?;
            Some(first.map(|batch| (file, batch)))
        })
    }

    fn first_of(&self, file: usize, columns: &[String]) -> Result<Option<Batch>, TableError> {
        for segment in self.segments(file, &self.objects[file], columns)? {
            let mut rows = self.open(&segment, columns)?;
            while let Some(batch) = rows.next()? {
                if !batch.numbers.is_empty() {
                    return Ok(Some(batch));
                }
            }
        }
        Ok(None)
    }

    fn open(&self, segment: &Segment, columns: &[String]) -> Result<Box<dyn Rows>, TableError> {
        match segment {
            Segment::File(file) => {
                let (object, start) = (&self.objects[*file], rows::Start::default());
                reader::open(self.format, object, start, Columns::Named(columns))
            }
            Segment::Group {
                parquet,
                group,
                first_row,
                ..
            } => {
                let rows = parquet.rows_of_group(*group, *first_row, columns)?;
                Ok(Box::new(rows))
            }
        }
    }

    fn segments(
        &self,
        file: usize,
        object: &Object,
        columns: &[String],
    ) -> Result<Vec<Segment>, TableError> {
        // There may be many files, each with a footer.
        if self.watch.is_stopped() {
            return Err(TableError::Stopped);
        }
        if self.format != Format::Parquet {
            return Ok(vec![Segment::File(file)]);
        }
        let parquet = Arc::new(ParquetFile::new(object)?);
        let mut first_row = 0;
        let mut segments = Vec::new();
        for (group, rows) in parquet.groups().enumerate() {
            if rows > 0 {
                codec::check(&parquet, group, |root| parquet.is_read(root, columns))?;
                segments.push(Segment::Group {
                    file,
                    parquet: Arc::clone(&parquet),
                    group,
                    first_row,
                    rows,
                });
            }
            first_row += rows;
        }
        Ok(segments)
    }
}

/// A file, or a row group of one.
enum Segment {
    File(usize),
    Group {
        file: usize,
        parquet: Arc<ParquetFile>,
        group: usize,
        first_row: u64,
        rows: u64,
    },
}

impl Segment {
    /// The number of its file.
    fn file(&self) -> usize {
        match self {
            Self::File(file) | Self::Group { file, .. } => *file,
        }
    }

    /// Its rows, where that is known.
    fn rows(&self) -> Option<u64> {
        match self {
            Self::File(_) => None,
            Self::Group { rows, .. } => Some(*rows),
        }
    }
}

struct Walk<'a> {
    input: &'a Input<'a>,
    columns: &'a [String],
    visit: &'a (dyn Fn(usize, Batch) -> Result<(), TableError> + Sync),
    segments: Mutex<VecDeque<Segment>>,
    files: Mutex<Vec<(u64, Seen)>>,
    failed: AtomicBool,
}

impl Walk<'_> {
    /// One thread's way through the segments.
    fn run(&self) -> Result<(), TableError> {
        loop {
            // Each thread takes the next segment until none is left.
            let Some(segment) = locked(&self.segments).pop_front() else {
                return Ok(());
            };
            let file = segment.file();
            let mut rows = self.input.open(&segment, self.columns)?;
            let mut count = 0;
            while let Some(batch) = rows.next()? {
                if self.input.watch.is_stopped() {
                    return Err(TableError::Stopped);
                }
                // Another thread failed and has the error.
                if self.failed.load(Ordering::Relaxed) {
                    return Ok(());
                }
                let rows = (batch.numbers.len() + batch.bad.len()) as u64;
                (self.visit)(file, batch)?;
                self.input.watch.seen(rows);
                count += rows;
            }
            let seen = rows.seen();
            let mut files = locked(&self.files);
            files[file].0 += count;
            // A file that is read in groups has no checkpoints.
            if matches!(segment, Segment::File(_)) {
                files[file].1 = seen;
            }
        }
    }
}

/// A thread that panicked has left these whole.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
