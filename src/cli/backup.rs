//! `keymill backup`: every sealed record of a store in a folder, verified.

use crate::backup::{self, Folder, Manifest, Source};
use crate::cli::failure::{Failure, Status};
use crate::cli::operator::{Operator, forbid_leaks, streamed};
use crate::cli::output;
use crate::cli::progress::Count;
use crate::cli::target::{OperatorTarget, Target};
use crate::clock::Clock;
use crate::columns::shown::Counted;
use crate::config::{Config, Environment};
use crate::daemon::OpenError;
use crate::endpoint::Endpoint;
use crate::key::regions::Regions;
use crate::keystore::checked::Checked;
use crate::keystore::last_backup::Backup;
use crate::keystore::reading::{Pages, Place, Reading};
use crate::keystore::{KeystoreError, RootKey, StoreLock};
use clap::Args;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use tokio::net::UnixStream;

#[derive(Args)]
#[command(after_help = "\
The folder is a backup when manifest.json is in it, which is written last: after everything was written, and read back and authenticated. It has no root key, without which nothing in it opens: keep a copy of that elsewhere, once.
While a daemon has the store, the daemon hands it out as it is at that moment, and goes on serving. With --endpoint the root key is not needed here, and what the daemon authenticated is compared by its digest. Only the user that the daemon runs as may do so.
The audit log is not in it: ship its files by themselves.

Examples:
  keymill backup --dir keymill-dev --out keymill-backup
  keymill backup --endpoint unix:/run/keymill/keymill.sock --out /media/safe/keymill-2026-01-01 --json")]
pub(super) struct Arguments {
    #[command(flatten)]
    target: OperatorTarget,
    /// A folder that is empty or does not exist yet
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: Arguments, environment: &Environment) -> Result<Status, Failure> {
    let target = arguments.target.target(environment)?;
    let manifest = super::runtime()?.block_on(async {
        match target {
            Target::Store(config) => {
                forbid_leaks();
                of_store(&config, &arguments).await
            }
            Target::Daemon(Endpoint::Unix(socket)) => {
                let manifest = of_daemon(&socket, &arguments, None).await?;
                recorded_by_daemon(&socket, &manifest).await?;
                Ok(manifest)
            }
            Target::Daemon(_) => Err(Failure::usage(
                "a backup is taken through the daemon's Unix socket, --endpoint unix:PATH",
            )),
        }
    })?;
    let out = arguments.out.display();
    if arguments.json {
        let mut told = serde_json::to_value(&manifest).map_err(Failure::failed)?;
        told["out"] = json!(arguments.out);
        output::json(&told)?;
    } else {
        let records = Counted(manifest.summary.records, "record");
        let revision = manifest.summary.revision;
        output::result(&format!(
            "{out}: {records} of revision {revision}, authenticated by the {}",
            manifest.verified_by
        ))?;
        output::notice(
            "The root key is not in it, and nothing in it opens without: keep its own copy elsewhere.",
        );
    }
    Ok(Status::Done)
}

/// Of a store whose root key is at hand.
async fn of_store(config: &Config, arguments: &Arguments) -> Result<Manifest, Failure> {
    let root = config.root_key_file().read();
    let root = root.map_err(OpenError::from)?;
    let regions = config.served_regions();
    let path = &config.store.path;
    if let Some(shared) = config.store.shared() {
        let place = Place::Database(shared.access);
        let manifest = of_place(place, &root, &regions, arguments).await?;
        recorded_here(path, &manifest)?;
        return Ok(manifest);
    }
    if !path.exists() {
        let path = path.clone();
        return Err(KeystoreError::Absent { path }.into());
    }
    let lock = match StoreLock::acquire(path) {
        Ok(lock) => lock,
        Err(error @ KeystoreError::InUse { .. }) => {
            let socket = &config.listen.socket;
            if UnixStream::connect(socket).await.is_err() {
                return Err(error.into());
            }
            let manifest = of_daemon(socket, arguments, Some((&root, &regions))).await?;
            recorded_by_daemon(socket, &manifest).await?;
            return Ok(manifest);
        }
        Err(error) => return Err(error.into()),
    };
    let place = Place::File(path.clone());
    let manifest = of_place(place, &root, &regions, arguments).await?;
    recorded_here(path, &manifest)?;
    drop(lock);
    Ok(manifest)
}

async fn of_place(
    place: Place,
    root: &RootKey,
    regions: &Regions,
    arguments: &Arguments,
) -> Result<Manifest, Failure> {
    let reading = Reading::begin(place, Pages::Checked).await?;
    let source = Source::here(Checked::with_root(reading, root, regions)?);
    written(source, Some((root, regions)), arguments).await
}

async fn of_daemon(
    socket: &Path,
    arguments: &Arguments,
    root: Option<(&RootKey, &Regions)>,
) -> Result<Manifest, Failure> {
    let source = Source::of_daemon(streamed(socket, "ReadStore").await?).await?;
    written(source, root, arguments).await
}

async fn written(
    source: Source,
    root: Option<(&RootKey, &Regions)>,
    arguments: &Arguments,
) -> Result<Manifest, Failure> {
    let folder = Folder::begin(&arguments.out)?;
    let mut progress = Count::new("records", arguments.json);
    let now = Clock::system().now();
    let written = backup::write(source, &folder, root, now, |done| progress.to(done)).await;
    progress.end();
    match written {
        Ok(manifest) => Ok(manifest),
        Err(error) => {
            folder.abandon();
            Err(error.into())
        }
    }
}

fn recorded_here(path: &Path, manifest: &Manifest) -> Result<(), Failure> {
    let backup = Backup {
        unix_seconds: manifest.made_at_unix_seconds,
        revision: manifest.summary.revision,
    };
    Ok(backup.record(path)?)
}

/// The daemon's metric has the time of this backup from now on.
async fn recorded_by_daemon(socket: &Path, manifest: &Manifest) -> Result<(), Failure> {
    let request: Value = json!({ "Revision": manifest.summary.revision });
    let daemon = Operator::of_daemon(socket.to_owned());
    let told = daemon.call("RecordBackup", request).await;
    told.map(drop).map_err(|failure| Failure {
        message: format!(
            "the backup is whole, and the daemon could not note it: {}",
            failure.message
        ),
        ..failure
    })
}
