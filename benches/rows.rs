//! A row of the table of goals: both sides, the ratio, its goal, and whether the goal is reached.

#![expect(clippy::print_stdout, reason = "the table is the result")]
// Each bench uses its own part of it.
#![allow(dead_code, reason = "compiled into each bench that asks for it")]

/// Turns of each side; odd, so that the median is one of them.
pub(crate) const ROUNDS: usize = 7;

/// The goal of a ratio.
#[derive(Clone, Copy)]
pub(crate) enum Goal {
    AtLeast(f64),
    AtMost(f64),
    /// No goal: the row is only shown.
    Shown,
}

impl Goal {
    fn met(self, value: f64) -> bool {
        match self {
            Self::AtLeast(target) => value >= target,
            Self::AtMost(target) => value <= target,
            Self::Shown => true,
        }
    }

    fn text(self) -> String {
        match self {
            Self::AtLeast(target) => format!("≥ {target}"),
            Self::AtMost(target) => format!("≤ {target}"),
            Self::Shown => "shown".to_owned(),
        }
    }
}

/// A question with two sides that were measured in turns.
pub(crate) struct Row {
    name: String,
    unit: &'static str,
}

/// Both sides' medians and the median of the turns' ratios.
pub(crate) struct Compared {
    row: Row,
    sides: [(&'static str, f64); 2],
    ratio: f64,
}

impl Row {
    pub(crate) fn new(name: impl Into<String>, unit: &'static str) -> Self {
        let name = name.into();
        Self { name, unit }
    }

    /// As many turns of each side; the ratio is ours to theirs.
    pub(crate) fn beside(
        self,
        our_name: &'static str,
        ours: Vec<f64>,
        their_name: &'static str,
        theirs: Vec<f64>,
    ) -> Compared {
        assert_eq!(ours.len(), theirs.len(), "both sides had as many turns");
        let ratios = ours.iter().zip(&theirs).map(|(ours, theirs)| ours / theirs);
        let ratio = median(ratios.collect());
        Compared {
            row: self,
            sides: [(our_name, median(ours)), (their_name, median(theirs))],
            ratio,
        }
    }

    /// The median of what is held to a bound in the row's own unit.
    pub(crate) fn alone(self, name: &'static str, turns: Vec<f64>, goal: Goal) {
        let value = median(turns);
        self.print(&[(name, value)], value, goal, goal.met(value));
    }

    /// Counts of an event that must not happen more often on our side: over all turns, because a
    /// median would not show rare events.
    pub(crate) fn no_more_than(
        self,
        our_name: &'static str,
        ours: u64,
        their_name: &'static str,
        theirs: u64,
    ) {
        let (ours, theirs) = (ours as f64, theirs as f64);
        let sides = [(our_name, ours), (their_name, theirs)];
        let goal = Goal::AtMost(1.0);
        self.print(&sides, ours / theirs.max(1.0), goal, ours <= theirs);
    }

    fn print(&self, sides: &[(&'static str, f64)], ratio: f64, goal: Goal, reached: bool) {
        let Self { name, unit } = self;
        let side = |at: usize| match sides.get(at) {
            Some((side, value)) if *value < 10.0 => format!("{side} {value:.2} {unit}"),
            Some((side, value)) => format!("{side} {value:.1} {unit}"),
            None => "–".to_owned(),
        };
        let (ours, theirs, goal) = (side(0), side(1), goal.text());
        let verdict = if reached { "REACHED" } else { "FALLS SHORT" };
        println!("| {name} | {ours} | {theirs} | {ratio:.2} | {goal} | {verdict}");
    }
}

impl Compared {
    /// Prints the row.
    pub(crate) fn reach(self, goal: Goal) {
        let Self { row, sides, ratio } = self;
        row.print(&sides, ratio, goal, goal.met(ratio));
    }
}

/// The middle one of an odd number of values.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
