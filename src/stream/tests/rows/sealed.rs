//! Streams of containers that have blobs: sealed anew, and opened without returning their keys.

use super::*;
use arrow_select::concat::concat_batches;

/// A stream's answer, or what it was refused with.
pub(super) fn ran(
    bench: &Bench,
    principal: &Arc<Principal>,
    (purpose, query): (Purpose, &str),
    rows: &RecordBatch,
) -> Result<Vec<RecordBatch>, Refused> {
    let requester = Requester::local(Arc::clone(principal));
    let begun = bench.api.containers(&requester, purpose, query);
    let mut stream_of_rows = begun.map_err(|error| (error.code(), error.message().to_owned()))?;
    let sent = stream(std::slice::from_ref(rows));
    run(&mut stream_of_rows, &sent, 70_000).map(|answer| read(&answer))
}

/// Rows of tenants, with an id each and a blob under `key`.
pub(super) fn sealed(bench: &Bench, key: &str, tenants: &[&str]) -> RecordBatch {
    let ids = text((0..tenants.len()).map(|row| format!("c{row}")));
    let rows = batch([("id", ids), ("tenant", text(tenants.iter().copied()))]);
    let bound = bench.bound(&query(key), &[rows]).unwrap();
    // A limit makes short chunks.
    let bound = [concat_batches(&bound[0].schema(), &bound).unwrap()];
    let blobs = bound[0].column_by_name("ciphertext_blob").unwrap();
    batch([
        ("id", Arc::clone(bound[0].column(0))),
        ("ciphertext_blob", Arc::clone(blobs)),
        ("tenant", Arc::clone(bound[0].column(1))),
    ])
}

pub(super) fn with_blob(rows: &RecordBatch, at: usize, blob: Option<&[u8]>) -> RecordBatch {
    let old = rows.column(1).as_binary::<i32>();
    let blobs = old.iter().enumerate();
    let blobs = blobs.map(|(row, old)| if row == at { blob } else { old });
    let blobs: ArrayRef = Arc::new(arrow_array::BinaryArray::from_iter(blobs));
    batch([
        ("id", Arc::clone(rows.column(0))),
        ("ciphertext_blob", blobs),
        ("tenant", Arc::clone(rows.column(2))),
    ])
}

pub(super) fn blob(rows: &RecordBatch, row: usize) -> Vec<u8> {
    let blobs = rows.column_by_name("ciphertext_blob").unwrap();
    blobs.as_binary::<i32>().value(row).to_vec()
}

pub(super) const COLUMNS: &str = "context=tenant,id";

async fn plaintext(bench: &Bench, blob: &[u8], context: Value) -> Value {
    let body = json!({"CiphertextBlob": encoded(blob), "EncryptionContext": context});
    bench.done("Decrypt", body).await["Plaintext"].clone()
}

#[tokio::test]
async fn rows_are_sealed_anew_and_their_keys_stay_what_they_were() {
    let bench = Bench::new().await;
    let (id, other) = (bench.key().await, bench.key().await);
    let tenants: Vec<_> = (0..CHUNK + 9).map(|row| ["7", "8"][row % 2]).collect();
    let before = sealed(&bench, &id, &tenants[..CHUNK]);
    let more = format!("key={other}&{COLUMNS}&new-context=tenant&new-constant=zone%3Da");
    let after = ran(&bench, &bench.admin, (Purpose::Rewrap, &more), &before).unwrap();
    let names: Vec<_> = after[0]
        .schema()
        .fields()
        .iter()
        .map(|field| field.name().clone())
        .collect();
    assert_eq!(
        names,
        [
            "id",
            "tenant",
            "ciphertext_blob",
            "key_arn",
            "key_material_id"
        ]
    );
    assert_eq!(after[0].num_rows(), CHUNK);
    for row in [0, 1, CHUNK - 1] {
        let old = json!({"tenant": tenants[row], "id": format!("c{row}")});
        let new = json!({"tenant": tenants[row], "zone": "a"});
        let (old_blob, new_blob) = (blob(&before, row), blob(&after[0], row));
        assert_ne!(old_blob, new_blob);
        let key = plaintext(&bench, &old_blob, old.clone()).await;
        assert_eq!(plaintext(&bench, &new_blob, new).await, key, "row {row}");
        assert!(
            !bench.opens(&new_blob, old).await,
            "bound to the new context"
        );
    }
    let arns = after[0].column(3).as_dictionary::<Int32Type>().values();
    assert_eq!(arns.as_string::<i32>().value(0), key_arn(&other));
    let records = bench.records();
    let record = records
        .iter()
        .find(|one| one["eventName"] == "Rewrap")
        .unwrap();
    let resources = record["resources"].as_array().unwrap();
    assert_eq!(resources.len(), 2, "{record}");
    assert_eq!(record["additionalEventData"]["count"], CHUNK);
    let asked = &record["requestParameters"];
    assert_eq!(asked["contextColumns"], json!(["tenant", "id"]));
    assert_eq!(asked["destinationContextColumns"], json!(["tenant"]));
    assert_eq!(asked["destinationEncryptionContext"], json!({"zone": "a"}));
}

#[tokio::test]
async fn blobs_of_several_keys_come_to_the_newest_generation_of_one() {
    let bench = Bench::new().await;
    let (id, other) = (bench.key().await, bench.key().await);
    let (one, two) = (
        sealed(&bench, &id, &["7"; 3]),
        sealed(&bench, &other, &["7"; 3]),
    );
    let mixed = with_blob(&one, 1, Some(&blob(&two, 1)));
    bench.done_to("RotateKeyOnDemand", &id).await;
    let ask = (Purpose::Rewrap, &*format!("key={id}&{COLUMNS}"));
    let after = ran(&bench, &bench.admin, ask, &mixed).unwrap();
    let rows: Vec<_> = after.iter().map(RecordBatch::num_rows).collect();
    assert_eq!(rows, [1, 1, 1], "a chunk has blobs of one key");
    for batch in &after {
        let blob = blob(batch, 0);
        let header = crate::envelope::CiphertextBlob::parse(&blob)
            .unwrap()
            .header();
        assert_eq!(
            (header.key_id.to_string(), header.generation),
            (id.clone(), 2)
        );
    }
}

#[tokio::test]
async fn rewrapping_needs_both_rights_for_every_row_and_names_the_first_without() {
    let bench = Bench::new().await;
    let id = bench.key().await;
    let rows = sealed(&bench, &id, &["7", "7", "8", "7"]);
    let statement = |action: &str, tenant: Option<&str>| {
        let mut statement = json!({"Effect": "Allow", "Action": action, "Resource": "*"});
        if let Some(tenant) = tenant {
            statement["Condition"] =
                json!({"StringEquals": {"kms:EncryptionContext:tenant": tenant}});
        }
        statement
    };
    let ask = format!("key={id}&{COLUMNS}");
    for (name, from, to, said) in [
        ("only-to-7", None, Some("7"), "Row 2: User: "),
        (
            "only-from-7",
            Some("7"),
            None,
            "Row 2: The ciphertext refers to",
        ),
    ] {
        let statements = [
            statement("kms:ReEncryptFrom", from),
            statement("kms:ReEncryptTo", to),
        ];
        let caller = bench
            .principal(name, json!({"Statement": statements}))
            .await;
        let (code, message) = ran(&bench, &caller, (Purpose::Rewrap, &ask), &rows).unwrap_err();
        assert_eq!(code, Code::AccessDeniedException);
        assert!(message.starts_with(said), "{message}");
        assert_eq!(
            ran(&bench, &caller, (Purpose::Rewrap, &ask), &rows.slice(0, 2)).unwrap()[0].num_rows(),
            2
        );
    }
    // No client needs these, and no client gets far with them.
    let caller = bench
        .allowed("cipher", &["kms:Decrypt", "kms:Encrypt"])
        .await;
    let refused = ran(&bench, &caller, (Purpose::Rewrap, &ask), &rows).unwrap_err();
    assert_eq!(refused.0, Code::AccessDeniedException);
}

#[tokio::test]
async fn a_row_that_cannot_be_sealed_anew_ends_the_stream_and_is_named() {
    let bench = Bench::new().await;
    let id = bench.key().await;
    let rows = sealed(&bench, &id, &["7"; 4]);
    let mut torn = blob(&rows, 2);
    torn[60] ^= 1;
    let ask = format!("key={id}&{COLUMNS}");
    let refused = |rows: &RecordBatch, ask: &str| {
        ran(&bench, &bench.admin, (Purpose::Rewrap, ask), rows).unwrap_err()
    };
    let invalid = Code::InvalidCiphertextException;
    for (blob, code, said) in [
        (Some(&torn[..]), invalid, "Row 2"),
        (Some(b"x"), invalid, "Row 2"),
        (
            None,
            Code::ValidationException,
            "Row 2: Column \"ciphertext_blob\" is null.",
        ),
    ] {
        let got = refused(&with_blob(&rows, 2, blob), &ask);
        assert_eq!(got.0, code, "{got:?}");
        assert!(got.1.starts_with(said), "{got:?}");
    }
    // Another row's context.
    assert_eq!(
        refused(&rows, &format!("key={id}&context=tenant")).0,
        invalid
    );
    assert_eq!(
        refused(&rows, &format!("key={UNKNOWN}&{COLUMNS}")).0,
        Code::NotFoundException
    );
    for (columns, ask, said) in [
        (
            batch([("id", text(["1"]))]),
            &*ask,
            "There is no column \"ciphertext_blob\".",
        ),
        (
            batch([
                ("ciphertext_blob", text(["1"])),
                ("id", text(["1"])),
                ("tenant", text(["1"])),
            ]),
            &ask,
            "Column \"ciphertext_blob\" is of type STRING, and blobs are binary.",
        ),
        (
            rows.clone(),
            &format!("key={id}"),
            "there is no column \"encryption_context\"",
        ),
    ] {
        let (code, message) = refused(&columns, ask);
        assert_eq!(code, Code::ValidationException);
        assert!(
            message.starts_with(&format!("After 0 rows: {said}")),
            "{message}"
        );
    }
}

#[tokio::test]
async fn verifying_says_of_each_row_why_it_does_not_open_and_goes_on() {
    let bench = Bench::new().await;
    let id = bench.key().await;
    let mut rows = sealed(&bench, &id, &["7", "7", "8", "7", "7", "7"]);
    let mut torn = blob(&rows, 1);
    torn[60] ^= 1;
    for (row, blob) in [(1, Some(&torn[..])), (3, Some(&b"x"[..])), (4, None)] {
        rows = with_blob(&rows, row, blob);
    }
    let policy = json!({"Statement": {
        "Effect": "Allow", "Action": "kms:Decrypt", "Resource": "*",
        "Condition": {"StringEquals": {"kms:EncryptionContext:tenant": "7"}},
    }});
    let seven = bench.principal("seven", policy).await;
    let answer = ran(&bench, &seven, (Purpose::Verify, COLUMNS), &rows).unwrap();
    assert_eq!(
        answer[0].schema().fields().len(),
        3,
        "the blobs do not come back"
    );
    let refusals = answer[0]
        .column_by_name("refusal")
        .unwrap()
        .as_string::<i32>();
    let refusals: Vec<_> = refusals.iter().collect();
    let starts = |row: usize, said: &str| {
        let refusal = refusals[row].unwrap_or_else(|| panic!("row {row} opens"));
        assert!(refusal.starts_with(said), "{row}: {refusal}");
    };
    assert_eq!((refusals[0], refusals[5]), (None, None));
    starts(1, "InvalidCiphertextException");
    starts(2, "AccessDeniedException: The ciphertext refers to");
    starts(3, "InvalidCiphertextException");
    starts(
        4,
        "ValidationException: Column \"ciphertext_blob\" is null.",
    );
    bench.done_to("DisableKey", &id).await;
    let answer = ran(
        &bench,
        &bench.admin,
        (Purpose::Verify, COLUMNS),
        &rows.slice(0, 1),
    )
    .unwrap();
    let refusals = answer[0]
        .column_by_name("refusal")
        .unwrap()
        .as_string::<i32>();
    assert!(
        refusals.value(0).starts_with("DisabledException: "),
        "{}",
        refusals.value(0)
    );
    let records = bench.records();
    let last = &records[records.len() - 3];
    assert_eq!(last["eventName"], "VerifyBlobs");
    assert_eq!(last["errorCode"], "InvalidCiphertextException");
    assert_eq!(last["additionalEventData"]["count"], 6);
}

#[tokio::test]
async fn a_column_that_readers_take_for_one_that_is_added_is_refused() {
    let bench = Bench::new().await;
    let id = bench.key().await;
    let rows = sealed(&bench, &id, &["7"]);
    for (purpose, ask, own, added) in [
        (
            Purpose::Rewrap,
            format!("key={id}&{COLUMNS}"),
            "Key_ARN",
            "key_arn",
        ),
        (Purpose::Verify, COLUMNS.to_owned(), "Refusal", "refusal"),
    ] {
        let mut columns: Vec<_> = rows
            .schema()
            .fields()
            .iter()
            .map(|field| field.name().clone())
            .zip(rows.columns().iter().cloned())
            .collect();
        columns.push((own.to_owned(), text(["mine"])));
        let columns = RecordBatch::try_from_iter(columns).unwrap();
        let refused = ran(&bench, &bench.admin, (purpose, &ask), &columns);
        let said = format!(
            "After 0 rows: There is a column {own:?} already, which readers that ignore case \
             take for {added:?}."
        );
        assert_eq!(refused.unwrap_err(), (Code::ValidationException, said));
    }
}

#[tokio::test]
async fn streams_with_blobs_wait_for_the_limits_of_the_blobs_key() {
    let rates = rates::Config {
        kms_key_keys_per_second: 100,
        ..rates::Config::default()
    };
    let bench = Bench::with_rates(&rates).await;
    let id = bench.key().await;
    let alice = bench.allowed("alice", &["kms:*"]).await;
    let rows = sealed(&bench, &id, &["7"; 120]);
    for (purpose, ask) in [
        (Purpose::Rewrap, format!("key={id}&{COLUMNS}")),
        (Purpose::Verify, COLUMNS.to_owned()),
    ] {
        let requester = Requester::local(Arc::clone(&alice));
        let mut containers = bench.api.containers(&requester, purpose, &ask).unwrap();
        let mut body = Bytes::from(stream(std::slice::from_ref(&rows)));
        let mut waits = 0;
        while containers.rows() < 120 {
            containers.feed(&mut body).unwrap();
            if let Step::Wait(exceeded) = containers.step().unwrap() {
                waits += 1;
                bench.api.clock.advance(exceeded.wait);
            }
        }
        assert!(waits > 10, "{waits}");
    }
}

#[tokio::test]
async fn blobs_without_a_context_are_rewrapped_and_verified() {
    let bench = Bench::new().await;
    let id = bench.key().await;
    let rows = sealed(&bench, &id, &["7", "8"]);
    let rewrapped = |rows: &RecordBatch, contexts: &str| {
        let ask = format!("key={id}&{contexts}");
        let after = ran(&bench, &bench.admin, (Purpose::Rewrap, &ask), rows);
        after.map(|batches| batches[0].clone())
    };
    let bare = rewrapped(&rows, "context=tenant,id&new-context=").unwrap();
    assert!(bench.opens(&blob(&bare, 0), json!({})).await);
    let refusals = |rows: &RecordBatch, query: &str| {
        let told = ran(&bench, &bench.admin, (Purpose::Verify, query), rows).unwrap();
        let refusals = told[0].column_by_name("refusal").unwrap();
        refusals.len() - arrow_array::Array::null_count(refusals)
    };
    assert_eq!(refusals(&bare, "context="), 0);
    assert_eq!(refusals(&bare, "context=tenant"), 2);
    assert_eq!(refusals(&rows, "context="), 2, "these have one");
    let again = rewrapped(&bare, "context=").unwrap();
    assert!(bench.opens(&blob(&again, 1), json!({})).await, "the same");
    let back = rewrapped(&again, "context=&new-context=tenant").unwrap();
    assert!(bench.opens(&blob(&back, 1), json!({"tenant": "8"})).await);
    assert!(rewrapped(&rows, "context=").is_err());
}
