//! Tables with blobs, looked through without a change: how many live under which key and
//! generation, and whether every one of them opens.
//!
//! Memory is what the threads read, a count for each generation, and, for `verify`, what tells
//! blobs apart (`table::distinct`): the same for any number of rows.

pub mod census;
pub mod verify;

pub use census::{Census, census};
pub use verify::{Check, Findings, Remote, Store, verify};

use crate::key::KeyId;
use crate::table::{Object, Place};
use std::collections::BTreeMap;

/// Generations that are told apart at most: more is no table of wrapped keys.
pub const GENERATIONS_MAX: usize = 100_000;
/// Rows that are told of at most.
pub const TOLD_MAX: usize = 1000;

/// What a blob's header and length say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Group {
    /// The KMS key.
    pub key_id: KeyId,
    /// The generation of its material.
    pub generation: u32,
    /// The length of the data key.
    pub data_key_bytes: usize,
}

/// How many blobs there are of each.
pub type Groups = BTreeMap<Group, u64>;

/// A row that something is wrong with.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// Where it is.
    pub place: Place,
    /// What is wrong.
    pub reason: String,
}

impl Finding {
    /// The finding as a line.
    #[must_use]
    pub fn shown(&self, objects: &[Object]) -> String {
        let Self { place, reason } = self;
        let name = objects.get(place.file).map_or("", |object| &object.name);
        format!("{name}, row {}: {reason}", place.row)
    }
}

/// Findings on their way: all are counted, the first few are kept.
#[derive(Debug, Default)]
pub struct Found {
    /// All.
    pub count: u64,
    /// At most [`TOLD_MAX`].
    pub told: Vec<Finding>,
}

impl Found {
    /// Adds one.
    pub fn add(&mut self, place: Place, reason: String) {
        self.count += 1;
        if self.told.len() < TOLD_MAX {
            self.told.push(Finding { place, reason });
        }
    }

    fn extend(&mut self, other: Self) {
        self.count += other.count;
        let room = TOLD_MAX - self.told.len();
        self.told.extend(other.told.into_iter().take(room));
    }
}
