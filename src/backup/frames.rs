//! A store on its way from the daemon to a command: frames of `kind 1 ‖ length u32 BE ‖ content`.
//!
//! | kind | content |
//! |---|---|
//! | `K` | first: JSON, `{"format": 1, "keymill": "…", "head": …}` is [`Begin`] |
//! | `H` | the head, as a record |
//! | `R` | a record: its kind, its id and its body, each behind its length (u32), and its revision (u64) |
//! | `D` | a line that names what is wrong with a record |
//! | `E` | last: JSON, [`End`], with the digest of all records and the head |
//! | `F` | last: a line that says why it ended early |
//!
//! The reader trusts no length: a frame has a bound, and an answer without its end is not whole.

use crate::keystore::checked::{Batch, Summary};
use crate::keystore::record::{Kind, Record};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use hex_simd::AsciiCase;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// The media type of the frames.
pub const MEDIA_TYPE: &str = "application/vnd.keymill.store";
/// The version of the frames.
const FORMAT: u32 = 1;
/// Bytes of a frame's content at most. A record is far smaller: a policy has 32 KiB at most, and a
/// shard of last uses has fewer than a thousand keys.
const CONTENT_BYTES_MAX: usize = 16 << 20;
const HEAD_BYTES: usize = 5;

/// The first frame.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Begin {
    /// [`FORMAT`].
    format: u32,
    /// The version of the daemon.
    pub keymill: String,
    /// The name of its machine.
    pub host: String,
    /// Its name among the nodes of a shared store.
    pub node: String,
}

impl Begin {
    /// Of this process.
    #[must_use]
    pub fn here(node: &str) -> Self {
        let host = rustix::system::uname()
            .nodename()
            .to_string_lossy()
            .into_owned();
        Self {
            format: FORMAT,
            keymill: env!("CARGO_PKG_VERSION").to_owned(),
            host,
            node: node.to_owned(),
        }
    }
}

/// The last frame.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// What was sent.
    pub summary: Summary,
    /// The digest of the records and the head, as [`Digest`] computes it.
    pub digest: String,
}

/// SHA-256 of the frames of all records, in the order of kind and id, and of the head.
#[derive(Clone, Default)]
pub struct Digest(Sha256);

impl Digest {
    /// Adds records.
    pub fn add(&mut self, records: &[Record]) {
        for record in records {
            let mut frame = BytesMut::new();
            put_record(&mut frame, b'R', record);
            self.0.update(&frame);
        }
    }

    /// The digest, with the head as the last one, in hexadecimal digits.
    #[must_use]
    pub fn end(mut self, head: &Record) -> String {
        let mut frame = BytesMut::new();
        put_record(&mut frame, b'H', head);
        self.0.update(&frame);
        hex_simd::encode_to_string(self.0.finalize(), AsciiCase::Lower)
    }
}

/// What a reader finds.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    /// The first frame.
    Begin(Begin),
    /// The head.
    Head(Box<Record>),
    /// A record.
    Record(Record),
    /// What is wrong with a record.
    Damaged(String),
    /// It is whole.
    End(End),
    /// It is not.
    Failed(String),
}

/// The frames at the beginning.
#[must_use]
pub fn begin(begin: &Begin, head: &Record) -> Bytes {
    let mut out = BytesMut::new();
    put_json(&mut out, b'K', begin);
    put_record(&mut out, b'H', head);
    out.freeze()
}

/// The frames of some records.
#[must_use]
pub fn batch(batch: &Batch) -> Bytes {
    let mut out = BytesMut::new();
    for record in &batch.records {
        put_record(&mut out, b'R', record);
    }
    for finding in &batch.findings {
        put(&mut out, b'D', finding.to_string().as_bytes());
    }
    out.freeze()
}

/// The frame at the end.
#[must_use]
pub fn end(end: &End) -> Bytes {
    let mut out = BytesMut::new();
    put_json(&mut out, b'E', end);
    out.freeze()
}

/// The frame at the end of what has failed.
#[must_use]
pub fn failed(reason: &str) -> Bytes {
    let mut out = BytesMut::new();
    put(&mut out, b'F', reason.as_bytes());
    out.freeze()
}

fn put(out: &mut BytesMut, kind: u8, content: &[u8]) {
    out.put_u8(kind);
    out.put_u32(length(content.len()));
    out.put_slice(content);
}

fn put_json(out: &mut BytesMut, kind: u8, value: &impl Serialize) {
    let json = serde_json::to_vec(value).unwrap_or_default();
    put(out, kind, &json);
}

fn put_record(out: &mut BytesMut, kind: u8, record: &Record) {
    let name = record.kind.name().as_bytes();
    let (id, body) = (record.id.as_bytes(), &record.body);
    out.put_u8(kind);
    out.put_u32(length(name.len() + id.len() + body.len() + 3 * 4 + 8));
    for field in [name, id, body] {
        out.put_u32(length(field.len()));
        out.put_slice(field);
    }
    out.put_u64(record.revision);
}

fn length(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

/// Takes frames out of the bytes of an answer as they come.
#[derive(Default)]
pub struct Frames(BytesMut);

impl Frames {
    /// Adds bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// The next frame, if it is there as a whole.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn take(&mut self) -> Result<Option<Found>, &'static str> {
        let Some(head) = self.0.first_chunk::<HEAD_BYTES>() else {
            return Ok(None);
        };
        let [kind, bytes @ ..] = *head;
        let content = usize::try_from(u32::from_be_bytes(bytes)).unwrap_or(usize::MAX);
        if content > CONTENT_BYTES_MAX {
            return Err("a frame is too long");
        }
        if self.0.len() < HEAD_BYTES + content {
            return Ok(None);
        }
        let mut frame = self.0.split_to(HEAD_BYTES + content);
        frame.advance(HEAD_BYTES);
        parse(kind, &frame).map(Some)
    }

    /// Whether nothing of a frame is left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn parse(kind: u8, content: &[u8]) -> Result<Found, &'static str> {
    let text = || String::from_utf8_lossy(content).into_owned();
    match kind {
        b'K' => {
            let begin: Begin =
                serde_json::from_slice(content).map_err(|_| "the first frame is not ours")?;
            if begin.format != FORMAT {
                return Err("it is of another version of keymill");
            }
            Ok(Found::Begin(begin))
        }
        b'H' => record(content).map(|head| Found::Head(Box::new(head))),
        b'R' => record(content).map(Found::Record),
        b'D' => Ok(Found::Damaged(text())),
        b'E' => {
            let end = serde_json::from_slice(content);
            end.map(Found::End)
                .map_err(|_| "the last frame is not ours")
        }
        b'F' => Ok(Found::Failed(text())),
        _ => Err("it has a frame of an unknown kind"),
    }
}

fn record(mut content: &[u8]) -> Result<Record, &'static str> {
    let rest = &mut content;
    let kind = std::str::from_utf8(field(rest)?).ok();
    let kind = kind.and_then(|name| name.parse::<Kind>().ok());
    let id = std::str::from_utf8(field(rest)?).map_err(|_| "a record's id is not text")?;
    let body = field(rest)?.to_vec();
    let revision: [u8; 8] = (*rest).try_into().map_err(|_| CUT)?;
    Ok(Record {
        kind: kind.ok_or("a record is of an unknown kind")?,
        id: id.to_owned(),
        revision: u64::from_be_bytes(revision),
        body,
    })
}

const CUT: &str = "a record is cut";

fn field<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], &'static str> {
    let (length, after) = rest.split_first_chunk::<4>().ok_or(CUT)?;
    let length = usize::try_from(u32::from_be_bytes(*length)).map_err(|_| CUT)?;
    let (field, after) = after.split_at_checked(length).ok_or(CUT)?;
    *rest = after;
    Ok(field)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keystore::record::Corrupt;

    fn a_record(id: &str) -> Record {
        Record {
            kind: Kind::Alias,
            id: id.to_owned(),
            revision: 7,
            body: vec![1, 2, 3],
        }
    }

    fn whole() -> Vec<u8> {
        let head = Record {
            kind: Kind::Head,
            id: String::new(),
            ..a_record("")
        };
        let some = Batch {
            records: vec![a_record("a"), a_record("b")],
            findings: vec![Corrupt::NoHead],
        };
        let last = End {
            summary: Summary {
                revision: 7,
                records: 2,
                kinds: [("alias".to_owned(), 2)].into(),
                findings: 1,
            },
            digest: "00".to_owned(),
        };
        let mut bytes = begin(&Begin::here("n"), &head).to_vec();
        bytes.extend_from_slice(&batch(&some));
        bytes.extend_from_slice(&end(&last));
        bytes.extend_from_slice(&failed("the disk is gone"));
        bytes
    }

    fn read(bytes: &[u8], at_a_time: usize) -> Result<(Vec<Found>, bool), &'static str> {
        let (mut frames, mut found) = (Frames::default(), Vec::new());
        for some in bytes.chunks(at_a_time) {
            frames.push(some);
            while let Some(frame) = frames.take()? {
                found.push(frame);
            }
        }
        Ok((found, frames.is_empty()))
    }

    #[test]
    fn frames_are_read_back_however_they_are_cut() {
        let (found, is_whole) = read(&whole(), usize::MAX).unwrap();
        assert!(is_whole);
        assert!(matches!(&found[0], Found::Begin(begin) if begin.node == "n"));
        assert!(matches!(&found[1], Found::Head(head) if head.kind == Kind::Head));
        assert_eq!(found[2], Found::Record(a_record("a")));
        assert_eq!(found[4], Found::Damaged(Corrupt::NoHead.to_string()));
        assert!(matches!(&found[5], Found::End(end) if end.summary.records == 2));
        assert_eq!(found[6], Found::Failed("the disk is gone".to_owned()));
        for at_a_time in [1, 3, 64] {
            assert_eq!(read(&whole(), at_a_time).unwrap().0, found);
        }
    }

    #[test]
    fn what_is_not_a_frame_is_refused_and_a_part_of_one_is_not_an_end() {
        let whole = whole();
        for cut in 1..whole.len() {
            let (_, is_whole) = read(&whole[..cut], usize::MAX).unwrap();
            let ends_between = read(&whole[..cut], usize::MAX).unwrap().0.len();
            assert!(!is_whole || ends_between < 7, "{cut}");
        }
        for bad in [
            b"K\0\0\0\x02{}".as_slice(),
            b"K\0\0\0\x3b{\"format\":2,\"keymill\":\"\",\"host\":\"\",\"node\":\"\",\"more\":\"....\"}",
            b"X\0\0\0\0",
            b"R\xff\xff\xff\xff",
            b"R\0\0\0\0",
            b"R\0\0\0\x04\0\0\0\x09",
            b"H\0\0\0\x14\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
            b"E\0\0\0\x02[]",
        ] {
            assert!(read(bad, usize::MAX).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_digest_is_of_every_byte_of_every_record_in_order() {
        let digest = |records: &[Record], head: &Record| {
            let mut digest = Digest::default();
            digest.add(records);
            digest.end(head)
        };
        let (a, b) = (a_record("a"), a_record("b"));
        let whole = digest(&[a.clone(), b.clone()], &a);
        assert_eq!(whole.len(), 64);
        let mut changed = a.clone();
        changed.body[2] ^= 1;
        let mut later = a.clone();
        later.revision += 1;
        for other in [
            digest(&[b.clone(), a.clone()], &a),
            digest(std::slice::from_ref(&a), &a),
            digest(&[changed, b.clone()], &a),
            digest(&[later, b.clone()], &a),
            digest(&[a.clone(), b.clone()], &b),
        ] {
            assert_ne!(other, whole);
        }
    }
}
