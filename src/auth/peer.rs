//! From Unix peer credentials to a principal.

use std::collections::BTreeMap;

/// The process at the other end of a Unix socket, as the kernel reports it (`SO_PEERCRED`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Effective user id.
    pub uid: u32,
    /// Effective primary group id.
    pub gid: u32,
}

/// The principals of the unsigned callers of one Unix socket.
#[derive(Clone, Debug)]
pub enum Peers {
    /// The principal that the map names.
    Mapped(PeerMap),
    /// This principal, for every process that connects: the socket's folder and mode are the
    /// credential. For containers, whose ids mean nothing outside of them.
    Fixed(String),
}

impl Peers {
    /// The ARN of the peer's principal.
    #[must_use]
    pub fn principal(&self, peer: Peer) -> Option<&str> {
        match self {
            Self::Mapped(map) => map.principal(peer),
            Self::Fixed(arn) => Some(arn),
        }
    }
}

/// An exact map from uid, then from primary gid, to the ARN of a principal. It has no default.
#[derive(Clone, Debug, Default)]
pub struct PeerMap {
    /// From uid to ARN.
    pub uids: BTreeMap<u32, String>,
    /// From gid to ARN.
    pub gids: BTreeMap<u32, String>,
}

impl PeerMap {
    /// The id that the kernel shows for a user or group without an id in this user namespace (the
    /// default of `/proc/sys/kernel/overflowuid` and `overflowgid`). It may be any user, so it is
    /// never mapped.
    pub const OVERFLOW_ID: u32 = 65_534;
    /// The superuser.
    const ROOT: u32 = 0;

    /// The ARN of the peer's principal. The overflow ids have none, whatever the map says. Root is
    /// mapped only by its uid: a group that root happens to be in was mapped for its other members.
    #[must_use]
    pub fn principal(&self, peer: Peer) -> Option<&str> {
        if peer.uid == Self::OVERFLOW_ID {
            return None;
        }
        let by_group = || {
            let known = peer.uid != Self::ROOT && peer.gid != Self::OVERFLOW_ID;
            known.then(|| self.gids.get(&peer.gid)).flatten()
        };
        self.uids
            .get(&peer.uid)
            .or_else(by_group)
            .map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOBODY: u32 = PeerMap::OVERFLOW_ID;

    fn map(uids: &[(u32, &str)], gids: &[(u32, &str)]) -> PeerMap {
        let of = |ids: &[(u32, &str)]| ids.iter().map(|&(id, arn)| (id, arn.to_owned())).collect();
        PeerMap {
            uids: of(uids),
            gids: of(gids),
        }
    }

    #[test]
    fn the_uid_goes_before_the_gid_and_there_is_no_default() {
        let map = map(&[(1000, "user"), (1001, "other")], &[(100, "group")]);
        let cases = [
            ((1000, 100), Some("user")),
            ((1001, 7), Some("other")),
            ((1002, 100), Some("group")),
            ((1002, 101), None),
            ((100, 1000), None),
            ((u32::MAX, u32::MAX), None),
            ((1000, NOBODY), Some("user")),
        ];
        for ((uid, gid), arn) in cases {
            assert_eq!(map.principal(Peer { uid, gid }), arn, "{uid}:{gid}");
        }
        let nobody = PeerMap::default();
        assert_eq!(nobody.principal(Peer { uid: 0, gid: 0 }), None);
    }

    #[test]
    fn overflow_ids_are_nobody_even_when_mapped() {
        let map = map(&[(NOBODY, "user")], &[(NOBODY, "group"), (100, "group")]);
        for (uid, gid) in [(NOBODY, NOBODY), (NOBODY, 100), (1000, NOBODY)] {
            assert_eq!(map.principal(Peer { uid, gid }), None, "{uid}:{gid}");
        }
    }

    #[test]
    fn a_fixed_principal_is_everybody() {
        let peers = Peers::Fixed("pod".to_owned());
        for (uid, gid) in [(0, 0), (1000, 100), (NOBODY, NOBODY)] {
            assert_eq!(peers.principal(Peer { uid, gid }), Some("pod"));
        }
        let nobody = Peers::Mapped(PeerMap::default());
        assert_eq!(nobody.principal(Peer { uid: 1000, gid: 0 }), None);
    }

    #[test]
    fn root_is_mapped_by_its_uid_or_not_at_all() {
        let groups = [(0, "wheel"), (100, "group")];
        let unmapped = map(&[], &groups);
        for gid in [0, 100] {
            assert_eq!(unmapped.principal(Peer { uid: 0, gid }), None);
        }
        assert_eq!(
            unmapped.principal(Peer { uid: 1000, gid: 0 }),
            Some("wheel")
        );
        let mapped = map(&[(0, "root")], &groups);
        assert_eq!(mapped.principal(Peer { uid: 0, gid: 100 }), Some("root"));
    }
}
