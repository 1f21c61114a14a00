//! Configuration files: what is refused says why, and what is taken is taken again.

#![no_main]

use keymill::config::{Config, Environment};
use libfuzzer_sys::fuzz_target;
use std::path::Path;

fuzz_target!(|text: &str| {
    let nothing: [(&str, &str); 0] = [];
    let environment = Environment::from_pairs(nothing);
    let read = || Config::read(Some((Path::new("keymill.toml"), text)), &environment, &[]);
    match read() {
        Ok(loaded) => assert!(read().is_ok_and(|again| again.config == loaded.config)),
        Err(error) => assert!(!error.mistakes.is_empty()),
    }
});
