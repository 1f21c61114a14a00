//! Batches whose buffers are compressed, each by itself: LZ4 frames and Zstandard.
//!
//! What a buffer says of its length is added up and held against the bound of a body before a byte
//! of room is made. Then the buffers are put, one behind the other, into one body of that length,
//! and everything behind this module sees a batch that might have come so.
//!
//! Source: Arrow columnar format, "Compression".

use crate::api::ApiError;
use crate::stream::extents;
use crate::stream::messages::{Bounds, malformed, too_large, unsupported};
use arrow_buffer::{Buffer, MutableBuffer};
use arrow_ipc::{BodyCompression, BodyCompressionMethod, CompressionType, RecordBatchArgs};
use flatbuffers::FlatBufferBuilder;
use lz4_flex::frame::FrameDecoder;
use std::io::Read;
use zstd::bulk::Decompressor;

/// Bytes of the length that a buffer begins with.
const LENGTH_BYTES: usize = 8;
/// The length of a buffer that is there as it is.
const AS_IT_IS: i64 = -1;
/// Buffers begin at multiples of it.
const ALIGNMENT_BYTES: usize = 8;
/// Where an LZ4 frame says how long its blocks may be (LZ4 frame format, "Frame Descriptor": BD),
/// and the shift and mask of that number.
const LZ4_BLOCKS_AT: usize = 5;
const LZ4_BLOCKS_SHIFT: u8 = 4;
const LZ4_BLOCKS_MASK: u8 = 7;
/// Bytes of one block of each frame of a message together: those of 512 buffers with the largest
/// blocks there are. The decoder clears room for a block however short the buffer is.
const LZ4_BLOCKS_BYTES_MAX: usize = 512 * (4 << 20);

/// A batch as it was before its compression.
pub(super) struct Decompressed {
    /// The batch's metadata, a flatbuffer by itself.
    metadata: Vec<u8>,
    pub(super) body: Buffer,
}

impl Decompressed {
    /// Decompresses `batch`, whose buffers are in `body`.
    ///
    /// # Errors
    /// [`ApiError`]: it is compressed in another way, its buffers are not sound, or they are larger
    /// than a body may be.
    pub(super) fn of(
        batch: &arrow_ipc::RecordBatch<'_>,
        compression: &BodyCompression<'_>,
        body: &[u8],
        bounds: Bounds,
    ) -> Result<Self, ApiError> {
        let codec = Codec::of(compression)?;
        extents::check_places(batch, body.len())?;
        let mut buffers = Vec::new();
        let (mut bytes, mut blocks) = (0_usize, 0_usize);
        for place in batch.buffers().iter().flatten() {
            let packed = Packed::of(place, body)?;
            bytes = bytes.saturating_add(packed.length);
            blocks = blocks.saturating_add(codec.block_bytes(&packed));
            buffers.push(packed);
        }
        if bytes > bounds.body_bytes {
            let what = "The body of a message, decompressed,";
            return Err(too_large(what, bounds.body_bytes, "bytes"));
        }
        if blocks > LZ4_BLOCKS_BYTES_MAX {
            let what = "All LZ4 blocks of a message, one for each buffer,";
            return Err(too_large(what, LZ4_BLOCKS_BYTES_MAX, "bytes"));
        }
        codec.decompress(batch, &buffers)
    }

    /// The batch.
    pub(super) fn batch(&self) -> Result<arrow_ipc::RecordBatch<'_>, ApiError> {
        flatbuffers::root::<arrow_ipc::RecordBatch<'_>>(&self.metadata)
            .map_err(|error| ApiError::internal(error.to_string()))
    }
}

/// A buffer of a compressed batch.
struct Packed<'a> {
    bytes: &'a [u8],
    is_compressed: bool,
    /// Its bytes once it is decompressed.
    length: usize,
}

impl<'a> Packed<'a> {
    fn of(place: &arrow_ipc::Buffer, body: &'a [u8]) -> Result<Self, ApiError> {
        let outside = || malformed("a length or a place is negative");
        let from = usize::try_from(place.offset()).map_err(|_| outside())?;
        let own = usize::try_from(place.length()).map_err(|_| outside())?;
        let all = body.get(from..).and_then(|rest| rest.get(..own));
        let all = all.ok_or_else(|| malformed("buffers lie outside of their body"))?;
        if all.is_empty() {
            return Ok(Self {
                bytes: all,
                is_compressed: false,
                length: 0,
            });
        }
        let (length, bytes) = all
            .split_first_chunk::<LENGTH_BYTES>()
            .ok_or_else(|| malformed("a compressed buffer has no length"))?;
        let length = i64::from_le_bytes(*length);
        if length == AS_IT_IS {
            return Ok(Self {
                bytes,
                is_compressed: false,
                length: bytes.len(),
            });
        }
        let length = usize::try_from(length)
            .map_err(|_| malformed("the length of a compressed buffer is negative"))?;
        Ok(Self {
            bytes,
            is_compressed: length > 0,
            length,
        })
    }
}

#[derive(Clone, Copy)]
enum Codec {
    Lz4,
    Zstandard,
}

impl Codec {
    fn of(compression: &BodyCompression<'_>) -> Result<Self, ApiError> {
        let other = "Batches that are compressed in another way than buffer by buffer with LZ4 frames or Zstandard";
        if compression.method() != BodyCompressionMethod::BUFFER {
            return Err(unsupported(other));
        }
        match compression.codec() {
            CompressionType::LZ4_FRAME => Ok(Self::Lz4),
            CompressionType::ZSTD => Ok(Self::Zstandard),
            _ => Err(unsupported(other)),
        }
    }

    /// Bytes that the decoder clears for a buffer.
    fn block_bytes(self, packed: &Packed<'_>) -> usize {
        match (self, packed.bytes.get(LZ4_BLOCKS_AT)) {
            (Self::Lz4, Some(descriptor)) if packed.is_compressed => {
                // 64 KiB, and each number above it four times as much.
                let number = (descriptor >> LZ4_BLOCKS_SHIFT) & LZ4_BLOCKS_MASK;
                (64 << 10) << (2 * u32::from(number.saturating_sub(4)))
            }
            _ => 0,
        }
    }

    fn decompress(
        self,
        batch: &arrow_ipc::RecordBatch<'_>,
        buffers: &[Packed<'_>],
    ) -> Result<Decompressed, ApiError> {
        let aligned = |length: usize| length.next_multiple_of(ALIGNMENT_BYTES);
        let all = buffers.iter().map(|packed| aligned(packed.length)).sum();
        // Pages that nothing is written to take no memory: what was not there is not paid for.
        let mut body = MutableBuffer::from_len_zeroed(all);
        let mut rest = body.as_slice_mut();
        let mut zstandard = match self {
            Self::Zstandard => Some(Decompressor::new().map_err(ApiError::internal)?),
            Self::Lz4 => None,
        };
        let (mut places, mut from) = (Vec::with_capacity(buffers.len()), 0);
        for packed in buffers {
            let (own, behind) = rest.split_at_mut(aligned(packed.length));
            let (own, _padding) = own.split_at_mut(packed.length);
            match (&mut zstandard, packed.is_compressed) {
                (_, false) => own.copy_from_slice(&packed.bytes[..own.len()]),
                (Some(zstandard), true) => zstd_into(zstandard, packed.bytes, own)?,
                (None, true) => lz4_into(packed.bytes, own)?,
            }
            places.push((from, packed.length));
            from += aligned(packed.length);
            rest = behind;
        }
        Ok(Decompressed {
            metadata: metadata(batch, &places)?,
            body: body.into(),
        })
    }
}

fn zstd_into(
    decompressor: &mut Decompressor<'_>,
    from: &[u8],
    into: &mut [u8],
) -> Result<(), ApiError> {
    match decompressor.decompress_to_buffer(from, into) {
        Ok(bytes) if bytes == into.len() => Ok(()),
        Ok(_) => Err(other_length()),
        Err(error) => Err(malformed(format_args!("Zstandard: {error}"))),
    }
}

fn lz4_into(from: &[u8], into: &mut [u8]) -> Result<(), ApiError> {
    let unsound = |error| malformed(format_args!("LZ4: {error}"));
    let mut decoder = FrameDecoder::new(from);
    // As long as the first frame goes, and no other.
    decoder.read_exact(into).map_err(unsound)?;
    match decoder.read(&mut [0]).map_err(unsound)? {
        0 => Ok(()),
        _ => Err(other_length()),
    }
}

fn other_length() -> ApiError {
    malformed("a compressed buffer has another length than it says")
}

/// The batch's metadata with these places of its buffers, and without compression.
fn metadata(
    batch: &arrow_ipc::RecordBatch<'_>,
    places: &[(usize, usize)],
) -> Result<Vec<u8>, ApiError> {
    let signed = |length: usize| i64::try_from(length).map_err(ApiError::internal);
    let buffers = places
        .iter()
        .map(|(from, own)| Ok(arrow_ipc::Buffer::new(signed(*from)?, signed(*own)?)))
        .collect::<Result<Vec<_>, ApiError>>()?;
    let nodes: Vec<_> = batch.nodes().iter().flatten().copied().collect();
    let counts = batch.variadicBufferCounts();
    let counts = counts.map(|counts| counts.iter().collect::<Vec<_>>());
    let mut out = FlatBufferBuilder::new();
    let args = RecordBatchArgs {
        length: batch.length(),
        nodes: Some(out.create_vector(&nodes)),
        buffers: Some(out.create_vector(&buffers)),
        compression: None,
        variadicBufferCounts: counts.map(|counts| out.create_vector(&counts)),
    };
    let batch = arrow_ipc::RecordBatch::create(&mut out, &args);
    out.finish(batch, None);
    Ok(out.finished_data().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::ErrorCode as Code;
    use arrow_ipc::BodyCompressionArgs;

    /// The metadata of a batch with these buffers, end to end at multiples of eight, and its body.
    fn batch(buffers: &[&[u8]], args: &BodyCompressionArgs) -> (Vec<u8>, Vec<u8>) {
        let (mut body, mut places) = (Vec::new(), Vec::new());
        for buffer in buffers {
            let from = i64::try_from(body.len()).unwrap();
            places.push(arrow_ipc::Buffer::new(from, buffer.len() as i64));
            body.extend_from_slice(buffer);
            body.resize(body.len().next_multiple_of(8), 0);
        }
        let mut out = FlatBufferBuilder::new();
        let args = RecordBatchArgs {
            length: 1,
            buffers: Some(out.create_vector(&places)),
            compression: Some(BodyCompression::create(&mut out, args)),
            ..RecordBatchArgs::default()
        };
        let batch = arrow_ipc::RecordBatch::create(&mut out, &args);
        out.finish(batch, None);
        (out.finished_data().to_vec(), body)
    }

    fn decompressed(
        buffers: &[&[u8]],
        args: &BodyCompressionArgs,
    ) -> Result<Vec<Vec<u8>>, (Code, String)> {
        let (metadata, body) = batch(buffers, args);
        let batch = flatbuffers::root::<arrow_ipc::RecordBatch<'_>>(&metadata).unwrap();
        let compression = batch.compression().unwrap();
        let told = |error: ApiError| (error.code(), error.message().to_owned());
        let made = Decompressed::of(&batch, &compression, &body, Bounds::REQUEST).map_err(told)?;
        let batch = made.batch().map_err(told)?;
        assert!(batch.compression().is_none());
        let buffers = batch.buffers().unwrap().iter().map(|buffer| {
            let from = usize::try_from(buffer.offset()).unwrap();
            assert_eq!(from % ALIGNMENT_BYTES, 0);
            made.body[from..from + usize::try_from(buffer.length()).unwrap()].to_vec()
        });
        Ok(buffers.collect())
    }

    const ZSTANDARD: BodyCompressionArgs = BodyCompressionArgs {
        codec: CompressionType::ZSTD,
        method: BodyCompressionMethod::BUFFER,
    };

    fn with_length(length: i64, bytes: &[u8]) -> Vec<u8> {
        [&length.to_le_bytes(), bytes].concat()
    }

    #[test]
    fn each_buffer_is_as_it_was() {
        let text = b"a text, a text, a text, a text and a text".repeat(9);
        let length = text.len() as i64;
        let packed = zstd::bulk::compress(&text, 3).unwrap();
        let buffers = [
            with_length(length, &packed),
            Vec::new(),
            with_length(AS_IT_IS, b"as it is"),
            with_length(0, b""),
            with_length(length, &packed),
        ];
        let buffers: Vec<&[u8]> = buffers.iter().map(Vec::as_slice).collect();
        let expected = [&text[..], b"", b"as it is", b"", &text];
        assert_eq!(decompressed(&buffers, &ZSTANDARD).unwrap(), expected);
    }

    #[test]
    fn another_compression_is_refused_by_name() {
        let other = [
            BodyCompressionArgs {
                codec: CompressionType(7),
                method: BodyCompressionMethod::BUFFER,
            },
            BodyCompressionArgs {
                codec: CompressionType::ZSTD,
                method: BodyCompressionMethod(1),
            },
        ];
        for args in &other {
            let (code, message) = decompressed(&[], args).unwrap_err();
            assert_eq!(code, Code::ValidationException);
            let said = "buffer by buffer with LZ4 frames or Zstandard are not supported here.";
            assert!(message.ends_with(said), "{message}");
        }
    }

    #[test]
    fn what_is_not_sound_is_refused() {
        let packed = zstd::bulk::compress(&[7; 100], 3).unwrap();
        for (buffer, said) in [
            (b"1234567".to_vec(), "a compressed buffer has no length"),
            (with_length(-2, &packed), "is negative"),
            (with_length(101, &packed), "another length than it says"),
            (with_length(99, &packed), "Zstandard: "),
            (with_length(100, b"not compressed"), "Zstandard: "),
        ] {
            let (code, message) = decompressed(&[&buffer], &ZSTANDARD).unwrap_err();
            assert_eq!(code, Code::SerializationException);
            assert!(message.contains(said), "{message}");
        }
    }

    #[test]
    fn room_for_the_blocks_of_many_small_frames_is_bounded() {
        // The head of a frame with blocks of 4 MiB.
        let frame = with_length(1, &[0x04, 0x22, 0x4d, 0x18, 0x60, 0x70, 0, 0]);
        let args = BodyCompressionArgs::default();
        let refused = decompressed(&vec![&frame[..]; 513], &args).unwrap_err();
        assert_eq!(refused.0, Code::RequestEntityTooLarge, "{}", refused.1);
        let refused = decompressed(&vec![&frame[..]; 512], &args).unwrap_err();
        assert_eq!(refused.0, Code::SerializationException, "{}", refused.1);
    }
}
