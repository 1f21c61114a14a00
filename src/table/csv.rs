//! Rows of a CSV file: RFC 4180, in UTF-8, with a header. Every column is text, and an empty field
//! is null. A row that breaks the RFC's rules on quotes, or has bytes that are not UTF-8 in any
//! field, is not read.

use crate::columns::Shown;
use crate::table::fields::Members;
use crate::table::rows::{
    BATCH_BYTES_MAX, Batch, CHECKPOINT_ROWS, Columns, ROW_BYTES_MAX, Rows, Seen, Start,
    batch_rows_max,
};
use crate::table::text::{self, Text};
use crate::table::{COLUMNS_MAX, Format, Object, TableError};
use arrow_array::builder::StringBuilder;
use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use csv::{ByteRecord, Reader, ReaderBuilder};
use encoding_rs::Encoding;
use std::collections::HashSet;
use std::io::{self, BufRead, Read};
use std::sync::Arc;

mod quotes;

use quotes::Quotes;

/// Rows of a CSV file.
pub struct CsvRows {
    name: String,
    /// What its text is in.
    encoding: &'static str,
    reader: Reader<Bounded>,
    /// Where the reader's own count of bytes begins.
    base: u64,
    /// The number of the next row, and of the first that is wanted.
    row: u64,
    from: u64,
    /// Fields of a row.
    width: usize,
    /// Which fields are read, and what they are put under.
    places: Vec<usize>,
    schema: SchemaRef,
    record: ByteRecord,
    checkpoints: Vec<u64>,
}

/// Passes the text on, and of a row that is too long only its beginning: a quote that is never
/// closed would take all the rest into memory.
struct Bounded {
    inner: Text,
    quotes: Quotes,
    /// Whether the row that the reader is in, or has read last, is cut.
    is_cut: bool,
    /// Bytes that were not passed on, and bytes that were and are not of the text.
    dropped: u64,
    added: u64,
}

impl Read for Bounded {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        // The reader asks for more once it has come to the end of what it was given.
        if self.quotes.row_bytes() > ROW_BYTES_MAX {
            return self.cut(out);
        }
        let read = self.inner.read(out)?;
        self.quotes.pass(&out[..read]);
        Ok(read)
    }
}

impl Bounded {
    /// Drops the rest of a row, and ends it.
    fn cut(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let end = self.quotes.row_end();
        // The reader's buffer is larger.
        let added = (&mut &*end).read(out)?;
        loop {
            let bytes = self.inner.fill_buf()?;
            let (length, of_row) = (bytes.len(), self.quotes.drop_row(bytes));
            let dropped = of_row.unwrap_or(length);
            self.inner.consume(dropped);
            self.dropped += dropped as u64;
            if of_row.is_some() || length == 0 {
                break;
            }
        }
        self.quotes.end_row(added);
        self.added += added as u64;
        self.is_cut = true;
        Ok(added)
    }
}

/// What is wrong with a row that is too long.
fn too_long() -> String {
    format!("more than {ROW_BYTES_MAX} bytes; is a quote not closed?")
}

fn malformed(name: &str, reason: impl ToString) -> TableError {
    TableError::Malformed {
        name: name.to_owned(),
        format: Format::Csv.name(),
        reason: reason.to_string(),
    }
}

impl CsvRows {
    /// The file's columns, as its header names them.
    ///
    /// # Errors
    /// [`TableError`], when the file cannot be read, or its header is not sound.
    pub fn schema(object: &Object) -> Result<SchemaRef, TableError> {
        let names: [String; 0] = [];
        Self::open(object, Start::default(), Columns::Named(&names))
            .and_then(|mut rows| rows.header())
    }

    /// Reads from a row on.
    ///
    /// # Errors
    /// [`TableError`], when the file cannot be read, or its header is not sound.
    pub fn open(object: &Object, from: Start, columns: Columns<'_>) -> Result<Self, TableError> {
        let (row, mut base) = from.checkpoint.unwrap_or_default();
        let mut inner = text::open(object, Format::Csv, base)?;
        // Spreadsheets put a mark before the first name.
        if base == 0 {
            (base, inner) = text::behind_mark(inner)
                .map_err(|error| text::fault(&object.name, Format::Csv, error))?;
        }
        // The reader has no bound of its own: a row without an end would fill memory.
        let bounded = Bounded {
            inner,
            quotes: Quotes::default(),
            is_cut: false,
            dropped: 0,
            added: 0,
        };
        let reader = ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .from_reader(bounded);
        let mut rows = Self {
            name: object.name.clone(),
            encoding: object.encoding.map_or("UTF-8", Encoding::name),
            reader,
            base,
            row,
            from: from.row,
            width: 0,
            places: Vec::new(),
            schema: Arc::new(Schema::empty()),
            record: ByteRecord::new(),
            checkpoints: Vec::new(),
        };
        let Columns::Named(names) = columns else {
            let Columns::All(schema) = columns else {
                return Ok(rows);
            };
            // At a checkpoint the header lies behind.
            if from.checkpoint.is_none() {
                rows.header()?;
            }
            rows.width = schema.fields().len();
            rows.places = (0..rows.width).collect();
            rows.schema = Arc::clone(schema);
            return Ok(rows);
        };
        if !names.is_empty() {
            // A scan decodes the columns that it needs and skips the others.
            let header = rows.header()?;
            let fields = header.fields().iter().enumerate();
            let wanted = fields.filter(|(_, field)| names.contains(field.name()));
            rows.places = wanted.map(|(at, _)| at).collect();
            let schema = header.project(&rows.places);
            rows.schema = Arc::new(schema.map_err(|error| malformed(&rows.name, error))?);
        }
        Ok(rows)
    }

    fn header(&mut self) -> Result<SchemaRef, TableError> {
        if !self.read()? {
            return Err(malformed(&self.name, "it has no header"));
        }
        if self.reader.get_ref().is_cut {
            let reason = format!("its header has {}", too_long());
            return Err(malformed(&self.name, reason));
        }
        if let Some(fault) = self.fault() {
            return Err(malformed(&self.name, format!("in its header, {fault}")));
        }
        let names = self.record.iter().map(str::from_utf8);
        let Ok(names) = names.collect::<Result<Vec<_>, _>>() else {
            let encoding = self.encoding;
            let reason = format!("its header is not {encoding} text; name its encoding");
            return Err(malformed(&self.name, reason));
        };
        // A name that occurs twice would leave it open which column is meant.
        let mut seen = HashSet::new();
        for name in &names {
            if name.is_empty() {
                return Err(malformed(&self.name, "a column of its header has no name"));
            }
            if !seen.insert(*name) {
                let reason = format!("its header names {} twice", Shown(name));
                return Err(malformed(&self.name, reason));
            }
        }
        if names.len() > COLUMNS_MAX {
            return Err(malformed(
                &self.name,
                format!("more than {COLUMNS_MAX} columns"),
            ));
        }
        let fields = names
            .iter()
            .map(|name| Field::new(*name, DataType::Utf8, true));
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        self.width = names.len();
        Ok(schema)
    }

    /// What is wrong with the quotes of the record that was read last.
    fn fault(&mut self) -> Option<&'static str> {
        let end = self.reader.position().byte();
        self.reader.get_mut().quotes.fault_before(end)
    }

    /// Reads a record; `false` after the last.
    fn read(&mut self) -> Result<bool, TableError> {
        self.reader.get_mut().is_cut = false;
        let read = self.reader.read_byte_record(&mut self.record);
        read.map_err(|error| match error.into_kind() {
            csv::ErrorKind::Io(error) => text::fault(&self.name, Format::Csv, error),
            other => malformed(&self.name, format!("{other:?}")),
        })
    }
}

/// Refuses a record with a field that is not text, by the number of that field, counted from 1.
fn check_text(record: &ByteRecord) -> Result<(), usize> {
    if record.as_slice().is_ascii() {
        return Ok(());
    }
    let mut fields = record.iter();
    match fields.position(|field| std::str::from_utf8(field).is_err()) {
        Some(at) => Err(at + 1),
        None => Ok(()),
    }
}

impl Rows for CsvRows {
    fn next(&mut self) -> Result<Option<Batch>, TableError> {
        let rows_max = batch_rows_max(self.places.len());
        let places = self.places.iter();
        let mut columns: Vec<_> = places
            .map(|_| StringBuilder::with_capacity(rows_max, 0))
            .collect();
        let (mut numbers, mut bad, mut bytes) = (Vec::new(), Vec::new(), 0);
        let mut is_over = true;
        while numbers.len() + bad.len() < rows_max && bytes < BATCH_BYTES_MAX {
            // A place from which a later read may begin.
            if self.row.is_multiple_of(CHECKPOINT_ROWS) {
                let text = self.reader.get_ref();
                let read = self.reader.position().byte() + text.dropped - text.added;
                self.checkpoints.push(self.base + read);
            }
            if !self.read()? {
                break;
            }
            is_over = false;
            let row = self.row;
            self.row += 1;
            let fault = self.fault();
            // Rows between the checkpoint and the first row that is wanted.
            if row < self.from {
                continue;
            }
            bytes += self.record.as_slice().len();
            // A bad row is reported with its number and takes no place in the columns.
            if self.reader.get_ref().is_cut {
                bad.push((row, format!("it has {}", too_long())));
                continue;
            }
            if let Some(fault) = fault {
                bad.push((row, fault.to_owned()));
                continue;
            }
            if self.record.len() != self.width {
                let (found, width) = (self.record.len(), self.width);
                bad.push((row, format!("it has {found} fields, not {width}")));
                continue;
            }
            if let Err(column) = check_text(&self.record) {
                let encoding = self.encoding;
                bad.push((row, format!("its field {column} is not {encoding} text")));
                continue;
            }
            for (column, place) in columns.iter_mut().zip(&self.places) {
                let field = self.record.get(*place).unwrap_or_default();
                let text = std::str::from_utf8(field).unwrap_or_default();
                // An empty field is null.
                column.append_option(Some(text).filter(|text| !text.is_empty()));
            }
            numbers.push(row);
        }
        if is_over {
            return Ok(None);
        }
        let columns: Vec<_> = columns
            .iter_mut()
            .map(|column| Arc::new(column.finish()) as ArrayRef)
            .collect();
        let options = arrow_array::RecordBatchOptions::new().with_row_count(Some(numbers.len()));
        let rows = RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)
            .map_err(|error| malformed(&self.name, error))?;
        Ok(Some(Batch {
            rows,
            numbers,
            bad,
            members: Members::default(),
        }))
    }

    fn pass_over(&mut self, row: u64) {
        self.from = row;
    }

    fn seen(&mut self) -> Seen {
        Seen {
            checkpoints: std::mem::take(&mut self.checkpoints),
        }
    }
}

#[cfg(test)]
mod tests;
