//! A table of volumes, as jobs receive it.

// Each bench uses its own part of it.
#![allow(dead_code, reason = "compiled into each bench that asks for it")]

use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use keymill::bulk::parquet::BATCH_ROWS;
use keymill::bulk::parquet::properties::ROW_GROUP_ROWS;
use keymill::columns::ContextPairs;
use keymill::context::EncryptionContext;
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

/// The column that identifies volumes.
pub(crate) const ID: &str = "volume";
/// The columns of every row's context.
pub(crate) const CONTEXT: [&str; 2] = ["tenant", ID];
const TENANTS: u64 = 1000;

/// `count` rows from the one of this number on.
pub(crate) fn rows(first: u64, count: usize) -> RecordBatch {
    let numbers = first..first + count as u64;
    let tenants = numbers.clone().map(|number| number % TENANTS);
    let tenants = tenants.map(|tenant| format!("tenant-{tenant}"));
    let ids = numbers.clone().map(|number| format!("volume-{number:012}"));
    let bytes = numbers.map(|number| (number << 20).cast_signed());
    let columns: [(&str, ArrayRef); 3] = [
        (ID, Arc::new(StringArray::from_iter_values(ids))),
        (CONTEXT[0], Arc::new(StringArray::from_iter_values(tenants))),
        ("bytes", Arc::new(Int64Array::from_iter_values(bytes))),
    ];
    RecordBatch::try_from_iter(columns).unwrap()
}

/// Writes a table of `count` rows.
pub(crate) fn write(path: &Path, count: u64) {
    let properties = WriterProperties::builder();
    let properties = properties.set_max_row_group_row_count(Some(ROW_GROUP_ROWS));
    let (file, schema) = (File::create(path).unwrap(), rows(0, 0).schema());
    let mut writer = ArrowWriter::try_new(file, schema, Some(properties.build())).unwrap();
    for (first, count) in batches(count) {
        writer.write(&rows(first, count)).unwrap();
    }
    writer.close().unwrap();
}

/// The first row of each batch, and its rows.
pub(crate) fn batches(count: u64) -> impl Iterator<Item = (u64, usize)> {
    let firsts = (0..count).step_by(BATCH_ROWS);
    firsts.map(move |first| {
        let left = usize::try_from(count - first).unwrap();
        (first, left.min(BATCH_ROWS))
    })
}

/// The texts of every row's context.
pub(crate) fn pairs() -> ContextPairs {
    ContextPairs {
        columns: CONTEXT.map(ToOwned::to_owned).to_vec(),
        constants: Vec::new(),
    }
}

/// The contexts of these rows.
pub(crate) fn contexts(rows: &RecordBatch) -> Vec<EncryptionContext> {
    let pairs = pairs();
    let places = pairs.places(&rows.schema()).unwrap();
    let texts = pairs.rows(rows, &places).unwrap();
    let contexts = (0..rows.num_rows()).map(|row| texts.context(row).unwrap());
    contexts.collect()
}
