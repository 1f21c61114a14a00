//! The manifest and the plan of a job as anybody may have left them: the job is resumed, or refused
//! with what was found, and never runs without bounds.
//!
//! An input is edits of the sound files: which of them, whether to put, insert or remove; two bytes
//! for the place; and the byte.

#![no_main]

use keymill_fuzz::tables::Tables;
use libfuzzer_sys::fuzz_target;
use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

struct Begun {
    tables: Tables,
    path: PathBuf,
    manifest: String,
    plan: String,
}

static BEGUN: LazyLock<Begun> = LazyLock::new(begun);

const MANIFEST: &str = "_manifest.json";
const PLAN: &str = "_plan.json";

/// A job with two parts of which none is there, and its plan.
fn begun() -> Begun {
    let tables = Tables::new().expect("a temporary folder");
    let path = tables.write("t.csv", b"id,tenant\na,x\nb,y\nc,\n");
    tables.begin(&path, 1);
    let read = |name| fs::read_to_string(tables.out().join(name)).expect("a file of the job");
    Begun {
        manifest: read(MANIFEST),
        plan: read(PLAN),
        path,
        tables,
    }
}

fuzz_target!(|bytes: &[u8]| {
    let Begun {
        tables,
        path,
        manifest,
        plan,
    } = &*BEGUN;
    let mut files = [manifest.clone().into_bytes(), plan.clone().into_bytes()];
    for edit in bytes.chunks_exact(4) {
        let file = &mut files[usize::from(edit[0] >> 2 & 1)];
        let place = usize::from(u16::from_le_bytes([edit[1], edit[2]])) % file.len().max(1);
        match edit[0] & 3 {
            0 | 1 if !file.is_empty() => file[place] = edit[3],
            2 => file.insert(place, edit[3]),
            _ if !file.is_empty() => drop(file.remove(place)),
            _ => {}
        }
    }
    tables.clear();
    fs::create_dir(tables.out()).expect("a new folder");
    for (name, bytes) in [MANIFEST, PLAN].into_iter().zip(&files) {
        fs::write(tables.out().join(name), bytes).expect("a file in a new folder");
    }
    let _ = tables.provision(path, true, 1);
});
