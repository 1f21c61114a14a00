//! The decision table: `tests/vectors/policy-decisions.toml`.

use super::*;
use crate::policy::element::Grammar;
use crate::policy::grant::Named;
use std::collections::BTreeMap;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    sources: BTreeMap<String, String>,
    case: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    source: String,
    action: String,
    #[serde(default = "alice")]
    caller: String,
    about: Option<String>,
    #[serde(default)]
    identity: Vec<String>,
    key: Option<Vec<String>>,
    #[serde(default)]
    grants: Vec<CaseGrant>,
    #[serde(default)]
    context: BTreeMap<String, String>,
    #[serde(default)]
    request: BTreeMap<String, toml::Value>,
    #[serde(default)]
    aliases: Vec<String>,
    #[serde(default)]
    tags: BTreeMap<String, String>,
    ip: Option<IpAddr>,
    #[serde(default)]
    tls: bool,
    new: Option<CaseGrant>,
    retires: Option<CaseGrant>,
    multi_region: Option<String>,
    expect: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CaseGrant {
    to: String,
    operations: Vec<String>,
    equals: Option<BTreeMap<String, String>>,
    subset: Option<BTreeMap<String, String>>,
    retiring: Option<String>,
    source_arn: Option<String>,
    /// The root of the account that made it: if none is named, the key's.
    by: Option<String>,
}

fn alice() -> String {
    "alice".to_owned()
}

impl CaseGrant {
    fn parameters(&self) -> GrantParameters {
        let pairs = |pairs: &Option<BTreeMap<String, String>>| {
            let pairs = pairs.as_ref();
            pairs.map(|pairs| EncryptionContext::from_pairs(pairs).unwrap())
        };
        let (equals, subset) = (pairs(&self.equals), pairs(&self.subset));
        let source_arn = self.source_arn.as_ref();
        let source_arn = source_arn.map(|arn| arn.parse().unwrap());
        let operations: Vec<_> = self.operations.iter().map(String::as_str).collect();
        let drafted = Draft {
            retiring_principal: self
                .retiring
                .as_deref()
                .map(|name| Named::Principal(arn_of(name))),
            equals: equals.as_ref(),
            subset: subset.as_ref(),
            source_arn: source_arn.as_ref(),
            ..draft(arn_of(&self.to), &operations)
        };
        GrantParameters::check(drafted).unwrap()
    }

    fn grant(&self, number: u8) -> Grant {
        let made = grant(number, self.parameters());
        let by = self.by.as_deref().map(|name| {
            let name: crate::policy::PrincipalName = arn_of(name).parse().unwrap();
            name.account()
        });
        Grant {
            issuing_account: by.unwrap_or(made.issuing_account),
            ..made
        }
    }
}

impl Case {
    fn ask(&self) -> Ask {
        let action: &'static str = format!("kms:{}", self.action).leak();
        let mut ask = match &self.about {
            Some(resource) => Ask::about(resource, action),
            None => Ask::key(action),
        };
        if let Some(key) = &mut ask.key {
            key.policy = self.key.as_ref().map(|statements| key_policy(statements));
            for (number, granted) in (1..).zip(&self.grants) {
                key.grants.put(Arc::new(granted.grant(number)));
            }
            let aliases = self.aliases.iter().map(|alias| alias.parse().unwrap());
            key.aliases = aliases.collect();
            let tags = self.tags.iter().map(|(key, value)| tag(key, value));
            key.tags = tags.collect();
            key.multi_region = self.multi_region.as_ref().map(|_| "PRIMARY");
        }
        let pairs = EncryptionContext::from_pairs(&self.context).unwrap();
        ask.context = (!self.context.is_empty()).then_some(pairs);
        let members = self.request.iter().map(|(key, value)| {
            let key = ConditionKey::parse(key, Grammar::Identity).unwrap();
            (key, member(value))
        });
        ask.members = members.collect();
        ask.new_grant = self.new.as_ref().map(CaseGrant::parameters);
        let retires = self.retires.as_ref();
        ask.retires = retires.map(|retires| retires.grant(99));
        ask
    }

    fn decision(&self, caller: &Principal, ask: &Ask) -> Result<Allowed, Denied> {
        let circumstances = Circumstances {
            source_ip: self.ip,
            secure_transport: self.tls,
            ..CIRCUMSTANCES
        };
        check(caller, ask, &circumstances)
    }
}

fn member(value: &toml::Value) -> Member {
    match value {
        toml::Value::String(text) => Member::Text(text.clone()),
        toml::Value::Integer(number) => Member::Number(*number),
        toml::Value::Boolean(value) => Member::Bool(*value),
        toml::Value::Array(texts) => {
            let texts = texts.iter().map(|text| {
                let text: &'static str = text.as_str().unwrap().to_owned().leak();
                text
            });
            Member::Texts(texts.collect())
        }
        other => panic!("{other}"),
    }
}

fn outcome(decision: Result<Allowed, Denied>) -> &'static str {
    match decision {
        Ok(_) => "allow",
        Err(Denied::NoAllow(PolicyKind::Identity)) => "no identity allow",
        Err(Denied::NoAllow(PolicyKind::Session)) => "no session allow",
        Err(Denied::NoAllow(PolicyKind::Key)) => "no key allow",
        Err(Denied::ExplicitDeny(StatementId::Key { .. })) => "deny key",
        Err(Denied::ExplicitDeny(_)) => "deny identity",
        Err(Denied::TooManySteps) => "too many steps",
    }
}

fn table() -> Table {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/vectors/policy-decisions.toml"
    );
    toml::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn auth_1_every_case_is_decided_as_its_source_says() {
    let table = table();
    assert!(table.case.len() >= 150, "{}", table.case.len());
    let mut wrong = Vec::new();
    for (number, case) in (1..).zip(&table.case) {
        assert!(table.sources.contains_key(&case.source), "case {number}");
        let name = format!(
            "case {number} ({}): {} by {} with {:?} on {:?}",
            case.source, case.action, case.caller, case.identity, case.key
        );
        // All statements in one policy, and each in a policy of its own.
        let together = caller(&case.caller, vec![identity_policy(&case.identity)]);
        let apart = case.identity.chunks(1).map(identity_policy).collect();
        let apart = caller(&case.caller, apart);
        for principal in [together, apart] {
            let found = outcome(case.decision(&principal, &case.ask()));
            if found != case.expect {
                wrong.push(format!("{name}: {found}, not {}", case.expect));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_source_is_without_a_case() {
    let table = table();
    for source in table.sources.keys() {
        let used = table.case.iter().any(|case| case.source == *source);
        assert!(used, "{source}");
    }
}

/// Whatever a case allows, a deny of everything in either policy forbids, and without its policies
/// and grants nothing is left of it.
#[test]
fn auth_1_every_case_is_denied_by_a_deny() {
    for (number, case) in (1..).zip(&table().case) {
        let mut identity = case.identity.clone();
        identity.push("Deny * on *".to_owned());
        let denied = caller(&case.caller, vec![identity_policy(&identity)]);
        let found = outcome(case.decision(&denied, &case.ask()));
        assert!(
            found.starts_with("deny") || case.caller.ends_with("operator"),
            "case {number}: {found}"
        );
        let mut ask = case.ask();
        if let Some(key) = &mut ask.key {
            let mut statements = case.key.clone().unwrap_or_default();
            statements.push("Deny * to *".to_owned());
            key.policy = Some(key_policy(&statements));
            let principal = caller(&case.caller, vec![identity_policy(&case.identity)]);
            let found = outcome(case.decision(&principal, &ask));
            assert!(
                found.starts_with("deny") || case.caller == "operator",
                "case {number}: {found}"
            );
        }
    }
}
