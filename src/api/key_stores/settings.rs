//! The members that say how a proxy is reached: of `CreateCustomKeyStore`, where they are required,
//! and of `UpdateCustomKeyStore`, where each may be left out.

use crate::api::validation::{Pattern, Violations};
use crate::api::wire::{self, SecretText, Text};
use crate::api::{ApiError, ErrorCode, unsupported};
use crate::keystore::{AccessKey, KeyStoreEntry};
use crate::xks_proxy::{InvalidAddress, ProxyAddress};
use std::sync::Arc;

wire::input! {
    /// `XksProxyAuthenticationCredential`
    pub(super) struct Credential<'a> {
        access_key_id: Text<'a>,
        raw_secret_access_key: Option<SecretText>,
    }
}

wire::input! {
    /// The members of both operations; those of the other types are refused by name.
    pub(super) struct Members<'a> {
        xks_proxy_connectivity: Text<'a>,
        xks_proxy_uri_endpoint: Text<'a>,
        xks_proxy_uri_path: Text<'a>,
        xks_proxy_authentication_credential: Option<Credential<'a>>,
        xks_proxy_vpc_endpoint_service_name: Text<'a>,
        xks_proxy_vpc_endpoint_service_owner: Text<'a>,
        cloud_hsm_cluster_id: Text<'a>,
        trust_anchor_certificate: Text<'a>,
        key_store_password: Option<SecretText>,
    }
}

const CONNECTIVITIES: &str = "PUBLIC_ENDPOINT, VPC_ENDPOINT_SERVICE";
const ENDPOINT: Pattern = Pattern {
    text: "^https://[a-zA-Z0-9.-]+$",
    matches: |text| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-".contains(&byte);
        text.strip_prefix("https://")
            .is_some_and(|host| !host.is_empty() && host.bytes().all(allowed))
    },
};
const PATH: Pattern = Pattern {
    text: r"^(/[a-zA-Z0-9\/_-]+/kms/xks/v\d{1,2})$|^(/kms/xks/v\d{1,2})$",
    matches: |text| {
        let Some((prefix, version)) = text.rsplit_once("/kms/xks/v") else {
            return false;
        };
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"/_-".contains(&byte);
        (1..=2).contains(&version.len())
            && version.bytes().all(|byte| byte.is_ascii_digit())
            && (prefix.is_empty()
                || prefix.len() > 1 && prefix.starts_with('/') && prefix.bytes().all(allowed))
    },
};
const ACCESS_KEY_ID: Pattern = Pattern {
    text: "^[A-Z2-7]+$",
    matches: |text| {
        let allowed = |byte: u8| byte.is_ascii_uppercase() || (b'2'..=b'7').contains(&byte);
        !text.is_empty() && text.bytes().all(allowed)
    },
};
const SECRET: Pattern = Pattern {
    text: r"^[a-zA-Z0-9\/+=]+$",
    matches: |text| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"/+=".contains(&byte);
        !text.is_empty() && text.bytes().all(allowed)
    },
};

impl Members<'_> {
    /// Checks each member by itself.
    pub(super) fn check(&self, violations: &mut Violations) {
        let connectivity = self.xks_proxy_connectivity.as_deref();
        violations.one_of("xksProxyConnectivity", connectivity, CONNECTIVITIES);
        if let Some(endpoint) = self.xks_proxy_uri_endpoint.as_deref() {
            violations.text("xksProxyUriEndpoint", endpoint, 10, 128, Some(&ENDPOINT));
        }
        if let Some(path) = self.xks_proxy_uri_path.as_deref() {
            violations.text("xksProxyUriPath", path, 10, 128, Some(&PATH));
        }
        if let Some(Credential {
            access_key_id,
            raw_secret_access_key,
        }) = &self.xks_proxy_authentication_credential
        {
            let member = |name: &str| format!("xksProxyAuthenticationCredential.{name}");
            let id = access_key_id.as_deref();
            violations.sensitive_text(&member("accessKeyId"), id, (20, 30), &ACCESS_KEY_ID);
            let secret = raw_secret_access_key.as_ref().map(SecretText::text);
            violations.sensitive_text(&member("rawSecretAccessKey"), secret, (43, 64), &SECRET);
        }
    }

    /// Refuses members of CloudHSM key stores and of VPC endpoint services.
    pub(super) fn check_built(&self) -> Result<(), ApiError> {
        let is_given = |text: &Text<'_>| text.as_deref().is_some_and(|text| !text.is_empty());
        let refused = [
            ("CloudHsmClusterId", is_given(&self.cloud_hsm_cluster_id)),
            (
                "TrustAnchorCertificate",
                is_given(&self.trust_anchor_certificate),
            ),
            ("KeyStorePassword", self.key_store_password.is_some()),
            (
                "XksProxyConnectivity VPC_ENDPOINT_SERVICE",
                self.xks_proxy_connectivity.as_deref() == Some("VPC_ENDPOINT_SERVICE"),
            ),
            (
                "XksProxyVpcEndpointServiceName",
                is_given(&self.xks_proxy_vpc_endpoint_service_name),
            ),
            (
                "XksProxyVpcEndpointServiceOwner",
                is_given(&self.xks_proxy_vpc_endpoint_service_owner),
            ),
        ];
        match refused.into_iter().find(|(_, given)| *given) {
            Some((member, _)) => Err(unsupported(member)),
            None => Ok(()),
        }
    }

    /// The first of these members that is not there.
    pub(super) fn missing(&self) -> Option<&'static str> {
        let given = [
            ("XksProxyConnectivity", self.changes_connectivity()),
            ("XksProxyUriEndpoint", self.changes_endpoint()),
            ("XksProxyUriPath", self.xks_proxy_uri_path.is_some()),
            (
                "XksProxyAuthenticationCredential",
                self.xks_proxy_authentication_credential.is_some(),
            ),
        ];
        let missing = given.into_iter().find(|(_, given)| !given);
        missing.map(|(member, _)| member)
    }

    pub(super) fn changes_connectivity(&self) -> bool {
        self.xks_proxy_connectivity.is_some()
    }

    pub(super) fn changes_endpoint(&self) -> bool {
        self.xks_proxy_uri_endpoint.is_some()
    }

    /// Whether the proxy is reached in another way than before.
    pub(super) fn change_reach(&self) -> bool {
        self.changes_endpoint()
            || self.xks_proxy_uri_path.is_some()
            || self.xks_proxy_authentication_credential.is_some()
    }

    /// The credential, if there is one; both halves were checked.
    pub(super) fn credential(&self) -> Option<Arc<AccessKey>> {
        let credential = self.xks_proxy_authentication_credential.as_ref()?;
        let id = credential.access_key_id.as_deref()?.to_owned();
        let secret = credential.raw_secret_access_key.as_ref()?.copied();
        Some(Arc::new(AccessKey::new(id, secret)))
    }

    /// The key store as it will be, reached in the way that these members say, and otherwise as it
    /// is.
    pub(super) fn applied(
        &self,
        store: KeyStoreEntry,
        credential: Option<&Arc<AccessKey>>,
    ) -> Result<KeyStoreEntry, ApiError> {
        let or = |member: &Text<'_>, present: &str| member.as_deref().unwrap_or(present).to_owned();
        let uri_endpoint = or(&self.xks_proxy_uri_endpoint, &store.uri_endpoint);
        let uri_path = or(&self.xks_proxy_uri_path, &store.uri_path);
        let parsed = ProxyAddress::parse(&uri_endpoint, &uri_path);
        parsed.map_err(invalid_address)?;
        Ok(KeyStoreEntry {
            uri_endpoint,
            uri_path,
            credential: Arc::clone(credential.unwrap_or(&store.credential)),
            ..store
        })
    }
}

/// The refusal of an address that the patterns of the model take, and no proxy can have: an IP
/// address, or another version of the API.
fn invalid_address(error: InvalidAddress) -> ApiError {
    let message = match error {
        InvalidAddress::Endpoint => {
            "XksProxyUriEndpoint must be https:// and the DNS name of a host."
        }
        InvalidAddress::UriPath => {
            "XksProxyUriPath must end in /kms/xks/v1, and have no empty segment before it."
        }
    };
    let code = ErrorCode::XksProxyInvalidConfigurationException;
    ApiError::new(code, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_those_of_the_model() {
        let fits = |pattern: &Pattern, text: &str| (pattern.matches)(text);
        for path in [
            "/kms/xks/v1",
            "/a/kms/xks/v12",
            "///kms/xks/v1",
            "/a_-/b/kms/xks/v1",
        ] {
            assert!(fits(&PATH, path), "{path}");
        }
        for path in [
            "",
            "kms/xks/v1",
            "/kms/xks/v",
            "/kms/xks/v123",
            "/kms/xks/va",
            "/a.b/kms/xks/v1",
            "a/kms/xks/v1",
            "/kms/xks/v1/",
        ] {
            assert!(!fits(&PATH, path), "{path}");
        }
        for (pattern, good, bad) in [
            (&ENDPOINT, "https://a-B.9", "https://a/b"),
            (&ENDPOINT, "https://a", "https://a:443"),
            (&ENDPOINT, "https://a", "http://a"),
            (&ACCESS_KEY_ID, "AZ27", "A1"),
            (&ACCESS_KEY_ID, "A", "a"),
            (&SECRET, "aZ9/+=", "a-b"),
        ] {
            assert!(fits(pattern, good) && !fits(pattern, bad), "{bad}");
        }
    }
}
