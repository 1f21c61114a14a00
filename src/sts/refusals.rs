//! The operations of STS that are not built: each is refused in the words that tell its caller why.

use crate::api::{ApiError, ErrorCode, Requester};
use crate::operation::sts::StsOperation;
use crate::policy::principal::PrincipalKind;

/// The refusal of an operation that is not built, by an authenticated caller.
pub(super) fn of(operation: StsOperation, requester: &Requester) -> ApiError {
    let is_session = requester.principal.kind() == PrincipalKind::AssumedRole;
    let name = operation.name();
    let (code, message) = match operation {
        StsOperation::GetSessionToken | StsOperation::GetFederationToken if is_session => (
            ErrorCode::AccessDenied,
            format!("Cannot call {name} with session credentials"),
        ),
        // No role trusts an identity provider that speaks SAML.
        StsOperation::AssumeRoleWithSAML => (
            ErrorCode::AccessDenied,
            format!("Not authorized to perform sts:{name}"),
        ),
        StsOperation::DecodeAuthorizationMessage => (
            ErrorCode::InvalidAuthorizationMessageException,
            "Keymill encodes no authorization messages, so this is none of its own.".to_owned(),
        ),
        StsOperation::GetWebIdentityToken => (
            ErrorCode::OutboundWebIdentityFederationDisabledException,
            "Keymill issues no tokens for other services.".to_owned(),
        ),
        _ => (
            ErrorCode::InvalidAction,
            format!("Keymill does not have the operation {name}."),
        ),
    };
    ApiError::new(code, message)
}
