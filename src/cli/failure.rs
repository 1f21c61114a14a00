//! How a command ends.

use crate::audit;
#[cfg(feature = "bulk")]
use crate::bulk::{JobError, SourceError};
use crate::cli::flags;
#[cfg(feature = "bulk")]
use crate::cli::terminal;
use crate::config::ConfigError;
use crate::daemon::{ListenError, OpenError};
use crate::keystore::KeystoreError;
use std::process::ExitCode;

/// Exit statuses (those of `sysexits.h` where it has one); [`Status::MEANINGS`] says of each what
/// it means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Done.
    Done = 0,
    /// Refused or failed; of a check, it found a fault or answered "no".
    Failed = 1,
    /// A check came to no answer.
    Unchecked = 2,
    /// A job has finished, and its input is another now: nothing was done.
    Changed = 3,
    /// The command line is wrong (EX_USAGE).
    Usage = 64,
    /// A daemon, a store or an address cannot be had now; later it may (EX_UNAVAILABLE).
    Unavailable = 69,
    /// The configuration, or what it names, is wrong (EX_CONFIG).
    Configuration = 78,
    /// Stopped by a signal before the end; a job is resumed by the same command (128 + SIGINT).
    Interrupted = 130,
}

impl Status {
    /// The one table of exit statuses: help, man pages and `docs/interfaces.md` have it from here.
    pub const MEANINGS: [(Self, &'static str); 8] = [
        (Self::Done, "done; of a check, nothing is wrong"),
        (
            Self::Failed,
            "refused or failed; of a check, it found a fault or answered no",
        ),
        (Self::Unchecked, "a check came to no answer"),
        (
            Self::Changed,
            "nothing done: the job has finished, and its input is another now",
        ),
        (Self::Usage, "the command line is wrong"),
        (
            Self::Unavailable,
            "a daemon, a store or an address cannot be had now; later it may",
        ),
        (
            Self::Configuration,
            "the configuration, or what it names, is wrong",
        ),
        (
            Self::Interrupted,
            "stopped by a signal before the end; the same command resumes a job",
        ),
    ];
}

impl From<Status> for ExitCode {
    fn from(status: Status) -> Self {
        Self::from(status as u8)
    }
}

/// Why a command was not done.
#[derive(Debug)]
pub struct Failure {
    /// What the process ends with.
    pub status: Status,
    /// What the user reads: a line, or one for each mistake.
    pub message: String,
}

impl Failure {
    /// Refused or failed.
    pub fn failed(message: impl ToString) -> Self {
        Self::new(Status::Failed, message)
    }

    /// The command line is wrong.
    pub fn usage(message: impl ToString) -> Self {
        Self::new(Status::Usage, message)
    }

    /// Something cannot be had now.
    pub fn unavailable(message: impl ToString) -> Self {
        Self::new(Status::Unavailable, message)
    }

    /// The configuration, or what it names, is wrong.
    pub fn configuration(message: impl ToString) -> Self {
        Self::new(Status::Configuration, message)
    }

    /// Stopped by a signal.
    #[cfg(feature = "bulk")]
    pub fn interrupted(message: impl ToString) -> Self {
        Self::new(Status::Interrupted, message)
    }

    /// The failure of a check, whose status 1 is an answer.
    #[must_use]
    pub fn of_check(self) -> Self {
        match self.status {
            Status::Failed => Self {
                status: Status::Unchecked,
                ..self
            },
            _ => self,
        }
    }

    fn new(status: Status, message: impl ToString) -> Self {
        let message = message.to_string();
        Self { status, message }
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::configuration(error)
    }
}

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Keystore(error) => error.into(),
            OpenError::StoreAbsent { .. } | OpenError::SharedStoreAbsent { .. } => {
                Self::configuration(flags::with(&error, &["--new-store"]))
            }
            OpenError::RootKey(_)
            | OpenError::RootKeyAbsent { .. }
            | OpenError::Older { .. }
            | OpenError::Roots(_)
            | OpenError::Proxies(_) => Self::configuration(error),
            OpenError::Audit(audit::OpenError::InUse { .. }) => Self::unavailable(error),
            OpenError::Audit(_)
            | OpenError::Beside { .. }
            | OpenError::Metrics(_)
            | OpenError::Threads(_) => Self::failed(error),
        }
    }
}

impl From<KeystoreError> for Failure {
    fn from(error: KeystoreError) -> Self {
        match error {
            KeystoreError::InUse { .. } => Self::unavailable(flags::store(&error)),
            KeystoreError::Absent { .. } | KeystoreError::Empty { .. } => {
                Self::configuration(error)
            }
            KeystoreError::Unreachable { .. } | KeystoreError::Unanswered { .. } => {
                Self::unavailable(error)
            }
            _ => Self::failed(error),
        }
    }
}

impl From<ListenError> for Failure {
    fn from(error: ListenError) -> Self {
        match error {
            ListenError::Tls(_) | ListenError::Passed(_) => Self::configuration(error),
            ListenError::Taken { .. } | ListenError::Tcp { .. } | ListenError::Unix { .. } => {
                Self::unavailable(flags::listen(&error))
            }
        }
    }
}

#[cfg(feature = "bulk")]
impl From<JobError> for Failure {
    fn from(error: JobError) -> Self {
        let status = match error.cause() {
            JobError::Source(SourceError::Connection { .. })
            | JobError::FolderInUse(_)
            | JobError::FolderHeld { .. } => Status::Unavailable,
            JobError::Source(SourceError::Untrusted { .. }) => Status::Configuration,
            JobError::Stopped | JobError::Unfinished { .. } => Status::Interrupted,
            JobError::ChangedAfter(_) => Status::Changed,
            _ => Status::Failed,
        };
        // It may have the words of a server in it, or of a table.
        Self::new(status, terminal::shown(&flags::job(&error)))
    }
}
