//! `keymill principal`: the operator's own operations on who may call.

use crate::auth::Session;
use crate::cli::context::pair;
use crate::cli::failure::{Failure, Status};
use crate::cli::key::{OperatorArguments, print};
use crate::cli::operator::Operator;
use crate::cli::output::{self, text};
use crate::cli::policy;
use crate::config::Environment;
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use std::path::PathBuf;
use xks_credential::NewXksCredential;

mod xks_credential;

#[derive(Subcommand)]
pub(super) enum Command {
    /// Create a principal; a user and a root come with one access key, whose secret is shown only
    /// now
    #[command(after_help = "Examples:\n  \
        keymill principal create provisioner --policy provisioner.json --tag team=storage --dir keymill-dev\n  \
        keymill principal create batch --kind role --account 444455556666 --policy a.json --policy b.json --config /etc/keymill/keymill.toml --json")]
    Create(Create),
    /// List the principals of all accounts with their access key ids
    #[command(after_help = "Examples:\n  \
        keymill principal list --dir keymill-dev\n  \
        keymill principal list --config /etc/keymill/keymill.toml --json")]
    List(OperatorArguments),
    /// Show a principal with its policies and tags
    #[command(after_help = "Examples:\n  \
        keymill principal describe backup --dir keymill-dev\n  \
        keymill principal describe arn:aws:iam::444455556666:role/batch --config /etc/keymill/keymill.toml --json")]
    Describe(PrincipalArguments),
    /// Refuse whatever a principal asks for until it is enabled; batches under way end
    #[command(after_help = "Examples:\n  \
        keymill principal disable backup --dir keymill-dev\n  \
        keymill principal disable arn:aws:iam::444455556666:role/batch --endpoint unix:/run/keymill/keymill.sock")]
    Disable(PrincipalArguments),
    /// Let a principal in again
    #[command(after_help = "Examples:\n  \
        keymill principal enable backup --dir keymill-dev\n  \
        keymill principal enable arn:aws:iam::444455556666:role/batch --endpoint unix:/run/keymill/keymill.sock")]
    Enable(PrincipalArguments),
    /// Delete a principal with its access keys; a role's sessions end with it
    #[command(after_help = "Examples:\n  \
        keymill principal delete backup --dir keymill-dev\n  \
        keymill principal delete backup --yes --config /etc/keymill/keymill.toml")]
    Delete(Delete),
    /// Give a principal other policies in place of those that it has
    #[command(after_help = "Examples:\n  \
        keymill principal put-policies backup --policy backup.json --dir keymill-dev\n  \
        keymill principal put-policies arn:aws:iam::111122223333:role/batch --policy a.json --policy b.json --config /etc/keymill/keymill.toml")]
    PutPolicies(PutPolicies),
    /// Give a principal other tags in place of those that it has; without any, it has none
    #[command(after_help = "Examples:\n  \
        keymill principal put-tags backup --tag team=storage --tag stage=test --dir keymill-dev\n  \
        keymill principal put-tags backup --config /etc/keymill/keymill.toml")]
    PutTags(PutTags),
    /// Give a role another trust policy in place of the one that it has: who may assume it
    #[command(after_help = "Examples:\n  \
        keymill principal put-trust-policy batch --trust-policy trust.json --dir keymill-dev\n  \
        keymill principal put-trust-policy batch --trust-policy trust.json --max-session-duration 43200 --config /etc/keymill/keymill.toml")]
    PutTrustPolicy(PutTrustPolicy),
    /// Give a principal a second access key, and print it: its secret is shown only now
    #[command(after_help = "Examples:\n  \
        keymill principal new-access-key backup --dir keymill-dev\n  \
        keymill principal new-access-key backup --config /etc/keymill/keymill.toml --json")]
    NewAccessKey(PrincipalArguments),
    /// Give a principal a credential for an external key store, and print the file that the console
    /// of AWS KMS takes: its secret is shown only now. A principal may have two
    #[command(after_help = "Examples:\n  \
        keymill principal new-xks-credential aws-kms --uri-path /orders/kms/xks/v1 --dir keymill-dev\n  \
        keymill principal new-xks-credential aws-kms --uri-path /orders/kms/xks/v1 --config /etc/keymill/keymill.toml")]
    NewXksCredential(NewXksCredential),
    /// Refuse whatever is signed with an access key until it is activated: what to do before it is
    /// deleted
    #[command(after_help = "Examples:\n  \
        keymill principal deactivate-access-key backup AKIAIOSFODNN7EXAMPLE --dir keymill-dev\n  \
        keymill principal deactivate-access-key backup AKIAIOSFODNN7EXAMPLE --config /etc/keymill/keymill.toml")]
    DeactivateAccessKey(AccessKey),
    /// Let an access key serve again
    #[command(after_help = "Examples:\n  \
        keymill principal activate-access-key backup AKIAIOSFODNN7EXAMPLE --dir keymill-dev\n  \
        keymill principal activate-access-key backup AKIAIOSFODNN7EXAMPLE --config /etc/keymill/keymill.toml")]
    ActivateAccessKey(AccessKey),
    /// Delete one access key of a principal
    #[command(after_help = "Examples:\n  \
        keymill principal delete-access-key backup AKIAIOSFODNN7EXAMPLE --dir keymill-dev\n  \
        keymill principal delete-access-key backup AKIAIOSFODNN7EXAMPLE --yes --config /etc/keymill/keymill.toml")]
    DeleteAccessKey(DeleteAccessKey),
    /// Make temporary credentials of a role; with --json in the form that AWS clients take from a
    /// credential_process
    #[command(after_help = "Examples:\n  \
        keymill principal create-session batch --session-name nightly --dir keymill-dev\n  \
        keymill principal create-session arn:aws:iam::444455556666:role/batch --session-name nightly --duration-seconds 43200 --endpoint unix:/run/keymill/keymill.sock --json")]
    CreateSession(CreateSession),
}

#[derive(Args)]
pub(super) struct PrincipalArguments {
    /// A user's name, or the ARN of any principal
    #[arg(value_name = "NAME")]
    name: String,
    #[command(flatten)]
    common: OperatorArguments,
}

#[derive(Args)]
pub(super) struct Create {
    /// The name, without the ARN around it; a root has none
    #[arg(value_name = "NAME", required_unless_present = "kind")]
    name: Option<String>,
    /// What it is: user, role, or root [default: user]
    #[arg(long, value_name = "KIND", value_parser = ["user", "role", "root"])]
    kind: Option<String>,
    /// The account that it belongs to, 12 digits [default: the daemon's]
    #[arg(long, value_name = "ACCOUNT")]
    account: Option<String>,
    /// A file with an identity policy; may be given more than once. Without any, key policies and
    /// grants alone decide
    #[arg(long = "policy", value_name = "FILE")]
    policies: Vec<PathBuf>,
    /// A tag; may be given more than once
    #[arg(long = "tag", value_name = "KEY=VALUE", value_parser = pair)]
    tags: Vec<(String, String)>,
    /// A file with the trust policy of a role: who may assume it. Without one, no caller may
    #[arg(long, value_name = "FILE")]
    trust_policy: Option<PathBuf>,
    #[command(flatten)]
    session: SessionArguments,
    #[command(flatten)]
    common: OperatorArguments,
}

#[derive(Args)]
struct SessionArguments {
    /// The longest session of a role that is assumed: 3600 to 43200 seconds [default: 3600]
    #[arg(long, value_name = "SECONDS")]
    max_session_duration: Option<u64>,
}

#[derive(Args)]
pub(super) struct PutTrustPolicy {
    #[command(flatten)]
    name: PrincipalArguments,
    /// A file with the trust policy
    #[arg(long, value_name = "FILE")]
    trust_policy: PathBuf,
    #[command(flatten)]
    session: SessionArguments,
}

#[derive(Args)]
pub(super) struct PutPolicies {
    #[command(flatten)]
    name: PrincipalArguments,
    /// A file with an identity policy; may be given more than once
    #[arg(long = "policy", value_name = "FILE", required = true)]
    policies: Vec<PathBuf>,
}

#[derive(Args)]
pub(super) struct PutTags {
    #[command(flatten)]
    name: PrincipalArguments,
    /// A tag; may be given more than once
    #[arg(long = "tag", value_name = "KEY=VALUE", value_parser = pair)]
    tags: Vec<(String, String)>,
}

#[derive(Args)]
pub(super) struct Delete {
    #[command(flatten)]
    name: PrincipalArguments,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

#[derive(Args)]
pub(super) struct AccessKey {
    #[command(flatten)]
    name: PrincipalArguments,
    /// The access key's id
    #[arg(value_name = "ACCESS_KEY_ID")]
    id: String,
}

#[derive(Args)]
pub(super) struct DeleteAccessKey {
    #[command(flatten)]
    key: AccessKey,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

#[derive(Args)]
pub(super) struct CreateSession {
    /// A role's name or ARN
    #[arg(value_name = "ROLE")]
    role: String,
    /// What the session is called: 2 to 64 characters
    #[arg(long, value_name = "NAME")]
    session_name: String,
    /// How long it is good for: 900 to 43200 seconds
    #[arg(long, value_name = "SECONDS", default_value_t = Session::SECONDS_DEFAULT)]
    duration_seconds: u64,
    #[command(flatten)]
    common: OperatorArguments,
}

impl Command {
    fn common(&self) -> &OperatorArguments {
        match self {
            Self::Create(Create { common, .. })
            | Self::CreateSession(CreateSession { common, .. })
            | Self::List(common) => common,
            Self::Describe(name)
            | Self::Disable(name)
            | Self::Enable(name)
            | Self::NewAccessKey(name)
            | Self::NewXksCredential(NewXksCredential { name, .. })
            | Self::Delete(Delete { name, .. })
            | Self::PutPolicies(PutPolicies { name, .. })
            | Self::PutTags(PutTags { name, .. })
            | Self::PutTrustPolicy(PutTrustPolicy { name, .. })
            | Self::ActivateAccessKey(AccessKey { name, .. })
            | Self::DeactivateAccessKey(AccessKey { name, .. })
            | Self::DeleteAccessKey(DeleteAccessKey {
                key: AccessKey { name, .. },
                ..
            }) => &name.common,
        }
    }

    fn confirm(&self) -> Result<(), Failure> {
        match self {
            Self::Delete(Delete { name, yes }) => {
                let question = format!("{} and its access keys are deleted for good.", name.name);
                output::confirm(&question, *yes)
            }
            Self::DeleteAccessKey(DeleteAccessKey { key, yes }) => {
                output::confirm(&format!("{} is deleted for good.", key.id), *yes)
            }
            _ => Ok(()),
        }
    }

    /// The policies of the files that it names.
    fn policies(&self) -> Result<Vec<String>, Failure> {
        match self {
            Self::Create(Create { policies, .. })
            | Self::PutPolicies(PutPolicies { policies, .. }) => {
                let read = |path: &PathBuf| policy::read(path, "--policy ");
                policies.iter().map(read).collect()
            }
            _ => Ok(Vec::new()),
        }
    }

    /// The trust policy of the file that it names.
    fn trust_policy(&self) -> Result<Option<String>, Failure> {
        let file = match self {
            Self::Create(create) => create.trust_policy.as_ref(),
            Self::PutTrustPolicy(put) => Some(&put.trust_policy),
            _ => None,
        };
        file.map(|path| policy::read(path, "--trust-policy "))
            .transpose()
    }
}

pub(super) fn run(command: Command, environment: &Environment) -> Result<Status, Failure> {
    command.confirm()?;
    let policies = command.policies()?;
    let trust_policy = command.trust_policy()?;
    Operator::with(
        command.common().target.target(environment)?,
        async |operator| perform(&command, &policies, trust_policy, operator).await,
    )
}

async fn perform(
    command: &Command,
    policies: &[String],
    trust_policy: Option<String>,
    operator: &Operator,
) -> Result<Status, Failure> {
    let json = command.common().json;
    let change = async |operation: &str, request: Value, line: String| {
        operator.call(operation, request).await?;
        print(&json!({}), &line, json)
    };
    match command {
        Command::Create(create) => {
            let mut request = json!({ "Policies": policies, "Tags": tags(&create.tags) });
            for (member, value) in [
                ("Name", &create.name),
                ("Kind", &create.kind),
                ("Account", &create.account),
            ] {
                if let Some(value) = value {
                    request[member] = value.as_str().into();
                }
            }
            add_trust(&mut request, trust_policy, &create.session);
            let answer = operator.call("CreatePrincipal", request).await?;
            print(&answer, &credentials(&answer), json)?;
        }
        Command::List(_) => {
            let principals = operator.list("ListPrincipals", "Principals").await?;
            let lines = principals.iter().map(line).collect::<Vec<_>>();
            print(
                &json!({ "Principals": principals }),
                &lines.join("\n"),
                json,
            )?;
        }
        Command::Describe(name) => {
            let request = json!({ "Name": name.name });
            let answer = operator.call("DescribePrincipal", request).await?;
            print(&answer, &description(&answer), json)?;
        }
        Command::Disable(PrincipalArguments { name, .. }) => {
            let request = json!({ "Name": name });
            change("DisablePrincipal", request, format!("{name} is disabled")).await?;
        }
        Command::Enable(PrincipalArguments { name, .. }) => {
            let request = json!({ "Name": name });
            change("EnablePrincipal", request, format!("{name} is enabled")).await?;
        }
        Command::Delete(Delete { name, .. }) => {
            let request = json!({ "Name": name.name });
            let line = format!("{} is deleted", name.name);
            change("DeletePrincipal", request, line).await?;
        }
        Command::PutPolicies(PutPolicies { name, .. }) => {
            let request = json!({ "Name": name.name, "Policies": policies });
            let line = format!("{} has {} now", name.name, counted(policies.len()));
            change("PutPrincipalPolicies", request, line).await?;
        }
        Command::PutTags(PutTags { name, tags }) => {
            let request = json!({ "Name": name.name, "Tags": self::tags(tags) });
            let line = format!("{} has other tags now", name.name);
            change("PutPrincipalTags", request, line).await?;
        }
        Command::PutTrustPolicy(put) => {
            let name = &put.name.name;
            let mut request = json!({ "Name": name });
            add_trust(&mut request, trust_policy, &put.session);
            let line = format!("{name} has another trust policy now");
            change("PutTrustPolicy", request, line).await?;
        }
        Command::NewAccessKey(name) => {
            let request = json!({ "Name": name.name });
            let answer = operator.call("CreateAccessKey", request).await?;
            print(&answer, &credentials(&answer), json)?;
        }
        Command::NewXksCredential(new) => xks_credential::make(new, operator, json).await?,
        Command::ActivateAccessKey(AccessKey { name, id }) => {
            let request = json!({ "Name": name.name, "AccessKeyId": id, "Status": "Active" });
            change("UpdateAccessKey", request, format!("{id} is active")).await?;
        }
        Command::DeactivateAccessKey(AccessKey { name, id }) => {
            let request = json!({ "Name": name.name, "AccessKeyId": id, "Status": "Inactive" });
            change("UpdateAccessKey", request, format!("{id} is inactive")).await?;
        }
        Command::DeleteAccessKey(DeleteAccessKey { key, .. }) => {
            let AccessKey { name, id } = key;
            let request = json!({ "Name": name.name, "AccessKeyId": id });
            change("DeleteAccessKey", request, format!("{id} is deleted")).await?;
        }
        Command::CreateSession(session) => {
            let request = json!({
                "Name": session.role,
                "SessionName": session.session_name,
                "DurationSeconds": session.duration_seconds,
            });
            let mut answer = operator.call("CreateSession", request).await?;
            // The version of the form that AWS clients take from a credential_process.
            answer["Version"] = 1.into();
            print(&answer, &credentials(&answer), json)?;
        }
    }
    Ok(Status::Done)
}

fn add_trust(request: &mut Value, trust_policy: Option<String>, session: &SessionArguments) {
    if let Some(policy) = trust_policy {
        request["TrustPolicy"] = policy.into();
    }
    if let Some(seconds) = session.max_session_duration {
        request["MaxSessionDuration"] = seconds.into();
    }
}

fn tags(tags: &[(String, String)]) -> Vec<Value> {
    let tag = |(key, value): &(String, String)| json!({ "Key": key, "Value": value });
    tags.iter().map(tag).collect()
}

fn credentials(answer: &Value) -> String {
    let rows = [
        ("ARN", "Arn"),
        ("access key id", "AccessKeyId"),
        ("secret access key", "SecretAccessKey"),
        ("session token", "SessionToken"),
        ("expiration", "Expiration"),
    ];
    let shown: Vec<_> = rows
        .into_iter()
        .map(|(name, member)| (name, text(answer, member).to_owned()))
        .filter(|(_, value)| !value.is_empty())
        .collect();
    output::columns(&shown)
}

/// ARN, access keys, number of policies, and anything unusual.
fn line(principal: &Value) -> String {
    let count = usize::try_from(principal["PolicyCount"].as_u64().unwrap_or_default())
        .unwrap_or(usize::MAX);
    format!(
        "{}  {}  {}  {}",
        output::shown(text(principal, "Arn")),
        access_keys(principal),
        counted(count),
        state(principal)
    )
}

fn description(principal: &Value) -> String {
    let tag = |tag: &Value| format!("{}={}", text(tag, "Key"), text(tag, "Value"));
    let tags = principal["Tags"].as_array().into_iter().flatten().map(tag);
    let mut rows = vec![
        ("ARN", text(principal, "Arn").to_owned()),
        ("unique id", text(principal, "UniqueId").to_owned()),
        ("state", state(principal).to_owned()),
        ("access keys", access_keys(principal)),
        ("tags", tags.collect::<Vec<_>>().join(", ")),
    ];
    if let Some(seconds) = principal["MaxSessionDuration"].as_u64() {
        rows.push(("longest session", format!("{seconds} s")));
    }
    let mut description = output::columns(&rows);
    let policies = principal["Policies"].as_array().into_iter().flatten();
    for (at, policy) in policies.filter_map(Value::as_str).enumerate() {
        description += &format!("\npolicy {}:\n{policy}", at + 1);
    }
    if let Some(policy) = principal["TrustPolicy"].as_str() {
        description += &format!("\ntrust policy:\n{policy}");
    }
    description
}

fn state(principal: &Value) -> &'static str {
    match principal["Enabled"] {
        Value::Bool(false) => "disabled",
        _ => "enabled",
    }
}

fn access_keys(principal: &Value) -> String {
    let key = |key: &Value| match text(key, "Status") {
        "Inactive" => format!("{} (inactive)", text(key, "AccessKeyId")),
        _ => text(key, "AccessKeyId").to_owned(),
    };
    let keys = principal["AccessKeys"].as_array().into_iter().flatten();
    match keys.map(key).collect::<Vec<_>>().join(", ") {
        keys if keys.is_empty() => "no access key".to_owned(),
        keys => keys,
    }
}

fn counted(policies: usize) -> String {
    match policies {
        1 => "1 policy".to_owned(),
        count => format!("{count} policies"),
    }
}
