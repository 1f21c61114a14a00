//! `keymill audit`: whether the audit log is what was written.

use crate::audit::{self, Report};
use crate::cli::failure::{Failure, Status};
use crate::cli::key::{Listing, print};
use crate::cli::operator::Operator;
use crate::cli::output;
use crate::config::{Config, Environment};
use crate::crypto::entropy::Entropy;
use crate::daemon::OpenError;
use crate::keystore::{AuditHead, Keystore, KeystoreError, RootKey};
use crate::metrics::Metrics;
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use std::sync::Arc;

#[derive(Subcommand)]
pub(super) enum Command {
    /// Hold every line to the chain and to the head that the store has sealed: status 0 if the log is whole, 1 if not
    #[command(after_help = "\
Files that were moved away must be back in the folder. While a daemon runs, its log is held to the head that the daemon has now; lines behind it
that are being written are no finding.

Examples:
  keymill audit verify --dir keymill-dev
  keymill audit verify --config /etc/keymill/keymill.toml --json")]
    Verify(Verify),
}

#[derive(Args)]
pub(super) struct Verify {
    #[command(flatten)]
    at: Listing,
}

pub(super) fn run(command: Command, environment: &Environment) -> Result<Status, Failure> {
    let Command::Verify(Verify { at }) = command;
    let Some(config) = at.place.config(environment)? else {
        return Err(Failure::usage(
            "the log's files are read: name them with --dir or --config",
        ));
    };
    let root = RootKey::read(&config.store.root_key).map_err(OpenError::from)?;
    let head = super::runtime()?.block_on(head(&config, &root))?;
    let path = &config.audit.path;
    let report = audit::verify(path, &audit::key(&root), head.as_ref());
    let report = report.map_err(|error| Failure::failed(format!("{}: {error}", path.display())))?;
    tell(&report, at.json)
}

/// The head that the log must have at least: of the daemon that has the store, else as the store has it.
async fn head(config: &Config, root: &RootKey) -> Result<Option<AuditHead>, Failure> {
    let metrics = Arc::new(Metrics::new().map_err(Failure::failed)?);
    let (path, region) = (&config.store.path, config.arn_region());
    match Keystore::open(path, root, region, Arc::new(Entropy::os()), metrics).await {
        Ok(store) => {
            let head = store.snapshot().audit_head;
            store.close().await?;
            Ok(head)
        }
        Err(KeystoreError::InUse { .. }) => {
            let daemon = Operator::Daemon(config.listen.socket.clone());
            let answer = daemon.call("DescribeAuditLog", json!({})).await?;
            let head = AuditHead::from_json(&answer);
            head.map(Some)
                .ok_or_else(|| Failure::unavailable("the daemon is of another version"))
        }
        Err(error) => Err(error.into()),
    }
}

fn tell(report: &Report, json: bool) -> Result<Status, Failure> {
    let findings: Vec<String> = report.findings.iter().map(ToString::to_string).collect();
    let whole = findings.is_empty();
    let (files, groups, records) = (report.files, report.groups, report.records);
    let answer = json!({
        "Whole": whole,
        "Files": files,
        "Groups": groups,
        "Records": records,
        "Head": report.head.as_ref().map_or(Value::Null, AuditHead::to_json),
        "Findings": findings,
    });
    let summary = format!("{records} records in {groups} groups of {files} files");
    if whole {
        print(&answer, &format!("whole: {summary}"), json)?;
        return Ok(Status::Done);
    }
    if json {
        print(&answer, "", true)?;
    } else {
        let mut lines = findings.iter().map(|line| output::shown(line));
        lines.try_for_each(|line| output::result(&line))?;
        output::result(&format!("not whole: {summary}"))?;
    }
    Ok(Status::Failed)
}
