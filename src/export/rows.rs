//! Rows of an export on their way into a part.

use crate::bulk::parquet::properties;
use crate::clock::Timestamp;
use arrow_array::{ArrayRef, StringArray};
use arrow_buffer::{Buffer, OffsetBuffer, ScalarBuffer};
use arrow_schema::ArrowError;
use std::sync::Arc;

/// Some rows; its buffers are used again for the next ones.
#[derive(Default)]
pub struct Rows {
    ids: Vec<u8>,
    id_ends: Vec<i32>,
    blobs: Vec<u8>,
}

impl Rows {
    /// Appends a container id of UTF-8 text that `append` writes.
    ///
    /// # Panics
    /// When the ids exceed 2 GiB; [`crate::bulk::parquet::BATCH_ROWS`] times the longest id is far
    /// below.
    pub fn push_id(&mut self, append: impl FnOnce(&mut Vec<u8>)) {
        append(&mut self.ids);
        self.id_ends
            .push(i32::try_from(self.ids.len()).expect("a batch of bounded ids is below 2 GiB"));
    }

    /// Where blobs are appended, one for each id.
    pub fn blobs(&mut self) -> &mut Vec<u8> {
        &mut self.blobs
    }

    /// Drops what a part that was broken off has left.
    pub fn clear(&mut self) {
        self.ids.clear();
        self.id_ends.clear();
        self.blobs.clear();
    }

    /// Hands the columns to `write`: ids, blobs, which are all of one length, and times. It is
    /// empty afterwards.
    ///
    /// # Errors
    /// The error of `write`, or ids that are not UTF-8.
    ///
    /// # Panics
    /// When there is not one blob for each id: a fault of the caller.
    pub fn write<E: From<ArrowError>>(
        &mut self,
        created_at: Timestamp,
        write: impl FnOnce(&[ArrayRef; 3]) -> Result<(), E>,
    ) -> Result<(), E> {
        let rows = self.id_ends.len();
        let ends = OffsetBuffer::new(
            std::iter::once(0)
                .chain(self.id_ends.drain(..))
                .collect::<ScalarBuffer<i32>>(),
        );
        let ids = Buffer::from_vec(std::mem::take(&mut self.ids));
        let blobs = Buffer::from_vec(std::mem::take(&mut self.blobs));
        let columns = [
            Arc::new(StringArray::try_new(ends, ids.clone(), None)?) as ArrayRef,
            properties::blobs(rows, blobs.clone())?,
            properties::created_at(created_at, rows),
        ];
        write(&columns)?;
        drop(columns);
        self.ids = ids.into_vec().unwrap_or_default();
        self.blobs = blobs.into_vec().unwrap_or_default();
        self.ids.clear();
        self.blobs.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::Array;

    #[test]
    fn a_part_that_is_begun_again_has_nothing_of_the_one_before() {
        let mut rows = Rows::default();
        rows.blobs().extend_from_slice(&[1; 200]);
        rows.push_id(|out| out.extend_from_slice(b"of the one before"));
        rows.clear();
        rows.blobs().extend_from_slice(&[2; 96]);
        rows.push_id(|out| out.extend_from_slice(b"a"));
        let mut written = 0;
        let wrote = rows.write(Timestamp(0), |columns| {
            written = columns[0].len();
            Ok::<_, ArrowError>(())
        });
        assert!(wrote.is_ok() && written == 1);
    }
}
