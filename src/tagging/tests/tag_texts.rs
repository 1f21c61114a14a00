//! `GetTagKeys` and `GetTagValues`.

use super::*;
use crate::tagging::tag_texts::PER_PAGE;

#[tokio::test]
async fn keys_and_values_are_listed_once_each() {
    let bench = Bench::new().await;
    let none = json!({"PaginationToken": "", "TagKeys": []});
    assert_eq!(bench.tagging("GetTagKeys", json!({})).await, none);
    bench.tagged(2, &[("team", "red"), ("\"é", "")]).await;
    bench
        .tagged(1, &[("team", "blue"), ("Team", "green")])
        .await;
    let all = json!({"PaginationToken": "", "TagKeys": ["\"é", "Team", "team"]});
    let reader = bench.allowed("reader", &["tag:Get*"]).await;
    let answer = bench.tagging_as(&reader, "GetTagKeys", json!({})).await;
    assert_eq!(answer, Ok(all));
    for (key, values) in [
        ("team", json!(["blue", "red"])),
        ("Team", json!(["green"])),
        ("\"é", json!([""])),
        ("none", json!([])),
    ] {
        let answer = bench.tagging("GetTagValues", json!({"Key": key})).await;
        assert_eq!(answer, json!({"PaginationToken": "", "TagValues": values}));
    }
    let operator = Principal::operator(0, OTHER.parse().unwrap());
    let stranger = bench
        .principal_of(&operator, "stranger", allowing(&["tag:*"]))
        .await;
    let answer = bench.tagging_as(&stranger, "GetTagKeys", json!({})).await;
    assert_eq!(answer, Ok(none));
}

#[tokio::test]
async fn texts_come_in_pages() {
    const KEYS: usize = 21;
    const TAGS: usize = 50;
    let bench = Bench::new().await;
    let mut expected = Vec::new();
    for at in 0..KEYS {
        // Characters of four bytes, as long as a key may be: the longest token.
        let tags: Vec<_> = (0..TAGS)
            .map(|tag| format!("{at:02}{tag:02}{}", "𝄞".repeat(124)))
            .collect();
        let pairs: Vec<_> = tags.iter().map(|key| (key.as_str(), "")).collect();
        bench.tagged(1, &pairs).await;
        expected.extend(tags);
    }
    let first = bench.tagging("GetTagKeys", json!({})).await;
    let token = first["PaginationToken"].as_str().unwrap();
    assert!(!token.is_empty() && token.len() <= 2048, "{}", token.len());
    assert_eq!(first["TagKeys"], json!(expected[..PER_PAGE]));
    let body = json!({"PaginationToken": token});
    let last = bench.tagging("GetTagKeys", body.clone()).await;
    let rest = json!({"PaginationToken": "", "TagKeys": expected[PER_PAGE..]});
    assert_eq!(last, rest);
    let mut of_values = body;
    of_values["Key"] = json!("a");
    let message = "PaginationToken was not issued for this request.";
    bench
        .tagging_invalid("GetTagValues", of_values, message)
        .await;
}

#[tokio::test]
async fn the_key_must_be_one() {
    let bench = Bench::new().await;
    let long = "k".repeat(129);
    for (body, at, must) in [
        (json!({}), "Value null at 'key'".to_owned(), "not be null"),
        (
            json!({"Key": ""}),
            "Value '' at 'key'".to_owned(),
            "have length greater than or equal to 1",
        ),
        (
            json!({"Key": long}),
            format!("Value '{long}' at 'key'"),
            "have length less than or equal to 128",
        ),
    ] {
        let message = format!("{at} failed to satisfy constraint: Member must {must}");
        bench
            .tagging_invalid("GetTagValues", body, &violation(&message))
            .await;
    }
    let token = "x".repeat(2049);
    let message = format!(
        "Value '{token}' at 'paginationToken' failed to satisfy constraint: Member must have length less than or equal to 2048"
    );
    let body = json!({"PaginationToken": token});
    bench
        .tagging_invalid("GetTagKeys", body, &violation(&message))
        .await;
}
