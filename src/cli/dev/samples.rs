//! Two small tables for a first try of bulk jobs and of streams: volumes as CSV, and containers as
//! an Arrow IPC stream.

use arrow_array::{RecordBatch, StringArray};
use arrow_ipc::writer::StreamWriter;
use arrow_schema::ArrowError;
use std::fmt::Write as _;
use std::sync::Arc;

/// The table of volumes: `volume`, `tenant` and `size_gb`.
pub(super) const VOLUMES: &str = "volumes.csv";
/// The stream of containers: `container_id` and `tenant`.
pub(super) const CONTAINERS: &str = "containers.arrows";
/// Rows of each table.
const ROWS: usize = 1_000;
const TENANTS: [&str; 3] = ["blue", "green", "red"];
const SIZES: [u32; 4] = [10, 50, 100, 500];

/// The bytes of the table of volumes.
pub(super) fn volumes() -> String {
    let mut text = "volume,tenant,size_gb\n".to_owned();
    for row in 0..ROWS {
        let (tenant, size) = (tenant(row), SIZES[row % SIZES.len()]);
        writeln!(text, "vol-{row:06},{tenant},{size}").expect("a String takes any text");
    }
    text
}

/// The bytes of the stream of containers.
///
/// # Errors
/// What the Arrow writer says.
pub(super) fn containers() -> Result<Vec<u8>, ArrowError> {
    let ids = StringArray::from_iter_values((0..ROWS).map(|row| format!("container-{row:012}")));
    let tenants = StringArray::from_iter_values((0..ROWS).map(tenant));
    let batch = RecordBatch::try_from_iter([
        ("container_id", Arc::new(ids) as _),
        ("tenant", Arc::new(tenants) as _),
    ])?;
    let mut writer = StreamWriter::try_new(Vec::new(), &batch.schema())?;
    writer.write(&batch)?;
    writer.into_inner()
}

fn tenant(row: usize) -> &'static str {
    TENANTS[row % TENANTS.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_ipc::reader::StreamReader;
    use std::collections::BTreeSet;

    #[test]
    fn both_tables_have_a_row_for_each_id() {
        let volumes = volumes();
        let ids: BTreeSet<_> = volumes.lines().skip(1).map(|row| &row[..10]).collect();
        assert_eq!(ids.len(), ROWS);
        assert_eq!(volumes.lines().count(), ROWS + 1);

        let stream = containers().unwrap();
        let batches: Vec<_> = StreamReader::try_new(&stream[..], None)
            .unwrap()
            .map(Result::unwrap)
            .collect();
        let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
        assert_eq!(rows, ROWS);
    }
}
