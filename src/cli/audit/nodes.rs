//! `keymill audit verify FOLDER…`: the logs of many nodes, each held to what the store has sealed
//! of it.

use crate::audit::{self, NodeReport};
use crate::cli::audit::{Log, head, report_json, summary};
use crate::cli::failure::{Failure, Status};
use crate::cli::output;
use crate::keystore::AuditHead;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A log that was verified.
struct Verified<'a> {
    folder: &'a Path,
    found: NodeReport,
    /// Another folder that was named, with the log of the same node.
    twin: Option<&'a Path>,
}

impl Verified<'_> {
    fn is_sound(&self) -> bool {
        self.found.report.is_sound() && self.twin.is_none()
    }

    /// Everything that is wrong with it, in lines.
    fn findings(&self) -> Vec<String> {
        let findings = self.found.report.findings.iter();
        let mut lines: Vec<String> = findings.map(ToString::to_string).collect();
        if let Some(twin) = self.twin {
            lines.push(format!(
                "named twice: the log in {} is of the same node",
                twin.display()
            ));
        }
        lines
    }

    fn node(&self) -> String {
        match self.found.node.as_deref() {
            Some("") => "of this store".to_owned(),
            Some(node) => format!("of node {node}"),
            None => "of an unknown node".to_owned(),
        }
    }
}

pub(super) fn verify(log: &Log, folders: &[PathBuf], json: bool) -> Result<Status, Failure> {
    let sealed = crate::cli::runtime()?.block_on(sealed(log))?;
    let key = audit::key(&log.root);
    let mut seen: BTreeMap<String, &Path> = BTreeMap::new();
    let mut verified = Vec::new();
    for folder in folders {
        let found = audit::verify_node(folder, &key, &sealed);
        let found =
            found.map_err(|error| Failure::failed(format!("{}: {error}", folder.display())))?;
        let node = found.node.clone();
        let twin = node.and_then(|node| seen.insert(node, folder));
        verified.push(Verified {
            folder,
            found,
            twin,
        });
    }
    let others: Vec<&String> = sealed
        .keys()
        .filter(|node| !seen.contains_key(*node))
        .collect();
    print(&verified, &others, json)?;
    Ok(match verified.iter().all(Verified::is_sound) {
        true => Status::Done,
        false => Status::Failed,
    })
}

/// The heads that the store has sealed, by node.
async fn sealed(log: &Log) -> Result<BTreeMap<String, AuditHead>, Failure> {
    let config = &log.config;
    if let Some(shared) = config.store.shared() {
        let regions = config.served_regions();
        return Ok(shared.audit_heads(&log.root, &regions).await?);
    }
    let head = head(config, &log.root).await?;
    Ok(head.map(|head| (String::new(), head)).into_iter().collect())
}

fn print(verified: &[Verified<'_>], others: &[&String], json: bool) -> Result<(), Failure> {
    if json {
        let logs = verified.iter().map(|one| {
            let findings = one.findings();
            let mut told = report_json(&one.found.report);
            told["folder"] = json!(one.folder);
            told["node"] = json!(one.found.node);
            told["whole"] = one.is_sound().into();
            told["finding_count"] = findings.len().into();
            told["findings"] = findings.into();
            told
        });
        return output::json(&json!({
            "whole": verified.iter().all(Verified::is_sound),
            "logs": logs.collect::<Vec<_>>(),
            "nodes_not_named": others,
        }));
    }
    for one in verified {
        for line in one.findings() {
            output::result(&format!(
                "{}: {}",
                one.folder.display(),
                output::shown(&line)
            ))?;
        }
        let word = if one.is_sound() { "whole" } else { "not whole" };
        output::result(&format!(
            "{word}: {} {}, {}",
            output::shown(&one.folder.display().to_string()),
            one.node(),
            summary(&one.found.report)
        ))?;
    }
    for node in others {
        let node = match node.as_str() {
            "" => "the machine that this store was of".to_owned(),
            node => format!("node {node}"),
        };
        output::notice(&format!(
            "Not named: the log of {node}, whose head the store has."
        ));
    }
    Ok(())
}
