//! `keymill restore`: a backup in the place of a store.

use crate::backup::{Difference, Plan, Present, Restored};
use crate::cli::failure::{Failure, Status};
use crate::cli::operator::forbid_leaks;
use crate::cli::output;
use crate::cli::target::{StoreArguments, root_key};
use crate::clock::Clock;
use crate::columns::shown::Counted;
use crate::config::{Config, Environment};
use crate::crypto::entropy::Entropy;
use clap::Args;
use serde_json::{Value, json};
use std::path::PathBuf;

/// Names of records that would be gone that are printed without `--json`.
const NAMES_SHOWN_MAX: usize = 20;
/// The kinds of records that every daemon writes by itself: that they change says nothing.
const OWN_KINDS: [&str; 2] = ["audit", "uses"];

#[derive(Args)]
#[command(after_help = "\
The backup is verified first: its files by their digests, and each record under the root key, which must be there already. What is there now is kept beside the restored store. No daemon may have the store open.
Keys that were made since the backup are gone with every data key under them; keys and credentials that were deleted or disabled since are as they were. The restored store goes on at a revision that this host has not seen, so that neither the store that was replaced nor an older copy is taken for it later.

Examples:
  keymill restore --from keymill-backup --dir keymill-dev
  keymill restore --from /media/safe/keymill-2026-01-01 --config /etc/keymill/keymill.toml --yes --json")]
pub(super) struct Arguments {
    #[command(flatten)]
    store: StoreArguments,
    /// The folder that `keymill backup` has written
    #[arg(long, value_name = "FOLDER")]
    from: PathBuf,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: Arguments, environment: &Environment) -> Result<Status, Failure> {
    let Some(config) = arguments.store.config(environment)? else {
        return Err(Failure::usage(
            "name the store with --dir or --config: its file is replaced",
        ));
    };
    if config.store.shared().is_some() {
        return Err(Failure::usage(
            "store.url is set: a shared store is restored by its database, or by a copy of the backup into it (docs/fleet.md)",
        ));
    }
    forbid_leaks();
    let store = &config.store.path;
    let root = root_key(&config, &store.display().to_string())?;
    let regions = config.served_regions();
    super::runtime()?.block_on(async {
        let plan = Plan::make(&arguments.from, store, &root, &regions).await?;
        for line in described(&plan) {
            output::notice(&line);
        }
        let question = match plan.present {
            Present::Absent => "The store is made from this backup.",
            _ => "The store is replaced by this backup.",
        };
        output::confirm(question, arguments.yes)?;
        let mut told = plan_json(&plan);
        let restored = plan
            .carry_out(Clock::system().now(), &Entropy::os())
            .await?;
        finished(&mut told, &restored, &config, arguments.json)
    })
}

fn finished(
    told: &mut Value,
    restored: &Restored,
    config: &Config,
    json: bool,
) -> Result<Status, Failure> {
    let store = config.store.path.display();
    if json {
        told["restored"] = true.into();
        told["kept"] = json!(restored.kept);
        output::json(told)?;
        return Ok(Status::Done);
    }
    let kept = restored.kept.as_ref().map_or(String::new(), |kept| {
        format!("; what was there is kept as {}", kept.display())
    });
    let revision = restored.revision;
    output::result(&format!(
        "restored: {store} goes on at revision {revision}{kept}"
    ))?;
    Ok(Status::Done)
}

/// What the restore is about to do, in lines.
fn described(plan: &Plan<'_>) -> Vec<String> {
    let backup = &plan.manifest;
    let (records, from) = (
        Counted(backup.summary.records, "record"),
        backup.summary.revision,
    );
    let (made_at, host) = (&backup.made_at, &backup.origin.host);
    let mut lines = vec![format!(
        "The backup is whole: {records} of revision {from}, made {made_at} on {}.",
        output::shown(host)
    )];
    match &plan.present {
        Present::Absent => lines.push("There is no store now.".to_owned()),
        Present::Unreadable(reason) => lines.push(format!(
            "It cannot be said what is taken back: the store that is there now is not whole ({}).",
            output::shown(reason)
        )),
        Present::Whole { revision, records } => lines.push(format!(
            "The store that is there now is whole: {} of revision {revision}.",
            Counted(*records, "record")
        )),
    }
    if let Some(difference) = &plan.difference {
        lines.extend(taken_back(difference));
    }
    lines
}

fn taken_back(difference: &Difference) -> Vec<String> {
    let Difference {
        gone,
        back,
        changed,
        gone_names,
    } = difference;
    let mut lines = Vec::new();
    for (counts, what) in [
        (gone, "made since, and gone then"),
        (back, "removed since, and back then"),
        (changed, "changed since, and as before then"),
    ] {
        let counts = counts.iter().filter(|(kind, _)| !OWN_KINDS.contains(kind));
        let counts: Vec<_> = counts
            .map(|(kind, count)| format!("{count} {kind}"))
            .collect();
        if !counts.is_empty() {
            lines.push(format!("{what}: {}", counts.join(", ")));
        }
    }
    let named = gone_names
        .iter()
        .filter(|(kind, _)| !OWN_KINDS.contains(kind));
    let named = named.map(|(kind, id)| format!("  gone: {kind} {}", output::shown(id)));
    lines.extend(named.take(NAMES_SHOWN_MAX));
    let all: u64 = gone.values().sum();
    if all > NAMES_SHOWN_MAX as u64 {
        lines.push("  --json names more of them".to_owned());
    }
    if lines.is_empty() {
        lines.push("Nothing but its revision would change.".to_owned());
    }
    lines
}

fn plan_json(plan: &Plan<'_>) -> Value {
    let (state, present) = match &plan.present {
        Present::Absent => ("absent", None),
        Present::Unreadable(_) => ("damaged", None),
        Present::Whole { revision, .. } => ("whole", Some(*revision)),
    };
    let difference = plan.difference.as_ref();
    let names = difference.map(|difference| {
        let names = difference.gone_names.iter();
        let names = names.map(|(kind, id)| json!({ "kind": kind, "id": id }));
        names.collect::<Vec<_>>()
    });
    json!({
        "made_at": plan.manifest.made_at,
        "backup_revision": plan.manifest.summary.revision,
        "records": plan.manifest.summary.records,
        "present": state,
        "present_revision": present,
        "revision": plan.revision,
        "gone": difference.map(|difference| &difference.gone),
        "back": difference.map(|difference| &difference.back),
        "changed": difference.map(|difference| &difference.changed),
        "gone_records": names,
    })
}
