//! A plot as SVG: lines over a logarithmic axis, from zero upwards, so that what is flat looks
//! flat.

use std::fmt::Write;
use std::path::PathBuf;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 360.0;
const LEFT: f64 = 72.0;
const RIGHT: f64 = 180.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 56.0;
/// Of Okabe and Ito: distinguishable for every kind of colour vision.
const COLOURS: [&str; 3] = ["#0072b2", "#d55e00", "#009e73"];
const TICKS: u32 = 5;

/// One line.
pub(crate) struct Line {
    pub(crate) name: &'static str,
    /// The amounts, and the cost of one at each amount.
    pub(crate) points: Vec<(f64, f64)>,
}

/// The folder for plots: beside the sources, but not for a build that is only for trying out.
pub(crate) fn path(name: &str) -> PathBuf {
    let folder = if cfg!(debug_assertions) {
        PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
    } else {
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("benches")
    };
    folder.join(format!("growth_{name}.svg"))
}

/// The text of the file.
pub(crate) fn svg(title: &str, across: &str, up: &str, lines: &[Line]) -> String {
    let points = || lines.iter().flat_map(|line| &line.points);
    let last = points().map(|(x, _)| *x).fold(10.0, f64::max).log10();
    let (unit, top) = scale(points().map(|(_, y)| *y).fold(f64::MIN_POSITIVE, f64::max));
    let x = |value: f64| LEFT + value.log10() / last * (WIDTH - LEFT - RIGHT);
    let y = |value: f64| HEIGHT - BOTTOM - value / top * (HEIGHT - TOP - BOTTOM);
    let mut out = format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="white"/><text x="{LEFT}" y="22" font-size="15">{title}</text>"#
    );
    let mut add = |text: std::fmt::Arguments<'_>| {
        out.push('\n');
        out.write_fmt(text)
            .expect("writing to a string cannot fail");
    };
    for tick in 0..=TICKS {
        let value = unit * f64::from(tick);
        let (at, end, label) = (y(value), WIDTH - RIGHT, LEFT - 8.0);
        add(format_args!(
            r##"<line x1="{LEFT}" y1="{at:.1}" x2="{end}" y2="{at:.1}" stroke="#ddd"/>"##
        ));
        add(format_args!(
            r#"<text x="{label}" y="{:.1}" text-anchor="end">{value}</text>"#,
            at + 4.0
        ));
    }
    let mut power = 0;
    while f64::from(power) <= last + 1e-9 {
        let (at, below) = (x(10_f64.powi(power)), HEIGHT - BOTTOM + 18.0);
        add(format_args!(
            r#"<text x="{at:.1}" y="{below}" text-anchor="middle">10<tspan dy="-5" font-size="9">{power}</tspan></text>"#
        ));
        power += 1;
    }
    let (middle, foot) = (LEFT + (WIDTH - LEFT - RIGHT) / 2.0, HEIGHT - 14.0);
    add(format_args!(
        r#"<text x="{middle}" y="{foot}" text-anchor="middle">{across}</text>"#
    ));
    add(format_args!(
        r#"<text transform="translate(18 {}) rotate(-90)" text-anchor="middle">{up}</text>"#,
        TOP + (HEIGHT - TOP - BOTTOM) / 2.0
    ));
    for (at, line) in lines.iter().enumerate() {
        let colour = COLOURS[at % COLOURS.len()];
        let path: Vec<String> = line
            .points
            .iter()
            .map(|(across, up)| format!("{:.1},{:.1}", x(*across), y(*up)))
            .collect();
        add(format_args!(
            r#"<polyline points="{}" fill="none" stroke="{colour}" stroke-width="2"/>"#,
            path.join(" ")
        ));
        for (across, up) in &line.points {
            add(format_args!(
                r#"<circle cx="{:.1}" cy="{:.1}" r="3" fill="{colour}"/>"#,
                x(*across),
                y(*up)
            ));
        }
        let (from, height) = (WIDTH - RIGHT + 16.0, TOP + 16.0 + 20.0 * at as f64);
        add(format_args!(
            r#"<text x="{from}" y="{height}" fill="{colour}">{}</text>"#,
            line.name
        ));
    }
    out.push_str("\n</svg>\n");
    out
}

/// What lies between two ticks, a round number, and the value of the highest.
fn scale(highest: f64) -> (f64, f64) {
    let least = highest * 1.1 / f64::from(TICKS);
    let power = 10_f64.powf(least.log10().floor());
    let round = [1.0, 2.0, 5.0, 10.0].map(|step| step * power);
    let unit = round.into_iter().find(|unit| *unit >= least);
    let unit = unit.unwrap_or(10.0 * power);
    (unit, unit * f64::from(TICKS))
}
