//! Folders in a bucket, which is in memory.

use super::*;
use crate::bulk::folder::LOCK;
use object_store::memory::InMemory;
use std::sync::Arc;
use tokio::runtime::Runtime;

/// Long enough for a look, and shorter than a beat.
const SOON: Duration = Duration::from_millis(50);

struct Bench {
    runtime: Runtime,
    store: Arc<InMemory>,
}

impl Bench {
    fn new() -> Self {
        Self {
            runtime: Runtime::new().unwrap(),
            store: Arc::new(InMemory::new()),
        }
    }

    fn place(&self) -> Place {
        Place {
            store: Arc::clone(&self.store) as Arc<dyn crate::bulk::folder::place::Store>,
            prefix: "lake/out".to_owned(),
            runtime: self.runtime.handle().clone(),
        }
    }

    fn open(&self) -> Result<Bucket, JobError> {
        Bucket::at(self.place(), Path::new("s3://b/lake/out"), SOON)
    }

    fn names(&self) -> Vec<String> {
        let listed = self.runtime.block_on(self.place().list()).unwrap();
        let mut names: Vec<_> = listed.into_iter().map(|(name, _)| name).collect();
        names.sort();
        names
    }

    fn put(&self, name: &str, bytes: &[u8]) {
        let place = self.place();
        let put = place.put(name, bytes.to_vec(), PutMode::Overwrite);
        self.runtime.block_on(put).unwrap();
    }
}

fn write(folder: &Bucket, name: &str, bytes: &[u8]) -> io::Result<()> {
    let mut upload = folder.begin(name);
    let mut rest = bytes;
    while !rest.is_empty() {
        let written = upload.write(rest)?;
        rest = &rest[written..];
    }
    upload.finish()
}

#[test]
fn a_part_does_not_take_the_place_of_another() {
    let bench = Bench::new();
    let folder = bench.open().unwrap();
    let part = "part-00000.parquet";
    write(&folder, part, b"one").unwrap();
    // As where an answer was lost.
    write(&folder, part, b"one").unwrap();
    let refused = write(&folder, part, b"two").unwrap_err().to_string();
    assert_eq!(refused, "another job has taken this folder over");
    assert_eq!(folder.read(part, 9).unwrap().unwrap(), b"one");
    for text in [b"one", b"two"] {
        write(&folder, "_plan.json", text).unwrap();
        assert_eq!(folder.read("_plan.json", 9).unwrap().unwrap(), text);
    }
}

#[test]
fn files_are_there_whole_or_not_at_all() {
    let bench = Bench::new();
    let folder = bench.open().unwrap();
    folder.replace_manifest(b"1".to_vec()).unwrap();
    // Of one chunk, of exactly two, and of more.
    for (number, length) in [5, 16 << 20, (16 << 20) + 1].into_iter().enumerate() {
        let bytes: Vec<_> = (0..length).map(|at| (at % 251) as u8).collect();
        let name = format!("a=x%20y/part-{number:05}.parquet");
        write(&folder, &name, &bytes).unwrap();
        assert_eq!(folder.parts().unwrap()[&name], length as u64);
        let read = folder.read(&name, u64::MAX).unwrap();
        assert!(read.is_some_and(|read| read == bytes), "{length}");
    }
    let mut dropped = folder.begin("part-00003.parquet");
    for _ in 0..10 {
        assert!(dropped.write(&[0; 1 << 20]).unwrap() > 0);
    }
    drop(dropped);
    assert_eq!(folder.parts().unwrap().len(), 3);
    assert!(folder.read("_plan.json", 9).unwrap().is_none());
    assert!(folder.read("a=x%20y/part-00001.parquet", 9).is_err());
    folder.remove_if_there("_plan.json").unwrap();
    folder.close().unwrap();
    assert!(!bench.names().contains(&LOCK.to_owned()));
}

#[test]
fn a_prefix_of_others_is_left_as_it_was() {
    for name in ["x.parquet", "a=1/x.csv", "part-00000.parquet", "b/_lock"] {
        let bench = Bench::new();
        bench.put(name, b"x");
        let refused = bench.open().err().unwrap().to_string();
        assert!(
            refused.contains("is not part of a job"),
            "{name}: {refused}"
        );
        assert_eq!(bench.names(), [name]);
    }
    // What some tools put in the place of a folder.
    let bench = Bench::new();
    bench.put("a=1", b"");
    assert!(bench.open().is_ok());
}

#[test]
fn of_two_jobs_one_has_the_folder() {
    let bench = Bench::new();
    let first = bench.open().unwrap();
    first.replace_manifest(b"1".to_vec()).unwrap();
    // No beat comes so soon: the first job is taken for dead.
    let second = bench.open().unwrap();
    assert_eq!(second.read(MANIFEST, 9).unwrap().unwrap(), b"1");
    second.replace_manifest(b"2".to_vec()).unwrap();
    for refused in [
        first.replace_manifest(b"3".to_vec()),
        write(&first, "part-00000.parquet", b"rows"),
        write(&first, "part-00001.parquet", &vec![0; 9 << 20]),
    ] {
        let refused = refused.unwrap_err().to_string();
        assert!(refused.contains("another job has taken"), "{refused}");
    }
    drop(first);
    assert_eq!(bench.names(), [LOCK, MANIFEST], "it takes nothing along");
    write(&second, "part-00000.parquet", b"rows").unwrap();
    // A job that was stopped leaves no lock.
    drop(second);
    assert_eq!(bench.names(), [MANIFEST, "part-00000.parquet"]);
}

#[test]
fn a_job_that_is_alive_is_named() {
    let bench = Bench::new();
    let first = bench.open().unwrap();
    let beating = Arc::clone(&first.lock);
    let beats = std::thread::spawn(move || {
        for _ in 0..20 {
            std::thread::sleep(Duration::from_millis(100));
            beating.touch().unwrap();
        }
    });
    let silent = Duration::from_secs(5);
    let second = Bucket::at(bench.place(), Path::new("s3://b/lake/out"), silent);
    let refused = second.err().unwrap();
    let owner = format!("process {} of ", std::process::id());
    assert!(
        matches!(&refused, JobError::FolderHeld { owner: held, .. } if held.starts_with(&owner)),
        "{refused}"
    );
    beats.join().unwrap();
    first.close().unwrap();
}

#[test]
fn uploads_of_a_job_that_died_are_ended() {
    let bench = Bench::new();
    let first = bench.open().unwrap();
    let mut upload = first.begin("part-00000.parquet");
    for _ in 0..10 {
        assert!(upload.write(&[7; 1 << 20]).unwrap() > 0);
    }
    let held = bench.runtime.block_on(async {
        let key = bench.place().key(LOCK);
        bench.store.get(&key).await.unwrap().bytes().await.unwrap()
    });
    let held: serde_json::Value = serde_json::from_slice(&held).unwrap();
    assert!(held["uploads"]["part-00000.parquet"].is_string(), "{held}");
    let second = bench.open().unwrap();
    // Its chunks are gone: it cannot be completed.
    assert!(upload.finish().is_err());
    assert_eq!(second.parts().unwrap().len(), 0);
}
