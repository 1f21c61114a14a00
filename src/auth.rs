//! Credentials to a principal.

pub mod canonical;
pub mod peer;
pub mod sigv4;

pub use peer::{Peer, PeerMap};
