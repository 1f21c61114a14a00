//! The records of a checked store on their way to another place, and the head that they have there:
//! at a later revision, and, where the place is of the other kind, with the head of this host's
//! audit log under the name that it has there.

use crate::crypto::entropy::Entropy;
use crate::keystore::KeystoreError;
use crate::keystore::checked::{Checked, Summary};
use crate::keystore::record::{self, Head, Kind, Record};

/// Records that leave one place for another.
pub struct Carried {
    from: Checked,
    /// The head of the records that were handed out so far and are still to come as they are.
    head: Head,
    renamed: Option<Renamed>,
    /// The record that gets another name.
    aside: Option<Record>,
    /// The record that has this name already. It goes if there is one that gets it.
    in_its_place: Option<Record>,
    has_ended: bool,
}

/// The ids of the head of this host's audit log.
pub(super) struct Renamed {
    /// In the store that is read.
    pub(super) from: String,
    /// In the one that is written.
    pub(super) to: String,
}

impl Carried {
    /// The same records as a later state of the store.
    #[must_use]
    pub fn at(revision: u64, from: Checked) -> Self {
        let head = Head {
            revision,
            ..from.opened()
        };
        Self {
            from,
            head,
            renamed: None,
            aside: None,
            in_its_place: None,
            has_ended: false,
        }
    }

    /// The same records, with the head of an audit log under another name.
    pub(super) fn renaming(revision: u64, from: Checked, renamed: Option<Renamed>) -> Self {
        Self {
            renamed,
            ..Self::at(revision, from)
        }
    }

    /// The next records, in the order of kind and id but for the one that is renamed, which is the
    /// last; `None` behind them.
    ///
    /// # Errors
    /// [`KeystoreError`], also when anything is wrong with what is read.
    pub(super) async fn next(
        &mut self,
        entropy: &Entropy,
    ) -> Result<Option<Vec<Record>>, KeystoreError> {
        let Some(mut batch) = self.from.next().await? else {
            let is_first = !std::mem::replace(&mut self.has_ended, true);
            let last = if is_first { self.last(entropy)? } else { None };
            return Ok(last.map(|last| vec![last]));
        };
        if let Some(source) = batch.findings.pop() {
            return Err(self.from.place().corrupt(source));
        }
        let records = batch.records.into_iter();
        Ok(Some(
            records.filter_map(|record| self.as_it_is(record)).collect(),
        ))
    }

    /// The record, unless it has to wait for its name.
    fn as_it_is(&mut self, record: Record) -> Option<Record> {
        let renamed = self.renamed.as_ref();
        let renamed = renamed.filter(|_| record.kind == Kind::Audit);
        let waits = match renamed {
            Some(Renamed { from, .. }) if *from == record.id => &mut self.aside,
            Some(Renamed { to, .. }) if *to == record.id => &mut self.in_its_place,
            _ => return Some(record),
        };
        record::toggle(&mut self.head.sum, &self.from.sealer().term(&record));
        self.head.records -= 1;
        *waits = Some(record);
        None
    }

    /// The record that had to wait.
    fn last(&mut self, entropy: &Entropy) -> Result<Option<Record>, KeystoreError> {
        let sealer = self.from.sealer();
        let last = match (&self.renamed, self.aside.take(), self.in_its_place.take()) {
            (Some(Renamed { to, .. }), Some(record), _) => {
                let opened = sealer.open(&record);
                let plaintext = opened.map_err(|source| self.from.place().corrupt(source))?;
                let revision = self.head.revision;
                let sealed = sealer.seal(Kind::Audit, to.clone(), revision, &plaintext, entropy)?;
                Some(sealed)
            }
            (_, _, in_its_place) => in_its_place,
        };
        if let Some(last) = &last {
            record::toggle(&mut self.head.sum, &sealer.term(last));
            self.head.records += 1;
        }
        Ok(last)
    }

    /// What the records are held to where they are going, once all were handed out.
    pub(super) fn opened(&self) -> Head {
        self.head
    }

    /// The same, sealed.
    ///
    /// # Errors
    /// [`KeystoreError::Entropy`].
    pub(super) fn head(&self, entropy: &Entropy) -> Result<Record, KeystoreError> {
        Ok(self.from.sealer().seal_head(&self.head, entropy)?)
    }

    /// What was read so far.
    #[must_use]
    pub fn summary(&self) -> Summary {
        self.from.summary()
    }
}
