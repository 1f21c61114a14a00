//! `keymill rewrap`: a table's blobs under another key, generation or context; from the opened
//! store, or through a running daemon with the caller's rights.

use crate::bulk::keys::KeySource;
use crate::bulk::{JobError, Runtime};
use crate::cli::bulk::{JobRunner, PartArguments};
use crate::cli::columns::{
    COLUMNS, ColumnList, ContextArguments, FolderArguments, context_pairs, new_columns,
};
use crate::cli::context::pair;
use crate::cli::failure::{Failure, Status};
use crate::cli::job::{self, Job};
use crate::cli::target::JobTarget;
use crate::config::Environment;
use crate::daemon::Core;
use crate::rewrap::{self, LocalReseal, Outcome, Parameters, Plan, RemoteReseal, Reseal};
use crate::table::Location;
use clap::Args;

#[derive(Args)]
#[command(after_help = "\
The blobs are in the column ciphertext_blob. Contexts are the maps of the column encryption_context, or the columns that the footers name, as export and provision write them, unless
--context names columns. Every other column is copied as it is. Through a daemon the caller needs kms:ReEncryptFrom and kms:ReEncryptTo, and sees no plaintext.
A run that was stopped or has died is resumed by the same command, on the same files. SIGINT or SIGTERM stops it after the parts under way, with status 130.

Examples:
  keymill rewrap provisioned --endpoint unix:keymill-dev/keymill.sock --key alias/containers --out rewrapped
  keymill rewrap 's3://lake/keys/*.parquet' --dir keymill-dev --key alias/next --context tenant,volume --new-context tenant,volume,zone --out rewrapped")]
pub(super) struct Arguments {
    #[command(flatten)]
    target: JobTarget,
    /// The table: files, folders or patterns of Parquet, local or s3://BUCKET/KEY
    #[arg(value_name = "INPUT", required = true)]
    inputs: Vec<Location>,
    #[command(flatten)]
    folders: FolderArguments,
    /// The key that blobs are to be under, at its newest generation: key id, key ARN, alias or
    /// alias ARN
    #[arg(long, value_name = "KEY")]
    key: String,
    #[command(flatten)]
    context: ContextArguments,
    /// The columns of the context that each blob is to be bound to, as --context names them
    /// [default: as it is]
    #[arg(long, value_name = COLUMNS, value_parser = new_columns)]
    new_context: Vec<ColumnList>,
    /// A pair of the context that every blob is to be bound to; may be given more than once
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    new_constant: Vec<(String, String)>,
    /// Write each row's context as a map in the column encryption_context, also where the table has
    /// no such column
    #[arg(long)]
    context_map: bool,
    #[command(flatten)]
    parts: PartArguments,
    /// Print the outcome as JSON, and how far it is as a JSON line on standard error now and then
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: Arguments, environment: &Environment) -> Result<Status, Failure> {
    let runner = JobRunner::start(arguments.json, environment)?;
    let plan = arguments.plan(&runner)?;
    let target = arguments.target.target(environment)?;
    let outcome = job::run(&plan, &runner, target, environment)?;
    job::print_outcome(&outcome, plan.job.out.path(), arguments.json)
}

impl Job for Plan {
    type Kind = Parameters;
    type Operation = Reseal;
    type Local = LocalReseal;
    type Remote = RemoteReseal;

    const EVENT: &'static str = "Rewrap";

    fn key(&self) -> &str {
        &self.job.key
    }

    fn local(&self, core: &Core) -> LocalReseal {
        LocalReseal(core.keystore.snapshot())
    }

    fn remote(&self) -> RemoteReseal {
        RemoteReseal {
            key: self.job.key.clone(),
            has_new_context: self.new_context.is_some(),
        }
    }

    fn run<S: KeySource<Operation = Reseal>>(
        &self,
        source: &S,
        runtime: &Runtime<'_>,
    ) -> Result<Outcome, JobError> {
        rewrap::run(self, source, runtime)
    }
}

impl Arguments {
    fn plan(&self, runner: &JobRunner) -> Result<Plan, Failure> {
        let arguments = "--new-context and --new-constant";
        let new_context = ColumnList::all(&self.new_context);
        Ok(Plan {
            job: self
                .parts
                .of_table(&self.key, &self.inputs, &self.folders, runner)?,
            context: self.context.source()?,
            new_context: context_pairs(&new_context, &self.new_constant, arguments)?,
            context_map: self.context_map,
        })
    }
}
