//! Blobs: what parses is made of its parts, and its header encodes as it was.

#![no_main]

use keymill::envelope::CiphertextBlob;
use keymill::envelope::blob::{HEADER_BYTES, OVERHEAD_BYTES, PLAINTEXT_BYTES_MAX};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(blob) = CiphertextBlob::parse(bytes) else {
        return;
    };
    let text = blob.ciphertext();
    assert!((1..=PLAINTEXT_BYTES_MAX).contains(&text.len()));
    assert_eq!(OVERHEAD_BYTES + text.len(), bytes.len());
    assert_eq!(blob.header().encode(), bytes[..HEADER_BYTES]);
    assert!(blob.header().generation > 0);
    let parts = [&bytes[..HEADER_BYTES], blob.nonce(), text, blob.tag()];
    assert_eq!(parts.concat(), bytes);
    assert_eq!(blob.bytes(), bytes);
});
