//! Where a CSV file breaks RFC 4180's rules on quotes (section 2, items 5 to 7). The reader takes
//! such a file too, and then its rows are not what their writer meant.
//!
//! The state follows that of the reader, which takes a quote in the middle of a field for itself,
//! and what is behind a closing quote for the rest of the field.

use memchr::memchr;
use std::collections::VecDeque;

const OPEN: &str = "a quote is not closed before the file ends";
const BEHIND: &str = "text is behind a closing quote";
const INSIDE: &str = "a quote is in the middle of a field that does not begin with one";

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum State {
    #[default]
    FieldStart,
    Unquoted,
    Quoted,
    /// Behind a quote in a quoted field: its end, or the first of two that stand for one.
    QuoteInQuoted,
}

/// The faults of a file, found as its bytes go by.
#[derive(Default)]
pub(super) struct Quotes {
    state: State,
    /// Bytes that went by.
    at: u64,
    /// Where each fault is that no row was told of yet.
    faults: VecDeque<(u64, &'static str)>,
}

impl Quotes {
    /// Takes the next bytes; none at the end of the file.
    pub(super) fn pass(&mut self, bytes: &[u8]) {
        if bytes.is_empty() && self.state == State::Quoted {
            self.state = State::FieldStart;
            self.faults.push_back((self.at.saturating_sub(1), OPEN));
        }
        let mut place = 0;
        while let Some(byte) = bytes.get(place) {
            if self.state == State::Quoted {
                // Nothing but a quote means anything here.
                let Some(quote) = memchr(b'"', &bytes[place..]) else {
                    break;
                };
                place += quote + 1;
                self.state = State::QuoteInQuoted;
                continue;
            }
            let fault = self.step(*byte);
            if let Some(reason) = fault {
                self.faults.push_back((self.at + place as u64, reason));
            }
            place += 1;
        }
        self.at += bytes.len() as u64;
    }

    /// The state behind a byte that is outside quotes, and what is wrong with it.
    fn step(&mut self, byte: u8) -> Option<&'static str> {
        let (next, fault) = match (self.state, byte) {
            (_, b',' | b'\r' | b'\n') => (State::FieldStart, None),
            (State::FieldStart | State::QuoteInQuoted, b'"') => (State::Quoted, None),
            (State::QuoteInQuoted, _) => (State::Unquoted, Some(BEHIND)),
            (_, b'"') => (State::Unquoted, Some(INSIDE)),
            _ => (State::Unquoted, None),
        };
        self.state = next;
        fault
    }

    /// The first fault before this byte; those up to there are told.
    pub(super) fn fault_before(&mut self, end: u64) -> Option<&'static str> {
        let mut first = None;
        while let Some((at, reason)) = self.faults.front().copied()
            && at < end
        {
            first.get_or_insert(reason);
            self.faults.pop_front();
        }
        first
    }
}
