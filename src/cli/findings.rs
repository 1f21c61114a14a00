//! What `keymill census` and `keymill verify` print: keys with their counts, then findings.

use crate::census::{FINDINGS_KEPT_MAX, Finding, Findings, Groups};
use crate::cli::failure::{Failure, Status};
use crate::cli::output;
use crate::table::{Object, RowNumber};
use serde_json::{Value, json};

/// Findings that are printed without `--json`.
const FINDINGS_SHOWN_MAX: usize = 20;

/// What a table was found to have.
pub(super) struct Report<'a> {
    /// The table's files, which findings name.
    pub(super) objects: &'a [Object],
    /// Its counts, as members of a JSON object.
    pub(super) counts: Value,
    /// Its counts, as a line of text.
    pub(super) line: String,
    pub(super) groups: &'a Groups,
    pub(super) findings: &'a Findings,
}

impl Report<'_> {
    /// Prints it as JSON.
    pub(super) fn print_json(self) -> Result<Status, Failure> {
        let mut value = self.counts;
        value["keys"] = groups_json(self.groups).into();
        value["finding_count"] = self.findings.count.into();
        value["findings"] = shown(self.findings, self.objects).into();
        output::json(&value)?;
        Ok(status(self.findings))
    }

    /// Prints it for a reader.
    pub(super) fn print(self) -> Result<Status, Failure> {
        print_groups(self.groups)?;
        output::result(&self.line)?;
        print_findings(self.findings, self.objects)?;
        Ok(status(self.findings))
    }
}

fn groups_json(groups: &Groups) -> Vec<Value> {
    let rows = groups.iter().map(|(group, count)| {
        json!({
            "key_id": group.key_id.to_string(),
            "generation": group.generation,
            "data_key_bytes": group.data_key_bytes,
            "count": count,
        })
    });
    rows.collect()
}

fn shown(findings: &Findings, objects: &[Object]) -> Vec<String> {
    let kept = findings.kept.iter();
    kept.map(|finding| line(finding, objects)).collect()
}

fn line(finding: &Finding, objects: &[Object]) -> String {
    let Finding { place, reason } = finding;
    let name = objects.get(place.file).map_or("", |object| &object.name);
    format!("{name}, row {}: {reason}", RowNumber(place.row))
}

fn print_groups(groups: &Groups) -> Result<(), Failure> {
    if groups.is_empty() {
        return Ok(());
    }
    let mut lines = vec![format!(
        "{:36}  {:>10}  {:>8}  {:>12}",
        "key id", "generation", "key size", "blobs"
    )];
    lines.extend(groups.iter().map(|(group, count)| {
        format!(
            "{:36}  {:>10}  {:>8}  {count:>12}",
            group.key_id.to_string(),
            group.generation,
            group.data_key_bytes,
        )
    }));
    output::result(&lines.join("\n"))
}

fn print_findings(findings: &Findings, objects: &[Object]) -> Result<(), Failure> {
    for finding in findings.kept.iter().take(FINDINGS_SHOWN_MAX) {
        output::result(&output::shown(&line(finding, objects)))?;
    }
    let more = findings.count.saturating_sub(FINDINGS_SHOWN_MAX as u64);
    if more > 0 {
        let listed = FINDINGS_KEPT_MAX;
        output::result(&format!("and {more} more; --json lists the first {listed}"))?;
    }
    Ok(())
}

fn status(findings: &Findings) -> Status {
    match findings.count {
        0 => Status::Done,
        _ => Status::Failed,
    }
}
