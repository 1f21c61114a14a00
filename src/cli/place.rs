//! Which store a command works on, or which daemon.

use crate::bulk::Endpoint;
use crate::cli::failure::Failure;
use crate::config::{Config, Environment};
use clap::Args;
use std::path::{Path, PathBuf};

/// The configuration file in a folder of `keymill dev`.
pub(super) const FILE_IN_FOLDER: &str = "keymill.toml";

/// A store or a daemon; exactly one is named.
#[derive(Args, Clone)]
#[group(required = true, multiple = false)]
pub struct Place {
    /// The folder of a `keymill dev`
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// The configuration file of a `keymill serve`
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// A running daemon: unix:PATH (export, provision, rewrap and verify also take http://HOST:PORT
    /// and https://HOST:PORT)
    #[arg(long, value_name = "ENDPOINT")]
    pub endpoint: Option<Endpoint>,
}

impl Place {
    /// The configuration of a store; `None` when a daemon is named.
    ///
    /// # Errors
    /// [`Failure`] with every mistake.
    pub fn config(&self, environment: &Environment) -> Result<Option<Config>, Failure> {
        let file = match (&self.dir, &self.config) {
            (Some(dir), _) => file_in(dir)?,
            (None, Some(file)) => file.clone(),
            (None, None) => return Ok(None),
        };
        let loaded = Config::load(Some(&file), environment, &[])?;
        Ok(Some(loaded.config))
    }
}

fn file_in(dir: &Path) -> Result<PathBuf, Failure> {
    let file = dir.join(FILE_IN_FOLDER);
    let shown = file.display();
    match file.try_exists() {
        Ok(true) => Ok(file),
        Ok(false) => Err(Failure::configuration(format!(
            "{shown} does not exist: name a folder that `keymill dev` has made, or a file with --config"
        ))),
        // What cannot be seen may well be there.
        Err(error) => Err(Failure::configuration(format!(
            "{shown}: {error}: a store is for the user it belongs to; others go through its daemon with --endpoint"
        ))),
    }
}
