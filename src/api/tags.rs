//! Tags of keys: `TagResource`, `UntagResource`, `ListResourceTags`, and the rules that `CreateKey`
//! follows too.
//!
//! Keys of tags differ by case, as on AWS; where conditions compare them (`aws:ResourceTag/…`,
//! `aws:RequestTag/…`) case does not matter. A tag moves no fence: policies are evaluated for each
//! request under its snapshot.

use crate::api::admission::Ask;
use crate::api::key_changes;
use crate::api::marker::{KeyPageInput, Marker, Page, PageSize};
use crate::api::members::{Members, RequestTags};
use crate::api::validation::Violations;
use crate::api::wire::{self, Object, Text};
use crate::api::{Answer, Api, ApiError, ErrorCode, Requester};
use crate::key::{KmsKey, Tag};
use crate::operation::Action;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Tags of a key (AWS KMS, "Resource quotas").
const TAGS_MAX: usize = 50;
const KEY_CHARACTERS_MAX: usize = 128;
const VALUE_CHARACTERS_MAX: usize = 256;
/// What the keys of AWS's own tags begin with, in any case.
const RESERVED: &str = "aws:";

wire::input! {
    /// A tag as a request has it.
    pub(super) struct TagInput<'a> {
        tag_key: Text<'a>,
        tag_value: Text<'a>,
    }
}

impl TagInput<'_> {
    fn key(&self) -> &str {
        self.tag_key.as_deref().unwrap_or_default()
    }

    fn value(&self) -> &str {
        self.tag_value.as_deref().unwrap_or_default()
    }

    /// Key and value.
    pub(super) fn pair(&self) -> (&str, &str) {
        (self.key(), self.value())
    }
}

/// Checks the members of the tags. Those beyond the most that a key may have are not looked at:
/// they are refused in any case.
pub(super) fn check(tags: &[TagInput<'_>], violations: &mut Violations) {
    for (at, tag) in tags.iter().take(TAGS_MAX).enumerate() {
        let member = |name| format!("tags.{}.member.{name}", at + 1);
        let (key, value) = (tag.tag_key.as_deref(), tag.tag_value.as_deref());
        violations.required_text(&member("tagKey"), key, KEY_CHARACTERS_MAX, None);
        let (member, max) = (member("tagValue"), VALUE_CHARACTERS_MAX);
        match value {
            None => violations.null(&member),
            Some(value) => violations.text(&member, value, 0, max, None),
        }
    }
}

/// The tags of a key that has `old`, with those that are `given`, which take the place of others of
/// the same key.
pub(super) fn tagged(old: &[Tag], given: &[TagInput<'_>]) -> Result<Vec<Tag>, ApiError> {
    let refused = |message| Err(ApiError::new(ErrorCode::TagException, message));
    let keys: BTreeSet<&str> = given.iter().map(TagInput::key).collect();
    if keys.len() < given.len() {
        return refused("Duplicate tag keys");
    }
    let old = old.iter().map(|tag| (tag.key.as_str(), tag.value.as_str()));
    let tags: BTreeMap<&str, &str> = old.chain(given.iter().map(TagInput::pair)).collect();
    if tags.len() > TAGS_MAX {
        return refused("Too many tags");
    }
    let is_reserved = |key: &str| {
        let start = key.get(..RESERVED.len());
        start.is_some_and(|start| start.eq_ignore_ascii_case(RESERVED))
    };
    if keys.into_iter().any(is_reserved) {
        return refused("Tags beginning with aws: are reserved");
    }
    let tag = |(key, value): (&str, &str)| Tag {
        key: key.to_owned(),
        value: value.to_owned(),
    };
    Ok(tags.into_iter().map(tag).collect())
}

wire::input! {
    struct Input<'a> {
        key_id: Text<'a>,
        tags: Option<Vec<TagInput<'a>>>,
        tag_keys: Option<Vec<Cow<'a, str>>>,
    }
}

/// `TagResource`
pub(super) async fn tag(api: Arc<Api>, requester: Requester, body: Vec<u8>) -> Answer {
    let input: Input<'_> = wire::decode(&body)?;
    let mut violations = Violations::default();
    let key = violations.key_id("keyId", &input.key_id);
    let given = violations.required("tags", input.tags.as_deref());
    check(given, &mut violations);
    let (key, given) = violations.check((key, given))?;
    let request_tags = RequestTags::new(given.iter().map(TagInput::pair));
    let ask = Ask::on(Action::TagResource, &key).members(Members::Tags(&request_tags));
    key_changes::edit(&api, &requester, ask, |key| {
        Ok(KmsKey {
            tags: tagged(&key.tags, given)?,
            ..key.clone()
        })
    })
    .await
}

/// `UntagResource`; a key that no tag has is ignored.
pub(super) async fn untag(api: Arc<Api>, requester: Requester, body: Vec<u8>) -> Answer {
    let input: Input<'_> = wire::decode(&body)?;
    let mut violations = Violations::default();
    let key = violations.key_id("keyId", &input.key_id);
    let keys = violations.required("tagKeys", input.tag_keys.as_deref());
    check_keys(keys, &mut violations);
    let (key, keys) = violations.check((key, keys))?;
    let keys: BTreeSet<&str> = keys.iter().map(|key| &**key).collect();
    let request_tags = RequestTags::of_keys(keys.iter().copied());
    let ask = Ask::on(Action::UntagResource, &key).members(Members::Tags(&request_tags));
    key_changes::edit(&api, &requester, ask, |key| {
        let mut key = key.clone();
        key.tags.retain(|tag| !keys.contains(tag.key.as_str()));
        Ok(key)
    })
    .await
}

/// Reports wrong keys, at most as many as a key may have tags.
fn check_keys(keys: &[Cow<'_, str>], violations: &mut Violations) {
    let is_wrong = |key: &str| key.is_empty() || key.chars().count() > KEY_CHARACTERS_MAX;
    let wrong = keys.iter().enumerate().filter(|(_, key)| is_wrong(key));
    for (at, key) in wrong.take(TAGS_MAX) {
        let member = format!("tagKeys.{}.member", at + 1);
        violations.text(&member, key, 1, KEY_CHARACTERS_MAX, None);
    }
}

/// `ListResourceTags`: by key.
pub(super) fn list(api: &Api, requester: &Requester, body: &[u8]) -> Answer {
    const PAGE: PageSize = PageSize::of_default_and_max(50, 50);
    let input: KeyPageInput<'_> = wire::decode(body)?;
    let (key, limit) = input.check(PAGE)?;
    let snapshot = api.keystore.snapshot();
    let attempt = api.attempt(requester, &snapshot)?;
    let admitted = attempt.admit(Ask::on(Action::ListResourceTags, &key), |_| Ok(()))?;
    let entry = admitted.entry();
    let listing = Marker::of_listing(format_args!("ListResourceTags {}", entry.key.id));
    let after: Option<String> = listing.read(input.marker.as_deref())?;
    let tags = entry.key.tags.iter();
    let tags = tags.filter(|tag| after.as_ref().is_none_or(|after| tag.key > *after));
    let item = |tag: &&Tag| {
        let mut object = Object::new();
        object.text("TagKey", &tag.key);
        object.text("TagValue", &tag.value);
        object
    };
    let after = |last: &&Tag| listing.after(&last.key);
    admitted.answer(Page::of(tags, limit).reply("Tags", item, after))
}
