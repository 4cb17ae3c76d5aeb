//! What finding the caller's tools costs: one call in a fresh process, as in every start, on a machine
//! with five version managers and on one with none.
//!
//! `cargo bench --bench tools [ROUNDS]`. The start as a whole is in `spawn`.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    missing_docs,
    unreachable_pub
)]

#[path = "common.rs"]
#[allow(dead_code, reason = "each benchmark uses its part")]
mod common;

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use agentjail::ops::tools::{Around, find};
use agentjail::policy::settings::Tools;
use common::{five_managers, median, rounds};

const INSIDE: &str = "BENCH_TOOLS_ONCE";

fn main() {
    if std::env::var_os(INSIDE).is_some() {
        let around = Around { at: Path::new("/srv/project"), binds: &[], state: None };
        let start = Instant::now();
        let (tools, _) = find(&Tools::Auto, &around).unwrap();
        let first = start.elapsed();
        let start = Instant::now();
        let again = find(&Tools::Auto, &around).unwrap();
        let warm = start.elapsed();
        assert_eq!(again.0, tools);
        println!("{} {} {}", first.as_nanos(), warm.as_nanos(), tools.shown.len() + tools.hidden.len());
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = five_managers(dir.path());
    let system = "/usr/local/bin:/usr/bin:/bin";
    for (name, path) in [("five version managers", path.as_str()), ("none", system)] {
        let (mut cold, mut warm, mut mounts) = (Vec::new(), Vec::new(), 0);
        for _ in 0..rounds(300) {
            let out = Command::new(std::env::current_exe().unwrap())
                .env_clear()
                .env(INSIDE, "1")
                .env("HOME", dir.path())
                .env("PATH", path)
                .output()
                .unwrap();
            let text = String::from_utf8(out.stdout).unwrap();
            let numbers: Vec<u64> = text.split_whitespace().map(|n| n.parse().unwrap()).collect();
            cold.push(Duration::from_nanos(numbers[0]));
            warm.push(Duration::from_nanos(numbers[1]));
            mounts = numbers[2];
        }
        println!("{name}: {mounts} mounts");
        for (what, took) in [("cold", cold), ("warm", warm)] {
            let (min, median) = (took.iter().min().unwrap().as_nanos(), median(&took).as_nanos());
            println!("  {what}  min {:4} µs  median {:4} µs", min / 1000, median / 1000);
        }
    }
}
