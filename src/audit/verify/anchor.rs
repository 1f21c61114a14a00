//! An anchor: the group up to which a log was found whole. A verification can begin there when the
//! files before it were moved away.
//!
//! It is one line, `keymill-audit-anchor-v1 <log> <group> <mac> <tag>`. The log's own lines show
//! the first three in the clear, so the fourth proves that a verification found them: `tag =
//! HMAC-SHA-256(sub-key "audit anchor", "keymill audit anchor v1 " ‖ log ‖ group, 8 bytes
//! big-endian ‖ mac)`. Only a holder of the root key can make one.
//!
//! This module does not store anchors. An anchor beside the log would hide records that were
//! verified once and removed since, so the operator chooses where it is stored.

use crate::audit::chain::parse_hex;
use crate::audit::record::append_hex;
use crate::crypto::secret::Secret;
use crate::keystore::{AuditHead, RootKey};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

const PREFIX: &str = "keymill-audit-anchor-v1";
/// The most bytes of an anchor's line.
pub const ANCHOR_BYTES_MAX: u64 = 256;

/// The key of anchors.
#[must_use]
pub fn anchor_key(root: &RootKey) -> Secret<32> {
    root.subkey("audit anchor")
}

/// The line which states that the log was found whole up to `head`.
///
/// # Panics
/// Never: hexadecimal digits are ASCII.
#[must_use]
pub fn anchor(key: &Secret<32>, head: &AuditHead) -> String {
    let hexed = |bytes: &[u8]| {
        let mut text = Vec::new();
        append_hex(&mut text, bytes);
        String::from_utf8(text).expect("hexadecimal digits are ASCII")
    };
    let (log, mac) = (hexed(&head.log), hexed(&head.mac));
    let tag = hexed(&tag(key, head).finalize().into_bytes());
    format!("{PREFIX} {log} {} {mac} {tag}\n", head.group)
}

/// The head in an anchor's line; `None` when the line was not made with this root key.
#[must_use]
pub fn read_anchor(key: &Secret<32>, line: &str) -> Option<AuditHead> {
    let mut words = line.trim_end().split(' ');
    let [prefix, log, group, mac, said] = std::array::from_fn(|_| words.next().unwrap_or_default());
    if prefix != PREFIX || words.next().is_some() {
        return None;
    }
    let head = AuditHead {
        log: parse_hex(log.as_bytes())?,
        group: group.parse().ok()?,
        mac: parse_hex(mac.as_bytes())?,
    };
    let said: [u8; 32] = parse_hex(said.as_bytes())?;
    tag(key, &head).verify_slice(&said).ok().map(|()| head)
}

fn tag(key: &Secret<32>, head: &AuditHead) -> Hmac<Sha256> {
    let mut mac =
        Hmac::<Sha256>::new_from_slice(key.expose()).expect("HMAC takes keys of every length");
    mac.update(b"keymill audit anchor v1 ");
    mac.update(&head.log);
    mac.update(&head.group.to_be_bytes());
    mac.update(&head.mac);
    mac
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn audit_4_an_anchor_is_made_by_the_root_key_alone() {
        let key = Secret::filled(|bytes| bytes.fill(1));
        let other = Secret::filled(|bytes| bytes.fill(2));
        let head = AuditHead {
            log: [7; 16],
            group: 42,
            mac: [9; 32],
        };
        let line = anchor(&key, &head);
        assert!(line.len() as u64 <= ANCHOR_BYTES_MAX);
        assert_eq!(read_anchor(&key, &line), Some(head));
        assert_eq!(read_anchor(&other, &line), None);
        let bad = [
            line.replace(" 42 ", " 43 "),
            line.replace("0707", "0708"),
            line.replace("0909", "0908"),
            line.replace("v1", "v2"),
            line.replace('\n', " x"),
            line[..line.len() - 2].to_owned(),
            String::new(),
        ];
        for bad in bad {
            assert_eq!(read_anchor(&key, &bad), None, "{bad}");
        }
    }

    /// The expected value was computed with Python's `hmac`.
    #[test]
    fn the_form_of_an_anchor_is_frozen() {
        let key = Secret::filled(|bytes| bytes.fill(7));
        let head = AuditHead {
            log: [1; 16],
            group: 3,
            mac: [2; 32],
        };
        let line = anchor(&key, &head);
        assert_eq!(line.trim_end().split(' ').next_back(), Some(FROZEN));
    }

    const FROZEN: &str = "47451bc2bc9b4abb09f17a1728facfbecd2d2df0b11a7175bf84a266cb045d49";
}
