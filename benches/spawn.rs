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
    unreachable_pub,
    dead_code
)]

#[path = "common.rs"]
mod common;

use std::process::Command;

use common::{Place, Row, bwrap, five_managers, print_ratios, rounds, take_turns};

fn main() {
    let place = Place::new(&["noop"]);
    let noop = place.ws.join("noop");
    let mut rows: Vec<Row> = Vec::new();
    let mut row = |name, command: Box<dyn Fn() -> Command>| rows.push(Row::new(name, command));
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
    take_turns(&mut rows, rounds(300));
    print_ratios(&rows);
}
