//! The operations of AWS STS: one row each, with the members of its request that the audit log
//! writes down. None of them is secret. Those that are not built are refused, each in words
//! that tell its caller why.
//!
//! Sources: the service model of AWS STS (API version 2011-06-15) for names and members; AWS
//! CloudTrail user guide, "CloudTrail record contents", for what a record names.

use strum::{IntoStaticStr, VariantArray};

/// The rows, in the order of the alphabet.
macro_rules! operations {
    ($($name:ident $records:expr;)+) => {
        /// An operation of AWS STS, by its name in the service model.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, IntoStaticStr, VariantArray)]
        #[expect(missing_docs, reason = "AWS STS describes its operations by these names")]
        pub enum StsOperation { $($name,)+ }

        impl StsOperation {
            /// The members of its request that the audit log writes down.
            #[must_use]
            pub const fn records(self) -> &'static [&'static str] {
                match self { $(Self::$name => &$records,)+ }
            }
        }
    };
}

operations! {
    AssumeRole [
        "RoleArn", "RoleSessionName", "DurationSeconds", "Policy", "Tags", "TransitiveTagKeys",
        "ExternalId", "SourceIdentity",
    ];
    AssumeRoleWithSAML ["RoleArn", "PrincipalArn", "DurationSeconds"];
    AssumeRoleWithWebIdentity ["RoleArn", "RoleSessionName", "DurationSeconds", "Policy"];
    AssumeRoot ["TargetPrincipal", "DurationSeconds"];
    DecodeAuthorizationMessage [];
    GetAccessKeyInfo ["AccessKeyId"];
    GetCallerIdentity [];
    GetDelegatedAccessToken ["DurationSeconds"];
    GetFederationToken ["Name", "DurationSeconds", "Policy"];
    GetScopedCredentials ["DurationSeconds"];
    GetSessionToken ["DurationSeconds"];
    GetWebIdentityToken ["DurationSeconds"];
}

impl StsOperation {
    /// All, in the order of the alphabet.
    pub const ALL: &'static [Self] = Self::VARIANTS;

    /// The operation of this name; case matters.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let mut all = Self::ALL.iter().copied();
        all.find(|operation| operation.name() == name)
    }

    /// Its name, such as `AssumeRole`.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_and_each_has_its_own_row() {
        assert!(StsOperation::ALL.is_sorted_by_key(|operation| operation.name()));
        for operation in StsOperation::ALL {
            assert_eq!(StsOperation::named(operation.name()), Some(*operation));
        }
        for other in ["", "assumerole", "sts:AssumeRole", "Decrypt"] {
            assert_eq!(StsOperation::named(other), None, "{other}");
        }
    }

    #[test]
    fn audit_1_no_operation_of_sts_records_a_secret() {
        for secret in [
            "WebIdentityToken",
            "SAMLAssertion",
            "TokenCode",
            "EncodedMessage",
            "TradeInToken",
            "SessionToken",
            "SecretAccessKey",
        ] {
            for operation in StsOperation::ALL {
                assert!(!operation.records().contains(&secret), "{operation:?}");
            }
        }
    }
}
