//! What a start costs: whole processes, interleaved in one run, against a bare spawn of a static
//! program that does nothing and, where it is installed, against bubblewrap with the same mounts.
//!
//! `cargo bench --bench spawn [ROUNDS]`; `AJ_BIN` measures another binary. Run it on an idle
//! machine; compare ratios, never milliseconds of different days.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    missing_docs,
    unreachable_pub
)]

#[path = "common.rs"]
mod common;

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{Place, bwrap, five_managers, median, rounds};

struct Row {
    name: &'static str,
    command: Box<dyn Fn() -> Command>,
    took: Vec<Duration>,
}

fn main() {
    let place = Place::new(&["noop"]);
    let noop = place.ws.join("noop");
    let mut rows: Vec<Row> = Vec::new();
    let mut row =
        |name, command: Box<dyn Fn() -> Command>| rows.push(Row { name, command, took: Vec::new() });
    let path = noop.clone();
    row("posix_spawn of a static no-op", Box::new(move || Command::new(&path)));
    for (name, words) in [
        ("aj exec -- true", &["exec", "--", "true"][..]),
        ("aj exec -- ./noop", &["exec", "--", "./noop"]),
        ("aj exec --net host -- ./noop", &["exec", "--net", "host", "--", "./noop"]),
        ("aj exec --ro . -- ./noop", &["exec", "--ro", ".", "--", "./noop"]),
    ] {
        let place = place.clone();
        row(name, Box::new(move || place.aj(words)));
    }
    let home = tempfile::tempdir().unwrap();
    let path = five_managers(home.path());
    for (name, words) in [
        ("aj exec, five version managers", &["exec", "--", "./noop"][..]),
        ("the same with --tools none", &["exec", "--tools", "none", "--", "./noop"]),
    ] {
        let (place, path, home) = (place.clone(), path.clone(), home.path().to_owned());
        let make = move || {
            let mut aj = place.aj(words);
            aj.env("PATH", &path).env("HOME", &home);
            aj
        };
        row(name, Box::new(make));
    }
    if let Some(bwrap) = bwrap(&place) {
        row("bwrap --unshare-all, same mounts", bwrap);
    }
    for round in 0..rounds(300) + 5 {
        for row in &mut rows {
            let mut command = (row.command)();
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            let start = Instant::now();
            let status = command.status().unwrap();
            let took = start.elapsed();
            assert!(status.success(), "{}: {status}", row.name);
            if round >= 5 {
                row.took.push(took);
            }
        }
    }
    let base = (*rows[0].took.iter().min().unwrap(), median(&rows[0].took));
    println!("{:34} {:>9} {:>6} {:>9} {:>6}", "", "min ms", "×", "median", "×");
    for row in &rows {
        let (min, med) = (*row.took.iter().min().unwrap(), median(&row.took));
        println!(
            "{:34} {:9.3} {:6.2} {:9.3} {:6.2}",
            row.name,
            min.as_secs_f64() * 1e3,
            min.as_secs_f64() / base.0.as_secs_f64(),
            med.as_secs_f64() * 1e3,
            med.as_secs_f64() / base.1.as_secs_f64(),
        );
    }
}
