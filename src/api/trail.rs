//! Records of calls in the audit log.
//!
//! Every authenticated call has a record, answered or refused, and has it before its answer leaves
//! (AUDIT-1): where the record cannot be kept, the call fails. A call that changes the store is
//! refused beforehand while the log cannot be written; if the process is killed between the change
//! and its record, the change is kept without one, and was never answered. Records are in the order
//! in which they were kept: a key that was issued just before its KMS key was disabled may have its
//! record just after.
//!
//! Callers who could not be authenticated have no record, only a count and a bounded log line:
//! strangers could fill the disk with them.

use crate::api::reply::{Reply, Resources};
use crate::api::{Api, ApiError, ErrorCode, RequestId, Requester};
use crate::audit::{
    AuditError, AuditRecord, Batch, CALL, Identity, KEYMILL, KMS, Recorded, Refusal, Resource,
    ResourceKind, SERVICE_EVENT, STS, Source, TAGGING, WebUser, XKS,
};
use crate::key::arn::Arn;
use crate::keystore::KeyEntry;
use crate::operation::Operation;
use crate::operation::sts::StsOperation;
use crate::operation::tagging::TaggingOperation;
use crate::operation::xks::XksOperation;
use crate::policy::Principal;
use crate::web_identity;
use std::borrow::Cow;
use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Bytes of a refusal's message at most: it may quote the request.
const MESSAGE_BYTES_MAX: usize = 1024;

/// The operation that a caller asked for.
#[derive(Clone, Copy)]
pub(crate) struct Event<'a> {
    source: &'static str,
    name: &'a str,
    read_only: bool,
    body: &'a [u8],
}

impl<'a> Event<'a> {
    /// An operation of AWS KMS.
    pub(crate) fn of(operation: Operation, body: &'a [u8]) -> Self {
        Self {
            source: KMS,
            name: operation.name(),
            read_only: !operation.facts().changes,
            body,
        }
    }

    /// An operation of AWS STS, with its parameters as JSON. None of them changes the store.
    pub(crate) fn of_sts(operation: StsOperation, parameters: &'a [u8]) -> Self {
        Self {
            source: STS,
            name: operation.name(),
            read_only: true,
            body: parameters,
        }
    }

    /// An operation of the tagging API. A change of a key has a record of its own, of KMS.
    pub(crate) fn of_tagging(operation: TaggingOperation, body: &'a [u8]) -> Self {
        Self {
            source: TAGGING,
            name: operation.name(),
            read_only: !operation.changes(),
            body,
        }
    }

    /// An operation of an external key store proxy, with its parameters as JSON.
    pub(crate) fn of_xks(operation: XksOperation, parameters: &'a [u8]) -> Self {
        Self {
            source: XKS,
            name: operation.name(),
            read_only: true,
            body: parameters,
        }
    }

    /// An operation of ours.
    pub(crate) fn own(name: &'a str, read_only: bool, body: &'a [u8]) -> Self {
        let source = KEYMILL;
        Self {
            source,
            name,
            read_only,
            body,
        }
    }
}

/// How it ended.
pub(crate) enum Outcome<'a> {
    Done(&'a Resources, Option<Batch>),
    Refused(&'a ApiError, Option<Batch>),
}

thread_local! {
    static LINE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

impl Api {
    /// Refuses what must not be begun while it could not be recorded.
    pub(crate) fn check_recordable(&self) -> Result<(), ApiError> {
        if self.audit.is_writable() {
            return Ok(());
        }
        Err(ApiError::internal(AuditError::Unwritable))
    }

    /// Records a call, and lets its answer go when its record may be relied on.
    pub(crate) async fn told(
        &self,
        requester: &Requester,
        event: Event<'_>,
        answer: Result<Reply, ApiError>,
    ) -> Result<Reply, ApiError> {
        let outcome = match &answer {
            Ok(reply) => Outcome::Done(&reply.resources, None),
            Err(error) => Outcome::Refused(error, None),
        };
        let recorded = self.tell(requester, event, &outcome)?;
        self.durable(recorded).await?;
        answer
    }

    /// Returns when the answer of a recorded call may leave.
    ///
    /// # Errors
    /// [`ApiError`]: it must not.
    pub async fn durable(&self, recorded: Recorded) -> Result<(), ApiError> {
        self.audit
            .durable(recorded)
            .await
            .map_err(ApiError::internal)
    }

    /// Records a call that has ended so.
    pub(crate) fn tell(
        &self,
        requester: &Requester,
        event: Event<'_>,
        outcome: &Outcome<'_>,
    ) -> Result<Recorded, ApiError> {
        if let Outcome::Refused(error, rows) = outcome {
            if error.is_undecided() {
                self.counters.undecided.increment(1);
            }
            let handed_out = rows.as_ref().is_some_and(|rows| rows.count > 0);
            // A batch that has had keys had the right to them, and its end is always recorded; so
            // is a failure of this daemon.
            if !handed_out && !error.code().status().is_server_error() {
                self.take_refused(&requester.principal)?;
            }
        }
        let recorded = LINE.with_borrow_mut(|line| {
            line.clear();
            self.append(requester, event, outcome, line);
            self.audit.record(line)
        });
        recorded.map_err(ApiError::internal)
    }

    /// Records what a batch or a stream is refused with, and returns the caller's answer: the
    /// refusal, or why it has no record.
    pub(crate) fn refuse(
        &self,
        requester: &Requester,
        event: Event<'_>,
        error: ApiError,
        rows: Option<Batch>,
    ) -> ApiError {
        let told = self.tell(requester, event, &Outcome::Refused(&error, rows));
        told.err().unwrap_or(error)
    }

    /// Records a part of a bulk job, which this process has made by itself for the owner of the
    /// store, as `event`.
    ///
    /// # Errors
    /// [`ApiError`]: the part must not be kept.
    pub fn tell_part(
        &self,
        event: &'static str,
        requester: &Requester,
        asked: &[u8],
        entry: &Arc<KeyEntry>,
        rows: Batch,
    ) -> Result<Recorded, ApiError> {
        let resources = Resources {
            key: Some(Arc::clone(entry)),
            material: entry.current().map(|material| material.id()),
            ..Resources::default()
        };
        let done = Outcome::Done(&resources, Some(rows));
        self.tell(requester, Event::own(event, true, asked), &done)
    }

    /// Records that an operator's command on the opened store is about to do `event`, as asked.
    ///
    /// # Errors
    /// [`ApiError`]: it must not.
    pub fn tell_begun(
        &self,
        event: &'static str,
        requester: &Requester,
        asked: &[u8],
    ) -> Result<Recorded, ApiError> {
        let nothing = Resources::default();
        let done = Outcome::Done(&nothing, None);
        self.tell(requester, Event::own(event, true, asked), &done)
    }

    /// Records what the daemon did with a key by itself.
    pub(crate) fn tell_service_event(&self, name: &'static str, entry: &KeyEntry) {
        let account = entry.key.account.as_str();
        let key = Resource {
            arn: &entry.arn,
            account_id: account,
            kind: ResourceKind::Key,
        };
        let mut line = Vec::new();
        AuditRecord {
            time: self.clock.now(),
            event_source: KMS,
            event_name: name,
            event_type: SERVICE_EVENT,
            region: &self.keystore.regions().get(entry.key.region).name,
            identity: Identity {
                arn: None,
                account_id: Some(account),
                access_key_id: None,
                source_identity: None,
                web_user: None,
            },
            source: Source::Local,
            tls_details: None,
            request_id: RequestId::draw(&self.entropy).as_str(),
            event_id: RequestId::draw(&self.entropy).as_str(),
            read_only: false,
            body: b"",
            response_elements: None,
            resources: &[key],
            key_material_id: entry.current_id(),
            recipient: None,
            batch: None,
            node: self.node(),
            error: None,
        }
        .append(&mut line);
        // The change is kept, and was begun while the log could be written; the failure is counted.
        if let Err(error) = self.audit.record(&line) {
            tracing::error!(%error, event = name, key_id = %entry.key.id, "not in the audit log");
        }
    }

    /// Records of all nodes of a shared store are often read together.
    fn node(&self) -> Option<&str> {
        let node = self.keystore.node();
        (!node.is_empty()).then_some(node)
    }

    fn append(
        &self,
        requester: &Requester,
        event: Event<'_>,
        outcome: &Outcome<'_>,
        line: &mut Vec<u8>,
    ) {
        let none = Resources::default();
        let (resources, error, batch) = match outcome {
            Outcome::Done(resources, batch) => (*resources, None, *batch),
            Outcome::Refused(error, batch) => (&none, Some(*error), *batch),
        };
        let key = resources.key.as_ref().map(of_key);
        let named = resources.other.as_deref().map(|arn| {
            let parts = Arn::split(arn);
            Resource {
                arn,
                account_id: parts.map_or("", |parts| parts.account),
                kind: parts.map_or(ResourceKind::Key, kind),
            }
        });
        let other = resources.destination.as_ref().map(of_key).or(named);
        let both;
        let one;
        let list: &[Resource<'_>] = match (key, other) {
            (Some(key), Some(other)) => {
                both = [key, other];
                &both
            }
            (Some(resource), None) | (None, Some(resource)) => {
                one = [resource];
                &one
            }
            (None, None) => &[],
        };
        let mut message = error.map(|error| message(error)).unwrap_or_default();
        if error.is_some() {
            let unrecorded = self.unrecorded.swap(0, Ordering::Relaxed);
            if unrecorded > 0 {
                let note =
                    format!(" [refused calls before this one that have no record: {unrecorded}]");
                message.to_mut().push_str(&note);
            }
        }
        // The members of a body that was not understood are not known.
        let is_understood = |error: &ApiError| error.code() != ErrorCode::SerializationException;
        AuditRecord {
            time: self.clock.now(),
            event_source: event.source,
            event_name: event.name,
            event_type: CALL,
            region: &self.keystore.regions().get(requester.region).name,
            identity: Identity {
                arn: Some(&requester.principal.arn),
                account_id: Some(requester.principal.account.as_str()),
                access_key_id: requester.access_key.as_ref().map(|key| key.id.as_str()),
                source_identity: source_identity(&requester.principal),
                web_user: requester.web_identity.as_deref().map(of_token),
            },
            source: requester.source,
            tls_details: requester.tls_details.as_deref(),
            request_id: requester.request_id.as_str(),
            event_id: RequestId::draw(&self.entropy).as_str(),
            read_only: event.read_only,
            body: if error.is_none_or(is_understood) {
                event.body
            } else {
                b""
            },
            response_elements: resources.elements.as_deref(),
            resources: list,
            key_material_id: resources.material,
            recipient: resources.recipient.as_deref(),
            batch,
            node: self.node(),
            error: error.map(|error| Refusal {
                code: error.code().name(),
                message: (!message.is_empty()).then_some(&*message),
            }),
        }
        .append(line);
    }
}

fn of_token(identity: &web_identity::Identity) -> WebUser<'_> {
    WebUser {
        provider_arn: &identity.provider_arn,
        audience: &identity.audience,
        subject: &identity.claims.subject,
    }
}

fn of_key(entry: &Arc<KeyEntry>) -> Resource<'_> {
    Resource {
        arn: &entry.arn,
        account_id: entry.key.account.as_str(),
        kind: ResourceKind::Key,
    }
}

fn message(error: &ApiError) -> Cow<'_, str> {
    let message = error.message();
    message[..message.floor_char_boundary(MESSAGE_BYTES_MAX)].into()
}

fn kind(arn: Arn<'_>) -> ResourceKind {
    if arn.service == "iam" {
        ResourceKind::Role
    } else if arn.resource.starts_with("alias/") {
        ResourceKind::Alias
    } else {
        ResourceKind::Key
    }
}

/// Who stands behind a session, if it was said when its role was assumed.
fn source_identity(principal: &Principal) -> Option<&str> {
    principal.parameters()?.source_identity.as_deref()
}
