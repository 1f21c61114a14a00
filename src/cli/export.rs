//! `keymill export`: from the opened store, or from a running daemon with the caller's rights.

use crate::bulk::keys::KeySource;
use crate::bulk::{JobError, Runtime};
use crate::cli::bulk::{self, JobRunner, LengthArguments, PartArguments};
use crate::cli::context::{no_columns, pair};
use crate::cli::failure::{Failure, Status};
use crate::cli::job::{self, Job};
use crate::cli::target::JobTarget;
use crate::config::Environment;
use crate::context::EncryptionContext;
use crate::daemon::Core;
use crate::export::{self, IdPattern, Mint, Outcome, Parameters, Plan};
use clap::Args;
use std::num::NonZeroU64;

#[derive(Args)]
#[command(after_help = "\
A run that was stopped or has died is resumed by the same command. SIGINT or SIGTERM stops it after the parts under way, with status 130.
Over http and https the usual variables sign the calls: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN (of a role's session), AWS_REGION or
AWS_DEFAULT_REGION. Over https the daemon's certificate must be of an authority that this machine knows, or that is in the file AWS_CA_BUNDLE (PEM).

Examples:
  keymill export --dir keymill-dev --key alias/containers --count 1000000 --out containers
  keymill export --endpoint unix:keymill-dev/keymill.sock --key alias/containers --count 1000000 --out tenant-7 --constant tenant=7 --id-pattern 'volume-{:08}'
  AWS_CA_BUNDLE=ca.pem keymill export --endpoint https://kms.example:5645 --key alias/containers --count 1000000 --out containers")]
pub(super) struct Arguments {
    #[command(flatten)]
    target: JobTarget,
    /// Key id, key ARN, alias or alias ARN
    #[arg(long, value_name = "KEY")]
    key: String,
    /// Rows in all
    #[arg(long, value_name = "N", value_parser = bulk::count)]
    count: NonZeroU64,
    #[command(flatten)]
    parts: PartArguments,
    #[command(flatten)]
    length: LengthArguments,
    /// How containers are named; {} or {:0N} is the row's number
    #[arg(long, value_name = "PATTERN", default_value = IdPattern::DEFAULT)]
    id_pattern: IdPattern,
    /// A pair of every row's encryption context; may be given more than once
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    constant: Vec<(String, String)>,
    /// Names columns in other commands; here it is refused with a hint.
    #[arg(long = "context", hide = true, value_parser = no_columns())]
    _context: Option<String>,
    /// Print the outcome as JSON, and how far it is as a JSON line on standard error now and then
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: Arguments, environment: &Environment) -> Result<Status, Failure> {
    let runner = JobRunner::start(arguments.json, environment)?;
    let plan = arguments.plan(&runner)?;
    let target = arguments.target.target(environment)?;
    let outcome = job::run(&plan, &runner, target, environment)?;
    job::print_outcome(&outcome, plan.out.path(), arguments.json)
}

impl Job for Plan {
    type Kind = Parameters;
    type Operation = Mint;
    type Local = Mint;
    type Remote = Mint;

    const EVENT: &'static str = "Export";

    fn key(&self) -> &str {
        &self.key
    }

    fn local(&self, _core: &Core) -> Mint {
        self.remote()
    }

    fn remote(&self) -> Mint {
        Mint {
            key: self.key.clone(),
            length: self.length,
            context: self.context.clone(),
        }
    }

    fn run<S: KeySource<Operation = Mint>>(
        &self,
        source: &S,
        runtime: &Runtime<'_>,
    ) -> Result<Outcome, JobError> {
        export::run(self, source, runtime)
    }
}

impl Arguments {
    fn plan(&self, runner: &JobRunner) -> Result<Plan, Failure> {
        let pairs = self.constant.iter().map(|(name, value)| (name, value));
        let context = EncryptionContext::from_pairs(pairs)
            .map_err(|error| Failure::usage(format!("--constant: {error}")))?;
        Ok(Plan {
            key: self.key.clone(),
            length: self.length.length(),
            count: self.count,
            id_pattern: self.id_pattern.clone(),
            context,
            rows_per_part: self.parts.rows_per_part,
            out: self.parts.out(runner)?,
            workers: bulk::workers(self.parts.workers),
        })
    }
}
