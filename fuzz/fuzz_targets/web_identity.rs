//! Tokens of other issuers and the sets of their keys: whatever the bytes are, nothing panics, what
//! is taken keeps its bounds, and no token is verified by a key that is not its signer's.

#![no_main]

use keymill::web_identity::algorithm::Algorithm;
use keymill::web_identity::{KeySet, Token};
use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;

/// The key of RFC 8037, appendix A.2. The fuzzer has no token that it has signed.
static KEYS: LazyLock<KeySet> = LazyLock::new(|| {
    let keys = br#"{"keys":[{"kid":"a","kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;
    KeySet::parse(keys).expect("a key of the RFC")
});

fuzz_target!(|bytes: &[u8]| {
    if let Ok(keys) = KeySet::parse(bytes) {
        assert!((1..=100).contains(&keys.count()));
        for algorithm in Algorithm::ALL {
            assert!(keys.find("", *algorithm).is_err());
            if let Ok(key) = keys.find("a", *algorithm) {
                assert!(key.verify(*algorithm, b"signed", bytes).is_err());
            }
        }
    }
    let Ok(text) = str::from_utf8(bytes) else {
        return;
    };
    let Ok(token) = Token::parse(text) else {
        return;
    };
    assert!(text.trim_ascii_end().len() <= Token::CHARACTERS_MAX);
    assert_eq!(text.matches('.').count(), 2);
    let key = KEYS.find("a", Algorithm::EdDSA).expect("it is there");
    assert!(token.verify(&key).is_err());
});
