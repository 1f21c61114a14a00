//! The root key: where it comes from, and the sub-keys derived from it.

use crate::crypto::secret::Secret;

/// What seals every record at rest.
pub struct RootKey(#[expect(dead_code, reason = "stub")] Secret<32>);
