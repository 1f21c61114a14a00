//! Whether a key can do what it is asked for: its usage, then its state, then its spec, in the
//! order of AWS KMS.

use crate::api::{ApiError, ErrorCode};
use crate::key::InvalidState;
use crate::key::material::BackingKey;
use crate::key::spec::{KeyOrigin, KeyUsage};
use crate::keystore::KeyEntry;
use crate::operation::words::States;
use std::sync::Arc;

/// Of a key whose custom key store is not connected (External Key Store Proxy API specification,
/// "KMS Considerations").
pub(crate) const NOT_CONNECTED: &str = "This KMS key is in a custom key store that is not connected to its external key store proxy. Connect the \
     external key store and try the request again.";

/// `InvalidKeyUsageException` when keys of this usage do not have the operation.
pub(crate) fn usage(entry: &KeyEntry, needed: KeyUsage, operation: &str) -> Result<(), ApiError> {
    let usage = entry.key.usage;
    if usage == needed {
        return Ok(());
    }
    let message = format!(
        "{} key usage is {usage} which is not valid for {operation}.",
        entry.arn
    );
    let code = ErrorCode::InvalidKeyUsageException;
    Err(ApiError::new(code, message))
}

/// `DisabledException` or `KMSInvalidStateException` when the key is in a state in which the
/// operation is not performed.
pub(crate) fn state(entry: &KeyEntry, states: States) -> Result<(), ApiError> {
    let checked = states.check(&entry.key);
    checked.map_err(|state| invalid_state(entry, state))
}

pub(crate) fn invalid_state(entry: &KeyEntry, state: InvalidState) -> ApiError {
    if state == InvalidState::Unavailable {
        return ApiError::new(ErrorCode::KMSInvalidStateException, NOT_CONNECTED);
    }
    let code = match state {
        InvalidState::Disabled => ErrorCode::DisabledException,
        InvalidState::PendingDeletion
        | InvalidState::NotPendingDeletion
        | InvalidState::PendingImport
        | InvalidState::PendingReplicaDeletion
        | InvalidState::Unavailable => ErrorCode::KMSInvalidStateException,
    };
    ApiError::new(code, format!("{} {state}.", entry.arn))
}

/// The material that new data keys are under, of a key whose usage and state fit, and which has all
/// of its material here.
pub(crate) fn material(entry: &KeyEntry) -> Result<&Arc<BackingKey>, ApiError> {
    entry.current().ok_or_else(|| {
        if entry.inner().is_some() {
            return in_key_store(entry);
        }
        ApiError::new(
            ErrorCode::InvalidKeyUsageException,
            "You cannot generate a data key with an asymmetric CMK",
        )
    })
}

/// `UnsupportedOperationException` for a key in a custom key store, where every key takes a call of
/// its proxy: data key pairs, batches, streams and jobs are not made with it.
pub(crate) fn in_key_store(entry: &KeyEntry) -> ApiError {
    let message = format!(
        "{} is in a custom key store, which is not valid for this operation.",
        entry.arn
    );
    ApiError::new(ErrorCode::UnsupportedOperationException, message)
}

/// `InvalidKeyUsageException` for an algorithm that keys of this spec do not have.
pub(crate) fn incompatible(entry: &KeyEntry, algorithm: &str) -> ApiError {
    let message = format!(
        "Algorithm {algorithm} is incompatible with key spec {}.",
        entry.key.spec
    );
    ApiError::new(ErrorCode::InvalidKeyUsageException, message)
}

/// `UnsupportedOperationException` for a key whose material comes from elsewhere than `needed`.
pub(crate) fn origin(entry: &KeyEntry, needed: KeyOrigin) -> Result<(), ApiError> {
    let origin = entry.key.origin;
    if origin == needed {
        return Ok(());
    }
    let message = format!(
        "{} origin is {origin} which is not valid for this operation.",
        entry.arn
    );
    let code = ErrorCode::UnsupportedOperationException;
    Err(ApiError::new(code, message))
}

/// `UnsupportedOperationException` for an operation that only the primary key has.
pub(crate) fn replica(entry: &KeyEntry, operation: &str) -> ApiError {
    let message = format!(
        "{} is a multi-region replica key which is not valid for {operation}.",
        entry.arn
    );
    ApiError::new(ErrorCode::UnsupportedOperationException, message)
}
