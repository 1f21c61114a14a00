//! The key that a job's blobs are under, and why there are no more of them.

use crate::crypto::entropy::EntropyError;
use crate::key::InvalidState;

/// The key that a part's blobs are under.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyIdentity {
    /// The KMS key.
    pub arn: String,
    /// The generation of its material.
    pub material_id: String,
}

/// Why there are no more blobs.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The key's state forbids it.
    #[error("{arn} {state}; no key was made under it")]
    State {
        /// The key.
        arn: String,
        /// What forbids it.
        state: InvalidState,
    },
    /// The operating system's entropy source failed.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
    /// The machine was cloned or suspended each time that the rows were bound.
    #[error("the machine was suspended or cloned again and again while keys were bound")]
    Cloned,
    /// The audit log could not be written.
    #[error("{reason}: the audit log would not have what was done, so it was not done; make room")]
    Unrecorded {
        /// Why.
        reason: String,
    },
    /// The daemon refused.
    #[error("the daemon refused: {code}{}{message}", if message.is_empty() { "" } else { ": " })]
    Refused {
        /// The KMS error code.
        code: String,
        /// Its message, if any.
        message: String,
    },
    /// The daemon could not be reached, the connection broke, or it answered that it cannot work
    /// now. Of several daemons: all of them.
    #[error("{endpoint}: {reason}")]
    Connection {
        /// Where, or how many there are.
        endpoint: String,
        /// Why; of several, each with its name.
        reason: String,
    },
    /// The work was stopped while the daemon was away.
    #[error("stopped while the daemon was away")]
    Stopped,
    /// TLS refused the daemon; no request was sent.
    #[error("{endpoint}: {reason}")]
    Untrusted {
        /// Where.
        endpoint: String,
        /// Why TLS refused it, and what to do about it.
        reason: String,
    },
    /// The answer is not that of a Keymill daemon.
    #[error("{endpoint} answered {reason}; is it a keymill daemon of this version?")]
    Answer {
        /// Where.
        endpoint: String,
        /// The fault in it.
        reason: String,
    },
    /// The key is of another kind.
    #[error(
        "{0} is not a symmetric encryption key with material of its own here, so jobs wrap no data keys under it; choose another key"
    )]
    NoMaterial(String),
    /// The key was rotated within a part.
    #[error("the key's material changed within a part, which was dropped")]
    MaterialChanged,
}
