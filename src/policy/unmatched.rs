//! Finds the parts of a policy that can match nothing: actions, condition keys and resources that
//! do not exist.
//!
//! `PutKeyPolicy` and the operator's operations accept such parts, as AWS does. A misspelt action
//! is in no request, and a deny of it denies nothing. `keymill policy validate` refuses such parts.

use crate::key::KeyId;
use crate::key::arn::{AccountId, AliasName};
use crate::operation::Action;
use crate::policy::error::{InvalidPolicy, refuse};
use crate::policy::statement::compile_action;
use crate::policy::template::{Syntax, Template, split_outside_variables};
use crate::policy::wildcard::Case;
use serde_json::Value;

/// Partitions of AWS.
const PARTITIONS: [&str; 8] = [
    "aws",
    "aws-cn",
    "aws-eusc",
    "aws-iso",
    "aws-iso-b",
    "aws-iso-e",
    "aws-iso-f",
    "aws-us-gov",
];
/// The kinds of resources.
const KINDS: [&str; 2] = ["key/", AliasName::PREFIX];
/// A permission that no caller has an operation for (AWS KMS, "Permissions reference").
const WITHOUT_OPERATION: &str = "kms:SynchronizeMultiRegionKey";
/// The digits of an account id.
const ACCOUNT_DIGITS: usize = 12;

/// Refuses the parts of a valid policy that can match nothing. `region` is that of the daemon, if
/// it is known.
///
/// # Errors
/// [`InvalidPolicy`] with the place of the first such part.
pub fn check(json: &str, region: Option<&str>) -> Result<(), InvalidPolicy> {
    let Ok(policy) = serde_json::from_str::<Value>(json) else {
        return refuse("not JSON");
    };
    for (number, statement) in one_or_more(&policy["Statement"]).iter().enumerate() {
        let place = |element: &str| format!("Statement {}: {element}", number + 1);
        for element in ["Action", "NotAction"] {
            for text in texts(&statement[element]) {
                action(text).map_err(|error| error.at(&place(element)))?;
            }
        }
        for element in ["Resource", "NotResource"] {
            for text in texts(&statement[element]) {
                resource(text, region).map_err(|error| error.at(&place(element)))?;
            }
        }
        let operators = statement["Condition"].as_object().into_iter().flatten();
        for (operator, keys) in operators {
            for key in keys.as_object().into_iter().flat_map(|keys| keys.keys()) {
                let place = place(&format!("Condition: {operator}"));
                condition_key(key).map_err(|error| error.at(&place))?;
            }
        }
    }
    Ok(())
}

fn one_or_more(value: &Value) -> &[Value] {
    match value {
        Value::Array(values) => values,
        Value::Null => &[],
        value => std::slice::from_ref(value),
    }
}

fn texts(value: &Value) -> impl Iterator<Item = &str> {
    one_or_more(value).iter().filter_map(Value::as_str)
}

fn action(text: &str) -> Result<(), InvalidPolicy> {
    let pattern = compile_action(text)?;
    let mut actions = Action::ALL.iter().map(|action| action.name());
    if actions.any(|one| pattern.is(one, Case::Insensitive))
        || pattern.is(WITHOUT_OPERATION, Case::Insensitive)
    {
        return Ok(());
    }
    refuse(format!(
        "{text:?} is not an action of this service and matches none"
    ))
}

/// The syntax was checked already; a key of another service is never in a request.
fn condition_key(text: &str) -> Result<(), InvalidPolicy> {
    let service = text.split(':').next().unwrap_or_default();
    if ["aws", "kms", "sts"]
        .iter()
        .any(|of| service.eq_ignore_ascii_case(of))
    {
        return Ok(());
    }
    refuse(format!(
        "{text:?} is neither a global condition key nor one of KMS or STS"
    ))
}

fn resource(text: &str, region: Option<&str>) -> Result<(), InvalidPolicy> {
    if text == "*" {
        return Ok(());
    }
    let parts = split_outside_variables(text, b':', 6);
    let ["arn", partition, service, in_region, account, resource] = *parts else {
        return refuse(format!("{text:?} is not an ARN"));
    };
    let syntax = Syntax {
        wildcards: true,
        variables: true,
    };
    let may_be = |part: &str, ones: &[&str]| {
        let pattern = Template::compile(part, syntax)?;
        let is = |one: &&str| pattern.is(one, Case::Sensitive);
        Ok(pattern.has_variables() || ones.iter().any(is))
    };
    let is_role = may_be(service, &["iam"])? && in_region.is_empty() && is_of("role/", resource);
    let fault = if !may_be(partition, &PARTITIONS)? {
        "there is no such partition"
    } else if is_role && is_account(account) {
        return Ok(());
    } else if !may_be(service, &["kms"])? {
        "it is of another service than kms, and not a role"
    } else if in_region.is_empty() {
        "keys and aliases have a Region"
    } else if !region.map_or(Ok(true), |region| may_be(in_region, &[region]))? {
        "it is of another Region"
    } else if !is_account(account) {
        "there is no such account"
    } else if !KINDS.iter().any(|kind| is_of(kind, resource)) {
        "it is neither a key (key/<id>) nor an alias (alias/<name>)"
    } else {
        return Ok(());
    };
    refuse(format!("{text:?} matches nothing: {fault}"))
}

/// Whether the pattern can match an account: twelve digits, or fewer with wildcards.
fn is_account(text: &str) -> bool {
    if text.contains("${") {
        return true;
    }
    let fixed = text.bytes().filter(|byte| *byte != b'*').count();
    if !text.contains(['*', '?']) {
        return text.parse::<AccountId>().is_ok();
    }
    let allowed = |byte: u8| byte.is_ascii_digit() || matches!(byte, b'*' | b'?');
    let fits = fixed == ACCOUNT_DIGITS || fixed < ACCOUNT_DIGITS && text.contains('*');
    text.bytes().all(allowed) && fits
}

/// Whether the pattern can match a resource of this kind.
fn is_of(kind: &str, text: &str) -> bool {
    let open = text.find(['*', '?', '$']);
    let fixed = &text[..open.unwrap_or(text.len())];
    if open.is_some() && fixed.len() < kind.len() {
        return kind.starts_with(fixed);
    }
    let Some(name) = fixed.strip_prefix(kind) else {
        return false;
    };
    let id = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    match (open, kind) {
        (Some(_), "key/") => name.bytes().all(id),
        (None, "role/") => !name.is_empty(),
        (Some(_), _) => true,
        (None, "key/") => name.parse::<KeyId>().is_ok(),
        (None, _) => fixed.parse::<AliasName>().is_ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "1234abcd-12ab-34cd-56ef-1234567890ab";

    fn fault(element: &str, value: &str) -> Option<String> {
        let mut statement = serde_json::json!({"Effect": "Deny", "Action": "*", "Resource": "*"});
        statement[element] = value.into();
        let policy = serde_json::json!({"Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}, statement]});
        let checked = check(&policy.to_string(), Some("us-east-1"));
        checked.err().map(|error| error.to_string())
    }

    #[test]
    fn auth_1_actions_that_do_not_exist_are_told() {
        for action in [
            "*",
            "kms:*",
            "KMS:decrypt",
            "kms:Decryp?",
            "kms:*Key",
            "kms:Generate*",
            "sts:AssumeRole",
            "sts:*",
            "tag:GetResources",
            "tag:*",
        ] {
            assert_eq!(fault("Action", action), None, "{action}");
        }
        for action in [
            "kms:Decript",
            "kms:Decrypt?",
            "kms:Generates*",
            "ksm:Decrypt",
            "sts:AssumeRoles",
            "s3:GetObject",
            "tag:TagResource",
            "sts:GetCallerIdentity",
        ] {
            let expected = format!(
                "Statement 2: Action: {action:?} is not an action of this service and matches none"
            );
            assert_eq!(fault("Action", action), Some(expected));
        }
    }

    #[test]
    fn auth_1_resources_that_do_not_exist_are_told() {
        let of = |rest: &str| format!("arn:aws:kms:us-east-1:111122223333:{rest}");
        for resource in [
            of("key/*"),
            of(&format!("key/{ID}")),
            of("alias/containers"),
            of("alias/c*"),
            of("*"),
            of("k?y/1234*"),
            of("${aws:username}"),
            of("key/${aws:PrincipalTag/key}"),
            "arn:aws:iam::111122223333:role/batch".to_owned(),
            "arn:aws:iam::*:role/*".to_owned(),
            "arn:aws:iam::111122223333:*".to_owned(),
            "arn:*:kms:*:*:key/*".to_owned(),
            "arn:aws:kms:us-*-1:1111????3333:key/*".to_owned(),
            "arn:aws:kms:us-east-1:1111*:alias/*".to_owned(),
            "arn:aws:*:us-east-1:${aws:PrincipalAccount}:key/*".to_owned(),
            "arn:aws:kms:${aws:RequestedRegion}:111122223333:key/*".to_owned(),
        ] {
            assert_eq!(fault("Resource", &resource), None, "{resource}");
        }
        for (resource, reason) in [
            (
                "arn:aw:kms:us-east-1:111122223333:key/*",
                "no such partition",
            ),
            (
                "arn:aws:kmss:us-east-1:111122223333:key/*",
                "another service",
            ),
            ("arn:aws:s3:us-east-1:111122223333:key/*", "another service"),
            ("arn:aws:iam::111122223333:user/a", "another service"),
            ("arn:aws:iam::11112222333:role/a", "another service"),
            ("arn:aws:kms::111122223333:key/*", "have a Region"),
            ("arn:aws:kms:us-west-2:111122223333:key/*", "another Region"),
            ("arn:aws:kms:us-east-1:11112222333:key/*", "no such account"),
            (
                "arn:aws:kms:us-east-1:1111222233334*:key/*",
                "no such account",
            ),
            ("arn:aws:kms:us-east-1:?:key/*", "no such account"),
            ("arn:aws:kms:us-east-1::key/*", "no such account"),
            ("arn:aws:kms:us-east-1:111122223333:keys/*", "neither a key"),
            ("arn:aws:kms:us-east-1:111122223333:Key/*", "neither a key"),
            (
                "arn:aws:kms:us-east-1:111122223333:key/12 34*",
                "neither a key",
            ),
            (
                "arn:aws:kms:us-east-1:111122223333:key/1234",
                "neither a key",
            ),
            ("arn:aws:kms:us-east-1:111122223333:alias", "neither a key"),
        ] {
            let told = fault("NotResource", resource).unwrap_or_default();
            assert!(
                told.starts_with("Statement 2: NotResource:") && told.contains(reason),
                "{resource}: {told}"
            );
        }
        let elsewhere = r#"{"Statement":{"Effect":"Deny","Action":"*","Resource":"arn:aws:kms:us-west-2:*:key/*"}}"#;
        assert_eq!(check(elsewhere, None), Ok(()));
    }

    #[test]
    fn auth_1_condition_keys_of_nothing_are_told() {
        let policy = |key: &str| {
            format!(
                r#"{{"Statement":{{"Effect":"Deny","Action":"*","Resource":"*","Condition":{{"StringEquals":{{"{key}":"x"}}}}}}}}"#
            )
        };
        for key in ["aws:PrincipalArn", "KMS:EncryptionContext:tenant"] {
            assert_eq!(check(&policy(key), None), Ok(()));
        }
        let told = check(&policy("ksm:EncryptionContext:tenant"), None);
        let told = told.err().map(|error| error.to_string());
        assert_eq!(
            told.as_deref(),
            Some(
                "Statement 1: Condition: StringEquals: \"ksm:EncryptionContext:tenant\" is neither a global condition key nor one of KMS or STS"
            )
        );
    }
}
