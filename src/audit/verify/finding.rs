//! The faults that a verification can find.

use crate::keystore::AuditHead;
use std::fmt;

/// The most findings that are kept; a log with more deserves no trust at all.
pub(super) const FINDINGS_MAX: usize = 100;

/// The result of a verification.
#[derive(Debug, Default)]
pub struct Report {
    /// Log files read.
    pub files: u64,
    /// The number of groups in them.
    pub groups: u64,
    /// The number of records in them.
    pub records: u64,
    /// The last head of the log.
    pub head: Option<AuditHead>,
    /// The head that the first file says it begins after, if that file is sound.
    pub begins_after: Option<AuditHead>,
    /// The faults, in the order of the log, at most a hundred. Empty when the log is whole.
    pub findings: Vec<Finding>,
}

/// A fault and its place. Prints as one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The file's name in the folder; empty when there is none.
    pub file: String,
    /// The line, counted from 1.
    pub line: u64,
    /// The fault.
    pub fault: Fault,
}

impl fmt::Display for Finding {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.file.is_empty() {
            return self.fault.fmt(out);
        }
        write!(out, "{} line {}: {}", self.file, self.line, self.fault)
    }
}

/// The faults of a log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The chain's MAC does not fit the lines.
    #[error("edited: lines up to {last_line} are not what was written here, or not in that order")]
    Edited {
        /// The group's chain line.
        last_line: u64,
    },
    /// A header is missing where one must be.
    #[error("edited: a log file begins with a header")]
    NoHeader,
    /// Lines without a sound chain line after them, with more of the log behind.
    #[error("cut off or edited: no chain line closes what begins here")]
    Unclosed,
    /// There is no sound chain line at the end of the log. A killed process leaves that too.
    #[error("not closed by a chain line: cut off, appended by others, or being written right now")]
    Unfinished,
    /// A group has the place of an earlier one.
    #[error("reordered: group {found} is in the place of group {due}")]
    Reordered {
        /// Its own number.
        found: u64,
        /// The number that belongs there.
        due: u64,
    },
    /// Groups are missing before this line.
    #[error("missing: groups {from} to {to} are not here")]
    Missing {
        /// The first.
        from: u64,
        /// The last.
        to: u64,
    },
    /// The first file is not the log's first.
    #[error(
        "missing: groups 1 to {to} are in files that are not in the folder; put archived files back"
    )]
    Earlier {
        /// The last missing group.
        to: u64,
    },
    /// The log itself states that it was begun when an earlier log's files were missing.
    #[error(
        "missing: when this log was begun, the files of the log before it, up to group {group}, were missing"
    )]
    BeganAnew {
        /// The last group that the store had sealed.
        group: u64,
    },
    /// The number in the file's name differs from the one in its header.
    #[error("renamed: the file begins with group {group}")]
    Renamed {
        /// The number in its header.
        group: u64,
    },
    /// The file belongs to another log, or to another root key.
    #[error("replaced: this file belongs to another log than the file before it")]
    OtherLog,
    /// The file does not continue the one before it.
    #[error("replaced: this file does not continue the one before it")]
    NotContinued,
    /// A sound group, but not the one that the store has sealed.
    #[error("replaced: group {group} is not the group that the store has sealed")]
    Replaced {
        /// Its number.
        group: u64,
    },
    /// A sound group, but not the one of the anchor.
    #[error("replaced: group {group} is not the group of the anchor")]
    NotAnchored {
        /// Its number.
        group: u64,
    },
    /// The log ends before the anchor.
    #[error("cut off: the log ends with group {group}, the anchor is of group {anchor}")]
    EndsBefore {
        /// The last group of the log.
        group: u64,
        /// The group of the anchor.
        anchor: u64,
    },
    /// The log ends before the sealed head.
    #[error("cut off: the log ends with group {group}, the store has sealed group {sealed}")]
    CutOff {
        /// The last group of the log.
        group: u64,
        /// The group that the store has sealed.
        sealed: u64,
    },
    /// There is no log at all.
    #[error("missing: there is no log file, the store has sealed group {sealed}")]
    Gone {
        /// The group that must be there.
        sealed: u64,
    },
    /// A folder of a node without a log.
    #[error("missing: there is no log file")]
    NoLog,
    /// The log of a node that the store does not know.
    #[error(
        "unknown: the store has sealed no head of this log, so it is of another store, or of a node that the store has forgotten"
    )]
    Unsealed,
    /// Records are missing, because of a power cut or because the journal was removed or changed.
    #[error(
        "lost: {bytes} bytes of records were in the journal before line {line} and did not get here (a power cut, or the journal was changed)"
    )]
    Lost {
        /// Their bytes in the journal.
        bytes: u64,
        /// The chain line.
        line: u64,
    },
}

impl Fault {
    /// Whether the fault lies in the past: it does not prevent the log from being continued.
    pub(in crate::audit) fn is_of_the_past(&self) -> bool {
        matches!(
            self,
            Self::Earlier { .. } | Self::BeganAnew { .. } | Self::Lost { .. }
        )
    }

    /// Whether the fault concerns only files before the first one that is present.
    #[must_use]
    pub fn is_of_the_beginning(&self) -> bool {
        matches!(self, Self::Earlier { .. } | Self::BeganAnew { .. })
    }

    /// Whether an interrupted write can look like this: pages reach the disk in no order.
    pub(in crate::audit) fn may_be_torn(&self) -> bool {
        matches!(
            self,
            Self::Unfinished
                | Self::Unclosed
                | Self::Edited { .. }
                | Self::Missing { .. }
                | Self::Reordered { .. }
        )
    }
}

impl Report {
    /// Whether no fault was found.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.findings.is_empty()
    }

    pub(super) fn find(&mut self, file: &str, line: u64, fault: Fault) {
        if self.findings.len() < FINDINGS_MAX {
            let file = file.to_owned();
            self.findings.push(Finding { file, line, fault });
        }
    }
}
