//! Condition keys: the names of facts. Case is ignored. Unknown names are refused, because a
//! misspelt key would never be in a request.
//!
//! Sources: AWS KMS Developer Guide, "AWS KMS condition keys",
//! <https://docs.aws.amazon.com/kms/latest/developerguide/conditions-kms.html>; AWS IAM, "AWS
//! global condition context keys",
//! <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_condition-keys.html>, and
//! "IAM and AWS STS condition context keys",
//! <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_iam-condition-keys.html>.

use crate::policy::element::Grammar;
use crate::policy::error::{InvalidPolicy, refuse};
use crate::policy::measurement::Measurement;

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
    /// `aws:SourceIdentity`: that of the caller's session.
    SourceIdentity,
    /// `aws:FederatedProvider`: the identity provider of the caller's session.
    FederatedProvider,
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
    RecipientAttestation(Measurement),
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
    /// `sts:ExternalId`
    ExternalId,
    /// `sts:RoleSessionName`
    RoleSessionName,
    /// `sts:SourceIdentity`: that of the new session.
    NewSourceIdentity,
    /// `sts:TransitiveTagKeys`, of several values.
    TransitiveTagKeys,
    /// `<issuer>:<claim>` in a trust policy: a claim of the token that the role is assumed with.
    /// The issuer is its URL without `https://`.
    Claim {
        /// The issuer; case matters.
        issuer: Box<str>,
        /// The claim, such as `sub`, in lower case.
        claim: Box<str>,
    },
    /// A key of another service, or a global key for a feature that does not exist here
    /// (organizations, AWS networks, services as callers). It is never in a request.
    Inapplicable,
}

impl ConditionKey {
    pub(in crate::policy) fn parse(text: &str, grammar: Grammar) -> Result<Self, InvalidPolicy> {
        let Some((service, name)) = text.split_once(':') else {
            return refuse(format!("condition key {text:?}: not <service>:<name>"));
        };
        let key = match service.to_ascii_lowercase().as_str() {
            "aws" => global(name),
            "kms" => of_kms(name),
            "sts" => of_sts(name).or(of_another(service, name, grammar)),
            _ if grammar == Grammar::Trust => claim(text),
            _ => of_another(service, name, grammar),
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
                | Self::TransitiveTagKeys
        ) || matches!(self, Self::Claim { claim, .. } if **claim == *"amr")
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
        "sourceidentity" => ConditionKey::SourceIdentity,
        "federatedprovider" => ConditionKey::FederatedProvider,
        "resourceaccount" => ConditionKey::ResourceAccount,
        "tagkeys" => ConditionKey::TagKeys,
        _ if INAPPLICABLE.contains(&name.as_str()) => ConditionKey::Inapplicable,
        _ => return None,
    })
}

/// Global keys for features that do not exist here, in lower case.
const INAPPLICABLE: [&str; 29] = [
    "assumedroot",
    "calledvia",
    "calledviafirst",
    "calledvialast",
    "chatbotsourcearn",
    "ec2instancesourceprivateipv4",
    "ec2instancesourcevpc",
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
            "recipientattestation" => {
                Measurement::named(rest).map(ConditionKey::RecipientAttestation)
            }
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

fn of_sts(name: &str) -> Option<ConditionKey> {
    Some(match name.to_ascii_lowercase().as_str() {
        "externalid" => ConditionKey::ExternalId,
        "rolesessionname" => ConditionKey::RoleSessionName,
        "sourceidentity" => ConditionKey::NewSourceIdentity,
        "transitivetagkeys" => ConditionKey::TransitiveTagKeys,
        _ => return None,
    })
}

/// A key of a service that does not exist here. It is a mistake in a trust policy, which is about
/// STS alone.
fn of_another(service: &str, name: &str, grammar: Grammar) -> Option<ConditionKey> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._/".contains(&byte);
    let formed = !service.is_empty() && service.bytes().all(allowed) && !name.is_empty();
    (formed && grammar != Grammar::Trust).then_some(ConditionKey::Inapplicable)
}

/// `<issuer>:<claim>`; the issuer may have a port.
fn claim(text: &str) -> Option<ConditionKey> {
    let (issuer, claim) = text.rsplit_once(':')?;
    let allowed = |byte: u8| byte.is_ascii_graphic() && !b"*?$".contains(&byte);
    let formed = |part: &str| !part.is_empty() && part.bytes().all(allowed);
    (formed(issuer) && formed(claim)).then(|| ConditionKey::Claim {
        issuer: issuer.into(),
        claim: claim.to_ascii_lowercase().into(),
    })
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
                ConditionKey::RecipientAttestation(Measurement::Pcr(0)),
            ),
            ("aws:PrincipalOrgID", ConditionKey::Inapplicable),
            ("s3:prefix", ConditionKey::Inapplicable),
            (
                "cognito-identity.amazonaws.com:sub",
                ConditionKey::Inapplicable,
            ),
        ] {
            assert_eq!(ConditionKey::parse(text, Grammar::Key), Ok(key), "{text}");
        }
    }

    #[test]
    fn a_trust_policy_knows_keys_of_sts_and_claims_of_issuers_and_no_others() {
        let claim = |issuer: &str, claim: &str| ConditionKey::Claim {
            issuer: issuer.into(),
            claim: claim.into(),
        };
        for (text, key) in [
            ("sts:ExternalId", ConditionKey::ExternalId),
            ("STS:rolesessionname", ConditionKey::RoleSessionName),
            ("sts:SourceIdentity", ConditionKey::NewSourceIdentity),
            ("sts:TransitiveTagKeys", ConditionKey::TransitiveTagKeys),
            ("aws:SourceIdentity", ConditionKey::SourceIdentity),
            (
                "issuer.example/id/42:sub",
                claim("issuer.example/id/42", "sub"),
            ),
            (
                "issuer.example:8443/x/:aud",
                claim("issuer.example:8443/x/", "aud"),
            ),
        ] {
            assert_eq!(ConditionKey::parse(text, Grammar::Trust), Ok(key), "{text}");
        }
        for text in [
            "sts:DurationSeconds",
            "sts:",
            "a b:sub",
            "issuer.example:",
            "*:sub",
        ] {
            assert!(ConditionKey::parse(text, Grammar::Trust).is_err(), "{text}");
        }
        // Where a policy decides on other requests too, such a key is of no request.
        let elsewhere = ConditionKey::parse("sts:DurationSeconds", Grammar::Identity);
        assert_eq!(elsewhere, Ok(ConditionKey::Inapplicable));
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
            assert!(ConditionKey::parse(text, Grammar::Key).is_err(), "{text}");
        }
    }
}
