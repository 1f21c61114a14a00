//! `keymill export`: from the opened store, or from a running daemon with the caller's rights.

use crate::api::Requester;
use crate::auth::Credentials;
use crate::cli::failure::{Failure, Status};
use crate::cli::operator::{open_store, operator};
use crate::cli::{Place, log, output, pair};
use crate::clock::Clock;
use crate::config::{Config, Environment, Log, LogFormat, LogLevel};
use crate::context::EncryptionContext;
use crate::crypto::entropy::Entropy;
use crate::crypto::secret::SecretBytes;
use crate::daemon::Signals;
use crate::export::{
    self, Authorities, AuthoritiesError, Ending, Endpoint, IdPattern, Local, Outcome, Plan,
    Progress, Recorded, Remote, Source,
};
use crate::key::arn::{AliasName, Arn};
use crate::key::data_key::DataKeyLength;
use crate::keystore::{KeyEntry, Snapshot};
use clap::Args;
use serde_json::json;
use std::io::IsTerminal;
use std::num::{NonZeroU64, NonZeroUsize};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::runtime::Runtime;

/// The variable that names a file of certificate authorities.
const CA_BUNDLE: &str = "AWS_CA_BUNDLE";

#[derive(Args)]
#[command(after_help = "\
A run that was stopped or has died is resumed by the same command. SIGINT or SIGTERM stops it after the parts under way, with status 130.
Over http and https the usual variables sign the calls: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN (of a role's session), AWS_REGION or
AWS_DEFAULT_REGION. Over https the daemon's certificate must be of an authority that this machine knows, or that is in the file AWS_CA_BUNDLE (PEM).

Examples:
  keymill export --dir keymill-dev --key alias/containers --count 1000000 --out containers
  keymill export --endpoint unix:keymill-dev/keymill.sock --key alias/containers --count 1000000 --out tenant-7 --context tenant=7 --id-pattern 'volume-{:08}'
  AWS_CA_BUNDLE=ca.pem keymill export --endpoint https://kms.example:5645 --key alias/containers --count 1000000 --out containers")]
pub(super) struct Arguments {
    #[command(flatten)]
    place: Place,
    /// Key id, key ARN, alias or alias ARN
    #[arg(long, value_name = "KEY")]
    key: String,
    /// Rows in all
    #[arg(long, value_name = "N")]
    count: NonZeroU64,
    /// The folder for parts and manifest, made if it is not there
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Length of every data key: AES_256 or AES_128 [default: AES_256]
    #[arg(long, value_name = "SPEC", value_parser = ["AES_256", "AES_128"], conflicts_with = "number_of_bytes")]
    key_spec: Option<String>,
    /// Length of every data key in bytes, 1 to 1024
    #[arg(long, value_name = "N", value_parser = length)]
    number_of_bytes: Option<DataKeyLength>,
    /// How containers are named; {} or {:0N} is the row's number
    #[arg(long, value_name = "PATTERN", default_value = IdPattern::DEFAULT)]
    id_pattern: IdPattern,
    /// A pair of every row's encryption context; may be given more than once
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    context: Vec<(String, String)>,
    /// Rows of a part [default: enough to keep every worker busy, at most 1048576]
    #[arg(long, value_name = "N")]
    rows_per_part: Option<NonZeroU64>,
    /// Parts written at the same time [default: one for each core]
    #[arg(long, value_name = "N")]
    workers: Option<NonZeroUsize>,
    /// Print the outcome as JSON
    #[arg(long)]
    json: bool,
}

fn length(text: &str) -> Result<DataKeyLength, String> {
    let bytes = text.parse::<usize>().map_err(|error| error.to_string())?;
    DataKeyLength::new(bytes).map_err(|error| error.to_string())
}

pub(super) fn run(arguments: Arguments, environment: &Environment) -> Result<Status, Failure> {
    let on_terminal = std::io::stderr().is_terminal();
    // A bar and log lines would write over each other.
    let level = if on_terminal {
        LogLevel::Warn
    } else {
        LogLevel::Info
    };
    let format = LogFormat::Text;
    log::start(&Log { format, level }, environment);
    let plan = arguments.plan()?;
    let runtime = super::runtime()?;
    let clock = Clock::system();
    let run = Run {
        plan: &plan,
        runtime: &runtime,
        progress: if on_terminal {
            Progress::terminal()
        } else {
            Progress::log(clock.clone())
        },
        clock,
    };
    let outcome = match (
        arguments.place.config(environment)?,
        &arguments.place.endpoint,
    ) {
        (None, Some(endpoint)) => run.at_daemon(endpoint, environment)?,
        (Some(config), _) => run.at_store(&config)?,
        (None, None) => return Err(Failure::usage("name a store or a daemon")),
    };
    print(&outcome, &plan, arguments.json)
}

impl Arguments {
    fn plan(&self) -> Result<Plan, Failure> {
        let length = match (&self.key_spec, self.number_of_bytes) {
            (_, Some(length)) => length,
            (Some(spec), None) if spec == "AES_128" => DataKeyLength::AES_128,
            (_, None) => DataKeyLength::AES_256,
        };
        let pairs = self.context.iter().map(|(name, value)| (name, value));
        let context = EncryptionContext::from_pairs(pairs)
            .map_err(|error| Failure::usage(format!("--context: {error}")))?;
        let cores = std::thread::available_parallelism();
        let workers = self.workers.or(cores.ok()).unwrap_or(NonZeroUsize::MIN);
        Ok(Plan {
            key: self.key.clone(),
            length,
            count: self.count,
            id_pattern: self.id_pattern.clone(),
            context,
            rows_per_part: self.rows_per_part,
            out: self.out.clone(),
            workers,
        })
    }
}

/// One export, whatever its source.
struct Run<'a> {
    plan: &'a Plan,
    runtime: &'a Runtime,
    progress: Progress,
    clock: Clock,
}

impl Run<'_> {
    fn at_store(&self, config: &Config) -> Result<Outcome, Failure> {
        let core = self.runtime.block_on(open_store(config))?;
        let key = &self.plan.key;
        let entry = resolve(&core.keystore.snapshot(), config, key);
        let outcome = match entry {
            Some(entry) => {
                let local = Local {
                    entry,
                    length: self.plan.length,
                    context: self.plan.context.clone(),
                    entropy: Arc::clone(&core.entropy),
                    clock: self.clock.clone(),
                };
                let source = Recorded {
                    local,
                    api: Arc::clone(&core.api),
                    requester: Requester::local(operator(config)),
                    runtime: self.runtime.handle().clone(),
                };
                self.perform(&source, &core.entropy)
            }
            None => Err(Failure::failed(format!(
                "--key {key}: there is no such key; `keymill key list` shows them all"
            ))),
        };
        self.runtime.block_on(core.close())?;
        outcome
    }

    fn at_daemon(
        &self,
        endpoint: &Endpoint,
        environment: &Environment,
    ) -> Result<Outcome, Failure> {
        let credentials = match endpoint {
            Endpoint::Unix(_) => None,
            Endpoint::Http(_) | Endpoint::Https { .. } => Some(Arc::new(credentials(environment)?)),
        };
        let authorities = match endpoint {
            Endpoint::Unix(_) | Endpoint::Http(_) => None,
            Endpoint::Https { .. } => Some(authorities(environment, &self.clock)?),
        };
        let source = Remote {
            endpoint: endpoint.clone(),
            credentials,
            authorities,
            key: self.plan.key.clone(),
            length: self.plan.length,
            context: self.plan.context.clone(),
            clock: self.clock.clone(),
        };
        self.perform(&source, &Entropy::os())
    }

    /// Runs on this thread, outside of the runtime: the source's workers block.
    fn perform<S: Source>(&self, source: &S, entropy: &Entropy) -> Result<Outcome, Failure> {
        let stop = Arc::new(AtomicBool::new(false));
        let signals = {
            let _within = self.runtime.enter();
            Signals::catch().map_err(Failure::failed)?
        };
        self.runtime.spawn(stop_on(signals, Arc::clone(&stop)));
        let runtime = export::Runtime {
            clock: self.clock.clone(),
            entropy,
            progress: &self.progress,
            stop: &stop,
        };
        Ok(export::run(self.plan, source, &runtime)?)
    }
}

/// The first signal stops the run after the parts under way, the second at once: parts are complete or absent either way.
async fn stop_on(mut signals: Signals, stop: Arc<AtomicBool>) {
    signals.next().await;
    stop.store(true, Ordering::SeqCst);
    output::notice("stopping after the parts under way; a second signal stops at once");
    signals.next().await;
    std::process::exit(Status::Interrupted as i32);
}

/// The key that an operator means by `name`: id, ARN, alias or alias ARN.
fn resolve(snapshot: &Snapshot, config: &Config, name: &str) -> Option<Arc<KeyEntry>> {
    let account = config.account;
    let name = match Arn::split(name) {
        Some(arn) => {
            let ours = config.arn_region().arn(account, arn.resource) == name;
            let resource = arn.resource;
            ours.then(|| resource.strip_prefix("key/").unwrap_or(resource))?
        }
        None => name,
    };
    let id = match name.parse::<AliasName>() {
        Ok(alias) => snapshot.alias(account, &alias)?.target,
        Err(_) => name.parse().ok()?,
    };
    snapshot.key(account, id).cloned()
}

/// The usual variables.
fn credentials(environment: &Environment) -> Result<Credentials, Failure> {
    let region = ["AWS_REGION", "AWS_DEFAULT_REGION"]
        .iter()
        .find_map(|name| environment.variable(name));
    let id = environment.variable("AWS_ACCESS_KEY_ID");
    let secret = environment.variable("AWS_SECRET_ACCESS_KEY");
    let missing = [
        (id, "AWS_ACCESS_KEY_ID"),
        (secret, "AWS_SECRET_ACCESS_KEY"),
        (region, "AWS_REGION (or AWS_DEFAULT_REGION)"),
    ];
    let names: Vec<_> = missing
        .iter()
        .filter(|(value, _)| value.is_none())
        .map(|(_, name)| *name)
        .collect();
    let (Some(id), Some(secret), Some(region)) = (id, secret, region) else {
        return Err(Failure::configuration(format!(
            "calls over http and https are signed: set {}, or use --endpoint unix:PATH",
            names.join(" and ")
        )));
    };
    Ok(Credentials {
        access_key_id: id.to_owned(),
        secret_access_key: SecretBytes::filled(secret.len(), |bytes| {
            bytes.copy_from_slice(secret.as_bytes());
        }),
        session_token: environment.variable("AWS_SESSION_TOKEN").map(str::to_owned),
        region: region.to_owned(),
    })
}

/// Those of the machine, and those of the file that AWS's own tools take from the same variable.
fn authorities(environment: &Environment, clock: &Clock) -> Result<Authorities, Failure> {
    let bundle = environment.variable(CA_BUNDLE);
    Authorities::load(bundle.map(Path::new), clock).map_err(|error| {
        Failure::configuration(match error {
            AuthoritiesError::Io { .. } | AuthoritiesError::Refused { .. } => {
                format!("{CA_BUNDLE}: {error}")
            }
            AuthoritiesError::Nobody | AuthoritiesError::Provider(_) => error.to_string(),
        })
    })
}

fn print(outcome: &Outcome, plan: &Plan, json: bool) -> Result<Status, Failure> {
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
    if json {
        output::json(&json!({
            "ending": ending,
            "out": plan.out,
            "run": manifest.run,
            "key_arn": manifest.parameters.key_arn,
            "rows": rows,
            "rows_written": written,
            "bytes": bytes,
            "parts": parts,
            "seconds": seconds,
            "keys_per_second": rate.round(),
        }))?;
    } else {
        let out = plan.out.display();
        let rest = match outcome.ending {
            Ending::Stopped => format!(
                "; {} rows are left, the same command goes on",
                plan.count.get() - rows
            ),
            Ending::Finished | Ending::FoundFinished => String::new(),
        };
        output::result(&format!(
            "{ending}: {rows} rows, {bytes} bytes, {parts} parts in {out}; this run wrote {written} rows in {seconds:.1} seconds, {rate:.0} keys/s{rest}"
        ))?;
    }
    Ok(status)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(variables: &[(&str, &str)]) -> String {
        let environment = Environment::from_pairs(variables.iter().copied());
        let failure = credentials(&environment).err().unwrap();
        assert_eq!(failure.status, Status::Configuration);
        failure.message
    }

    #[test]
    fn credentials_come_from_the_usual_variables() {
        let environment = Environment::from_pairs([
            ("AWS_ACCESS_KEY_ID", "AKIA"),
            ("AWS_SECRET_ACCESS_KEY", "secret"),
            ("AWS_DEFAULT_REGION", "eu-west-1"),
            ("AWS_SESSION_TOKEN", ""),
        ]);
        let credentials = credentials(&environment).unwrap();
        assert_eq!(credentials.access_key_id, "AKIA");
        assert_eq!(credentials.secret_access_key.expose(), b"secret");
        assert_eq!(credentials.region, "eu-west-1");
        assert_eq!(credentials.session_token, None);
        let environment = Environment::from_pairs([
            ("AWS_ACCESS_KEY_ID", "ASIA"),
            ("AWS_SECRET_ACCESS_KEY", "secret"),
            ("AWS_REGION", "eu-west-1"),
            ("AWS_SESSION_TOKEN", "token"),
        ]);
        let credentials = super::credentials(&environment).unwrap();
        assert_eq!(credentials.session_token.as_deref(), Some("token"));
    }

    #[test]
    fn missing_credentials_are_named() {
        let nothing = refusal(&[]);
        for name in ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION"] {
            assert!(nothing.contains(name), "{nothing}");
        }
        let some = refusal(&[("AWS_ACCESS_KEY_ID", "a"), ("AWS_REGION", "b")]);
        assert!(some.contains("set AWS_SECRET_ACCESS_KEY, or use"), "{some}");
    }

    #[test]
    fn a_bundle_that_cannot_be_used_is_named_with_its_variable() {
        let environment = Environment::from_pairs([(CA_BUNDLE, "absent/ca.pem")]);
        let failure = authorities(&environment, &Clock::system()).err().unwrap();
        assert_eq!(failure.status, Status::Configuration);
        let message = failure.message;
        assert!(
            message.starts_with("AWS_CA_BUNDLE: absent/ca.pem: "),
            "{message}"
        );
    }

    #[test]
    fn lengths_are_refused_unless_well_formed() {
        assert_eq!(length("1024").map(DataKeyLength::bytes), Ok(1024));
        for text in ["0", "1025", "-1", "x", ""] {
            assert!(length(text).is_err(), "{text}");
        }
    }
}
