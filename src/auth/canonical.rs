//! Canonical request.
