//! The primitives that Keymill uses: RustCrypto's AES, GHASH, SHA-2 and HMAC, and ChaCha20 as a
//! generator; aws-lc's RSA, elliptic curves and HMAC for asymmetric and HMAC keys. No module here
//! implements a primitive of its own.

pub mod agreement;
pub mod ber;
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
