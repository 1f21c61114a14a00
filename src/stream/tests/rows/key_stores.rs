//! Streams and keys in custom key stores: each blob of such a key takes a call of its proxy, so no
//! stream has any, and none calls a proxy.

use super::sealed::{COLUMNS, blob, ran, sealed, with_blob};
use super::*;
use crate::api::tests::key_stores::{NOT_CONNECTED, Scene};

/// A proxy's key and one of our own, and rows: of our own key, but for two in the midst.
struct Mixed {
    scene: Scene,
    /// The key store.
    store: String,
    /// The key in it.
    there: String,
    /// Our own.
    here: String,
    rows: RecordBatch,
}

/// The rows whose blobs are of the proxy's key.
const THERE: [usize; 2] = [2, 3];

impl Mixed {
    async fn new() -> Self {
        let scene = Scene::new().await;
        let (store, there) = scene.key().await;
        let here = scene.bench.key().await;
        let mut rows = sealed(&scene.bench, &here, &["7"; 6]);
        for row in THERE {
            let context = json!({"tenant": "7", "id": format!("c{row}")});
            let body = json!({"KeyId": there, "KeySpec": "AES_256", "EncryptionContext": context});
            let made = scene.bench.done(MINT, body).await;
            rows = with_blob(&rows, row, Some(&decoded(&made["CiphertextBlob"])));
        }
        Self {
            scene,
            store,
            there,
            here,
            rows,
        }
    }

    fn ran(
        &self,
        purpose: Purpose,
        query: &str,
        rows: &RecordBatch,
    ) -> Result<Vec<RecordBatch>, Refused> {
        let bench = &self.scene.bench;
        ran(bench, &bench.admin, (purpose, query), rows)
    }

    fn verified(&self, rows: &RecordBatch) -> Vec<Option<String>> {
        let answer = self.ran(Purpose::Verify, COLUMNS, rows).unwrap();
        answer.iter().flat_map(refusals).collect()
    }

    fn not_valid(&self) -> String {
        let arn = key_arn(&self.there);
        format!("{arn} is in a custom key store, which is not valid for this operation.")
    }

    async fn cut_off(&self) {
        let body = json!({"CustomKeyStoreId": self.store});
        let bench = &self.scene.bench;
        bench.done("DisconnectCustomKeyStore", body).await;
    }
}

fn refusals(rows: &RecordBatch) -> Vec<Option<String>> {
    let refusals = rows.column_by_name("refusal").unwrap();
    let refusals = refusals.as_string::<i32>().iter();
    refusals.map(|one| one.map(str::to_owned)).collect()
}

#[tokio::test]
async fn verifying_refuses_the_rows_of_a_key_in_a_key_store_and_opens_the_others() {
    let mixed = Mixed::new().await;
    let asked = mixed.scene.asked();
    let refused = |code: &str, message: &str| Some(format!("{code}: {message}"));
    let of = |refusal: Option<String>| [None, None, refusal.clone(), refusal, None, None];
    let unsupported = refused("UnsupportedOperationException", &mixed.not_valid());
    assert_eq!(mixed.verified(&mixed.rows), of(unsupported.clone()));
    // A blob that is damaged, and one that claims to be of another key, open under neither.
    let (external, own) = (blob(&mixed.rows, 2), blob(&mixed.rows, 0));
    let (mut cut, mut claimed, mut disguised) = (external.clone(), external.clone(), own.clone());
    cut.truncate(40);
    claimed[2..24].copy_from_slice(&own[2..24]);
    disguised[1] = external[1];
    for damaged in [cut, claimed, disguised] {
        let rows = with_blob(&mixed.rows, 1, Some(&damaged));
        let said = mixed.verified(&rows);
        let of_row = said[1].as_deref().unwrap();
        assert!(of_row.starts_with("InvalidCiphertextException"), "{of_row}");
        assert_eq!((&said[0], &said[2]), (&None, &unsupported));
    }
    // Its state comes first, as for every operation.
    let bench = &mixed.scene.bench;
    bench.done_to("DisableKey", &mixed.there).await;
    let disabled = format!("{} is disabled.", key_arn(&mixed.there));
    let disabled = refused("DisabledException", &disabled);
    assert_eq!(mixed.verified(&mixed.rows), of(disabled));
    mixed.cut_off().await;
    let cut_off = refused("KMSInvalidStateException", NOT_CONNECTED);
    assert_eq!(mixed.verified(&mixed.rows), of(cut_off));
    // A caller without the right to the key learns nothing of where it is.
    let only_here = json!({"Statement": {
        "Effect": "Allow", "Action": "kms:Decrypt", "Resource": key_arn(&mixed.here),
    }});
    let caller = bench.principal("here", only_here).await;
    let ask = (Purpose::Verify, COLUMNS);
    let answer = ran(bench, &caller, ask, &mixed.rows).unwrap();
    let said: Vec<_> = answer.iter().flat_map(refusals).collect();
    let denied = said[2].clone().unwrap();
    assert!(
        denied.starts_with("AccessDeniedException: The ciphertext refers to"),
        "{denied}"
    );
    assert_eq!(said, of(Some(denied)));
    assert_eq!(mixed.scene.asked(), asked, "no proxy was called");
    let records = bench.records();
    let of_streams = records
        .iter()
        .filter(|one| one["eventName"] == "VerifyBlobs");
    let codes: Vec<_> = of_streams.map(|one| one["errorCode"].as_str()).collect();
    // A chunk is under one key.
    assert_eq!(
        codes[..3],
        [None, Some("UnsupportedOperationException"), None]
    );
}

#[tokio::test]
async fn rewrapping_ends_at_the_first_row_of_a_key_in_a_key_store() {
    let mixed = Mixed::new().await;
    let (bench, asked) = (&mixed.scene.bench, mixed.scene.asked());
    let from = format!("key={}&{COLUMNS}", mixed.here);
    let to = format!("key={}&{COLUMNS}", mixed.there);
    let own = mixed.rows.slice(0, 2);
    let refused = |query: &str, rows: &RecordBatch| {
        let ended = mixed.ran(Purpose::Rewrap, query, rows);
        ended.unwrap_err()
    };
    let at = |row: usize, code: Code, message: &str| (code, format!("Row {row}: {message}"));
    let code = Code::UnsupportedOperationException;
    // What was handed out before it is sound.
    let requester = Requester::local(Arc::clone(&bench.admin));
    let mut rewrapped = bench
        .api
        .containers(&requester, Purpose::Rewrap, &from)
        .unwrap();
    let sent = stream(std::slice::from_ref(&mixed.rows));
    let ended = run(&mut rewrapped, &sent, sent.len()).unwrap_err();
    assert_eq!(
        (ended, rewrapped.rows()),
        (at(2, code, &mixed.not_valid()), 2)
    );
    let moved = mixed.ran(Purpose::Rewrap, &from, &own).unwrap();
    let context = json!({"tenant": "7", "id": "c1"});
    assert!(bench.opens(&blob(&moved[0], 1), context).await);
    // Neither to it, nor from it to itself.
    assert_eq!(refused(&to, &own), at(0, code, &mixed.not_valid()));
    let external = mixed.rows.slice(2, 1);
    assert_eq!(refused(&to, &external), at(0, code, &mixed.not_valid()));
    // Its state comes first, as for every operation.
    mixed.cut_off().await;
    let state = Code::KMSInvalidStateException;
    assert_eq!(refused(&to, &own), at(0, state, NOT_CONNECTED));
    assert_eq!(refused(&from, &external), at(0, state, NOT_CONNECTED));
    let nobody = bench.powerless("nobody").await;
    for query in [&from, &to] {
        let ended = ran(bench, &nobody, (Purpose::Rewrap, query), &external);
        assert_eq!(ended.unwrap_err().0, Code::AccessDeniedException);
    }
    assert_eq!(mixed.scene.asked(), asked, "no proxy was called");
}

#[tokio::test]
async fn binding_mints_nothing_under_a_key_in_a_key_store() {
    let mixed = Mixed::new().await;
    let (bench, asked) = (&mixed.scene.bench, mixed.scene.asked());
    let bound = || bench.bound(&query(&mixed.there), &[containers(7, 3)]);
    let code = Code::UnsupportedOperationException;
    let message = format!("Row 0: {}", mixed.not_valid());
    assert_eq!(bound(), Err((code, message)));
    mixed.cut_off().await;
    let message = format!("Row 0: {NOT_CONNECTED}");
    assert_eq!(bound(), Err((Code::KMSInvalidStateException, message)));
    assert_eq!(mixed.scene.asked(), asked, "no proxy was called");
}
