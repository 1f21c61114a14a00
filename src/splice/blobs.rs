//! Chunks of blobs, whose pages are the buffers that the blobs were made in.
//!
//! ```text
//! page, DELTA_LENGTH_BYTE_ARRAY:  │ lengths, DELTA_BINARY_PACKED │ blob │ blob │ blob │ …
//! ```
//!
//! The Parquet crate's writers of values copy each of them several times. Blobs are random bytes
//! that have neither statistics nor a dictionary nor a codec, so all that is left to encode is
//! their lengths. These are written into room that is left in front of the blobs (Parquet's
//! `Encodings.md`, "Delta-length byte array").

use crate::splice::file::PartFile;
use crate::splice::lengths::{self, Packer};
use bytes::Bytes;
use parquet::basic::{Encoding, PageType};
use parquet::column::page::{CompressedPage, Page, PageWriter};
use parquet::errors::ParquetError;
use parquet::file::metadata::{ColumnChunkMetaData, PageEncodingStats};
use parquet::file::writer::SerializedPageWriter;
use std::io::Write;

/// Bytes of the values of a page at most, as the Parquet crate has it: 8,192 blobs of `AES_256`
/// fit.
pub(super) const PAGE_BYTES_MAX: usize = 1 << 20;
/// Blobs that lie end to end, behind room for what says how long each is.
pub struct Blobs {
    bytes: Vec<u8>,
    room: usize,
    lengths: Vec<i32>,
}

impl Blobs {
    /// None yet, of so many rows.
    #[must_use]
    pub fn of_rows(rows: usize) -> Self {
        let room = lengths::bytes_max(rows);
        Self {
            bytes: vec![0; room],
            room,
            lengths: Vec::with_capacity(rows),
        }
    }

    /// How many there are.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.lengths.len()
    }

    /// All of them, end to end.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[self.room..]
    }

    /// Appends a blob.
    ///
    /// # Panics
    /// When it has 2 GiB.
    pub fn push(&mut self, blob: &[u8]) {
        self.bytes.extend_from_slice(blob);
        let length = i32::try_from(blob.len()).expect("a blob has some thousand bytes at most");
        self.lengths.push(length);
    }

    /// Appends so many blobs of one length, at least one, which `append` writes.
    ///
    /// # Errors
    /// The error of `append`.
    ///
    /// # Panics
    /// When there are not as many bytes for each: a fault of the caller.
    pub fn append<T, E>(
        &mut self,
        rows: usize,
        append: impl FnOnce(&mut Vec<u8>) -> Result<T, E>,
    ) -> Result<T, E> {
        let from = self.bytes.len();
        let appended = append(&mut self.bytes)?;
        let bytes = self.bytes.len() - from;
        assert!(rows > 0 && bytes.is_multiple_of(rows));
        let length = i32::try_from(bytes / rows).expect("a blob has some thousand bytes at most");
        self.lengths.resize(self.lengths.len() + rows, length);
        Ok(appended)
    }

    /// The pages: one without a copy, or several where blobs are long.
    fn pages(self, packer: &mut Packer) -> Result<Vec<CompressedPage>, ParquetError> {
        let Self {
            mut bytes,
            room,
            lengths,
        } = self;
        if bytes.len() - room <= PAGE_BYTES_MAX {
            let encoded = packer.packed(&lengths)?;
            let none = || ParquetError::General("lengths have more bytes than room".to_owned());
            let start = room.checked_sub(encoded.len()).ok_or_else(none)?;
            bytes[start..room].copy_from_slice(&encoded);
            return Ok(vec![page(Bytes::from(bytes).slice(start..), lengths.len())]);
        }
        let mut pages = Vec::new();
        let (mut blobs, mut lengths) = (&bytes[room..], &lengths[..]);
        while !lengths.is_empty() {
            let (rows, length) = fitting(lengths);
            let (of_page, others) = blobs.split_at(length);
            let (lengths_of_page, other_lengths) = lengths.split_at(rows);
            let encoded = packer.packed(lengths_of_page)?;
            pages.push(page([&encoded, of_page].concat().into(), rows));
            (blobs, lengths) = (others, other_lengths);
        }
        Ok(pages)
    }
}

/// How many of the next blobs fit into a page, at least one, and their bytes.
fn fitting(lengths: &[i32]) -> (usize, usize) {
    let (mut rows, mut bytes) = (0, 0);
    for length in lengths {
        let length = usize::try_from(*length).unwrap_or_default();
        if rows > 0 && bytes + length > PAGE_BYTES_MAX {
            break;
        }
        rows += 1;
        bytes += length;
    }
    (rows, bytes)
}

fn page(buf: Bytes, rows: usize) -> CompressedPage {
    let bytes = buf.len();
    let page = Page::DataPage {
        buf,
        num_values: u32::try_from(rows).unwrap_or(u32::MAX),
        encoding: Encoding::DELTA_LENGTH_BYTE_ARRAY,
        def_level_encoding: Encoding::RLE,
        rep_level_encoding: Encoding::RLE,
        statistics: None,
    };
    CompressedPage::new(page, bytes)
}

impl<W: Write + Send> PartFile<'_, W> {
    /// Writes the chunk of the next column from blobs, of which `next` returns none after the last.
    /// `told` is what an error of the sink means.
    ///
    /// # Errors
    /// That of `next`, or what `told` makes of the sink's.
    pub fn write_blobs<E>(
        &mut self,
        mut next: impl FnMut() -> Result<Option<Blobs>, E>,
        told: impl Fn(ParquetError) -> E,
    ) -> Result<(), E> {
        let (descriptor, to) = self.next_column().map_err(&told)?;
        let (mut values, mut bytes, mut count) = (0, 0, 0);
        let mut packer = Packer::default();
        while let Some(blobs) = next()? {
            let mut writer = SerializedPageWriter::new(&mut self.sink);
            for page in blobs.pages(&mut packer).map_err(&told)? {
                let written = writer.write_page(page).map_err(&told)?;
                values += i64::from(written.num_values);
                bytes += written.bytes_written;
                count += 1;
            }
        }
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        let chunk = ColumnChunkMetaData::builder(descriptor)
            .set_encodings(vec![Encoding::DELTA_LENGTH_BYTE_ARRAY, Encoding::RLE])
            .set_page_encoding_stats(vec![PageEncodingStats {
                page_type: PageType::DATA_PAGE,
                encoding: Encoding::DELTA_LENGTH_BYTE_ARRAY,
                count,
            }])
            .set_total_compressed_size(bytes)
            .set_total_uncompressed_size(bytes)
            .set_num_values(values)
            .set_data_page_offset(to)
            .build();
        self.chunks.push(chunk.map_err(told)?);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bulk::parquet::properties::{column, field, own_properties};
    use arrow_array::{ArrayRef, BinaryArray};
    use arrow_schema::Schema;
    use parquet::arrow::ArrowSchemaConverter;
    use parquet::file::properties::WriterPropertiesPtr;
    use parquet::schema::types::SchemaDescPtr;
    use std::sync::Arc;

    fn columns() -> SchemaDescPtr {
        let schema = Schema::new(vec![field(column::CIPHERTEXT_BLOB)]);
        Arc::new(ArrowSchemaConverter::new().convert(&schema).unwrap())
    }

    fn failed(error: ParquetError) -> String {
        error.to_string()
    }

    /// A file with one chunk, which `write` writes, up to its footer.
    fn file(
        write: impl FnOnce(&mut PartFile<'_, Vec<u8>>) -> Result<(), String>,
    ) -> (ColumnChunkMetaData, Vec<u8>) {
        let mut sink = Vec::new();
        let mut out = PartFile::new(&mut sink, columns()).unwrap();
        write(&mut out).unwrap();
        out.sink.flush().unwrap();
        let chunk = out.chunks.remove(0);
        drop(out);
        (chunk, sink)
    }

    /// The same by the Parquet crate, which ends a page after so many rows.
    fn by_the_crate(batches: &[Vec<Vec<u8>>], rows: usize) -> (ColumnChunkMetaData, Vec<u8>) {
        let properties = own_properties()
            .set_data_page_row_count_limit(rows)
            .set_write_batch_size(rows);
        let properties: WriterPropertiesPtr = Arc::new(properties.build());
        let mut batches = batches.iter();
        let next = || {
            let array = |blobs: &Vec<Vec<u8>>| -> ArrayRef {
                Arc::new(BinaryArray::from_iter_values(blobs))
            };
            Ok(batches.next().map(array))
        };
        file(|out| out.write_arrays(properties, next, failed))
    }

    fn by_us(batches: &[Vec<Vec<u8>>], are_equal: bool) -> (ColumnChunkMetaData, Vec<u8>) {
        let mut batches = batches.iter();
        let next = || {
            let Some(batch) = batches.next() else {
                return Ok(None);
            };
            let mut blobs = Blobs::of_rows(batch.len());
            if are_equal {
                let append = |out: &mut Vec<u8>| {
                    out.extend(batch.iter().flatten());
                    Ok::<_, String>(())
                };
                blobs.append(batch.len(), append)?;
            } else {
                batch.iter().for_each(|blob| blobs.push(blob));
            }
            Ok(Some(blobs))
        };
        file(|out| out.write_blobs(next, failed))
    }

    fn blob(row: usize, length: usize) -> Vec<u8> {
        (0..length)
            .map(|at| (row * 31 + at).to_le_bytes()[0])
            .collect()
    }

    #[test]
    fn pages_are_what_the_parquet_crate_writes_byte_for_byte() {
        let equal = |rows| (0..rows).map(|row| blob(row, 96)).collect::<Vec<_>>();
        for rows in [1, 2, 127, 128, 129, 130, 1000, 8192] {
            // The last page of a chunk has fewer rows, or as many.
            let batches = [equal(rows), equal(rows), equal(rows.min(77))];
            let (chunk, bytes) = by_us(&batches, true);
            assert_eq!((chunk, bytes.clone()), by_the_crate(&batches, rows));
            assert_eq!(by_us(&batches, false).1, bytes);
        }
    }

    #[test]
    fn pages_of_blobs_of_any_lengths_are_what_the_parquet_crate_writes() {
        for lengths in [[64, 65, 4160, 1], [4160, 1, 4160, 1], [1, 1, 1, 2]] {
            let rows = |count| {
                let rows = (0..count).map(|row| blob(row, lengths[row * row % 7 % 4]));
                rows.collect::<Vec<_>>()
            };
            let batches = [rows(300), rows(300), rows(9)];
            assert_eq!(by_us(&batches, false), by_the_crate(&batches, 300));
        }
    }

    #[test]
    fn long_blobs_are_in_pages_of_a_mebibyte() {
        let batch: Vec<_> = (0..1000).map(|row| blob(row, 4160)).collect();
        let mut blobs = Blobs::of_rows(batch.len());
        batch.iter().for_each(|blob| blobs.push(blob));
        let pages = blobs.pages(&mut Packer::default()).unwrap();
        let rows: Vec<_> = pages.iter().map(CompressedPage::num_values).collect();
        assert_eq!(rows, [252, 252, 252, 244]);
        let (chunk, bytes) = by_us(std::slice::from_ref(&batch), false);
        assert_eq!(chunk.num_values(), 1000);
        assert_eq!((chunk, bytes), by_the_crate(&[batch], 252));
    }
}
