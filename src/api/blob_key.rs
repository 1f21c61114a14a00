//! The key that a ciphertext blob was made under: `Decrypt` and `ReEncrypt` may leave `KeyId` out,
//! since the blob says which key it is.
//!
//! A blob that names an unknown, foreign or forbidden key gets one refusal, whichever of the three
//! it is. The key may be another account's; a bare key id then says no more than the blob, and is
//! compared with it.

use crate::api::key_reference::{Form, KeyReference, Name};
use crate::api::resolve::{Caller, OnKey};
use crate::api::{ApiError, ErrorCode};
use crate::envelope::AnyBlob;
use crate::key::KeyId;
use crate::keystore::Snapshot;
use crate::policy::Authorized;

/// A blob, and the key that the request names beside it, if it does.
#[derive(Clone, Copy)]
pub(crate) struct KeyOfBlob<'a> {
    /// `None` for bytes that are not a blob.
    pub(crate) blob: Option<&'a AnyBlob<'a>>,
    pub(crate) named: Option<&'a KeyReference<'a>>,
}

impl KeyOfBlob<'_> {
    /// The id in the blob.
    pub(crate) fn id(&self) -> Option<KeyId> {
        self.blob.map(|blob| blob.header().key_id)
    }
}

/// The key, if the caller may use it.
pub(crate) fn authorize<'a>(
    caller: Caller<'a>,
    blob: KeyOfBlob<'_>,
    snapshot: &'a Snapshot,
) -> Result<Authorized<OnKey<'a>>, ApiError> {
    if blob.named.is_some_and(|key| is_elsewhere(caller, key)) {
        return Err(incorrect_key());
    }
    let named = match (blob.named, blob.id()) {
        (None, _) => None,
        (Some(key), Some(id)) => foreign_key(caller, key, snapshot, id)
            .unwrap_or_else(|| caller.key(key, snapshot))
            .map(Some)?,
        (Some(key), None) => Some(caller.key(key, snapshot)?),
    };
    let id = blob.id().ok_or_else(does_not_open)?;
    match named {
        Some(request) if request.request().entry().key.id == id => Ok(request),
        Some(_) => Err(incorrect_key()),
        None => key_of(caller, snapshot, id),
    }
}

/// Whether this is the ARN of a multi-Region key in another Region. It is not an error of the ARN,
/// since the key that is called may be related to it; but it is another key.
fn is_elsewhere(caller: Caller<'_>, key: &KeyReference<'_>) -> bool {
    match key.form() {
        Form::Arn {
            partition,
            service: "kms",
            region,
            name: Name::Key(id),
            ..
        } => {
            let here = caller.region;
            id.is_multi_region() && *partition == here.partition && *region != here.name
        }
        _ => false,
    }
}

/// The key of another account that a bare key id and the blob name alike, if the caller may use it.
/// If not, the answer is the one for a key that does not exist.
fn foreign_key<'a>(
    caller: Caller<'a>,
    key: &KeyReference<'_>,
    snapshot: &'a Snapshot,
    of_blob: KeyId,
) -> Option<Result<Authorized<OnKey<'a>>, ApiError>> {
    let Form::Bare(Name::Key(id)) = *key.form() else {
        return None;
    };
    if id != of_blob {
        return None;
    }
    let entry = snapshot.keys.get(&caller.region.id(id))?;
    if entry.key.account == caller.principal.account {
        return None;
    }
    match caller.authorize_key(entry, snapshot) {
        Err(error) if error.is_undecided() => {
            let missing = caller.key(key, snapshot);
            Some(missing.map_err(|error| error.undecided(true)))
        }
        decided => decided.ok().map(Ok),
    }
}

/// The key that the blob names, if the caller may use it.
fn key_of<'a>(
    caller: Caller<'a>,
    snapshot: &'a Snapshot,
    id: KeyId,
) -> Result<Authorized<OnKey<'a>>, ApiError> {
    let refused = || {
        let message = "The ciphertext refers to a customer master key that does not exist, does not exist in this region, or you are not \
             allowed to access.";
        ApiError::new(ErrorCode::AccessDeniedException, message)
    };
    let entry = snapshot
        .keys
        .get(&caller.region.id(id))
        .ok_or_else(refused)?;
    let allowed = caller.authorize_key(entry, snapshot);
    allowed.map_err(|error| refused().undecided(error.is_undecided()))
}

/// One error without a message, for whatever does not open.
pub(crate) fn does_not_open() -> ApiError {
    ApiError::bare(ErrorCode::InvalidCiphertextException)
}

fn incorrect_key() -> ApiError {
    ApiError::new(
        ErrorCode::IncorrectKeyException,
        "The key ID in the request does not identify a CMK that can perform this operation.",
    )
}
