//! `keymill store upgrade`: the format of a store, raised when every node knows it.

use crate::cli::failure::{Failure, Status};
use crate::cli::operator::forbid_leaks;
use crate::cli::output;
use crate::cli::target::{StoreArguments, root_key};
use crate::config::{Config, Environment};
use crate::crypto::entropy::Entropy;
use crate::keystore::raising::{self, Raised};
use crate::keystore::record::FORMAT;
use crate::keystore::{Keystore, KeystoreError, RootKey};
use crate::metrics::Metrics;
use clap::Args;
use serde_json::json;
use std::sync::Arc;

#[derive(Args)]
pub(in crate::cli) struct Arguments {
    #[command(flatten)]
    store: StoreArguments,
    /// The format to raise it to [default: the newest that this keymill knows]
    #[arg(long, value_name = "NUMBER", default_value_t = FORMAT, hide_default_value = true, value_parser = clap::value_parser!(u8).range(1..=i64::from(FORMAT)))]
    format: u8,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments, environment: &Environment) -> Result<Status, Failure> {
    let Some(config) = arguments.store.config(environment)? else {
        return Err(Failure::usage("name the store with --dir or --config"));
    };
    forbid_leaks();
    let root = root_key(&config, &config.store.shown())?;
    let raised = crate::cli::runtime()?.block_on(async {
        match config.store.shared() {
            Some(shared) => {
                let entropy = Entropy::os();
                let raised = shared.raise(arguments.format, &root, &entropy).await;
                raised.map_err(Failure::from)
            }
            None => of_file(&config, &root, arguments.format).await,
        }
    })?;
    let Raised {
        before,
        format,
        revision,
    } = raised;
    let store = config.store.shown();
    if arguments.json {
        output::json(&json!({
            "store": store,
            "before": before,
            "format": format,
            "revision": revision,
        }))?;
        return Ok(Status::Done);
    }
    let store = output::shown(&store);
    output::result(&match before == format {
        true => format!("store {store} is of format {format} already"),
        false => format!("store {store} was of format {before} and is of format {format} now"),
    })?;
    Ok(Status::Done)
}

/// A store of one machine has one format, to which its opening raises it.
async fn of_file(config: &Config, root: &RootKey, asked: u8) -> Result<Raised, Failure> {
    let path = &config.store.path;
    let found = raising::found(path, root).await?;
    if asked < found.format {
        return Err(KeystoreError::Downgrade {
            store: config.store.shown(),
            found: found.format,
            asked,
        }
        .into());
    }
    if asked < FORMAT {
        return Err(Failure::usage(format!(
            "the store of one machine goes to the newest format, {FORMAT}, when it is opened: leave --format out"
        )));
    }
    if found.format == FORMAT {
        return Ok(found);
    }
    let metrics = Arc::new(Metrics::new().map_err(Failure::failed)?);
    let (regions, entropy) = (config.served_regions(), Arc::new(Entropy::os()));
    let store = Keystore::open(path, root, regions, entropy, metrics).await?;
    let revision = store.revision();
    store.close().await?;
    Ok(Raised {
        format: FORMAT,
        revision,
        ..found
    })
}
