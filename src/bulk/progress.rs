//! How far a job is: a bar on a terminal; elsewhere a line in the log now and then, which is JSON
//! where `--json` asks for it.

use crate::clock::Clock;
use indicatif::{HumanBytes, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use std::cell::Cell;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Lines come no closer than this.
const LINES_APART: Duration = Duration::from_secs(5);
/// Redraws a second.
const REDRAWS_HZ: u8 = 10;
/// What a bar shows where it is known how many rows there are, and where it is not.
const OF_ALL: &str =
    "{bar:30} {percent:>3} %  {human_pos} of {human_len} rows  {rate}  {msg}  {eta} left";
const OPEN: &str = "{human_pos} rows  {rate}  {msg}";

thread_local! {
    /// Rows of the part that this thread writes.
    static IN_PART: Cell<u64> = const { Cell::new(0) };
}

/// Where a job reports how far it is.
pub struct Progress {
    bar: ProgressBar,
    /// Bytes of the finished parts.
    bytes: AtomicU64,
    lines: Option<Lines>,
}

/// What lines say, and when the last one was logged; locked once a part, or once for some thousand
/// rows that are looked at.
struct Lines {
    clock: Clock,
    to_the_end: bool,
    state: Mutex<State>,
}

impl Lines {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How far it is.
struct Seen {
    rows: u64,
    /// Rows in all, where that is known.
    count: Option<u64>,
    /// Rows of this run a second.
    rate: f64,
}

#[derive(Clone, Copy, Default)]
struct State {
    /// When this run began, and the rows that were finished then.
    began: Duration,
    rows_before: u64,
    last: Duration,
}

/// Whole rows a second.
fn write_rate(state: &ProgressState, out: &mut dyn fmt::Write) {
    // What cannot be written is not shown.
    let _ = write!(out, "{:.0} rows/s", state.per_sec());
}

impl Progress {
    /// A bar on standard error.
    #[must_use]
    pub fn terminal() -> Self {
        let target = ProgressDrawTarget::stderr_with_hz(REDRAWS_HZ);
        Self {
            bar: ProgressBar::with_draw_target(None, target),
            bytes: AtomicU64::new(0),
            lines: None,
        }
    }

    /// A line in the log, at most every five seconds; where programs read it also one for the last
    /// part.
    #[must_use]
    pub fn log(clock: Clock, to_the_end: bool) -> Self {
        Self {
            bar: ProgressBar::hidden(),
            bytes: AtomicU64::new(0),
            lines: Some(Lines {
                clock,
                to_the_end,
                state: Mutex::default(),
            }),
        }
    }

    /// Reports nothing.
    #[must_use]
    pub fn silent() -> Self {
        Self {
            bar: ProgressBar::hidden(),
            bytes: AtomicU64::new(0),
            lines: None,
        }
    }

    /// Rows written so far.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.bar.position()
    }

    /// Begins to count: `rows` of `count` are finished, in parts of `bytes` bytes.
    pub fn begin(&self, rows: u64, bytes: u64, count: u64) {
        self.start(OF_ALL, rows, Some(count));
        self.count_bytes(bytes);
    }

    /// Begins to count rows of which it is not known how many there are.
    pub fn begin_open(&self) {
        self.start(OPEN, 0, None);
    }

    /// Begins to count the rows of a table that are looked at.
    pub fn begin_look(&self, count: Option<u64>) {
        let template = count.map_or(OPEN, |_| OF_ALL);
        self.start(template, 0, count);
    }

    fn start(&self, template: &str, rows: u64, count: Option<u64>) {
        if let Ok(style) = ProgressStyle::with_template(template) {
            self.bar.set_style(style.with_key("rate", write_rate));
        }
        // It may have counted before. Rows of earlier runs do not count for this run's rate.
        self.bar.reset();
        match count {
            Some(count) => self.bar.set_length(count),
            None => self.bar.unset_length(),
        }
        self.bar.set_position(rows);
        self.bar.reset_eta();
        if let Some(lines) = &self.lines {
            let now = lines.clock.monotonic();
            *lines.state() = State {
                began: now,
                rows_before: rows,
                last: now,
            };
        }
    }

    /// Reports that `rows` more rows of a table were looked at.
    pub fn seen(&self, rows: u64) {
        self.bar.inc(rows);
        self.look_line(false);
    }

    /// Reports that a look at a table has ended.
    pub fn end_look(&self) {
        self.look_line(true);
        self.end();
    }

    fn look_line(&self, is_last: bool) {
        self.line(is_last, |Seen { rows, count, rate }| {
            tracing::info!(
                rows,
                count,
                rows_per_second = rate.round(),
                "the table is looked through"
            );
        });
    }

    /// Reports that all rows so far are in `bytes` bytes of a file, of which more are to come.
    pub fn written(&self, bytes: u64) {
        self.write_line(bytes, false);
    }

    /// Reports that all rows are in `bytes` bytes of a file.
    pub fn written_all(&self, bytes: u64) {
        self.write_line(bytes, true);
        self.end();
    }

    fn write_line(&self, bytes: u64, is_last: bool) {
        self.bytes.store(bytes, Ordering::Relaxed);
        self.bar.set_message(HumanBytes(bytes).to_string());
        self.line(is_last, |Seen { rows, rate, .. }| {
            tracing::info!(
                rows,
                bytes,
                rows_per_second = rate.round(),
                "the stream is under way"
            );
        });
    }

    /// Says how far it is, unless a line has just done so.
    fn line(&self, is_last: bool, say: impl FnOnce(Seen)) {
        let Some(lines) = &self.lines else { return };
        let now = lines.clock.monotonic();
        let mut state = lines.state();
        if now.saturating_sub(state.last) >= LINES_APART || lines.to_the_end && is_last {
            state.last = now;
            let rows = self.bar.position();
            let of_run = rows.saturating_sub(state.rows_before) as f64;
            let seconds = now.saturating_sub(state.began).as_secs_f64();
            say(Seen {
                rows,
                count: self.bar.length(),
                rate: of_run / seconds.max(1e-9),
            });
        }
    }

    /// Reports `rows` more rows of the part that this thread writes.
    pub fn advance(&self, rows: usize) {
        IN_PART.set(IN_PART.get() + rows as u64);
        self.bar.inc(rows as u64);
    }

    /// Takes back the rows of the part that this thread writes: it is begun again.
    pub fn drop_part(&self) {
        self.bar.dec(IN_PART.take());
    }

    /// Reports a finished part of `bytes` bytes.
    pub fn part(&self, part: u64, bytes: u64) {
        IN_PART.take();
        let bytes = self.count_bytes(bytes);
        let count = self.bar.length().unwrap_or_default();
        let is_last = self.bar.position() >= count;
        self.line(is_last, |Seen { rows, rate, .. }| {
            let left = count.saturating_sub(rows) as f64 / rate.max(1e-9);
            tracing::info!(
                part,
                rows,
                count,
                bytes,
                rows_per_second = rate.round(),
                seconds_left = left.round(),
                "the job is under way"
            );
        });
    }

    /// The last row is there, or there will be no more.
    pub fn end(&self) {
        self.bar.finish_and_clear();
    }

    fn count_bytes(&self, more: u64) -> u64 {
        let bytes = self.bytes.fetch_add(more, Ordering::Relaxed) + more;
        self.bar.set_message(HumanBytes(bytes).to_string());
        bytes
    }
}
