//! The pure decision function.
//!
//! AUTH-1: a deny of any policy wins, wherever it stands, and the absence of an allow is a deny.
//!
//! Actions are compared without regard to ASCII case, ARNs with. An ARN pattern is matched part by part, the resource (which may have colons)
//! as one part: a wildcard does not reach over the colon into the next part, so no alias can be named so that a pattern for
//! one account matches it in another.
//!
//! What this module does not do: conditions, key policies, grants.

use crate::key::arn::Arn;
use crate::policy::document::{Effect, ResourcePattern, Statement};
use crate::policy::{Action, Denied, PolicyDocument};
use std::borrow::Borrow;

/// Decides on `action` on `resource` under all of `policies`. Allocates nothing.
pub(super) fn decide<P: Borrow<PolicyDocument>>(
    policies: &[P],
    action: Action,
    resource: &str,
) -> Result<(), Denied> {
    let arn = Arn::split(resource);
    let mut decision = Err(Denied::NoAllow);
    for statement in policies
        .iter()
        .flat_map(|policy| &policy.borrow().statements)
    {
        if speaks_of(statement, action, arn) {
            match statement.effect {
                Effect::Deny => return Err(Denied::ExplicitDeny),
                Effect::Allow => decision = Ok(()),
            }
        }
    }
    decision
}

fn speaks_of(statement: &Statement, action: Action, arn: Option<Arn<'_>>) -> bool {
    let fold_case = |a: u8, b: u8| a.eq_ignore_ascii_case(&b);
    let mut actions = statement.actions.iter();
    let this_action = actions.any(|pattern| matches(pattern, action.0, fold_case));
    let this_resource = |pattern: &ResourcePattern| match pattern {
        ResourcePattern::Any => true,
        ResourcePattern::Arn(pattern) => Arn::split(pattern)
            .is_some_and(|pattern| arn.is_some_and(|arn| matches_arn(pattern, arn))),
    };
    this_action && statement.resources.iter().any(this_resource)
}

fn matches_arn(pattern: Arn<'_>, arn: Arn<'_>) -> bool {
    let pairs = [
        (pattern.partition, arn.partition),
        (pattern.service, arn.service),
        (pattern.region, arn.region),
        (pattern.account, arn.account),
        (pattern.resource, arn.resource),
    ];
    let same = |(pattern, part): (&str, &str)| matches(pattern, part, |a, b| a == b);
    pairs.into_iter().all(same)
}

/// Whether `text` is what `pattern` stands for; `*` is any number of bytes, `?` is one.
///
/// Only the last `*` is ever tried again: if the pattern up to it matched a prefix of the text, the shortest such prefix leaves the most for
/// the rest. So the cost is at most the product of the lengths, and near their sum for patterns that people write.
fn matches(pattern: &str, text: &str, same: impl Fn(u8, u8) -> bool) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut at, mut text_at) = (0, 0);
    // Behind the last `*`, and how far the text reaches that it stands for.
    let mut retry: Option<(usize, usize)> = None;
    while text_at < text.len() {
        match pattern.get(at) {
            Some(b'*') => {
                at += 1;
                retry = Some((at, text_at));
            }
            Some(&byte) if byte == b'?' || same(byte, text[text_at]) => {
                at += 1;
                text_at += 1;
            }
            _ => {
                let Some((behind, reach)) = &mut retry else {
                    return false;
                };
                *reach += 1;
                (at, text_at) = (*behind, *reach);
            }
        }
    }
    pattern[at..].iter().all(|&byte| byte == b'*')
}

#[cfg(test)]
mod tests;
