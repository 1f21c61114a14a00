//! What is made of a daemon's answers.

use super::*;
use crate::clock::{Clock, Timestamp};
use crate::endpoint::Endpoint;
use crate::envelope::blob::Algorithm;
use arrow_array::StringArray;
use std::sync::Arc;

#[test]
fn answers_that_are_none_are_refused() {
    let client = Client {
        endpoint: Endpoint::Unix("/absent".into()),
        address: None,
        credentials: None,
        authorities: None,
        clock: Clock::manual(Timestamp(0)),
        stop: Arc::default(),
    };
    let answer = |columns: Vec<(&str, ArrayRef)>| {
        encode(&RecordBatch::try_from_iter(columns).unwrap()).unwrap()
    };
    let text = |text: &str| Arc::new(StringArray::from(vec![text])) as ArrayRef;
    let blob = |bytes: &[u8]| Arc::new(arrow_array::BinaryArray::from(vec![bytes])) as ArrayRef;
    let arn = "arn:aws:kms:us-east-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab";
    let id: KeyId = "1234abcd-12ab-34cd-56ef-1234567890ab".parse().unwrap();
    let of = |generation| {
        BlobHeader {
            algorithm: Algorithm::Xaes256Gcm,
            key_id: id,
            generation,
        }
        .encode()
    };
    let good = [&of(1)[..], &[7; 72]].concat();
    let other: KeyId = "4234abcd-12ab-34cd-56ef-1234567890ab".parse().unwrap();
    let other = BlobHeader {
        algorithm: Algorithm::Xaes256Gcm,
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
    let reads = |answer: Vec<u8>, rows, bytes, out: &mut Vec<u8>| {
        let batches = read(&client, answer, rows)?;
        blobs(&client, &batches, bytes, |blob| out.extend_from_slice(blob))
    };
    let key = reads(with(arn, &good), 1, Some(96), &mut out).unwrap();
    assert_eq!((key.arn.as_str(), key.material_id.as_str()), (arn, "m"));
    assert_eq!(out, good);
    for (answer, rows, said) in [
        (b"no stream".to_vec(), 1, "with no Arrow stream"),
        (
            [&with(arn, &good)[..with(arn, &good).len() - 8]].concat(),
            1,
            "with an Arrow stream without its end",
        ),
        (with(arn, &good), 2, "1 rows to 2"),
        (with("arn:none", &good), 1, "without an ARN of a key"),
        (with(arn, b"x"), 1, "not a ciphertext blob"),
        (with(arn, &good[..90]), 1, "a blob of another length"),
        (with(arn, &other), 1, "a blob of another key"),
        (
            answer(vec![("key_arn", text(arn))]),
            1,
            "without key_material_id",
        ),
    ] {
        let refused = reads(answer, rows, Some(96), &mut Vec::new()).unwrap_err();
        assert!(refused.to_string().contains(said), "{said}: {refused}");
    }
    let short = with(arn, &good[..90]);
    let any_length = reads(short, 1, None, &mut Vec::new());
    assert!(any_length.is_ok(), "where blobs may be of any length");
}

#[test]
fn hold_1_an_answer_of_one_row_a_batch_is_within_the_bound() {
    let text = |rows: usize| {
        let texts = (0..rows).map(|row| Some(format!("volume-{row}")));
        Arc::new(StringArray::from_iter(texts)) as ArrayRef
    };
    for columns in [1, 3, 50] {
        let names: Vec<_> = (0..columns + ANSWER_COLUMNS_MORE)
            .map(|at| format!("column-{at}"))
            .collect();
        let of = |rows, count| {
            let named = names.iter().take(count).map(|name| (name, text(rows)));
            RecordBatch::try_from_iter(named).unwrap()
        };
        let sent = of(500, columns);
        let row = of(1, columns + ANSWER_COLUMNS_MORE);
        let mut writer = StreamWriter::try_new(Vec::new(), &row.schema()).unwrap();
        for _ in 0..sent.num_rows() {
            writer.write(&row).unwrap();
        }
        let answer = writer.into_inner().unwrap().len();
        let most = answer_bytes_max(&sent, 0) - ANSWER_BYTES_MORE;
        assert!(
            answer < most && most < 4 * answer,
            "{columns}: {answer} of {most}"
        );
    }
}

#[test]
fn a_refusal_names_its_row_with_and_without_a_message() {
    let refused = |message: &str| SourceError::Refused {
        code: "InvalidCiphertextException".to_owned(),
        message: message.to_owned(),
    };
    for (message, row, rest) in [
        ("Row 3808.", 3808, ""),
        ("Row 0: a: b.", 0, "a: b."),
        ("Row 7: ", 7, ""),
    ] {
        let (found, code, told) = refused_row(refused(message)).unwrap();
        assert_eq!((found, told.as_str()), (row, rest), "{message}");
        assert_eq!(code, "InvalidCiphertextException");
        // Counted in the whole call, it is named in the same way.
        let (found, ..) = refused_row(behind(100, refused(message))).unwrap();
        assert_eq!(found, row + 100);
    }
    for message in ["", "Row", "Row x: y", "Rows 1: y"] {
        assert!(refused_row(refused(message)).is_err(), "{message}");
    }
}

#[test]
fn of_an_answer_that_was_cut_the_whole_batches_are_kept() {
    let rows = |texts: &[&str]| {
        let column = Arc::new(StringArray::from(texts.to_vec())) as ArrayRef;
        RecordBatch::try_from_iter([("a", column)]).unwrap()
    };
    let (first, second) = (rows(&["x", "y"]), rows(&["z"]));
    let mut writer = StreamWriter::try_new(Vec::new(), &first.schema()).unwrap();
    writer.write(&first).unwrap();
    let one = writer.get_ref().len();
    writer.write(&second).unwrap();
    let both = writer.get_ref().len();
    let answer = writer.into_inner().unwrap();
    for cut in 0..=answer.len() {
        let kept = whole_batches(answer[..cut].to_vec());
        let expected = match cut {
            _ if cut < one => 0,
            _ if cut < both => 2,
            _ => 3,
        };
        assert_eq!(row_count(&kept), expected, "{cut}");
    }
}
