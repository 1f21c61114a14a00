//! Texts of a policy that stand for others: wildcards (`*`, `?`) and policy variables
//! (`${aws:username}`), compiled once.
//!
//! Source: AWS IAM, "IAM policy elements: Variables and tags",
//! <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_variables.html>.
//!
//! The value of a variable is taken as it is: a wildcard in it is none. A variable whose key is
//! absent, and that has no default, stands for nothing that is known: see [`Match::Unknown`].

use crate::policy::condition_key::ConditionKey;
use crate::policy::error::{InvalidPolicy, refuse};
use crate::policy::facts::{Facts, Value, ValueText};
use crate::policy::steps::Steps;
use crate::policy::wildcard::{self, Case, Part};

/// Steps that each match costs, whatever is compared.
const STEPS: usize = 4;
/// Steps that a variable's value costs: it may be written out, as a time.
const VARIABLE_STEPS: usize = 128;
/// Bytes that are compared in a step.
const BYTES_OF_A_STEP: usize = 16;

/// A compiled text.
pub(super) struct Template {
    pieces: Box<[Piece]>,
    variables: Box<[Variable]>,
    /// Whether all that stands in it as it is, is ASCII.
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

/// How a text is read.
#[derive(Clone, Copy)]
pub(super) struct Syntax {
    /// Whether `*` and `?` stand for others.
    pub(super) wildcards: bool,
    /// Whether the policy's version has variables.
    pub(super) variables: bool,
}

/// Whether something is what a policy speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Match {
    Yes,
    No,
    /// It cannot be said: a variable has no value, or the value is of another kind. An allow that
    /// needs it does not apply; a deny applies if it speaks of what does *not* match.
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

    /// Whether all of several are matched.
    pub(super) fn all(matches: impl IntoIterator<Item = Self>) -> Self {
        let mut all = Self::Yes;
        for one in matches {
            match one {
                Self::No => return Self::No,
                Self::Unknown => all = Self::Unknown,
                Self::Yes => {}
            }
        }
        all
    }
}

impl Template {
    /// Variables of one text at most: their values stand on the stack while it is matched.
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

    /// What stands in it as it is.
    pub(super) fn literals(&self) -> impl Iterator<Item = &str> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Text(text) => Some(&**text),
            _ => None,
        })
    }

    pub(super) fn has_variables(&self) -> bool {
        !self.variables.is_empty()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Whether `text` is what this stands for in the light of the facts.
    pub(super) fn matches(&self, text: &str, facts: &Facts<'_>, case: Case) -> Match {
        facts.steps.spend(STEPS);
        // Most texts of a policy are whole names or beginnings of names: compared as bytes, they
        // cost next to nothing.
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
                    let known = facts.one(&variable.key);
                    let known = known.map(|one| one.map(Value::text).or(default));
                    let Ok(Some(known)) = known else {
                        return Match::Unknown;
                    };
                    *value = Some(known);
                }
                self.matches_with(text, &values, case, &facts.steps)
            }
        };
        if is { Match::Yes } else { Match::No }
    }

    /// The same with the values of its variables.
    pub(super) fn matches_with(
        &self,
        text: &str,
        values: &[Option<ValueText<'_>>],
        case: Case,
        steps: &Steps,
    ) -> bool {
        let mut segments = self.pieces.split(|piece| matches!(piece, Piece::AnyNumber));
        let first = segments.next().unwrap_or_default();
        let Some(rest) = wildcard::strip_start(
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
        let Some(mut rest) = wildcard::strip_end(
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
    /// What it is, variables replaced, as a part of a segment.
    fn part<'a>(&'a self, values: &'a [Option<ValueText<'_>>]) -> Part<'a> {
        match self {
            Self::Text(text) => Part::Text(text),
            Self::AnyOne => Part::AnyOne,
            Self::Variable(index) => {
                let value = values.get(*index).and_then(Option::as_ref);
                Part::Text(value.map_or("", ValueText::as_str))
            }
            // Segments are what stands between these.
            Self::AnyNumber => Part::Text(""),
        }
    }
}

fn end_literal(literal: &mut String, pieces: &mut Vec<Piece>) {
    if !literal.is_empty() {
        pieces.push(Piece::Text(std::mem::take(literal).into()));
    }
}

/// Where the variable ends whose text follows: at the first `}` that is not within a default's
/// quotes.
fn variable_end(behind: &str) -> Option<usize> {
    let mut quoted = false;
    behind.bytes().position(|byte| {
        quoted ^= byte == b'\'';
        byte == b'}' && !quoted
    })
}

/// Bytes of `text` at which `separator` stands outside of every variable.
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
                let quoted = default.trim_matches(' ');
                let quoted = quoted
                    .strip_prefix('\'')
                    .and_then(|text| text.strip_suffix('\''));
                let Some(default) = quoted.filter(|text| !text.contains('\'')) else {
                    return refuse(format!("${{{inside}}}: a default stands in single quotes"));
                };
                (key, Some(default.into()))
            }
        };
        let key = ConditionKey::parse(key)?;
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
