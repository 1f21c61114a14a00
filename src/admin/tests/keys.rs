//! `DescribeKeys`: all keys, page by page.

use super::ErrorCode as Code;
use super::*;
use std::collections::BTreeMap;

impl Bench {
    /// All pages, and how many keys each has.
    async fn described(&self, limit: Option<usize>) -> (Vec<Value>, Vec<usize>) {
        let (mut keys, mut pages) = (Vec::new(), Vec::new());
        let mut body = json!({});
        if let Some(limit) = limit {
            body["Limit"] = limit.into();
        }
        loop {
            let mut page = self.administer("DescribeKeys", body.clone()).await.unwrap();
            let Value::Array(found) = page["Keys"].take() else {
                panic!("no list: {page}");
            };
            pages.push(found.len());
            keys.extend(found);
            if page["Truncated"] == false {
                assert_eq!(page.get("NextMarker"), None);
                return (keys, pages);
            }
            body["Marker"] = page["NextMarker"].take();
        }
    }
}

#[tokio::test]
async fn each_key_is_described_as_by_itself_with_its_aliases_by_name() {
    let bench = Bench::new().await;
    assert_eq!(bench.described(None).await, (Vec::new(), vec![0]));
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(bench.key().await);
    }
    for (alias, key) in [("alias/b", 0), ("alias/a", 0), ("alias/c", 1)] {
        bench.alias(alias, &ids[key]).await;
    }
    bench.done_to("DisableKey", &ids[2]).await;
    let deletion = json!({"KeyId": ids[3], "PendingWindowInDays": 7});
    bench.done("ScheduleKeyDeletion", deletion).await;
    let aliases = [json!(["alias/a", "alias/b"]), json!(["alias/c"])];
    let named: BTreeMap<String, Value> = ids.iter().cloned().zip(aliases).collect();
    let (all, pages) = bench.described(None).await;
    assert_eq!(pages, [5]);
    ids.sort();
    for (key, id) in all.iter().zip(&ids) {
        let mut expected = bench.done_to("DescribeKey", id).await["KeyMetadata"].take();
        assert_eq!(expected["KeyId"], **id, "by id");
        expected["Aliases"] = named.get(id).cloned().unwrap_or(json!([]));
        assert_eq!(*key, expected);
    }
    for limit in [1, 2, 4, 5] {
        let (paged, pages) = bench.described(Some(limit)).await;
        assert_eq!(paged, all);
        assert_eq!(pages.len(), 5_usize.div_ceil(limit), "{pages:?}");
    }
}

#[tokio::test]
async fn a_page_ends_early_where_descriptions_are_long() {
    let bench = Bench::new().await;
    for _ in 0..50 {
        let body = json!({"Description": "\u{1}".repeat(8192)});
        bench.done("CreateKey", body).await;
    }
    let (keys, pages) = bench.described(None).await;
    assert_eq!((keys.len(), pages), (50, vec![21, 21, 8]));
}

#[tokio::test]
async fn what_is_no_page_is_refused() {
    let bench = Bench::new().await;
    let refused = async |body: Value| bench.administer("DescribeKeys", body).await.unwrap_err();
    for limit in [0, 1001] {
        assert_eq!(
            refused(json!({"Limit": limit})).await.0,
            Code::ValidationException
        );
    }
    let marker = json!({"Marker": "TGlzdEtleXMg"});
    assert_eq!(refused(marker).await.0, Code::InvalidMarkerException);
    let unknown = json!({"KeyId": "x"});
    assert_eq!(refused(unknown).await.0, Code::SerializationException);
}
