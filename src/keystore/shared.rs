//! A keystore that other nodes change too: how a change is decided among them, and how their
//! changes come into force here.
//!
//! **A change** is decided on the newest state of the store and written only if the store is still
//! at it. If another node was first, its change is taken over, and the change is decided again: it
//! may be refused now, and nothing of the other is lost. Where the store did not answer, it is
//! looked up what became of the change; see [`Keystore::find_out`].
//!
//! **Freshness.** Each node looks at the head about once a second, over a connection of its own.
//! What has changed is verified and published with the fences that belong to it, so a change that
//! one node has answered is in force on every other node after one look. A node whose looks are not
//! answered for too long hands nothing out (see [`freshness`](super::freshness)).
//!
//! A database that goes on answering, and is not the one that takes the changes of the other nodes,
//! is noticed where it has to commit a look, and by that alone.

use crate::clock::Clock;
use crate::crypto::entropy::Entropy;
use crate::key::KeyId;
use crate::key::regions::Regions;
use crate::keystore::freshness::{Freshness, Look};
use crate::keystore::loaded::Loaded;
use crate::keystore::postgres::{Access, Alive, PostgresStore, PostgresWatch};
use crate::keystore::reading::Place;
use crate::keystore::record::{Head, Record, Sealer};
use crate::keystore::seen::SeenFile;
use crate::keystore::store::Watch;
use crate::keystore::writer::{CaughtUp, Pending, SideFiles, Writer};
use crate::keystore::{
    AuditHead, Change, Halt, Keystore, KeystoreError, RootKey, Snapshot, StoreLock, node, related,
};
use crate::metrics::Metrics;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::MutexGuard;
use tokio::time::{sleep, timeout};

/// Time for a change, with the looks and the further attempts that it takes.
const CHANGE_TIME_MAX: Duration = Duration::from_secs(15);
/// Time for a look at a store that is in doubt to be repeated.
const DOUBT_PAUSE: Duration = Duration::from_millis(200);
/// The longest of the random pauses after the first lost race, each of which is twice as long as
/// the one before.
const RACE_PAUSE: Duration = Duration::from_millis(50);
/// The longest pause of all.
const RACE_PAUSE_MAX: Duration = Duration::from_secs(1);
/// The shortest time between two looks, however many hints there are.
const LOOKS_PAUSE_MIN: Duration = Duration::from_millis(20);
/// Time to wait for a change of this node that is being made.
const WRITER_TIME_MAX: Duration = Duration::from_secs(20);

/// A store that is shared with other nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedStore {
    /// The database.
    pub access: Access,
    /// The same database, past a pooler, for notifications.
    pub direct: Option<Access>,
    /// Time between two looks at the store, more or less a fifth.
    pub look_every: Duration,
    /// How old what is served may become.
    pub age_max: Duration,
    /// What confirms it.
    pub confirmed_by: Look,
    /// Where this host keeps what belongs to the store, under other endings: the lock, and what it
    /// has seen of the store.
    pub path: PathBuf,
}

impl SharedStore {
    /// Whether there is a keystore in the database.
    ///
    /// # Errors
    /// [`KeystoreError::Unreachable`].
    pub async fn is_begun(&self) -> Result<bool, KeystoreError> {
        PostgresStore::new(self.access.clone()).is_begun().await
    }

    /// Makes an empty keystore in the database, unless there is one. Other nodes may do the same.
    ///
    /// # Errors
    /// [`KeystoreError`].
    pub async fn begin(&self, root: &RootKey, entropy: &Entropy) -> Result<(), KeystoreError> {
        let sealer = Sealer::create(root, entropy)?;
        let head = sealer.seal_head(&Head::first(), entropy)?;
        PostgresStore::new(self.access.clone()).begin(head).await
    }

    /// Opens the keystore, as another node beside those that have it open. This host's lock is
    /// taken first: one process of it is one node.
    ///
    /// # Errors
    /// [`KeystoreError`].
    pub async fn open(
        &self,
        root: &RootKey,
        regions: Regions,
        entropy: Arc<Entropy>,
        metrics: Arc<Metrics>,
    ) -> Result<Keystore, KeystoreError> {
        let lock = StoreLock::acquire(&self.path)?;
        let mut store = PostgresStore::new(self.access.clone());
        store.check_server().await?;
        let node = node::name(&self.path, &entropy)?;
        let freshness = Freshness::new(Clock::system(), self.age_max, self.confirmed_by);
        if self.confirmed_by == Look::Write {
            Alive::new(node.clone()).begin(&mut store).await?;
        }
        let place = Place::Database(self.access.clone());
        let loaded = Loaded::read(place.clone(), root, &regions, &self.path).await?;
        let (head, format) = (loaded.row.clone(), loaded.format);
        let mut seen = SeenFile::beside(&self.path);
        seen.raise(&head, format)?;
        let files = SideFiles {
            seen: Some(seen),
            lock: Some(lock),
        };
        let name = store.name();
        let store = Box::new(store);
        let keystore = Keystore::assemble(
            Path::new(&name),
            store,
            loaded,
            files,
            regions,
            entropy,
            metrics,
        );
        Ok(keystore
            .placed(place, &self.path)
            .shared(node, freshness, head))
    }

    /// Verifies the keystore as [`Self::open`] does. Returns what is in it.
    ///
    /// # Errors
    /// [`KeystoreError`].
    pub async fn check(
        &self,
        root: &RootKey,
        regions: &Regions,
    ) -> Result<Snapshot, KeystoreError> {
        let mut store = PostgresStore::new(self.access.clone());
        store.check_server().await?;
        let place = Place::Database(self.access.clone());
        let loaded = Loaded::read(place, root, regions, &self.path).await?;
        Ok(loaded.verified.snapshot)
    }

    /// The heads of the nodes' audit logs, by the names of the nodes, in a keystore that is
    /// verified as [`Self::open`] does. Nodes may have it open.
    ///
    /// # Errors
    /// [`KeystoreError`].
    pub async fn audit_heads(
        &self,
        root: &RootKey,
        regions: &Regions,
    ) -> Result<BTreeMap<String, AuditHead>, KeystoreError> {
        let heads = self.check(root, regions).await?.audit_heads.into_iter();
        Ok(heads.map(|(node, (head, _))| (node, head)).collect())
    }

    /// Who looks at the store for `keystore`.
    #[must_use]
    pub fn follower(&self, keystore: Arc<Keystore>) -> Follower {
        let works = keystore.metrics.keystore_hints.clone();
        let node = keystore.node().to_owned();
        let watch = PostgresWatch::new(self.access.clone(), self.direct.clone(), node, works);
        Follower {
            keystore,
            watch: Box::new(watch),
            look_every: self.look_every,
            told: Told::Fresh,
        }
    }
}

impl Keystore {
    /// The same keystore, of which `head` is in force, and that others change too.
    pub(super) fn shared(mut self, node: String, freshness: Freshness, head: Record) -> Self {
        self.node = node;
        let gauge = self.metrics.keystore_halted.clone();
        self.halt = Arc::new(Halt::of_shared(gauge, freshness));
        self.head.store(Some(Arc::new(head.clone())));
        self.writer.get_mut().set_sealed_head(head);
        self
    }

    /// [`Self::apply`] in a shared store.
    pub(super) async fn apply_shared<T, E: From<KeystoreError>>(
        &self,
        mut decide: impl FnMut(&Snapshot) -> Result<(Vec<Change>, T), E>,
    ) -> Result<T, E> {
        let writer = &mut *self.free_writer().await?;
        let until = self.clock.monotonic() + CHANGE_TIME_MAX;
        let mut pause = RACE_PAUSE;
        loop {
            self.settle_shared(writer, until).await?;
            let current = self.snapshot.load_full();
            let (changes, outcome) = decide(&current)?;
            let changes = related::followed(&current, changes);
            if changes.is_empty() {
                return Ok(outcome);
            }
            match writer.write(&current, changes, &self.write_context()).await {
                Ok(next) => {
                    self.publish_shared(writer, next);
                    return Ok(outcome);
                }
                Err(KeystoreError::Lost { .. }) if self.clock.monotonic() < until => {}
                Err(error) if writer.is_in_doubt() => {
                    tracing::warn!(%error, "the store did not answer a change: it is looked up what became of it");
                    let sought = writer.pending().cloned();
                    let Some(sought) = sought else {
                        return Err(error.into());
                    };
                    if self.find_out(writer, &sought, until).await? {
                        return Ok(outcome);
                    }
                }
                Err(error) => return Err(error.into()),
            }
            self.metrics.keystore_lost_races.increment(1);
            sleep(self.random(pause)?).await;
            pause = (pause * 2).min(RACE_PAUSE_MAX);
        }
    }

    /// Brings this node to the newest state of the store, with nothing in doubt.
    async fn settle_shared(
        &self,
        writer: &mut Writer,
        until: Duration,
    ) -> Result<(), KeystoreError> {
        let sought = writer.pending().cloned();
        match sought {
            Some(sought) if writer.is_in_doubt() => {
                self.find_out(writer, &sought, until).await.map(drop)
            }
            _ => self.catch_up(writer, None).await.map(drop),
        }
    }

    /// What became of a commit that the store did not answer: whether it is durable. It is in force
    /// then.
    ///
    /// A commit that has not moved the head may still do so. So the head is moved by a commit of
    /// its own, after which the one in question cannot succeed, since it moves the head from the
    /// revision of before.
    async fn find_out(
        &self,
        writer: &mut Writer,
        sought: &Pending,
        until: Duration,
    ) -> Result<bool, KeystoreError> {
        loop {
            let failed = match self.catch_up(writer, Some(sought)).await {
                Ok(Some(has_pending)) => return Ok(has_pending),
                Ok(None) => match writer.prove(&self.write_context()).await {
                    Ok(revision) => {
                        let mut next = Snapshot::clone(&self.snapshot.load());
                        next.revision = revision;
                        self.publish_shared(writer, next);
                        return Ok(false);
                    }
                    Err(error) => error,
                },
                Err(error) => error,
            };
            if self.clock.monotonic() >= until {
                return Err(failed);
            }
            sleep(DOUBT_PAUSE).await;
        }
    }

    /// Takes over what other nodes have changed. Returns whether `sought` is in the store, if the
    /// store has moved.
    async fn catch_up(
        &self,
        writer: &mut Writer,
        sought: Option<&Pending>,
    ) -> Result<Option<bool>, KeystoreError> {
        let begun = self.halt.freshness().map(Freshness::begin);
        let current = self.snapshot.load_full();
        let caught_up = writer
            .catch_up(&current, sought, &self.write_context())
            .await?;
        let moved = caught_up.map(|caught_up| {
            let CaughtUp {
                snapshot,
                keys,
                has_pending,
            } = caught_up;
            self.publish_shared(writer, snapshot);
            if let Ok(mut changed) = self.changed_elsewhere.lock() {
                changed.extend(keys);
            }
            has_pending
        });
        // Only now: what the store has is in force.
        if let (Some(begun), Some(freshness)) = (begun, self.halt.freshness()) {
            freshness.confirm(begun, Look::Read);
        }
        Ok(moved)
    }

    fn publish_shared(&self, writer: &Writer, next: Snapshot) {
        self.publish(next);
        if let Some(head) = writer.sealed_head() {
            self.head.store(Some(Arc::new(head.clone())));
        }
    }

    /// The writer, once no other change of this node is being made.
    async fn free_writer(&self) -> Result<MutexGuard<'_, Writer>, KeystoreError> {
        let waited = timeout(WRITER_TIME_MAX, self.writer.lock()).await;
        waited.map_err(|_| KeystoreError::Unreachable {
            store: self.name.clone(),
            reason: "other changes of this node are not answered".to_owned(),
        })
    }

    /// Brings what is read to the newest state of a shared store, before something is done that
    /// cannot wait for the writer and may depend on a change that another node has just answered.
    /// Does nothing for an embedded store.
    ///
    /// # Errors
    /// [`KeystoreError`].
    pub async fn refresh(&self) -> Result<(), KeystoreError> {
        match self.halt.freshness() {
            Some(_) => self.take_over().await,
            None => Ok(()),
        }
    }

    /// Takes over the changes of other nodes.
    async fn take_over(&self) -> Result<(), KeystoreError> {
        let mut writer = self.free_writer().await?;
        let until = self.clock.monotonic();
        self.settle_shared(&mut writer, until).await
    }

    /// A random time of at most `most`, and at least a tenth of it.
    fn random(&self, most: Duration) -> Result<Duration, KeystoreError> {
        let mut bytes = [0; 4];
        self.entropy.draw(&mut bytes)?;
        let share = f64::from(u32::from_be_bytes(bytes)) / f64::from(u32::MAX);
        Ok(most.mul_f64(0.1 + 0.9 * share))
    }
}

/// Looks at a shared store for a keystore.
pub struct Follower {
    keystore: Arc<Keystore>,
    watch: Box<dyn Watch>,
    look_every: Duration,
    told: Told,
}

/// What the log says of the store.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Told {
    Fresh,
    Failing,
    Stale,
}

impl Follower {
    /// Waits until the next look is due, and looks. Returns the keys that other nodes have changed
    /// since the last time; whatever was pooled under them is worth nothing any more.
    pub async fn follow(&mut self) -> BTreeSet<KeyId> {
        // A random time, so that the nodes do not all look at once.
        let share = self.keystore.random(self.look_every * 4 / 10);
        let pause = self.look_every * 8 / 10 + share.unwrap_or_default();
        let _due = timeout(pause, self.watch.hint()).await;
        self.look().await;
        sleep(LOOKS_PAUSE_MIN).await;
        let changed = self.keystore.changed_elsewhere.lock();
        changed
            .map(|mut changed| std::mem::take(&mut *changed))
            .unwrap_or_default()
    }

    async fn look(&mut self) {
        let keystore = &self.keystore;
        let Some(freshness) = keystore.halt.freshness() else {
            return;
        };
        let (begun, look) = (freshness.begin(), freshness.next_look());
        let head = match look {
            Look::Read => self.watch.head().await,
            Look::Write => self.watch.head_behind_write().await,
        };
        let looked = match head {
            Ok(head) if keystore.head.load().as_deref() == Some(&head) => Ok(()),
            Ok(_moved) => keystore.take_over().await,
            Err(error) => Err(error),
        };
        // A change that is being made is settled at the next look.
        if let Ok(mut writer) = keystore.writer.try_lock() {
            writer.settle_memory();
        }
        let metrics = &keystore.metrics;
        match looked {
            Ok(()) if !freshness.confirm(begun, look) => {}
            Ok(()) => {
                let now = keystore.clock.now().unix_seconds();
                metrics.keystore_confirmed.set(now as f64);
            }
            Err(error) => {
                metrics.keystore_failed_looks.increment(1);
                freshness.failed(error.to_string());
            }
        }
        let (state, reason) = match (freshness.reason(), freshness.problem()) {
            (Some(reason), _) => (Told::Stale, reason),
            (None, Some(problem)) => (Told::Failing, problem),
            (None, None) => (Told::Fresh, String::new()),
        };
        // Once for each change, since looks are many.
        if state == std::mem::replace(&mut self.told, state) {
            return;
        }
        match state {
            Told::Fresh => tracing::info!("the shared store confirms again what is in force"),
            Told::Failing => {
                tracing::warn!(reason, "a look at the shared store has failed");
            }
            Told::Stale => tracing::error!(
                reason,
                "no key is handed out until the shared store has confirmed what is in force"
            ),
        }
    }
}
