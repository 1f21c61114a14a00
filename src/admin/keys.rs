//! Descriptions of all keys, a thousand in a call: with `ListKeys` and `DescribeKey` each key would
//! take a call of its own, and a record in the audit log.

use crate::api::keys::described;
use crate::api::marker::{Marker, Page, PageSize};
use crate::api::validation::Violations;
use crate::api::wire::{self, Text};
use crate::api::{Answer, Api, Requester};
use crate::key::KeyId;
use crate::keystore::{KeyEntry, Snapshot};
use std::ops::Bound;
use std::sync::Arc;

/// Bytes of an answer, about: the page ends with the key that reaches them.
const ANSWER_BYTES: usize = if cfg!(test) { 1 << 20 } else { 4 << 20 };
/// Bytes of a key without its description and its aliases, about.
const KEY_BYTES: usize = 1200;
/// Bytes of a character in JSON at most: `\\u0000`.
const ESCAPED_BYTES: usize = 6;

wire::input! {
    #[serde(deny_unknown_fields)]
    struct Input<'a> {
        limit: Option<i64>,
        marker: Text<'a>,
    }
}

/// `DescribeKeys`: those of the operator's account in the Region that is called, in any state, by
/// id: what `DescribeKey` says of each, and its aliases by name.
pub(super) fn describe(api: &Api, operator: &Requester, body: &[u8]) -> Answer {
    const PAGE: PageSize = PageSize::of_default_and_max(1000, 1000);
    let input: Input<'_> = wire::decode(body)?;
    let mut violations = Violations::default();
    let marker = input.marker.as_deref();
    let limit = PAGE.check(input.limit, marker, &mut violations);
    let limit = violations.check(limit)?;
    let listing = Marker::of_listing("DescribeKeys");
    let after: Option<KeyId> = listing.read(marker)?;
    let start = after.map_or(Bound::Unbounded, Bound::Excluded);
    let snapshot = api.keystore.snapshot();
    let keys = snapshot.listed_keys(operator.region, operator.principal.account);
    let keys = || {
        let keys = keys.into_iter();
        let keys = keys.flat_map(|keys| keys.range((start, Bound::Unbounded)));
        keys.map(|(_, entry)| entry)
    };
    let page = Page::of(keys(), fitting(keys().take(limit), &snapshot));
    let item = |entry: &&Arc<KeyEntry>| {
        let mut object = described(entry, &snapshot, api.keystore.regions());
        let names = snapshot.aliases_of(entry.key.regional_id());
        let mut names: Vec<&str> = names
            .into_iter()
            .flat_map(|names| names.iter())
            .map(|name| name.as_str())
            .collect();
        names.sort_unstable();
        object.plain_list("Aliases", &names);
        object
    };
    let after = |last: &&Arc<KeyEntry>| listing.after(last.key.id);
    Ok(page.reply("Keys", item, after))
}

/// How many of these keys an answer has room for: one at least.
fn fitting<'a>(keys: impl Iterator<Item = &'a Arc<KeyEntry>>, snapshot: &Snapshot) -> usize {
    let mut bytes = 0;
    let fits = |entry: &&Arc<KeyEntry>| {
        let has_room = bytes < ANSWER_BYTES;
        let names = snapshot.aliases_of(entry.key.regional_id());
        let names = names.into_iter().flat_map(|names| names.iter());
        let names: usize = names.map(|name| name.as_str().len() + 3).sum();
        bytes += KEY_BYTES + ESCAPED_BYTES * entry.key.description.len() + names;
        has_room
    };
    keys.take_while(fits).count()
}
