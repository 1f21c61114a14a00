//! Bodies that are not an Arrow stream, or one that is made to harm: each is refused, none is a
//! panic, and none makes more than its bounds of what is held.

use super::ErrorCode as Code;
use super::rows::{batch, containers, read, run, stream, text};
use super::*;
use arrow_array::builder::StringViewBuilder;
use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type};
use arrow_array::{
    ArrayRef, BooleanArray, DictionaryArray, FixedSizeBinaryArray, FixedSizeListArray, Int64Array,
    LargeStringArray, ListArray, MapArray, NullArray, RecordBatch, StringViewArray, StructArray,
    UnionArray,
};
use arrow_schema::{DataType, Field, UnionFields};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// Every message, and the end, begins so.
const CONTINUATION: [u8; 4] = [0xff; 4];

pub(super) fn refused(bench: &Bench, body: &[u8], piece: usize) -> (Code, String) {
    let mut bind = bench.bind(&bench.admin, "key=alias/a&spec=AES_256&context=tenant");
    run(&mut bind, body, piece).unwrap_err()
}

pub(super) async fn bench() -> Bench {
    let bench = Bench::new().await;
    let id = bench.key().await;
    bench.alias("alias/a", &id).await;
    bench
}

/// One of each type that is taken.
pub(super) fn all_types() -> RecordBatch {
    let rows = 12_usize;
    let number = |row: usize| (!row.is_multiple_of(3)).then_some(row as i64);
    let numbers = || Int64Array::from_iter((0..rows).map(number));
    let field = |kind: &DataType| Arc::new(Field::new("item", kind.clone(), true));
    let tenants: DictionaryArray<Int32Type> = (0..rows).map(|row| ["a", "b"][row % 2]).collect();
    let lists = (0..rows).map(|row| Some(vec![Some(row as i64); row % 3]));
    let lists = ListArray::from_iter_primitive::<Int64Type, _, _>(lists);
    let pairs = FixedSizeListArray::from_iter_primitive::<Int64Type, _, _>(
        (0..rows).map(|row| Some([Some(row as i64), None])),
        2,
    );
    let fixed = FixedSizeBinaryArray::try_from_iter((0..rows).map(|_| [b'x'; 16])).unwrap();
    let views =
        StringViewArray::from_iter_values((0..rows).map(|row| format!("a view of {row:012}")));
    let structs = StructArray::from(vec![(
        field(&DataType::Int64),
        Arc::new(numbers()) as ArrayRef,
    )]);
    let keys: Vec<_> = (0..rows).map(|row| row.to_string()).collect();
    let keys: Vec<_> = keys.iter().map(String::as_str).collect();
    let offsets: Vec<u32> = (0..=u32::try_from(rows).unwrap()).collect();
    let maps = MapArray::new_from_strings(keys.into_iter(), &numbers(), &offsets).unwrap();
    batch([
        ("tenant", Arc::new(tenants) as ArrayRef),
        ("numbers", Arc::new(numbers())),
        (
            "flags",
            Arc::new(BooleanArray::from_iter(
                (0..rows).map(|row| Some(row % 2 == 0)),
            )),
        ),
        (
            "large",
            Arc::new(LargeStringArray::from_iter_values(
                (0..rows).map(|row| row.to_string()),
            )),
        ),
        ("lists", Arc::new(lists)),
        ("pairs", Arc::new(pairs)),
        ("fixed", Arc::new(fixed)),
        ("views", Arc::new(views)),
        ("structs", Arc::new(structs)),
        ("maps", Arc::new(maps)),
        ("nothing", Arc::new(NullArray::new(rows))),
    ])
}

#[tokio::test]
async fn bodies_that_are_no_arrow_stream_are_refused() {
    let bench = bench().await;
    let good = stream(&[containers(7, 3), containers(7, 3)]);
    let half = good.len() / 2;
    let with = |from: usize, bytes: &[u8]| {
        let mut body = good.clone();
        body[from..from + bytes.len()].copy_from_slice(bytes);
        body
    };
    let second = |body: &[u8]| {
        let mut begins = body.windows(4).enumerate();
        let found = begins
            .by_ref()
            .skip(4)
            .find(|(_, four)| *four == CONTINUATION);
        found.unwrap().0
    };
    let rows_first = good[second(&good)..].to_vec();
    let schema_twice = [&good[..second(&good)], &good].concat();
    let more = [&good[..], b"x"].concat();
    let said = |what: &str| format!("The body is not an Arrow IPC stream: {what}.");
    for (body, what) in [
        (&b""[..], "it ends without its end-of-stream marker"),
        (b"{}", "it ends without its end-of-stream marker"),
        (b"[1, 2, 3]", "a message begins with no continuation marker"),
        (b"PAR1PAR1", "a message begins with no continuation marker"),
        (&good[..half], "it ends without its end-of-stream marker"),
        (
            &good[..good.len() - 8],
            "it ends without its end-of-stream marker",
        ),
        (&good[good.len() - 8..], "it has no schema"),
        (&more, "it goes on after its end"),
        (&rows_first, "it does not begin with a schema"),
        (&schema_twice, "it has a second schema"),
        (
            &with(8, &[0xff; 8]),
            "a message's metadata is not sound, or larger than a schema's",
        ),
    ] {
        for piece in [1, 7, usize::MAX] {
            let (code, message) = refused(&bench, body, piece);
            assert_eq!(code, Code::SerializationException, "{message}");
            assert!(
                message.starts_with("After ") && message.ends_with(&said(what)),
                "{message}"
            );
        }
    }
}

#[tokio::test]
async fn what_is_beyond_a_bound_is_refused_with_it() {
    let bench = bench().await;
    let large = "x".repeat(17 << 20);
    let tenant = |rows: usize| text((0..rows).map(|_| "7"));
    let claimed = |metadata: u32| [&CONTINUATION[..], &metadata.to_le_bytes()].concat();
    let wide: Vec<_> = (0..9000).map(|at| (format!("c{at}"), tenant(1))).collect();
    let wide = RecordBatch::try_from_iter(wide).unwrap();
    for (body, said) in [
        (
            stream(&[batch([("tenant", text([large.as_str()]))])]),
            "A message's body has at most 16777216 bytes.",
        ),
        (
            claimed(u32::MAX),
            "A message's metadata has at most 1048576 bytes.",
        ),
        (
            claimed((1 << 20) + 1),
            "A message's metadata has at most 1048576 bytes.",
        ),
    ] {
        let refusal = refused(&bench, &body, 1 << 20);
        assert_eq!(
            refusal,
            (Code::RequestEntityTooLarge, format!("After 0 rows: {said}"))
        );
    }
    let (code, message) = refused(&bench, &stream(&[wide]), 1 << 20);
    assert_eq!(code, Code::SerializationException, "{message}");
}

#[tokio::test]
async fn what_is_not_supported_is_refused_by_its_name() {
    let bench = bench().await;
    let two: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
    let fields = UnionFields::try_new([0], [Field::new("i", DataType::Int64, true)]).unwrap();
    let union = UnionArray::try_new(fields, vec![0_i8, 0].into(), None, vec![two]).unwrap();
    let union = batch([
        ("tenant", text(["7", "7"])),
        ("u", Arc::new(union) as ArrayRef),
    ]);
    let (code, message) = refused(&bench, &stream(&[union]), 1000);
    assert_eq!(code, Code::ValidationException);
    let said = "Columns like \"u\", of type Union";
    assert!(message.contains(said), "{message}");
}

/// Rows are bounded by their bytes alone: some writers put all of them into one batch.
#[tokio::test]
async fn one_batch_has_any_number_of_rows() {
    let bench = bench().await;
    let count = 128 * 1024 + 1;
    let sent = batch([
        (
            "n",
            Arc::new(Int64Array::from_iter_values(0..count)) as ArrayRef,
        ),
        ("tenant", text((0..count).map(|_| "7"))),
    ]);
    let mut bind = bench.bind(&bench.admin, "key=alias/a&spec=AES_256&context=tenant");
    let answer = read(&run(&mut bind, &stream(&[sent]), 1 << 20).unwrap());
    assert!(
        answer
            .iter()
            .all(|batch| batch.num_rows() <= RowStream::CHUNK_ROWS)
    );
    let numbers = answer.iter().flat_map(|batch| {
        let numbers = batch.column(0).as_primitive::<Int64Type>();
        numbers.values().to_vec()
    });
    assert!(numbers.eq(0..count), "in the order of the request");
}

/// Views may share their text: an answer has it once for each of its batches, not for each row.
#[tokio::test]
async fn text_that_is_viewed_often_is_not_copied_for_each_view() {
    let bench = bench().await;
    let long = "x".repeat(1 << 20);
    let mut views = StringViewBuilder::new().with_deduplicate_strings();
    for _ in 0..100 {
        views.append_value(&long);
    }
    let views: ArrayRef = Arc::new(views.finish());
    let sent = batch([("tenant", text((0..100).map(|_| "7"))), ("views", views)]);
    let body = stream(std::slice::from_ref(&sent));
    assert!(body.len() < 2 << 20, "{}", body.len());
    let mut bind = bench.bind(&bench.admin, "key=alias/a&spec=AES_256&context=tenant");
    let answer = run(&mut bind, &body, 1 << 20).unwrap();
    assert!(answer.len() < 2 << 20, "{}", answer.len());
    assert_eq!(read(&answer)[0].columns()[..2], sent.columns()[..]);
}

/// A sound stream of every type with bytes changed here and there: it is answered or refused, and a
/// refusal is the sender's fault.
#[tokio::test]
async fn changed_bytes_make_no_panic() {
    let bench = bench().await;
    let good = stream(&[all_types(), all_types().slice(3, 7)]);
    let ask = "key=alias/a&spec=AES_256&context=tenant";
    let mut bind = bench.bind(&bench.admin, ask);
    run(&mut bind, &good, usize::MAX).unwrap();
    let mut random = ChaCha20Rng::seed_from_u64(7);
    let mut answered = 0;
    let rounds = std::env::var("ROUNDS").map_or(3000, |rounds| rounds.parse().unwrap());
    for _ in 0..rounds {
        let mut body = good.clone();
        for _ in 0..1 + random.next_u32() % 3 {
            let at = random.next_u32() as usize % body.len();
            body[at] = match random.next_u32() % 4 {
                0 => 0,
                1 => 0xff,
                2 => body[at].wrapping_add(1),
                _ => random.next_u32().to_le_bytes()[0],
            };
        }
        let mut bind = bench.bind(&bench.admin, ask);
        match run(&mut bind, &body, usize::MAX) {
            Ok(_) => answered += 1,
            Err((code, message)) => assert_ne!(code, Code::KMSInternalException, "{message}"),
        }
    }
    assert!(answered > 0);
}
