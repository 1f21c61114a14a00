//! Several Regions in one daemon, with keys of one Region each.

use super::ErrorCode as Code;
use super::*;

/// The home Region, and another.
pub(super) const EAST: &str = "us-east-1";
pub(super) const WEST: &str = "us-west-2";

impl Bench {
    /// Performs an operation for this principal in a Region.
    pub(super) async fn call_as_in(
        &self,
        who: &Arc<Principal>,
        region: &str,
        name: &str,
        body: Value,
    ) -> Result<Value, (Code, String)> {
        let operation = Operation::named(name).expect("a known operation");
        let region = self.api.keystore.regions().named(region).unwrap().number;
        let requester = Requester {
            region,
            ..Requester::local(Arc::clone(who))
        };
        let body = body.to_string();
        outcome(self.api.call(operation, &requester, body.as_bytes()).await)
    }

    pub(super) async fn call_in(
        &self,
        region: &str,
        name: &str,
        body: Value,
    ) -> Result<Value, (Code, String)> {
        self.call_as_in(&self.admin, region, name, body).await
    }

    pub(super) async fn done_in(&self, region: &str, name: &str, body: Value) -> Value {
        self.call_in(region, name, body).await.unwrap()
    }

    /// Expects a refusal in a Region with this code and message.
    pub(super) async fn refused_in(
        &self,
        region: &str,
        name: &str,
        body: Value,
        code: Code,
        message: &str,
    ) {
        let text = body.to_string();
        let answer = self.call_in(region, name, body).await;
        let expected = Err((code, message.to_owned()));
        assert_eq!(answer, expected, "{region} {name} {text}");
    }

    /// A new key in a Region.
    async fn key_in(&self, region: &str) -> String {
        let created = self.done_in(region, "CreateKey", json!({})).await;
        created["KeyMetadata"]["KeyId"].as_str().unwrap().to_owned()
    }
}

/// The ARN of a key in a Region.
pub(super) fn arn_in(region: &str, id: &str) -> String {
    format!("arn:aws:kms:{region}:{ACCOUNT}:key/{id}")
}

#[tokio::test]
async fn a_key_is_in_the_region_that_was_called() {
    let bench = Bench::new().await;
    let id = bench.key_in(WEST).await;
    let west = arn_in(WEST, &id);
    let described = bench
        .done_in(WEST, "DescribeKey", json!({"KeyId": id}))
        .await;
    assert_eq!(described["KeyMetadata"]["Arn"], *west);
    let missing = format!("Key '{}' does not exist", arn_in(EAST, &id));
    let code = Code::NotFoundException;
    for (region, named, message) in [
        (EAST, id.as_str(), missing.as_str()),
        (EAST, west.as_str(), "Invalid arn us-west-2"),
        (WEST, &arn_in(EAST, &id), "Invalid arn us-east-1"),
    ] {
        bench
            .refused_in(
                region,
                "DescribeKey",
                json!({"KeyId": named}),
                code,
                message,
            )
            .await;
    }
    let blob = json!({"KeyId": id, "KeySpec": "AES_256"});
    let made = bench
        .done_in(WEST, "GenerateDataKeyWithoutPlaintext", blob)
        .await;
    assert_eq!(made["KeyId"], *west);
    let blob = json!({"CiphertextBlob": made["CiphertextBlob"]});
    let opened = bench.done_in(WEST, "Decrypt", blob.clone()).await;
    assert_eq!(opened["KeyId"], *west);
    let message = "The ciphertext refers to a customer master key that does not exist, does not exist in this region, or you are not \
         allowed to access.";
    let code = Code::AccessDeniedException;
    bench.refused_in(EAST, "Decrypt", blob, code, message).await;
}

#[tokio::test]
async fn listings_and_names_are_of_one_region() {
    let bench = Bench::new().await;
    let (east, west) = (bench.key_in(EAST).await, bench.key_in(WEST).await);
    for (region, id) in [(EAST, &east), (WEST, &west)] {
        let alias = json!({"AliasName": "alias/one", "TargetKeyId": id});
        bench.done_in(region, "CreateAlias", alias).await;
    }
    for (region, id) in [(EAST, &east), (WEST, &west)] {
        let keys = bench.done_in(region, "ListKeys", json!({})).await;
        let key = json!({"KeyId": id, "KeyArn": arn_in(region, id)});
        assert_eq!(keys["Keys"], json!([key]), "{region}");
        let aliases = bench.done_in(region, "ListAliases", json!({})).await;
        let [alias] = aliases["Aliases"].as_array().unwrap().as_slice() else {
            panic!("{aliases}");
        };
        assert_eq!(alias["TargetKeyId"], **id);
        let arn = format!("arn:aws:kms:{region}:{ACCOUNT}:alias/one");
        assert_eq!(alias["AliasArn"], *arn);
        let named = json!({"KeyId": "alias/one"});
        let described = bench.done_in(region, "DescribeKey", named).await;
        assert_eq!(described["KeyMetadata"]["KeyId"], **id);
    }
    let third = bench.done_in("eu-west-1", "ListKeys", json!({})).await;
    assert_eq!(third, json!({"Keys": [], "Truncated": false}));
    bench
        .done_in(WEST, "DeleteAlias", json!({"AliasName": "alias/one"}))
        .await;
    let left = bench.done_in(EAST, "ListAliases", json!({})).await;
    assert_eq!(left["Aliases"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn grants_are_of_one_region() {
    let bench = Bench::new().await;
    let user = bench.powerless("grantee").await;
    let id = bench.key_in(WEST).await;
    let grant = json!({"KeyId": id, "GranteePrincipal": user.arn, "RetiringPrincipal": user.arn, "Operations": ["Encrypt"]});
    let made = bench.done_in(WEST, "CreateGrant", grant).await;
    let body = json!({"KeyId": id, "Plaintext": "AAEC"});
    assert!(bench.call_as_in(&user, WEST, "Encrypt", body).await.is_ok());
    let by = json!({"RetiringPrincipal": user.arn});
    for (region, count) in [(EAST, 0), (WEST, 1)] {
        let listed = bench
            .done_in(region, "ListRetirableGrants", by.clone())
            .await;
        assert_eq!(
            listed["Grants"].as_array().unwrap().len(),
            count,
            "{region}"
        );
    }
    // A token names a grant of the Region that is called.
    let gone = format!("Grant {} is not found.", made["GrantId"].as_str().unwrap());
    let token = json!({"GrantToken": made["GrantToken"]});
    let code = Code::NotFoundException;
    bench
        .refused_in(EAST, "RetireGrant", token.clone(), code, &gone)
        .await;
    bench.done_in(WEST, "RetireGrant", token).await;
}

#[tokio::test]
async fn conditions_and_records_say_the_region_that_was_called() {
    let bench = Bench::new().await;
    let only = json!({"Version": "2012-10-17", "Statement": [{
        "Effect": "Allow", "Action": "kms:CreateKey", "Resource": "*",
        "Condition": {"StringEquals": {"aws:RequestedRegion": WEST}},
    }]});
    let user = bench.principal("west", only).await;
    let refused = bench.call_as_in(&user, EAST, "CreateKey", json!({})).await;
    assert_eq!(refused.unwrap_err().0, Code::AccessDeniedException);
    let made = bench.call_as_in(&user, WEST, "CreateKey", json!({})).await;
    let arn = made.unwrap()["KeyMetadata"]["Arn"].clone();
    let body = json!({"KeyId": arn, "Plaintext": "AAEC"});
    bench.done_in(WEST, "Encrypt", body).await;
    let usage = bench
        .done_in(WEST, "GetKeyLastUsage", json!({"KeyId": arn}))
        .await;
    assert_eq!(usage["KeyLastUsage"]["Operation"], "Encrypt");
    let records = bench.records();
    let of = |name: &str| {
        let mut found = records.iter().rev();
        found.find(|record| record["eventName"] == name).unwrap()
    };
    assert_eq!(of("CreateKey")["awsRegion"], WEST);
    assert_eq!(of("Encrypt")["awsRegion"], WEST);
    assert_eq!(of("Encrypt")["resources"][0]["ARN"], arn);
}
