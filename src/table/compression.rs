//! How a file of text is compressed: its name says so, or its first bytes where it has no name.

use std::io::{BufRead, Read};

/// How a file is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// RFC 1952, any number of members.
    Gzip,
    /// RFC 8878, any number of frames, skippable ones among them.
    Zstandard,
}

impl Compression {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Zstandard => "Zstandard",
        }
    }

    /// What a file's name ends with.
    #[must_use]
    pub fn ending(self) -> &'static str {
        match self {
            Self::Gzip => ".gz",
            Self::Zstandard => ".zst",
        }
    }

    /// Splits what the end of a file's name says off that name.
    #[must_use]
    pub fn of(name: &str) -> (&str, Option<Self>) {
        let ending = name.rsplit_once('.').map(|(before, extension)| {
            let compression = match extension.to_ascii_lowercase().as_str() {
                "gz" => Some(Self::Gzip),
                "zst" => Some(Self::Zstandard),
                _ => None,
            };
            (before, compression)
        });
        match ending {
            Some((before, Some(compression))) => (before, Some(compression)),
            _ => (name, None),
        }
    }

    /// What the first four bytes of a file say. No text begins so: the second byte of both is one
    /// that only follows others in UTF-8, and the fourth of a skippable frame is a control
    /// character.
    #[must_use]
    pub fn of_head(head: &[u8]) -> Option<Self> {
        match head {
            [0x1f, 0x8b, 0x08, ..] => Some(Self::Gzip),
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => {
                Some(Self::Zstandard)
            }
            _ => None,
        }
    }

    /// What was compressed. Memory is that of a window: 32 KiB of gzip; as its writer chose of
    /// Zstandard, and at most 128 MiB, beyond which a stream is refused.
    ///
    /// # Errors
    /// When there is no memory for it.
    pub(super) fn decoder(
        self,
        bytes: impl BufRead + Send + 'static,
    ) -> std::io::Result<Box<dyn Read + Send>> {
        Ok(match self {
            Self::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(bytes)),
            Self::Zstandard => Box::new(zstd::stream::read::Decoder::with_buffer(bytes)?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_first_bytes_tell() {
        use Compression::{Gzip, Zstandard};
        for (name, expected) in [
            ("a.csv.gz", ("a.csv", Some(Gzip))),
            ("a.jsonl.ZST", ("a.jsonl", Some(Zstandard))),
            ("a.gz.parquet", ("a.gz.parquet", None)),
            ("a.csv", ("a.csv", None)),
            ("gz", ("gz", None)),
            ("", ("", None)),
        ] {
            assert_eq!(Compression::of(name), expected, "{name}");
        }
        let gzip = [0x1f, 0x8b, 0x08, 0x00];
        let zstandard = [0x28, 0xb5, 0x2f, 0xfd];
        for (head, expected) in [
            (&gzip[..], Some(Gzip)),
            (&zstandard, Some(Zstandard)),
            (b"\x50\x2a\x4d\x18", Some(Zstandard)),
            (b"\x5f\x2a\x4d\x18\x04", Some(Zstandard)),
            (b"\x60\x2a\x4d\x18", None),
            (b"P*M,", None),
            (&gzip[..2], None),
            (b"a,b\n", None),
            (b"", None),
        ] {
            assert_eq!(Compression::of_head(head), expected);
        }
    }
}
