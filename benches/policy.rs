//! What a decision costs by the number of statements, beside another evaluator of the same policies.
//!
//! The aim is a policy of 10 statements in less than a microsecond. The statement that allows is the last, so that all are walked.

#![expect(clippy::unwrap_used, reason = "a bench fails by panicking")]

mod side_by_side;

use iam_rs::{Arn, Context, ContextValue, IAMPolicy, IAMRequest};
use keymill::clock::{Clock, Timestamp};
use keymill::context::EncryptionContext;
use keymill::key::arn::AccountId;
use keymill::policy::grant::{Draft, Grant, GrantId, GrantOperation};
use keymill::policy::{
    self, Action, AuthorizationRequest, Circumstances, GrantParameters, KeyFacts, KeyGrants,
    KeyPolicy, PolicyDocument, Principal,
};
use side_by_side::{Question, Side};
use std::hint::black_box;
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
    side_by_side::criterion(&mut questions);
    if side_by_side::ratios_are_wanted() {
        side_by_side::ratios(&mut questions);
    }
}

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
        Action(ACTION)
    }

    fn resource(&self) -> &str {
        KEY
    }

    fn key(&self) -> Option<KeyFacts<'_>> {
        Some(KeyFacts {
            account: self.account,
            policy: self.policy.as_ref(),
            grants: Some(&self.grants),
            spec: "SYMMETRIC_DEFAULT",
            usage: "ENCRYPT_DECRYPT",
            origin: "AWS_KMS",
            multi_region: None,
            aliases: &[],
            tags: &[],
        })
    }

    fn context(&self) -> Option<&EncryptionContext> {
        Some(&self.context)
    }
}

fn decisions(policies: Vec<Arc<PolicyDocument>>, ask: Ask) -> impl FnMut(u64) -> Duration {
    let principal = Principal::new(ALICE, policies).unwrap();
    let circumstances = Circumstances {
        now: Timestamp(1_772_600_767_000_000),
        source_ip: Some([203, 0, 113, 9].into()),
        secure_transport: true,
        region: "us-east-1",
    };
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

/// Ten tenants, each let only under his own name in the context; the caller is the last.
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
            grantee: &grantee,
            retiring_principal: None,
            operations: [GrantOperation::GenerateDataKeyWithoutPlaintext]
                .into_iter()
                .collect(),
            equals: None,
            subset: Some(&subset),
            name: None,
        });
        grants.put(Arc::new(Grant {
            id: GrantId(id),
            key: "1234abcd-12ab-34cd-56ef-1234567890ab".parse().unwrap(),
            parameters: parameters.unwrap(),
            issuing_account: "111122223333".parse().unwrap(),
            creation_date: Timestamp(0),
        }));
    }
    decisions(Vec::new(), Ask::new(None, grants))
}
