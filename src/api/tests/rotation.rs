//! Rotation on demand and by the clock: what changes, what stays, and who is refused.

use super::ErrorCode as Code;
use super::fence::{at_once, between};
use super::*;

mod by_clock;
mod by_nodes;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const MINT: &str = "GenerateDataKeyWithoutPlaintext";
const OPERATIONS: [&str; 5] = [
    "EnableKeyRotation",
    "DisableKeyRotation",
    "GetKeyRotationStatus",
    "RotateKeyOnDemand",
    "ListKeyRotations",
];

/// As replies have it.
fn time(timestamp: Timestamp) -> f64 {
    (timestamp.0 / 1000) as f64 / 1000.0
}

impl Bench {
    async fn status(&self, id: &str) -> Value {
        self.done("GetKeyRotationStatus", json!({"KeyId": id}))
            .await
    }

    async fn rotate(&self, id: &str) {
        let answer = self.done("RotateKeyOnDemand", json!({"KeyId": id})).await;
        assert_eq!(answer, json!({"KeyId": key_arn(id)}));
    }

    async fn enable_rotation(&self, id: &str, days: u64) {
        let body = json!({"KeyId": id, "RotationPeriodInDays": days});
        assert_eq!(self.done("EnableKeyRotation", body).await, Value::Null);
    }

    /// `KeyMaterialState` and `RotationType` of every generation.
    async fn generations(&self, id: &str) -> Vec<(String, Option<String>)> {
        let body = json!({"KeyId": id, "IncludeKeyMaterial": "ALL_KEY_MATERIAL"});
        let listed = self.done("ListKeyRotations", body).await;
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let listed = listed["Rotations"].as_array().unwrap().iter();
        listed
            .map(|one| {
                let state = text(&one["KeyMaterialState"]).unwrap();
                (state, text(&one["RotationType"]))
            })
            .collect()
    }

    async fn material(&self, id: &str) -> Value {
        let described = self.done("DescribeKey", json!({"KeyId": id})).await;
        described["KeyMetadata"]["CurrentKeyMaterialId"].clone()
    }

    async fn rotate_due(&self) -> usize {
        let now = self.api.clock.now();
        self.api.rotate_due_keys(now).await.unwrap()
    }
}

#[tokio::test]
async fn a_schedule_is_set_changed_and_removed() {
    let bench = Bench::new().await;
    let id = bench.key().await;
    let none = json!({"KeyRotationEnabled": false, "KeyId": key_arn(&id)});
    assert_eq!(bench.status(&id).await, none);
    bench.done_to("DisableKeyRotation", &id).await;
    let scheduled = |days: u32, from: Timestamp| json!({"KeyRotationEnabled": true, "KeyId": key_arn(&id), "RotationPeriodInDays": days, "NextRotationDate": time(from.after(DAY * days))});
    let material = bench.material(&id).await;
    bench.done_to("EnableKeyRotation", &id).await;
    assert_eq!(bench.status(&id).await, scheduled(365, NOW));
    // Asked again, the date does not recede; another period begins now.
    bench.api.clock.advance(DAY);
    let revision = bench.api.keystore.revision();
    bench.enable_rotation(&key_arn(&id), 365).await;
    assert_eq!(bench.api.keystore.revision(), revision);
    assert_eq!(bench.status(&id).await, scheduled(365, NOW));
    for days in [90, 2560] {
        bench.enable_rotation(&id, days).await;
        let days = u32::try_from(days).unwrap();
        assert_eq!(bench.status(&id).await, scheduled(days, NOW.after(DAY)));
    }
    // Without a period, the one that there is stays, and the date.
    bench.api.clock.advance(DAY);
    bench.done_to("EnableKeyRotation", &id).await;
    assert_eq!(bench.status(&id).await, scheduled(2560, NOW.after(DAY)));
    bench.done_to("DisableKeyRotation", &id).await;
    assert_eq!(bench.status(&id).await, none);
    bench.done_to("EnableKeyRotation", &id).await;
    assert_eq!(bench.status(&id).await, scheduled(365, NOW.after(DAY * 2)));
    bench.done_to("DisableKeyRotation", &id).await;
    assert_eq!(bench.material(&id).await, material, "nothing was rotated");
}

#[tokio::test]
async fn requests_are_refused_before_and_after_lookup() {
    let bench = Bench::new().await;
    let id = bench.key().await;
    let nobody = bench.powerless("nobody").await;
    let null = "1 validation error detected: Value null at 'keyId' failed to satisfy constraint: Member must not be null";
    let aliases = "Key Aliases are not supported for this operation.";
    let unknown = format!("Key '{}' does not exist", key_arn(UNKNOWN));
    let foreign_region = format!("Invalid arn {}", "eu-west-1");
    let elsewhere = key_arn(&id).replace("us-east-1", "eu-west-1");
    for name in OPERATIONS {
        for (body, code, message) in [
            (json!({}), Code::ValidationException, null),
            (
                json!({"KeyId": "alias/a"}),
                Code::InvalidArnException,
                aliases,
            ),
            (json!({"KeyId": UNKNOWN}), Code::NotFoundException, &unknown),
            (
                json!({"KeyId": "foo"}),
                Code::NotFoundException,
                "Invalid keyId 'foo'",
            ),
            (
                json!({"KeyId": elsewhere}),
                Code::NotFoundException,
                &foreign_region,
            ),
            (
                json!({"KeyId": 7}),
                Code::SerializationException,
                "KeyId is not of the type or form that this operation takes.",
            ),
        ] {
            bench.refused(name, body, code, message).await;
        }
        let (code, message) = not_allowed(&nobody, name, &key_arn(&id), "identity");
        let body = json!({"KeyId": id});
        bench.refused_as(&nobody, name, body, code, &message).await;
    }
    for (days, must) in [
        (0, "greater than or equal to 90"),
        (-1, "greater than or equal to 90"),
        (89, "greater than or equal to 90"),
        (2561, "less than or equal to 2560"),
        (70_000, "less than or equal to 2560"),
    ] {
        let message = format!(
            "1 validation error detected: Value '{days}' at 'rotationPeriodInDays' failed to satisfy constraint: Member must have value {must}"
        );
        let body = json!({"KeyId": UNKNOWN, "RotationPeriodInDays": days});
        let code = Code::ValidationException;
        bench
            .refused("EnableKeyRotation", body, code, &message)
            .await;
    }
    assert_eq!(bench.generations(&id).await.len(), 1);
}

#[tokio::test]
async fn states_refuse_as_the_table_says() {
    let bench = Bench::new().await;
    let id = bench.key().await;
    bench.enable_rotation(&id, 90).await;
    let status = bench.status(&id).await;
    let changing = [
        "EnableKeyRotation",
        "DisableKeyRotation",
        "RotateKeyOnDemand",
    ];
    bench.done_to("DisableKey", &id).await;
    for name in changing {
        let body = json!({"KeyId": id});
        bench.disabled(name, body, &id).await;
    }
    assert_eq!(bench.status(&id).await, status, "as it was");
    bench.done_to("ScheduleKeyDeletion", &id).await;
    for name in changing {
        let message = format!("{} is pending deletion.", key_arn(&id));
        let (body, code) = (json!({"KeyId": id}), Code::KMSInvalidStateException);
        bench.refused(name, body, code, &message).await;
    }
    let none = json!({"KeyRotationEnabled": false, "KeyId": key_arn(&id)});
    assert_eq!(bench.status(&id).await, none);
    assert_eq!(bench.generations(&id).await.len(), 1);
    bench.done_to("CancelKeyDeletion", &id).await;
    assert_eq!(bench.status(&id).await, status, "restored");
}

#[tokio::test]
async fn what_was_encrypted_before_a_rotation_opens_after_it() {
    let bench = Bench::new().await;
    let id = bench.key().await;
    let context = json!({"a": "1"});
    let seal = json!({"KeyId": id, "Plaintext": encoded(b"secret"), "EncryptionContext": context});
    let mint = json!({"KeyId": id, "KeySpec": "AES_256", "EncryptionContext": context});
    let (mut blobs, mut materials) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        let material = bench.material(&id).await;
        assert!(!materials.contains(&material));
        for (name, body) in [
            ("Encrypt", &seal),
            (MINT, &mint),
            ("GenerateDataKey", &mint),
        ] {
            let made = bench.done(name, body.clone()).await;
            if name != "Encrypt" {
                assert_eq!(made["KeyMaterialId"], material);
            }
            blobs.push((made["CiphertextBlob"].clone(), material.clone()));
        }
        materials.push(material);
        let fence = bench.api.keystore.snapshot().keys[&id.parse().unwrap()].fence;
        bench.rotate(&id).await;
        let moved = bench.api.keystore.snapshot().keys[&id.parse().unwrap()].fence;
        assert!(moved > fence);
    }
    for (blob, material) in &blobs {
        let body = json!({"CiphertextBlob": blob, "EncryptionContext": context, "KeyId": id});
        let opened = bench.done("Decrypt", body).await;
        assert_eq!(opened["KeyMaterialId"], *material);
        // The way from old material to new.
        let body = json!({"CiphertextBlob": blob, "SourceEncryptionContext": context, "DestinationKeyId": id});
        let moved = bench.done("ReEncrypt", body).await;
        assert_eq!(moved["SourceKeyMaterialId"], *material);
        assert_eq!(moved["DestinationKeyMaterialId"], bench.material(&id).await);
        let body = json!({"CiphertextBlob": moved["CiphertextBlob"]});
        let again = bench.done("Decrypt", body).await;
        assert_eq!(again["Plaintext"], opened["Plaintext"]);
    }
    // A blob that names another generation than it was sealed under does not open, nor one that
    // names none of the key's.
    for generation in [2, 9] {
        let mut blob = decoded(&blobs[0].0);
        blob[23] = generation;
        let body = json!({"CiphertextBlob": encoded(&blob), "EncryptionContext": context});
        let code = Code::InvalidCiphertextException;
        bench.refused("Decrypt", body, code, "").await;
    }
    let records = bench.records();
    let rotations = records
        .iter()
        .filter(|record| record["eventName"] == "RotateKeyOnDemand");
    let named = |record: &Value| record["additionalEventData"]["keyMaterialId"].clone();
    let named: Vec<_> = rotations.map(named).collect();
    assert_eq!(named[..2], materials[1..]);
}

#[tokio::test]
async fn rotations_on_demand_are_25_and_move_no_date() {
    let bench = Bench::new().await;
    let id = bench.key().await;
    bench.enable_rotation(&id, 90).await;
    let status = bench.status(&id).await;
    bench.api.clock.advance(DAY * 90);
    assert_eq!(bench.rotate_due().await, 1);
    let next = NOW.after(DAY * 180);
    for _ in 0..25 {
        bench.rotate(&id).await;
    }
    let after = bench.status(&id).await;
    assert_ne!(status["NextRotationDate"], after["NextRotationDate"]);
    assert_eq!(after["NextRotationDate"], time(next));
    let message = format!(
        "The on-demand rotations limit has been reached for the given keyId. No more on-demand rotations can be performed for this key: {}",
        key_arn(&id)
    );
    let code = Code::LimitExceededException;
    let body = json!({"KeyId": id});
    bench
        .refused("RotateKeyOnDemand", body, code, &message)
        .await;
    // Its date comes all the same.
    bench.api.clock.advance(DAY * 90);
    assert_eq!(bench.rotate_due().await, 1);
    assert_eq!(bench.generations(&id).await.len(), 28);
}

#[tokio::test]
async fn rotations_are_listed_in_pages() {
    let bench = Bench::new().await;
    let id = bench.key().await;
    let first = bench.material(&id).await;
    let list = |members: Value| {
        let mut body = json!({"KeyId": id});
        for (name, value) in members.as_object().unwrap() {
            body[name] = value.clone();
        }
        body
    };
    let empty = bench.done("ListKeyRotations", list(json!({}))).await;
    assert_eq!(empty, json!({"Rotations": [], "Truncated": false}));
    let all = json!({"IncludeKeyMaterial": "ALL_KEY_MATERIAL"});
    let only = bench.done("ListKeyRotations", list(all.clone())).await;
    // The first material has no date and no type.
    let expected =
        json!({"KeyId": key_arn(&id), "KeyMaterialId": first, "KeyMaterialState": "CURRENT"});
    assert_eq!(only["Rotations"], json!([expected]));
    let mut materials = vec![first];
    for _ in 0..4 {
        bench.rotate(&id).await;
        materials.push(bench.material(&id).await);
    }
    for (include, materials) in [
        ("ALL_KEY_MATERIAL", &materials[..]),
        ("ROTATIONS_ONLY", &materials[1..]),
    ] {
        let (mut seen, mut marker) = (Vec::new(), Value::Null);
        loop {
            let body = list(json!({"IncludeKeyMaterial": include, "Limit": 2, "Marker": marker}));
            let page = bench.done("ListKeyRotations", body).await;
            let entries = page["Rotations"].as_array().unwrap();
            assert!(entries.len() <= 2);
            seen.extend(entries.iter().map(|one| one["KeyMaterialId"].clone()));
            if page["Truncated"] == false {
                assert!(page.get("NextMarker").is_none());
                break;
            }
            marker = page["NextMarker"].clone();
        }
        assert_eq!(seen, materials, "{include}");
    }
    let page = list(json!({"Limit": 1}));
    let marker = bench.done("ListKeyRotations", page).await["NextMarker"].clone();
    let mut other = all;
    other["Marker"] = marker.clone();
    let third = json!({"KeyId": bench.key().await, "Marker": marker});
    for body in [list(other), third, list(json!({"Marker": "AAAA"}))] {
        let code = Code::InvalidMarkerException;
        bench.refused("ListKeyRotations", body, code, "").await;
    }
    for (member, value, must) in [
        ("limit", json!(0), "have value greater than or equal to 1"),
        (
            "limit",
            json!(1001),
            "have value less than or equal to 1000",
        ),
        (
            "includeKeyMaterial",
            json!("ALL"),
            "satisfy enum value set: [ALL_KEY_MATERIAL, ROTATIONS_ONLY]",
        ),
    ] {
        let shown = value.to_string().replace('"', "");
        let message = format!(
            "1 validation error detected: Value '{shown}' at '{member}' failed to satisfy constraint: Member must {must}"
        );
        let member = format!("{}{}", member[..1].to_uppercase(), &member[1..]);
        let body = list(json!({member: value}));
        let code = Code::ValidationException;
        bench
            .refused("ListKeyRotations", body, code, &message)
            .await;
    }
}

#[tokio::test]
async fn a_condition_bounds_the_period() {
    let bench = Bench::new().await;
    let id = bench.key().await;
    let policy = json!({"Statement": {"Effect": "Allow", "Action": "kms:EnableKeyRotation", "Resource": "*",
        "Condition": {"NumericLessThanEquals": {"kms:RotationPeriodInDays": "180"}}}});
    let careful = bench.principal("careful", policy).await;
    // Without the member, the default is what is done.
    for (days, passes) in [
        (json!(180), true),
        (json!(181), false),
        (json!(null), false),
    ] {
        let body = json!({"KeyId": id, "RotationPeriodInDays": days});
        let answer = bench.call_as(&careful, "EnableKeyRotation", body).await;
        assert_eq!(answer.is_ok(), passes, "{days}: {answer:?}");
    }
    assert_eq!(bench.status(&id).await["RotationPeriodInDays"], 180);
}

#[tokio::test]
async fn the_status_alone_crosses_accounts() {
    let bench = Bench::new().await;
    let id = bench.key().await;
    let operator = Principal::operator(0, OTHER.parse().unwrap());
    let visitor = bench.principal_of(&operator, "visitor", allowing(&["kms:*"]));
    let visitor = visitor.await;
    let body = json!({"KeyId": key_arn(&id)});
    for shared in [false, true] {
        for name in OPERATIONS {
            let answer = bench.call_as(&visitor, name, body.clone()).await;
            if shared && name == "GetKeyRotationStatus" {
                assert_eq!(answer.unwrap(), bench.status(&id).await);
            } else {
                assert_eq!(answer, Err(foreign(&visitor, name)), "{name}");
            }
        }
        let all = json!([
            to(&root_of(ACCOUNT), &["kms:*"]),
            to(&visitor.arn, &["kms:*"])
        ]);
        bench.put_policy(&id, all).await;
    }
    let bare = format!("Key 'arn:aws:kms:us-east-1:{OTHER}:key/{id}' does not exist");
    let (body, code) = (json!({"KeyId": id}), Code::NotFoundException);
    bench
        .refused_as(&visitor, "GetKeyRotationStatus", body, code, &bare)
        .await;
}

#[tokio::test]
async fn pool_4_a_rotation_between_work_and_last_check_is_seen() {
    let bench = Bench::new().await;
    let id = bench.key().await;
    let before = bench.material(&id).await;
    for (number, name) in [MINT, "GenerateDataKey"].into_iter().enumerate() {
        let (api, key) = (Arc::clone(&bench.api), json!({"KeyId": id}));
        between(1, move || at_once(&api, "RotateKeyOnDemand", &key));
        let body = json!({"KeyId": id, "KeySpec": "AES_256"});
        let made = bench.done(name, body).await;
        BETWEEN.set(None);
        assert_ne!(made["KeyMaterialId"], before);
        assert_eq!(made["KeyMaterialId"], bench.material(&id).await);
        assert_eq!(bench.generations(&id).await.len(), number + 2);
    }
}

#[tokio::test]
async fn a_batch_ends_where_its_material_does() {
    let bench = Bench::new().await;
    let id = bench.key().await;
    let body = json!({"KeyId": id, "KeySpec": "AES_256", "Count": 1_000_000});
    for by_clock in [false, true] {
        let mut batch = bench.batch(&bench.admin, body.clone()).unwrap();
        let mut blobs = Vec::new();
        let chunk = batch.blobs(&mut blobs);
        if by_clock {
            bench.enable_rotation(&id, 90).await;
            batch.blobs(&mut blobs);
            bench.api.clock.advance(DAY * 90);
            assert_eq!(bench.rotate_due().await, 1);
        } else {
            bench.rotate(&id).await;
        }
        let before = blobs.clone();
        let error = batch.next_chunk(&mut blobs).unwrap_err();
        let message = format!(
            "{} was rotated while the batch was under way.",
            key_arn(&id)
        );
        assert_eq!(
            (error.code(), error.message()),
            (Code::ConflictException, message.as_str())
        );
        assert_eq!(blobs, before, "nothing of the refused chunk");
        assert!(batch.handed_out() >= chunk as u64);
        let opened = json!({"CiphertextBlob": encoded(&blobs[..96])});
        let opened = bench.done("Decrypt", opened).await;
        assert_eq!(opened["KeyMaterialId"], batch.material().to_string());
    }
}
