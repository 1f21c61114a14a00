//! Messages to record batches.
//!
//! The Arrow crates check what they decode, but expect lengths and places that fit their message,
//! and panic where these do not; and a few bytes may describe much: buffers that lie over each
//! other, types that hold any number of elements in none. All of that is refused here, before they
//! see it.

use crate::api::ApiError;
use crate::columns::shown::{Shown, kind};
use crate::stream::decompression::Decompressed;
use crate::stream::dictionaries::{Dictionaries, Piece};
use crate::stream::extents;
use crate::stream::messages::{Bounds, Message, malformed, unsupported};
use arrow_array::{ArrayRef, RecordBatch};
use arrow_buffer::Buffer;
use arrow_ipc::convert::try_fb_to_schema;
use arrow_ipc::reader::RecordBatchDecoder;
use arrow_ipc::{Endianness, MessageHeader, MetadataVersion};
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef};
use std::collections::HashMap;
use std::sync::Arc;

/// What a message is.
pub(super) enum Item {
    Schema(SchemaRef),
    Dictionary(Change),
    Rows(RecordBatch),
}

/// What became of a dictionary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// It is another from now on.
    Replaced,
    /// It has more values.
    Grown,
}

/// The state of a stream between its messages.
pub(super) struct Decoder {
    bounds: Bounds,
    begun: Option<Begun>,
}

/// From the schema on.
struct Begun {
    schema: SchemaRef,
    dictionaries: Dictionaries,
}

impl Decoder {
    pub(super) fn new(bounds: Bounds) -> Self {
        let begun = None;
        Self { bounds, begun }
    }

    /// Reads the next message.
    pub(super) fn read(&mut self, message: &Message) -> Result<Item, ApiError> {
        let header = message.header()?;
        let version = header.version();
        if !matches!(version, MetadataVersion::V4 | MetadataVersion::V5) {
            return Err(malformed("a message is of a version before 0.8"));
        }
        let kind = header.header_type();
        if kind == MessageHeader::Schema {
            return self.begin(&header).map(Item::Schema);
        }
        // Every other message needs the schema of the stream.
        let begun = self.begun.as_mut();
        let begun = begun.ok_or_else(|| malformed("it does not begin with a schema"))?;
        let decoding = Decoding {
            body: &message.body,
            version,
            bounds: self.bounds,
        };
        let absent = || malformed("a message has no header");
        match kind {
            MessageHeader::DictionaryBatch => {
                let dictionary = header.header_as_dictionary_batch().ok_or_else(absent)?;
                begun
                    .dictionary(&decoding, dictionary)
                    .map(Item::Dictionary)
            }
            MessageHeader::RecordBatch => {
                let batch = header.header_as_record_batch().ok_or_else(absent)?;
                begun.rows(&decoding, batch).map(Item::Rows)
            }
            _ => Err(malformed("a message is neither a schema nor a batch")),
        }
    }

    fn begin(&mut self, header: &arrow_ipc::Message<'_>) -> Result<SchemaRef, ApiError> {
        let schema = header
            .header_as_schema()
            .ok_or_else(|| malformed("a message has no header"))?;
        if self.begun.is_some() {
            return Err(malformed("it has a second schema"));
        }
        if schema.endianness() != Endianness::Little {
            return Err(unsupported("Big-endian streams"));
        }
        let schema = Arc::new(try_fb_to_schema(schema).map_err(undecodable)?);
        for field in schema.fields() {
            check_field(field)?;
        }
        let dictionaries = Dictionaries::of(&schema, self.bounds)?;
        self.begun = Some(Begun {
            schema: Arc::clone(&schema),
            dictionaries,
        });
        Ok(schema)
    }
}

impl Begun {
    fn dictionary(
        &mut self,
        decoding: &Decoding<'_>,
        dictionary: arrow_ipc::DictionaryBatch<'_>,
    ) -> Result<Change, ApiError> {
        let data = dictionary.data();
        let data = data.ok_or_else(|| malformed("a message has no header"))?;
        let kind = self.dictionaries.values(dictionary.id())?.clone();
        let nested = kind.is_nested();
        let column = Arc::new(Schema::new(vec![Field::new("", kind, true)]));
        let packed = decoding.unpacked(data)?;
        let (data, body) = packed.parts(decoding, data)?;
        let piece = Piece {
            id: dictionary.id(),
            is_delta: dictionary.isDelta(),
            bytes: body.len(),
        };
        self.dictionaries.make_room(&piece)?;
        let none = HashMap::new();
        // Nested values may have dictionaries in them.
        let within = match nested {
            true => self.dictionaries.joined()?,
            false => &none,
        };
        let values = decoding.decode(data, body, &column, within)?;
        let values = values.columns().first().cloned();
        let values = values.ok_or_else(|| malformed("a dictionary has no values"))?;
        self.dictionaries.insert(&piece, values)?;
        Ok(match piece.is_delta {
            true => Change::Grown,
            false => Change::Replaced,
        })
    }

    fn rows(
        &mut self,
        decoding: &Decoding<'_>,
        batch: arrow_ipc::RecordBatch<'_>,
    ) -> Result<RecordBatch, ApiError> {
        let packed = decoding.unpacked(batch)?;
        let (batch, body) = packed.parts(decoding, batch)?;
        let dictionaries = self.dictionaries.joined()?;
        decoding.decode(batch, body, &self.schema, dictionaries)
    }
}

/// A message as it is decoded.
struct Decoding<'a> {
    body: &'a Buffer,
    version: MetadataVersion,
    bounds: Bounds,
}

/// A batch that was compressed, or `None`.
struct Unpacked(Option<Decompressed>);

impl Unpacked {
    /// The batch and its body, from which `came` was, as they are without compression.
    fn parts<'a>(
        &'a self,
        decoding: &Decoding<'a>,
        came: arrow_ipc::RecordBatch<'a>,
    ) -> Result<(arrow_ipc::RecordBatch<'a>, &'a Buffer), ApiError> {
        match &self.0 {
            None => Ok((came, decoding.body)),
            Some(decompressed) => Ok((decompressed.batch()?, &decompressed.body)),
        }
    }
}

impl Decoding<'_> {
    fn unpacked(&self, batch: arrow_ipc::RecordBatch<'_>) -> Result<Unpacked, ApiError> {
        let compression = batch.compression();
        let of = |compression| Decompressed::of(&batch, &compression, self.body, self.bounds);
        compression.map(of).transpose().map(Unpacked)
    }

    fn decode(
        &self,
        batch: arrow_ipc::RecordBatch<'_>,
        body: &Buffer,
        schema: &SchemaRef,
        dictionaries: &HashMap<i64, ArrayRef>,
    ) -> Result<RecordBatch, ApiError> {
        // The Arrow crates panic at extents that do not fit, so these are checked first.
        let kinds = schema.fields().iter().map(|field| field.data_type());
        extents::check(&batch, kinds, body.len(), self.bounds.elements())?;
        let schema = Arc::clone(schema);
        RecordBatchDecoder::try_new(body, batch, schema, dictionaries, &self.version)
            .and_then(RecordBatchDecoder::read_record_batch)
            .map_err(undecodable)
    }
}

fn undecodable(error: ArrowError) -> ApiError {
    malformed(error)
}

/// Checks a column's type, and every type within.
fn check_field(field: &Field) -> Result<(), ApiError> {
    match field.data_type() {
        DataType::Union(..)
        | DataType::RunEndEncoded(..)
        | DataType::ListView(_)
        | DataType::LargeListView(_) => {
            let (name, kind) = (Shown(field.name()), kind(field.data_type()));
            Err(unsupported(&format!(
                "Columns like {name}, of type {kind},"
            )))
        }
        DataType::FixedSizeBinary(size) | DataType::FixedSizeList(_, size) if *size < 0 => {
            Err(malformed("a type has a negative size"))
        }
        DataType::List(inner)
        | DataType::LargeList(inner)
        | DataType::FixedSizeList(inner, _)
        | DataType::Map(inner, _) => check_field(inner),
        DataType::Struct(inner) => inner.iter().try_for_each(|field| check_field(field)),
        DataType::Dictionary(_, values) => {
            check_field(&Field::new(field.name(), (**values).clone(), true))
        }
        _ => Ok(()),
    }
}
