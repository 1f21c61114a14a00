//! The one writer of a store: seals a change, commits it with the head, and returns what to
//! publish.
//!
//! A change touches only its own records: their terms leave the sum and enter it, and no other
//! record is read. A term that leaves comes from this process's memory and never from the row in
//! the store, which an attacker may have put there.
//!
//! **Doubt.** When a commit fails, or its future is dropped, the content of the store is unknown.
//! From then on the writer takes no change, until it has closed the store, opened it again,
//! verified its content, and has seen one commit succeed. The content is published before that
//! commit is tried: a change that turns out to be durable is in force even while the disk is full.
//! In a store that other nodes write to, the doubt ends in another way: see [`catch_up`].

use crate::clock::Clock;
use crate::crypto::entropy::Entropy;
use crate::key::regions::Regions;
use crate::keystore::opening::Verified;
use crate::keystore::reading::{Place, Reading};
use crate::keystore::record::{self, Head, Record, Sealer, Term};
use crate::keystore::seen::SeenFile;
use crate::keystore::store::{Commit, Store};
use crate::keystore::terms::{Name, Terms};
use crate::keystore::{Change, KeystoreError, Snapshot, StoreLock};
use crate::metrics::Metrics;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

mod catch_up;

pub(super) use catch_up::{CaughtUp, Pending};

/// The pause before the second try to open a store again; each further pause is twice as long.
const PAUSE_MIN: Duration = Duration::from_secs(1);
/// The longest pause. A try reads the whole store, which takes seconds for a large one.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// The state that only the writer needs.
pub(super) struct Writer {
    pub(super) path: PathBuf,
    pub(super) store: Box<dyn Store>,
    /// Where it is read again.
    place: Place,
    sealer: Arc<Sealer>,
    head: Head,
    /// The head's row in the store, if this process has read or written it there.
    sealed_head: Option<Record>,
    /// The terms of all records except the head. Secret, as the sum is: see [`record`].
    terms: Terms,
    seen: Option<SeenFile>,
    /// The highest revision that a head was sealed for, committed or not: no revision is used
    /// twice.
    sealed: u64,
    /// Whether the store may hold another set of records than `head` describes.
    in_doubt: bool,
    /// Whether the store may hold another set of records than is published.
    is_unknown: bool,
    /// Whether other processes write to the store too.
    is_shared: bool,
    /// Whether a shared store has been found to have another history than this process has seen.
    is_forked: bool,
    /// The last commit that was sent.
    pending: Option<Pending>,
    pub(super) retry: Retry,
    _lock: Option<StoreLock>,
}

/// The files beside a store. A store of a test may have none.
#[derive(Default)]
pub(super) struct SideFiles {
    pub(super) seen: Option<SeenFile>,
    pub(super) lock: Option<StoreLock>,
}

/// The keystore's resources that a write needs.
pub(super) struct WriteContext<'a> {
    pub(super) regions: &'a Regions,
    pub(super) entropy: &'a Entropy,
    pub(super) metrics: &'a Metrics,
}

/// When a store in doubt may be opened again.
pub(super) struct Retry {
    pub(super) clock: Clock,
    pub(super) at: Duration,
    pause: Duration,
}

impl Writer {
    pub(super) fn new(
        path: PathBuf,
        (mut store, place): (Box<dyn Store>, Place),
        sealer: Arc<Sealer>,
        head: Head,
        terms: Terms,
        files: SideFiles,
    ) -> Self {
        let SideFiles { seen, lock } = files;
        let is_shared = store.shared().is_some();
        Self {
            path,
            store,
            place,
            sealer,
            head,
            sealed_head: None,
            terms,
            seen,
            sealed: head.revision,
            in_doubt: false,
            is_unknown: false,
            is_shared,
            is_forked: false,
            pending: None,
            retry: Retry {
                clock: Clock::system(),
                at: Duration::ZERO,
                pause: PAUSE_MIN,
            },
            _lock: lock,
        }
    }

    pub(super) fn is_in_doubt(&self) -> bool {
        self.in_doubt
    }

    /// Whether a change may be durable that is not in force.
    pub(super) fn is_unknown(&self) -> bool {
        self.is_unknown
    }

    /// Checks that the store is still the one that was opened, and is in doubt from now on if not.
    ///
    /// # Errors
    /// [`KeystoreError::Replaced`].
    pub(super) fn check_in_place(&mut self) -> Result<(), KeystoreError> {
        self.store.check_in_place().inspect_err(|_| {
            self.in_doubt = true;
            self.is_unknown = true;
        })
    }

    /// Makes `changes` to `current` durable, and returns the snapshot to publish then.
    ///
    /// # Errors
    /// [`KeystoreError`]; nothing has changed unless the writer is in doubt now.
    pub(super) async fn write(
        &mut self,
        current: &Snapshot,
        changes: Vec<Change>,
        context: &WriteContext<'_>,
    ) -> Result<Snapshot, KeystoreError> {
        // The clone shares its entries with the current snapshot, and is dropped if a step below
        // fails.
        let mut next = current.clone();
        next.revision = self.sealed + 1;
        let mut head = Head {
            revision: next.revision,
            ..self.head
        };
        let mut touched: BTreeMap<Name, Option<(Record, Term)>> = BTreeMap::new();
        let mut takes_secrets = false;
        // Several changes may touch one record; only the last version is written, and only its term
        // is in the sum.
        for change in changes {
            let row = next.change(change, context.regions);
            takes_secrets |= row.takes_secrets;
            let name = (row.kind, row.id.clone());
            let put = match row.plaintext {
                None => None,
                Some(plaintext) => {
                    let (kind, id, revision) = (row.kind, row.id, next.revision);
                    let record =
                        self.sealer
                            .seal(kind, id, revision, &plaintext, context.entropy)?;
                    let term = self.sealer.term(&record);
                    record::toggle(&mut head.sum, &term);
                    head.records += 1;
                    Some((record, term))
                }
            };
            // The term that leaves the sum: of an earlier change in this call, else of the stored
            // record.
            let before = match touched.insert(name.clone(), put) {
                Some(earlier) => earlier.map(|(_, term)| term),
                None => self.terms.get(&name).copied(),
            };
            if let Some(term) = before {
                record::toggle(&mut head.sum, &term);
                head.records -= 1;
            }
        }
        self.commit(head, touched, takes_secrets, context).await?;
        Ok(next)
    }

    /// Opens the store again and verifies it. Returns its content if that differs from `current`,
    /// to be published before [`Self::prove`].
    ///
    /// # Errors
    /// [`KeystoreError`]; the writer stays in doubt.
    pub(super) async fn reread(
        &mut self,
        context: &WriteContext<'_>,
    ) -> Result<Option<Snapshot>, KeystoreError> {
        self.store.let_go().await?;
        let reading = Reading::start(self.place.clone()).await?;
        let verified = Verified::again(reading, &self.sealer, context.regions).await?;
        // A sound store that is older than this process's last commit is another file.
        if verified.head.revision < self.head.revision {
            let path = self.path.clone();
            return Err(KeystoreError::Replaced { path });
        }
        let moved = verified.head != self.head;
        self.head = verified.head;
        self.terms = verified.terms;
        // Revisions that were sealed for lost commits are not used again.
        self.sealed = self.sealed.max(self.head.revision);
        self.is_unknown = false;
        Ok(moved.then_some(verified.snapshot))
    }

    /// Ends the doubt with a commit that changes only the revision, which it returns. So a disk
    /// that is still full is noticed here and not by a caller. In a shared store, a commit of
    /// before cannot succeed any more.
    ///
    /// # Errors
    /// [`KeystoreError`]; the writer stays in doubt.
    pub(super) async fn prove(&mut self, context: &WriteContext<'_>) -> Result<u64, KeystoreError> {
        let head = Head {
            revision: self.sealed + 1,
            ..self.head
        };
        self.commit(head, BTreeMap::new(), true, context).await?;
        self.retry.pause = PAUSE_MIN;
        Ok(head.revision)
    }

    async fn commit(
        &mut self,
        head: Head,
        touched: BTreeMap<Name, Option<(Record, Term)>>,
        takes_secrets: bool,
        context: &WriteContext<'_>,
    ) -> Result<(), KeystoreError> {
        let sealed = self.sealer.seal_head(&head, context.entropy)?;
        let mut request = [0; 16];
        context.entropy.draw(&mut request)?;
        let pending = Pending {
            request: Uuid::from_bytes(request),
            head: sealed.clone(),
        };
        let mut commit = Commit {
            expected: self.head.revision,
            expected_head: self.sealed_head.as_ref().map(|row| row.body.clone()),
            head: sealed,
            puts: Vec::new(),
            removals: Vec::new(),
            takes_secrets,
            request: pending.request,
        };
        let mut terms = Vec::with_capacity(touched.len());
        for (name, put) in touched {
            terms.push((name.clone(), put.as_ref().map(|(_, term)| *term)));
            match put {
                Some((record, _)) => commit.puts.push(record),
                None => commit.removals.push(name),
            }
        }
        // Used up from here on, whether or not the commit succeeds.
        self.sealed = head.revision;
        self.pending = Some(pending.clone());
        // Set before the commit is awaited: if the future is dropped there, the outcome is unknown.
        let was_in_doubt = std::mem::replace(&mut self.in_doubt, true);
        // Of a shared store, what is in force is known to be of a moment ago, and no more.
        self.is_unknown |= !terms.is_empty() && !self.is_shared;
        let begun = self.retry.clock.monotonic();
        if let Err(error) = self.store.commit(commit).await {
            self.in_doubt = was_in_doubt || !error.is_harmless();
            return Err(error);
        }
        let duration = self.retry.clock.monotonic().saturating_sub(begun);
        context.metrics.keystore_commits.increment(1);
        context.metrics.keystore_commit_seconds.record(duration);
        // From here on the change is durable, and nothing may keep it from being in force.
        self.remember(&pending.head, head.format);
        self.head = head;
        self.sealed_head = Some(pending.head);
        for (name, term) in terms {
            match term {
                Some(term) => drop(self.terms.insert(&name, term)),
                None => drop(self.terms.remove(&name)),
            }
        }
        self.in_doubt = false;
        self.is_unknown = false;
        Ok(())
    }

    /// Records on this host that it has seen this head. What is durable is in force all the same.
    ///
    /// Of a shared store, the record is durable by the next look ([`Self::settle_memory`]): a sync
    /// of this host's disk would be half of the time of a change, and the other nodes remember it
    /// too.
    fn remember(&mut self, row: &Record, format: u8) {
        let Some(seen) = &mut self.seen else {
            return;
        };
        let remembered = match self.is_shared {
            true => seen.note(row, format),
            false => seen.raise(row, format),
        };
        if let Err(error) = remembered {
            tracing::error!(%error, "the change is in force, but this host could not record its revision: an older copy of the store would not be noticed until the next change");
        }
    }

    /// Makes durable what this host has seen of a shared store.
    pub(super) fn settle_memory(&mut self) {
        if let Some(seen) = &mut self.seen
            && let Err(error) = seen.sync()
        {
            tracing::error!(%error, "this host could not record the revision of the store: after a power cut, an older copy would not be noticed");
        }
    }

    /// Whether a store in doubt may be opened again now. If so, the next time is later.
    pub(super) fn may_retry(&mut self) -> bool {
        let Retry { clock, at, pause } = &mut self.retry;
        let now = clock.monotonic();
        if now < *at {
            return false;
        }
        *at = now + *pause;
        *pause = (*pause * 2).min(PAUSE_MAX);
        true
    }
}
