//! Rows of NDJSON: an object a line, in UTF-8. A column is what all of its values are: boolean,
//! integer, float, or text. Numbers keep their digits: a column is text before one is lost.

use crate::columns::Shown;
use crate::table::fields::Members;
use crate::table::hive::{self, FolderColumns};
use crate::table::rows::{
    BATCH_BYTES_MAX, Batch, CHECKPOINT_ROWS, Columns, ROW_BYTES_MAX, Rows, Seen, Start,
    batch_rows_max,
};
use crate::table::text::{self, BYTE_ORDER_MARK, Text};
use crate::table::{COLUMNS_MAX, Format, Object, TableError};
use arrow_array::builder::{BooleanBuilder, Float64Builder, Int64Builder, StringBuilder};
use arrow_array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::io::{BufRead, Read};
use std::sync::Arc;

mod value;

use value::Cell;

/// The members of one object, in order.
struct Line<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Line<'de> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Line<'de>;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(out, "an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Line<'de>, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry::<String, &RawValue>()? {
                    if members.len() == COLUMNS_MAX {
                        return Err(A::Error::custom("too many members"));
                    }
                    members.push(member);
                }
                Ok(Line(members))
            }
        }
        from.deserialize_map(Members)
    }
}

/// Rows of an NDJSON file.
pub struct NdjsonRows {
    name: String,
    reader: Text,
    /// Where the next line begins, its row's number, and that of the first row that is wanted.
    byte: u64,
    row: u64,
    from: u64,
    /// The columns of its folders, which lines may have as well.
    folders: FolderColumns,
    /// What lines are put under; of those that must be text, anything else is refused.
    schema: SchemaRef,
    /// The number of each of its columns.
    places: HashMap<String, usize>,
    is_first: bool,
    line: Vec<u8>,
    seen: Seen,
}

fn malformed(name: &str, reason: impl ToString) -> TableError {
    TableError::Malformed {
        name: name.to_owned(),
        format: Format::Ndjson.name(),
        reason: reason.to_string(),
    }
}

impl NdjsonRows {
    /// Reads from a row on.
    ///
    /// # Errors
    /// [`TableError`], when the file cannot be read.
    pub fn open(object: &Object, from: Start, columns: Columns<'_>) -> Result<Self, TableError> {
        let (row, byte) = from.checkpoint.unwrap_or_default();
        let (schema, is_first) = match columns {
            Columns::All(schema) => (Arc::clone(schema), false),
            Columns::Named(names) => {
                // Columns of folders are not members of the lines.
                let fields = names
                    .iter()
                    .filter(|name| !object.folders.names().any(|folder| folder == **name))
                    .map(|name| Field::new(name, DataType::Utf8, true));
                (Arc::new(Schema::new(fields.collect::<Vec<_>>())), true)
            }
        };
        Ok(Self {
            name: object.name.clone(),
            reader: text::open(object, Format::Ndjson, byte)?,
            byte,
            row,
            from: from.row,
            folders: object.folders.clone(),
            places: places(&schema),
            schema,
            is_first,
            line: Vec::new(),
            seen: Seen::default(),
        })
    }

    /// Reads a line that is not blank. Of one that is too long, nothing is kept.
    fn read(&mut self) -> Result<Found, TableError> {
        loop {
            self.line.clear();
            let fault = |error| text::fault(&self.name, Format::Ndjson, error);
            let mut bounded = (&mut self.reader).take(ROW_BYTES_MAX + 1);
            let read = bounded.read_until(b'\n', &mut self.line).map_err(fault)?;
            if read as u64 > ROW_BYTES_MAX {
                let mut bytes = read as u64;
                if !self.line.ends_with(b"\n") {
                    bytes += self.reader.skip_until(b'\n').map_err(fault)? as u64;
                }
                self.line.clear();
                return Ok(Found::Long { bytes });
            }
            if read == 0 {
                return Ok(Found::End);
            }
            if self.byte == 0 && self.line.starts_with(BYTE_ORDER_MARK) {
                self.line.drain(..BYTE_ORDER_MARK.len());
                self.byte = BYTE_ORDER_MARK.len() as u64;
            }
            if !self.line.trim_ascii().is_empty() {
                return Ok(Found::Line);
            }
            // Without the mark, which is counted already.
            self.byte += self.line.len() as u64;
        }
    }

    /// The row's values, in the order of the schema; its members are noted in a first look.
    fn values<'a>(&self, line: &'a [u8], of_row: &mut Members) -> Result<Vec<Cell<'a>>, String> {
        let line = str::from_utf8(line).map_err(|_| "it is not UTF-8 text".to_owned())?;
        let Line(members) = serde_json::from_str(line)
            .map_err(|error| format!("it is not a JSON object: {error}"))?;
        let mut names = HashSet::new();
        if let Some((twice, _)) = members.iter().find(|(name, _)| !names.insert(name)) {
            return Err(format!("it names {} twice", Shown(twice)));
        }
        let fields = self.schema.fields();
        let mut values: Vec<_> = fields.iter().map(|_| Cell::Null).collect();
        let mut kinds = Vec::with_capacity(if self.is_first { members.len() } else { 0 });
        for (name, raw) in members {
            let raw = raw.get();
            if raw.starts_with('"') && value::text(raw).is_none() {
                return Err(format!("{} is not Unicode text", Shown(&name)));
            }
            if let Some(wanted) = self.folders.value(&name) {
                check_folder(&name, raw, wanted)?;
                continue;
            }
            if let Some(place) = self.places.get(&name).copied() {
                if self.is_first && !raw.starts_with('"') && raw != "null" {
                    let name = Shown(&name);
                    return Err(format!("{name} is not a string, and ids and contexts are"));
                }
                let cell = value::cell(raw, fields[place].data_type());
                let other = || format!("{} is of another kind", Shown(&name));
                values[place] = cell.ok_or_else(other)?;
            }
            if self.is_first {
                kinds.push((name, value::kind(raw)));
            }
        }
        if self.is_first {
            of_row.push(kinds);
        }
        Ok(values)
    }
}

/// Refuses a member that is another than the name of the row's folder says.
fn check_folder(name: &str, raw: &str, wanted: Option<&str>) -> Result<(), String> {
    let is_equal = match (raw, wanted) {
        ("null", wanted) => wanted.is_none(),
        (_, None) => false,
        (raw, Some(wanted)) if raw.starts_with('"') => value::text(raw).as_deref() == Some(wanted),
        (raw, Some(wanted)) => raw == wanted,
    };
    match is_equal {
        true => Ok(()),
        false => Err(hive::differs(name, wanted)),
    }
}

/// What the next line is.
enum Found {
    Line,
    /// One of more bytes than a row may have.
    Long {
        bytes: u64,
    },
    End,
}

/// The number of each column.
fn places(schema: &Schema) -> HashMap<String, usize> {
    let fields = schema.fields().iter().enumerate();
    fields
        .map(|(place, field)| (field.name().clone(), place))
        .collect()
}

/// A column on its way.
enum Column {
    Boolean(BooleanBuilder),
    Integer(Int64Builder),
    Float(Float64Builder),
    Text(StringBuilder),
}

impl Column {
    /// With room for so many rows.
    fn of(kind: &DataType, rows: usize) -> Self {
        match kind {
            DataType::Boolean => Self::Boolean(BooleanBuilder::with_capacity(rows)),
            DataType::Int64 => Self::Integer(Int64Builder::with_capacity(rows)),
            DataType::Float64 => Self::Float(Float64Builder::with_capacity(rows)),
            _ => Self::Text(StringBuilder::with_capacity(rows, 0)),
        }
    }

    fn append(&mut self, cell: Cell<'_>) {
        match (self, cell) {
            (Self::Boolean(column), Cell::Boolean(value)) => column.append_value(value),
            (Self::Integer(column), Cell::Integer(value)) => column.append_value(value),
            (Self::Float(column), Cell::Float(value)) => column.append_value(value),
            (Self::Text(column), Cell::Text(value)) => column.append_value(value),
            (Self::Boolean(column), _) => column.append_null(),
            (Self::Integer(column), _) => column.append_null(),
            (Self::Float(column), _) => column.append_null(),
            (Self::Text(column), _) => column.append_null(),
        }
    }

    fn finish(&mut self) -> ArrayRef {
        match self {
            Self::Boolean(column) => Arc::new(column.finish()),
            Self::Integer(column) => Arc::new(column.finish()),
            Self::Float(column) => Arc::new(column.finish()),
            Self::Text(column) => Arc::new(column.finish()),
        }
    }
}

impl Rows for NdjsonRows {
    fn next(&mut self) -> Result<Option<Batch>, TableError> {
        let fields = Arc::clone(&self.schema);
        let rows_max = batch_rows_max(fields.fields().len());
        let mut columns: Vec<_> = fields
            .fields()
            .iter()
            .map(|field| Column::of(field.data_type(), rows_max))
            .collect();
        let (mut numbers, mut bad, mut bytes) = (Vec::new(), Vec::new(), 0);
        let mut members = Members::default();
        let mut is_over = true;
        while numbers.len() + bad.len() < rows_max && bytes < BATCH_BYTES_MAX {
            let found = self.read()?;
            let length = match found {
                Found::End => break,
                Found::Line => self.line.len() as u64,
                Found::Long { bytes } => bytes,
            };
            is_over = false;
            // A place from which a later read may begin.
            if self.row.is_multiple_of(CHECKPOINT_ROWS) {
                self.seen.checkpoints.push(self.byte);
            }
            let row = self.row;
            self.row += 1;
            self.byte += length;
            // Rows between the checkpoint and the first row that is wanted.
            if row < self.from {
                continue;
            }
            bytes += self.line.len();
            // A bad row is reported with its number and takes no place in the columns.
            if let Found::Long { .. } = found {
                bad.push((row, format!("it has more than {ROW_BYTES_MAX} bytes")));
                continue;
            }
            let line = std::mem::take(&mut self.line);
            match self.values(&line, &mut members) {
                Ok(values) => {
                    for (column, value) in columns.iter_mut().zip(values) {
                        column.append(value);
                    }
                    numbers.push(row);
                }
                Err(reason) => bad.push((row, reason)),
            }
            self.line = line;
        }
        if is_over {
            return Ok(None);
        }
        let columns = columns.iter_mut().map(Column::finish).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(numbers.len()));
        let rows = RecordBatch::try_new_with_options(fields, columns, &options)
            .map_err(|error| malformed(&self.name, error))?;
        Ok(Some(Batch {
            rows,
            numbers,
            bad,
            members,
        }))
    }

    fn pass_over(&mut self, row: u64) {
        self.from = row;
    }

    fn seen(&mut self) -> Seen {
        std::mem::take(&mut self.seen)
    }
}

#[cfg(test)]
mod tests;
