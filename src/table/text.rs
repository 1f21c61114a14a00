//! The text of a CSV or NDJSON file: its bytes, decompressed and decoded to UTF-8, from any of them
//! on. What is compressed or in another encoding has no places to begin at, so there what lies
//! before is read and dropped.

use crate::table::encoding::Decoded;
use crate::table::object::{Object, Range};
use crate::table::{Compression, Format, TableError};
use std::error::Error;
use std::fmt;
use std::io::{self, BufRead, BufReader, Read};

/// What files of other systems may begin with.
pub(super) const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();
/// Buffered behind a decoder.
const BUFFER_BYTES: usize = 64 * 1024;

/// The text of a file. A byte sequence that is malformed in the file's encoding is a byte that
/// UTF-8 does not have.
pub(super) type Text = Box<dyn BufRead + Send>;

/// The text of a file from this byte of it on, a byte order mark in UTF-8 among them.
///
/// # Errors
/// [`TableError`], when the file cannot be read, or is compressed and its name does not say so.
pub(super) fn open(object: &Object, format: Format, from: u64) -> Result<Text, TableError> {
    let opened = object.open()?;
    let io = |error| TableError::io(&object.name, error);
    if object.compression.is_none()
        && from == 0
        && let Some(compression) = Compression::of_head(&opened.head().map_err(io)?)
    {
        let name = object.name.clone();
        return Err(TableError::Compressed { name, compression });
    }
    let text: Text = match (object.compression, object.encoding) {
        (None, None) => return Ok(Box::new(opened.from(from))),
        (None, Some(_)) => Box::new(opened.from(0)),
        (Some(compression), _) => {
            let stored = Stored(opened.from(0));
            let decoder = compression.decoder(stored).map_err(io)?;
            let plain = Decompressed {
                decoder,
                compression,
            };
            Box::new(BufReader::with_capacity(BUFFER_BYTES, plain))
        }
    };
    let mut text: Text = match object.encoding {
        None => text,
        Some(encoding) => {
            let decoded = Decoded::new(text, encoding);
            Box::new(BufReader::with_capacity(BUFFER_BYTES, decoded))
        }
    };
    io::copy(&mut (&mut text).take(from), &mut io::sink())
        .map_err(|error| fault(&object.name, format, error))?;
    Ok(text)
}

/// Passes over a byte order mark. Returns its bytes, and the text behind it.
///
/// # Errors
/// What the text fails with.
pub(super) fn behind_mark(mut text: Text) -> io::Result<(u64, Text)> {
    let mut head = Vec::new();
    (&mut text)
        .take(BYTE_ORDER_MARK.len() as u64)
        .read_to_end(&mut head)?;
    if head == BYTE_ORDER_MARK {
        return Ok((BYTE_ORDER_MARK.len() as u64, text));
    }
    Ok((0, Box::new(io::Cursor::new(head).chain(text))))
}

/// Why a file of text cannot be read: its storage failed, or it cannot be decompressed.
pub(super) fn fault(name: &str, format: Format, error: io::Error) -> TableError {
    match error.downcast::<Damaged>() {
        Ok(damaged) => TableError::Malformed {
            name: name.to_owned(),
            format: format.name(),
            reason: damaged.to_string(),
        },
        Err(error) => TableError::io(name, error),
    }
}

/// A file's bytes. What its storage fails with passes through a decoder as [`StorageError`].
struct Stored(BufReader<Range>);

impl Read for Stored {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.0.read(out).map_err(StorageError::wrap)
    }
}

impl BufRead for Stored {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.0.fill_buf().map_err(StorageError::wrap)
    }

    fn consume(&mut self, amount: usize) {
        self.0.consume(amount);
    }
}

/// An error that is not the decoder's own.
#[derive(Debug)]
struct StorageError(io::Error);

impl StorageError {
    fn wrap(error: io::Error) -> io::Error {
        io::Error::new(error.kind(), Self(error))
    }
}

impl fmt::Display for StorageError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(out)
    }
}

impl Error for StorageError {}

/// What was compressed.
struct Decompressed {
    decoder: Box<dyn Read + Send>,
    compression: Compression,
}

impl Read for Decompressed {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.decoder.read(out).map_err(|error| {
            if error.kind() == io::ErrorKind::Interrupted {
                return error;
            }
            match error.downcast::<StorageError>() {
                Ok(StorageError(error)) => error,
                Err(error) => {
                    let name = self.compression.name();
                    io::Error::new(io::ErrorKind::InvalidData, Damaged(name, error))
                }
            }
        })
    }
}

/// A decoder cannot go on.
#[derive(Debug)]
struct Damaged(&'static str, io::Error);

impl fmt::Display for Damaged {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(compression, error) = self;
        write!(out, "its {compression} data are damaged or cut: {error}")
    }
}

impl Error for Damaged {}

#[cfg(test)]
mod tests;
