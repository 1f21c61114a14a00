//! What `/status` says that changes while the daemon runs: the store, its keys, the audit log, the
//! nodes of a shared store, certificates, the last backup, and what was done so far.

use crate::audit::Audit;
use crate::clock::Clock;
use crate::config::Config;
use crate::daemon::Core;
use crate::keystore::{Keystore, Snapshot};
use crate::metrics::Metrics;
use crate::transport::admin::Live;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

/// What is asked at each look. The keystore is not kept open by it.
struct Sources {
    keystore: Weak<Keystore>,
    audit: Arc<Audit>,
    audit_path: String,
    metrics: Arc<Metrics>,
    clock: Clock,
    began: u64,
    store: String,
    is_shared: bool,
    has_tls: bool,
}

/// Makes the members at each look.
pub(super) fn live(config: &Config, core: &Core) -> Live {
    let sources = Sources {
        keystore: Arc::downgrade(&core.keystore),
        audit: Arc::clone(&core.audit),
        audit_path: config.audit.path.display().to_string(),
        metrics: Arc::clone(&core.metrics),
        clock: core.clock.clone(),
        began: core.clock.now().unix_seconds(),
        store: config.store.shown(),
        is_shared: config.store.shared().is_some(),
        has_tls: config.tls.is_on(),
    };
    Box::new(move || sources.members())
}

impl Sources {
    fn members(&self) -> Map<String, Value> {
        let now = self.clock.now().unix_seconds();
        let series = Series(self.metrics.render());
        let mut members = Map::new();
        let mut put = |name: &str, value| drop(members.insert(name.to_owned(), value));
        put("now_unix_seconds", now.into());
        put("uptime_seconds", now.saturating_sub(self.began).into());
        put("totals", series.totals());
        put(
            "connections",
            series.by_label("keymill_connections", "transport"),
        );
        put("audit", self.audit(&series));
        let ends = self
            .has_tls
            .then(|| series.sum("keymill_tls_certificate_expiry_timestamp_seconds"));
        put("certificate_ends_at_unix_seconds", json!(ends));
        if let Some(keystore) = self.keystore.upgrade() {
            let snapshot = keystore.snapshot();
            put("store", self.store(&keystore, &snapshot));
            put("keys", keys(&snapshot));
            put("nodes", nodes(&keystore, &snapshot));
            let backup = keystore.last_backup().map(|backup| {
                json!({
                    "made_at_unix_seconds": backup.unix_seconds,
                    "age_seconds": now.saturating_sub(backup.unix_seconds),
                    "revision": backup.revision,
                })
            });
            put("backup", json!(backup));
        }
        members
    }

    fn store(&self, keystore: &Keystore, snapshot: &Snapshot) -> Value {
        let reason = keystore.halt().reason();
        json!({
            "name": self.store,
            "kind": if self.is_shared { "postgresql" } else { "sqlite" },
            "format": keystore.format(),
            "revision": snapshot.revision,
            "takes_changes": reason.is_none(),
            "reason": reason.map(|reason| reason.to_string()),
        })
    }

    fn audit(&self, series: &Series) -> Value {
        json!({
            "folder": self.audit_path,
            "writable": self.audit.is_writable(),
            "group": self.audit.head().group,
            "records": series.sum("keymill_audit_records_total"),
            "backlog_bytes": series.sum("keymill_audit_backlog_bytes"),
            "failures": series.sum("keymill_audit_failures_total"),
        })
    }
}

fn keys(snapshot: &Snapshot) -> Value {
    let (mut states, mut generations) = (BTreeMap::new(), 0);
    for (_, entry) in snapshot.keys.iter() {
        *states.entry(entry.key.state.name()).or_insert(0_u64) += 1;
        generations += entry.materials.len() as u64 + u64::from(entry.secret.is_some());
    }
    json!({
        "count": snapshot.keys.len(),
        "by_state": states,
        "generations": generations,
        "principals": snapshot.principals.len(),
    })
}

/// The nodes of a shared store that have sealed the head of their audit log.
fn nodes(keystore: &Keystore, snapshot: &Snapshot) -> Value {
    let heads = snapshot.audit_heads.iter();
    let nodes = heads.filter(|(node, _)| !node.is_empty());
    let nodes = nodes.map(|(node, (head, revision))| {
        json!({
            "node": node,
            "is_this": node == keystore.node(),
            "audit_group": head.group,
            "seen_at_revision": revision,
        })
    });
    nodes.collect()
}

/// An exposition, whose series are summed up.
struct Series(String);

impl Series {
    /// The name with its labels, and the value, of each series of a family.
    fn of<'a>(&'a self, family: &'a str) -> impl Iterator<Item = (&'a str, f64)> {
        self.0.lines().filter_map(move |line| {
            let labels = line.strip_prefix(family)?;
            let (labels, value) = labels.rsplit_once(' ')?;
            let is_of_family = labels.is_empty() || labels.starts_with('{');
            Some((labels, value.parse().ok()?)).filter(|_| is_of_family)
        })
    }

    fn sum(&self, family: &str) -> u64 {
        whole(self.of(family).map(|(_, value)| value).sum())
    }

    fn totals(&self) -> Value {
        let requests = self.of("keymill_requests_total");
        let answered = requests.filter(|(labels, _)| labels.contains(r#"code="OK""#));
        let answered = whole(answered.map(|(_, value)| value).sum());
        let requests = self.sum("keymill_requests_total");
        json!({
            "requests": requests,
            "refused": requests.saturating_sub(answered),
            "data_keys": self.sum("keymill_data_keys_total"),
            "throttled": self.sum("keymill_throttled_total"),
            "not_authenticated": self.sum("keymill_auth_failures_total"),
        })
    }

    /// The values by one label, whose values need no escapes.
    fn by_label(&self, family: &str, label: &str) -> Value {
        let name = format!("{label}=\"");
        let mut sums = BTreeMap::new();
        for (labels, value) in self.of(family) {
            let of = labels
                .split_once(&name)
                .and_then(|(_, rest)| rest.split('"').next());
            *sums.entry(of.unwrap_or_default().to_owned()).or_insert(0) += whole(value);
        }
        json!(sums)
    }
}

/// Counts are whole and not negative.
#[expect(
    clippy::cast_possible_truncation,
    reason = "a count is far below 2^53, and a cast saturates"
)]
fn whole(value: f64) -> u64 {
    value as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_summed_by_family_and_by_label() {
        let text = "# HELP keymill_requests_total x\n\
            keymill_requests_total{operation=\"Decrypt\",code=\"OK\"} 7\n\
            keymill_requests_total{operation=\"Decrypt\",code=\"DisabledException\"} 2\n\
            keymill_connections{transport=\"tcp\"} 3\n\
            keymill_connections{transport=\"unix\"} 1\n\
            keymill_connections_max{transport=\"tcp\"} 900\n\
            keymill_audit_records_total 12\n";
        let series = Series(text.to_owned());
        assert_eq!(series.sum("keymill_audit_records_total"), 12);
        assert_eq!(series.sum("keymill_absent"), 0);
        let connections = series.by_label("keymill_connections", "transport");
        assert_eq!(connections, json!({"tcp": 3, "unix": 1}));
        let totals = series.totals();
        assert_eq!(
            (&totals["requests"], &totals["refused"]),
            (&json!(9), &json!(2))
        );
        assert_eq!(totals["data_keys"], 0);
    }
}
