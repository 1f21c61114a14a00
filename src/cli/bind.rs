//! `keymill bind`: an Arrow stream or file, and a wrapped key for each of its rows from a running
//! daemon.

use crate::bind::{self, Outcome, OutputError, OutputFile, StreamError};
use crate::bulk::SourceError;
use crate::bulk::keys::KeySource;
use crate::bulk::remote::Remote;
use crate::cli::bulk::{JobRunner, LengthArguments};
use crate::cli::columns::{COLUMNS, ColumnList, columns, context_pairs};
use crate::cli::context::pair;
use crate::cli::failure::{Failure, Status};
use crate::cli::flags;
use crate::cli::output;
use crate::cli::target::daemons;
use crate::cli::terminal;
use crate::columns::ContextPairs;
use crate::columns::shown::Counted;
use crate::config::Environment;
use crate::crypto::entropy::Entropy;
use crate::endpoint::Endpoint;
use crate::file::open;
use crate::provision::Bind;
use clap::Args;
use serde_json::json;
use std::io::{self, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};

/// Standard input, and standard output.
const STANDARD: &str = "-";
/// What messages call standard output.
const STANDARD_OUTPUT: &str = "standard output";

#[derive(Args)]
#[command(after_help = "\
Every column is kept, and three are added: ciphertext_blob, key_arn, key_material_id. A row's encryption context has a pair for each column that --context names, and the
pairs of --constant; only these columns are sent. The result is an Arrow stream. It has its end marker only if every row is in it, and a file of --out is complete or absent.
A row that is refused is named by its number, from 1, and ends the command with status 1. What was bound before it is then in no file, and on standard output without an end.

Examples:
  keymill bind containers.arrows --endpoint unix:keymill-dev/keymill.sock --key alias/containers --context tenant,container_id --out with-keys.arrows
  keymill bind - --endpoint unix:keymill-dev/keymill.sock --key alias/containers --context tenant --constant purpose=volume < containers.arrows > with-keys.arrows")]
pub(super) struct Arguments {
    /// A running daemon: unix:PATH, http://HOST:PORT or https://HOST:PORT; may be given more than
    /// once, for the daemons of a fleet [default: KEYMILL_ENDPOINT]
    #[arg(long, value_name = "ENDPOINT")]
    endpoint: Vec<Endpoint>,
    /// The containers: an Arrow IPC stream or file; - is standard input
    #[arg(value_name = "INPUT")]
    input: PathBuf,
    /// Key id, key ARN, alias or alias ARN
    #[arg(long, value_name = "KEY")]
    key: String,
    #[command(flatten)]
    length: LengthArguments,
    /// The columns that each row's encryption context is made of; may be given more than once, and
    /// a name with a comma is in quotes: '"a,b",c'
    #[arg(long, value_name = COLUMNS, value_parser = columns, required = true)]
    context: Vec<ColumnList>,
    /// A pair that every row's encryption context has; may be given more than once
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    constant: Vec<(String, String)>,
    /// The file for the stream with its keys, which must not be there yet [default: standard
    /// output]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Print the outcome as JSON, and how far it is as a JSON line on standard error now and then
    #[arg(long, requires = "out")]
    json: bool,
}

pub(super) fn run(arguments: Arguments, environment: &Environment) -> Result<Status, Failure> {
    let runner = JobRunner::start(arguments.json, environment)?;
    let pairs = arguments.pairs()?;
    let input = arguments.open()?;
    let out = arguments.out.as_deref();
    let out = out.filter(|path| *path != Path::new(STANDARD));
    if out.is_none() && io::stdout().is_terminal() {
        return Err(Failure::usage(
            "an Arrow stream is not for a terminal: name a file with --out, or send it through a pipe",
        ));
    }
    let endpoints = daemons(&arguments.endpoint, environment)?;
    let source = Remote {
        daemons: runner.unreached_daemons(&endpoints, environment)?,
        work: Bind {
            key: arguments.key.clone(),
            length: arguments.length.length(),
            pairs: pairs.clone(),
        },
    };
    let name = arguments.name();
    let bind = |mut sink: &mut dyn Write, shown: &str| {
        let unreached = |source| failed(&name, shown, StreamError::Source { rows: 0, source });
        runner.reach(&source.daemons).map_err(unreached)?;
        let mut worker = source.worker().map_err(unreached)?;
        let bound = runner.perform(&Entropy::os(), |runtime| {
            Ok(bind::run(&pairs, input, &mut worker, &mut sink, runtime))
        })?;
        bound.map_err(|error| failed(&name, shown, error))
    };
    let Some(path) = out else {
        let outcome = bind(&mut io::stdout().lock(), STANDARD_OUTPUT)?;
        output::notice(&told(&outcome, STANDARD_OUTPUT));
        return Ok(Status::Done);
    };
    let shown = path.display().to_string();
    let mut file = OutputFile::begin(path)?;
    let outcome = bind(&mut file, &shown)?;
    file.finish()?;
    if arguments.json {
        output::json(&as_json(&outcome, path))?;
    } else {
        output::result(&told(&outcome, &shown))?;
    }
    Ok(Status::Done)
}

impl Arguments {
    fn pairs(&self) -> Result<ContextPairs, Failure> {
        let columns = ColumnList::all(&self.context);
        let pairs = context_pairs(&columns, &self.constant, "--context and --constant")?;
        Ok(pairs.unwrap_or_default())
    }

    fn open(&self) -> Result<Box<dyn Read>, Failure> {
        if self.input == Path::new(STANDARD) {
            return Ok(Box::new(io::stdin().lock()));
        }
        let file = open::named(&self.input).map_err(|error| {
            let reason = match error.kind() {
                io::ErrorKind::NotFound => "there is no such file".to_owned(),
                _ => error.to_string(),
            };
            Failure::failed(format!("{}: {reason}", self.input.display()))
        })?;
        Ok(Box::new(file))
    }

    /// What errors call the input.
    fn name(&self) -> String {
        match self.input.to_str() {
            Some(STANDARD) => "standard input".to_owned(),
            _ => self.input.display().to_string(),
        }
    }
}

/// The line for a stream that was bound.
fn told(outcome: &Outcome, out: &str) -> String {
    let (rows, bytes) = (Counted(outcome.rows, "row"), outcome.bytes);
    let (seconds, rate) = (outcome.elapsed.as_secs_f64(), rate(outcome));
    format!("finished: {rows}, {bytes} bytes in {out}; {seconds:.1} seconds, {rate:.0} keys/s")
}

fn as_json(outcome: &Outcome, out: &Path) -> serde_json::Value {
    json!({
        "ending": "finished",
        "out": out,
        "key_arn": outcome.key_arn,
        "rows": outcome.rows,
        "bytes": outcome.bytes,
        "seconds": outcome.elapsed.as_secs_f64(),
        "keys_per_second": rate(outcome).round(),
    })
}

fn rate(outcome: &Outcome) -> f64 {
    let seconds = outcome.elapsed.as_secs_f64();
    // No time at all has no rate worth a number.
    if seconds > 0.0 {
        outcome.rows as f64 / seconds
    } else {
        0.0
    }
}

/// The failure of a stream, with what has become of the output.
fn failed(input: &str, out: &str, error: StreamError) -> Failure {
    let left = match out {
        STANDARD_OUTPUT => "what standard output has is not whole".to_owned(),
        path => format!("{path} was not made"),
    };
    let line = match &error {
        StreamError::Output(error) => format!("{out}: cannot be written: {error}"),
        StreamError::Source { rows, source } => {
            let rows = Counted(*rows, "row");
            format!("{input}, after {rows}: {}", reason(source))
        }
        StreamError::Input { .. } | StreamError::Row { .. } | StreamError::KeyChanged { .. } => {
            format!("{input}, {error}")
        }
        StreamError::Columns(_) | StreamError::Stopped { .. } | StreamError::Internal(_) => {
            format!("{input}: {error}")
        }
    };
    let line = terminal::shown(&format!("{line}; {left}")).into_owned();
    match error {
        StreamError::Stopped { .. } => Failure::interrupted(line),
        StreamError::Source {
            source: SourceError::Connection { .. },
            ..
        } => Failure::unavailable(line),
        StreamError::Source {
            source: SourceError::Untrusted { .. },
            ..
        } => Failure::configuration(line),
        _ => Failure::failed(line),
    }
}

/// Why there are no more keys. A job's words speak of its parts.
fn reason(source: &SourceError) -> String {
    match source {
        SourceError::MaterialChanged => {
            "the key was rotated each time that the rows were bound".to_owned()
        }
        other => other.to_string(),
    }
}

impl From<OutputError> for Failure {
    fn from(error: OutputError) -> Self {
        match error {
            OutputError::InUse(_) => Self::unavailable(flags::with(&error, &["--out"])),
            OutputError::Exists(_) | OutputError::Io { .. } => {
                Self::failed(flags::with(&error, &["--out"]))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_says_what_has_become_of_the_output() {
        let row = || StreamError::Row {
            row: 7,
            reason: "AccessDeniedException: no\u{1b}[2J".to_owned(),
        };
        let failure = failed("a.arrows", "b.arrows", row());
        assert_eq!(
            failure.message,
            "a.arrows, row 8: AccessDeniedException: no\\u{1b}[2J; b.arrows was not made"
        );
        assert_eq!(failure.status, Status::Failed);
        let failure = failed("a.arrows", "standard output", row());
        let end = "; what standard output has is not whole";
        assert!(failure.message.ends_with(end), "{}", failure.message);
    }

    #[test]
    fn each_kind_of_failure_has_its_status() {
        let of = |source| failed("a", "b", StreamError::Source { rows: 3, source });
        let broken = SourceError::Connection {
            endpoint: "unix:/x".to_owned(),
            reason: "gone".to_owned(),
        };
        let failure = of(broken);
        assert_eq!(failure.status, Status::Unavailable);
        let line = "a, after 3 rows: unix:/x: gone; b was not made";
        assert_eq!(failure.message, line);
        let untrusted = SourceError::Untrusted {
            endpoint: "https://x".to_owned(),
            reason: "its certificate is of an authority that is not known".to_owned(),
        };
        assert_eq!(of(untrusted).status, Status::Configuration);
        assert_eq!(of(SourceError::MaterialChanged).status, Status::Failed);
        let stopped = failed("a", "b", StreamError::Stopped { rows: 9 });
        assert_eq!(stopped.status, Status::Interrupted);
        assert_eq!(stopped.message, "a: stopped after 9 rows; b was not made");
    }
}
