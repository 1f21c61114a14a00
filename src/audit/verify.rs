//! Verifying a log: what was cut off, edited, reordered, replaced or lost is found and named by
//! file and line.
//!
//! What it proves: every line is as the daemon wrote it, in its order, and nothing is missing up to
//! the head that the store has sealed. What it cannot: tell of what came after that head, which is
//! at most a minute old while the daemon runs, if the end is cut off together with all traces of
//! it; and hold against whoever has the root key.

use crate::audit::chain::{Chain, Header};
use crate::audit::reader::{Group, Groups, LogFile, Next};
use crate::audit::uses::Uses;
use crate::crypto::secret::Secret;
use crate::keystore::AuditHead;
use std::io;
use std::path::Path;

mod anchor;
mod finding;

pub use anchor::{ANCHOR_BYTES_MAX, anchor, anchor_key, read_anchor};
pub use finding::{Fault, Finding, Report};

/// Reads all log files of `folder` and holds them to the chain under `key` and to the head that the
/// store has sealed.
///
/// # Errors
/// What the operating system says of the files; what is wrong with their contents is in the report.
pub fn verify(folder: &Path, key: &Secret<32>, sealed: Option<&AuditHead>) -> io::Result<Report> {
    verify_from(folder, key, sealed, None)
}

/// The same from `anchor` on, up to which the log was found whole before: files that end there may
/// be gone, and are not read.
///
/// # Errors
/// As [`verify`].
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
    /// Up to where the log was found whole before.
    anchor: Option<&'a AuditHead>,
    /// What is told of the uses in sound groups.
    pub(super) uses: Option<&'a Uses>,
    link: Option<Link>,
    /// The head that the log says it began after.
    after: Option<AuditHead>,
    /// The file walked last.
    pub(super) last: LastFile,
    pub(super) report: Report,
}

/// What the walk remembers of the last file.
#[derive(Default)]
pub(super) struct LastFile {
    name: String,
    line: u64,
    groups: u64,
    /// Seconds since the Unix epoch.
    pub(super) created: u64,
    /// What no writer leaves behind, whenever it is killed, was found in it.
    is_broken: bool,
    /// Up to where nothing of that kind was found.
    pub(super) sound: Option<Sound>,
}

/// The beginning of a file that is as it was written.
#[derive(Clone, Copy)]
pub(super) struct Sound {
    pub(super) chain: Chain,
    /// The offset after it.
    pub(super) end: u64,
    pub(super) groups: u64,
}

/// The group before.
struct Link {
    /// As it says itself.
    chain: Chain,
    /// The MAC that its lines have: another one when either was edited.
    computed: [u8; 32],
    /// Its number by its place, which an edited one does not say.
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

    /// Walks the next file; `is_last` is what may end in the middle of a write.
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
                // Only what stands at the very end may be unfinished.
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

    fn group(&mut self, file: &LogFile, groups: &Groups, group: &Group) {
        let before = self.report.findings.len();
        let previous = if self.last.groups == 0 {
            self.header(file, group)
        } else {
            self.link.as_ref().map(|link| link.chain.head.mac)
        };
        // Without one, nothing of the file can be held to anything; found already.
        let previous = previous.unwrap_or_default();
        let found = &group.chain;
        let computed = groups.mac(self.key, &previous);
        let is_sound = computed == found.mac
            || self
                .link
                .as_ref()
                .is_some_and(|link| groups.mac(self.key, &link.computed) == found.mac);
        if !is_sound && self.report.findings.len() == before {
            let last_line = group.last_line;
            self.find(group.first_line, Fault::Edited { last_line });
        }
        if let Some(uses) = self.uses.filter(|_| is_sound) {
            uses.note(groups.lines());
        }
        let due = self.number(group, is_sound);
        let log = match (&group.header, &self.link) {
            (Some(header), _) if self.last.groups == 0 => header.log,
            (_, Some(link)) => link.chain.head.log,
            (_, None) => [0; 16],
        };
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
        self.link = Some(Link {
            chain,
            computed,
            due: if is_sound { found.group } else { due },
            is_sound,
        });
        if !self.last.is_broken {
            self.last.sound = Some(Sound {
                chain,
                end: group.end,
                groups: self.last.groups,
            });
        }
    }

    /// Holds a group's number, and what the journal had of it, to the group before; returns the
    /// number that is due.
    fn number(&mut self, group: &Group, is_sound: bool) -> u64 {
        let found = group.chain.group;
        let Some(link) = &self.link else {
            return found;
        };
        let (due, position) = (
            link.due + 1,
            link.chain.position + group.frames + group.chain.unfinished,
        );
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

    /// Holds a file's header to what is before it; returns the MAC that the file says it continues.
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

    /// Holds the first file to the anchor.
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

    /// Holds the log's end to the sealed head.
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
            // Begun anew, and nothing sealed since.
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
