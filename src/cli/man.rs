//! `keymill man` and `keymill completions`: what a package installs beside the program, made from
//! the grammar itself.

use crate::cli::failure::{Failure, Status};
use crate::cli::{grammar, output};
use crate::file::open;
use clap::{Args, Command};
use clap_complete::Shell;
use clap_mangen::Man;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Permission bits of a page: every user may read it.
const PAGE_MODE: u32 = 0o644;
/// Where the examples of a help text begin.
const EXAMPLES: &str = "Examples:\n";

#[derive(Args)]
#[command(after_help = "Examples:\n  \
    keymill man | man -l -\n  \
    keymill man --out /usr/local/share/man/man1")]
pub(super) struct ManArguments {
    /// The folder for a page of each command, made if it is not there [default: print keymill(1)
    /// alone]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

#[derive(Args)]
#[command(after_help = "Examples:\n  \
    keymill completions bash > /usr/share/bash-completion/completions/keymill\n  \
    keymill completions zsh > \"${fpath[1]}/_keymill\"")]
pub(super) struct CompletionsArguments {
    /// The shell that reads the script
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

pub(super) fn completions(arguments: &CompletionsArguments) -> Result<Status, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut grammar(), "keymill", &mut script);
    output::page(&String::from_utf8_lossy(&script))?;
    Ok(Status::Done)
}

pub(super) fn man(arguments: &ManArguments) -> Result<Status, Failure> {
    let mut program = grammar().disable_help_subcommand(true);
    program.build();
    match &arguments.out {
        None => output::page(&page(&program).map_err(Failure::failed)?)?,
        Some(folder) => {
            let written = fs::create_dir_all(folder).and_then(|()| write_all(&program, folder));
            written.map_err(|error| Failure::failed(format!("{}: {error}", folder.display())))?;
        }
    }
    Ok(Status::Done)
}

/// The pages of a command and of those below it.
fn write_all(command: &Command, folder: &Path) -> io::Result<()> {
    let name = Man::new(command.clone()).get_filename();
    open::write_whole(&folder.join(name), page(command)?.as_bytes(), PAGE_MODE)?;
    let mut inner = command.get_subcommands();
    inner.try_for_each(|command| write_all(command, folder))
}

/// A manual page in roff. The help's last part becomes sections of its own, so that examples keep
/// their lines.
fn page(command: &Command) -> io::Result<String> {
    let help = command
        .get_after_help()
        .map(ToString::to_string)
        .unwrap_or_default();
    let (notes, examples) = help.split_once(EXAMPLES).unwrap_or((&help, ""));
    let man = Man::new(command.clone()).manual("Keymill");
    let mut out = Vec::new();
    man.render_title(&mut out)?;
    man.render_name_section(&mut out)?;
    man.render_synopsis_section(&mut out)?;
    man.render_description_section(&mut out)?;
    man.render_options_section(&mut out)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut out)?;
    }
    if command.get_name() == "keymill" {
        man.render_version_section(&mut out)?;
    } else if !notes.is_empty() {
        writeln!(out, ".SH NOTES\n{}", text(notes.trim_end()))?;
    }
    writeln!(out, ".SH EXIT STATUS")?;
    for (status, meaning) in Status::MEANINGS {
        writeln!(out, ".TP\n{}\n{}", status as u8, text(meaning))?;
    }
    let examples = examples.split("\n\n").next().unwrap_or_default();
    writeln!(out, ".SH EXAMPLES\n.nf\n{}\n.fi", text(examples))?;
    Ok(String::from_utf8_lossy(&out).into_owned())
}

/// A text of ours in roff, where a backslash, a hyphen, and a line's first full stop or quote have
/// a meaning.
fn text(text: &str) -> String {
    let lines = text.lines().map(|line| {
        let line = line.trim().replace('\\', "\\e").replace('-', "\\-");
        if line.starts_with(['.', '\'']) {
            format!("\\&{line}")
        } else {
            line
        }
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page_with_examples_and_statuses() {
        let folder = tempfile::tempdir().unwrap();
        let arguments = ManArguments {
            out: Some(folder.path().join("man1")),
        };
        assert_eq!(man(&arguments).ok(), Some(Status::Done));
        let mut program = grammar().disable_help_subcommand(true);
        program.build();
        let mut left = vec![&program];
        let mut pages = 0;
        while let Some(command) = left.pop() {
            let name = Man::new(command.clone()).get_filename();
            let page = fs::read_to_string(folder.path().join("man1").join(&name)).unwrap();
            for section in [".SH NAME", ".SH SYNOPSIS", ".SH EXIT STATUS\n.TP\n0\ndone"] {
                assert!(page.contains(section), "{name}: {page}");
            }
            if command.get_subcommands().next().is_none() {
                assert!(
                    page.contains(".SH EXAMPLES\n.nf\nkeymill "),
                    "{name}: {page}"
                );
            }
            pages += 1;
            left.extend(command.get_subcommands());
        }
        let files = fs::read_dir(folder.path().join("man1")).unwrap();
        assert_eq!(files.count(), pages);
        assert!(folder.path().join("man1/keymill-key-create.1").exists());
    }

    #[test]
    fn what_roff_would_obey_is_escaped() {
        assert_eq!(text(".TH a-b\n'x \\n"), "\\&.TH a\\-b\n\\&'x \\en");
    }
}
