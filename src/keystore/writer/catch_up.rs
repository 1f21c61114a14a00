//! How a writer follows the other nodes that write to its store.
//!
//! What has changed since the revision in force is read as one state of the store, with its head.
//! It is taken only if it leads to that head: the terms of the changed records leave the sum and
//! enter it, and the result must be the sum that the head holds. A record of before comes from this
//! process's memory, so what was edited in an old row does not matter here, and a start finds it.
//! Where the sum does not fit, because a node is far behind or rows were changed from outside, the
//! whole store is read and verified as at a start. If that fails too, nothing is taken.
//!
//! A head of an earlier revision, or another head of the same revision, is never taken. Nor is a
//! later head that what has changed does not lead to, although the store remembers all of it and is
//! sound as a whole: it is of another history. A failover has lost changes that this node has seen,
//! and another node has made further ones since.

use crate::key::KeyId;
use crate::key::regions::{RegionalId, Regions, Unnamed};
use crate::keystore::body::{self, Entry};
use crate::keystore::opening::Verified;
use crate::keystore::reading::Reading;
use crate::keystore::record::{self, Corrupt, Head, Kind, Record, Term};
use crate::keystore::store::{Changed, Changes, REMEMBERED_REVISIONS};
use crate::keystore::terms::Name;
use crate::keystore::writer::{WriteContext, Writer};
use crate::keystore::{Change, KeystoreError, Snapshot, related};
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

/// A commit that was sent.
#[derive(Clone)]
pub(in crate::keystore) struct Pending {
    pub(in crate::keystore) request: Uuid,
    /// The head that it was to put.
    pub(in crate::keystore) head: Record,
}

/// What other nodes have done meanwhile.
pub(in crate::keystore) struct CaughtUp {
    /// What is to be published.
    pub(in crate::keystore) snapshot: Snapshot,
    /// The keys whose entry has changed.
    pub(in crate::keystore) keys: BTreeSet<KeyId>,
    /// Whether the commit that was asked about is in the store.
    pub(in crate::keystore) has_pending: bool,
}

/// Whether a head that is sound is one that follows the one in force.
#[derive(Clone, Copy)]
enum History {
    AsSeen,
    Other,
}

/// A record that has changed: what is to be done with its term, and its content.
struct Step {
    name: Name,
    term: Option<Term>,
    entry: Option<Entry>,
}

impl Writer {
    pub(in crate::keystore) fn is_shared(&self) -> bool {
        self.is_shared
    }

    /// The last commit that was sent.
    pub(in crate::keystore) fn pending(&self) -> Option<&Pending> {
        self.pending.as_ref()
    }

    /// The head's row, as far as it is known.
    pub(in crate::keystore) fn sealed_head(&self) -> Option<&Record> {
        self.sealed_head.as_ref()
    }

    /// Sets the head's row that was verified at the start.
    pub(in crate::keystore) fn set_sealed_head(&mut self, head: Record) {
        self.sealed_head = Some(head);
    }

    /// Takes over what other nodes have changed; `None` if that is nothing. `sought` is a commit of
    /// this process whose outcome is unknown.
    ///
    /// # Errors
    /// [`KeystoreError`]; what is in force stays so.
    pub(in crate::keystore) async fn catch_up(
        &mut self,
        current: &Snapshot,
        sought: Option<&Pending>,
        context: &WriteContext<'_>,
    ) -> Result<Option<CaughtUp>, KeystoreError> {
        let Some(shared) = self.store.shared() else {
            return Ok(None);
        };
        let changes = shared.changes(self.head.revision).await?;
        let head = self.newer_head(&changes.head);
        let Some(head) = head.map_err(|source| self.corrupt(source))? else {
            return Ok(None);
        };
        let has_pending = sought.is_some_and(|sought| {
            let mut requests = changes.changed.iter().map(|one| one.request);
            changes.head == sought.head || requests.any(|request| request == sought.request)
        });
        let mut history = History::AsSeen;
        let taken = match self.steps(&changes, &head, context.regions) {
            Ok(steps) => self.taken(current, steps, &head, context.regions),
            Err(_) if self.is_forked => return Err(self.forked()),
            Err(error) => {
                tracing::info!(%error, "the whole store is read again");
                let is_remembered = head.revision - self.head.revision <= REMEMBERED_REVISIONS;
                if is_remembered && matches!(error, Corrupt::Set { .. }) {
                    history = History::Other;
                }
                None
            }
        };
        let (snapshot, keys) = match taken {
            Some(taken) => {
                self.accept(head, changes.head);
                taken
            }
            None => self.read_whole(current, history, context.regions).await?,
        };
        Ok(Some(CaughtUp {
            snapshot,
            keys,
            has_pending,
        }))
    }

    /// The head, if it is newer than the one in force.
    fn newer_head(&self, row: &Record) -> Result<Option<Head>, Corrupt> {
        let head = self.sealer.open_own_head(row)?;
        let seen = self.head.revision;
        if head.revision < seen {
            return Err(Corrupt::WentBack {
                found: head.revision,
                seen,
            });
        }
        // The format only grows.
        if head.format < self.head.format {
            let revision = head.revision;
            return Err(Corrupt::Forked { revision });
        }
        if head.revision > seen {
            return Ok(Some(head));
        }
        match &self.sealed_head {
            Some(known) if known != row => Err(Corrupt::Forked { revision: seen }),
            _ => Ok(None),
        }
    }

    /// Opens the changed records, and checks that they lead to the head.
    fn steps(
        &self,
        changes: &Changes,
        head: &Head,
        regions: &Regions,
    ) -> Result<Vec<Step>, Corrupt> {
        let (mut sum, mut records) = (self.head.sum, self.head.records);
        let mut steps = BTreeMap::new();
        for changed in &changes.changed {
            let step = self.step(changed, head, regions)?;
            if let Some(term) = self.terms.get(&step.name) {
                record::toggle(&mut sum, term);
                records -= 1;
            }
            if let Some(term) = &step.term {
                record::toggle(&mut sum, term);
                records += 1;
            }
            // The sum does not show a pair.
            if steps.insert(step.name.clone(), step).is_some() {
                return Err(Corrupt::Twice(changed.kind, changed.id.clone()));
            }
        }
        if (sum, records) != (head.sum, head.records) {
            return Err(Corrupt::Set {
                revision: head.revision,
                found: records,
                expected: head.records,
            });
        }
        Ok(steps.into_values().collect())
    }

    fn step(&self, changed: &Changed, head: &Head, regions: &Regions) -> Result<Step, Corrupt> {
        let name = (changed.kind, changed.id.clone());
        if changed.revision > head.revision {
            return Err(Corrupt::Newer(name.0, name.1, changed.revision));
        }
        let Some(body) = &changed.body else {
            return Ok(Step {
                name,
                term: None,
                entry: None,
            });
        };
        let record = Record {
            kind: changed.kind,
            id: changed.id.clone(),
            revision: changed.revision,
            body: body.clone(),
        };
        let plaintext = self.sealer.open(&record)?;
        Ok(Step {
            name,
            term: Some(self.sealer.term(&record)),
            entry: Some(body::decode(&record, &plaintext, regions)?),
        })
    }

    /// The snapshot after these steps, if they go together; the terms are those of its records
    /// then.
    fn taken(
        &mut self,
        current: &Snapshot,
        steps: Vec<Step>,
        head: &Head,
        regions: &Regions,
    ) -> Option<(Snapshot, BTreeSet<KeyId>)> {
        let mut next = current.clone();
        next.revision = head.revision;
        let mut terms = Vec::with_capacity(steps.len());
        for Step { name, term, entry } in steps {
            match entry {
                Some(entry) => next.put(entry),
                // A record that is gone on both sides says nothing.
                None if self.terms.get(&name).is_none() => {}
                None => {
                    if let Some(change) = removal(&name, regions).ok()? {
                        next.change(change, regions);
                    }
                }
            }
            terms.push((name, term));
        }
        let keys = terms.iter().filter(|(name, _)| name.0 == Kind::Key);
        let keys = keys.filter_map(|(name, _)| regions.read_key(&name.1).ok());
        let keys: Vec<RegionalId> = keys.collect();
        let ids = keys.iter().map(|key| key.id).collect();
        related::relate_changed(&mut next, &ids).ok()?;
        next.check_key_stores().ok()?;
        let keys = keep_fences(current, &mut next, keys.into_iter());
        for (name, term) in terms {
            match term {
                Some(term) => drop(self.terms.insert(&name, term)),
                None => drop(self.terms.remove(&name)),
            }
        }
        Some((next, keys))
    }

    async fn read_whole(
        &mut self,
        current: &Snapshot,
        history: History,
        regions: &Regions,
    ) -> Result<(Snapshot, BTreeSet<KeyId>), KeystoreError> {
        self.store.let_go().await?;
        let reading = Reading::start(self.place.clone()).await?;
        let row = reading.head().clone();
        self.newer_head(&row)
            .map_err(|source| self.corrupt(source))?;
        let verified = Verified::again(reading, &self.sealer, regions).await?;
        if let History::Other = history {
            self.is_forked = true;
            return Err(self.forked());
        }
        let mut next = verified.snapshot;
        let all: BTreeSet<_> = current
            .keys
            .keys()
            .chain(next.keys.keys())
            .copied()
            .collect();
        let keys = keep_fences(current, &mut next, all.into_iter());
        self.terms = verified.terms;
        self.accept(verified.head, row);
        Ok((next, keys))
    }

    /// The store is at this head, and this process with it: whatever was in doubt is decided, since
    /// a commit of before cannot succeed any more.
    fn accept(&mut self, head: Head, row: Record) {
        self.remember(&row, head.format);
        self.head = head;
        self.sealed_head = Some(row);
        self.sealed = self.sealed.max(head.revision);
        self.in_doubt = false;
        self.is_forked = false;
    }

    fn forked(&self) -> KeystoreError {
        let revision = self.head.revision;
        self.corrupt(Corrupt::Forked { revision })
    }

    fn corrupt(&self, source: Corrupt) -> KeystoreError {
        let path = self.path.clone();
        KeystoreError::Corrupt { path, source }
    }
}

/// The change that removes the content of this record; `None` if a snapshot has nothing of it.
fn removal((kind, id): &Name, regions: &Regions) -> Result<Option<Change>, Unnamed> {
    let text = || Unnamed::Text;
    Ok(Some(match kind {
        Kind::Key => Change::RemoveKey(regions.read_key(id)?),
        Kind::KeyPolicy => Change::RemoveKeyPolicy(regions.read_key(id)?),
        Kind::Alias => {
            let (region, id) = regions.read(id)?;
            let (account, name) = id.split_once(' ').ok_or_else(text)?;
            let account = account.parse().map_err(|_| text())?;
            Change::RemoveAlias(region, account, name.parse().map_err(|_| text())?)
        }
        Kind::Principal => Change::RemovePrincipal(id.clone()),
        Kind::Grant => {
            let (key, id) = id.split_once(' ').ok_or_else(text)?;
            Change::RemoveGrant(regions.read_key(key)?, id.parse().map_err(|_| text())?)
        }
        Kind::KeyStore => {
            let (_, id) = regions.read(id)?;
            Change::RemoveKeyStore(id.parse().map_err(|_| text())?)
        }
        Kind::Audit => Change::RemoveAuditHead(id.clone()),
        Kind::Head | Kind::Uses => return Ok(None),
    }))
}

/// Of these keys, those that are used as before keep their fence, and with it their pooled keys.
/// Returns the others that have changed. A fence never goes back.
fn keep_fences(
    current: &Snapshot,
    next: &mut Snapshot,
    keys: impl Iterator<Item = RegionalId>,
) -> BTreeSet<KeyId> {
    let mut changed = BTreeSet::new();
    for key in keys {
        let (Some(old), Some(entry)) = (current.keys.get(&key), next.keys.get(&key)) else {
            changed.insert(key.id);
            continue;
        };
        let fence = if entry.is_used_as(old) {
            old.fence
        } else {
            changed.insert(key.id);
            entry.fence.max(next.revision)
        };
        if entry.fence != fence {
            let entry = entry.with_fence(fence);
            next.put_key(entry);
        }
    }
    changed
}
