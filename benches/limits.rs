//! What a control group adds to a start: whole processes, interleaved in one run, with limits and
//! without. The group is to cost less than 0.3 of a bare spawn of a static program that does nothing.
//!
//! `cargo bench --bench limits [ROUNDS]`; `AJ_BIN` measures another binary. Run it on an idle machine;
//! compare ratios, never milliseconds of different days. Where no group can be made, nothing is measured.
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

use agentjail::base::id::{Id, Kind};
use agentjail::jail::limits::{self, Limits, Wants};
use common::{Place, median, rounds};

const ROWS: [(&str, &[&str]); 5] = [
    ("aj exec, no limit asked for", &[]),
    ("--mem", &["--mem", "1G"]),
    ("--pids", &["--pids", "100"]),
    ("--cpus", &["--cpus", "1"]),
    ("--mem --cpus --pids", &["--mem", "1G", "--cpus", "1", "--pids", "100"]),
];

fn main() {
    let place = Place::new(&["noop"]);
    let noop = place.ws.join("noop");
    let jail =
        |options: &[&str]| place.aj(&[&["exec", "--tools", "none"], options, &["--", "./noop"]].concat());
    if !jail(ROWS[4].1).stderr(Stdio::null()).status().unwrap().success() {
        println!("no group can be made here");
        return;
    }
    let mut took: Vec<Vec<Duration>> = vec![Vec::new(); ROWS.len() + 1];
    for round in 0..rounds(300) + 5 {
        for (at, row) in took.iter_mut().enumerate() {
            let mut command = match at.checked_sub(1) {
                None => Command::new(&noop),
                Some(at) => jail(ROWS[at].1),
            };
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            let start = Instant::now();
            let status = command.status().unwrap();
            let one = start.elapsed();
            assert!(status.success(), "{at}: {status}");
            if round >= 5 {
                row.push(one);
            }
        }
    }
    let least = |row: &Vec<Duration>| *row.iter().min().unwrap();
    let spawn = (least(&took[0]), median(&took[0]));
    let plain = (least(&took[1]), median(&took[1]));
    println!("{:30} {:>8} {:>8} {:>9} {:>9}", "", "min µs", "median", "more, min", "of a spawn");
    let name = |at: usize| if at == 0 { "posix_spawn of a static no-op" } else { ROWS[at - 1].0 };
    for (at, row) in took.iter().enumerate() {
        let (min, med) = (least(row), median(row));
        let us = |d: Duration| d.as_secs_f64() * 1e6;
        let more = |d: Duration, of: Duration, base: Duration| (us(d) - us(base)) / us(of);
        let (a, b) = match at {
            0 | 1 => (0.0, 0.0),
            _ => (more(min, spawn.0, plain.0), more(med, spawn.1, plain.1)),
        };
        println!("{:30} {:8.0} {:8.0} {a:9.2} {b:9.2}", name(at), us(min), us(med));
    }
    alone(spawn);
}

/// The group by itself, as the launcher makes and removes it: what whole processes on a busy machine are too
/// noisy to show. Most of it is done while pid 1 sets itself up.
fn alone(spawn: (Duration, Duration)) {
    let gib = Some(1 << 30);
    let kinds = [
        ("--mem", Wants { mem: gib, ..Wants::default() }),
        ("--pids", Wants { pids: Some(100), ..Wants::default() }),
        ("--cpus", Wants { cpu_millis: Some(1000), ..Wants::default() }),
        ("all three", Wants { mem: gib, pids: Some(100), cpu_millis: Some(1000), ..Wants::default() }),
    ];
    println!("\n{:30} {:>8} {:>8} {:>9} {:>9}", "the group alone", "min µs", "median", "of spawn", "by");
    for (name, wants) in kinds {
        let mut took = Vec::new();
        let mut by = "";
        for _ in 0..rounds(300) {
            // Whom a scope is asked for.
            let mut child = Command::new("sleep").arg("60").spawn().unwrap();
            let id = Id::random(Kind::Jail).unwrap();
            let start = Instant::now();
            let mut group = Limits::prepare(&wants, &id, &limits::here()).unwrap();
            drop(group.open(i32::try_from(child.id()).unwrap()).unwrap());
            let made = start.elapsed();
            child.kill().unwrap();
            child.wait().unwrap();
            by = group.backend().name();
            let start = Instant::now();
            drop(group);
            took.push(made + start.elapsed());
        }
        let (min, med) = (*took.iter().min().unwrap(), median(&took));
        let us = |d: Duration| d.as_secs_f64() * 1e6;
        println!("{name:30} {:8.0} {:8.0} {:9.2} {by:>9}", us(min), us(med), us(min) / us(spawn.0));
    }
}
