//! Opens a log: checks its end against the chain and the sealed head, moves the records that a
//! killed process left in the journal to it, and continues it.

use crate::audit::chain::Chain;
use crate::audit::disk::{Disk, Identity, LOG_MODE, SystemDisk};
use crate::audit::journal::{FRAME_UNIT, Journal};
use crate::audit::reader::LogFile;
use crate::audit::uses::Uses;
use crate::audit::verify::{Fault, Finding, Sound, Walk};
use crate::audit::writer::{Current, FOLDER_MODE, Failed, JOURNAL, State, Writer};
use crate::audit::{Audit, Config, Known, OpenError, Progress, Shared};
use crate::clock::Clock;
use crate::crypto::entropy::Entropy;
use crate::crypto::secret::Secret;
use crate::file::open;
use crate::key::regions::Regions;
use crate::metrics::Metrics;
use std::fs::{DirBuilder, File};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex};
use tokio::sync::watch;

/// The first position of a new log: a journal of zeros has no frame there.
const BEGINNING: u64 = FRAME_UNIT;
/// A file without a group that has fewer bytes is one whose header a killed process was writing. It
/// holds no record.
const UNBEGUN_BYTES_MAX: u64 = 4096;

impl Audit {
    /// Opens the log in the configured folder, or begins one. When this returns, all records that a
    /// killed process left in the journal are durable in the log. `known` is what the
    /// store holds of it, `regions` are those of the keys. Waits for the disk.
    ///
    /// # Errors
    /// [`OpenError`]; the log is then unchanged.
    pub fn open(
        config: &Config,
        key: Secret<32>,
        known: Option<Known>,
        regions: &Regions,
        clock: Clock,
        entropy: &Entropy,
        metrics: &Arc<Metrics>,
    ) -> Result<Self, OpenError> {
        let start = Start {
            config,
            known: known.unwrap_or_default(),
            regions,
            clock,
            entropy,
            metrics,
        };
        let (audit, writer) = start.prepare(key, Box::new(SystemDisk))?;
        let thread = std::thread::Builder::new()
            .name("audit".to_owned())
            .spawn(|| writer.run())
            .map_err(io_error(&config.path))?;
        *audit
            .writer
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner) = Some(thread);
        Ok(audit)
    }
}

/// The parameters of opening a log.
pub(super) struct Start<'a> {
    pub(super) config: &'a Config,
    pub(super) known: Known,
    pub(super) regions: &'a Regions,
    pub(super) clock: Clock,
    pub(super) entropy: &'a Entropy,
    pub(super) metrics: &'a Arc<Metrics>,
}

/// The end of the log's last file.
struct End {
    chain: Chain,
    current: Current,
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> OpenError {
    let path = path.to_owned();
    move |source| OpenError::Io { path, source }
}

impl Start<'_> {
    /// Does everything except starting the writer's thread.
    pub(super) fn prepare(
        self,
        key: Secret<32>,
        disk: Box<dyn Disk>,
    ) -> Result<(Audit, Writer), OpenError> {
        let folder = &self.config.path;
        // The lock of the journal comes first: from here on no other process writes this log.
        DirBuilder::new()
            .recursive(true)
            .mode(FOLDER_MODE)
            .create(folder)
            .map_err(io_error(folder))?;
        let journal_path = folder.join(JOURNAL);
        let file = Journal::lock(&journal_path).map_err(|source| match source.kind() {
            io::ErrorKind::WouldBlock => OpenError::InUse {
                path: folder.clone(),
            },
            _ => io_error(&journal_path)(source),
        })?;
        let uses = Arc::new(Uses::since(self.clock.now(), self.regions.clone()));
        // The end of the log and the journal together decide where writing continues.
        let end = self.end_of_log(&key, &uses)?;
        let left = Journal::find(&file).map_err(io_error(&journal_path))?;
        let make = |position| {
            let journal = Journal::make(&file, self.config.journal_bytes, position);
            let made = journal.and_then(|journal| open::sync_folder(folder).map(|()| journal));
            made.map_err(io_error(&journal_path))
        };
        // Each of the two may be missing; without both, a new log begins.
        let (mut chain, journal, current) = match (end, left) {
            (Some(End { chain, current }), Some(journal)) => (chain, journal, Some(current)),
            (None, Some(journal)) => (self.begin(&key, journal.head())?, journal, None),
            (Some(End { chain, current }), None) => {
                tracing::error!(
                    path = %journal_path.display(),
                    "audit journal is missing or damaged: records that it held are lost"
                );
                // The position jumps, so that the loss shows in the log too.
                (chain, make(chain.position + FRAME_UNIT)?, Some(current))
            }
            (None, None) => (self.begin(&key, BEGINNING)?, make(BEGINNING)?, None),
        };
        if journal.tail() < chain.position {
            // The journal is an older copy, all of whose records the log has.
            journal.begin_at(chain.position);
        }
        // Released frames stay until they are overwritten. If the log has lost their records, they
        // are written again.
        let oldest = journal.tail().saturating_sub(journal.capacity());
        chain.position = chain.position.max(oldest);
        journal.release(chain.position);
        let after = if current.is_none() {
            self.known.sealed
        } else {
            None
        };
        if let Some(sealed) = &after {
            tracing::error!(
                path = %folder.display(), group = sealed.group,
                "the audit log is missing although the store has sealed its head: a new log begins and records that"
            );
        }
        let left = journal.tail() - chain.position;
        // The writer itself moves the remaining records, under the rules of a start.
        let mut writer = self.writer(key, journal, chain, disk, uses);
        (writer.current, writer.after) = (current, after);
        writer
            .advance()
            .map_err(|Failed { path, source }| OpenError::Io { path, source })?;
        writer.is_starting = false;
        writer.shared.journal.adopt();
        if left > 0 {
            tracing::warn!(
                bytes = left,
                "records that a killed process left in the audit journal were moved to the log"
            );
        }
        if writer.shared.journal.capacity() != Journal::ring_bytes(self.config.journal_bytes) {
            // The journal is empty now, so it can be made again in another size.
            let journal = make(writer.chain.position)?;
            writer.shared = Arc::new(Shared::new(journal, &self.clock));
        }
        let audit = Audit {
            shared: Arc::clone(&writer.shared),
            progress: writer.progress.subscribe(),
            uses: Arc::clone(&writer.uses),
            durability: self.config.durability,
            clock: self.clock,
            failures: self.metrics.audit_failures.clone(),
            writer: Mutex::default(),
        };
        Ok((audit, writer))
    }

    fn begin(&self, key: &Secret<32>, position: u64) -> Result<Chain, OpenError> {
        let mut id = [0; 16];
        self.entropy.draw(&mut id)?;
        Ok(Chain::begin(key, id, position))
    }

    fn writer(
        &self,
        key: Secret<32>,
        journal: Journal,
        chain: Chain,
        disk: Box<dyn Disk>,
        uses: Arc<Uses>,
    ) -> Writer {
        let progress = Progress {
            head: chain.head,
            position: chain.position,
            is_unwritable: false,
        };
        Writer {
            shared: Arc::new(Shared::new(journal, &self.clock)),
            folder: self.config.path.clone(),
            key,
            disk,
            clock: self.clock.clone(),
            metrics: Arc::clone(self.metrics),
            progress: watch::Sender::new(progress),
            file_bytes_max: self.config.file_bytes_max,
            file_seconds_max: self.config.file_seconds_max,
            chain,
            current: None,
            ahead: None,
            after: None,
            node: self.known.node.clone(),
            next: None,
            lines: Vec::new(),
            is_starting: true,
            uses,
            state: State::default(),
        }
    }

    /// The end of the log, as far as the log is sound and agrees with the head that the store has
    /// sealed. `None` when there is no log.
    fn end_of_log(&self, key: &Secret<32>, uses: &Uses) -> Result<Option<End>, OpenError> {
        let folder = &self.config.path;
        let mut files = LogFile::all(folder).map_err(io_error(folder))?;
        while let Some(file) = files.pop() {
            let path = file.path.clone();
            let length = path.metadata().map_err(io_error(&path))?.len();
            let mut walk = Walk::new(key, self.known.sealed.as_ref());
            walk.uses = Some(uses);
            walk.file(&file, true).map_err(io_error(&path))?;
            if walk.report.groups > 0 || length >= UNBEGUN_BYTES_MAX {
                return self.resume(&file, length, walk).map(Some);
            }
            let torn = path.with_extension("0.torn");
            tracing::warn!(path = %path.display(), torn = %torn.display(), "an audit log file that was never begun was put aside");
            std::fs::rename(&path, torn).map_err(io_error(&path))?;
        }
        Ok(None)
    }

    /// Continues a log after the sound part of its last file. A part that a power cut may have torn
    /// is put aside, but never a part that the store has sealed. An attacker who makes an edit look
    /// like a torn write gains no more than cutting the end off, and the sealed head finds both.
    fn resume(&self, file: &LogFile, length: u64, mut walk: Walk<'_>) -> Result<End, OpenError> {
        walk.end();
        // Faults that an earlier start accepted are not a reason to refuse this one.
        let all = walk.report.findings.iter();
        let findings = all.filter(|finding| !finding.fault.is_of_the_past());
        let first = findings.clone().next().cloned();
        let is_torn = findings
            .into_iter()
            .all(|finding| finding.fault.may_be_torn());
        let reaches = |sound: &Sound| {
            let head = sound.chain.head;
            self.known
                .sealed
                .is_none_or(|sealed| sealed.log != head.log || sealed.group <= head.group)
        };
        // Only a torn write may be cut off, and only behind the group that the store has sealed.
        let continued = if is_torn {
            walk.last.sound.filter(reaches)
        } else {
            None
        };
        let Some(sound) = continued else {
            let path = self.config.path.clone();
            let finding = first.unwrap_or_else(|| Finding {
                file: file.shown(),
                line: 1,
                fault: Fault::NoHeader,
            });
            return Err(OpenError::Broken { path, finding });
        };
        let path = file.path.clone();
        let input = open::own_to_write(&path).map_err(io_error(&path))?;
        if length > sound.end {
            let torn = put_aside(&input, &path, sound.end).map_err(io_error(&path))?;
            tracing::error!(
                path = %path.display(), bytes = length - sound.end, torn = %torn.display(),
                finding = first.map(|finding| finding.to_string()),
                "the audit log ends in an incomplete write, which was put aside; records that the journal still has are written again"
            );
        }
        let current = Current {
            identity: Identity::of(&input).map_err(io_error(&path))?,
            file: input,
            path,
            length: sound.end,
            is_torn: length > sound.end,
            is_gone: file.is_moved,
            reserved: 0,
            created: walk.last.created,
            groups: sound.groups,
        };
        let chain = sound.chain;
        Ok(End { chain, current })
    }
}

/// Copies the bytes of `file` from `from` on into a file beside it, because they may be evidence,
/// and returns the path of the copy.
fn put_aside(file: &File, path: &Path, from: u64) -> io::Result<PathBuf> {
    let torn = path.with_extension(format!("{from}.torn"));
    let mut input = file;
    input.seek(SeekFrom::Start(from))?;
    io::copy(&mut input, &mut open::anew(&torn, LOG_MODE)?)?;
    Ok(torn)
}

impl Shared {
    pub(super) fn new(journal: Journal, clock: &Clock) -> Self {
        let shared = Self {
            journal,
            unwritable: AtomicBool::new(false),
            full: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
            durable_since: AtomicU64::new(0),
        };
        shared.durable_since(clock.monotonic());
        shared
    }
}
