//! How fast output gets through `aj`, and what `aj` holds of it meanwhile: a static writer with
//! large writes, into `/dev/null` and into a pipe that is read as fast as can be.
//!
//! `cargo bench --bench output [ROUNDS]`; `AJ_BIN` measures another binary. The relay's own rate is
//! what is left when the same start without output, measured in the same round, is taken away.
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

use std::io::Read;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{Place, median, rounds};

const GIB: u64 = 1 << 30;
const TEN: u64 = 10 << 20;

/// One way through: whether `aj` is in it, whether a pipe is read, size, block.
type Way = (bool, bool, u64, u64);

fn main() {
    let place = Place::new(&["pour"]);
    let mut ways: Vec<(Way, Vec<Duration>, u64)> = Vec::new();
    for size in [0, TEN, GIB] {
        for block in [64 << 10, 256 << 10] {
            for (jailed, piped) in [(false, true), (true, true), (true, false)] {
                ways.push(((jailed, piped, size, block), Vec::new(), 0));
            }
        }
    }
    let mut buffer = vec![0; 256 << 10];
    for round in 0..rounds(10) + 1 {
        for ((jailed, piped, size, block), took, resident) in &mut ways {
            let words = [size.to_string(), block.to_string()];
            let mut command = if *jailed {
                let mut aj = place.aj(&["exec", "--", "./pour"]);
                aj.args(words);
                aj
            } else {
                let mut plain = Command::new(place.ws.join("pour"));
                plain.args(words);
                plain
            };
            command.stdin(Stdio::null()).stdout(if *piped { Stdio::piped() } else { Stdio::null() });
            let start = Instant::now();
            let mut child = command.spawn().unwrap();
            if let Some(mut out) = child.stdout.take() {
                let mut total = 0;
                loop {
                    let n = out.read(&mut buffer).unwrap() as u64;
                    if n == 0 {
                        break;
                    }
                    if (total + n) >> 28 != total >> 28 {
                        *resident = (*resident).max(peak(child.id()));
                    }
                    total += n;
                }
                assert_eq!(total, *size);
            }
            assert!(child.wait().unwrap().success());
            if round > 0 {
                took.push(start.elapsed());
            }
        }
    }
    println!("{:38} {:>10} {:>10} {:>12} {:>12}", "GB/s", "best", "median", "relay alone", "aj's peak");
    let starts: Vec<_> = ways.iter().filter(|w| w.0.2 == 0).map(|w| (w.0, median(&w.1))).collect();
    for ((jailed, piped, size, block), took, resident) in ways.iter().filter(|w| w.0.2 > 0) {
        let name = format!(
            "{:5} {} KiB writes, {}{}",
            if *size == GIB { "1 GiB" } else { "10 MiB" },
            block >> 10,
            if *jailed { "aj, " } else { "bare, " },
            if *piped { "pipe" } else { "/dev/null" }
        );
        let rate = |d: Duration| *size as f64 / d.as_secs_f64() / 1e9;
        let held = if *resident > 0 && *jailed { format!("{resident} KiB") } else { String::new() };
        let same = |w: &Way| (w.0, w.1, w.3) == (*jailed, *piped, *block);
        let start = starts.iter().find(|(w, _)| same(w)).map_or(Duration::ZERO, |(_, t)| *t);
        println!(
            "{name:38} {:10.2} {:10.2} {:12.2} {held:>12}",
            rate(*took.iter().min().unwrap()),
            rate(median(took)),
            rate(median(took).saturating_sub(start).max(Duration::from_micros(1))),
        );
    }
}

/// Largest resident set so far, KiB.
fn peak(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    line.and_then(|l| l.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}
