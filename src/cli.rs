//! The command line: its grammar, and which file performs what.
//!
//! Results go to standard output, everything else to standard error. Secrets never come from
//! arguments, which process lists show.

use crate::config::{Environment, Flag};
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use failure::Failure;
use std::ffi::OsString;
use std::path::PathBuf;
use tokio::runtime::Runtime;

pub mod failure;
#[cfg(feature = "bulk")]
mod findings;
pub mod operator;
pub mod output;

mod alias;
mod audit;
mod backup;
#[cfg(feature = "bulk")]
mod bind;
mod blob;
#[cfg(feature = "bulk")]
mod bulk;
#[cfg(feature = "bulk")]
mod census;
#[cfg(feature = "bulk")]
mod columns;
mod config;
mod context;
mod dev;
#[cfg(feature = "bulk")]
mod export;
mod flags;
#[cfg(feature = "bulk")]
mod job;
mod key;
mod log;
mod man;
#[cfg(not(feature = "bulk"))]
mod no_bulk;
mod policy;
mod principal;
mod progress;
#[cfg(feature = "bulk")]
mod provision;
mod restore;
#[cfg(feature = "bulk")]
mod rewrap;
mod root;
mod serve;
mod status;
mod store;
mod target;
mod terminal;
mod trust;
#[cfg(feature = "bulk")]
mod verify;

#[cfg(not(feature = "bulk"))]
use {
    no_bulk as bind, no_bulk as census, no_bulk as export, no_bulk as provision, no_bulk as rewrap,
    no_bulk as verify,
};

pub use failure::Status;
pub use target::Target;

/// Mints wrapped data keys by the million and serves them with the wire contract of AWS KMS
#[derive(Parser)]
#[command(
    name = "keymill",
    version,
    max_term_width = 100,
    arg_required_else_help = true,
    subcommand_required = true,
    after_help = "Examples:\n  \
        keymill dev\n  \
        keymill export --dir keymill-dev --key alias/containers --count 1000000 --out containers"
)]
struct Grammar {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve with everything in one folder, made at the first run, and print how to call it
    Dev(dev::Arguments),
    /// Serve as a configuration file says
    Serve(serve::Arguments),
    /// Create, describe and change KMS keys
    #[command(subcommand)]
    Key(key::Command),
    /// Create and change aliases
    #[command(subcommand)]
    Alias(alias::Command),
    /// Create and change principals and their access keys
    #[command(subcommand)]
    Principal(principal::Command),
    /// Say what policies decide, and whether they are sound
    #[command(subcommand)]
    Policy(policy::Command),
    /// Write wrapped data keys for new containers to Parquet files
    Export(export::Arguments),
    /// Put a wrapped data key beside each row of a table of containers
    Provision(provision::Arguments),
    /// Put a wrapped data key beside each row of an Arrow stream of containers
    Bind(bind::Arguments),
    /// Move a table's wrapped data keys to another key, generation or context
    Rewrap(rewrap::Arguments),
    /// Count a table's wrapped data keys by key and generation
    Census(census::Arguments),
    /// Open every wrapped data key of a table, and find those that are there twice
    Verify(verify::Arguments),
    /// Print once what a running daemon says of itself
    Status(status::Arguments),
    /// Write a verified backup of a store, also while a daemon serves from it
    Backup(backup::Arguments),
    /// Put a backup in the place of a store, and say before what that takes back
    Restore(restore::Arguments),
    /// Check stores, and copy them
    #[command(subcommand)]
    Store(store::Command),
    /// Seal the root key, share it, and put it together again
    #[command(subcommand)]
    Root(root::Command),
    /// Verify the audit log
    #[command(subcommand)]
    Audit(audit::Command),
    /// Look into ciphertext blobs
    #[command(subcommand)]
    Blob(blob::Command),
    /// Check and show configurations
    #[command(subcommand)]
    Config(config::Command),
    /// Print a script that completes commands and flags
    Completions(man::CompletionsArguments),
    /// Print the manual page, or write a page for each command
    Man(man::ManArguments),
}

impl Command {
    /// Whether status 1 is an answer: something is wrong, or denied.
    fn is_check(&self) -> bool {
        if let Self::Store(command) = self {
            return command.is_check();
        }
        matches!(
            self,
            Self::Verify(_)
                | Self::Census(_)
                | Self::Policy(_)
                | Self::Status(_)
                | Self::Audit(audit::Command::Verify(_))
        )
    }
}

/// The grammar, with the table of statuses in the program's help.
fn grammar() -> clap::Command {
    let grammar = Grammar::command();
    let examples = grammar.get_after_help().map(ToString::to_string);
    let mut help = examples.unwrap_or_default() + "\n\nExit status:";
    for (status, meaning) in Status::MEANINGS {
        help += &format!("\n  {:3}  {meaning}", status as u8);
    }
    grammar.after_help(help)
}

/// Performs the command line `arguments`, the program's name first.
pub fn run(arguments: impl IntoIterator<Item = OsString>, environment: &Environment) -> Status {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    // Also of a command line that is refused.
    if arguments.iter().any(|argument| argument == "--json") {
        output::speak_json();
    }
    let mut grammar = grammar();
    let matches = grammar.try_get_matches_from_mut(arguments);
    let parsed = matches.and_then(|mut matches| {
        Grammar::from_arg_matches_mut(&mut matches).map_err(|error| error.format(&mut grammar))
    });
    let command = match parsed {
        Ok(grammar) => grammar.command,
        Err(error) => return output::grammar(&error),
    };
    let is_check = command.is_check();
    let performed = match command {
        Command::Dev(arguments) => dev::run(arguments, environment),
        Command::Serve(arguments) => serve::run(arguments, environment),
        Command::Key(command) => key::run(command, environment),
        Command::Alias(command) => alias::run(command, environment),
        Command::Principal(command) => principal::run(command, environment),
        Command::Policy(command) => policy::run(command, environment),
        Command::Export(arguments) => export::run(arguments, environment),
        Command::Provision(arguments) => provision::run(arguments, environment),
        Command::Bind(arguments) => bind::run(arguments, environment),
        Command::Rewrap(arguments) => rewrap::run(arguments, environment),
        Command::Census(arguments) => census::run(arguments, environment),
        Command::Verify(arguments) => verify::run(arguments, environment),
        Command::Status(arguments) => status::run(&arguments, environment),
        Command::Backup(arguments) => backup::run(arguments, environment),
        Command::Restore(arguments) => restore::run(arguments, environment),
        Command::Store(command) => store::run(command, environment),
        Command::Root(command) => root::run(command, environment),
        Command::Audit(command) => audit::run(command, environment),
        Command::Blob(command) => blob::run(command),
        Command::Config(command) => config::run(command, environment),
        Command::Completions(arguments) => man::completions(&arguments),
        Command::Man(arguments) => man::man(&arguments),
    };
    performed.unwrap_or_else(|mut failure| {
        if is_check {
            failure = Failure::of_check(failure);
        }
        output::failure(&failure);
        failure.status
    })
}

/// Addresses that override the configuration.
#[derive(Args)]
struct Addresses {
    /// Where AWS clients connect: a loopback address, or any with TLS; port 0 takes a free one
    /// [default: that of the configuration, else 127.0.0.1:5645]
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<String>,
    /// Where Prometheus connects, a loopback address [default: that of the configuration, else
    /// 127.0.0.1:5646, or a free port where --listen takes one]
    #[arg(long, value_name = "ADDRESS:PORT")]
    admin_listen: Option<String>,
}

impl Addresses {
    fn flags(&self) -> Vec<Flag> {
        let flag = |name, key, value: &Option<String>| {
            let value = value.clone()?;
            Some(Flag { name, key, value })
        };
        let listen = flag("--listen", "listen.tcp", &self.listen);
        let admin = flag("--admin-listen", "listen.admin", &self.admin_listen);
        listen.into_iter().chain(admin).collect()
    }
}

/// A configuration file, which must be named.
#[derive(Args)]
struct ConfigFile {
    /// The configuration file
    #[arg(long = "config", value_name = "FILE")]
    path: PathBuf,
}

fn runtime() -> Result<Runtime, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    runtime.map_err(|error| Failure::failed(format!("cannot start the runtime: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_grammar_is_sound() {
        grammar().debug_assert();
    }

    const INTERFACES: &str = include_str!("../docs/interfaces.md");

    #[test]
    fn the_manual_has_every_status() {
        let rows =
            Status::MEANINGS.map(|(status, meaning)| format!("| {} | {meaning} |", status as u8));
        let table = format!("| exit status | |\n|---|---|\n{}\n\n", rows.join("\n"));
        assert!(INTERFACES.contains(&table), "{table}");
    }

    #[test]
    fn the_manual_has_every_command_and_no_other() {
        fn leaves(command: &clap::Command, path: &str, found: &mut BTreeSet<String>) {
            if command.get_subcommands().next().is_none() {
                found.insert(path.to_owned());
            }
            for inner in command.get_subcommands() {
                leaves(inner, &format!("{path} {}", inner.get_name()), found);
            }
        }
        let mut commands = BTreeSet::new();
        leaves(&grammar(), "keymill", &mut commands);
        let mut told = BTreeSet::new();
        for row in INTERFACES
            .lines()
            .filter_map(|line| line.strip_prefix("| `keymill "))
        {
            let (words, _) = row.split_once('`').unwrap();
            let is_name = |word: &&str| word.starts_with(|first: char| first.is_ascii_lowercase());
            let words: Vec<_> = words.split(' ').take_while(is_name).collect();
            match words[..] {
                [command] => drop(told.insert(format!("keymill {command}"))),
                [command, inner] => told.extend(
                    inner
                        .split("\\|")
                        .map(|inner| format!("keymill {command} {inner}")),
                ),
                _ => panic!("{row}"),
            }
        }
        assert_eq!(told, commands);
    }

    /// The commands that a daemon alone refuses have none.
    #[cfg(feature = "bulk")]
    #[test]
    fn every_command_shows_two_examples() {
        fn check(command: &clap::Command, path: &str) {
            if command.get_subcommands().next().is_none() {
                let help = command.get_after_help().map(ToString::to_string);
                let help = help.unwrap_or_default();
                let examples = help.matches("\n  keymill ").count();
                assert_eq!(examples, 2, "{path}: {help}");
                assert!(help.contains(path), "{path}: {help}");
            }
            for inner in command.get_subcommands() {
                check(inner, &format!("{path} {}", inner.get_name()));
            }
        }
        check(&grammar(), "keymill");
    }
}
