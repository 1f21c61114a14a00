//! The principal that an operation names: by its ARN, or by a bare name in the operator's account.

use crate::api::validation::{Pattern, Violations};
use crate::api::wire::{self, Text};
use crate::api::{Answer, Api, ApiError, ErrorCode, Reply, Requester};
use crate::key::arn::{AccountId, Arn};
use crate::keystore::{Change, PrincipalEntry, Snapshot};
use crate::policy::Principal;
use crate::policy::principal::PrincipalKind;
use std::sync::Arc;

pub(super) const NAME_CHARACTERS_MAX: usize = 64;

/// The name of an IAM user, a role or a session.
pub(super) const NAME: Pattern = Pattern {
    text: "^[\\w+=,.@-]+$",
    matches: |text| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_+=,.@-".contains(&byte);
        !text.is_empty() && text.bytes().all(allowed)
    },
};

wire::input! {
    #[serde(deny_unknown_fields)]
    struct NameInput<'a> {
        name: Text<'a>,
    }
}

/// The ARN that a body of nothing but a name names.
pub(super) fn arn_in_body(
    api: &Api,
    operator: &Requester,
    body: &[u8],
) -> Result<String, ApiError> {
    let input: NameInput<'_> = wire::decode(body)?;
    let mut violations = Violations::default();
    let name = check_name(input.name.as_deref(), &mut violations);
    arn_of_name(api, operator, violations.check(name)?, "user")
}

/// A name, if it is not an ARN: that is another matter.
pub(super) fn check_name<'a>(name: Option<&'a str>, violations: &mut Violations) -> &'a str {
    match name {
        Some(arn) if is_arn(arn) => arn,
        name => violations.required_text("name", name, NAME_CHARACTERS_MAX, Some(&NAME)),
    }
}

/// The ARN of a principal by a name that was checked: an ARN, or the name of one of this kind in
/// the operator's account.
pub(super) fn arn_of_name(
    api: &Api,
    operator: &Requester,
    name: &str,
    kind: &str,
) -> Result<String, ApiError> {
    if is_arn(name) {
        return known_arn(api, name);
    }
    Ok(arn(api, kind, operator.principal.account, name))
}

pub(super) fn is_arn(name: &str) -> bool {
    name.starts_with("arn:")
}

pub(super) fn arn(api: &Api, kind: &str, account: AccountId, name: &str) -> String {
    let partition = &api.keystore.regions().home().partition;
    format!("arn:{partition}:iam::{account}:{kind}/{name}")
}

/// `text`, if it is the ARN of a principal that the store can keep. Paths are refused: two roles
/// that differ only in their paths would have sessions of the same name.
pub(super) fn known_arn(api: &Api, text: &str) -> Result<String, ApiError> {
    let kind = Principal::new(text, Vec::new()).map(|principal| principal.kind());
    let kept = matches!(
        kind,
        Ok(PrincipalKind::User | PrincipalKind::Role | PrincipalKind::Root)
    );
    let ours = Arn::split(text).is_some_and(|arn| {
        arn.partition == api.keystore.regions().home().partition
            && arn.resource.matches('/').count() < 2
    });
    if kept && ours {
        return Ok(text.to_owned());
    }
    let message =
        format!("ARN '{text}' is not that of a user, a role (without a path) or an account's root");
    Err(ApiError::new(ErrorCode::InvalidArnException, message))
}

pub(super) fn invalid(message: &'static str) -> ApiError {
    ApiError::new(ErrorCode::ValidationException, message)
}

pub(super) fn limit(message: String) -> ApiError {
    ApiError::new(ErrorCode::LimitExceededException, message)
}

/// Replaces the principal by the one that `change` makes of it.
pub(super) async fn replace(
    api: &Api,
    operator: &Requester,
    arn: &str,
    mut change: impl FnMut(PrincipalEntry) -> Result<PrincipalEntry, ApiError>,
) -> Answer {
    api.change(operator, None, |under| {
        let entry = change(PrincipalEntry::clone(find(under.snapshot, arn)?))?;
        Ok((vec![Change::PutPrincipal(entry)], Reply::empty()))
    })
    .await
}

pub(super) fn find<'a>(
    snapshot: &'a Snapshot,
    arn: &str,
) -> Result<&'a Arc<PrincipalEntry>, ApiError> {
    snapshot.principals.get(arn).ok_or_else(|| {
        let message = format!("Principal {arn} does not exist");
        ApiError::new(ErrorCode::NotFoundException, message)
    })
}
