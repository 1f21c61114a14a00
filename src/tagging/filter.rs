//! The filters of `GetResources`: by tags, and by types of resources.

use crate::api::validation::Violations;
use crate::api::wire::{self, Text};
use crate::key::Tag;
use std::borrow::Cow;

/// Service model: `TagFilterList`, `TagValueList`, `TagKey`, `TagValue`, `AmazonResourceType`; API
/// reference of `GetResources` for the number of types.
const FILTERS_MAX: usize = 50;
const VALUES_MAX: usize = 20;
pub(super) const KEY_CHARACTERS_MAX: usize = 128;
pub(super) const VALUE_CHARACTERS_MAX: usize = 256;
const TYPES_MAX: usize = 100;
const TYPE_CHARACTERS_MAX: usize = 256;
/// The types of the only resources here that have tags.
const OF_KEYS: [&str; 2] = ["kms", "kms:key"];

wire::input! {
    /// A filter as a request has it. A KMS key passes it if it has a tag of this key, with one of
    /// the values if there are any.
    pub(super) struct FilterInput<'a> {
        key: Text<'a>,
        values: Option<Vec<Cow<'a, str>>>,
    }
}

impl FilterInput<'_> {
    /// The filter's key, and its values.
    pub(super) fn parts(&self) -> (&str, &[Cow<'_, str>]) {
        let key = self.key.as_deref().unwrap_or_default();
        (key, self.values.as_deref().unwrap_or_default())
    }

    /// Whether one of these tags, which are in the order of their keys, passes.
    fn passes(&self, tags: &[Tag]) -> bool {
        let (key, values) = self.parts();
        let found = tags.binary_search_by(|tag| tag.key.as_str().cmp(key));
        found.is_ok_and(|at| values.is_empty() || values.iter().any(|one| *one == tags[at].value))
    }
}

/// Checks the filters by tags. Those beyond the most are not looked at.
pub(super) fn check(filters: &[FilterInput<'_>], violations: &mut Violations) {
    violations.elements("tagFilters", filters.len(), 0, FILTERS_MAX);
    for (number, filter) in (1..).zip(filters.iter().take(FILTERS_MAX)) {
        let member = |name| format!("tagFilters.{number}.member.{name}");
        let key = filter.key.as_deref();
        violations.required_text(&member("key"), key, KEY_CHARACTERS_MAX, None);
        let (_, values) = filter.parts();
        violations.elements(&member("values"), values.len(), 0, VALUES_MAX);
        for (at, value) in (1..).zip(values.iter().take(VALUES_MAX)) {
            let member = format!("tagFilters.{number}.member.values.{at}.member");
            violations.text(&member, value, 0, VALUE_CHARACTERS_MAX, None);
        }
    }
}

/// Checks the filters by types.
pub(super) fn check_types(types: &[Cow<'_, str>], violations: &mut Violations) {
    violations.elements("resourceTypeFilters", types.len(), 0, TYPES_MAX);
    for (number, one) in (1..).zip(types.iter().take(TYPES_MAX)) {
        let member = format!("resourceTypeFilters.{number}.member");
        violations.text(&member, one, 0, TYPE_CHARACTERS_MAX, None);
    }
}

/// Whether a key of KMS is of one of these types; without types it is.
pub(super) fn takes_keys(types: &[Cow<'_, str>]) -> bool {
    types.is_empty() || types.iter().any(|one| OF_KEYS.contains(&&**one))
}

/// Whether these tags pass all filters.
pub(super) fn all_pass(filters: &[FilterInput<'_>], tags: &[Tag]) -> bool {
    filters.iter().all(|filter| filter.passes(tags))
}
