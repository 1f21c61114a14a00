//! A job as its command runs it: on the opened store, or through a daemon with the caller's rights;
//! and how it ended.

use crate::bulk::keys::{KeySource, Operation};
use crate::bulk::local::LocalWork;
use crate::bulk::remote::Remote;
use crate::bulk::{Ending, JobError, Kind, Outcome, Runtime};
use crate::cli::bulk::JobRunner;
use crate::cli::failure::{Failure, Status};
use crate::cli::output;
use crate::cli::target::{Endpoints, Target};
use crate::columns::shown::Counted;
use crate::config::Environment;
use crate::crypto::entropy::Entropy;
use crate::daemon::Core;
use serde_json::json;
use std::path::Path;

/// What a job is to do.
pub(super) trait Job {
    /// What its manifest says.
    type Kind: Kind;
    /// What is done with rows.
    type Operation: Operation;
    /// How this process does it.
    type Local: LocalWork<Operation = Self::Operation>;
    /// How a daemon does it.
    type Remote;

    /// What the audit log calls its parts.
    const EVENT: &'static str;

    /// The key as the caller names it.
    fn key(&self) -> &str;

    /// What this process does, with the opened store.
    fn local(&self, core: &Core) -> Self::Local;

    /// What a daemon does.
    fn remote(&self) -> Self::Remote;

    /// Runs the job with the keys of `source`.
    ///
    /// # Errors
    /// [`JobError`], as the job says it.
    fn run<S: KeySource<Operation = Self::Operation>>(
        &self,
        source: &S,
        runtime: &Runtime<'_>,
    ) -> Result<Outcome<Self::Kind>, JobError>;
}

/// Runs a job where it is to be run.
///
/// # Errors
/// [`Failure`], when the store or the daemon cannot be had, or the job fails.
pub(super) fn run<J: Job>(
    job: &J,
    runner: &JobRunner,
    target: Target<Endpoints>,
    environment: &Environment,
) -> Result<Outcome<J::Kind>, Failure>
where
    Remote<J::Remote>: KeySource<Operation = J::Operation>,
{
    match target {
        Target::Store(config) => runner.at_store(&config, |core| {
            let of_core = (&*config, core);
            let source = runner.local(job.local(core), job.key(), J::EVENT, of_core)?;
            runner.perform(&core.entropy, |runtime| job.run(&source, runtime))
        }),
        Target::Daemon(endpoints) => {
            let source = Remote {
                daemons: runner.daemons(&endpoints, environment)?,
                work: job.remote(),
            };
            runner.perform(&Entropy::os(), |runtime| job.run(&source, runtime))
        }
    }
}

/// Prints how a job ended.
///
/// # Errors
/// [`Failure`] when standard output fails.
pub(super) fn print_outcome<K: Kind>(
    outcome: &Outcome<K>,
    out: &Path,
    as_json: bool,
) -> Result<Status, Failure> {
    let (status, ending) = match outcome.ending {
        Ending::Finished => (Status::Done, "finished"),
        Ending::FoundFinished => (Status::Done, "found finished"),
        Ending::Stopped => (Status::Interrupted, "stopped"),
    };
    let manifest = &outcome.manifest;
    let seconds = outcome.elapsed.as_secs_f64();
    let written = outcome.rows_written;
    // A run of no time has written nothing worth a rate.
    let rate = if seconds > 0.0 {
        written as f64 / seconds
    } else {
        0.0
    };
    let (rows, bytes, parts) = (manifest.rows, manifest.bytes, manifest.parts.len());
    if as_json {
        output::json(&json!({
            "ending": ending,
            "out": out,
            "run": manifest.run,
            "key_arn": manifest.parameters.key_arn,
            "rows": rows,
            "rows_written": written,
            "rows_left_out": manifest.parameters.left_out,
            "bytes": bytes,
            "parts": parts,
            "seconds": seconds,
            "keys_per_second": rate.round(),
        }))?;
    } else {
        let out = out.display();
        let rest = match outcome.ending {
            Ending::Stopped => format!(
                "; {} to go, the same command goes on",
                Counted(manifest.parameters.count - rows, "row")
            ),
            Ending::Finished | Ending::FoundFinished => String::new(),
        };
        output::result(&format!(
            "{ending}: {}, {bytes} bytes, {} in {out}; this run wrote {} in {seconds:.1} seconds, {rate:.0} keys/s{rest}",
            Counted(rows, "row"),
            Counted(parts as u64, "part"),
            Counted(written, "row"),
        ))?;
    }
    Ok(status)
}
