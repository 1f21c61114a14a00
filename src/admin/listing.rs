//! Descriptions of principals, without their secrets.

use crate::admin::lookup::{arn_in_body, find};
use crate::api::marker::{Marker, Page, PageSize};
use crate::api::validation::Violations;
use crate::api::wire::{self, Object, Text};
use crate::api::{Answer, Api, Requester};
use crate::keystore::{AccessKey, PrincipalEntry};
use crate::policy::Principal;
use crate::policy::principal::PrincipalKind;
use std::ops::Bound;
use std::sync::Arc;

wire::input! {
    #[serde(deny_unknown_fields)]
    struct ListInput<'a> {
        limit: Option<i64>,
        marker: Text<'a>,
    }
}

/// `ListPrincipals`: of every account, by ARN.
pub(super) fn list(api: &Api, body: &[u8]) -> Answer {
    const PAGE: PageSize = PageSize::of_default_and_max(100, 1000);
    let input: ListInput<'_> = wire::decode(body)?;
    let mut violations = Violations::default();
    let marker = input.marker.as_deref();
    let limit = PAGE.check(input.limit, marker, &mut violations);
    let limit = violations.check(limit)?;
    let listing = Marker::of_listing("ListPrincipals");
    let after: Option<String> = listing.read(marker)?;
    let start = after.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
    let snapshot = api.keystore.snapshot();
    let range = snapshot.principals.range::<str>((start, Bound::Unbounded));
    let page = Page::of(range.map(|(_, entry)| entry), limit);
    let after = |last: &&Arc<PrincipalEntry>| listing.after(&last.principal.arn);
    Ok(page.reply("Principals", |entry| summary(entry), after))
}

/// `DescribePrincipal`: with policies and tags, and for a role who may assume it.
pub(super) fn describe(api: &Api, operator: &Requester, body: &[u8]) -> Answer {
    let arn = arn_in_body(api, operator, body)?;
    let snapshot = api.keystore.snapshot();
    let entry = find(&snapshot, &arn)?;
    let policies: Vec<&str> = entry
        .principal
        .policies
        .iter()
        .map(|policy| policy.source())
        .collect();
    let mut object = summary(entry);
    serde_json::to_writer(object.member("Policies"), &policies)
        .expect("writing text to a vector cannot fail");
    let tags = entry.principal.tags().iter().map(|tag| {
        let mut object = Object::with_room(2 * (tag.key.len() + tag.value.len()) + 32);
        object.text("Key", &tag.key);
        object.text("Value", &tag.value);
        object
    });
    object.list("Tags", tags);
    if entry.principal.kind() == PrincipalKind::Role {
        if let Some(policy) = &entry.trust_policy {
            object.text("TrustPolicy", policy.source());
        }
        object.number("MaxSessionDuration", entry.session_seconds_max);
    }
    Ok(object.end())
}

fn summary(entry: &Arc<PrincipalEntry>) -> Object {
    let principal = &entry.principal;
    let mut object = Object::with_room(512);
    object.text("Arn", &principal.arn);
    object.plain("Kind", kind(principal));
    object.shown("Account", principal.account);
    if let Some(id) = principal.unique_id() {
        object.plain("UniqueId", id);
    }
    object.flag("Enabled", entry.enabled);
    let access_key = |key: &Arc<AccessKey>| {
        let mut object = Object::with_room(64);
        object.plain("AccessKeyId", &key.id);
        object.plain("Status", if key.active { "Active" } else { "Inactive" });
        object
    };
    object.list("AccessKeys", entry.access_keys.iter().map(access_key));
    object.number("PolicyCount", principal.policies.len());
    object
}

/// The kind as `CreatePrincipal` spells it; a store has no other kinds.
fn kind(principal: &Principal) -> &'static str {
    match principal.kind() {
        PrincipalKind::Role | PrincipalKind::AssumedRole => "role",
        PrincipalKind::Root => "root",
        PrincipalKind::User
        | PrincipalKind::FederatedUser
        | PrincipalKind::WebIdentity
        | PrincipalKind::Operator => "user",
    }
}
