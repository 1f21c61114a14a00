//! `ListGrants` and `ListRetirableGrants`: by key and id, which stay where they are while grants
//! come and go. A grant's token is never listed.

use crate::api::admission::Ask;
use crate::api::grants::named::{GRANTEE, RETIRING};
use crate::api::grants::{GRANT_ID_CHARACTERS_MAX, grant_id, no_principal};
use crate::api::marker::{Marker, Page, PageSize};
use crate::api::members::Members;
use crate::api::validation::Violations;
use crate::api::wire::{self, Object, Text};
use crate::api::{Answer, Api, ApiError, ErrorCode, Requester};
use crate::key::KeyId;
use crate::key::regions::Region;
use crate::operation::Action;
use crate::policy::grant::{GrantId, Named};
use crate::policy::{Grant, GrantParameters, PrincipalName};
use std::fmt;
use std::ops::Bound;
use std::str::FromStr;
use std::sync::Arc;

const PAGE: PageSize = PageSize::of_default_and_max(50, 100);

wire::input! {
    struct Input<'a> {
        limit: Option<i64>,
        marker: Text<'a>,
        key_id: Text<'a>,
        grant_id: Text<'a>,
        grantee_principal: Text<'a>,
        retiring_principal: Text<'a>,
        grantee_service_principal: Text<'a>,
        retiring_service_principal: Text<'a>,
    }
}

/// `ListGrants`
pub(in crate::api) fn of_key(api: &Api, requester: &Requester, body: &[u8]) -> Answer {
    let input: Input<'_> = wire::decode(body)?;
    let mut violations = Violations::default();
    let marker = input.marker.as_deref();
    let limit = PAGE.check(input.limit, marker, &mut violations);
    let key = violations.key_id("keyId", &input.key_id);
    if let Some(id) = input.grant_id.as_deref() {
        violations.text("grantId", id, 1, GRANT_ID_CHARACTERS_MAX, None);
    }
    let grantee = GRANTEE.check(
        input.grantee_principal.as_deref(),
        input.grantee_service_principal.as_deref(),
        &mut violations,
    );
    let (key, limit) = violations.check((key, limit))?;
    let grantee = grantee?;
    let snapshot = api.keystore.snapshot();
    let attempt = api.attempt(requester, &snapshot)?;
    let ask = Ask::on(Action::ListGrants, &key).members(Members::OfGrants);
    let admitted = attempt.admit(ask, |_| {
        let grantee = as_principal(grantee, "GranteeServicePrincipal")?;
        let id = input.grant_id.as_deref().map(grant_id).transpose()?;
        Ok((grantee, id))
    })?;
    let (entry, (grantee, id)) = (admitted.entry(), admitted.prepared);
    let key = entry.key.id;
    let listing = Marker::of_listing(format_args!("ListGrants {key} {id:?} {grantee:?}"));
    let after: Option<GrantId> = listing.read(marker)?;
    let all = snapshot.grants.get(&entry.key.regional_id());
    let grants = all.into_iter();
    let grants = grants.flat_map(|all| all.listed(id, grantee, after));
    let item = |grant: &&Arc<Grant>| item(grant, attempt.region, &entry.arn);
    let after = |last: &&Arc<Grant>| listing.after(last.id);
    Ok(Page::of(grants, limit).reply("Grants", item, after))
}

/// `ListRetirableGrants`: on the keys of every account, for a retiring principal of the caller's.
pub(in crate::api) fn retirable(api: &Api, requester: &Requester, body: &[u8]) -> Answer {
    let input: Input<'_> = wire::decode(body)?;
    let mut violations = Violations::default();
    let marker = input.marker.as_deref();
    let limit = PAGE.check(input.limit, marker, &mut violations);
    let retiring = RETIRING.check(
        input.retiring_principal.as_deref(),
        input.retiring_service_principal.as_deref(),
        &mut violations,
    );
    let limit = violations.check(limit)?;
    let retiring = retiring?.ok_or_else(|| RETIRING.not_one())?;
    let snapshot = api.keystore.snapshot();
    let attempt = api.attempt(requester, &snapshot)?;
    let name = attempt.admit_alone(Action::ListRetirableGrants, Members::None, || {
        let retiring = as_principal(Some(retiring), "RetiringServicePrincipal")?;
        let retiring = retiring.unwrap_or_default();
        let name: Option<PrincipalName> = retiring.parse().ok();
        // Principals of other accounts are not visible to the caller.
        name.filter(|name| name.account() == attempt.principal.account)
            .ok_or_else(|| no_principal(retiring))
    })?;
    let listing = Marker::of_listing(format_args!("ListRetirableGrants {name}"));
    let after: Option<Place> = listing.read(marker)?;
    let from = after.map(|after| (attempt.region.id(after.key), after.id));
    let from = from.map_or(Bound::Unbounded, Bound::Excluded);
    let grants = snapshot.retirable(&name).into_iter();
    let grants = grants.flat_map(|grants| grants.range((from, Bound::Unbounded)));
    let grants = grants
        .map(|(_, grant)| grant)
        .filter(|grant| grant.key.region == attempt.region.number);
    let item = |grant: &&Arc<Grant>| {
        let entry = snapshot.keys.get(&grant.key);
        let key_arn = entry.map_or("", |entry| entry.arn.as_str());
        item(grant, attempt.region, key_arn)
    };
    let after = |last: &&Arc<Grant>| listing.after(Place::of(last));
    Ok(Page::of(grants, limit).reply("Grants", item, after))
}

/// The principal by which a listing is to be filtered. Filters by service are for callers that are
/// one (service model of AWS KMS), which none is here.
fn as_principal<'a>(named: Option<Named<'a>>, member: &str) -> Result<Option<&'a str>, ApiError> {
    match named {
        Some(Named::Service(_)) => {
            let message = format!("{member} can be used by a service of AWS only.");
            Err(ApiError::new(ErrorCode::ValidationException, message))
        }
        named => Ok(named.map(Named::as_str)),
    }
}

/// The place of a grant among those of all keys.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    key: KeyId,
    id: GrantId,
}

impl Place {
    fn of(grant: &Grant) -> Self {
        let (key, id) = (grant.key.id, grant.id);
        Self { key, id }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} {}", self.key, self.id)
    }
}

impl FromStr for Place {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (key, id) = text.split_once(' ').ok_or(())?;
        let (key, id) = (key.parse().map_err(drop)?, id.parse().map_err(drop)?);
        Ok(Self { key, id })
    }
}

/// `GrantListEntry`
fn item(grant: &Grant, region: &Region, key_arn: &str) -> Object {
    let parameters = &grant.parameters;
    let mut object = Object::with_room(1024);
    object.plain("KeyId", key_arn);
    object.shown("GrantId", grant.id);
    let name = parameters.name().map(|name| name.as_str());
    object.plain("Name", name.unwrap_or_default());
    object.time("CreationDate", grant.creation_date);
    let named = [
        Some((&GRANTEE, parameters.grantee())),
        parameters.retiring_principal().map(|who| (&RETIRING, who)),
    ];
    for (members, who) in named.into_iter().flatten() {
        object.text(members.of(who), who.as_str());
    }
    let (partition, account) = (&region.partition, grant.issuing_account);
    let root = format_args!("arn:{partition}:iam::{account}:root");
    object.shown("IssuingAccount", root);
    let operations: Vec<_> = parameters
        .operations()
        .iter()
        .map(Action::bare_name)
        .collect();
    serde_json::to_writer(object.member("Operations"), &operations)
        .expect("writing text to a vector cannot fail");
    if parameters.constraint().is_some() || parameters.source_arn().is_some() {
        object.object("Constraints", constraints(parameters));
    }
    object
}

/// `GrantConstraints`
fn constraints(parameters: &GrantParameters) -> Object {
    let mut object = Object::new();
    if let Some(constraint) = parameters.constraint() {
        let mut pairs = Object::new();
        for (name, value) in constraint.pairs().pairs() {
            pairs.named_text(name, value);
        }
        object.object(constraint.type_name(), pairs);
    }
    if let Some(arn) = parameters.source_arn() {
        object.text("SourceArn", arn.as_str());
    }
    object
}
