//! A PKCS #8 private key in BER, rewritten in DER (ITU-T X.690), and in version 1 (RFC 5958):
//! clients import keys in either, and aws-lc reads DER alone, and of RSA and Weierstrass curves
//! version 1 alone.
//!
//! Lengths of every form are read, also indefinite ones, and strings in parts. Written here, since
//! `der` reads no lengths that are longer than they must be, and `yasna` collects secrets in
//! vectors that grow, which leaves copies behind.

use crate::crypto::secret::SecretBytes;
use zeroize::Zeroizing;

/// Levels that values are nested in. A private key with all that RFC 5958 lets it have needs seven.
const DEPTH_MAX: usize = 16;
/// The level of the members of a PKCS #8 private key.
const MEMBER_DEPTH: usize = 1;

const INTEGER: u8 = 2;
const BIT_STRING: u8 = 3;
const OCTET_STRING: u8 = 4;
const CONSTRUCTED: u8 = 0x20;
const SEQUENCE: u8 = 0x10 | CONSTRUCTED;
/// `attributes [0] IMPLICIT SET`
const ATTRIBUTES: u8 = 0x80 | CONSTRUCTED;
/// `publicKey [1] IMPLICIT BIT STRING`
const PUBLIC_KEY: u8 = 0x81;
/// The number in a tag whose number follows in further bytes.
const LONG_TAG: u8 = 0x1f;
const END_OF_CONTENTS: [u8; 2] = [0, 0];

/// The DER of a PKCS #8 private key, and of the algorithm's private key inside it. `None` when the
/// bytes are not BER, or when something follows.
#[must_use]
pub fn private_key(ber: &[u8]) -> Option<SecretBytes> {
    // DER is never twice as long: a header of two bytes becomes one of four at most. So the vector
    // never grows.
    let mut der = Zeroizing::new(Vec::with_capacity(2 * ber.len()));
    let mut rest = ber;
    value(&mut rest, &mut der, None, 0)?;
    rest.is_empty().then(|| SecretBytes::copy_of(&der))
}

/// A private key in version 1, without attributes, and what version 2 adds.
pub struct Version1<'a> {
    /// PKCS #8, DER.
    pub der: SecretBytes,
    /// The public key, as `SubjectPublicKeyInfo` has it: the contents of the BIT STRING.
    pub public_key: Option<&'a [u8]>,
}

/// Rewrites a private key of either version. `None` when this is not the DER of one.
#[must_use]
pub fn version_1(der: &[u8]) -> Option<Version1<'_>> {
    let mut rest = der;
    let sequence = Value::take(&mut rest, SEQUENCE)?;
    let mut members = sequence.contents;
    let version = Value::take(&mut members, INTEGER)?.contents;
    let algorithm = Value::take(&mut members, SEQUENCE)?.whole;
    let private_key = Value::take(&mut members, OCTET_STRING)?.whole;
    Value::take_optional(&mut members, ATTRIBUTES);
    let public_key = Value::take_optional(&mut members, PUBLIC_KEY).map(|value| value.contents);
    let is_known = match version {
        [0] => public_key.is_none(),
        [1] => true,
        _ => false,
    };
    if !is_known || !members.is_empty() || !rest.is_empty() {
        return None;
    }
    let parts = [&[INTEGER, 1, 0], algorithm, private_key];
    let mut der = Zeroizing::new(Vec::with_capacity(der.len()));
    parts.iter().for_each(|part| der.extend_from_slice(part));
    put_header(&mut der, 0, SEQUENCE)?;
    Some(Version1 {
        der: SecretBytes::copy_of(&der),
        public_key,
    })
}

/// The public key of a `SubjectPublicKeyInfo` in DER (RFC 5280): the contents of the BIT STRING.
#[must_use]
pub fn public_key_of(mut der: &[u8]) -> Option<&[u8]> {
    let mut members = Value::take(&mut der, SEQUENCE)?.contents;
    Value::take(&mut members, SEQUENCE)?;
    Value::take(&mut members, BIT_STRING).map(|value| value.contents)
}

/// A value in DER.
struct Value<'a> {
    whole: &'a [u8],
    contents: &'a [u8],
}

impl<'a> Value<'a> {
    /// Takes the value of this tag from the front.
    fn take(der: &mut &'a [u8], tag: u8) -> Option<Self> {
        let whole = *der;
        if byte(der)? != tag {
            return None;
        }
        let length = length(der)??;
        let contents = taken(der, length)?;
        let whole = &whole[..whole.len() - der.len()];
        Some(Self { whole, contents })
    }

    fn take_optional(der: &mut &'a [u8], tag: u8) -> Option<Self> {
        der.starts_with(&[tag]).then(|| Self::take(der, tag))?
    }
}

/// Takes one value from the front of `ber` and appends it to `der`: without its header when it is a
/// part of the string whose tag is `part_of`.
fn value(ber: &mut &[u8], der: &mut Vec<u8>, part_of: Option<u8>, depth: usize) -> Option<()> {
    let tag = byte(ber)?;
    let kind = tag & !CONSTRUCTED;
    let is_constructed = tag != kind;
    let fits = part_of.is_none_or(|string| string == kind);
    if !fits || kind == 0 || tag & LONG_TAG == LONG_TAG || depth == DEPTH_MAX {
        return None;
    }
    let start = der.len();
    let is_string = matches!(kind, BIT_STRING | OCTET_STRING);
    let parts_of = is_string.then_some(kind);
    if kind == BIT_STRING && is_constructed && part_of.is_none() {
        der.push(0);
    }
    match (length(ber)?, is_constructed) {
        (Some(length), false) => {
            let contents = taken(ber, length)?;
            der.extend_from_slice(match part_of {
                // A part begins with the number of its unused bits. Keys are whole bytes.
                Some(BIT_STRING) => contents.strip_prefix(&[0])?,
                _ => contents,
            });
        }
        (Some(length), true) => {
            let mut contents = taken(ber, length)?;
            while !contents.is_empty() {
                value(&mut contents, der, parts_of, depth + 1)?;
            }
        }
        (None, true) => {
            while !ber.starts_with(&END_OF_CONTENTS) {
                value(ber, der, parts_of, depth + 1)?;
            }
            taken(ber, END_OF_CONTENTS.len())?;
        }
        (None, false) => return None,
    }
    if part_of.is_some() {
        return Some(());
    }
    if kind == OCTET_STRING && depth == MEMBER_DEPTH {
        rewrite_inside(der, start)?;
    }
    let tag = if is_string { kind } else { tag };
    put_header(der, start, tag)
}

/// Rewrites the algorithm's private key, which is a value in itself.
fn rewrite_inside(der: &mut Vec<u8>, start: usize) -> Option<()> {
    let inside = Zeroizing::new(der[start..].to_vec());
    der.truncate(start);
    let mut rest = inside.as_slice();
    value(&mut rest, der, None, MEMBER_DEPTH + 1)?;
    rest.is_empty().then_some(())
}

/// Puts tag and length before the contents that begin at `start`.
fn put_header(der: &mut Vec<u8>, start: usize, tag: u8) -> Option<()> {
    let length = u16::try_from(der.len() - start).ok()?;
    let end = der.len();
    der.push(tag);
    match length.to_be_bytes() {
        [0, length @ ..=0x7f] => der.push(length),
        [0, length] => der.extend_from_slice(&[0x81, length]),
        [high, low] => der.extend_from_slice(&[0x82, high, low]),
    }
    let header = der.len() - end;
    der[start..].rotate_right(header);
    Some(())
}

/// The length of a value; the inner `None` is an indefinite one.
fn length(ber: &mut &[u8]) -> Option<Option<usize>> {
    const LONG: u8 = 0x80;
    match byte(ber)? {
        LONG => Some(None),
        0xff => None,
        short if short & LONG == 0 => Some(Some(short.into())),
        long => {
            let bytes = taken(ber, (long & !LONG).into())?;
            let length = bytes.iter().try_fold(0_usize, |length, byte| {
                let length = length.checked_mul(256)?;
                length.checked_add((*byte).into())
            });
            length.map(Some)
        }
    }
}

fn byte(ber: &mut &[u8]) -> Option<u8> {
    let (byte, rest) = ber.split_first()?;
    *ber = rest;
    Some(*byte)
}

fn taken<'a>(ber: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, rest) = ber.split_at_checked(length)?;
    *ber = rest;
    Some(taken)
}

#[cfg(test)]
pub(crate) mod tests;
