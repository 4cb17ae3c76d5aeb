//! What it costs to read a file of a workspace without starting a jail: `aj fs cat` against `cat` of the same
//! file, whole processes, interleaved in one run.
//!
//! `cargo bench --bench files [ROUNDS]`; `AJ_BIN` measures another binary. Run it on an idle machine; compare
//! ratios, never milliseconds of different days.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    missing_docs,
    unreachable_pub
)]

#[path = "common.rs"]
#[allow(dead_code, reason = "what benchmarks of jails need")]
mod common;

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{Place, median, rounds};

type Make = Box<dyn Fn() -> Command>;

fn main() {
    let place = Place::new(&[]);
    let deep = place.ws.join("src/deep");
    std::fs::create_dir_all(&deep).unwrap();
    std::fs::write(deep.join("small"), "x".repeat(4096)).unwrap();
    std::fs::write(place.ws.join("large"), vec![b'x'; 64 << 20]).unwrap();
    for words in [
        &["workspace", "create", "bench", "--from-dir", "."][..],
        &["exec", "-q", "bench", "--", "sh", "-c", "cp src/deep/small src/deep/own; touch mark"],
    ] {
        assert!(place.aj(words).status().unwrap().success(), "{words:?}");
    }
    let cat = |path: &str| -> Make {
        let path = place.ws.join(path);
        Box::new(move || {
            let mut cat = Command::new("cat");
            cat.arg(&path);
            cat
        })
    };
    let fs = |path: &'static str| -> Make {
        let place = place.clone();
        Box::new(move || place.aj(&["fs", "cat", "bench", path]))
    };
    let rows: Vec<(&str, Make)> = vec![
        ("cat, 4 KiB", cat("src/deep/small")),
        ("aj fs cat, from the directory below", fs("src/deep/small")),
        ("aj fs cat, from the upper layer", fs("src/deep/own")),
        ("cat, 64 MiB", cat("large")),
        ("aj fs cat, 64 MiB", fs("large")),
    ];
    let mut took = vec![Vec::<Duration>::new(); rows.len()];
    let mut pipe = vec![0; 1 << 20];
    for round in 0..rounds(200) + 3 {
        for ((name, make), took) in rows.iter().zip(&mut took) {
            let mut command = make();
            let start = Instant::now();
            // A reader, as in a pipeline: to `/dev/null` nothing would be copied at all.
            let mut child =
                command.stdin(Stdio::null()).stderr(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
            let mut out = child.stdout.take().unwrap();
            while std::io::Read::read(&mut out, &mut pipe).unwrap() > 0 {}
            assert!(child.wait().unwrap().success(), "{name}");
            if round >= 3 {
                took.push(start.elapsed());
            }
        }
    }
    println!("{:36} {:>9} {:>6} {:>9} {:>6}", "", "min ms", "×", "median", "×");
    let mut base = (Duration::ZERO, Duration::ZERO);
    for ((name, _), took) in rows.iter().zip(&took) {
        let (min, med) = (*took.iter().min().unwrap(), median(took));
        if name.starts_with("cat") {
            base = (min, med);
        }
        println!(
            "{name:36} {:9.3} {:6.2} {:9.3} {:6.2}",
            min.as_secs_f64() * 1e3,
            min.as_secs_f64() / base.0.as_secs_f64(),
            med.as_secs_f64() * 1e3,
            med.as_secs_f64() / base.1.as_secs_f64(),
        );
    }
}
