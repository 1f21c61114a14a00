//! Sealed record and sealed head.
