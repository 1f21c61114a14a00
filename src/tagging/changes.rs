//! `TagResources` and `UntagResources`: the KMS operation of the caller, one key after the other. A
//! key whose tags cannot be changed does not keep the others from being changed; the answer has
//! the refusal of KMS for it.

use crate::api::members::Members;
use crate::api::validation::Violations;
use crate::api::wire::{self, TextMap};
use crate::api::{Answer, Api, ApiError, ErrorCode, Reply, Requester};
use crate::operation::{Action, Operation};
use crate::tagging::arns;
use crate::tagging::error::in_words_of_tagging;
use crate::tagging::filter::{KEY_CHARACTERS_MAX, VALUE_CHARACTERS_MAX};
use serde_json::{Map, Value, json};
use std::borrow::Cow;
use std::sync::Arc;

/// Service model: `ResourceARNListForTagUntag`, `TagMap` and `TagKeyListForUntag`.
const ARNS_MAX: usize = 20;
const TAGS_MAX: usize = 50;

wire::input! {
    struct Input<'a> {
        #[serde(rename = "ResourceARNList")]
        arns: Option<Vec<Cow<'a, str>>>,
        tags: Option<TextMap<'a>>,
        tag_keys: Option<Vec<Cow<'a, str>>>,
    }
}

/// `TagResources`
pub(super) async fn tag(api: &Arc<Api>, requester: &Requester, body: &[u8]) -> Answer {
    let input: Input<'_> = wire::decode(body)?;
    let mut violations = Violations::default();
    let arns = arns::required(input.arns.as_deref(), ARNS_MAX, &mut violations);
    let tags = violations.required("tags", input.tags.as_ref().map(TextMap::pairs));
    if input.tags.is_some() {
        violations.elements("tags", tags.len(), 1, TAGS_MAX);
    }
    for (key, value) in tags.iter().take(TAGS_MAX) {
        violations.text("tags.key", key, 1, KEY_CHARACTERS_MAX, None);
        violations.text("tags.value", value, 0, VALUE_CHARACTERS_MAX, None);
    }
    let arns = violations.check(arns)?;
    let tags = tags.iter();
    let tags = tags.map(|(key, value)| json!({"TagKey": **key, "TagValue": **value}));
    let tags = json!({"Tags": tags.collect::<Value>()});
    let actions = (Action::TagResources, Operation::TagResource);
    change(api, requester, actions, arns, tags).await
}

/// `UntagResources`; a key that no tag has is ignored.
pub(super) async fn untag(api: &Arc<Api>, requester: &Requester, body: &[u8]) -> Answer {
    let input: Input<'_> = wire::decode(body)?;
    let mut violations = Violations::default();
    let arns = arns::required(input.arns.as_deref(), ARNS_MAX, &mut violations);
    let keys = violations.required("tagKeys", input.tag_keys.as_deref());
    if input.tag_keys.is_some() {
        violations.elements("tagKeys", keys.len(), 1, TAGS_MAX);
    }
    for (number, key) in (1..).zip(keys.iter().take(TAGS_MAX)) {
        let member = format!("tagKeys.{number}.member");
        violations.text(&member, key, 1, KEY_CHARACTERS_MAX, None);
    }
    let (arns, keys) = violations.check((arns, keys))?;
    let actions = (Action::UntagResources, Operation::UntagResource);
    change(api, requester, actions, arns, json!({"TagKeys": keys})).await
}

async fn change(
    api: &Arc<Api>,
    requester: &Requester,
    (action, operation): (Action, Operation),
    arns: &[Cow<'_, str>],
    mut body: Value,
) -> Answer {
    for arn in arns {
        arns::split(arn)?;
    }
    api.check_recordable()?;
    let permit = move |api: &Arc<Api>, requester: &Requester, _: &[u8]| {
        api.read(requester, |attempt| {
            attempt.admit_alone(action, Members::None, || Ok(Reply::empty()))
        })
    };
    api.at_length(requester, b"", permit).await?;
    let mut failed = Map::new();
    for arn in arns {
        body["KeyId"] = json!(arn);
        let body = body.to_string();
        if let Err(error) = api.call(operation, requester, body.as_bytes()).await {
            failed.insert(arn.to_string(), failure(error));
        }
    }
    Ok(Reply::of(&json!({"FailedResourcesMap": failed})))
}

/// Why the tags of one key were not changed: the code of KMS, but for a failure of this daemon.
fn failure(error: ApiError) -> Value {
    let error = match error.code() {
        ErrorCode::KMSInternalException => in_words_of_tagging(error),
        _ => error,
    };
    json!({
        "StatusCode": error.code().status().as_u16(),
        "ErrorCode": error.code().name(),
        "ErrorMessage": error.message(),
    })
}
