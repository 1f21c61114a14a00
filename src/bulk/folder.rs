//! The folder of a job, on this machine or in a bucket. Its files are complete or absent, and a
//! part is named by the manifest only once it is durable.

use crate::bulk::JobError;
use crate::bulk::manifest::{self, Kind, Manifest};
use crate::bulk::out::Out;
use crate::bulk::parquet::{self, Description};
use crate::table::{Object, TableError, location};
use bucket::Bucket;
use hex_simd::AsciiCase;
use local::{Local, Partial};
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use upload::Upload;

mod bucket;
mod local;
mod lock;
mod place;
mod upload;

pub(crate) use local::FILE_MODE;

/// The ending of a file that is not finished: a run that died may have left one.
const PARTIAL: &str = ".partial";
/// Names of ours that begin with `_` are invisible to readers that are given the whole folder.
const MANIFEST: &str = "_manifest.json";
const LOCK: &str = "_lock";
/// A job that reads tables keeps three files of its own: here the row that begins each part.
pub const PLAN: &str = "_plan.json";
/// The table that came on standard input.
pub const INPUT: &str = "_input";
/// The rows that were left out.
pub const REJECTS: &str = "_rejects.ndjson";
/// Row numbers and digests that do not fit into memory, while an input is looked through.
const SPILL: &str = "_spill";
/// A manifest has at most [`super::PARTS_MAX`] parts of about 300 bytes.
const MANIFEST_BYTES_MAX: u64 = 64 << 20;
/// Bytes read at a time where a file is hashed.
const READ_BYTES: usize = 1 << 20;

/// A folder that this process alone writes.
pub struct Folder {
    path: PathBuf,
    place: Place,
}

enum Place {
    Local(Local),
    Bucket(Bucket),
}

impl Folder {
    /// Opens or creates the folder, locks it, and removes what a run that died left half-written.
    ///
    /// # Errors
    /// [`JobError::FolderInUse`], [`JobError::FolderHeld`], [`JobError::ForeignFile`],
    /// [`JobError::OpenFolder`], or the error of the file system or the store.
    pub fn open(out: &Out) -> Result<Self, JobError> {
        let place = match out.bucket() {
            None => Place::Local(Local::open(out.path())?),
            Some(bucket) => Place::Bucket(Bucket::open(bucket, out.path())?),
        };
        Ok(Self {
            path: out.path().to_owned(),
            place,
        })
    }

    /// What messages call a file of the folder.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// A place on this machine for a file that loses its name at once.
    #[must_use]
    pub fn spill(&self) -> PathBuf {
        match &self.place {
            Place::Local(_) => self.path(SPILL),
            Place::Bucket(_) => {
                let name = format!(".keymill-job-{}{SPILL}", std::process::id());
                std::env::temp_dir().join(name)
            }
        }
    }

    /// The finished parts, and the bytes of each.
    ///
    /// # Errors
    /// The error of the file system or the store.
    pub fn parts(&self) -> Result<BTreeMap<String, u64>, JobError> {
        match &self.place {
            Place::Local(local) => local.parts(),
            Place::Bucket(bucket) => bucket.parts(),
        }
    }

    /// Reads a file; `None` when there is none.
    ///
    /// # Errors
    /// The error of the file system or the store.
    pub fn read(&self, name: &str) -> Result<Option<Vec<u8>>, JobError> {
        self.read_up_to(name, u64::MAX)
    }

    fn read_up_to(&self, name: &str, bytes_max: u64) -> Result<Option<Vec<u8>>, JobError> {
        let read = match &self.place {
            Place::Local(local) => local.read(name, bytes_max),
            Place::Bucket(bucket) => bucket.read(name, bytes_max),
        };
        read.map_err(|error| JobError::io("read", &self.path(name), error))
    }

    /// A file of the folder as one of a table, which messages call `shown`.
    ///
    /// # Errors
    /// [`TableError`], when it is gone.
    pub fn object(&self, name: &str, shown: &str) -> Result<Object, TableError> {
        match &self.place {
            Place::Local(_) => location::file(&self.path(name), shown.to_owned()),
            Place::Bucket(bucket) => bucket
                .object(name, shown)
                .map_err(|error| TableError::io(shown, error)),
        }
    }

    /// Reads the manifest; `None` when there is none.
    ///
    /// # Errors
    /// [`JobError::Manifest`], or the error of the file system or the store.
    pub fn manifest<K: Kind>(&self) -> Result<Option<Manifest<K>>, JobError> {
        let path = self.path(MANIFEST);
        let Some(text) = self.read_up_to(MANIFEST, MANIFEST_BYTES_MAX)? else {
            return Ok(None);
        };
        let refuse = |reason: String| JobError::Manifest {
            path: path.clone(),
            reason,
        };
        // The format first: another version may have other members.
        #[derive(serde::Deserialize)]
        struct Format {
            format: String,
        }
        let format: Format =
            serde_json::from_slice(&text).map_err(|error| refuse(error.to_string()))?;
        if format.format != K::FORMAT {
            let ours = K::FORMAT;
            return Err(refuse(format!(
                "its format is {}, not {ours}",
                format.format
            )));
        }
        let manifest: Manifest<K> =
            serde_json::from_slice(&text).map_err(|error| refuse(error.to_string()))?;
        // What was read is written alike, or it has members that would be lost.
        let as_read: Result<Value, _> = serde_json::from_slice(&text);
        if as_read.ok() != serde_json::to_value(&manifest).ok() {
            return Err(refuse(
                "it has members that this build does not know".to_owned(),
            ));
        }
        if !manifest.is_sound() {
            return Err(refuse("its parts do not fit its parameters".to_owned()));
        }
        Ok(Some(manifest))
    }

    /// Replaces the manifest.
    ///
    /// # Errors
    /// What the file system or the store says; the manifest is then the earlier one.
    pub fn write_manifest<K: Kind>(&self, manifest: &Manifest<K>) -> Result<(), JobError> {
        self.write_json(MANIFEST, manifest)
    }

    /// Replaces a file of JSON.
    ///
    /// # Errors
    /// What the file system or the store says; the file is then the earlier one.
    pub fn write_json(&self, name: &str, value: &impl Serialize) -> Result<(), JobError> {
        let io = |error| JobError::io("write", &self.path(name), error);
        let mut text =
            serde_json::to_vec_pretty(value).map_err(|error| io(io::Error::other(error)))?;
        text.push(b'\n');
        if let (Place::Bucket(bucket), MANIFEST) = (&self.place, name) {
            return bucket.replace_manifest(text).map_err(io);
        }
        let mut file = self.begin(name)?;
        file.write_all(&text).map_err(io)?;
        self.finish(file).map(drop)
    }

    /// Begins a file, which is not there until it is finished.
    ///
    /// # Errors
    /// The error of the file system.
    pub fn begin(&self, name: &str) -> Result<Unfinished, JobError> {
        Ok(Unfinished {
            sink: match &self.place {
                Place::Local(local) => Sink::Partial(local.begin(name)?),
                Place::Bucket(bucket) => Sink::Upload(bucket.begin(name)),
            },
            name: name.to_owned(),
            bytes: 0,
            hash: Sha256::new(),
        })
    }

    /// Makes a file durable and gives it its name.
    ///
    /// # Errors
    /// What the file system or the store says; the file is then absent.
    pub fn finish(&self, file: Unfinished) -> Result<Finished, JobError> {
        let Unfinished {
            sink,
            name,
            bytes,
            hash,
        } = file;
        let finished = match (sink, &self.place) {
            (Sink::Partial(partial), Place::Local(local)) => local.finish(partial, &name),
            (Sink::Upload(upload), _) => upload.finish(),
            (Sink::Partial(_), Place::Bucket(_)) => {
                Err(io::Error::other("it is of another folder"))
            }
        };
        finished.map_err(|error| JobError::io("write", &self.path(&name), error))?;
        Ok(Finished::new(bytes, hash))
    }

    /// What the footer of a finished part says.
    ///
    /// # Errors
    /// [`JobError::ForeignFile`], when it is not a part, or the error of the file system.
    pub fn describe(&self, name: &str) -> Result<Description, JobError> {
        let path = self.path(name);
        let described = match &self.place {
            Place::Local(local) => {
                let file = local.reader(name);
                parquet::describe(&file.map_err(|error| JobError::io("read", &path, error))?)
            }
            Place::Bucket(_) => parquet::describe(&self.object(name, name)?.open()?),
        };
        described.map_err(|_| JobError::ForeignFile(path))
    }

    /// Length and hash of a finished file.
    ///
    /// # Errors
    /// The error of the file system or the store.
    pub fn measure(&self, name: &str) -> Result<Finished, JobError> {
        let io = |error| JobError::io("read", &self.path(name), error);
        let file: Box<dyn Read> = match &self.place {
            Place::Local(local) => Box::new(local.reader(name).map_err(io)?),
            Place::Bucket(_) => Box::new(self.object(name, name)?.open()?.from(0)),
        };
        measured(file).map_err(io)
    }

    /// Gives the folder up when nothing is left to do in it.
    ///
    /// # Errors
    /// The error of the file system or the store.
    pub fn close(self) -> Result<(), JobError> {
        match self.place {
            Place::Local(local) => local.close(),
            Place::Bucket(bucket) => {
                let closed = bucket.close();
                closed.map_err(|error| JobError::io("remove", &self.path.join(LOCK), error))
            }
        }
    }

    /// Removes a file, unless it is gone already.
    ///
    /// # Errors
    /// The error of the file system or the store.
    pub fn remove_if_there(&self, name: &str) -> Result<(), JobError> {
        match &self.place {
            Place::Local(local) => local.remove_if_there(name),
            Place::Bucket(bucket) => {
                let removed = bucket.remove_if_there(name);
                removed.map_err(|error| JobError::io("remove", &self.path(name), error))
            }
        }
    }
}

/// A file that is absent unless it is finished.
pub struct Unfinished {
    sink: Sink,
    name: String,
    bytes: u64,
    hash: Sha256,
}

enum Sink {
    Partial(Partial),
    Upload(Upload),
}

impl Write for Unfinished {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let written = match &mut self.sink {
            Sink::Partial(partial) => partial.file.write(buffer)?,
            Sink::Upload(upload) => upload.write(buffer)?,
        };
        self.hash.update(&buffer[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.sink {
            Sink::Partial(partial) => partial.file.flush(),
            Sink::Upload(_) => Ok(()),
        }
    }
}

/// Length and hash of all that comes.
///
/// # Errors
/// The error of the reader.
pub fn measured(mut from: impl Read) -> io::Result<Finished> {
    let (mut hash, mut bytes) = (Sha256::new(), 0);
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let read = from.read(&mut buffer)?;
        if read == 0 {
            return Ok(Finished::new(bytes, hash));
        }
        hash.update(&buffer[..read]);
        bytes += read as u64;
    }
}

/// A finished file.
#[derive(Debug, PartialEq, Eq)]
pub struct Finished {
    /// Its bytes.
    pub bytes: u64,
    /// SHA-256 in hex.
    pub sha256: String,
}

impl Finished {
    fn new(bytes: u64, hash: Sha256) -> Self {
        Self {
            bytes,
            sha256: hex_simd::encode_to_string(hash.finalize(), AsciiCase::Lower),
        }
    }
}

/// Refuses a folder with parts and no manifest.
fn check_names(path: &Path, names: &[String]) -> Result<(), JobError> {
    let stands = |name: &&String| manifest::part_number(name).is_some();
    match names.iter().find(stands) {
        Some(part) if !names.iter().any(|name| name == MANIFEST) => {
            Err(JobError::ForeignFile(path.join(part)))
        }
        _ => Ok(()),
    }
}

fn is_ours(name: &str) -> bool {
    let whole = |name: &str| {
        [MANIFEST, PLAN, INPUT, REJECTS, SPILL].contains(&name)
            || manifest::part_number(name).is_some()
    };
    match name.strip_suffix(PARTIAL) {
        Some(stem) => whole(stem) || stem.strip_prefix('_').is_some_and(whole),
        None => name == LOCK || whole(name),
    }
}

#[cfg(test)]
mod tests;
