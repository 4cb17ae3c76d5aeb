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
use std::time::Duration;

use common::{Place, Row, print_ratios, rounds, take_turns};

/// Most times a bare spawn, and most of a cold start, that a join may take.
const BUDGET: (f64, f64) = (3.0, 0.4);

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
    let mut row = |name, command: Box<dyn Fn() -> Command>| rows.push(Row::new(name, command));
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
    take_turns(&mut rows, rounds(300));
    assert!(place.aj(&["workspace", "stop", "kept"]).status().unwrap().success());
    print_ratios(&rows);
    let ratio = |a: Duration, b: Duration| a.as_secs_f64() / b.as_secs_f64();
    let base = rows[0].times();
    let (join, cold) = (rows[2].times(), rows[1].times());
    println!(
        "a join is {:.2}× a spawn (at most {:.1}) and {:.2}× a cold start (at most {:.1}) at its median",
        ratio(join.1, base.1),
        BUDGET.0,
        ratio(join.1, cold.1),
        BUDGET.1,
    );
}
