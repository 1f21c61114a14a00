//! A store as it is read for a check or a backup: by this process, or by the daemon that has it.

use crate::backup::folder::BackupError;
use crate::backup::frames::{Begin, Digest, End, Found, Frames};
use crate::keystore::KeystoreError;
use crate::keystore::checked::Checked;
use crate::keystore::record::Record;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;

/// The bytes of a daemon's answer, or why they end early.
pub type Chunks = BoxStream<'static, Result<Bytes, String>>;

/// One state of a store on its way here.
pub struct Source {
    /// Who reads it.
    pub begin: Begin,
    /// The head.
    pub head: Record,
    way: Way,
}

enum Way {
    Here {
        checked: Box<Checked>,
        digest: Digest,
    },
    Daemon {
        frames: Frames,
        chunks: Chunks,
        /// Read already, and not a record.
        ahead: Option<Found>,
    },
}

/// What comes next.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Records, and what is wrong with others.
    Some {
        /// Those that are as they were written.
        records: Vec<Record>,
        /// A line for each of the others.
        findings: Vec<String>,
    },
    /// That was all.
    End(End),
}

impl Source {
    /// Read by this process.
    #[must_use]
    pub fn here(checked: Checked) -> Self {
        Self {
            begin: Begin::here(""),
            head: checked.head().clone(),
            way: Way::Here {
                checked: Box::new(checked),
                digest: Digest::default(),
            },
        }
    }

    /// Read by a daemon, whose answer this is.
    ///
    /// # Errors
    /// [`BackupError::Cut`].
    pub async fn of_daemon(mut chunks: Chunks) -> Result<Self, BackupError> {
        let mut frames = Frames::default();
        let begin = match next(&mut frames, &mut chunks).await? {
            Found::Begin(begin) => begin,
            Found::Failed(reason) => return Err(BackupError::Cut(reason)),
            _ => return Err(misplaced()),
        };
        let Found::Head(head) = next(&mut frames, &mut chunks).await? else {
            return Err(misplaced());
        };
        Ok(Self {
            begin,
            head: *head,
            way: Way::Daemon {
                frames,
                chunks,
                ahead: None,
            },
        })
    }

    /// The next records. It is not called again behind the end.
    ///
    /// # Errors
    /// [`BackupError`].
    pub async fn next(&mut self) -> Result<Step, BackupError> {
        match &mut self.way {
            Way::Here { checked, digest } => Ok(here(checked, digest).await?),
            Way::Daemon {
                frames,
                chunks,
                ahead,
            } => {
                let first = match ahead.take() {
                    Some(found) => found,
                    None => next(frames, chunks).await?,
                };
                let (mut records, mut findings) = (Vec::new(), Vec::new());
                let mut found = Some(first);
                // Whatever is here already, together.
                while let Some(one) = found {
                    match one {
                        Found::Record(record) => records.push(record),
                        Found::Damaged(line) => findings.push(line),
                        other if records.is_empty() && findings.is_empty() => return last(other),
                        other => {
                            *ahead = Some(other);
                            break;
                        }
                    }
                    found = frames.take().map_err(cut)?;
                }
                Ok(Step::Some { records, findings })
            }
        }
    }
}

fn last(found: Found) -> Result<Step, BackupError> {
    match found {
        Found::End(end) => Ok(Step::End(end)),
        Found::Failed(reason) => Err(BackupError::Cut(reason)),
        _ => Err(misplaced()),
    }
}

async fn here(checked: &mut Checked, digest: &mut Digest) -> Result<Step, KeystoreError> {
    let Some(batch) = checked.next().await? else {
        let digest = std::mem::take(digest).end(checked.head());
        let summary = checked.summary();
        return Ok(Step::End(End { summary, digest }));
    };
    digest.add(&batch.records);
    Ok(Step::Some {
        findings: batch.findings.iter().map(ToString::to_string).collect(),
        records: batch.records,
    })
}

async fn next(frames: &mut Frames, chunks: &mut Chunks) -> Result<Found, BackupError> {
    loop {
        if let Some(found) = frames.take().map_err(cut)? {
            return Ok(found);
        }
        match chunks.next().await {
            Some(Ok(bytes)) => frames.push(&bytes),
            Some(Err(reason)) => return Err(BackupError::Cut(reason)),
            None => return Err(cut("the answer has ended early")),
        }
    }
}

fn cut(reason: &str) -> BackupError {
    BackupError::Cut(reason.to_owned())
}

fn misplaced() -> BackupError {
    cut("the answer is of another version of keymill")
}
