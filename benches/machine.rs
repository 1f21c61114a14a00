//! The machine on which the figures were measured.

#![expect(clippy::print_stdout, reason = "the table is the result")]
// Not every bench begins here.
#![allow(dead_code, reason = "compiled into each bench that asks for it")]

/// Whether figures are wanted; if so, the machine is printed first. Under `cargo test` there is
/// nothing to run once.
pub(crate) fn begins() -> bool {
    let wanted = std::env::args().any(|argument| argument == "--bench");
    if wanted {
        println!("\n{}\n", machine());
    }
    wanted
}

/// Version, cores and processor.
pub(crate) fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .map_or("unknown processor", |rest| {
            rest.trim_start_matches([' ', '\t', ':'])
        });
    let version = env!("CARGO_PKG_VERSION");
    format!("keymill {version}, {cores} × {model}")
}
