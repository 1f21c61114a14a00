//! Where a proxy is: `XksProxyUriEndpoint`, `XksProxyUriPath`, and the paths below the latter.
//!
//! Sources: AWS KMS API reference, `CreateCustomKeyStore`; AWS KMS External Key Store
//! Proxy API specification, "API operations".

use crate::key::key_store::ExternalKeyId;
use crate::operation::xks::XksOperation;
use rustls::pki_types::ServerName;

/// The end of every `XksProxyUriPath`: version 1 of the API.
pub const URI_PATH_END: &str = "/kms/xks/v1";
/// What `XksProxyUriEndpoint` begins with.
const SCHEME: &str = "https://";

/// Where a proxy is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyAddress {
    endpoint: String,
    /// In lower case.
    host: String,
    uri_path: String,
}

/// Why a text is not an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidAddress {
    /// Its endpoint.
    #[error("the endpoint must be https:// and a host name, 10 to 128 characters, without a port")]
    Endpoint,
    /// Its path.
    #[error("the path must be /PREFIX/kms/xks/v1, 10 to 128 of a-z, A-Z, 0-9, /, - and _")]
    UriPath,
}

impl ProxyAddress {
    /// `https://HOST`, 10 to 128 characters, and a path for which [`is_uri_path`] holds.
    ///
    /// # Errors
    /// [`InvalidAddress`].
    pub fn parse(endpoint: &str, uri_path: &str) -> Result<Self, InvalidAddress> {
        let host = endpoint.strip_prefix(SCHEME).and_then(host_name);
        let host = host.filter(|_| (10..=128).contains(&endpoint.len()));
        if !is_uri_path(uri_path) {
            return Err(InvalidAddress::UriPath);
        }
        Ok(Self {
            endpoint: endpoint.to_owned(),
            host: host.ok_or(InvalidAddress::Endpoint)?,
            uri_path: uri_path.to_owned(),
        })
    }

    /// `https://HOST`, as it was given.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The host, in lower case.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// `/PREFIX/kms/xks/v1`
    #[must_use]
    pub fn uri_path(&self) -> &str {
        &self.uri_path
    }

    /// The path of an operation; on this external key, if it is on one.
    pub(super) fn path(&self, operation: XksOperation, key: Option<&ExternalKeyId>) -> String {
        let (base, last) = (&self.uri_path, last_segment(operation));
        match key {
            Some(id) => format!("{base}/keys/{}/{last}", id.as_str()),
            None => format!("{base}/{last}"),
        }
    }
}

/// The last segment of an operation's path.
#[must_use]
pub fn last_segment(operation: XksOperation) -> &'static str {
    match operation {
        XksOperation::XksDecrypt => "decrypt",
        XksOperation::XksEncrypt => "encrypt",
        XksOperation::XksGetHealthStatus => "health",
        XksOperation::XksGetKeyMetadata => "metadata",
    }
}

/// A host's DNS name, in lower case: of letters, digits, `.` and `-`, and not an IP address.
#[must_use]
pub fn host_name(text: &str) -> Option<String> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-".contains(&byte);
    let is_named = matches!(ServerName::try_from(text), Ok(ServerName::DnsName(_)));
    (is_named && text.bytes().all(allowed)).then(|| text.to_ascii_lowercase())
}

/// Whether AWS KMS takes this `XksProxyUriPath`, of version 1 of the API.
#[must_use]
pub fn is_uri_path(text: &str) -> bool {
    let prefix = text.strip_suffix(URI_PATH_END);
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"/-_".contains(&byte);
    (10..=128).contains(&text.len())
        && prefix.is_some_and(|prefix| {
            let segments = prefix.split('/').skip(1);
            (prefix.is_empty() || prefix.starts_with('/'))
                && prefix.bytes().all(allowed)
                && segments.into_iter().all(|segment| !segment.is_empty())
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_those_that_aws_takes() {
        let long = format!("/{}{URI_PATH_END}", "a".repeat(116));
        for path in ["/kms/xks/v1", "/a/kms/xks/v1", "/A-1_/b/kms/xks/v1", &long] {
            assert!(is_uri_path(path), "{path}");
        }
        let longer = format!("/{}{URI_PATH_END}", "a".repeat(117));
        for path in [
            "",
            "/",
            "kms/xks/v1",
            "/kms/xks/v2",
            "/kms/xks/v1/",
            "a/kms/xks/v1",
            "//kms/xks/v1",
            "/a//kms/xks/v1",
            "/a.b/kms/xks/v1",
            "/a%20/kms/xks/v1",
            "/ä/kms/xks/v1",
            &longer,
        ] {
            assert!(!is_uri_path(path), "{path}");
        }
    }

    #[test]
    fn addresses_are_parsed_strictly() {
        let address = ProxyAddress::parse("https://Proxy.example", "/a/kms/xks/v1").unwrap();
        assert_eq!(address.endpoint(), "https://Proxy.example");
        assert_eq!(address.host(), "proxy.example");
        assert_eq!(address.uri_path(), "/a/kms/xks/v1");
        let long = format!("https://{}.example", "a".repeat(63));
        assert!(ProxyAddress::parse(&long, URI_PATH_END).is_ok());
        let longer = format!("https://{0}.{0}.example", "a".repeat(60));
        for endpoint in [
            "",
            "https://",
            "https://a",
            "proxy.example",
            "http://proxy.example",
            "HTTPS://proxy.example",
            "https://proxy.example/",
            "https://proxy.example:443",
            "https://user@proxy.example",
            "https://proxy_1.example",
            "https://-.example",
            "https://10.0.0.100",
            "https://[2001:db8::1]",
            "https://pröxy.example",
            &longer,
        ] {
            let parsed = ProxyAddress::parse(endpoint, URI_PATH_END);
            assert_eq!(parsed, Err(InvalidAddress::Endpoint), "{endpoint}");
        }
        let parsed = ProxyAddress::parse("https://proxy.example", "/kms/xks/v2");
        assert_eq!(parsed, Err(InvalidAddress::UriPath));
    }

    #[test]
    fn operations_have_the_paths_of_the_specification() {
        let address = ProxyAddress::parse("https://proxy.example", "/a/kms/xks/v1").unwrap();
        let id: ExternalKeyId = "key.1".parse().unwrap();
        for (operation, key, path) in [
            (XksOperation::XksGetHealthStatus, None, "health"),
            (
                XksOperation::XksGetKeyMetadata,
                Some(&id),
                "keys/key.1/metadata",
            ),
            (XksOperation::XksEncrypt, Some(&id), "keys/key.1/encrypt"),
            (XksOperation::XksDecrypt, Some(&id), "keys/key.1/decrypt"),
        ] {
            let path = format!("/a/kms/xks/v1/{path}");
            assert_eq!(address.path(operation, key), path);
        }
    }
}
