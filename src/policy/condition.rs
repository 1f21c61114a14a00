//! The conditions of a statement, all of which must hold.
//!
//! A key that is absent fails a condition, unless the operator is negated or ends in `IfExists`;
//! `Null` tests for the absence itself. A single-valued key can have several values, because a
//! request may have context pairs or tags whose names differ only in case. Then an allow needs the
//! condition to hold for every value, and a deny needs one. The same rule applies to a multivalued
//! key without a set operator, which AWS advises against.
//!
//! Source: AWS IAM, "IAM JSON policy elements: Condition operators" and "Set operators for
//! multivalued context keys",
//! <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_condition-single-vs-multi-valued-context-keys.html>.

use crate::policy::condition_key::ConditionKey;
use crate::policy::element::{Effect, Grammar};
use crate::policy::error::{InvalidPolicy, refuse};
use crate::policy::facts::Facts;
use crate::policy::json::{Json, one_or_more};
use crate::policy::template::Match;

pub(super) mod date;
mod network;
mod operator;

use operator::{Operands, Operator};

/// A condition, compiled.
pub(super) enum Condition {
    /// The key must be absent, or must be present.
    Null {
        key: ConditionKey,
        absent: bool,
    },
    Compare(Comparison),
}

pub(super) struct Comparison {
    key: ConditionKey,
    set: Option<SetOperator>,
    if_exists: bool,
    negated: bool,
    operands: Operands,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SetOperator {
    AllValues,
    AnyValue,
}

/// The most aliases of a key. If a key has more, conditions on its aliases do not count in the
/// caller's favour.
const ALIASES_OF_KEY_MAX: usize = 50;

impl Condition {
    /// Compiles the `Condition` element.
    pub(super) fn compile(
        block: Json,
        grammar: Grammar,
        variables: bool,
    ) -> Result<Box<[Self]>, InvalidPolicy> {
        let Json::Object(operators) = block else {
            return refuse("not an object");
        };
        let mut conditions = Vec::new();
        for (name, keys) in operators {
            let Json::Object(keys) = keys else {
                return refuse(format!("{name}: not an object"));
            };
            if keys.is_empty() {
                return refuse(format!("{name}: no condition key"));
            }
            for (key, value) in keys {
                let condition = Self::compile_one(&name, &key, value, grammar, variables);
                conditions.push(condition.map_err(|error| error.at(&format!("{name}: {key}")))?);
            }
        }
        Ok(conditions.into())
    }

    fn compile_one(
        name: &str,
        key: &str,
        value: Json,
        grammar: Grammar,
        variables: bool,
    ) -> Result<Self, InvalidPolicy> {
        let (set, plain) = match name.split_once(':') {
            None => (None, name),
            Some(("ForAllValues", plain)) => (Some(SetOperator::AllValues), plain),
            Some(("ForAnyValue", plain)) => (Some(SetOperator::AnyValue), plain),
            Some(_) => return refuse("unknown operator"),
        };
        let key = ConditionKey::parse(key, grammar)?;
        match key {
            ConditionKey::EncryptionContext(_) if set == Some(SetOperator::AllValues) => {
                return Err(InvalidPolicy::overly_permissive());
            }
            ConditionKey::Claim { .. } if set == Some(SetOperator::AllValues) => {
                return refuse(
                    "ForAllValues holds for a token without the claim: leave it out, or take ForAnyValue",
                );
            }
            ConditionKey::ResourceAliases if grammar == Grammar::Key => {
                return refuse("stands in identity policies only");
            }
            _ => {}
        }
        let values = one_or_more("value", value)?;
        if plain == "Null" {
            let absent = match &*values {
                [Json::Bool(absent)] if set.is_none() => Some(*absent),
                [Json::Text(text)] if set.is_none() => operator::boolean(text),
                _ => None,
            };
            return match absent {
                Some(absent) => Ok(Self::Null { key, absent }),
                None => refuse("Null takes no set operator, and one value: true or false"),
            };
        }
        let (plain, if_exists) = match plain.strip_suffix("IfExists") {
            Some(plain) => (plain, true),
            None => (plain, false),
        };
        let Some(operator) = Operator::parse(plain) else {
            return refuse("unknown operator");
        };
        Ok(Self::Compare(Comparison {
            key,
            set,
            if_exists,
            negated: operator.negated,
            operands: operator.operands(values, variables)?,
        }))
    }

    /// The issuer whose claim it reads, if it does.
    pub(super) fn issuer(&self) -> Option<&str> {
        let (Self::Null { key, .. } | Self::Compare(Comparison { key, .. })) = self;
        match key {
            ConditionKey::Claim { issuer, .. } => Some(issuer),
            _ => None,
        }
    }

    /// The claim that a token must have for it to hold: its issuer and its name.
    pub(super) fn claim(&self) -> Option<(&str, &str)> {
        match self {
            Self::Compare(Comparison {
                key: ConditionKey::Claim { issuer, claim },
                if_exists: false,
                negated: false,
                ..
            }) => Some((issuer, claim)),
            _ => None,
        }
    }

    pub(super) fn holds(&self, facts: &Facts<'_>, effect: Effect) -> bool {
        if facts.steps.are_spent() {
            return false;
        }
        match self {
            Self::Null { key, absent } => {
                let mut present = false;
                facts.each(key, &mut |_| present = true);
                present != *absent
            }
            Self::Compare(comparison) => comparison.holds(facts, effect),
        }
    }
}

impl Comparison {
    fn holds(&self, facts: &Facts<'_>, effect: Effect) -> bool {
        let (mut values, mut holding) = (0, 0);
        facts.each(&self.key, &mut |value| {
            values += 1;
            let holds = match self.operands.any(value, facts) {
                Match::Yes => !self.negated,
                Match::No => self.negated,
                Match::Unknown => self.negated && effect == Effect::Deny,
            };
            holding += usize::from(holds);
        });
        // The key is absent.
        if values == 0 {
            return match self.set {
                Some(SetOperator::AllValues) => true,
                Some(SetOperator::AnyValue) => self.if_exists,
                None => self.if_exists || self.negated,
            };
        }
        if self.key == ConditionKey::ResourceAliases && values > ALIASES_OF_KEY_MAX {
            return effect == Effect::Deny;
        }
        // Several values: whether one of them is enough, or all must hold. See the module.
        let any = match self.set {
            Some(set) if self.key.is_multivalued() => set == SetOperator::AnyValue,
            _ => effect == Effect::Deny,
        };
        if any { holding > 0 } else { holding == values }
    }
}
