//! Chunks of container ids, as `DELTA_BYTE_ARRAY`.
//!
//! ```text
//! page:  │ prefix lengths │ suffix lengths │ suffix │ suffix │ suffix │ …
//! ```
//!
//! An id shares its first bytes with the one before (a prefix), for the most part. Pages are what
//! the Parquet crate writes, byte for byte, made in a third of the time: an id is compared with the
//! one before alone, which also says whether it is the greatest or the least so far. Only pages are
//! made here; the crate packs lengths and says what statistics are.

use crate::splice::blobs::PAGE_BYTES_MAX;
use crate::splice::file::{Encoded, PartFile, moved};
use crate::splice::lengths;
use crate::splice::own::{Packed, texts};
use bytes::Bytes;
use parquet::basic::{Compression, Encoding, PageType};
use parquet::column::page::{CompressedPage, Page, PageWriter};
use parquet::data_type::ByteArray;
use parquet::errors::ParquetError;
use parquet::file::metadata::PageEncodingStats;
use parquet::file::properties::WriterPropertiesPtr;
use parquet::file::writer::SerializedPageWriter;
use std::cmp::Ordering;
use std::io::Write;
use std::sync::Arc;

/// The pages of a chunk so far, and the least and the greatest of its ids.
#[derive(Default)]
struct Chunk {
    page: PageOfIds,
    extremes: Option<[Vec<u8>; 2]>,
    values: i64,
    pages: i32,
    /// Of the ids; of the pages as they are, and as they were before they were compressed.
    bytes: usize,
    compressed: usize,
    uncompressed: usize,
}

/// A page on its way.
#[derive(Default)]
struct PageOfIds {
    prefixes: Vec<i32>,
    suffixes: Vec<i32>,
    bytes: Vec<u8>,
}

impl PageOfIds {
    fn push(&mut self, id: &[u8], prefix: usize) -> Result<(), ParquetError> {
        let suffix = &id[prefix..];
        self.prefixes.push(i32::try_from(prefix)?);
        self.suffixes.push(i32::try_from(suffix.len())?);
        // Ids that are counted mostly differ in their last digit.
        match suffix {
            [only] => self.bytes.push(*only),
            suffix => self.bytes.extend_from_slice(suffix),
        }
        Ok(())
    }

    /// The page, after which the next begins.
    fn take(&mut self, codec: Compression) -> Result<CompressedPage, ParquetError> {
        let prefixes = lengths::packed(&self.prefixes)?;
        let suffixes = lengths::packed(&self.suffixes)?;
        let values = [&prefixes[..], &suffixes, &self.bytes].concat();
        let count = self.prefixes.len();
        self.prefixes.clear();
        self.suffixes.clear();
        self.bytes.clear();
        let bytes = values.len();
        let values = match codec {
            Compression::SNAPPY => snap::raw::Encoder::new().compress_vec(&values)?,
            Compression::UNCOMPRESSED => values,
            codec => return Err(ParquetError::NYI(format!("ids with {codec}"))),
        };
        let page = Page::DataPage {
            buf: Bytes::from(values),
            num_values: u32::try_from(count)?,
            encoding: Encoding::DELTA_BYTE_ARRAY,
            def_level_encoding: Encoding::RLE,
            rep_level_encoding: Encoding::RLE,
            statistics: None,
        };
        Ok(CompressedPage::new(page, bytes))
    }
}

impl Chunk {
    /// Encodes ids; returns the pages of them.
    fn push(
        &mut self,
        ids: &Packed,
        codec: Compression,
    ) -> Result<Vec<CompressedPage>, ParquetError> {
        let mut pages = Vec::new();
        let mut before: &[u8] = &[];
        let mut extremes: Option<[(usize, &[u8]); 2]> = None;
        for (at, id) in ids.iter().enumerate() {
            if !self.page.prefixes.is_empty() && self.page.bytes.len() + id.len() > PAGE_BYTES_MAX {
                pages.push(self.page.take(codec)?);
            }
            let prefix = common_prefix(before, id);
            // The first of a page has none before it.
            let of_page = if self.page.prefixes.is_empty() {
                0
            } else {
                prefix
            };
            self.page.push(id, of_page)?;
            let [least, greatest] = extremes.get_or_insert([(at, id); 2]);
            // What is beyond the one before is beyond all, where the one before was.
            let is_beyond = |(of, extreme): (usize, &[u8]), way: Ordering| {
                of + 1 == at || id.cmp(extreme) == way
            };
            match id.get(prefix).cmp(&before.get(prefix)) {
                way @ Ordering::Greater if is_beyond(*greatest, way) => *greatest = (at, id),
                way @ Ordering::Less if is_beyond(*least, way) => *least = (at, id),
                _ => {}
            }
            self.bytes += id.len();
            before = id;
        }
        if !self.page.prefixes.is_empty() {
            pages.push(self.page.take(codec)?);
        }
        if let Some([(_, least), (_, greatest)]) = extremes {
            let [min, max] = self
                .extremes
                .get_or_insert_with(|| [least.to_vec(), greatest.to_vec()]);
            if least < &**min {
                *min = least.to_vec();
            }
            if greatest > &**max {
                *max = greatest.to_vec();
            }
        }
        Ok(pages)
    }
}

/// How many of the first bytes are the same.
fn common_prefix(one: &[u8], other: &[u8]) -> usize {
    let (of_one, _) = one.as_chunks::<8>();
    let (of_other, _) = other.as_chunks::<8>();
    let mut same = 0;
    for (one, other) in of_one.iter().zip(of_other) {
        let differing = u64::from_le_bytes(*one) ^ u64::from_le_bytes(*other);
        if differing != 0 {
            return same + differing.trailing_zeros() as usize / 8;
        }
        same += 8;
    }
    let rest = one[same..].iter().zip(&other[same..]);
    same + rest.take_while(|(one, other)| one == other).count()
}

impl<W: Write + Send> PartFile<'_, W> {
    /// Writes the chunk of the next column from ids, of which `next` returns none after the last.
    /// `told` is what an error of the sink means.
    ///
    /// # Errors
    /// That of `next`, or what `told` makes of the sink's.
    pub fn write_ids<E>(
        &mut self,
        properties: &WriterPropertiesPtr,
        mut next: impl FnMut() -> Result<Option<Packed>, E>,
        told: impl Fn(ParquetError) -> E,
    ) -> Result<(), E> {
        let (descriptor, to) = self.next_column().map_err(&told)?;
        let codec = properties.compression(descriptor.path());
        let mut chunk = Chunk::default();
        while let Some(ids) = next()? {
            let mut writer = SerializedPageWriter::new(&mut self.sink);
            for page in chunk.push(&ids, codec).map_err(&told)? {
                let written = writer.write_page(page).map_err(&told)?;
                chunk.values += i64::from(written.num_values);
                chunk.pages += 1;
                chunk.compressed += written.compressed_size;
                chunk.uncompressed += written.uncompressed_size;
            }
        }
        // What the crate says of a chunk with the least and the greatest of them.
        let extremes = chunk.extremes.take().unwrap_or_default();
        let extremes = extremes.map(ByteArray::from);
        let alike = Encoded::new(&descriptor, Arc::clone(properties), |writer| {
            texts(writer)?.write_batch(&extremes, None, None).map(drop)
        });
        let metadata = alike.and_then(|alike| {
            let pages = PageEncodingStats {
                page_type: PageType::DATA_PAGE,
                encoding: Encoding::DELTA_BYTE_ARRAY,
                count: chunk.pages,
            };
            moved(alike.metadata(), descriptor, 0, to)?
                .set_total_compressed_size(i64::try_from(chunk.compressed)?)
                .set_total_uncompressed_size(i64::try_from(chunk.uncompressed)?)
                .set_unencoded_byte_array_data_bytes(Some(i64::try_from(chunk.bytes)?))
                .set_num_values(chunk.values)
                .set_data_page_offset(to)
                .set_page_encoding_stats(vec![pages])
                .build()
        });
        self.chunks.push(metadata.map_err(told)?);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bulk::parquet::properties::{column, field, own_properties, properties};
    use arrow_array::{ArrayRef, StringArray};
    use arrow_schema::Schema;
    use parquet::arrow::ArrowSchemaConverter;
    use parquet::file::metadata::ColumnChunkMetaData;
    use parquet::file::properties::WriterPropertiesBuilder;
    use parquet::schema::types::SchemaDescPtr;

    type Written = (ColumnChunkMetaData, Vec<u8>);

    fn columns() -> SchemaDescPtr {
        let schema = Schema::new(vec![field(column::CONTAINER_ID)]);
        Arc::new(ArrowSchemaConverter::new().convert(&schema).unwrap())
    }

    fn failed(error: ParquetError) -> String {
        error.to_string()
    }

    /// A file with one chunk, which `write` writes, up to its footer.
    fn file(write: impl FnOnce(&mut PartFile<'_, Vec<u8>>) -> Result<(), String>) -> Written {
        let mut sink = Vec::new();
        let mut out = PartFile::new(&mut sink, columns()).unwrap();
        write(&mut out).unwrap();
        out.sink.flush().unwrap();
        let chunk = out.chunks.remove(0);
        drop(out);
        (chunk, sink)
    }

    /// By the Parquet crate, which ends a page after so many rows.
    fn by_the_crate(
        batches: &[Vec<String>],
        rows: usize,
        builder: WriterPropertiesBuilder,
    ) -> Written {
        let builder = builder
            .set_data_page_row_count_limit(rows)
            .set_write_batch_size(rows);
        let mut batches = batches.iter();
        let next = || {
            let array =
                |ids: &Vec<String>| -> ArrayRef { Arc::new(StringArray::from_iter_values(ids)) };
            Ok(batches.next().map(array))
        };
        file(|out| out.write_arrays(Arc::new(builder.build()), next, failed))
    }

    fn by_us(batches: &[Vec<String>], builder: WriterPropertiesBuilder) -> Written {
        let mut batches = batches.iter();
        let next = || {
            let packed = |ids: &Vec<String>| {
                let mut packed = Packed::default();
                ids.iter().for_each(|id| packed.push(id.as_bytes()));
                packed
            };
            Ok(batches.next().map(packed))
        };
        file(|out| out.write_ids(&Arc::new(builder.build()), next, failed))
    }

    /// So many batches of so many ids.
    fn batches(count: usize, rows: usize, id: impl Fn(usize) -> String) -> Vec<Vec<String>> {
        let batch = |at: usize| (at * rows..(at + 1) * rows).map(&id).collect();
        (0..count).map(batch).collect()
    }

    #[test]
    fn chunks_are_what_the_parquet_crate_writes() {
        let hashed = |number: usize| number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let ids: [&dyn Fn(usize) -> String; 8] = [
            &|number| format!("container-{number:012}"),
            &|number| format!("{number}"),
            &|number| format!("{}", 100_000 - number),
            &|number| format!("{:016x}", hashed(number)),
            &|number| format!("volume-{}", hashed(number) % 50),
            &|number| "a".repeat(hashed(number) % 20),
            // Longer than statistics are, and not cut within a character.
            &|number| format!("{}{:04}", "ü".repeat(33), hashed(number) % 5000),
            &|_| "the same".to_owned(),
        ];
        for id in ids {
            for rows in [1, 2, 129, 1000] {
                let batches = batches(3, rows, id);
                for properties in [properties, own_properties] {
                    let written = by_us(&batches, properties());
                    let expected = by_the_crate(&batches, rows, properties());
                    assert_eq!(written, expected, "{} {rows}", id(1));
                }
            }
        }
    }

    #[test]
    fn long_ids_are_in_pages_of_a_mebibyte() {
        let long = "ä".repeat(3000);
        let batches = batches(1, 1000, |number| format!("{number:03}{long}"));
        let (chunk, _) = by_us(&batches, own_properties());
        assert_eq!(chunk.num_values(), 1000);
        assert!(chunk.page_encoding_stats().unwrap()[0].count > 1);
    }
}
