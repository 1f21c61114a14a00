//! Requests: whatever the body holds, every operation of the table answers or refuses, and never
//! with a failure of its own.
//!
//! The input's first byte chooses the operation, counted from `0` in the table's order, or the
//! batch after the last; the rest is the body, in which `$key` and the like stand for what the
//! store has. Of what is changed nothing stays for long: the store is made anew again and again.

#![no_main]

use keymill::api::ApiError;
use keymill::operation::Operation;
use keymill_fuzz::{ACCOUNT, Inside};
use libfuzzer_sys::fuzz_target;
use std::cell::RefCell;
use std::error::Error;

/// The byte that chooses the first operation.
const FIRST: u8 = b'0';
/// Calls that one store is for, so that its log stays small.
const CALLS_MAX: u32 = 100_000;
/// Changes that one store is for: later on no key would be enabled any more.
const CHANGES_MAX: u32 = 500;
/// Seconds of arithmetic, which say nothing of how requests are read.
const TOO_SLOW: [&[u8]; 2] = [b"RSA_3072", b"RSA_4096"];

/// A store with keys of several kinds, and what can be named of it.
struct Daemon {
    inside: Inside,
    names: Vec<(&'static str, String)>,
    calls: u32,
    changes: u32,
}

impl Daemon {
    fn new() -> Result<Self, Box<dyn Error>> {
        let inside = Inside::new()?;
        let key = inside.key("{}")?;
        let of = |spec: &str, usage: &str| {
            inside.key(&format!(r#"{{"KeySpec":"{spec}","KeyUsage":"{usage}"}}"#))
        };
        let agree = of("ECC_NIST_P256", "KEY_AGREEMENT")?;
        let out = inside.key(r#"{"Origin":"EXTERNAL"}"#)?;
        for (name, target) in [("a", &key), ("b", &out)] {
            let alias = format!(r#"{{"AliasName":"alias/{name}","TargetKeyId":"{target}"}}"#);
            inside
                .call("CreateAlias", alias.as_bytes())
                .map_err(|error| error.message().to_owned())?;
        }
        let member = |name: &str, body: String, member: &str| inside.member(name, &body, member);
        let grant = format!(
            r#"{{"KeyId":"{key}","GranteePrincipal":"arn:aws:iam::{ACCOUNT}:root","RetiringPrincipal":"arn:aws:iam::{ACCOUNT}:root","Operations":["Decrypt","Encrypt"]}}"#
        );
        let wrapping = format!(
            r#"{{"KeyId":"{out}","WrappingAlgorithm":"RSAES_OAEP_SHA_256","WrappingKeySpec":"RSA_2048"}}"#
        );
        let one = r#"{"Limit":1}"#.to_owned();
        let named = format!(r#"{{"KeyId":"{agree}"}}"#);
        let plaintext = format!(r#"{{"KeyId":"{key}","Plaintext":"AAEC"}}"#);
        // No name begins with another that stands after it.
        let names = vec![
            ("arn", format!("arn:aws:kms:us-east-1:{ACCOUNT}:key/{key}")),
            ("key", key),
            ("out", out),
            ("public", member("GetPublicKey", named, "PublicKey")?),
            ("agree", agree),
            ("sign", of("ECC_NIST_P256", "SIGN_VERIFY")?),
            ("rsa", of("RSA_2048", "ENCRYPT_DECRYPT")?),
            ("mac", of("HMAC_256", "GENERATE_VERIFY_MAC")?),
            ("blob", member("Encrypt", plaintext, "CiphertextBlob")?),
            ("token", member("CreateGrant", grant.clone(), "GrantToken")?),
            ("grant", member("CreateGrant", grant, "GrantId")?),
            (
                "import",
                member("GetParametersForImport", wrapping, "ImportToken")?,
            ),
            ("next", member("ListKeys", one, "NextMarker")?),
        ];
        Ok(Self {
            inside,
            names,
            calls: 0,
            changes: 0,
        })
    }

    fn is_used_up(&self) -> bool {
        self.calls >= CALLS_MAX || self.changes >= CHANGES_MAX
    }

    /// The body with what its names stand for.
    fn filled(&self, body: &[u8]) -> Vec<u8> {
        let mut pieces = body.split(|byte| *byte == b'$');
        let mut filled = pieces.next().unwrap_or_default().to_vec();
        for piece in pieces {
            let of = |(name, _): &&(&str, String)| piece.starts_with(name.as_bytes());
            match self.names.iter().find(of) {
                Some((name, value)) => {
                    filled.extend_from_slice(value.as_bytes());
                    filled.extend_from_slice(&piece[name.len()..]);
                }
                None => {
                    filled.push(b'$');
                    filled.extend_from_slice(piece);
                }
            }
        }
        filled
    }

    fn answer(&mut self, which: u8, body: &[u8]) -> Result<(), ApiError> {
        self.calls += 1;
        let body = self.filled(body);
        let place = usize::from(which.wrapping_sub(FIRST)) % (Operation::ALL.len() + 1);
        let Some(operation) = Operation::ALL.get(place) else {
            let mut batch = self.inside.api.data_keys(&self.inside.requester, &body)?;
            return batch.next_chunk(&mut Vec::new()).map(drop);
        };
        let answer = self.inside.call(operation.name(), &body);
        if operation.facts().changes && answer.is_ok() {
            self.changes += 1;
        }
        answer.map(drop)
    }
}

thread_local! {
    static DAEMON: RefCell<Option<Daemon>> = const { RefCell::new(None) };
}

fuzz_target!(|bytes: &[u8]| {
    let Some((which, body)) = bytes.split_first() else {
        return;
    };
    let holds = |text: &&[u8]| body.windows(text.len()).any(|part| part == *text);
    if TOO_SLOW.iter().any(holds) {
        return;
    }
    DAEMON.with_borrow_mut(|daemon| {
        if daemon.as_ref().is_some_and(Daemon::is_used_up) {
            *daemon = None;
        }
        let daemon = daemon.get_or_insert_with(|| Daemon::new().expect("a daemon in a new folder"));
        if let Err(error) = daemon.answer(*which, body) {
            assert!(error.code().status().is_client_error(), "{error:?}");
        }
    });
});
