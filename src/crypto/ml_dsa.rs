//! ML-DSA (FIPS 204) of a message representative that the caller computed, the external mu, which
//! aws-lc-rs does not offer.
//!
//! `mu = SHAKE256(SHAKE256(public key, 64) ‖ 0 ‖ 0 ‖ message, 64)` for an empty context (FIPS 204,
//! algorithm 7, line 6). To sign it is to sign the message: a signature by one way verifies by the
//! other. It is not HashML-DSA.

use crate::crypto::pair::{PairSpec, PrivateKey};
use crate::crypto::stack::wiped_below;
use getrandom::SysRng;
use ml_dsa::{
    EncodedVerifyingKey, ExpandedSigningKey, MlDsa44, MlDsa65, MlDsa87, MlDsaParams, Signature,
    VerifyingKey,
};

/// Bytes of a message representative.
pub(super) const MU_BYTES: usize = 64;
/// Bytes of a `SubjectPublicKeyInfo` before the public key (RFC 9881).
const HEADER_BYTES: usize = 22;
/// Bytes of the stack that the library uses at most to sign: 196 KiB were measured (ML-DSA-87, the
/// expansion of the seed). It leaves copies of the seed there.
const STACK_BYTES: usize = 256 * 1024;

/// Signs a message representative, hedged: no two signatures are alike. `None` when the pair is not
/// one of ML-DSA, the length is another, or the operating system draws no bytes.
pub(super) fn sign(key: &PrivateKey, mu: &[u8]) -> Option<Vec<u8>> {
    let sign = match key.spec() {
        PairSpec::MlDsa44 => sign_by::<MlDsa44>,
        PairSpec::MlDsa65 => sign_by::<MlDsa65>,
        PairSpec::MlDsa87 => sign_by::<MlDsa87>,
        _ => return None,
    };
    wiped_below::<STACK_BYTES, _>(|| sign(key.expose_stored(), mu))
}

/// Whether a signature is one of this message representative, by the key of `spec` whose
/// `SubjectPublicKeyInfo` is `public`.
pub(super) fn verifies(spec: PairSpec, public: &[u8], mu: &[u8], signature: &[u8]) -> bool {
    let verifies = match spec {
        PairSpec::MlDsa44 => verifies_by::<MlDsa44>,
        PairSpec::MlDsa65 => verifies_by::<MlDsa65>,
        PairSpec::MlDsa87 => verifies_by::<MlDsa87>,
        _ => return false,
    };
    let public = public.get(HEADER_BYTES..).unwrap_or_default();
    verifies(public, mu, signature).unwrap_or(false)
}

fn sign_by<P: MlDsaParams>(seed: &[u8], mu: &[u8]) -> Option<Vec<u8>> {
    let key = ExpandedSigningKey::<P>::from_seed(seed.try_into().ok()?);
    let signature = key.sign_mu_randomized(mu.try_into().ok()?, &mut SysRng);
    Some(signature.ok()?.encode().to_vec())
}

fn verifies_by<P: MlDsaParams>(public: &[u8], mu: &[u8], signature: &[u8]) -> Option<bool> {
    let public: &EncodedVerifyingKey<P> = public.try_into().ok()?;
    let signature = Signature::<P>::try_from(signature).ok()?;
    let public = VerifyingKey::<P>::decode(public);
    Some(public.verify_mu(mu.try_into().ok()?, &signature))
}

#[cfg(test)]
mod tests;
