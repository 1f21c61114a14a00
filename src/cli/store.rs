//! `keymill store`: the store as a whole.

use crate::backup::frames::End;
use crate::backup::{Folder, Source, Step};
use crate::cli::failure::{Failure, Status};
use crate::cli::operator::{forbid_leaks, streamed};
use crate::cli::output;
use crate::cli::progress::Count;
use crate::cli::target::{OperatorTarget, Target, root_key};
use crate::columns::shown::Counted;
use crate::config::{Config, Environment};
use crate::endpoint::Endpoint;
use crate::keystore::checked::Checked;
use crate::keystore::postgres::DatabaseUrl;
use crate::keystore::reading::{Pages, Place, Reading};
use crate::keystore::record::Corrupt;
use crate::keystore::{Keystore, KeystoreError};
use clap::{Args, Subcommand};
use serde_json::json;
use std::path::PathBuf;

mod copy;
mod upgrade;

/// Findings that are kept for `--json`.
const FINDINGS_KEPT_MAX: usize = 1000;
/// Findings that are printed without `--json`.
const FINDINGS_SHOWN_MAX: usize = 20;

#[derive(Subcommand)]
pub(super) enum Command {
    /// Read every record of a store, authenticate each, and hold all of them to the head: status 0
    /// if the store is whole, 1 if not
    #[command(after_help = "\
Each damaged record is named. Nothing is changed, and a daemon that has the store open goes on serving. With --endpoint the daemon reads and authenticates, so the root key is not needed here.
STORE is another store than that of the configuration, under the same root key: an SQLite file, the folder of a backup, or a database as postgresql://….

Examples:
  keymill store check --dir keymill-dev
  keymill store check /media/safe/keymill-backup --config /etc/keymill/keymill.toml --json")]
    Check(Check),
    /// Copy a store from one machine into a database that nodes share, or from there into a file,
    /// under the same root key
    #[command(after_help = "\
No daemon may have either open. Each record is authenticated on its way and read back, and stays as it is to the byte; the root key is in neither. The audit log of this host is continued: run it there, with the configuration of the node.
A copy that was broken off is not a store: daemons refuse to start on it. The same command goes on with it. What is copied into must be empty, and what was copied is left as it is.

Examples:
  keymill store copy --dir keymill-dev --to postgres://me@/keys?host=/run/postgresql
  keymill store copy --from /var/lib/keymill/keystore.db --config /etc/keymill/keymill.toml --json")]
    Copy(copy::Arguments),
    /// Raise the format of a store that nodes share, once every node knows the new one
    #[command(after_help = "\
Nodes write in the format that the store has, so that two releases can run on one store while nodes are upgraded one by one. When every node runs the new release, this raises the format, while they serve. From then on an older release refuses the store, and there is no way back but a backup. Run twice, it does nothing the second time.
The store of one machine is upgraded by the start of its daemon, which leaves a copy beside it.

Examples:
  keymill store upgrade --config /etc/keymill/keymill.toml
  keymill store upgrade --config /etc/keymill/keymill.toml --format 3 --json")]
    Upgrade(upgrade::Arguments),
}

impl Command {
    /// Whether status 1 is an answer.
    pub(super) fn is_check(&self) -> bool {
        matches!(self, Self::Check(_))
    }
}

#[derive(Args)]
pub(super) struct Check {
    /// Another store, under the same root key
    #[arg(value_name = "STORE", conflicts_with = "endpoint")]
    store: Option<String>,
    #[command(flatten)]
    target: OperatorTarget,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(command: Command, environment: &Environment) -> Result<Status, Failure> {
    match command {
        Command::Check(arguments) => check(&arguments, environment),
        Command::Copy(arguments) => copy::run(&arguments, environment),
        Command::Upgrade(arguments) => upgrade::run(&arguments, environment),
    }
}

fn check(arguments: &Check, environment: &Environment) -> Result<Status, Failure> {
    let target = arguments.target.target(environment)?;
    super::runtime()?.block_on(async {
        match target {
            Target::Store(config) => {
                forbid_leaks();
                let place = named(arguments.store.as_deref(), &config)?;
                of_place(place, &config, arguments).await
            }
            Target::Daemon(Endpoint::Unix(socket)) if arguments.store.is_none() => {
                let chunks = streamed(&socket, "ReadStore").await?;
                let source = Source::of_daemon(chunks).await?;
                let name = format!("unix:{}", socket.display());
                report(source, &name, None, arguments.json).await
            }
            Target::Daemon(Endpoint::Unix(_)) => Err(Failure::usage(
                "another store is read under the root key: name its store with --dir or --config",
            )),
            Target::Daemon(_) => Err(Failure::usage(
                "a store is read through the daemon's Unix socket, --endpoint unix:PATH",
            )),
        }
    })
}

/// The place of the store that was named, or of that of the configuration.
fn named(store: Option<&str>, config: &Config) -> Result<Named, Failure> {
    let shared = config.store.shared();
    let Some(name) = store else {
        return Ok(match shared {
            Some(shared) => Named::own(Place::Database(shared.access)),
            None => Named::own(Place::File(config.store.path.clone())),
        });
    };
    if name.contains("://") {
        let url: DatabaseUrl = name.parse().map_err(Failure::usage)?;
        let access = config.store.access(url);
        return Ok(Named::other(Place::Database(access)));
    }
    let path = PathBuf::from(name);
    if path.is_dir() {
        let (_, file) = Folder::read(&path)?;
        let named = Named::other(Place::File(file));
        return Ok(Named {
            is_backup: true,
            ..named
        });
    }
    Ok(Named::other(Place::File(path)))
}

/// A store.
struct Named {
    place: Place,
    /// Whether it is that of the configuration.
    is_own: bool,
    /// Whether it is in the folder of a backup.
    is_backup: bool,
}

impl Named {
    fn own(place: Place) -> Self {
        Self {
            place,
            is_own: true,
            is_backup: false,
        }
    }

    fn other(place: Place) -> Self {
        Self {
            place,
            is_own: false,
            is_backup: false,
        }
    }
}

async fn of_place(
    Named { place, is_own, .. }: Named,
    config: &Config,
    arguments: &Check,
) -> Result<Status, Failure> {
    let name = place.name();
    let root = root_key(config, &name)?;
    let regions = config.served_regions();
    // What this host has seen is read first: a daemon may move the store meanwhile.
    let seen = match is_own {
        true => Keystore::seen(&config.store.path),
        false => Ok(None),
    };
    let begun = async {
        let reading = Reading::begin(place, Pages::Checked).await?;
        Checked::with_root(reading, &root, &regions)
    };
    match begun.await {
        Ok(checked) => {
            let seen = seen.map_err(|error| error.to_string());
            report(Source::here(checked), &name, Some(seen), arguments.json).await
        }
        // What is wrong with the whole is an answer; that it cannot be read is none.
        Err(KeystoreError::Corrupt { source, .. }) if !is_of_a_version(&source) => {
            print(&name, None, 1, &[format!("it {source}")], arguments.json)
        }
        Err(error @ KeystoreError::Damaged { .. }) => {
            print(&name, None, 1, &[error.to_string()], arguments.json)
        }
        Err(error) => Err(error.into()),
    }
}

/// Whether nothing is wrong, but that this build does not read it.
fn is_of_a_version(source: &Corrupt) -> bool {
    matches!(source, Corrupt::OldFormat(_) | Corrupt::Format(_))
}

/// What this host has seen of the store, or why that is not known.
type Seen = Result<Option<u64>, String>;

async fn report(
    mut source: Source,
    name: &str,
    seen: Option<Seen>,
    json: bool,
) -> Result<Status, Failure> {
    let (mut kept, mut count) = (Vec::new(), 0);
    let mut progress = Count::new("records", json);
    let revision = source.head.revision;
    match seen {
        Some(Ok(Some(seen))) if seen > revision => kept.push(format!(
            "it is at revision {revision}, but this host has seen revision {seen}: an older copy was put in its place"
        )),
        Some(Err(reason)) => kept.push(reason),
        _ => {}
    }
    count += kept.len() as u64;
    let end = loop {
        match source.next().await? {
            Step::Some { records, findings } => {
                progress.add((records.len() + findings.len()) as u64);
                count += findings.len() as u64;
                let room = FINDINGS_KEPT_MAX.saturating_sub(kept.len());
                kept.extend(
                    findings
                        .into_iter()
                        .take(room)
                        .map(|line| format!("it {line}")),
                );
            }
            Step::End(end) => break end,
        }
    };
    progress.end();
    print(name, Some(&end), count, &kept, json)
}

fn print(
    name: &str,
    end: Option<&End>,
    count: u64,
    findings: &[String],
    json: bool,
) -> Result<Status, Failure> {
    let summary = end.map(|end| &end.summary);
    if json {
        output::json(&json!({
            "whole": count == 0,
            "store": name,
            "revision": summary.map(|summary| summary.revision),
            "records": summary.map(|summary| summary.records),
            "kinds": summary.map(|summary| &summary.kinds),
            "digest": end.map(|end| &end.digest),
            "finding_count": count,
            "findings": findings,
        }))?;
    } else {
        for finding in findings.iter().take(FINDINGS_SHOWN_MAX) {
            output::result(&output::shown(finding))?;
        }
        let more = count.saturating_sub(FINDINGS_SHOWN_MAX as u64);
        if more > 0 {
            let listed = FINDINGS_KEPT_MAX;
            output::result(&format!("and {more} more; --json lists the first {listed}"))?;
        }
        let word = if count == 0 { "whole" } else { "not whole" };
        let what = summary.map_or(String::new(), |summary| {
            let records = Counted(summary.records, "record");
            format!(", {records} at revision {}", summary.revision)
        });
        output::result(&format!("{word}: store {}{what}", output::shown(name)))?;
    }
    Ok(if count == 0 {
        Status::Done
    } else {
        Status::Failed
    })
}
