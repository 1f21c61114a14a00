//! The section `[signatures]` of the configuration.

use serde::{Deserialize, Serialize};

/// How signatures are verified.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signatures {
    /// By how many seconds a caller's clock may differ, either way.
    pub skew_seconds: u64,
}

impl Default for Signatures {
    /// AWS's own (AWS General Reference, "Signature Version 4").
    fn default() -> Self {
        Self { skew_seconds: 300 }
    }
}
