//! Dictionaries that are replaced, grow, belong to several columns, or have nested values.

use super::ErrorCode as Code;
use super::arrow::{bench, refused};
use super::rows::{batch, read, run, stream, text};
use super::*;
use arrow_array::builder::{ListBuilder, StringBuilder};
use arrow_array::cast::AsArray;
use arrow_array::types::Int32Type;
use arrow_array::{
    Array, ArrayRef, DictionaryArray, Int32Array, RecordBatch, StringArray, StructArray,
};
use arrow_ipc::DictionaryEncoding;
use arrow_ipc::writer::{DictionaryHandling, IpcWriteOptions, StreamWriter};
use arrow_schema::Field;

const ASK: &str = "key=alias/a&spec=AES_256&context=tenant";

fn of_names(values: &[String]) -> ArrayRef {
    let names: DictionaryArray<Int32Type> = values.iter().map(String::as_str).collect();
    Arc::new(names)
}

/// A column of so many tenants, each in one row.
fn tenants(count: usize) -> RecordBatch {
    let names: Vec<_> = (0..count).map(|row| format!("tenant {row:08}")).collect();
    batch([("tenant", of_names(&names))])
}

fn growing(batches: &[RecordBatch]) -> Vec<u8> {
    let options = IpcWriteOptions::default().with_dictionary_handling(DictionaryHandling::Delta);
    let schema = batches[0].schema();
    let mut writer = StreamWriter::try_new_with_options(Vec::new(), &schema, options).unwrap();
    for batch in batches {
        writer.write(batch).unwrap();
    }
    writer.finish().unwrap();
    writer.into_inner().unwrap()
}

/// The messages of a stream, with its end as the last one.
fn parts(stream: &[u8]) -> Vec<Vec<u8>> {
    let (mut parts, mut rest) = (Vec::new(), stream);
    while rest.len() > 8 {
        let metadata = u32::from_le_bytes(rest[4..8].try_into().unwrap()) as usize;
        let message = arrow_ipc::root_as_message(&rest[8..8 + metadata]).unwrap();
        let length = 8 + metadata + usize::try_from(message.bodyLength()).unwrap();
        parts.push(rest[..length].to_vec());
        rest = &rest[length..];
    }
    parts.push(rest.to_vec());
    parts
}

/// What comes back of the first columns, as text.
fn texts(batches: &[RecordBatch], column: usize) -> Vec<String> {
    let mut texts = Vec::new();
    for batch in batches {
        let names = batch.column(column).as_dictionary::<Int32Type>();
        let names = names.downcast_dict::<StringArray>().unwrap();
        texts.extend(names.into_iter().map(|name| name.unwrap().to_owned()));
    }
    texts
}

#[tokio::test]
async fn a_dictionary_grows_and_the_answer_grows_with_it() {
    let bench = bench().await;
    let sent: Vec<_> = (1..=20).map(|number| tenants(number * 50)).collect();
    let body = growing(&sent);
    // Those of a schema, the first dictionary, 19 deltas, 20 batches, and the end.
    assert_eq!(parts(&body).len(), 42);
    let mut bind = bench.bind(&bench.admin, ASK);
    let answer = run(&mut bind, &body, 1000).unwrap();
    let batches = read(&answer);
    assert_eq!(texts(&batches, 0), texts(&sent, 0));
    assert_eq!(batches.len(), sent.len());
    // The dictionary of tenants comes as a whole twice, and then as deltas alone.
    let dictionaries = parts(&answer).iter().filter(|part| is_delta(part)).count();
    assert_eq!(dictionaries, 18);
}

fn is_delta(part: &[u8]) -> bool {
    let message = arrow_ipc::root_as_message(part.get(8..).unwrap_or_default());
    let message = message.ok();
    let dictionary = message.and_then(|message| message.header_as_dictionary_batch());
    dictionary.is_some_and(|dictionary| dictionary.isDelta())
}

#[tokio::test]
async fn a_dictionary_that_is_replaced_is_another_from_then_on() {
    let bench = bench().await;
    let named = |names: &[&str]| {
        let names: Vec<_> = names.iter().map(ToString::to_string).collect();
        batch([("tenant", of_names(&names))])
    };
    let sent = [named(&["a", "b"]), named(&["c"]), named(&["c", "d", "c"])];
    for body in [stream(&sent), growing(&sent)] {
        let mut bind = bench.bind(&bench.admin, ASK);
        let answer = read(&run(&mut bind, &body, 1000).unwrap());
        assert_eq!(texts(&answer, 0), ["a", "b", "c", "c", "d", "c"]);
    }
}

#[tokio::test]
async fn a_dictionary_grows_only_after_it_has_begun() {
    let bench = bench().await;
    let mut parts = parts(&growing(&[tenants(1), tenants(2)]));
    assert!(is_delta(&parts[3]));
    let said = |refusal: (Code, String), what: &str| {
        assert_eq!(refusal.0, Code::SerializationException);
        assert!(refusal.1.ends_with(what), "{}", refusal.1);
    };
    parts.remove(1);
    parts.remove(1);
    let refusal = refused(&bench, &parts.concat(), usize::MAX);
    said(refusal, "a dictionary grows before it begins.");
}

/// The stream with the id of its second column's dictionary made that of the first.
fn shared(body: &[u8]) -> Vec<u8> {
    let mut parts = parts(body);
    let at = {
        let message = arrow_ipc::root_as_message(&parts[0][8..]).unwrap();
        let fields = message.header_as_schema().unwrap().fields().unwrap();
        let encoding = fields.get(1).dictionary().unwrap();
        assert_eq!((fields.len(), encoding.id()), (2, 1));
        let field = encoding._tab.vtable().get(DictionaryEncoding::VT_ID);
        8 + encoding._tab.loc() + usize::from(field)
    };
    parts[0][at..at + 8].copy_from_slice(&0_i64.to_le_bytes());
    // The second column's own.
    parts.remove(2);
    parts.concat()
}

#[tokio::test]
async fn a_dictionary_may_belong_to_several_columns() {
    let bench = bench().await;
    let names: Vec<_> = ["x", "y", "z"].map(str::to_owned).into();
    let backwards = Int32Array::from(vec![2, 1, 0]);
    let values: ArrayRef = Arc::new(StringArray::from(names.clone()));
    let other = DictionaryArray::<Int32Type>::try_new(backwards, values).unwrap();
    let sent = batch([("tenant", of_names(&names)), ("other", Arc::new(other))]);
    let body = shared(&stream(&[sent]));
    let mut bind = bench.bind(&bench.admin, ASK);
    let answer = read(&run(&mut bind, &body, usize::MAX).unwrap());
    assert_eq!(texts(&answer, 0), ["x", "y", "z"]);
    assert_eq!(texts(&answer, 1), ["z", "y", "x"]);
    // Values of another type.
    let numbers: DictionaryArray<Int32Type> = DictionaryArray::new(
        Int32Array::from(vec![0, 0, 0]),
        Arc::new(Int32Array::from(vec![7])),
    );
    let sent = batch([("tenant", of_names(&names)), ("n", Arc::new(numbers))]);
    let (code, message) = refused(&bench, &shared(&stream(&[sent])), usize::MAX);
    assert_eq!(code, Code::SerializationException);
    let said = "column \"n\" has the dictionary of a column with other values.";
    assert!(message.ends_with(said), "{message}");
}

#[tokio::test]
async fn a_dictionary_is_counted_for_each_of_its_columns() {
    let bench = bench().await;
    let names = ["x".repeat(9 << 20)];
    let none = [String::new()];
    let twice = batch([("other", of_names(&names)), ("tenant", of_names(&none))]);
    // Alone it is within the bound, twice it is not.
    let mut bind = bench.bind(&bench.admin, "key=alias/a&spec=AES_256");
    run(&mut bind, &stream(std::slice::from_ref(&twice)), usize::MAX).unwrap();
    let (code, message) = refused(&bench, &shared(&stream(&[twice])), usize::MAX);
    assert_eq!(code, Code::RequestEntityTooLarge);
    let said = "each counted for every column that it belongs to, has at most 16777216 bytes.";
    assert!(message.ends_with(said), "{message}");
}

/// Lists of names, as the values of a dictionary.
fn lists(count: i32) -> ArrayRef {
    let mut lists = ListBuilder::new(StringBuilder::new());
    for row in 0..count {
        lists.values().append_value(format!("n{row}"));
        lists.append(true);
    }
    let keys = Int32Array::from_iter_values((0..count).rev());
    Arc::new(DictionaryArray::<Int32Type>::try_new(keys, Arc::new(lists.finish())).unwrap())
}

#[tokio::test]
async fn values_of_a_dictionary_may_be_nested() {
    let bench = bench().await;
    let inner = of_names(&["p", "q", "r"].map(str::to_owned));
    let field = Field::new("inner", inner.data_type().clone(), true);
    let structs = StructArray::from(vec![(Arc::new(field), inner)]);
    let keys = Int32Array::from(vec![2, 0, 1]);
    let structs = DictionaryArray::<Int32Type>::try_new(keys, Arc::new(structs)).unwrap();
    let sent = batch([
        ("tenant", text(["7", "7", "8"])),
        ("lists", lists(3)),
        ("structs", Arc::new(structs) as ArrayRef),
    ]);
    let body = stream(std::slice::from_ref(&sent));
    let mut bind = bench.bind(&bench.admin, ASK);
    let answer = read(&run(&mut bind, &body, 100).unwrap());
    assert_eq!(answer[0].columns()[..3], sent.columns()[..]);
}

#[tokio::test]
async fn nested_values_do_not_grow() {
    let bench = bench().await;
    let grown = |count: i32| {
        let keys = Int32Array::from_iter_values(0..count);
        let lists = lists(count);
        let values = lists.as_dictionary::<Int32Type>().values();
        let column = DictionaryArray::<Int32Type>::try_new(keys, Arc::clone(values)).unwrap();
        batch([
            ("tenant", text((0..count).map(|_| "7"))),
            ("lists", Arc::new(column) as ArrayRef),
        ])
    };
    let body = growing(&[grown(1), grown(2)]);
    let refusal = refused(&bench, &body, usize::MAX);
    let said = "After 1 row: Dictionaries of nested values that grow are not supported here.";
    assert_eq!(refusal, (Code::ValidationException, said.to_owned()));
}
