//! One handshake: within its time, counted by why it failed, and ended so that the client can read
//! why.

use crate::transport::caller::Caller;
use crate::transport::connection::linger;
use crate::transport::tls::Tls;
use rustls::{CertificateError, Error, InvalidMessage};
use std::io;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// Why a handshake failed, as the label `reason` says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// It took too long.
    Timeout,
    /// The connection ended in it.
    Closed,
    /// What came is no TLS, such as plain HTTP.
    NotTls,
    /// Nothing in common: TLS 1.2 alone, other groups, other signatures.
    Incompatible,
    /// The client speaks other protocols than HTTP/1.1, and says so.
    Protocol,
    /// The client refused us: most often it does not know who issued our certificate.
    RefusedByClient,
    /// A certificate is required, and there is none.
    CertificateMissing,
    /// The client's certificate has ended, or not begun.
    CertificateExpired,
    /// The client's certificate is revoked.
    CertificateRevoked,
    /// No list, or no current one, says whether the client's certificate is revoked.
    RevocationUnknown,
    /// The client's certificate is not of the client CA, or is for something else.
    CertificateInvalid,
    /// Everything else, all of it against the protocol.
    Other,
}

impl Reason {
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Closed => "closed",
            Self::NotTls => "not_tls",
            Self::Incompatible => "incompatible",
            Self::Protocol => "protocol",
            Self::RefusedByClient => "refused_by_client",
            Self::CertificateMissing => "certificate_missing",
            Self::CertificateExpired => "certificate_expired",
            Self::CertificateRevoked => "certificate_revoked",
            Self::RevocationUnknown => "revocation_unknown",
            Self::CertificateInvalid => "certificate_invalid",
            Self::Other => "other",
        }
    }

    pub(super) fn of(error: &io::Error) -> Self {
        let cause = error.get_ref().and_then(|cause| cause.downcast_ref());
        match cause {
            None => Self::Closed,
            Some(Error::InvalidMessage(InvalidMessage::InvalidContentType)) => Self::NotTls,
            Some(Error::PeerIncompatible(_)) => Self::Incompatible,
            Some(Error::NoApplicationProtocol) => Self::Protocol,
            Some(Error::AlertReceived(_)) => Self::RefusedByClient,
            Some(Error::NoCertificatesPresented) => Self::CertificateMissing,
            Some(Error::InvalidCertificate(error)) => Self::of_certificate(error),
            Some(_) => Self::Other,
        }
    }

    fn of_certificate(error: &CertificateError) -> Self {
        match error {
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. } => Self::CertificateExpired,
            CertificateError::Revoked => Self::CertificateRevoked,
            CertificateError::UnknownRevocationStatus
            | CertificateError::ExpiredRevocationList
            | CertificateError::ExpiredRevocationListContext { .. } => Self::RevocationUnknown,
            _ => Self::CertificateInvalid,
        }
    }
}

impl Tls {
    /// Shakes hands on a new connection within `time`, and finds out who it is.
    ///
    /// # Errors
    /// Why there is none; the connection has ended.
    pub(in crate::transport) async fn accept(
        &self,
        stream: TcpStream,
        time: Duration,
    ) -> io::Result<(TlsStream<TcpStream>, Caller)> {
        let peer = stream.peer_addr()?;
        let acceptor = TlsAcceptor::from(self.current.load_full());
        let (error, stream) = match timeout(time, acceptor.accept(stream).into_fallible()).await {
            Ok(Ok(stream)) => {
                let client = self.client(stream.get_ref().1);
                let arn = client.as_ref().and_then(|client| {
                    let arn = self.clients.principal(client);
                    tracing::debug!(client = client.name, arn, "client certificate");
                    arn
                });
                let caller = Caller::over_tls(peer, client.as_ref(), arn);
                return Ok((stream, caller));
            }
            Ok(Err((error, stream))) => (error, Some(stream)),
            Err(_) => (io::ErrorKind::TimedOut.into(), None),
        };
        let reason = stream
            .as_ref()
            .map_or(Reason::Timeout, |_| Reason::of(&error));
        self.metrics
            .tls_handshake_failures(reason.label())
            .increment(1);
        if let Some(stream) = stream {
            // The alert is on its way: with what the client has sent unread, closing at once would
            // take it back.
            linger(stream).await;
        }
        Err(io::Error::other(format!(
            "handshake: {}: {error}",
            reason.label()
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::{AlertDescription, PeerIncompatible, PeerMisbehaved};

    #[test]
    fn every_failure_has_one_reason() {
        let invalid = Error::InvalidCertificate;
        for (error, label) in [
            (
                Error::InvalidMessage(InvalidMessage::InvalidContentType),
                "not_tls",
            ),
            (
                Error::PeerIncompatible(PeerIncompatible::NoCipherSuitesInCommon),
                "incompatible",
            ),
            (Error::NoApplicationProtocol, "protocol"),
            (
                Error::AlertReceived(AlertDescription::UnknownCA),
                "refused_by_client",
            ),
            (Error::NoCertificatesPresented, "certificate_missing"),
            (
                invalid(CertificateError::NotValidYet),
                "certificate_expired",
            ),
            (invalid(CertificateError::Revoked), "certificate_revoked"),
            (
                invalid(CertificateError::UnknownRevocationStatus),
                "revocation_unknown",
            ),
            (
                invalid(CertificateError::ExpiredRevocationList),
                "revocation_unknown",
            ),
            (
                invalid(CertificateError::UnknownIssuer),
                "certificate_invalid",
            ),
            (
                invalid(CertificateError::InvalidPurpose),
                "certificate_invalid",
            ),
            (
                Error::PeerMisbehaved(PeerMisbehaved::InvalidKeyShare),
                "other",
            ),
            (Error::DecryptError, "other"),
        ] {
            let error = io::Error::new(io::ErrorKind::InvalidData, error);
            assert_eq!(Reason::of(&error).label(), label, "{error}");
        }
        let ended = io::Error::new(io::ErrorKind::UnexpectedEof, "tls handshake eof");
        let reset = io::ErrorKind::ConnectionReset.into();
        assert_eq!([&ended, &reset].map(Reason::of), [Reason::Closed; 2]);
    }
}
