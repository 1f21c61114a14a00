//! Condition keys: the names of facts. Case is ignored. Unknown names are refused, because a
//! misspelt key would never be in a request.
//!
//! Sources: AWS KMS Developer Guide, "AWS KMS condition keys",
//! <https://docs.aws.amazon.com/kms/latest/developerguide/conditions-kms.html>; AWS IAM, "AWS
//! global condition context keys",
//! <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_condition-keys.html>.

use crate::policy::error::{InvalidPolicy, refuse};

/// A condition key. A key with a name after a colon or slash carries that name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConditionKey {
    /// `aws:CurrentTime`
    CurrentTime,
    /// `aws:EpochTime`
    EpochTime,
    /// `aws:SourceIp`
    SourceIp,
    /// `aws:SecureTransport`
    SecureTransport,
    /// `aws:RequestedRegion`
    RequestedRegion,
    /// `aws:ViaAWSService`
    ViaAwsService,
    /// `aws:PrincipalIsAWSService`
    PrincipalIsAwsService,
    /// `aws:PrincipalArn`
    PrincipalArn,
    /// `aws:PrincipalAccount`
    PrincipalAccount,
    /// `aws:PrincipalType`
    PrincipalType,
    /// `aws:PrincipalTag/<key>`
    PrincipalTag(Box<str>),
    /// `aws:userid`
    UserId,
    /// `aws:username`
    UserName,
    /// `aws:TokenIssueTime`
    TokenIssueTime,
    /// `aws:MultiFactorAuthPresent`
    MultiFactorAuthPresent,
    /// `aws:ResourceAccount`
    ResourceAccount,
    /// `aws:ResourceTag/<key>`
    ResourceTag(Box<str>),
    /// `aws:RequestTag/<key>`
    RequestTag(Box<str>),
    /// `aws:TagKeys`, of several values.
    TagKeys,
    /// `kms:BypassPolicyLockoutSafetyCheck`
    BypassPolicyLockoutSafetyCheck,
    /// `kms:CallerAccount`
    CallerAccount,
    /// `kms:DataKeyPairSpec`
    DataKeyPairSpec,
    /// `kms:EncryptionAlgorithm`
    EncryptionAlgorithm,
    /// `kms:EncryptionContext:<name>`
    EncryptionContext(Box<str>),
    /// `kms:EncryptionContextKeys`, of several values.
    EncryptionContextKeys,
    /// `kms:ExpirationModel`
    ExpirationModel,
    /// `kms:GrantConstraintSourceArn`
    GrantConstraintSourceArn,
    /// `kms:GrantConstraintType`
    GrantConstraintType,
    /// `kms:GrantIsForAWSResource`
    GrantIsForAwsResource,
    /// `kms:GrantOperations`, of several values.
    GrantOperations,
    /// `kms:GranteePrincipal`
    GranteePrincipal,
    /// `kms:GranteeServicePrincipal`
    GranteeServicePrincipal,
    /// `kms:KeyAgreementAlgorithm`
    KeyAgreementAlgorithm,
    /// `kms:KeyOrigin`
    KeyOrigin,
    /// `kms:KeySpec`, and its old name `kms:CustomerMasterKeySpec`.
    KeySpec,
    /// `kms:KeyUsage`, and its old name `kms:CustomerMasterKeyUsage`.
    KeyUsage,
    /// `kms:MacAlgorithm`
    MacAlgorithm,
    /// `kms:MessageType`
    MessageType,
    /// `kms:MultiRegion`
    MultiRegion,
    /// `kms:MultiRegionKeyType`
    MultiRegionKeyType,
    /// `kms:PolicyName`
    PolicyName,
    /// `kms:PrimaryRegion`
    PrimaryRegion,
    /// `kms:RecipientAttestation:<measurement>`
    RecipientAttestation(Box<str>),
    /// `kms:ReEncryptOnSameKey`
    ReEncryptOnSameKey,
    /// `kms:ReplicaRegion`
    ReplicaRegion,
    /// `kms:RequestAlias`
    RequestAlias,
    /// `kms:ResourceAliases`, of several values.
    ResourceAliases,
    /// `kms:RetiringPrincipal`
    RetiringPrincipal,
    /// `kms:RetiringServicePrincipal`
    RetiringServicePrincipal,
    /// `kms:RotationPeriodInDays`
    RotationPeriodInDays,
    /// `kms:ScheduleKeyDeletionPendingWindowInDays`
    ScheduleKeyDeletionPendingWindowInDays,
    /// `kms:SigningAlgorithm`
    SigningAlgorithm,
    /// `kms:ValidTo`
    ValidTo,
    /// `kms:ViaService`
    ViaService,
    /// `kms:WrappingAlgorithm`
    WrappingAlgorithm,
    /// `kms:WrappingKeySpec`
    WrappingKeySpec,
    /// A key of another service, or a global key for a feature that does not exist here
    /// (organizations, AWS networks, services as callers). It is never in a request.
    Inapplicable,
}

impl ConditionKey {
    pub(in crate::policy) fn parse(text: &str) -> Result<Self, InvalidPolicy> {
        let Some((service, name)) = text.split_once(':') else {
            return refuse(format!("condition key {text:?}: not <service>:<name>"));
        };
        let key = if service.eq_ignore_ascii_case("aws") {
            global(name)
        } else if service.eq_ignore_ascii_case("kms") {
            of_kms(name)
        } else {
            let service = service
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-._/".contains(&b))
                && !service.is_empty();
            (service && !name.is_empty()).then_some(Self::Inapplicable)
        };
        key.map_or_else(|| refuse(format!("unknown condition key {text:?}")), Ok)
    }

    /// Whether AWS calls it multivalued: a set operator then decides how its values are compared.
    #[must_use]
    pub fn is_multivalued(&self) -> bool {
        matches!(
            self,
            Self::TagKeys
                | Self::EncryptionContextKeys
                | Self::GrantOperations
                | Self::ResourceAliases
        )
    }
}

fn global(name: &str) -> Option<ConditionKey> {
    if let Some((kind, tag)) = name.split_once('/') {
        let tag = Some(tag).filter(|tag| !tag.is_empty())?.into();
        return match kind.to_ascii_lowercase().as_str() {
            "principaltag" => Some(ConditionKey::PrincipalTag(tag)),
            "resourcetag" => Some(ConditionKey::ResourceTag(tag)),
            "requesttag" => Some(ConditionKey::RequestTag(tag)),
            _ => None,
        };
    }
    let name = name.to_ascii_lowercase();
    Some(match name.as_str() {
        "currenttime" => ConditionKey::CurrentTime,
        "epochtime" => ConditionKey::EpochTime,
        "sourceip" => ConditionKey::SourceIp,
        "securetransport" => ConditionKey::SecureTransport,
        "requestedregion" => ConditionKey::RequestedRegion,
        "viaawsservice" => ConditionKey::ViaAwsService,
        "principalisawsservice" => ConditionKey::PrincipalIsAwsService,
        "principalarn" => ConditionKey::PrincipalArn,
        "principalaccount" => ConditionKey::PrincipalAccount,
        "principaltype" => ConditionKey::PrincipalType,
        "userid" => ConditionKey::UserId,
        "username" => ConditionKey::UserName,
        "tokenissuetime" => ConditionKey::TokenIssueTime,
        "multifactorauthpresent" => ConditionKey::MultiFactorAuthPresent,
        "resourceaccount" => ConditionKey::ResourceAccount,
        "tagkeys" => ConditionKey::TagKeys,
        _ if INAPPLICABLE.contains(&name.as_str()) => ConditionKey::Inapplicable,
        _ => return None,
    })
}

/// Global keys for features that do not exist here, in lower case.
const INAPPLICABLE: [&str; 31] = [
    "assumedroot",
    "calledvia",
    "calledviafirst",
    "calledvialast",
    "chatbotsourcearn",
    "ec2instancesourceprivateipv4",
    "ec2instancesourcevpc",
    "federatedprovider",
    "multifactorauthage",
    "principalorgid",
    "principalorgpaths",
    "principalservicename",
    "principalservicenameslist",
    "referer",
    "resourceorgid",
    "resourceorgpaths",
    "signinsessionarn",
    "sourceaccount",
    "sourcearn",
    "sourceidentity",
    "sourceorgid",
    "sourceorgpaths",
    "sourceowner",
    "sourcevpc",
    "sourcevpcarn",
    "sourcevpce",
    "useragent",
    "vpceaccount",
    "vpceorgid",
    "vpceorgpaths",
    "vpcsourceip",
];

fn of_kms(name: &str) -> Option<ConditionKey> {
    if let Some((kind, rest)) = name.split_once(':') {
        // The name of a context pair may contain colons, as in `aws:s3:arn`.
        return match kind.to_ascii_lowercase().as_str() {
            _ if rest.is_empty() => None,
            "encryptioncontext" => Some(ConditionKey::EncryptionContext(rest.into())),
            "recipientattestation" if is_measurement(rest) => Some(
                ConditionKey::RecipientAttestation(rest.to_ascii_lowercase().into()),
            ),
            _ => None,
        };
    }
    Some(match name.to_ascii_lowercase().as_str() {
        "bypasspolicylockoutsafetycheck" => ConditionKey::BypassPolicyLockoutSafetyCheck,
        "calleraccount" => ConditionKey::CallerAccount,
        "customermasterkeyspec" | "keyspec" => ConditionKey::KeySpec,
        "customermasterkeyusage" | "keyusage" => ConditionKey::KeyUsage,
        "datakeypairspec" => ConditionKey::DataKeyPairSpec,
        "encryptionalgorithm" => ConditionKey::EncryptionAlgorithm,
        "encryptioncontextkeys" => ConditionKey::EncryptionContextKeys,
        "expirationmodel" => ConditionKey::ExpirationModel,
        "grantconstraintsourcearn" => ConditionKey::GrantConstraintSourceArn,
        "grantconstrainttype" => ConditionKey::GrantConstraintType,
        "grantisforawsresource" => ConditionKey::GrantIsForAwsResource,
        "grantoperations" => ConditionKey::GrantOperations,
        "granteeprincipal" => ConditionKey::GranteePrincipal,
        "granteeserviceprincipal" => ConditionKey::GranteeServicePrincipal,
        "keyagreementalgorithm" => ConditionKey::KeyAgreementAlgorithm,
        "keyorigin" => ConditionKey::KeyOrigin,
        "macalgorithm" => ConditionKey::MacAlgorithm,
        "messagetype" => ConditionKey::MessageType,
        "multiregion" => ConditionKey::MultiRegion,
        "multiregionkeytype" => ConditionKey::MultiRegionKeyType,
        "policyname" => ConditionKey::PolicyName,
        "primaryregion" => ConditionKey::PrimaryRegion,
        "reencryptonsamekey" => ConditionKey::ReEncryptOnSameKey,
        "replicaregion" => ConditionKey::ReplicaRegion,
        "requestalias" => ConditionKey::RequestAlias,
        "resourcealiases" => ConditionKey::ResourceAliases,
        "retiringprincipal" => ConditionKey::RetiringPrincipal,
        "retiringserviceprincipal" => ConditionKey::RetiringServicePrincipal,
        "rotationperiodindays" => ConditionKey::RotationPeriodInDays,
        "schedulekeydeletionpendingwindowindays" => {
            ConditionKey::ScheduleKeyDeletionPendingWindowInDays
        }
        "signingalgorithm" => ConditionKey::SigningAlgorithm,
        "validto" => ConditionKey::ValidTo,
        "viaservice" => ConditionKey::ViaService,
        "wrappingalgorithm" => ConditionKey::WrappingAlgorithm,
        "wrappingkeyspec" => ConditionKey::WrappingKeySpec,
        _ => return None,
    })
}

/// `ImageSha384`, `PCR<n>` or `NitroTPMPCR<n>`
fn is_measurement(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let register = name
        .strip_prefix("nitrotpm")
        .unwrap_or(&name)
        .strip_prefix("pcr");
    name == "imagesha384"
        || register
            .and_then(|digits| digits.parse::<u8>().ok())
            .is_some_and(|index| index < 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_known_in_any_case() {
        for (text, key) in [
            ("aws:SourceIp", ConditionKey::SourceIp),
            ("AWS:sourceIP", ConditionKey::SourceIp),
            (
                "KMS:ENCRYPTIONCONTEXTKEYS",
                ConditionKey::EncryptionContextKeys,
            ),
            ("kms:CustomerMasterKeySpec", ConditionKey::KeySpec),
            (
                "kms:encryptionContext:aws:s3:Arn",
                ConditionKey::EncryptionContext("aws:s3:Arn".into()),
            ),
            (
                "aws:principaltag/Cost Centre",
                ConditionKey::PrincipalTag("Cost Centre".into()),
            ),
            (
                "kms:RecipientAttestation:PCR0",
                ConditionKey::RecipientAttestation("pcr0".into()),
            ),
            ("aws:PrincipalOrgID", ConditionKey::Inapplicable),
            ("s3:prefix", ConditionKey::Inapplicable),
            (
                "cognito-identity.amazonaws.com:sub",
                ConditionKey::Inapplicable,
            ),
        ] {
            assert_eq!(ConditionKey::parse(text), Ok(key), "{text}");
        }
    }

    #[test]
    fn what_is_unknown_is_refused() {
        for text in [
            "",
            "aws",
            "SourceIp",
            "aws:",
            "aws:SourceIpp",
            "aws:Source Ip",
            "kms:",
            "kms:KeySpecs",
            "kms:EncryptionContext",
            "kms:EncryptionContext:",
            "kms:RecipientAttestation:PCR32",
            "kms:RecipientAttestation:",
            "aws:PrincipalTag",
            "aws:PrincipalTag/",
            "aws:SessionTag/x",
            "kms:NumberOfBytes",
            ":x",
            "s3:",
            "s 3:x",
        ] {
            assert!(ConditionKey::parse(text).is_err(), "{text}");
        }
    }
}
