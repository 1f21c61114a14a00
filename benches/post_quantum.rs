//! Requests with post-quantum keys, one connection over TCP, on one server core: beside the time
//! that the library takes alone, its expansion of the seed included, and a plain request. A plain
//! request is one for a wrapped `AES_256` key. And data key pairs out of a full lane: of ML-KEM and
//! of SM2 beside that plain request alone, of RSA beside the making of one.
//!
//! The library is measured on the client's core, in turns with the daemon. ML-DSA draws a random
//! number of candidates for a signature, and RSA of primes, so a turn is a mean over many. SM2 is
//! of a China Region, where the KMS key that wraps a pair, or the plain request's key, is SM4.

#![expect(clippy::unwrap_used, reason = "a bench fails by panicking")]

mod machine;
mod rows;
mod served;

use aws_lc_rs::rsa::{self, KeySize};
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
/// Pairs of a full lane, but for RSA.
const PAIRS: usize = 1_024;
/// An RSA pair takes a core a tenth of a second.
const RSA_PAIRS: usize = 64;
/// RSA pairs that are made in a turn.
const RSA_MADE: usize = 16;
/// How long a lane may take to fill.
const FILL_MAX: Duration = Duration::from_secs(60);
const MESSAGE: &[u8] = &[7; 64];

fn main() {
    if !machine::begins() {
        return;
    }
    let daemon = holding(PAIRS, &[]);
    pin(CLIENT_CORE);
    let mut client = daemon.address(Transport::Tcp).connect();
    sign(&daemon, &mut client);
    decapsulate(&daemon, &mut client);
    let lane = Lane::begin(&daemon, "ML_KEM_768", PAIRS);
    beside_plain(&lane, "a pair of ML_KEM_768 out of a full lane");
    drop(daemon);
    let china = holding(PAIRS, &[("KEYMILL_REGION", "cn-north-1")]);
    let lane = Lane::begin(&china, "SM2", PAIRS);
    beside_plain(&lane, "a pair of SM2 out of a full lane");
    drop(china);
    rsa(&holding(RSA_PAIRS, &[]));
}

/// A daemon whose lanes hold so many pairs.
fn holding(pairs: usize, variables: &[(&str, &str)]) -> Daemon {
    let pairs = pairs.to_string();
    let own = [("KEYMILL_POOL__PAIRS_PER_SPEC", pairs.as_str())];
    Daemon::start_with(Some(SERVER_CORE), &[variables, &own].concat())
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

/// The lane of a spec, from which each turn takes fewer pairs than it has when it is full, so that
/// none is waited for.
struct Lane<'a> {
    daemon: &'a Daemon,
    spec: &'static str,
    pairs: usize,
}

impl<'a> Lane<'a> {
    /// The first request of a spec begins its lane, and waits for its pair.
    fn begin(daemon: &'a Daemon, spec: &'static str, pairs: usize) -> Self {
        let lane = Self {
            daemon,
            spec,
            pairs,
        };
        lane.client().call(&lane.request());
        lane
    }

    fn client(&self) -> Client {
        self.daemon.address(Transport::Tcp).connect()
    }

    fn request(&self) -> Vec<u8> {
        let body = json!({"KeyId": "alias/containers", "KeyPairSpec": self.spec});
        let target = "TrentService.GenerateDataKeyPairWithoutPlaintext";
        self.daemon.admin_request(target, &body.to_string())
    }

    /// Waits until the lane is full.
    fn fill(&self) {
        let clock = Clock::system();
        let lane = format!("pairs/{}", self.spec);
        while self.daemon.metric("keymill_pool_depth", &lane) < self.pairs as f64 {
            assert!(clock.monotonic() < FILL_MAX, "{lane} does not fill");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Mean microseconds of a pair: of more than half of the lane, below which it is filled anew.
    fn take(&self, client: &mut Client) -> f64 {
        let request = self.request();
        mean(self.pairs * 5 / 8, || client.call(&request))
    }

    /// Fails if a request waited for a pair, after the one that began the lane.
    fn check_hits(&self) {
        let misses = format!(r#"spec="{}",result="miss""#, self.spec);
        assert!(self.daemon.metric("keymill_data_keys_total", &misses) <= 1.0);
    }
}

fn beside_plain(lane: &Lane<'_>, name: &str) {
    let mut client = lane.client();
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        lane.fill();
        let plain = lane.daemon.request(Call::One, Transport::Tcp);
        ours.push(lane.take(&mut client));
        theirs.push(mean(CALLS, || client.call(&plain)));
    }
    lane.check_hits();
    Row::new(name, "µs")
        .beside("a pair", ours, "an AES_256 key", theirs)
        .reach(Goal::AtMost(1.3));
}

fn rsa(daemon: &Daemon) {
    let lane = Lane::begin(daemon, "RSA_2048", RSA_PAIRS);
    let mut client = lane.client();
    let (mut made, mut taken) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        // No pair is made meanwhile but the one that is measured.
        lane.fill();
        made.push(mean(RSA_MADE, || {
            black_box(rsa::KeyPair::generate(KeySize::Rsa2048).unwrap());
        }));
        taken.push(lane.take(&mut client));
    }
    lane.check_hits();
    Row::new("making a pair of RSA_2048, beside a full lane", "µs")
        .beside("making one", made, "a pair", taken)
        .reach(Goal::AtLeast(100.0));
}
