//! Policies: what parses keeps its text, and parses again.

#![no_main]

use keymill::policy::PolicyDocument;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(policy) = PolicyDocument::parse(text) {
        assert_eq!(policy.source(), text);
        assert!(PolicyDocument::parse(policy.source()).is_ok());
    }
});
