//! Events to standard error.

use crate::config::{Environment, Log, LogFormat, LogLevel};
use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};

/// Changes the level of the log while the process runs.
pub(super) type SetLevel = Box<dyn Fn(LogLevel) + Send + Sync>;

/// Writes events as `log` says. Those of libraries only from `warn` on: they do not know what must
/// not be logged. Slow statements of the store are in `keymill_keystore_commit_duration_seconds`,
/// and not here in words of its driver.
pub(super) fn start(log: &Log, environment: &Environment) -> SetLevel {
    let colour = environment.is_coloured(std::io::stderr().is_terminal());
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter(log.level))
        .with_writer(std::io::stderr)
        .with_ansi(colour);
    // A second start, as in tests, leaves the first in force; the level of the first cannot be
    // changed through the second.
    match log.format {
        LogFormat::Text => {
            let subscriber = subscriber.with_filter_reloading();
            let handle = subscriber.reload_handle();
            let _started = subscriber.try_init();
            Box::new(move |level| drop(handle.reload(filter(level))))
        }
        LogFormat::Json => {
            let subscriber = subscriber
                .json()
                .flatten_event(true)
                .with_filter_reloading();
            let handle = subscriber.reload_handle();
            let _started = subscriber.try_init();
            Box::new(move |level| drop(handle.reload(filter(level))))
        }
    }
}

fn filter(level: LogLevel) -> EnvFilter {
    EnvFilter::new(match level {
        LogLevel::Error => "error".to_owned(),
        level => format!("warn,sqlx::query=error,keymill={}", level.name()),
    })
}

/// The time, as events have it.
pub(super) fn timestamp() -> String {
    let mut text = String::new();
    // A text takes whatever is written to it.
    let _written = SystemTime.format_time(&mut Writer::new(&mut text));
    text
}
