//! Parses policy JSON into typed statements: strictly, with one grammar for identity policies, key
//! policies and trust policies.
//!
//! The grammar is the IAM policy language. An element that is not understood is refused with its
//! place, because skipping it would change the meaning of the policy. AWS accepts some elements
//! that can only be mistakes (a variable in a policy whose version has none, an unknown condition
//! key); these are refused too.
//!
//! Sources: AWS IAM, "Grammar of the IAM JSON policy language",
//! <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_grammar.html>; AWS KMS
//! Developer Guide, "Creating a key policy",
//! <https://docs.aws.amazon.com/kms/latest/developerguide/key-policy-overview.html>.

use crate::key::arn::AccountId;
use crate::policy::PrincipalName;
use crate::policy::condition::Condition;
use crate::policy::element::{Effect, Grammar};
use crate::policy::error::{InvalidPolicy, refuse};
use crate::policy::json::{Json, one_or_more};
use crate::policy::statement::{
    List, PrincipalPattern, ResourcePattern, Statement, compile_action,
};

/// The most bytes of a document: the quota of AWS KMS for a key policy.
const BYTES_MAX: usize = 32_768;
/// The most bytes of a trust policy (IAM's quota, as it can be raised).
pub(super) const TRUST_BYTES_MAX: usize = 4096;
/// The most statements of a document: a decision may read them all.
const STATEMENTS_MAX: usize = 128;

/// A parsed identity policy. It applies to the principals that it is attached to.
pub struct PolicyDocument {
    source: Box<str>,
    pub(super) statements: Box<[Statement]>,
}

/// A parsed key policy. It applies to the key that it is attached to, and names principals.
pub struct KeyPolicy {
    source: Box<str>,
    pub(super) statements: Box<[Statement]>,
}

impl PolicyDocument {
    /// The most bytes of a document.
    pub const BYTES_MAX: usize = BYTES_MAX;
    /// The most statements of a document.
    pub const STATEMENTS_MAX: usize = STATEMENTS_MAX;

    /// Parses and compiles the JSON text; an unknown element is an error.
    ///
    /// # Errors
    /// [`InvalidPolicy`].
    pub fn parse(json: &str) -> Result<Self, InvalidPolicy> {
        let statements = parse(json, Grammar::Identity)?;
        let source = json.into();
        Ok(Self { source, statements })
    }

    /// The JSON text as it was given.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }
}

impl KeyPolicy {
    /// The only name that a key policy has.
    pub const NAME: &str = "default";
    /// The most bytes of a document.
    pub const BYTES_MAX: usize = BYTES_MAX;
    /// The `Sid` of the default policy's statement.
    pub(super) const DEFAULT_SID: &str = "Enable IAM User Permissions";

    /// Parses and compiles the JSON text; an unknown element is an error.
    ///
    /// # Errors
    /// [`InvalidPolicy`].
    pub fn parse(json: &str) -> Result<Self, InvalidPolicy> {
        let statements = parse(json, Grammar::Key)?;
        let source = json.into();
        Ok(Self { source, statements })
    }

    /// The JSON text as it was given.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The principals that its statements name: accounts, users, roles, sessions and federated
    /// users, each as often as it is named.
    pub fn principals(&self) -> impl Iterator<Item = &PrincipalName> {
        let patterns = self.statements.iter().flat_map(|found| &found.principals);
        patterns.filter_map(|pattern| match pattern {
            PrincipalPattern::Name(name) => Some(name),
            _ => None,
        })
    }

    /// The text of the policy of a key for which none was given: the account's identity policies
    /// decide.
    ///
    /// Source: AWS KMS Developer Guide, "Default key policy", for keys created programmatically.
    #[must_use]
    pub fn default_source(partition: &str, account: AccountId) -> String {
        let sid = Self::DEFAULT_SID;
        format!(
            r#"{{
  "Version" : "2012-10-17",
  "Id" : "key-default-1",
  "Statement" : [ {{
    "Sid" : "{sid}",
    "Effect" : "Allow",
    "Principal" : {{
      "AWS" : "arn:{partition}:iam::{account}:root"
    }},
    "Action" : "kms:*",
    "Resource" : "*"
  }} ]
}}"#
        )
    }
}

pub(super) fn parse(json: &str, grammar: Grammar) -> Result<Box<[Statement]>, InvalidPolicy> {
    let max = match grammar {
        Grammar::Identity | Grammar::Key => BYTES_MAX,
        Grammar::Trust => TRUST_BYTES_MAX,
    };
    if json.len() > max {
        return refuse(format!(
            "a policy has at most {max} bytes, this one {}",
            json.len()
        ));
    }
    match serde_json::from_str(json) {
        Ok(Json::Object(members)) => document(members, grammar),
        Ok(_) => refuse("a policy is a JSON object"),
        Err(error) => refuse(format!("JSON: {error}")),
    }
}

fn document(
    members: Vec<(String, Json)>,
    grammar: Grammar,
) -> Result<Box<[Statement]>, InvalidPolicy> {
    let (mut statements, mut variables) = (None, false);
    for (name, value) in members {
        match (name.as_str(), value) {
            ("Version", Json::Text(version)) if version == "2012-10-17" => variables = true,
            ("Version", Json::Text(version)) if version == "2008-10-17" => {}
            ("Version", _) => return refuse("Version: either 2012-10-17 or 2008-10-17"),
            ("Id", Json::Text(_)) => {}
            ("Id", _) => return refuse("Id: not a string"),
            ("Statement", value) => statements = Some(one_or_more("Statement", value)?),
            _ => return refuse(format!("unknown element {name:?}")),
        }
    }
    let Some(statements) = statements else {
        return refuse("Statement: missing");
    };
    if statements.len() > STATEMENTS_MAX {
        return refuse(format!(
            "Statement: at most {STATEMENTS_MAX}, this policy has {}",
            statements.len()
        ));
    }
    let statements = statements.into_iter().enumerate().map(|(at, value)| {
        statement(value, grammar, variables)
            .map_err(|error| error.at(&format!("Statement {}", at + 1)))
    });
    statements.collect()
}

fn statement(
    statement: Json,
    grammar: Grammar,
    variables: bool,
) -> Result<Statement, InvalidPolicy> {
    let Json::Object(members) = statement else {
        return refuse("not an object");
    };
    // Every element may occur in any order; missing ones are reported after all were read.
    let (mut sid, mut effect, mut principals, mut conditions) = (None, None, None, None);
    let (mut actions, mut resources) = (Element::new("Action"), Element::new("Resource"));
    for (name, value) in members {
        match (name.as_str(), value) {
            ("Sid", Json::Text(text)) => sid = Some(text.into()),
            ("Sid", _) => return refuse("Sid: not a string"),
            ("Effect", Json::Text(text)) if text == "Allow" => effect = Some(Effect::Allow),
            ("Effect", Json::Text(text)) if text == "Deny" => effect = Some(Effect::Deny),
            ("Effect", _) => return refuse("Effect: either \"Allow\" or \"Deny\""),
            ("NotAction", _) if grammar == Grammar::Trust => {
                return refuse("NotAction is not supported in trust policies: name the actions");
            }
            ("Resource" | "NotResource", _) if grammar == Grammar::Trust => {
                return refuse(format!(
                    "{name} is not supported in trust policies: they speak of their role"
                ));
            }
            ("Action" | "NotAction", value) => actions.put(&name, value, compile_action)?,
            ("NotResource", _) if grammar == Grammar::Key => {
                return refuse(
                    "NotResource is not supported in key policies: they speak of their key",
                );
            }
            ("Resource" | "NotResource", value) => resources.put(&name, value, |text| {
                ResourcePattern::compile(text, variables)
            })?,
            ("Principal" | "NotPrincipal", _) if grammar == Grammar::Identity => {
                return refuse(format!(
                    "{name} is not supported in identity policies: they apply to the principals that they are attached to"
                ));
            }
            ("Principal", value) => {
                let named = self::principals(value, grammar);
                principals = Some(named.map_err(|error| error.at("Principal"))?);
            }
            ("NotPrincipal", _) => {
                return Err(InvalidPolicy::principal(
                    "NotPrincipal is not supported: name the principals".to_owned(),
                ));
            }
            ("Condition", value) => {
                let compiled = Condition::compile(value, grammar, variables);
                conditions = Some(compiled.map_err(|error| error.at("Condition"))?);
            }
            _ => return refuse(format!("unknown element {name:?}")),
        }
    }
    let Some(effect) = effect else {
        return refuse("Effect: missing");
    };
    let principals = match (principals, grammar) {
        (Some(principals), _) => principals,
        (None, Grammar::Identity) => Box::default(),
        (None, Grammar::Key | Grammar::Trust) => return refuse("Principal: missing"),
    };
    let Some(actions) = actions.list else {
        return refuse("Action: missing");
    };
    let resources = match (resources.list, grammar) {
        (Some(resources), _) => resources,
        (None, Grammar::Identity) => return refuse("Resource: missing"),
        // AWS KMS takes such a statement, and it has no effect.
        (None, Grammar::Key) => List::Of(Box::default()),
        (None, Grammar::Trust) => List::AllBut(Box::default()),
    };
    Ok(Statement {
        sid,
        effect,
        principals,
        actions,
        resources,
        conditions: conditions.unwrap_or_default(),
    })
}

/// An element or its `Not` form, but not both.
struct Element<T> {
    name: &'static str,
    list: Option<List<T>>,
}

impl<T> Element<T> {
    fn new(name: &'static str) -> Self {
        Self { name, list: None }
    }

    fn put(
        &mut self,
        name: &str,
        value: Json,
        compile: impl Fn(&str) -> Result<T, InvalidPolicy>,
    ) -> Result<(), InvalidPolicy> {
        if self.list.is_some() {
            return refuse(format!("{0} and Not{0}: one of them", self.name));
        }
        let items = list(name, value, compile)?;
        self.list = Some(if name == self.name {
            List::Of(items)
        } else {
            List::AllBut(items)
        });
        Ok(())
    }
}

fn list<T>(
    element: &str,
    value: Json,
    compile: impl Fn(&str) -> Result<T, InvalidPolicy>,
) -> Result<Box<[T]>, InvalidPolicy> {
    let items = one_or_more(element, value)?
        .into_iter()
        .map(|value| match value {
            Json::Text(text) => compile(&text).map_err(|error| error.at(element)),
            _ => refuse(format!("{element}: neither a string nor a list of strings")),
        });
    items.collect()
}

/// `"*"`, or an object of principals by kind.
fn principals(value: Json, grammar: Grammar) -> Result<Box<[PrincipalPattern]>, InvalidPolicy> {
    let kinds = match value {
        Json::Text(text) if text == "*" => return Ok(Box::new([PrincipalPattern::Anybody])),
        Json::Object(kinds) if !kinds.is_empty() => kinds,
        _ => {
            let reason = "neither \"*\" nor an object of principals";
            return Err(InvalidPolicy::principal(reason.to_owned()));
        }
    };
    let mut principals = Vec::new();
    for (kind, value) in kinds {
        match kind.as_str() {
            "AWS" => principals.extend(list(&kind, value, PrincipalPattern::compile)?),
            "Federated" if grammar == Grammar::Trust => {
                let provider =
                    |text: &str| other_party(text).map(|_| PrincipalPattern::Provider(text.into()));
                principals.extend(list(&kind, value, provider)?);
            }
            "Service" | "Federated" => principals.extend(list(&kind, value, other_party)?),
            _ => {
                let reason = format!("unknown kind of principal {kind:?}");
                return Err(InvalidPolicy::principal(reason));
            }
        }
    }
    Ok(principals.into())
}

/// A service's name, or an identity provider's name or ARN.
fn other_party(text: &str) -> Result<PrincipalPattern, InvalidPolicy> {
    let allowed = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'*' | b'?' | b'$');
    if text.is_empty() || !text.bytes().all(allowed) {
        let reason = format!("{text:?} names no service or identity provider");
        return Err(InvalidPolicy::principal(reason));
    }
    Ok(PrincipalPattern::Nobody)
}

#[cfg(test)]
mod tests;
