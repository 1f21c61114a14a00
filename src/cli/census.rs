//! `keymill census`: how many wrapped data keys of a table are under which key and generation.

use crate::census::{self, Census};
use crate::cli::bulk::{self, JobRunner};
use crate::cli::columns::FolderArguments;
use crate::cli::failure::{Failure, Status};
use crate::cli::findings::Report;
use crate::columns::shown::Counted;
use crate::config::{Config, Environment};
use crate::crypto::entropy::Entropy;
use crate::rewrap;
use crate::table::{Format, Input, Location};
use clap::Args;
use serde_json::json;
use std::num::NonZeroUsize;

#[derive(Args)]
#[command(after_help = "\
What headers say is counted; nothing is opened, and neither a store nor a daemon is needed. Rows are named by their file and their number there, from 1. The blobs are in the column ciphertext_blob. Status 1 if some row has bytes there that are not a blob, 2 if the table cannot be read.

Examples:
  keymill census provisioned
  keymill census --json 's3://lake/keys/*.parquet'")]
pub(super) struct Arguments {
    /// The table: files, folders or patterns of Parquet, local or s3://BUCKET/KEY
    #[arg(value_name = "INPUT", required = true)]
    inputs: Vec<Location>,
    #[command(flatten)]
    folders: FolderArguments,
    /// Threads [default: one for each core]
    #[arg(long, value_name = "N", value_parser = bulk::threads)]
    workers: Option<NonZeroUsize>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: Arguments, environment: &Environment) -> Result<Status, Failure> {
    Config::check_variables(environment)?;
    let runner = JobRunner::start(arguments.json, environment)?;
    let runtime = runner.runtime.handle().clone();
    let (objects, census) = runner.perform(&Entropy::os(), |job| {
        let objects = rewrap::objects(&arguments.inputs, arguments.folders.names(), &runtime)?;
        let census = census::census(&Input {
            format: Format::Parquet,
            objects: &objects,
            workers: bulk::workers(arguments.workers),
            watch: job,
        })?;
        Ok((objects, census))
    })?;
    let Census { rows, without, .. } = census;
    let report = Report {
        objects: &objects,
        counts: json!({"rows": rows, "without_blob": without}),
        line: format!("{}, {without} without a blob", Counted(rows, "row")),
        groups: &census.groups,
        findings: &census.findings,
    };
    match arguments.json {
        true => report.print_json(),
        false => report.print(),
    }
}
