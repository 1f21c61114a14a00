//! `keymill census` and `keymill verify`: tables with blobs, looked through without a change.

use crate::bulk::{Daemon, JobError};
use crate::cli::bulk::{self, PlaceOf, Scene};
use crate::cli::failure::{Failure, Status};
use crate::cli::rewrap::Contexts;
use crate::cli::{Place, output};
use crate::config::Environment;
use crate::crypto::entropy::Entropy;
use crate::rewrap;
use crate::survey::verify::Question;
use crate::survey::{self, Census, Check, Findings, Found, Groups, Remote, Store};
use crate::table::rows::schema;
use crate::table::{Format, Input, Location, Object};
use clap::Args;
use serde_json::{Value, json};
use std::num::NonZeroUsize;

/// Findings that are printed where nobody asked for JSON.
const SHOWN_MAX: usize = 20;

#[derive(Args)]
#[command(after_help = "\
What headers say is counted; nothing is opened, and neither a store nor a daemon is needed. The blobs are in the column ciphertext_blob. Status 1 if some row has bytes there that are no blob.

Examples:
  keymill census provisioned
  keymill census --json 's3://lake/keys/*.parquet'")]
pub(super) struct CensusArguments {
    /// The table: files, folders or patterns of Parquet, local or s3://BUCKET/KEY
    #[arg(value_name = "INPUT", required = true)]
    inputs: Vec<Location>,
    /// Threads [default: one for each core]
    #[arg(long, value_name = "N")]
    workers: Option<NonZeroUsize>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
#[command(after_help = "\
Every blob is opened under its row's context, and none may be there twice, in whichever file; no key is shown. What must pass before a generation is removed. Contexts are the maps of
the column encryption_context, as export and provision write them, unless --context names columns. Through a daemon the caller needs kms:Decrypt, and is sent no plaintext.
What does not fit into memory is for a moment in TMPDIR, 24 bytes for a row. Status 1 if anything was found.

Examples:
  keymill verify provisioned --dir keymill-dev
  keymill verify provisioned --endpoint unix:keymill-dev/keymill.sock --context tenant,volume --constant purpose=volume --id-column volume")]
pub(super) struct VerifyArguments {
    #[command(flatten)]
    place: Place,
    /// The table: files, folders or patterns of Parquet, local or s3://BUCKET/KEY
    #[arg(value_name = "INPUT", required = true)]
    inputs: Vec<Location>,
    #[command(flatten)]
    context: Contexts,
    /// A column whose values may not be there twice either
    #[arg(long, value_name = "COLUMN")]
    id_column: Option<String>,
    /// Threads [default: one for each core]
    #[arg(long, value_name = "N")]
    workers: Option<NonZeroUsize>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn census(
    arguments: CensusArguments,
    environment: &Environment,
) -> Result<Status, Failure> {
    let scene = Scene::set(arguments.json, environment)?;
    let runtime = scene.runtime.handle().clone();
    let (objects, census) = scene.perform(&Entropy::os(), |job| {
        let objects = rewrap::objects(&arguments.inputs, &runtime)?;
        let census = survey::census(&Input {
            format: Format::Parquet,
            objects: &objects,
            workers: bulk::workers(arguments.workers),
            stop: job.stop,
        })?;
        Ok((objects, census))
    })?;
    let Census {
        rows,
        without,
        groups,
        found,
    } = census;
    if arguments.json {
        output::json(&json!({
            "rows": rows,
            "without_blob": without,
            "keys": listed(&groups),
            "findings": found.count,
            "found": told(&found, &objects),
        }))?;
    } else {
        print(&groups)?;
        output::result(&format!("{rows} rows, {without} without a blob"))?;
        print_found(&found, &objects)?;
    }
    Ok(status(&found))
}

pub(super) fn verify(
    arguments: VerifyArguments,
    environment: &Environment,
) -> Result<Status, Failure> {
    let scene = Scene::set(arguments.json, environment)?;
    let (objects, findings) = match arguments.place.source(environment)? {
        PlaceOf::Store(config) => scene.at_store(&config, |core| {
            let recorder = scene.recorder("Verify", &config, core);
            let inputs = arguments.inputs.iter().map(ToString::to_string);
            let asked = json!({"Inputs": inputs.collect::<Vec<_>>()}).to_string();
            recorder.begin(&asked).map_err(JobError::from)?;
            let store = Store(core.keystore.snapshot());
            arguments.perform(&scene, &store)
        })?,
        PlaceOf::Daemon(endpoint) => {
            let daemon: Daemon = scene.daemon(&endpoint, environment)?;
            arguments.perform(&scene, &Remote(daemon))?
        }
    };
    let Findings {
        rows,
        groups,
        found,
    } = findings;
    if arguments.json {
        output::json(&json!({
            "rows": rows,
            "keys": listed(&groups),
            "findings": found.count,
            "found": told(&found, &objects),
        }))?;
    } else {
        print(&groups)?;
        output::result(&format!("{rows} rows, {} findings", found.count))?;
        print_found(&found, &objects)?;
    }
    Ok(status(&found))
}

impl VerifyArguments {
    fn perform<C: Check>(
        &self,
        scene: &Scene,
        check: &C,
    ) -> Result<(Vec<Object>, Findings), Failure> {
        let context = self.context.source()?;
        let runtime = scene.runtime.handle().clone();
        scene.perform(&Entropy::os(), |job| {
            let objects = rewrap::objects(&self.inputs, &runtime)?;
            for object in &objects {
                let schema = schema(Format::Parquet, object)?;
                rewrap::check_columns(object, &schema, &[&context])?;
            }
            let input = Input {
                format: Format::Parquet,
                objects: &objects,
                workers: bulk::workers(self.workers),
                stop: job.stop,
            };
            let question = Question {
                context: &context,
                id_column: self.id_column.as_deref(),
                scratch: &std::env::temp_dir(),
            };
            let findings = survey::verify(&input, &question, check)?;
            Ok((objects, findings))
        })
    }
}

fn listed(groups: &Groups) -> Vec<Value> {
    let listed = groups.iter().map(|(group, count)| {
        json!({
            "key_id": group.key_id.to_string(),
            "generation": group.generation,
            "data_key_bytes": group.data_key_bytes,
            "count": count,
        })
    });
    listed.collect()
}

fn told(found: &Found, objects: &[Object]) -> Vec<String> {
    let told = found.told.iter();
    told.map(|finding| finding.shown(objects)).collect()
}

fn print(groups: &Groups) -> Result<(), Failure> {
    if groups.is_empty() {
        return Ok(());
    }
    let mut lines = vec![format!(
        "{:36}  {:>10}  {:>8}  {:>12}",
        "key id", "generation", "key size", "blobs"
    )];
    lines.extend(groups.iter().map(|(group, count)| {
        format!(
            "{:36}  {:>10}  {:>8}  {count:>12}",
            group.key_id.to_string(),
            group.generation,
            group.data_key_bytes,
        )
    }));
    output::result(&lines.join("\n"))
}

fn print_found(found: &Found, objects: &[Object]) -> Result<(), Failure> {
    for finding in found.told.iter().take(SHOWN_MAX) {
        output::result(&output::shown(&finding.shown(objects)))?;
    }
    let more = found.count.saturating_sub(SHOWN_MAX as u64);
    if more > 0 {
        output::result(&format!(
            "and {more} more; --json tells of the first thousand"
        ))?;
    }
    Ok(())
}

fn status(found: &Found) -> Status {
    match found.count {
        0 => Status::Done,
        _ => Status::Failed,
    }
}
