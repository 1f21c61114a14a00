//! Rotation: new material behind the same KMS key. What was encrypted before stays under the
//! material that it was encrypted with.

use crate::clock::Timestamp;
use std::time::Duration;

/// Why a generation of material was made after the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RotationType {
    /// Its date had come.
    Automatic,
    /// Somebody asked for it.
    OnDemand,
}

impl RotationType {
    /// As `RotationType` spells it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Automatic => "AUTOMATIC",
            Self::OnDemand => "ON_DEMAND",
        }
    }
}

/// When a key's material is rotated by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RotationSchedule {
    /// Days between two automatic rotations, 90..=2560.
    pub period_days: u16,
    /// When the next one is due.
    pub next_date: Timestamp,
}

impl RotationSchedule {
    /// Days of a period at least.
    pub const PERIOD_DAYS_MIN: u16 = 90;
    /// Days of a period at most.
    pub const PERIOD_DAYS_MAX: u16 = 2560;
    /// Days of a period that nobody has chosen.
    pub const PERIOD_DAYS_DEFAULT: u16 = 365;

    /// The schedule whose next date is one period after `date`.
    #[must_use]
    pub fn after(date: Timestamp, period_days: u16) -> Self {
        const DAY: Duration = Duration::from_secs(24 * 60 * 60);
        Self {
            period_days,
            next_date: date.after(DAY * period_days.into()),
        }
    }

    /// Whether the next date has come.
    #[must_use]
    pub fn is_due(self, now: Timestamp) -> bool {
        self.next_date <= now
    }
}
