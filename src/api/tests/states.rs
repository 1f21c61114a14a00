//! What each operation makes of a key's state: every operation with every kind of key, in every
//! state that keys have here.
//!
//! Sources: AWS KMS Developer Guide, "Key states of AWS KMS keys", and what was measured on AWS in
//! September 2026: the origin of the key's material is told first, then its usage, then its state,
//! and only then that its spec or an algorithm does not fit.

use super::ErrorCode as Code;
use super::key_stores::{NOT_CONNECTED, Scene, new_key};
use super::regions::{EAST, WEST};
use super::*;

mod stateful;
mod table;

use stateful::{Peers, Stateful, region_of};
use table::*;

/// Every operation on this key: those that do not end as the table says.
async fn wrong_ends(key: &Stateful<'_>) -> Vec<String> {
    let mut wrong = Vec::new();
    for operation in Operation::ALL.iter().copied() {
        let Some(row) = row(operation) else {
            continue;
        };
        key.put_back().await;
        let region = region_of(key.related);
        let body = key.body(operation);
        let answer = key.bench.call_in(region, operation.name(), body).await;
        let (answer, expected) = (answer.map(drop), key.expected(operation, &row));
        if answer != expected {
            let (kind, related, state) = (key.kind, key.related, STATES[key.state]);
            let what = format!("{operation} of {kind:?}, {related:?}, {state}");
            wrong.push(format!("{what}: {answer:?}, not {expected:?}"));
        }
    }
    wrong
}

#[tokio::test]
async fn every_operation_ends_in_every_state_of_every_kind_of_key_as_the_table_says() {
    let bench = Bench::new().await;
    let peers = Peers::new(&bench, EAST).await;
    let mut wrong = Vec::new();
    for kind in KINDS {
        for state in Related::Not.states() {
            if *state == PENDING_IMPORT && kind.spec.starts_with("ML_") {
                continue; // There are none of origin `EXTERNAL`.
            }
            let key = Stateful::new(&bench, &peers, kind, *state).await;
            wrong.extend(wrong_ends(&key).await);
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn every_operation_ends_in_every_state_of_related_keys_as_the_table_says() {
    let bench = Bench::new().await;
    let mut wrong = Vec::new();
    for related in [Related::Primary, Related::Replica] {
        let peers = Peers::new(&bench, region_of(related)).await;
        for kind in MULTI_REGION_KINDS {
            for state in related.states() {
                if *state == PENDING_IMPORT && kind.spec != SYMMETRIC.spec {
                    continue; // These tests wrap the material of symmetric keys.
                }
                let key = Stateful::related(&bench, &peers, kind, related, *state).await;
                wrong.extend(wrong_ends(&key).await);
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn every_operation_ends_in_every_state_of_keys_in_a_key_store_as_the_table_says() {
    let scene = Scene::new().await;
    let peers = Peers::new(&scene.bench, EAST).await;
    let store = scene.connected().await;
    let mut wrong = Vec::new();
    for state in IN_KEY_STORE_STATES {
        let key = Stateful::in_key_store(&scene, &peers, &store, state).await;
        wrong.extend(wrong_ends(&key).await);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn what_is_about_no_key_is_performed() {
    let bench = Bench::new().await;
    let without: Vec<_> = Operation::ALL
        .iter()
        .filter(|one| row(**one).is_none())
        .collect();
    for operation in without {
        let body = json!({"NumberOfBytes": 1, "RetiringPrincipal": root_of(ACCOUNT)});
        let answer = bench.call(operation.name(), body).await;
        // Those on one key store have tests of their own, in `key_stores`.
        if operation.name().ends_with("CustomKeyStore") {
            continue;
        }
        assert!(answer.is_ok(), "{operation}: {answer:?}");
    }
}

#[tokio::test]
async fn members_that_fit_no_key_are_told_after_usage_and_state() {
    let bench = Bench::new().await;
    let peers = Peers::new(&bench, EAST).await;
    for (kind, state, end) in [
        (SIGN, DISABLED, "is disabled."),
        (SIGN, PENDING_DELETION, "is pending deletion."),
        (SIGN, PENDING_IMPORT, "is pending import."),
        (MAC, DISABLED, "is disabled."),
        (MAC, PENDING_DELETION, "is pending deletion."),
        (MAC, PENDING_IMPORT, "is pending import."),
    ] {
        let key = Stateful::new(&bench, &peers, kind, state).await;
        let (name, body) = match kind {
            // Of other curves, and with a message type that no such key takes.
            SIGN => (
                "Sign",
                json!({"SigningAlgorithm": "ECDSA_SHA_384", "MessageType": "EXTERNAL_MU"}),
            ),
            _ => ("GenerateMac", json!({"MacAlgorithm": "HMAC_SHA_512"})),
        };
        let body = with(body, "Message", json!("AAEC"));
        let body = with(body, "KeyId", json!(key.entry.key.id.to_string()));
        let (_, message) = bench.call(name, body).await.unwrap_err();
        assert_eq!(message, format!("{} {end}", key.entry.arn));
    }
}
