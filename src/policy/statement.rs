//! One compiled statement of a policy: the principals, actions and resources that it covers, and
//! its conditions.
//!
//! Actions are compared without regard to ASCII case; in ARNs case matters. An ARN pattern is
//! matched part by part; the resource, which may contain colons, is one part. A wildcard does not
//! extend over the colon into the next part, so no alias can have a name for which a pattern for
//! one account matches in another.

use crate::policy::arn_pattern::ArnPattern;
use crate::policy::condition::Condition;
use crate::policy::element::Effect;
use crate::policy::error::{InvalidPolicy, refuse};
use crate::policy::facts::Facts;
use crate::policy::principal::name::Naming;
use crate::policy::principal::{Principal, PrincipalKind, PrincipalName};
use crate::policy::template::{Match, Syntax, Template};
use crate::policy::wildcard::Case;

pub(super) struct Statement {
    pub(super) sid: Option<Box<str>>,
    pub(super) effect: Effect,
    /// Empty in an identity policy, which covers the principals that it is attached to.
    pub(super) principals: Box<[PrincipalPattern]>,
    pub(super) actions: List<Template>,
    pub(super) resources: List<ResourcePattern>,
    pub(super) conditions: Box<[Condition]>,
}

/// The entries of an element or of its `Not` form.
pub(super) enum List<T> {
    Of(Box<[T]>),
    AllBut(Box<[T]>),
}

/// The principals that a statement of a key policy covers.
pub(super) enum PrincipalPattern {
    /// `*`: every principal.
    Anybody,
    Name(PrincipalName),
    /// In a trust policy: an identity provider, by its ARN.
    Provider(Box<str>),
    /// A service, or in a key policy an identity provider: accepted, and never a caller there.
    Nobody,
}

/// The resources that a statement covers.
pub(super) enum ResourcePattern {
    /// `*`: every key and alias, and requests without a resource.
    Any,
    Arn(ArnPattern),
}

impl Statement {
    /// Whether it covers the request, for any caller.
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

    /// How it names `principal`, in the way that gives the principal most.
    pub(super) fn names(&self, principal: &Principal) -> Naming {
        let mut most = Naming::Not;
        for pattern in &self.principals {
            most = most.max(self.names_by(pattern, principal));
            if most == Naming::Principal {
                break;
            }
        }
        most
    }

    fn names_by(&self, pattern: &PrincipalPattern, principal: &Principal) -> Naming {
        match pattern {
            PrincipalPattern::Anybody => self.names_anybody(principal),
            PrincipalPattern::Nobody => Naming::Not,
            PrincipalPattern::Name(name) => name.names(principal),
            PrincipalPattern::Provider(arn) if **arn == *principal.arn => Naming::Principal,
            PrincipalPattern::Provider(_) => Naming::Not,
        }
    }

    /// How `*` names `principal`. A session policy limits what a session has as anybody. The
    /// holder of a stranger's token is let in by the name of its identity provider alone.
    fn names_anybody(&self, principal: &Principal) -> Naming {
        match principal.kind() {
            PrincipalKind::WebIdentity if self.effect == Effect::Allow => Naming::Not,
            PrincipalKind::AssumedRole => Naming::Role,
            _ => Naming::Principal,
        }
    }
}

impl<T> List<T> {
    /// Whether the list has an entry that `matches`, or for the `Not` form has none.
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
    /// Compiles a value of `{"AWS": …}`.
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

/// Compiles `*`, or `<service>:<name>` with wildcards in the name only. The action of another
/// service is well-formed and matches nothing here.
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
