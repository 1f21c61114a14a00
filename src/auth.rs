//! From credentials to a principal: a request's signature, the kernel's record of the process at
//! the other end of a Unix socket, or a TLS client's certificate.
//!
//! A request with an `Authorization` header is authenticated by that header alone. It is never
//! authenticated by its connection instead.
//!
//! This module does not remember signatures. An attacker who can read the wire can send a request
//! again within the time window, as with AWS.

mod authorization;
mod canonical;
pub mod certificate;
pub mod error;
pub mod peer;
mod presigned;
pub mod scope_service;
pub mod session;
pub mod signatures;
mod signing_key;
pub mod sigv4;
mod time;

pub use certificate::{Client, ClientMap};
pub use error::AuthError;
pub use peer::{Peer, PeerMap, Peers};
pub use scope_service::ScopeService;
pub use session::Session;
pub use sigv4::{Claim, Credentials, Head, Signer, Signing, Verifier};
