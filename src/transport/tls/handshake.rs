//! One TLS handshake: within its time, counted by the reason of its failure, and ended so that the
//! client can read the reason.

use crate::transport::caller::Caller;
use crate::transport::connection::linger;
use crate::transport::tls::Tls;
use crate::transport::tls_details::TlsDetails;
use rustls::{CertificateError, Error, InvalidMessage};
use std::io;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// Why a handshake failed, for the label `reason`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// It took too long.
    Timeout,
    /// The connection ended during the handshake.
    Closed,
    /// The bytes are not TLS, for example plain HTTP.
    NotTls,
    /// There is nothing in common: only TLS 1.2, other groups, other signatures.
    Incompatible,
    /// The client offers only protocols other than HTTP/1.1.
    Protocol,
    /// The client refused this server: usually it does not know the CA of our certificate.
    RefusedByClient,
    /// A certificate is required, and the client has none.
    CertificateMissing,
    /// The client's certificate has expired or is not valid yet.
    CertificateExpired,
    /// The client's certificate is revoked.
    CertificateRevoked,
    /// No current list shows whether the client's certificate is revoked.
    RevocationUnknown,
    /// The client's certificate is not from the client CA, or is for another purpose.
    CertificateInvalid,
    /// Any other failure, all of which break the protocol.
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
    /// Makes a handshake on a new connection within `time`, and identifies the client.
    ///
    /// # Errors
    /// The reason of the failure; the connection has ended then.
    pub(in crate::transport) async fn accept(
        &self,
        stream: TcpStream,
        time: Duration,
    ) -> io::Result<(TlsStream<TcpStream>, Caller)> {
        let peer = stream.peer_addr()?;
        let acceptor = TlsAcceptor::from(self.current.load_full());
        let (error, stream) = match timeout(time, acceptor.accept(stream).into_fallible()).await {
            Ok(Ok(stream)) => {
                let session = stream.get_ref().1;
                let (client, details) = (self.client(session), TlsDetails::of(session));
                if let Some(client) = &client {
                    let clients = self.clients.load();
                    let arn = clients.principal(client);
                    tracing::debug!(client = client.name, arn, "client certificate");
                }
                let caller = Caller::over_tls(peer, details, client, &self.clients);
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
            // The alert was sent. If unread data of the client remained, closing at once would
            // discard the alert.
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
