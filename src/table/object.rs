//! A file of a table, wherever it is: any range of its bytes, read by the thread that asks.

use crate::file::open;
use crate::s3;
use crate::table::hive::FolderColumns;
use crate::table::{Compression, TableError};
use bytes::Bytes;
use encoding_rs::Encoding;
use object_store::{GetOptions, ObjectStore};
use parquet::errors::ParquetError;
use parquet::file::reader::{ChunkReader, Length};
use std::fmt;
use std::fs::{File, Metadata};
use std::io::{self, BufReader, Read};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::runtime::Handle;

/// Bytes that one request to a store asks for: a column of a row group has some of them, and a
/// round trip costs as much as one.
const BLOCK_BYTES: u64 = 4 << 20;
/// Blocks that one reader keeps: Parquet's columns are read in turns, from a place each.
const BLOCKS_MAX: usize = 16;
/// Bytes that show how a file is compressed.
const HEAD_BYTES: u64 = 4;
/// Buffered of a local file.
const BUFFER_BYTES: usize = 64 * 1024;

/// A file of a table.
#[derive(Clone)]
pub struct Object {
    /// What messages call it.
    pub name: String,
    /// Its bytes.
    pub length: u64,
    /// What changes when it is written anew.
    pub version: String,
    /// How its text is compressed; columns of Parquet are so by themselves.
    pub compression: Option<Compression>,
    /// The encoding of its text, where that is not UTF-8.
    pub encoding: Option<&'static Encoding>,
    /// The columns of its folders.
    pub folders: FolderColumns,
    /// Where its bytes are.
    pub source: Storage,
}

/// What changes when a local file is written anew: when that was.
#[must_use]
pub fn version(metadata: &Metadata) -> String {
    format!("{}.{:09}", metadata.mtime(), metadata.mtime_nsec())
}

/// Where an object's bytes are.
#[derive(Clone)]
pub enum Storage {
    /// In a local file.
    File(PathBuf),
    /// In an object store.
    Store {
        /// The store.
        store: Arc<dyn ObjectStore>,
        /// The object's key.
        path: object_store::path::Path,
        /// Its tag, if it has one.
        tag: Option<String>,
        /// What waits for the store; the readers' own threads are not its.
        runtime: Handle,
    },
}

impl fmt::Debug for Object {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "{} ({} bytes, {})",
            self.name, self.length, self.version
        )
    }
}

impl Object {
    /// A file in UTF-8, which is compressed as its name says.
    #[must_use]
    pub fn new(name: String, length: u64, version: String, source: Storage) -> Self {
        Self {
            compression: Compression::of(&name).1,
            encoding: None,
            folders: FolderColumns::default(),
            name,
            length,
            version,
            source,
        }
    }

    /// Whether its text can be read from the beginning alone.
    #[must_use]
    pub fn is_sequential(&self) -> bool {
        self.compression.is_some() || self.encoding.is_some()
    }

    /// The same file where its name says nothing: its first bytes say whether it is compressed.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn without_name(mut self) -> Result<Self, TableError> {
        let head = self.open()?.head();
        let head = head.map_err(|error| TableError::io(&self.name, error))?;
        self.compression = Compression::of_head(&head);
        Ok(self)
    }

    /// Opens it, as it was when it was listed.
    ///
    /// # Errors
    /// [`TableError::Io`], when it cannot be read; [`TableError::Changed`], when it is not as it
    /// was listed.
    pub fn open(&self) -> Result<Opened, TableError> {
        let bytes = match &self.source {
            Storage::File(path) => {
                let io = |error| TableError::io(&self.name, error);
                let file = open::named(path).map_err(io)?;
                let metadata = file.metadata().map_err(io)?;
                if (metadata.len(), version(&metadata)) != (self.length, self.version.clone()) {
                    return Err(TableError::Changed(self.name.clone()));
                }
                Readable::File(file)
            }
            Storage::Store { .. } => Readable::Store(Mutex::default()),
        };
        Ok(Opened(Arc::new(Inner {
            object: self.clone(),
            bytes,
        })))
    }
}

/// An object that is being read; clones share what they have read.
#[derive(Clone)]
pub struct Opened(Arc<Inner>);

struct Inner {
    object: Object,
    bytes: Readable,
}

enum Readable {
    File(File),
    /// Blocks by their number, the one that was used last at the end.
    Store(Mutex<Vec<(u64, Bytes)>>),
}

impl Opened {
    /// A reader from this byte on.
    #[must_use]
    pub fn from(&self, at: u64) -> BufReader<Range> {
        let range = Range {
            opened: self.clone(),
            at,
        };
        BufReader::with_capacity(BUFFER_BYTES, range)
    }

    /// Its first bytes, as many as show how it is compressed.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(super) fn head(&self) -> io::Result<Vec<u8>> {
        let range = Range {
            opened: self.clone(),
            at: 0,
        };
        let mut head = Vec::new();
        range.take(HEAD_BYTES).read_to_end(&mut head)?;
        Ok(head)
    }

    /// Reads some bytes from this place on; none at the end.
    ///
    /// # Errors
    /// The error of the file system, or of the store.
    pub fn read_at(&self, at: u64, out: &mut [u8]) -> io::Result<usize> {
        let Inner { object, bytes } = &*self.0;
        let left = object.length.saturating_sub(at);
        let wanted = usize::try_from(left).map_or(out.len(), |left| left.min(out.len()));
        if wanted == 0 {
            return Ok(0);
        }
        match bytes {
            Readable::File(file) => file.read_at(&mut out[..wanted], at),
            Readable::Store(blocks) => {
                let block = self.block(blocks, at / BLOCK_BYTES)?;
                let from = usize::try_from(at % BLOCK_BYTES).unwrap_or(usize::MAX);
                let rest = block.get(from..).unwrap_or_default();
                let taken = wanted.min(rest.len());
                out[..taken].copy_from_slice(&rest[..taken]);
                Ok(taken)
            }
        }
    }

    fn block(&self, blocks: &Mutex<Vec<(u64, Bytes)>>, number: u64) -> io::Result<Bytes> {
        let mut blocks = blocks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = blocks.iter().position(|(other, _)| *other == number) {
            let block = blocks.remove(at);
            blocks.push(block.clone());
            return Ok(block.1);
        }
        let Object { length, source, .. } = &self.0.object;
        let Storage::Store {
            store,
            path,
            tag,
            runtime,
        } = source
        else {
            return Err(io::Error::other("only a store has blocks"));
        };
        let from = number * BLOCK_BYTES;
        let range = from..(from + BLOCK_BYTES).min(*length);
        let options = GetOptions {
            range: Some(range.into()),
            // Reads the version that was listed, or fails.
            if_match: tag.clone(),
            ..GetOptions::default()
        };
        let read = async { store.get_opts(path, options).await?.bytes().await };
        let bytes = runtime.block_on(read).map_err(s3::told)?;
        if blocks.len() == BLOCKS_MAX {
            blocks.remove(0);
        }
        blocks.push((number, bytes.clone()));
        Ok(bytes)
    }
}

/// The bytes of an object from one place on.
pub struct Range {
    opened: Opened,
    at: u64,
}

impl Read for Range {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let read = self.opened.read_at(self.at, out)?;
        self.at += read as u64;
        Ok(read)
    }
}

impl Length for Opened {
    fn len(&self) -> u64 {
        self.0.object.length
    }
}

impl ChunkReader for Opened {
    type T = BufReader<Range>;

    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        Ok(self.from(start))
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        // What a damaged file says of its lengths is not asked for.
        if self.len().saturating_sub(start) < length as u64 {
            let reason = format!("{length} bytes from byte {start} on are beyond the file's end");
            return Err(ParquetError::EOF(reason));
        }
        let mut bytes = vec![0; length];
        let mut range = Range {
            opened: self.clone(),
            at: start,
        };
        range.read_exact(&mut bytes)?;
        Ok(bytes.into())
    }
}
