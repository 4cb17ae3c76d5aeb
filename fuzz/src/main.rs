//! The driver that needs no nightly: what is in the corpus, then mutations of it, for a time.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use agentjail_fuzz::mutate::{Random, input};
use agentjail_fuzz::{ALL, Target};

/// One input may take this much time of a processor, which a busy machine does not lengthen.
const SLOW: Duration = Duration::from_secs(5);
/// And this long in all: what waits for something takes no processor.
const STUCK: Duration = Duration::from_secs(300);
/// What a target runs on.
const STACK: usize = 2 << 20;

const USAGE: &str = "usage: smoke [--seconds N] [--seed N] [NAME [FILE]]";

struct Asked {
    seconds: u64,
    seed: u64,
    name: Option<String>,
    file: Option<PathBuf>,
}

fn asked() -> Option<Asked> {
    let mut asked = Asked { seconds: 60, seed: 1, name: None, file: None };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--seconds" => asked.seconds = words.next()?.parse().ok()?,
            "--seed" => asked.seed = words.next()?.parse().ok()?,
            _ if asked.name.is_none() => asked.name = Some(word),
            _ if asked.file.is_none() => asked.file = Some(word.into()),
            _ => return None,
        }
    }
    asked.name.iter().all(|name| ALL.iter().any(|(known, _)| known == name)).then_some(asked)
}

/// What is being tried and its number, for the one that watches.
type Now = Arc<Mutex<(u64, Vec<u8>)>>;

/// Time of a processor that this process has had.
fn spent() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // Behind the name, which may hold anything: state, then ten numbers, then user and system time in ticks.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks: u64 = fields.skip(11).take(2).filter_map(|f| f.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}

fn main() -> ExitCode {
    let Some(asked) = asked() else {
        eprintln!("{USAGE}; names: {}", ALL.iter().map(|(n, _)| *n).collect::<Vec<_>>().join(" "));
        return ExitCode::from(2);
    };
    let chosen: Vec<(&'static str, Target)> =
        ALL.iter().filter(|(name, _)| asked.name.as_deref().is_none_or(|n| n == *name)).copied().collect();
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let each = Duration::from_secs(asked.seconds) / u32::try_from(chosen.len()).unwrap_or(1);
    let (mut tried, mut failed) = (0, 0);
    for (name, target) in &chosen {
        let known = match &asked.file {
            Some(file) => vec![std::fs::read(file).expect("the file can be read")],
            None => corpus(&here.join("corpus").join(name)),
        };
        let limit = if asked.file.is_some() { Duration::ZERO } else { each };
        match run(name, *target, &known, limit, asked.seed) {
            Ok(inputs) => {
                println!("{name}: {inputs} inputs");
                tried += inputs;
            }
            Err(bytes) => {
                let at = keep(here, name, &bytes);
                println!("FAILED {name}: `smoke {name} {}`", at.display());
                failed += 1;
            }
        }
    }
    println!("seed {}: {tried} inputs of {} targets, {failed} failed", asked.seed, chosen.len());
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Known inputs. A target without any begins with nothing.
fn corpus(dir: &Path) -> Vec<Vec<u8>> {
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(dir).map(|d| d.flatten().map(|e| e.path()).collect()).unwrap_or_default();
    paths.sort();
    let mut known: Vec<Vec<u8>> = paths.iter().filter_map(|p| std::fs::read(p).ok()).collect();
    known.push(Vec::new());
    known
}

/// How many inputs were tried, or the one that failed.
fn run(
    name: &'static str,
    target: Target,
    known: &[Vec<u8>],
    limit: Duration,
    seed: u64,
) -> Result<u64, Vec<u8>> {
    let now: Now = Arc::default();
    let shared = Arc::clone(&now);
    let known = known.to_vec();
    let work = move || {
        let mut random = Random::new(seed, name);
        let (begun, mut inputs) = (Instant::now(), 0);
        let mut first = known.iter();
        loop {
            let bytes = match first.next() {
                Some(bytes) => bytes.clone(),
                None if begun.elapsed() >= limit => return Ok(inputs),
                None => input(&known, &mut random),
            };
            *shared.lock().unwrap_or_else(PoisonError::into_inner) = (inputs, bytes.clone());
            if catch_unwind(AssertUnwindSafe(|| target(&bytes))).is_err() {
                return Err(bytes);
            }
            inputs += 1;
        }
    };
    let worker = std::thread::Builder::new().stack_size(STACK).spawn(work).expect("a thread");
    let mut since = (u64::MAX, spent(), Instant::now());
    while !worker.is_finished() {
        std::thread::sleep(Duration::from_millis(20));
        let current = now.lock().unwrap_or_else(PoisonError::into_inner);
        if current.0 != since.0 {
            since = (current.0, spent(), Instant::now());
        } else if spent().saturating_sub(since.1) > SLOW || since.2.elapsed() > STUCK {
            println!("{name}: one input takes longer than {SLOW:?}");
            return Err(current.1.clone());
        }
    }
    worker.join().unwrap_or_else(|_| Err(Vec::new()))
}

/// Keep an input that failed.
fn keep(here: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let dir = here.join("artifacts").join(name);
    let sum = bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325u64, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3));
    let at = dir.join(format!("{sum:016x}"));
    if let Err(e) = std::fs::create_dir_all(&dir).and_then(|()| std::fs::write(&at, bytes)) {
        eprintln!("{}: {e}", at.display());
    }
    at
}
