//! The first look at a table: everything that can be refused of a row without any key is found before the first key is made.

use crate::api::bind::columns::{ContextPairs, Texts};
use crate::bulk::Folder;
use crate::bulk::folder::{REJECTS, SPILL};
use crate::table::distinct::{Distinct, Fingerprint};
use crate::table::ndjson::Fields;
use crate::table::parquet::ParquetRows;
use crate::table::plan::{FilePlan, Plan};
use crate::table::rows::{self, Batch, Columns, Seen};
use crate::table::{Format, Object, Place, TableError};
use arrow_schema::SchemaRef;
use rayon::prelude::*;
use serde_json::json;
use std::collections::VecDeque;
use std::io::{BufWriter, Write};
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

/// Rows that may be left out: their reasons are held in memory until they are written.
pub const REJECTS_MAX: usize = 1_000_000;

/// What is asked of every row.
pub struct Question<'a> {
    /// The column that tells containers apart: text, never null or empty, never twice.
    pub id_column: &'a str,
    /// What its context is made of.
    pub pairs: &'a ContextPairs,
    /// Whether rows that cannot be used are left out; otherwise the first of them ends the job.
    pub skip: bool,
}

/// A table, and how it is looked at.
pub struct Input<'a> {
    /// The format of its files.
    pub format: Format,
    /// The files, in order.
    pub objects: &'a [Object],
    /// Threads.
    pub workers: NonZeroUsize,
    /// Ends it early.
    pub stop: &'a AtomicBool,
}

/// Looks at every row; writes those that are left out to the folder's [`REJECTS`].
///
/// # Errors
/// [`TableError`].
pub fn scan(
    input: &Input<'_>,
    question: &Question<'_>,
    folder: &Folder,
) -> Result<Plan, TableError> {
    let threads = rayon::ThreadPoolBuilder::new()
        .num_threads(input.workers.get())
        .thread_name(|number| format!("scan-{number}"))
        .build()?;
    threads.install(|| Scan::new(input, question, folder)?.run(folder))
}

/// A file, or a row group of one: the row that it begins at, and whether it ends before the file does.
struct Segment {
    file: usize,
    row: u64,
    only_group: bool,
}

struct Scan<'a> {
    input: &'a Input<'a>,
    question: &'a Question<'a>,
    columns: Vec<String>,
    segments: Mutex<VecDeque<Segment>>,
    hash: Fingerprint,
    distinct: Distinct<'a>,
    rejects: Mutex<Vec<(Place, String)>>,
    files: Mutex<Vec<(u64, Seen)>>,
    failed: AtomicBool,
}

impl<'a> Scan<'a> {
    fn new(
        input: &'a Input<'a>,
        question: &'a Question<'a>,
        folder: &'a Folder,
    ) -> Result<Self, TableError> {
        let mut columns = vec![question.id_column.to_owned()];
        columns.extend(question.pairs.columns.iter().cloned());
        columns.sort();
        columns.dedup();
        let scan = Self {
            input,
            question,
            columns,
            segments: Mutex::default(),
            hash: Fingerprint::default(),
            distinct: Distinct::new(folder.root(), SPILL),
            rejects: Mutex::default(),
            files: Mutex::new(input.objects.iter().map(|_| Default::default()).collect()),
            failed: AtomicBool::new(false),
        };
        let segments = scan.check_schemas()?;
        *locked(&scan.segments) = segments.into();
        Ok(scan)
    }

    /// Compares every file's columns with the first one's, and lists what there is to read.
    fn check_schemas(&self) -> Result<Vec<Segment>, TableError> {
        let Input {
            format, objects, ..
        } = self.input;
        let Some(first) = objects.first() else {
            return Err(TableError::Absent("no file".to_owned()));
        };
        let schema = rows::schema(*format, first)?;
        if *format != Format::Ndjson {
            check_columns(first, &schema, self.question)?;
        }
        let of_files: Vec<Vec<Segment>> = objects
            .par_iter()
            .enumerate()
            .map(|(file, object)| {
                if file > 0 {
                    rows::check_same(first, &schema, object, &*rows::schema(*format, object)?)?;
                }
                self.segments_of(file, object)
            })
            .collect::<Result<_, TableError>>()?;
        Ok(of_files.into_iter().flatten().collect())
    }

    fn segments_of(&self, file: usize, object: &Object) -> Result<Vec<Segment>, TableError> {
        if self.input.format != Format::Parquet {
            return Ok(vec![Segment {
                file,
                row: 0,
                only_group: false,
            }]);
        }
        let mut row = 0;
        let mut segments = Vec::new();
        for rows in ParquetRows::groups(object)? {
            if rows > 0 {
                segments.push(Segment {
                    file,
                    row,
                    only_group: true,
                });
            }
            row += rows;
        }
        Ok(segments)
    }

    fn run(self, folder: &Folder) -> Result<Plan, TableError> {
        let results = rayon::broadcast(|_| {
            let worked = self.work();
            if worked.is_err() {
                self.failed.store(true, Ordering::Relaxed);
            }
            worked
        });
        results.into_iter().collect::<Result<(), _>>()?;
        let Self {
            input,
            question,
            distinct,
            rejects,
            files,
            ..
        } = self;
        let mut rejects = rejects.into_inner().unwrap_or_else(PoisonError::into_inner);
        let most = match question.skip {
            true => REJECTS_MAX - rejects.len().min(REJECTS_MAX),
            false => 0,
        };
        for twins in distinct.twins(most)? {
            let (id, first) = (question.id_column, twins.first);
            let name = &input.objects[first.file].name;
            let reason = format!("its {id:?} is that of {name}, row {}", first.row);
            if !question.skip {
                return Err(refused(input, twins.later, reason));
            }
            rejects.push((twins.later, reason));
        }
        if rejects.len() > REJECTS_MAX {
            let last = rejects.pop().map(|(_, reason)| reason);
            return Err(TableError::TooManyRejects(
                REJECTS_MAX,
                last.unwrap_or_default(),
            ));
        }
        rejects.sort();
        if question.skip {
            write_rejects(input, &rejects, folder)?;
        }
        let files = files.into_inner().unwrap_or_else(PoisonError::into_inner);
        let mut fields = Fields::default();
        let mut kept: Vec<_> = files
            .into_iter()
            .map(|(rows, seen)| {
                fields.extend(&seen.fields);
                FilePlan {
                    rows,
                    left_out: Vec::new(),
                    checkpoints: seen.checkpoints,
                }
            })
            .collect();
        for (place, _) in rejects {
            kept[place.file].left_out.push(place.row);
        }
        Ok(Plan::new(kept, fields))
    }

    /// One thread's way through the segments.
    fn work(&self) -> Result<(), TableError> {
        loop {
            let Some(segment) = locked(&self.segments).pop_front() else {
                return Ok(());
            };
            let Segment {
                file,
                row,
                only_group,
            } = segment;
            let object = &self.input.objects[file];
            let columns = Columns::Named(&self.columns);
            let mut rows: Box<dyn rows::Rows> = match only_group {
                true => Box::new(ParquetRows::open(object, row, true, columns)?),
                false => rows::open(self.input.format, object, rows::Start::default(), columns)?,
            };
            let mut count = 0;
            while let Some(batch) = rows.next()? {
                if self.input.stop.load(Ordering::Relaxed) {
                    return Err(TableError::Stopped);
                }
                if self.failed.load(Ordering::Relaxed) {
                    return Ok(());
                }
                count += (batch.numbers.len() + batch.bad.len()) as u64;
                self.look_at(file, batch)?;
            }
            let seen = rows.seen();
            let mut files = locked(&self.files);
            files[file].0 += count;
            if !only_group {
                files[file].1 = seen;
            }
        }
    }

    fn look_at(&self, file: usize, batch: Batch) -> Result<(), TableError> {
        let Batch { rows, numbers, bad } = batch;
        for (row, reason) in bad {
            self.reject(Place { file, row }, reason)?;
        }
        let Question {
            id_column, pairs, ..
        } = self.question;
        let name = &self.input.objects[file].name;
        let unusable = |reason: String| TableError::Column {
            name: name.clone(),
            reason,
        };
        let ids = rows.column_by_name(id_column).and_then(Texts::of);
        let ids = ids.ok_or_else(|| unusable(format!("there is no column {id_column:?}")))?;
        let told = |error: crate::api::ApiError| unusable(error.message().to_owned());
        let places = pairs.places(&rows.schema()).map_err(told)?;
        let contexts = pairs.rows(&rows, &places).map_err(told)?;
        let mut entries = Vec::with_capacity(numbers.len());
        for (at, row) in numbers.into_iter().enumerate() {
            let place = Place { file, row };
            let id = ids.text(at).unwrap_or_default();
            if id.is_empty() {
                self.reject(place, format!("its {id_column:?} is null or empty"))?;
            } else if let Err(error) = contexts.check(at) {
                self.reject(place, error.message().to_owned())?;
            } else {
                entries.push(self.hash.of(id.as_bytes(), place));
            }
        }
        self.distinct.add(&entries)
    }

    fn reject(&self, place: Place, reason: String) -> Result<(), TableError> {
        if !self.question.skip {
            return Err(refused(self.input, place, reason));
        }
        let mut rejects = locked(&self.rejects);
        if rejects.len() == REJECTS_MAX {
            return Err(TableError::TooManyRejects(REJECTS_MAX, reason));
        }
        rejects.push((place, reason));
        Ok(())
    }
}

/// Refuses a table whose columns cannot be ids and contexts.
///
/// # Errors
/// [`TableError::Column`].
pub fn check_columns(
    object: &Object,
    schema: &SchemaRef,
    question: &Question<'_>,
) -> Result<(), TableError> {
    let id = ContextPairs {
        columns: vec![question.id_column.to_owned()],
        ..ContextPairs::default()
    };
    for pairs in [&id, question.pairs] {
        pairs.places(schema).map_err(|error| TableError::Column {
            name: object.name.clone(),
            reason: error.message().to_owned(),
        })?;
    }
    Ok(())
}

fn refused(input: &Input<'_>, place: Place, reason: String) -> TableError {
    TableError::Row {
        name: input.objects[place.file].name.clone(),
        row: place.row,
        reason,
        is_skippable: true,
    }
}

fn write_rejects(
    input: &Input<'_>,
    rejects: &[(Place, String)],
    folder: &Folder,
) -> Result<(), TableError> {
    let path = folder.path(REJECTS);
    let io = |error| TableError::kept("write", &path, error);
    let mut out = BufWriter::new(folder.begin(REJECTS)?);
    for (place, reason) in rejects {
        let line = json!({
            "file": input.objects[place.file].name,
            "row": place.row,
            "reason": reason,
        });
        writeln!(out, "{line}").map_err(io)?;
    }
    let out = out.into_inner().map_err(|error| io(error.into_error()))?;
    folder.finish(out)?;
    Ok(())
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
