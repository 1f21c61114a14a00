//! Where a daemon listens, as a caller names it.

use rustls::pki_types::ServerName;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// Where a daemon listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// A Unix socket.
    Unix(PathBuf),
    /// `HOST:PORT`, without TLS.
    Http(String),
    /// `HOST:PORT`, over TLS.
    Https {
        /// `HOST:PORT`.
        authority: String,
        /// `HOST`, which the certificate must be for.
        name: ServerName<'static>,
    },
}

/// Text that names no endpoint.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("an endpoint is unix:PATH, http://HOST:PORT or https://HOST:PORT")]
pub struct InvalidEndpoint;

impl FromStr for Endpoint {
    type Err = InvalidEndpoint;

    fn from_str(text: &str) -> Result<Self, InvalidEndpoint> {
        if let Some(path) = text.strip_prefix("unix:").filter(|path| !path.is_empty()) {
            return Ok(Self::Unix(PathBuf::from(path)));
        }
        let (scheme, rest) = text.split_once("://").ok_or(InvalidEndpoint)?;
        let authority = rest.strip_suffix('/').unwrap_or(rest).to_owned();
        let parsed: http::uri::Authority = authority.parse().map_err(|_| InvalidEndpoint)?;
        if parsed.port().is_none() || authority.contains('@') {
            return Err(InvalidEndpoint);
        }
        match scheme {
            "http" => Ok(Self::Http(authority)),
            "https" => {
                // An IPv6 address has brackets in an authority, and none in a certificate.
                let host = parsed.host().trim_matches(['[', ']']).to_owned();
                let name = ServerName::try_from(host).map_err(|_| InvalidEndpoint)?;
                Ok(Self::Https { authority, name })
            }
            _ => Err(InvalidEndpoint),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(out, "unix:{}", path.display()),
            Self::Http(authority) => write!(out, "http://{authority}"),
            Self::Https { authority, .. } => write!(out, "https://{authority}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_parsed_strictly() {
        let unix = Endpoint::Unix(PathBuf::from("/run/keymill.sock"));
        assert_eq!("unix:/run/keymill.sock".parse(), Ok(unix));
        for text in ["http://127.0.0.1:5645", "http://[::1]:5645/"] {
            assert!(matches!(text.parse(), Ok(Endpoint::Http(_))), "{text}");
        }
        for text in [
            "",
            "unix:",
            "127.0.0.1:5645",
            "ftp://127.0.0.1:5645",
            "HTTPS://127.0.0.1:5645",
            "http://127.0.0.1",
            "http://127.0.0.1:x",
            "http://user@127.0.0.1:5645",
            "http://127.0.0.1:5645/kms",
            "https://127.0.0.1",
            "https://user@127.0.0.1:5645",
            "https://127.0.0.1:5645/kms",
            "https://:5645",
            "https://[]:5645",
            "https://no.name.ends.in.-:5645",
            "https://127.0.0.256:5645",
        ] {
            assert_eq!(text.parse::<Endpoint>(), Err(InvalidEndpoint), "{text}");
        }
    }

    #[test]
    fn a_certificate_is_to_be_for_the_host_alone() {
        for (text, host) in [
            ("https://127.0.0.1:5645", "127.0.0.1"),
            ("https://[::1]:5645/", "::1"),
            ("https://kms.example:5645", "kms.example"),
        ] {
            let endpoint: Endpoint = text.parse().unwrap();
            assert_eq!(endpoint.to_string(), text.trim_end_matches('/'));
            let Endpoint::Https { name, .. } = endpoint else {
                panic!("{text}")
            };
            assert_eq!(name.to_str(), host);
        }
    }
}
