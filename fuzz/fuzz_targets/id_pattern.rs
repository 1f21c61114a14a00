//! Id patterns: what parses prints as it was given, and gives different rows different names.

#![no_main]

use keymill::export::IdPattern;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&str, u64, u64)| {
    let (text, one, other) = input;
    let Ok(pattern) = text.parse::<IdPattern>() else {
        return;
    };
    assert_eq!(pattern.to_string(), text);
    let name = |number: u64| {
        let mut out = Vec::new();
        pattern.append(number, &mut out);
        String::from_utf8(out).expect("a name is text")
    };
    assert!(name(one).contains(&one.to_string()));
    assert_eq!(name(one) == name(other), one == other);
});
