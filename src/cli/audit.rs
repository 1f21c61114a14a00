//! `keymill audit`: whether the audit log is as it was written, from its first group or from an
//! anchor.

use crate::audit::{self, Report};
use crate::cli::failure::{Failure, Status};
use crate::cli::key::print;
use crate::cli::operator::Operator;
use crate::cli::output;
use crate::cli::target::{StoreArguments, Target};
use crate::columns::shown::Counted;
use crate::config::{Config, Environment};
use crate::crypto::entropy::Entropy;
use crate::daemon::OpenError;
use crate::file::open;
use crate::keystore::{AuditHead, Keystore, KeystoreError, RootKey};
use crate::metrics::Metrics;
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::Arc;

mod nodes;

/// Permission bits of an anchor's file: only its owner decides where verification begins.
const ANCHOR_MODE: u32 = 0o600;

#[derive(Subcommand)]
pub(super) enum Command {
    /// Hold every line to the chain and to the head that the store has sealed: status 0 if the log
    /// is whole, 1 if not; with FOLDERs, each of these logs
    #[command(after_help = "\
Files that were moved away must be back in the folder, or --from names an anchor that a run before the move has written. While a daemon runs, its
log is held to the head that the daemon has now; lines behind it that are being written do not count as a fault.
FOLDERs are the logs of a fleet's nodes, or copies of them: each says which node's it is, and is held to the head that the store has sealed for
that node. A copy must reach up to that: seal and copy are at most a minute apart. Nodes whose log was not named are listed.

Examples:
  keymill audit verify --dir keymill-dev --json
  keymill audit verify --config /etc/keymill/keymill.toml --from /var/lib/keymill-anchor --anchor /var/lib/keymill-anchor")]
    Verify(Verify),
    /// Accept that the log begins where it does, in the log itself, and write the anchor from which
    /// it is whole
    #[command(after_help = "\
For a log whose beginning is not here for a reason that you know: the store was restored without it, or its first files are gone. Nothing
else may be wrong with it.

Examples:
  keymill audit acknowledge --dir keymill-dev --anchor keymill-anchor
  keymill audit acknowledge --config /etc/keymill/keymill.toml --anchor /var/lib/keymill-anchor")]
    Acknowledge(Acknowledge),
}

/// The log's files are read, so they are named by their store's configuration.
#[derive(Args)]
struct LogArguments {
    #[command(flatten)]
    store: StoreArguments,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(super) struct Verify {
    /// The folder of a node's log, in the place of that of the configuration
    #[arg(value_name = "FOLDER", conflicts_with_all = ["from", "anchor"])]
    folders: Vec<PathBuf>,
    #[command(flatten)]
    log: LogArguments,
    /// Begin where the anchor in this file says that a run before has ended
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
    /// Write an anchor to this file when the log is whole; keep it apart from the log
    #[arg(long, value_name = "FILE")]
    anchor: Option<PathBuf>,
}

#[derive(Args)]
pub(super) struct Acknowledge {
    #[command(flatten)]
    log: LogArguments,
    /// Write the anchor to this file; keep it apart from the log
    #[arg(long, value_name = "FILE")]
    anchor: PathBuf,
}

pub(super) fn run(command: Command, environment: &Environment) -> Result<Status, Failure> {
    match command {
        Command::Verify(arguments) => verify(&arguments, environment),
        Command::Acknowledge(arguments) => acknowledge(&arguments, environment),
    }
}

fn verify(arguments: &Verify, environment: &Environment) -> Result<Status, Failure> {
    let log = Log::of(&arguments.log.store, environment)?;
    if !arguments.folders.is_empty() {
        return nodes::verify(&log, &arguments.folders, arguments.log.json);
    }
    let from = arguments.from.as_deref().map(|path| log.anchor(path));
    let report = log.verify(from.transpose()?.as_ref())?;
    if let (Some(path), Some(head), true) = (&arguments.anchor, report.head, report.is_sound()) {
        log.write_anchor(path, &head)?;
    }
    print_report(&report, arguments.log.json)
}

fn acknowledge(arguments: &Acknowledge, environment: &Environment) -> Result<Status, Failure> {
    let path = &arguments.anchor;
    let log = Log::of(&arguments.log.store, environment)?;
    let report = log.verify(None)?;
    let mut findings = report.findings.iter();
    if report.is_sound() {
        let said = "there is nothing to acknowledge: the log is whole from its first group";
        return Err(Failure::failed(said));
    }
    if let Some(finding) = findings.find(|finding| !finding.fault.is_of_the_beginning()) {
        return Err(Failure::failed(format!(
            "only a log's beginning can be acknowledged, and this is wrong beside it: {finding}"
        )));
    }
    let Some(before) = report.begins_after else {
        return Err(Failure::failed("the log does not say where it begins"));
    };
    let head = before.to_json();
    let request = json!({ "Log": head["Log"], "Group": head["Group"] });
    Operator::with(
        Target::Store(Box::new(log.config.clone())),
        async |operator| operator.call("AcknowledgeAuditLog", request).await,
    )?;
    log.write_anchor(path, &before)?;
    let (group, path) = (before.group, path.display());
    let line =
        format!("acknowledged: the log begins after group {group}; verify it with --from {path}");
    print(&head_json(&before), &line, arguments.log.json)?;
    Ok(Status::Done)
}

/// A log, and what it is held to.
struct Log {
    config: Config,
    root: RootKey,
}

impl Log {
    fn of(store: &StoreArguments, environment: &Environment) -> Result<Self, Failure> {
        let Some(config) = store.config(environment)? else {
            return Err(Failure::usage(
                "name the store of the log with --dir or --config: the log's files are read",
            ));
        };
        let root = config.root_key_file().read();
        let root = root.map_err(OpenError::from)?;
        Ok(Self { config, root })
    }

    fn verify(&self, from: Option<&AuditHead>) -> Result<Report, Failure> {
        let head = super::runtime()?.block_on(head(&self.config, &self.root))?;
        let (path, key) = (&self.config.audit.path, audit::key(&self.root));
        let report = audit::verify_from(path, &key, head.as_ref(), from);
        report.map_err(|error| Failure::failed(format!("{}: {error}", path.display())))
    }

    fn anchor(&self, path: &Path) -> Result<AuditHead, Failure> {
        let refused =
            |reason: &str| Failure::failed(format!("anchor {}: {reason}", path.display()));
        let line = open::named_text(path, audit::ANCHOR_BYTES_MAX)
            .map_err(|error| refused(&error.to_string()))?;
        audit::read_anchor(&audit::anchor_key(&self.root), &line)
            .ok_or_else(|| refused("it is damaged, or was made with another root key"))
    }

    fn write_anchor(&self, path: &Path, head: &AuditHead) -> Result<(), Failure> {
        let line = audit::anchor(&audit::anchor_key(&self.root), head);
        let written = open::write_whole(path, line.as_bytes(), ANCHOR_MODE);
        written.map_err(|error| Failure::failed(format!("anchor {}: {error}", path.display())))
    }
}

/// The head that the log must have at least: of the daemon that has the store, else as the store
/// has it.
async fn head(config: &Config, root: &RootKey) -> Result<Option<AuditHead>, Failure> {
    let metrics = Arc::new(Metrics::new().map_err(Failure::failed)?);
    let (path, regions) = (&config.store.path, config.served_regions());
    let entropy = Arc::new(Entropy::os());
    let opened = match config.store.shared() {
        Some(shared) => shared.open(root, regions, entropy, metrics).await,
        None => Keystore::open(path, root, regions, entropy, metrics).await,
    };
    match opened {
        Ok(store) => {
            let head = store.snapshot().audit_head(store.node());
            store.close().await?;
            Ok(head)
        }
        Err(KeystoreError::InUse { .. }) => {
            let daemon = Operator::of_daemon(config.listen.socket.clone());
            let answer = daemon.call("DescribeAuditLog", json!({})).await?;
            let head = AuditHead::from_json(&answer);
            head.map(Some)
                .ok_or_else(|| Failure::unavailable("the daemon is of another version"))
        }
        Err(error) => Err(error.into()),
    }
}

/// A head under the names of the command line's own output.
fn head_json(head: &AuditHead) -> Value {
    let head = head.to_json();
    json!({ "log": head["Log"], "group": head["Group"], "mac": head["Mac"] })
}

/// What was found, under the names of the command line's own output.
fn report_json(report: &Report) -> Value {
    let findings: Vec<String> = report.findings.iter().map(ToString::to_string).collect();
    json!({
        "whole": report.is_sound(),
        "files": report.files,
        "groups": report.groups,
        "records": report.records,
        "head": report.head.as_ref().map_or(Value::Null, head_json),
        "finding_count": findings.len(),
        "findings": findings,
    })
}

fn summary(report: &Report) -> String {
    format!(
        "{} in {} of {}",
        Counted(report.records, "record"),
        Counted(report.groups, "group"),
        Counted(report.files, "file")
    )
}

fn print_report(report: &Report, json: bool) -> Result<Status, Failure> {
    let (answer, summary) = (report_json(report), summary(report));
    if report.is_sound() {
        print(&answer, &format!("whole: {summary}"), json)?;
        return Ok(Status::Done);
    }
    if json {
        print(&answer, "", true)?;
    } else {
        let mut lines = report.findings.iter().map(ToString::to_string);
        lines.try_for_each(|line| output::result(&output::shown(&line)))?;
        output::result(&format!("not whole: {summary}"))?;
    }
    Ok(Status::Failed)
}
