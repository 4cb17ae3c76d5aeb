//! A GET of a server in the network of a job.
//!
//! In a workspace a process of ours in its jail sends it (`jail::hands`). A jail of its own has nobody in it that
//! could be asked; a copy of this process goes into its network instead, and into nothing else: no process in
//! there sees it, and what it reads is the first line of an answer.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::base::id::Id;
use crate::job::http::{self, Unready};
use crate::ops::exec::live;
use crate::ops::inside::{self, Asked};
use crate::store::layout::StateDir;
use crate::sys::pidfd::{self, End};
use crate::sys::{clone, fd, ns};

/// How long one knock takes at most.
pub(super) const ONCE: Duration = Duration::from_secs(5);
/// Ports that are tried at most: a jail may listen on many.
const MOST: usize = 16;
/// Processes of a jail whose network is tried.
const PROCESSES: usize = 16;
/// Bytes of what came of it at most.
const LONGEST: u64 = 64;

/// What a jail is told.
#[derive(Debug, Serialize, Deserialize)]
struct Told {
    ports: Vec<u16>,
    path: String,
    ms: u64,
}

/// Whether a server on one of `ports` answers a GET of `path` as one does that is ready, in the network of the job
/// whose pid 1 is `init`; otherwise, what was seen. Whatever is in the way means no.
pub(super) fn answers(
    state: &StateDir,
    (workspace, init): (Option<Id>, i32),
    (ports, path): (&[u16], &str),
    left: Duration,
) -> Result<(), Option<Unready>> {
    let ports = ports.get(..MOST).unwrap_or(ports);
    let left = left.min(ONCE);
    match workspace {
        Some(id) => from_inside(state, id, (ports, path), left),
        None => from_beside(init, (ports, path), left),
    }
}

fn from_inside(
    state: &StateDir,
    id: Id,
    (ports, path): (&[u16], &str),
    left: Duration,
) -> Result<(), Option<Unready>> {
    let ms = u64::try_from(left.as_millis()).unwrap_or(0);
    let told = Told { ports: ports.to_vec(), path: path.to_owned(), ms };
    let Ok(order) = serde_json::to_vec(&told) else { return Err(None) };
    let Ok(dir) = live::dir(state, id) else { return Err(None) };
    let Ok(Some(live)) = live::find(state, id, &dir, id.as_str()) else { return Err(None) };
    let paused = || live::is_paused(state, id);
    let asked = inside::ask(live, inside::Kind::Http, &order, None, &paused);
    match asked {
        Ok(Asked::Answer(answer)) => read(&answer),
        Ok(_) | Err(_) => Err(None),
    }
}

/// In the jail: do what is told, and say what came of it.
pub(in crate::ops) fn carry_out(told: &[u8]) -> Vec<u8> {
    let Ok(told) = serde_json::from_slice::<Told>(told) else { return word(Err(None)) };
    let deadline = Instant::now() + Duration::from_millis(told.ms).min(ONCE);
    let plain = told.path.starts_with('/') && told.path.bytes().all(|b| b.is_ascii_graphic());
    word(if plain { http::answers(&told.ports, &told.path, deadline) } else { Err(None) })
}

/// What came of it, as it is told: `y`, `n`, or `n 3000 503`.
fn word(came: Result<(), Option<Unready>>) -> Vec<u8> {
    match came {
        Ok(()) => b"y".to_vec(),
        Err(None) => b"n".to_vec(),
        Err(Some(seen)) => format!("n {}", seen.wire()).into_bytes(),
    }
}

fn read(word: &[u8]) -> Result<(), Option<Unready>> {
    match word {
        b"y" => Ok(()),
        word => {
            let seen = word.strip_prefix(b"n ").and_then(|seen| std::str::from_utf8(seen).ok());
            Err(seen.and_then(Unready::read))
        }
    }
}

fn from_beside(init: i32, (ports, path): (&[u16], &str), left: Duration) -> Result<(), Option<Unready>> {
    let Ok((answer, said)) = fd::pipe() else { return Err(None) };
    match clone::fork() {
        Ok(None) => {
            let came = if join(init) { http::answers(ports, path, Instant::now() + left) } else { Err(None) };
            // Nobody reads: nobody wants to know.
            File::from(said).write_all(&word(came)).ok();
            clone::exit_now(0)
        }
        Ok(Some(child)) => {
            drop(said);
            let mut word = Vec::new();
            let heard = File::from(answer).take(LONGEST).read_to_end(&mut word);
            match (heard, pidfd::wait4(child)) {
                (Ok(_), Ok((End::Exited(0), _))) => read(&word),
                _ => Err(None),
            }
        }
        Err(_) => Err(None),
    }
}

/// Enter the network of the jail of `init`.
fn join(init: i32) -> bool {
    let network = |process: &str| std::fs::read_link(format!("/proc/{process}/ns/net")).ok();
    let own = network("self");
    let enter = |process: &OwnedFd| match nix::unistd::geteuid().is_root() {
        true => ns::join_net(process),
        // By way of the user namespace that it belongs to, which is ours.
        false => ns::join_net_of_user(process),
    };
    let all = std::iter::once(init).chain(children(init)).take(PROCESSES);
    for pid in all {
        // Opened before it is looked at: a number may come to mean another process.
        let Ok(process) = pidfd::open(pid) else { continue };
        match network(&pid.to_string()) {
            // That of the host, as was asked for.
            Some(theirs) if Some(&theirs) == own.as_ref() => return true,
            // Not ours to look at, pid 1 for example; what it started may be.
            None => continue,
            Some(_) if enter(&process).is_ok() => return true,
            Some(_) => {}
        }
    }
    false
}

fn children(pid: i32) -> Vec<i32> {
    let list = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    list.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}
