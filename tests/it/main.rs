//! The tests from the outside, in one program: each is linked with the whole crate, and linking is
//! what takes time. `cargo test --test it server::` runs those of one module.
//!
//! Two are programs of their own: `allocations.rs` replaces the allocator, and `loom.rs` replaces
//! the types of the files that it includes, and needs nothing else of the crate.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod audit;
mod cli;
mod envelope;
mod export;
mod flags;
mod layering;
mod links;
mod names;
mod paths;
mod permissions;
mod plain_english;
mod prose;
mod repository;
mod sdk;
mod server;
mod sigv4_oracles;
