//! Messages to record batches.
//!
//! The Arrow crates check what they decode, but expect lengths and places that fit their message,
//! and panic where these do not; and a few bytes may describe much: buffers that lie over each
//! other, types that hold any number of elements in none. All of that is refused here, before they
//! see it.

use crate::api::ApiError;
use crate::stream::extents::{self, ELEMENTS_MAX};
use crate::stream::messages::{MESSAGE_BYTES_MAX, Message, malformed, too_large, unsupported};
use arrow_array::{ArrayRef, RecordBatch};
use arrow_ipc::convert::try_fb_to_schema;
use arrow_ipc::reader::{RecordBatchDecoder, read_dictionary};
use arrow_ipc::{Endianness, MessageHeader, MetadataVersion};
use arrow_schema::{ArrowError, DataType, Field, SchemaRef};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Rows of one record batch: a row group of what `export` writes.
pub(super) const BATCH_ROWS_MAX: usize = 128 * 1024;
/// Bytes of all dictionaries that a stream holds at a time.
const DICTIONARIES_BYTES_MAX: usize = MESSAGE_BYTES_MAX;

/// What a message is.
pub(super) enum Item {
    Schema(SchemaRef),
    Dictionary,
    Rows(RecordBatch),
}

/// The state of a stream between its messages.
#[derive(Default)]
pub(super) struct Decoder {
    schema: Option<SchemaRef>,
    dictionaries: HashMap<i64, ArrayRef>,
    /// Bytes of the body that each dictionary keeps.
    dictionaries_bytes: HashMap<i64, usize>,
}

impl Decoder {
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
        let schema = self
            .schema
            .clone()
            .ok_or_else(|| malformed("it does not begin with a schema"))?;
        let absent = || malformed("a message has no header");
        match kind {
            MessageHeader::DictionaryBatch => {
                let dictionary = header.header_as_dictionary_batch().ok_or_else(absent)?;
                if dictionary.isDelta() {
                    return Err(unsupported("Dictionaries that grow"));
                }
                let data = dictionary.data().ok_or_else(absent)?;
                let values = schema
                    .fields()
                    .iter()
                    .find_map(|field| values_of(field, dictionary.id()))
                    .ok_or_else(|| malformed("a dictionary belongs to no column"))?;
                // The Arrow crates panic at extents that do not fit, so these are checked first.
                extents::check(&data, [&values], message.body.len(), ELEMENTS_MAX)?;
                self.make_room(dictionary.id(), message.body.len())?;
                read_dictionary(
                    &message.body,
                    dictionary,
                    &schema,
                    &mut self.dictionaries,
                    &version,
                )
                .map_err(undecodable)?;
                Ok(Item::Dictionary)
            }
            MessageHeader::RecordBatch => {
                let batch = header.header_as_record_batch().ok_or_else(absent)?;
                // As with dictionaries: extents before decoding.
                let kinds = schema.fields().iter().map(|field| field.data_type());
                extents::check(&batch, kinds, message.body.len(), BATCH_ROWS_MAX)?;
                let body = &message.body;
                RecordBatchDecoder::try_new(body, batch, schema, &self.dictionaries, &version)
                    .and_then(RecordBatchDecoder::read_record_batch)
                    .map(Item::Rows)
                    .map_err(undecodable)
            }
            _ => Err(malformed("a message is neither a schema nor a batch")),
        }
    }

    fn begin(&mut self, header: &arrow_ipc::Message<'_>) -> Result<SchemaRef, ApiError> {
        let schema = header
            .header_as_schema()
            .ok_or_else(|| malformed("a message has no header"))?;
        if self.schema.is_some() {
            return Err(malformed("it has a second schema"));
        }
        if schema.endianness() != Endianness::Little {
            return Err(unsupported("Big-endian streams"));
        }
        let schema = Arc::new(try_fb_to_schema(schema).map_err(undecodable)?);
        let mut ids = HashSet::new();
        for field in schema.fields() {
            check_field(field, &mut ids)?;
        }
        self.schema = Some(Arc::clone(&schema));
        Ok(schema)
    }

    fn make_room(&mut self, id: i64, bytes: usize) -> Result<(), ApiError> {
        self.dictionaries_bytes.insert(id, bytes);
        let all: usize = self.dictionaries_bytes.values().sum();
        if all > DICTIONARIES_BYTES_MAX {
            let what = "All dictionaries of a stream together";
            return Err(too_large(what, DICTIONARIES_BYTES_MAX, "bytes"));
        }
        Ok(())
    }
}

fn undecodable(error: ArrowError) -> ApiError {
    malformed(error)
}

/// The type of the values of the dictionary with this id, if it belongs to this column or one
/// within.
fn values_of(field: &Field, id: i64) -> Option<DataType> {
    match field.data_type() {
        DataType::Dictionary(_, values) => {
            #[expect(deprecated, reason = "the stream's own id, which the decoder goes by")]
            let own = field.dict_id();
            (own == Some(id)).then(|| (**values).clone())
        }
        DataType::List(inner)
        | DataType::LargeList(inner)
        | DataType::FixedSizeList(inner, _)
        | DataType::Map(inner, _) => values_of(inner, id),
        DataType::Struct(inner) => inner.iter().find_map(|field| values_of(field, id)),
        _ => None,
    }
}

/// Checks a column's type, and every type within.
fn check_field(field: &Field, dictionaries: &mut HashSet<i64>) -> Result<(), ApiError> {
    match field.data_type() {
        DataType::Union(..)
        | DataType::RunEndEncoded(..)
        | DataType::ListView(_)
        | DataType::LargeListView(_) => {
            let (name, kind) = (field.name(), field.data_type());
            Err(unsupported(&format!(
                "Columns like {name:?}, of type {kind},"
            )))
        }
        DataType::FixedSizeBinary(size) | DataType::FixedSizeList(_, size) if *size < 0 => {
            Err(malformed("a type has a negative size"))
        }
        DataType::List(inner)
        | DataType::LargeList(inner)
        | DataType::FixedSizeList(inner, _)
        | DataType::Map(inner, _) => check_field(inner, dictionaries),
        DataType::Struct(inner) => inner
            .iter()
            .try_for_each(|field| check_field(field, dictionaries)),
        DataType::Dictionary(_, values) => {
            if values.is_nested() || matches!(**values, DataType::Dictionary(..)) {
                return Err(unsupported("Dictionaries of nested values"));
            }
            #[expect(deprecated, reason = "the stream's own id, which the decoder goes by")]
            let id = field.dict_id();
            // The answer repeats a dictionary for each column that it belongs to.
            if id.is_some_and(|id| !dictionaries.insert(id)) {
                return Err(unsupported("Dictionaries of several columns"));
            }
            check_field(&Field::new("", (**values).clone(), true), dictionaries)
        }
        _ => Ok(()),
    }
}
