//! `keymill store copy`: a store from one machine to a database that nodes share, or back.

use crate::cli::failure::{Failure, Status};
use crate::cli::operator::forbid_leaks;
use crate::cli::output;
use crate::cli::progress::Count;
use crate::cli::store::named;
use crate::cli::target::{StoreArguments, root_key};
use crate::columns::shown::Counted;
use crate::config::{Config, Environment};
use crate::crypto::entropy::Entropy;
use crate::keystore::RootKey;
use crate::keystore::copy::{Copied, Copy, Phase, Way};
use crate::keystore::reading::Place;
use clap::Args;
use serde_json::json;

#[derive(Args)]
pub(in crate::cli) struct Arguments {
    /// An SQLite file, the folder of a backup, or a database as postgresql://… [default: the store
    /// of the configuration]
    #[arg(long, value_name = "STORE", required_unless_present = "to")]
    from: Option<String>,
    /// A database that is empty, or an SQLite file that is not there [default: the store of the
    /// configuration]
    #[arg(long, value_name = "STORE")]
    to: Option<String>,
    #[command(flatten)]
    store: StoreArguments,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments, environment: &Environment) -> Result<Status, Failure> {
    let Some(config) = arguments.store.config(environment)? else {
        return Err(Failure::usage(
            "name the root key of both stores with the --dir or --config of one of them",
        ));
    };
    let from = named(arguments.from.as_deref(), &config)?;
    let to = named(arguments.to.as_deref(), &config)?;
    let (from_name, to_name) = (from.place.name(), to.place.name());
    let way = match (from.place, to.place) {
        (Place::File(file), Place::Database(to)) => Way::IntoDatabase {
            from: file,
            is_backup: from.is_backup,
            to,
        },
        (Place::Database(from), Place::File(to)) => Way::IntoFile { from, to },
        (Place::File(_), Place::File(_)) => {
            return Err(Failure::usage(
                "a store is copied from a file into a database, or back: to have a file of it elsewhere, use keymill backup and restore",
            ));
        }
        (Place::Database(_), Place::Database(_)) => {
            return Err(Failure::usage(
                "a store is copied from a file into a database, or back: to have a database of it elsewhere, use pg_dump and pg_restore",
            ));
        }
        #[cfg(test)]
        (Place::Memory(_), _) | (_, Place::Memory(_)) => {
            return Err(Failure::usage("only tests have stores in memory"));
        }
    };
    forbid_leaks();
    let root = root_key(&config, &from_name)?;
    let copied = carry_out(way, &root, &config, arguments.json)?;
    print(&from_name, &to_name, &copied, arguments.json)?;
    Ok(Status::Done)
}

fn carry_out(way: Way, root: &RootKey, config: &Config, json: bool) -> Result<Copied, Failure> {
    let copy = Copy {
        way,
        host: &config.store.path,
        root,
        regions: &config.served_regions(),
        entropy: &Entropy::os(),
    };
    let mut copying = Count::new("records copied", json);
    let mut verifying = Count::new("records read back", json);
    let progress = &mut |phase, done| match phase {
        Phase::Copying => copying.to(done),
        Phase::Verifying => verifying.to(done),
    };
    let copied = crate::cli::runtime()?.block_on(copy.run(progress));
    copying.end();
    verifying.end();
    Ok(copied?)
}

fn print(from: &str, to: &str, copied: &Copied, json: bool) -> Result<(), Failure> {
    if json {
        return output::json(&json!({
            "from": from,
            "to": to,
            "records": copied.records,
            "kinds": copied.source.kinds,
            "written": copied.written,
            "source_revision": copied.source.revision,
            "revision": copied.revision,
            "node": copied.node,
        }));
    }
    let (records, revision) = (Counted(copied.records, "record"), copied.revision);
    output::result(&format!(
        "copied: {records} of {} to {}, which goes on at revision {revision}",
        output::shown(from),
        output::shown(to)
    ))?;
    output::notice(
        "The store that was copied is as it was: start no daemon on it again, or there are two that differ.",
    );
    Ok(())
}
