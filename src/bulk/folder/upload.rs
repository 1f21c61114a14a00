//! A file on its way to a bucket. A small one is put at once; of a larger one, chunks are uploaded
//! while the next is filled, and the file is there once the last chunk is and the upload is
//! completed.

use crate::bulk::folder::lock::{self, Lock};
use crate::bulk::folder::place::Place;
use crate::bulk::manifest;
use object_store::multipart::PartId;
use object_store::{Error, MultipartId, ObjectStoreExt, PutMode};
use std::io;
use std::sync::Arc;
use tokio::task::JoinHandle;

/// Bytes of a chunk: all but the last are of one size, as some stores want it. A store takes 10,000
/// of them, so a file has 80 GB at most.
const CHUNK_BYTES: usize = 8 << 20;

/// A file that is absent unless it is finished.
pub(super) struct Upload {
    place: Arc<Place>,
    lock: Arc<Lock>,
    name: String,
    chunk: Vec<u8>,
    begun: Option<Begun>,
}

/// An upload of several chunks.
struct Begun {
    id: MultipartId,
    parts: Vec<PartId>,
    /// The chunk that is under way.
    flying: Option<JoinHandle<object_store::Result<PartId>>>,
}

impl Upload {
    pub(super) fn new(place: &Arc<Place>, lock: &Arc<Lock>, name: &str) -> Self {
        Self {
            place: Arc::clone(place),
            lock: Arc::clone(lock),
            name: name.to_owned(),
            chunk: Vec::new(),
            begun: None,
        }
    }

    /// Takes some bytes, at least one.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.chunk.len() == CHUNK_BYTES {
            self.send()?;
        }
        let taken = bytes.len().min(CHUNK_BYTES - self.chunk.len());
        self.chunk.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    /// Sends the chunk, once the one before it is there.
    fn send(&mut self) -> io::Result<()> {
        let key = self.place.key(&self.name);
        if self.begun.is_none() {
            let id = self.place.store.create_multipart(&key);
            let id = self.place.runtime.block_on(id)?;
            self.begun = Some(Begun {
                id: id.clone(),
                parts: Vec::new(),
                flying: None,
            });
            self.lock.note(&self.name, &id)?;
        }
        self.land()?;
        let next = Vec::with_capacity(CHUNK_BYTES);
        let chunk = std::mem::replace(&mut self.chunk, next);
        if let Some(begun) = &mut self.begun {
            let (place, id, number) =
                (Arc::clone(&self.place), begun.id.clone(), begun.parts.len());
            begun.flying = Some(self.place.runtime.spawn(async move {
                let store = &place.store;
                store.put_part(&key, &id, number, chunk.into()).await
            }));
        }
        Ok(())
    }

    /// Waits for the chunk that is under way.
    fn land(&mut self) -> io::Result<()> {
        if let Some(begun) = &mut self.begun
            && let Some(flying) = begun.flying.take()
        {
            let landed = self.place.runtime.block_on(flying);
            begun.parts.push(landed.map_err(io::Error::other)??);
        }
        Ok(())
    }

    /// Makes the file be there.
    pub(super) fn finish(mut self) -> io::Result<()> {
        if self.begun.is_none() {
            self.lock.touch()?;
            let bytes = std::mem::take(&mut self.chunk);
            let put = put(&self.place, &self.name, bytes);
            return self.place.runtime.block_on(put);
        }
        if !self.chunk.is_empty() {
            self.send()?;
        }
        self.land()?;
        self.lock.touch()?;
        if let Some(begun) = &mut self.begun {
            let parts = std::mem::take(&mut begun.parts);
            let key = self.place.key(&self.name);
            let completed = self.place.store.complete_multipart(&key, &begun.id, parts);
            self.place.runtime.block_on(completed)?;
        }
        self.begun = None;
        self.lock.forget(&self.name);
        Ok(())
    }
}

/// Puts a small file. A part is there once; notes are written anew.
async fn put(place: &Place, name: &str, bytes: Vec<u8>) -> io::Result<()> {
    if manifest::part_number(name).is_none() {
        place.put(name, bytes, PutMode::Overwrite).await?;
        return Ok(());
    }
    match place.put(name, bytes.clone(), PutMode::Create).await {
        Ok(_) => Ok(()),
        // An answer may have been lost, and the request sent once more.
        Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => {
            let there = place.store.get(&place.key(name)).await?.bytes().await?;
            match there == bytes {
                true => Ok(()),
                false => Err(lock::lost()),
            }
        }
        Err(error) => Err(error.into()),
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if let Some(begun) = self.begun.take() {
            if let Some(flying) = begun.flying {
                flying.abort();
            }
            let aborted = self.place.abort(&self.name, &begun.id);
            self.place.runtime.block_on(aborted);
            self.lock.forget(&self.name);
        }
    }
}
