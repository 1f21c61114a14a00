//! Chunks that are encoded from Arrow's arrays, whose values are copied once; the Parquet crate's
//! other writer takes a counted reference for each value. Pages leave for the file as they are
//! full.

use crate::splice::file::{PartFile, moved};
use arrow_array::ArrayRef;
use arrow_schema::{Field, Schema};
use bytes::Bytes;
use parquet::arrow::ArrowSchemaConverter;
use parquet::arrow::arrow_writer::{ArrowColumnWriter, ArrowRowGroupWriterFactory, compute_leaves};
use parquet::column::page_store::{PageKey, PageStore, PageStoreArgs, PageStoreFactory};
use parquet::errors::ParquetError;
use parquet::file::metadata::{ColumnChunkMetaData, ColumnChunkMetaDataBuilder};
use parquet::file::properties::WriterPropertiesPtr;
use parquet::file::writer::SerializedFileWriter;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

/// Pages that are full, with their headers, in order.
#[derive(Clone, Debug, Default)]
struct Pages(Arc<Mutex<Vec<Bytes>>>);

impl Pages {
    fn take(&self) -> Vec<Bytes> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl PageStoreFactory for Pages {
    fn create(&self, _: &PageStoreArgs<'_>) -> Result<Box<dyn PageStore>, ParquetError> {
        Ok(Box::new(self.clone()))
    }
}

impl PageStore for Pages {
    fn put(&mut self, page: Bytes) -> Result<PageKey, ParquetError> {
        let mut pages = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        pages.push(page);
        Ok(PageKey::new(0))
    }

    /// Nothing asks: pages are taken all at once.
    fn take(&mut self, _: PageKey) -> Result<Bytes, ParquetError> {
        Err(ParquetError::General("the page has left".to_owned()))
    }
}

/// A chunk on its way: a column without a dictionary, so that pages come in the order of the file.
struct ArrayChunk {
    field: Field,
    writer: ArrowColumnWriter,
    pages: Pages,
}

impl ArrayChunk {
    /// Begins a chunk of a column whose arrays have the type of this field.
    fn begin(field: Field, properties: WriterPropertiesPtr) -> Result<Self, ParquetError> {
        let schema = Arc::new(Schema::new(vec![field.clone()]));
        let root = ArrowSchemaConverter::new()
            .convert(&schema)?
            .root_schema_ptr();
        // The crate makes writers of columns for a file, which is not needed here.
        let file = SerializedFileWriter::new(io::sink(), root, properties)?;
        let pages = Pages::default();
        let writers = ArrowRowGroupWriterFactory::new(&file, schema)
            .with_page_store_factory(Arc::new(pages.clone()))
            .create_column_writers(0)?;
        let none = || ParquetError::General("a column without a leaf".to_owned());
        Ok(Self {
            field,
            writer: writers.into_iter().next().ok_or_else(none)?,
            pages,
        })
    }

    /// Encodes values; returns the pages that are full.
    fn write(&mut self, array: &ArrayRef) -> Result<Vec<Bytes>, ParquetError> {
        for leaf in compute_leaves(&self.field, array)? {
            self.writer.write(&leaf)?;
        }
        Ok(self.pages.take())
    }

    /// Ends the chunk; returns its last pages, and what the footer says of it, as if it were the
    /// first of its file.
    fn end(self) -> Result<(Vec<Bytes>, ColumnChunkMetaData), ParquetError> {
        let chunk = self.writer.close()?;
        Ok((self.pages.take(), chunk.close().metadata.clone()))
    }
}

impl<W: Write + Send> PartFile<'_, W> {
    /// Writes the chunk of the next column from arrays, of which `next` returns none after the
    /// last. `told` is what an error of the sink means.
    ///
    /// # Errors
    /// That of `next`, or what `told` makes of the sink's.
    pub fn write_arrays<E>(
        &mut self,
        properties: WriterPropertiesPtr,
        mut next: impl FnMut() -> Result<Option<ArrayRef>, E>,
        told: impl Fn(ParquetError) -> E,
    ) -> Result<(), E> {
        let (descriptor, to) = self.next_column().map_err(&told)?;
        let mut begun: Option<ArrayChunk> = None;
        while let Some(array) = next()? {
            let chunk = match begun.take() {
                Some(chunk) => chunk,
                None => {
                    let kind = array.data_type().clone();
                    let field = Field::new(descriptor.name(), kind, false);
                    ArrayChunk::begin(field, Arc::clone(&properties)).map_err(&told)?
                }
            };
            let pages = begun.insert(chunk).write(&array).map_err(&told)?;
            self.write_pages(&pages).map_err(&told)?;
        }
        let none = || told(ParquetError::General("a chunk without values".to_owned()));
        let (pages, chunk) = begun.ok_or_else(none)?.end().map_err(&told)?;
        self.write_pages(&pages).map_err(&told)?;
        let chunk = moved(&chunk, descriptor, 0, to).and_then(ColumnChunkMetaDataBuilder::build);
        self.chunks.push(chunk.map_err(told)?);
        Ok(())
    }

    fn write_pages(&mut self, pages: &[Bytes]) -> Result<(), ParquetError> {
        for page in pages {
            self.sink.write_all(page)?;
        }
        Ok(())
    }
}
