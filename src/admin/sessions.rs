//! Sessions of roles: temporary credentials, which only their holder keeps.

use crate::admin::access_keys;
use crate::admin::lookup::{NAME, NAME_CHARACTERS_MAX, arn_of_name, check_name, find, invalid};
use crate::api::validation::Violations;
use crate::api::wire::{self, Object, Text};
use crate::api::{Answer, Api, ApiError, ErrorCode, Requester};
use crate::auth::Session;
use crate::clock::calendar::Iso8601;
use crate::keystore::AccessKey;
use crate::policy::principal::PrincipalKind;
use std::time::Duration;

const SESSION_NAME_CHARACTERS_MIN: usize = 2;

wire::input! {
    #[serde(deny_unknown_fields)]
    struct Input<'a> {
        name: Text<'a>,
        session_name: Text<'a>,
        duration_seconds: Option<i64>,
    }
}

/// `CreateSession`: changes nothing, since the store does not know of sessions.
pub(super) fn create(api: &Api, operator: &Requester, body: &[u8]) -> Answer {
    let input: Input<'_> = wire::decode(body)?;
    let mut violations = Violations::default();
    let role = check_name(input.name.as_deref(), &mut violations);
    let name = input.session_name.as_deref();
    match name {
        None => violations.null("sessionName"),
        Some(name) => violations.text(
            "sessionName",
            name,
            SESSION_NAME_CHARACTERS_MIN,
            NAME_CHARACTERS_MAX,
            Some(&NAME),
        ),
    }
    let (min, max) = (Session::SECONDS_MIN, Session::SECONDS_MAX);
    let seconds = violations
        .number("durationSeconds", input.duration_seconds, min, max)
        .unwrap_or(Session::SECONDS_DEFAULT);
    let (role, name, seconds) = violations.check((role, name.unwrap_or(""), seconds))?;
    // The session has the role's rights, so the role must exist and be enabled.
    let arn = arn_of_name(api, operator, role, "role")?;
    let snapshot = api.keystore.snapshot();
    let entry = find(&snapshot, &arn)?;
    let role = &entry.principal;
    let (PrincipalKind::Role, Some(id)) = (role.kind(), role.unique_id()) else {
        return Err(invalid("Only roles have sessions."));
    };
    if !entry.enabled {
        let message = format!("{arn} is disabled.");
        return Err(ApiError::new(ErrorCode::DisabledException, message));
    }
    let now = api.clock.now();
    let principal = role.session(name, now).map_err(ApiError::internal)?;
    // The token holds the whole session, sealed: the store keeps nothing of it.
    let session = Session::new(
        arn,
        id.to_owned(),
        name.to_owned(),
        AccessKey::draw(AccessKey::TEMPORARY, &api.entropy)?,
        now,
        now.after(Duration::from_secs(seconds)),
    );
    let token = session.token(api.keystore.session_token_key(), &api.entropy)?;
    let mut reply = Object::new();
    reply.text("Arn", &principal.arn);
    access_keys::write_secret(&session.access_key, &mut reply);
    reply.plain("SessionToken", &token);
    reply.plain("Expiration", &Iso8601::of(session.expiration).to_string());
    Ok(reply.end())
}
