//! Contexts: pairs come back sorted, whatever their order was, and the canonical bytes stay within
//! their bound.

#![no_main]

use keymill::context::{EncryptionContext, InvalidContext};
use libfuzzer_sys::fuzz_target;
use std::collections::BTreeMap;

fuzz_target!(|texts: Vec<(String, String)>| {
    let sorted: BTreeMap<_, _> = texts.iter().cloned().collect();
    let reversed = EncryptionContext::from_pairs(texts.iter().rev().map(|(n, v)| (n, v)));
    match EncryptionContext::from_pairs(texts.clone()) {
        Ok(context) => {
            assert_eq!(sorted.len(), texts.len());
            assert!(context.canonical().len() <= EncryptionContext::BYTES_MAX);
            assert_eq!(context.is_empty(), texts.is_empty());
            let back: Vec<_> = context.pairs().collect();
            let pairs = sorted.iter().map(|(n, v)| (n.as_str(), v.as_str()));
            assert_eq!(back, pairs.collect::<Vec<_>>());
            assert_eq!(reversed, Ok(context));
        }
        Err(InvalidContext::DuplicateName) => assert!(sorted.len() < texts.len()),
        Err(error) => assert_eq!(reversed, Err(error)),
    }
});
