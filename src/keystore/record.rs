//! Sealed records and the sealed head: their bytes, their associated data, and the text of each
//! refusal.
//!
//! A **record** is a row (kind, id, revision, body). Its body is sealed with XAES-256-GCM under the
//! record sub-key of the root key; store id, kind, id and revision are the associated data, so a
//! body opens only where it was written. The **head** is one more row: it holds the store id, a
//! revision that only grows, the number of records, and the **sum**: the XOR over all records of
//! their **terms**, `HMAC-SHA-256(terms sub-key, kind ‖ id ‖ revision ‖ SHA-256(body))`, each field
//! length-prefixed. Every change updates it in its own transaction; loading computes it again.
//!
//! The terms are never stored and never leave this process. That makes their sum an authenticator
//! of the whole set; `docs/formats.md` has the argument.
//!
//! Plaintext of the head: `format 1 ‖ store id 16 ‖ records u64 ‖ sum 32`, integers big-endian. Its
//! revision is that of the row. Heads of format 1 sum other terms, which that format stored in the
//! clear: see `format1`. Format 3 differs from format 2 outside of the store, in what a host keeps
//! of it: see `seen`, and the header of the audit log's files.

use crate::crypto::entropy::{Entropy, EntropyError};
use crate::crypto::secret::{Secret, SecretBytes};
use crate::crypto::xaes;
use crate::key::regions::Region;
use crate::keystore::RootKey;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use std::sync::Arc;
use strum::{EnumString, IntoStaticStr};

mod mark;

/// The kind of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, EnumString, IntoStaticStr)]
#[strum(serialize_all = "kebab-case")]
pub enum Kind {
    /// The head.
    Head,
    /// A KMS key with its material.
    Key,
    /// An alias.
    Alias,
    /// A principal with policies and credentials.
    Principal,
    /// A key policy. It is not part of its key's record, so that a new policy does not move the
    /// fence.
    KeyPolicy,
    /// A grant.
    Grant,
    /// The head of the audit log of a node.
    Audit,
    /// The last uses of the keys.
    Uses,
    /// A custom key store with the credential of its proxy.
    KeyStore,
}

impl Kind {
    /// Its name in the store.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// A row of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The kind of its content.
    pub kind: Kind,
    /// The key id (for a key and for its policy), `account alias`, an ARN, `key-id grant-id`, the
    /// id of a custom key store, or the node of an audit log's head; empty for the head, the audit
    /// log's head of an embedded store and the last uses.
    pub id: String,
    /// The revision of the store in which it was written.
    pub revision: u64,
    /// The sealed content.
    pub body: Vec<u8>,
}

impl Record {
    /// Its name: kind and id, in whose order a store is read.
    #[must_use]
    pub fn name(&self) -> (&'static str, &str) {
        (self.kind.name(), &self.id)
    }
}

/// Why the content of a store is refused. Each error prints as the end of a line that begins with
/// the store's path.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Corrupt {
    /// There is no head.
    #[error("has no head record: restore the store from a backup")]
    NoHead,
    /// The head does not open.
    #[error(
        "has a head that does not open: the root key is not this store's, or the head was edited; use the root key that was created with the store, or restore a backup"
    )]
    Head,
    /// There is a mark in the place of the head.
    #[error(
        "is a copy that was not finished: run the same `keymill store copy` again, which goes on with it"
    )]
    Unfinished,
    /// The head has the format of a later version.
    #[error(
        "was written by a newer keymill (head of format {0}, this build knows {FORMAT}): upgrade keymill"
    )]
    Format(u8),
    /// The tables have another format than the head.
    #[error("has tables of format {tables} and a head of format {head}: restore a backup")]
    Mixed {
        /// SQLite's `user_version`.
        tables: u8,
        /// The format of the head.
        head: u8,
    },
    /// It was never opened by a version that writes the present format.
    #[error(
        "is of format {0}, which this command does not read: open it once with this keymill, which converts it"
    )]
    OldFormat(u8),
    /// A record does not open.
    #[error("has a record that was edited, swapped or copied from another store: {kind} {id} (revision {revision}); restore a backup", kind = .0.name(), id = .1, revision = .2)]
    Record(Kind, String, u64),
    /// A record is newer than the head.
    #[error("has a record that is newer than its head: {kind} {id} (revision {revision}); restore a backup", kind = .0.name(), id = .1, revision = .2)]
    Newer(Kind, String, u64),
    /// There are two rows of one kind and id, which the tables do not allow.
    #[error("has a record twice: {kind} {id}; restore a backup", kind = .0.name(), id = .1)]
    Twice(Kind, String),
    /// A symmetric encryption key is of another partition's cipher.
    #[error("was made in another partition: the China Regions (partition {china}) have SM4 keys and all others have AES-256 keys, which the key {0} contradicts; set `region` and `partition` as they were", china = Region::CHINA)]
    Partition(String),
    /// Format 1: the roster lists a record that is missing.
    #[error("has lost a record: {kind} {id}; restore a backup", kind = .0.name(), id = .1)]
    Missing(Kind, String),
    /// Format 1: there is a record that the roster does not list.
    #[error("has a record that was added from outside: {kind} {id}; restore a backup", kind = .0.name(), id = .1)]
    Added(Kind, String),
    /// Format 1: a record is not in the version that the roster lists.
    #[error("has a record in another version than was last written: {kind} {id} (revision {revision}); restore a backup", kind = .0.name(), id = .1, revision = .2)]
    Replaced(Kind, String, u64),
    /// Each record is valid in itself, but together they are not the set that was written.
    #[error(
        "does not hold the set of records of its revision {revision}: one or more were removed, added, or put back in an older version ({found} are there, {expected} were written); restore a backup"
    )]
    Set {
        /// The head's revision.
        revision: u64,
        /// Records that were found.
        found: u64,
        /// Records that the head counts.
        expected: u64,
    },
    /// The head is older than one that this host has seen.
    #[error(
        "is at revision {found}, but this host has seen revision {seen}: an older copy was put in its place; put the newer one back, or remove {file} to go back on purpose"
    )]
    RolledBack {
        /// The head's revision.
        found: u64,
        /// The revision seen.
        seen: u64,
        /// The file that remembers the revision.
        file: String,
    },
    /// The head of a shared store is older than the one that this process has seen.
    #[error(
        "went back to revision {found}, but this node has seen revision {seen}: a backup was put in its place, or a failover has lost changes; what is in force stays so, and no change is taken"
    )]
    WentBack {
        /// The head's revision.
        found: u64,
        /// The revision seen.
        seen: u64,
    },
    /// The head of a shared store is of the revision that this process has seen, and another one.
    #[error(
        "has another head of revision {revision} than this node has seen: a failover has lost changes; what is in force stays so, and no change is taken"
    )]
    Forked {
        /// The revision.
        revision: u64,
    },
    /// The head is of the revision that this host has seen, and another one.
    #[error(
        "has another head of revision {revision} than this host has seen: a failover has lost changes, or a copy with other ones was put in its place; put the right one back, or remove {file} to accept this one on purpose"
    )]
    OtherHead {
        /// The revision.
        revision: u64,
        /// The file that remembers the head.
        file: String,
    },
    /// The head is of an older format than the one in which this host has seen the store.
    #[error(
        "is of format {found}, but this host has seen it in format {seen}: an earlier copy was put in its place; put the newer one back, or remove {file} to go back on purpose"
    )]
    OlderFormat {
        /// The head's format.
        found: u8,
        /// The format seen.
        seen: u8,
        /// The file that remembers the format.
        file: String,
    },
    /// The record of what this host has seen of the store cannot be read.
    #[error(
        "cannot be compared with the revision that this host has seen: {file} is damaged; remove it to go on without the comparison"
    )]
    Seen {
        /// The damaged file.
        file: String,
    },
    /// A record is in a Region that is not served.
    #[error("has a record of Region {region}: {kind} {id}; name that Region in `regions`, and first the one that was first before", kind = .kind.name())]
    Region {
        /// The record's kind.
        kind: Kind,
        /// The record's id.
        id: String,
        /// The Region.
        region: String,
    },
    /// A multi-Region replica key has no primary key, or contradicts it.
    #[error("has a replica key that does not go with its primary key: {0}; restore a backup")]
    Related(String),
    /// A key is in a custom key store that is not there.
    #[error("has a key in a custom key store that is missing: {0}; restore a backup")]
    KeyStore(String),
    /// A row's kind is unknown.
    #[error("has a record of an unknown kind: {0}; upgrade keymill")]
    Kind(String),
    /// A record's plaintext has an unknown layout.
    #[error("has a record of an unknown layout: {kind} {id}; upgrade keymill", kind = .0.name(), id = .1)]
    Layout(Kind, String),
}

/// Represents one record in the head's sum. Secret: see the module.
pub type Term = [u8; 32];

/// The head's plaintext.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// The format. A change keeps it, so that nodes of two builds can write to one store.
    pub format: u8,
    /// The store's revision, which is that of the head row.
    pub revision: u64,
    /// The number of records besides the head.
    pub records: u64,
    /// The XOR of the terms of all records.
    pub sum: Term,
}

impl Head {
    /// The head of a store without records.
    #[must_use]
    pub fn first() -> Self {
        Self {
            format: FORMAT,
            revision: 1,
            records: 0,
            sum: [0; 32],
        }
    }

    fn parse(plaintext: &[u8], revision: u64) -> Result<([u8; 16], Self), Corrupt> {
        let format = match plaintext.first() {
            Some(&format) if (FORMAT_OF_OLD..=FORMAT).contains(&format) => format,
            Some(&format) => return Err(Corrupt::Format(format)),
            None => return Err(Corrupt::Head),
        };
        let bytes: &[u8; HEAD_BYTES] = plaintext.try_into().map_err(|_| Corrupt::Head)?;
        let (store_id, rest) = bytes[1..].split_first_chunk::<16>().ok_or(Corrupt::Head)?;
        let (records, sum) = rest.split_first_chunk::<8>().ok_or(Corrupt::Head)?;
        let head = Self {
            format,
            revision,
            records: u64::from_be_bytes(*records),
            sum: sum.try_into().map_err(|_| Corrupt::Head)?,
        };
        Ok((*store_id, head))
    }
}

/// The newest format, which new stores have. In a shared store that is older, the operator raises
/// it when all nodes know it.
pub const FORMAT: u8 = 3;
/// The format since which a host remembers the head that it has seen, and files of the audit log
/// name their node.
pub(super) const FORMAT_OF_MEMORY: u8 = 3;
/// The oldest format, whose tables and terms are others: it is read once and rewritten.
pub const FORMAT_OF_OLD: u8 = 1;
/// The format of tables since then.
pub const TABLES: u8 = 2;
const HEAD_BYTES: usize = 1 + 16 + 8 + 32;

/// Seals and opens the records of one store.
pub struct Sealer {
    record_key: Secret<32>,
    head_key: Secret<32>,
    term_key: Secret<32>,
    name_key: Arc<Secret<32>>,
    store_id: [u8; 16],
}

impl Sealer {
    /// Makes the sealer of a new store and draws the store's id.
    ///
    /// # Errors
    /// [`EntropyError`].
    pub fn create(root: &RootKey, entropy: &Entropy) -> Result<Self, EntropyError> {
        let mut store_id = [0; 16];
        entropy.draw(&mut store_id)?;
        Ok(Self::new(root, store_id))
    }

    fn new(root: &RootKey, store_id: [u8; 16]) -> Self {
        Self {
            record_key: root.subkey("record"),
            head_key: root.subkey("head"),
            term_key: root.subkey("head terms"),
            name_key: Arc::new(root.subkey("record names")),
            store_id,
        }
    }

    /// Seals a record.
    ///
    /// # Errors
    /// [`EntropyError`].
    pub fn seal(
        &self,
        kind: Kind,
        id: String,
        revision: u64,
        plaintext: &SecretBytes,
        entropy: &Entropy,
    ) -> Result<Record, EntropyError> {
        let associated = self.associated(kind, &id, revision);
        let body = xaes::seal(
            self.record_key.expose(),
            &associated,
            plaintext.expose(),
            entropy,
        )?;
        Ok(Record {
            kind,
            id,
            revision,
            body,
        })
    }

    /// Opens a record.
    ///
    /// # Errors
    /// [`Corrupt::Record`].
    pub fn open(&self, record: &Record) -> Result<SecretBytes, Corrupt> {
        let associated = self.associated(record.kind, &record.id, record.revision);
        xaes::open(self.record_key.expose(), &associated, &record.body)
            .map_err(|_| Corrupt::Record(record.kind, record.id.clone(), record.revision))
    }

    /// Seals the head.
    ///
    /// # Errors
    /// [`EntropyError`].
    pub fn seal_head(&self, head: &Head, entropy: &Entropy) -> Result<Record, EntropyError> {
        let mut plaintext = Vec::with_capacity(HEAD_BYTES);
        plaintext.push(head.format);
        plaintext.extend_from_slice(&self.store_id);
        plaintext.extend_from_slice(&head.records.to_be_bytes());
        plaintext.extend_from_slice(&head.sum);
        let associated = fields(&[b"head", &head.revision.to_be_bytes()]);
        let body = xaes::seal(self.head_key.expose(), &associated, &plaintext, entropy)?;
        Ok(Record {
            kind: Kind::Head,
            id: String::new(),
            revision: head.revision,
            body,
        })
    }

    /// Opens the head and reads the store's id from it.
    ///
    /// # Errors
    /// [`Corrupt::Head`], [`Corrupt::Unfinished`] or [`Corrupt::Format`].
    pub fn open_head(root: &RootKey, record: &Record) -> Result<(Self, Head), Corrupt> {
        let (store_id, head) = opened_head(&root.subkey("head"), record)?;
        Ok((Self::new(root, store_id), head))
    }

    /// Opens a head that must be of this same store.
    ///
    /// # Errors
    /// [`Corrupt::Head`], also for the head of another store, or [`Corrupt::Format`].
    pub fn open_own_head(&self, record: &Record) -> Result<Head, Corrupt> {
        match opened_head(&self.head_key, record)? {
            (store_id, head) if store_id == self.store_id => Ok(head),
            _ => Err(Corrupt::Head),
        }
    }

    /// The term of a record in the head's sum.
    #[must_use]
    pub fn term(&self, record: &Record) -> Term {
        term(&self.term_key, record)
    }

    /// The key of the digests of names in this process's memory.
    pub(super) fn name_key(&self) -> Arc<Secret<32>> {
        Arc::clone(&self.name_key)
    }

    fn associated(&self, kind: Kind, id: &str, revision: u64) -> Vec<u8> {
        fields(&[
            &self.store_id,
            kind.name().as_bytes(),
            id.as_bytes(),
            &revision.to_be_bytes(),
        ])
    }
}

fn opened_head(head_key: &Secret<32>, record: &Record) -> Result<([u8; 16], Head), Corrupt> {
    if mark::opened(head_key, record).is_some() {
        return Err(Corrupt::Unfinished);
    }
    let associated = fields(&[b"head", &record.revision.to_be_bytes()]);
    let plaintext =
        xaes::open(head_key.expose(), &associated, &record.body).map_err(|_| Corrupt::Head)?;
    Head::parse(plaintext.expose(), record.revision)
}

/// `HMAC-SHA-256(key, kind ‖ id ‖ revision ‖ SHA-256(body))`
///
/// # Panics
/// Never: HMAC takes keys of every length.
pub(super) fn term(key: &Secret<32>, record: &Record) -> Term {
    let mut mac =
        Hmac::<Sha256>::new_from_slice(key.expose()).expect("HMAC takes keys of every length");
    mac.update(&fields(&[
        record.kind.name().as_bytes(),
        record.id.as_bytes(),
        &record.revision.to_be_bytes(),
        &Sha256::digest(&record.body),
    ]));
    mac.finalize().into_bytes().into()
}

/// Adds a term to the sum or removes it: XOR is its own inverse.
pub fn toggle(sum: &mut Term, term: &Term) {
    sum.iter_mut()
        .zip(term)
        .for_each(|(byte, other)| *byte ^= other);
}

/// Joins the fields, each behind its length (u32), so that different lists give different bytes.
fn fields(fields: &[&[u8]]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for field in fields {
        bytes.extend_from_slice(&u32::try_from(field.len()).unwrap_or(u32::MAX).to_be_bytes());
        bytes.extend_from_slice(field);
    }
    bytes
}
