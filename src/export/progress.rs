//! How far an export is: a bar on a terminal, a line now and then elsewhere.

use crate::clock::Clock;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Lines come no closer than this.
const LINES_APART: Duration = Duration::from_secs(5);
/// Redraws a second.
const REDRAWS_HZ: u8 = 10;

/// Who is told how far an export is.
pub struct Progress {
    bar: ProgressBar,
    lines: Option<Lines>,
}

/// When the last line was logged; locked once a part.
struct Lines {
    clock: Clock,
    last: Mutex<Duration>,
}

impl Progress {
    /// A bar on standard error.
    #[must_use]
    pub fn terminal() -> Self {
        let target = ProgressDrawTarget::stderr_with_hz(REDRAWS_HZ);
        let bar = ProgressBar::with_draw_target(None, target);
        let style =
            "{bar:30} {percent:>3} %  {human_pos} of {human_len} rows  {per_sec}  {eta} left";
        if let Ok(style) = ProgressStyle::with_template(style) {
            bar.set_style(style);
        }
        Self { bar, lines: None }
    }

    /// A line in the log, at most every five seconds.
    #[must_use]
    pub fn log(clock: Clock) -> Self {
        let last = Mutex::new(clock.monotonic());
        Self {
            bar: ProgressBar::hidden(),
            lines: Some(Lines { clock, last }),
        }
    }

    /// Nobody.
    #[must_use]
    pub fn silent() -> Self {
        Self {
            bar: ProgressBar::hidden(),
            lines: None,
        }
    }

    /// Rows written so far.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.bar.position()
    }

    pub(super) fn begin(&self, rows: u64, count: u64) {
        self.bar.set_length(count);
        self.bar.set_position(rows);
        // Rows that stood before are no part of this run's rate.
        self.bar.reset_eta();
    }

    pub(super) fn advance(&self, rows: usize) {
        self.bar.inc(rows as u64);
    }

    pub(super) fn part(&self, part: u64) {
        let Some(lines) = &self.lines else { return };
        let now = lines.clock.monotonic();
        let mut last = lines.last.lock().unwrap_or_else(PoisonError::into_inner);
        if now.saturating_sub(*last) >= LINES_APART {
            *last = now;
            let (rows, count) = (self.bar.position(), self.bar.length().unwrap_or_default());
            tracing::info!(part, rows, count, "export is under way");
        }
    }

    pub(super) fn end(&self) {
        self.bar.finish_and_clear();
    }
}
