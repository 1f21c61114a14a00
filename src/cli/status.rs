//! `keymill status`: what a running daemon says of itself, once.

use crate::cli::failure::{Failure, Status};
use crate::cli::operator::Operator;
use crate::cli::output;
use crate::cli::target::{OperatorTarget, Target};
use crate::clock::Timestamp;
use crate::clock::calendar::Iso8601;
use crate::config::Environment;
use crate::endpoint::Endpoint;
use clap::Args;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::Duration;

/// Time between the two looks that rates are computed from.
const RATE_TIME: Duration = Duration::from_secs(1);
/// Lanes that are printed without `--json`.
const LANES_SHOWN_MAX: usize = 20;
const DAY_SECONDS: u64 = 24 * 60 * 60;

#[derive(Args)]
#[command(after_help = "\
Status 0 while the daemon is ready, 1 while it is not, with the reason; 2 if it does not answer. It takes a second: rates are of the time between two looks.

Examples:
  keymill status --dir keymill-dev
  keymill status --endpoint unix:/run/keymill/keymill.sock --json")]
pub(super) struct Arguments {
    #[command(flatten)]
    target: OperatorTarget,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments, environment: &Environment) -> Result<Status, Failure> {
    let socket: PathBuf = match arguments.target.target(environment)? {
        Target::Store(config) => config.listen.socket,
        Target::Daemon(Endpoint::Unix(socket)) => socket,
        Target::Daemon(_) => {
            return Err(Failure::usage(
                "the operator's commands go through the daemon's Unix socket, --endpoint unix:PATH; over HTTP ask /status of the admin listener",
            ));
        }
    };
    let told = super::runtime()?.block_on(async {
        let daemon = Operator::of_daemon(socket);
        let before = daemon.call("DescribeDaemon", json!({})).await?;
        tokio::time::sleep(RATE_TIME).await;
        let mut told = daemon.call("DescribeDaemon", json!({})).await?;
        told["per_second"] = rates(&before["totals"], &told["totals"]);
        Ok::<_, Failure>(told)
    })?;
    if arguments.json {
        output::json(&told)?;
    } else {
        output::result(&text(&told))?;
    }
    match told["ready"].as_bool() {
        Some(true) => Ok(Status::Done),
        _ => Ok(Status::Failed),
    }
}

/// How much the totals have grown in a second.
fn rates(before: &Value, after: &Value) -> Value {
    let Some(totals) = after.as_object() else {
        return json!({});
    };
    let grown = totals.iter().map(|(name, after)| {
        let before = before[name].as_u64().unwrap_or(0);
        let grown = after.as_u64().unwrap_or(0).saturating_sub(before);
        (
            name.clone(),
            Value::from(grown as f64 / RATE_TIME.as_secs_f64()),
        )
    });
    Value::Object(grown.collect())
}

fn text(told: &Value) -> String {
    let mut rows = vec![
        ("daemon", daemon(told)),
        ("store", store(told)),
        ("keys", keys(&told["keys"])),
        ("rate", rate(told)),
        ("audit log", audit(&told["audit"])),
    ];
    rows.extend(nodes(told).into_iter().map(|line| ("node", line)));
    if let Some(ends) = told["certificate_ends_at_unix_seconds"].as_u64() {
        rows.push(("certificate", format!("ends {}", time(ends))));
    }
    rows.push(("backup", backup(&told["backup"])));
    rows.push(("memory", memory(told)));
    rows.extend(lanes(&told["lanes"]).into_iter().map(|line| ("lane", line)));
    output::columns(&rows)
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "–".to_owned(),
        value => value.to_string(),
    }
}

fn daemon(told: &Value) -> String {
    let up = duration(told["uptime_seconds"].as_u64().unwrap_or(0));
    let version = shown(&told["version"]);
    match told["not_ready_because"].as_str() {
        None => format!("ready, version {version}, up {up}"),
        Some(reason) => format!("not ready: {reason} (version {version}, up {up})"),
    }
}

fn store(told: &Value) -> String {
    let store = &told["store"];
    let mut line = format!(
        "{}, revision {}",
        shown(&store["name"]),
        shown(&store["revision"])
    );
    if let Some(reason) = store["reason"].as_str() {
        line += &format!(", takes no changes: {reason}");
    }
    if let Some(age) = told["shared_store"]["confirmed_seconds_ago"].as_f64() {
        line += &format!(", confirmed {age:.1} seconds ago");
    }
    line
}

fn keys(keys: &Value) -> String {
    let states = keys["by_state"].as_object().into_iter().flatten();
    let states: Vec<_> = states
        .map(|(state, count)| format!("{count} {state}"))
        .collect();
    let states = match states.as_slice() {
        [] => "none".to_owned(),
        states => states.join(", "),
    };
    format!(
        "{states}; {} generations of material; {} principals",
        shown(&keys["generations"]),
        shown(&keys["principals"])
    )
}

fn rate(told: &Value) -> String {
    let rate = |name: &str| told["per_second"][name].as_f64().unwrap_or(0.0);
    let open = told["connections"].as_object().into_iter().flatten();
    let open: u64 = open.filter_map(|(_, count)| count.as_u64()).sum();
    format!(
        "{:.0} requests/s, {:.0} refused, {:.0} data keys/s; {open} connections",
        rate("requests"),
        rate("refused"),
        rate("data_keys")
    )
}

fn audit(audit: &Value) -> String {
    let state = match audit["writable"].as_bool() {
        Some(true) => "writable",
        _ => "NOT writable: no key is issued",
    };
    format!(
        "{state}, {} records since the start, {} bytes not written yet, in {}",
        shown(&audit["records"]),
        shown(&audit["backlog_bytes"]),
        shown(&audit["folder"])
    )
}

fn nodes(told: &Value) -> Vec<String> {
    let nodes = told["nodes"].as_array().into_iter().flatten();
    let nodes = nodes.map(|node| {
        let this = match node["is_this"].as_bool() {
            Some(true) => " (this one)",
            _ => "",
        };
        let revision = shown(&node["seen_at_revision"]);
        format!(
            "{}{this}, last seen at revision {revision}",
            shown(&node["node"])
        )
    });
    nodes.collect()
}

fn backup(backup: &Value) -> String {
    match (
        backup["made_at_unix_seconds"].as_u64(),
        backup["age_seconds"].as_u64(),
    ) {
        (Some(made), Some(age)) => format!(
            "{}, {} ago, of revision {}",
            time(made),
            duration(age),
            shown(&backup["revision"])
        ),
        _ => "none is known: keymill backup makes one".to_owned(),
    }
}

fn memory(told: &Value) -> String {
    let locked = match told["memory_locked"].as_bool() {
        Some(true) => "locked",
        _ => "NOT locked: secrets may be swapped out",
    };
    let aes = match told["aes_accelerated"].as_bool() {
        Some(true) => "by the processor",
        _ => "in software",
    };
    format!("{locked}; AES {aes}")
}

fn lanes(lanes: &Value) -> Vec<String> {
    let lanes = lanes.as_array().map(Vec::as_slice).unwrap_or_default();
    let mut lines: Vec<_> = lanes
        .iter()
        .take(LANES_SHOWN_MAX)
        .map(|lane| {
            format!(
                "{}: {} of {} (filled below {})",
                shown(&lane["lane"]),
                shown(&lane["depth"]),
                shown(&lane["capacity"]),
                shown(&lane["low_watermark"])
            )
        })
        .collect();
    if lanes.len() > LANES_SHOWN_MAX {
        let more = lanes.len() - LANES_SHOWN_MAX;
        lines.push(format!("and {more} more; --json lists all"));
    }
    lines
}

fn time(unix_seconds: u64) -> String {
    Iso8601::of(Timestamp(unix_seconds.saturating_mul(1_000_000))).to_string()
}

/// In the unit that says most.
fn duration(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} seconds"),
        120..7200 => format!("{} minutes", seconds / 60),
        7200..172_800 => format!("{} hours", seconds / 3600),
        _ => format!("{} days", seconds / DAY_SECONDS),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_what_the_totals_have_grown_by() {
        let (before, after) = (
            json!({"requests": 10}),
            json!({"requests": 25, "data_keys": 4}),
        );
        let rates = rates(&before, &after);
        assert_eq!(rates, json!({"requests": 15.0, "data_keys": 4.0}));
        assert_eq!(super::rates(&after, &before)["requests"], 0.0);
    }

    #[test]
    fn what_is_wrong_is_said_first_and_what_is_missing_fails_nothing() {
        let told = json!({
            "ready": false, "not_ready_because": "the disk is full", "version": "1",
            "lanes": (0..25).map(|at| json!({"lane": at, "depth": 1})).collect::<Vec<_>>(),
            "backup": {"made_at_unix_seconds": 1_767_225_600, "age_seconds": 7300, "revision": 3},
        });
        let text = text(&told);
        assert!(text.starts_with("daemon"), "{text}");
        for part in [
            "not ready: the disk is full",
            "NOT writable",
            "2026-01-01T00:00:00Z, 2 hours ago, of revision 3",
            "and 5 more; --json lists all",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(super::text(&json!({})).contains("none is known"));
        assert_eq!(duration(119), "119 seconds");
        assert_eq!(duration(200_000), "2 days");
    }
}
