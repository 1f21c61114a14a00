//! As much of Thrift's compact protocol (thrift-compact-protocol.md) as it takes to look at a
//! structure's fields and to step over the rest, in bounded memory: the Parquet crate shows neither
//! the headers of pages nor the fields of a footer that it does not know.

/// Structures within structures at most.
const DEPTH_MAX: u8 = 16;

/// Structures of a list at most.
const STRUCTURES_MAX: u64 = 1 << 20;

/// Kinds of fields.
mod kind {
    pub(super) const TRUE: u8 = 1;
    pub(super) const FALSE: u8 = 2;
    pub(super) const BYTE: u8 = 3;
    pub(super) const I16: u8 = 4;
    pub(super) const I64: u8 = 6;
    pub(super) const DOUBLE: u8 = 7;
    pub(super) const BINARY: u8 = 8;
    pub(super) const LIST: u8 = 9;
    pub(super) const SET: u8 = 10;
    pub(super) const MAP: u8 = 11;
    pub(super) const STRUCT: u8 = 12;
}

/// A structure that is being read. Every method returns `None` where the bytes end too early or
/// are not a structure.
pub(super) struct Structure<'a> {
    bytes: &'a [u8],
    at: usize,
    /// The number of the last field.
    field: i64,
}

/// A field whose value is still to be read or stepped over.
#[derive(Clone, Copy)]
pub(super) struct Field {
    /// Its number.
    pub(super) number: i64,
    kind: u8,
}

impl<'a> Structure<'a> {
    /// The structure that these bytes begin with.
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            at: 0,
            field: 0,
        }
    }

    /// How many bytes were read: after the last field, the structure's length.
    pub(super) fn length(&self) -> usize {
        self.at
    }

    /// The next field; `Some(None)` after the last.
    pub(super) fn next(&mut self) -> Option<Option<Field>> {
        let head = self.byte()?;
        if head == 0 {
            return Some(None);
        }
        let (delta, kind) = (head >> 4, head & 0x0f);
        self.field = match delta {
            0 => self.integer()?,
            delta => self.field.checked_add(i64::from(delta))?,
        };
        let number = self.field;
        Some(Some(Field { number, kind }))
    }

    /// The value of a whole number's field.
    pub(super) fn number(&mut self, field: Field) -> Option<i64> {
        if (kind::I16..=kind::I64).contains(&field.kind) {
            self.integer()
        } else {
            None
        }
    }

    /// The bytes of a structure that is the value of a field.
    pub(super) fn structure(&mut self, field: Field) -> Option<&'a [u8]> {
        if field.kind != kind::STRUCT {
            return None;
        }
        let from = self.at;
        self.skip_value(kind::STRUCT, 0)?;
        self.bytes.get(from..self.at)
    }

    /// The elements of a list of structures, each with its bytes.
    pub(super) fn structures(&mut self, field: Field) -> Option<Vec<&'a [u8]>> {
        let head = if field.kind == kind::LIST {
            self.byte()?
        } else {
            return None;
        };
        let count = match head >> 4 {
            15 => self.varint()?,
            short => u64::from(short),
        };
        if count > STRUCTURES_MAX {
            return None;
        }
        let mut found = Vec::new();
        for _ in 0..count {
            let from = self.at;
            self.skip_value(head & 0x0f, 0)?;
            found.push(self.bytes.get(from..self.at)?);
        }
        Some(found)
    }

    /// Steps over the value of a field.
    pub(super) fn skip(&mut self, field: Field) -> Option<()> {
        // In a field, not in a list, the kind of a boolean is its value.
        match field.kind {
            kind::TRUE | kind::FALSE => Some(()),
            other => self.skip_value(other, 0),
        }
    }

    fn skip_value(&mut self, kind: u8, depth: u8) -> Option<()> {
        if depth == DEPTH_MAX {
            return None;
        }
        match kind {
            kind::TRUE | kind::FALSE | kind::BYTE => self.advance(1),
            kind::I16..=kind::I64 => self.varint().map(drop),
            kind::DOUBLE => self.advance(8),
            kind::BINARY => {
                let length = self.varint()?;
                self.advance(length)
            }
            kind::LIST | kind::SET => {
                let head = self.byte()?;
                let count = match head >> 4 {
                    15 => self.varint()?,
                    short => u64::from(short),
                };
                (0..count).try_for_each(|_| self.skip_value(head & 0x0f, depth + 1))
            }
            kind::MAP => {
                let count = self.varint()?;
                let kinds = if count > 0 { self.byte()? } else { 0 };
                (0..count).try_for_each(|_| {
                    self.skip_value(kinds >> 4, depth + 1)?;
                    self.skip_value(kinds & 0x0f, depth + 1)
                })
            }
            kind::STRUCT => {
                let outer = std::mem::take(&mut self.field);
                while let Some(field) = self.next()? {
                    match field.kind {
                        kind::TRUE | kind::FALSE => {}
                        other => self.skip_value(other, depth + 1)?,
                    }
                }
                self.field = outer;
                Some(())
            }
            _ => None,
        }
    }

    fn advance(&mut self, bytes: u64) -> Option<()> {
        let end = self.at.checked_add(usize::try_from(bytes).ok()?)?;
        (end <= self.bytes.len()).then(|| self.at = end)
    }

    fn byte(&mut self) -> Option<u8> {
        let byte = *self.bytes.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..u64::BITS).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f).checked_shl(shift)?;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    /// A whole number, which is written zigzag.
    fn integer(&mut self) -> Option<i64> {
        let value = self.varint()?;
        Some((value >> 1).cast_signed() ^ -((value & 1).cast_signed()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fields of every kind: a boolean, a number, text, a list of booleans, a map, a structure.
    const EVERY: [u8; 21] = [
        0x11, 0x15, 0x0d, 0x18, 0x02, b'h', b'i', 0x19, 0x21, 1, 2, 0x1b, 0x01, 0x85, 1, b'x',
        0x06, 0x1c, 0x15, 0x02, 0x00,
    ];

    #[test]
    fn fields_are_found_and_the_rest_is_stepped_over() {
        let mut bytes = EVERY.to_vec();
        // A double whose number, 64, is written out; and the end.
        bytes.extend([0x07, 0x80, 0x01]);
        bytes.extend([0; 9]);
        bytes.extend(b"behind");
        let mut read = Structure::new(&bytes);
        let mut numbers = Vec::new();
        while let Some(field) = read.next().unwrap() {
            numbers.push(field.number);
            if field.number == 2 {
                assert_eq!(read.number(field), Some(-7));
            } else {
                read.skip(field).unwrap();
            }
        }
        assert_eq!(numbers, [1, 2, 3, 4, 5, 6, 64]);
        assert_eq!(&bytes[read.length()..], b"behind");
    }

    #[test]
    fn bytes_that_end_too_early_or_never_are_refused() {
        for end in 0..EVERY.len() {
            let mut read = Structure::new(&EVERY[..end]);
            let mut walked = || {
                while let Some(field) = read.next()? {
                    read.skip(field)?;
                }
                Some(())
            };
            assert_eq!(walked(), None, "{end}");
        }
        for bytes in [
            &[0x18, 0xff, 0xff, 0xff, 0xff, 0x0f][..], // a text of 4 GiB
            &[0x1c; 40],                               // structures without an end
            &[0x1f, 0],                                // a kind that there is not
            &[
                0x15, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
            ],
        ] {
            let mut read = Structure::new(bytes);
            let field = read.next().unwrap().unwrap();
            assert!(read.skip(field).is_none(), "{bytes:?}");
        }
    }
}
