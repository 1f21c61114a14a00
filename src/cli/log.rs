//! Events to standard error.

use crate::config::{Environment, Log, LogFormat};
use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};

/// Writes events as `log` says. Those of libraries only from `warn` on: they do not know what must
/// not be logged.
pub(super) fn start(log: &Log, environment: &Environment) {
    let level = log.level.name();
    let filter = match level {
        "error" => "error".to_owned(),
        _ => format!("warn,keymill={level}"),
    };
    let colour = environment.is_coloured(std::io::stderr().is_terminal());
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(filter))
        .with_writer(std::io::stderr)
        .with_ansi(colour);
    // A second start, as in tests, leaves the first in force.
    let _started = match log.format {
        LogFormat::Text => subscriber.try_init(),
        LogFormat::Json => subscriber.json().flatten_event(true).try_init(),
    };
}

/// The time, as events have it.
pub(super) fn timestamp() -> String {
    let mut text = String::new();
    // A text takes whatever is written to it.
    let _written = SystemTime.format_time(&mut Writer::new(&mut text));
    text
}
