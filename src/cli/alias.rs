//! `keymill alias`: the KMS operations on aliases, as the operator.

use crate::cli::failure::{Failure, Status};
use crate::cli::key::{RegionalArguments, print};
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
    Create(AliasAndKey),
    /// Let a name mean another key
    #[command(after_help = "Examples:\n  \
        keymill alias update alias/volumes 1234abcd-12ab-34cd-56ef-1234567890ab --dir keymill-dev\n  \
        keymill alias update alias/volumes 1234abcd-12ab-34cd-56ef-1234567890ab --config /etc/keymill/keymill.toml")]
    Update(AliasAndKey),
    /// Take a name away; its key stays
    #[command(after_help = "Examples:\n  \
        keymill alias delete alias/volumes --dir keymill-dev\n  \
        keymill alias delete alias/volumes --endpoint unix:keymill-dev/keymill.sock")]
    Delete(AliasArguments),
    /// List all aliases
    #[command(after_help = "Examples:\n  \
        keymill alias list --dir keymill-dev\n  \
        keymill alias list --config /etc/keymill/keymill.toml --json")]
    List(RegionalArguments),
}

#[derive(Args)]
pub(super) struct AliasAndKey {
    /// The name, alias/…
    #[arg(value_name = "ALIAS")]
    alias: String,
    /// Key id or ARN
    #[arg(value_name = "KEY")]
    key: String,
    #[command(flatten)]
    regional: RegionalArguments,
}

#[derive(Args)]
pub(super) struct AliasArguments {
    /// The name, alias/…
    #[arg(value_name = "ALIAS")]
    alias: String,
    #[command(flatten)]
    regional: RegionalArguments,
}

pub(super) fn run(command: Command, environment: &Environment) -> Result<Status, Failure> {
    let (regional, key) = match &command {
        Command::Create(pair) | Command::Update(pair) => (&pair.regional, Some(pair.key.as_str())),
        Command::Delete(name) => (&name.regional, None),
        Command::List(regional) => (regional, None),
    };
    let (region, common) = (regional.region(key), &regional.common);
    let target = common.target.target(environment)?;
    Operator::within(region, target, async |operator| {
        perform(&command, common.json, operator).await
    })
}

async fn perform(command: &Command, json: bool, operator: &Operator) -> Result<Status, Failure> {
    match command {
        Command::Create(pair) => set(operator, "CreateAlias", pair).await?,
        Command::Update(pair) => set(operator, "UpdateAlias", pair).await?,
        Command::Delete(AliasArguments { alias, .. }) => {
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

async fn set(operator: &Operator, operation: &str, pair: &AliasAndKey) -> Result<(), Failure> {
    let AliasAndKey {
        alias,
        key,
        regional,
    } = pair;
    let request = json!({ "AliasName": alias, "TargetKeyId": key });
    operator.call(operation, request).await?;
    print(
        &json!({}),
        &format!("{alias} means {key}"),
        regional.common.json,
    )
}

fn line(alias: &Value) -> String {
    let target = text(alias, "TargetKeyId");
    format!("{target}  {}", output::shown(text(alias, "AliasName")))
}
