//! Unix peer credentials to a principal.

/// The kernel's word on who is at the other end of a Unix socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Effective user id.
    pub uid: u32,
    /// Effective group id.
    pub gid: u32,
}

/// Exact map from uid, then primary gid, to a principal's ARN; no default.
#[derive(Clone, Debug, Default)]
pub struct PeerMap {
    /// uid to ARN.
    pub uids: std::collections::BTreeMap<u32, String>,
    /// gid to ARN.
    pub gids: std::collections::BTreeMap<u32, String>,
}
