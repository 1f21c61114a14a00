//! The program: performs its command line and ends with its status. Everything else is the
//! library's.

use keymill::cli;
use keymill::config::Environment;
use std::process::ExitCode;

fn main() -> ExitCode {
    let environment = Environment::of_process();
    cli::run(std::env::args_os(), &environment).into()
}
