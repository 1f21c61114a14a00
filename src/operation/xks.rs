//! The operations of an external key store proxy, one row each. None of the members that the audit
//! log writes down is secret.
//!
//! Source: AWS KMS External Key Store Proxy API specification, version 1.0.3.

use strum::{IntoStaticStr, VariantArray};

/// An operation of the proxy. Its name is that of the specification after `Xks`: two of them have
/// the names of operations of AWS KMS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, IntoStaticStr, VariantArray)]
#[expect(missing_docs, reason = "the specification describes them")]
pub enum XksOperation {
    XksDecrypt,
    XksEncrypt,
    XksGetHealthStatus,
    XksGetKeyMetadata,
}

impl XksOperation {
    /// All, in the order of the alphabet.
    pub const ALL: &'static [Self] = Self::VARIANTS;

    /// What the audit log writes down of every request: the external key, and what AWS KMS says of
    /// the call that it serves. `OtherMetadata` are members that the specification does not know.
    pub const RECORDS: [&'static str; 9] = [
        "ExternalKeyId",
        "AwsPrincipalArn",
        "AwsSourceVpc",
        "AwsSourceVpce",
        "KmsKeyArn",
        "KmsOperation",
        "KmsRequestId",
        "KmsViaService",
        "OtherMetadata",
    ];

    /// Its name, such as `XksEncrypt`.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_sorted_and_records_are_few() {
        assert!(XksOperation::ALL.is_sorted_by_key(|operation| operation.name()));
        assert_eq!(XksOperation::XksEncrypt.name(), "XksEncrypt");
        for secret in ["Plaintext", "Ciphertext", "AdditionalAuthenticatedData"] {
            assert!(!XksOperation::RECORDS.contains(&secret));
        }
    }
}
