//! The primitives that Keymill uses: RustCrypto's AES, GHASH, SHA-2 and HMAC, and ChaCha20 as a
//! generator; aws-lc's RSA, elliptic curves and HMAC for asymmetric and HMAC keys, beside which
//! dalek's Ed25519 has the one scheme that aws-lc-rs lacks. No module here implements a primitive
//! of its own.

pub mod agreement;
pub mod ber;
mod ed25519ph;
pub mod entropy;
pub mod gcm;
pub mod mac;
pub mod oaep;
pub mod pair;
pub mod secret;
pub mod signature;
pub mod stack;
pub mod wrapping;
pub mod xaes;
