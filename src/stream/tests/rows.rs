//! A stream of containers from its first row to its last, and what ends it early.

use super::ErrorCode as Code;
use super::*;
use arrow_array::cast::AsArray;
use arrow_array::types::Int32Type;
use arrow_array::{
    ArrayRef, DictionaryArray, Int64Array, LargeStringArray, ListArray, RecordBatch, StringArray,
    StringViewArray,
};
use arrow_ipc::reader::StreamReader;
use arrow_ipc::writer::StreamWriter;
use std::collections::{HashMap, HashSet};

mod chunks;
mod key_stores;
mod sealed;

const MINT: &str = "GenerateDataKeyWithoutPlaintext";
const CHUNK: usize = RowStream::CHUNK_ROWS;

pub(super) fn text(values: impl IntoIterator<Item = impl Into<String>>) -> ArrayRef {
    let values: Vec<String> = values.into_iter().map(Into::into).collect();
    Arc::new(StringArray::from(values))
}

pub(super) fn batch<const N: usize>(columns: [(&str, ArrayRef); N]) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(columns.map(|(name, array)| (name, array, true)))
        .unwrap()
}

/// So many rows of one tenant, with an id each.
pub(super) fn containers(tenant: usize, rows: usize) -> RecordBatch {
    let ids = text((0..rows).map(|row| format!("c{row}")));
    let tenants = text((0..rows).map(|_| tenant.to_string()));
    batch([("id", ids), ("tenant", tenants)])
}

pub(super) fn stream(batches: &[RecordBatch]) -> Vec<u8> {
    let mut writer = StreamWriter::try_new(Vec::new(), &batches[0].schema()).unwrap();
    for batch in batches {
        writer.write(batch).unwrap();
    }
    writer.finish().unwrap();
    writer.into_inner().unwrap()
}

pub(super) type Refused = (Code, String);

/// Feeds a stream in pieces, and returns what is answered before it is at its end.
pub(super) fn run(bind: &mut RowStream, body: &[u8], piece: usize) -> Result<Vec<u8>, Refused> {
    let mut answer = Vec::new();
    let told = |error: ApiError| (error.code(), error.message().to_owned());
    for piece in body.chunks(piece) {
        let mut piece = Bytes::copy_from_slice(piece);
        while !piece.is_empty() {
            bind.feed(&mut piece).map_err(told)?;
            while bind.is_sated() {
                match bind.step().map_err(told)? {
                    Step::Rows(bytes, _) => answer.extend(bytes),
                    Step::Hungry => {}
                    other => panic!("{other:?}"),
                }
            }
        }
    }
    bind.close().map_err(told)?;
    match bind.step().map_err(told)? {
        Step::End(bytes, _) => answer.extend(bytes),
        other => panic!("{other:?}"),
    }
    Ok(answer)
}

pub(super) fn read(answer: &[u8]) -> Vec<RecordBatch> {
    let batches = StreamReader::try_new(answer, None).unwrap();
    batches.map(|batch| batch.unwrap()).collect()
}

impl Bench {
    pub(super) fn bind(&self, principal: &Arc<Principal>, query: &str) -> RowStream {
        let requester = Requester::local(Arc::clone(principal));
        self.api
            .containers(&requester, Purpose::Bind, query)
            .unwrap()
    }

    fn bound(&self, query: &str, batches: &[RecordBatch]) -> Result<Vec<RecordBatch>, Refused> {
        let mut bind = self.bind(&self.admin, query);
        run(&mut bind, &stream(batches), 70_000).map(|answer| read(&answer))
    }

    async fn opens(&self, blob: &[u8], context: Value) -> bool {
        let body = json!({"CiphertextBlob": encoded(blob), "EncryptionContext": context});
        match self.call("Decrypt", body).await {
            Ok(opened) => decoded(&opened["Plaintext"]).len() == 32,
            Err((code, _)) => {
                assert_eq!(code, Code::InvalidCiphertextException);
                false
            }
        }
    }
}

fn query(id: &str) -> String {
    format!("key={id}&spec=AES_256&context=tenant,id")
}

#[tokio::test]
async fn every_row_comes_back_with_a_key_of_its_own_context() {
    let bench = Bench::new().await;
    let id = bench.key().await;
    let rows = CHUNK + 300;
    let part = |from: usize, rows: usize| {
        let range = from..from + rows;
        let ids = range.clone().map(|row| Some(format!("c{row}")));
        let tenants: DictionaryArray<Int32Type> =
            range.clone().map(|row| ["a", "b", "c"][row % 3]).collect();
        let lists = range
            .clone()
            .map(|row| Some(vec![Some(row as i64); row % 4]));
        let sizes = range.map(|row| (row % 5 > 0).then_some(row as i64));
        batch([
            ("id", Arc::new(LargeStringArray::from_iter(ids)) as ArrayRef),
            ("tenant", Arc::new(tenants)),
            ("size", Arc::new(Int64Array::from_iter(sizes))),
            (
                "extents",
                Arc::new(ListArray::from_iter_primitive::<
                    arrow_array::types::Int64Type,
                    _,
                    _,
                >(lists)),
            ),
        ])
    };
    let sent = [part(0, rows), part(rows, 0), part(rows, 7)];
    let asked = format!("{}&constant=purpose=volume", query(&id));
    let answer = bench.bound(&asked, &sent).unwrap();
    let lengths: Vec<_> = answer.iter().map(RecordBatch::num_rows).collect();
    assert_eq!(lengths, [CHUNK, 300, 7], "chunk by chunk, as slices");
    let columns = sent[0].num_columns();
    for (got, of) in answer.iter().zip([
        sent[0].slice(0, CHUNK),
        sent[0].slice(CHUNK, 300),
        sent[2].clone(),
    ]) {
        assert_eq!(got.columns()[..columns], of.columns()[..]);
    }
    let mut blobs = Vec::new();
    for batch in &answer {
        let column = |name| batch.column_by_name(name).unwrap();
        let names = |name| {
            let names = column(name).as_dictionary::<Int32Type>();
            let names = names.downcast_dict::<StringArray>().unwrap();
            names.into_iter().map(Option::unwrap).collect::<Vec<_>>()
        };
        assert!(names("key_arn").iter().all(|arn| *arn == key_arn(&id)));
        assert!(names("key_material_id").iter().all(|id| id.len() == 64));
        let column = column("ciphertext_blob").as_binary::<i32>();
        blobs.extend(column.iter().map(|blob| blob.unwrap().to_vec()));
    }
    assert_eq!(blobs.len(), rows + 7);
    let unique: HashSet<_> = blobs.iter().collect();
    assert_eq!(unique.len(), blobs.len());
    for row in [0, 1, 255, 256, 257, CHUNK - 1, CHUNK, rows, rows + 6] {
        let tenant = ["a", "b", "c"][row % 3];
        let context = json!({"id": format!("c{row}"), "tenant": tenant, "purpose": "volume"});
        assert!(bench.opens(&blobs[row], context.clone()).await, "{row}");
        let mut other = context;
        other["id"] = json!("c2");
        assert!(!bench.opens(&blobs[row], other).await);
    }
    let counted = "keymill_data_keys_total{operation=\"Bind\",spec=\"AES_256\",result=\"direct\"}";
    assert_eq!(bench.counted(counted), blobs.len() as u64);
    let records = bench.records();
    let records: Vec<_> = records
        .iter()
        .filter(|one| one["eventName"] == "Bind")
        .collect();
    let counts: Vec<_> = records
        .iter()
        .map(|one| &one["additionalEventData"]["count"])
        .collect();
    assert_eq!(counts, [CHUNK, rows, rows + 7], "{:?}", records[0]);
    let asked = &records[0]["requestParameters"];
    assert_eq!(asked["contextColumns"], json!(["tenant", "id"]));
    assert_eq!(asked["encryptionContext"], json!({"purpose": "volume"}));
    let all = blake3::hash(&blobs.concat()).to_string();
    assert!(records[2].to_string().contains(&all), "{}", records[2]);
}

#[tokio::test]
async fn the_schema_keeps_its_metadata_and_other_lengths_are_served() {
    let bench = Bench::new().await;
    let id = bench.key().await;
    let views: ArrayRef = Arc::new(StringViewArray::from(vec![
        "a",
        "a name of more than twelve",
    ]));
    let plain = batch([("tenant", views)]);
    let metadata: HashMap<_, _> = [("pandas".to_owned(), "{}".to_owned())].into();
    let schema = plain.schema().as_ref().clone().with_metadata(metadata);
    let schema = Arc::new(schema);
    let sent = RecordBatch::try_new(Arc::clone(&schema), plain.columns().to_vec()).unwrap();
    let asked = format!("key={id}&bytes=1&context=tenant");
    let answer = bench.bound(&asked, &[sent]).unwrap();
    assert_eq!(answer[0].schema().metadata(), schema.metadata());
    let blobs = answer[0].column(1).as_binary::<i32>();
    assert_eq!(blobs.value(1).len(), 24 + 24 + 1 + 16);
    // No rows, no context: as it is.
    let none = containers(7, 0);
    assert_eq!(bench.bound(&query(&id), &[none]).unwrap().len(), 0);
    let answer = bench.bound(&format!("key={id}&spec=AES_256"), &[containers(7, 2)]);
    let answer = answer.unwrap();
    let blobs = answer[0].column(2).as_binary::<i32>();
    assert!(bench.opens(blobs.value(0), json!({})).await);
    let records = bench.records();
    let none = &records[records.len() - 3];
    assert_eq!(none["additionalEventData"]["count"], 0, "{none}");
}

/// One who may mint for tenant 7 alone.
async fn for_tenant_7(bench: &Bench) -> Arc<Principal> {
    let policy = json!({"Statement": {
        "Effect": "Allow", "Action": format!("kms:{MINT}"), "Resource": "*",
        "Condition": {"StringEquals": {"kms:EncryptionContext:tenant": "7"}},
    }});
    bench.principal("seven", policy).await
}

#[tokio::test]
async fn every_row_is_authorized_with_its_own_context() {
    let bench = Bench::new().await;
    let id = bench.key().await;
    let seven = for_tenant_7(&bench).await;
    let mixed = |foreign: &[usize], rows: usize| {
        let ids = text((0..rows).map(|row| format!("c{row}")));
        let tenants = (0..rows).map(|row| if foreign.contains(&row) { "8" } else { "7" });
        batch([("id", ids), ("tenant", text(tenants))])
    };
    let bound = |rows: &RecordBatch| {
        let mut bind = bench.bind(&seven, &query(&id));
        let answer = run(&mut bind, &stream(std::slice::from_ref(rows)), usize::MAX);
        (answer.map(|answer| read(&answer)), bind.rows())
    };
    let (answer, rows) = bound(&mixed(&[], 10));
    assert_eq!((answer.unwrap()[0].num_rows(), rows), (10, 10));
    let (code, message) = not_allowed(&seven, MINT, &key_arn(&id), "identity");
    for (foreign, rows, first, before) in [
        (&[5][..], 10, 5, 0),
        (&[0], 10, 0, 0),
        (&[9, 5], 10, 5, 0),
        (&[CHUNK + 3], CHUNK + 10, CHUNK + 3, CHUNK),
    ] {
        let (refused, handed_out) = bound(&mixed(foreign, rows));
        let expected = (code, format!("Row {first}: {message}"));
        assert_eq!(refused, Err(expected));
        assert_eq!(handed_out, before as u64, "nothing of the refused chunk");
    }
    let records = bench.records();
    let last = records.last().unwrap();
    assert_eq!(last["eventName"], "Bind");
    assert_eq!(last["errorCode"], "AccessDeniedException");
    let message = last["errorMessage"].as_str().unwrap();
    assert!(message.starts_with("Row 8195: User: "), "{message}");
    assert_eq!(last["additionalEventData"]["count"], CHUNK);
}

#[tokio::test]
async fn a_row_that_can_have_no_context_is_refused_and_named() {
    let bench = Bench::new().await;
    let id = bench.key().await;
    let some = |values: Vec<Option<&str>>| Arc::new(StringArray::from(values)) as ArrayRef;
    let keyed = |keys: Vec<Option<i32>>, values: Vec<Option<&str>>| {
        let (keys, values) = (arrow_array::Int32Array::from(keys), some(values));
        Arc::new(DictionaryArray::<Int32Type>::try_new(keys, values).unwrap()) as ArrayRef
    };
    let large = "x".repeat(8192);
    let null = "Context column \"tenant\" is null.";
    let too_large = "The encryption context is larger than 8192 bytes in canonical form.";
    for (tenants, row, said) in [
        (some(vec![Some("7"), Some("7"), None]), 2, null),
        (some(vec![None]), 0, null),
        (keyed(vec![Some(0), None], vec![Some("7")]), 1, null),
        (
            keyed(vec![Some(1), Some(0)], vec![None, Some("7")]),
            1,
            null,
        ),
        (keyed(vec![None], vec![]), 0, null),
        (some(vec![Some(""), Some(&large)]), 1, too_large),
    ] {
        let ids = text((0..tenants.len()).map(|row| row.to_string()));
        let refused = bench.bound(&query(&id), &[batch([("tenant", tenants), ("id", ids)])]);
        let message = format!("Row {row}: {said}");
        assert_eq!(refused, Err((Code::ValidationException, message)));
    }
    let ids = || text(["1"]);
    let number: ArrayRef = Arc::new(Int64Array::from(vec![1]));
    for (sent, said) in [
        (batch([("id", ids())]), "There is no column \"tenant\"."),
        (
            batch([("id", ids()), ("tenant", number)]),
            "Column \"tenant\" is of type INT64, and contexts are strings.",
        ),
        (
            batch([("id", ids()), ("tenant", ids()), ("id", ids())]),
            "There are several columns \"id\".",
        ),
        (
            batch([("id", ids()), ("tenant", ids()), ("key_arn", ids())]),
            "There is a column \"key_arn\" already.",
        ),
        (
            batch([("id", ids()), ("tenant", ids()), ("Key_ARN", ids())]),
            "There is a column \"Key_ARN\" already, which readers that ignore case take for \
             \"key_arn\".",
        ),
    ] {
        let message = format!("After 0 rows: {said}");
        let refused = bench.bound(&query(&id), &[sent]);
        assert_eq!(refused, Err((Code::ValidationException, message)));
    }
}

#[tokio::test]
async fn a_key_that_is_not_there_is_refused_as_a_single_call_would_be() {
    let bench = Bench::new().await;
    let id = bench.key().await;
    let (nobody, sent) = (bench.powerless("nobody").await, stream(&[containers(7, 3)]));
    let refused = |principal: &Arc<Principal>, key: &str| {
        let mut bind = bench.bind(principal, &query(key));
        run(&mut bind, &sent, 100).unwrap_err()
    };
    let missing = format!("Row 0: Key '{}' does not exist", key_arn(UNKNOWN));
    assert_eq!(
        refused(&bench.admin, UNKNOWN),
        (Code::NotFoundException, missing)
    );
    for key in [&id, UNKNOWN] {
        let (code, message) = not_allowed(&nobody, MINT, &key_arn(key), "identity");
        assert_eq!(refused(&nobody, key), (code, format!("Row 0: {message}")));
    }
    bench.done_to("DisableKey", &id).await;
    let message = format!("Row 0: {} is disabled.", key_arn(&id));
    assert_eq!(
        refused(&bench.admin, &id),
        (Code::DisabledException, message)
    );
    let requester = Requester::local(Arc::clone(&bench.admin));
    let error = bench
        .api
        .containers(&requester, Purpose::Bind, "spec=AES_256")
        .err()
        .unwrap();
    assert_eq!(error.code(), Code::ValidationException);
    let records = bench.records();
    assert_eq!(records.last().unwrap()["errorCode"], "ValidationException");
}

#[tokio::test]
async fn pool_4_a_change_in_mid_stream_ends_it_at_the_next_chunk() {
    let bench = Bench::new().await;
    let id = bench.key().await;
    let alice = bench.powerless("alice").await;
    let bob = bench.allowed("bob", &[&format!("kms:{MINT}")]).await;
    let arn = key_arn(&id);
    let grant = json!({"KeyId": id, "GranteePrincipal": alice.arn, "Operations": [MINT]});
    let grant = bench.done("CreateGrant", grant).await["GrantId"].clone();
    let closed = json!({"Statement": to(&alice.arn, &["kms:PutKeyPolicy"])}).to_string();
    let rows = stream(&[containers(7, 2 * CHUNK + 5)]);
    let ask = query(&id);
    let gone = "The security token included in the request is invalid.";
    for (who, operation, change, (code, message)) in [
        (
            &alice,
            "RevokeGrant",
            json!({"KeyId": id, "GrantId": grant}),
            not_allowed(&alice, MINT, &arn, "identity"),
        ),
        (
            &bob,
            "PutKeyPolicy",
            json!({"KeyId": id, "Policy": closed, "BypassPolicyLockoutSafetyCheck": true}),
            not_allowed(&bob, MINT, &arn, "resource"),
        ),
        (
            &bench.admin,
            "DisableKey",
            json!({"KeyId": id}),
            (Code::DisabledException, format!("{arn} is disabled.")),
        ),
        (
            &bob,
            "DisablePrincipal",
            json!({"Name": "bob"}),
            (Code::UnrecognizedClientException, gone.to_owned()),
        ),
    ] {
        if operation == "DisablePrincipal" {
            bench.done_to("EnableKey", &id).await;
            bench
                .put_policy(&id, to(&root_of(ACCOUNT), &["kms:*"]))
                .await;
        }
        let mut bind = bench.bind(who, &ask);
        let mut body = Bytes::from(rows.clone());
        let mut chunks = 0;
        let refused = loop {
            bind.feed(&mut body).unwrap();
            match bind.step() {
                Ok(Step::Hungry) => {}
                Ok(Step::Rows(..)) => {
                    chunks += 1;
                    if chunks == 2 && operation == "DisablePrincipal" {
                        bench.administer(operation, change.clone()).await.unwrap();
                    } else if chunks == 2 {
                        bench.done(operation, change.clone()).await;
                    }
                }
                Ok(other) => panic!("{other:?}"),
                Err(error) => break (error.code(), error.message().to_owned()),
            }
        };
        let message = format!("Row {}: {message}", 2 * CHUNK);
        assert_eq!(refused, (code, message), "{operation}");
        assert_eq!(bind.rows(), 2 * CHUNK as u64);
    }
}

#[tokio::test]
async fn a_rotation_or_a_clone_in_mid_stream_is_no_end() {
    let bench = Bench::new().await;
    let id = bench.key().await;
    let mut bind = bench.bind(&bench.admin, &query(&id));
    let body = stream(&[containers(7, 10), containers(7, 10), containers(7, 10)]);
    let mut body = Bytes::from(body);
    let (mut answer, mut chunks) = (Vec::new(), 0);
    while chunks < 3 {
        bind.feed(&mut body).unwrap();
        if let Step::Rows(bytes, _) = bind.step().unwrap() {
            answer.extend(bytes);
            chunks += 1;
            match chunks {
                1 => drop(bench.done_to("RotateKeyOnDemand", &id).await),
                _ => drop(bench.api.clone_word.handle().fetch_add(1, Ordering::SeqCst)),
            }
        }
    }
    bind.feed(&mut body).unwrap();
    bind.close().unwrap();
    let Step::End(end, None) = bind.step().unwrap() else {
        panic!("an end");
    };
    answer.extend(end);
    let batches = read(&answer);
    let of = |batch: &RecordBatch| {
        let names = batch.column(4).as_dictionary::<Int32Type>();
        let names = names.values().as_string::<i32>();
        let blob = batch.column(2).as_binary::<i32>().value(0).to_vec();
        (names.value(0).to_owned(), blob)
    };
    let [(first, _), (second, one), (third, other)] = [0, 1, 2].map(|at| of(&batches[at]));
    assert!(first != second && second == third);
    assert_ne!(
        one[24..44],
        other[24..44],
        "pool_5: each chunk has an epoch of its own"
    );
    let context = json!({"id": "c0", "tenant": "7"});
    assert!(bench.opens(&one, context.clone()).await && bench.opens(&other, context).await);
}
