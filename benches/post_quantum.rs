//! Requests with post-quantum keys, one connection over TCP, on one server core: beside the time
//! that the library takes alone, its expansion of the seed included, and a plain request. A plain
//! request is one for a wrapped `AES_256` key. And a data key pair out of a full lane, beside that
//! plain request alone.
//!
//! The library is measured on the client's core, in turns with the daemon. ML-DSA draws a random
//! number of candidates for a signature, so a turn is a mean over many.

#![expect(clippy::unwrap_used, reason = "a bench fails by panicking")]

mod machine;
mod rows;
mod served;

use aws_lc_rs::signature::{ML_DSA_65_SIGNING, PqdsaKeyPair};
use keymill::clock::Clock;
use ml_kem::{Decapsulate, ml_kem_768};
use rows::{Goal, ROUNDS, Row};
use serde_json::{Value, json};
use served::{CLIENT_CORE, Call, Client, Daemon, SERVER_CORE, Transport, pin};
use std::hint::black_box;
use std::time::Duration;

/// Calls of one turn.
const CALLS: usize = 2_000;
/// Pairs of a full lane.
const PAIRS: usize = 1_024;
/// Pairs of a turn: more than half of the lane, below which it is filled anew, and less than all.
const TAKEN: usize = PAIRS * 5 / 8;
/// How long a lane may take to fill.
const FILL_MAX: Duration = Duration::from_secs(60);
const MESSAGE: &[u8] = &[7; 64];

fn main() {
    if !machine::begins() {
        return;
    }
    let pairs = PAIRS.to_string();
    let variables = [("KEYMILL_POOL__PAIRS_PER_SPEC", pairs.as_str())];
    let daemon = Daemon::start_with(Some(SERVER_CORE), &variables);
    pin(CLIENT_CORE);
    let mut client = daemon.address(Transport::Tcp).connect();
    sign(&daemon, &mut client);
    decapsulate(&daemon, &mut client);
    pair(&daemon, &mut client);
}

/// Mean microseconds of so many runs.
fn mean(runs: usize, mut run: impl FnMut()) -> f64 {
    let clock = Clock::system();
    let before = clock.monotonic();
    (0..runs).for_each(|_| run());
    (clock.monotonic() - before).as_secs_f64() * 1e6 / runs as f64
}

/// A new key of this kind.
fn create(daemon: &Daemon, client: &mut Client, spec: &str, usage: &str) -> Value {
    let body = json!({"KeySpec": spec, "KeyUsage": usage});
    let created = ask(daemon, client, "TrentService.CreateKey", &body);
    created["KeyMetadata"]["KeyId"].clone()
}

fn ask(daemon: &Daemon, client: &mut Client, target: &'static str, body: &Value) -> Value {
    let answer = client.answer(&daemon.admin_request(target, &body.to_string()));
    serde_json::from_slice(answer.body()).unwrap()
}

/// The row of an operation beside its library and a plain request.
fn beside(
    (daemon, client): (&Daemon, &mut Client),
    name: &str,
    (target, body): (&'static str, &Value),
    mut library: impl FnMut(),
) {
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        // A signature is good for five minutes.
        let request = daemon.admin_request(target, &body.to_string());
        let plain = daemon.request(Call::One, Transport::Tcp);
        ours.push(mean(CALLS, || client.call(&request)));
        let plain = mean(CALLS, || client.call(&plain));
        theirs.push(plain + mean(CALLS, &mut library));
    }
    Row::new(name, "µs")
        .beside("keymill", ours, "library and plain request", theirs)
        .reach(Goal::AtMost(1.15));
}

fn sign(daemon: &Daemon, client: &mut Client) {
    let key = create(daemon, client, "ML_DSA_65", "SIGN_VERIFY");
    let message = base64_simd::STANDARD.encode_to_string(MESSAGE);
    let body = json!({"KeyId": key, "Message": message, "SigningAlgorithm": "ML_DSA_SHAKE_256"});
    let request = ("TrentService.Sign", &body);
    beside((daemon, client), "Sign, ML_DSA_65", request, || {
        let pair = PqdsaKeyPair::from_seed(&ML_DSA_65_SIGNING, black_box(&[7; 32])).unwrap();
        let mut signature = vec![0; ML_DSA_65_SIGNING.signature_len()];
        pair.sign(black_box(MESSAGE), &mut signature).unwrap();
        black_box(signature);
    });
}

fn decapsulate(daemon: &Daemon, client: &mut Client) {
    let key = create(daemon, client, "ML_KEM_768", "ENCAPSULATE_DECAPSULATE");
    let body = json!({"KeyId": key, "EncapsulationAlgorithm": "ML_KEM"});
    let made = ask(daemon, client, "TrentService.Encapsulate", &body);
    let blob = &made["SharedSecretCiphertextBlob"];
    let body = json!({"KeyId": key, "EncapsulationAlgorithm": "ML_KEM", "SharedSecretCiphertextBlob": blob});
    let ciphertext = base64_simd::STANDARD.decode_to_vec(blob.as_str().unwrap());
    let ciphertext = ml_kem_768::Ciphertext::try_from(ciphertext.unwrap().as_slice()).unwrap();
    let request = ("TrentService.Decapsulate", &body);
    beside((daemon, client), "Decapsulate, ML_KEM_768", request, || {
        let key = ml_kem_768::DecapsulationKey::from_seed(black_box([7; 64]).into());
        black_box(key.decapsulate(black_box(&ciphertext)));
    });
}

/// Takes fewer pairs than a full lane has, so that none is waited for.
fn pair(daemon: &Daemon, client: &mut Client) {
    let target = "TrentService.GenerateDataKeyPairWithoutPlaintext";
    let body = json!({"KeyId": "alias/containers", "KeyPairSpec": "ML_KEM_768"});
    ask(daemon, client, target, &body);
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        fill(daemon);
        let request = daemon.admin_request(target, &body.to_string());
        let plain = daemon.request(Call::One, Transport::Tcp);
        ours.push(mean(TAKEN, || client.call(&request)));
        theirs.push(mean(CALLS, || client.call(&plain)));
    }
    let misses = r#"spec="ML_KEM_768",result="miss""#;
    assert!(daemon.metric("keymill_data_keys_total", misses) <= 1.0);
    Row::new("a pair of ML_KEM_768 out of a full lane", "µs")
        .beside("a pair", ours, "an AES_256 key", theirs)
        .reach(Goal::AtMost(1.3));
}

/// Waits until the lane is full.
fn fill(daemon: &Daemon) {
    let clock = Clock::system();
    let depth = || daemon.metric("keymill_pool_depth", "pairs/ML_KEM_768");
    while depth() < PAIRS as f64 {
        assert!(clock.monotonic() < FILL_MAX, "the lane does not fill");
        std::thread::sleep(Duration::from_millis(20));
    }
}
