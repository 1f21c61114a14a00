//! Parts that the bulk commands share: where they work, how they report progress, how they are
//! stopped, and what they print.

use crate::api::Requester;
use crate::auth::Credentials;
use crate::bulk::local::{Keys, Local, Recorder};
use crate::bulk::{
    Authorities, AuthoritiesError, Client, Daemons, JobError, Out, Progress, Runtime, SourceError,
    TableJob,
};
use crate::cli::columns::FolderArguments;
use crate::cli::failure::{Failure, Status};
use crate::cli::operator::{open_store, operator};
use crate::cli::target::Endpoints;
use crate::cli::{flags, log, output};
use crate::clock::Clock;
use crate::config::{Config, Environment, Log, LogFormat, LogLevel};
use crate::crypto::entropy::Entropy;
use crate::crypto::secret::SecretBytes;
use crate::daemon::{Core, Signals};
use crate::endpoint::Endpoint;
use crate::key::arn::{AliasName, Arn};
use crate::key::data_key::DataKeyLength;
use crate::keystore::{KeyEntry, Snapshot};
use crate::table::Location;
use clap::Args;
use std::io::IsTerminal;
use std::num::{NonZeroU64, NonZeroUsize};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The variable that names a file of certificate authorities.
const CA_BUNDLE: &str = "AWS_CA_BUNDLE";
/// From the first signal to the end: enough for a part of a million rows, and less than service
/// managers wait before they kill (systemd: 90 s).
const STOP_MAX: Duration = Duration::from_secs(20);

/// The length of every data key.
#[derive(Args)]
pub(super) struct LengthArguments {
    /// Length of every data key: AES_256 or AES_128 [default: AES_256]
    #[arg(long, value_name = "SPEC", value_parser = ["AES_256", "AES_128"], conflicts_with = "number_of_bytes")]
    key_spec: Option<String>,
    /// Length of every data key in bytes, 1 to 1024
    #[arg(long, value_name = "N", value_parser = length)]
    number_of_bytes: Option<DataKeyLength>,
}

impl LengthArguments {
    pub(super) fn length(&self) -> DataKeyLength {
        match (&self.key_spec, self.number_of_bytes) {
            (_, Some(length)) => length,
            (Some(spec), None) if spec == "AES_128" => DataKeyLength::AES_128,
            (_, None) => DataKeyLength::AES_256,
        }
    }
}

/// Where a job's parts go, and how they are made.
#[derive(Args)]
pub(super) struct PartArguments {
    /// The folder for parts and manifest, made if it is not there: a local one, or
    /// s3://BUCKET/PREFIX
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Rows of a part [default: enough to keep every worker busy, at most 1048576]
    #[arg(long, value_name = "N", value_parser = count)]
    pub(super) rows_per_part: Option<NonZeroU64>,
    /// Parts written at the same time [default: one for each core]
    #[arg(long, value_name = "N", value_parser = threads)]
    pub(super) workers: Option<NonZeroUsize>,
}

impl PartArguments {
    /// A job on a table.
    ///
    /// # Errors
    /// As [`Self::out`].
    pub(super) fn of_table(
        &self,
        key: &str,
        inputs: &[Location],
        folders: &FolderArguments,
        runner: &JobRunner,
    ) -> Result<TableJob, Failure> {
        Ok(TableJob {
            key: key.to_owned(),
            inputs: inputs.to_vec(),
            folder_names: folders.names(),
            rows_per_part: self.rows_per_part,
            out: self.out(runner)?,
            workers: workers(self.workers),
            runtime: runner.runtime.handle().clone(),
        })
    }

    /// Where the job writes.
    ///
    /// # Errors
    /// [`Failure`]: it is neither a folder nor a prefix of a bucket.
    pub(super) fn out(&self, runner: &JobRunner) -> Result<Out, Failure> {
        let out = Out::new(&self.out, runner.runtime.handle());
        out.map_err(|error| Failure::usage(flags::job(&error)))
    }
}

/// A number of rows.
pub(super) fn count(text: &str) -> Result<NonZeroU64, &'static str> {
    let refused = "it is a whole number from 1 on, in digits, such as 1000000";
    text.parse().map_err(|_| refused)
}

/// A number of threads.
pub(super) fn threads(text: &str) -> Result<NonZeroUsize, &'static str> {
    let refused = "it is a whole number from 1 on, in digits, such as 8";
    text.parse().map_err(|_| refused)
}

fn length(text: &str) -> Result<DataKeyLength, String> {
    let bytes = text.parse::<usize>().map_err(|error| error.to_string())?;
    DataKeyLength::new(bytes).map_err(|error| error.to_string())
}

/// As many as were given, or as there are cores.
pub(super) fn workers(given: Option<NonZeroUsize>) -> NonZeroUsize {
    let cores = std::thread::available_parallelism();
    given.or(cores.ok()).unwrap_or(NonZeroUsize::MIN)
}

/// What a job runs in.
pub(super) struct JobRunner {
    pub(super) runtime: tokio::runtime::Runtime,
    pub(super) clock: Clock,
    progress: Progress,
    /// Set by a signal.
    stop: Arc<AtomicBool>,
}

impl JobRunner {
    /// Begins to log, in JSON where `events` are asked for.
    ///
    /// # Errors
    /// [`Failure`], when the runtime or the log cannot be set up.
    pub(super) fn start(events: bool, environment: &Environment) -> Result<Self, Failure> {
        let on_terminal = std::io::stderr().is_terminal() && !events;
        // A bar and log lines would write over each other.
        let level = if on_terminal {
            LogLevel::Warn
        } else {
            LogLevel::Info
        };
        let format = if events {
            LogFormat::Json
        } else {
            LogFormat::Text
        };
        let _fixed = log::start(&Log { format, level }, environment);
        let clock = Clock::system();
        Ok(Self {
            runtime: super::runtime()?,
            progress: if on_terminal {
                Progress::terminal()
            } else {
                Progress::log(clock.clone(), events)
            },
            clock,
            stop: Arc::default(),
        })
    }

    /// Opens the store, works on it, and closes it.
    ///
    /// # Errors
    /// [`Failure`], when the store cannot be opened, or the work fails.
    pub(super) fn at_store<T>(
        &self,
        config: &Config,
        work: impl FnOnce(&Core) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let core = self.runtime.block_on(open_store(config))?;
        let worked = work(&core);
        self.runtime.block_on(core.close())?;
        worked
    }

    /// What is done with the keys of the opened store, and recorded as `event`.
    ///
    /// # Errors
    /// [`Failure`], when there is no key of this name.
    pub(super) fn local<W>(
        &self,
        work: W,
        key: &str,
        event: &'static str,
        (config, core): (&Config, &Core),
    ) -> Result<Local<W>, Failure> {
        Ok(Local {
            work,
            keys: Keys {
                entry: resolve(core, config, key)?,
                entropy: Arc::clone(&core.entropy),
                clone_word: Arc::clone(&core.clone_word),
            },
            recorder: Some(self.recorder(event, config, core)),
        })
    }

    /// Where the operator's parts are recorded, as `event`.
    pub(super) fn recorder(&self, event: &'static str, config: &Config, core: &Core) -> Recorder {
        Recorder {
            api: Arc::clone(&core.api),
            requester: Requester::local(operator(config)),
            runtime: self.runtime.handle().clone(),
            event,
        }
    }

    /// The daemons at `endpoints`, of which one was reached, and the caller's credentials for them.
    ///
    /// # Errors
    /// [`Failure`] that names the missing argument, or says that no daemon is there.
    pub(super) fn daemons(
        &self,
        endpoints: &Endpoints,
        environment: &Environment,
    ) -> Result<Daemons, Failure> {
        let daemons = self.unreached_daemons(endpoints, environment)?;
        // A job waits for a daemon that goes away, and not for one that was never there.
        self.reach(&daemons).map_err(JobError::from)?;
        Ok(daemons)
    }

    /// Connects to each of the daemons once.
    ///
    /// # Errors
    /// [`SourceError`]: none is there, or one is not trusted.
    pub(super) fn reach(&self, daemons: &Daemons) -> Result<(), SourceError> {
        self.runtime.block_on(daemons.reach())
    }

    /// The daemons at `endpoints`, and the caller's credentials for them.
    ///
    /// # Errors
    /// [`Failure`] that names the missing argument.
    pub(super) fn unreached_daemons(
        &self,
        endpoints: &Endpoints,
        environment: &Environment,
    ) -> Result<Daemons, Failure> {
        let first = self.client(&endpoints.first, environment)?;
        let more = endpoints.more.iter();
        let more = more.map(|endpoint| self.client(endpoint, environment));
        Ok(Daemons::new(first, more.collect::<Result<_, _>>()?))
    }

    fn client(&self, endpoint: &Endpoint, environment: &Environment) -> Result<Client, Failure> {
        Ok(Client {
            endpoint: endpoint.clone(),
            address: None,
            credentials: match endpoint {
                Endpoint::Unix(_) => None,
                Endpoint::Http(_) | Endpoint::Https { .. } => {
                    Some(Arc::new(credentials(environment)?))
                }
            },
            authorities: match endpoint {
                Endpoint::Unix(_) | Endpoint::Http(_) => None,
                Endpoint::Https { .. } => Some(authorities(environment, &self.clock)?),
            },
            clock: self.clock.clone(),
            stop: Arc::clone(&self.stop),
        })
    }

    /// Runs on this thread, outside of the runtime: a job's workers block.
    ///
    /// # Errors
    /// [`Failure`], when the job fails.
    pub(super) fn perform<T>(
        &self,
        entropy: &Entropy,
        work: impl FnOnce(&Runtime<'_>) -> Result<T, JobError>,
    ) -> Result<T, Failure> {
        let signals = {
            let _within = self.runtime.enter();
            Signals::catch().map_err(Failure::failed)?
        };
        self.runtime.spawn(stop_on(signals, Arc::clone(&self.stop)));
        let runtime = Runtime {
            clock: self.clock.clone(),
            entropy,
            progress: &self.progress,
            stop: &self.stop,
        };
        Ok(work(&runtime)?)
    }
}

/// The first signal stops the run after the parts under way, and at once when they take longer than
/// [`STOP_MAX`]: a job may wait for a daemon, a store or standard input that never answers. The
/// second signal stops at once. Parts are complete or absent in each case, and the same command
/// goes on.
async fn stop_on(mut signals: Signals, stop: Arc<AtomicBool>) {
    signals.next().await;
    stop.store(true, Ordering::SeqCst);
    output::notice(&format!(
        "stopping after what is under way, in {} seconds at most; a second signal stops at once",
        STOP_MAX.as_secs()
    ));
    if tokio::time::timeout(STOP_MAX, signals.next())
        .await
        .is_err()
    {
        output::notice("stopped at once");
    }
    std::process::exit(Status::Interrupted as i32);
}

/// The key that an operator means by `name`: id, ARN, alias or alias ARN.
///
/// # Errors
/// [`Failure`] if there is none.
fn resolve(core: &Core, config: &Config, name: &str) -> Result<Arc<KeyEntry>, Failure> {
    let found = find(&core.keystore.snapshot(), config, name);
    found.ok_or_else(|| {
        Failure::failed(format!(
            "--key {name}: there is no such key; `keymill key list` shows them all"
        ))
    })
}

fn find(snapshot: &Snapshot, config: &Config, name: &str) -> Option<Arc<KeyEntry>> {
    let (account, regions) = (config.account, config.served_regions());
    let (region, name) = match Arn::split(name) {
        Some(arn) => {
            let region = regions.named(arn.region)?;
            let ours = region.arn(account, arn.resource) == name;
            let resource = arn.resource;
            let name = ours.then(|| resource.strip_prefix("key/").unwrap_or(resource))?;
            (region, name)
        }
        None => (regions.home(), name),
    };
    let id = match name.parse::<AliasName>() {
        Ok(alias) => snapshot.alias(region.number, account, &alias)?.target,
        Err(_) => name.parse().ok()?,
    };
    snapshot.key(account, region.id(id)).cloned()
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
        secret_access_key: SecretBytes::copy_of(secret.as_bytes()),
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
