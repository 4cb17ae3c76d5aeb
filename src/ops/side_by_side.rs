//! One command in each of several workspaces at once: an `aj exec` each, whose output is told apart line
//! by line.

use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, SyncSender};

use crate::schema::workspace::Workspace;
use crate::sys::detach;
use crate::sys::umask;

/// Bytes of one line at most; a longer one is cut in several.
const LONGEST: u64 = 64 << 10;
/// Lines that wait to be heard; whoever has more is not read from, and waits as for any slow reader.
const WAITING: usize = 16;

/// A line that one of them wrote.
#[derive(Debug)]
pub struct Line {
    /// Which of them.
    pub number: usize,
    /// To stderr.
    pub stderr: bool,
    /// Without its line feed.
    pub bytes: Vec<u8>,
}

/// Run `aj exec WORKSPACE FLAGS -- COMMAND` in each. `heard` gets every line as it comes, and tells whether
/// anybody hears more of that stream: if not, it is closed, and who writes to it ends by SIGPIPE as in any
/// pipeline. The exit code of each; `None`: it was killed. To be called by a thread that lives as long as the process: they end with it.
pub fn run(
    workspaces: &[Workspace],
    (flags, command): (&[OsString], &[OsString]),
    heard: &mut dyn FnMut(Line) -> bool,
) -> io::Result<Vec<Option<i32>>> {
    let aj = std::env::current_exe()?;
    let (send, lines) = mpsc::sync_channel(WAITING);
    let closed = [Arc::default(), Arc::default()];
    let [no_out, no_err] = &closed;
    let mut children: Vec<Child> = Vec::new();
    for (number, workspace) in workspaces.iter().enumerate() {
        let mut child = Command::new(&aj);
        child.args(["exec", "-T", workspace.id.as_str()]).args(flags).arg("--").args(command);
        child.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        umask::hand_on(&mut child);
        // Killed, it ends its jail: nothing of theirs outlives this process.
        detach::end_with_us(&mut child);
        match child.spawn() {
            Ok(mut child) => {
                let (out, err) = (child.stdout.take(), child.stderr.take());
                follow(out, (number, false), send.clone(), Arc::clone(no_out));
                follow(err, (number, true), send.clone(), Arc::clone(no_err));
                children.push(child);
            }
            Err(e) => {
                // Those that run are ended: half of the answer is none.
                for mut child in children {
                    child.kill().ok();
                    child.wait().ok();
                }
                return Err(e);
            }
        }
    }
    drop(send);
    for line in lines {
        let closed: &AtomicBool = if line.stderr { no_err } else { no_out };
        if !closed.load(Ordering::Relaxed) && !heard(line) {
            closed.store(true, Ordering::Relaxed);
        }
    }
    children.iter_mut().map(|child| child.wait().map(|status| status.code())).collect()
}

fn follow(
    from: Option<impl Read + Send + 'static>,
    (number, stderr): (usize, bool),
    to: SyncSender<Line>,
    closed: Arc<AtomicBool>,
) {
    let Some(from) = from else { return };
    std::thread::spawn(move || {
        let mut from = BufReader::new(from);
        loop {
            let mut bytes = Vec::new();
            match from.by_ref().take(LONGEST).read_until(b'\n', &mut bytes) {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
            if bytes.ends_with(b"\n") {
                bytes.pop();
            }
            // Its end of the pipe goes with it.
            if closed.load(Ordering::Relaxed) || to.send(Line { number, stderr, bytes }).is_err() {
                return;
            }
        }
    });
}
