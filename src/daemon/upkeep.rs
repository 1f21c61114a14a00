//! What a daemon does by itself: keeps the pool, the limits and the metrics in order, removes keys whose deletion is due, and reads the files of TLS again.

use crate::clock::Clock;
use crate::daemon::Core;
use crate::key::KeyId;
use crate::keystore::{self, Change, Keystore, KeystoreError};
use crate::pool::Pool;
use crate::transport::tls::Tls;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

/// Between two looks at the lanes.
const TICK: Duration = Duration::from_secs(1);
/// Ticks between two moves of histogram samples into their buckets.
const METRICS_TICKS: u32 = 5;
/// Between two looks for keys whose deletion is due.
const EXPIRY: Duration = Duration::from_secs(60);

/// The running timers.
pub(super) struct Upkeep {
    /// Dropping it ends the thread.
    stop: Sender<()>,
    thread: JoinHandle<()>,
    /// Dropping it ends the tasks, between two looks: a change of the store is never broken off.
    stop_tasks: watch::Sender<()>,
    tasks: JoinSet<()>,
}

impl Upkeep {
    /// Pool and metrics on a thread of their own, since they may be busy for milliseconds; the rest as a task.
    pub(super) fn start(core: &Core, tls: Option<Arc<Tls>>) -> io::Result<Self> {
        let (stop, stopped) = mpsc::channel::<()>();
        let (pool, metrics) = (Arc::clone(&core.pool), Arc::clone(&core.metrics));
        let (api, clock) = (Arc::clone(&core.api), core.clock.clone());
        let work = move || {
            let mut ticks = 0;
            while stopped.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
                pool.tick();
                api.limits.tick(clock.monotonic());
                ticks = (ticks + 1) % METRICS_TICKS;
                if ticks == 0 {
                    metrics.upkeep();
                }
            }
        };
        let thread = thread::Builder::new()
            .name("upkeep".to_owned())
            .spawn(work)?;
        let (keystore, pool, clock) = (
            Arc::clone(&core.keystore),
            Arc::clone(&core.pool),
            core.clock.clone(),
        );
        let (stop_tasks, mut stopped) = watch::channel(());
        let mut tasks = JoinSet::new();
        if let Some(tls) = tls {
            tasks.spawn(reload(tls, stopped.clone())?);
        }
        tasks.spawn(async move {
            // Its first tick comes at once.
            let mut interval = tokio::time::interval(EXPIRY);
            loop {
                tokio::select! {
                    _ = interval.tick() => {}
                    _ = stopped.changed() => return,
                }
                if let Err(error) = remove_expired(&keystore, &pool, &clock).await {
                    tracing::error!(%error, "keys whose deletion is due were not removed");
                }
            }
        });
        Ok(Self {
            stop,
            thread,
            stop_tasks,
            tasks,
        })
    }

    /// Returns when nothing of it runs any more.
    pub(super) async fn stop(self) {
        drop((self.stop, self.stop_tasks));
        let mut tasks = self.tasks;
        // An error is a panic, which has been printed.
        while tasks.join_next().await.is_some() {}
        let thread = self.thread;
        let _joined = tokio::task::spawn_blocking(move || thread.join()).await;
    }
}

/// Reads the files of TLS again at SIGHUP, and by and by when they have changed.
fn reload(
    tls: Arc<Tls>,
    mut stopped: watch::Receiver<()>,
) -> io::Result<impl Future<Output = ()> + Send + 'static> {
    let mut hangup = signal(SignalKind::hangup())?;
    Ok(async move {
        let mut interval = tokio::time::interval(tls.reload_every());
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let asked = tokio::select! {
                _ = interval.tick() => false,
                _ = hangup.recv() => true,
                _ = stopped.changed() => return,
            };
            let tls = Arc::clone(&tls);
            let read = move || {
                if asked {
                    tls.reload();
                } else {
                    tls.reload_if_changed();
                }
            };
            // An error is a panic, which has been printed.
            let _read = tokio::task::spawn_blocking(read).await;
        }
    })
}

/// Removes keys whose deletion is due, for good, with their aliases.
///
/// # Errors
/// [`KeystoreError`]; then they are still there.
pub async fn remove_expired(
    keystore: &Keystore,
    pool: &Pool,
    clock: &Clock,
) -> Result<Vec<KeyId>, KeystoreError> {
    let now = clock.now();
    if keystore::expired(&keystore.snapshot(), now).is_empty() {
        return Ok(Vec::new());
    }
    // Looked for again in the change itself: a deletion may have been cancelled meanwhile.
    let removed = keystore
        .apply(|snapshot| {
            let expired = keystore::expired(snapshot, now);
            let aliases = snapshot.aliases.values();
            let aliases = aliases.filter(|alias| expired.contains(&alias.target));
            let aliases =
                aliases.map(|alias| Change::RemoveAlias(alias.account, alias.name.clone()));
            let keys = expired.iter().map(|id| Change::RemoveKey(*id));
            let changes = aliases.chain(keys).collect();
            Ok::<_, KeystoreError>((changes, expired))
        })
        .await?;
    for key in &removed {
        pool.purge(*key);
        tracing::info!(key_id = %key, "removed: its deletion was due");
    }
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use crate::config::{Config, Environment};
    use crate::crypto::entropy::Entropy;
    use crate::daemon::Opening;
    use crate::key::material::BackingKey;
    use crate::key::{KeyState, KmsKey};
    use crate::keystore::{Alias, KeyDraft};
    use crate::pool;

    const NOW: Timestamp = Timestamp(1_700_000_000_000_000);

    fn key(state: KeyState) -> KeyDraft {
        let entropy = Entropy::os();
        let mut bytes = [0; 16];
        entropy.draw(&mut bytes).unwrap();
        let id = KeyId::from_random(bytes);
        let material = BackingKey::draw(id, 1, NOW, &entropy).unwrap();
        KeyDraft {
            key: KmsKey {
                id,
                account: "111122223333".parse().unwrap(),
                description: String::new(),
                state,
                creation_date: NOW,
            },
            materials: vec![Arc::new(material)],
        }
    }

    fn alias(name: &str, target: KeyId) -> Alias {
        Alias {
            account: "111122223333".parse().unwrap(),
            name: name.parse().unwrap(),
            target,
            creation_date: NOW,
            last_updated_date: NOW,
        }
    }

    #[tokio::test]
    async fn keys_go_with_their_aliases_when_their_deletion_is_due() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("keymill.toml");
        let config = Config::read(Some((&file, "")), &Environment::default(), &[])
            .unwrap()
            .config;
        let unpooled = pool::Config {
            enabled: false,
            ..pool::Config::default()
        };
        let core = Core::open(&config, unpooled, Opening::CreateIfAbsent)
            .await
            .unwrap();
        let deletion_date = NOW.after(Duration::from_secs(9));
        let doomed = key(KeyState::PendingDeletion { deletion_date });
        let kept = key(KeyState::Disabled);
        let (doomed_id, kept_id) = (doomed.key.id, kept.key.id);
        let changes = vec![
            Change::PutKey(doomed),
            Change::PutKey(kept),
            Change::PutAlias(alias("alias/doomed", doomed_id)),
            Change::PutAlias(alias("alias/kept", kept_id)),
        ];
        let applied = core
            .keystore
            .apply(|_| Ok::<_, KeystoreError>((changes, ())));
        applied.await.unwrap();
        let clock = Clock::manual(NOW);
        let revision = core.keystore.revision();
        let removed = remove_expired(&core.keystore, &core.pool, &clock)
            .await
            .unwrap();
        assert!(removed.is_empty());
        assert_eq!(core.keystore.revision(), revision);
        clock.advance(Duration::from_secs(9));
        let removed = remove_expired(&core.keystore, &core.pool, &clock)
            .await
            .unwrap();
        assert_eq!(removed, [doomed_id]);
        let snapshot = core.keystore.snapshot();
        assert_eq!(snapshot.keys.keys().collect::<Vec<_>>(), [&kept_id]);
        let names: Vec<_> = snapshot
            .aliases
            .values()
            .map(|alias| alias.name.as_str())
            .collect();
        assert_eq!(names, ["alias/kept"]);
        core.close().await.unwrap();
    }
}
