//! Unix peer credentials to a principal.

use std::collections::BTreeMap;

/// The kernel's word on who is at the other end of a Unix socket (`SO_PEERCRED`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Effective user id.
    pub uid: u32,
    /// Effective primary group id.
    pub gid: u32,
}

/// Exact map from uid, then primary gid, to a principal's ARN; no default.
#[derive(Clone, Debug, Default)]
pub struct PeerMap {
    /// uid to ARN.
    pub uids: BTreeMap<u32, String>,
    /// gid to ARN.
    pub gids: BTreeMap<u32, String>,
}

impl PeerMap {
    /// The ARN of the peer's principal; the overflow ids are nobody.
    #[must_use]
    pub fn principal(&self, _peer: Peer) -> Option<&str> {
        todo!()
    }
}
