//! The commands of bulk jobs in a build without the feature `bulk`, which refuses them.

use crate::cli::failure::{Failure, Status};
use crate::config::Environment;
use clap::Args;
use std::ffi::OsString;

#[derive(Args)]
pub(super) struct Arguments {
    /// Not in this build, which was made without the feature `bulk`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    _any: Vec<OsString>,
}

pub(super) fn run(_: Arguments, _: &Environment) -> Result<Status, Failure> {
    Err(Failure::usage(
        "this keymill is a daemon alone, without bulk jobs: it was built without the feature `bulk`",
    ))
}

#[cfg(test)]
mod tests {
    use crate::cli::{Status, run};
    use crate::config::Environment;
    use std::ffi::OsString;

    #[test]
    fn bulk_jobs_are_refused_whatever_their_arguments() {
        for command in ["export", "provision", "bind", "rewrap", "census", "verify"] {
            for rest in [&[][..], &["a.csv", "--key", "alias/a"], &["--out", "-"]] {
                let arguments = ["keymill", command].into_iter().chain(rest.iter().copied());
                let status = run(arguments.map(OsString::from), &Environment::default());
                assert_eq!(status, Status::Usage, "{command} {rest:?}");
            }
        }
    }
}
