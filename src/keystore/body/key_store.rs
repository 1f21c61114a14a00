//! A custom key store's record: the metadata, followed by the secret of the proxy's credential.

use crate::clock::Timestamp;
use crate::crypto::secret::SecretBytes;
use crate::key::key_store::KeyStoreId;
use crate::key::regions::RegionNumber;
use crate::keystore::access_key::AccessKey;
use crate::keystore::body::{encode as encode_body, split};
use crate::keystore::key_store::{Connection, KeyStoreEntry};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyStoreBody {
    /// `CustomKeyStoreType`; a later build may know more.
    kind: String,
    /// `XksProxyConnectivity`, as before.
    connectivity: String,
    account: String,
    name: String,
    uri_endpoint: String,
    uri_path: String,
    access_key_id: String,
    connection: ConnectionBody,
    creation_date: u64,
}

#[derive(Serialize, Deserialize)]
enum ConnectionBody {
    Disconnected,
    Connecting,
    Connected,
    Failed(String),
}

pub(in crate::keystore) fn encode(entry: &KeyStoreEntry) -> SecretBytes {
    let metadata = KeyStoreBody {
        kind: KeyStoreEntry::TYPE.to_owned(),
        connectivity: KeyStoreEntry::CONNECTIVITY.to_owned(),
        account: entry.account.to_string(),
        name: entry.name.clone(),
        uri_endpoint: entry.uri_endpoint.clone(),
        uri_path: entry.uri_path.clone(),
        access_key_id: entry.credential.id.clone(),
        connection: match entry.connection {
            Connection::Disconnected => ConnectionBody::Disconnected,
            Connection::Connecting => ConnectionBody::Connecting,
            Connection::Connected => ConnectionBody::Connected,
            Connection::Failed(error) => ConnectionBody::Failed(error.name().to_owned()),
        },
        creation_date: entry.creation_date.0,
    };
    encode_body(&metadata, &[entry.credential.secret.expose()])
}

pub(super) fn decode(
    region: RegionNumber,
    id: &str,
    plaintext: &SecretBytes,
) -> Option<KeyStoreEntry> {
    let (body, secret) = split::<KeyStoreBody>(plaintext)?;
    let is_known =
        body.kind == KeyStoreEntry::TYPE && body.connectivity == KeyStoreEntry::CONNECTIVITY;
    if !is_known || secret.is_empty() {
        return None;
    }
    let id: KeyStoreId = id.parse().ok()?;
    let secret = SecretBytes::copy_of(secret);
    Some(KeyStoreEntry {
        id,
        region,
        account: body.account.parse().ok()?,
        name: body.name,
        uri_endpoint: body.uri_endpoint,
        uri_path: body.uri_path,
        credential: Arc::new(AccessKey::new(body.access_key_id, secret)),
        connection: match body.connection {
            ConnectionBody::Disconnected => Connection::Disconnected,
            ConnectionBody::Connecting => Connection::Connecting,
            ConnectionBody::Connected => Connection::Connected,
            ConnectionBody::Failed(error) => Connection::Failed(error.parse().ok()?),
        },
        creation_date: Timestamp(body.creation_date),
    })
}
