//! The operations that a grant can let.
//!
//! Source: AWS KMS Developer Guide, "Grants in AWS KMS", the table of grant operations and the KMS
//! keys that support them.

use crate::policy::Action;
use std::fmt;
use std::str::FromStr;

/// An operation that a grant can let.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GrantOperation {
    /// `Decrypt`
    Decrypt,
    /// `Encrypt`
    Encrypt,
    /// `GenerateDataKey`
    GenerateDataKey,
    /// `GenerateDataKeyWithoutPlaintext`
    GenerateDataKeyWithoutPlaintext,
    /// `ReEncryptFrom`
    ReEncryptFrom,
    /// `ReEncryptTo`
    ReEncryptTo,
    /// `Sign`
    Sign,
    /// `Verify`
    Verify,
    /// `GetPublicKey`
    GetPublicKey,
    /// `CreateGrant`
    CreateGrant,
    /// `RetireGrant`
    RetireGrant,
    /// `DescribeKey`
    DescribeKey,
    /// `GenerateDataKeyPair`
    GenerateDataKeyPair,
    /// `GenerateDataKeyPairWithoutPlaintext`
    GenerateDataKeyPairWithoutPlaintext,
    /// `GenerateMac`
    GenerateMac,
    /// `VerifyMac`
    VerifyMac,
    /// `DeriveSharedSecret`
    DeriveSharedSecret,
}

/// Text that is no operation of a grant.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an operation of a grant")]
pub struct InvalidGrantOperation;

impl GrantOperation {
    /// All, in the order of the service model.
    pub const ALL: [Self; 17] = [
        Self::Decrypt,
        Self::Encrypt,
        Self::GenerateDataKey,
        Self::GenerateDataKeyWithoutPlaintext,
        Self::ReEncryptFrom,
        Self::ReEncryptTo,
        Self::Sign,
        Self::Verify,
        Self::GetPublicKey,
        Self::CreateGrant,
        Self::RetireGrant,
        Self::DescribeKey,
        Self::GenerateDataKeyPair,
        Self::GenerateDataKeyPairWithoutPlaintext,
        Self::GenerateMac,
        Self::VerifyMac,
        Self::DeriveSharedSecret,
    ];

    /// As `Operations` spells it: the action without its service.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Decrypt => "Decrypt",
            Self::Encrypt => "Encrypt",
            Self::GenerateDataKey => "GenerateDataKey",
            Self::GenerateDataKeyWithoutPlaintext => "GenerateDataKeyWithoutPlaintext",
            Self::ReEncryptFrom => "ReEncryptFrom",
            Self::ReEncryptTo => "ReEncryptTo",
            Self::Sign => "Sign",
            Self::Verify => "Verify",
            Self::GetPublicKey => "GetPublicKey",
            Self::CreateGrant => "CreateGrant",
            Self::RetireGrant => "RetireGrant",
            Self::DescribeKey => "DescribeKey",
            Self::GenerateDataKeyPair => "GenerateDataKeyPair",
            Self::GenerateDataKeyPairWithoutPlaintext => "GenerateDataKeyPairWithoutPlaintext",
            Self::GenerateMac => "GenerateMac",
            Self::VerifyMac => "VerifyMac",
            Self::DeriveSharedSecret => "DeriveSharedSecret",
        }
    }

    /// The operation of this action.
    #[must_use]
    pub fn of_action(action: Action) -> Option<Self> {
        action.0.strip_prefix("kms:")?.parse().ok()
    }

    /// Whether a constraint on the encryption context applies to it when it is used.
    #[must_use]
    pub(super) fn has_context(self) -> bool {
        !matches!(
            self,
            Self::CreateGrant | Self::RetireGrant | Self::DescribeKey
        )
    }

    /// Whether a key of this spec and usage has the operation.
    #[must_use]
    pub fn is_of_key(self, spec: &str, usage: &str) -> bool {
        let symmetric = spec == "SYMMETRIC_DEFAULT";
        match self {
            Self::CreateGrant | Self::RetireGrant | Self::DescribeKey => true,
            Self::Decrypt | Self::Encrypt | Self::ReEncryptFrom | Self::ReEncryptTo => {
                usage == "ENCRYPT_DECRYPT"
            }
            Self::GenerateDataKey
            | Self::GenerateDataKeyWithoutPlaintext
            | Self::GenerateDataKeyPair
            | Self::GenerateDataKeyPairWithoutPlaintext => symmetric && usage == "ENCRYPT_DECRYPT",
            Self::Sign | Self::Verify => usage == "SIGN_VERIFY",
            Self::GenerateMac | Self::VerifyMac => usage == "GENERATE_VERIFY_MAC",
            Self::DeriveSharedSecret => usage == "KEY_AGREEMENT",
            Self::GetPublicKey => !symmetric && usage != "GENERATE_VERIFY_MAC",
        }
    }

    fn bit(self) -> u32 {
        1 << self as u32
    }
}

impl FromStr for GrantOperation {
    type Err = InvalidGrantOperation;

    fn from_str(text: &str) -> Result<Self, InvalidGrantOperation> {
        let found = Self::ALL
            .into_iter()
            .find(|operation| operation.name() == text);
        found.ok_or(InvalidGrantOperation)
    }
}

/// A set of operations.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct GrantOperations(u32);

impl GrantOperations {
    /// Whether there are none.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether `operation` is among them.
    #[must_use]
    pub fn has(self, operation: GrantOperation) -> bool {
        self.0 & operation.bit() != 0
    }

    /// Whether all of `others` are among them.
    #[must_use]
    pub fn contain(self, others: Self) -> bool {
        others.0 & !self.0 == 0
    }

    /// They, in the order of the service model.
    pub fn iter(self) -> impl Iterator<Item = GrantOperation> {
        GrantOperation::ALL
            .into_iter()
            .filter(move |operation| self.has(*operation))
    }

    pub(super) fn is_only(self, operation: GrantOperation) -> bool {
        self.0 == operation.bit()
    }
}

impl FromIterator<GrantOperation> for GrantOperations {
    fn from_iter<I: IntoIterator<Item = GrantOperation>>(operations: I) -> Self {
        let bits = operations.into_iter().map(GrantOperation::bit);
        Self(bits.fold(0, |all, bit| all | bit))
    }
}

impl fmt::Debug for GrantOperations {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_set().entries(self.iter()).finish()
    }
}
