//! What a command costs in a workspace whose jail runs: whole processes, interleaved in one run, against a bare
//! spawn of the same static program and against a jail of its own.
//!
//! `cargo bench --bench join [ROUNDS]`; `AJ_BIN` measures another binary. Run it on an idle machine; compare
//! ratios, never milliseconds of different days.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    missing_docs,
    unreachable_pub,
    dead_code
)]

#[path = "common.rs"]
mod common;

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{Place, median, rounds};

/// Most times a bare spawn, and most of a cold start, that a join may take.
const BUDGET: (f64, f64) = (3.0, 0.4);

struct Row {
    name: &'static str,
    command: Box<dyn Fn() -> Command>,
    took: Vec<Duration>,
}

fn main() {
    let place = Place::new(&["noop"]);
    let noop = place.ws.join("noop");
    for words in [
        &["workspace", "create", "kept", "--from-dir", "."][..],
        &["workspace", "start", "kept"],
        &["workspace", "create", "cold", "--from-dir", "."],
    ] {
        assert!(place.aj(words).stdout(Stdio::null()).status().unwrap().success(), "{words:?}");
    }
    let mut rows: Vec<Row> = Vec::new();
    let mut row =
        |name, command: Box<dyn Fn() -> Command>| rows.push(Row { name, command, took: Vec::new() });
    row("posix_spawn of a static no-op", Box::new(move || Command::new(&noop)));
    for (name, words) in [
        ("aj exec -- ./noop", &["exec", "--", "./noop"][..]),
        ("aj exec WORKSPACE, its jail runs", &["exec", "kept", "--", "./noop"]),
        ("aj exec WORKSPACE, and starts it", &["exec", "cold", "--", "./noop"]),
        ("aj workspace show --json", &["workspace", "show", "kept", "--json"]),
    ] {
        let place = place.clone();
        row(name, Box::new(move || place.aj(words)));
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
    assert!(place.aj(&["workspace", "stop", "kept"]).status().unwrap().success());
    let of = |row: &Row| (*row.took.iter().min().unwrap(), median(&row.took));
    let ratio = |a: Duration, b: Duration| a.as_secs_f64() / b.as_secs_f64();
    let base = of(&rows[0]);
    println!("{:34} {:>9} {:>6} {:>9} {:>6}", "", "min ms", "×", "median", "×");
    for row in &rows {
        let (min, med) = of(row);
        let ms = |d: Duration| d.as_secs_f64() * 1e3;
        let (to_min, to_med) = (ratio(min, base.0), ratio(med, base.1));
        println!("{:34} {:9.3} {:6.2} {:9.3} {:6.2}", row.name, ms(min), to_min, ms(med), to_med);
    }
    let (join, cold) = (of(&rows[2]), of(&rows[1]));
    println!(
        "a join is {:.2}× a spawn (at most {:.1}) and {:.2}× a cold start (at most {:.1}) at its median",
        ratio(join.1, base.1),
        BUDGET.0,
        ratio(join.1, cold.1),
        BUDGET.1,
    );
}
