//! Names that are used in more than one place: metric families in the program, the dashboards, the
//! alerts and the documents; alerts and their sections in docs/runbooks.md. Also the required
//! members of every panel of a dashboard.

use keymill::metrics::{FAMILIES, Kind};
use keymill::stream::Purpose;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

const PREFIX: &str = "keymill_";
const BOARDS: [&str; 2] = ["overview", "pool"];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn board(name: &str) -> Value {
    serde_json::from_str(&read(format!("dashboards/{name}.json"))).unwrap()
}

/// The metric names that a text has.
fn names(text: &str) -> BTreeSet<String> {
    let is_name =
        |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '_';
    let words = text.split(|letter| !is_name(letter));
    words
        .filter(|word| word.starts_with(PREFIX))
        .map(str::to_owned)
        .collect()
}

/// The family that a series of this name belongs to, if there is one.
fn family(name: &str) -> Option<&'static str> {
    let parts = ["_bucket", "_sum", "_count"];
    let base = parts.iter().find_map(|part| name.strip_suffix(part));
    FAMILIES.iter().find_map(|(family, kind, _)| {
        let of_histogram = *kind == Kind::Histogram && base == Some(family);
        (*family == name || of_histogram).then_some(*family)
    })
}

fn families_of(path: &str) -> BTreeSet<&'static str> {
    let known = |name: String| {
        family(&name).unwrap_or_else(|| panic!("{path}: {name} is no metric of this program"))
    };
    names(&read(path)).into_iter().map(known).collect()
}

#[test]
fn every_metric_in_dashboards_alerts_and_documents_is_one_of_the_program() {
    let mut shown = families_of("dashboards/alerts.yml");
    for name in BOARDS {
        shown.extend(families_of(&format!("dashboards/{name}.json")));
    }
    families_of("docs/runbooks.md");
    families_of("docs/operator.md");
    families_of("SECURITY.md");
    let unseen: Vec<_> = FAMILIES
        .iter()
        .map(|(family, ..)| *family)
        .filter(|family| !shown.contains(family))
        .collect();
    assert!(
        unseen.is_empty(),
        "on no dashboard and in no alert: {unseen:?}"
    );
}

#[test]
fn a_histogram_is_never_asked_for_by_its_bare_name() {
    let histograms = || {
        FAMILIES
            .iter()
            .filter(|(_, kind, _)| *kind == Kind::Histogram)
    };
    for path in [
        "dashboards/alerts.yml",
        "dashboards/overview.json",
        "dashboards/pool.json",
    ] {
        let used = names(&read(path));
        for (family, ..) in histograms() {
            assert!(
                !used.contains(*family),
                "{path}: {family} has no series of that name"
            );
        }
    }
}

#[test]
fn every_alert_has_its_runbook() {
    let alerts = read("dashboards/alerts.yml");
    let page = read("docs/runbooks.md");
    let values = |key: &str| -> Vec<String> {
        let lines = alerts
            .lines()
            .map(|line| line.trim().trim_start_matches("- "));
        lines
            .filter_map(|line| line.strip_prefix(key))
            .map(|value| value.trim().to_owned())
            .collect()
    };
    let (names, runbooks) = (values("alert:"), values("runbook:"));
    assert!(!names.is_empty());
    assert_eq!(names.len(), runbooks.len());
    for (name, runbook) in names.iter().zip(&runbooks) {
        assert_eq!(
            *runbook,
            format!("docs/runbooks.md#{}", name.to_lowercase())
        );
        assert!(
            page.lines()
                .any(|line| line.trim_start_matches('#').trim() == name && line.starts_with('#')),
            "docs/runbooks.md has no section {name}"
        );
    }
    let told = page
        .lines()
        .filter_map(|line| line.strip_prefix("## "))
        .filter(|title| title.starts_with("Keymill"));
    for title in told {
        assert!(
            names.iter().any(|name| name == title),
            "docs/runbooks.md tells of {title}, and no alert has that name"
        );
    }
}

#[test]
fn dashboards_keep_their_identity_and_their_variables() {
    for name in BOARDS {
        let board = board(name);
        assert_eq!(board["uid"], format!("keymill-{name}"));
        let variables: Vec<_> = board["templating"]["list"]
            .as_array()
            .unwrap()
            .iter()
            .map(|variable| variable["name"].as_str().unwrap())
            .collect();
        assert_eq!(variables, ["datasource", "job", "instance"]);
        let panels = board["panels"].as_array().unwrap();
        let ids: BTreeSet<_> = panels
            .iter()
            .map(|panel| panel["id"].as_u64().unwrap())
            .collect();
        assert_eq!(ids.len(), panels.len(), "{name}: two panels have one id");
        let rows: Vec<_> = panels
            .iter()
            .filter(|panel| panel["type"] == "row")
            .map(|row| row["title"].as_str().unwrap())
            .collect();
        assert_eq!(rows, ["Rate", "Errors", "Duration", "Saturation"]);
        for panel in panels.iter().filter(|panel| panel["type"] != "row") {
            for target in panel["targets"].as_array().unwrap() {
                check_target(name, &panel["title"], target);
            }
        }
    }
}

#[test]
fn every_bulk_endpoint_has_its_panel() {
    let board = board("overview");
    let panels = board["panels"].as_array().unwrap();
    let title = "Batches and streams of containers";
    let panel = panels.iter().find(|panel| panel["title"] == title).unwrap();
    let expression = panel["targets"][0]["expr"].as_str().unwrap();
    let (_, named) = expression.split_once("operation=~\"").unwrap();
    let named: Vec<_> = named.split('"').next().unwrap().split('|').collect();
    let mut expected = vec!["DataKeys"];
    expected.extend(Purpose::ALL.map(Purpose::event));
    assert_eq!(named, expected);
}

/// Counters are shown as rates, and everything is asked of the chosen data source and job.
fn check_target(board: &str, panel: &Value, target: &Value) {
    let expression = target["expr"].as_str().unwrap();
    assert_eq!(
        target["datasource"]["uid"], "${datasource}",
        "{board}: {panel}"
    );
    assert!(
        expression.contains("job=\"$job\", instance=~\"$instance\""),
        "{board}: {panel}"
    );
    for (at, _) in expression.match_indices(PREFIX) {
        let (before, after) = expression.split_at(at);
        let name = after.split('{').next().unwrap();
        let counts = name.ends_with("_total") || name.ends_with("_bucket");
        let rated = before.ends_with("rate(") || before.ends_with("increase(");
        assert!(
            !counts || rated,
            "{board}: {panel} shows {name} as it stands"
        );
    }
}

#[test]
fn names_are_found_in_text() {
    let found = names(
        "keymill_ready == 0 and rate(keymill_requests_total{a=\"b\"}[5m]) my_keymill_x keymill-pool",
    );
    let expected = BTreeSet::from([
        "keymill_ready".to_owned(),
        "keymill_requests_total".to_owned(),
    ]);
    assert_eq!(found, expected);
    assert_eq!(
        family("keymill_request_duration_seconds_bucket"),
        Some("keymill_request_duration_seconds")
    );
    assert_eq!(family("keymill_requests_total_bucket"), None);
    assert_eq!(family("keymill_nonsense"), None);
}

/// The source files below a folder.
fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|kind| kind == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn fields_of_log_lines_are_not_named_as_the_members_that_all_have() {
    const TAKEN: [&str; 4] = ["message", "level", "target", "timestamp"];
    let mut files = Vec::new();
    sources(&root().join("src"), &mut files);
    let mut events = 0;
    for path in files {
        let text = read(&path);
        for event in text.split("tracing::").skip(1) {
            let levels = ["trace!(", "debug!(", "info!(", "warn!(", "error!("];
            if !levels.iter().any(|level| event.starts_with(level)) {
                continue;
            }
            events += 1;
            let end = event.find(");").unwrap_or(event.len());
            let mut fields = event[..end].split(['(', ',']).map(str::trim);
            let taken = fields.find(|field| {
                let name = field.split('=').next().unwrap_or_default();
                TAKEN.contains(&name.trim().trim_start_matches(['%', '?']))
            });
            assert_eq!(taken, None, "{}", path.display());
        }
    }
    assert!(events > 30, "{events} events were found");
}
