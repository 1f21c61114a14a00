//! A connection to the database, with a limit of ours on each step: the database's and the
//! network's own limits do not end a wait for a server that is silent.
//!
//! A step that takes too long ends the connection. No cancel request is sent: it would turn a
//! commit that waits for its standby into one that seems to have succeeded. Statements are unnamed
//! and sent with their parameters in one message, so that a pooler may give each of them to another
//! server connection.

use crate::causes::with_causes;
use crate::clock::Clock;
use crate::file::secret;
use crate::keystore::postgres::url::{DatabaseUrl, Host};
use crate::tls_files;
use futures_util::TryStreamExt;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::error::Error as StdError;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream, lookup_host};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_postgres::config::SslMode;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{AsyncMessage, Client, Connection, NoTls, Row, RowStream};
use tokio_rustls::TlsConnector;
use zeroize::Zeroizing;

/// Time for the look-up of the host's name, and for each of its addresses to answer.
const ADDRESS_TIME_MAX: Duration = Duration::from_secs(2);
/// Addresses of a host that are tried.
const ADDRESSES_MAX: usize = 8;
/// Time for TLS and for being let in.
const LOGIN_TIME_MAX: Duration = Duration::from_secs(4);
/// Time until the next row of a long answer.
const ROW_TIME_MAX: Duration = Duration::from_secs(10);
/// Notifications that wait to be read. One that finds no room adds nothing to those before it.
const NOTIFICATIONS_MAX: usize = 16;
/// What a client sends first to ask for TLS: `length 8 ‖ code 80877103` (PostgreSQL 15, section
/// 55.7, "SSLRequest").
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// A statement without parameters.
const NOTHING: [Parameter<'static>; 0] = [];

/// How to reach a database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// The database.
    pub url: DatabaseUrl,
    /// The file with the password; `None` sends none.
    pub password_file: Option<PathBuf>,
    /// The file with the authorities of its certificate; `None` trusts those of this machine.
    pub ca_file: Option<PathBuf>,
}

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// Nothing was sent, or the server refused it: nothing has changed. The SQLSTATE is empty where
    /// it was not the server.
    #[error("{reason}")]
    Refused { state: String, reason: String },
    /// It was sent, and what came of it is unknown.
    #[error("{0}")]
    Unanswered(String),
    /// The server could not serialize it with others: nothing has changed.
    #[error("other nodes changed it at the same time")]
    Raced,
}

/// A value of a statement, and its type.
pub(super) type Parameter<'a> = (&'a (dyn ToSql + Sync), Type);

type Reason = Box<dyn StdError + Send + Sync>;

/// An open connection.
pub(super) struct Session {
    client: Client,
    /// Drives the connection. Dropped with it.
    _driver: JoinSet<()>,
    notifications: mpsc::Receiver<String>,
}

impl Session {
    /// Connects and logs in.
    pub(super) async fn open(access: &Access) -> Result<Self, Failure> {
        let opened = match &access.url.host {
            Host::Folder(folder) => Self::over_socket(access, folder).await,
            Host::Name(name) => Self::over_tcp(access, name).await,
        };
        opened.map_err(|reason| Failure::Refused {
            state: String::new(),
            reason: with_causes(&*reason),
        })
    }

    async fn over_socket(access: &Access, folder: &Path) -> Result<Self, Reason> {
        let path = access.url.socket(folder);
        let connected = timeout(ADDRESS_TIME_MAX, UnixStream::connect(&path)).await;
        let stream = connected.map_err(|_| silent())?;
        let stream = stream.map_err(|error| format!("{}: {error}", path.display()))?;
        Self::logged_in(access, stream).await
    }

    async fn over_tcp(access: &Access, name: &str) -> Result<Self, Reason> {
        let looked_up = timeout(ADDRESS_TIME_MAX, lookup_host((name, access.url.port))).await;
        let addresses = looked_up.map_err(|_| "its name was not resolved in time")??;
        let needs_loopback = access.url.is_loopback() && !access.url.is_over_tls();
        let is_taken = |address: &SocketAddr| !needs_loopback || address.ip().is_loopback();
        let mut failed: Reason = "its name has no address".into();
        for address in addresses.filter(is_taken).take(ADDRESSES_MAX) {
            match timeout(ADDRESS_TIME_MAX, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => {
                    stream.set_nodelay(true)?;
                    if !access.url.is_over_tls() {
                        return Self::logged_in(access, stream).await;
                    }
                    let encrypted = timeout(LOGIN_TIME_MAX, encrypted(access, name, stream));
                    let stream = encrypted.await.map_err(|_| silent())??;
                    return Self::logged_in(access, stream).await;
                }
                Ok(Err(error)) => failed = format!("{address}: {error}").into(),
                Err(_) => failed = format!("{address}: {}", silent()).into(),
            }
        }
        Err(failed)
    }

    async fn logged_in<S>(access: &Access, stream: S) -> Result<Self, Reason>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut config = tokio_postgres::Config::new();
        config
            .user(&access.url.user)
            .dbname(&access.url.database)
            .application_name("keymill")
            // The stream is encrypted already, or needs no encryption.
            .ssl_mode(SslMode::Disable);
        if let Some(path) = access.password_file.clone() {
            let read = tokio::task::spawn_blocking(move || password(&path)).await?;
            config.password(read?.as_slice());
        }
        let login = timeout(LOGIN_TIME_MAX, config.connect_raw(stream, NoTls)).await;
        let (client, connection) = login.map_err(|_| silent())??;
        let (heard, notifications) = mpsc::channel(NOTIFICATIONS_MAX);
        let mut driver = JoinSet::new();
        driver.spawn(drive(connection, heard));
        Ok(Self {
            client,
            _driver: driver,
            notifications,
        })
    }

    /// The rows that a statement answers with, within `limit`.
    pub(super) async fn rows(
        &self,
        limit: Duration,
        statement: &str,
        parameters: &[Parameter<'_>],
    ) -> Result<Vec<Row>, Failure> {
        match timeout(limit, self.client.query_typed(statement, parameters)).await {
            Ok(Ok(rows)) => Ok(rows),
            Ok(Err(error)) => Err(Failure::of(&error)),
            Err(_) => Err(Failure::Unanswered(silent().to_owned())),
        }
    }

    /// Hands each row of a long answer to `take`.
    pub(super) async fn each_row(
        &self,
        statement: &str,
        parameters: &[Parameter<'_>],
        mut take: impl FnMut(&Row) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let late = |_| Failure::Unanswered(silent().to_owned());
        let parameters = parameters
            .iter()
            .map(|(value, kind)| (*value, kind.clone()));
        let asked = self.client.query_typed_raw(statement, parameters);
        let rows = timeout(ROW_TIME_MAX, asked).await.map_err(late)?;
        let mut rows = pin!(rows.map_err(|error| Failure::of(&error))?);
        loop {
            let next = timeout(ROW_TIME_MAX, rows.try_next()).await.map_err(late)?;
            match next.map_err(|error| Failure::of(&error))? {
                Some(row) => take(&row)?,
                None => return Ok(()),
            }
        }
    }

    /// Begins a long answer, whose rows [`Self::next`] waits for.
    pub(super) async fn stream(&self, statement: &str) -> Result<RowStream, Failure> {
        let asked = self.client.query_typed_raw(statement, NOTHING);
        match timeout(ROW_TIME_MAX, asked).await {
            Ok(begun) => begun.map_err(|error| Failure::of(&error)),
            Err(_) => Err(Failure::Unanswered(silent().to_owned())),
        }
    }

    /// The next row of a long answer.
    pub(super) async fn next(mut rows: Pin<&mut RowStream>) -> Result<Option<Row>, Failure> {
        match timeout(ROW_TIME_MAX, rows.try_next()).await {
            Ok(next) => next.map_err(|error| Failure::of(&error)),
            Err(_) => Err(Failure::Unanswered(silent().to_owned())),
        }
    }

    /// Runs statements without answers, within `limit`.
    pub(super) async fn run(&self, limit: Duration, statements: &str) -> Result<(), Failure> {
        match timeout(limit, self.client.batch_execute(statements)).await {
            Ok(done) => done.map_err(|error| Failure::of(&error)),
            Err(_) => Err(Failure::Unanswered(silent().to_owned())),
        }
    }

    /// Whether the server has closed it.
    pub(super) fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// The next notification; `None` when the connection has ended.
    pub(super) async fn notification(&mut self) -> Option<String> {
        self.notifications.recv().await
    }
}

fn silent() -> &'static str {
    "it did not answer in time"
}

/// Reads until the connection ends.
async fn drive<S>(
    mut connection: Connection<S, tokio_postgres::tls::NoTlsStream>,
    heard: mpsc::Sender<String>,
) where
    S: AsyncRead + AsyncWrite + Unpin,
{
    while let Some(Ok(message)) =
        std::future::poll_fn(|context| connection.poll_message(context)).await
    {
        if let AsyncMessage::Notification(notification) = message {
            let _full = heard.try_send(notification.payload().to_owned());
        }
    }
}

/// TLS, after the server has agreed to it. The certificate must be of this host, and of an
/// authority that is trusted.
async fn encrypted(
    access: &Access,
    name: &str,
    mut stream: TcpStream,
) -> Result<tokio_rustls::client::TlsStream<TcpStream>, Reason> {
    let ca_file = access.ca_file.clone();
    let connector = tokio::task::spawn_blocking(move || connector(ca_file.as_deref())).await??;
    let name = ServerName::try_from(name.to_owned())?;
    stream.write_all(&SSL_REQUEST).await?;
    // One byte and no more: whatever comes with it was not encrypted.
    match stream.read_u8().await? {
        b'S' => Ok(connector.connect(name, stream).await?),
        b'N' => Err("it has no TLS, without which only loopback is taken".into()),
        _ => Err("it is not a PostgreSQL server".into()),
    }
}

fn connector(ca_file: Option<&Path>) -> Result<TlsConnector, Reason> {
    let roots = tls_files::authorities(ca_file).map_err(|error| match ca_file {
        Some(path) => format!("store.ca_file {}: {error}", path.display()).into(),
        None => error,
    })?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_details(provider, Arc::new(Clock::system()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

/// Reads the password anew for each connection, so that it can be replaced while the daemon runs.
fn password(path: &Path) -> Result<Zeroizing<Vec<u8>>, Reason> {
    let failed = |reason| format!("store.password_file {}: {reason}", path.display());
    secret::line(path).map_err(|reason| failed(reason).into())
}

impl Failure {
    /// What an error of a statement says of what came of it.
    ///
    /// Source: PostgreSQL 15, appendix A. A server that is ended, or whose connection breaks, may
    /// have committed before; whatever else it refuses, it has not done.
    fn of(error: &tokio_postgres::Error) -> Self {
        let Some(refused) = error.as_db_error() else {
            return Self::Unanswered(with_causes(error));
        };
        let code = refused.code().code();
        let said = format!("{} ({code})", refused.message());
        match code {
            // A serialization failure, a deadlock.
            "40001" | "40P01" => Self::Raced,
            // An end of the server or of the connection to it; a statement that is unknown to have
            // completed.
            "57P01" | "57P02" | "40003" => Self::Unanswered(said),
            code if code.starts_with("08") => Self::Unanswered(said),
            _ => Self::Refused {
                state: code.to_owned(),
                reason: said,
            },
        }
    }
}
