//! Requests to an external key store: whatever the body holds, each operation answers or refuses,
//! and never with a failure of its own. What is encrypted opens to what was sent.
//!
//! The input's first byte chooses the operation, counted from `0`; the rest is the body, in which
//! `$text`, `$meta`, `$iv` and `$tag` stand for the parts of a ciphertext.

#![no_main]

use keymill::crypto::secret::Secret;
use keymill::xks::{Proxy, error, external_key, key_store};
use keymill_fuzz::{ACCOUNT, Inside};
use libfuzzer_sys::fuzz_target;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

/// Calls that one store is for, so that its log stays small.
const CALLS_MAX: u32 = 100_000;
const PREFIX: &str = "/kms/xks/v1";
const PATHS: [&str; 4] = ["health", "keys/main/metadata", "keys/main/encrypt", "keys/main/decrypt"];
const ENCRYPT: usize = 2;
const DECRYPT: usize = 3;

/// A store with a key store of one external key, and a ciphertext of it.
struct Daemon {
    inside: Inside,
    proxy: Proxy,
    names: Vec<(&'static str, String)>,
    calls: u32,
}

fn metadata() -> Value {
    json!({"awsPrincipalArn": "a", "kmsKeyArn": "k", "kmsOperation": "o", "kmsRequestId": "r"})
}

impl Daemon {
    fn new() -> Result<Self, Box<dyn Error>> {
        let inside = Inside::new()?;
        let key = inside.key("{}")?;
        let store = key_store::Config {
            uri_path: PREFIX.to_owned(),
            principal: format!("arn:aws:iam::{ACCOUNT}:user/aws-kms"),
            regions: vec!["us-east-1".to_owned()],
            client_common_names: Vec::new(),
        };
        let external = external_key::Config {
            store: "fuzz".to_owned(),
            id: "main".to_owned(),
            key,
            usage: external_key::USAGES.map(str::to_owned).to_vec(),
            aws_principals: Vec::new(),
            kms_operations: Vec::new(),
            kms_key_arns: Vec::new(),
        };
        let token_key = Arc::new(Secret::filled(|bytes| bytes.fill(7)));
        let proxy = Proxy::new(
            &BTreeMap::from([("fuzz".to_owned(), store)]),
            &BTreeMap::from([("main".to_owned(), external)]),
            Duration::from_secs(300),
            &token_key,
        );
        let mut daemon = Self {
            inside,
            proxy,
            names: Vec::new(),
            calls: 0,
        };
        let body = json!({
            "requestMetadata": metadata(),
            "plaintext": "AAEC",
            "encryptionAlgorithm": "AES_GCM",
        });
        let sealed = daemon.answer(ENCRYPT, body.to_string().as_bytes());
        let sealed = sealed.ok_or("a sound request was refused")?;
        let text = |member: &str| sealed[member].as_str().unwrap_or_default().to_owned();
        // No name begins with another that stands after it.
        daemon.names = vec![
            ("text", text("ciphertext")),
            ("meta", text("ciphertextMetadata")),
            ("iv", text("initializationVector")),
            ("tag", text("authenticationTag")),
        ];
        Ok(daemon)
    }

    /// The body with what its names stand for.
    fn filled(&self, body: &[u8]) -> Vec<u8> {
        let mut pieces = body.split(|byte| *byte == b'$');
        let mut filled = pieces.next().unwrap_or_default().to_vec();
        for piece in pieces {
            let of = |(name, _): &&(&str, String)| piece.starts_with(name.as_bytes());
            let found = self.names.iter().find(of);
            let (value, name) = found.map_or(("$", ""), |(name, value)| (value.as_str(), *name));
            filled.extend_from_slice(value.as_bytes());
            filled.extend_from_slice(&piece[name.len()..]);
        }
        filled
    }

    fn answer(&mut self, which: usize, body: &[u8]) -> Option<Value> {
        self.calls += 1;
        let path = format!("{PREFIX}/{}", PATHS[which % PATHS.len()]);
        let target = self.proxy.target(&path).expect("of the API");
        let target = target.unwrap_or_else(|_| unreachable!("{path} leads somewhere"));
        match self.inside.call_xks(&target, body) {
            Ok(text) => Some(serde_json::from_slice(&text).expect("an answer is JSON")),
            Err(refusal) => {
                let status = error::status(refusal.code()).as_u16();
                assert!(matches!(status, 400..=499 | 501), "{refusal:?}");
                let told: Value =
                    serde_json::from_slice(&error::body(&refusal)).expect("a refusal is JSON");
                assert_eq!(told["errorName"], refusal.code().name());
                None
            }
        }
    }

    fn call(&mut self, which: usize, body: &[u8]) {
        let body = self.filled(body);
        let answer = self.answer(which, &body);
        let (Some(mut sealed), ENCRYPT) = (answer, which % PATHS.len()) else {
            return;
        };
        // Members that are passed over may hold half a surrogate, which a `Value` cannot.
        let sent: BTreeMap<String, &RawValue> =
            serde_json::from_slice(&body).expect("a body that was taken is JSON");
        let member = |name: &str| -> Value {
            let raw = sent.get(name).map_or("null", |raw| raw.get());
            serde_json::from_str(raw).expect("a member that was read is JSON")
        };
        sealed["requestMetadata"] = metadata();
        sealed["encryptionAlgorithm"] = "AES_GCM".into();
        sealed["additionalAuthenticatedData"] = member("additionalAuthenticatedData");
        let opened = self.answer(DECRYPT, sealed.to_string().as_bytes());
        assert_eq!(opened.expect("it opens")["plaintext"], member("plaintext"));
    }
}

thread_local! {
    static DAEMON: RefCell<Option<Daemon>> = const { RefCell::new(None) };
}

fuzz_target!(|bytes: &[u8]| {
    let Some((which, body)) = bytes.split_first() else {
        return;
    };
    DAEMON.with_borrow_mut(|daemon| {
        if daemon.as_ref().is_some_and(|daemon| daemon.calls >= CALLS_MAX) {
            *daemon = None;
        }
        let daemon = daemon.get_or_insert_with(|| Daemon::new().expect("a daemon in a new folder"));
        daemon.call(usize::from(which.wrapping_sub(b'0')), body);
    });
});
