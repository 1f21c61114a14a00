//! What a session was given when its role was assumed.

use crate::key::Tag;
use crate::policy::PolicyDocument;
use std::sync::Arc;

/// The parameters of a session: they narrow what it may do, and say on whose behalf it acts.
///
/// Source: AWS IAM, "Pass session tags in AWS STS", "Session policies", "Monitor and control
/// actions taken with assumed roles".
#[derive(Default)]
pub struct SessionParameters {
    /// Its tags; one takes the place of its role's tag with that key, whatever the case.
    pub tags: Vec<Tag>,
    /// The keys of those tags that go with it when it assumes another role.
    pub transitive_tag_keys: Vec<String>,
    /// Who stands behind it; no later session in a chain can change it.
    pub source_identity: Option<String>,
    /// The session policy: it may do what the role's policies and this one allow.
    pub policy: Option<Arc<PolicyDocument>>,
    /// The ARN of the identity provider whose token it was made for.
    pub provider: Option<String>,
}

impl SessionParameters {
    /// Whether the session has nothing beside its role.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tags.is_empty()
            && self.source_identity.is_none()
            && self.policy.is_none()
            && self.provider.is_none()
    }

    /// The tags that go with it when it assumes another role.
    pub fn transitive_tags(&self) -> impl Iterator<Item = &Tag> {
        let is_transitive = |tag: &&Tag| {
            let mut keys = self.transitive_tag_keys.iter();
            keys.any(|key| same_key(key, &tag.key))
        };
        self.tags.iter().filter(is_transitive)
    }

    /// The tags of a session of a role with `tags`.
    pub(super) fn over(&self, tags: &Arc<[Tag]>) -> Arc<[Tag]> {
        if self.tags.is_empty() {
            return Arc::clone(tags);
        }
        let is_kept = |tag: &&Tag| !self.tags.iter().any(|own| same_key(&own.key, &tag.key));
        let kept = tags.iter().filter(is_kept);
        kept.chain(&self.tags).cloned().collect()
    }
}

/// Whether two keys of tags are one to IAM, which ignores their case.
#[must_use]
pub fn same_key(one: &str, other: &str) -> bool {
    one.eq_ignore_ascii_case(other) || one.to_lowercase() == other.to_lowercase()
}
