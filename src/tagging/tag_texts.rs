//! `GetTagKeys` and `GetTagValues`: what keys of the caller's account are tagged with, each text
//! once, in the order of their bytes.

use crate::api::attempt::Attempt;
use crate::api::members::Members;
use crate::api::validation::Violations;
use crate::api::wire::{self, Object, Text};
use crate::api::{Answer, Api, ApiError, Reply, Requester};
use crate::key::Tag;
use crate::operation::Action;
use crate::tagging::filter::KEY_CHARACTERS_MAX;
use crate::tagging::paging::{self, Paging};
use std::collections::BTreeSet;

/// Texts of a page. The API does not say how many there are on AWS's.
pub(super) const PER_PAGE: usize = 1000;

wire::input! {
    struct Input<'a> {
        key: Text<'a>,
        pagination_token: Text<'a>,
    }
}

/// `GetTagKeys`
pub(super) fn keys(api: &Api, requester: &Requester, body: &[u8]) -> Answer {
    let input: Input<'_> = wire::decode(body)?;
    let mut violations = Violations::default();
    let token = input.pagination_token.as_deref();
    paging::check(token, &mut violations);
    violations.check(())?;
    api.read(requester, |attempt| {
        attempt.admit_alone(Action::GetTagKeys, Members::None, || Ok(()))?;
        let listing = format!("GetTagKeys {}", attempt.principal.account.as_str());
        list(attempt, &listing, token, "TagKeys", |tag| Some(&tag.key))
    })
}

/// `GetTagValues`, of one key of tags.
pub(super) fn values(api: &Api, requester: &Requester, body: &[u8]) -> Answer {
    let input: Input<'_> = wire::decode(body)?;
    let mut violations = Violations::default();
    let (token, key) = (input.pagination_token.as_deref(), input.key.as_deref());
    paging::check(token, &mut violations);
    let key = violations.required_text("key", key, KEY_CHARACTERS_MAX, None);
    let key = violations.check(key)?;
    api.read(requester, |attempt| {
        attempt.admit_alone(Action::GetTagValues, Members::None, || Ok(()))?;
        let account = attempt.principal.account;
        let listing = format!("GetTagValues {} {key}", account.as_str());
        list(attempt, &listing, token, "TagValues", |tag| {
            (tag.key == key).then_some(&tag.value)
        })
    })
}

/// A page of what `text` makes of the tags. No more texts than those of the page are held.
fn list(
    attempt: &Attempt<'_>,
    listing: &str,
    token: Option<&str>,
    name: &str,
    text: impl for<'t> Fn(&'t Tag) -> Option<&'t String>,
) -> Result<Reply, ApiError> {
    let paging = Paging::of_listing(listing, attempt.now);
    let after: Option<String> = paging.read(token)?;
    let keys = attempt.snapshot.all_tagged_keys(attempt.principal.account);
    let texts = keys.flat_map(|entry| &entry.key.tags).filter_map(&text);
    let mut first = BTreeSet::new();
    for text in texts.filter(|text| after.as_ref().is_none_or(|after| *text > after)) {
        first.insert(text.as_str());
        if first.len() > PER_PAGE + 1 {
            first.pop_last();
        }
    }
    let is_last = first.len() <= PER_PAGE;
    if !is_last {
        first.pop_last();
    }
    let mut object = Object::new();
    paging.append(first.last().filter(|_| !is_last), &mut object);
    object.text_list(name, first.into_iter());
    Ok(object.end())
}
