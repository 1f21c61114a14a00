//! The operations of the AWS Resource Groups Tagging API: one row each, with the members of its
//! request that the audit log writes down. None of them is secret.
//!
//! Source: the service model of the API (version 2017-01-26).

use strum::{IntoStaticStr, VariantArray};

/// The rows, in the order of the alphabet.
macro_rules! operations {
    ($($name:ident $records:expr;)+) => {
        /// An operation of the tagging API, by its name in the service model.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, IntoStaticStr, VariantArray)]
        #[expect(missing_docs, reason = "AWS describes its operations by these names")]
        pub enum TaggingOperation { $($name,)+ }

        impl TaggingOperation {
            /// The members of its request that the audit log writes down.
            #[must_use]
            pub const fn records(self) -> &'static [&'static str] {
                match self { $(Self::$name => &$records,)+ }
            }
        }
    };
}

operations! {
    DescribeReportCreation [];
    GetComplianceSummary [
        "TargetIdFilters", "RegionFilters", "ResourceTypeFilters", "TagKeyFilters", "GroupBy",
    ];
    GetResources [
        "ResourceARNList", "TagFilters", "ResourceTypeFilters", "ResourcesPerPage", "TagsPerPage",
        "IncludeComplianceDetails", "ExcludeCompliantResources",
    ];
    GetTagKeys [];
    GetTagValues ["Key"];
    ListRequiredTags [];
    StartReportCreation ["S3Bucket"];
    TagResources ["ResourceARNList", "Tags"];
    UntagResources ["ResourceARNList", "TagKeys"];
}

impl TaggingOperation {
    /// All, in the order of the alphabet.
    pub const ALL: &'static [Self] = Self::VARIANTS;

    /// The operation of this name; case matters.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let mut all = Self::ALL.iter().copied();
        all.find(|operation| operation.name() == name)
    }

    /// Its name, such as `GetResources`.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// Whether it changes something: the audit log calls every other one read-only.
    #[must_use]
    pub const fn changes(self) -> bool {
        matches!(
            self,
            Self::StartReportCreation | Self::TagResources | Self::UntagResources
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_and_each_has_its_own_row() {
        assert!(TaggingOperation::ALL.is_sorted_by_key(|operation| operation.name()));
        for operation in TaggingOperation::ALL {
            assert_eq!(TaggingOperation::named(operation.name()), Some(*operation));
        }
        for other in ["", "getresources", "tag:GetResources", "TagResource"] {
            assert_eq!(TaggingOperation::named(other), None, "{other}");
        }
    }
}
