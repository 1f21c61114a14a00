//! What is asked of a daemon, and what is made of its answers.

use super::*;
use crate::bulk::Endpoint;
use crate::clock::{Clock, Timestamp};

fn remote(pairs: ContextPairs, length: DataKeyLength) -> Remote {
    Remote {
        daemon: Daemon {
            endpoint: Endpoint::Unix("/absent".into()),
            credentials: None,
            authorities: None,
            clock: Clock::manual(Timestamp(0)),
        },
        key: "alias/a b".to_owned(),
        length,
        pairs,
    }
}

fn pairs() -> ContextPairs {
    ContextPairs {
        columns: vec!["tenant".to_owned(), "container id".to_owned()],
        constants: vec![("purpose".to_owned(), "Zoë's=1&2".to_owned())],
    }
}

#[test]
fn the_query_is_encoded_as_signatures_want_it() {
    let path = remote(pairs(), DataKeyLength::AES_256).path();
    let expected = "/v1/data-keys/bind?key=alias%2Fa%20b&spec=AES_256&context=tenant%2Ccontainer%20id\
                    &pair=purpose%3DZo%C3%AB%27s%3D1%262";
    assert_eq!(path, expected);
    let length = DataKeyLength::new(7).unwrap();
    assert!(remote(pairs(), length).path().contains("&bytes=7&"));
}

#[test]
fn a_call_has_as_many_rows_as_fit() {
    let long = "x".repeat(CALL_TEXT_BYTES_MAX / 3);
    let column: ArrayRef = Arc::new(StringArray::from(vec![long.as_str(); 7]));
    let columns = [Texts::of(&column).unwrap()];
    assert_eq!(next_call(&columns, 0, 7), 0..2);
    assert_eq!(next_call(&columns, 6, 7), 6..7);
    // One that is too long by itself still goes: the daemon says why not.
    let huge: ArrayRef = Arc::new(StringArray::from(vec!["x".repeat(2 * CALL_TEXT_BYTES_MAX)]));
    assert_eq!(next_call(&[Texts::of(&huge).unwrap()], 0, 1), 0..1);
    let short: ArrayRef = Arc::new(StringArray::from(vec!["x"; CALL_ROWS_MAX + 1]));
    assert_eq!(
        next_call(&[Texts::of(&short).unwrap()], 0, CALL_ROWS_MAX + 1),
        0..CALL_ROWS_MAX
    );
}

#[test]
fn a_refusal_names_its_row_among_those_that_were_to_be_bound() {
    let refused = |message: &str| SourceError::Refused {
        code: "AccessDeniedException".to_owned(),
        message: message.to_owned(),
    };
    match at_row(8192, refused("Row 41: no: not you")) {
        BindError::Row { at, code, message } => {
            assert_eq!((at, code.as_str()), (8233, "AccessDeniedException"));
            assert_eq!(message, "no: not you");
        }
        other => panic!("{other:?}"),
    }
    for message in ["After 0 rows: no", "Row x: no", "Row 1", ""] {
        let error = at_row(0, refused(message));
        assert!(matches!(error, BindError::Source(_)), "{message}");
    }
}

#[test]
fn answers_that_are_none_are_refused() {
    let remote = remote(pairs(), DataKeyLength::AES_256);
    let binder = remote.binder().unwrap();
    let answer = |columns: Vec<(&str, ArrayRef)>| {
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let mut writer = StreamWriter::try_new(Vec::new(), &batch.schema()).unwrap();
        writer.write(&batch).unwrap();
        writer.finish().unwrap();
        writer.into_inner().unwrap()
    };
    let text = |text: &str| Arc::new(StringArray::from(vec![text])) as ArrayRef;
    let blob = |bytes: &[u8]| Arc::new(arrow_array::BinaryArray::from(vec![bytes])) as ArrayRef;
    let arn = "arn:aws:kms:us-east-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab";
    let id: KeyId = "1234abcd-12ab-34cd-56ef-1234567890ab".parse().unwrap();
    let of = |generation| {
        BlobHeader {
            key_id: id,
            generation,
        }
        .encode()
    };
    let good = [&of(1)[..], &[7; 72]].concat();
    let other: KeyId = "4234abcd-12ab-34cd-56ef-1234567890ab".parse().unwrap();
    let other = BlobHeader {
        key_id: other,
        generation: 1,
    }
    .encode();
    let other = [&other[..], &[7; 72]].concat();
    let with = |arn: &str, bytes: &[u8]| {
        answer(vec![
            ("key_arn", text(arn)),
            ("key_material_id", text("m")),
            ("ciphertext_blob", blob(bytes)),
        ])
    };
    let mut out = Vec::new();
    let key = binder.read(with(arn, &good), 1, &mut out).unwrap();
    assert_eq!((key.arn.as_str(), key.material_id.as_str()), (arn, "m"));
    assert_eq!(out, good);
    for (answer, rows, said) in [
        (b"no stream".to_vec(), 1, "with no Arrow stream"),
        (with(arn, &good), 2, "1 rows to 2"),
        (with("arn:none", &good), 1, "without an ARN of a key"),
        (with(arn, b"x"), 1, "no ciphertext blob"),
        (with(arn, &good[..90]), 1, "a blob of another length"),
        (with(arn, &other), 1, "a blob of another key"),
        (
            answer(vec![("key_arn", text(arn))]),
            1,
            "without key_material_id",
        ),
    ] {
        let refused = binder.read(answer, rows, &mut Vec::new()).unwrap_err();
        assert!(refused.to_string().contains(said), "{said}: {refused}");
    }
}
