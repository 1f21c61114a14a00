//! A job's own columns, written value by value.

use crate::bulk::KeyIdentity;
use crate::bulk::parquet::properties::{column, long_id_properties, own_properties};
use crate::clock::Timestamp;
use crate::context::EncryptionContext;
use crate::splice::file::Encoded;
use crate::table::parquet::ParquetRows;
use bytes::Bytes;
use parquet::column::writer::{ColumnWriter, ColumnWriterImpl};
use parquet::data_type::{ByteArray, ByteArrayType};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterPropertiesPtr;
use parquet::schema::types::ColumnDescPtr;
use std::collections::HashMap;
use std::sync::Arc;

/// Rows written at a time where all are the same.
const ROWS: usize = 1024;

/// What every row of a part has in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Constants {
    pub(super) key: KeyIdentity,
    pub(super) key_spec: String,
}

impl Constants {
    fn text(&self, name: &str) -> &str {
        match name {
            column::KEY_ARN => &self.key.arn,
            column::KEY_MATERIAL_ID => &self.key.material_id,
            _ => &self.key_spec,
        }
    }
}

/// How one worker writes a job's own columns. Chunks that are the same in many row groups are
/// encoded once.
pub(super) struct OwnColumns {
    pub(super) properties: WriterPropertiesPtr,
    /// The same for rows whose values may be long.
    pub(super) long: WriterPropertiesPtr,
    constants: Option<Constants>,
    encoded: HashMap<&'static str, (u64, Arc<Encoded>)>,
}

impl OwnColumns {
    pub(super) fn new() -> Self {
        Self {
            properties: Arc::new(own_properties().build()),
            long: Arc::new(long_id_properties().build()),
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
    pub(super) fn begin(&mut self, constants: Constants) {
        if self.constants.as_ref() != Some(&constants) {
            self.constants = Some(constants);
            self.encoded.clear();
        }
    }

    /// The chunk of a column that is the same in each of so many rows.
    pub(super) fn constant(
        &mut self,
        name: &'static str,
        descriptor: &ColumnDescPtr,
        rows: u64,
    ) -> Result<Arc<Encoded>, ParquetError> {
        if let Some((of, encoded)) = self.encoded.get(name)
            && *of == rows
        {
            return Ok(Arc::clone(encoded));
        }
        let text = self
            .constants
            .as_ref()
            .map(|constants| constants.text(name));
        let value = ByteArray::from(text.unwrap_or_default());
        let encoded = Encoded::new(descriptor, Arc::clone(&self.properties), |writer| {
            repeated(texts(writer)?, &value, rows, None, None)
        })?;
        let encoded = Arc::new(encoded);
        self.encoded.insert(name, (rows, Arc::clone(&encoded)));
        Ok(encoded)
    }
}

fn repeated<T: parquet::data_type::DataType>(
    writer: &mut ColumnWriterImpl<'_, T>,
    value: &T::T,
    rows: u64,
    definitions: Option<&[i16]>,
    repetitions: Option<&[i16]>,
) -> Result<(), ParquetError> {
    let values = vec![value.clone(); ROWS];
    let mut left = rows;
    while left > 0 {
        let count = usize::try_from(left).unwrap_or(ROWS).min(ROWS);
        writer.write_batch(&values[..count], definitions, repetitions)?;
        left -= count as u64;
    }
    Ok(())
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
pub(super) fn write_time(
    writer: &mut ColumnWriter<'_>,
    time: Timestamp,
    rows: u64,
) -> Result<(), ParquetError> {
    match writer {
        ColumnWriter::Int64ColumnWriter(writer) => {
            let micros = i64::try_from(time.0).unwrap_or(i64::MAX);
            repeated(writer, &micros, rows, None, None)
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
pub(super) struct Packed {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Packed {
    pub(super) fn push(&mut self, value: &[u8]) {
        self.bytes.extend_from_slice(value);
        self.ends.push(self.bytes.len());
    }

    pub(super) fn finish(self) -> Vec<ByteArray> {
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
