//! `ReplicateKey`: a multi-Region key in one more Region.
//!
//! The replica key is there when the call is answered. The answer says `Creating` all the same, as
//! that of AWS KMS does. The next call finds that the key can be used, or waits for the import of
//! its material.

use crate::api::admission::Ask;
use crate::api::attempt::Attempt;
use crate::api::key_policies;
use crate::api::keys::creation::check_room;
use crate::api::keys::related::{self, Member};
use crate::api::keys::{Described, check_description, metadata};
use crate::api::members::{KeyKind, Members, RequestTags};
use crate::api::tags::{self, TagInput};
use crate::api::usability;
use crate::api::validation::{Pattern, Violations};
use crate::api::wire::{self, Object, Text};
use crate::api::{Answer, Api, ApiError, ErrorCode, Requester};
use crate::key::regions::{Region, Regions};
use crate::key::{KeyState, KmsKey, Tag};
use crate::keystore::{Change, KeyDraft, KeyEntry, related as store};
use crate::operation::Action;
use crate::operation::words::States;
use crate::policy::{ConditionKey, KeyPolicy};
use std::sync::Arc;

/// The state that the answer says.
const CREATING: &str = "Creating";
const REGION_CHARACTERS_MAX: usize = 32;

/// `ReplicaRegion` and `PrimaryRegion`
const REGION: Pattern = Pattern {
    text: r"^([a-z]+-){2,3}\d+$",
    matches: |text| {
        let Some((words, number)) = text.rsplit_once('-') else {
            return false;
        };
        let is_word = |word: &str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase());
        (2..=3).contains(&words.split('-').count())
            && words.split('-').all(is_word)
            && !number.is_empty()
            && number.bytes().all(|byte| byte.is_ascii_digit())
    },
};

wire::input! {
    struct Input<'a> {
        key_id: Text<'a>,
        replica_region: Text<'a>,
        policy: Text<'a>,
        bypass_policy_lockout_safety_check: Option<bool>,
        description: Text<'a>,
        tags: Option<Vec<TagInput<'a>>>,
    }
}

/// A required member with the name of a Region.
pub(super) fn region<'a>(
    member: &str,
    value: Option<&'a str>,
    violations: &mut Violations,
) -> &'a str {
    violations.required_text(member, value, REGION_CHARACTERS_MAX, Some(&REGION))
}

/// `ReplicateKey`
pub(in crate::api) async fn replicate(
    api: Arc<Api>,
    requester: Requester,
    body: Vec<u8>,
) -> Answer {
    let input: Input<'_> = wire::decode(&body)?;
    let mut violations = Violations::default();
    let key = violations.key_id("keyId", &input.key_id);
    let name = region(
        "replicaRegion",
        input.replica_region.as_deref(),
        &mut violations,
    );
    key_policies::check_text(input.policy.as_deref(), &mut violations);
    check_description(input.description.as_deref(), &mut violations);
    let given = input.tags.as_deref().unwrap_or_default();
    tags::check(given, &mut violations);
    let (key, name) = violations.check((key, name))?;
    let named = [(ConditionKey::ReplicaRegion, name)];
    let ask = Ask::on(Action::ReplicateKey, &key).members(Members::Texts(&named));
    let regions = api.keystore.regions();
    // The caller, as it calls the Region of the replica.
    let elsewhere = Requester {
        region: regions.named(name).map_or(requester.region, |to| to.number),
        ..requester.clone()
    };
    let (reply, id) = api
        .change(&requester, None, |attempt| {
            let admitted = attempt.admit(ask, |entry| {
                check_primary(entry)?;
                usability::state(entry, States::Enabled)?;
                check_place(entry, name, attempt)
            })?;
            let (primary, region) = (admitted.entry(), admitted.prepared);
            let there = api.attempt(&elsewhere, attempt.snapshot)?;
            let new = Replica {
                primary,
                region,
                input: &input,
                given,
            };
            let (replica, policy) = new.admitted(&there)?;
            let reply = new.reply(&replica.key, attempt);
            let id = replica.key.regional_id();
            let mut changes = vec![Change::PutKey(replica)];
            if let Some(policy) = policy {
                changes.push(Change::PutKeyPolicy(id, Arc::new(policy)));
            }
            let arn = new.arn();
            Ok((changes, (admitted.answer(reply)?.naming(arn), id)))
        })
        .await?;
    if let Some(replica) = api.keystore.snapshot().keys.get(&id) {
        api.tell_service_event("CreateKey", replica);
    }
    Ok(reply)
}

/// Refuses a key that cannot be replicated, whatever its state.
fn check_primary(entry: &KeyEntry) -> Result<(), ApiError> {
    if entry.key.is_primary() {
        return Ok(());
    }
    let message = format!("{} is not a multi-region primary key.", entry.arn);
    let code = ErrorCode::UnsupportedOperationException;
    Err(ApiError::new(code, message))
}

/// The Region of this name, if the key has no related key there.
fn check_place<'a>(
    entry: &KeyEntry,
    name: &str,
    attempt: &Attempt<'a>,
) -> Result<&'a Region, ApiError> {
    let invalid = |message: String| ApiError::new(ErrorCode::ValidationException, message);
    let regions = attempt.api.keystore.regions();
    let region = regions.named(name).ok_or_else(|| {
        if Regions::partition_of(name) == Regions::partition_of(&attempt.region.name) {
            invalid(format!(
                "Region {name} is not a valid Region or multi-Region keys are not supported in Region {name}."
            ))
        } else {
            invalid(
                "The replica key Region must be in the same AWS partition as the primary key Region."
                    .to_owned(),
            )
        }
    })?;
    if region.number == entry.key.region {
        return Err(invalid(format!(
            "{name} cannot have a replica because it contains the primary."
        )));
    }
    if attempt.snapshot.keys.contains_key(&region.id(entry.key.id)) {
        let message = "You can create only one replica of each primary key in each AWS Region.";
        return Err(ApiError::new(ErrorCode::AlreadyExistsException, message));
    }
    Ok(region)
}

/// A replica key that is asked for.
struct Replica<'a> {
    primary: &'a Arc<KeyEntry>,
    region: &'a Region,
    input: &'a Input<'a>,
    given: &'a [TagInput<'a>],
}

impl Replica<'_> {
    fn arn(&self) -> String {
        let key = &self.primary.key;
        self.region.key_arn(key.account, key.id)
    }

    /// The key and its policy, if the caller may create them in the Region of the replica.
    fn admitted(&self, there: &Attempt<'_>) -> Result<(KeyDraft, Option<KeyPolicy>), ApiError> {
        let (of_primary, arn) = (&self.primary.key, self.arn());
        let bypass = self.input.bypass_policy_lockout_safety_check;
        let tags = RequestTags::new(self.given.iter().map(TagInput::pair));
        let kind = KeyKind {
            spec: Some(of_primary.spec),
            usage: Some(of_primary.usage),
            origin: Some(of_primary.origin),
            multi_region: Some("REPLICA"),
        };
        let members = Members::NewKey(kind, bypass, &tags);
        let policy = there.admit_alone(Action::CreateKey, members, || {
            let policy = self.input.policy.as_deref().map(key_policies::parse);
            policy.transpose()
        })?;
        if !self.given.is_empty() {
            let tagging = there.caller(Action::TagResource).with(members);
            tagging.authorize(&arn)?;
        }
        let description = self.input.description.as_deref().unwrap_or_default();
        let replica = KeyDraft {
            key: KmsKey {
                region: self.region.number,
                primary: of_primary.primary,
                description: description.to_owned(),
                spec: of_primary.spec,
                usage: of_primary.usage,
                origin: of_primary.origin,
                state: KeyState::Enabled,
                tags: tags::tagged(&[], self.given)?,
                ..KmsKey::new(of_primary.id, of_primary.account, there.now)
            },
            materials: Vec::new(),
            secret: None,
        };
        let mut replica = store::shared(replica, &self.primary.with_key(of_primary.clone()));
        if replica.key.lacks_material() {
            replica.key.state = KeyState::PendingImport;
        }
        check_room(there)?;
        if let Some(policy) = &policy {
            key_policies::check(policy, &replica.key, &arn, &[], bypass, there)?;
        }
        Ok((replica, policy))
    }

    fn reply(&self, key: &KmsKey, attempt: &Attempt<'_>) -> crate::api::Reply {
        let arn = self.arn();
        let mut members: Vec<Member<'_>> = related::members(key, attempt.snapshot);
        members.push((key.region, &arn));
        members.sort_unstable();
        let described = Described {
            arn: &arn,
            state: CREATING,
            current: None,
            members: &members,
            regions: attempt.api.keystore.regions(),
        };
        let mut object = Object::new();
        object.object("ReplicaKeyMetadata", metadata(key, &described));
        match self.input.policy.as_deref() {
            Some(policy) => object.text("ReplicaPolicy", policy),
            None => {
                let partition = &self.region.partition;
                let policy = KeyPolicy::default_source(partition, key.account);
                object.text("ReplicaPolicy", &policy);
            }
        }
        if !key.tags.is_empty() {
            let tag = |tag: &Tag| {
                let mut object = Object::with_room(64);
                object.text("TagKey", &tag.key);
                object.text("TagValue", &tag.value);
                object
            };
            object.list("ReplicaTags", key.tags.iter().map(tag));
        }
        object.end()
    }
}
