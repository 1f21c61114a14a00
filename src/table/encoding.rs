//! Text in another encoding than UTF-8, decoded as it comes (WHATWG, "Encoding Standard").

use encoding_rs::{Decoder, DecoderResult, Encoding, UTF_8};
use std::io::{self, BufRead, Read};

/// Decoded at a time.
const CHUNK_BYTES: usize = 16 * 1024;
/// What a malformed sequence becomes: a byte that UTF-8 does not have, so that the row which has it
/// is told from the others.
const MALFORMED: u8 = 0xff;

/// An encoding that the label names; `None` where it is UTF-8.
///
/// # Errors
/// [`UnknownEncoding`], when it names none.
pub fn labelled(label: &str) -> Result<Option<&'static Encoding>, UnknownEncoding> {
    // Labels of encodings that were given up for their dangers decode to nothing.
    let encoding = Encoding::for_label_no_replacement(label.as_bytes()).ok_or(UnknownEncoding)?;
    Ok(Some(encoding).filter(|encoding| *encoding != UTF_8))
}

/// A label that names no encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "an encoding is a label of the WHATWG Encoding Standard: utf-8, windows-1252, iso-8859-15, utf-16le, shift_jis, gb18030, …"
)]
pub struct UnknownEncoding;

/// Text in UTF-8, but for its malformed sequences.
pub(super) struct Decoded<R> {
    encoded: R,
    decoder: Decoder,
    text: Vec<u8>,
    /// How much of it was read.
    at: usize,
    is_over: bool,
}

impl<R: BufRead> Decoded<R> {
    /// Decodes these bytes, without a byte order mark before them.
    pub(super) fn new(encoded: R, encoding: &'static Encoding) -> Self {
        Self {
            encoded,
            decoder: encoding.new_decoder_with_bom_removal(),
            text: Vec::new(),
            at: 0,
            is_over: false,
        }
    }

    /// Decodes the next few bytes.
    fn fill(&mut self) -> io::Result<()> {
        let bytes = self.encoded.fill_buf()?;
        let is_last = bytes.is_empty();
        self.at = 0;
        self.text.resize(CHUNK_BYTES, 0);
        let (result, read, written) =
            self.decoder
                .decode_to_utf8_without_replacement(bytes, &mut self.text, is_last);
        self.encoded.consume(read);
        self.text.truncate(written);
        match result {
            DecoderResult::Malformed(..) => self.text.push(MALFORMED),
            DecoderResult::InputEmpty => self.is_over = is_last,
            DecoderResult::OutputFull => {}
        }
        Ok(())
    }
}

impl<R: BufRead> Read for Decoded<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.at == self.text.len() && !self.is_over {
            self.fill()?;
        }
        let mut left = self.text.get(self.at..).unwrap_or_default();
        let read = left.read(out)?;
        self.at += read;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(label: &str, bytes: &[u8]) -> Vec<u8> {
        let encoding = labelled(label).unwrap().unwrap();
        let mut whole = Vec::new();
        Decoded::new(bytes, encoding)
            .read_to_end(&mut whole)
            .unwrap();
        // A few bytes at a time, so that sequences are cut.
        for capacity in [1, 2, 3] {
            let mut text = Vec::new();
            let encoded = io::BufReader::with_capacity(capacity, bytes);
            Decoded::new(encoded, encoding)
                .read_to_end(&mut text)
                .unwrap();
            assert_eq!(text, whole, "{label}, {capacity}");
        }
        whole
    }

    #[test]
    fn text_is_decoded_and_what_is_malformed_is_marked() {
        for (label, bytes, text) in [
            ("latin1", &b"a,\xe9\n"[..], "a,é\n".as_bytes()),
            ("windows-1252", b"\x80", "€".as_bytes()),
            ("utf-16le", b"\xff\xfea\0,\0\xe9\0\n\0", "a,é\n".as_bytes()),
            ("utf-16be", b"\0a\x20\xac", "a€".as_bytes()),
            ("Shift_JIS", b"\x83\x65,\n", "テ,\n".as_bytes()),
            // A malformed sequence leaves the comma and the line feed behind it.
            ("shift_jis", b"\x83,\n\xfd\n", b"\xff,\n\xff\n"),
            ("gb18030", b"\x81", b"\xff"),
            ("utf-16le", b"a\0\0\xd8b\0", b"a\xffb"),
            ("utf-16le", b"a\0b", b"a\xff"),
            ("gb18030", b"", b""),
        ] {
            assert_eq!(decoded(label, bytes), text, "{label} {bytes:?}");
        }
        let long = "é".repeat(3 * CHUNK_BYTES);
        assert_eq!(
            decoded("latin1", &b"\xe9".repeat(3 * CHUNK_BYTES)),
            long.as_bytes()
        );
    }

    #[test]
    fn a_label_is_one_of_the_standard() {
        assert_eq!(labelled("UTF-8"), Ok(None));
        assert_eq!(labelled(" utf8 "), Ok(None));
        assert_eq!(labelled("ascii").unwrap().unwrap().name(), "windows-1252");
        for label in ["", "utf-7", "latin-99", "iso-2022-kr"] {
            assert_eq!(labelled(label), Err(UnknownEncoding), "{label}");
        }
    }
}
