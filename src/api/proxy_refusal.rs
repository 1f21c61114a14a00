//! What a caller learns of a call of an external key store proxy that failed: the code depends on
//! the operation, the text on the failure alone. The proxy's own words go to no caller.
//!
//! Source: AWS KMS External Key Store Proxy API specification, "KMS Considerations"; AWS KMS API
//! reference, `ConnectionErrorCode`.

use crate::api::{ApiError, ErrorCode};
use crate::keystore::ConnectionError;
use crate::xks_proxy::{ErrorName, ProxyError};

const NOT_ENABLED: &str = "The external key associated with this KMS key in an external key store is not enabled in the external key \
     manager. Enable the external key in the external key manager and retry the request.";
const REJECTED_CIPHERTEXT: &str = "The external key store proxy rejected the request because the specified ciphertext or encryption context is \
     corrupted, missing, or otherwise invalid.";
const OTHER_CIPHERTEXT: &str = "The ciphertext that the external key store proxy submitted for decryption, or the encryption context, is \
     corrupted, missing, or otherwise invalid.";
const NOT_ITS_USAGE: &str = "The external key associated with this KMS key in an external key store does not support the requested \
     operation. Enable the operation on the key in your external key manager, and try the request again.";
const NOT_AUTHENTICATED: &str = "The external key store proxy rejected the request because it could not authenticate AWS KMS. Verify the \
     credentials for your external key store and update if necessary.";
const DENIED: &str = "The external key store proxy denied access to the operation. Verify that the user and the external key are both \
     authorized for this operation, and try the request again.";
const NO_KEY: &str = "The external key associated with this KMS key in an external key store was not found in its external key manager. \
     If the external key ID associated with this KMS key is incorrect, create a new KMS key with the correct external key ID.";
const NO_PATH: &str = "The external key store proxy rejected the request because of an invalid URI path. Verify the URI path for your \
     external key store and update if necessary.";
const UNSUPPORTED: &str = "The external key store proxy rejected the request because it does not support the requested operation. If you \
     see this error repeatedly, report it to your external key store proxy administrator.";
const ITS_DEPENDENCY: &str = "The external key store proxy did not respond to the request in the time allotted. Retry the request. If you see \
     this error repeatedly, report it to your external key store proxy administrator.";
const THROTTLED: &str = "The external key store proxy rejected the request due to a very high request rate. Reduce the frequency of your \
     calls using KMS keys in this external key store.";
const ITS_FAILURE: &str = "The external key store proxy rejected the request because it cannot communicate with the external key manager. \
     Verify that the external key store proxy configuration is correct and that the external key manager is available.";
const NOT_REACHED: &str = "AWS KMS cannot communicate with the external key store proxy. This might be a transient network issue. If you see \
     this error repeatedly, verify that your external key store proxy is active and is connected to the network, and that its endpoint URI \
     is correct in your external keystore.";
const NO_TLS: &str = "AWS KMS cannot establish a TLS connection to the external key store proxy. Verify the TLS configuration, including its \
     certificate.";
const TOO_LATE: &str = "AWS KMS rejected the request because the external key store proxy did not respond in time. Retry the request. If you \
     see this error repeatedly, report it to your external key store proxy administrator.";
const NOT_UNDERSTOOD: &str = "AWS KMS cannot interpret the response from the external key store proxy. If you see this error repeatedly, report \
     it to your external key store proxy administrator.";
/// Ours: no table of the configuration has the host.
const NOT_NAMED: &str =
    "The configuration of this daemon does not name the host of the external key store proxy.";
/// Ours.
const ALL_UNAVAILABLE: &str =
    "All external key manager instances of the external key store proxy are unavailable.";

/// Ours.
const OTHER_KIND: &str =
    "The external key must be an AES_256 key whose usage has ENCRYPT and DECRYPT.";

/// Why a key store cannot be used: a call failed, or the proxy has answered that nothing works.
pub(super) enum Unhealthy {
    Failed(ProxyError),
    AllUnavailable,
}

fn text(error: &ProxyError) -> &'static str {
    match error {
        ProxyError::Refused(name) => match name {
            ErrorName::AccessDeniedException => DENIED,
            ErrorName::AuthenticationFailedException => NOT_AUTHENTICATED,
            ErrorName::DependencyTimeoutException => ITS_DEPENDENCY,
            ErrorName::InternalException => ITS_FAILURE,
            ErrorName::InvalidCiphertextException => REJECTED_CIPHERTEXT,
            ErrorName::InvalidKeyUsageException => NOT_ITS_USAGE,
            ErrorName::InvalidStateException => NOT_ENABLED,
            ErrorName::InvalidUriPathException => NO_PATH,
            ErrorName::KeyNotFoundException => NO_KEY,
            ErrorName::ThrottlingException => THROTTLED,
            ErrorName::UnsupportedOperationException => UNSUPPORTED,
            ErrorName::ValidationException => NOT_UNDERSTOOD,
        },
        ProxyError::NotConfigured(_) => NOT_NAMED,
        ProxyError::Busy => THROTTLED,
        ProxyError::NotReachable(_) => NOT_REACHED,
        ProxyError::TimedOut(_) => TOO_LATE,
        ProxyError::Tls(_) => NO_TLS,
        ProxyError::InvalidResponse(_) => NOT_UNDERSTOOD,
    }
}

/// Of a cryptographic operation.
pub(super) fn in_use(error: &ProxyError) -> ApiError {
    ApiError::new(ErrorCode::KMSInvalidStateException, text(error))
}

/// Of a cryptographic operation: what the proxy has decrypted does not open here.
pub(super) fn other_ciphertext() -> ApiError {
    ApiError::new(ErrorCode::KMSInvalidStateException, OTHER_CIPHERTEXT)
}

/// Of `CreateKey`.
pub(super) fn of_new_key(error: &ProxyError) -> ApiError {
    let code = match error {
        ProxyError::Refused(
            ErrorName::InvalidStateException | ErrorName::InvalidKeyUsageException,
        ) => ErrorCode::XksKeyInvalidConfigurationException,
        ProxyError::Refused(ErrorName::KeyNotFoundException) => ErrorCode::XksKeyNotFoundException,
        ProxyError::Refused(ErrorName::AccessDeniedException) => {
            ErrorCode::KMSInvalidStateException
        }
        _ => ErrorCode::CustomKeyStoreInvalidStateException,
    };
    ApiError::new(code, text(error))
}

/// Of `CreateKey`, of an external key that may not be used.
pub(super) fn of_disabled_key() -> ApiError {
    let code = ErrorCode::XksKeyInvalidConfigurationException;
    ApiError::new(code, NOT_ENABLED)
}

/// Of `CreateKey`, of an external key that is not what a KMS key can stand on.
pub(super) fn of_other_kind() -> ApiError {
    let code = ErrorCode::XksKeyInvalidConfigurationException;
    ApiError::new(code, OTHER_KIND)
}

/// Of `CreateCustomKeyStore` and `UpdateCustomKeyStore`.
pub(super) fn of_key_store(unhealthy: &Unhealthy) -> ApiError {
    let error = match unhealthy {
        Unhealthy::Failed(error) => error,
        Unhealthy::AllUnavailable => {
            let code = ErrorCode::XksProxyUriUnreachableException;
            return ApiError::new(code, ALL_UNAVAILABLE);
        }
    };
    let code = match error {
        ProxyError::Refused(name) => match name {
            ErrorName::AuthenticationFailedException => {
                ErrorCode::XksProxyIncorrectAuthenticationCredentialException
            }
            ErrorName::AccessDeniedException | ErrorName::InvalidUriPathException => {
                ErrorCode::XksProxyInvalidConfigurationException
            }
            ErrorName::DependencyTimeoutException | ErrorName::ThrottlingException => {
                ErrorCode::XksProxyUriUnreachableException
            }
            _ => ErrorCode::XksProxyInvalidResponseException,
        },
        ProxyError::InvalidResponse(_) => ErrorCode::XksProxyInvalidResponseException,
        ProxyError::NotConfigured(_)
        | ProxyError::Busy
        | ProxyError::NotReachable(_)
        | ProxyError::TimedOut(_)
        | ProxyError::Tls(_) => ErrorCode::XksProxyUriUnreachableException,
    };
    ApiError::new(code, text(error))
}

/// Of `ConnectCustomKeyStore`, when it is found out.
pub(super) fn of_connection(unhealthy: &Unhealthy) -> ConnectionError {
    let Unhealthy::Failed(error) = unhealthy else {
        return ConnectionError::XksProxyNotReachable;
    };
    match error {
        ProxyError::Refused(name) => match name {
            ErrorName::AuthenticationFailedException => ConnectionError::InvalidCredentials,
            ErrorName::AccessDeniedException => ConnectionError::XksProxyAccessDenied,
            ErrorName::InvalidUriPathException => ConnectionError::XksProxyInvalidConfiguration,
            ErrorName::DependencyTimeoutException => ConnectionError::XksProxyTimedOut,
            ErrorName::InternalException | ErrorName::ThrottlingException => {
                ConnectionError::XksProxyNotReachable
            }
            _ => ConnectionError::XksProxyInvalidResponse,
        },
        ProxyError::NotConfigured(_) | ProxyError::NotReachable(_) => {
            ConnectionError::XksProxyNotReachable
        }
        ProxyError::Busy => ConnectionError::InternalError,
        ProxyError::TimedOut(_) => ConnectionError::XksProxyTimedOut,
        ProxyError::Tls(_) => ConnectionError::XksProxyInvalidTlsConfiguration,
        ProxyError::InvalidResponse(_) => ConnectionError::XksProxyInvalidResponse,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table of the specification, and what is AWS's for failures that it does not list.
    #[test]
    fn every_failure_has_the_code_of_its_operation() {
        use ErrorCode as C;
        use ErrorName as N;
        let refused = ProxyError::Refused;
        let text = || "x".to_owned();
        for (error, store, key) in [
            (
                refused(N::ValidationException),
                C::XksProxyInvalidResponseException,
                C::CustomKeyStoreInvalidStateException,
            ),
            (
                refused(N::InvalidStateException),
                C::XksProxyInvalidResponseException,
                C::XksKeyInvalidConfigurationException,
            ),
            (
                refused(N::InvalidKeyUsageException),
                C::XksProxyInvalidResponseException,
                C::XksKeyInvalidConfigurationException,
            ),
            (
                refused(N::AuthenticationFailedException),
                C::XksProxyIncorrectAuthenticationCredentialException,
                C::CustomKeyStoreInvalidStateException,
            ),
            (
                refused(N::AccessDeniedException),
                C::XksProxyInvalidConfigurationException,
                C::KMSInvalidStateException,
            ),
            (
                refused(N::KeyNotFoundException),
                C::XksProxyInvalidResponseException,
                C::XksKeyNotFoundException,
            ),
            (
                refused(N::InvalidUriPathException),
                C::XksProxyInvalidConfigurationException,
                C::CustomKeyStoreInvalidStateException,
            ),
            (
                refused(N::DependencyTimeoutException),
                C::XksProxyUriUnreachableException,
                C::CustomKeyStoreInvalidStateException,
            ),
            (
                refused(N::ThrottlingException),
                C::XksProxyUriUnreachableException,
                C::CustomKeyStoreInvalidStateException,
            ),
            (
                refused(N::InternalException),
                C::XksProxyInvalidResponseException,
                C::CustomKeyStoreInvalidStateException,
            ),
            (
                ProxyError::NotReachable(text()),
                C::XksProxyUriUnreachableException,
                C::CustomKeyStoreInvalidStateException,
            ),
            (
                ProxyError::Tls(text()),
                C::XksProxyUriUnreachableException,
                C::CustomKeyStoreInvalidStateException,
            ),
            (
                ProxyError::TimedOut("x"),
                C::XksProxyUriUnreachableException,
                C::CustomKeyStoreInvalidStateException,
            ),
            (
                ProxyError::InvalidResponse(text()),
                C::XksProxyInvalidResponseException,
                C::CustomKeyStoreInvalidStateException,
            ),
        ] {
            assert_eq!(of_new_key(&error).code(), key, "{error}");
            let used = in_use(&error);
            assert_eq!(used.code(), C::KMSInvalidStateException);
            let of_key_store = of_key_store(&Unhealthy::Failed(error));
            assert_eq!(of_key_store.code(), store);
            // One text, whatever the operation.
            assert_eq!(of_key_store.message(), used.message());
        }
    }

    #[test]
    fn a_connection_fails_with_aws_s_word_for_it() {
        use ConnectionError as E;
        use ErrorName as N;
        for (name, error) in [
            (N::AuthenticationFailedException, E::InvalidCredentials),
            (N::AccessDeniedException, E::XksProxyAccessDenied),
            (N::InvalidUriPathException, E::XksProxyInvalidConfiguration),
            (N::DependencyTimeoutException, E::XksProxyTimedOut),
            (N::InternalException, E::XksProxyNotReachable),
            (N::ValidationException, E::XksProxyInvalidResponse),
        ] {
            let unhealthy = Unhealthy::Failed(ProxyError::Refused(name));
            assert_eq!(of_connection(&unhealthy), error);
        }
        let tls = Unhealthy::Failed(ProxyError::Tls("x".to_owned()));
        let code = of_connection(&tls).name();
        assert_eq!(code, "XKS_PROXY_INVALID_TLS_CONFIGURATION");
        let none = of_connection(&Unhealthy::AllUnavailable);
        assert_eq!(none.name(), "XKS_PROXY_NOT_REACHABLE");
    }
}
