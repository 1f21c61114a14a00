//! `keymill verify`: whether every wrapped data key of a table opens, and none is there twice.

use crate::bulk::JobError;
use crate::bulk::keys::KeySource;
use crate::bulk::remote::Remote;
use crate::cli::bulk::{self, JobRunner};
use crate::cli::columns::{ContextArguments, FolderArguments};
use crate::cli::failure::{Failure, Status};
use crate::cli::findings::Report;
use crate::cli::target::{JobTarget, Target};
use crate::columns::shown::Counted;
use crate::config::Environment;
use crate::crypto::entropy::Entropy;
use crate::rewrap;
use crate::table::reader::schema;
use crate::table::{Format, Input, Location, Object, TableError, Watch};
use crate::verify::{self, Check, Question, Store};
use clap::Args;
use serde_json::json;
use std::num::NonZeroUsize;

#[derive(Args)]
#[command(after_help = "\
Every blob is opened under its row's context, and none may be there twice, in whichever file; no key is shown. What must pass before a generation is removed. Rows are named by their file and their number there, from 1. Contexts are the maps of
the column encryption_context, or the columns that the footers name, as export and provision write them, unless --context names columns. Through a daemon the caller needs kms:Decrypt, and is sent no plaintext.
What does not fit into memory is for a moment in TMPDIR, 24 bytes for a row. Status 1 if anything was found, 2 if the table could not be looked at.

Examples:
  keymill verify provisioned --dir keymill-dev
  keymill verify provisioned --endpoint unix:keymill-dev/keymill.sock --context tenant,volume --constant purpose=volume --id-column volume")]
pub(super) struct Arguments {
    #[command(flatten)]
    target: JobTarget,
    /// The table: files, folders or patterns of Parquet, local or s3://BUCKET/KEY
    #[arg(value_name = "INPUT", required = true)]
    inputs: Vec<Location>,
    #[command(flatten)]
    folders: FolderArguments,
    #[command(flatten)]
    context: ContextArguments,
    /// A column whose values may not be there twice either
    #[arg(long, value_name = "COLUMN")]
    id_column: Option<String>,
    /// Threads [default: one for each core]
    #[arg(long, value_name = "N", value_parser = bulk::threads)]
    workers: Option<NonZeroUsize>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: Arguments, environment: &Environment) -> Result<Status, Failure> {
    let runner = JobRunner::start(arguments.json, environment)?;
    let (objects, report) = match arguments.target.target(environment)? {
        Target::Store(config) => runner.at_store(&config, |core| {
            let recorder = runner.recorder("Verify", &config, core);
            let inputs = arguments.inputs.iter().map(ToString::to_string);
            let asked = json!({"Inputs": inputs.collect::<Vec<_>>()}).to_string();
            // The audit log has the start of a run that opens blobs, even if it dies.
            recorder.begin(&asked).map_err(JobError::from)?;
            let store = Store(core.keystore.snapshot());
            arguments.perform(&runner, &store)
        })?,
        Target::Daemon(endpoints) => {
            let source = Remote {
                daemons: runner.daemons(&endpoints, environment)?,
                work: Check,
            };
            arguments.perform(&runner, &source)?
        }
    };
    let verify::Report { rows, findings, .. } = &report;
    let report = Report {
        objects: &objects,
        counts: json!({"rows": rows}),
        line: format!(
            "{}, {}",
            Counted(*rows, "row"),
            Counted(findings.count, "finding")
        ),
        groups: &report.groups,
        findings,
    };
    match arguments.json {
        true => report.print_json(),
        false => report.print(),
    }
}

impl Arguments {
    fn perform<S: KeySource<Operation = Check, Worker: Send>>(
        &self,
        runner: &JobRunner,
        source: &S,
    ) -> Result<(Vec<Object>, verify::Report), Failure> {
        let named = self.context.source()?;
        let runtime = runner.runtime.handle().clone();
        runner.perform(&Entropy::os(), |job| {
            let objects = rewrap::objects(&self.inputs, self.folders.names(), &runtime)?;
            let context = match &named {
                Some(named) => named.clone(),
                None => rewrap::contexts_of(&objects, job).map_err(verify::unseen)?,
            };
            for object in &objects {
                if job.is_stopped() {
                    return Err(verify::unseen(TableError::Stopped));
                }
                let schema = schema(Format::Parquet, object)?;
                rewrap::check_columns(object, &schema, &[&context])?;
            }
            let input = Input {
                format: Format::Parquet,
                objects: &objects,
                workers: bulk::workers(self.workers),
                watch: job,
            };
            let question = Question {
                context: &context,
                id_column: self.id_column.as_deref(),
                scratch: &std::env::temp_dir(),
            };
            let report = verify::verify(&input, &question, source)?;
            Ok((objects, report))
        })
    }
}
