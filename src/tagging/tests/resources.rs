//! `GetResources`: which keys, with which tags, in which pages.

use super::*;
use std::time::Duration;

impl Bench {
    /// The ARNs of an answer's keys, and its token.
    async fn resources(&self, body: Value) -> (Vec<String>, String) {
        let answer = self.tagging("GetResources", body).await;
        let mapped = answer["ResourceTagMappingList"].as_array().unwrap();
        let arn = |mapping: &Value| mapping["ResourceARN"].as_str().unwrap().to_owned();
        let token = answer["PaginationToken"].as_str().unwrap();
        (mapped.iter().map(arn).collect(), token.to_owned())
    }

    /// The keys of all pages, and how many pages there were.
    async fn pages(&self, mut body: Value) -> (Vec<String>, usize) {
        let (mut all, mut count) = (Vec::new(), 0);
        loop {
            let (arns, token) = self.resources(body.clone()).await;
            all.extend(arns);
            count += 1;
            if token.is_empty() {
                return (all, count);
            }
            body["PaginationToken"] = token.into();
        }
    }
}

#[tokio::test]
async fn only_tagged_keys_of_the_account_are_listed_with_their_tags() {
    let bench = Bench::new().await;
    let none = json!({"PaginationToken": "", "ResourceTagMappingList": []});
    assert_eq!(bench.tagging("GetResources", json!({})).await, none);
    let untagged = bench.tagged(1, &[]).await.remove(0);
    let arns = bench.tagged(1, &[("b", "\"2"), ("a", "")]).await;
    let tags = json!([{"Key": "a", "Value": ""}, {"Key": "b", "Value": "\"2"}]);
    let mapped = json!({"ResourceARN": arns[0], "Tags": tags});
    let expected = json!({"PaginationToken": "", "ResourceTagMappingList": [mapped]});
    assert_eq!(bench.tagging("GetResources", json!({})).await, expected);
    // In any state, and for callers that no key policy names.
    let body = json!({"KeyId": arns[0]});
    bench.done("ScheduleKeyDeletion", body).await;
    let reader = bench.allowed("reader", &["tag:GetResources"]).await;
    let answer = bench.tagging_as(&reader, "GetResources", json!({})).await;
    assert_eq!(answer.unwrap(), expected);
    let operator = Principal::operator(0, OTHER.parse().unwrap());
    let stranger = bench
        .principal_of(&operator, "stranger", allowing(&["tag:*"]))
        .await;
    let named = json!({"ResourceARNList": arns});
    for body in [json!({}), named.clone()] {
        let answer = bench.tagging_as(&stranger, "GetResources", body).await;
        assert_eq!(answer, Ok(none.clone()));
    }
    // By name: each once, and what has no tags here is left out.
    assert_eq!(bench.tagging("GetResources", named).await, expected);
    let elsewhere = arns[0].replace("us-east-1", "eu-west-1");
    let alias = format!("arn:aws:kms:us-east-1:{ACCOUNT}:alias/a");
    let others = [
        &untagged,
        &key_arn(UNKNOWN),
        &elsewhere,
        &alias,
        "arn:aws:s3:::b",
    ];
    assert_eq!(
        bench.resources(json!({"ResourceARNList": others})).await,
        (vec![], String::new())
    );
    let twice = json!({"ResourceARNList": [arns[0], arns[0]]});
    assert_eq!(bench.resources(twice).await.0, arns);
}

#[tokio::test]
async fn filters_are_all_to_pass_with_any_of_their_values() {
    let bench = Bench::new().await;
    let red = bench.tagged(2, &[("team", "red"), ("tier", "1")]).await;
    let blue = bench.tagged(1, &[("team", "blue"), ("tier", "1")]).await;
    let mut both = [red.clone(), blue.clone()].concat();
    both.sort();
    let filter = |key: &str, values: &[&str]| json!({"Key": key, "Values": values});
    for (filters, types, expected) in [
        (json!([]), json!([]), &both),
        (json!([{"Key": "team"}]), json!(["kms"]), &both),
        (json!([filter("team", &[])]), json!(["kms:key"]), &both),
        (
            json!([filter("team", &["red"])]),
            json!(["s3", "kms:key"]),
            &red,
        ),
        (json!([filter("team", &["red", "blue"])]), json!([]), &both),
        (
            json!([filter("team", &["red", "blue"]), filter("tier", &["1"])]),
            json!([]),
            &both,
        ),
        (
            json!([filter("team", &["red", "blue"]), filter("team", &["blue"])]),
            json!([]),
            &blue,
        ),
        (
            json!([filter("team", &["red"]), filter("tier", &["2"])]),
            json!([]),
            &vec![],
        ),
        (json!([filter("Team", &["red"])]), json!([]), &vec![]),
        (json!([filter("team", &["Red"])]), json!([]), &vec![]),
        (json!([]), json!(["s3"]), &vec![]),
        (json!([]), json!(["kms:alias"]), &vec![]),
    ] {
        let body = json!({"TagFilters": filters, "ResourceTypeFilters": types});
        let found = bench.resources(body.clone()).await;
        assert_eq!(found, (expected.clone(), String::new()), "{body}");
    }
}

#[tokio::test]
async fn pages_end_where_they_are_full() {
    let bench = Bench::new().await;
    let tags: Vec<_> = (0..49).map(|number| number.to_string()).collect();
    let tags: Vec<_> = tags.iter().map(|key| (key.as_str(), "x")).collect();
    let arns = bench.tagged(5, &tags).await;
    for (body, pages) in [
        (json!({}), 1),
        (json!({"ResourcesPerPage": 5}), 1),
        (json!({"ResourcesPerPage": 4}), 2),
        (json!({"ResourcesPerPage": 1}), 5),
        (json!({"TagsPerPage": 100}), 3),
        (json!({"TagsPerPage": 147}), 2),
        (json!({"TagsPerPage": 245}), 1),
        (json!({"TagsPerPage": 500, "ResourcesPerPage": 2}), 3),
        (
            json!({"PaginationToken": "", "TagFilters": [{"Key": "7"}]}),
            1,
        ),
    ] {
        let found = bench.pages(body.clone()).await;
        assert_eq!(found, (arns.clone(), pages), "{body}");
    }
}

#[tokio::test]
async fn tokens_are_for_their_listing_and_for_fifteen_minutes() {
    let bench = Bench::new().await;
    let arns = bench.tagged(2, &[("a", "1")]).await;
    let first = json!({"ResourcesPerPage": 1, "TagFilters": [{"Key": "a"}]});
    let (_, token) = bench.resources(first.clone()).await;
    let next = |body: &Value| {
        let mut body = body.clone();
        body["PaginationToken"] = token.as_str().into();
        body
    };
    assert_eq!(bench.resources(next(&first)).await.0, arns[1..]);
    let unknown = "PaginationToken was not issued for this request.";
    for body in [
        json!({}),
        json!({"TagFilters": [{"Key": "a", "Values": ["1"]}]}),
        json!({"TagFilters": [{"Key": "b"}]}),
        json!({"TagFilters": [{"Key": "a"}], "ResourceTypeFilters": ["kms"]}),
    ] {
        bench
            .tagging_invalid("GetResources", next(&body), unknown)
            .await;
    }
    bench
        .tagging_invalid("GetTagKeys", next(&json!({})), unknown)
        .await;
    for token in ["x", "eA=="] {
        let body = json!({"PaginationToken": token});
        bench.tagging_invalid("GetResources", body, unknown).await;
    }
    bench.api.clock.advance(Duration::from_mins(15));
    assert_eq!(bench.resources(next(&first)).await.0, arns[1..]);
    bench.api.clock.advance(Duration::from_secs(1));
    let code = ErrorCode::PaginationTokenExpiredException;
    let message = "PaginationToken is good for 15 minutes. Ask for the first page again.";
    bench
        .tagging_refuses("GetResources", next(&first), code, message)
        .await;
}

#[tokio::test]
async fn every_key_complies_with_no_policy() {
    let bench = Bench::new().await;
    let arns = bench.tagged(2, &[("a", "1")]).await;
    let body = json!({"IncludeComplianceDetails": true, "ResourceARNList": [arns[0]]});
    let answer = bench.tagging("GetResources", body).await;
    let mapped = &answer["ResourceTagMappingList"][0];
    assert_eq!(
        mapped["ComplianceDetails"],
        json!({"ComplianceStatus": true})
    );
    let body = json!({
        "IncludeComplianceDetails": true, "ExcludeCompliantResources": true, "ResourcesPerPage": 1,
    });
    assert_eq!(bench.resources(body).await, (vec![], String::new()));
    let message = "ExcludeCompliantResources needs IncludeComplianceDetails.";
    let body = json!({"ExcludeCompliantResources": true});
    bench.tagging_invalid("GetResources", body, message).await;
    let body = json!({"ExcludeCompliantResources": false});
    assert_eq!(bench.resources(body).await.0, arns);
}

#[tokio::test]
async fn members_that_are_out_of_range_or_do_not_go_together_are_refused() {
    let bench = Bench::new().await;
    let arn = "arn:aws:s3:::b";
    let together = "ResourceARNList goes neither with TagFilters and ResourceTypeFilters nor with \
                    ResourcesPerPage, TagsPerPage and PaginationToken.";
    for other in [
        json!({"TagFilters": [{"Key": "a"}]}),
        json!({"ResourceTypeFilters": ["kms"]}),
        json!({"ResourcesPerPage": 1}),
        json!({"TagsPerPage": 100}),
        json!({"PaginationToken": "x"}),
    ] {
        let mut body = other;
        body["ResourceARNList"] = json!([arn]);
        bench.tagging_invalid("GetResources", body, together).await;
    }
    let empty = json!({"ResourceARNList": [arn], "TagFilters": [], "PaginationToken": ""});
    assert!(bench.resources(empty).await.0.is_empty());
    let body = json!({"ResourceARNList": ["bucket"]});
    let message = "bucket is not a valid AmazonResourceName (ARN)";
    bench.tagging_invalid("GetResources", body, message).await;
    let length =
        |bound: &str, number: usize| format!("have length {bound} than or equal to {number}");
    let value =
        |bound: &str, number: usize| format!("have value {bound} than or equal to {number}");
    let filters = |count: usize| vec![json!({"Key": "a"}); count];
    for (body, at, must) in [
        (
            json!({"ResourceARNList": []}),
            "Value at 'resourceARNList'",
            length("greater", 1),
        ),
        (
            json!({"ResourceARNList": vec![arn; 101]}),
            "Value at 'resourceARNList'",
            length("less", 100),
        ),
        (
            json!({"TagFilters": filters(51)}),
            "Value at 'tagFilters'",
            length("less", 50),
        ),
        (
            json!({"TagFilters": [{"Values": []}]}),
            "Value null at 'tagFilters.1.member.key'",
            "not be null".to_owned(),
        ),
        (
            json!({"TagFilters": [{"Key": "a"}, {"Key": ""}]}),
            "Value '' at 'tagFilters.2.member.key'",
            length("greater", 1),
        ),
        (
            json!({"TagFilters": [{"Key": "a", "Values": vec!["x"; 21]}]}),
            "Value at 'tagFilters.1.member.values'",
            length("less", 20),
        ),
        (
            json!({"ResourceTypeFilters": vec!["kms"; 101]}),
            "Value at 'resourceTypeFilters'",
            length("less", 100),
        ),
        (
            json!({"ResourcesPerPage": 0}),
            "Value '0' at 'resourcesPerPage'",
            value("greater", 1),
        ),
        (
            json!({"ResourcesPerPage": 101}),
            "Value '101' at 'resourcesPerPage'",
            value("less", 100),
        ),
        (
            json!({"TagsPerPage": 99}),
            "Value '99' at 'tagsPerPage'",
            value("greater", 100),
        ),
        (
            json!({"TagsPerPage": 501}),
            "Value '501' at 'tagsPerPage'",
            value("less", 500),
        ),
    ] {
        let message = violation(&format!(
            "{at} failed to satisfy constraint: Member must {must}"
        ));
        bench.tagging_invalid("GetResources", body, &message).await;
    }
    let most = json!({"TagFilters": filters(50), "ResourceTypeFilters": vec!["kms"; 100],
                      "ResourcesPerPage": 100, "TagsPerPage": 500});
    assert!(bench.resources(most).await.0.is_empty());
}
