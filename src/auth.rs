//! Credentials to a principal: a request's signature, or the kernel's word on who is at the other end of a Unix socket.
//!
//! A request with an `Authorization` header is judged by it alone and never falls back to peer credentials.

pub mod canonical;
pub mod error;
pub mod peer;
pub mod sigv4;

pub use error::AuthError;
pub use peer::{Peer, PeerMap};
pub use sigv4::{Credentials, Verifier};
