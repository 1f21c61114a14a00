//! The metric families: their names, their types and their help.

/// The type of a family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only increases.
    Counter,
    /// Goes up and down.
    Gauge,
    /// A distribution in seconds.
    Histogram,
}

/// The name, unit and help text of every family, for the exposition and for the test that compares
/// the dashboards.
pub const FAMILIES: [(&str, Kind, &str); 46] = [
    (
        "keymill_requests_total",
        Kind::Counter,
        "Requests by operation and code (OK or the error code)",
    ),
    (
        "keymill_request_duration_seconds",
        Kind::Histogram,
        "Time from the head of a request to its response, by operation and transport",
    ),
    (
        "keymill_connections",
        Kind::Gauge,
        "Open connections by transport",
    ),
    (
        "keymill_connections_max",
        Kind::Gauge,
        "Connections that may be open, by transport",
    ),
    (
        "keymill_connections_let_go_total",
        Kind::Counter,
        "Connections, idle or not authenticated, that were closed because their listener was full and another one waited, by transport",
    ),
    (
        "keymill_accept_failures_total",
        Kind::Counter,
        "Connections that could not be accepted because descriptors or memory ran out, by transport",
    ),
    (
        "keymill_data_keys_total",
        Kind::Counter,
        "Data keys handed out, by operation, spec, and whether the pool had one (hit), should have had one (miss), or was not asked (direct)",
    ),
    (
        "keymill_throttled_total",
        Kind::Counter,
        "Requests and batches answered ThrottlingException, by the owner of the limit that was reached",
    ),
    (
        "keymill_policy_undecided_total",
        Kind::Counter,
        "Requests refused because their policies took too many steps to decide on",
    ),
    (
        "keymill_pool_depth",
        Kind::Gauge,
        "Pooled keys ready, by lane",
    ),
    (
        "keymill_pool_capacity",
        Kind::Gauge,
        "Pooled keys that a lane may hold",
    ),
    (
        "keymill_pool_minted_total",
        Kind::Counter,
        "Pooled keys minted by the fillers",
    ),
    (
        "keymill_pool_purged_total",
        Kind::Counter,
        "Pooled keys dropped unused, by reason",
    ),
    (
        "keymill_entropy_failures_total",
        Kind::Counter,
        "Draws that the operating system's entropy source failed",
    ),
    (
        "keymill_keystore_commits_total",
        Kind::Counter,
        "Changes of the store that were made durable",
    ),
    (
        "keymill_keystore_commit_duration_seconds",
        Kind::Histogram,
        "Time to make a change of the store durable",
    ),
    (
        "keymill_keystore_revision",
        Kind::Gauge,
        "Revision of the store's snapshot in use",
    ),
    (
        "keymill_keystore_halted",
        Kind::Gauge,
        "1 while the store takes no changes because a change failed",
    ),
    (
        "keymill_keystore_confirmed_timestamp_seconds",
        Kind::Gauge,
        "When the shared store last confirmed what is in force; 0 for an embedded store",
    ),
    (
        "keymill_keystore_stale",
        Kind::Gauge,
        "1 while no key is handed out because the shared store does not confirm what is in force",
    ),
    (
        "keymill_keystore_failed_looks_total",
        Kind::Counter,
        "Looks at the shared store that failed",
    ),
    (
        "keymill_keystore_lost_races_total",
        Kind::Counter,
        "Changes that were decided again because another node changed the shared store first",
    ),
    (
        "keymill_keystore_hints",
        Kind::Gauge,
        "1 while notifications of changes of the shared store arrive",
    ),
    (
        "keymill_backup_timestamp_seconds",
        Kind::Gauge,
        "When a backup of the store was last made and verified, in seconds since 1970; 0 while none is known",
    ),
    ("keymill_kms_keys", Kind::Gauge, "KMS keys by state"),
    (
        "keymill_deletions_held",
        Kind::Gauge,
        "KMS keys whose date of deletion has come but which are not removed yet",
    ),
    (
        "keymill_auth_failures_total",
        Kind::Counter,
        "Requests whose caller could not be authenticated, by code",
    ),
    (
        "keymill_web_identity_tokens_total",
        Kind::Counter,
        "Tokens of other issuers, by what came of them (ok, or why they were refused)",
    ),
    (
        "keymill_attestation_documents_total",
        Kind::Counter,
        "Attestation documents of recipients, by what came of them (ok, or why they were refused)",
    ),
    (
        "keymill_issuer_fetches_total",
        Kind::Counter,
        "Fetches of an issuer's keys, by issuer and result (ok, failed)",
    ),
    (
        "keymill_issuer_keys_fetched_timestamp_seconds",
        Kind::Gauge,
        "When the keys of an issuer that are in use were fetched, in seconds since 1970",
    ),
    (
        "keymill_xks_proxy_calls_total",
        Kind::Counter,
        "Calls of external key store proxies, by operation and result (ok, or why they failed)",
    ),
    (
        "keymill_xks_proxy_call_duration_seconds",
        Kind::Histogram,
        "Time that calls of external key store proxies took, by operation",
    ),
    (
        "keymill_tls_handshake_failures_total",
        Kind::Counter,
        "TLS handshakes that failed, by reason",
    ),
    (
        "keymill_tls_reload_failures_total",
        Kind::Counter,
        "Changed TLS files that could not be used, so that the old ones stayed in force",
    ),
    (
        "keymill_tls_certificate_expiry_timestamp_seconds",
        Kind::Gauge,
        "When the first certificate of the TLS chain ends, in seconds since 1970",
    ),
    (
        "keymill_config_reloads_total",
        Kind::Counter,
        "Times that SIGHUP had the configuration read again, by result (ok, failed)",
    ),
    (
        "keymill_config_refused",
        Kind::Gauge,
        "1 when the configuration, as it was last read again, could not be put in force",
    ),
    (
        "keymill_audit_records_total",
        Kind::Counter,
        "Audit records written to the log",
    ),
    (
        "keymill_audit_failures_total",
        Kind::Counter,
        "Calls refused because their audit record could not be stored",
    ),
    (
        "keymill_audit_backlog_bytes",
        Kind::Gauge,
        "Audit records, in bytes, that are not written to the log yet",
    ),
    (
        "keymill_aes_accelerated",
        Kind::Gauge,
        "1 when AES instructions are used, 0 when AES runs in software",
    ),
    (
        "keymill_memory_locked",
        Kind::Gauge,
        "1 when the process's memory is locked, 0 when it may be swapped out",
    ),
    (
        "keymill_clone_word_info",
        Kind::Gauge,
        "Sources of the clone word in use, each with its window, as labels",
    ),
    (
        "keymill_ready",
        Kind::Gauge,
        "1 while the daemon is ready to serve",
    ),
    (
        "keymill_build_info",
        Kind::Gauge,
        "Version of the daemon, as a label",
    ),
];
