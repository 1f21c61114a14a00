//! Tests of authorization as a whole, and the requests that the tests of this module use.

use super::*;
use crate::clock::Timestamp;
use crate::key::arn::{AccountId, AliasName};
use crate::key::spec::{KeyOrigin, KeySpec, KeyUsage};
use crate::operation::Action;
use grant::{Draft, GrantId, GrantOperations, Named};
use principal::Tag;

pub(super) const ACCOUNT: &str = "111122223333";
pub(super) const KEY: &str =
    "arn:aws:kms:us-east-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab";
/// 2026-03-04T05:06:07.5Z
pub(super) const NOW: Timestamp = Timestamp(1_772_600_767_500_000);

pub(super) const CIRCUMSTANCES: Circumstances<'static> = Circumstances {
    now: NOW,
    source_ip: None,
    secure_transport: false,
    region: "us-east-1",
};

/// A request that owns its facts.
pub(super) struct Ask {
    pub(super) action: Action,
    pub(super) resource: String,
    pub(super) key: Option<AskedKey>,
    pub(super) context: Option<EncryptionContext>,
    pub(super) members: Vec<(ConditionKey, Member)>,
    pub(super) new_grant: Option<GrantParameters>,
    pub(super) retires: Option<Grant>,
}

/// A key that owns its facts.
pub(super) struct AskedKey {
    pub(super) account: AccountId,
    pub(super) policy: Option<KeyPolicy>,
    pub(super) grants: KeyGrants,
    pub(super) aliases: Vec<AliasName>,
    pub(super) tags: Vec<Tag>,
    pub(super) multi_region: Option<&'static str>,
}

/// A member of a request.
pub(super) enum Member {
    Text(String),
    Number(i64),
    Bool(bool),
    Texts(Vec<&'static str>),
}

impl Ask {
    /// A request without a key.
    pub(super) fn about(resource: &str, action: &'static str) -> Self {
        Self {
            action: Action::named(action).unwrap_or_else(|| panic!("{action}")),
            resource: resource.to_owned(),
            key: None,
            context: None,
            members: Vec::new(),
            new_grant: None,
            retires: None,
        }
    }

    /// A request about [`KEY`], with the default key policy.
    pub(super) fn key(action: &'static str) -> Self {
        let mut ask = Self::about(KEY, action);
        ask.key = Some(AskedKey {
            account: ACCOUNT.parse().unwrap(),
            policy: None,
            grants: KeyGrants::default(),
            aliases: Vec::new(),
            tags: Vec::new(),
            multi_region: None,
        });
        ask
    }

    pub(super) fn with_key_policy(mut self, json: &str) -> Self {
        self.key.as_mut().unwrap().policy = Some(KeyPolicy::parse(json).unwrap());
        self
    }
}

impl AuthorizationRequest for Ask {
    fn action(&self) -> Action {
        self.action
    }

    fn resource(&self) -> &str {
        &self.resource
    }

    fn key(&self) -> Option<KeyFacts<'_>> {
        self.key.as_ref().map(|key| KeyFacts {
            account: key.account,
            policy: key.policy.as_ref(),
            grants: Some(&key.grants),
            spec: KeySpec::Symmetric,
            usage: KeyUsage::EncryptDecrypt,
            origin: KeyOrigin::AwsKms,
            multi_region: key.multi_region,
            aliases: &key.aliases,
            tags: &key.tags,
        })
    }

    fn context(&self) -> Option<&EncryptionContext> {
        self.context.as_ref()
    }

    fn condition(&self, key: &ConditionKey) -> Values<'_> {
        let member = self.members.iter().find(|(other, _)| other == key);
        member.map_or(Values::Absent, |(_, member)| match member {
            Member::Text(text) => Values::One(Value::Text(text)),
            Member::Number(number) => Values::One(Value::Number(*number)),
            Member::Bool(value) => Values::One(Value::Bool(*value)),
            Member::Texts(texts) => Values::Many(texts),
        })
    }

    fn new_grant(&self) -> Option<&GrantParameters> {
        self.new_grant.as_ref()
    }

    fn retires(&self) -> Option<&Grant> {
        self.retires.as_ref()
    }
}

/// A draft of a grant on a symmetric key.
pub(super) fn draft<'a>(grantee: &'a str, operations: &[&str]) -> Draft<'a> {
    let operations = operations.iter().map(|name| name.parse().unwrap());
    Draft {
        grantee: Named::Principal(grantee),
        retiring_principal: None,
        operations: operations.collect::<GrantOperations>(),
        equals: None,
        subset: None,
        source_arn: None,
        name: None,
    }
}

pub(super) fn grant(number: u8, parameters: GrantParameters) -> Grant {
    Grant {
        id: GrantId([number; 32]),
        key: "1234abcd-12ab-34cd-56ef-1234567890ab".parse().unwrap(),
        parameters,
        issuing_account: ACCOUNT.parse().unwrap(),
        creation_date: NOW,
    }
}

pub(super) fn user(name: &str, policies: &[&str]) -> Arc<Principal> {
    let arn = format!("arn:aws:iam::{ACCOUNT}:user/{name}");
    Arc::new(Principal::new(&arn, parsed(policies)).unwrap())
}

pub(super) fn parsed(policies: &[&str]) -> Vec<Arc<PolicyDocument>> {
    policies
        .iter()
        .map(|policy| Arc::new(PolicyDocument::parse(policy).unwrap()))
        .collect()
}

fn denied(principal: &Arc<Principal>, ask: Ask) -> Option<Denied> {
    authorize(principal, ask, &CIRCUMSTANCES).err()
}

#[test]
fn a_provisioner_mints_and_never_opens() {
    let mint = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow",
        "Action":"kms:GenerateDataKeyWithoutPlaintext","Resource":"arn:aws:kms:*:111122223333:key/*"}]}"#;
    let principal = user("provisioner", &[mint]);
    let ask = Ask::key("kms:GenerateDataKeyWithoutPlaintext");
    let authorized = authorize(&principal, ask, &CIRCUMSTANCES).ok().unwrap();
    assert!(Arc::ptr_eq(authorized.principal(), &principal));
    assert_eq!(authorized.request().resource(), KEY);
    let allowed = Allowed {
        by: StatementId::Identity {
            policy: 0,
            statement: 0,
        },
        under: Some(StatementId::DefaultKeyPolicy),
    };
    assert_eq!(authorized.allowed(), allowed);
    assert_eq!(
        authorized.into_request().action(),
        Action::GenerateDataKeyWithoutPlaintext
    );
    for action in ["kms:Decrypt", "kms:GenerateDataKey", "kms:DescribeKey"] {
        let missing = Some(Denied::NoAllow(PolicyKind::Identity));
        assert_eq!(denied(&principal, Ask::key(action)), missing, "{action}");
    }
}

#[test]
fn a_deny_in_one_policy_beats_an_allow_in_another() {
    let all = r#"{"Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}"#;
    let none = r#"{"Statement":{"Effect":"Deny","Action":"kms:Decrypt","Resource":"*"}}"#;
    for (policies, policy) in [([all, none], 1), ([none, all], 0)] {
        let by = StatementId::Identity {
            policy,
            statement: 0,
        };
        let found = denied(&user("u", &policies), Ask::key("kms:Decrypt"));
        assert_eq!(found, Some(Denied::ExplicitDeny(by)));
    }
}

#[test]
fn an_operator_may_everything_of_this_service_in_his_account() {
    let operator = Principal::operator(1000, ACCOUNT.parse().unwrap());
    assert_eq!(operator.arn, "local:1000");
    assert_eq!(denied(&operator, Ask::about("*", "kms:CreateKey")), None);
    assert_eq!(denied(&operator, Ask::key("kms:Decrypt")), None);
    let nobody =
        r#"{"Statement":{"Effect":"Deny","Principal":"*","Action":"kms:*","Resource":"*"}}"#;
    let locked = Ask::key("kms:PutKeyPolicy").with_key_policy(nobody);
    assert_eq!(denied(&operator, locked), None);
    let elsewhere = Principal::operator(1000, "444455556666".parse().unwrap());
    let foreign = Some(Denied::NoAllow(PolicyKind::Key));
    assert_eq!(denied(&elsewhere, Ask::key("kms:Decrypt")), foreign);
}

#[test]
fn a_refusal_is_told_in_the_words_of_aws() {
    let action = Action::Decrypt;
    let identity = StatementId::Identity {
        policy: 0,
        statement: 0,
    };
    let cases = [
        (
            Denied::NoAllow(PolicyKind::Identity),
            "because no identity-based policy allows the kms:Decrypt action",
        ),
        (
            Denied::NoAllow(PolicyKind::Key),
            "because no resource-based policy allows the kms:Decrypt action",
        ),
        (
            Denied::ExplicitDeny(StatementId::Key { statement: 3 }),
            "with an explicit deny in a resource-based policy",
        ),
        (
            Denied::ExplicitDeny(identity),
            "with an explicit deny in an identity-based policy",
        ),
        (
            Denied::TooManySteps,
            "because its policies take more than 5000000 steps to decide on the kms:Decrypt action",
        ),
    ];
    for (denied, text) in cases {
        assert_eq!(denied.reason(action).to_string(), text);
    }
}

#[test]
fn a_statement_is_described_by_its_sid_or_its_place() {
    let policy = r#"{"Statement":[{"Effect":"Allow","Action":"*","Resource":"*"},
        {"Sid":"Open","Effect":"Allow","Action":"*","Resource":"*"}]}"#;
    let principal = user("u", &[policy]);
    let key_policy = r#"{"Statement":[{"Sid":"Use of the key","Effect":"Allow","Principal":"*","Action":"*","Resource":"*"}]}"#;
    let key_policy = KeyPolicy::parse(key_policy).unwrap();
    let of_identity = |statement| StatementId::Identity {
        policy: 0,
        statement,
    };
    let cases = [
        (
            of_identity(0),
            "statement 1 of identity policy 1 of arn:aws:iam::111122223333:user/u",
        ),
        (
            of_identity(1),
            "statement 2 \"Open\" of identity policy 1 of arn:aws:iam::111122223333:user/u",
        ),
        (
            StatementId::Key { statement: 0 },
            "statement 1 \"Use of the key\" of the key policy",
        ),
        (
            StatementId::DefaultKeyPolicy,
            "statement 1 \"Enable IAM User Permissions\" of the default key policy",
        ),
        (StatementId::Root, "arn:aws:iam::111122223333:user/u itself"),
    ];
    for (id, text) in cases {
        assert_eq!(id.describe(&principal, Some(&key_policy)), text);
    }
    let id = StatementId::Grant(GrantId([0xab; 32]));
    assert_eq!(
        id.describe(&principal, None),
        format!("grant {}", "ab".repeat(32))
    );
}

#[test]
fn it_is_known_whether_a_decision_has_looked_at_the_context() {
    const MINT: &str = "kms:GenerateDataKeyWithoutPlaintext";
    let statement = |effect: &str, element: &str| {
        format!(r#"{{"Effect":"{effect}","Action":"{MINT}",{element}}}"#)
    };
    let document = |statements: &[String]| {
        let statements = statements.join(",");
        format!(r#"{{"Version":"2012-10-17","Statement":[{statements}]}}"#)
    };
    let reads = |identity: &[String], key_policy: Option<&[String]>| {
        let principal = user("alice", &[&document(identity)]);
        let mut ask = Ask::key(MINT);
        ask.context = Some(EncryptionContext::from_pairs([("tenant", "7")]).unwrap());
        if let Some(statements) = key_policy {
            ask = ask.with_key_policy(&document(statements));
        }
        let allowed = authorize(&principal, ask, &CIRCUMSTANCES);
        allowed.map(|allowed| allowed.reads_context()).ok()
    };
    let everything = r#""Resource":"*""#;
    let of = |condition: &str| format!(r#"{everything},"Condition":{condition}"#);
    let tenant = r#"{"StringEquals":{"kms:EncryptionContext:tenant":"7"}}"#;
    let other = r#"{"StringEquals":{"kms:EncryptionContext:tenant":"8"}}"#;
    let keys = r#"{"ForAnyValue:StringEquals":{"kms:EncryptionContextKeys":"tenant"}}"#;
    let plain = statement("Allow", everything);
    assert_eq!(reads(std::slice::from_ref(&plain), None), Some(false));
    for condition in [tenant, keys] {
        let allow = statement("Allow", &of(condition));
        assert_eq!(reads(&[allow], None), Some(true));
    }
    // A deny that does not hold for this context may hold for another.
    let deny = statement("Deny", &of(other));
    assert_eq!(reads(&[plain.clone(), deny], None), Some(true));
    let to = |effect: &str, rest: &str| {
        statement(effect, &format!(r#""Principal":{{"AWS":"*"}},{rest}"#))
    };
    let key_policy = [to("Allow", everything), to("Deny", &of(other))];
    assert_eq!(
        reads(std::slice::from_ref(&plain), Some(&key_policy)),
        Some(true)
    );
    assert_eq!(reads(&[plain], Some(&key_policy[..1])), Some(false));
}
