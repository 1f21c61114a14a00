//! Requests and their durations, counted in tables. A handle is registered when its cell is first
//! used, and not again for later requests.

use crate::api::ErrorCode;
use crate::metrics::Metrics;
use crate::operation::Operation;
use crate::operation::sts::StsOperation;
use crate::operation::tagging::TaggingOperation;
use crate::operation::xks::XksOperation;
use crate::stream::Purpose;
use metrics::{Counter, Histogram};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// The subject of a request, for the label `operation`.
#[derive(Clone, Copy)]
pub(super) enum Subject {
    /// The request was refused before it named an operation.
    None,
    /// A batch.
    DataKeys,
    /// A stream of containers.
    Containers(Purpose),
    /// An operator's own operation.
    Admin,
    /// An operation of AWS KMS.
    Operation(Operation),
    /// An operation of AWS STS.
    Sts(StsOperation),
    /// An operation of the tagging API.
    Tagging(TaggingOperation),
    /// An operation of an external key store proxy.
    Xks(XksOperation),
}

impl Subject {
    /// The index of the first operation of STS.
    const STS: usize = 3 + Purpose::ALL.len() + Operation::ALL.len();
    /// The index of the first operation of the tagging API.
    const TAGGING: usize = Self::STS + StsOperation::ALL.len();
    /// The index of the first operation of an external key store proxy.
    const XKS: usize = Self::TAGGING + TaggingOperation::ALL.len();
    const COUNT: usize = Self::XKS + XksOperation::ALL.len();

    fn index(self) -> usize {
        match self {
            Self::None => 0,
            Self::DataKeys => 1,
            Self::Admin => 2,
            Self::Containers(purpose) => 3 + purpose as usize,
            Self::Operation(operation) => 3 + Purpose::ALL.len() + operation as usize,
            Self::Sts(operation) => Self::STS + operation as usize,
            Self::Tagging(operation) => Self::TAGGING + operation as usize,
            Self::Xks(operation) => Self::XKS + operation as usize,
        }
    }

    pub(super) fn label(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::DataKeys => "DataKeys",
            Self::Containers(purpose) => purpose.event(),
            Self::Admin => "Admin",
            Self::Operation(operation) => operation.name(),
            Self::Sts(operation) => operation.name(),
            Self::Tagging(operation) => operation.name(),
            Self::Xks(operation) => operation.name(),
        }
    }
}

/// How a request ended, for the label `code`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Answered.
    Ok,
    /// There is no such path.
    NotFound,
    /// There is no such method.
    MethodNotAllowed,
    /// Refused, or failed.
    Error(ErrorCode),
}

impl Outcome {
    const COUNT: usize = 3 + ErrorCode::ALL.len();

    fn index(self) -> usize {
        match self {
            Self::Ok => 0,
            Self::NotFound => 1,
            Self::MethodNotAllowed => 2,
            Self::Error(code) => 3 + code as usize,
        }
    }

    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::NotFound => "NotFound",
            Self::MethodNotAllowed => "MethodNotAllowed",
            Self::Error(code) => code.name(),
        }
    }
}

/// The counters and histograms of one listener.
pub(super) struct Tally {
    metrics: Arc<Metrics>,
    transport: &'static str,
    requests: Vec<OnceLock<Counter>>,
    seconds: Vec<OnceLock<Histogram>>,
    auth_failures: Vec<OnceLock<Counter>>,
}

impl Tally {
    pub(super) fn new(metrics: Arc<Metrics>, transport: &'static str) -> Self {
        Self {
            metrics,
            transport,
            requests: cells(Subject::COUNT * Outcome::COUNT),
            seconds: cells(Subject::COUNT),
            auth_failures: cells(ErrorCode::ALL.len()),
        }
    }

    /// Whether the listener has this transport.
    pub(super) fn is_of(&self, transport: &str) -> bool {
        self.transport == transport
    }

    /// Counts a request that took `duration` from its head to its response.
    pub(super) fn request(&self, subject: Subject, outcome: Outcome, duration: Duration) {
        self.requests[subject.index() * Outcome::COUNT + outcome.index()]
            .get_or_init(|| self.metrics.requests(subject.label(), outcome.label()))
            .increment(1);
        self.seconds[subject.index()]
            .get_or_init(|| {
                self.metrics
                    .request_seconds(subject.label(), self.transport)
            })
            .record(duration);
    }

    /// Counts a request whose caller could not be authenticated.
    pub(super) fn auth_failure(&self, code: ErrorCode) {
        self.auth_failures[code as usize]
            .get_or_init(|| self.metrics.auth_failures(code.name()))
            .increment(1);
    }
}

fn cells<T>(count: usize) -> Vec<OnceLock<T>> {
    std::iter::repeat_with(OnceLock::new).take(count).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_do_not_mix() {
        let metrics = Arc::new(Metrics::new().unwrap());
        let (tcp, unix) = (
            Tally::new(Arc::clone(&metrics), "tcp"),
            Tally::new(Arc::clone(&metrics), "unix"),
        );
        let last = Outcome::Error(ErrorCode::ValidationException);
        for (tally, subject, outcome) in [
            (&tcp, Subject::None, last),
            (&tcp, Subject::DataKeys, Outcome::Ok),
            (&unix, Subject::DataKeys, Outcome::Ok),
            (&unix, Subject::Admin, Outcome::NotFound),
        ] {
            tally.request(subject, outcome, Duration::from_micros(3));
        }
        unix.auth_failure(ErrorCode::InvalidSignatureException);
        metrics.upkeep();
        let text = metrics.render();
        for line in [
            r#"keymill_requests_total{operation="none",code="ValidationException"} 1"#,
            r#"keymill_requests_total{operation="DataKeys",code="OK"} 2"#,
            r#"keymill_requests_total{operation="Admin",code="NotFound"} 1"#,
            r#"keymill_request_duration_seconds_count{operation="DataKeys",transport="unix"} 1"#,
            r#"keymill_auth_failures_total{reason="InvalidSignatureException"} 1"#,
        ] {
            assert!(text.contains(line), "{line} is not in {text}");
        }
    }

    #[test]
    fn every_operation_and_code_has_a_cell_of_its_own() {
        let operations = Operation::ALL.iter().copied().map(Subject::Operation);
        let subjects = [
            Subject::None,
            Subject::DataKeys,
            Subject::Admin,
            Subject::Containers(Purpose::Bind),
            Subject::Containers(Purpose::Rewrap),
            Subject::Containers(Purpose::Verify),
        ];
        let of_sts = StsOperation::ALL.iter().copied().map(Subject::Sts);
        let of_tagging = TaggingOperation::ALL.iter().copied();
        let subjects = subjects.into_iter().chain(operations).chain(of_sts);
        let subjects = subjects.chain(of_tagging.map(Subject::Tagging));
        let of_xks = XksOperation::ALL.iter().copied().map(Subject::Xks);
        let subjects = subjects.chain(of_xks);
        assert!(subjects.map(Subject::index).eq(0..Subject::COUNT));
        let codes = ErrorCode::ALL.iter().copied().map(Outcome::Error);
        let outcomes = [Outcome::Ok, Outcome::NotFound, Outcome::MethodNotAllowed];
        let outcomes = outcomes.into_iter().chain(codes).map(Outcome::index);
        assert!(outcomes.eq(0..Outcome::COUNT));
    }
}
