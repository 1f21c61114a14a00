//! A row of the table of goals: both sides, the ratio, what it is to reach, and whether it does.

#![expect(clippy::print_stdout, reason = "the table is the result")]
// Each bench uses its own part of it.
#![allow(dead_code, reason = "compiled into each bench that asks for it")]

/// What a ratio is to reach.
#[derive(Clone, Copy)]
pub(crate) enum Goal {
    AtLeast(f64),
    AtMost(f64),
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
        let ratios = ours.iter().zip(&theirs).map(|(ours, theirs)| ours / theirs);
        let ratio = median(ratios.collect());
        Compared {
            row: self,
            sides: [(our_name, median(ours)), (their_name, median(theirs))],
            ratio,
        }
    }
}

impl Compared {
    /// Prints the row.
    pub(crate) fn reach(self, goal: Goal) {
        let Row { name, unit } = &self.row;
        let [(ours, our_time), (theirs, their_time)] = self.sides;
        let ratio = self.ratio;
        let (reached, sign, target) = match goal {
            Goal::AtLeast(target) => (ratio >= target, '≥', target),
            Goal::AtMost(target) => (ratio <= target, '≤', target),
        };
        let verdict = if reached { "REACHED" } else { "FALLS SHORT" };
        println!(
            "| {name} | {ours} {our_time:.1} {unit} | {theirs} {their_time:.1} {unit} | {ratio:.2} | {sign} {target} | {verdict}"
        );
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
