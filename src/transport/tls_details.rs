//! What the audit log has of a request's TLS: CloudTrail's `tlsDetails`.
//!
//! Names of cipher suites and groups are those of the IANA registry "TLS Parameters".

use http::HeaderValue;
use rustls::server::ServerConnection;
use rustls::{NamedGroup, ProtocolVersion};
use serde::Serialize;
use std::borrow::Cow;
use std::sync::{Arc, OnceLock};

/// The most bytes of a `Host` that are written down: a name of 253 characters (RFC 1035, without
/// its last dot), a colon and a port.
const HOST_BYTES_MAX: usize = 259;

/// What a handshake agreed on, and the details of requests, made once for each connection.
#[derive(Default)]
pub(super) struct TlsDetails {
    negotiated: Negotiated,
    /// Those of the first request. Clients keep to one host on a connection.
    first: OnceLock<OfHost>,
}

#[derive(Default)]
struct Negotiated {
    version: Option<&'static str>,
    cipher_suite: Option<String>,
    key_exchange: Option<&'static str>,
}

struct OfHost {
    host: Option<Box<[u8]>>,
    details: Arc<str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Members<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    tls_version: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cipher_suite: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_provided_host_header: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_exchange: Option<&'a str>,
}

impl TlsDetails {
    /// Of a connection whose handshake is done.
    pub(super) fn of(connection: &ServerConnection) -> Self {
        let suite = connection.negotiated_cipher_suite();
        let group = connection.negotiated_key_exchange_group();
        Self {
            negotiated: Negotiated {
                version: connection.protocol_version().and_then(version),
                cipher_suite: suite.and_then(|suite| {
                    let name = suite.suite().as_str()?;
                    Some(name.replacen("TLS13_", "TLS_", 1))
                }),
                key_exchange: group.and_then(|group| group_name(group.name())),
            },
            first: OnceLock::new(),
        }
    }

    /// The details of a request with this `Host`, a JSON object.
    pub(super) fn of_request(&self, host: Option<&HeaderValue>) -> Arc<str> {
        let host = host.map(HeaderValue::as_bytes);
        let first = self.first.get_or_init(|| OfHost {
            // A copy: the header's value would keep the bytes of its whole head.
            host: host.map(Box::from),
            details: self.negotiated.with(host),
        });
        if first.host.as_deref() == host {
            Arc::clone(&first.details)
        } else {
            self.negotiated.with(host)
        }
    }
}

impl Negotiated {
    fn with(&self, host: Option<&[u8]>) -> Arc<str> {
        let host = host.map(|host| &host[..host.len().min(HOST_BYTES_MAX)]);
        let members = Members {
            tls_version: self.version,
            cipher_suite: self.cipher_suite.as_deref(),
            client_provided_host_header: host.map(String::from_utf8_lossy),
            key_exchange: self.key_exchange,
        };
        let text = serde_json::to_string(&members);
        text.expect("text becomes JSON").into()
    }
}

fn version(version: ProtocolVersion) -> Option<&'static str> {
    match version {
        ProtocolVersion::TLSv1_2 => Some("TLSv1.2"),
        ProtocolVersion::TLSv1_3 => Some("TLSv1.3"),
        _ => None,
    }
}

fn group_name(group: NamedGroup) -> Option<&'static str> {
    match group {
        NamedGroup::X25519 => Some("x25519"),
        NamedGroup::secp256r1MLKEM768 => Some("SecP256r1MLKEM768"),
        group => group.as_str(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn details() -> TlsDetails {
        TlsDetails {
            negotiated: Negotiated {
                version: version(ProtocolVersion::TLSv1_3),
                cipher_suite: Some("TLS_AES_256_GCM_SHA384".to_owned()),
                key_exchange: group_name(NamedGroup::X25519MLKEM768),
            },
            first: OnceLock::new(),
        }
    }

    fn host(value: &[u8]) -> HeaderValue {
        HeaderValue::from_bytes(value).unwrap()
    }

    #[test]
    fn the_members_are_those_of_cloudtrail_in_its_order() {
        let ready = details().of_request(Some(&host(b"kms.us-east-1.amazonaws.com")));
        let expected = r#"{"tlsVersion":"TLSv1.3","cipherSuite":"TLS_AES_256_GCM_SHA384","clientProvidedHostHeader":"kms.us-east-1.amazonaws.com","keyExchange":"X25519MLKEM768"}"#;
        assert_eq!(&*ready, expected);
        assert_eq!(group_name(NamedGroup::X25519), Some("x25519"));
        assert_eq!(group_name(NamedGroup::secp256r1), Some("secp256r1"));
        assert_eq!(group_name(NamedGroup::Unknown(0x6399)), None);
        assert_eq!(version(ProtocolVersion::SSLv3), None);
        assert_eq!(&*TlsDetails::default().of_request(None), "{}");
    }

    #[test]
    fn they_are_made_once_for_the_host_of_a_connection() {
        let details = details();
        let first = details.of_request(Some(&host(b"a:8443")));
        assert!(Arc::ptr_eq(
            &first,
            &details.of_request(Some(&host(b"a:8443")))
        ));
        for (other, expected) in [(Some(host(b"b")), json!("b")), (None, Value::Null)] {
            let made: Value = serde_json::from_str(&details.of_request(other.as_ref())).unwrap();
            assert_eq!(made["clientProvidedHostHeader"], expected);
        }
        assert!(Arc::ptr_eq(
            &first,
            &details.of_request(Some(&host(b"a:8443")))
        ));
    }

    #[test]
    fn whatever_a_client_sends_as_its_host_is_bounded_text() {
        for (sent, expected) in [
            (vec![b'a'; 30_000], "a".repeat(HOST_BYTES_MAX)),
            (
                b"\"}\t\xff,{\"errorCode\":\"x".to_vec(),
                "\"}\t\u{fffd},{\"errorCode\":\"x".to_owned(),
            ),
        ] {
            let made = details().of_request(Some(&host(&sent)));
            assert!(!made.contains(['\n', '\t']), "{made}");
            let made: Value = serde_json::from_str(&made).unwrap();
            assert_eq!(made["clientProvidedHostHeader"], expected);
        }
    }
}
