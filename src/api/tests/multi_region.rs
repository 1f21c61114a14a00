//! Multi-Region keys: created, replicated, used in each Region, deleted.

use super::ErrorCode as Code;
use super::regions::{EAST, WEST, arn_in};
use super::*;

mod imports;
mod primary;
mod rights;

impl Bench {
    /// A new primary key in the home Region.
    pub(super) async fn primary(&self, kind: Value) -> String {
        let body = merged(json!({"MultiRegion": true}), kind);
        let created = self.done("CreateKey", body).await;
        created["KeyMetadata"]["KeyId"].as_str().unwrap().to_owned()
    }

    pub(super) async fn replicate(&self, id: &str, region: &str) -> Value {
        let body = json!({"KeyId": id, "ReplicaRegion": region});
        self.done("ReplicateKey", body).await
    }

    pub(super) async fn metadata_in(&self, region: &str, id: &str) -> Value {
        let described = self.done_in(region, "DescribeKey", json!({"KeyId": id}));
        described.await["KeyMetadata"].take()
    }

    async fn state_in(&self, region: &str, id: &str) -> Value {
        self.metadata_in(region, id).await["KeyState"].take()
    }

    /// A blob of a data key that was made in a Region.
    async fn blob_in(&self, region: &str, id: &str) -> Value {
        let body = json!({"KeyId": id, "KeySpec": "AES_256", "EncryptionContext": {"a": "b"}});
        let made = self.done_in(region, "GenerateDataKeyWithoutPlaintext", body);
        made.await["CiphertextBlob"].take()
    }

    /// The key by which a blob opens in a Region.
    async fn opens_in(&self, region: &str, blob: &Value) -> Value {
        let body = json!({"CiphertextBlob": blob, "EncryptionContext": {"a": "b"}});
        let opened = self.done_in(region, "Decrypt", body).await;
        json!([opened["KeyId"], opened["Plaintext"]])
    }
}

fn merged(mut body: Value, more: Value) -> Value {
    let more = more.as_object().unwrap().clone();
    body.as_object_mut().unwrap().extend(more);
    body
}

/// `MultiRegionConfiguration`.
fn configuration(kind: &str, id: &str, primary: &str, replicas: &[&str]) -> Value {
    let member = |region: &&str| json!({"Arn": arn_in(region, id), "Region": region});
    json!({
        "MultiRegionKeyType": kind, "PrimaryKey": member(&primary),
        "ReplicaKeys": replicas.iter().map(member).collect::<Vec<_>>(),
    })
}

#[tokio::test]
async fn a_primary_key_says_so_and_its_blobs_do() {
    let bench = Bench::new().await;
    let id = bench.primary(json!({})).await;
    let digits = id.strip_prefix("mrk-").unwrap();
    let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    assert!(digits.len() == 32 && digits.bytes().all(is_hex), "{id}");
    let metadata = bench.metadata_in(EAST, &id).await;
    assert_eq!(metadata["MultiRegion"], true);
    let expected = configuration("PRIMARY", &id, EAST, &[]);
    assert_eq!(metadata["MultiRegionConfiguration"], expected);
    let blob = decoded(&bench.blob_in(EAST, &id).await);
    assert_eq!(blob[2..4], [0, 1], "flag bit 0");
    let ordinary = bench.key().await;
    let blob = decoded(&bench.blob_in(EAST, &ordinary).await);
    assert_eq!(blob[2..4], [0, 0]);
    let metadata = bench.metadata_in(EAST, &ordinary).await;
    assert!(metadata.get("MultiRegionConfiguration").is_none());
}

#[tokio::test]
async fn a_replica_is_usable_at_once_and_has_what_is_its_own() {
    let bench = Bench::new().await;
    let of_primary = json!({"Description": "first", "Tags": [{"TagKey": "a", "TagValue": "1"}]});
    let id = bench.primary(of_primary).await;
    let replicated = bench.replicate(&id, WEST).await;
    let west = arn_in(WEST, &id);
    let members = replicated.as_object().unwrap().keys().cloned();
    let expected = ["ReplicaKeyMetadata", "ReplicaPolicy"];
    assert_eq!(members.collect::<Vec<_>>(), expected);
    let metadata = &replicated["ReplicaKeyMetadata"];
    for (member, value) in [
        ("Arn", json!(west)),
        ("KeyId", json!(id)),
        ("KeyState", json!("Creating")),
        ("Enabled", json!(false)),
        ("Description", json!("")),
        ("MultiRegion", json!(true)),
        (
            "MultiRegionConfiguration",
            configuration("REPLICA", &id, EAST, &[WEST]),
        ),
    ] {
        assert_eq!(metadata[member], value, "{member}");
    }
    assert!(metadata.get("CurrentKeyMaterialId").is_none());
    let policy: Value =
        serde_json::from_str(replicated["ReplicaPolicy"].as_str().unwrap()).unwrap();
    assert_eq!(policy["Id"], "key-default-1");
    let (here, there) = (
        bench.metadata_in(EAST, &id).await,
        bench.metadata_in(WEST, &id).await,
    );
    assert_eq!(
        (&there["KeyState"], &there["Enabled"]),
        (&json!("Enabled"), &json!(true))
    );
    assert_eq!(here["CurrentKeyMaterialId"], there["CurrentKeyMaterialId"]);
    let expected = configuration("PRIMARY", &id, EAST, &[WEST]);
    assert_eq!(here["MultiRegionConfiguration"], expected);
    let tags = bench
        .done_in(WEST, "ListResourceTags", json!({"KeyId": id}))
        .await;
    assert_eq!(tags["Tags"], json!([]));
    // Description, state and tags of one are not those of the other.
    let update = json!({"KeyId": id, "Description": "second"});
    bench.done_in(WEST, "UpdateKeyDescription", update).await;
    bench
        .done_in(WEST, "DisableKey", json!({"KeyId": id}))
        .await;
    let here = bench.metadata_in(EAST, &id).await;
    assert_eq!(
        (&here["Description"], &here["KeyState"]),
        (&json!("first"), &json!("Enabled"))
    );
}

#[tokio::test]
async fn what_is_given_to_a_replica_is_answered() {
    let bench = Bench::new().await;
    let id = bench.primary(json!({})).await;
    let policy = json!({"Version": "2012-10-17", "Statement": [{
        "Effect": "Allow", "Principal": {"AWS": root_of(ACCOUNT)}, "Action": "kms:*", "Resource": "*",
    }]})
    .to_string();
    let tags = json!([{"TagKey": "b", "TagValue": "2"}]);
    let body = json!({"KeyId": arn_in(EAST, &id), "ReplicaRegion": WEST, "Policy": policy, "Description": "there", "Tags": tags});
    let replicated = bench.done("ReplicateKey", body).await;
    assert_eq!(replicated["ReplicaPolicy"], *policy);
    assert_eq!(replicated["ReplicaTags"], tags);
    assert_eq!(replicated["ReplicaKeyMetadata"]["Description"], "there");
    let read = bench
        .done_in(WEST, "GetKeyPolicy", json!({"KeyId": id}))
        .await;
    assert_eq!(read["Policy"], *policy);
    let read = bench
        .done_in(WEST, "ListResourceTags", json!({"KeyId": id}))
        .await;
    assert_eq!(read["Tags"], tags);
    let records = bench.records();
    let of = |name: &str| {
        let mut found = records.iter().rev();
        found.find(|record| record["eventName"] == name).unwrap()
    };
    let replicated = of("ReplicateKey");
    assert_eq!(replicated["awsRegion"], EAST);
    assert_eq!(replicated["requestParameters"]["replicaRegion"], WEST);
    assert_eq!(replicated["resources"][0]["ARN"], *arn_in(EAST, &id));
    assert_eq!(replicated["resources"][1]["ARN"], *arn_in(WEST, &id));
    let created = of("CreateKey");
    assert_eq!(created["awsRegion"], WEST);
    assert_eq!(created["eventType"], "AwsServiceEvent");
    assert_eq!(created["resources"][0]["ARN"], *arn_in(WEST, &id));
}

#[tokio::test]
async fn a_blob_opens_in_every_region_of_its_key() {
    let bench = Bench::new().await;
    let id = bench.primary(json!({})).await;
    let before = bench.blob_in(EAST, &id).await;
    bench.replicate(&id, WEST).await;
    let there = bench.blob_in(WEST, &id).await;
    for blob in [&before, &there] {
        let (east, west) = (
            bench.opens_in(EAST, blob).await,
            bench.opens_in(WEST, blob).await,
        );
        assert_eq!(east[0], *arn_in(EAST, &id));
        assert_eq!(west[0], *arn_in(WEST, &id));
        assert_eq!(east[1], west[1]);
    }
    for named in [id.clone(), arn_in(WEST, &id)] {
        let body =
            json!({"KeyId": named, "CiphertextBlob": before, "EncryptionContext": {"a": "b"}});
        let opened = bench.done_in(WEST, "Decrypt", body).await;
        assert_eq!(opened["KeyId"], *arn_in(WEST, &id));
    }
    let elsewhere = json!({"KeyId": arn_in(EAST, &id), "CiphertextBlob": before, "EncryptionContext": {"a": "b"}});
    let message =
        "The key ID in the request does not identify a CMK that can perform this operation.";
    let code = Code::IncorrectKeyException;
    bench
        .refused_in(WEST, "Decrypt", elsewhere, code, message)
        .await;
    // Whatever becomes of the primary key.
    bench.done_to("DisableKey", &id).await;
    assert_eq!(bench.opens_in(WEST, &before).await[0], *arn_in(WEST, &id));
    bench.done_to("ScheduleKeyDeletion", &id).await;
    assert_eq!(bench.opens_in(WEST, &before).await[0], *arn_in(WEST, &id));
}

#[tokio::test]
async fn other_kinds_of_keys_are_replicated_too() {
    let bench = Bench::new().await;
    let id = bench
        .primary(json!({"KeySpec": "ECC_NIST_P256", "KeyUsage": "SIGN_VERIFY"}))
        .await;
    bench.replicate(&id, WEST).await;
    let body = json!({"KeyId": id, "Message": "AAEC", "SigningAlgorithm": "ECDSA_SHA_256"});
    let signed = bench.done("Sign", body.clone()).await;
    let verify = with(body, "Signature", signed["Signature"].clone());
    let verified = bench.done_in(WEST, "Verify", verify).await;
    assert_eq!(verified["SignatureValid"], true);
    let public = [EAST, WEST].map(|region| {
        let bench = &bench;
        let body = json!({"KeyId": id});
        async move { bench.done_in(region, "GetPublicKey", body).await["PublicKey"].take() }
    });
    let [here, there] = public;
    assert_eq!(here.await, there.await);
    let id = bench
        .primary(json!({"KeySpec": "HMAC_256", "KeyUsage": "GENERATE_VERIFY_MAC"}))
        .await;
    bench.replicate(&id, WEST).await;
    let body = json!({"KeyId": id, "Message": "AAEC", "MacAlgorithm": "HMAC_SHA_256"});
    let made = bench.done_in(WEST, "GenerateMac", body.clone()).await;
    let verify = with(body, "Mac", made["Mac"].clone());
    assert_eq!(bench.done("VerifyMac", verify).await["MacValid"], true);
}

#[tokio::test]
async fn what_cannot_be_replicated_is_refused() {
    let bench = Bench::new().await;
    let (id, ordinary) = (bench.primary(json!({})).await, bench.key().await);
    let to = |id: &str, region: &str| json!({"KeyId": id, "ReplicaRegion": region});
    for (region, message) in [
        (
            EAST,
            "us-east-1 cannot have a replica because it contains the primary.",
        ),
        (
            "cn-north-1",
            "The replica key Region must be in the same AWS partition as the primary key Region.",
        ),
        (
            "us-invalid-1",
            "Region us-invalid-1 is not a valid Region or multi-Region keys are not supported in Region us-invalid-1.",
        ),
        (
            "west",
            "1 validation error detected: Value 'west' at 'replicaRegion' failed to satisfy constraint: Member must satisfy regular expression pattern: ^([a-z]+-){2,3}\\d+$",
        ),
    ] {
        bench
            .invalid("ReplicateKey", to(&id, region), message)
            .await;
    }
    let null = "1 validation error detected: Value null at 'replicaRegion' failed to satisfy constraint: Member must not be null";
    bench
        .invalid("ReplicateKey", json!({"KeyId": id}), null)
        .await;
    let code = Code::UnsupportedOperationException;
    let message = format!(
        "{} is not a multi-region primary key.",
        arn_in(EAST, &ordinary)
    );
    bench
        .refused("ReplicateKey", to(&ordinary, WEST), code, &message)
        .await;
    bench.replicate(&id, WEST).await;
    let message = format!("{} is not a multi-region primary key.", arn_in(WEST, &id));
    bench
        .refused_in(WEST, "ReplicateKey", to(&id, "eu-west-1"), code, &message)
        .await;
    bench.alias("alias/primary", &id).await;
    let alias = "Key Aliases are not supported for this operation.";
    let code = Code::InvalidArnException;
    bench
        .refused("ReplicateKey", to("alias/primary", WEST), code, alias)
        .await;
    let again = "You can create only one replica of each primary key in each AWS Region.";
    for _ in 0..2 {
        let code = Code::AlreadyExistsException;
        bench
            .refused("ReplicateKey", to(&id, WEST), code, again)
            .await;
        // Pending deletion, it is still there.
        let _scheduled = bench
            .call_in(WEST, "ScheduleKeyDeletion", json!({"KeyId": id}))
            .await;
    }
    let third = to(&id, "eu-west-1");
    bench.done_to("DisableKey", &id).await;
    bench.disabled("ReplicateKey", third.clone(), &id).await;
    bench.done_to("ScheduleKeyDeletion", &id).await;
    let message = format!("{} is pending replica deletion.", arn_in(EAST, &id));
    bench.invalid_state("ReplicateKey", third, &message).await;
    let alone = bench.primary(json!({})).await;
    bench.done_to("ScheduleKeyDeletion", &alone).await;
    bench
        .pending_deletion("ReplicateKey", to(&alone, WEST), &alone)
        .await;
}

#[tokio::test]
async fn a_rotation_reaches_the_replicas() {
    let bench = Bench::new().await;
    let id = bench.primary(json!({})).await;
    bench.replicate(&id, WEST).await;
    let old = bench.blob_in(WEST, &id).await;
    let enable = json!({"KeyId": id, "RotationPeriodInDays": 100});
    bench.done("EnableKeyRotation", enable).await;
    let status = |region: &'static str| {
        let (bench, id) = (&bench, &id);
        async move {
            let mut status = bench
                .done_in(region, "GetKeyRotationStatus", json!({"KeyId": id}))
                .await;
            assert_eq!(status["KeyId"], *arn_in(region, id));
            status["KeyId"].take();
            status
        }
    };
    assert_eq!(status(EAST).await, status(WEST).await);
    assert_eq!(status(WEST).await["RotationPeriodInDays"], 100);
    bench.done_to("RotateKeyOnDemand", &id).await;
    let new = bench.blob_in(WEST, &id).await;
    let generation = |blob: &Value| decoded(blob)[20..24].to_vec();
    assert_eq!(
        (generation(&old), generation(&new)),
        (vec![0, 0, 0, 1], vec![0, 0, 0, 2])
    );
    for blob in [&old, &new] {
        assert_eq!(bench.opens_in(EAST, blob).await[0], *arn_in(EAST, &id));
        assert_eq!(bench.opens_in(WEST, blob).await[0], *arn_in(WEST, &id));
    }
    // By the clock as well, once for all of them.
    let date = NOW.after(Duration::from_secs(100 * 24 * 60 * 60));
    assert_eq!(bench.api.rotate_due_keys(date).await.unwrap(), 1);
    assert_eq!(generation(&bench.blob_in(WEST, &id).await), [0, 0, 0, 3]);
    let all = json!({"KeyId": id, "IncludeKeyMaterial": "ALL_KEY_MATERIAL"});
    let mut lists = Vec::new();
    for region in [EAST, WEST] {
        let mut list = bench.done_in(region, "ListKeyRotations", all.clone()).await;
        for item in list["Rotations"].as_array_mut().unwrap() {
            assert_eq!(item["KeyId"].take(), *arn_in(region, &id));
        }
        lists.push(list);
    }
    assert_eq!(lists[0], lists[1]);
    let code = Code::UnsupportedOperationException;
    for name in [
        "EnableKeyRotation",
        "DisableKeyRotation",
        "RotateKeyOnDemand",
    ] {
        let message = format!(
            "{} is a multi-region replica key which is not valid for {name}.",
            arn_in(WEST, &id)
        );
        bench
            .refused_in(WEST, name, json!({"KeyId": id}), code, &message)
            .await;
    }
}

#[tokio::test]
async fn a_primary_key_is_deleted_after_its_replicas() {
    let bench = Bench::new().await;
    let id = bench.primary(json!({})).await;
    bench.replicate(&id, WEST).await;
    bench.replicate(&id, "eu-west-1").await;
    bench.done_to("EnableKeyRotation", &id).await;
    let schedule = json!({"KeyId": id, "PendingWindowInDays": 9});
    let east = arn_in(EAST, &id);
    let scheduled = bench.done("ScheduleKeyDeletion", schedule.clone()).await;
    assert_eq!(
        scheduled,
        json!({"KeyId": east, "KeyState": "PendingReplicaDeletion", "PendingWindowInDays": 9})
    );
    let metadata = bench.metadata_in(EAST, &id).await;
    assert_eq!(metadata["PendingDeletionWindowInDays"], 9);
    assert_eq!(metadata["Enabled"], false);
    assert!(metadata.get("DeletionDate").is_none());
    let status = bench.done_to("GetKeyRotationStatus", &id).await;
    assert_eq!(status["KeyRotationEnabled"], true);
    let pending = format!("{east} is pending replica deletion.");
    let body = json!({"KeyId": id, "KeySpec": "AES_256"});
    bench.invalid_state("GenerateDataKey", body, &pending).await;
    for name in ["EnableKey", "DisableKey", "ScheduleKeyDeletion"] {
        bench
            .invalid_state(name, json!({"KeyId": id}), &pending)
            .await;
    }
    // It can be cancelled.
    bench.done_to("CancelKeyDeletion", &id).await;
    assert_eq!(bench.state_in(EAST, &id).await, "Disabled");
    bench.done("ScheduleKeyDeletion", schedule).await;
    // The window begins when the last replica is removed, and not when that was scheduled.
    let days = |days: u64| NOW.after(Duration::from_secs(days * 24 * 60 * 60));
    for (region, window) in [(WEST, 7), ("eu-west-1", 8)] {
        let body = json!({"KeyId": id, "PendingWindowInDays": window});
        let scheduled = bench.done_in(region, "ScheduleKeyDeletion", body).await;
        assert_eq!(scheduled["KeyState"], "PendingDeletion");
    }
    assert_eq!(bench.api.remove_expired_keys(days(7)).await.unwrap(), 1);
    assert_eq!(bench.state_in(EAST, &id).await, "PendingReplicaDeletion");
    assert_eq!(bench.api.remove_expired_keys(days(8)).await.unwrap(), 1);
    let metadata = bench.metadata_in(EAST, &id).await;
    assert_eq!(metadata["KeyState"], "PendingDeletion");
    // 17 days after the beginning: the window of 9 begins on the eighth.
    assert_eq!(metadata["DeletionDate"], 1_701_468_800.123);
    let status = bench.done_to("GetKeyRotationStatus", &id).await;
    assert_eq!(status["KeyRotationEnabled"], false);
    assert_eq!(bench.api.remove_expired_keys(days(16)).await.unwrap(), 0);
    assert_eq!(bench.api.remove_expired_keys(days(17)).await.unwrap(), 1);
    bench
        .missing("DescribeKey", json!({"KeyId": id}), &id)
        .await;
}
