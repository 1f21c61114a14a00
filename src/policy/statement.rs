//! One compiled statement of a policy: whom it speaks of, which actions on which resources, and
//! when.
//!
//! Actions are compared without regard to ASCII case, ARNs with. An ARN pattern is matched part by
//! part, the resource (which may have colons) as one part: a wildcard does not reach over the colon
//! into the next part, so no alias can be named so that a pattern for one account matches it in
//! another.

use crate::policy::arn_pattern::ArnPattern;
use crate::policy::condition::Condition;
use crate::policy::element::Effect;
use crate::policy::error::{InvalidPolicy, refuse};
use crate::policy::facts::Facts;
use crate::policy::principal::name::Naming;
use crate::policy::principal::{Principal, PrincipalName};
use crate::policy::template::{Match, Syntax, Template};
use crate::policy::wildcard::Case;

pub(super) struct Statement {
    pub(super) sid: Option<Box<str>>,
    pub(super) effect: Effect,
    /// Empty in an identity policy, which speaks of whom it is attached to.
    pub(super) principals: Box<[PrincipalPattern]>,
    pub(super) actions: List<Template>,
    pub(super) resources: List<ResourcePattern>,
    pub(super) conditions: Box<[Condition]>,
}

/// What an element and its `Not` form list.
pub(super) enum List<T> {
    Of(Box<[T]>),
    AllBut(Box<[T]>),
}

/// Whom a statement of a key policy speaks of.
pub(super) enum PrincipalPattern {
    /// `*`: everybody.
    Anybody,
    Name(PrincipalName),
    /// A service or a federation: accepted, and never our caller.
    Nobody,
}

/// What a statement is about.
pub(super) enum ResourcePattern {
    /// `*`: every key and alias, and what is about none.
    Any,
    Arn(ArnPattern),
}

impl Statement {
    /// Whether it speaks of the request, whoever asks.
    pub(super) fn speaks_of(&self, facts: &Facts<'_>) -> bool {
        let action = facts.action.name();
        let this_action = |pattern: &Template| pattern.matches(action, facts, Case::Insensitive);
        let this_resource = |pattern: &ResourcePattern| match pattern {
            ResourcePattern::Any => Match::Yes,
            ResourcePattern::Arn(pattern) => facts
                .arn()
                .map_or(Match::No, |arn| pattern.matches(arn, facts)),
        };
        self.actions.has(self.effect, this_action)
            && self.resources.has(self.effect, this_resource)
            && self
                .conditions
                .iter()
                .all(|condition| condition.holds(facts, self.effect))
    }

    /// How it names `principal`, in the way that gives most.
    pub(super) fn names(&self, principal: &Principal) -> Naming {
        let mut found = Naming::Not;
        for pattern in &self.principals {
            match pattern {
                PrincipalPattern::Anybody => return Naming::Himself,
                PrincipalPattern::Nobody => {}
                PrincipalPattern::Name(name) => match name.names(principal) {
                    Naming::Himself => return Naming::Himself,
                    Naming::Account => found = Naming::Account,
                    Naming::Not => {}
                },
            }
        }
        found
    }
}

impl<T> List<T> {
    /// Whether what `matches` looks for is in the list, or for its `Not` form is not.
    fn has(&self, effect: Effect, matches: impl Fn(&T) -> Match) -> bool {
        match self {
            Self::Of(items) => items.iter().any(|item| matches(item) == Match::Yes),
            Self::AllBut(items) => match Match::any(items.iter().map(matches)) {
                Match::Yes => false,
                Match::No => true,
                Match::Unknown => effect == Effect::Deny,
            },
        }
    }
}

impl ResourcePattern {
    pub(super) fn compile(text: &str, variables: bool) -> Result<Self, InvalidPolicy> {
        if text == "*" {
            return Ok(Self::Any);
        }
        Ok(Self::Arn(ArnPattern::compile(text, variables)?))
    }
}

impl PrincipalPattern {
    /// A value of `{"AWS": …}`.
    pub(super) fn compile(text: &str) -> Result<Self, InvalidPolicy> {
        if text == "*" {
            return Ok(Self::Anybody);
        }
        match text.parse() {
            Ok(name) => Ok(Self::Name(name)),
            Err(reason) => Err(InvalidPolicy::principal(format!("{text:?} is {reason}"))),
        }
    }
}

/// `*`, or `<service>:<name>` with wildcards in the name only. Another service's action is
/// well-formed and matches nothing here.
pub(super) fn compile_action(text: &str) -> Result<Template, InvalidPolicy> {
    let service = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    let name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'*' | b'?');
    let formed = text == "*"
        || text.split_once(':').is_some_and(|(of, to)| {
            !of.is_empty() && of.bytes().all(service) && !to.is_empty() && to.bytes().all(name)
        });
    if !formed {
        return refuse(format!("{text:?} is neither * nor <service>:<action>"));
    }
    let syntax = Syntax {
        wildcards: true,
        variables: false,
    };
    Template::compile(text, syntax)
}
