//! Every metric family, in one struct that is built once on its own recorder and passed down. There
//! is no global registry.
//!
//! Labels come from closed sets; a principal, a context or a request id is never a label. Handles
//! are registered once and kept. A test holds the `keymill_*` names to the dashboards.

use metrics::{Counter, Gauge, Histogram, SharedString, Unit};
use metrics_exporter_prometheus::{
    BuildError, Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder,
};
use std::hash::RandomState;

mod families;

pub use families::{FAMILIES, Kind};

/// Latency buckets in seconds: from 1 µs to the request deadline.
const SECONDS_BUCKETS: [f64; 22] = [
    1e-6, 2e-6, 5e-6, 1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1,
    0.2, 0.5, 1.0, 2.0, 5.0, 10.0,
];

/// The metrics of one process.
pub struct Metrics {
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
    /// `keymill_pool_minted_total`
    pub pool_minted: Counter,
    /// `keymill_entropy_failures_total`
    pub entropy_failures: Counter,
    /// `keymill_keystore_commits_total`
    pub keystore_commits: Counter,
    /// `keymill_keystore_commit_duration_seconds`
    pub keystore_commit_seconds: Histogram,
    /// `keymill_keystore_revision`
    pub keystore_revision: Gauge,
    /// `keymill_keystore_halted`
    pub keystore_halted: Gauge,
    /// `keymill_keystore_confirmed_timestamp_seconds`
    pub keystore_confirmed: Gauge,
    /// `keymill_keystore_stale`
    pub keystore_stale: Gauge,
    /// `keymill_keystore_failed_looks_total`
    pub keystore_failed_looks: Counter,
    /// `keymill_keystore_lost_races_total`
    pub keystore_lost_races: Counter,
    /// `keymill_keystore_hints`
    pub keystore_hints: Gauge,
    /// `keymill_deletions_held`
    pub deletions_held: Gauge,
    /// `keymill_config_refused`
    pub config_refused: Gauge,
    /// `keymill_audit_records_total`
    pub audit_records: Counter,
    /// `keymill_audit_failures_total`
    pub audit_failures: Counter,
    /// `keymill_audit_backlog_bytes`
    pub audit_backlog_bytes: Gauge,
    /// `keymill_ready`
    pub ready: Gauge,
}

impl Metrics {
    /// Registers the metrics without labels, and sets those that never change.
    ///
    /// # Errors
    /// Never in practice: the buckets are constants, but the exporter's function returns a
    /// `Result`.
    pub fn new() -> Result<Self, BuildError> {
        let mut builder = PrometheusBuilder::new();
        for (name, kind, _) in FAMILIES {
            if kind == Kind::Histogram {
                builder = builder
                    .set_buckets_for_metric(Matcher::Full(name.to_owned()), &SECONDS_BUCKETS)?;
            }
        }
        let recorder = builder.build_recorder();
        let handle = recorder.handle();
        let build = |name: &'static str| {
            metrics::with_local_recorder(&recorder, || metrics::counter!(name))
        };
        let gauge =
            |name: &'static str| metrics::with_local_recorder(&recorder, || metrics::gauge!(name));
        metrics::with_local_recorder(&recorder, describe);
        // These are registered now, so that a scrape shows them from 0 on.
        let metrics = Self {
            pool_minted: build("keymill_pool_minted_total"),
            entropy_failures: build("keymill_entropy_failures_total"),
            keystore_commits: build("keymill_keystore_commits_total"),
            keystore_commit_seconds: metrics::with_local_recorder(&recorder, || {
                metrics::histogram!("keymill_keystore_commit_duration_seconds")
            }),
            keystore_revision: gauge("keymill_keystore_revision"),
            keystore_halted: gauge("keymill_keystore_halted"),
            keystore_confirmed: gauge("keymill_keystore_confirmed_timestamp_seconds"),
            keystore_stale: gauge("keymill_keystore_stale"),
            keystore_failed_looks: build("keymill_keystore_failed_looks_total"),
            keystore_lost_races: build("keymill_keystore_lost_races_total"),
            keystore_hints: gauge("keymill_keystore_hints"),
            deletions_held: gauge("keymill_deletions_held"),
            config_refused: gauge("keymill_config_refused"),
            audit_records: build("keymill_audit_records_total"),
            audit_failures: build("keymill_audit_failures_total"),
            audit_backlog_bytes: gauge("keymill_audit_backlog_bytes"),
            ready: gauge("keymill_ready"),
            recorder,
            handle,
        };
        metrics
            .gauge("keymill_aes_accelerated", &[])
            .set(u8::from(aes::hardware_accelerated()));
        metrics
            .gauge(
                "keymill_build_info",
                &[("version", env!("CARGO_PKG_VERSION").into())],
            )
            .set(1);
        metrics.ready.set(0);
        Ok(metrics)
    }

    /// `keymill_backup_timestamp_seconds`, 0 while no backup is known
    pub fn backup(&self, unix_seconds: Option<u64>) {
        let gauge = self.gauge("keymill_backup_timestamp_seconds", &[]);
        gauge.set(unix_seconds.unwrap_or(0) as f64);
    }

    /// `keymill_requests_total{operation,code}`
    pub fn requests(&self, operation: &'static str, code: &'static str) -> Counter {
        self.counter(
            "keymill_requests_total",
            &[("operation", operation.into()), ("code", code.into())],
        )
    }

    /// `keymill_request_duration_seconds{operation,transport}`
    pub fn request_seconds(&self, operation: &'static str, transport: &'static str) -> Histogram {
        let labels = labels(&[
            ("operation", operation.into()),
            ("transport", transport.into()),
        ]);
        metrics::with_local_recorder(&self.recorder, || {
            metrics::histogram!("keymill_request_duration_seconds", labels)
        })
    }

    /// `keymill_data_keys_total{operation,spec,result}`
    pub fn data_keys(
        &self,
        operation: &'static str,
        spec: &'static str,
        result: &'static str,
    ) -> Counter {
        let labels = [
            ("operation", operation.into()),
            ("spec", spec.into()),
            ("result", result.into()),
        ];
        self.counter("keymill_data_keys_total", &labels)
    }

    /// `keymill_throttled_total{scope}`, from 0 on
    pub fn throttled(&self, scope: &'static str) -> Counter {
        let counter = self.counter("keymill_throttled_total", &[("scope", scope.into())]);
        counter.increment(0);
        counter
    }

    /// `keymill_policy_undecided_total`, from 0 on
    pub fn policy_undecided(&self) -> Counter {
        let counter = self.counter("keymill_policy_undecided_total", &[]);
        counter.increment(0);
        counter
    }

    /// `keymill_pool_purged_total{reason}`
    pub fn pool_purged(&self, reason: &'static str) -> Counter {
        self.counter("keymill_pool_purged_total", &[("reason", reason.into())])
    }

    /// `keymill_auth_failures_total{reason}`
    pub fn auth_failures(&self, reason: &'static str) -> Counter {
        self.counter("keymill_auth_failures_total", &[("reason", reason.into())])
    }

    /// `keymill_web_identity_tokens_total{result}`, from 0 on
    pub fn web_identity_tokens(&self, result: &'static str) -> Counter {
        let labels = [("result", result.into())];
        let counter = self.counter("keymill_web_identity_tokens_total", &labels);
        counter.increment(0);
        counter
    }

    /// `keymill_attestation_documents_total{result}`, from 0 on
    pub fn attestation_documents(&self, result: &'static str) -> Counter {
        let labels = [("result", result.into())];
        let counter = self.counter("keymill_attestation_documents_total", &labels);
        counter.increment(0);
        counter
    }

    /// `keymill_issuer_fetches_total{issuer,result}`, from 0 on. `issuer` is a name of the
    /// configuration.
    pub fn issuer_fetches(&self, issuer: &str, result: &'static str) -> Counter {
        let labels = [
            ("issuer", issuer.to_owned().into()),
            ("result", result.into()),
        ];
        let counter = self.counter("keymill_issuer_fetches_total", &labels);
        counter.increment(0);
        counter
    }

    /// `keymill_issuer_keys_fetched_timestamp_seconds{issuer}`, from 0 on
    pub fn issuer_keys_fetched(&self, issuer: &str) -> Gauge {
        let labels = [("issuer", issuer.to_owned().into())];
        self.gauge("keymill_issuer_keys_fetched_timestamp_seconds", &labels)
    }

    /// `keymill_xks_proxy_calls_total{operation,result}`, from 0 on
    pub fn xks_proxy_calls(&self, operation: &'static str, result: &'static str) -> Counter {
        let labels = [("operation", operation.into()), ("result", result.into())];
        let counter = self.counter("keymill_xks_proxy_calls_total", &labels);
        counter.increment(0);
        counter
    }

    /// `keymill_xks_proxy_call_duration_seconds{operation}`
    pub fn xks_proxy_call_seconds(&self, operation: &'static str) -> Histogram {
        let labels = labels(&[("operation", operation.into())]);
        metrics::with_local_recorder(&self.recorder, || {
            metrics::histogram!("keymill_xks_proxy_call_duration_seconds", labels)
        })
    }

    /// `keymill_tls_handshake_failures_total{reason}`
    pub fn tls_handshake_failures(&self, reason: &'static str) -> Counter {
        let labels = [("reason", reason.into())];
        self.counter("keymill_tls_handshake_failures_total", &labels)
    }

    /// `keymill_tls_reload_failures_total`
    pub fn tls_reload_failures(&self) -> Counter {
        self.counter("keymill_tls_reload_failures_total", &[])
    }

    /// `keymill_tls_certificate_expiry_timestamp_seconds`
    pub fn tls_certificate_expiry(&self) -> Gauge {
        self.gauge("keymill_tls_certificate_expiry_timestamp_seconds", &[])
    }

    /// `keymill_config_reloads_total{result}`, from 0 on
    pub fn config_reloads(&self, result: &'static str) -> Counter {
        let labels = [("result", result.into())];
        let counter = self.counter("keymill_config_reloads_total", &labels);
        counter.increment(0);
        counter
    }

    /// `keymill_connections{transport}`
    pub fn connections(&self, transport: &'static str) -> Gauge {
        self.gauge("keymill_connections", &[("transport", transport.into())])
    }

    /// `keymill_connections_max{transport}`
    pub fn connections_max(&self, transport: &'static str) -> Gauge {
        let labels = [("transport", transport.into())];
        self.gauge("keymill_connections_max", &labels)
    }

    /// `keymill_connections_let_go_total{transport}`, from 0 on
    pub fn connections_let_go(&self, transport: &'static str) -> Counter {
        let labels = [("transport", transport.into())];
        let counter = self.counter("keymill_connections_let_go_total", &labels);
        counter.increment(0);
        counter
    }

    /// `keymill_accept_failures_total{transport}`, from 0 on
    pub fn accept_failures(&self, transport: &'static str) -> Counter {
        let labels = [("transport", transport.into())];
        let counter = self.counter("keymill_accept_failures_total", &labels);
        counter.increment(0);
        counter
    }

    /// `keymill_kms_keys{state}`
    pub fn kms_keys(&self, state: &'static str) -> Gauge {
        self.gauge("keymill_kms_keys", &[("state", state.into())])
    }

    /// `keymill_memory_locked`
    pub fn memory_locked(&self, locked: bool) {
        self.gauge("keymill_memory_locked", &[])
            .set(u8::from(locked));
    }

    /// `keymill_clone_word_info{source,window}`
    pub fn clone_word_source(&self, source: &'static str, window: &'static str) {
        let labels = [("source", source.into()), ("window", window.into())];
        self.gauge("keymill_clone_word_info", &labels).set(1);
    }

    /// The Prometheus text exposition. Drains histogram samples: call it on a thread that may be
    /// busy for some milliseconds.
    #[must_use]
    pub fn render(&self) -> String {
        self.handle.render()
    }

    /// Moves histogram samples into their buckets. Without this call and without scrapes, samples
    /// would accumulate in memory.
    pub fn upkeep(&self) {
        self.handle.run_upkeep();
    }

    fn counter(&self, name: &'static str, pairs: &[(&'static str, SharedString)]) -> Counter {
        let labels = labels(pairs);
        metrics::with_local_recorder(&self.recorder, || metrics::counter!(name, labels))
    }

    fn gauge(&self, name: &'static str, pairs: &[(&'static str, SharedString)]) -> Gauge {
        let labels = labels(pairs);
        metrics::with_local_recorder(&self.recorder, || metrics::gauge!(name, labels))
    }
}

/// Makes the first hash map of this thread. The standard library then draws the seed of all its
/// hash maps from the operating system, and panics if that source has failed. A thread that must
/// survive such a failure calls this when it starts.
pub fn seed_hash_maps() {
    drop(RandomState::new());
}

/// The exposition of a gauge whose series come and go; a registry would keep every series that ever
/// existed. The values of `label` must need no escapes. Empty without series.
#[must_use]
pub fn passing_gauge<'a>(
    name: &str,
    label: &str,
    series: impl Iterator<Item = (&'a str, usize)>,
) -> String {
    let mut lines = String::new();
    for (value, number) in series {
        if lines.is_empty() {
            let family = FAMILIES.iter().find(|family| family.0 == name);
            let help = family.map_or("", |family| family.2);
            lines = format!("# HELP {name} {help}\n# TYPE {name} gauge\n");
        }
        lines.push_str(&format!("{name}{{{label}=\"{value}\"}} {number}\n"));
    }
    lines
}

fn labels(pairs: &[(&'static str, SharedString)]) -> Vec<metrics::Label> {
    pairs
        .iter()
        .map(|(name, value)| metrics::Label::new(*name, value.clone()))
        .collect()
}

fn describe() {
    for (name, kind, help) in FAMILIES {
        match kind {
            Kind::Counter => metrics::describe_counter!(name, help),
            Kind::Gauge => metrics::describe_gauge!(name, help),
            Kind::Histogram => metrics::describe_histogram!(name, Unit::Seconds, help),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_rendered_with_their_help_and_buckets() {
        let metrics = Metrics::new().unwrap();
        metrics.requests("Decrypt", "OK").increment(3);
        metrics.request_seconds("Decrypt", "tcp").record(3e-6);
        metrics.upkeep();
        let text = metrics.render();
        assert!(
            text.contains("# HELP keymill_requests_total Requests by operation"),
            "{text}"
        );
        assert!(
            text.contains("keymill_requests_total{operation=\"Decrypt\",code=\"OK\"} 3"),
            "{text}"
        );
        assert!(
            text.contains("transport=\"tcp\",le=\"0.000005\"} 1"),
            "{text}"
        );
        assert!(text.contains("keymill_build_info{version="), "{text}");
    }
}
