//! Whether the log's file and the journal are still in their places. Another program may rename the
//! file, as `logrotate` does, cut it, or remove the whole folder. Records written after that would
//! be lost or hard to find.
//!
//! When a file is gone, a new one follows and continues the chain. A folder that was removed is
//! made again, for the records in the journal. But a journal without a name does not outlive a
//! killed process, so no key is issued until the next start has made a new one. If a folder was
//! moved, the writer waits until it is back.
//!
//! Each turn and each sync looks up one name, on the writer's thread.

use crate::audit::disk::{Disk, is_absent};
use crate::audit::journal::Journal;
use crate::audit::writer::{Current, Failed, Writer, failed};
use crate::file::open;
use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

/// The most files that may be lost in one turn, each made in it, before the turn fails.
const GONE_MAX: u32 = 3;
/// The journal's name in the log's folder.
pub(in crate::audit) const JOURNAL: &str = "journal";
/// Permission bits of the log's folder.
pub(in crate::audit) const FOLDER_MODE: u32 = 0o750;

impl Current {
    /// Whether the file still has its name and is at least `length` bytes long. If not, logs it
    /// once.
    pub(super) fn is_in_place(&mut self, disk: &mut dyn Disk, length: u64) -> Result<bool, Failed> {
        if self.is_gone {
            return Ok(false);
        }
        let seen = disk.at(&self.path).map_err(failed(&self.path))?;
        let problem = match seen {
            Some(seen) if seen.identity != self.identity => "another file is in its place",
            Some(seen) if seen.length < length => "it was cut",
            Some(_) => return Ok(true),
            None => "it was renamed or removed",
        };
        self.is_gone = true;
        tracing::error!(
            path = %self.path.display(), problem,
            "the audit log file was changed while it was written: the log continues in a new file; the old file is still needed for verification"
        );
        Ok(false)
    }
}

impl Writer {
    /// Checks that the current file is in its place.
    pub(super) fn look(&mut self) -> Result<(), Failed> {
        match &mut self.current {
            Some(current) => {
                let length = current.length;
                current.is_in_place(self.disk.as_mut(), length).map(drop)
            }
            None => Ok(()),
        }
    }

    pub(super) fn is_gone(&self) -> bool {
        self.current.as_ref().is_some_and(|current| current.is_gone)
    }

    /// Whether more can be written to the current file although the next one should have begun.
    pub(super) fn may_go_on(&self) -> bool {
        self.current.is_some() && !self.is_gone()
    }

    /// Ends a turn in which files are removed as fast as they are made.
    pub(super) fn give_up_after(&self, gone: u32) -> Result<(), Failed> {
        if gone < GONE_MAX {
            return Ok(());
        }
        let source = io::Error::other("log files are removed as soon as they are made");
        Err(failed(&self.folder)(source))
    }

    /// Checks that the journal is in its place. If it was removed, makes an empty one for the next
    /// start: only this process knows that the log has every record of the old one.
    pub(super) fn look_for_journal(&mut self) -> Result<(), Failed> {
        let path = self.folder.join(JOURNAL);
        let journal = &self.shared.journal;
        let identity = journal.identity().map_err(failed(&path))?;
        let seen = self.disk.at(&path).map_err(failed(&path))?;
        if seen.is_some_and(|seen| seen.identity == identity) {
            return Ok(());
        }
        let is_removed = journal.is_removed().map_err(failed(&path))?;
        if is_removed && seen.is_none() {
            self.leave_journal(&path).map_err(failed(&path))?;
        }
        let message = if is_removed {
            "the journal was removed while it was in use: restart the daemon"
        } else {
            "the journal was moved while it was in use: put it back, or restart the daemon"
        };
        Err(failed(&path)(io::Error::other(message)))
    }

    fn leave_journal(&self, path: &Path) -> io::Result<()> {
        let file = Journal::lock(path)?;
        Journal::make(&file, self.shared.journal.capacity(), self.chain.position)?;
        open::sync_folder(&self.folder)
    }

    /// Opens the folder. Makes it again when it was removed together with the journal.
    pub(super) fn open_folder(&mut self) -> Result<File, Failed> {
        let folder = self.folder.clone();
        let error = match self.disk.folder(&folder) {
            Ok(opened) => return Ok(opened),
            Err(error) => error,
        };
        let is_removed = self.shared.journal.is_removed();
        if !is_absent(&error) || !is_removed.map_err(failed(&folder))? {
            return Err(failed(&folder)(error));
        }
        let made = DirBuilder::new().mode(FOLDER_MODE).create(&folder);
        made.map_err(failed(&folder))?;
        self.disk.folder(&folder).map_err(failed(&folder))
    }
}
