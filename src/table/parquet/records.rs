//! Rows of a column whose values repeat: one may have more values than fit into memory, in pages of
//! which each is small.

use crate::table::parquet::ParquetFile;
use crate::table::parquet::caught;
use parquet::column::page::{Page, PageMetadata, PageReader};
use parquet::column::reader::{ColumnReader, ColumnReaderImpl, get_column_reader};
use parquet::data_type::DataType;
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::serialized_reader::SerializedPageReader;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Values of a row, and of a page, at most: they are in memory together, with two numbers for each.
pub const ROW_VALUES_MAX: u64 = 8 << 20;

/// Whether a row of the chunk may have more values than are read: then rows are read one by one.
#[must_use]
pub fn may_be_long(chunk: &ColumnChunkMetaData) -> bool {
    chunk.column_descr().max_rep_level() > 0 && chunk.num_values().unsigned_abs() > ROW_VALUES_MAX
}

/// Pages of a chunk, as long as one row does not have too many values.
pub struct RowPages {
    pages: Box<dyn PageReader>,
    row: RowValues,
    values_max: u64,
}

/// The values of the pages that were read for one row.
#[derive(Clone, Default)]
pub struct RowValues(Arc<AtomicU64>);

impl RowValues {
    /// The next row begins.
    pub fn begin(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

impl RowPages {
    /// The pages, and what is told where a row begins.
    #[must_use]
    pub fn new(pages: Box<dyn PageReader>, values_max: u64) -> (Self, RowValues) {
        let row = RowValues::default();
        let pages = Self {
            pages,
            row: row.clone(),
            values_max,
        };
        (pages, row)
    }
}

impl Iterator for RowPages {
    type Item = Result<Page>;

    fn next(&mut self) -> Option<Result<Page>> {
        self.get_next_page().transpose()
    }
}

impl PageReader for RowPages {
    fn get_next_page(&mut self) -> Result<Option<Page>> {
        // Those that were read before this one have no values of another row.
        if self.row.0.load(Ordering::Relaxed) > self.values_max {
            return Err(ParquetError::General(format!(
                "a row of it has more than {} values",
                self.values_max
            )));
        }
        let page = self.pages.get_next_page()?;
        if let Some(page) = page.as_ref().filter(|page| page.is_data_page()) {
            let values = u64::from(page.num_values());
            self.row.0.fetch_add(values, Ordering::Relaxed);
        }
        Ok(page)
    }

    fn peek_next_page(&mut self) -> Result<Option<PageMetadata>> {
        self.pages.peek_next_page()
    }

    fn skip_next_page(&mut self) -> Result<()> {
        self.pages.skip_next_page()
    }

    fn supports_deferred_dictionary(&self) -> bool {
        self.pages.supports_deferred_dictionary()
    }

    fn take_deferred_dictionary(&mut self) -> Result<Option<Page>> {
        self.pages.take_deferred_dictionary()
    }

    fn at_record_boundary(&mut self) -> Result<bool> {
        self.pages.at_record_boundary()
    }
}

/// Reads a chunk row by row, and keeps nothing.
///
/// # Errors
/// Why it cannot be read; one of its rows may have too many values.
pub fn check(file: &ParquetFile, chunk: &ColumnChunkMetaData, rows: u64) -> Result<(), String> {
    let told = |error: ParquetError| error.to_string();
    let opened = Arc::new(file.opened().clone());
    let count = usize::try_from(rows).map_err(|error| error.to_string())?;
    let pages = SerializedPageReader::new(opened, chunk, count, None).map_err(told)?;
    let (pages, row) = RowPages::new(Box::new(pages), ROW_VALUES_MAX);
    let mut reader = get_column_reader(chunk.column_descr_ptr(), Box::new(pages));
    let passed = caught(file.name(), || pass(&mut reader, rows, &row));
    passed.map_err(|error| error.to_string())?.map_err(told)
}

fn pass(reader: &mut ColumnReader, rows: u64, row: &RowValues) -> Result<()> {
    match reader {
        ColumnReader::BoolColumnReader(reader) => pass_typed(reader, rows, row),
        ColumnReader::Int32ColumnReader(reader) => pass_typed(reader, rows, row),
        ColumnReader::Int64ColumnReader(reader) => pass_typed(reader, rows, row),
        ColumnReader::Int96ColumnReader(reader) => pass_typed(reader, rows, row),
        ColumnReader::FloatColumnReader(reader) => pass_typed(reader, rows, row),
        ColumnReader::DoubleColumnReader(reader) => pass_typed(reader, rows, row),
        ColumnReader::ByteArrayColumnReader(reader) => pass_typed(reader, rows, row),
        ColumnReader::FixedLenByteArrayColumnReader(reader) => pass_typed(reader, rows, row),
    }
}

fn pass_typed<T: DataType>(
    reader: &mut ColumnReaderImpl<T>,
    rows: u64,
    row: &RowValues,
) -> Result<()> {
    let (mut definitions, mut repetitions, mut values) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rows {
        row.begin();
        definitions.clear();
        repetitions.clear();
        values.clear();
        let (definitions, repetitions) = (Some(&mut definitions), Some(&mut repetitions));
        reader.read_records(1, definitions, repetitions, &mut values)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use parquet::basic::{Encoding, Repetition, Type};
    use parquet::column::reader::get_typed_column_reader;
    use parquet::data_type::BoolType;
    use parquet::schema::types::{ColumnDescriptor, ColumnPath, Type as SchemaType};
    use std::collections::VecDeque;

    /// Pages that are in memory.
    struct Pages(VecDeque<Page>);

    impl Iterator for Pages {
        type Item = Result<Page>;

        fn next(&mut self) -> Option<Result<Page>> {
            self.0.pop_front().map(Ok)
        }
    }

    impl PageReader for Pages {
        fn get_next_page(&mut self) -> Result<Option<Page>> {
            Ok(self.0.pop_front())
        }

        fn peek_next_page(&mut self) -> Result<Option<PageMetadata>> {
            Ok(self.0.front().map(|page| PageMetadata {
                num_rows: None,
                num_levels: Some(page.num_values() as usize),
                is_dict: false,
            }))
        }

        fn skip_next_page(&mut self) -> Result<()> {
            self.0.pop_front();
            Ok(())
        }
    }

    /// A run of equal levels, as RLE has it.
    fn run(count: u32, level: u8) -> Vec<u8> {
        let (mut head, mut out) = (count << 1, Vec::new());
        while head >= 0x80 {
            out.push((head & 0x7f) as u8 | 0x80);
            head >>= 7;
        }
        out.extend([u8::try_from(head).unwrap(), level]);
        out
    }

    /// A page of booleans: of whole rows with so many values each, or one that goes on with a row.
    fn page(rows: &[u32], goes_on: bool) -> Page {
        let count: u32 = rows.iter().sum();
        let mut repetitions = Vec::new();
        for values in rows {
            if goes_on {
                repetitions.extend(run(*values, 1));
            } else {
                repetitions.extend(run(1, 0));
                repetitions.extend(run(values - 1, 1));
            }
        }
        let mut bytes = Vec::new();
        for levels in [repetitions, run(count, 1)] {
            let length = u32::try_from(levels.len()).unwrap();
            bytes.extend(length.to_le_bytes());
            bytes.extend(levels);
        }
        bytes.extend(vec![0; count.div_ceil(8) as usize]);
        Page::DataPage {
            buf: Bytes::from(bytes),
            num_values: count,
            encoding: Encoding::PLAIN,
            def_level_encoding: Encoding::RLE,
            rep_level_encoding: Encoding::RLE,
            statistics: None,
        }
    }

    fn read(pages: Vec<Page>, rows: u64) -> Result<()> {
        let kind = SchemaType::primitive_type_builder("x", Type::BOOLEAN)
            .with_repetition(Repetition::REPEATED)
            .build()
            .unwrap();
        let descriptor = ColumnDescriptor::new(Arc::new(kind), 1, 1, ColumnPath::from("x"));
        let (pages, row) = RowPages::new(Box::new(Pages(pages.into())), 100);
        let reader = get_column_reader(Arc::new(descriptor), Box::new(pages));
        pass_typed::<BoolType>(&mut get_typed_column_reader(reader), rows, &row)
    }

    #[test]
    fn a_row_in_many_small_pages_is_bounded() {
        let long = |pages: usize| {
            let rest = (1..pages).map(|_| page(&[60], true));
            let mut all = vec![page(&[60], false)];
            all.extend(rest);
            all
        };
        assert!(
            read(long(2), 1).is_ok(),
            "120 values, read with the last page"
        );
        let refused = read(long(1000), 1).unwrap_err().to_string();
        assert!(
            refused.contains("a row of it has more than 100 values"),
            "{refused}"
        );
        // Many rows in many pages are not one row.
        let many: Vec<_> = (0..50).map(|_| page(&[30, 30], false)).collect();
        assert!(read(many, 100).is_ok());
    }
}
