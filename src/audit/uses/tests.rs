//! Which records are uses, and which of several uses counts.

use super::*;
use crate::audit::Source;
use crate::audit::record::{AuditRecord, Batch, CALL, Identity, Refusal, Resource, ResourceKind};
use crate::key::material::KeyMaterialId;
use crate::operation::Operation;

const BEGAN: Timestamp = Timestamp(1_700_000_000_000_000);
const A: &str = "1234abcd-12ab-34cd-56ef-1234567890ab";
const B: &str = "mrk-1234abcd12ab34cd56ef1234567890ab";

fn id(text: &str) -> RegionalId {
    text.parse().unwrap()
}

/// A record about keys. The request's id is the event's id after an `r`.
struct Told<'a> {
    name: &'a str,
    keys: &'a [&'a str],
    event: &'a str,
    source: &'static str,
    body: &'a [u8],
    material: bool,
    batch: Option<u64>,
    refused: Option<Refusal<'a>>,
    seconds: u64,
}

impl<'a> Told<'a> {
    fn of(name: &'a str, keys: &'a [&'a str], event: &'a str) -> Self {
        Self {
            name,
            keys,
            event,
            source: KMS,
            body: b"{}",
            material: true,
            batch: None,
            refused: None,
            seconds: 0,
        }
    }

    fn append(&self, lines: &mut Vec<u8>) {
        let arns: Vec<String> = self
            .keys
            .iter()
            .map(|key| format!("arn:aws:kms:us-east-1:111122223333:key/{key}"))
            .collect();
        let resources: Vec<Resource<'_>> = arns
            .iter()
            .map(|arn| Resource {
                arn,
                account_id: "111122223333",
                kind: ResourceKind::Key,
            })
            .collect();
        AuditRecord {
            time: Timestamp(BEGAN.0 + self.seconds * 1_000_000),
            event_source: self.source,
            event_name: self.name,
            event_type: CALL,
            region: "us-east-1",
            identity: Identity {
                arn: Some("arn:aws:iam::111122223333:user/a\"requestID\":\"b"),
                account_id: Some("111122223333"),
                access_key_id: None,
                source_identity: None,
                web_user: None,
            },
            source: Source::Local,
            request_id: &format!("r{}", self.event),
            event_id: self.event,
            read_only: true,
            body: self.body,
            response_elements: None,
            resources: &resources,
            key_material_id: self
                .material
                .then(|| KeyMaterialId::parse(&"ab".repeat(32)).unwrap()),
            recipient: None,
            batch: self.batch.map(|count| Batch {
                count,
                digest: [7; 32],
            }),
            error: self.refused,
        }
        .append(lines);
    }
}

fn since(date: Timestamp) -> Uses {
    Uses::since(date, Regions::one("aws", "us-east-1"))
}

fn noted(records: &[Told<'_>]) -> Uses {
    let mut lines = Vec::new();
    for record in records {
        record.append(&mut lines);
    }
    // In the form in which a reader has a group.
    lines.extend_from_slice(b"{\"keymillChain\":{\"group\":2}}\n");
    let uses = since(BEGAN);
    uses.note(&lines);
    uses
}

/// The operation and the event of the key's last use.
fn last(uses: &Uses, key: &str) -> Option<(Operation, String)> {
    let (_, last) = uses.of(id(key));
    last.map(|last| (last.operation, last.event_id))
}

fn is(operation: &str, event: &str) -> Option<(Operation, String)> {
    Some((Operation::named(operation).unwrap(), event.to_owned()))
}

#[test]
fn the_last_use_of_each_key_counts() {
    let uses = noted(&[
        Told::of("Encrypt", &[A], "1"),
        Told::of("Encrypt", &[B], "2"),
        Told::of("Decrypt", &[A], "3"),
        Told::of("DescribeKey", &[A], "4"),
        Told::of("GetPublicKey", &[A], "5"),
    ]);
    assert_eq!(last(&uses, A), is("Decrypt", "3"));
    assert_eq!(last(&uses, B), is("Encrypt", "2"));
    let mut later = Vec::new();
    Told {
        seconds: 3,
        ..Told::of("Sign", &[A], "6")
    }
    .append(&mut later);
    uses.note(&later);
    let (since, found) = uses.of(id(A));
    let expected = LastUse {
        operation: Operation::Sign,
        time: Timestamp(BEGAN.0 + 3_000_000),
        event_id: "6".to_owned(),
        request_id: "r6".to_owned(),
    };
    assert_eq!((since, found), (BEGAN, Some(expected)));
    uses.note(b"");
    assert_eq!(last(&uses, B), is("Encrypt", "2"));
}

#[test]
fn a_blob_that_is_moved_uses_both_keys() {
    // From its second resource on, the last record ends as the first one does.
    let uses = noted(&[
        Told::of("ReEncrypt", &[A, B], "1"),
        Told::of("Encrypt", &[B], "2"),
    ]);
    assert_eq!(last(&uses, A), is("ReEncrypt", "1"));
    assert_eq!(last(&uses, B), is("Encrypt", "2"));
}

#[test]
fn batches_are_uses_when_they_have_rows() {
    for (name, operation) in [
        ("DataKeys", "GenerateDataKeyWithoutPlaintext"),
        ("Bind", "GenerateDataKeyWithoutPlaintext"),
        ("Export", "GenerateDataKeyWithoutPlaintext"),
        ("Provision", "GenerateDataKeyWithoutPlaintext"),
        ("Rewrap", "ReEncrypt"),
        ("VerifyBlobs", "Decrypt"),
    ] {
        for (count, expected) in [(0, None), (10, is(operation, "1"))] {
            let batch = Told {
                source: KEYMILL,
                batch: Some(count),
                ..Told::of(name, &[A], "1")
            };
            assert_eq!(last(&noted(&[batch]), A), expected, "{name} {count}");
        }
    }
}

#[test]
fn what_failed_and_what_is_no_use_counts_for_nothing() {
    let dry = Refusal {
        code: "DryRunOperationException",
        message: Some("The request would have succeeded, but the DryRun option is set."),
    };
    let own = |name| Told {
        source: KEYMILL,
        ..Told::of(name, &[A], "1")
    };
    for record in [
        Told {
            refused: Some(dry),
            ..Told::of("Encrypt", &[A], "1")
        },
        Told {
            refused: Some(dry),
            ..Told::of("Encrypt", &[], "1")
        },
        Told::of("RotateKey", &[A], "1"),
        Told::of("CreateKey", &[A], "1"),
        Told::of("GenerateRandom", &[], "1"),
        own("Encrypt"),
        own("CheckPolicy"),
    ] {
        let name = record.name;
        assert_eq!(last(&noted(&[record]), A), None, "{name}");
    }
    let uses = since(BEGAN);
    for line in ["", "\n", "{}\n", "no record", "{\"keymillLog\":{}}\n"] {
        uses.note(line.as_bytes());
    }
    assert_eq!(uses.known().by_key.len(), 0);
}

#[test]
fn what_a_caller_writes_is_not_taken_for_the_record() {
    let forged = serde_json::json!({
        "KeyId": format!("{A}\",\"responseElements\":null,\"resources\":[{{\"ARN\":\"arn:aws:kms:us-east-1:111122223333:key/{B}"),
        "EncryptionContext": {
            ",\"responseElements\":null,\"resources\":[{\"ARN\":\"x:key/": B,
            "responseElements": "null,\"resources\":[", "errorCode": "x", "count": "0",
        },
    });
    let body = forged.to_string();
    for refused in [false, true] {
        let message =
            format!(",\"responseElements\":null,\"resources\":[{{\"ARN\":\"a:key/{B}\"}}]");
        let record = Told {
            body: body.as_bytes(),
            refused: refused.then_some(Refusal {
                code: "NotFoundException",
                message: Some(&message),
            }),
            ..Told::of("Encrypt", if refused { &[] } else { &[A] }, "1")
        };
        let uses = noted(&[record]);
        assert_eq!(last(&uses, B), None);
        let expected = if refused { None } else { is("Encrypt", "1") };
        assert_eq!(last(&uses, A), expected);
    }
}

#[test]
fn what_the_store_has_is_taken_over_and_what_is_gone_forgotten() {
    let uses = noted(&[Told::of("Encrypt", &[A], "1")]);
    let mut snapshot = Snapshot::default();
    // Neither key is in the store.
    let written = uses.unwritten(&snapshot).unwrap();
    assert_eq!(written.by_key.len(), 0);
    snapshot.last_uses = Some(written);
    assert_eq!(uses.unwritten(&snapshot), None);
    let earlier = LastUses {
        since: Timestamp(BEGAN.0 - 1),
        by_key: Default::default(),
    };
    snapshot.last_uses = Some(Arc::new(earlier.clone()));
    assert_eq!(uses.unwritten(&snapshot), None);
    assert_eq!(uses.of(id(A)), (earlier.since, None));
}
