//! `ListKeys`: by id, which stays where it is while keys come and go.

use crate::api::marker::{Marker, Page, PageSize};
use crate::api::members::Members;
use crate::api::validation::Violations;
use crate::api::wire::{self, Object, Text};
use crate::api::{Answer, Api, Requester};
use crate::key::KeyId;
use crate::keystore::KeyEntry;
use crate::operation::Action;
use std::borrow::Cow;
use std::ops::Bound;
use std::sync::Arc;

wire::input! {
    struct Input<'a> {
        limit: Option<i64>,
        marker: Text<'a>,
        resource_owners: Option<Vec<Cow<'a, str>>>,
    }
}

/// Whose keys are listed: `ResourceOwners`.
#[derive(Clone, Copy)]
struct Owners {
    /// `SELF`, the default: those of the caller's account.
    own: bool,
    /// `OTHER_ACCOUNTS_VIA_RAM`: those that other accounts share. There is no Resource Access
    /// Manager here, so there are none.
    shared: bool,
}

impl Owners {
    const SELF: &str = "SELF";
    const VIA_RAM: &str = "OTHER_ACCOUNTS_VIA_RAM";
    const COUNT_MAX: usize = 2;

    fn check(given: Option<&[Cow<'_, str>]>, violations: &mut Violations) -> Self {
        let Some(owners) = given else {
            let (own, shared) = (true, false);
            return Self { own, shared };
        };
        let member = "resourceOwners";
        let shown = format!("[{}]", owners.join(", "));
        if owners.is_empty() {
            let must = "Member must have length greater than or equal to 1";
            violations.value(member, &shown, must);
        } else if owners.len() > Self::COUNT_MAX {
            let must = format_args!(
                "Member must have length less than or equal to {}",
                Self::COUNT_MAX
            );
            violations.value(member, &shown, must);
        }
        let known = [Self::SELF, Self::VIA_RAM];
        if !owners.iter().all(|owner| known.contains(&&**owner)) {
            let must = format_args!(
                "Member must satisfy constraint: [Member must satisfy enum value set: [{}]]",
                known.join(", ")
            );
            violations.value(member, &shown, must);
        }
        let has = |name| owners.iter().any(|owner| owner == name);
        let (own, shared) = (has(Self::SELF), has(Self::VIA_RAM));
        Self { own, shared }
    }

    /// The markers of the listing: each is bound to its owners.
    fn listing(self) -> Marker {
        match (self.own, self.shared) {
            (true, true) => Marker::of_listing("ListKeys of all owners"),
            (false, _) => Marker::of_listing("ListKeys of others"),
            (true, false) => Marker::of_listing("ListKeys"),
        }
    }
}

/// `ListKeys`: of the caller's account, in any state, by id.
pub(in crate::api) fn list(api: &Api, requester: &Requester, body: &[u8]) -> Answer {
    const PAGE: PageSize = PageSize::of_default_and_max(100, 1000);
    let input: Input<'_> = wire::decode(body)?;
    let mut violations = Violations::default();
    let marker = input.marker.as_deref();
    let limit = PAGE.check(input.limit, marker, &mut violations);
    let owners = Owners::check(input.resource_owners.as_deref(), &mut violations);
    let limit = violations.check(limit)?;
    api.read(requester, |attempt| {
        attempt.admit_alone(Action::ListKeys, Members::None, || Ok(()))?;
        let listing = owners.listing();
        let after: Option<KeyId> = listing.read(marker)?;
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let account = requester.principal.account;
        let keys = attempt.snapshot.listed_keys(attempt.region.number, account);
        let keys = keys.filter(|_| owners.own).into_iter();
        let keys = keys.flat_map(|keys| keys.range((start, Bound::Unbounded)));
        let keys = keys.map(|(_, entry)| entry);
        let item = |entry: &&Arc<KeyEntry>| {
            let mut object = Object::with_room(256);
            object.shown("KeyId", entry.key.id);
            object.plain("KeyArn", &entry.arn);
            object
        };
        let after = |last: &&Arc<KeyEntry>| listing.after(last.key.id);
        Ok(Page::of(keys, limit).reply("Keys", item, after))
    })
}
