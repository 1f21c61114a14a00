//! A job's own columns, written value by value.

use crate::bulk::KeyIdentity;
use crate::bulk::parquet::properties::column;
use crate::clock::Timestamp;
use crate::context::EncryptionContext;
use crate::splice::file::Encoded;
use crate::splice::schema::Leaf;
use crate::table::parquet::ParquetRows;
use bytes::Bytes;
use parquet::column::writer::{ColumnWriter, ColumnWriterImpl};
use parquet::data_type::{ByteArray, ByteArrayType};
use parquet::errors::ParquetError;
use parquet::file::properties::{WriterPropertiesBuilder, WriterPropertiesPtr};
use parquet::schema::types::ColumnDescPtr;
use std::collections::HashMap;
use std::sync::Arc;

/// Rows written at a time where all are the same.
const ROWS: usize = 1024;

/// What every row of a part has in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Constants {
    /// The key.
    pub key: KeyIdentity,
    /// `AES_256`, `AES_128`, or `BYTES_<n>`.
    pub key_spec: String,
    /// The context, where it is one.
    pub context: EncryptionContext,
}

impl Constants {
    /// Writes a column of so many rows.
    fn write(
        &self,
        leaf: Leaf,
        rows: u64,
        writer: &mut ColumnWriter<'_>,
    ) -> Result<(), ParquetError> {
        let text = match leaf {
            Leaf::ContextNames => return self.write_context(rows, writer, Side::Name),
            Leaf::ContextValues => return self.write_context(rows, writer, Side::Value),
            Leaf::Constant(column::KEY_ARN) => &self.key.arn,
            Leaf::Constant(column::KEY_MATERIAL_ID) => &self.key.material_id,
            _ => &self.key_spec,
        };
        repeated(texts(writer)?, &ByteArray::from(text.as_str()), rows)
    }

    fn write_context(
        &self,
        rows: u64,
        writer: &mut ColumnWriter<'_>,
        side: Side,
    ) -> Result<(), ParquetError> {
        let contexts = vec![self.context.clone(); ROWS];
        at_a_time(rows, |count| {
            write_contexts(writer, &contexts[..count], side)
        })
    }
}

/// How one worker writes a job's own columns. Chunks that are the same in many row groups are
/// encoded once.
pub struct OwnColumns {
    /// How they are encoded.
    pub properties: WriterPropertiesPtr,
    /// The same for rows whose values may be long.
    long: WriterPropertiesPtr,
    constants: Option<Constants>,
    encoded: HashMap<Leaf, (u64, Arc<Encoded>)>,
}

impl OwnColumns {
    /// Columns that are encoded in this way, and in this one where values may be long.
    #[must_use]
    pub fn new(properties: WriterPropertiesBuilder, long: WriterPropertiesBuilder) -> Self {
        Self {
            properties: Arc::new(properties.build()),
            long: Arc::new(long.build()),
            constants: None,
            encoded: HashMap::new(),
        }
    }

    /// How columns of what these rows have are written.
    pub(super) fn properties_of(&self, rows: &ParquetRows) -> &WriterPropertiesPtr {
        match rows.may_be_long() {
            true => &self.long,
            false => &self.properties,
        }
    }

    /// Begins a part.
    pub fn begin(&mut self, constants: Constants) {
        if self.constants.as_ref() != Some(&constants) {
            self.constants = Some(constants);
            self.encoded.clear();
        }
    }

    /// The chunk of a column that is the same in each of so many rows.
    ///
    /// # Errors
    /// [`ParquetError`], when the column is not one of texts: a fault of the caller.
    pub fn constant(
        &mut self,
        leaf: Leaf,
        descriptor: &ColumnDescPtr,
        rows: u64,
    ) -> Result<Arc<Encoded>, ParquetError> {
        if let Some((of, encoded)) = self.encoded.get(&leaf)
            && *of == rows
        {
            return Ok(Arc::clone(encoded));
        }
        let none = || ParquetError::General("no part has begun".to_owned());
        let constants = self.constants.as_ref().ok_or_else(none)?;
        let encoded = Encoded::new(descriptor, Arc::clone(&self.properties), |writer| {
            constants.write(leaf, rows, writer)
        })?;
        let encoded = Arc::new(encoded);
        self.encoded.insert(leaf, (rows, Arc::clone(&encoded)));
        Ok(encoded)
    }
}

/// Writes so many rows, some at a time.
fn at_a_time(
    rows: u64,
    mut write: impl FnMut(usize) -> Result<(), ParquetError>,
) -> Result<(), ParquetError> {
    let mut left = rows;
    while left > 0 {
        let count = usize::try_from(left).unwrap_or(ROWS).min(ROWS);
        write(count)?;
        left -= count as u64;
    }
    Ok(())
}

fn repeated<T: parquet::data_type::DataType>(
    writer: &mut ColumnWriterImpl<'_, T>,
    value: &T::T,
    rows: u64,
) -> Result<(), ParquetError> {
    let values = vec![value.clone(); ROWS];
    at_a_time(rows, |count| {
        writer.write_batch(&values[..count], None, None).map(drop)
    })
}

/// The writer of a column of texts or bytes.
pub(super) fn texts<'a, 'b>(
    writer: &'a mut ColumnWriter<'b>,
) -> Result<&'a mut ColumnWriterImpl<'b, ByteArrayType>, ParquetError> {
    match writer {
        ColumnWriter::ByteArrayColumnWriter(writer) => Ok(writer),
        _ => Err(ParquetError::General(
            "the column is not one of bytes".to_owned(),
        )),
    }
}

/// Writes the time of so many rows.
///
/// # Errors
/// [`ParquetError`], when the column is not one of times, or what the sink fails with.
pub fn write_time(
    writer: &mut ColumnWriter<'_>,
    time: Timestamp,
    rows: u64,
) -> Result<(), ParquetError> {
    match writer {
        ColumnWriter::Int64ColumnWriter(writer) => {
            let micros = i64::try_from(time.0).unwrap_or(i64::MAX);
            repeated(writer, &micros, rows)
        }
        _ => Err(ParquetError::General(
            "the column is not one of times".to_owned(),
        )),
    }
}

/// Which text of a pair.
#[derive(Clone, Copy)]
pub(super) enum Side {
    Name,
    Value,
}

/// Writes one text of each pair of these contexts: a row's first pair begins its list, and a row
/// without pairs has an empty one.
pub(super) fn write_contexts(
    writer: &mut ColumnWriter<'_>,
    contexts: &[EncryptionContext],
    side: Side,
) -> Result<(), ParquetError> {
    let text = |(name, value)| match side {
        Side::Name => name,
        Side::Value => value,
    };
    let (mut definitions, mut repetitions) = (Vec::new(), Vec::new());
    let mut values = Packed::default();
    for context in contexts {
        let mut pairs = context.pairs();
        match pairs.next() {
            Some(first) => {
                definitions.push(1);
                repetitions.push(0);
                values.push(str::as_bytes(text(first)));
            }
            None => {
                definitions.push(0);
                repetitions.push(0);
            }
        }
        for pair in pairs {
            definitions.push(1);
            repetitions.push(1);
            values.push(str::as_bytes(text(pair)));
        }
    }
    texts(writer)?
        .write_batch(&values.finish(), Some(&definitions), Some(&repetitions))
        .map(drop)
}

/// Values that lie end to end in one buffer.
#[derive(Default)]
pub struct Packed {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Packed {
    /// Appends a value.
    pub fn push(&mut self, value: &[u8]) {
        self.bytes.extend_from_slice(value);
        self.ends.push(self.bytes.len());
    }

    /// Appends values: `append` writes them, and says where each ends.
    pub fn append(&mut self, append: impl FnOnce(&mut Vec<u8>, &mut Vec<usize>)) {
        append(&mut self.bytes, &mut self.ends);
    }

    /// The values, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let ends = self.ends.iter().scan(0, |from, end| {
            let range = *from..*end;
            *from = *end;
            Some(range)
        });
        ends.map(|range| &self.bytes[range])
    }

    fn finish(self) -> Vec<ByteArray> {
        let bytes = Bytes::from(self.bytes);
        let mut from = 0;
        let values = self.ends.into_iter().map(|end| {
            let value = bytes.slice(from..end);
            from = end;
            ByteArray::from(value)
        });
        values.collect()
    }
}
