//! A grant's record: its content is checked again when it is read.

use crate::clock::Timestamp;
use crate::context::EncryptionContext;
use crate::crypto::secret::SecretBytes;
use crate::key::regions::RegionalId;
use crate::keystore::body::{encode as encode_body, split};
use crate::operation::Action;
use crate::policy::grant::{
    Draft, GrantConstraint, GrantId, GrantName, GrantPrincipal, Named, SourceArn,
};
use crate::policy::{Grant, GrantParameters};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct GrantBody {
    /// The ARN of a principal, or the name of a service of AWS.
    grantee: String,
    retiring_principal: Option<String>,
    operations: Vec<String>,
    constraint: Option<ConstraintBody>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    source_arn: Option<String>,
    name: Option<String>,
    issuing_account: String,
    creation_date: u64,
}

#[derive(Serialize, Deserialize)]
enum ConstraintBody {
    EncryptionContextEquals(Vec<(String, String)>),
    EncryptionContextSubset(Vec<(String, String)>),
}

/// The id of the record of a grant of a key, as records name the key.
pub(in crate::keystore) fn record_id(key: &str, id: GrantId) -> String {
    format!("{key} {id}")
}

pub(in crate::keystore) fn encode(grant: &Grant) -> SecretBytes {
    let parameters = &grant.parameters;
    let pairs = |pairs: &EncryptionContext| {
        let pairs = pairs.pairs();
        pairs
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect()
    };
    let constraint = parameters.constraint().map(|constraint| match constraint {
        GrantConstraint::Equals(all) => ConstraintBody::EncryptionContextEquals(pairs(all)),
        GrantConstraint::Subset(some) => ConstraintBody::EncryptionContextSubset(pairs(some)),
    });
    let named = |who: &GrantPrincipal| who.as_str().to_owned();
    let operations = parameters.operations().iter();
    let body = GrantBody {
        grantee: named(parameters.grantee()),
        retiring_principal: parameters.retiring_principal().map(named),
        operations: operations.map(|one| one.bare_name().to_owned()).collect(),
        constraint,
        source_arn: parameters.source_arn().map(SourceArn::to_string),
        name: parameters.name().map(|name| name.as_str().to_owned()),
        issuing_account: grant.issuing_account.to_string(),
        creation_date: grant.creation_date.0,
    };
    encode_body(&body, &[])
}

pub(super) fn decode(key: RegionalId, id: &str, plaintext: &SecretBytes) -> Option<Grant> {
    let (body, secrets) = split::<GrantBody>(plaintext)?;
    let operations = body
        .operations
        .iter()
        .map(|name| Action::of_grant(name))
        .collect::<Option<_>>()?;
    let name: Option<GrantName> = match &body.name {
        None => None,
        Some(name) => Some(name.parse().ok()?),
    };
    let source_arn: Option<SourceArn> = match &body.source_arn {
        None => None,
        Some(arn) => Some(arn.parse().ok()?),
    };
    let (mut equals, mut subset) = (None, None);
    match body.constraint {
        None => {}
        Some(ConstraintBody::EncryptionContextEquals(pairs)) => {
            equals = Some(EncryptionContext::from_pairs(pairs).ok()?);
        }
        Some(ConstraintBody::EncryptionContextSubset(pairs)) => {
            subset = Some(EncryptionContext::from_pairs(pairs).ok()?);
        }
    }
    let draft = Draft {
        grantee: Named::of_record(&body.grantee),
        retiring_principal: body.retiring_principal.as_deref().map(Named::of_record),
        operations,
        equals: equals.as_ref(),
        subset: subset.as_ref(),
        source_arn: source_arn.as_ref(),
        name: name.as_ref(),
    };
    let grant = Grant {
        id: id.parse().ok()?,
        key,
        parameters: GrantParameters::check(draft).ok()?,
        issuing_account: body.issuing_account.parse().ok()?,
        creation_date: Timestamp(body.creation_date),
    };
    secrets.is_empty().then_some(grant)
}
