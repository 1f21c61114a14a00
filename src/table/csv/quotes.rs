//! Where a CSV file breaks RFC 4180's rules on quotes (section 2, items 5 to 7). The reader takes
//! such a file too, and then its rows are not what their writer meant.
//!
//! The state follows that of the reader, which takes a quote in the middle of a field for itself,
//! and what is behind a closing quote for the rest of the field.

use memchr::memchr;
use std::collections::VecDeque;
use std::ops::ControlFlow;

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

/// What a byte outside quotes does.
struct Step {
    fault: Option<&'static str>,
    ends_row: bool,
}

impl State {
    /// Goes over bytes, and hands `each` those outside quotes by their places, until it has enough.
    fn pass(&mut self, bytes: &[u8], mut each: impl FnMut(usize, &Step) -> ControlFlow<()>) {
        let mut place = 0;
        while let Some(byte) = bytes.get(place) {
            if *self == Self::Quoted {
                // Nothing but a quote means anything here.
                let Some(quote) = memchr(b'"', &bytes[place..]) else {
                    break;
                };
                place += quote + 1;
                *self = Self::QuoteInQuoted;
                continue;
            }
            if each(place, &self.step(*byte)).is_break() {
                break;
            }
            place += 1;
        }
    }

    /// Takes a byte that is outside quotes.
    fn step(&mut self, byte: u8) -> Step {
        let (next, fault) = match (*self, byte) {
            (_, b',' | b'\r' | b'\n') => (Self::FieldStart, None),
            (Self::FieldStart | Self::QuoteInQuoted, b'"') => (Self::Quoted, None),
            (Self::QuoteInQuoted, _) => (Self::Unquoted, Some(BEHIND)),
            (_, b'"') => (Self::Unquoted, Some(INSIDE)),
            _ => (Self::Unquoted, None),
        };
        *self = next;
        let ends_row = matches!(byte, b'\r' | b'\n');
        Step { fault, ends_row }
    }
}

/// The faults of a file, found as its bytes go by.
#[derive(Default)]
pub(super) struct Quotes {
    state: State,
    /// Bytes that went by.
    at: u64,
    /// Where the row begins that is going by.
    row: u64,
    /// Where each fault is that no row was told of yet.
    faults: VecDeque<(u64, &'static str)>,
}

impl Quotes {
    /// Takes the next bytes; none at the end of the file.
    pub(super) fn pass(&mut self, bytes: &[u8]) {
        let Self {
            state,
            at,
            row,
            faults,
        } = self;
        if bytes.is_empty() && *state == State::Quoted {
            *state = State::FieldStart;
            faults.push_back((at.saturating_sub(1), OPEN));
        }
        state.pass(bytes, |place, step| {
            let place = *at + place as u64;
            faults.extend(step.fault.map(|reason| (place, reason)));
            if step.ends_row {
                *row = place + 1;
            }
            ControlFlow::Continue(())
        });
        *at += bytes.len() as u64;
    }

    /// Bytes of the row that is going by, so far.
    pub(super) fn row_bytes(&self) -> u64 {
        self.at - self.row
    }

    /// What ends this row in the place of what is left of it.
    pub(super) fn row_end(&self) -> &'static [u8] {
        match self.state {
            State::Quoted => b"\"\n",
            _ => b"\n",
        }
    }

    /// Takes bytes of this row that do not go by; returns how many they are, if it ends in them.
    pub(super) fn drop_row(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut end = None;
        self.state.pass(bytes, |place, step| {
            if step.ends_row {
                end = Some(place + 1);
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        });
        end
    }

    /// Ends a row of which bytes did not go by with others that do.
    pub(super) fn end_row(&mut self, bytes: usize) {
        self.state = State::FieldStart;
        self.at += bytes as u64;
        self.row = self.at;
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
