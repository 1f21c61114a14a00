//! A table of CSV or NDJSON as anybody may have left it: every row of it gets a key or a reason.
//!
//! The first byte says which of the two it is, whether rows are left out, and how many rows a part
//! has: however the table is cut, the same rows are written.

#![no_main]

use keymill_fuzz::tables::Tables;
use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;

static TABLES: LazyLock<Tables> = LazyLock::new(|| Tables::new().expect("a temporary folder"));

fuzz_target!(|bytes: &[u8]| {
    let Some((how, text)) = bytes.split_first() else {
        return;
    };
    let name = ["t.csv", "t.ndjson"][usize::from(how & 1)];
    let (skip, rows_per_part) = (how & 2 != 0, u64::from(how >> 2) + 1);
    let path = TABLES.write(name, text);
    TABLES.clear();
    let whole = TABLES.provision(&path, skip, u64::from(u32::MAX)).ok();
    if let Some(rows) = whole {
        assert_eq!(TABLES.rows(), rows);
    }
    TABLES.clear();
    let in_parts = TABLES.provision(&path, skip, rows_per_part).ok();
    assert_eq!(whole, in_parts);
    if let Some(rows) = in_parts {
        assert_eq!(TABLES.rows(), rows);
    }
});
