//! `keymill root`: the root key, which opens everything in a store.

use crate::cli::failure::{Failure, Status};
use crate::cli::operator::forbid_leaks;
use crate::cli::output;
use crate::cli::target::StoreArguments;
use crate::config::{Config, Environment};
use crate::crypto::entropy::Entropy;
use crate::daemon::OpenError;
use crate::file::open;
use crate::keystore::shares::{self, Quorum};
use crate::keystore::{RootKey, RootKeyError, RootKeyFile, Seal};
use clap::{Args, Subcommand};
use std::fs::DirBuilder;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

#[derive(Subcommand)]
pub(super) enum Command {
    /// Seal the root key under a passphrase, or under a key in an HSM
    #[command(after_help = "\
The file of the root key is replaced; what was in it may stay on the disk until other data is written there. So a root key that was never in the clear is one that the first start has made with store.passphrase_file set. Set it to FILE afterwards: a daemon that is running goes on, and its next start needs it.

Examples:
  keymill root seal --dir keymill-dev --passphrase-file passphrase
  keymill root seal --config /etc/keymill/keymill.toml --pkcs11")]
    Seal(SealArguments),
    /// Put the root key in the clear again
    #[command(after_help = "\
Leave store.passphrase_file empty afterwards: the next start needs no passphrase.

Examples:
  keymill root unseal --dir keymill-dev
  keymill root unseal --config /etc/keymill/keymill.toml")]
    Unseal(StoreArguments),
    /// Write the root key as shares, of which some give it and fewer give nothing
    #[command(after_help = "\
Each share is a line of text in a file of its own, for another person and another place. It can be written down by hand: a slip is found.

Examples:
  keymill root export --dir keymill-dev --shares 3/5 --out shares
  keymill root export --config /etc/keymill/keymill.toml --shares 2/3 --out /media/safe/shares")]
    Export(Export),
    /// Make a root key of shares
    #[command(after_help = "\
Examples:
  keymill root import shares/share-1 shares/share-3 shares/share-4 --out root.key
  keymill root import share-2 share-3 --out /var/lib/keymill/root.key --passphrase-file /etc/keymill/passphrase")]
    Import(Import),
}

#[derive(Args)]
pub(super) struct SealArguments {
    #[command(flatten)]
    store: StoreArguments,
    /// The file with the passphrase, at least 16 bytes
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with = "pkcs11",
        required_unless_present = "pkcs11"
    )]
    passphrase_file: Option<PathBuf>,
    /// The key in the token that the configuration names, [pkcs11]
    #[arg(long)]
    pkcs11: bool,
}

#[derive(Args)]
pub(super) struct Export {
    #[command(flatten)]
    store: StoreArguments,
    /// How many shares give the root key, and how many there are
    #[arg(long, value_name = "NEEDED/TOTAL")]
    shares: Quorum,
    /// A folder that is empty or does not exist yet
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
}

#[derive(Args)]
pub(super) struct Import {
    /// The files with the shares
    #[arg(value_name = "SHARE", required = true)]
    shares: Vec<PathBuf>,
    /// The root key, which must not exist yet
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Seal it under the passphrase in this file
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
}

pub(super) fn run(command: Command, environment: &Environment) -> Result<Status, Failure> {
    forbid_leaks();
    match command {
        Command::Seal(arguments) => seal(&arguments, environment),
        Command::Unseal(store) => {
            let file = config_of(&store, environment)?.root_key_file();
            let root = file.read().map_err(OpenError::from)?;
            let told = "leave store.passphrase_file and [pkcs11] empty";
            replace(&file.path, Seal::Clear, &root, told)
        }
        Command::Export(arguments) => export(&arguments, environment),
        Command::Import(arguments) => import(arguments),
    }
}

fn seal(arguments: &SealArguments, environment: &Environment) -> Result<Status, Failure> {
    let config = config_of(&arguments.store, environment)?;
    let file = config.root_key_file();
    let root = match file.read() {
        // Under what it will be sealed is configured already.
        Err(RootKeyError::Clear { path }) => RootKeyFile::clear(&path).read(),
        read => read,
    };
    let root = root.map_err(OpenError::from)?;
    let Some(passphrase) = &arguments.passphrase_file else {
        if !config.pkcs11.is_set() {
            return Err(Failure::configuration(
                "[pkcs11] names no token: set module, token, key and pin_file",
            ));
        }
        let told = "keep [pkcs11] in the configuration";
        return replace(&file.path, Seal::Token(config.pkcs11), &root, told);
    };
    let passphrase = absolute(passphrase)?;
    let told = format!("set store.passphrase_file = {passphrase:?}");
    replace(&file.path, Seal::Passphrase(passphrase), &root, &told)
}

fn replace(path: &Path, seal: Seal, root: &RootKey, told: &str) -> Result<Status, Failure> {
    let path = path.to_owned();
    let file = RootKeyFile { path, seal };
    file.replace(root, &Entropy::os())
        .map_err(OpenError::from)?;
    // What is on the disk now is what the next start reads.
    file.read().map_err(OpenError::from)?;
    output::result(&format!("{}: {told}", file.path.display()))?;
    Ok(Status::Done)
}

fn export(arguments: &Export, environment: &Environment) -> Result<Status, Failure> {
    let config = config_of(&arguments.store, environment)?;
    let root = config.root_key_file().read().map_err(OpenError::from)?;
    let shares = shares::export(&root, arguments.shares, &Entropy::os());
    let shares = shares.map_err(Failure::failed)?;
    let folder = &arguments.out;
    let failed = |path: &Path, error: std::io::Error| {
        Failure::failed(format!("{}: {error}", path.display()))
    };
    make_empty(folder)?;
    for (number, share) in (1..).zip(&shares) {
        let path = folder.join(format!("share-{number}"));
        let written = open::new(&path, 0o600).and_then(|mut file| {
            file.write_all(share.as_bytes())?;
            file.sync_all()
        });
        written.map_err(|error| failed(&path, error))?;
    }
    open::sync_folder(folder).map_err(|error| failed(folder, error))?;
    output::result(&format!(
        "{}: {} shares, share-1 to share-{}; {} give the root key: keep each in another place",
        folder.display(),
        shares.len(),
        shares.len(),
        arguments.shares.needed(),
    ))?;
    Ok(Status::Done)
}

fn import(arguments: Import) -> Result<Status, Failure> {
    let texts = arguments.shares.iter().map(|path| {
        let text = open::named_text(path, shares::LINE_BYTES_MAX as u64);
        let text = text.map_err(|error| Failure::failed(format!("{}: {error}", path.display())))?;
        Ok(Zeroizing::new(text))
    });
    let root = shares::import(&texts.collect::<Result<Vec<_>, Failure>>()?);
    let root = root.map_err(Failure::failed)?;
    let file = RootKeyFile {
        path: arguments.out,
        seal: arguments
            .passphrase_file
            .map_or(Seal::Clear, Seal::Passphrase),
    };
    file.write(&root, &Entropy::os()).map_err(OpenError::from)?;
    output::result(&format!("{}: the root key", file.path.display()))?;
    Ok(Status::Done)
}

fn config_of(store: &StoreArguments, environment: &Environment) -> Result<Config, Failure> {
    store.config(environment)?.ok_or_else(|| {
        Failure::usage("name the store with --dir or --config: its root key's file is read")
    })
}

fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path)
        .map_err(|error| Failure::usage(format!("{}: {error}", path.display())))
}

/// Makes a folder for this user alone, or takes an empty one.
fn make_empty(folder: &Path) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::failed(format!("{}: {error}", folder.display()));
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        made => return made.map_err(failed),
    }
    match folder.read_dir().map_err(failed)?.next() {
        None => Ok(()),
        Some(_) => Err(Failure::failed(format!(
            "{}: the folder is not empty: name another one, so that shares of two exports never mix",
            folder.display()
        ))),
    }
}
