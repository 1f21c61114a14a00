//! Policies: what parses keeps its text, and parses again.

#![no_main]

use keymill::policy::{KeyPolicy, PolicyDocument, TrustPolicy};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(policy) = PolicyDocument::parse(text) {
        assert_eq!(policy.source(), text);
        assert!(PolicyDocument::parse(policy.source()).is_ok());
    }
    if let Ok(policy) = KeyPolicy::parse(text) {
        assert_eq!(policy.source(), text);
        assert!(KeyPolicy::parse(policy.source()).is_ok());
        // Only a statement with a principal is one of a key policy.
        assert!(PolicyDocument::parse(text).is_err());
    }
    if let Ok(policy) = TrustPolicy::parse(text) {
        assert_eq!(policy.source(), text);
        assert!(PolicyDocument::parse(text).is_err());
        // Every provider that it names is an ARN, and every issuer that it reads a URL's rest.
        assert!(policy.providers().all(|arn| !arn.is_empty()));
        assert!(policy.issuers().all(|issuer| !issuer.is_empty()));
    }
});
