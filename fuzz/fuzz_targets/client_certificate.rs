//! Client certificates: one that is read has a name, the same each time, and ends when it says; its
//! name may or may not stand in a map.

#![no_main]

use keymill::auth::certificate::{Client, check_name, not_after};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|der: &[u8]| {
    let Some(client) = Client::of_certificate(der) else {
        return;
    };
    assert!(!client.name.is_empty());
    assert_eq!(not_after(der), Some(client.not_after));
    assert_eq!(Client::of_certificate(der).as_ref(), Some(&client));
    let _mappable = check_name(&client.name);
});
