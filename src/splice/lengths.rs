//! Lengths of values as `DELTA_BINARY_PACKED` has them, which is a part of other encodings
//! (Parquet's `Encodings.md`).

use bytes::Bytes;
use parquet::basic::{Encoding, Repetition, Type as PhysicalType};
use parquet::column::page::{CompressedPage, PageWriteSpec, PageWriter};
use parquet::column::writer::{ColumnWriter, get_column_writer};
use parquet::errors::ParquetError;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::{ColumnDescriptor, ColumnPath, Type};
use std::sync::Arc;

/// Values of a block, as the Parquet crate writes it, and its bytes at most: the least difference,
/// the widths of four miniblocks, 32 bits for each value.
const BLOCK_VALUES: usize = 128;
const BLOCK_BYTES_MAX: usize = 5 + 4 + BLOCK_VALUES * 4;
/// Bytes in front of the blocks at most: four numbers.
const HEADER_BYTES_MAX: usize = 4 * 5;

/// The bytes of so many at most.
pub(super) fn bytes_max(count: usize) -> usize {
    HEADER_BYTES_MAX + count.div_ceil(BLOCK_VALUES) * BLOCK_BYTES_MAX
}

/// Packs lengths, and keeps them for the next page: those of blobs are mostly the same.
#[derive(Default)]
pub(super) struct Packer {
    lengths: Vec<i32>,
    packed: Bytes,
}

impl Packer {
    /// As [`packed`].
    pub(super) fn packed(&mut self, lengths: &[i32]) -> Result<Bytes, ParquetError> {
        if self.lengths != lengths {
            self.packed = packed(lengths)?;
            self.lengths = lengths.to_vec();
        }
        Ok(self.packed.clone())
    }
}

/// Lengths as the Parquet crate packs them: the page of a column of numbers.
///
/// # Errors
/// [`ParquetError`], when there is none.
pub(super) fn packed(lengths: &[i32]) -> Result<Bytes, ParquetError> {
    let name = "lengths";
    let column = Type::primitive_type_builder(name, PhysicalType::INT32)
        .with_repetition(Repetition::REQUIRED)
        .build()?;
    let column = ColumnDescriptor::new(Arc::new(column), 0, 0, ColumnPath::from(name));
    let properties = WriterProperties::builder()
        .set_dictionary_enabled(false)
        .set_encoding(Encoding::DELTA_BINARY_PACKED)
        .set_statistics_enabled(EnabledStatistics::None)
        .set_data_page_row_count_limit(usize::MAX)
        .build();
    let mut pages = Vec::new();
    let kept = Box::new(Kept(&mut pages));
    let mut writer = get_column_writer(Arc::new(column), Arc::new(properties), kept);
    if let ColumnWriter::Int32ColumnWriter(writer) = &mut writer {
        writer.write_batch(lengths, None, None)?;
    }
    writer.close()?;
    match &pages[..] {
        [page] => Ok(page.clone()),
        pages => Err(ParquetError::General(format!(
            "lengths have {} pages",
            pages.len()
        ))),
    }
}

/// Keeps the values of pages, without their headers.
struct Kept<'a>(&'a mut Vec<Bytes>);

impl PageWriter for Kept<'_> {
    fn write_page(&mut self, page: CompressedPage) -> Result<PageWriteSpec, ParquetError> {
        self.0.push(page.compressed_page().buffer().clone());
        let mut written = PageWriteSpec::new();
        written.page_type = page.page_type();
        written.num_values = page.num_values();
        Ok(written)
    }

    fn close(&mut self) -> Result<(), ParquetError> {
        Ok(())
    }
}
