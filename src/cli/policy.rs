//! `keymill policy`: what policies decide, and whether they are sound.

use crate::cli::context::{no_columns, pair};
use crate::cli::failure::{Failure, Status};
use crate::cli::key::{RegionalArguments, print};
use crate::cli::operator::Operator;
use crate::cli::output::{self, text};
use crate::config::Environment;
use crate::file::open;
use crate::policy::{KeyPolicy, PolicyDocument, TrustPolicy, unmatched};
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// Bytes of a policy file at most; the daemon takes less.
const POLICY_BYTES_MAX: u64 = 64 << 10;

#[derive(Subcommand)]
pub(super) enum Command {
    /// Say what would be decided, and by which statement: status 0 if it is allowed, 1 if it is
    /// denied
    #[command(after_help = "Examples:\n  \
        keymill policy check --principal arn:aws:iam::111122223333:user/backup --action kms:Decrypt --key alias/containers --constant tenant=7 --dir keymill-dev\n  \
        keymill policy check --principal arn:aws:sts::111122223333:assumed-role/batch/nightly --action kms:Decrypt --key alias/containers --source-ip 10.0.0.7 --secure-transport --endpoint unix:/run/keymill/keymill.sock --json")]
    Check(Box<Check>),
    /// Say whether a file holds a sound identity policy, key policy or trust policy: well-formed,
    /// and without actions, condition keys and resources that do not exist
    #[command(after_help = "Examples:\n  \
        keymill policy validate provisioner.json --region eu-central-1\n  \
        keymill policy validate trust.json --trust-policy --json")]
    Validate(Validate),
}

#[derive(Args)]
pub(super) struct Check {
    /// The ARN of a user, a role, a role's session or an account's root
    #[arg(long, value_name = "ARN")]
    principal: String,
    /// Such as kms:Decrypt
    #[arg(long, value_name = "ACTION")]
    action: String,
    /// Key id or alias in the principal's account, key ARN, or alias ARN; left out for actions on
    /// no key
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// A pair of the encryption context; may be given more than once
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    constant: Vec<(String, String)>,
    /// Names columns in other commands; here it is refused with a hint.
    #[arg(long = "context", hide = true, value_parser = no_columns())]
    _context: Option<String>,
    /// Where the request comes from; without it, from a Unix socket, which is secure transport
    #[arg(long, value_name = "ADDRESS")]
    source_ip: Option<IpAddr>,
    /// What is measured of the request's Recipient, in hex, such as PCR1=0102…; may be given more
    /// than once
    #[arg(long, value_name = "NAME=HEX", value_parser = pair)]
    recipient_attestation: Vec<(String, String)>,
    /// The request comes over TLS
    #[arg(long)]
    secure_transport: bool,
    #[command(flatten)]
    regional: RegionalArguments,
}

#[derive(Args)]
pub(super) struct Validate {
    /// The file
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// It is a key policy
    #[arg(long)]
    key_policy: bool,
    /// It is the trust policy of a role
    #[arg(long, conflicts_with = "key_policy")]
    trust_policy: bool,
    /// The daemon's Region: resources of others match nothing
    #[arg(long, value_name = "REGION")]
    region: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(command: Command, environment: &Environment) -> Result<Status, Failure> {
    match command {
        Command::Check(check) => {
            let regional = &check.regional;
            let region = regional.region(check.key.as_deref());
            let target = regional.common.target.target(environment)?;
            Operator::within(region, target, async |operator| {
                self::check(&check, operator).await
            })
        }
        Command::Validate(validate) => self::validate(&validate),
    }
}

async fn check(check: &Check, operator: &Operator) -> Result<Status, Failure> {
    let context = by_name(&check.constant, "--constant")?;
    let measured = by_name(&check.recipient_attestation, "--recipient-attestation")?;
    let mut request = json!({
        "Principal": check.principal,
        "Action": check.action,
        "EncryptionContext": context,
    });
    if check.secure_transport {
        request["SecureTransport"] = true.into();
    }
    if !measured.is_empty() {
        request["RecipientAttestation"] = json!(measured);
    }
    if let Some(key) = &check.key {
        request["KeyId"] = key.as_str().into();
    }
    if let Some(address) = check.source_ip {
        request["SourceIp"] = address.to_string().into();
    }
    let answer = operator.call("CheckPolicy", request).await?;
    let line = sentence(&answer);
    let members = ["Allowed", "By", "Under", "Reason"].into_iter();
    let given = members.filter(|member| !answer[member].is_null());
    let ours = given
        .map(|member| (member.to_ascii_lowercase(), answer[member].clone()))
        .collect();
    print(
        &Value::Object(ours),
        &output::shown(&line),
        check.regional.common.json,
    )?;
    Ok(match answer["Allowed"] {
        Value::Bool(true) => Status::Done,
        _ => Status::Failed,
    })
}

fn by_name<'a>(
    pairs: &'a [(String, String)],
    flag: &str,
) -> Result<BTreeMap<&'a str, &'a str>, Failure> {
    let mut named = BTreeMap::new();
    for (name, value) in pairs {
        if named.insert(name.as_str(), value.as_str()).is_some() {
            return Err(Failure::usage(format!("{flag}: a name occurs twice")));
        }
    }
    Ok(named)
}

fn sentence(answer: &Value) -> String {
    let (by, under) = (text(answer, "By"), text(answer, "Under"));
    match (&answer["Allowed"], by, under) {
        (Value::Bool(true), by, "") => format!("allowed by {by}"),
        (Value::Bool(true), by, under) => format!("allowed by {by}, under {under}"),
        (_, "", _) => format!("denied {}", text(answer, "Reason")),
        (_, by, _) => format!("denied by {by}"),
    }
}

fn validate(validate: &Validate) -> Result<Status, Failure> {
    let policy = read(&validate.file, "")?;
    let region = validate.region.as_deref();
    let matches = |_| unmatched::check(&policy, region);
    let (kind, parsed) = if validate.key_policy {
        (
            "key policy",
            KeyPolicy::parse(&policy).map(drop).and_then(matches),
        )
    } else if validate.trust_policy {
        // Its grammar takes nothing that does not exist.
        ("trust policy", TrustPolicy::parse(&policy).map(drop))
    } else {
        let parsed = PolicyDocument::parse(&policy).map(drop);
        ("identity policy", parsed.and_then(matches))
    };
    let file = validate.file.display();
    match parsed {
        Ok(()) => {
            let line = format!("{file} is a sound {kind}");
            print(&json!({ "valid": true }), &line, validate.json)?;
            Ok(Status::Done)
        }
        Err(error) => {
            let reason = error.to_string();
            let answer = json!({ "valid": false, "reason": reason });
            let line = format!("{file}: {}", output::shown(&reason));
            print(&answer, &line, validate.json)?;
            Ok(Status::Failed)
        }
    }
}

/// The text of a policy file; `flag` says how it was named.
pub(super) fn read(path: &Path, flag: &str) -> Result<String, Failure> {
    open::named_text(path, POLICY_BYTES_MAX)
        .map_err(|error| Failure::usage(format!("{flag}{}: {error}", path.display())))
}
