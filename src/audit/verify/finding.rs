//! What verifying a log can find.

use crate::keystore::AuditHead;
use std::fmt;

/// Findings that are kept; a log that has more has none to trust.
pub(super) const FINDINGS_MAX: usize = 100;

/// What verifying found.
#[derive(Debug, Default)]
pub struct Report {
    /// Log files read.
    pub files: u64,
    /// Groups of them.
    pub groups: u64,
    /// Records of them.
    pub records: u64,
    /// Where the log ends.
    pub head: Option<AuditHead>,
    /// What the first file says that it begins after, where that is sound.
    pub begins_after: Option<AuditHead>,
    /// What is wrong, in the order of the log; at most a hundred. Empty when the log is whole.
    pub findings: Vec<Finding>,
}

/// Something wrong, and where. Prints as one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The file's name in the folder; empty when there is none.
    pub file: String,
    /// Counted from 1.
    pub line: u64,
    /// What is wrong there.
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

/// What can be wrong with a log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The chain's MAC does not fit the lines.
    #[error("edited: lines up to {last_line} are not what was written here, or not in that order")]
    Edited {
        /// The group's chain line.
        last_line: u64,
    },
    /// There is no header where one is due.
    #[error("edited: a log file begins with a header")]
    NoHeader,
    /// Lines without a sound chain line after them, with more of the log behind.
    #[error("cut off or edited: no chain line closes what begins here")]
    Unclosed,
    /// The same at the end of the log: what a killed process leaves too.
    #[error("not closed by a chain line: cut off, appended by others, or being written right now")]
    Unfinished,
    /// A group stands where an earlier one was.
    #[error("reordered: group {found} stands where group {due} is due")]
    Reordered {
        /// Its number.
        found: u64,
        /// The number that should stand there.
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
    #[error("missing: groups 1 to {to} are in files that are not here; put archived ones back")]
    Earlier {
        /// The last of them.
        to: u64,
    },
    /// The log itself says that it began when another one's files were gone.
    #[error(
        "missing: this log was begun when the files of the one before it, up to group {group}, were gone"
    )]
    BeganAnew {
        /// The last group that the store had sealed.
        group: u64,
    },
    /// The file's name has another number than its header.
    #[error("renamed: the file begins with group {group}")]
    Renamed {
        /// As its header says.
        group: u64,
    },
    /// The file belongs to another log, or to another root key.
    #[error("replaced: of another log than what is before it")]
    OtherLog,
    /// Two files that do not fit each other.
    #[error("replaced: this file does not continue the one before it")]
    NotContinued,
    /// A sound group, but not the one that the store has sealed.
    #[error("replaced: group {group} is not the one that the store has sealed")]
    Replaced {
        /// Its number.
        group: u64,
    },
    /// A sound group, but not the one of the anchor.
    #[error("replaced: group {group} is not the one of the anchor")]
    NotAnchored {
        /// Its number.
        group: u64,
    },
    /// The log ends before the anchor.
    #[error("cut off: the log ends with group {group}, the anchor is of group {anchor}")]
    EndsBefore {
        /// The last group that is here.
        group: u64,
        /// The one of the anchor.
        anchor: u64,
    },
    /// The log ends before the sealed head.
    #[error("cut off: the log ends with group {group}, the store has sealed group {sealed}")]
    CutOff {
        /// The last group that is here.
        group: u64,
        /// The one that must be.
        sealed: u64,
    },
    /// There is no log at all.
    #[error("missing: there is no log file, the store has sealed group {sealed}")]
    Gone {
        /// The one that must be here.
        sealed: u64,
    },
    /// Records that a crash of the machine took, or whoever removed the journal.
    #[error(
        "lost: {bytes} bytes of records were in the journal before line {line} and did not get here (a power cut, or the journal was changed)"
    )]
    Lost {
        /// With what surrounds them.
        bytes: u64,
        /// The chain line.
        line: u64,
    },
}

impl Fault {
    /// Whether it tells of what happened before the log went on: no reason not to go on again.
    pub(in crate::audit) fn is_of_the_past(&self) -> bool {
        matches!(
            self,
            Self::Earlier { .. } | Self::BeganAnew { .. } | Self::Lost { .. }
        )
    }

    /// Whether it is about where the log begins, and about nothing that is here.
    #[must_use]
    pub fn is_of_the_beginning(&self) -> bool {
        matches!(self, Self::Earlier { .. } | Self::BeganAnew { .. })
    }

    /// Whether a write that a power cut stopped in the middle can look like this: pages reach the
    /// disk in no order.
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
    /// Whether nothing is wrong.
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
