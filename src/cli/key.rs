//! `keymill key`: the KMS operations on keys, as the operator.

use crate::cli::failure::{Failure, Status};
use crate::cli::operator::Operator;
use crate::cli::output::{self, text};
use crate::cli::place::Place;
use crate::config::Environment;
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use std::collections::BTreeMap;

#[derive(Subcommand)]
pub(super) enum Command {
    /// Create a symmetric KMS key
    #[command(after_help = "Examples:\n  \
        keymill key create --dir keymill-dev\n  \
        keymill key create --config /etc/keymill/keymill.toml --description 'tenant volumes' --json")]
    Create(Create),
    /// Show a key's metadata
    #[command(after_help = "Examples:\n  \
        keymill key describe alias/containers --dir keymill-dev\n  \
        keymill key describe alias/containers --endpoint unix:keymill-dev/keymill.sock --json")]
    Describe(Target),
    /// List all keys
    #[command(after_help = "Examples:\n  \
        keymill key list --dir keymill-dev\n  \
        keymill key list --config /etc/keymill/keymill.toml --json")]
    List(Listing),
    /// Let a key be used again
    #[command(after_help = "Examples:\n  \
        keymill key enable 1234abcd-12ab-34cd-56ef-1234567890ab --dir keymill-dev\n  \
        keymill key enable 1234abcd-12ab-34cd-56ef-1234567890ab --config /etc/keymill/keymill.toml")]
    Enable(Target),
    /// Refuse every use of a key until it is enabled
    #[command(after_help = "Examples:\n  \
        keymill key disable 1234abcd-12ab-34cd-56ef-1234567890ab --dir keymill-dev\n  \
        keymill key disable 1234abcd-12ab-34cd-56ef-1234567890ab --config /etc/keymill/keymill.toml")]
    Disable(Target),
    /// Have a key destroyed after a waiting period, and with it every data key wrapped under it
    #[command(after_help = "Examples:\n  \
        keymill key schedule-deletion 1234abcd-12ab-34cd-56ef-1234567890ab --dir keymill-dev\n  \
        keymill key schedule-deletion 1234abcd-12ab-34cd-56ef-1234567890ab --days 7 --yes --dir keymill-dev")]
    ScheduleDeletion(ScheduleDeletion),
    /// Keep a key that waits for its deletion; it comes back disabled
    #[command(after_help = "Examples:\n  \
        keymill key cancel-deletion 1234abcd-12ab-34cd-56ef-1234567890ab --dir keymill-dev\n  \
        keymill key cancel-deletion 1234abcd-12ab-34cd-56ef-1234567890ab --config /etc/keymill/keymill.toml")]
    CancelDeletion(Target),
}

#[derive(Args)]
pub(super) struct Create {
    /// What the key is for, at most 8192 characters
    #[arg(long, value_name = "TEXT", default_value = "")]
    description: String,
    #[command(flatten)]
    at: Listing,
}

#[derive(Args)]
pub(super) struct Target {
    /// Key id or ARN (describe also takes an alias)
    #[arg(value_name = "KEY")]
    key: String,
    #[command(flatten)]
    at: Listing,
}

#[derive(Args)]
pub(super) struct ScheduleDeletion {
    #[command(flatten)]
    target: Target,
    /// Days until then, 7 to 30
    #[arg(long, value_name = "DAYS", default_value_t = 30)]
    days: u32,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

/// Where, and how to print.
#[derive(Args)]
pub(super) struct Listing {
    #[command(flatten)]
    pub(super) place: Place,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

pub(super) fn run(command: Command, environment: &Environment) -> Result<Status, Failure> {
    if let Command::ScheduleDeletion(ScheduleDeletion {
        target, days, yes, ..
    }) = &command
    {
        let question = format!(
            "In {days} days {} is destroyed, and every data key wrapped under it is lost.",
            target.key
        );
        output::confirm(&question, *yes)?;
    }
    let at = match &command {
        Command::Create(create) => &create.at,
        Command::List(at) => at,
        Command::ScheduleDeletion(schedule) => &schedule.target.at,
        Command::Describe(target)
        | Command::Enable(target)
        | Command::Disable(target)
        | Command::CancelDeletion(target) => &target.at,
    };
    Operator::with(&at.place, environment, async |operator| {
        perform(&command, at.json, operator).await
    })
}

async fn perform(command: &Command, json: bool, operator: &Operator) -> Result<Status, Failure> {
    match command {
        Command::Create(create) => {
            let request = json!({ "Description": create.description });
            let answer = operator.call("CreateKey", request).await?;
            print_metadata(&answer["KeyMetadata"], json)?;
        }
        Command::Describe(target) => {
            let request = json!({ "KeyId": target.key });
            let answer = operator.call("DescribeKey", request).await?;
            print_metadata(&answer["KeyMetadata"], json)?;
        }
        Command::List(_) if json => {
            let keys = operator.list("ListKeys", "Keys").await?;
            output::json(&json!({ "Keys": keys }))?;
        }
        Command::List(_) => list(operator).await?,
        Command::Enable(target) => change(operator, "EnableKey", target, "enabled", json).await?,
        Command::Disable(target) => {
            change(operator, "DisableKey", target, "disabled", json).await?;
        }
        Command::ScheduleDeletion(ScheduleDeletion { target, days, .. }) => {
            let request = json!({ "KeyId": target.key, "PendingWindowInDays": days });
            let answer = operator.call("ScheduleKeyDeletion", request).await?;
            let line = format!(
                "{} will be destroyed in {days} days; `keymill key cancel-deletion` keeps it",
                text(&answer, "KeyId")
            );
            print(&answer, &line, json)?;
        }
        Command::CancelDeletion(target) => {
            let request = json!({ "KeyId": target.key });
            let answer = operator.call("CancelKeyDeletion", request).await?;
            let line = format!("{} is kept, and disabled", text(&answer, "KeyId"));
            print(&answer, &line, json)?;
        }
    }
    Ok(Status::Done)
}

async fn change(
    operator: &Operator,
    operation: &str,
    target: &Target,
    state: &str,
    json: bool,
) -> Result<(), Failure> {
    let request = json!({ "KeyId": target.key });
    operator.call(operation, request).await?;
    print(&json!({}), &format!("{} is {state}", target.key), json)
}

/// Prints an answer as JSON, or `line`.
pub(super) fn print(answer: &Value, line: &str, json: bool) -> Result<(), Failure> {
    if json {
        output::json(answer)
    } else {
        output::result(line)
    }
}

fn print_metadata(metadata: &Value, json: bool) -> Result<(), Failure> {
    let rows = [
        ("key id", text(metadata, "KeyId").to_owned()),
        ("ARN", text(metadata, "Arn").to_owned()),
        ("state", text(metadata, "KeyState").to_owned()),
        ("spec", text(metadata, "KeySpec").to_owned()),
        ("usage", text(metadata, "KeyUsage").to_owned()),
        ("description", text(metadata, "Description").to_owned()),
    ];
    print(metadata, &output::columns(&rows), json)
}

/// A line for each key: id, state, aliases, description.
async fn list(operator: &Operator) -> Result<(), Failure> {
    let mut aliases: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for alias in operator.list("ListAliases", "Aliases").await? {
        let names = aliases.entry(text(&alias, "TargetKeyId").to_owned());
        names
            .or_default()
            .push(text(&alias, "AliasName").to_owned());
    }
    for key in operator.list("ListKeys", "Keys").await? {
        let id = text(&key, "KeyId");
        // One that is gone by now is no key any more.
        let Ok(answer) = operator.call("DescribeKey", json!({ "KeyId": id })).await else {
            continue;
        };
        let metadata = &answer["KeyMetadata"];
        let names = aliases.remove(id).unwrap_or_default().join(",");
        let names = if names.is_empty() {
            "-".to_owned()
        } else {
            names
        };
        let (state, description) = (text(metadata, "KeyState"), text(metadata, "Description"));
        let (names, description) = (output::shown(&names), output::shown(description));
        let line = format!("{id}  {state:15}  {names}  {description}");
        output::result(line.trim_end())?;
    }
    Ok(())
}
