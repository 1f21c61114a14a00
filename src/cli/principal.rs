//! `keymill principal`: the operator's own operations on who may call.

use crate::cli::failure::{Failure, Status};
use crate::cli::key::{Listing, print};
use crate::cli::operator::Operator;
use crate::cli::output::{self, text};
use crate::config::Environment;
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Bytes of a policy file at most; what IAM takes is far less.
const POLICY_BYTES_MAX: u64 = 64 << 10;

#[derive(Subcommand)]
pub(super) enum Command {
    /// Create a principal with one access key, and print the key: its secret is shown only now
    #[command(after_help = "Examples:\n  \
        keymill principal create provisioner --policy provisioner.json --dir keymill-dev\n  \
        keymill principal create backup --policy a.json --policy b.json --config /etc/keymill/keymill.toml --json")]
    Create(Create),
    /// List principals with their access key ids
    #[command(after_help = "Examples:\n  \
        keymill principal list --dir keymill-dev\n  \
        keymill principal list --config /etc/keymill/keymill.toml --json")]
    List(Listing),
    /// Delete a principal with its access keys
    #[command(after_help = "Examples:\n  \
        keymill principal delete backup --dir keymill-dev\n  \
        keymill principal delete backup --yes --config /etc/keymill/keymill.toml")]
    Delete(Delete),
    /// Give a principal a second access key, and print it: its secret is shown only now
    #[command(after_help = "Examples:\n  \
        keymill principal new-access-key backup --dir keymill-dev\n  \
        keymill principal new-access-key backup --config /etc/keymill/keymill.toml --json")]
    NewAccessKey(Name),
    /// Delete one access key of a principal
    #[command(after_help = "Examples:\n  \
        keymill principal delete-access-key backup AKIAIOSFODNN7EXAMPLE --dir keymill-dev\n  \
        keymill principal delete-access-key backup AKIAIOSFODNN7EXAMPLE --yes --config /etc/keymill/keymill.toml")]
    DeleteAccessKey(DeleteAccessKey),
}

#[derive(Args)]
pub(super) struct Name {
    /// The principal's name, without the ARN around it
    #[arg(value_name = "NAME")]
    name: String,
    #[command(flatten)]
    at: Listing,
}

#[derive(Args)]
pub(super) struct Create {
    #[command(flatten)]
    name: Name,
    /// A file with an identity policy; may be given more than once
    #[arg(long = "policy", value_name = "FILE", required = true)]
    policies: Vec<PathBuf>,
}

#[derive(Args)]
pub(super) struct Delete {
    #[command(flatten)]
    name: Name,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

#[derive(Args)]
pub(super) struct DeleteAccessKey {
    #[command(flatten)]
    name: Name,
    /// The access key's id
    #[arg(value_name = "ACCESS_KEY_ID")]
    access_key_id: String,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

pub(super) fn run(command: Command, environment: &Environment) -> Result<Status, Failure> {
    confirm(&command)?;
    let at = match &command {
        Command::Create(create) => &create.name.at,
        Command::List(at) => at,
        Command::Delete(delete) => &delete.name.at,
        Command::NewAccessKey(name) => &name.at,
        Command::DeleteAccessKey(delete) => &delete.name.at,
    };
    let policies = match &command {
        Command::Create(create) => create
            .policies
            .iter()
            .map(|path| policy(path))
            .collect::<Result<Vec<_>, _>>()?,
        _ => Vec::new(),
    };
    Operator::with(&at.place, environment, async |operator| {
        perform(&command, policies, at.json, operator).await
    })
}

fn confirm(command: &Command) -> Result<(), Failure> {
    match command {
        Command::Delete(Delete { name, yes }) => {
            let question = format!("{} and its access keys are deleted for good.", name.name);
            output::confirm(&question, *yes)
        }
        Command::DeleteAccessKey(delete) => {
            let id = &delete.access_key_id;
            output::confirm(&format!("{id} is deleted for good."), delete.yes)
        }
        Command::Create(_) | Command::List(_) | Command::NewAccessKey(_) => Ok(()),
    }
}

fn policy(path: &Path) -> Result<String, Failure> {
    let mut text = String::new();
    let read =
        File::open(path).and_then(|file| file.take(POLICY_BYTES_MAX + 1).read_to_string(&mut text));
    let reason = match read {
        Ok(_) if text.len() as u64 <= POLICY_BYTES_MAX => return Ok(text),
        Ok(_) => format!("it has more than {POLICY_BYTES_MAX} bytes"),
        Err(error) => error.to_string(),
    };
    let path = path.display();
    Err(Failure::usage(format!("--policy {path}: {reason}")))
}

async fn perform(
    command: &Command,
    policies: Vec<String>,
    json: bool,
    operator: &Operator,
) -> Result<Status, Failure> {
    match command {
        Command::Create(Create { name, .. }) => {
            let request = json!({ "Name": name.name, "Policies": policies });
            let answer = operator.call("CreatePrincipal", request).await?;
            print(&answer, &credentials(&answer), json)?;
        }
        Command::List(_) => {
            let answer = operator.call("ListPrincipals", json!({})).await?;
            let principals = answer["Principals"].as_array().into_iter().flatten();
            print(
                &answer,
                &principals.map(line).collect::<Vec<_>>().join("\n"),
                json,
            )?;
        }
        Command::Delete(Delete { name, .. }) => {
            let request = json!({ "Name": name.name });
            operator.call("DeletePrincipal", request).await?;
            print(&json!({}), &format!("{} is deleted", name.name), json)?;
        }
        Command::NewAccessKey(name) => {
            let request = json!({ "Name": name.name });
            let answer = operator.call("CreateAccessKey", request).await?;
            print(&answer, &credentials(&answer), json)?;
        }
        Command::DeleteAccessKey(DeleteAccessKey {
            name,
            access_key_id,
            ..
        }) => {
            let request = json!({ "Name": name.name, "AccessKeyId": access_key_id });
            operator.call("DeleteAccessKey", request).await?;
            print(&json!({}), &format!("{access_key_id} is deleted"), json)?;
        }
    }
    Ok(Status::Done)
}

fn credentials(answer: &Value) -> String {
    let rows = [
        ("ARN", text(answer, "Arn").to_owned()),
        ("access key id", text(answer, "AccessKeyId").to_owned()),
        (
            "secret access key",
            text(answer, "SecretAccessKey").to_owned(),
        ),
    ];
    let rows: Vec<_> = rows
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .collect();
    output::columns(&rows)
}

fn line(principal: &Value) -> String {
    let ids = principal["AccessKeyIds"].as_array().into_iter().flatten();
    let ids: Vec<_> = ids.filter_map(Value::as_str).collect();
    let policies = match principal["Policies"].as_array().map_or(0, Vec::len) {
        1 => "1 policy".to_owned(),
        count => format!("{count} policies"),
    };
    let arn = text(principal, "Arn");
    let ids = if ids.is_empty() {
        "no access key".to_owned()
    } else {
        ids.join(",")
    };
    format!("{arn}  {ids}  {policies}")
}
