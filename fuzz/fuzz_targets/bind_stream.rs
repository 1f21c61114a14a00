//! Streams of containers: whatever their bytes are, they are answered or refused, and never with a failure of the daemon's own.
//!
//! An input that begins with an even byte is a stream as it stands. Else it is edits of a sound one: three bytes each, two for the place and one to put there, so that what
//! lies behind the framing is reached at once.

#![no_main]

use arrow_array::types::{Int32Type, Int64Type};
use arrow_array::{
    ArrayRef, BooleanArray, DictionaryArray, FixedSizeBinaryArray, Int64Array, ListArray,
    RecordBatch, StringArray, StringViewArray,
};
use arrow_ipc::writer::StreamWriter;
use bytes::Bytes;
use keymill::api::{self, Api, ApiError, Containers, Parts, Purpose, Requester, Step};
use keymill::audit::{self, Audit};
use keymill::clock::Clock;
use keymill::crypto::entropy::Entropy;
use keymill::key::arn::Region;
use keymill::keystore::{Keystore, RootKey};
use keymill::limit::{self, Limits};
use keymill::metrics::Metrics;
use keymill::policy::Principal;
use keymill::pool::{self, CloneWord, Pool};
use libfuzzer_sys::fuzz_target;
use std::sync::{Arc, LazyLock};

struct Daemon {
    api: Arc<Api>,
    requester: Requester,
    query: String,
    /// A sound one.
    stream: Vec<u8>,
}

static DAEMON: LazyLock<Daemon> = LazyLock::new(|| start().expect("a daemon in a new folder"));

/// Two batches with columns of many types, two of them the context's.
fn stream() -> Result<Vec<u8>, Box<dyn std::error::Error>> {
    let numbers = [1, 2, 3, 4_i64];
    let keyed: DictionaryArray<Int32Type> = ["x", "y", "x", "y"].into_iter().collect();
    let lists = numbers.map(|number| Some(vec![Some(number), None]));
    let columns: [(&str, ArrayRef); 7] = [
        ("a", Arc::new(StringArray::from(vec!["1", "2", "3", "4"]))),
        ("b", Arc::new(keyed)),
        (
            "n",
            Arc::new(Int64Array::from(vec![Some(1), None, Some(3), Some(4)])),
        ),
        (
            "f",
            Arc::new(BooleanArray::from(vec![true, false, true, true])),
        ),
        (
            "l",
            Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>(lists)),
        ),
        (
            "x",
            Arc::new(FixedSizeBinaryArray::try_from_iter(
                numbers.map(|n| n.to_le_bytes()).into_iter(),
            )?),
        ),
        (
            "v",
            Arc::new(StringViewArray::from(vec![
                "short",
                "a view that is long",
                "",
                "z",
            ])),
        ),
    ];
    let columns = columns.map(|(name, array)| (name, array, true));
    let rows = RecordBatch::try_from_iter_with_nullable(columns)?;
    let mut writer = StreamWriter::try_new(Vec::new(), &rows.schema())?;
    writer.write(&rows)?;
    writer.write(&rows.slice(1, 2))?;
    writer.finish()?;
    Ok(writer.into_inner()?)
}

/// An inside of a daemon with one key that has a name.
fn start() -> Result<Daemon, Box<dyn std::error::Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let folder = tempfile::tempdir()?.keep();
    let metrics = Arc::new(Metrics::new()?);
    let entropy = Arc::new(Entropy::os());
    let root = RootKey::create(&folder.join("root.key"), &entropy)?;
    let region = Region {
        partition: "aws".to_owned(),
        name: "us-east-1".to_owned(),
    };
    let parts = (Arc::clone(&entropy), Arc::clone(&metrics));
    let path = folder.join("keystore.db");
    let keystore = runtime.block_on(Keystore::create(&path, &root, region, parts.0, parts.1))?;
    let (clock, clone_word) = (Clock::system(), Arc::new(CloneWord::new()));
    let config = pool::Config {
        enabled: false,
        ..pool::Config::default()
    };
    let parts = (Arc::clone(&entropy), clock.clone(), Arc::clone(&clone_word));
    let pool = Pool::new(config, parts.0, parts.1, parts.2, &metrics)?;
    let log = audit::Config {
        path: folder.join("audit"),
        // A fuzzer is faster than a disk.
        journal_bytes: 256 << 20,
        ..audit::Config::default()
    };
    let audit = Audit::open(
        &log,
        audit::key(&root),
        None,
        clock.clone(),
        &entropy,
        &metrics,
    )?;
    let parts = Parts {
        keystore: Arc::new(keystore),
        pool,
        clone_word,
        entropy,
        clock,
        limits: Limits::new(&limit::Config::default()),
        audit: Arc::new(audit),
    };
    let api = Api::new(parts, &metrics);
    let principal = Principal::operator(0, "111122223333".parse()?);
    let requester = Requester::local(principal);
    let create = api::operation("CreateKey").expect("an operation");
    let created = runtime.block_on(api.call(create, &requester, b"{}"));
    created.expect("a key");
    let snapshot = api.keystore.snapshot();
    let id = snapshot.keys.keys().next().expect("the key");
    let query = format!("key={id}&spec=AES_256&context=a,b&pair=c=1");
    Ok(Daemon {
        api,
        requester,
        query,
        stream: stream()?,
    })
}

fn run(bind: &mut Containers, body: &[u8]) -> Result<(), ApiError> {
    // Pieces of a length that no message has.
    for piece in body.chunks(61) {
        let mut piece = Bytes::copy_from_slice(piece);
        while !piece.is_empty() {
            bind.feed(&mut piece)?;
            while bind.is_sated() {
                bind.step()?;
            }
        }
    }
    bind.close()?;
    while !matches!(bind.step()?, Step::End(..)) {}
    Ok(())
}

fuzz_target!(|bytes: &[u8]| {
    let Some((which, rest)) = bytes.split_first() else {
        return;
    };
    let mut body = rest.to_vec();
    if which % 2 == 1 {
        body.clone_from(&DAEMON.stream);
        for edit in rest.chunks_exact(3) {
            let place = usize::from(u16::from_le_bytes([edit[0], edit[1]])) % body.len();
            body[place] = edit[2];
        }
    }
    let begun = DAEMON
        .api
        .containers(&DAEMON.requester, Purpose::Bind, &DAEMON.query);
    let mut bind = begun.expect("the query is sound");
    if let Err(error) = run(&mut bind, &body) {
        assert!(error.code().status().is_client_error(), "{error:?}");
    }
});
