//! The primitives that Keymill composes, and why these: RustCrypto's AES, GHASH, SHA-2 and HMAC, and
//! ChaCha20 as a generator. Nothing below implements a primitive of its own.

pub mod entropy;
pub mod gcm;
pub mod secret;
pub mod xaes;
