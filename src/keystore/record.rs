//! Sealed records and the sealed head: bytes, associated data, and what each refusal says.
//!
//! A **record** is a row (kind, id, revision, body). Its body is sealed with XAES-256-GCM under the record sub-key of the root key;
//! store id, kind, id and revision are the associated data, so a body opens only where it was written. The **head** is one more row:
//! it holds the store id, a revision that only grows, the number of records, and the XOR over all records of their **shares**,
//! `HMAC-SHA-256(sum sub-key, kind ‖ id ‖ revision ‖ SHA-256(body))`, each field length-prefixed. Every change updates it in its own
//! transaction. Loading computes it anew: a record that was edited does not open; one that was removed, added or put back in an older
//! version changes the sum; one of another store has another store id. A **roster** beside the records (kind, id, share) only serves to
//! name the record that is wrong: the head decides.
//!
//! Plaintext of the head, version 1: `format 1 ‖ store id 16 ‖ records u64 ‖ sum 32`, integers big-endian. Its revision is the row's own.

use crate::crypto::entropy::{Entropy, EntropyError};
use crate::crypto::secret::{Secret, SecretBytes};
use crate::crypto::xaes;
use crate::keystore::RootKey;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

/// What a record holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// The head.
    Head,
    /// A KMS key with its material.
    Key,
    /// An alias.
    Alias,
    /// A principal with policies and credentials.
    Principal,
    /// A key policy, apart from its key's record: a new policy moves no fence.
    KeyPolicy,
    /// A grant.
    Grant,
    /// The head of the audit log.
    Audit,
    /// The last uses of the keys.
    Uses,
}

impl Kind {
    /// As the store spells it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Head => "head",
            Self::Key => "key",
            Self::Alias => "alias",
            Self::Principal => "principal",
            Self::KeyPolicy => "key-policy",
            Self::Grant => "grant",
            Self::Audit => "audit",
            Self::Uses => "uses",
        }
    }

    /// The kind of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [
            Self::Head,
            Self::Key,
            Self::Alias,
            Self::Principal,
            Self::KeyPolicy,
            Self::Grant,
            Self::Audit,
            Self::Uses,
        ]
        .into_iter()
        .find(|kind| kind.name() == name)
    }
}

/// A row of the store.
#[derive(Clone, PartialEq, Eq)]
pub struct Record {
    /// What it holds.
    pub kind: Kind,
    /// Key id (a key's and its policy's), `account alias`, ARN, or `key-id grant-id`; empty for the head, for the audit log's and for the last uses.
    pub id: String,
    /// The store's revision that wrote it.
    pub revision: u64,
    /// Sealed.
    pub body: Vec<u8>,
}

/// A store that does not add up. Each prints as the end of one line that begins with the store's path.
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
    /// The head's format is of a later version.
    #[error(
        "was written by a newer keymill (format {0}): upgrade, or restore a backup of format 1"
    )]
    Format(u8),
    /// A record does not open.
    #[error("has a record that was edited, swapped or copied from another store: {kind} {id} (revision {revision}); restore a backup", kind = .0.name(), id = .1, revision = .2)]
    Record(Kind, String, u64),
    /// A record is newer than the head.
    #[error("has a record that is newer than its head: {kind} {id} (revision {revision}); restore a backup", kind = .0.name(), id = .1, revision = .2)]
    Newer(Kind, String, u64),
    /// The roster has a record that is not there.
    #[error("has lost a record: {kind} {id}; restore a backup", kind = .0.name(), id = .1)]
    Missing(Kind, String),
    /// A record is there that the roster does not have.
    #[error("has a record that was added from outside: {kind} {id}; restore a backup", kind = .0.name(), id = .1)]
    Added(Kind, String),
    /// A record is not the version that the roster has.
    #[error("has a record in another version than was last written: {kind} {id} (revision {revision}); restore a backup", kind = .0.name(), id = .1, revision = .2)]
    Replaced(Kind, String, u64),
    /// Records and roster agree with each other but not with the head.
    #[error(
        "does not add up to what its head says: records and roster were changed together; restore a backup"
    )]
    Sum,
    /// The head is older than one that this host has seen.
    #[error(
        "is at revision {found}, but this host has seen revision {seen}: an older copy was put in its place; put the newer one back, or remove {file} to go back on purpose"
    )]
    RolledBack {
        /// The head's revision.
        found: u64,
        /// The revision seen.
        seen: u64,
        /// The file that remembers.
        file: String,
    },
    /// A row's kind is unknown.
    #[error("has a record of an unknown kind: {0}; upgrade keymill")]
    Kind(String),
    /// A record's plaintext is of an unknown layout.
    #[error("has a record of an unknown layout: {kind} {id}; upgrade keymill", kind = .0.name(), id = .1)]
    Layout(Kind, String),
}

/// The head's plaintext.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// The store's revision: the head row's own.
    pub revision: u64,
    /// Records beside the head.
    pub records: u64,
    /// XOR of their shares.
    pub sum: [u8; 32],
}

const FORMAT: u8 = 1;
const HEAD_BYTES: usize = 1 + 16 + 8 + 32;

/// Seals and opens the records of one store.
pub struct Sealer {
    record_key: Secret<32>,
    head_key: Secret<32>,
    sum_key: Secret<32>,
    store_id: [u8; 16],
}

impl Sealer {
    /// For a new store: draws its id.
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
            sum_key: root.subkey("head sum"),
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
        plaintext.push(FORMAT);
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

    /// Opens the head and, with it, the store's identity.
    ///
    /// # Errors
    /// [`Corrupt::Head`] or [`Corrupt::Format`].
    pub fn open_head(root: &RootKey, record: &Record) -> Result<(Self, Head), Corrupt> {
        let associated = fields(&[b"head", &record.revision.to_be_bytes()]);
        let plaintext = xaes::open(root.subkey("head").expose(), &associated, &record.body)
            .map_err(|_| Corrupt::Head)?;
        let plaintext = plaintext.expose();
        match plaintext.first() {
            Some(&FORMAT) => {}
            Some(&format) => return Err(Corrupt::Format(format)),
            None => return Err(Corrupt::Head),
        }
        let bytes: &[u8; HEAD_BYTES] = plaintext.try_into().map_err(|_| Corrupt::Head)?;
        let (store_id, rest) = bytes[1..].split_first_chunk::<16>().ok_or(Corrupt::Head)?;
        let (records, sum) = rest.split_first_chunk::<8>().ok_or(Corrupt::Head)?;
        let sum: [u8; 32] = sum.try_into().map_err(|_| Corrupt::Head)?;
        let records = u64::from_be_bytes(*records);
        Ok((
            Self::new(root, *store_id),
            Head {
                revision: record.revision,
                records,
                sum,
            },
        ))
    }

    /// A record's share of the head's sum.
    ///
    /// # Panics
    /// Never: HMAC takes keys of every length.
    #[must_use]
    pub fn share(&self, record: &Record) -> [u8; 32] {
        let mut mac = Hmac::<Sha256>::new_from_slice(self.sum_key.expose())
            .expect("HMAC takes keys of every length");
        mac.update(&fields(&[
            record.kind.name().as_bytes(),
            record.id.as_bytes(),
            &record.revision.to_be_bytes(),
            &Sha256::digest(&record.body),
        ]));
        mac.finalize().into_bytes().into()
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

/// Adds or takes away (XOR is its own inverse) a share of the sum.
pub fn toggle(sum: &mut [u8; 32], share: &[u8; 32]) {
    sum.iter_mut()
        .zip(share)
        .for_each(|(byte, other)| *byte ^= other);
}

/// Each field with its length before it (u32), so that no two lists of fields give the same bytes.
fn fields(fields: &[&[u8]]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for field in fields {
        bytes.extend_from_slice(&u32::try_from(field.len()).unwrap_or(u32::MAX).to_be_bytes());
        bytes.extend_from_slice(field);
    }
    bytes
}
