//! The error codes of the wire, in one list: the services of AWS and this one name them alike.

use http::StatusCode;
use strum::{Display, IntoStaticStr, VariantArray};

/// The closed set of codes that this service answers with: those of AWS KMS (API reference, "Common
/// Errors" and each operation's), then those of the query protocol, which AWS STS speaks, those of
/// the AWS Resource Groups Tagging API (API references, as before), and those of the External Key
/// Store Proxy API alone (its specification, "Error codes").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Display, IntoStaticStr, VariantArray)]
pub enum ErrorCode {
    /// The caller may not.
    AccessDeniedException,
    /// The alias exists.
    AlreadyExistsException,
    /// Something else is under way that this would cross.
    ConflictException,
    /// There are keys in the custom key store.
    CustomKeyStoreHasCMKsException,
    /// The custom key store is not in a state that permits the operation.
    CustomKeyStoreInvalidStateException,
    /// Another custom key store has the name.
    CustomKeyStoreNameInUseException,
    /// No custom key store has this id or name.
    CustomKeyStoreNotFoundException,
    /// The key is disabled.
    DisabledException,
    /// The request would have succeeded, but asked not to be performed.
    DryRunOperationException,
    /// The import token has expired.
    ExpiredImportTokenException,
    /// The security token has expired.
    ExpiredTokenException,
    /// The `Authorization` header is not whole.
    IncompleteSignatureException,
    /// The blob names another key than the request.
    IncorrectKeyException,
    /// The material differs from the material that was imported first, or has another length.
    IncorrectKeyMaterialException,
    /// No alias name.
    InvalidAliasNameException,
    /// An alias where only keys are allowed, or a broken ARN.
    InvalidArnException,
    /// A blob that does not open; never with a message.
    InvalidCiphertextException,
    /// No id of a grant.
    InvalidGrantIdException,
    /// A grant token that is malformed, or not for this caller and key.
    InvalidGrantTokenException,
    /// An import token that was not issued here, or for another key.
    InvalidImportTokenException,
    /// The key's usage or spec does not fit the operation.
    InvalidKeyUsageException,
    /// A marker of another listing, or none at all.
    InvalidMarkerException,
    /// The signature does not verify, or its scope or time is wrong.
    InvalidSignatureException,
    /// Something failed here; clients retry.
    KMSInternalException,
    /// A MAC that does not verify; never with a message.
    KMSInvalidMacException,
    /// A signature that does not verify; never with a message.
    KMSInvalidSignatureException,
    /// The key's state does not permit the operation.
    KMSInvalidStateException,
    /// A quota; clients retry it, although it is a 400.
    LimitExceededException,
    /// No policy document.
    MalformedPolicyDocumentException,
    /// No `Authorization` header.
    MissingAuthenticationTokenException,
    /// An alias that is reserved.
    NotAuthorizedException,
    /// No such key or alias.
    NotFoundException,
    /// The body is larger than the front end takes.
    RequestEntityTooLarge,
    /// The body came too slowly.
    RequestTimeoutException,
    /// The body is not JSON of the right types.
    SerializationException,
    /// Tags that are refused.
    TagException,
    /// Too many requests, in the shape that SDKs retry.
    ThrottlingException,
    /// No such target.
    UnknownOperationException,
    /// No such access key.
    UnrecognizedClientException,
    /// Known to AWS KMS, not built here.
    UnsupportedOperationException,
    /// A member is missing or out of its range.
    ValidationException,
    /// Another KMS key of the key store has the external key.
    XksKeyAlreadyInUseException,
    /// The external key is not one for a KMS key.
    XksKeyInvalidConfigurationException,
    /// The proxy has no such external key.
    XksKeyNotFoundException,
    /// The proxy does not know the credential.
    XksProxyIncorrectAuthenticationCredentialException,
    /// The proxy is not at this address.
    XksProxyInvalidConfigurationException,
    /// The proxy answers with something else than the protocol's.
    XksProxyInvalidResponseException,
    /// Another custom key store has the address.
    XksProxyUriInUseException,
    /// The proxy does not answer.
    XksProxyUriUnreachableException,
    /// STS: the caller may not.
    AccessDenied,
    /// STS: the session has expired.
    ExpiredToken,
    /// STS: the token of another issuer has expired.
    #[strum(serialize = "ExpiredTokenException")]
    ExpiredIdentityToken,
    /// STS: the keys of another issuer cannot be fetched now; clients retry.
    IDPCommunicationError,
    /// STS: the `Authorization` header is not whole.
    IncompleteSignature,
    /// STS: something failed here; clients retry.
    InternalFailure,
    /// STS: no such operation, or no such version.
    InvalidAction,
    /// STS: a message that was not encoded here.
    InvalidAuthorizationMessageException,
    /// STS: no such access key or session.
    InvalidClientTokenId,
    /// STS: a context of another provider, none of which is trusted.
    InvalidContextAssertion,
    /// STS: the token of another issuer is refused.
    InvalidIdentityToken,
    /// STS: tags that are refused.
    InvalidParameterValue,
    /// STS: a session policy that is none.
    MalformedPolicyDocument,
    /// STS: the request names no operation.
    MissingAction,
    /// STS: no credentials.
    MissingAuthenticationToken,
    /// STS: it issues no tokens for other services.
    OutboundWebIdentityFederationDisabledException,
    /// STS: session policy and tags do not fit into a session token.
    PackedPolicyTooLarge,
    /// STS: the signature does not verify, or its scope or time is wrong.
    SignatureDoesNotMatch,
    /// STS: too many requests.
    Throttling,
    /// STS: a member is missing or out of its range.
    ValidationError,
    /// Tagging: there are no tag policies, nor reports on them.
    ConstraintViolationException,
    /// Tagging: something failed here; clients retry.
    InternalServiceException,
    /// Tagging: a member is missing, out of its range, or does not go with another.
    InvalidParameterException,
    /// Tagging: a paging token is too old.
    PaginationTokenExpiredException,
    /// Tagging: too many requests.
    ThrottledException,
    /// XKS: the request is not signed by the key store's credentials.
    AuthenticationFailedException,
    /// XKS: the answer would have come too late.
    DependencyTimeoutException,
    /// XKS: something failed here.
    InternalException,
    /// XKS: the key is not in a state to be used.
    InvalidStateException,
    /// XKS: no key store has this path.
    InvalidUriPathException,
    /// XKS: no such external key.
    KeyNotFoundException,
}

impl ErrorCode {
    /// Every code, for tables by code.
    pub const ALL: &'static [Self] = Self::VARIANTS;

    /// As `__type` or `Code` spells it.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// The status on the wire.
    #[must_use]
    pub fn status(self) -> StatusCode {
        match self {
            Self::KMSInternalException | Self::InternalFailure | Self::InternalServiceException => {
                StatusCode::INTERNAL_SERVER_ERROR
            }
            Self::AccessDenied
            | Self::ExpiredToken
            | Self::InvalidClientTokenId
            | Self::MissingAuthenticationToken
            | Self::OutboundWebIdentityFederationDisabledException
            | Self::SignatureDoesNotMatch => StatusCode::FORBIDDEN,
            Self::AuthenticationFailedException => StatusCode::UNAUTHORIZED,
            Self::DependencyTimeoutException => StatusCode::SERVICE_UNAVAILABLE,
            Self::InternalException => StatusCode::INTERNAL_SERVER_ERROR,
            Self::InvalidUriPathException | Self::KeyNotFoundException => StatusCode::NOT_FOUND,
            Self::RequestEntityTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::RequestTimeoutException => StatusCode::REQUEST_TIMEOUT,
            _ => StatusCode::BAD_REQUEST,
        }
    }

    /// What stands before the operations capitalises the member: authorization and the parser; so
    /// does the tagging API. Everything else does not.
    #[must_use]
    pub fn message_member(self) -> &'static str {
        match self {
            Self::AccessDeniedException
            | Self::SerializationException
            | Self::ConstraintViolationException
            | Self::InternalServiceException
            | Self::InvalidParameterException
            | Self::PaginationTokenExpiredException
            | Self::ThrottledException => "Message",
            _ => "message",
        }
    }
}
