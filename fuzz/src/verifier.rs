//! A verifier of signatures, and one user with an access key.

use keymill::auth::Verifier;
use keymill::clock::Timestamp;
use keymill::crypto::secret::{Secret, SecretBytes};
use keymill::key::regions::Regions;
use keymill::keystore::{AccessKey, PrincipalEntry, Snapshot};
use keymill::policy::Principal;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

/// The one that AWS's documentation uses, so that dictionaries and corpora from there get past the
/// first check.
pub const ACCESS_KEY_ID: &str = "AKIDEXAMPLE";
/// 2026-01-15T12:00:00Z
pub const NOW: Timestamp = Timestamp(1_768_478_400_000_000);

/// As the daemon verifies, with the difference in time that it allows.
pub static VERIFIER: LazyLock<Verifier> = LazyLock::new(|| {
    let token_key = Arc::new(Secret::filled(|bytes| bytes.fill(7)));
    let regions = Regions::one("aws", "us-east-1");
    Verifier::new(&regions, Duration::from_secs(300), token_key)
});

/// The user's access key is the only one.
pub static SNAPSHOT: LazyLock<Snapshot> = LazyLock::new(|| {
    let access_key = AccessKey::new(ACCESS_KEY_ID.to_owned(), secret());
    let principal = Principal::new("arn:aws:iam::111122223333:user/fuzz", Vec::new());
    let principal = principal.expect("a user's ARN");
    let entry = Arc::new(PrincipalEntry::new(principal, vec![Arc::new(access_key)]));
    let mut snapshot = Snapshot::default();
    snapshot.access_keys.insert(ACCESS_KEY_ID.to_owned(), entry);
    snapshot
});

/// The secret access key, of 40 bytes.
#[must_use]
pub fn secret() -> SecretBytes {
    SecretBytes::filled(40, |bytes| bytes.fill(b'x'))
}
