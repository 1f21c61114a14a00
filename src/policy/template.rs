//! Texts of a policy with wildcards (`*`, `?`) and policy variables (`${aws:username}`), compiled
//! once.
//!
//! Source: AWS IAM, "IAM policy elements: Variables and tags",
//! <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_variables.html>.
//!
//! The value of a variable is used as it is: a wildcard in it is an ordinary character. If a
//! variable's key is absent and it has no default, the result is [`Match::Unknown`].

use crate::policy::condition_key::ConditionKey;
use crate::policy::element::Grammar;
use crate::policy::error::{InvalidPolicy, refuse};
use crate::policy::facts::{Facts, Value, ValueText};
use crate::policy::steps::Steps;
use crate::policy::wildcard::{self, Case, Part, Side};

/// The steps of each match, in addition to those of the comparison.
const STEPS: usize = 4;
/// The steps of a variable's value, which may have to be formatted, as for a time.
const VARIABLE_STEPS: usize = 128;
/// The bytes that are compared in a step.
const BYTES_OF_A_STEP: usize = 16;

/// A compiled text.
pub(super) struct Template {
    pieces: Box<[Piece]>,
    variables: Box<[Variable]>,
    /// Whether all literal text in it is ASCII.
    is_ascii: bool,
}

enum Piece {
    Text(Box<str>),
    /// `*`
    AnyNumber,
    /// `?`
    AnyOne,
    /// The variable of this index.
    Variable(usize),
}

struct Variable {
    key: ConditionKey,
    default: Option<Box<str>>,
}

/// The syntax in which a text is read.
#[derive(Clone, Copy)]
pub(super) struct Syntax {
    /// Whether `*` and `?` are wildcards.
    pub(super) wildcards: bool,
    /// Whether the policy's version has variables.
    pub(super) variables: bool,
}

/// The result of comparing a fact with a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Match {
    Yes,
    No,
    /// The result is unknown: a variable has no value, or the value is of another type. An allow
    /// that needs it does not apply. A deny applies if it covers what does *not* match.
    Unknown,
}

impl Match {
    /// Whether one of several is matched.
    pub(super) fn any(matches: impl IntoIterator<Item = Self>) -> Self {
        let mut any = Self::No;
        for one in matches {
            match one {
                Self::Yes => return Self::Yes,
                Self::Unknown => any = Self::Unknown,
                Self::No => {}
            }
        }
        any
    }

    /// Whether all of several are matched: not one of them is not.
    pub(super) fn all(matches: impl IntoIterator<Item = Self>) -> Self {
        Self::any(matches.into_iter().map(Self::not)).not()
    }

    fn not(self) -> Self {
        match self {
            Self::Yes => Self::No,
            Self::Unknown => Self::Unknown,
            Self::No => Self::Yes,
        }
    }
}

impl Template {
    /// The most variables of one text: their values are on the stack while it is matched.
    const VARIABLES_MAX: usize = 8;

    pub(super) fn compile(text: &str, syntax: Syntax) -> Result<Self, InvalidPolicy> {
        let (mut pieces, mut variables) = (Vec::new(), Vec::new());
        let mut literal = String::new();
        let mut rest = text;
        while let Some(character) = rest.chars().next() {
            if let Some(behind) = rest.strip_prefix("${") {
                let end = variable_end(behind);
                let (Some(end), true) = (end, syntax.variables) else {
                    return refuse(if syntax.variables {
                        format!("{text:?}: a variable without its end")
                    } else {
                        format!("{text:?}: policy variables need Version 2012-10-17")
                    });
                };
                // `${*}`, `${?}` and `${$}` are these characters themselves.
                match &behind[..end] {
                    sign @ ("*" | "?" | "$") => literal.push_str(sign),
                    inside => {
                        end_literal(&mut literal, &mut pieces);
                        pieces.push(Piece::Variable(variables.len()));
                        variables.push(Variable::parse(inside)?);
                    }
                }
                rest = &behind[end + 1..];
                continue;
            }
            match character {
                '*' | '?' if syntax.wildcards => {
                    end_literal(&mut literal, &mut pieces);
                    pieces.push(if character == '*' {
                        Piece::AnyNumber
                    } else {
                        Piece::AnyOne
                    });
                }
                _ => literal.push(character),
            }
            rest = &rest[character.len_utf8()..];
        }
        end_literal(&mut literal, &mut pieces);
        if variables.len() > Self::VARIABLES_MAX {
            return refuse(format!(
                "{text:?}: at most {} variables",
                Self::VARIABLES_MAX
            ));
        }
        Ok(Self {
            pieces: pieces.into(),
            variables: variables.into(),
            is_ascii: text.is_ascii(),
        })
    }

    /// The literal parts of the text.
    pub(super) fn literals(&self) -> impl Iterator<Item = &str> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Text(text) => Some(&**text),
            _ => None,
        })
    }

    /// Whether `text` matches it while no variable has a value.
    pub(super) fn is(&self, text: &str, case: Case) -> bool {
        self.matches_with(text, &[], case, &Steps::unbounded())
    }

    pub(super) fn has_variables(&self) -> bool {
        !self.variables.is_empty()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Whether `text` matches this template, with the facts as values of its variables.
    pub(super) fn matches(&self, text: &str, facts: &Facts<'_>, case: Case) -> Match {
        facts.steps.spend(STEPS);
        // Most texts of a policy are whole names or beginnings of names, and are compared as bytes.
        let by_bytes = case == Case::Sensitive || self.is_ascii && text.is_ascii();
        let same = |part: &str, literal: &str| {
            facts.steps.spend(literal.len() / BYTES_OF_A_STEP);
            part == literal || case == Case::Insensitive && part.eq_ignore_ascii_case(literal)
        };
        let is = match &*self.pieces {
            [] => text.is_empty(),
            [Piece::AnyNumber] => true,
            [Piece::Text(literal)] if by_bytes => {
                text.len() == literal.len() && same(text, literal)
            }
            [Piece::Text(literal), Piece::AnyNumber] if by_bytes => text
                .get(..literal.len())
                .is_some_and(|start| same(start, literal)),
            _ if self.variables.is_empty() => self.matches_with(text, &[], case, &facts.steps),
            _ => {
                let mut values = [const { None::<ValueText<'_>> }; Self::VARIABLES_MAX];
                for (value, variable) in values.iter_mut().zip(&self.variables) {
                    facts.steps.spend(VARIABLE_STEPS);
                    let default = variable.default.as_deref().map(ValueText::Borrowed);
                    let found = facts.one(&variable.key);
                    let Ok(Some(text)) = found.map(|one| one.map(Value::text).or(default)) else {
                        return Match::Unknown;
                    };
                    *value = Some(text);
                }
                self.matches_with(text, &values, case, &facts.steps)
            }
        };
        if is { Match::Yes } else { Match::No }
    }

    /// Whether `text` matches this template with the given values of its variables.
    pub(super) fn matches_with(
        &self,
        text: &str,
        values: &[Option<ValueText<'_>>],
        case: Case,
        steps: &Steps,
    ) -> bool {
        // The first segment must begin the text, the last must end it, and the others follow in
        // order.
        let mut segments = self.pieces.split(|piece| matches!(piece, Piece::AnyNumber));
        let first = segments.next().unwrap_or_default();
        let Some(rest) = wildcard::strip(
            Side::Start,
            text,
            first.iter().map(|piece| piece.part(values)),
            case,
            steps,
        ) else {
            return false;
        };
        let Some(last) = segments.next_back() else {
            return rest.is_empty();
        };
        let Some(mut rest) = wildcard::strip(
            Side::End,
            rest,
            last.iter().rev().map(|piece| piece.part(values)),
            case,
            steps,
        ) else {
            return false;
        };
        for segment in segments {
            match wildcard::find(
                rest,
                segment.iter().map(|piece| piece.part(values)),
                case,
                steps,
            ) {
                Some(behind) if !steps.are_spent() => rest = behind,
                _ => return false,
            }
        }
        true
    }
}

impl Piece {
    /// This piece as a part of a segment, with variables replaced.
    fn part<'a>(&'a self, values: &'a [Option<ValueText<'_>>]) -> Part<'a> {
        match self {
            Self::Text(text) => Part::Text(text),
            Self::AnyOne => Part::AnyOne,
            Self::Variable(index) => {
                let value = values.get(*index).and_then(Option::as_ref);
                Part::Text(value.map_or("", ValueText::as_str))
            }
            // Segments are the parts between these.
            Self::AnyNumber => Part::Text(""),
        }
    }
}

fn end_literal(literal: &mut String, pieces: &mut Vec<Piece>) {
    if !literal.is_empty() {
        pieces.push(Piece::Text(std::mem::take(literal).into()));
    }
}

/// The end of the variable whose text follows: the first `}` outside of a default's quotes.
fn variable_end(behind: &str) -> Option<usize> {
    let mut quoted = false;
    behind.bytes().position(|byte| {
        quoted ^= byte == b'\'';
        byte == b'}' && !quoted
    })
}

/// Splits `text` at each `separator` outside of variables, into at most `parts` parts.
pub(super) fn split_outside_variables(text: &str, separator: u8, parts: usize) -> Vec<&str> {
    let (mut found, mut from, mut at) = (Vec::new(), 0, 0);
    while at < text.len() && found.len() + 1 < parts {
        if let Some(end) = text.as_bytes()[at..]
            .strip_prefix(b"${")
            .and_then(|_| variable_end(&text[at + 2..]))
        {
            at += 2 + end;
        } else if text.as_bytes()[at] == separator {
            found.push(&text[from..at]);
            from = at + 1;
        }
        at += 1;
    }
    found.push(&text[from..]);
    found
}

impl Variable {
    /// `<key>` or `<key>, '<default>'`
    fn parse(inside: &str) -> Result<Self, InvalidPolicy> {
        let (key, default) = match inside.split_once(',') {
            None => (inside, None),
            Some((key, default)) => {
                let quoted = default
                    .trim_matches(' ')
                    .strip_prefix('\'')
                    .and_then(|text| text.strip_suffix('\''));
                let Some(default) = quoted.filter(|text| !text.contains('\'')) else {
                    return refuse(format!("${{{inside}}}: a default stands in single quotes"));
                };
                (key, Some(default.into()))
            }
        };
        // A claim cannot be a variable: outside a trust policy its key would name nothing.
        let key = ConditionKey::parse(key, Grammar::Identity)?;
        if key.is_multivalued() || matches!(key, ConditionKey::EncryptionContext(_)) {
            return refuse(format!(
                "${{{inside}}}: a variable needs a key of one value"
            ));
        }
        Ok(Self { key, default })
    }
}

#[cfg(test)]
mod tests;
