//! `GetResources`: the keys of the caller's account that have tags, by id, which stays where it is
//! while keys come and go; or those that the request names.
//!
//! There are no tag policies, so every key complies with them.

use crate::api::attempt::Attempt;
use crate::api::members::Members;
use crate::api::validation::Violations;
use crate::api::wire::{self, Object, Text};
use crate::api::{Answer, Api, ApiError, ErrorCode, Requester};
use crate::key::arn::AccountId;
use crate::key::{KeyId, Tag};
use crate::keystore::KeyEntry;
use crate::operation::Action;
use crate::tagging::arns;
use crate::tagging::filter::{self, FilterInput};
use crate::tagging::paging::{self, Paging};
use sha2::{Digest, Sha256};
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::Arc;

/// Service model, `ResourceARNListForGet`; API reference for the members of paging.
const ARNS_MAX: usize = 100;
const PER_PAGE: usize = 50;
const PER_PAGE_MAX: i64 = 100;
const TAGS_PER_PAGE_MIN: i64 = 100;
const TAGS_PER_PAGE_MAX: i64 = 500;

wire::input! {
    struct Input<'a> {
        #[serde(rename = "ResourceARNList")]
        arns: Option<Vec<Cow<'a, str>>>,
        tag_filters: Option<Vec<FilterInput<'a>>>,
        resource_type_filters: Option<Vec<Cow<'a, str>>>,
        resources_per_page: Option<i64>,
        tags_per_page: Option<i64>,
        pagination_token: Text<'a>,
        include_compliance_details: Option<bool>,
        exclude_compliant_resources: Option<bool>,
    }
}

/// How much a page may hold.
#[derive(Clone, Copy)]
struct PageSize {
    keys: usize,
    tags: usize,
}

impl<'a> Input<'a> {
    fn filters(&self) -> &[FilterInput<'a>] {
        self.tag_filters.as_deref().unwrap_or_default()
    }

    fn types(&self) -> &[Cow<'a, str>] {
        self.resource_type_filters.as_deref().unwrap_or_default()
    }

    fn includes_compliance(&self) -> bool {
        self.include_compliance_details == Some(true)
    }

    fn excludes_compliant(&self) -> bool {
        self.exclude_compliant_resources == Some(true)
    }

    fn check(&self) -> Result<PageSize, ApiError> {
        let mut violations = Violations::default();
        if let Some(arns) = &self.arns {
            arns::check(arns, ARNS_MAX, &mut violations);
        }
        filter::check(self.filters(), &mut violations);
        filter::check_types(self.types(), &mut violations);
        paging::check(self.pagination_token.as_deref(), &mut violations);
        let (member, max) = ("resourcesPerPage", PER_PAGE_MAX);
        let keys = violations.number(member, self.resources_per_page, 1, max);
        let (min, max) = (TAGS_PER_PAGE_MIN, TAGS_PER_PAGE_MAX);
        let tags = violations.number("tagsPerPage", self.tags_per_page, min, max);
        let size = PageSize {
            keys: keys.unwrap_or(PER_PAGE),
            tags: tags.unwrap_or(usize::MAX),
        };
        let size = violations.check(size)?;
        self.check_together()?;
        Ok(size)
    }

    /// Refuses members that do not go together.
    fn check_together(&self) -> Result<(), ApiError> {
        let is_listing = !self.filters().is_empty()
            || !self.types().is_empty()
            || self.resources_per_page.is_some()
            || self.tags_per_page.is_some()
            || self
                .pagination_token
                .as_ref()
                .is_some_and(|token| !token.is_empty());
        let message = if self.arns.is_some() && is_listing {
            "ResourceARNList goes neither with TagFilters and ResourceTypeFilters nor with \
             ResourcesPerPage, TagsPerPage and PaginationToken."
        } else if self.excludes_compliant() && !self.includes_compliance() {
            "ExcludeCompliantResources needs IncludeComplianceDetails."
        } else {
            return Ok(());
        };
        Err(ApiError::new(ErrorCode::InvalidParameterException, message))
    }

    /// The listing, for its tokens: they are good for the same filters alone.
    fn listing(&self, account: AccountId) -> String {
        let mut hash = Sha256::new();
        let mut text = |text: &str| {
            hash.update(text.len().to_be_bytes());
            hash.update(text);
        };
        for filter in self.filters() {
            let (key, values) = filter.parts();
            text("filter");
            text(key);
            values.iter().for_each(|value| text(value));
        }
        text("types");
        self.types().iter().for_each(|one| text(one));
        let digest = hash.finalize();
        let digest = base64_simd::STANDARD.encode_to_string(digest);
        format!("GetResources {} {digest}", account.as_str())
    }
}

/// `GetResources`
pub(super) fn get(api: &Api, requester: &Requester, body: &[u8]) -> Answer {
    let input: Input<'_> = wire::decode(body)?;
    let size = input.check()?;
    api.read(requester, |attempt| {
        attempt.admit_alone(Action::GetResources, Members::None, || Ok(()))?;
        let account = attempt.principal.account;
        let paging = Paging::of_listing(input.listing(account), attempt.now);
        let (keys, last) = match &input.arns {
            Some(arns) => (named(arns, attempt)?, None),
            None => {
                let after = paging.read(input.pagination_token.as_deref())?;
                page(&input, size, after, attempt)
            }
        };
        let keys = keys.into_iter().filter(|_| !input.excludes_compliant());
        let mut object = Object::new();
        paging.append(last.filter(|_| !input.excludes_compliant()), &mut object);
        let item = |entry| mapping(entry, input.includes_compliance());
        object.list("ResourceTagMappingList", keys.map(item));
        Ok(object.end())
    })
}

/// The named keys of the account that have tags. Others are left out, as on AWS, whatever they are.
fn named<'s>(
    arns: &[Cow<'_, str>],
    attempt: &Attempt<'s>,
) -> Result<Vec<&'s Arc<KeyEntry>>, ApiError> {
    let (account, snapshot) = (attempt.principal.account, attempt.snapshot);
    let mut seen = BTreeSet::new();
    let mut keys = Vec::new();
    for arn in arns {
        let parts = arns::split(arn)?;
        let id = parts.resource.strip_prefix("key/");
        let id = id.and_then(|id| id.parse().ok());
        let entry = id.and_then(|id| snapshot.key(account, attempt.region.id(id)));
        let entry = entry.filter(|entry| entry.arn == **arn && !entry.key.tags.is_empty());
        if let Some(entry) = entry.filter(|entry| seen.insert(entry.key.id)) {
            keys.push(entry);
        }
    }
    Ok(keys)
}

/// The keys of a page, and the last of them if there is another page.
fn page<'s>(
    input: &Input<'_>,
    size: PageSize,
    after: Option<KeyId>,
    attempt: &Attempt<'s>,
) -> (Vec<&'s Arc<KeyEntry>>, Option<KeyId>) {
    let mut page = Vec::new();
    if !filter::takes_keys(input.types()) {
        return (page, None);
    }
    let (account, region) = (attempt.principal.account, attempt.region.number);
    let start = after.map_or(Bound::Unbounded, Bound::Excluded);
    let tagged = attempt.snapshot.tagged_keys(region, account).into_iter();
    let all = tagged.flat_map(|keys| keys.range((start, Bound::Unbounded)));
    let passing = all.map(|(_, entry)| entry);
    let passing = passing.filter(|entry| filter::all_pass(input.filters(), &entry.key.tags));
    let mut tags = 0;
    for entry in passing {
        tags += entry.key.tags.len();
        // A key is never split; the fewest tags of a page are more than the most of a key.
        if page.len() == size.keys || tags > size.tags {
            let last = page.last().map(|last: &&Arc<KeyEntry>| last.key.id);
            return (page, last);
        }
        page.push(entry);
    }
    (page, None)
}

/// A key and its tags.
fn mapping(entry: &Arc<KeyEntry>, with_compliance: bool) -> Object {
    let mut object = Object::with_room(256);
    object.plain("ResourceARN", &entry.arn);
    let tag = |tag: &Tag| {
        let mut object = Object::with_room(64);
        object.text("Key", &tag.key);
        object.text("Value", &tag.value);
        object
    };
    object.list("Tags", entry.key.tags.iter().map(tag));
    if with_compliance {
        let mut compliance = Object::with_room(32);
        compliance.flag("ComplianceStatus", true);
        object.object("ComplianceDetails", compliance);
    }
    object
}
