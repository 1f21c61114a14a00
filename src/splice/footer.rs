//! What a part's footer says beside its columns: everything that the input's does, and what the job
//! adds.

use crate::bulk::footer;
use crate::bulk::parquet::properties::field;
use crate::splice::schema::{PartSchema, Root};
use arrow_ipc::convert::try_schema_from_ipc_buffer;
use arrow_schema::{Schema, SchemaRef};
use parquet::arrow::{ARROW_SCHEMA_META_KEY, encode_arrow_schema};
use parquet::file::metadata::{FileMetaData, KeyValue};
use std::sync::Arc;

/// What the names of a job's own pairs begin with.
const OWN: &str = "keymill.";

/// The pairs of a part's footer. Those of the input stay, but for pairs that an earlier job wrote
/// and this one writes anew; where `replaces` is false, there is nothing of an earlier job.
pub(super) fn pairs(
    input: &FileMetaData,
    schema: &PartSchema,
    replaces: bool,
    own: &[(&'static str, String)],
) -> Vec<KeyValue> {
    // What folders an earlier job's parts were in says nothing of these.
    let is_own = |name: &str| {
        own.iter().any(|(own, _)| *own == name)
            || name == footer::FOLDER_COLUMNS
            || !replaces && name.starts_with(OWN)
    };
    let mut pairs = Vec::new();
    for pair in input.key_value_metadata().into_iter().flatten() {
        if pair.key == ARROW_SCHEMA_META_KEY {
            let arrow = pair.value.as_deref().and_then(decoded);
            match arrow.and_then(|arrow| extended(&arrow, schema, own)) {
                Some(arrow) => pairs.push(KeyValue::new(
                    ARROW_SCHEMA_META_KEY.to_owned(),
                    encode_arrow_schema(&arrow),
                )),
                None => tracing::warn!(
                    "the Arrow schema in a file's footer is not one, and was left out"
                ),
            }
        } else if !is_own(&pair.key) {
            pairs.push(pair.clone());
        }
    }
    let own = own.iter();
    pairs.extend(own.map(|(name, value)| KeyValue::new((*name).to_owned(), value.clone())));
    pairs
}

fn decoded(text: &str) -> Option<Schema> {
    let bytes = base64_simd::STANDARD.decode_to_vec(text).ok()?;
    try_schema_from_ipc_buffer(&bytes).ok()
}

/// The Arrow schema that readers take a part's types from. Some show its pairs and no others, so
/// the job's own are among them.
fn extended(
    arrow: &Schema,
    schema: &PartSchema,
    own: &[(&'static str, String)],
) -> Option<SchemaRef> {
    let fields = schema.roots.iter().map(|root| match *root {
        Root::Kept(at) => arrow.fields().get(at).cloned(),
        Root::Own(name) => Some(Arc::new(field(name))),
    });
    let fields = fields.collect::<Option<Vec<_>>>()?;
    let mut pairs = arrow.metadata().clone();
    pairs.remove(footer::FOLDER_COLUMNS);
    pairs.extend(
        own.iter()
            .map(|(name, value)| ((*name).to_owned(), value.clone())),
    );
    Some(Arc::new(Schema::new_with_metadata(fields, pairs)))
}
