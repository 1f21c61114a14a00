//! Credentials to a principal: a request's signature, the kernel's word on who is at the other end
//! of a Unix socket, or a TLS client's certificate.
//!
//! A request with an `Authorization` header is judged by it alone and never falls back to what its
//! connection says.
//!
//! What this module does not do: remember signatures. Whoever reads the wire can send a request
//! again within the time window, as with AWS.

mod authorization;
mod canonical;
pub mod certificate;
pub mod error;
pub mod peer;
pub mod session;
mod signing_key;
pub mod sigv4;
mod time;

pub use certificate::{Client, ClientMap};
pub use error::AuthError;
pub use peer::{Peer, PeerMap, Peers};
pub use session::Session;
pub use sigv4::{Claim, Credentials, Head, Signer, Verifier};
