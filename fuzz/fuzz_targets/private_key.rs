//! Private keys of an import: what is BER has one DER, and a key that is read is read again from
//! what is kept of it, as the same one. Of version 1 nothing is left out but attributes.

#![no_main]

use keymill::crypto::ber;
use keymill::crypto::pair::{PairSpec, PrivateKey};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Some(der) = ber::private_key(bytes) {
        assert!(der.expose().len() <= 2 * bytes.len());
        let again = ber::private_key(der.expose()).expect("DER is BER");
        assert_eq!(again.expose(), der.expose());
        if let Some(version_1) = ber::version_1(der.expose()) {
            let again = ber::version_1(version_1.der.expose()).expect("version 1");
            assert_eq!(again.der.expose(), version_1.der.expose());
            assert_eq!(again.public_key, None);
        }
    }
    for spec in PairSpec::ALL {
        if let Ok(key) = PrivateKey::import(spec, bytes) {
            let again = PrivateKey::import(spec, key.expose_der()).expect("as it was kept");
            assert_eq!(again.expose_der(), key.expose_der());
            assert_eq!(again.public_der(), key.public_der());
        }
    }
});
