//! The plaintext of a store's record, which only whoever has the root key can have sealed: parsed
//! or refused, never a panic.
//!
//! The input's first byte chooses the kind of record.

#![no_main]

use keymill::key::regions::Regions;
use keymill::keystore::record::{Kind, Record};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((kind, plaintext)) = bytes.split_first() else {
        return;
    };
    let (kind, id) = match kind % 8 {
        0 => (Kind::Key, "1234abcd-12ab-34cd-56ef-1234567890ab"),
        1 => (Kind::Alias, "111122223333 alias/containers"),
        2 => (Kind::Principal, "arn:aws:iam::111122223333:user/fuzz"),
        3 => (Kind::KeyPolicy, "1234abcd-12ab-34cd-56ef-1234567890ab"),
        4 => (
            Kind::Grant,
            "1234abcd-12ab-34cd-56ef-1234567890ab \
             0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
        ),
        5 => (Kind::Audit, ""),
        6 => (Kind::KeyStore, "cks-1234567890abcdef0"),
        _ => (Kind::Uses, ""),
    };
    let record = Record {
        kind,
        id: id.to_owned(),
        revision: 1,
        body: Vec::new(),
    };
    let regions = Regions::new("aws", "us-east-1", ["us-west-2"]);
    keymill::keystore::fuzz_body(&record, plaintext, &regions);
});
