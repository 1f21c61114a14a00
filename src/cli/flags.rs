//! The flags that errors of the library speak of. The library does not know them: its errors name
//! what is wrong and what to do, and here is how the command line spells it.

#[cfg(feature = "bulk")]
use crate::bulk::{JobError, Parameter};
use crate::daemon::ListenError;
use crate::keystore::KeystoreError;
#[cfg(feature = "bulk")]
use crate::table::TableError;
use std::fmt::Display;

/// The folder for parts.
#[cfg(feature = "bulk")]
const OUT: &str = "--out";

/// The error, and the flags by which it is mended.
pub(super) fn with(error: &impl Display, flags: &[&str]) -> String {
    match flags {
        [] => error.to_string(),
        flags => format!("{error} ({})", flags.join(", ")),
    }
}

/// An error of an address.
pub(super) fn listen(error: &ListenError) -> String {
    let flags: &[_] = match error {
        ListenError::Taken {
            key: "listen.tcp", ..
        } => &["--listen"],
        ListenError::Taken {
            key: "listen.admin",
            ..
        } => &["--admin-listen"],
        _ => &[],
    };
    with(error, flags)
}

/// An error of the store.
pub(super) fn store(error: &KeystoreError) -> String {
    match error {
        KeystoreError::InUse { socket, .. } => {
            with(error, &[&format!("--endpoint unix:{}", socket.display())])
        }
        other => other.to_string(),
    }
}

/// An error of a job.
#[cfg(feature = "bulk")]
pub(super) fn job(error: &JobError) -> String {
    let flags: &[_] = match error.cause() {
        JobError::FolderInUse(_)
        | JobError::FolderHeld { .. }
        | JobError::ForeignFile(_)
        | JobError::OutIsFile(_)
        | JobError::OutIsRemote(_)
        | JobError::OutInInput(_)
        | JobError::OpenFolder { .. }
        | JobError::Manifest { .. }
        | JobError::Changed(_)
        | JobError::ChangedAfter(_)
        | JobError::PartDamaged { .. } => &[OUT],
        JobError::Mismatch { parameter, .. } => &[parameter_flag(*parameter), OUT],
        JobError::TooManyParts { .. } | JobError::PartTooLarge => {
            &[parameter_flag(Parameter::RowsPerPart)]
        }
        JobError::Table(TableError::Format(_)) => &[parameter_flag(Parameter::Format)],
        JobError::Table(TableError::FolderColumn { .. } | TableError::Folders { .. }) => {
            &[parameter_flag(Parameter::Folders)]
        }
        JobError::Table(TableError::Encoding(_)) => &[parameter_flag(Parameter::Encoding)],
        JobError::Table(TableError::Row {
            is_skippable: true, ..
        }) => &["--on-error skip"],
        _ => &[],
    };
    with(error, flags)
}

/// How the command line spells a parameter.
#[cfg(feature = "bulk")]
const fn parameter_flag(parameter: Parameter) -> &'static str {
    match parameter {
        Parameter::Key => "--key",
        Parameter::KeySpec => "--key-spec",
        Parameter::Count => "--count",
        Parameter::IdPattern => "--id-pattern",
        Parameter::Input => "INPUT",
        Parameter::Format => "--input-format",
        Parameter::Encoding => "--encoding",
        Parameter::Folders => "--no-hive",
        Parameter::IdColumn => "--id-column",
        Parameter::Context => "--context",
        Parameter::NewContext => "--new-context",
        Parameter::Constants => "--constant",
        Parameter::ContextMap => "--context-map",
        Parameter::OnError => "--on-error",
        Parameter::RowsPerPart => "--rows-per-part",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    #[test]
    fn an_error_names_the_flag_that_mends_it() {
        let taken = ListenError::Taken {
            address: ([127, 0, 0, 1], 1).into(),
            key: "listen.admin",
        };
        assert!(listen(&taken).ends_with(" (--admin-listen)"));
        let in_use = KeystoreError::InUse {
            path: PathBuf::from("s"),
            holder: "7".to_owned(),
            socket: PathBuf::from("/run/k.sock"),
        };
        assert!(store(&in_use).ends_with("go through it (--endpoint unix:/run/k.sock)"));
    }

    #[cfg(feature = "bulk")]
    #[test]
    fn an_error_of_a_job_names_its_parameter_and_the_folder() {
        let mismatch = JobError::Mismatch {
            parameter: Parameter::KeySpec,
            here: "AES_256".to_owned(),
            asked: "AES_128".to_owned(),
        };
        let said = "the folder holds a job with key spec AES_256, not AES_128; resume it with the \
                    same parameters, or choose another folder (--key-spec, --out)";
        assert_eq!(job(&mismatch), said);
        let row = |is_skippable| TableError::Row {
            name: "t.csv".to_owned(),
            row: 1,
            reason: "it is bad".to_owned(),
            is_skippable,
        };
        assert!(job(&row(true).into()).ends_with("_rejects.ndjson (--on-error skip)"));
        assert_eq!(job(&row(false).into()), "t.csv, row 2: it is bad");
        assert_eq!(job(&JobError::Stopped), JobError::Stopped.to_string());
    }
}
