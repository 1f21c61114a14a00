//! The parameters of a session in its token: fields in the form of the token's own.
//!
//! First three, each empty if the session has none: source identity, ARN of the identity provider,
//! session policy. Then two for each tag: a `+` if it is transitive, else a `-`, and the key; and
//! the value.

use crate::auth::session::split_field;
use crate::key::Tag;
use crate::policy::principal::same_key;
use crate::policy::{PolicyDocument, SessionParameters};
use std::borrow::Cow;
use std::sync::Arc;

/// The fields; none if there are no parameters.
pub(super) fn fields(parameters: &SessionParameters) -> Vec<Cow<'_, [u8]>> {
    if parameters.is_empty() {
        return Vec::new();
    }
    let policy = parameters.policy.as_ref().map(|policy| policy.source());
    let texts = [
        parameters.source_identity.as_deref(),
        parameters.provider.as_deref(),
        policy,
    ];
    let texts = texts.map(|text| Cow::Borrowed(text.unwrap_or_default().as_bytes()));
    let mut fields = Vec::from(texts);
    for tag in &parameters.tags {
        let mut transitive = parameters.transitive_tag_keys.iter();
        let is_transitive = transitive.any(|key| same_key(key, &tag.key));
        let sign = if is_transitive { '+' } else { '-' };
        fields.push(Cow::Owned(format!("{sign}{}", tag.key).into_bytes()));
        fields.push(Cow::Borrowed(tag.value.as_bytes()));
    }
    fields
}

/// The parameters of the fields in `rest`; `None` for other bytes.
pub(super) fn open(mut rest: &[u8]) -> Option<SessionParameters> {
    let mut text = || {
        let (field, after) = split_field(rest)?;
        rest = after;
        str::from_utf8(field).ok()
    };
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let mut parameters = SessionParameters {
        source_identity: some(text()?),
        provider: some(text()?),
        policy: match text()? {
            "" => None,
            policy => Some(Arc::new(PolicyDocument::parse(policy).ok()?)),
        },
        ..SessionParameters::default()
    };
    while let Some(signed) = text() {
        let key = signed.get(1..)?.to_owned();
        match signed.as_bytes()[0] {
            b'+' => parameters.transitive_tag_keys.push(key.clone()),
            b'-' => {}
            _ => return None,
        }
        let value = text()?.to_owned();
        parameters.tags.push(Tag { key, value });
    }
    rest.is_empty().then_some(parameters)
}
