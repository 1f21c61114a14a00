//! Rotation: new material for the same KMS key. Old ciphertexts stay under the material that they
//! were encrypted with.

use crate::clock::Timestamp;
use std::time::Duration;
use strum::IntoStaticStr;

/// Why a generation after the first was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr)]
#[strum(serialize_all = "SCREAMING_SNAKE_CASE")]
pub enum RotationType {
    /// The date of the schedule had come.
    Automatic,
    /// `RotateKeyOnDemand` was called.
    OnDemand,
}

impl RotationType {
    /// Its name in the API, a value of `RotationType`.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// When a key's material is rotated automatically.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RotationSchedule {
    /// Days between two automatic rotations, 90..=2560.
    pub period_days: u16,
    /// When the next rotation is due.
    pub next_date: Timestamp,
}

impl RotationSchedule {
    /// The shortest period in days.
    pub const PERIOD_DAYS_MIN: u16 = 90;
    /// The longest period in days.
    pub const PERIOD_DAYS_MAX: u16 = 2560;
    /// The period in days when the caller names none.
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

    /// Whether the next rotation is due.
    #[must_use]
    pub fn is_due(self, now: Timestamp) -> bool {
        self.next_date <= now
    }
}
