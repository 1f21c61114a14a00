//! Attestation documents: whatever the bytes are, nothing panics, what is read keeps its bounds,
//! and nothing is believed but what the documents among the seeds say, whose root is trusted here.

#![no_main]

use keymill::attestation::document::Document;
use keymill::attestation::{Roots, judge};
use keymill::clock::Timestamp;
use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;

/// When the seeds were made.
const NOW: Timestamp = Timestamp(1_700_000_000_000_000);
const SEEDS: [&[u8]; 2] = [
    include_bytes!("../seeds/attestation_document/enclave"),
    include_bytes!("../seeds/attestation_document/tpm"),
];

static ROOTS: LazyLock<Roots> = LazyLock::new(|| {
    let roots = SEEDS.map(|seed| Document::parse(seed).expect("a document").bundle.remove(0));
    Roots::of(roots.to_vec())
});
static BELIEVED: LazyLock<[String; 2]> =
    LazyLock::new(|| SEEDS.map(|seed| said(seed).expect("sound")));

/// What a document proves.
fn said(document: &[u8]) -> Option<String> {
    let attested = judge(document, &ROOTS, NOW).ok()?;
    Some(attested.measurements.audited())
}

fuzz_target!(|bytes: &[u8]| {
    if let Ok(document) = Document::parse(bytes) {
        assert!(bytes.len() <= Document::BYTES_MAX);
        assert!((1..=8).contains(&document.bundle.len()));
        let certificates = document.bundle.iter().chain([&document.certificate]);
        for bytes in certificates.chain(&document.public_key) {
            assert!((1..=1024).contains(&bytes.len()));
        }
        // No time has an overflow.
        let _early = judge(bytes, &ROOTS, Timestamp(0));
        let _late = judge(bytes, &ROOTS, Timestamp(u64::MAX));
    }
    if let Some(said) = said(bytes) {
        assert!(BELIEVED.contains(&said), "{said}");
    }
});
