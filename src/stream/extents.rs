//! What a batch says of lengths and places, held against its body, before the Arrow crates see it:
//! they panic where these do not fit.

use crate::api::ApiError;
use crate::stream::messages::{malformed, too_large};
use arrow_schema::DataType;

/// Where buffers may begin in their body: the format's own rule, and one that the decoder relies on
/// for the offsets of lists.
const ALIGNMENT_BYTES: usize = 8;

/// Checks what a batch says of its rows, arrays and buffers against its body, of which nothing is
/// compressed, or compressed no longer.
pub(super) fn check<'a>(
    batch: &arrow_ipc::RecordBatch<'_>,
    kinds: impl IntoIterator<Item = &'a DataType>,
    body_bytes: usize,
    elements_max: usize,
) -> Result<(), ApiError> {
    if length(batch.length())? > elements_max {
        return Err(too_large("A record batch", elements_max, "rows"));
    }
    // Elements may take no bytes, so their number is bounded by itself.
    let mut elements = 0_usize;
    for node in batch.nodes().iter().flatten() {
        let (all, nulls) = (length(node.length())?, length(node.null_count())?);
        elements = elements.saturating_add(all);
        if elements > elements_max {
            return Err(too_large("A message", elements_max, "elements"));
        }
        if nulls > all {
            return Err(malformed("an array has more nulls than elements"));
        }
    }
    check_places(batch, body_bytes)?;
    let buffers = batch.buffers();
    // The offsets of each column, as far as its type has some.
    let mut walk = Walk {
        buffers: buffers.iter().flat_map(|buffers| buffers.iter()),
        variadic: batch.variadicBufferCounts().into_iter().flatten(),
    };
    kinds.into_iter().try_for_each(|kind| walk.column(kind))
}

/// Checks that the buffers of a batch lie in its body, each at a place of its own.
pub(super) fn check_places(
    batch: &arrow_ipc::RecordBatch<'_>,
    body_bytes: usize,
) -> Result<(), ApiError> {
    // Buffers that lie over each other would hold more bytes than the body.
    let mut bytes = 0_usize;
    for buffer in batch.buffers().iter().flatten() {
        let (from, own) = (length(buffer.offset())?, length(buffer.length())?);
        if from % ALIGNMENT_BYTES != 0 {
            return Err(malformed("a buffer is not aligned"));
        }
        let end = from.checked_add(own);
        bytes = bytes.saturating_add(own);
        if end.is_none_or(|end| end > body_bytes) || bytes > body_bytes {
            return Err(malformed(
                "buffers lie outside of their body, or over each other",
            ));
        }
    }
    Ok(())
}

fn length(length: i64) -> Result<usize, ApiError> {
    usize::try_from(length).map_err(|_| malformed("a length or a place is negative"))
}

/// The buffers of a batch in the order of its columns. Where there are too few the decoder says so.
struct Walk<B, V> {
    buffers: B,
    /// How many buffers each column of views has beside its own.
    variadic: V,
}

impl<'a, B: Iterator<Item = &'a arrow_ipc::Buffer>, V: Iterator<Item = i64>> Walk<B, V> {
    fn column(&mut self, kind: &DataType) -> Result<(), ApiError> {
        if *kind == DataType::Null {
            return Ok(());
        }
        let _validity = self.buffers.next();
        match kind {
            DataType::Utf8 | DataType::Binary => {
                self.of(4)?;
                self.buffers.next();
                Ok(())
            }
            DataType::LargeUtf8 | DataType::LargeBinary => {
                self.of(8)?;
                self.buffers.next();
                Ok(())
            }
            DataType::Utf8View | DataType::BinaryView => {
                self.of(16)?;
                // The count comes from the message: the loop ends where the buffers do.
                let more = self.variadic.next().unwrap_or_default();
                for _ in 0..more {
                    if self.buffers.next().is_none() {
                        break;
                    }
                }
                Ok(())
            }
            DataType::List(inner) | DataType::Map(inner, _) => {
                self.of(4)?;
                self.column(inner.data_type())
            }
            DataType::LargeList(inner) => {
                self.of(8)?;
                self.column(inner.data_type())
            }
            DataType::FixedSizeList(inner, _) => self.column(inner.data_type()),
            DataType::Struct(fields) => fields
                .iter()
                .try_for_each(|field| self.column(field.data_type())),
            DataType::Dictionary(keys, _) => self.of(keys.primitive_width().unwrap_or(1)),
            kind => self.of(kind.primitive_width().unwrap_or(1)),
        }
    }

    /// A buffer of whole elements of this width.
    fn of(&mut self, width: usize) -> Result<(), ApiError> {
        let length = self.buffers.next().map(arrow_ipc::Buffer::length);
        match length.and_then(|length| usize::try_from(length).ok()) {
            Some(length) if length % width != 0 => {
                Err(malformed("a buffer ends within an element"))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::ErrorCode as Code;
    use crate::stream::messages::Bounds;
    use arrow_ipc::{Buffer, FieldNode, RecordBatch, RecordBatchArgs};
    use flatbuffers::FlatBufferBuilder;

    const ELEMENTS: usize = Bounds::REQUEST.elements();

    /// What is said of a batch with these elements and nulls, and these places and lengths of
    /// buffers, in a body of 64 bytes.
    fn checked(
        kind: &DataType,
        rows: i64,
        nodes: &[(i64, i64)],
        buffers: &[(i64, i64)],
    ) -> Result<(), (Code, String)> {
        let mut out = FlatBufferBuilder::new();
        let nodes: Vec<_> = nodes
            .iter()
            .map(|(all, nulls)| FieldNode::new(*all, *nulls))
            .collect();
        let buffers: Vec<_> = buffers
            .iter()
            .map(|(from, own)| Buffer::new(*from, *own))
            .collect();
        let args = RecordBatchArgs {
            length: rows,
            nodes: Some(out.create_vector(&nodes)),
            buffers: Some(out.create_vector(&buffers)),
            ..RecordBatchArgs::default()
        };
        let batch = RecordBatch::create(&mut out, &args);
        out.finish(batch, None);
        let batch = flatbuffers::root::<RecordBatch<'_>>(out.finished_data()).unwrap();
        let told = |error: ApiError| (error.code(), error.message().to_owned());
        check(&batch, [kind], 64, ELEMENTS).map_err(told)
    }

    #[test]
    fn lengths_and_places_must_fit_the_body() {
        let text = &DataType::Utf8;
        let fits = [(0, 0), (0, 8), (8, 56)];
        assert_eq!(checked(text, 1, &[(1, 0)], &fits), Ok(()));
        let all = ELEMENTS as i64;
        for (rows, nodes, buffers, code, said) in [
            (
                all + 1,
                (1, 0),
                fits,
                Code::RequestEntityTooLarge,
                "at most 134217728 rows",
            ),
            (-1, (1, 0), fits, Code::SerializationException, "negative"),
            (1, (-1, 0), fits, Code::SerializationException, "negative"),
            (1, (1, -1), fits, Code::SerializationException, "negative"),
            (1, (1, 2), fits, Code::SerializationException, "more nulls"),
            (
                1,
                (all + 1, 0),
                fits,
                Code::RequestEntityTooLarge,
                "elements",
            ),
            (
                1,
                (i64::MAX, 0),
                fits,
                Code::RequestEntityTooLarge,
                "elements",
            ),
            (
                1,
                (1, 0),
                [(0, 0), (0, 8), (8, 57)],
                Code::SerializationException,
                "outside",
            ),
            (
                1,
                (1, 0),
                [(0, 0), (0, 8), (72, 0)],
                Code::SerializationException,
                "outside",
            ),
            (
                1,
                (1, 0),
                [(0, 0), (0, 8), (-8, 8)],
                Code::SerializationException,
                "negative",
            ),
            (
                1,
                (1, 0),
                [(0, 0), (0, 8), (8, i64::MAX)],
                Code::SerializationException,
                "outside",
            ),
            // The same bytes twice: a few of them could stand for any number.
            (
                1,
                (1, 0),
                [(0, 8), (0, 8), (8, 56)],
                Code::SerializationException,
                "over each other",
            ),
            (
                1,
                (1, 0),
                [(0, 0), (4, 8), (16, 8)],
                Code::SerializationException,
                "aligned",
            ),
            (
                1,
                (1, 0),
                [(0, 0), (0, 6), (8, 8)],
                Code::SerializationException,
                "within an element",
            ),
        ] {
            let (got, message) = checked(text, rows, &[nodes], &buffers).unwrap_err();
            assert_eq!(got, code, "{message}");
            assert!(message.contains(said), "{message}");
        }
    }

    #[test]
    fn elements_are_counted_over_all_arrays() {
        // Lists of nothing: no bytes at all, and a bitmap of as many bits in the answer.
        let kind = DataType::FixedSizeBinary(0);
        let half = (ELEMENTS / 2) as i64;
        assert_eq!(checked(&kind, 1, &[(half, 0), (half, 0)], &[]), Ok(()));
        let refused = checked(&kind, 1, &[(half, 0), (half, 0), (1, 0)], &[]);
        assert_eq!(refused.unwrap_err().0, Code::RequestEntityTooLarge);
    }
}
