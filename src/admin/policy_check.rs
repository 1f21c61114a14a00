//! `CheckPolicy`: what would be decided for a principal, an action, a key and a context, and by
//! which statement. Nothing is done, and nothing but policy is looked at: a key that is disabled is
//! another matter. Members of a request other than these are absent where conditions ask for them.

use crate::api::members::Members;
use crate::api::resolve::Caller;
use crate::api::validation::{ASCII, KEY_ID_CHARACTERS_MAX, Violations};
use crate::api::wire::{self, ContextMember, Object, Text};
use crate::api::{Answer, Api, ApiError, ErrorCode, Requester};
use crate::attestation::Measurements;
use crate::clock::Timestamp;
use crate::key::arn::{AccountId, AliasName, Arn};
use crate::keystore::{KeyEntry, PrincipalEntry, Snapshot};
use crate::operation::Action;
use crate::operation::words::About;
use crate::policy::{self, AuthorizationRequest, Circumstances, Denied, Measurement, Principal};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

wire::input! {
    #[serde(deny_unknown_fields)]
    struct Input<'a> {
        principal: Text<'a>,
        action: Text<'a>,
        key_id: Text<'a>,
        encryption_context: ContextMember,
        source_ip: Text<'a>,
        secure_transport: Option<bool>,
        recipient_attestation: Option<BTreeMap<String, String>>,
    }
}

/// The actions of requests that may have a `Recipient`.
const WITH_RECIPIENT: [Action; 5] = [
    Action::Decrypt,
    Action::DeriveSharedSecret,
    Action::GenerateDataKey,
    Action::GenerateDataKeyPair,
    Action::GenerateRandom,
];

/// A request about no key.
struct OnNoKey(Action);

impl AuthorizationRequest for OnNoKey {
    fn action(&self) -> Action {
        self.0
    }

    fn resource(&self) -> &str {
        "*"
    }
}

/// Answers `{"Allowed": true, "By", "Under"?}` or `{"Allowed": false, "By"?, "Reason"}`.
pub(super) fn check(api: &Api, operator: &Requester, body: &[u8]) -> Answer {
    let input: Input<'_> = wire::decode(body)?;
    let mut violations = Violations::default();
    let principal = input.principal.as_deref();
    let max = KEY_ID_CHARACTERS_MAX;
    let principal = violations.required_text("principal", principal, max, Some(&ASCII));
    let action = violations.required_text("action", input.action.as_deref(), max, Some(&ASCII));
    if let Some(key_id) = input.key_id.as_deref() {
        violations.text("keyId", key_id, 1, KEY_ID_CHARACTERS_MAX, Some(&ASCII));
    }
    let source_ip = input.source_ip.as_deref().map(str::parse::<IpAddr>);
    if let (Some(Err(_)), Some(text)) = (&source_ip, &input.source_ip) {
        violations.value("sourceIp", &**text, "Member must be an IP address");
    }
    let (principal, action) = violations.check((principal, action))?;
    // From nowhere is from a Unix socket, which is secure.
    let source_ip = source_ip.and_then(Result::ok);
    let context = input.encryption_context.sound()?;
    let measured = input.recipient_attestation.as_ref().map(measurements);
    let measured = measured.transpose()?;
    let snapshot = api.keystore.snapshot();
    let under = api.attempt(operator, &snapshot)?;
    let (entry, principal) = principal_of(principal, &snapshot, under.now)?;
    let action = action_of(action)?;
    if measured.is_some() && !WITH_RECIPIENT.contains(&action) {
        let message = format!("{} has no Recipient.", action.name());
        return Err(invalid(message));
    }
    let caller = Caller {
        principal: &principal,
        action,
        region: under.region,
        context: Some(context),
        members: measured
            .as_ref()
            .map_or(Members::None, |measured| Members::Attested(&[], measured)),
        circumstances: Circumstances {
            now: under.now,
            source_ip,
            secure_transport: input.secure_transport.unwrap_or(source_ip.is_none()),
            region: &under.region.name,
        },
    };
    let on_no_key = action.facts().about == About::Nothing;
    let decision = match input.key_id.as_deref() {
        Some(_) if on_no_key => Err(invalid(format!("{} is about no key.", action.name()))),
        None if !on_no_key => Err(invalid(format!(
            "{} is about a key: name one.",
            action.name()
        ))),
        None => Ok(decide(&caller, &OnNoKey(action))),
        Some(key_id) => {
            let (key, alias) = key_of(key_id, caller, &snapshot)?;
            Ok(decide(&caller, &caller.on_key(key, alias, &snapshot)))
        }
    }?;
    if !entry.enabled {
        let mut object = Object::new();
        object.flag("Allowed", false);
        object.text("Reason", &format!("{} is disabled", entry.principal.arn));
        return Ok(object.end());
    }
    Ok(decision.end())
}

/// What would have been measured of the `Recipient`, by the end of its condition key.
fn measurements(named: &BTreeMap<String, String>) -> Result<Measurements, ApiError> {
    let mut measured = Vec::with_capacity(named.len());
    for (name, value) in named {
        let measurement = Measurement::named(name).ok_or_else(|| {
            invalid(format!(
                "'{name}' is not a measurement, such as PCR1, ImageSha384 or NitroTPMPCR4."
            ))
        })?;
        let value = hex_simd::decode_to_vec(value)
            .map_err(|_| invalid(format!("The value of {name} is not in hex.")))?;
        measured.push((measurement, value));
    }
    Measurements::supposed(measured).map_err(|error| invalid(format!("No such document: {error}.")))
}

fn decide(caller: &Caller<'_>, request: &dyn AuthorizationRequest) -> Object {
    let key_policy = request.key().and_then(|key| key.policy);
    let described =
        |statement: policy::StatementId| statement.describe(caller.principal, key_policy);
    let mut object = Object::new();
    match policy::check(caller.principal, request, &caller.circumstances) {
        Ok(allowed) => {
            object.flag("Allowed", true);
            object.text("By", &described(allowed.by));
            if let Some(under) = allowed.under {
                object.text("Under", &described(under));
            }
        }
        Err(denied) => {
            object.flag("Allowed", false);
            if let Denied::ExplicitDeny(statement) = denied {
                object.text("By", &described(statement));
            }
            object.text("Reason", &denied.reason(caller.action).to_string());
        }
    }
    object
}

/// The principal of this ARN; a role's session is one that has just been made.
fn principal_of<'a>(
    arn: &str,
    snapshot: &'a Snapshot,
    now: Timestamp,
) -> Result<(&'a Arc<PrincipalEntry>, Arc<Principal>), ApiError> {
    let missing = || {
        let message = format!("Principal {arn} does not exist");
        ApiError::new(ErrorCode::NotFoundException, message)
    };
    if let Some(entry) = snapshot.principals.get(arn) {
        return Ok((entry, Arc::clone(&entry.principal)));
    }
    let parts = Arn::split(arn)
        .filter(|arn| arn.service == "sts")
        .ok_or_else(missing)?;
    let role = parts.resource.strip_prefix("assumed-role/");
    let (role, name) = role
        .and_then(|role| role.split_once('/'))
        .ok_or_else(missing)?;
    let (partition, account) = (parts.partition, parts.account);
    let role = format!("arn:{partition}:iam::{account}:role/{role}");
    let entry = snapshot.principals.get(role.as_str()).ok_or_else(missing)?;
    let session = entry.principal.session(name, now).map_err(|_| missing())?;
    Ok((entry, Arc::new(session)))
}

fn action_of(text: &str) -> Result<Action, ApiError> {
    match Action::named(text) {
        Some(action) if action.facts().about == About::Grant => Err(invalid(format!(
            "{} is decided by the grant that is retired.",
            action.name()
        ))),
        Some(action) if action.facts().about == About::Role => Err(invalid(format!(
            "{} is decided by the trust policy of a role.",
            action.name()
        ))),
        Some(action) => Ok(action),
        None => Err(invalid(format!(
            "'{text}' is not an action of this service, such as kms:Decrypt."
        ))),
    }
}

/// A key in any of its four forms, of any account, and the alias that it is named by.
fn key_of<'a>(
    key_id: &str,
    caller: Caller<'_>,
    snapshot: &'a Snapshot,
) -> Result<(&'a Arc<KeyEntry>, Option<AliasName>), ApiError> {
    let missing = || {
        let message = format!("Key '{key_id}' does not exist");
        ApiError::new(ErrorCode::NotFoundException, message)
    };
    let own = caller.principal.account;
    let (account, name) = match Arn::split(key_id) {
        Some(arn) => {
            let account: AccountId = arn.account.parse().map_err(|_| missing())?;
            if caller.region.arn(account, arn.resource) != key_id {
                return Err(missing());
            }
            let name = arn.resource;
            (account, name.strip_prefix("key/").unwrap_or(name))
        }
        None => (own, key_id),
    };
    let (id, alias) = match name.parse::<AliasName>() {
        Ok(alias) => {
            let found = snapshot
                .alias(caller.region.number, account, &alias)
                .ok_or_else(missing)?;
            (found.target, Some(alias))
        }
        Err(_) => (name.parse().map_err(|_| missing())?, None),
    };
    let key = snapshot
        .key(account, caller.region.id(id))
        .ok_or_else(missing)?;
    Ok((key, alias))
}

fn invalid(message: String) -> ApiError {
    ApiError::new(ErrorCode::ValidationException, message)
}
