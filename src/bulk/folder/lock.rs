//! The lock on a job's folder in a bucket: an object that its owner replaces every few seconds,
//! each time on condition that it is the one that the owner wrote last.
//!
//! A lock that shows no sign of life for [`SILENT`] is one of a job that died, and is taken over on
//! the same condition. A job that was only asleep then finds it out before the next file that it
//! finishes. No clock is compared with another.

use crate::bulk::JobError;
use crate::bulk::folder::LOCK;
use crate::bulk::folder::place::Place;
use crate::s3;
use object_store::{Error, ObjectStoreExt, PutMode, UpdateVersion};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;

/// Between two signs of life.
const BEAT: Duration = Duration::from_secs(5);
/// Without a sign of life for so long, the owner is taken for dead.
pub(super) const SILENT: Duration = Duration::from_secs(20);
/// Between two looks at another's lock.
const LOOK: Duration = Duration::from_secs(1);

/// What the object says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Said {
    format: String,
    /// Which process of which machine.
    owner: String,
    /// When it took the lock, by the store's clock.
    since: String,
    /// Signs of life so far.
    beats: u64,
    /// Uploads that are under way, by file: one that dies leaves them.
    uploads: BTreeMap<String, String>,
}

const FORMAT: &str = "keymill-lock/1";

/// The lock, held.
pub(super) struct Lock {
    place: Arc<Place>,
    state: Mutex<State>,
}

struct State {
    said: Said,
    version: UpdateVersion,
    /// Another job has it, or it was given up.
    is_lost: bool,
}

/// That another job has the folder now.
pub(super) fn lost() -> io::Error {
    io::Error::other("another job has taken this folder over")
}

impl Lock {
    /// Takes the lock, as soon as its owner shows no sign of life for `silent`, and ends what that
    /// has left half-written.
    pub(super) async fn take(
        place: &Arc<Place>,
        path: &Path,
        silent: Duration,
    ) -> Result<Arc<Self>, JobError> {
        let io = |error: Error| JobError::io("lock", &path.join(LOCK), s3::told(error));
        let mut said = Said {
            format: FORMAT.to_owned(),
            owner: owner(),
            since: String::new(),
            beats: 0,
            uploads: BTreeMap::new(),
        };
        let version = loop {
            match place.put(LOCK, body(&said), PutMode::Create).await {
                Ok(version) => break version,
                Err(Error::AlreadyExists { .. }) => {}
                Err(error) => return Err(io(error)),
            }
            let Some((held, version)) = found(place).await.map_err(io)? else {
                continue;
            };
            if !is_silent(place, path, &held, &version, silent).await? {
                continue;
            }
            let taken = place.put(LOCK, body(&said), PutMode::Update(version)).await;
            match taken {
                Ok(version) => {
                    tracing::warn!(
                        owner = held.owner,
                        "took over the lock of a job that is gone"
                    );
                    for (file, id) in held.uploads {
                        place.abort(&file, &id).await;
                    }
                    break version;
                }
                Err(Error::Precondition { .. } | Error::NotFound { .. }) => {}
                Err(error) => return Err(io(error)),
            }
        };
        if let Ok(meta) = place.store.head(&place.key(LOCK)).await {
            said.since = meta.last_modified.to_rfc3339();
        }
        let state = State {
            said,
            version,
            is_lost: false,
        };
        let lock = Arc::new(Self {
            place: Arc::clone(place),
            state: Mutex::new(state),
        });
        let beaten = Arc::downgrade(&lock);
        place.runtime.spawn(async move {
            loop {
                tokio::time::sleep(BEAT).await;
                let Some(lock) = beaten.upgrade() else { return };
                if let Err(error) = lock.put(|_| ()).await {
                    if lock.state.lock().await.is_lost {
                        return;
                    }
                    tracing::warn!(%error, "the lock of the job's folder could not be renewed");
                }
            }
        });
        Ok(lock)
    }

    /// Writes the lock anew, and refuses if it is another's by now.
    pub(super) fn touch(&self) -> io::Result<()> {
        self.place.runtime.block_on(self.put(|_| ()))
    }

    /// Notes an upload that begins.
    pub(super) fn note(&self, file: &str, id: &str) -> io::Result<()> {
        let note = |said: &mut Said| drop(said.uploads.insert(file.to_owned(), id.to_owned()));
        self.place.runtime.block_on(self.put(note))
    }

    /// Forgets an upload that has ended.
    pub(super) fn forget(&self, file: &str) {
        // It is written with the next sign of life.
        let mut state = self.place.runtime.block_on(self.state.lock());
        state.said.uploads.remove(file);
    }

    /// Gives the lock up.
    pub(super) async fn release(&self) -> io::Result<()> {
        let mut state = self.state.lock().await;
        if !std::mem::replace(&mut state.is_lost, true) {
            let key = self.place.key(LOCK);
            self.place.store.delete(&key).await?;
        }
        Ok(())
    }

    async fn put(&self, change: impl FnOnce(&mut Said)) -> io::Result<()> {
        let mut state = self.state.lock().await;
        if state.is_lost {
            return Err(lost());
        }
        change(&mut state.said);
        state.said.beats += 1;
        let mode = PutMode::Update(state.version.clone());
        match self.place.put(LOCK, body(&state.said), mode).await {
            Ok(version) => state.version = version,
            Err(Error::Precondition { .. } | Error::NotFound { .. }) => {
                // An answer may have been lost, and the request sent once more.
                match found(&self.place).await? {
                    Some((said, version)) if said == state.said => state.version = version,
                    _ => {
                        state.is_lost = true;
                        return Err(lost());
                    }
                }
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }
}

/// Whether the lock stays as it is for so long; fails with the owner that is alive.
async fn is_silent(
    place: &Place,
    path: &Path,
    held: &Said,
    version: &UpdateVersion,
    silent: Duration,
) -> Result<bool, JobError> {
    let began = tokio::time::Instant::now();
    tracing::warn!(
        owner = held.owner,
        since = held.since,
        seconds = silent.as_secs(),
        "the folder has the lock of another job; waiting for a sign of life"
    );
    while began.elapsed() < silent {
        tokio::time::sleep(LOOK.min(silent)).await;
        let now = found(place).await;
        match now.map_err(|error| JobError::io("lock", &path.join(LOCK), s3::told(error)))? {
            None => return Ok(false),
            Some((_, now)) if now.e_tag == version.e_tag => {}
            Some((said, _)) => {
                return Err(JobError::FolderHeld {
                    path: path.to_owned(),
                    owner: said.owner,
                    since: said.since,
                });
            }
        }
    }
    Ok(true)
}

/// The lock that is there.
async fn found(place: &Place) -> Result<Option<(Said, UpdateVersion)>, Error> {
    let got = match place.store.get(&place.key(LOCK)).await {
        Ok(got) => got,
        Err(Error::NotFound { .. }) => return Ok(None),
        Err(error) => return Err(error),
    };
    let version = UpdateVersion {
        e_tag: got.meta.e_tag.clone(),
        version: got.meta.version.clone(),
    };
    let said = serde_json::from_slice(&got.bytes().await?).unwrap_or_else(|_| Said {
        format: String::new(),
        owner: "a program of another version".to_owned(),
        since: String::new(),
        beats: 0,
        uploads: BTreeMap::new(),
    });
    Ok(Some((said, version)))
}

fn body(said: &Said) -> Vec<u8> {
    serde_json::to_vec(said).unwrap_or_default()
}

/// Which process of which machine this is.
fn owner() -> String {
    let machine = rustix::system::uname();
    let machine = machine.nodename().to_string_lossy();
    format!("process {} of {machine}", std::process::id())
}
