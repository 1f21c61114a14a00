//! Blobs: what parses is made of its parts, and its header encodes as it was.

#![no_main]

use keymill::envelope::blob::{HEADER_BYTES, OVERHEAD_BYTES, PLAINTEXT_BYTES_MAX};
use keymill::envelope::external::{self, ExternalBlob};
use keymill::envelope::{AnyBlob, CiphertextBlob};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(blob) = AnyBlob::parse(bytes) else {
        return;
    };
    assert_eq!(blob.header().encode(), bytes[..HEADER_BYTES]);
    assert!(blob.header().generation > 0);
    assert!((1..=PLAINTEXT_BYTES_MAX).contains(&blob.plaintext_bytes()));
    match blob {
        AnyBlob::Own(blob) => own(bytes, &blob),
        AnyBlob::External(blob) => by_a_proxy(bytes, &blob),
    }
});

fn own(bytes: &[u8], blob: &CiphertextBlob<'_>) {
    let text = blob.ciphertext();
    assert_eq!(OVERHEAD_BYTES + text.len(), bytes.len());
    let parts = [&bytes[..HEADER_BYTES], blob.nonce(), text, blob.tag()];
    assert_eq!(parts.concat(), bytes);
    assert_eq!(blob.bytes(), bytes);
}

fn by_a_proxy(bytes: &[u8], blob: &ExternalBlob<'_>) {
    let encoded = external::encode(&blob.header(), &blob.parts());
    assert_eq!(encoded.as_deref(), Ok(bytes));
    assert_eq!(blob.bytes(), bytes);
}
