//! `keymill dev`: everything in one folder, ready in seconds.
//!
//! The folder holds `keymill.toml`, which `keymill serve --config` takes too, the store, its root
//! key, three Unix sockets and two sample tables. Later runs reuse all of it, and add only the
//! principals and keys that are missing.

use crate::cli::failure::{Failure, Status};
use crate::cli::serve::Configuration;
use crate::cli::target::FILE_IN_FOLDER;
use crate::cli::{Addresses, output, serve};
use crate::config::{Config, Environment, Flag, OVERFLOW_ID};
use crate::daemon::{Core, Daemon};
use crate::file::open;
use clap::Args;
use principals::{CONSUMER, Identity, PROVISIONER, REWRAPPER, prepare};
use ready::Ready;
use std::fs::DirBuilder;
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

mod principals;
mod ready;
mod samples;

#[derive(Args)]
#[command(after_help = "Examples:\n  \
    keymill dev\n  \
    keymill dev --dir /tmp/keys --listen 127.0.0.1:0 --region eu-central-1 --json")]
pub(super) struct Arguments {
    /// The folder, made if it is not there
    #[arg(long, value_name = "DIR", default_value = "keymill-dev")]
    dir: PathBuf,
    #[command(flatten)]
    addresses: Addresses,
    /// The Region of keys and signatures, fixed by the first run; once for each, the home Region
    /// first [default: us-east-1]
    #[arg(long, value_name = "REGION")]
    region: Vec<String>,
    /// The account of keys and principals, fixed by the first run [default: 111122223333]
    #[arg(long, value_name = "ACCOUNT")]
    account: Option<String>,
    /// A PostgreSQL database as the store, which other nodes share, fixed by the first run:
    /// postgres://USER@HOST/DATABASE
    #[arg(long, value_name = "URL")]
    store: Option<String>,
    /// The file with the root key, fixed by the first run: of a shared store the same on all nodes
    /// [default: root.key in DIR]
    #[arg(long, value_name = "FILE")]
    root_key: Option<PathBuf>,
    /// Print one line of JSON once ready, with addresses and credentials
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: Arguments, environment: &Environment) -> Result<Status, Failure> {
    let start = serve::Start::new()?;
    let file = arguments.dir.join(FILE_IN_FOLDER);
    if !file.exists() {
        let config = Config::load(None, environment, &arguments.flags())?.config;
        let store = arguments.store_settings(&config)?;
        make_folder(&arguments.dir, &file, &config, &store)?;
    }
    let configuration = arguments.configuration(&file, environment)?;
    let config = configuration.loaded.config.clone();
    let prepare = async |core: &Core| prepare(&config, core).await;
    let announce = |daemon: &Daemon, identities: Vec<Identity>| {
        let ready = Ready {
            config: &config,
            daemon,
            identities,
        };
        output::secret(if arguments.json {
            ready.json()?
        } else {
            ready.text(&arguments.dir)?
        })
    };
    serve::serve(
        start,
        serve::FIRST,
        configuration,
        environment,
        prepare,
        announce,
    )
}

impl Arguments {
    fn flags(&self) -> Vec<Flag> {
        let flag = |name, key, value: &Option<String>| {
            let value = value.clone()?;
            Some(Flag { name, key, value })
        };
        let mut flags = self.addresses.flags();
        let regions = (!self.region.is_empty()).then(|| self.region.join(","));
        let key = match self.region.len() {
            1 => "region",
            _ => "regions",
        };
        flags.extend(flag("--region", key, &regions));
        flags.extend(flag("--account", "account", &self.account));
        flags.extend(flag("--store", "store.url", &self.store));
        let root_key = self.root_key.as_ref().map(|path| absolute(path));
        flags.extend(flag("--root-key", "store.root_key", &root_key));
        flags
    }

    /// The section of the store, if it is not the folder's own.
    fn store_settings(&self, config: &Config) -> Result<String, Failure> {
        let store = &config.store;
        let path = |path: &Path| path.display().to_string();
        let set = [
            ("url", store.url.clone()),
            ("notify_url", store.notify_url.clone()),
            ("password_file", path(&store.password_file)),
            ("ca_file", path(&store.ca_file)),
            (
                "root_key",
                self.root_key.as_deref().map(absolute).unwrap_or_default(),
            ),
        ];
        if self
            .root_key
            .as_ref()
            .is_some_and(|path| path.to_str().is_none())
        {
            return Err(Failure::usage("--root-key: the path is not UTF-8"));
        }
        let lines: String = set
            .iter()
            .filter(|(_, value)| !value.is_empty())
            .map(|(key, value)| format!("{key} = {value:?}\n"))
            .collect();
        Ok(match lines.as_str() {
            "" => String::new(),
            lines => format!("\n[store]\n{lines}"),
        })
    }

    /// The folder's configuration, unless another Region or account is asked for than its keys
    /// have.
    fn configuration(
        &self,
        file: &Path,
        environment: &Environment,
    ) -> Result<Configuration, Failure> {
        let made = Config::load(Some(file), &Environment::default(), &[])?.config;
        let asked = |flag: &Option<String>, variable| {
            let variable = environment.variable(variable);
            flag.clone().or_else(|| variable.map(str::to_owned))
        };
        let regions = (!self.region.is_empty()).then(|| self.region.join(","));
        for (what, made, asked) in [
            (
                "Region",
                made.region_names().join(","),
                asked(&regions, "KEYMILL_REGIONS").or_else(|| asked(&None, "KEYMILL_REGION")),
            ),
            (
                "the store",
                made.store.url.clone(),
                asked(&self.store, "KEYMILL_STORE__URL"),
            ),
            (
                "account",
                made.account.to_string(),
                asked(&self.account, "KEYMILL_ACCOUNT"),
            ),
        ] {
            if let Some(asked) = asked.filter(|asked| *asked != made) {
                return Err(Failure::configuration(format!(
                    "the keys of {} are of {what} {made}, not {asked}: leave it out, or choose another --dir",
                    self.dir.display()
                )));
            }
        }
        Configuration::load(file.to_owned(), environment, self.flags())
    }
}

/// A path of the command line, which a file in another folder may name.
fn absolute(path: &Path) -> String {
    let absolute = std::path::absolute(path);
    absolute.as_deref().unwrap_or(path).display().to_string()
}

fn make_folder(dir: &Path, file: &Path, config: &Config, store: &str) -> Result<(), Failure> {
    let containers = samples::containers().map_err(Failure::failed)?;
    let files = [
        (dir.join(samples::VOLUMES), samples::volumes().into_bytes()),
        (dir.join(samples::CONTAINERS), containers),
        // The last one, so that a run that was interrupted here begins again.
        (file.to_owned(), first_settings(config, store).into_bytes()),
    ];
    let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.map_err(|error| cannot_make(dir, &error))?;
    for (path, bytes) in files {
        write_whole(&path, &bytes).map_err(|error| cannot_make(&path, &error))?;
    }
    Ok(())
}

fn cannot_make(path: &Path, error: &io::Error) -> Failure {
    Failure::failed(format!("cannot make {}: {error}", path.display()))
}

/// The file is complete or absent.
fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_added_extension("new");
    let mut file = open::anew(&temporary, 0o600)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&temporary, path)
}

fn first_settings(config: &Config, store: &str) -> String {
    let region = match config.region_names().as_slice() {
        [one] => format!("region = {one:?}"),
        several => format!("regions = {several:?}"),
    };
    let account = config.account;
    let peer = match rustix::process::geteuid().as_raw() {
        0 => "root".to_owned(),
        OVERFLOW_ID => {
            "# 65534 is the uid of no particular user, and cannot be mapped. 1000".to_owned()
        }
        uid => uid.to_string(),
    };
    let provisioner = config.user_arn(PROVISIONER);
    let mut text = format!(
        "# Made by `keymill dev`; `keymill serve --config` takes it too. Every setting is explained\n\
         # in config/keymill.toml of the sources.\n\
         {region}\n\
         account = \"{account}\"\n\
         {store}\
         \n\
         [peers.users]\n\
         {peer} = \"{provisioner}\"\n"
    );
    for name in [CONSUMER, REWRAPPER] {
        let arn = config.user_arn(name);
        text += &format!(
            "\n\
             # Only the user who started the daemon may connect, and is the {name} here.\n\
             [sockets.{name}]\n\
             path = \"{name}.sock\"\n\
             mode = \"0600\"\n\
             principal = \"{arn}\"\n"
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn arguments(dir: &Path) -> Arguments {
        Arguments {
            dir: dir.to_owned(),
            addresses: Addresses {
                listen: None,
                admin_listen: None,
            },
            region: Vec::new(),
            account: None,
            store: None,
            root_key: None,
            json: false,
        }
    }

    impl Arguments {
        fn config(&self, file: &Path, environment: &Environment) -> Result<Config, Failure> {
            let configuration = self.configuration(file, environment);
            configuration.map(|configuration| configuration.loaded.config)
        }
    }

    #[test]
    fn the_first_run_fixes_region_and_account() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("dev");
        let file = dir.join(FILE_IN_FOLDER);
        let nothing = Environment::default();
        let mut first = arguments(&dir);
        first.region = vec!["eu-central-1".to_owned()];
        first.account = Some("444455556666".to_owned());
        let config = Config::load(None, &nothing, &first.flags()).unwrap().config;
        make_folder(&dir, &file, &config, "").unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&dir), mode(&file)), (0o700, 0o600));

        let later = arguments(&dir).config(&file, &nothing).unwrap();
        assert_eq!(later.region, "eu-central-1");
        assert_eq!(later.account.as_str(), "444455556666");
        assert_eq!(later.store.path, dir.join("keystore.db"));
        let uid = rustix::process::geteuid().as_raw();
        if uid != OVERFLOW_ID {
            let provisioner = "arn:aws:iam::444455556666:user/provisioner".to_owned();
            assert_eq!(later.peers.map().uids.get(&uid), Some(&provisioner));
        }
        for name in [CONSUMER, REWRAPPER] {
            let socket = &later.sockets[name];
            assert_eq!(socket.path, dir.join(format!("{name}.sock")));
            assert_eq!(socket.mode.0, 0o600);
            let arn = format!("arn:aws:iam::444455556666:user/{name}");
            assert_eq!(socket.principal, Some(arn));
        }
        for name in [samples::VOLUMES, samples::CONTAINERS] {
            assert_eq!(mode(&dir.join(name)), 0o600);
        }

        let mut other = arguments(&dir);
        other.account = Some("111122223333".to_owned());
        let refused = other.config(&file, &nothing).err().unwrap();
        assert_eq!(refused.status, Status::Configuration);
        assert!(
            refused
                .message
                .contains("account 444455556666, not 111122223333")
        );
        let variable = Environment::from_pairs([("KEYMILL_REGION", "us-west-2")]);
        let refused = arguments(&dir).config(&file, &variable).err().unwrap();
        assert!(
            refused
                .message
                .contains("Region eu-central-1, not us-west-2")
        );
    }

    #[test]
    fn the_first_run_may_ask_for_several_regions() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("dev");
        let file = dir.join(FILE_IN_FOLDER);
        let nothing = Environment::default();
        let mut first = arguments(&dir);
        first.region = ["us-west-2", "us-east-1"].map(str::to_owned).to_vec();
        let config = Config::load(None, &nothing, &first.flags()).unwrap().config;
        make_folder(&dir, &file, &config, "").unwrap();
        let again = first.config(&file, &nothing).unwrap();
        let later = arguments(&dir).config(&file, &nothing).unwrap();
        for config in [again, later] {
            assert_eq!(config.region, "us-west-2");
            assert_eq!(config.region_names(), ["us-west-2", "us-east-1"]);
        }
        let mut one = arguments(&dir);
        one.region = vec!["us-west-2".to_owned()];
        let refused = one.config(&file, &nothing).err().unwrap();
        assert_eq!(refused.status, Status::Configuration);
        let expected = "are of Region us-west-2,us-east-1, not us-west-2: leave it out";
        assert!(refused.message.contains(expected), "{}", refused.message);
    }
}
