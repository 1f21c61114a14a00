//! The operations of AWS KMS: one row each, with everything that other modules must agree on.
//!
//! Policy reads from here which actions cross accounts and which a grant may allow; the API which
//! keys and states an operation takes; the audit log which members of a request it may write down;
//! the last use of a key which operations count. To add an operation is to add a row here, its
//! handler in `api`, and its tests.
//!
//! Sources: the service model of AWS KMS (API version 2014-11-01) for names and members; AWS KMS
//! Developer Guide, "Permissions reference" for cross-account use and resources, "Key states" for
//! states, "Grants" for the operations of grants.
//!
//! What this module does not do: perform anything, or know who asks.

use crate::key::spec::KeyOrigin::{AwsKms, External};
use crate::key::spec::KeyUsage::{
    EncapsulateDecapsulate, EncryptDecrypt, GenerateVerifyMac, KeyAgreement, SignVerify,
};
use std::fmt;
use strum::{EnumString, IntoStaticStr, VariantArray};
use words::Keys::{Asymmetric, Having, Symmetric};
use words::States::{Enabled, NotPendingDeletion, WithMaterial};
use words::{Facts, about_grant, about_key, about_nothing, about_role, cryptographic};

pub mod sts;
pub mod tagging;
pub mod words;
pub mod xks;

/// The rows: an operation, its actions, its facts; then the actions of other services.
///
/// An operation's action is called as the operation is, but for those that need two rights.
macro_rules! operations {
    (
        $($name:ident [$($action:ident),+] $facts:expr;)+
        @others $($other:ident $text:literal $other_facts:expr;)+
    ) => {
        /// An operation of AWS KMS, by its name in the service model.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[derive(IntoStaticStr, VariantArray)]
        #[expect(missing_docs, reason = "AWS KMS describes its operations by these names")]
        pub enum Operation { $($name,)+ }

        /// A permission: what policies and grants allow, such as `kms:Decrypt`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[derive(EnumString, IntoStaticStr, VariantArray)]
        #[expect(missing_docs, reason = "AWS KMS describes its permissions by these names")]
        pub enum Action {
            $($($action,)+)+
            $($other,)+
        }

        const FACTS: [Facts; Operation::VARIANTS.len()] = [$($facts,)+];

        impl Operation {
            /// The permissions that it takes, in the order in which they are asked for.
            #[must_use]
            pub const fn actions(self) -> &'static [Action] {
                match self { $(Self::$name => &[$(Action::$action),+],)+ }
            }
        }

        impl Action {
            /// As policies spell it: its service, a colon and its name.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $($(Self::$action => concat!("kms:", stringify!($action)),)+)+
                    $(Self::$other => $text,)+
                }
            }

            /// The operation of AWS KMS that takes it; `None` for an action of another service.
            #[must_use]
            pub const fn operation(self) -> Option<Operation> {
                match self {
                    $($(Self::$action => Some(Operation::$name),)+)+
                    $(Self::$other => None,)+
                }
            }

            /// What other modules must agree on about it.
            #[must_use]
            pub const fn facts(self) -> &'static Facts {
                match self {
                    $($(Self::$action)|+ => Operation::$name.facts(),)+
                    $(Self::$other => const { &$other_facts },)+
                }
            }
        }
    };
}

operations! {
    CancelKeyDeletion [CancelKeyDeletion] about_key().changes();
    ConnectCustomKeyStore [ConnectCustomKeyStore]
        about_nothing().changes().records(&["CustomKeyStoreId"]);
    CreateAlias [CreateAlias]
        about_key().changes().records(&["AliasName", "TargetKeyId"]).in_states(NotPendingDeletion);
    CreateCustomKeyStore [CreateCustomKeyStore] about_nothing().changes()
        .records(&[
            "CustomKeyStoreName", "CustomKeyStoreType", "XksProxyConnectivity",
            "XksProxyUriEndpoint", "XksProxyUriPath",
        ]);
    CreateGrant [CreateGrant] about_key().changes().across_accounts().grantable(9)
        .in_states(Enabled)
        .records(&[
            "GranteePrincipal", "GranteeServicePrincipal", "RetiringPrincipal",
            "RetiringServicePrincipal", "Operations", "Constraints", "Name",
        ]);
    CreateKey [CreateKey] about_nothing().changes()
        .records(&[
            "Policy", "Description", "KeyUsage", "CustomerMasterKeySpec", "KeySpec", "Origin",
            "CustomKeyStoreId", "XksKeyId", "BypassPolicyLockoutSafetyCheck", "Tags", "MultiRegion",
        ]);
    Decapsulate [Decapsulate] cryptographic(Having(EncapsulateDecapsulate)).grantable(18)
        .records(&["EncapsulationAlgorithm"]);
    Decrypt [Decrypt] cryptographic(Having(EncryptDecrypt)).grantable(0).works_in_dry_runs()
        .records(&["EncryptionContext", "EncryptionAlgorithm"]);
    DeleteAlias [DeleteAlias] about_key().changes().records(&["AliasName"]);
    DeleteCustomKeyStore [DeleteCustomKeyStore]
        about_nothing().changes().records(&["CustomKeyStoreId"]);
    DeleteImportedKeyMaterial [DeleteImportedKeyMaterial]
        about_key().changes().of_origin(External).records(&["KeyMaterialId"]);
    DeriveSharedSecret [DeriveSharedSecret] cryptographic(Having(KeyAgreement)).grantable(16)
        .works_in_dry_runs()
        .records(&["KeyAgreementAlgorithm"]);
    DescribeCustomKeyStores [DescribeCustomKeyStores]
        about_nothing().records(&["CustomKeyStoreId", "CustomKeyStoreName"]);
    DescribeKey [DescribeKey] about_key().by_alias().across_accounts().grantable(11);
    DisableKey [DisableKey] about_key().changes();
    DisableKeyRotation [DisableKeyRotation]
        about_key().changes().of_origin(AwsKms).not_on_replicas().in_states(Enabled);
    DisconnectCustomKeyStore [DisconnectCustomKeyStore]
        about_nothing().changes().records(&["CustomKeyStoreId"]);
    EnableKey [EnableKey] about_key().changes();
    EnableKeyRotation [EnableKeyRotation]
        about_key().changes().of_origin(AwsKms).not_on_replicas().in_states(Enabled)
        .records(&["RotationPeriodInDays"]);
    Encapsulate [Encapsulate] cryptographic(Having(EncapsulateDecapsulate)).grantable(17)
        .records(&["EncapsulationAlgorithm"]);
    Encrypt [Encrypt] cryptographic(Having(EncryptDecrypt)).grantable(1)
        .records(&["EncryptionContext", "EncryptionAlgorithm"]);
    GenerateDataKey [GenerateDataKey] cryptographic(Symmetric).grantable(2)
        .records(&["EncryptionContext", "KeySpec", "NumberOfBytes"]);
    GenerateDataKeyPair [GenerateDataKeyPair] cryptographic(Symmetric).grantable(12)
        .records(&["EncryptionContext", "KeyPairSpec"]);
    GenerateDataKeyPairWithoutPlaintext [GenerateDataKeyPairWithoutPlaintext]
        cryptographic(Symmetric).grantable(13)
        .records(&["EncryptionContext", "KeyPairSpec"]);
    GenerateDataKeyWithoutPlaintext [GenerateDataKeyWithoutPlaintext]
        cryptographic(Symmetric).grantable(3)
        .records(&["EncryptionContext", "KeySpec", "NumberOfBytes"]);
    GenerateMac [GenerateMac] cryptographic(Having(GenerateVerifyMac)).grantable(14)
        .records(&["MacAlgorithm"]);
    GenerateRandom [GenerateRandom]
        about_nothing().limited().records(&["NumberOfBytes", "CustomKeyStoreId"]);
    GetKeyLastUsage [GetKeyLastUsage] about_key();
    GetKeyPolicy [GetKeyPolicy] about_key().records(&["PolicyName"]);
    GetKeyRotationStatus [GetKeyRotationStatus] about_key().across_accounts();
    GetParametersForImport [GetParametersForImport]
        about_key().of_origin(External).in_states(NotPendingDeletion)
        .records(&["WrappingAlgorithm", "WrappingKeySpec"]);
    GetPublicKey [GetPublicKey] about_key().by_alias().across_accounts().grantable(8).with_context()
        .takes(Asymmetric).in_states(WithMaterial).limited();
    ImportKeyMaterial [ImportKeyMaterial]
        about_key().changes().of_origin(External).in_states(NotPendingDeletion)
        .records(&[
            "ValidTo", "ExpirationModel", "ImportType", "KeyMaterialDescription", "KeyMaterialId",
        ]);
    ListAliases [ListAliases] about_nothing().records(&["KeyId"]);
    ListGrants [ListGrants]
        about_key().across_accounts()
        .records(&["GrantId", "GranteePrincipal", "GranteeServicePrincipal"]);
    ListKeyPolicies [ListKeyPolicies] about_key();
    ListKeyRotations [ListKeyRotations] about_key().records(&["IncludeKeyMaterial"]);
    ListKeys [ListKeys] about_nothing().records(&["ResourceOwners"]);
    ListResourceTags [ListResourceTags] about_key();
    ListRetirableGrants [ListRetirableGrants] about_nothing()
        .records(&["RetiringPrincipal", "RetiringServicePrincipal"]);
    PutKeyPolicy [PutKeyPolicy] about_key().changes()
        .records(&["PolicyName", "Policy", "BypassPolicyLockoutSafetyCheck"]);
    ReEncrypt [ReEncryptFrom, ReEncryptTo]
        cryptographic(Having(EncryptDecrypt)).grantable(4).works_in_dry_runs()
        .records(&[
            "SourceEncryptionContext", "SourceKeyId", "DestinationKeyId",
            "DestinationEncryptionContext", "SourceEncryptionAlgorithm",
            "DestinationEncryptionAlgorithm",
        ]);
    ReplicateKey [ReplicateKey] about_key().changes()
        .records(&[
            "ReplicaRegion", "Policy", "BypassPolicyLockoutSafetyCheck", "Description", "Tags",
        ]);
    RetireGrant [RetireGrant] about_grant().changes().across_accounts().grantable(10)
        .records(&["GrantId"]);
    RevokeGrant [RevokeGrant] about_key().changes().across_accounts().records(&["GrantId"]);
    RotateKeyOnDemand [RotateKeyOnDemand]
        about_key().changes().not_on_replicas().in_states(Enabled);
    ScheduleKeyDeletion [ScheduleKeyDeletion]
        about_key().changes().records(&["PendingWindowInDays"]);
    Sign [Sign] cryptographic(Having(SignVerify)).grantable(6)
        .records(&["MessageType", "SigningAlgorithm"]);
    TagResource [TagResource]
        about_key().changes().in_states(NotPendingDeletion).records(&["Tags"]);
    UntagResource [UntagResource]
        about_key().changes().in_states(NotPendingDeletion).records(&["TagKeys"]);
    UpdateAlias [UpdateAlias]
        about_key().changes().in_states(NotPendingDeletion).records(&["AliasName", "TargetKeyId"]);
    UpdateCustomKeyStore [UpdateCustomKeyStore] about_nothing().changes()
        .records(&[
            "CustomKeyStoreId", "NewCustomKeyStoreName", "XksProxyConnectivity",
            "XksProxyUriEndpoint", "XksProxyUriPath",
        ]);
    UpdateKeyDescription [UpdateKeyDescription]
        about_key().changes().in_states(NotPendingDeletion).records(&["Description"]);
    UpdatePrimaryRegion [UpdatePrimaryRegion] about_key().changes().records(&["PrimaryRegion"]);
    Verify [Verify] cryptographic(Having(SignVerify)).grantable(7).works_in_dry_runs()
        .records(&["MessageType", "SigningAlgorithm"]);
    VerifyMac [VerifyMac] cryptographic(Having(GenerateVerifyMac)).grantable(15).works_in_dry_runs()
        .records(&["MacAlgorithm"]);
    @others
    AssumeRole "sts:AssumeRole" about_role();
    AssumeRoleWithWebIdentity "sts:AssumeRoleWithWebIdentity" about_role();
    SetSourceIdentity "sts:SetSourceIdentity" about_role();
    TagSession "sts:TagSession" about_role();
    GetResources "tag:GetResources" about_nothing();
    GetTagKeys "tag:GetTagKeys" about_nothing();
    GetTagValues "tag:GetTagValues" about_nothing();
    TagResources "tag:TagResources" about_nothing();
    UntagResources "tag:UntagResources" about_nothing();
}

impl Operation {
    /// All, in the order of the alphabet.
    pub const ALL: &'static [Self] = Self::VARIANTS;

    /// The operation of this name; case matters.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let found = Self::ALL.binary_search_by(|operation| operation.name().cmp(name));
        found.ok().map(|at| Self::ALL[at])
    }

    /// The operation of this name, if it is a use of the key.
    #[must_use]
    pub fn using_a_key(name: &str) -> Option<Self> {
        Self::named(name).filter(|operation| operation.facts().is_use)
    }

    /// Its name, such as `Decrypt`.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// What other modules must agree on about it.
    #[must_use]
    pub const fn facts(self) -> &'static Facts {
        &FACTS[self as usize]
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())
    }
}

const _: () = {
    let (mut at, mut grantable) = (0, 0);
    while at < Operation::VARIANTS.len() {
        let operation = Operation::VARIANTS[at];
        if let Some(place) = operation.facts().grant_place {
            grantable += operation.actions().len();
            assert!(place as usize + operation.actions().len() <= Action::GRANTABLE);
        }
        at += 1;
    }
    assert!(grantable == Action::GRANTABLE, "each place is taken once");
};

impl Action {
    /// All: those of AWS KMS in the order of their operations, then those of other services.
    pub const ALL: &'static [Self] = Self::VARIANTS;
    /// How many actions a grant may allow.
    pub const GRANTABLE: usize = 19;

    /// The action that policies spell so, whatever the case of its letters.
    #[must_use]
    pub fn named(text: &str) -> Option<Self> {
        let mut all = Self::ALL.iter().copied();
        all.find(|action| action.name().eq_ignore_ascii_case(text))
    }

    /// Its name without the service, such as `Decrypt`: as grants and messages spell it.
    #[must_use]
    pub fn bare_name(self) -> &'static str {
        self.into()
    }

    /// Whether it encrypts or decrypts, so that `kms:EncryptionAlgorithm` has a value.
    #[must_use]
    pub fn encrypts(self) -> bool {
        self.facts().keys.usage() == Some(EncryptDecrypt)
    }

    /// Its place in `GrantOperationList` of the service model, if a grant may allow it.
    #[must_use]
    pub fn grant_place(self) -> Option<usize> {
        let first = usize::from(self.facts().grant_place?);
        let mut actions = self.operation()?.actions().iter();
        actions
            .position(|action| *action == self)
            .map(|at| first + at)
    }

    /// The actions that a grant may allow, in the order of the service model.
    #[must_use]
    pub fn grantable() -> [Self; Self::GRANTABLE] {
        let mut all = [Self::Decrypt; Self::GRANTABLE];
        for action in Self::ALL {
            if let Some(place) = action.grant_place() {
                all[place] = *action;
            }
        }
        all
    }

    /// The action that a grant spells so, such as `Decrypt`.
    #[must_use]
    pub fn of_grant(name: &str) -> Option<Self> {
        let action: Self = name.parse().ok()?;
        action.grant_place().map(|_| action)
    }
}

#[cfg(test)]
mod tests;
