//! Where an issuer is, and where its keys are.

use rustls::pki_types::ServerName;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// An absolute URL: `https://HOST[:PORT][/PATH][?QUERY]`, or `http` on a loopback address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    text: String,
    is_secure: bool,
    /// Without the brackets of an IPv6 address.
    host: String,
    port: u16,
    target: String,
}

/// A text that is not such a URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("allowed: https://HOST[:PORT][/PATH], or http:// on a loopback address")]
pub struct InvalidUrl;

impl Url {
    /// Bytes of a URL at most (AWS IAM API reference, `CreateOpenIDConnectProvider`).
    pub const BYTES_MAX: usize = 255;

    /// The host, without brackets.
    pub(super) fn host(&self) -> &str {
        &self.host
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// Path and query.
    pub(super) fn target(&self) -> &str {
        &self.target
    }

    /// The name that its certificate must be for; `None` without TLS.
    pub(super) fn server_name(&self) -> Option<ServerName<'static>> {
        let name = ServerName::try_from(self.host.clone()).ok();
        name.filter(|_| self.is_secure)
    }

    /// Host and port, as a `Host` header has them.
    pub(super) fn authority(&self) -> String {
        let host = match self.host.parse::<std::net::Ipv6Addr>() {
            Ok(address) => format!("[{address}]"),
            Err(_) => self.host.clone(),
        };
        format!("{host}:{}", self.port)
    }

    /// Whether both are served by the same host, at the same port, and alike over TLS or not.
    pub(super) fn has_origin_of(&self, other: &Self) -> bool {
        self.host.eq_ignore_ascii_case(&other.host)
            && (self.port, self.is_secure) == (other.port, other.is_secure)
    }

    /// Whether it is asked over TLS.
    pub(super) fn is_secure(&self) -> bool {
        self.is_secure
    }

    /// What it is without `https://` or `http://`, as ARNs and condition keys have it.
    #[must_use]
    pub fn without_scheme(&self) -> &str {
        let scheme = if self.is_secure {
            "https://"
        } else {
            "http://"
        };
        self.text.strip_prefix(scheme).unwrap_or(&self.text)
    }

    /// Where the issuer of this URL says what it is (OpenID Connect Discovery 1.0, section 4).
    pub(super) fn discovery(&self) -> Result<Self, InvalidUrl> {
        let issuer = self.text.strip_suffix('/').unwrap_or(&self.text);
        Self::parse(&format!("{issuer}/.well-known/openid-configuration"))
    }

    /// The text that it was read from.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    fn parse(text: &str) -> Result<Self, InvalidUrl> {
        // A fragment is dropped by the parser, which lets other characters through too.
        if !text
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && byte != b'#')
        {
            return Err(InvalidUrl);
        }
        let uri: http::Uri = text.parse().map_err(|_| InvalidUrl)?;
        let is_secure = text.starts_with("https://");
        let authority = uri.authority().ok_or(InvalidUrl)?;
        if !(is_secure || text.starts_with("http://")) || authority.as_str().contains('@') {
            return Err(InvalidUrl);
        }
        let host = authority.host().trim_matches(['[', ']']);
        let is_named = ServerName::try_from(host).is_ok();
        // An empty port is not taken for that of the scheme.
        let rest = authority.as_str().strip_prefix(authority.host());
        let has_port = authority.port_u16().is_some_and(|port| port > 0);
        if !is_named || !(has_port || rest == Some("")) || !(is_secure || is_loopback(host)) {
            return Err(InvalidUrl);
        }
        let port = authority
            .port_u16()
            .unwrap_or(if is_secure { 443 } else { 80 });
        let target = uri.path_and_query().map_or("/", |target| target.as_str());
        Ok(Self {
            text: text.to_owned(),
            is_secure,
            host: host.to_owned(),
            port,
            target: target.to_owned(),
        })
    }
}

fn is_loopback(host: &str) -> bool {
    let address = host.parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

impl FromStr for Url {
    type Err = InvalidUrl;

    fn from_str(text: &str) -> Result<Self, InvalidUrl> {
        if text.len() > Self::BYTES_MAX {
            return Err(InvalidUrl);
        }
        Self::parse(text)
    }
}

impl fmt::Display for Url {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_parsed_strictly() {
        for (text, authority, target, rest) in [
            (
                "https://issuer.example",
                "issuer.example:443",
                "/",
                "issuer.example",
            ),
            (
                "https://issuer.example/",
                "issuer.example:443",
                "/",
                "issuer.example/",
            ),
            (
                "https://issuer.example:8443/a/b",
                "issuer.example:8443",
                "/a/b",
                "issuer.example:8443/a/b",
            ),
            (
                "https://10.0.0.1:6443/openid/v1/jwks",
                "10.0.0.1:6443",
                "/openid/v1/jwks",
                "10.0.0.1:6443/openid/v1/jwks",
            ),
            (
                "https://[2001:db8::1]/x?y=z",
                "[2001:db8::1]:443",
                "/x?y=z",
                "[2001:db8::1]/x?y=z",
            ),
            (
                "http://127.0.0.1:8080",
                "127.0.0.1:8080",
                "/",
                "127.0.0.1:8080",
            ),
            ("http://[::1]:8080/a", "[::1]:8080", "/a", "[::1]:8080/a"),
            ("http://localhost/a", "localhost:80", "/a", "localhost/a"),
        ] {
            let url: Url = text.parse().unwrap_or_else(|_| panic!("{text}"));
            let seen = (url.authority(), url.target(), url.without_scheme());
            assert_eq!(seen, (authority.to_owned(), target, rest));
            assert_eq!(url.server_name().is_some(), text.starts_with("https"));
            assert_eq!(url.to_string(), text);
        }
        let long = format!("https://issuer.example/{}", "x".repeat(Url::BYTES_MAX));
        for text in [
            "",
            "issuer.example",
            "//issuer.example",
            "ftp://issuer.example",
            "HTTPS://issuer.example",
            "https:///a",
            "https://:443",
            "https://issuer.example:",
            "https://issuer.example:0",
            "https://issuer.example:99999",
            "https://user@issuer.example",
            "https://user:word@issuer.example",
            "https://issuer.example/#a",
            "https://issuer.example/a b",
            "https://issuer.example/é",
            "https://issuer.example\n",
            "https://-.example",
            "http://issuer.example",
            "http://10.0.0.1",
            "http://localhost.example",
            &long,
        ] {
            assert_eq!(text.parse::<Url>(), Err(InvalidUrl), "{text}");
        }
    }

    #[test]
    fn discovery_is_below_the_issuer() {
        let path = "/.well-known/openid-configuration";
        for issuer in [
            "https://a.example",
            "https://a.example/",
            "https://a.example/x",
            "https://a.example/x/",
        ] {
            let url = issuer.parse::<Url>().unwrap().discovery().unwrap();
            let base = issuer.trim_end_matches('/');
            assert_eq!(url.as_str(), format!("{base}{path}"));
        }
    }

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        let url = |text: &str| text.parse::<Url>().unwrap();
        let one = url("https://a.example/x");
        for (other, is_same) in [
            ("https://A.example:443/y", true),
            ("https://a.example:444/x", false),
            ("https://b.example/x", false),
            ("http://localhost:443/x", false),
        ] {
            assert_eq!(one.has_origin_of(&url(other)), is_same, "{other}");
        }
    }
}
