//! Custom key stores: how a proxy of another key manager is reached, and whether it is.

use crate::clock::Timestamp;
use crate::key::arn::AccountId;
use crate::key::key_store::KeyStoreId;
use crate::key::regions::RegionNumber;
use crate::keystore::access_key::AccessKey;
use std::sync::Arc;
use strum::{EnumString, IntoStaticStr};

/// A custom key store of type `EXTERNAL_KEY_STORE` whose proxy has a public endpoint. There are no
/// others here.
#[derive(Clone)]
pub struct KeyStoreEntry {
    /// What names it.
    pub id: KeyStoreId,
    /// The Region that it is in.
    pub region: RegionNumber,
    /// The account that it belongs to.
    pub account: AccountId,
    /// 1..=256 characters, unique in its account and Region.
    pub name: String,
    /// `XksProxyUriEndpoint`: `https://` and a host name.
    pub uri_endpoint: String,
    /// `XksProxyUriPath`, which ends in `/kms/xks/v1`.
    pub uri_path: String,
    /// What requests to the proxy are signed with: 20..=30 and 43..=64 characters.
    pub credential: Arc<AccessKey>,
    /// The last that is known of the connection.
    pub connection: Connection,
    /// When it was created.
    pub creation_date: Timestamp,
}

impl KeyStoreEntry {
    /// `CustomKeyStoreType`
    pub const TYPE: &str = "EXTERNAL_KEY_STORE";
    /// `XksProxyConnectivity`
    pub const CONNECTIVITY: &str = "PUBLIC_ENDPOINT";

    /// Whether keys in it can be made and used.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.connection == Connection::Connected
    }
}

/// `ConnectionState`. Nothing takes long at the end of a connection, so there is no
/// `DISCONNECTING`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connection {
    /// It never was, or is not any more.
    Disconnected,
    /// The proxy is being asked how it is.
    Connecting,
    /// The proxy has answered.
    Connected,
    /// The proxy has not, for this reason.
    Failed(ConnectionError),
}

impl Connection {
    /// A value of `ConnectionState`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Disconnected => "DISCONNECTED",
            Self::Connecting => "CONNECTING",
            Self::Connected => "CONNECTED",
            Self::Failed(_) => "FAILED",
        }
    }
}

/// `ConnectionErrorCode`, as far as external key stores with public endpoints have them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, EnumString, IntoStaticStr)]
#[strum(serialize_all = "SCREAMING_SNAKE_CASE")]
pub enum ConnectionError {
    /// The proxy does not know the credential.
    InvalidCredentials,
    /// Something failed here.
    InternalError,
    /// The proxy denies access.
    XksProxyAccessDenied,
    /// The proxy does not answer, or all of its key managers are unavailable.
    XksProxyNotReachable,
    /// The proxy answers too late.
    XksProxyTimedOut,
    /// The proxy answers with something else than the protocol's.
    XksProxyInvalidResponse,
    /// The path is not one of the proxy's.
    XksProxyInvalidConfiguration,
    /// TLS failed, as with a certificate that is not trusted.
    XksProxyInvalidTlsConfiguration,
}

impl ConnectionError {
    /// A value of `ConnectionErrorCode`.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.into()
    }
}
