//! Unix sockets: where they are, who may connect, and who that is.

use crate::auth::{PeerMap, Peers};
use crate::config::{as_text, from_text};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// Who unsigned callers of the daemon's own Unix socket are: principals' ARNs by user and by
/// primary group. There is no default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SocketPeers {
    /// By uid, or the word `root`.
    pub users: BTreeMap<String, String>,
    /// By gid, or the word `root`; looked up when the uid is not in `users`.
    pub groups: BTreeMap<String, String>,
}

/// A further Unix socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Socket {
    /// Where it is.
    pub path: PathBuf,
    /// Its permission bits.
    #[serde(serialize_with = "as_text", deserialize_with = "from_text")]
    pub mode: SocketMode,
    /// The ARN of whoever connects, whatever his ids are; excludes the maps.
    pub principal: Option<String>,
    /// By uid, or the word `root`.
    #[serde(default)]
    pub users: BTreeMap<String, String>,
    /// By gid, or the word `root`; looked up when the uid is not in `users`.
    #[serde(default)]
    pub groups: BTreeMap<String, String>,
}

impl SocketPeers {
    /// The map that the socket is served with.
    #[must_use]
    pub fn map(&self) -> PeerMap {
        map(&self.users, &self.groups)
    }
}

impl Socket {
    /// Who the socket's callers are.
    #[must_use]
    pub fn peers(&self) -> Peers {
        match &self.principal {
            Some(arn) => Peers::Fixed(arn.clone()),
            None => Peers::Mapped(map(&self.users, &self.groups)),
        }
    }
}

fn map(users: &BTreeMap<String, String>, groups: &BTreeMap<String, String>) -> PeerMap {
    let ids = |map: &BTreeMap<String, String>| {
        map.iter()
            .filter_map(|(id, arn)| Some((peer_id(id).ok()?, arn.clone())))
            .collect()
    };
    PeerMap {
        uids: ids(users),
        gids: ids(groups),
    }
}

/// What the kernel says of ids that it cannot express (`/proc/sys/kernel/overflowuid`, by default).
pub const OVERFLOW_ID: u32 = 65_534;

/// A user or group id as a peer map spells it: a number, or the word `root`.
///
/// # Errors
/// Why it is refused.
pub fn peer_id(text: &str) -> Result<u32, &'static str> {
    match text.parse() {
        _ if text == "root" => Ok(0),
        Ok(0) => Err("0 is refused, so that root is mapped only on purpose: write root"),
        Ok(OVERFLOW_ID) => Err("65534 is refused: the kernel says it of any id it cannot express"),
        Ok(u32::MAX) => Err("4294967295 is no id"),
        Ok(id) if text == format!("{id}") => Ok(id),
        _ => Err("allowed are a number from 1 to 4294967294, or root"),
    }
}

/// Permission bits of a socket: four octal digits, in which its owner may read and write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketMode(pub u32);

impl SocketMode {
    /// Owner and group.
    pub const DEFAULT: Self = Self(0o660);
}

/// Text that is no socket mode.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a socket mode is 0600 to 0777 in octal, with 6 or 7 for the owner")]
pub struct InvalidSocketMode;

impl FromStr for SocketMode {
    type Err = InvalidSocketMode;

    fn from_str(text: &str) -> Result<Self, InvalidSocketMode> {
        let octal = text.len() == 4 && text.bytes().all(|byte| matches!(byte, b'0'..=b'7'));
        match u32::from_str_radix(text, 8) {
            Ok(mode @ 0o600..=0o777) if octal => Ok(Self(mode)),
            _ => Err(InvalidSocketMode),
        }
    }
}

impl fmt::Display for SocketMode {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:04o}", self.0)
    }
}
