//! Codecs that this build does not decompress.

use crate::columns::Shown;
use crate::table::TableError;
use crate::table::parquet::ParquetFile;
use parquet::basic::Compression;

/// Refuses a row group of which a column that is to be read cannot be decompressed.
///
/// # Errors
/// [`TableError::Column`], which names the column and its codec.
pub fn check(
    parquet: &ParquetFile,
    group: usize,
    is_read: impl Fn(&str) -> bool,
) -> Result<(), TableError> {
    let group = parquet.metadata().row_groups().get(group).into_iter();
    for chunk in group.flat_map(|group| group.columns()) {
        let codec = match chunk.compression() {
            Compression::BROTLI(_) => "Brotli",
            Compression::LZO => "LZO",
            _ => continue,
        };
        let path = chunk.column_path();
        if path.parts().first().is_some_and(|root| is_read(root)) {
            let column = path.string();
            return Err(TableError::Column {
                name: parquet.name().to_owned(),
                reason: format!(
                    "column {} is compressed with {codec}, and its rows must be read; write it anew with Snappy, Zstandard, gzip or LZ4",
                    Shown(&column)
                ),
            });
        }
    }
    Ok(())
}
