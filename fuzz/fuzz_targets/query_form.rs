//! Forms of the query protocol: what is taken is what the parser of the WHATWG's URL standard reads
//! of it, whether it comes in the query or in the body.

#![no_main]

use keymill::sts::Form;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(form) = Form::parse("", bytes) else {
        return;
    };
    for (name, value) in form_urlencoded::parse(bytes) {
        assert_eq!(form.text(&name), Some(&*value));
    }
    if let Ok(query) = str::from_utf8(bytes) {
        let same = Form::parse(query, b"").expect("it was taken as a body");
        for (name, value) in form_urlencoded::parse(bytes) {
            assert_eq!(same.text(&name), Some(&*value));
        }
    }
});
