//! Disks that fail on demand.

use super::*;
use crate::audit::disk::Seen;
use std::fs::File;
use std::io;
use std::sync::Mutex as StdMutex;
use std::sync::atomic::AtomicI64;

/// How a faulty disk fails; shared with the test.
#[derive(Clone)]
pub(super) struct Plan {
    /// The number of operations that still succeed.
    left: Arc<AtomicI64>,
    /// The only operation that fails; `None`: all fail.
    only: Option<&'static str>,
    /// The operation that failed first.
    pub(super) failed: Arc<StdMutex<Option<&'static str>>>,
}

impl Plan {
    /// Fails every operation after the first `operations`.
    pub(super) fn after(operations: i64) -> Self {
        Self {
            left: Arc::new(AtomicI64::new(operations)),
            only: None,
            failed: Arc::default(),
        }
    }

    /// Fails nothing yet, and later only this operation.
    pub(super) fn only(operation: &'static str) -> Self {
        Self {
            only: Some(operation),
            ..Self::never()
        }
    }

    pub(super) fn never() -> Self {
        Self::after(i64::MAX)
    }

    pub(super) fn fail_after(&self, operations: i64) {
        self.left.store(operations, Ordering::SeqCst);
    }

    pub(super) fn heal(&self) {
        self.fail_after(i64::MAX);
    }

    pub(super) fn disk(&self) -> FaultyDisk {
        FaultyDisk {
            plan: self.clone(),
            inner: SystemDisk,
        }
    }
}

/// The system's disk, until its plan demands a failure. A write that fails has written half.
pub(super) struct FaultyDisk {
    plan: Plan,
    inner: SystemDisk,
}

impl FaultyDisk {
    fn step(&self, name: &'static str) -> io::Result<()> {
        if self.plan.only.is_some_and(|only| only != name) {
            return Ok(());
        }
        if self.plan.left.fetch_sub(1, Ordering::SeqCst) > 0 {
            return Ok(());
        }
        self.plan.failed.lock().unwrap().get_or_insert(name);
        Err(rustix::io::Errno::NOSPC.into())
    }
}

impl Disk for FaultyDisk {
    fn create(&mut self, path: &Path) -> io::Result<File> {
        self.step("create")?;
        self.inner.create(path)
    }

    fn write(&mut self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        if let Err(error) = self.step("write") {
            self.inner.write(file, &bytes[..bytes.len() / 2], offset)?;
            return Err(error);
        }
        self.inner.write(file, bytes, offset)
    }

    fn sync(&mut self, file: &File) -> io::Result<()> {
        self.step("sync")?;
        self.inner.sync(file)
    }

    fn folder(&mut self, path: &Path) -> io::Result<File> {
        self.step("folder")?;
        self.inner.folder(path)
    }

    fn at(&mut self, path: &Path) -> io::Result<Option<Seen>> {
        self.step("at")?;
        self.inner.at(path)
    }

    fn sync_folder(&mut self, folder: &File) -> io::Result<()> {
        self.step("sync_folder")?;
        self.inner.sync_folder(folder)
    }

    fn cut(&mut self, file: &File, length: u64) -> io::Result<()> {
        self.step("cut")?;
        self.inner.cut(file, length)
    }

    fn reserve(&mut self, file: &File, offset: u64, bytes: u64) -> io::Result<()> {
        self.step("reserve")?;
        self.inner.reserve(file, offset, bytes)
    }
}
