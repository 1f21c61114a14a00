//! Backups of a store: a folder with every sealed record and the head, and a manifest that is
//! written when all of it is there and verified.
//!
//! The records are in an SQLite file that is a store by itself. The root key is not in it. A daemon
//! hands its records out as [`frames`], each authenticated on its way, so a backup needs neither
//! the daemon's files nor the root key.
//!
//! This module does not decide who may read a store, and asks no one before a restore.

pub mod folder;
pub mod frames;
mod restore;
mod source;
mod written;

pub use folder::{BackupError, Folder, Manifest};
pub use restore::{Counts, Difference, Plan, Present, Restored};
pub use source::{Chunks, Source, Step};
pub use written::write;

#[cfg(test)]
mod tests;
