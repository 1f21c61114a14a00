use super::*;
use serde_json::{Value, json};

const ADDITIONAL: &[u8] = b"project=nile,department=marketing";

fn text(value: &Value) -> Vec<u8> {
    value.to_string().into_bytes()
}

/// `value` with `member` replaced, or removed for `null`.
fn with(value: &Value, member: &str, new: Value) -> Vec<u8> {
    let mut value = value.clone();
    let members = value.as_object_mut().unwrap();
    match new {
        Value::Null => drop(members.remove(member)),
        new => drop(members.insert(member.to_owned(), new)),
    }
    text(&value)
}

fn reason<T>(parsed: Result<T, InvalidAnswer>) -> &'static str {
    parsed.err().map_or("taken", |InvalidAnswer(reason)| reason)
}

const OF_TYPE: &str = "a member is missing, or not of its type";

#[test]
fn an_answer_is_a_json_object() {
    for (body, expected) in [
        ("", "it is not a JSON object"),
        ("[\"AAEC\"]", "it is not a JSON object"),
        ("\"AAEC\"", "it is not a JSON object"),
        ("<html>", "it is not a JSON object"),
        ("{\"plaintext\":\"AAEC\"", "its JSON ends early"),
        ("{\"plaintext\":\"AAEC\"}x", "it is not JSON"),
        ("{plaintext:\"AAEC\"}", "it is not JSON"),
        ("{\"plaintext\":\"AAEC\",\"plaintext\":\"AAEC\"}", OF_TYPE),
        ("{\"Plaintext\":\"AAEC\"}", OF_TYPE),
        ("{\"plaintext\":null}", OF_TYPE),
        ("{\"plaintext\":[0,1,2]}", OF_TYPE),
        ("{\"plaintext\":\"AAE\"}", OF_TYPE),
        ("{\"plaintext\":\"AA\\nEC\"}", OF_TYPE),
        ("{\"plaintext\":\"AA-_\"}", OF_TYPE),
        (" {\"plaintext\":\"AAEC\",\"new\":{\"a\":[1]}}\n", "taken"),
    ] {
        assert_eq!(reason(decrypted(body.as_bytes(), 3)), expected, "{body}");
    }
}

#[test]
fn a_plaintext_is_as_long_as_its_ciphertext() {
    let body = text(&json!({"plaintext": "AAEC"}));
    assert_eq!(decrypted(&body, 3), Ok(vec![0, 1, 2]));
    for bytes in [0, 2, 4] {
        let expected = "plaintext is not as long as the ciphertext";
        assert_eq!(reason(decrypted(&body, bytes)), expected);
    }
}

fn sealed() -> Value {
    let sealed = Sealed::new(vec![1; 5], &[2; 12], [3; 16], b"m").unwrap();
    let base64 = |bytes: &[u8]| base64_simd::STANDARD.encode_to_string(bytes);
    json!({
        "ciphertext": base64(sealed.ciphertext()),
        "initializationVector": base64(sealed.vector()),
        "authenticationTag": base64(sealed.tag()),
        "ciphertextMetadata": base64(sealed.metadata()),
        "ciphertextDataIntegrityValue": base64(&sealed.integrity_value(ADDITIONAL)),
    })
}

#[test]
fn a_ciphertext_has_its_lengths_and_its_integrity_value() {
    let good = sealed();
    let parsed = encrypted(&text(&good), 5, ADDITIONAL).unwrap();
    assert_eq!(
        (parsed.ciphertext(), parsed.vector()),
        ([1; 5].as_slice(), [2; 12].as_slice())
    );
    assert_eq!(
        (parsed.tag(), parsed.metadata()),
        (&[3; 16], b"m".as_slice())
    );
    let zeros = |bytes: usize| Value::from(base64_simd::STANDARD.encode_to_string(vec![0; bytes]));
    let vector = "initializationVector has not 12 or 16 bytes";
    let tag = "authenticationTag has not 16 bytes";
    let value = "ciphertextDataIntegrityValue is another one";
    for (member, new, expected) in [
        ("ciphertext", Value::Null, OF_TYPE),
        (
            "ciphertext",
            zeros(4),
            "ciphertext is not as long as the plaintext",
        ),
        (
            "ciphertext",
            zeros(6),
            "ciphertext is not as long as the plaintext",
        ),
        ("ciphertext", zeros(5), value),
        ("initializationVector", Value::Null, OF_TYPE),
        ("initializationVector", zeros(0), vector),
        ("initializationVector", zeros(13), vector),
        ("initializationVector", zeros(12), value),
        ("authenticationTag", Value::Null, OF_TYPE),
        ("authenticationTag", zeros(15), tag),
        ("authenticationTag", zeros(17), tag),
        ("authenticationTag", zeros(16), value),
        (
            "ciphertextMetadata",
            zeros(21),
            "ciphertextMetadata has more than 20 bytes",
        ),
        ("ciphertextMetadata", zeros(1), value),
        ("ciphertextMetadata", Value::Null, value),
        ("ciphertextDataIntegrityValue", Value::Null, OF_TYPE),
        ("ciphertextDataIntegrityValue", zeros(32), value),
        ("ciphertextDataIntegrityValue", zeros(31), value),
        ("ciphertextDataIntegrityValue", zeros(0), value),
    ] {
        let parsed = encrypted(&with(&good, member, new.clone()), 5, ADDITIONAL);
        assert_eq!(reason(parsed), expected, "{member} {new}");
    }
    // It is the value of what was asked for, too.
    assert_eq!(reason(encrypted(&text(&good), 5, b"other")), value);
}

#[test]
fn metadata_may_be_absent_and_a_vector_have_16_bytes() {
    let sealed = Sealed::new(vec![1; 5], &[2; 16], [3; 16], b"").unwrap();
    let base64 = |bytes: &[u8]| base64_simd::STANDARD.encode_to_string(bytes);
    let body = json!({
        "ciphertext": base64(sealed.ciphertext()),
        "initializationVector": base64(sealed.vector()),
        "authenticationTag": base64(sealed.tag()),
        "ciphertextDataIntegrityValue": base64(&sealed.integrity_value(b"")),
    });
    assert_eq!(encrypted(&text(&body), 5, b""), Ok(sealed));
}

#[test]
fn a_key_is_usable_with_its_spec_both_usages_and_its_status() {
    let good = json!({
        "keySpec": "AES_256",
        "keyUsage": ["ENCRYPT", "DECRYPT", "WRAP"],
        "keyStatus": "ENABLED",
    });
    assert!(key_metadata(&text(&good)).unwrap().is_usable());
    for (member, new) in [
        ("keySpec", json!("AES_128")),
        ("keyUsage", json!([])),
        ("keyUsage", json!(["ENCRYPT"])),
        ("keyUsage", json!(["DECRYPT", "encrypt"])),
        ("keyStatus", json!("DISABLED")),
    ] {
        let parsed = key_metadata(&with(&good, member, new.clone())).unwrap();
        assert!(!parsed.is_usable(), "{member} {new}");
        assert_eq!(parsed.is_enabled, member != "keyStatus");
    }
    for (member, new, expected) in [
        ("keySpec", Value::Null, OF_TYPE),
        ("keyUsage", Value::Null, OF_TYPE),
        ("keyUsage", json!("ENCRYPT"), OF_TYPE),
        (
            "keyUsage",
            json!(vec!["a"; 11]),
            "keyUsage has more than 10 members",
        ),
        ("keyStatus", Value::Null, OF_TYPE),
        ("keyStatus", json!("enabled"), OF_TYPE),
    ] {
        let parsed = key_metadata(&with(&good, member, new.clone()));
        assert_eq!(reason(parsed), expected, "{member} {new}");
    }
}

#[test]
fn health_has_a_fleet_and_its_managers() {
    let manager = |status: &str| json!({"id": "a", "model": "b", "healthStatus": status});
    let good = json!({
        "xksProxyFleetSize": 2,
        "xksProxyVendor": "v",
        "xksProxyModel": "m",
        "ekmVendor": "e",
        "ekmFleetDetails": [manager("ACTIVE"), manager("DEGRADED"), manager("UNAVAILABLE")],
    });
    let parsed = health(&text(&good)).unwrap();
    assert_eq!(parsed.fleet_size, 2);
    let statuses = [
        HealthStatus::Active,
        HealthStatus::Degraded,
        HealthStatus::Unavailable,
    ];
    assert_eq!(parsed.managers, statuses);
    let count = "ekmFleetDetails has not 1 to 10 members";
    for (member, new, expected) in [
        ("xksProxyFleetSize", json!(0), "xksProxyFleetSize is 0"),
        ("xksProxyFleetSize", json!(-1), OF_TYPE),
        ("xksProxyFleetSize", Value::Null, OF_TYPE),
        ("xksProxyVendor", Value::Null, OF_TYPE),
        ("xksProxyModel", Value::Null, OF_TYPE),
        ("ekmVendor", Value::Null, OF_TYPE),
        ("ekmFleetDetails", Value::Null, OF_TYPE),
        ("ekmFleetDetails", json!([]), count),
        ("ekmFleetDetails", json!(vec![manager("ACTIVE"); 11]), count),
        ("ekmFleetDetails", json!([manager("FINE")]), OF_TYPE),
        (
            "ekmFleetDetails",
            json!([{"id": "a", "healthStatus": "ACTIVE"}]),
            OF_TYPE,
        ),
    ] {
        let parsed = health(&with(&good, member, new.clone()));
        assert_eq!(reason(parsed), expected, "{member} {new}");
    }
}

#[test]
fn a_refusal_has_a_name_of_the_specification() {
    for name in ErrorName::ALL {
        for body in [
            json!({"errorName": name.name()}),
            json!({"errorName": name.name(), "errorMessage": "why"}),
        ] {
            assert_eq!(
                refusal(name.status(), &text(&body)),
                ProxyError::Refused(*name)
            );
        }
    }
    let unnamed = "status 404 without a known errorName".to_owned();
    for body in [
        "",
        "<html>",
        "{}",
        "[\"KeyNotFoundException\"]",
        "{\"errorName\":\"NotFoundException\"}",
        "{\"errorname\":\"KeyNotFoundException\"}",
        "{\"errorName\":null}",
    ] {
        let refused = refusal(StatusCode::NOT_FOUND, body.as_bytes());
        assert_eq!(
            refused,
            ProxyError::InvalidResponse(unnamed.clone()),
            "{body}"
        );
    }
}
