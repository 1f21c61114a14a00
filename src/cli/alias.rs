//! `keymill alias`: the KMS operations on aliases, as the operator.

use crate::cli::failure::{Failure, Status};
use crate::cli::key::{Listing, print};
use crate::cli::operator::Operator;
use crate::cli::output::{self, text};
use crate::config::Environment;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

#[derive(Subcommand)]
pub(super) enum Command {
    /// Give a key a name
    #[command(after_help = "Examples:\n  \
        keymill alias create alias/volumes 1234abcd-12ab-34cd-56ef-1234567890ab --dir keymill-dev\n  \
        keymill alias create alias/volumes 1234abcd-12ab-34cd-56ef-1234567890ab --config /etc/keymill/keymill.toml")]
    Create(Pair),
    /// Let a name mean another key
    #[command(after_help = "Examples:\n  \
        keymill alias update alias/volumes 1234abcd-12ab-34cd-56ef-1234567890ab --dir keymill-dev\n  \
        keymill alias update alias/volumes 1234abcd-12ab-34cd-56ef-1234567890ab --config /etc/keymill/keymill.toml")]
    Update(Pair),
    /// Take a name away; its key stays
    #[command(after_help = "Examples:\n  \
        keymill alias delete alias/volumes --dir keymill-dev\n  \
        keymill alias delete alias/volumes --endpoint unix:keymill-dev/keymill.sock")]
    Delete(Name),
    /// List all aliases
    #[command(after_help = "Examples:\n  \
        keymill alias list --dir keymill-dev\n  \
        keymill alias list --config /etc/keymill/keymill.toml --json")]
    List(Listing),
}

#[derive(Args)]
pub(super) struct Pair {
    /// The name, alias/…
    #[arg(value_name = "ALIAS")]
    alias: String,
    /// Key id or ARN
    #[arg(value_name = "KEY")]
    key: String,
    #[command(flatten)]
    at: Listing,
}

#[derive(Args)]
pub(super) struct Name {
    /// The name, alias/…
    #[arg(value_name = "ALIAS")]
    alias: String,
    #[command(flatten)]
    at: Listing,
}

pub(super) fn run(command: Command, environment: &Environment) -> Result<Status, Failure> {
    let at = match &command {
        Command::Create(pair) | Command::Update(pair) => &pair.at,
        Command::Delete(name) => &name.at,
        Command::List(at) => at,
    };
    Operator::with(&at.place, environment, async |operator| {
        perform(&command, at.json, operator).await
    })
}

async fn perform(command: &Command, json: bool, operator: &Operator) -> Result<Status, Failure> {
    match command {
        Command::Create(pair) => set(operator, "CreateAlias", pair).await?,
        Command::Update(pair) => set(operator, "UpdateAlias", pair).await?,
        Command::Delete(Name { alias, .. }) => {
            let request = json!({ "AliasName": alias });
            operator.call("DeleteAlias", request).await?;
            print(&json!({}), &format!("{alias} is deleted"), json)?;
        }
        Command::List(_) => {
            let aliases = operator.list("ListAliases", "Aliases").await?;
            if json {
                output::json(&json!({ "Aliases": aliases }))?;
            } else {
                for alias in &aliases {
                    output::result(&line(alias))?;
                }
            }
        }
    }
    Ok(Status::Done)
}

async fn set(operator: &Operator, operation: &str, pair: &Pair) -> Result<(), Failure> {
    let Pair { alias, key, at } = pair;
    let request = json!({ "AliasName": alias, "TargetKeyId": key });
    operator.call(operation, request).await?;
    print(&json!({}), &format!("{alias} means {key}"), at.json)
}

fn line(alias: &Value) -> String {
    let target = text(alias, "TargetKeyId");
    format!("{target}  {}", output::shown(text(alias, "AliasName")))
}
