//! Key policies: `GetKeyPolicy`, `PutKeyPolicy`, `ListKeyPolicies`, and the checks of a new policy.
//!
//! A key for which no policy was given has the default policy, which is kept nowhere. A policy is
//! refused when it names a user, a role or a role's session that is not in the store: a principal
//! created later under that name would have rights that were not meant for it. Accounts and
//! federated users may be named before they have principals. The caller must still be able to put
//! the next policy, unless it asks otherwise; the operator always is.

use crate::api::admission::Ask;
use crate::api::attempt::Attempt;
use crate::api::marker::{KeyPageInput, PageSize};
use crate::api::members::Members;
use crate::api::resolve::key_facts;
use crate::api::validation::{Pattern, Violations};
use crate::api::wire::{self, Object, Text};
use crate::api::{Answer, Api, ApiError, ErrorCode, Reply, Requester, unsupported};
use crate::key::KmsKey;
use crate::key::arn::{AliasName, Arn};
use crate::keystore::{Change, Snapshot};
use crate::operation::Action;
use crate::policy::{
    self, AuthorizationRequest, ConditionKey, Denied, KeyFacts, KeyPolicy, PrincipalName, Value,
    Values,
};
use std::sync::Arc;

/// Characters of a `Policy` by the model; a stored policy has fewer: [`KeyPolicy::BYTES_MAX`].
const POLICY_CHARACTERS_MAX: usize = 131_072;
const POLICY_NAME_CHARACTERS_MAX: usize = 128;

/// The policy that the Resource Access Manager of AWS keeps of a key that is shared through it.
const AWS_RAM: &str = "AWS_RAM";

/// `Policy`
const POLICY: Pattern = Pattern {
    text: r"[\u0009\u000A\u000D\u0020-\u00FF]+",
    matches: |text| {
        let allowed = |one| matches!(one, '\t' | '\n' | '\r' | '\u{20}'..='\u{ff}');
        !text.is_empty() && text.chars().all(allowed)
    },
};

/// `PolicyName`
const POLICY_NAME: Pattern = Pattern {
    text: r"[\w]+",
    matches: |text| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        !text.is_empty() && text.bytes().all(allowed)
    },
};

wire::input! {
    struct Input<'a> {
        key_id: Text<'a>,
        policy_name: Text<'a>,
        policy: Text<'a>,
        bypass_policy_lockout_safety_check: Option<bool>,
    }
}

impl Input<'_> {
    fn check_policy_name(&self, violations: &mut Violations) {
        if let Some(name) = self.policy_name.as_deref() {
            let max = POLICY_NAME_CHARACTERS_MAX;
            violations.text("policyName", name, 1, max, Some(&POLICY_NAME));
        }
    }

    /// The name of the policy, or its default.
    fn policy_name(&self) -> &str {
        self.policy_name.as_deref().unwrap_or(KeyPolicy::NAME)
    }
}

/// `GetKeyPolicy`
pub(super) fn get(api: &Api, requester: &Requester, body: &[u8]) -> Answer {
    let input: Input<'_> = wire::decode(body)?;
    let mut violations = Violations::default();
    let key = violations.key_id("keyId", &input.key_id);
    input.check_policy_name(&mut violations);
    let key = violations.check(key)?;
    let named = [(ConditionKey::PolicyName, input.policy_name())];
    let ask = Ask::on(Action::GetKeyPolicy, &key).members(Members::Texts(&named));
    api.read(requester, |attempt| {
        let admitted = attempt.admit(ask, |_| {
            if input.policy_name() == KeyPolicy::NAME {
                return Ok(());
            }
            // `AWS_RAM` among them: nothing is shared through the Resource Access Manager here.
            let message = "No such policy exists";
            Err(ApiError::new(ErrorCode::NotFoundException, message))
        })?;
        let key = &admitted.entry().key;
        let policy = match attempt.snapshot.key_policies.get(&key.regional_id()) {
            Some(policy) => policy.source().to_owned(),
            None => KeyPolicy::default_source(&attempt.region.partition, key.account),
        };
        let mut object = Object::new();
        object.text("Policy", &policy);
        object.plain("PolicyName", KeyPolicy::NAME);
        admitted.answer(object.end())
    })
}

/// `ListKeyPolicies`: there is one.
pub(super) fn list(api: &Api, requester: &Requester, body: &[u8]) -> Answer {
    const PAGE: PageSize = PageSize::of_default_and_max(100, 1000);
    let input: KeyPageInput<'_> = wire::decode(body)?;
    let (key, _limit_of_one_page) = input.check(PAGE)?;
    api.read(requester, |attempt| {
        let admitted = attempt.admit(Ask::on(Action::ListKeyPolicies, &key), |_| Ok(()))?;
        if input.marker.is_some() {
            // The first page is the last: no marker was ever given out.
            return Err(ApiError::bare(ErrorCode::InvalidMarkerException));
        }
        let mut object = Object::new();
        object.plain_list("PolicyNames", &[KeyPolicy::NAME]);
        object.flag("Truncated", false);
        admitted.answer(object.end())
    })
}

/// `PutKeyPolicy`
pub(super) async fn put(api: Arc<Api>, requester: Requester, body: Vec<u8>) -> Answer {
    let input: Input<'_> = wire::decode(&body)?;
    let mut violations = Violations::default();
    let key = violations.key_id("keyId", &input.key_id);
    input.check_policy_name(&mut violations);
    let policy = input.policy.as_deref();
    check_text(policy, &mut violations);
    let policy = violations.required("policy", policy);
    let (key, policy) = violations.check((key, policy))?;
    let bypass = input.bypass_policy_lockout_safety_check;
    let ask = Ask::on(PUT, &key).members(Members::NewPolicy(input.policy_name(), bypass));
    api.change(&requester, None, |attempt| {
        let admitted = attempt.admit(ask, |entry| {
            // Checked after authorization, in the order of AWS KMS.
            match input.policy_name() {
                KeyPolicy::NAME => {}
                AWS_RAM => {
                    let message = "The AWS_RAM policy can only be managed by the RAM service";
                    return Err(ApiError::new(ErrorCode::ValidationException, message));
                }
                _ => return Err(unsupported("A PolicyName other than default")),
            }
            let policy = parse(policy)?;
            let aliases = attempt
                .snapshot
                .aliases_of(entry.key.regional_id())
                .map(|names| &**names)
                .unwrap_or_default();
            check(&policy, &entry.key, &entry.arn, aliases, bypass, attempt)?;
            Ok(Arc::new(policy))
        })?;
        let policy = Arc::clone(&admitted.prepared);
        let change = Change::PutKeyPolicy(admitted.entry().key.regional_id(), policy);
        Ok((vec![change], admitted.answer(Reply::empty())?))
    })
    .await
}

const PUT: Action = Action::PutKeyPolicy;

/// Checks the member `Policy`, if it is there.
pub(super) fn check_text(policy: Option<&str>, violations: &mut Violations) {
    if let Some(policy) = policy {
        violations.text("policy", policy, 1, POLICY_CHARACTERS_MAX, Some(&POLICY));
    }
}

/// The policy of a text.
pub(super) fn parse(text: &str) -> Result<KeyPolicy, ApiError> {
    if text.len() > KeyPolicy::BYTES_MAX {
        let message = format!("A key policy has at most {} bytes.", KeyPolicy::BYTES_MAX);
        return Err(ApiError::new(ErrorCode::LimitExceededException, message));
    }
    KeyPolicy::parse(text).map_err(|error| malformed(error.message()))
}

/// Whether `policy` may become the policy of a key of the caller's account, with this ARN and these
/// aliases.
pub(super) fn check(
    policy: &KeyPolicy,
    key: &KmsKey,
    arn: &str,
    aliases: &[AliasName],
    bypass: Option<bool>,
    under: &Attempt<'_>,
) -> Result<(), ApiError> {
    if !policy.principals().all(|name| exists(name, under.snapshot)) {
        return Err(malformed(
            "Policy contains a statement with one or more invalid principals.",
        ));
    }
    let next = NextPut {
        arn,
        policy,
        aliases,
        key,
    };
    let circumstances = under.caller(PUT).circumstances;
    if bypass == Some(true) {
        return Ok(());
    }
    match policy::check(&under.principal, &next, &circumstances) {
        Ok(_) => Ok(()),
        Err(denied) => Err(malformed(
            "The new key policy will not allow you to update the key policy in the future.",
        )
        .undecided(denied == Denied::TooManySteps)),
    }
}

fn malformed(message: impl Into<std::borrow::Cow<'static, str>>) -> ApiError {
    ApiError::new(ErrorCode::MalformedPolicyDocumentException, message)
}

/// The `PutKeyPolicy` that the caller may want to make next.
struct NextPut<'a> {
    arn: &'a str,
    policy: &'a KeyPolicy,
    aliases: &'a [AliasName],
    key: &'a KmsKey,
}

impl AuthorizationRequest for NextPut<'_> {
    fn action(&self) -> Action {
        PUT
    }

    fn resource(&self) -> &str {
        self.arn
    }

    fn key(&self) -> Option<KeyFacts<'_>> {
        Some(KeyFacts {
            policy: Some(self.policy),
            aliases: self.aliases,
            tags: &self.key.tags,
            ..key_facts(self.key)
        })
    }

    fn condition(&self, key: &ConditionKey) -> Values<'_> {
        match key {
            ConditionKey::PolicyName => Values::One(Value::Text(KeyPolicy::NAME)),
            _ => Values::Absent,
        }
    }
}

/// Whether the store has the user or role that a policy or a grant names, or the role of a session.
/// Accounts and federated users need no entry.
pub(super) fn exists(name: &PrincipalName, snapshot: &Snapshot) -> bool {
    let Some(arn) = Arn::split(name.as_str()) else {
        return true;
    };
    match arn.resource.split_once('/') {
        Some(("user" | "role", _)) => snapshot.principals.contains_key(name.as_str()),
        Some(("assumed-role", session)) => {
            let role = session.split_once('/').map(|(role, _)| role);
            let roles = format!("arn:{}:iam::{}:role/", arn.partition, arn.account);
            snapshot
                .principals
                .seek(|arn| **arn < *roles)
                .take_while(|(arn, _)| arn.starts_with(&roles))
                .any(|(arn, _)| arn.rsplit('/').next() == role)
        }
        _ => true,
    }
}
