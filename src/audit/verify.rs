//! Verifies a log: names by file and line every place where it was cut off, edited, reordered,
//! replaced, or has lost records.
//!
//! A log that verifies has every line as the daemon wrote it, in its order, and nothing is missing
//! up to the head that the store has sealed. Two things cannot be detected: that the end after that
//! head (at most a minute while the daemon runs) was cut off together with all its traces; and a
//! forgery by a holder of the root key.

use crate::audit::chain::{Chain, Header};
use crate::audit::reader::{Group, Groups, LogFile, Next};
use crate::audit::uses::Uses;
use crate::crypto::secret::Secret;
use crate::keystore::AuditHead;
use std::io;
use std::path::Path;

mod anchor;
mod finding;
mod nodes;

pub use anchor::{ANCHOR_BYTES_MAX, anchor, anchor_key, read_anchor};
pub use finding::{Fault, Finding, Report};
pub use nodes::{NodeReport, verify_node};

/// Reads all log files of `folder`, and checks them against the chain under `key` and against the
/// head that the store has sealed.
///
/// # Errors
/// The error of the operating system about the files; faults of their content are in the report.
pub fn verify(folder: &Path, key: &Secret<32>, sealed: Option<&AuditHead>) -> io::Result<Report> {
    verify_from(folder, key, sealed, None)
}

/// Verifies a log from `anchor` on, up to which it was found whole before. Files that end there may
/// be missing, and are not read.
///
/// # Errors
/// The errors of [`verify`].
pub fn verify_from(
    folder: &Path,
    key: &Secret<32>,
    sealed: Option<&AuditHead>,
    anchor: Option<&AuditHead>,
) -> io::Result<Report> {
    let mut walk = Walk::new(key, sealed);
    walk.anchor = anchor;
    let mut files = LogFile::all(folder)?;
    if let Some(anchor) = anchor {
        let begins_after = files.iter().position(|file| file.group > anchor.group + 1);
        let first = begins_after.unwrap_or(files.len()).saturating_sub(1);
        files.drain(..first);
    }
    for (number, file) in files.iter().enumerate() {
        walk.file(file, number + 1 == files.len())?;
    }
    walk.end();
    Ok(walk.report)
}

/// A walk through the files of one log, in order.
pub(super) struct Walk<'a> {
    key: &'a Secret<32>,
    sealed: Option<&'a AuditHead>,
    /// The head up to which the log was found whole before.
    anchor: Option<&'a AuditHead>,
    /// Receives the uses in sound groups.
    pub(super) uses: Option<&'a Uses>,
    link: Option<Link>,
    /// The head after which the log says it was begun.
    after: Option<AuditHead>,
    /// The file that was walked last.
    pub(super) last: LastFile,
    pub(super) report: Report,
}

/// The walk's state about the last file.
#[derive(Default)]
pub(super) struct LastFile {
    name: String,
    line: u64,
    groups: u64,
    /// Seconds since the Unix epoch.
    pub(super) created: u64,
    /// Whether a fault was found that no writer leaves behind, whenever it is killed.
    is_broken: bool,
    /// The part before any such fault.
    pub(super) sound: Option<Sound>,
}

/// The part of a file that is as it was written.
#[derive(Clone, Copy)]
pub(super) struct Sound {
    pub(super) chain: Chain,
    /// The offset after that part.
    pub(super) end: u64,
    pub(super) groups: u64,
}

/// The previous group.
struct Link {
    /// As the group's chain line states it.
    chain: Chain,
    /// The MAC computed from its lines. It differs from the stated MAC when either was edited.
    computed: [u8; 32],
    /// Its number by its place in the log; an edited chain line may state another.
    due: u64,
    is_sound: bool,
}

impl<'a> Walk<'a> {
    pub(super) fn new(key: &'a Secret<32>, sealed: Option<&'a AuditHead>) -> Self {
        Self {
            key,
            sealed,
            anchor: None,
            uses: None,
            link: None,
            after: None,
            last: LastFile::default(),
            report: Report::default(),
        }
    }

    /// Walks the next file. Only the last file may end in the middle of a write.
    pub(super) fn file(&mut self, file: &LogFile, is_last: bool) -> io::Result<()> {
        let mut groups = Groups::open(&file.path)?;
        self.report.files += 1;
        self.last = LastFile {
            name: file.shown(),
            ..LastFile::default()
        };
        loop {
            let next = groups.next()?;
            self.last.line = groups.line();
            match next {
                Next::End => break,
                // Only the very end may be unfinished.
                Next::Rest { first_line } if is_last && groups.is_at_end()? => {
                    self.find(first_line, Fault::Unfinished);
                }
                Next::Rest { first_line } => self.find(first_line, Fault::Unclosed),
                Next::Group(group) => self.group(file, &groups, &group),
            }
        }
        if self.last.line == 0 {
            self.find(1, Fault::NoHeader);
        }
        Ok(())
    }

    /// Checks one group against the chain, the sealed head and the anchor, and moves the link.
    fn group(&mut self, file: &LogFile, groups: &Groups, group: &Group) {
        let before = self.report.findings.len();
        let stated = if self.last.groups == 0 {
            self.header(file, group)
        } else {
            self.link.as_ref().map(|link| link.chain.head.mac)
        };
        // Without a previous MAC, nothing of the file can be checked; that was reported already.
        let previous = stated.unwrap_or_default();
        let found = &group.chain;
        let computed = groups.mac(self.key, &previous);
        // An edit of a chain line's MAC is one fault: the next group may fit the MAC that was
        // computed.
        let is_sound = computed == found.mac
            || self
                .link
                .as_ref()
                .is_some_and(|link| groups.mac(self.key, &link.computed) == found.mac);
        if !is_sound && self.report.findings.len() == before {
            let last_line = group.last_line;
            self.find(group.first_line, Fault::Edited { last_line });
        }
        if is_sound && let Some(uses) = self.uses {
            uses.note(groups.lines());
        }
        // The number is checked in any case, so that missing groups are found besides an edit.
        let due = self.number(group, is_sound);
        let log = match (&group.header, &self.link) {
            (Some(header), _) if self.last.groups == 0 => header.log,
            (_, Some(link)) => link.chain.head.log,
            (_, None) => [0; 16],
        };
        // A forged chain may be sound in itself; the sealed head and the anchor are not in the log.
        if let Some(sealed) = self.sealed
            && (is_sound && sealed.log == log && sealed.group == found.group)
            && sealed.mac != found.mac
        {
            let group = found.group;
            self.find(self.last.line, Fault::Replaced { group });
        }
        if let Some(anchor) = self.anchor
            && (is_sound && anchor.log == log && anchor.group == found.group)
            && anchor.mac != found.mac
        {
            let group = found.group;
            self.find(self.last.line, Fault::NotAnchored { group });
        }
        if is_sound && self.link.is_none() {
            let before = group.header.as_ref().map(|header| header.before());
            self.report.begins_after = before;
        }
        self.report.groups += 1;
        self.report.records += group.records;
        self.last.groups += 1;
        let head = AuditHead {
            log,
            group: found.group,
            mac: found.mac,
        };
        let chain = Chain {
            head,
            position: found.position,
        };
        self.report.head = Some(head);
        // The next group is checked against this one, whether or not this one is sound.
        self.link = Some(Link {
            chain,
            computed,
            due: if is_sound { found.group } else { due },
            is_sound,
        });
        // A start may continue the log behind this group.
        if !self.last.is_broken {
            self.last.sound = Some(Sound {
                chain,
                end: group.end,
                groups: self.last.groups,
            });
        }
    }

    /// Checks a group's number, and its position in the journal, against the previous group.
    /// Returns the expected number.
    fn number(&mut self, group: &Group, is_sound: bool) -> u64 {
        let found = group.chain.group;
        let Some(link) = &self.link else {
            return found;
        };
        let (due, position) = (
            link.due + 1,
            link.chain.position + group.frames + group.chain.unfinished,
        );
        // After an edited number, the next group may follow the true number or the stated one.
        if found == due || found == link.chain.head.group + 1 {
            let moved = group.chain.position;
            if is_sound && link.is_sound && moved > position {
                let (bytes, line) = (moved - position, group.last_line);
                self.find(group.first_line, Fault::Lost { bytes, line });
            }
        } else if found > due {
            let to = found - 1;
            self.find(group.first_line, Fault::Missing { from: due, to });
        } else {
            self.find(group.first_line, Fault::Reordered { found, due });
        }
        due
    }

    /// Checks a file's header against what comes before it. Returns the MAC that the file says it
    /// continues.
    fn header(&mut self, file: &LogFile, group: &Group) -> Option<[u8; 32]> {
        let Some(header) = &group.header else {
            self.find(1, Fault::NoHeader);
            return None;
        };
        self.last.created = header.created;
        if file.group != header.group {
            let group = header.group;
            self.find(1, Fault::Renamed { group });
        }
        match &self.link {
            None if let Some(anchor) = self.anchor => self.anchored(header, anchor),
            None => {
                if header.group > 1 {
                    let to = header.group - 1;
                    self.find(1, Fault::Earlier { to });
                }
                if let Some(after) = header.after {
                    self.after = Some(after);
                    let group = after.group;
                    self.find(1, Fault::BeganAnew { group });
                }
            }
            Some(link) if link.chain.head.log != header.log => {
                self.find(1, Fault::OtherLog);
            }
            Some(link) => {
                let fits = [link.chain.head.mac, link.computed].contains(&header.previous);
                if !fits && link.chain.head.group + 1 == header.group {
                    self.find(1, Fault::NotContinued);
                }
            }
        }
        Some(header.previous)
    }

    /// Checks the first file against the anchor.
    fn anchored(&mut self, header: &Header, anchor: &AuditHead) {
        self.after = header.after;
        let before = header.before();
        if header.log != anchor.log {
            self.find(1, Fault::OtherLog);
        } else if before.group > anchor.group {
            let (from, to) = (anchor.group + 1, before.group);
            self.find(1, Fault::Missing { from, to });
        } else if before.group == anchor.group && before.mac != anchor.mac {
            let group = anchor.group;
            self.find(1, Fault::NotAnchored { group });
        }
    }

    /// Checks the log's end against the sealed head.
    pub(super) fn end(&mut self) {
        if let Some(anchor) = self.anchor {
            let group = self.report.head.map_or(0, |head| head.group);
            if group < anchor.group {
                let anchor = anchor.group;
                self.find(self.last.line, Fault::EndsBefore { group, anchor });
            }
        }
        let Some(sealed) = self.sealed else { return };
        match self.report.head {
            None => {
                let sealed = sealed.group;
                self.report.find("", 0, Fault::Gone { sealed });
            }
            // The log was begun again, and no head was sealed since.
            Some(head) if head.log != sealed.log && self.after == Some(*sealed) => {}
            Some(head) if head.log != sealed.log => self.find(1, Fault::OtherLog),
            Some(head) if head.group < sealed.group => {
                let (group, sealed) = (head.group, sealed.group);
                self.find(self.last.line, Fault::CutOff { group, sealed });
            }
            Some(_) => {}
        }
    }

    fn find(&mut self, line: u64, fault: Fault) {
        self.last.is_broken |= !fault.is_of_the_past();
        self.report.find(&self.last.name, line, fault);
    }
}

#[cfg(test)]
mod tests;
