//! The primitives that Keymill uses: RustCrypto's AES, SM2, SM3, SM4, GHASH, SHA-2, CMAC and HMAC,
//! and ChaCha20 as a generator; aws-lc's RSA, elliptic curves, ML-DSA and HMAC for asymmetric and
//! HMAC keys; dalek's Ed25519 and RustCrypto's ML-DSA and ML-KEM for the schemes that aws-lc-rs
//! lacks. No module here implements a primitive of its own.

pub mod agreement;
pub mod ber;
pub mod block_cipher;
mod ed25519ph;
pub mod encryption;
pub mod entropy;
pub mod enveloped_data;
pub mod gcm;
pub mod mac;
mod ml_dsa;
pub mod ml_kem;
pub mod oaep;
pub mod pair;
pub mod secret;
pub mod signature;
pub mod sm2;
pub mod sm4;
pub mod stack;
pub mod wrapping;
pub mod xaes;
