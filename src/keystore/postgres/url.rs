//! The address of a database: `postgres://USER@HOST[:PORT]/DATABASE`, or, over a Unix socket,
//! `postgres://USER@/DATABASE?host=/FOLDER`.
//!
//! A password is refused here, because configurations and logs show URLs. So are parameters that we
//! do not know: a misspelt `sslmode` must not end in a connection without TLS.
//!
//! Source: PostgreSQL 15, section 34.1.1.2, "Connection URIs".

use percent_encoding::percent_decode_str;
use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// The port where none is given.
const PORT: u16 = 5432;
/// The longest URL.
const BYTES_MAX: usize = 1024;

/// A database, without what it takes to be let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatabaseUrl {
    pub(super) user: String,
    pub(super) host: Host,
    pub(super) port: u16,
    pub(super) database: String,
    /// Whether it asks for TLS where that is not needed.
    asks_for_tls: bool,
}

/// Where the server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Host {
    /// A name or an address.
    Name(String),
    /// The folder of its Unix socket.
    Folder(PathBuf),
}

impl DatabaseUrl {
    /// Whether connections are over TLS: always, but for a Unix socket, and for loopback unless the
    /// URL asks for it.
    #[must_use]
    pub fn is_over_tls(&self) -> bool {
        match &self.host {
            Host::Folder(_) => false,
            Host::Name(_) => self.asks_for_tls || !self.is_loopback(),
        }
    }

    /// Whether its addresses must be of loopback: it is named so, and TLS does not say who answers.
    pub(super) fn is_loopback(&self) -> bool {
        match &self.host {
            Host::Folder(_) => false,
            Host::Name(name) => {
                let address = name.parse::<IpAddr>();
                name.eq_ignore_ascii_case("localhost")
                    || address.is_ok_and(|address| address.is_loopback())
            }
        }
    }

    /// The path of the server's Unix socket in its folder.
    pub(super) fn socket(&self, folder: &Path) -> PathBuf {
        folder.join(format!(".s.PGSQL.{}", self.port))
    }
}

/// Never a password: there is none.
impl fmt::Display for DatabaseUrl {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            user,
            port,
            database,
            ..
        } = self;
        match &self.host {
            Host::Name(name) if name.contains(':') => {
                write!(out, "postgres://{user}@[{name}]:{port}/{database}")
            }
            Host::Name(name) => write!(out, "postgres://{user}@{name}:{port}/{database}"),
            Host::Folder(folder) => {
                let folder = folder.display();
                write!(out, "postgres://{user}@/{database}?host={folder}")
            }
        }
    }
}

/// Why a text is not the URL of a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UrlError(pub &'static str);

const FORM: UrlError = UrlError(
    "allowed: postgres://USER@HOST[:PORT]/DATABASE, or postgres://USER@/DATABASE?host=/FOLDER for a Unix socket",
);

impl FromStr for DatabaseUrl {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let rest = text
            .strip_prefix("postgres://")
            .or_else(|| text.strip_prefix("postgresql://"))
            .filter(|_| text.len() <= BYTES_MAX)
            .ok_or(FORM)?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, database) = rest.split_once('/').ok_or(FORM)?;
        let (user, address) = authority.rsplit_once('@').ok_or(FORM)?;
        if user.contains(':') {
            return Err(UrlError(
                "a URL must not have a password, because it is shown: put it into the file store.password_file",
            ));
        }
        let Parameters { folder, port, tls } = Parameters::parse(query)?;
        let (name, own_port) = split_port(address)?;
        let host = match (name, folder) {
            ("", Some(folder)) => Host::Folder(folder),
            (name, None) if is_host(name) => Host::Name(name.to_owned()),
            _ => return Err(FORM),
        };
        let port = match (own_port, port) {
            (Some(port), None) | (None, Some(port)) => port,
            (None, None) => PORT,
            (Some(_), Some(_)) => return Err(UrlError("the port is given twice")),
        };
        if tls && matches!(host, Host::Folder(_)) {
            return Err(UrlError("there is no TLS on a Unix socket: remove sslmode"));
        }
        Ok(Self {
            user: decoded(user)?,
            host,
            port,
            database: decoded(database)?,
            asks_for_tls: tls,
        })
    }
}

/// What the query of a URL says.
#[derive(Default)]
struct Parameters {
    folder: Option<PathBuf>,
    port: Option<u16>,
    tls: bool,
}

impl Parameters {
    fn parse(query: &str) -> Result<Self, UrlError> {
        let mut found = Self::default();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').ok_or(FORM)?;
            let value = decoded(value)?;
            match name {
                "host" if value.starts_with('/') && found.folder.is_none() => {
                    found.folder = Some(value.into());
                }
                "port" if found.port.is_none() => {
                    found.port = Some(value.parse().map_err(|_| FORM)?);
                }
                "sslmode" if value == "verify-full" => found.tls = true,
                "sslmode" => {
                    return Err(UrlError(
                        "sslmode can only be verify-full, which it is anyway but on loopback",
                    ));
                }
                "password" => {
                    return Err(UrlError(
                        "a URL must not have a password, because it is shown: put it into the file store.password_file",
                    ));
                }
                _ => {
                    return Err(UrlError(
                        "of the parameters of a URL, only host (the folder of a Unix socket), port and sslmode=verify-full are taken",
                    ));
                }
            }
        }
        Ok(found)
    }
}

/// The host, without the brackets of an IPv6 address, and the port.
fn split_port(address: &str) -> Result<(&str, Option<u16>), UrlError> {
    let (host, port) = match address.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']').ok_or(FORM)?;
            host.parse::<std::net::Ipv6Addr>().map_err(|_| FORM)?;
            (
                host,
                rest.strip_prefix(':').or(rest.is_empty().then_some("")),
            )
        }
        None => match address.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (address, Some("")),
        },
    };
    match port.ok_or(FORM)? {
        "" if !address.ends_with(':') || address.starts_with('[') => Ok((host, None)),
        digits => {
            let port: u16 = digits.parse().map_err(|_| FORM)?;
            let port = (port > 0).then_some(port).ok_or(FORM)?;
            Ok((host, Some(port)))
        }
    }
}

/// Whether this is one host: a list of hosts would make a standby that lags behind a part of the
/// store.
fn is_host(text: &str) -> bool {
    let is_of_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    let is_name = !text.is_empty() && text.len() <= 253 && text.bytes().all(is_of_name);
    is_name || text.parse::<IpAddr>().is_ok()
}

/// A part of a URL; PostgreSQL's own names are at most 63 bytes long, a path may be longer.
fn decoded(text: &str) -> Result<String, UrlError> {
    let text = percent_decode_str(text).decode_utf8().map_err(|_| FORM)?;
    let fits = !text.is_empty() && !text.chars().any(char::is_control);
    fits.then(|| text.into_owned()).ok_or(FORM)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> DatabaseUrl {
        text.parse()
            .unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn urls_name_one_database_and_print_as_they_were() {
        for (text, shown, tls) in [
            (
                "postgres://keymill@db.example.com/keys",
                "postgres://keymill@db.example.com:5432/keys",
                true,
            ),
            (
                "postgresql://k@10.0.0.7:6432/keys?sslmode=verify-full",
                "postgres://k@10.0.0.7:6432/keys",
                true,
            ),
            (
                "postgres://k@[2001:db8::1]/keys",
                "postgres://k@[2001:db8::1]:5432/keys",
                true,
            ),
            (
                "postgres://k@[::1]:5433/keys",
                "postgres://k@[::1]:5433/keys",
                false,
            ),
            (
                "postgres://k@localhost/keys",
                "postgres://k@localhost:5432/keys",
                false,
            ),
            (
                "postgres://k@127.0.0.1/keys?sslmode=verify-full",
                "postgres://k@127.0.0.1:5432/keys",
                true,
            ),
            (
                "postgres://a%40b@/keys?host=/run/postgresql&port=5433",
                "postgres://a@b@/keys?host=/run/postgresql",
                false,
            ),
        ] {
            let url = parsed(text);
            assert_eq!((url.to_string().as_str(), url.is_over_tls()), (shown, tls));
        }
        let url = parsed("postgres://a%40b@/keys?host=/run/postgresql&port=5433");
        let socket = url.socket(Path::new("/run/postgresql"));
        assert_eq!(socket, Path::new("/run/postgresql/.s.PGSQL.5433"));
        assert!(!parsed("postgres://k@localhost.example/keys").is_loopback());
    }

    #[test]
    fn everything_else_is_refused_and_says_what_is_allowed() {
        for (text, expected) in [
            ("", "allowed: postgres://"),
            ("mysql://k@h/d", "allowed: postgres://"),
            ("postgres://h/d", "allowed: postgres://"),
            ("postgres://k@h", "allowed: postgres://"),
            ("postgres://k@h/", "allowed: postgres://"),
            ("postgres://@h/d", "allowed: postgres://"),
            ("postgres://k@/d", "allowed: postgres://"),
            ("postgres://k@h:/d", "allowed: postgres://"),
            ("postgres://k@h:0/d", "allowed: postgres://"),
            ("postgres://k@h:65536/d", "allowed: postgres://"),
            ("postgres://k@[::1/d", "allowed: postgres://"),
            ("postgres://k@[::1]5/d", "allowed: postgres://"),
            ("postgres://k@h1,h2/d", "allowed: postgres://"),
            ("postgres://k@h/d?host=/run", "allowed: postgres://"),
            ("postgres://k@h%00/d", "allowed: postgres://"),
            ("postgres://k@h/d%0a", "allowed: postgres://"),
            ("postgres://k:secret@h/d", "store.password_file"),
            ("postgres://k@h/d?password=secret", "store.password_file"),
            ("postgres://k@h/d?sslmode=require", "only be verify-full"),
            ("postgres://k@h/d?sslmode=disable", "only be verify-full"),
            (
                "postgres://k@/d?host=/run&sslmode=verify-full",
                "no TLS on a Unix socket",
            ),
            ("postgres://k@h:1/d?port=2", "given twice"),
            (
                "postgres://k@h/d?target_session_attrs=read-write",
                "only host",
            ),
            ("postgres://k@h/d?sslrootcert=/ca.pem", "only host"),
            ("postgres://k@h/d?options=-c%20fsync%3Doff", "only host"),
        ] {
            let refused = text.parse::<DatabaseUrl>().expect_err(text).to_string();
            assert!(refused.contains(expected), "{text}: {refused}");
            assert!(!refused.contains("secret"), "{refused}");
        }
    }
}
