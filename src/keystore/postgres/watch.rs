//! Looks at the head over a connection of its own, and listens for hints over another one.
//!
//! Notifications only shorten the time until the next look. They are lost where a pooler is
//! between, or when a connection breaks without a sign; so a listener sends one to itself from time
//! to time, and a metric shows whether it arrived.

use crate::keystore::KeystoreError;
use crate::keystore::postgres::session::{Access, Failure, Parameter, Session};
use crate::keystore::postgres::{Alive, CHANNEL, LOOK_TIME_MAX, PostgresStore};
use crate::keystore::record::Record;
use crate::keystore::store::{StoreFuture, Watch};
use metrics::Gauge;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, sleep};
use tokio_postgres::types::Type;

/// How often a listener sends itself a notification, which must have arrived by the next time.
const PROBE_INTERVAL: Duration = Duration::from_secs(10);
/// What it says.
const PROBE: &str = "probe";
const LISTEN: &str = "LISTEN keymill";

/// The head of a database, and hints of its changes.
pub struct PostgresWatch {
    store: PostgresStore,
    alive: Alive,
    hints: Arc<Notify>,
    /// Listens. Dropped with it.
    _listener: JoinSet<()>,
}

impl PostgresWatch {
    /// Looks through `access`, and listens through `direct`, which must lead to the database and
    /// not to a pooler. Writes are those of `node`. `works` is 1 while notifications arrive.
    #[must_use]
    pub fn new(access: Access, direct: Option<Access>, node: String, works: Gauge) -> Self {
        works.set(0);
        let hints = Arc::new(Notify::new());
        let mut tasks = JoinSet::new();
        if let Some(direct) = direct {
            tasks.spawn(listen(direct, Arc::clone(&hints), works));
        }
        Self {
            store: PostgresStore::new(access),
            alive: Alive::new(node),
            hints,
            _listener: tasks,
        }
    }

    async fn look(&mut self) -> Result<Record, KeystoreError> {
        let store = self.store.name();
        let head = self.store.head().await?;
        head.ok_or(KeystoreError::Empty { store })
    }
}

impl Watch for PostgresWatch {
    fn head(&mut self) -> StoreFuture<'_, Record> {
        Box::pin(self.look())
    }

    fn head_behind_write(&mut self) -> StoreFuture<'_, Record> {
        Box::pin(self.alive.head(&mut self.store))
    }

    fn hint(&mut self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(self.hints.notified())
    }
}

/// Listens until it is dropped.
async fn listen(access: Access, hints: Arc<Notify>, works: Gauge) {
    let mut told = false;
    loop {
        let Err(failure) = listened(&access, &hints, &works).await;
        works.set(0);
        // Once: the store is looked at all the same.
        if !std::mem::replace(&mut told, true) {
            let (store, reason) = (&access.url, failure.to_string());
            tracing::warn!(%store, reason, "notifications of changes do not arrive: the store is looked at in intervals alone");
        }
        sleep(PROBE_INTERVAL).await;
    }
}

/// Listens over one connection, until it fails.
async fn listened(access: &Access, hints: &Notify, works: &Gauge) -> Result<Infallible, Failure> {
    let mut session = Session::open(access).await?;
    session.run(LOOK_TIME_MAX, LISTEN).await?;
    let mut probes = tokio::time::interval(PROBE_INTERVAL);
    probes.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut is_awaited = false;
    loop {
        let late = Failure::Unanswered("its own notification did not arrive".to_owned());
        tokio::select! {
            heard = session.notification() => match heard.as_deref() {
                Some(PROBE) => {
                    is_awaited = false;
                    works.set(1);
                }
                Some(_) => hints.notify_one(),
                None => return Err(Failure::Unanswered("the connection has ended".to_owned())),
            },
            _ = probes.tick() => {
                if is_awaited {
                    return Err(late);
                }
                is_awaited = true;
                let parameters: [Parameter<'_>; 2] = [(&CHANNEL, Type::TEXT), (&PROBE, Type::TEXT)];
                session.rows(LOOK_TIME_MAX, "SELECT pg_notify($1, $2)", &parameters).await?;
            }
        }
    }
}
