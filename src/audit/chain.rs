//! The chain, which shows that a log was cut off, edited, reordered or replaced.
//!
//! A log is a sequence of **groups**, numbered from 1: some lines, and a chain line that closes
//! them with `HMAC-SHA-256(audit key, previous MAC ‖ the group's bytes up to the MAC)`. The MAC
//! before the first is `HMAC-SHA-256(audit key, label ‖ log id)`. Each file begins with a group
//! that holds only the file's header, so the chain covers the headers too.
//!
//! A chain line also holds the position in the journal up to which the log has the records. From
//! one chain line to the next, the position grows by the frames of the records between them and by
//! the unfinished bytes, which the line counts. It grows by more only where a power cut lost
//! records.

use crate::audit::LINE_BYTES_MAX;
use crate::audit::record::{RECORD_START, append_hex};
use crate::crypto::secret::Secret;
use crate::keystore::AuditHead;
use hex_simd::AsOut;
use hmac::{Hmac, KeyInit, Mac};
use memchr::memchr;
use serde::Deserialize;
use sha2::Sha256;
use std::io::Write;

/// The first bytes of a chain line.
pub(super) const CHAIN_START: &[u8] = b"{\"keymillChain\":";
/// The first bytes of a header line.
pub(super) const HEADER_START: &[u8] = b"{\"keymillLog\":";
/// The last bytes of a chain line: the MAC's 64 digits come before them.
const CHAIN_END: &[u8] = b"\"}}\n";
const MAC_DIGITS: usize = 64;
/// The format of header and chain lines.
const VERSION: u32 = 1;
/// The most bytes in the lines of one group, which the writer holds in memory.
pub(super) const GROUP_BYTES_MAX: usize = 1 << 20;
const _: () = assert!(LINE_BYTES_MAX <= GROUP_BYTES_MAX);

/// The state of a log: its head, and the journal position up to which it has the records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Chain {
    pub(super) head: AuditHead,
    pub(super) position: u64,
}

impl Chain {
    /// The state before the first group of the log `id`.
    pub(super) fn begin(key: &Secret<32>, id: [u8; 16], position: u64) -> Self {
        let mut mac = hmac(key);
        mac.update(b"keymill audit log v1 ");
        mac.update(&id);
        let head = AuditHead {
            log: id,
            group: 0,
            mac: mac.finalize().into_bytes().into(),
        };
        Self { head, position }
    }

    /// Appends the chain line that closes the group in `lines`. The group holds `records` records
    /// that end at `position`; between them are `unfinished` bytes of the journal that a killed
    /// process had claimed and not filled.
    pub(super) fn close(
        &mut self,
        key: &Secret<32>,
        lines: &mut Vec<u8>,
        records: u64,
        position: u64,
        unfinished: u64,
    ) {
        let group = self.head.group + 1;
        write!(
            lines,
            "{{\"keymillChain\":{{\"group\":{group},\"records\":{records},\"journal\":{position},"
        )
        .expect("writing to a vector cannot fail");
        if unfinished > 0 {
            write!(lines, "\"unfinished\":{unfinished},").expect("writing to a vector cannot fail");
        }
        // The MAC covers everything before it, so it is the last member.
        lines.extend_from_slice(b"\"mac\":\"");
        let mac = group_mac(key, &self.head.mac, lines);
        append_hex(lines, &mac);
        lines.extend_from_slice(CHAIN_END);
        self.head.group = group;
        self.head.mac = mac;
        self.position = position;
    }
}

/// The MAC of a group: `bytes` are its lines and its chain line up to the MAC.
pub(super) fn group_mac(key: &Secret<32>, previous: &[u8; 32], bytes: &[u8]) -> [u8; 32] {
    let mut mac = hmac(key);
    mac.update(previous);
    mac.update(bytes);
    mac.finalize().into_bytes().into()
}

fn hmac(key: &Secret<32>) -> Hmac<Sha256> {
    Hmac::new_from_slice(key.expose()).expect("HMAC takes keys of every length")
}

/// The content of a file's first line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) log: [u8; 16],
    pub(super) group: u64,
    pub(super) previous: [u8; 32],
    /// Seconds since the Unix epoch.
    pub(super) created: u64,
    /// The sealed head of an earlier log whose files were missing when this log was begun.
    pub(super) after: Option<AuditHead>,
    /// The node that wrote the file, 32 hexadecimal digits; `None` of an embedded store, and of
    /// stores before format 3.
    pub(super) node: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct HeaderLine<'a> {
    #[serde(borrow)]
    keymill_log: HeaderBody<'a>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HeaderBody<'a> {
    version: u32,
    log: &'a str,
    group: u64,
    previous: &'a str,
    created: u64,
    #[serde(borrow)]
    after: Option<AfterBody<'a>>,
    node: Option<&'a str>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AfterBody<'a> {
    log: &'a str,
    group: u64,
    mac: &'a str,
}

impl Header {
    /// Appends the header of a file whose groups follow `chain`.
    pub(super) fn append(
        lines: &mut Vec<u8>,
        chain: &Chain,
        created: u64,
        after: Option<&AuditHead>,
        node: Option<&str>,
    ) {
        let hexed = |bytes: &[u8]| {
            let mut text = Vec::with_capacity(2 * bytes.len());
            append_hex(&mut text, bytes);
            String::from_utf8(text).expect("hex digits")
        };
        let AuditHead { log, group, mac } = &chain.head;
        let after = after.map_or_else(
            || "null".to_owned(),
            |head| {
                format!(
                    "{{\"log\":\"{}\",\"group\":{},\"mac\":\"{}\"}}",
                    hexed(&head.log),
                    head.group,
                    hexed(&head.mac)
                )
            },
        );
        let node = node.map_or_else(String::new, |node| format!(",\"node\":\"{node}\""));
        writeln!(
            lines,
            "{{\"keymillLog\":{{\"version\":{VERSION},\"log\":\"{}\",\"group\":{},\"previous\":\"{}\",\"created\":{created},\"after\":{after}{node}}}}}",
            hexed(log),
            group + 1,
            hexed(mac),
        )
        .expect("writing to a vector cannot fail");
    }

    /// The head that the file continues.
    pub(super) fn before(&self) -> AuditHead {
        AuditHead {
            log: self.log,
            group: self.group - 1,
            mac: self.previous,
        }
    }

    /// Parses a line; `None` when it is not a header of this version.
    pub(super) fn parse(line: &[u8]) -> Option<Self> {
        let body = serde_json::from_slice::<HeaderLine<'_>>(line)
            .ok()?
            .keymill_log;
        let after = match body.after {
            None => None,
            Some(after) => Some(AuditHead {
                log: parse_hex(after.log.as_bytes())?,
                group: after.group,
                mac: parse_hex(after.mac.as_bytes())?,
            }),
        };
        let node = match body.node {
            None => None,
            Some(node) => {
                parse_hex::<16>(node.as_bytes())?;
                Some(node.to_owned())
            }
        };
        let header = Self {
            log: parse_hex(body.log.as_bytes())?,
            group: body.group,
            previous: parse_hex(body.previous.as_bytes())?,
            created: body.created,
            after,
            node,
        };
        (body.version == VERSION && header.group > 0).then_some(header)
    }
}

/// The content of a chain line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ChainLine {
    pub(super) group: u64,
    pub(super) records: u64,
    pub(super) position: u64,
    pub(super) unfinished: u64,
    pub(super) mac: [u8; 32],
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ChainEnvelope<'a> {
    #[serde(borrow)]
    keymill_chain: ChainBody<'a>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ChainBody<'a> {
    group: u64,
    records: u64,
    journal: u64,
    #[serde(default)]
    unfinished: u64,
    mac: &'a str,
}

impl ChainLine {
    /// The bytes at the end of a chain line that its MAC does not cover: the MAC itself and the end
    /// of the line.
    pub(super) const UNCOVERED_BYTES: usize = MAC_DIGITS + CHAIN_END.len();

    /// Parses a line with its line feed; `None` when it is not exactly the output of
    /// [`Chain::close`].
    pub(super) fn parse(line: &[u8]) -> Option<Self> {
        let body = serde_json::from_slice::<ChainEnvelope<'_>>(line)
            .ok()?
            .keymill_chain;
        let mac = line
            .strip_suffix(CHAIN_END)?
            .last_chunk::<MAC_DIGITS>()
            .filter(|digits| digits.as_slice() == body.mac.as_bytes())?;
        Some(Self {
            group: body.group,
            records: body.records,
            position: body.journal,
            unfinished: body.unfinished,
            mac: parse_hex(mac)?,
        })
    }
}

/// Whether a line can be a record: it has the form that
/// [`AuditRecord::append`](crate::audit::AuditRecord::append) writes, and cannot be taken for a
/// line of the chain.
pub(super) fn is_record(line: &[u8]) -> bool {
    let Some((b'\n', rest)) = line.split_last() else {
        return false;
    };
    rest.starts_with(RECORD_START) && memchr(b'\n', rest).is_none()
}

/// Parses `N` bytes of lower-case hex.
pub(super) fn parse_hex<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    if text.len() != 2 * N || text.iter().any(u8::is_ascii_uppercase) {
        return None;
    }
    hex_simd::decode(text, bytes.as_mut_slice().as_out()).ok()?;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> Secret<32> {
        Secret::filled(|bytes| bytes.fill(7))
    }

    #[test]
    fn what_is_written_is_what_is_parsed() {
        let mut chain = Chain::begin(&key(), [1; 16], 48);
        let before = chain;
        let after = AuditHead {
            log: [9; 16],
            group: 77,
            mac: [8; 32],
        };
        let node = "0123456789abcdef0123456789abcdef";
        for (after, node) in [(None, None), (Some(after), None), (None, Some(node))] {
            let mut lines = Vec::new();
            Header::append(&mut lines, &chain, 1_700_000_000, after.as_ref(), node);
            let header = Header::parse(&lines).unwrap();
            let expected = Header {
                log: [1; 16],
                group: 1,
                previous: chain.head.mac,
                created: 1_700_000_000,
                after,
                node: node.map(str::to_owned),
            };
            assert_eq!(header, expected);
        }
        let mut lines = b"{\"eventVersion\":1}\n".to_vec();
        let start = lines.len();
        chain.close(&key(), &mut lines, 1, 80, 32);
        let line = ChainLine::parse(&lines[start..]).unwrap();
        assert_eq!((line.group, line.records, line.position), (1, 1, 80));
        assert_eq!(line.unfinished, 32);
        assert_eq!(line.mac, chain.head.mac);
        let covered = &lines[..lines.len() - ChainLine::UNCOVERED_BYTES];
        assert_eq!(group_mac(&key(), &before.head.mac, covered), chain.head.mac);
    }

    #[test]
    fn the_chain_of_a_group_is_frozen() {
        let mut chain = Chain::begin(&key(), [1; 16], 0);
        let mut lines = b"{\"eventVersion\":1}\n".to_vec();
        chain.close(&key(), &mut lines, 1, 48, 0);
        let text = String::from_utf8(lines).unwrap();
        assert_eq!(text, FROZEN);
    }

    /// The expected values were computed with Python's `hmac`.
    const FROZEN: &str = "{\"eventVersion\":1}\n{\"keymillChain\":{\"group\":1,\"records\":1,\"journal\":48,\"mac\":\"\
        af8b061db16d5f41626e43cd689f18049e7edfb15aa2c97a891f846ed610cbdd\"}}\n";

    #[test]
    fn lines_that_differ_from_what_is_written_are_none() {
        let mut chain = Chain::begin(&key(), [1; 16], 0);
        let mut line = Vec::new();
        chain.close(&key(), &mut line, 0, 0, 0);
        let good = String::from_utf8(line).unwrap();
        assert!(ChainLine::parse(good.as_bytes()).is_some());
        for bad in [
            good.trim_end().to_owned(),
            good.replace("\"group\":1", "\"group\":-1"),
            good.replace("\"records\":0,", ""),
            good.replace("\"records\":0,", "\"records\":0,\"more\":1,"),
            good.replace("\"}}\n", "\" }}\n"),
            good.replace("\"}}\n", "0\"}}\n"),
            good.to_uppercase().replace("KEYMILLCHAIN", "keymillChain"),
        ] {
            assert!(ChainLine::parse(bad.as_bytes()).is_none(), "{bad}");
        }
        let mut line = Vec::new();
        Header::append(&mut line, &chain, 7, None, Some(&"5e".repeat(16)));
        let good = String::from_utf8(line).unwrap();
        for bad in [
            good.replace("\"version\":1", "\"version\":2"),
            good.replace("\"group\":2", "\"group\":0"),
            good.replace("\"created\":7,", ""),
            good.replace("\"node\":\"5e", "\"node\":\"5E"),
            good.replace("\"node\":\"5e", "\"node\":\""),
            good.replace("01", "0x"),
        ] {
            assert!(Header::parse(bad.as_bytes()).is_none(), "{bad}");
        }
    }

    #[test]
    fn only_one_whole_line_of_a_record_is_a_record() {
        assert!(is_record(b"{\"eventVersion\":\"1.11\"}\n"));
        for line in [
            b"".as_slice(),
            b"\n",
            b"{\"eventVersion\":\"1.11\"}",
            b"{\"eventVersion\":\"1.11\"}\n{\"eventVersion\":\"1.11\"}\n",
            b"{\"keymillChain\":{}}\n",
            b"{\"keymillLog\":{}}\n",
            b" {\"eventVersion\":\"1.11\"}\n",
        ] {
            assert!(!is_record(line), "{}", line.escape_ascii());
        }
    }

    #[test]
    fn hex_is_of_one_length_and_in_lower_case() {
        assert_eq!(parse_hex(b"00ff"), Some([0x00, 0xff]));
        for text in [
            &b"00f"[..],
            b"00fff",
            b"00ff00",
            b"00FF",
            b"00fg",
            b"+0ff",
            b"",
        ] {
            assert_eq!(parse_hex::<2>(text), None, "{text:?}");
        }
    }
}
