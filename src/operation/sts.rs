//! The operations of AWS STS: one row each. Most of them are refused here, each in the words that
//! tell its caller why.
//!
//! Sources: the service model of AWS STS (API version 2011-06-15) for names and members, and for
//! which operations take no signature (`authtype`); AWS CloudTrail user guide, "CloudTrail record
//! contents", for what a record names.

use strum::{IntoStaticStr, VariantArray};

/// What other modules must agree on about an operation.
#[derive(Clone, Copy, Debug)]
pub struct StsFacts {
    /// Whether it takes no signature: its caller proves another way who it is.
    pub is_anonymous: bool,
    /// The members of its request that the audit log writes down. None of them is secret.
    pub records: &'static [&'static str],
}

/// The rows: an operation and its facts, in the order of the alphabet.
macro_rules! operations {
    ($($name:ident $facts:expr;)+) => {
        /// An operation of AWS STS, by its name in the service model.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, IntoStaticStr, VariantArray)]
        #[expect(missing_docs, reason = "AWS STS describes its operations by these names")]
        pub enum StsOperation { $($name,)+ }

        const FACTS: [StsFacts; StsOperation::VARIANTS.len()] = [$($facts,)+];
    };
}

operations! {
    AssumeRole signed(&[
        "RoleArn", "RoleSessionName", "DurationSeconds", "Policy", "Tags", "TransitiveTagKeys",
        "ExternalId", "SourceIdentity",
    ]);
    AssumeRoleWithSAML anonymous(&["RoleArn", "PrincipalArn", "DurationSeconds"]);
    AssumeRoleWithWebIdentity anonymous(&[
        "RoleArn", "RoleSessionName", "DurationSeconds", "Policy",
    ]);
    AssumeRoot signed(&["TargetPrincipal", "DurationSeconds"]);
    DecodeAuthorizationMessage signed(&[]);
    GetAccessKeyInfo signed(&["AccessKeyId"]);
    GetCallerIdentity signed(&[]);
    GetDelegatedAccessToken signed(&["DurationSeconds"]);
    GetFederationToken signed(&["Name", "DurationSeconds", "Policy"]);
    GetScopedCredentials signed(&["DurationSeconds"]);
    GetSessionToken signed(&["DurationSeconds"]);
    GetWebIdentityToken signed(&["DurationSeconds"]);
}

const fn signed(records: &'static [&'static str]) -> StsFacts {
    StsFacts {
        is_anonymous: false,
        records,
    }
}

const fn anonymous(records: &'static [&'static str]) -> StsFacts {
    StsFacts {
        is_anonymous: true,
        records,
    }
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

    /// What other modules must agree on about it.
    #[must_use]
    pub const fn facts(self) -> &'static StsFacts {
        &FACTS[self as usize]
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
        let anonymous = StsOperation::ALL
            .iter()
            .filter(|one| one.facts().is_anonymous);
        let names: Vec<_> = anonymous.map(|one| one.name()).collect();
        assert_eq!(names, ["AssumeRoleWithSAML", "AssumeRoleWithWebIdentity"]);
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
                assert!(
                    !operation.facts().records.contains(&secret),
                    "{operation:?}"
                );
            }
        }
    }
}
