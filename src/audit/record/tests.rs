//! The form of a record, member by member: it is a contract.

use super::*;
use crate::crypto::block_cipher::BlockCipher;
use crate::crypto::entropy::Entropy;
use crate::key::KeyId;
use crate::key::material::BackingKey;
use serde_json::{Value, json};

const KEY: &str = "arn:aws:kms:us-east-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab";

fn identity() -> Identity<'static> {
    Identity {
        arn: Some("arn:aws:iam::111122223333:user/provisioner"),
        account_id: Some("111122223333"),
        access_key_id: Some("AKIAIOSFODNN7EXAMPLE"),
        source_identity: None,
        web_user: None,
    }
}

fn record<'a>(body: &'a [u8], resources: &'a [Resource<'a>]) -> AuditRecord<'a> {
    AuditRecord {
        time: Timestamp(1_700_000_000_999_999),
        event_source: KMS,
        event_name: "GenerateDataKeyWithoutPlaintext",
        event_type: CALL,
        region: "us-east-1",
        identity: identity(),
        source: Source::Address("2001:db8::7".parse().unwrap()),
        tls_details: None,
        request_id: "7a1b2c3d-0000-4000-8000-0123456789ab",
        event_id: "8a1b2c3d-0000-4000-8000-0123456789ab",
        read_only: true,
        body,
        response_elements: None,
        resources,
        key_material_id: None,
        recipient: None,
        batch: None,
        node: None,
        error: None,
    }
}

fn line(record: &AuditRecord<'_>) -> String {
    let mut line = Vec::new();
    record.append(&mut line);
    String::from_utf8(line).unwrap()
}

fn value(record: &AuditRecord<'_>) -> Value {
    serde_json::from_str(&line(record)).unwrap()
}

#[test]
fn a_key_that_left_is_recorded_in_this_order() {
    let body = br#"{"KeyId":"alias/containers","KeySpec":"AES_256","EncryptionContext":{"container":"42","tenant":"t"}}"#;
    let resources = [Resource {
        arn: KEY,
        account_id: "111122223333",
        kind: ResourceKind::Key,
    }];
    let expected = concat!(
        r#"{"eventVersion":"1.11","eventTime":"2023-11-14T22:13:20Z","eventSource":"kms.amazonaws.com","#,
        r#""eventName":"GenerateDataKeyWithoutPlaintext","awsRegion":"us-east-1","eventType":"AwsApiCall","#,
        r#""userIdentity":{"type":"IAMUser","arn":"arn:aws:iam::111122223333:user/provisioner","#,
        r#""accountId":"111122223333","accessKeyId":"AKIAIOSFODNN7EXAMPLE"},"sourceIPAddress":"2001:db8::7","#,
        r#""requestID":"7a1b2c3d-0000-4000-8000-0123456789ab","eventID":"8a1b2c3d-0000-4000-8000-0123456789ab","#,
        r#""readOnly":true,"requestParameters":{"keyId":"alias/containers","keySpec":"AES_256","#,
        r#""encryptionContext":{"container":"42","tenant":"t"}},"responseElements":null,"#,
        r#""resources":[{"ARN":"arn:aws:kms:us-east-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab","#,
        r#""accountId":"111122223333","type":"AWS::KMS::Key"}]}"#,
        "\n"
    );
    assert_eq!(line(&record(body, &resources)), expected);
}

#[test]
fn a_batch_and_a_refusal_add_their_members_at_the_end() {
    let mut digest = RowsDigest::default();
    digest.add(2, b"one");
    digest.add(1, b"two");
    let batch = digest.batch();
    let whole = blake3::hash(b"onetwo");
    assert_eq!((batch.count, batch.digest), (3, *whole.as_bytes()));
    let key_id = KeyId::from_random([7; 16]);
    let material_id =
        BackingKey::draw(BlockCipher::Aes256, key_id, 1, Timestamp(0), &Entropy::os());
    let material_id = material_id.unwrap().id();
    let record = AuditRecord {
        source: Source::Unix(1000),
        event_source: KEYMILL,
        key_material_id: Some(material_id),
        recipient: None,
        batch: Some(batch),
        error: Some(Refusal {
            code: "DisabledException",
            message: Some("row 3: \"off\""),
        }),
        read_only: false,
        ..record(br#"{"Count":7}"#, &[])
    };
    let line = line(&record);
    let tail = line.split_once("\"resources\":").unwrap().1;
    let expected = format!(
        "[],\"additionalEventData\":{{\"keyMaterialId\":\"{material_id}\",\"count\":3,\"rowsBlake3\":\"{whole}\"}},\
         \"errorCode\":\"DisabledException\",\"errorMessage\":\"row 3: \\\"off\\\"\"}}\n"
    );
    assert_eq!(tail, expected);
    let value = value(&record);
    assert_eq!(value["sourceIPAddress"], "unix:1000");
    assert_eq!(value["requestParameters"], json!({"count": 7}));
    assert_eq!(value["readOnly"], false);
}

#[test]
fn a_record_of_a_fleet_names_its_node() {
    let record = AuditRecord {
        node: Some("0f1e2d3c4b5a69788796a5b4c3d2e1f0"),
        ..record(b"{}", &[])
    };
    let expected = json!({"node": "0f1e2d3c4b5a69788796a5b4c3d2e1f0"});
    assert_eq!(value(&record)["additionalEventData"], expected);
}

#[test]
fn a_request_over_tls_says_so_at_the_end() {
    let details = r#"{"tlsVersion":"TLSv1.3","cipherSuite":"TLS_AES_256_GCM_SHA384","clientProvidedHostHeader":"a:8443","keyExchange":"X25519MLKEM768"}"#;
    for error in [
        None,
        Some(Refusal {
            code: "DisabledException",
            message: Some("off"),
        }),
    ] {
        let plain = AuditRecord {
            error,
            ..record(b"{}", &[])
        };
        let over_tls = AuditRecord {
            tls_details: Some(details),
            error,
            ..record(b"{}", &[])
        };
        let plain = line(&plain);
        let start = plain.strip_suffix("}\n").unwrap();
        let expected = format!("{start},\"tlsDetails\":{details}}}\n");
        assert_eq!(line(&over_tls), expected);
        assert!(crate::audit::chain::is_record(expected.as_bytes()));
    }
}

#[test]
fn whatever_a_caller_sends_stays_within_one_line() {
    let hostile = "\"}\n{\"keymillChain\":{\"group\":1}}\r\u{0}\u{2028}\\";
    let expected =
        json!({"keyId": hostile, "encryptionContext": {hostile: hostile}, "dryRun": true});
    let body = json!({"KeyId": hostile, "EncryptionContext": {hostile: hostile}, "DryRun": true});
    let body = serde_json::to_vec_pretty(&body).unwrap();
    let record = AuditRecord {
        event_source: KEYMILL,
        event_name: hostile,
        request_id: hostile,
        error: Some(Refusal {
            code: hostile,
            message: None,
        }),
        ..record(&body, &[])
    };
    let line = line(&record);
    assert!(crate::audit::chain::is_record(line.as_bytes()), "{line}");
    let value = value(&record);
    assert_eq!(value["eventName"], hostile);
    assert_eq!(value["errorCode"], hostile);
    assert_eq!(value["requestParameters"], expected);
}

#[test]
fn the_kind_of_a_caller_follows_from_his_arn() {
    for (arn, kind) in [
        (None, "AWSService"),
        (Some("local:0"), "Operator"),
        (Some("arn:aws:iam::111122223333:root"), "Root"),
        (Some("arn:aws:iam::111122223333:user/a/b"), "IAMUser"),
        (Some("arn:aws:iam::111122223333:role/r"), "Role"),
        (
            Some("arn:aws:sts::111122223333:assumed-role/r/s"),
            "AssumedRole",
        ),
        (
            Some("arn:aws:sts::111122223333:federated-user/f"),
            "FederatedUser",
        ),
        (Some("arn:aws:iam::111122223333:rooted"), "Unknown"),
        (Some(""), "Unknown"),
    ] {
        let identity = Identity {
            arn,
            account_id: None,
            access_key_id: None,
            source_identity: None,
            web_user: None,
        };
        assert_eq!(identity.kind(), kind, "{arn:?}");
    }
    let nobody = AuditRecord {
        identity: Identity {
            arn: None,
            account_id: None,
            access_key_id: None,
            source_identity: None,
            web_user: None,
        },
        source: Source::Local,
        ..record(b"", &[])
    };
    let value = value(&nobody);
    assert_eq!(value["userIdentity"], json!({"type": "AWSService"}));
    assert_eq!(value["requestParameters"], Value::Null);
    assert_eq!(value["sourceIPAddress"], "local");
}

#[test]
fn a_kept_buffer_does_not_grow_with_records_of_one_size() {
    let body = br#"{"EncryptionContext":{"container":"42"}}"#;
    let mut line = Vec::new();
    record(body, &[]).append(&mut line);
    let (address, room) = (line.as_ptr(), line.capacity());
    for _ in 0..100 {
        line.clear();
        record(body, &[]).append(&mut line);
    }
    assert_eq!((line.as_ptr(), line.capacity()), (address, room));
}

/// The published vectors, whatever the pieces in which rows come.
#[test]
fn the_digest_of_rows_is_blake3() {
    #[derive(serde::Deserialize)]
    struct Case {
        input_len: usize,
        hash: String,
    }
    let vectors = include_str!("../../../tests/vectors/blake3.json");
    let cases: Vec<Case> = serde_json::from_str(vectors).unwrap();
    assert_eq!(cases.len(), 35);
    for case in cases {
        let input: Vec<u8> = (0..=250).cycle().take(case.input_len).collect();
        for piece in [96, 1000, 786_432] {
            let mut digest = RowsDigest::default();
            for rows in input.chunks(piece) {
                digest.add(1, rows);
            }
            let mut hex = Vec::new();
            append_hex(&mut hex, &digest.batch().digest);
            assert_eq!(hex, case.hash.as_bytes(), "{} bytes", case.input_len);
        }
    }
}
