//! The caller at the other end of a connection, as far as the transport knows it.

use crate::audit;
use crate::auth::{Client, ClientMap, Peer, Peers};
use crate::clock::Timestamp;
use crate::transport::places::Place;
use crate::transport::tls_details::TlsDetails;
use arc_swap::ArcSwap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// The other end of one connection.
pub(super) struct Caller {
    /// The state of its connection among those of the listener.
    pub(super) place: Arc<Place>,
    /// Where the connection comes from.
    pub(super) source: Source,
    /// Whether only its two ends can read the connection or repeat its requests: with TLS, or on a
    /// Unix socket, which has no wire (`aws:SecureTransport`).
    pub(super) secure_transport: bool,
    /// What its TLS is, if it has TLS.
    pub(super) tls: Option<TlsDetails>,
    /// The peer's uid on a Unix socket.
    pub(super) uid: Option<u32>,
    /// The principal of unsigned requests.
    pub(super) identity: Identity,
    /// When `identity` expires: the end of a client certificate. A connection may last longer.
    pub(super) until: Option<Timestamp>,
}

/// How unsigned requests get their principal. The map is asked at each request, so that a change of
/// it is in force on connections that are open.
pub(super) enum Identity {
    /// They have none.
    Unknown,
    /// By the process at the other end of a Unix socket.
    Peer(Peer, Arc<ArcSwap<Peers>>),
    /// By the name in a client certificate.
    Certificate(Client, Arc<ArcSwap<ClientMap>>),
}

/// Where a connection comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// A TCP peer (`aws:SourceIp`, without the port). IPv4 is IPv4 even on an IPv6 listener.
    Address(SocketAddr),
    /// A Unix socket, by the name of its setting.
    Socket(Arc<str>),
}

impl Source {
    /// The source of a TCP peer.
    pub(super) fn of(peer: SocketAddr) -> Self {
        Self::Address(SocketAddr::new(peer.ip().to_canonical(), peer.port()))
    }

    /// The IP address; a Unix socket has none.
    pub(super) fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Address(address) => Some(address.ip()),
            Self::Socket(_) => None,
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(out),
            Self::Socket(name) => out.write_str(name),
        }
    }
}

impl Caller {
    /// A caller on plain TCP, without a principal.
    pub(super) fn over_tcp(peer: SocketAddr) -> Self {
        Self {
            place: Arc::default(),
            source: Source::of(peer),
            secure_transport: false,
            tls: None,
            uid: None,
            identity: Identity::Unknown,
            until: None,
        }
    }

    /// A caller on TLS, with its certificate if it has shown one.
    pub(super) fn over_tls(
        peer: SocketAddr,
        tls: TlsDetails,
        client: Option<Client>,
        clients: &Arc<ArcSwap<ClientMap>>,
    ) -> Self {
        Self {
            secure_transport: true,
            tls: Some(tls),
            until: client.as_ref().map(|client| client.not_after),
            identity: client.map_or(Identity::Unknown, |client| {
                Identity::Certificate(client, Arc::clone(clients))
            }),
            ..Self::over_tcp(peer)
        }
    }

    /// The source of its requests, in the form of audit records.
    pub(super) fn origin(&self) -> audit::Source {
        match (self.source.ip(), self.uid) {
            (Some(ip), _) => audit::Source::Address(ip),
            (None, Some(uid)) => audit::Source::Unix(uid),
            (None, None) => audit::Source::Local,
        }
    }

    /// The common name of its certificate at this time.
    pub(super) fn common_name_at(&self, now: Timestamp) -> Option<&str> {
        match &self.identity {
            Identity::Certificate(client, _) if !self.has_ended(now) => {
                client.common_name.as_deref()
            }
            _ => None,
        }
    }

    /// Judges the ARN of the principal of an unsigned request at this time.
    pub(super) fn with_arn_at<T>(
        &self,
        now: Timestamp,
        judge: impl FnOnce(Option<&str>) -> T,
    ) -> T {
        match &self.identity {
            _ if self.has_ended(now) => judge(None),
            Identity::Unknown => judge(None),
            Identity::Peer(peer, peers) => judge(peers.load().principal(*peer)),
            Identity::Certificate(client, clients) => judge(clients.load().principal(client)),
        }
    }

    fn has_ended(&self, now: Timestamp) -> bool {
        self.until.is_some_and(|until| until < now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_the_same_on_both_kinds_of_listener() {
        for (peer, ip) in [
            ("192.0.2.7:80", "192.0.2.7"),
            ("[::ffff:192.0.2.7]:80", "192.0.2.7"),
            ("[2001:db8::1]:80", "2001:db8::1"),
        ] {
            let source = Source::of(peer.parse().unwrap());
            assert_eq!(source.ip(), Some(ip.parse().unwrap()));
        }
        let socket = Source::Socket("sockets.pod-a".into());
        assert_eq!(
            (socket.ip(), socket.to_string().as_str()),
            (None, "sockets.pod-a")
        );
    }

    fn arn_at(caller: &Caller, now: Timestamp) -> Option<String> {
        caller.with_arn_at(now, |arn| arn.map(ToOwned::to_owned))
    }

    fn map(name: &str, arn: &str) -> ClientMap {
        let names = [(name.to_owned(), arn.to_owned())].into();
        ClientMap { names }
    }

    #[test]
    fn a_client_is_nobody_once_its_certificate_has_ended() {
        let client = Client {
            name: "CN=a".to_owned(),
            common_name: Some("a".to_owned()),
            not_after: Timestamp(100),
        };
        let clients = Arc::new(ArcSwap::from_pointee(map("CN=a", "arn")));
        let peer = "192.0.2.7:80".parse().unwrap();
        let caller = Caller::over_tls(peer, TlsDetails::default(), Some(client.clone()), &clients);
        assert_eq!(arn_at(&caller, Timestamp(100)).as_deref(), Some("arn"));
        assert_eq!(arn_at(&caller, Timestamp(101)), None);
        assert_eq!(caller.common_name_at(Timestamp(100)), Some("a"));
        assert_eq!(caller.common_name_at(Timestamp(101)), None);
        // On a connection that is open, too.
        clients.store(Arc::new(map("CN=a", "other")));
        assert_eq!(arn_at(&caller, Timestamp(100)).as_deref(), Some("other"));
        clients.store(Arc::new(map("CN=b", "arn")));
        assert_eq!(arn_at(&caller, Timestamp(100)), None);
        let stranger = Caller::over_tls(peer, TlsDetails::default(), Some(client), &clients);
        assert_eq!(arn_at(&stranger, Timestamp(0)), None);
        let unnamed = Caller::over_tls(peer, TlsDetails::default(), None, &clients);
        assert_eq!(arn_at(&unnamed, Timestamp(0)), None);
        assert!(unnamed.secure_transport && !Caller::over_tcp(peer).secure_transport);
    }
}
