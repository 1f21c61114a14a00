//! `keymill provision`: the users' own table, and a wrapped key beside each row; from the opened
//! store, or from a running daemon with the caller's rights.

use crate::bulk::keys::KeySource;
use crate::bulk::{Ending, JobError, Runtime};
use crate::cli::bulk::{JobRunner, LengthArguments, PartArguments};
use crate::cli::columns::{COLUMNS, ColumnList, FolderArguments, columns, context_pairs};
use crate::cli::context::pair;
use crate::cli::failure::{Failure, Status};
use crate::cli::job::{self, Job};
use crate::cli::output;
use crate::cli::target::JobTarget;
use crate::columns::shown::Counted;
use crate::config::Environment;
use crate::daemon::Core;
use crate::provision::{self, Bind, Outcome, Parameters, Plan};
use crate::table::encoding::{UnknownEncoding, labelled};
use crate::table::{Format, Location};
use clap::Args;
use clap::builder::PossibleValuesParser;
use encoding_rs::Encoding;
use strum::VariantNames;

#[derive(Args)]
#[command(after_help = "\
Every column of the table is kept. A row's encryption context has a pair for each column that --context names, and the pairs of --constant. Ids and contexts are text, and
no id comes twice; a row that cannot be used is named with its file and its number there, from 1 (a header is not a row), before the first key is made.
A run that was stopped or has died is resumed by the same command, on the same files. SIGINT or SIGTERM stops it after the parts under way, with status 130.
For s3://, and over http and https, AWS's usual variables are read: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, AWS_REGION, AWS_ENDPOINT_URL_S3, AWS_CA_BUNDLE.

Examples:
  keymill provision volumes.parquet --endpoint unix:keymill-dev/keymill.sock --key alias/containers --id-column volume --context tenant,volume --out provisioned
  keymill provision 's3://lake/volumes/*.csv' --dir keymill-dev --key alias/containers --id-column volume --context tenant,volume --constant purpose=volume --out provisioned")]
pub(super) struct Arguments {
    #[command(flatten)]
    target: JobTarget,
    /// The table: files, folders or patterns of Parquet, CSV or NDJSON (text also as .gz or .zst),
    /// local or s3://BUCKET/KEY; - is standard input
    #[arg(value_name = "INPUT", required = true)]
    inputs: Vec<Location>,
    /// The table's format: parquet, csv or ndjson [default: as the names of its files say]
    #[arg(long, value_name = "FORMAT", value_parser = PossibleValuesParser::new(Format::VARIANTS))]
    input_format: Option<String>,
    /// The encoding of CSV, by a label of the WHATWG Encoding Standard: windows-1252, utf-16le,
    /// shift_jis, … [default: utf-8]
    #[arg(long, value_name = "LABEL", value_parser = charset)]
    encoding: Option<Charset>,
    #[command(flatten)]
    folders: FolderArguments,
    /// Key id, key ARN, alias or alias ARN
    #[arg(long, value_name = "KEY")]
    key: String,
    #[command(flatten)]
    length: LengthArguments,
    /// The column of container ids
    #[arg(long, value_name = "COLUMN")]
    id_column: String,
    /// The columns that each row's encryption context is made of; may be given more than once, and
    /// a name with a comma is in quotes: '"a,b",c'
    #[arg(long, value_name = COLUMNS, value_parser = columns, required = true)]
    context: Vec<ColumnList>,
    /// A pair that every row's encryption context has; may be given more than once
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    constant: Vec<(String, String)>,
    /// What becomes of rows that cannot be used: stop ends the job before its first key, skip
    /// leaves them out and lists them in _rejects.ndjson
    #[arg(long, value_name = "HOW", value_parser = ["stop", "skip"], default_value = "stop")]
    on_error: String,
    /// Write each row's encryption context as a map as well, in the column encryption_context
    /// [default: the footers name its columns]
    #[arg(long)]
    context_map: bool,
    #[command(flatten)]
    parts: PartArguments,
    /// Print the outcome as JSON, and how far it is as a JSON line on standard error now and then
    #[arg(long)]
    json: bool,
}

/// The encoding of a table; `None` is UTF-8.
#[derive(Clone, Copy)]
struct Charset(Option<&'static Encoding>);

fn charset(label: &str) -> Result<Charset, UnknownEncoding> {
    labelled(label).map(Charset)
}

pub(super) fn run(arguments: Arguments, environment: &Environment) -> Result<Status, Failure> {
    let runner = JobRunner::start(arguments.json, environment)?;
    let plan = arguments.plan(&runner)?;
    let target = arguments.target.target(environment)?;
    let outcome = job::run(&plan, &runner, target, environment)?;
    let left_out = outcome.manifest.parameters.left_out;
    if left_out > 0 && outcome.ending != Ending::Stopped {
        let rejects = plan.job.out.path().join("_rejects.ndjson");
        let (rows, were) = (
            Counted(left_out, "row"),
            if left_out == 1 { "was" } else { "were" },
        );
        output::notice(&format!(
            "{rows} {were} left out; {} says which and why",
            rejects.display()
        ));
    }
    job::print_outcome(&outcome, plan.job.out.path(), arguments.json)
}

impl Job for Plan {
    type Kind = Parameters;
    type Operation = Bind;
    type Local = Bind;
    type Remote = Bind;

    const EVENT: &'static str = "Provision";

    fn key(&self) -> &str {
        &self.job.key
    }

    fn local(&self, _core: &Core) -> Bind {
        self.remote()
    }

    fn remote(&self) -> Bind {
        Bind {
            key: self.job.key.clone(),
            length: self.length,
            pairs: self.pairs.clone(),
        }
    }

    fn run<S: KeySource<Operation = Bind>>(
        &self,
        source: &S,
        runtime: &Runtime<'_>,
    ) -> Result<Outcome, JobError> {
        provision::run(self, source, std::io::stdin().lock(), runtime)
    }
}

impl Arguments {
    fn plan(&self, runner: &JobRunner) -> Result<Plan, Failure> {
        let columns = ColumnList::all(&self.context);
        let pairs = context_pairs(&columns, &self.constant, "--context and --constant")?;
        Ok(Plan {
            job: self
                .parts
                .of_table(&self.key, &self.inputs, &self.folders, runner)?,
            length: self.length.length(),
            format: self
                .input_format
                .as_deref()
                .and_then(|name| name.parse().ok()),
            encoding: self.encoding.and_then(|Charset(encoding)| encoding),
            id_column: self.id_column.clone(),
            pairs: pairs.unwrap_or_default(),
            skip: self.on_error == "skip",
            context_map: self.context_map,
        })
    }
}
