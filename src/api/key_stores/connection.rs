//! `ConnectCustomKeyStore` and `DisconnectCustomKeyStore`, and the work that connecting is.
//!
//! The first is answered at once: the key store is `CONNECTING`, and its proxy is asked how it is.
//! The record of the key store says how that ended, so it is one for all daemons of the store, and
//! lasts over a start. A daemon that stops in between leaves the key store `CONNECTING`: the next
//! one takes it from there.
//!
//! A key store that is connected stays so until it is disconnected, as on AWS, whether or not its
//! proxy answers: calls that need it then fail one by one, and work again when it is back.

use crate::api::key_stores::{Input, check_region, done, find, invalid_state};
use crate::api::members::Members;
use crate::api::{Answer, Api, ApiError, RequestId, Requester, proxy_refusal, wire};
use crate::key::key_store::KeyStoreId;
use crate::keystore::{Change, Connection, KeyStoreEntry, Snapshot};
use crate::operation::{Action, Operation};
use std::sync::Arc;

/// `ConnectCustomKeyStore`
pub(in crate::api) async fn connect(api: Arc<Api>, requester: Requester, body: Vec<u8>) -> Answer {
    const OPERATION: Operation = Operation::ConnectCustomKeyStore;
    let input: Input<'_> = wire::decode(&body)?;
    let id = input.id()?;
    let id = api
        .change(&requester, None, |attempt| {
            let action = Action::ConnectCustomKeyStore;
            let store = attempt.admit_alone(action, Members::None, || {
                check_region(attempt, OPERATION)?;
                find(attempt, id)
            })?;
            let changes = match store.connection {
                Connection::Disconnected => vec![moved(store, Connection::Connecting)],
                Connection::Connecting | Connection::Connected => Vec::new(),
                Connection::Failed(_) => return Err(invalid_state(store, OPERATION)),
            };
            Ok((changes, store.id))
        })
        .await?;
    // It is not waited for: a call of the proxy has a bound, and its end is in the record.
    tokio::spawn(async move { api.connect_logged(id).await });
    Ok(done())
}

/// `DisconnectCustomKeyStore`: once it is answered, no call that was under way gets a plaintext or
/// a ciphertext any more.
pub(in crate::api) async fn disconnect(
    api: Arc<Api>,
    requester: Requester,
    body: Vec<u8>,
) -> Answer {
    const OPERATION: Operation = Operation::DisconnectCustomKeyStore;
    let input: Input<'_> = wire::decode(&body)?;
    let id = input.id()?;
    api.change(&requester, None, |attempt| {
        let action = Action::DisconnectCustomKeyStore;
        let store = attempt.admit_alone(action, Members::None, || {
            check_region(attempt, OPERATION)?;
            find(attempt, id)
        })?;
        if store.connection == Connection::Disconnected {
            return Err(invalid_state(store, OPERATION));
        }
        Ok((vec![moved(store, Connection::Disconnected)], done()))
    })
    .await
}

fn moved(store: &KeyStoreEntry, connection: Connection) -> Change {
    Change::PutKeyStore(KeyStoreEntry {
        connection,
        ..store.clone()
    })
}

impl Api {
    /// Finishes what was begun with the key stores that are being connected: at a start, and where
    /// the store could not be written at their end.
    pub async fn connect_key_stores(&self) {
        let snapshot = self.keystore.snapshot();
        let stores = snapshot.key_stores.values();
        for store in stores.filter(|store| store.connection == Connection::Connecting) {
            self.connect_logged(store.id).await;
        }
    }

    /// Asks the proxies of the key stores that are connected how they are: one that does not answer
    /// is logged. For a start.
    pub async fn greet_key_stores(&self) {
        let snapshot = self.keystore.snapshot();
        let stores = snapshot.key_stores.values();
        for store in stores.filter(|store| store.is_connected()) {
            let request_id = RequestId::draw(&self.entropy);
            let operation = Operation::ConnectCustomKeyStore;
            let asked = self.probe(store, operation, request_id.as_str()).await;
            match asked {
                Ok(Ok(())) => {
                    tracing::info!(id = %store.id, "the proxy of a custom key store answers");
                }
                _ => tracing::warn!(
                    id = %store.id,
                    "the proxy of a custom key store that is connected does not answer as it should: keys in it cannot be \
                     used until it does"
                ),
            }
        }
    }

    async fn connect_logged(&self, id: KeyStoreId) {
        if let Err(error) = self.connect_key_store(id).await {
            let error = error.source().map(tracing::field::display);
            tracing::error!(error, %id, "the connection of a custom key store was not written");
        }
    }

    async fn connect_key_store(&self, id: KeyStoreId) -> Result<(), ApiError> {
        let snapshot = self.keystore.snapshot();
        let Some(asked) = connecting(&snapshot, id) else {
            return Ok(());
        };
        let request_id = RequestId::draw(&self.entropy);
        let operation = Operation::ConnectCustomKeyStore;
        let probed = self.probe(asked, operation, request_id.as_str()).await?;
        let connection = match probed {
            Ok(()) => Connection::Connected,
            Err(unhealthy) => Connection::Failed(proxy_refusal::of_connection(&unhealthy)),
        };
        let decide = |snapshot: &Snapshot| {
            // It may have been disconnected, or even deleted, since.
            let changes = connecting(snapshot, id).map(|store| moved(store, connection));
            Ok::<_, ApiError>((Vec::from_iter(changes), ()))
        };
        self.keystore.apply(decide).await?;
        tracing::info!(%id, connection = connection.name(), "a custom key store was connected");
        Ok(())
    }
}

fn connecting(snapshot: &Snapshot, id: KeyStoreId) -> Option<&Arc<KeyStoreEntry>> {
    let store = snapshot.key_stores.get(&id)?;
    (store.connection == Connection::Connecting).then_some(store)
}
