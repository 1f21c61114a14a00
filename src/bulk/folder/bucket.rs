//! A job's folder in a bucket of an S3-compatible store. A file is there once it was put, or its
//! upload was completed. The manifest is replaced on condition that it is the one that this process
//! has read or written last, so that of two jobs one fails.

use crate::bulk::JobError;
use crate::bulk::folder::lock::{self, Lock};
use crate::bulk::folder::place::Place;
use crate::bulk::folder::upload::Upload;
use crate::bulk::folder::{MANIFEST, check_names, is_ours};
use crate::bulk::manifest;
use crate::bulk::out;
use crate::bulk::part_folders;
use crate::s3;
use crate::table::Object;
use crate::table::object::Storage;
use object_store::{Error, ObjectStore, ObjectStoreExt, PutMode, UpdateVersion};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// A folder that this process alone writes.
pub(super) struct Bucket {
    path: PathBuf,
    place: Arc<Place>,
    lock: Arc<Lock>,
    /// The manifest as this process knows it; `None` while there is none.
    manifest: Mutex<Option<UpdateVersion>>,
}

impl Bucket {
    pub(super) fn open(bucket: &out::Bucket, path: &Path) -> Result<Self, JobError> {
        let store = s3::bucket(&bucket.name);
        let store = store.map_err(|error| JobError::io("open", path, s3::told(error)))?;
        let place = Place {
            store,
            prefix: bucket.prefix.clone(),
            runtime: bucket.runtime.clone(),
        };
        Self::at(place, path, lock::SILENT)
    }

    fn at(place: Place, path: &Path, silent: Duration) -> Result<Self, JobError> {
        let place = Arc::new(place);
        // Before the lock is put: a prefix that is not ours is left as it was.
        scan(&place, path)?;
        let taken = Lock::take(&place, path, silent);
        let lock = place.runtime.block_on(taken)?;
        let folder = Self {
            path: path.to_owned(),
            place,
            lock,
            manifest: Mutex::new(None),
        };
        scan(&folder.place, path)?;
        Ok(folder)
    }

    pub(super) fn parts(&self) -> Result<BTreeMap<String, u64>, JobError> {
        let mut parts = scan(&self.place, &self.path)?;
        parts.retain(|name, _| manifest::part_number(name).is_some());
        Ok(parts)
    }

    pub(super) fn read(&self, name: &str, bytes_max: u64) -> io::Result<Option<Vec<u8>>> {
        let key = self.place.key(name);
        let read = async {
            let got = match self.place.store.get(&key).await {
                Ok(got) if got.meta.size > bytes_max => {
                    return Err(io::Error::other("it is too large"));
                }
                Ok(got) => got,
                Err(Error::NotFound { .. }) => return Ok(None),
                Err(error) => return Err(error.into()),
            };
            let version = UpdateVersion {
                e_tag: got.meta.e_tag.clone(),
                version: got.meta.version.clone(),
            };
            Ok(Some((got.bytes().await?.to_vec(), version)))
        };
        let Some((bytes, version)) = self.place.runtime.block_on(read)? else {
            return Ok(None);
        };
        if name == MANIFEST {
            let mut known = self.manifest.lock().unwrap_or_else(PoisonError::into_inner);
            *known = Some(version);
        }
        Ok(Some(bytes))
    }

    pub(super) fn replace_manifest(&self, text: Vec<u8>) -> io::Result<()> {
        let mut known = self.manifest.lock().unwrap_or_else(PoisonError::into_inner);
        let mode = known.clone().map_or(PutMode::Create, PutMode::Update);
        let put = self.place.put(MANIFEST, text.clone(), mode);
        match self.place.runtime.block_on(put) {
            Ok(version) => *known = Some(version),
            Err(
                Error::Precondition { .. } | Error::AlreadyExists { .. } | Error::NotFound { .. },
            ) => {
                drop(known);
                // An answer may have been lost, and the request sent once more.
                if self.read(MANIFEST, u64::MAX)?.as_ref() != Some(&text) {
                    return Err(lock::lost());
                }
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    pub(super) fn begin(&self, name: &str) -> Upload {
        Upload::new(&self.place, &self.lock, name)
    }

    /// A file as one of a table.
    pub(super) fn object(&self, name: &str, shown: &str) -> io::Result<Object> {
        let key = self.place.key(name);
        let meta = self.place.runtime.block_on(self.place.store.head(&key))?;
        let version = meta.e_tag.clone().unwrap_or_default();
        let source = Storage::Store {
            store: Arc::clone(&self.place.store) as Arc<dyn ObjectStore>,
            path: key,
            tag: meta.e_tag,
            runtime: self.place.runtime.clone(),
        };
        Ok(Object::new(shown.to_owned(), meta.size, version, source))
    }

    pub(super) fn remove_if_there(&self, name: &str) -> io::Result<()> {
        let key = self.place.key(name);
        match self.place.runtime.block_on(self.place.store.delete(&key)) {
            Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    pub(super) fn close(self) -> io::Result<()> {
        self.place.runtime.block_on(self.lock.release())
    }
}

impl Drop for Bucket {
    fn drop(&mut self) {
        // A job that was stopped goes on at once. A lock that stays is taken over.
        let released = self.place.runtime.block_on(self.lock.release());
        if let Err(error) = released {
            tracing::warn!(%error, "the lock of the job's folder was not given up");
        }
    }
}

/// The names below the prefix, each of which is one of ours, and the bytes of each.
fn scan(place: &Place, path: &Path) -> Result<BTreeMap<String, u64>, JobError> {
    let listed = place.runtime.block_on(place.list());
    let listed = listed.map_err(|error| JobError::io("list", path, s3::told(error)))?;
    let mut found = BTreeMap::new();
    for (name, meta) in listed {
        // Some tools put an empty object in the place of a folder.
        let is_folder = meta.size == 0 && (name.is_empty() || part_folders::is_path(&name));
        if is_ours(&name) {
            found.insert(name, meta.size);
        } else if !is_folder {
            return Err(JobError::ForeignFile(path.join(name)));
        }
    }
    let names: Vec<_> = found.keys().cloned().collect();
    check_names(path, &names)?;
    Ok(found)
}

#[cfg(test)]
mod tests;
