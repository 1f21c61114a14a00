//! Which records are uses, and which of several uses counts.

use super::*;
use crate::audit::Source;
use crate::audit::record::{AuditRecord, Batch, CALL, Identity, Refusal, Resource, ResourceKind};
use crate::key::KmsKey;
use crate::key::material::KeyMaterialId;
use crate::keystore::KeyEntry;
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
    tls: Option<&'a str>,
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
            tls: None,
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
            tls_details: self.tls,
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
            node: None,
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
    let (_, last) = uses.of(id(key), Arc::default);
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
    let (since, found) = uses.of(id(A), Arc::default);
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
    assert_eq!(uses.unwritten().len(), 0);
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
    let host = format!(",\"errorCode\":\"x\",\"count\":0,{{\"ARN\":\"a:key/{B}\"}}");
    let tls = serde_json::json!({"clientProvidedHostHeader": host}).to_string();
    for refused in [false, true] {
        let message =
            format!(",\"responseElements\":null,\"resources\":[{{\"ARN\":\"a:key/{B}\"}}]");
        let record = Told {
            body: body.as_bytes(),
            refused: refused.then_some(Refusal {
                code: "NotFoundException",
                message: Some(&message),
            }),
            tls: Some(&tls),
            ..Told::of("Encrypt", if refused { &[] } else { &[A] }, "1")
        };
        let uses = noted(&[record]);
        assert_eq!(last(&uses, B), None);
        let expected = if refused { None } else { is("Encrypt", "1") };
        assert_eq!(last(&uses, A), expected);
    }
}

/// A snapshot with these keys.
fn with_keys(keys: impl IntoIterator<Item = RegionalId>) -> Snapshot {
    let mut snapshot = Snapshot::default();
    let account = "111122223333".parse().unwrap();
    snapshot.keys.extend(keys.into_iter().map(|id| {
        let entry = KeyEntry {
            key: KmsKey::new(id.id, account, BEGAN),
            arn: String::new(),
            materials: Vec::new(),
            secret: None,
            fence: 1,
        };
        (id, Arc::new(entry))
    }));
    snapshot
}

/// What the changes write: the time since which, and the keys of each shard.
fn written(changes: &[Change]) -> (Option<Timestamp>, Vec<Vec<RegionalId>>) {
    let mut since = None;
    let mut shards = Vec::new();
    for change in changes {
        match change {
            Change::PutUsesSince(time) => since = Some(*time),
            Change::PutLastUses(_, uses) => {
                shards.push(uses.iter().map(|(key, _)| *key).collect());
            }
            _ => panic!("no other change"),
        }
    }
    (since, shards)
}

fn apply(snapshot: &mut Snapshot, changes: Vec<Change>) {
    for change in changes {
        match change {
            Change::PutUsesSince(time) => {
                let known = snapshot
                    .last_uses
                    .get_or_insert_with(|| LastUses::since(time));
                known.is_one_record = false;
            }
            Change::PutLastUses(_, uses) => {
                snapshot.last_uses.as_mut().unwrap().by_key.extend(uses);
            }
            _ => panic!("no other change"),
        }
    }
}

#[test]
fn what_is_written_is_forgotten_here_and_what_is_gone_never_written() {
    let uses = noted(&[
        Told::of("Encrypt", &[A], "1"),
        Told::of("Encrypt", &[B], "2"),
    ]);
    let mut snapshot = with_keys([id(A)]);
    let changes = uses.next_changes(&snapshot);
    assert_eq!(written(&changes), (Some(BEGAN), vec![vec![id(A)]]));
    // The change fails, and is made again.
    let changes = uses.next_changes(&snapshot);
    assert_eq!(written(&changes), (Some(BEGAN), vec![vec![id(A)]]));
    apply(&mut snapshot, changes);
    assert!(uses.next_changes(&snapshot).is_empty());
    assert!(uses.unwritten().is_empty());
    let of = |key| uses.of(id(key), || Arc::new(snapshot.clone()));
    let last = |key| of(key).1.map(|last| last.event_id);
    assert_eq!((last(A).as_deref(), last(B)), (Some("1"), None));
    // The store knows a later use, of another process; what this one knows is older.
    let later = LastUse {
        time: Timestamp(BEGAN.0 + 5_000_000),
        event_id: "9".to_owned(),
        ..of(A).1.unwrap()
    };
    let mut beside = snapshot.clone();
    let stored = beside.last_uses.as_mut().unwrap();
    stored.by_key.insert(id(A), Arc::new(later));
    let mut lines = Vec::new();
    Told::of("Decrypt", &[A], "3").append(&mut lines);
    uses.note(&lines);
    let last = uses.of(id(A), || Arc::new(beside.clone())).1.unwrap();
    assert_eq!(last.event_id, "9");
    assert!(uses.next_changes(&beside).is_empty());
}

#[test]
fn many_uses_are_written_in_several_changes_and_few_in_one_record() {
    let ids = |shard: u16| {
        let beginning = format!("{shard:03x}");
        ["0", "f"].map(|digit| format!("{beginning}{digit}abcd-12ab-34cd-56ef-1234567890ab"))
    };
    let keys: Vec<String> = (0..200).flat_map(ids).collect();
    let told: Vec<[&str; 1]> = keys.iter().map(|key| [key.as_str()]).collect();
    let records: Vec<_> = told
        .iter()
        .map(|key| Told::of("Encrypt", key, "1"))
        .collect();
    let uses = noted(&records);
    let mut snapshot = with_keys(keys.iter().map(|key| id(key)));
    let mut rounds = Vec::new();
    loop {
        let changes = uses.next_changes(&snapshot);
        if changes.is_empty() {
            break;
        }
        let (_, shards) = written(&changes);
        assert!(shards.iter().all(|keys| keys.len() == 2));
        rounds.push(shards.len());
        apply(&mut snapshot, changes);
    }
    assert_eq!(rounds, [64, 64, 64, 8]);
    // One use more rewrites its own record alone.
    let mut lines = Vec::new();
    Told::of("Decrypt", &[&keys[7]], "2").append(&mut lines);
    uses.note(&lines);
    let (_, shards) = written(&uses.next_changes(&snapshot));
    assert_eq!(shards, [vec![id(&keys[6]), id(&keys[7])]]);
}

#[test]
fn one_record_of_a_former_build_is_taken_apart() {
    let uses = since(BEGAN);
    let mut snapshot = with_keys([id(A)]);
    let earlier = Timestamp(BEGAN.0 - 1);
    let mut stored = LastUses::since(earlier);
    stored.is_one_record = true;
    let last = LastUse {
        operation: Operation::Sign,
        time: earlier,
        event_id: "e".to_owned(),
        request_id: "r".to_owned(),
    };
    for key in [A, B] {
        stored.by_key.insert(id(key), Arc::new(last.clone()));
    }
    snapshot.last_uses = Some(stored);
    let changes = uses.next_changes(&snapshot);
    assert_eq!(written(&changes), (Some(earlier), vec![vec![id(A)]]));
    apply(&mut snapshot, changes);
    assert!(uses.next_changes(&snapshot).is_empty());
    let found = uses.of(id(A), || Arc::new(snapshot.clone()));
    assert_eq!(found, (earlier, Some(last)));
}
