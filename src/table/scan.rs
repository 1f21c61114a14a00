//! The first look at a table: every fault of a row that shows without a key is found before the
//! first key is made.

use crate::columns::shown::cut;
use crate::columns::{ColumnError, ContextPairs, Shown, Texts};
use crate::table::distinct::{Distinct, Fingerprint};
use crate::table::fields::Fields;
use crate::table::plan::{FilePlan, Plan};
use crate::table::reader;
use crate::table::rows::Batch;
use crate::table::walk::Input;
use crate::table::{Format, Object, RowNumber, RowPosition, TableError};
use arrow_schema::Schema;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// Rows that may be left out: their reasons are held in memory until they are written.
pub const REJECTS_MAX: usize = 1_000_000;
/// Characters of a reason at most. Some repeat a name or a value of the row, which may be as long
/// as a row.
const REASON_CHARACTERS_MAX: usize = 256;

/// What every row is checked for.
pub struct Question<'a> {
    /// The column of container ids: text, never null or empty, never twice.
    pub id_column: &'a str,
    /// The columns and constants of its context.
    pub pairs: &'a ContextPairs,
    /// Whether rows that cannot be used are left out; otherwise the first of them ends the job.
    pub skip: bool,
}

/// What a look at a table has found.
pub struct Scanned {
    /// Where its rows are.
    pub plan: Plan,
    /// The rows that are left out, in order, and why.
    pub rejects: Vec<(RowPosition, String)>,
}

/// Looks at every row. What does not fit into memory is in a file `spill`, which loses its name at
/// once.
///
/// # Errors
/// [`TableError`], when a file cannot be read, or a row cannot be used and is not skipped.
pub fn scan(
    input: &Input<'_>,
    question: &Question<'_>,
    spill: &Path,
) -> Result<Scanned, TableError> {
    input.on_threads(|| {
        input.check_schemas()?;
        let first = input.objects.first();
        if input.format != Format::Ndjson
            && let Some(first) = first
        {
            check_columns(first, &*reader::schema(input.format, first)?, question)?;
        }
        Scan::new(input, question, spill).run()
    })
}

/// Columns that a message names at most.
const COLUMNS_SHOWN_MAX: usize = 20;

struct Scan<'a> {
    input: &'a Input<'a>,
    question: &'a Question<'a>,
    columns: Vec<String>,
    hash: Fingerprint,
    distinct: Distinct,
    rejects: Mutex<Vec<(RowPosition, String)>>,
    /// The columns of each file without a schema.
    fields: Vec<Mutex<Fields>>,
}

impl<'a> Scan<'a> {
    fn new(input: &'a Input<'a>, question: &'a Question<'a>, spill: &Path) -> Self {
        let mut columns = vec![question.id_column.to_owned()];
        columns.extend(question.pairs.columns.iter().cloned());
        columns.sort();
        columns.dedup();
        Self {
            input,
            question,
            columns,
            hash: Fingerprint::default(),
            distinct: Distinct::new(spill.to_owned()),
            rejects: Mutex::default(),
            fields: input.objects.iter().map(|_| Mutex::default()).collect(),
        }
    }

    fn run(self) -> Result<Scanned, TableError> {
        let files = self
            .input
            .walk(&self.columns, &|file, batch| self.look_at(file, batch))?;
        let Self {
            input,
            question,
            distinct,
            rejects,
            fields: of_files,
            ..
        } = self;
        let mut rejects = rejects.into_inner().unwrap_or_else(PoisonError::into_inner);
        // Where rows may be skipped, every duplicate is needed; otherwise the first ends the job.
        let most = if question.skip {
            REJECTS_MAX - rejects.len().min(REJECTS_MAX)
        } else {
            0
        };
        let (_, found) = distinct.twins(most)?;
        for twins in found {
            let (id, first) = (Shown(question.id_column), twins.first);
            let name = &input.objects[first.file].name;
            let reason = format!("its {id} is that of {name}, row {}", RowNumber(first.row));
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
        // Threads report in any order; the rejects and the plan are in the order of rows.
        rejects.sort();
        // One schema for all files, and the places of the rows that are left out.
        let mut fields = Fields::default();
        let mut kept = Vec::new();
        let files = input.objects.iter().zip(of_files).zip(files);
        for ((object, of_file), (rows, seen)) in files {
            let of_file = of_file.into_inner().unwrap_or_else(PoisonError::into_inner);
            object.folders.check(&object.name, &of_file.schema())?;
            fields.extend(&of_file);
            if let Some(reason) = fields.excess() {
                let name = object.name.clone();
                return Err(TableError::Column { name, reason });
            }
            kept.push(FilePlan {
                rows,
                left_out: Vec::new(),
                checkpoints: seen.checkpoints,
            });
        }
        for (place, _) in &rejects {
            kept[place.file].left_out.push(place.row);
        }
        Ok(Scanned {
            plan: Plan::new(kept, fields),
            rejects,
        })
    }

    fn look_at(&self, file: usize, batch: Batch) -> Result<(), TableError> {
        let Batch {
            rows,
            numbers,
            bad,
            members,
        } = batch;
        for (row, reason) in bad {
            self.reject(RowPosition { file, row }, reason)?;
        }
        let Question {
            id_column, pairs, ..
        } = self.question;
        let name = &self.input.objects[file].name;
        let unusable = |reason: String| TableError::Column {
            name: name.clone(),
            reason,
        };
        // The columns were checked with the schema; a file may still differ.
        let ids = rows
            .column_by_name(id_column)
            .and_then(Texts::of)
            .ok_or_else(|| unusable(format!("there is no column {}", Shown(id_column))))?;
        let told = |error: ColumnError| unusable(error.to_string());
        let places = pairs.places(&rows.schema()).map_err(told)?;
        let contexts = pairs.rows(&rows, &places).map_err(told)?;
        let mut entries = Vec::with_capacity(numbers.len());
        let mut is_kept = vec![false; numbers.len()];
        for (at, row) in numbers.into_iter().enumerate() {
            let place = RowPosition { file, row };
            let id = ids.text(at).unwrap_or_default();
            if id.is_empty() {
                self.reject(place, format!("its {} is null or empty", Shown(id_column)))?;
            } else if let Err(error) = contexts.check(at) {
                self.reject(place, error.to_string())?;
            } else {
                // Duplicates are found at the end, over all files.
                entries.push(self.hash.of(id.as_bytes(), place));
                is_kept[at] = true;
            }
        }
        {
            let fields = &self.fields[file];
            let mut fields = fields.lock().unwrap_or_else(PoisonError::into_inner);
            members.add_to(&mut fields, |row| is_kept.get(row) == Some(&true));
            if let Some(excess) = fields.excess() {
                return Err(unusable(excess));
            }
        }
        self.distinct.add(&entries)
    }

    fn reject(&self, place: RowPosition, reason: String) -> Result<(), TableError> {
        let reason = cut(reason, REASON_CHARACTERS_MAX);
        if !self.question.skip {
            return Err(refused(self.input, place, reason));
        }
        let mut rejects = self.rejects.lock().unwrap_or_else(PoisonError::into_inner);
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
/// [`TableError::Column`], when one is missing or of another type.
pub fn check_columns(
    object: &Object,
    schema: &Schema,
    question: &Question<'_>,
) -> Result<(), TableError> {
    let id = ContextPairs {
        columns: vec![question.id_column.to_owned()],
        ..ContextPairs::default()
    };
    let mut named = id.columns.iter().chain(&question.pairs.columns);
    if let Some(absent) = named.find(|name| schema.field_with_name(name).is_err()) {
        return Err(TableError::Column {
            name: object.name.clone(),
            reason: absent_column(absent, schema),
        });
    }
    for pairs in [&id, question.pairs] {
        pairs.places(schema).map_err(|error| TableError::Column {
            name: object.name.clone(),
            reason: error.to_string(),
        })?;
    }
    Ok(())
}

/// Names the columns that a table has in place of `absent`.
fn absent_column(absent: &str, schema: &Schema) -> String {
    let names: Vec<_> = schema.fields().iter().map(|field| field.name()).collect();
    let shown: Vec<_> = names
        .iter()
        .take(COLUMNS_SHOWN_MAX)
        .map(|name| Shown(name).to_string())
        .collect();
    let more = match names.len().saturating_sub(COLUMNS_SHOWN_MAX) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let hint = match names[..] {
        [only] if only.contains(';') => {
            "; are its columns separated by semicolons? a CSV has commas"
        }
        _ => "",
    };
    let shown = shown.join(", ");
    format!(
        "there is no column {}; it has {shown}{more}{hint}",
        Shown(absent)
    )
}

fn refused(input: &Input<'_>, place: RowPosition, reason: String) -> TableError {
    TableError::Row {
        name: input.objects[place.file].name.clone(),
        row: place.row,
        reason,
        is_skippable: true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::{COLUMNS_MAX, location};
    use arrow_schema::DataType;
    use std::num::NonZeroUsize;
    use std::sync::atomic::AtomicBool;

    fn scanned(objects: &[Object], spill: &Path) -> Result<Scanned, TableError> {
        let input = Input {
            format: Format::Ndjson,
            objects,
            workers: NonZeroUsize::MIN,
            watch: &AtomicBool::new(false),
        };
        let pairs = ContextPairs::default();
        let question = Question {
            id_column: "id",
            pairs: &pairs,
            skip: true,
        };
        Scan::new(&input, &question, spill).run()
    }

    #[test]
    fn the_reasons_of_long_rows_are_short() {
        let folder = tempfile::tempdir().unwrap();
        let long = "\u{e9}".repeat(100_000);
        let lines = [
            format!("\"{long}\""),
            format!("{{\"id\":\"a\",\"{long}\":1,\"{long}\":2}}"),
            format!("{{\"id\":\"a\",\"{long}\":\"\\ud800\"}}"),
        ];
        let path = folder.path().join("t.ndjson");
        std::fs::write(&path, lines.join("\n")).unwrap();
        let objects = [location::file(&path, "t.ndjson".to_owned()).unwrap()];
        let rejects = scanned(&objects, &folder.path().join("spill"))
            .unwrap()
            .rejects;
        assert_eq!(rejects.len(), lines.len());
        for (_, reason) in rejects {
            let length = reason.chars().count();
            assert!(length <= REASON_CHARACTERS_MAX + 1, "{reason}");
        }
    }

    #[test]
    fn rows_that_are_left_out_do_not_shape_columns() {
        let folder = tempfile::tempdir().unwrap();
        let lines = [
            r#"{"id":"","n":"text","only":5}"#,
            r#"{"id":"a","n":7}"#,
            r#"[1]"#,
        ];
        let path = folder.path().join("t.ndjson");
        std::fs::write(&path, lines.join("\n")).unwrap();
        let objects = [location::file(&path, "t.ndjson".to_owned()).unwrap()];
        let plan = scanned(&objects, &folder.path().join("spill"))
            .unwrap()
            .plan;
        assert_eq!((plan.count(), plan.left_out()), (1, 2));
        let schema = plan.fields().schema();
        let fields = schema.fields().iter();
        let kinds: Vec<_> = fields
            .map(|field| (field.name().as_str(), field.data_type()))
            .collect();
        assert_eq!(kinds, [("id", &DataType::Utf8), ("n", &DataType::Int64)]);
    }

    #[test]
    fn files_together_have_no_more_columns_than_one_may_have() {
        let folder = tempfile::tempdir().unwrap();
        let object = |name: &str, from: usize| {
            let columns: String = (from..from + COLUMNS_MAX / 2 + 1)
                .map(|at| format!(",\"c{at}\":1"))
                .collect();
            let path = folder.path().join(name);
            std::fs::write(&path, format!("{{\"id\":\"{name}\"{columns}}}\n")).unwrap();
            location::file(&path, name.to_owned()).unwrap()
        };
        let objects = [object("a.ndjson", 0), object("b.ndjson", COLUMNS_MAX)];
        let scanned = scanned(&objects, &folder.path().join("spill"));
        let refused = scanned.err().unwrap().to_string();
        assert_eq!(refused, "b.ndjson: more than 10000 columns");
    }
}
