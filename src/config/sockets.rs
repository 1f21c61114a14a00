//! Unix sockets: their paths, their modes, and the principals of their callers.

use crate::auth::{PeerMap, Peers};
use crate::config::{Config, as_text, from_text};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// The principals of unsigned callers of the daemon's own Unix socket: their ARNs by user and by
/// primary group. There is no default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SocketPeers {
    /// From uid, or the word `root`, to an ARN.
    pub users: BTreeMap<String, String>,
    /// From gid, or the word `root`, to an ARN; used when the uid is not in `users`.
    pub groups: BTreeMap<String, String>,
}

/// A further Unix socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Socket {
    /// Its path.
    pub path: PathBuf,
    /// Its permission bits.
    #[serde(serialize_with = "as_text", deserialize_with = "from_text")]
    pub mode: SocketMode,
    /// The ARN of the principal of every caller, whatever its ids; excludes the maps.
    pub principal: Option<String>,
    /// From uid, or the word `root`, to an ARN.
    #[serde(default)]
    pub users: BTreeMap<String, String>,
    /// From gid, or the word `root`, to an ARN; used when the uid is not in `users`.
    #[serde(default)]
    pub groups: BTreeMap<String, String>,
}

/// Where a Unix socket is.
pub struct SocketPlace<'a> {
    /// The setting that names it, as [`OWN_SOCKET`].
    pub setting: String,
    /// Its path.
    pub path: &'a Path,
    /// Its permission bits.
    pub mode: SocketMode,
}

/// The setting of the daemon's own socket.
pub const OWN_SOCKET: &str = "listen.socket";
/// What the names of further sockets follow in their settings.
pub const FURTHER_SOCKETS: &str = "sockets.";

impl Config {
    /// Every Unix socket, the daemon's own first.
    #[must_use]
    pub fn socket_places(&self) -> Vec<SocketPlace<'_>> {
        let own = SocketPlace {
            setting: OWN_SOCKET.to_owned(),
            path: &self.listen.socket,
            mode: self.listen.socket_mode,
        };
        let further = self.sockets.iter().map(|(name, socket)| SocketPlace {
            setting: format!("{FURTHER_SOCKETS}{name}"),
            path: &socket.path,
            mode: socket.mode,
        });
        std::iter::once(own).chain(further).collect()
    }

    /// The principals of the callers of a socket, by its setting; of one that is not configured, no
    /// caller has one.
    #[must_use]
    pub fn peers_of(&self, setting: &str) -> Peers {
        let further = setting.strip_prefix(FURTHER_SOCKETS);
        match further.map(|name| self.sockets.get(name)) {
            None => Peers::Mapped(self.peers.map()),
            Some(Some(socket)) => socket.peers(),
            Some(None) => Peers::Mapped(PeerMap::default()),
        }
    }
}

impl SocketPeers {
    /// The map for the socket's listener.
    #[must_use]
    pub fn map(&self) -> PeerMap {
        map(&self.users, &self.groups)
    }
}

impl Socket {
    /// The principals of the socket's callers.
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

/// The id that the kernel reports for ids that it cannot express (`/proc/sys/kernel/overflowuid`,
/// by default).
pub const OVERFLOW_ID: u32 = 65_534;

/// A user or group id in a peer map: a number, or the word `root`.
///
/// # Errors
/// The reason of a refusal.
pub fn peer_id(text: &str) -> Result<u32, &'static str> {
    match text.parse() {
        _ if text == "root" => Ok(0),
        Ok(0) => Err("0 is refused, so that root is mapped only on purpose: write root"),
        Ok(OVERFLOW_ID) => {
            Err("65534 is refused: the kernel reports it for any id it cannot express")
        }
        Ok(u32::MAX) => Err("4294967295 is not an id"),
        Ok(id) if text == format!("{id}") => Ok(id),
        _ => Err("allowed are a number from 1 to 4294967294, or root"),
    }
}

/// Permission bits of a socket: four octal digits that let its owner read and write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketMode(pub u32);

impl SocketMode {
    /// Owner and group may connect.
    pub const DEFAULT: Self = Self(0o660);
}

/// The text is not a socket mode.
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
