//! The one writer of a store: seals a change, commits it with the head, and says what to publish.
//!
//! A change costs what it changes: the terms of the records that it touches leave the sum and enter
//! it, and nothing else of the set is read. A term that leaves comes from this process's memory and
//! never from the row that lies in the store, which somebody may have put there.
//!
//! **Doubt.** When a commit fails, or its future is dropped, what the store holds is unknown. From
//! then on the writer takes no change, until it has closed the store, opened it anew, verified what
//! it holds, and has seen one commit succeed. What the store holds is published before that commit
//! is tried: a change that turns out to be durable is in force even while the disk is full.

use crate::clock::Clock;
use crate::crypto::entropy::Entropy;
use crate::key::arn::Region;
use crate::keystore::loaded::{Name, Verified};
use crate::keystore::record::{self, Head, Record, Sealer, Term};
use crate::keystore::seen::SeenFile;
use crate::keystore::sqlite::{Commit, Store};
use crate::keystore::{Change, KeystoreError, Snapshot, StoreLock};
use crate::metrics::Metrics;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// Between the first two tries to open a store again; each further pause is twice as long.
const PAUSE_MIN: Duration = Duration::from_secs(1);
/// A try reads the whole store: seconds where it is large.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// What only the writer needs.
pub(super) struct Writer {
    pub(super) path: PathBuf,
    pub(super) store: Box<dyn Store>,
    sealer: Sealer,
    head: Head,
    /// Of every record but the head. Secret, as the sum is: see [`record`].
    terms: BTreeMap<Name, Term>,
    seen: Option<SeenFile>,
    /// The highest revision that a head was sealed for, committed or not: none is used twice.
    sealed: u64,
    /// Whether what the store holds may be another set than `head` says.
    in_doubt: bool,
    /// Whether what is published may be another set than the store holds.
    is_unknown: bool,
    pub(super) retry: Retry,
    _lock: Option<StoreLock>,
}

/// What a writer is handed.
pub(super) struct Means<'a> {
    pub(super) region: &'a Region,
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
        store: Box<dyn Store>,
        sealer: Sealer,
        verified: (Head, BTreeMap<Name, Term>),
        seen: Option<SeenFile>,
        lock: Option<StoreLock>,
    ) -> Self {
        let (head, terms) = verified;
        Self {
            path,
            store,
            sealer,
            head,
            terms,
            seen,
            sealed: head.revision,
            in_doubt: false,
            is_unknown: false,
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

    /// In doubt from now on if the store is not the one that was opened.
    ///
    /// # Errors
    /// [`KeystoreError::Replaced`].
    pub(super) fn check_in_place(&mut self) -> Result<(), KeystoreError> {
        self.store.check_in_place().inspect_err(|_| {
            self.in_doubt = true;
            self.is_unknown = true;
        })
    }

    /// Makes `changes` of `current` durable, and returns what is to be published then.
    ///
    /// # Errors
    /// [`KeystoreError`]; unless the writer is in doubt now, nothing has changed.
    pub(super) async fn write(
        &mut self,
        current: &Snapshot,
        changes: Vec<Change>,
        means: &Means<'_>,
    ) -> Result<Snapshot, KeystoreError> {
        let mut next = current.clone();
        next.revision = self.sealed + 1;
        let mut head = Head {
            revision: next.revision,
            ..self.head
        };
        let mut touched: BTreeMap<Name, Option<(Record, Term)>> = BTreeMap::new();
        let mut takes_secrets = false;
        for change in changes {
            let row = next.change(change, means.region);
            takes_secrets |= row.takes_secrets;
            let name = (row.kind, row.id.clone());
            let put = match row.plaintext {
                None => None,
                Some(plaintext) => {
                    let (kind, id, revision) = (row.kind, row.id, next.revision);
                    let record = self
                        .sealer
                        .seal(kind, id, revision, &plaintext, means.entropy)?;
                    let term = self.sealer.term(&record);
                    record::toggle(&mut head.sum, &term);
                    head.records += 1;
                    Some((record, term))
                }
            };
            let before = match touched.insert(name.clone(), put) {
                Some(earlier) => earlier.map(|(_, term)| term),
                None => self.terms.get(&name).copied(),
            };
            if let Some(term) = before {
                record::toggle(&mut head.sum, &term);
                head.records -= 1;
            }
        }
        self.commit(head, touched, takes_secrets, means).await?;
        Ok(next)
    }

    /// What is there once the store was opened anew: what it holds if that is not `current`. To be
    /// published before [`Self::prove`].
    ///
    /// # Errors
    /// [`KeystoreError`]; the doubt stays.
    pub(super) async fn reread(
        &mut self,
        means: &Means<'_>,
    ) -> Result<Option<Snapshot>, KeystoreError> {
        let contents = self.store.reopen().await?;
        let verified = Verified::again(&contents, &self.sealer, means.region);
        let verified = verified.map_err(|source| KeystoreError::Corrupt {
            path: self.path.clone(),
            source,
        })?;
        if verified.head.revision < self.head.revision {
            let path = self.path.clone();
            return Err(KeystoreError::Replaced { path });
        }
        let moved = verified.head != self.head;
        self.head = verified.head;
        self.terms = verified.terms;
        self.sealed = self.sealed.max(self.head.revision);
        self.is_unknown = false;
        Ok(moved.then_some(verified.snapshot))
    }

    /// Ends the doubt by a commit that changes nothing but the revision, which it returns: a disk
    /// that is still full is found here and not by a caller.
    ///
    /// # Errors
    /// [`KeystoreError`]; the doubt stays.
    pub(super) async fn prove(&mut self, means: &Means<'_>) -> Result<u64, KeystoreError> {
        let head = Head {
            revision: self.sealed + 1,
            ..self.head
        };
        self.commit(head, BTreeMap::new(), true, means).await?;
        self.retry.pause = PAUSE_MIN;
        Ok(head.revision)
    }

    async fn commit(
        &mut self,
        head: Head,
        touched: BTreeMap<Name, Option<(Record, Term)>>,
        takes_secrets: bool,
        means: &Means<'_>,
    ) -> Result<(), KeystoreError> {
        let sealed = self.sealer.seal_head(&head, means.entropy)?;
        let mut commit = Commit {
            expected: self.head.revision,
            head: sealed,
            puts: Vec::new(),
            removals: Vec::new(),
            takes_secrets,
        };
        let mut terms = Vec::with_capacity(touched.len());
        for (name, put) in touched {
            terms.push((name.clone(), put.as_ref().map(|(_, term)| *term)));
            match put {
                Some((record, _)) => commit.puts.push(record),
                None => commit.removals.push(name),
            }
        }
        self.sealed = head.revision;
        // Set before the commit is awaited: dropped in the middle, it leaves the outcome unknown.
        self.in_doubt = true;
        self.is_unknown |= !terms.is_empty();
        let clock = Clock::system();
        self.store.commit(commit).await?;
        means.metrics.keystore_commits.increment(1);
        means
            .metrics
            .keystore_commit_seconds
            .record(clock.monotonic());
        // From here on the change is durable, and nothing may keep it from being in force.
        if let Some(seen) = &mut self.seen
            && let Err(error) = seen.raise(head.revision, head.format)
        {
            tracing::error!(%error, "the change is in force, but this host's memory of it could not be written: a copy of the store from before would not be noticed until the next change");
        }
        self.head = head;
        for (name, term) in terms {
            match term {
                Some(term) => drop(self.terms.insert(name, term)),
                None => drop(self.terms.remove(&name)),
            }
        }
        self.in_doubt = false;
        self.is_unknown = false;
        Ok(())
    }

    /// Whether a store in doubt may be opened again now; if so, the next time is later.
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
