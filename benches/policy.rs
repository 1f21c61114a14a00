//! The cost of a decision by the number of statements, beside another evaluator of the same
//! policies.
//!
//! The aim is a policy of 10 statements in less than a microsecond. The statement that allows is
//! the last, so that all are walked. The worst policies that are accepted, with the worst requests,
//! are each to take 20 ms at most: whatever they are, they end with a decision's steps.

#![expect(clippy::unwrap_used, reason = "a bench fails by panicking")]

mod side_by_side;

use iam_rs::{Arn, Context, ContextValue, IAMPolicy, IAMRequest};
use keymill::clock::{Clock, Timestamp};
use keymill::context::EncryptionContext;
use keymill::key::arn::AccountId;
use keymill::key::regions::RegionalId;
use keymill::key::spec::{KeyOrigin, KeySpec, KeyUsage};
use keymill::operation::Action;
use keymill::policy::grant::{Draft, Grant, GrantId, Named};
use keymill::policy::{
    self, AuthorizationRequest, Circumstances, GrantParameters, KeyFacts, KeyGrants, KeyPolicy,
    PolicyDocument, Principal,
};
use side_by_side::{Question, Side};
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

const KEY: &str = "arn:aws:kms:us-east-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab";
const ALICE: &str = "arn:aws:iam::111122223333:user/alice";
const ACTION: &str = "kms:GenerateDataKeyWithoutPlaintext";
/// Grants of a key at most.
const GRANTS: u32 = 50_000;

fn main() {
    let mut questions = vec![
        Question::new(
            "identity policy of 10 statements",
            1,
            vec![
                Side::new("keymill", identity_policy(10)),
                Side::new("iam-rs 0.8.0", other_identity_policy(10)),
            ],
        ),
        Question::new(
            "identity policy of 100 statements",
            1,
            vec![
                Side::new("keymill", identity_policy(100)),
                Side::new("iam-rs 0.8.0", other_identity_policy(100)),
            ],
        ),
        Question::new(
            "key policy of 10 statements with context conditions",
            1,
            vec![Side::new("keymill", key_policy())],
        ),
        Question::new(
            "one of 50,000 grants",
            1,
            vec![Side::new("keymill", grants())],
        ),
    ];
    for (what, operator, key, pattern) in WORST {
        let side = Side::new("keymill", worst(operator, key, pattern));
        questions.push(Question::new(what, 1, vec![side]));
    }
    side_by_side::answer(&mut questions);
}

/// The pattern of this number.
type Pattern = fn(usize) -> String;

/// The slow kinds of conditions: an operator on a condition key, and a pattern.
const WORST: [(&str, &str, &str, Pattern); 4] = [
    (
        "worst accepted policy, worst request: long patterns with ?, one value",
        "StringLike",
        "kms:EncryptionContext:a",
        |_| format!("*{}b*", "?a".repeat(2000)),
    ),
    (
        "worst accepted policy, worst request: short patterns, many values",
        "ForAnyValue:StringLike",
        "kms:EncryptionContextKeys",
        |number| format!("*a{number}*"),
    ),
    (
        "worst accepted policy, worst request: variables, many values",
        "ForAnyValue:StringLike",
        "kms:EncryptionContextKeys",
        |number| format!("${{aws:CurrentTime}}{number}"),
    ),
    (
        "worst accepted policy, worst request: without regard to case, many values",
        "ForAnyValue:StringEqualsIgnoreCase",
        "kms:EncryptionContextKeys",
        |number| format!("İ{number}"),
    ),
];

struct Ask {
    account: AccountId,
    context: EncryptionContext,
    policy: Option<KeyPolicy>,
    grants: KeyGrants,
}

impl Ask {
    fn new(policy: Option<KeyPolicy>, grants: KeyGrants) -> Self {
        Self {
            account: "111122223333".parse().unwrap(),
            context: EncryptionContext::from_pairs([
                ("container", "000000000042"),
                ("tenant", "t9"),
            ])
            .unwrap(),
            policy,
            grants,
        }
    }
}

impl AuthorizationRequest for Ask {
    fn action(&self) -> Action {
        Action::named(ACTION).unwrap()
    }

    fn resource(&self) -> &str {
        KEY
    }

    fn key(&self) -> Option<KeyFacts<'_>> {
        Some(KeyFacts {
            account: self.account,
            policy: self.policy.as_ref(),
            grants: Some(&self.grants),
            spec: KeySpec::Symmetric,
            usage: KeyUsage::EncryptDecrypt,
            origin: KeyOrigin::AwsKms,
            multi_region: None,
            aliases: &[],
            tags: &[],
        })
    }

    fn context(&self) -> Option<&EncryptionContext> {
        Some(&self.context)
    }
}

const CIRCUMSTANCES: Circumstances<'static> = Circumstances {
    now: Timestamp(1_772_600_767_000_000),
    source_ip: Some(IpAddr::V4(Ipv4Addr::new(203, 0, 113, 9))),
    secure_transport: true,
    region: "us-east-1",
};

fn decisions(policies: Vec<Arc<PolicyDocument>>, ask: Ask) -> impl FnMut(u64) -> Duration {
    let principal = Principal::new(ALICE, policies).unwrap();
    let circumstances = CIRCUMSTANCES;
    move |times| {
        let clock = Clock::system();
        for _ in 0..times {
            policy::check(black_box(&principal), black_box(&ask), &circumstances).unwrap();
        }
        clock.monotonic()
    }
}

/// Statements of which all but the last speak of another key, another action or another network.
fn statements(count: usize, principal: &str) -> String {
    let mut statements: Vec<_> = (1..count)
        .map(|at| match at % 3 {
            0 => format!(r#"{{"Effect":"Deny",{principal}"Action":"kms:*","Resource":"arn:aws:kms:us-west-{at}:*:key/*"}}"#),
            1 => format!(r#"{{"Effect":"Allow",{principal}"Action":["kms:Decrypt","kms:Encrypt","kms:ReEncrypt*"],"Resource":"*"}}"#),
            _ => format!(
                r#"{{"Effect":"Deny",{principal}"Action":"kms:Generate*","Resource":"*","Condition":{{"IpAddress":{{"aws:SourceIp":"10.0.0.0/8"}}}}}}"#
            ),
        })
        .collect();
    statements.push(format!(r#"{{"Effect":"Allow",{principal}"Action":"kms:GenerateDataKey*","Resource":"arn:aws:kms:*:111122223333:key/*"}}"#));
    document(&statements)
}

fn document(statements: &[String]) -> String {
    let statements = statements.join(",");
    format!(r#"{{"Version":"2012-10-17","Statement":[{statements}]}}"#)
}

fn identity_policy(count: usize) -> impl FnMut(u64) -> Duration {
    let policy = PolicyDocument::parse(&statements(count, "")).unwrap();
    decisions(vec![Arc::new(policy)], Ask::new(None, KeyGrants::default()))
}

fn other_identity_policy(count: usize) -> impl FnMut(u64) -> Duration {
    let policy: IAMPolicy = serde_json::from_str(&statements(count, "")).unwrap();
    let evaluator = iam_rs::PolicyEvaluator::with_policies(vec![policy]);
    let mut context = Context::new();
    context.insert(
        "aws:SourceIp".into(),
        ContextValue::String("203.0.113.9".into()),
    );
    let principal = serde_json::from_str(&format!(r#"{{"AWS":"{ALICE}"}}"#)).unwrap();
    let request =
        IAMRequest::new_with_context(principal, ACTION, Arn::parse(KEY).unwrap(), context);
    move |times| {
        let clock = Clock::system();
        for _ in 0..times {
            black_box(evaluator.evaluate(black_box(&request)).unwrap());
        }
        clock.monotonic()
    }
}

/// Ten tenants, each allowed only with its own name in the context; the caller is the last.
fn key_policy() -> impl FnMut(u64) -> Duration {
    let statements: Vec<_> = (0..10)
        .map(|tenant| {
            format!(
                r#"{{"Effect":"Allow","Principal":{{"AWS":"{ALICE}"}},"Action":"kms:GenerateDataKey*","Resource":"*",
                "Condition":{{"StringEquals":{{"kms:EncryptionContext:tenant":"t{tenant}"}},
                "ForAllValues:StringEquals":{{"kms:EncryptionContextKeys":["tenant","container"]}}}}}}"#
            )
        })
        .collect();
    let policy = KeyPolicy::parse(&document(&statements)).unwrap();
    decisions(Vec::new(), Ask::new(Some(policy), KeyGrants::default()))
}

/// A key policy as long as it may be, against a context as large as it may be.
fn worst(operator: &str, key: &str, pattern: Pattern) -> impl FnMut(u64) -> Duration {
    let (mut patterns, mut bytes) = (Vec::new(), 200);
    for number in 0.. {
        let text = format!("\"{}\"", pattern(number));
        bytes += text.len() + 1;
        if bytes > KeyPolicy::BYTES_MAX {
            break;
        }
        patterns.push(text);
    }
    let patterns = patterns.join(",");
    let statement = format!(
        r#"{{"Effect":"Allow","Principal":"*","Action":"*","Resource":"*","Condition":{{"{operator}":{{"{key}":[{patterns}]}}}}}}"#
    );
    let policy = KeyPolicy::parse(&document(&[statement])).unwrap();
    let mut ask = Ask::new(Some(policy), KeyGrants::default());
    let names = (0..(EncryptionContext::BYTES_MAX - 2) / 8).map(|name| format!("{name:04}"));
    ask.context = match key {
        "kms:EncryptionContextKeys" => EncryptionContext::from_pairs(names.map(|name| (name, ""))),
        _ => EncryptionContext::from_pairs([("a", "a".repeat(EncryptionContext::BYTES_MAX - 7))]),
    }
    .unwrap();
    let principal = Principal::new(ALICE, Vec::new()).unwrap();
    let circumstances = CIRCUMSTANCES;
    move |times| {
        let clock = Clock::system();
        for _ in 0..times {
            let denied = policy::check(black_box(&principal), black_box(&ask), &circumstances);
            assert!(denied.is_err());
        }
        clock.monotonic()
    }
}

fn grants() -> impl FnMut(u64) -> Duration {
    let mut grants = KeyGrants::default();
    let subset = EncryptionContext::from_pairs([("tenant", "t9")]).unwrap();
    for number in 0..GRANTS {
        let mut id = [0; 32];
        id[..4].copy_from_slice(&number.to_be_bytes());
        let grantee = match number {
            0 => ALICE.to_owned(),
            _ => format!("{ALICE}{number}"),
        };
        let parameters = GrantParameters::check(Draft {
            grantee: Named::Principal(&grantee),
            retiring_principal: None,
            operations: [Action::GenerateDataKeyWithoutPlaintext]
                .into_iter()
                .collect(),
            equals: None,
            subset: Some(&subset),
            source_arn: None,
            name: None,
        });
        grants.put(Arc::new(Grant {
            id: GrantId(id),
            key: RegionalId::home("1234abcd-12ab-34cd-56ef-1234567890ab".parse().unwrap()),
            parameters: parameters.unwrap(),
            issuing_account: "111122223333".parse().unwrap(),
            creation_date: Timestamp(0),
        }));
    }
    decisions(Vec::new(), Ask::new(None, grants))
}
