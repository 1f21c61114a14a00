//! The writer: moves the records in the journal to the log, in order, and makes them durable. It is
//! a thread of its own.
//!
//! One turn writes the records as groups, each with its chain line, then calls `fdatasync`, and
//! only then lets the journal's frames be overwritten. Under load, groups are written ahead of the
//! turn in short pieces, so that a thread on the same core never waits long for this one. If any
//! step fails, or the process is killed in it, the journal still has every record that the log
//! lacks, and the log's last sound chain line identifies those records. A turn that fails is undone
//! (bytes after the last durable group are cut off) and tried again. The data are then written
//! again, so that a failed `fdatasync` is never trusted to have kept them.
//!
//! Room for a whole journal is reserved past the end of the log at all times, so that a full disk
//! shows before a record is accepted that has no room in the log.
//!
//! Each turn checks that the log's file and the journal are still in their places, and each sync
//! checks again before the journal's frames are released (`place`). When the next file cannot be
//! begun, the current one is continued.

use crate::audit::chain::{Chain, GROUP_BYTES_MAX, Header};
use crate::audit::disk::{Disk, Identity};
use crate::audit::reader::LogFile;
use crate::audit::uses::Uses;
use crate::audit::{Progress, Shared};
use crate::clock::Clock;
use crate::crypto::secret::Secret;
use crate::keystore::AuditHead;
use crate::metrics::Metrics;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::watch;

/// The time between two turns while no call waits. With as much again for the disk, a record is
/// durable within 100 ms.
const TURN: Duration = Duration::from_millis(25);
/// The time between two pieces that are written ahead of a turn.
const PIECE: Duration = Duration::from_millis(5);
/// The time between two turns while the log cannot be written.
const RETRY: Duration = Duration::from_millis(250);
/// How long an unfinished record is waited for. A thread is stopped for seconds only when it is
/// stopped from outside.
const PATIENCE: Duration = Duration::from_secs(2);

mod place;

pub(super) use place::{FOLDER_MODE, JOURNAL};

/// The writer's parts.
pub(super) struct Writer {
    pub(super) shared: Arc<Shared>,
    pub(super) folder: PathBuf,
    pub(super) key: Secret<32>,
    pub(super) disk: Box<dyn Disk>,
    pub(super) clock: Clock,
    pub(super) metrics: Arc<Metrics>,
    pub(super) progress: watch::Sender<Progress>,
    pub(super) file_bytes_max: u64,
    pub(super) file_seconds_max: u64,
    /// The durable end of the log.
    pub(super) chain: Chain,
    /// The file that ends there; `None` before the first file.
    pub(super) current: Option<Current>,
    /// The groups that were written to it since.
    pub(super) ahead: Option<Ahead>,
    /// The sealed head for the first header of a log that begins because an earlier one's files are
    /// missing.
    pub(super) after: Option<AuditHead>,
    /// The name of this node, for the headers.
    pub(super) node: Option<String>,
    /// The next file's path, once a try may have made the file, so that a failed try leaves no
    /// second file.
    pub(super) next: Option<PathBuf>,
    pub(super) lines: Vec<u8>,
    /// Whether the journal is one that a former process left.
    pub(super) is_starting: bool,
    pub(super) uses: Arc<Uses>,
    pub(super) state: State,
}

/// The states that were logged already, so that each is logged once.
#[derive(Default)]
pub(super) struct State {
    failing: bool,
    full: bool,
    /// Whether the next file should have begun and could not.
    pub(super) overdue: bool,
    /// Whether the last turn had nothing to write.
    idle: bool,
    /// The position of an unfinished record, and the time since which it is unfinished.
    stopped_at: Option<(u64, Duration)>,
}

/// The file that is written to.
pub(super) struct Current {
    pub(super) file: File,
    pub(super) path: PathBuf,
    /// The durable bytes.
    pub(super) length: u64,
    /// Whether there may be more bytes behind them.
    pub(super) is_torn: bool,
    pub(super) identity: Identity,
    /// Whether its name was moved, or it was cut: nothing more is written to it.
    pub(super) is_gone: bool,
    /// The offset up to which room is reserved.
    pub(super) reserved: u64,
    /// Seconds since the Unix epoch.
    pub(super) created: u64,
    pub(super) groups: u64,
}

/// Groups that are written to the current file and not durable yet, and the state of the log with
/// them.
pub(super) struct Ahead {
    chain: Chain,
    length: u64,
    records: u64,
    lost: u64,
    groups: u64,
}

/// The error of an operation, and its file.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) path: PathBuf,
    pub(super) source: io::Error,
}

pub(super) fn failed(path: &Path) -> impl FnOnce(io::Error) -> Failed {
    let path = path.to_owned();
    move |source| Failed { path, source }
}

impl Writer {
    /// Runs turns until `stopped` is set, and then a last one.
    pub(super) fn run(mut self) {
        while !self.shared.stopped.load(Ordering::Acquire) {
            self.pause();
            self.turn();
        }
        self.turn();
        self.shared.unwritable.store(true, Ordering::Release);
        let left = self.shared.journal.tail() - self.chain.position;
        if left > 0 {
            tracing::error!(
                bytes = left,
                "audit records stay in the journal until the next start"
            );
        }
    }

    /// Waits until the next turn is due or a call waits for it. If there is much to write
    /// meanwhile, writes it ahead.
    fn pause(&mut self) {
        if self.state.failing {
            return std::thread::park_timeout(RETRY);
        }
        let due = self.clock.monotonic() + TURN;
        loop {
            let now = self.clock.monotonic();
            let left = due.saturating_sub(now);
            let pause = if self.state.idle {
                left
            } else {
                left.min(PIECE)
            };
            std::thread::park_timeout(pause);
            let is_woken = self.clock.monotonic() < now + pause;
            // A failure here occurs again in the turn, which reports it.
            if pause == left || is_woken || self.write_ahead().is_err() {
                return;
            }
        }
    }

    /// Runs one turn and logs its changes of state.
    pub(super) fn turn(&mut self) {
        let began = self.clock.monotonic();
        match self.advance() {
            Ok(reached) => {
                if reached {
                    self.shared.durable_since(began);
                }
                if self.state.failing {
                    self.publish(false);
                    tracing::warn!("audit log is written again: keys are issued again");
                }
                self.state.failing = false;
                self.shared.unwritable.store(false, Ordering::Release);
            }
            Err(Failed { path, source }) => {
                self.shared.unwritable.store(true, Ordering::Release);
                self.publish(true);
                if !self.state.failing {
                    tracing::error!(
                        path = %path.display(), error = %source,
                        "audit log cannot be written: no key is issued until it can"
                    );
                    // From now on the journal may be the only place of its records for a long time.
                    if let Err(error) = self.shared.journal.sync() {
                        tracing::error!(%error, "audit journal cannot be synced");
                    }
                }
                self.state.failing = true;
            }
        }
        let was_full = self.shared.full.swap(false, Ordering::Relaxed);
        if was_full && !self.state.full {
            tracing::error!(
                "audit journal is full: requests fail until the disk has caught up; raise audit.journal_bytes or use a faster disk"
            );
        }
        self.state.full = was_full;
        let backlog = self.shared.journal.tail() - self.chain.position;
        self.metrics.audit_backlog_bytes.set(backlog as f64);
    }

    /// Writes all records that the journal holds now. Returns whether that was all: a record may be
    /// unfinished.
    // A file may be removed while it is written, so several files may be needed in one turn.
    pub(super) fn advance(&mut self) -> Result<bool, Failed> {
        let to = self.shared.journal.tail();
        self.state.idle = self.chain.position == to;
        let mut lost = 0;
        self.look()?;
        loop {
            self.mend()?;
            if self.is_due() {
                self.sync()?;
                self.rotate()?;
            }
            let from = self.chain.position;
            if from >= to {
                self.state.stopped_at = None;
                self.reserve()?;
                return self.look_for_journal().map(|()| true);
            }
            self.write(to)?;
            self.sync()?;
            if self.is_gone() {
                lost += 1;
                self.give_up_after(lost)?;
            } else if self.chain.position == from {
                return self.wait_for_the_rest().map(|()| false);
            }
        }
    }

    /// Writes the records that the journal holds now and for which the current file has room; the
    /// next turn makes them durable. Nothing is written into a file that is about to end: a turn
    /// that failed may have begun the next file already, and its header holds the position of the
    /// log.
    pub(super) fn write_ahead(&mut self) -> Result<(), Failed> {
        self.mend()?;
        if self.is_due() {
            return Ok(());
        }
        self.write(self.shared.journal.tail())
    }

    /// Waits for some time for a thread that is stopped in the middle of storing a record.
    fn wait_for_the_rest(&mut self) -> Result<(), Failed> {
        let (position, now) = (self.chain.position, self.clock.monotonic());
        let (stopped_at, since) = *self.state.stopped_at.get_or_insert((position, now));
        if stopped_at != position {
            self.state.stopped_at = Some((position, now));
        } else if now.saturating_sub(since) > PATIENCE {
            let source =
                io::Error::other("a record was begun at that position and is not finished");
            return Err(failed(&self.folder.join(JOURNAL))(source));
        }
        Ok(())
    }

    /// Whether the next file must begin.
    fn is_due(&self) -> bool {
        let Some(current) = &self.current else {
            return true;
        };
        let age = self
            .clock
            .now()
            .unix_seconds()
            .saturating_sub(current.created);
        let holds_records = current.groups > 1;
        current.is_gone
            || holds_records
                && (current.length >= self.file_bytes_max || age >= self.file_seconds_max)
    }

    /// Begins the next file. If that fails before the file is made, the current one is continued:
    /// the process may be out of descriptors, and the next turn tries again.
    fn rotate(&mut self) -> Result<(), Failed> {
        let was_overdue = self.state.overdue;
        let begun = self.begin_next();
        self.state.overdue = begun.is_err() && self.next.is_none() && self.may_go_on();
        match begun {
            Err(Failed { path, source }) if self.state.overdue => {
                if !was_overdue {
                    tracing::warn!(
                        path = %path.display(), error = %source,
                        "the next audit log file cannot be begun: the current one is continued until it can"
                    );
                }
                Ok(())
            }
            begun => {
                if was_overdue && begun.is_ok() {
                    tracing::info!("the next audit log file was begun");
                }
                begun
            }
        }
    }

    /// Begins the next file with its header, which is durable before anything follows it.
    fn begin_next(&mut self) -> Result<(), Failed> {
        let opened = self.open_folder()?;
        let now = self.clock.now();
        let group = self.chain.head.group + 1;
        let folder = &self.folder;
        let path = self
            .next
            .clone()
            .unwrap_or_else(|| folder.join(LogFile::name(now, group)));
        // A copy: the chain advances only when the header is durable.
        let mut chain = self.chain;
        let created = now.unix_seconds();
        self.lines.clear();
        let (after, node) = (self.after.as_ref(), self.node.as_deref());
        Header::append(&mut self.lines, &chain, created, after, node);
        chain.close(&self.key, &mut self.lines, 0, chain.position, 0);
        let disk = &mut self.disk;
        let created_file = disk.create(&path);
        // From here on there may be a file that holds the position of the log. A failed try leaves
        // no second one.
        if created_file.is_ok() || !matches!(disk.at(&path), Ok(None)) {
            self.next = Some(path.clone());
        }
        let file = created_file.map_err(failed(&path))?;
        let identity = Identity::of(&file).map_err(failed(&path))?;
        disk.write(&file, &self.lines, 0).map_err(failed(&path))?;
        disk.sync(&file).map_err(failed(&path))?;
        disk.sync_folder(&opened).map_err(failed(&self.folder))?;
        if let Some(former) = &self.current {
            // Frees its reserved room; nothing depends on the outcome.
            let _kept = disk.cut(&former.file, former.length);
        }
        self.current = Some(Current {
            file,
            path,
            length: self.lines.len() as u64,
            is_torn: false,
            identity,
            is_gone: false,
            reserved: 0,
            created,
            groups: 1,
        });
        (self.next, self.after) = (None, None);
        self.chain = chain;
        self.publish(false);
        Ok(())
    }

    /// Cuts off the bytes after the last durable group, left by a failed write or a killed process.
    fn mend(&mut self) -> Result<(), Failed> {
        if let Some(current) = &mut self.current
            && current.is_torn
            && self.ahead.is_none()
        {
            self.disk
                .cut(&current.file, current.length)
                .map_err(failed(&current.path))?;
            current.is_torn = false;
            current.reserved = 0;
        }
        Ok(())
    }

    /// Writes groups up to position `to`, or up to the end of the file. A failure undoes everything
    /// that is not durable.
    fn write(&mut self, to: u64) -> Result<(), Failed> {
        let Some(current) = &mut self.current else {
            return Ok(());
        };
        // Groups that were written ahead are continued. If a step below fails, they are forgotten
        // here and written again from the journal.
        let mut ahead = self.ahead.take().unwrap_or(Ahead {
            chain: self.chain,
            length: current.length,
            records: 0,
            lost: 0,
            groups: 0,
        });
        // At least one group, however small the file's limit is.
        let length_max = if self.state.overdue {
            u64::MAX
        } else {
            self.file_bytes_max.max(current.length + 1)
        };
        current.is_torn = true;
        while ahead.chain.position < to && ahead.length < length_max {
            let room = usize::try_from(length_max - ahead.length).unwrap_or(GROUP_BYTES_MAX);
            let bytes_max = room.min(GROUP_BYTES_MAX);
            self.lines.clear();
            let journal = &self.shared.journal;
            let (from, lines) = (ahead.chain.position, &mut self.lines);
            let taken = journal.collect(from, to, bytes_max, lines, self.is_starting);
            if taken.end == from {
                break;
            }
            self.uses.note(&self.lines);
            ahead.chain.close(
                &self.key,
                &mut self.lines,
                taken.records,
                taken.end,
                taken.unfinished,
            );
            self.disk
                .write(&current.file, &self.lines, ahead.length)
                .map_err(failed(&current.path))?;
            ahead.length += self.lines.len() as u64;
            ahead.records += taken.records;
            ahead.lost += taken.lost;
            ahead.groups += 1;
        }
        self.ahead = Some(ahead);
        Ok(())
    }

    /// Makes the written groups durable.
    fn sync(&mut self) -> Result<(), Failed> {
        let (Some(current), Some(ahead)) = (&mut self.current, self.ahead.take()) else {
            return Ok(());
        };
        if ahead.groups > 0 {
            self.disk
                .sync(&current.file)
                .map_err(failed(&current.path))?;
            // Groups in a file that is not in its place any more are written again from the
            // journal.
            if !current.is_in_place(self.disk.as_mut(), ahead.length)? {
                return Ok(());
            }
        }
        current.is_torn = false;
        current.length = ahead.length;
        current.groups += ahead.groups;
        self.chain = ahead.chain;
        // Durable: only now may requests overwrite the frames.
        self.shared.journal.release(ahead.chain.position);
        self.metrics.audit_records.increment(ahead.records);
        self.publish(false);
        if ahead.lost > 0 {
            tracing::error!(
                bytes = ahead.lost,
                "the audit journal had bytes that are not records: a power cut tore it, or another program changed it"
            );
        }
        Ok(())
    }

    /// Keeps room for a whole journal past the log's end.
    fn reserve(&mut self) -> Result<(), Failed> {
        let room = self.shared.journal.capacity() + GROUP_BYTES_MAX as u64;
        let Some(current) = &mut self.current else {
            return Ok(());
        };
        if current.reserved >= current.length + room {
            return Ok(());
        }
        // Twice the room, so that not every turn has to reserve; once when the disk has no more.
        let mut reserved = Ok(());
        for bytes in [2 * room, room] {
            reserved = self.disk.reserve(&current.file, current.length, bytes);
            if reserved.is_ok() {
                current.reserved = current.length + bytes;
                break;
            }
        }
        reserved.map_err(failed(&current.path))
    }

    fn publish(&self, is_unwritable: bool) {
        self.progress.send_replace(Progress {
            head: self.chain.head,
            position: self.chain.position,
            is_unwritable,
        });
    }
}
