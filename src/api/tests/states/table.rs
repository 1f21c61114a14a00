//! The table: the kinds of keys, the states, and how each operation ends.

use super::*;

/// How an operation ends in a state.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Done,
    Disabled,
    PendingDeletion,
    PendingImport,
    Unavailable,
    NotPendingDeletion,
}

pub(super) use End::{
    Disabled as D, Done as OK, NotPendingDeletion as N, PendingDeletion as P, PendingImport as I,
    Unavailable as U,
};

/// The states, in the order of a row's ends.
pub(super) const STATES: [&str; 6] = [
    "Enabled",
    "Disabled",
    "PendingDeletion",
    "PendingImport",
    "Unavailable",
    "PendingReplicaDeletion",
];
pub(super) const ENABLED: usize = 0;
pub(super) const DISABLED: usize = 1;
pub(super) const PENDING_DELETION: usize = 2;
pub(super) const PENDING_IMPORT: usize = 3;
/// Of keys in a custom key store alone, while that is not connected.
pub(super) const UNAVAILABLE: usize = 4;
/// Operations end as in `PendingDeletion`, and call it by its own name.
pub(super) const PENDING_REPLICA_DELETION: usize = 5;

/// The states of a key in a custom key store.
pub(super) const IN_KEY_STORE_STATES: [usize; 4] =
    [ENABLED, DISABLED, PENDING_DELETION, UNAVAILABLE];

/// Which of several related keys a key is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Related {
    /// None: it is a single-Region key.
    Not,
    /// A primary key in the home Region, with a replica key.
    Primary,
    /// A replica key in another Region.
    Replica,
}

impl Related {
    /// The states that such keys have.
    pub(super) fn states(self) -> &'static [usize] {
        match self {
            Self::Not | Self::Replica => &[ENABLED, DISABLED, PENDING_DELETION, PENDING_IMPORT],
            Self::Primary => &[ENABLED, DISABLED, PENDING_REPLICA_DELETION, PENDING_IMPORT],
        }
    }
}

/// Of multi-Region keys.
pub(super) const MULTI_REGION_KINDS: [Kind; 4] = [
    SYMMETRIC,
    Kind {
        origin: "EXTERNAL",
        ..SYMMETRIC
    },
    SIGN,
    MAC,
];

/// In a custom key store.
pub(super) const IN_KEY_STORE: Kind = Kind {
    origin: "EXTERNAL_KEY_STORE",
    ..SYMMETRIC
};

/// What a key is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Kind {
    pub(super) spec: &'static str,
    pub(super) usage: &'static str,
    /// Of the states that have material; a key that waits for its import is always `EXTERNAL`.
    pub(super) origin: &'static str,
}

pub(super) const fn kind(spec: &'static str, usage: &'static str) -> Kind {
    let origin = "AWS_KMS";
    Kind {
        spec,
        usage,
        origin,
    }
}

pub(super) const SYMMETRIC: Kind = kind("SYMMETRIC_DEFAULT", "ENCRYPT_DECRYPT");
pub(super) const SIGN: Kind = kind("ECC_NIST_P256", "SIGN_VERIFY");
pub(super) const MAC: Kind = kind("HMAC_256", "GENERATE_VERIFY_MAC");
pub(super) const KINDS: [Kind; 10] = [
    SYMMETRIC,
    Kind {
        origin: "EXTERNAL",
        ..SYMMETRIC
    },
    kind("RSA_2048", "ENCRYPT_DECRYPT"),
    kind("RSA_2048", "SIGN_VERIFY"),
    SIGN,
    kind("ECC_NIST_P256", "KEY_AGREEMENT"),
    MAC,
    kind("ECC_NIST_EDWARDS25519", "SIGN_VERIFY"),
    kind("ML_DSA_44", "SIGN_VERIFY"),
    kind("ML_KEM_512", "ENCAPSULATE_DECAPSULATE"),
];

/// Which keys an operation takes that is performed in the key's state, and how others are refused.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Fit {
    /// All that have the usage.
    All,
    /// Symmetric ones.
    DataKeys,
    /// Symmetric ones that are not in a custom key store.
    DataKeyPairs,
    /// Those with a public key.
    Public,
    /// Symmetric ones; of imported material only after more was imported; none in a custom key
    /// store.
    Rotation,
    /// As [`Fit::Rotation`], whatever the material.
    Schedule,
    /// Primary keys; others are refused with this code and this ending, whatever their state.
    Primary(Code, &'static str),
    /// With a proof that is none of the key's.
    Proof(Code),
}

/// What an operation takes.
pub(super) struct Row {
    /// Empty for every origin.
    pub(super) origin: &'static str,
    /// Empty for every usage.
    pub(super) usage: &'static str,
    pub(super) ends: [End; 5],
    pub(super) fit: Fit,
    /// Whether replica keys have it.
    pub(super) on_replicas: bool,
}

pub(super) const fn of(usage: &'static str, ends: [End; 5]) -> Row {
    Row {
        origin: "",
        usage,
        ends,
        fit: Fit::All,
        on_replicas: true,
    }
}

impl Row {
    pub(super) const fn fit(self, fit: Fit) -> Self {
        Self { fit, ..self }
    }

    pub(super) const fn of_primary(self) -> Self {
        Self {
            on_replicas: false,
            ..self
        }
    }

    pub(super) const fn origin(self, origin: &'static str) -> Self {
        Self { origin, ..self }
    }
}

/// The table. `None`: the operation is about no key.
pub(super) fn row(operation: Operation) -> Option<Row> {
    use Operation as O;
    let cryptographic = [OK, D, P, I, U];
    Some(match operation {
        O::GenerateDataKey | O::GenerateDataKeyWithoutPlaintext => {
            of("ENCRYPT_DECRYPT", cryptographic).fit(Fit::DataKeys)
        }
        O::GenerateDataKeyPair | O::GenerateDataKeyPairWithoutPlaintext => {
            of("ENCRYPT_DECRYPT", cryptographic).fit(Fit::DataKeyPairs)
        }
        O::Encrypt | O::Decrypt | O::ReEncrypt => of("ENCRYPT_DECRYPT", cryptographic),
        O::GenerateMac => of("GENERATE_VERIFY_MAC", cryptographic),
        O::VerifyMac => {
            of("GENERATE_VERIFY_MAC", cryptographic).fit(Fit::Proof(Code::KMSInvalidMacException))
        }
        O::Sign => of("SIGN_VERIFY", cryptographic),
        O::Verify => {
            of("SIGN_VERIFY", cryptographic).fit(Fit::Proof(Code::KMSInvalidSignatureException))
        }
        O::DeriveSharedSecret => of("KEY_AGREEMENT", cryptographic),
        O::Encapsulate | O::Decapsulate => of("ENCAPSULATE_DECAPSULATE", cryptographic),
        O::GetPublicKey => of("", [OK, OK, P, I, OK]).fit(Fit::Public),
        O::CreateGrant => of("", [OK, D, P, I, OK]),
        O::DescribeKey
        | O::GetKeyLastUsage
        | O::GetKeyPolicy
        | O::PutKeyPolicy
        | O::ListKeyPolicies
        | O::ListAliases
        | O::ListGrants
        | O::ListResourceTags
        | O::ListKeyRotations
        | O::GetKeyRotationStatus
        | O::RetireGrant
        | O::RevokeGrant
        | O::DeleteAlias => of("", [OK; 5]),
        O::CreateAlias
        | O::UpdateAlias
        | O::TagResource
        | O::UntagResource
        | O::UpdateKeyDescription
        | O::ScheduleKeyDeletion => of("", [OK, OK, P, OK, OK]),
        O::EnableKey | O::DisableKey => of("", [OK, OK, P, I, OK]),
        O::CancelKeyDeletion => of("", [N, N, OK, N, N]),
        O::EnableKeyRotation => of("", cryptographic)
            .origin("AWS_KMS")
            .fit(Fit::Schedule)
            .of_primary(),
        O::DisableKeyRotation => of("", cryptographic).origin("AWS_KMS").of_primary(),
        O::RotateKeyOnDemand => of("", [OK, D, P, I, OK]).fit(Fit::Rotation).of_primary(),
        O::ReplicateKey => {
            let code = Code::UnsupportedOperationException;
            of("", cryptographic).fit(Fit::Primary(code, "is not a multi-region primary key."))
        }
        O::UpdatePrimaryRegion => {
            let code = Code::UnsupportedOperationException;
            of("", cryptographic).fit(Fit::Primary(code, "is not a multi-Region primary key."))
        }
        O::GetParametersForImport => of("", [OK, OK, P, OK, OK]).origin("EXTERNAL"),
        O::ImportKeyMaterial => of("", [OK, OK, P, OK, OK])
            .origin("EXTERNAL")
            .fit(Fit::Proof(Code::InvalidImportTokenException)),
        O::DeleteImportedKeyMaterial => of("", [OK; 5]).origin("EXTERNAL"),
        // About no key.
        O::CreateKey | O::GenerateRandom | O::ListKeys | O::ListRetirableGrants => return None,
        O::ConnectCustomKeyStore
        | O::CreateCustomKeyStore
        | O::DeleteCustomKeyStore
        | O::DescribeCustomKeyStores
        | O::DisconnectCustomKeyStore
        | O::UpdateCustomKeyStore => return None,
    })
}
