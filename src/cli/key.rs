//! `keymill key`: the KMS operations on keys, as the operator.

use crate::cli::failure::{Failure, Status};
use crate::cli::operator::Operator;
use crate::cli::output::{self, text};
use crate::cli::target::OperatorTarget;
use crate::config::Environment;
use crate::key::arn::Arn;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

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
    Describe(KeyArguments),
    /// List all keys
    #[command(after_help = "Examples:\n  \
        keymill key list --dir keymill-dev\n  \
        keymill key list --region us-west-2 --config /etc/keymill/keymill.toml --json")]
    List(RegionalArguments),
    /// Let a key be used again
    #[command(after_help = "Examples:\n  \
        keymill key enable 1234abcd-12ab-34cd-56ef-1234567890ab --dir keymill-dev\n  \
        keymill key enable 1234abcd-12ab-34cd-56ef-1234567890ab --config /etc/keymill/keymill.toml")]
    Enable(KeyArguments),
    /// Refuse every use of a key until it is enabled
    #[command(after_help = "Examples:\n  \
        keymill key disable 1234abcd-12ab-34cd-56ef-1234567890ab --dir keymill-dev\n  \
        keymill key disable 1234abcd-12ab-34cd-56ef-1234567890ab --config /etc/keymill/keymill.toml")]
    Disable(KeyArguments),
    /// Give a key a new generation of its material; blobs from before still open
    #[command(
        after_help = "Tables are then moved to the new generation with `keymill rewrap`.\n\n\
        Examples:\n  \
        keymill key rotate alias/containers --dir keymill-dev\n  \
        keymill key rotate 1234abcd-12ab-34cd-56ef-1234567890ab --endpoint unix:/run/keymill/keymill.sock"
    )]
    Rotate(KeyArguments),
    /// Have a key destroyed after a waiting period, and with it every data key wrapped under it
    #[command(after_help = "Examples:\n  \
        keymill key schedule-deletion 1234abcd-12ab-34cd-56ef-1234567890ab --dir keymill-dev\n  \
        keymill key schedule-deletion 1234abcd-12ab-34cd-56ef-1234567890ab --days 7 --yes --dir keymill-dev")]
    ScheduleDeletion(ScheduleDeletion),
    /// Keep a key that waits for its deletion; it comes back disabled
    #[command(after_help = "Examples:\n  \
        keymill key cancel-deletion 1234abcd-12ab-34cd-56ef-1234567890ab --dir keymill-dev\n  \
        keymill key cancel-deletion 1234abcd-12ab-34cd-56ef-1234567890ab --config /etc/keymill/keymill.toml")]
    CancelDeletion(KeyArguments),
}

#[derive(Args)]
pub(super) struct Create {
    /// What the key is for, at most 8192 characters
    #[arg(long, value_name = "TEXT", default_value = "")]
    description: String,
    #[command(flatten)]
    regional: RegionalArguments,
}

#[derive(Args)]
pub(super) struct KeyArguments {
    /// Key id or ARN; describe and rotate also take an alias
    #[arg(value_name = "KEY")]
    key: String,
    #[command(flatten)]
    regional: RegionalArguments,
}

#[derive(Args)]
pub(super) struct ScheduleDeletion {
    #[command(flatten)]
    target: KeyArguments,
    /// Days until then, 7 to 30
    #[arg(long, value_name = "DAYS", default_value_t = 30)]
    days: u32,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

/// Where, in which Region, and how to print.
#[derive(Args)]
pub(super) struct RegionalArguments {
    /// One of the daemon's Regions [default: that of an ARN, or the home Region]
    #[arg(long, value_name = "REGION", value_parser = region)]
    pub(super) region: Option<String>,
    #[command(flatten)]
    pub(super) common: OperatorArguments,
}

impl RegionalArguments {
    /// The Region that was named, or that of a key which is named by an ARN.
    pub(super) fn region<'a>(&'a self, key: Option<&'a str>) -> Option<&'a str> {
        let of_key = || key.and_then(Arn::split).map(|arn| arn.region);
        self.region.as_deref().or_else(of_key)
    }
}

/// A Region's name, which is a part of a path.
fn region(text: &str) -> Result<String, &'static str> {
    let is_part = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    match text.bytes().all(is_part) && !text.is_empty() {
        true => Ok(text.to_owned()),
        false => Err("a Region is of a-z, 0-9 and -"),
    }
}

/// Where, and how to print.
#[derive(Args)]
pub(super) struct OperatorArguments {
    #[command(flatten)]
    pub(super) target: OperatorTarget,
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
    let (regional, key) = match &command {
        Command::Create(create) => (&create.regional, None),
        Command::List(regional) => (regional, None),
        Command::ScheduleDeletion(ScheduleDeletion { target, .. })
        | Command::Describe(target)
        | Command::Enable(target)
        | Command::Disable(target)
        | Command::Rotate(target)
        | Command::CancelDeletion(target) => (&target.regional, Some(target.key.as_str())),
    };
    let (region, common) = (regional.region(key), &regional.common);
    let target = common.target.target(environment)?;
    Operator::within(region, target, async |operator| {
        perform(&command, common.json, operator).await
    })
}

async fn perform(command: &Command, json: bool, operator: &Operator) -> Result<Status, Failure> {
    match command {
        Command::Create(create) => {
            let request = json!({ "Description": create.description });
            let answer = operator.call("CreateKey", request).await?;
            print_metadata(&answer, json)?;
        }
        Command::Describe(target) => {
            let request = json!({ "KeyId": target.key });
            let answer = operator.call("DescribeKey", request).await?;
            print_metadata(&answer, json)?;
        }
        Command::List(_) => {
            let keys = list(operator).await?;
            if json {
                output::json(&json!({ "Keys": keys }))?;
            } else {
                keys.iter().try_for_each(|key| output::result(&line(key)))?;
            }
        }
        Command::Enable(target) => change(operator, "EnableKey", target, "enabled", json).await?,
        Command::Disable(target) => {
            change(operator, "DisableKey", target, "disabled", json).await?;
        }
        Command::Rotate(target) => {
            // The operation takes no alias, but users know a key by its alias.
            let request = json!({ "KeyId": target.key });
            let described = operator.call("DescribeKey", request).await?;
            let request = json!({ "KeyId": described["KeyMetadata"]["Arn"] });
            let answer = operator.call("RotateKeyOnDemand", request).await?;
            let line = format!("{} has a new generation", text(&answer, "KeyId"));
            print(&answer, &line, json)?;
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
    target: &KeyArguments,
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

fn print_metadata(answer: &Value, json: bool) -> Result<(), Failure> {
    let metadata = &answer["KeyMetadata"];
    let rows = [
        ("key id", text(metadata, "KeyId").to_owned()),
        ("ARN", text(metadata, "Arn").to_owned()),
        ("state", text(metadata, "KeyState").to_owned()),
        ("spec", text(metadata, "KeySpec").to_owned()),
        ("usage", text(metadata, "KeyUsage").to_owned()),
        ("description", text(metadata, "Description").to_owned()),
    ];
    print(answer, &output::columns(&rows), json)
}

/// All keys, as `ListKeys` has them, each with its state, description and aliases.
async fn list(operator: &Operator) -> Result<Vec<Value>, Failure> {
    let keys = operator.list("DescribeKeys", "Keys").await?;
    let listed = |mut key: Value| {
        let mut listed = json!({ "KeyArn": key["Arn"].take() });
        for member in ["KeyId", "KeyState", "Description", "Aliases"] {
            listed[member] = key[member].take();
        }
        listed
    };
    Ok(keys.into_iter().map(listed).collect())
}

/// A key's id, state, aliases and description.
fn line(key: &Value) -> String {
    let aliases: Vec<_> = key["Aliases"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let shown_aliases = if aliases.is_empty() {
        "-".to_owned()
    } else {
        aliases.join(",")
    };
    let (id, state) = (text(key, "KeyId"), text(key, "KeyState"));
    let (aliases, description) = (
        output::shown(&shown_aliases),
        output::shown(text(key, "Description")),
    );
    let line = format!("{id}  {state:15}  {aliases}  {description}");
    line.trim_end().to_owned()
}
