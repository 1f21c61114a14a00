//! The common part of the benches: a question, the sides that answer it, and ratios that hold on
//! another machine.
//!
//! Absolute times drift by tens of percent between runs on shared cores. So every side of a
//! question is also measured in short rounds that take turns, the first to go moving on with each
//! round, and what is printed at the end is the median of the rounds' ratios.

#![expect(clippy::print_stdout, reason = "the table is the result")]
// Not every bench has rows.
#![allow(dead_code, reason = "compiled into each bench that asks for it")]

#[path = "machine.rs"]
mod machine;
#[path = "rows.rs"]
pub(crate) mod rows;

use criterion::{Criterion, Throughput};
use keymill::clock::Clock;
use rows::{Goal, Row, median};
use std::sync::Barrier;
use std::time::Duration;

/// Rounds of each side; odd, so that the median is one of them.
const ROUNDS: usize = 11;
/// How long a side runs in a round, about.
const ROUND_TIME: Duration = Duration::from_millis(20);

/// One way to do it.
pub(crate) struct Side {
    name: &'static str,
    run: Box<dyn FnMut(u64) -> Duration>,
}

impl Side {
    /// `run` does it so many times and returns how long that took; setting up is not to be counted.
    pub(crate) fn new(name: &'static str, run: impl FnMut(u64) -> Duration + 'static) -> Self {
        Self {
            name,
            run: Box::new(run),
        }
    }
}

/// A question and its sides: ours is the first.
pub(crate) struct Question {
    name: &'static str,
    /// Keys of one time.
    keys: u32,
    sides: Vec<Side>,
    rows: Vec<QuestionRow>,
}

/// A row of the table of goals: the time of one side, in times of another.
struct QuestionRow {
    name: &'static str,
    sides: [&'static str; 2],
    goal: Goal,
}

impl Question {
    pub(crate) fn new(name: &'static str, keys: u32, sides: Vec<Side>) -> Self {
        Self {
            name,
            keys,
            sides,
            rows: Vec::new(),
        }
    }

    /// Adds a row of the table of goals: the time that the first of `sides` takes, in times of the
    /// second.
    pub(crate) fn row(mut self, name: &'static str, sides: [&'static str; 2], goal: Goal) -> Self {
        self.rows.push(QuestionRow { name, sides, goal });
        self
    }

    fn print_rows(&self, rounds: &[Vec<f64>]) {
        for QuestionRow { name, sides, goal } in &self.rows {
            let times = sides.map(|side| {
                let at = self.sides.iter().position(|known| known.name == side);
                rounds[at.expect("a row names sides of its question")].clone()
            });
            let [ours, theirs] = times;
            Row::new(*name, "ns")
                .beside(sides[0], ours, sides[1], theirs)
                .reach(*goal);
        }
    }
}

/// A side that is run for up to `most` keys at a time: `run` returns how long so many took.
pub(crate) fn by_runs(
    most: usize,
    mut run: impl FnMut(usize) -> Duration,
) -> impl FnMut(u64) -> Duration {
    move |times| {
        let mut left = usize::try_from(times).expect("as many keys as memory has room for");
        let mut took = Duration::ZERO;
        while left > 0 {
            let count = left.min(most);
            took += run(count);
            left -= count;
        }
        took
    }
}

/// How long `work` took the slowest of `threads` threads, which begin at once; this thread is one
/// of them.
pub(crate) fn slowest(threads: usize, work: impl Fn() + Sync) -> Duration {
    let barrier = Barrier::new(threads);
    let timed = || {
        barrier.wait();
        let clock = Clock::system();
        work();
        clock.monotonic()
    };
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(timed)).collect();
        let first = timed();
        let joined = others.into_iter().map(|other| other.join());
        joined.fold(first, |most, took| most.max(took.expect("no thread fails")))
    })
}

/// Criterion's statistics, and the ratios if they are wanted.
pub(crate) fn answer(questions: &mut [Question]) {
    criterion(questions);
    if ratios_are_wanted() {
        ratios(questions);
    }
}

/// Criterion's statistics of every side.
pub(crate) fn criterion(questions: &mut [Question]) {
    let mut criterion = Criterion::default().configure_from_args();
    for question in questions {
        let mut group = criterion.benchmark_group(question.name);
        group.throughput(Throughput::Elements(u64::from(question.keys)));
        for side in &mut question.sides {
            group.bench_function(side.name, |bencher| {
                bencher.iter_custom(|times| (side.run)(times));
            });
        }
        group.finish();
    }
    criterion.final_summary();
}

/// Whether the ratios are wanted: under `cargo bench`, but not where each bench is only run once or
/// listed.
pub(crate) fn ratios_are_wanted() -> bool {
    let has = |name: &str| std::env::args().any(|argument| argument == name);
    has("--bench") && !has("--test") && !has("--list")
}

/// Prints the table of ratios, as `RESULTS.md` keeps it.
pub(crate) fn ratios(questions: &mut [Question]) {
    println!("\n{}\n", machine::machine());
    println!(
        "Medians of {ROUNDS} rounds in turn; in brackets the second lowest and the second highest ratio.\n"
    );
    println!("| question | side | ns per key | first side ÷ this |");
    println!("|---|---|---|---|");
    let mut measured = Vec::new();
    for question in &mut *questions {
        let rounds = rounds(question);
        for (side, times) in question.sides.iter().zip(&rounds) {
            let ratios = rounds[0]
                .iter()
                .zip(times)
                .map(|(ours, this)| ours / this)
                .collect();
            let ([low, ratio, high], time) = (spread(ratios), median(times.clone()));
            let (name, side) = (question.name, side.name);
            println!("| {name} | {side} | {time:.1} | {ratio:.2} ({low:.2}–{high:.2}) |");
        }
        measured.push(rounds);
    }
    println!();
    for (question, rounds) in questions.iter().zip(&measured) {
        question.print_rows(rounds);
    }
}

/// Nanoseconds per key of each side in each round.
fn rounds(question: &mut Question) -> Vec<Vec<f64>> {
    let sides = question.sides.len();
    let times: Vec<u64> = question.sides.iter_mut().map(times_in_a_round).collect();
    let mut rounds = vec![Vec::with_capacity(ROUNDS); sides];
    for round in 0..ROUNDS {
        for turn in 0..sides {
            let at = (round + turn) % sides;
            let took = (question.sides[at].run)(times[at]);
            let keys = times[at] as f64 * f64::from(question.keys);
            rounds[at].push(took.as_secs_f64() * 1e9 / keys);
        }
    }
    rounds
}

/// Warms a side up, and finds out how often it fits a round.
fn times_in_a_round(side: &mut Side) -> u64 {
    let mut times = 1;
    while times < 1 << 32 && (side.run)(times) < ROUND_TIME {
        times *= 2;
    }
    times
}

/// Second lowest, median, second highest.
fn spread(mut values: Vec<f64>) -> [f64; 3] {
    values.sort_by(f64::total_cmp);
    [1, ROUNDS / 2, ROUNDS - 2].map(|at| values[at])
}
