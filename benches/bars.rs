//! Bars of pieces, as SVG and as a table: what a whole is made of.

#![expect(clippy::print_stdout, reason = "the table is the result")]

use std::fmt::Write;
use std::path::PathBuf;

const WIDTH: f64 = 900.0;
const LEFT: f64 = 96.0;
const RIGHT: f64 = 72.0;
const TOP: f64 = 64.0;
const BAR_HEIGHT: f64 = 34.0;
const GAP: f64 = 26.0;
const LEGEND_HEIGHT: f64 = 22.0;
const LEGEND_COLUMNS: usize = 4;
/// A piece that is narrower has no number in it.
const LABEL_WIDTH_MIN: f64 = 26.0;
/// Of Okabe and Ito: distinguishable for every kind of colour vision.
const COLOURS: [&str; 8] = [
    "#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442", "#bbbbbb",
];

/// A whole and its pieces, in order.
pub(crate) struct Bar {
    pub(crate) name: &'static str,
    pub(crate) pieces: Vec<(&'static str, f64)>,
}

impl Bar {
    fn whole(&self) -> f64 {
        self.pieces.iter().map(|(_, size)| size).sum()
    }
}

/// Beside the pages that show it, but not for a build that is only for trying out.
pub(crate) fn path(name: &str) -> PathBuf {
    let folder = if cfg!(debug_assertions) {
        PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
    } else {
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs")
    };
    folder.join(format!("{name}.svg"))
}

/// The names of all pieces; the last stays the last.
fn names(bars: &[Bar]) -> Vec<&'static str> {
    let mut names: Vec<&'static str> = Vec::new();
    let last = bars
        .iter()
        .filter_map(|bar| Some(bar.pieces.last()?.0))
        .next();
    for (name, _) in bars.iter().flat_map(|bar| &bar.pieces) {
        if !names.contains(name) && Some(*name) != last {
            names.push(name);
        }
    }
    names.extend(last);
    names
}

/// Prints a column for each bar, a row for each piece.
pub(crate) fn print(bars: &[Bar]) {
    let cells = |of: &dyn Fn(&Bar) -> String| bars.iter().map(of).collect::<Vec<_>>().join(" | ");
    println!("| ns a row | {} |", cells(&|bar| bar.name.to_owned()));
    println!("|---|{}", "---|".repeat(bars.len()));
    for name in names(bars) {
        let cell = |bar: &Bar| {
            let piece = bar.pieces.iter().find(|(other, _)| *other == name);
            piece.map_or_else(|| "–".to_owned(), |(_, size)| format!("{size:.0}"))
        };
        println!("| {name} | {} |", cells(&cell));
    }
    println!(
        "| the whole | {} |",
        cells(&|bar| format!("{:.0}", bar.whole()))
    );
}

/// The text of the file.
pub(crate) fn svg(title: &str, machine: &str, bars: &[Bar]) -> String {
    let names = names(bars);
    let longest = bars
        .iter()
        .map(Bar::whole)
        .fold(f64::MIN_POSITIVE, f64::max);
    let scale = (WIDTH - LEFT - RIGHT) / longest;
    let legend = TOP + (BAR_HEIGHT + GAP) * bars.len() as f64;
    let height = legend + LEGEND_HEIGHT * names.len().div_ceil(LEGEND_COLUMNS) as f64 + 12.0;
    let colour = |name: &str| {
        let at = names.iter().position(|other| *other == name).unwrap_or(0);
        match at + 1 == names.len() {
            true => COLOURS[COLOURS.len() - 1],
            false => COLOURS[at % (COLOURS.len() - 1)],
        }
    };
    let mut out = format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="white"/><text x="16" y="24" font-size="15">{title}</text><text x="16" y="44" fill="#555">{machine}</text>"##
    );
    let mut add = |text: std::fmt::Arguments<'_>| {
        out.push('\n');
        out.write_fmt(text)
            .expect("writing to a string cannot fail");
    };
    for (at, bar) in bars.iter().enumerate() {
        let top = TOP + (BAR_HEIGHT + GAP) * at as f64;
        let (middle, label) = (top + BAR_HEIGHT / 2.0 + 4.0, LEFT - 10.0);
        add(format_args!(
            r#"<text x="{label}" y="{middle}" text-anchor="end" font-size="13">{}</text>"#,
            bar.name
        ));
        let mut from = LEFT;
        for (name, size) in &bar.pieces {
            let (width, colour) = (size * scale, colour(name));
            add(format_args!(
                r#"<rect x="{from:.1}" y="{top}" width="{width:.1}" height="{BAR_HEIGHT}" fill="{colour}"><title>{name}: {size:.0} ns</title></rect>"#
            ));
            if width >= LABEL_WIDTH_MIN {
                add(format_args!(
                    r#"<text x="{:.1}" y="{middle}" text-anchor="middle">{size:.0}</text>"#,
                    from + width / 2.0
                ));
            }
            from += width;
        }
        add(format_args!(
            r#"<text x="{:.1}" y="{middle}" font-weight="bold">{:.0}</text>"#,
            from + 8.0,
            bar.whole()
        ));
    }
    let column = (WIDTH - LEFT - 16.0) / LEGEND_COLUMNS as f64;
    for (at, name) in names.iter().enumerate() {
        let x = LEFT + column * (at % LEGEND_COLUMNS) as f64;
        let y = legend + LEGEND_HEIGHT * (at / LEGEND_COLUMNS) as f64;
        add(format_args!(
            r#"<rect x="{x:.1}" y="{y}" width="12" height="12" fill="{}"/><text x="{:.1}" y="{}">{name}</text>"#,
            colour(name),
            x + 18.0,
            y + 11.0
        ));
    }
    out.push_str("\n</svg>\n");
    out
}
