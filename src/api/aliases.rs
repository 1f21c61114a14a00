//! Aliases: names for keys, unique in an account and Region.

use crate::api::admission::Ask;
use crate::api::attempt::Attempt;
use crate::api::key_reference::KeyReference;
use crate::api::key_reference::alias_not_found;
use crate::api::marker::{Marker, Page, PageSize};
use crate::api::members::Members;
use crate::api::validation::{ALIAS, Violations};
use crate::api::wire::{self, Object, Text};
use crate::api::{Answer, Api, ApiError, ErrorCode, Reply, Requester};
use crate::key::KmsKey;
use crate::key::arn::{AliasName, InvalidAliasName};
use crate::keystore::{Alias, Change, KeyEntry};
use crate::operation::Action;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

/// Aliases of a key (AWS KMS, "Resource quotas").
const ALIASES_MAX: usize = 50;

wire::input! {
    struct Input<'a> {
        alias_name: Text<'a>,
        target_key_id: Text<'a>,
    }
}

/// Checks the member `AliasName`.
fn check_name<'a>(input: &'a Input<'_>, violations: &mut Violations) -> &'a str {
    let (name, max) = (input.alias_name.as_deref(), AliasName::CHARACTERS_MAX);
    violations.required_text("aliasName", name, max, Some(&ALIAS))
}

/// The alias of a text that the model takes.
fn parse_name(text: &str) -> Result<AliasName, ApiError> {
    text.parse().map_err(|error| match error {
        InvalidAliasName::Prefix => ApiError::new(
            ErrorCode::ValidationException,
            "Alias must start with the prefix \"alias/\". Please see https://docs.aws.amazon.com/kms/latest/developerguide/kms-alias.html",
        ),
        InvalidAliasName::Characters => ApiError::bare(ErrorCode::InvalidAliasNameException),
    })
}

/// The alias and the key of a request that gives an alias a target.
fn check<'a>(input: &'a Input<'_>) -> Result<(AliasName, KeyReference<'a>), ApiError> {
    let mut violations = Violations::default();
    let name = check_name(input, &mut violations);
    let target = violations.key_id("targetKeyId", &input.target_key_id);
    let (name, target) = violations.check((name, target))?;
    let name = parse_name(name)?;
    if name.is_reserved() {
        return Err(ApiError::bare(ErrorCode::NotAuthorizedException));
    }
    Ok((name, target))
}

/// The ARN of an alias of the caller's account.
fn arn_of(api: &Api, requester: &Requester, name: &AliasName) -> String {
    let region = api.keystore.regions().get(requester.region);
    region.alias_arn(requester.principal.account, name)
}

/// `CreateAlias`
pub(super) async fn create(api: Arc<Api>, requester: Requester, body: Vec<u8>) -> Answer {
    let input: Input<'_> = wire::decode(&body)?;
    let (name, target) = check(&input)?;
    // The pattern lets a colon through, the service does not: an alias has "alphanumeric
    // characters, forward slashes, underscores, and dashes".
    if name.as_str().contains(':') {
        let message = format!("{name} contains invalid characters for an alias");
        return Err(ApiError::new(ErrorCode::ValidationException, message));
    }
    let arn = arn_of(&api, &requester, &name);
    let now = api.clock.now();
    let ask = Ask::on(Action::CreateAlias, &target).and_on(&arn);
    put(&api, &requester, ask, &arn, |entry, attempt| {
        let (region, snapshot) = (requester.region, attempt.snapshot);
        let account = requester.principal.account;
        if snapshot.alias(region, account, &name).is_some() {
            let message = format!("An alias with the name {arn} already exists");
            return Err(ApiError::new(ErrorCode::AlreadyExistsException, message));
        }
        let aliases = snapshot.aliases_of(entry.key.regional_id());
        if aliases.is_some_and(|aliases| aliases.len() >= ALIASES_MAX) {
            let message = format!("A KMS key has at most {ALIASES_MAX} aliases.");
            return Err(ApiError::new(ErrorCode::LimitExceededException, message));
        }
        Ok(Alias {
            region,
            account,
            name: name.clone(),
            target: entry.key.id,
            creation_date: now,
            last_updated_date: now,
        })
    })
    .await
}

/// Puts the alias that `aliased` makes of the target, once the request is admitted.
async fn put(
    api: &Api,
    requester: &Requester,
    ask: Ask<'_>,
    arn: &str,
    aliased: impl Fn(&KeyEntry, &Attempt<'_>) -> Result<Alias, ApiError>,
) -> Answer {
    api.change(requester, None, |attempt| {
        let admitted = attempt.admit(ask, |_| Ok(()))?;
        let alias = aliased(admitted.entry(), attempt)?;
        let reply = admitted.answer(Reply::empty())?.naming(arn.to_owned());
        Ok((vec![Change::PutAlias(alias)], reply))
    })
    .await
}

/// `UpdateAlias`: from one key to another of the same type and usage.
pub(super) async fn update(api: Arc<Api>, requester: Requester, body: Vec<u8>) -> Answer {
    let input: Input<'_> = wire::decode(&body)?;
    let (name, target) = check(&input)?;
    let arn = arn_of(&api, &requester, &name);
    let now = api.clock.now();
    let ask = Ask::on(Action::UpdateAlias, &target).and_on(&arn);
    put(&api, &requester, ask, &arn, |entry, attempt| {
        let snapshot = attempt.snapshot;
        let alias = snapshot
            .alias(requester.region, requester.principal.account, &name)
            .ok_or_else(|| alias_not_found(&arn))?;
        // The present target's key is changed too: it loses a name.
        if let Some(present) = snapshot.key(alias.account, alias.target_id()) {
            let caller = attempt.caller(Action::UpdateAlias);
            caller.authorize_key(present, snapshot)?;
            check_alike(&arn, &present.key, &entry.key)?;
        }
        Ok(Alias {
            target: entry.key.id,
            last_updated_date: now,
            ..Alias::clone(alias)
        })
    })
    .await
}

/// Checks that an alias may move: its users must find a key of the same usage and type.
fn check_alike(alias: &str, from: &KmsKey, to: &KmsKey) -> Result<(), ApiError> {
    let (what, from, to) = if from.usage != to.usage {
        ("usage", from.usage.name(), to.usage.name())
    } else if from.spec.key_type() != to.spec.key_type() {
        ("type", from.spec.key_type(), to.spec.key_type())
    } else {
        return Ok(());
    };
    let message = format!(
        "Alias {alias} cannot be changed from a CMK with key {what} {from} to a CMK with key {what} {to}"
    );
    Err(ApiError::new(ErrorCode::ValidationException, message))
}

/// `DeleteAlias`
pub(super) async fn delete(api: Arc<Api>, requester: Requester, body: Vec<u8>) -> Answer {
    let input: Input<'_> = wire::decode(&body)?;
    let mut violations = Violations::default();
    let given = check_name(&input, &mut violations);
    let name = parse_name(violations.check(given)?)?;
    let arn = arn_of(&api, &requester, &name);
    api.change(&requester, None, |attempt| {
        let (caller, snapshot) = (attempt.caller(Action::DeleteAlias), attempt.snapshot);
        caller.authorize(&arn)?;
        let alias = snapshot
            .alias(requester.region, requester.principal.account, &name)
            .ok_or_else(|| alias_not_found(&arn))?;
        if let Some(entry) = snapshot.key(alias.account, alias.target_id()) {
            caller.authorize_key(entry, snapshot)?;
        }
        let change = Change::RemoveAlias(alias.region, alias.account, name.clone());
        Ok((vec![change], Reply::empty().naming(arn.clone())))
    })
    .await
}

wire::input! {
    struct ListInput<'a> {
        key_id: Text<'a>,
        limit: Option<i64>,
        marker: Text<'a>,
    }
}

/// `ListAliases`: of the caller's account, by name, all or those of one key.
pub(super) fn list(api: &Api, requester: &Requester, body: &[u8]) -> Answer {
    const PAGE: PageSize = PageSize::of_default_and_max(50, 100);
    let input: ListInput<'_> = wire::decode(body)?;
    let mut violations = Violations::default();
    let key = violations.optional_key_id("keyId", &input.key_id);
    let marker = input.marker.as_deref();
    let limit = PAGE.check(input.limit, marker, &mut violations);
    let (key, limit) = violations.check((key, limit))?;
    let snapshot = api.keystore.snapshot();
    let attempt = api.attempt(requester, &snapshot)?;
    let caller = attempt.caller(Action::ListAliases);
    // A listing is about no key: identity policies alone decide on it.
    let key = attempt.admit_alone(Action::ListAliases, Members::None, || {
        let entry = key.map(|key| caller.entry_not_alias(&key, &snapshot));
        Ok(entry.transpose()?.map(|entry| entry.key.id))
    })?;
    let listing = Marker::of_listing(format_args!("ListAliases {key:?}"));
    let after: Option<AliasName> = listing.read(marker)?;
    let account = requester.principal.account;
    let all = snapshot.aliases(requester.region, account);
    let from = after.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
    let range = (from, Bound::<&AliasName>::Unbounded);
    let aliases: Box<dyn Iterator<Item = &Arc<Alias>>> = match (all, key) {
        (None, _) => Box::new(std::iter::empty()),
        (Some(all), None) => Box::new(all.range(range).map(|(_, alias)| alias)),
        (Some(all), Some(key)) => {
            let id = caller.region.id(key);
            let mut names = snapshot
                .aliases_of(id)
                .map_or(Vec::new(), |names| names.to_vec());
            names.retain(|name| range.contains(&name));
            names.sort_unstable();
            Box::new(names.into_iter().filter_map(|name| all.get(&name)))
        }
    };
    let item = |alias: &&Arc<Alias>| {
        let mut object = Object::with_room(1024);
        object.plain("AliasName", alias.name.as_str());
        object.plain(
            "AliasArn",
            &caller.region.alias_arn(alias.account, &alias.name),
        );
        object.shown("TargetKeyId", alias.target);
        object.time("CreationDate", alias.creation_date);
        object.time("LastUpdatedDate", alias.last_updated_date);
        object
    };
    let after = |last: &&Arc<Alias>| listing.after(&last.name);
    Ok(Page::of(aliases, limit).reply("Aliases", item, after))
}
