//! How far a command is, for a user who watches it: a line that is written over, on a terminal
//! alone.

use crate::clock::Clock;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

/// Time between two lines.
const PAUSE: Duration = Duration::from_millis(200);

/// Counts what was done.
pub(super) struct Count {
    what: &'static str,
    is_shown: bool,
    clock: Clock,
    next: Duration,
    done: u64,
}

impl Count {
    /// Counts `what`; nothing is shown beside JSON, or where it would not be read.
    pub(super) fn new(what: &'static str, json: bool) -> Self {
        let clock = Clock::system();
        Self {
            what,
            is_shown: !json && io::stderr().is_terminal(),
            // What is done within a moment shows nothing.
            next: clock.monotonic() + PAUSE,
            clock,
            done: 0,
        }
    }

    /// More was done.
    pub(super) fn add(&mut self, more: u64) {
        self.to(self.done + more);
    }

    /// So much was done in all.
    pub(super) fn to(&mut self, done: u64) {
        self.done = done;
        if !self.is_shown || self.clock.monotonic() < self.next {
            return;
        }
        self.next = self.clock.monotonic() + PAUSE;
        let _closed = write!(io::stderr().lock(), "\r{} {}", self.done, self.what);
    }

    /// Clears the line.
    pub(super) fn end(self) {
        if self.is_shown {
            let width = self.what.len() + 21;
            let _closed = write!(io::stderr().lock(), "\r{:width$}\r", "");
        }
    }
}
