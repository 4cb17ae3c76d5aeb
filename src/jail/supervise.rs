//! The caller's side of a running jail: relays output, forwards signals, holds the clock, and
//! knows how it ended. One thread, one `poll` loop; nothing here blocks on a slow reader, so the
//! timeout and Ctrl-C work whatever the other ends of the pipes do.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signalfd::SignalFd;

use super::launch::Running;
use super::relay::{Receiver, Stream};
use super::status::Layers;
use super::usage;
use super::wire::{Message, Received, receive};
use crate::schema::jail::{Excerpt, Outcome, Usage};
use crate::sys::pidfd::{self, End};
use crate::sys::{self, fd, signal};

/// What the supervisor tells while the jail runs.
pub trait Watcher {
    /// The command is running.
    fn started(&mut self, _layers: Layers, _pid: i32) {}
    /// Output, when it is captured instead of passed through.
    fn output(&mut self, _stderr: bool, _bytes: &[u8]) {}
    /// Twice a second while it runs.
    fn tick(&mut self, _usage: Usage) {}
    /// The first Ctrl-C was passed on.
    fn stopping(&mut self) {}
}

struct Adapter<'a>(&'a mut dyn Watcher);

impl Receiver for Adapter<'_> {
    fn output(&mut self, stderr: bool, bytes: &[u8]) {
        self.0.output(stderr, bytes);
    }
}

/// How to supervise.
#[derive(Debug, Default)]
pub struct Options {
    /// Wall-clock limit.
    pub timeout: Option<Duration>,
    /// Time between SIGTERM and SIGKILL.
    pub grace: Duration,
    /// Hand output to the watcher instead of passing it through.
    pub capture: bool,
    /// Kill when the processes' anonymous memory exceeds this many bytes (watched, not prevented).
    pub watch_memory: Option<u64>,
    /// Call [`Watcher::tick`].
    pub ticks: bool,
}

/// How it ended.
#[derive(Debug)]
pub struct Ended {
    /// How.
    pub outcome: Outcome,
    /// Errno of a failed start, for the exit code.
    pub errno: Option<Errno>,
    /// The exec itself failed, not a step before it.
    pub exec_failed: bool,
    /// Layers that were in force.
    pub layers: Layers,
    /// What it used.
    pub usage: Usage,
    /// Its stdout.
    pub stdout: Excerpt,
    /// Its stderr.
    pub stderr: Excerpt,
    /// Largest sum of anonymous memory seen, when it was watched.
    pub peak_memory: Option<u64>,
    /// The caller's stdout or stderr was closed before all was delivered.
    pub broken_pipe: bool,
}

const MEMORY_EVERY: Duration = Duration::from_millis(50);
const TICK_EVERY: Duration = Duration::from_millis(500);

#[derive(Default)]
struct State {
    layers: Layers,
    started: bool,
    said: Option<Message>,
    ended: Option<(End, pidfd::Rusage)>,
    timed_out: bool,
    out_of_memory: bool,
    interrupted: Option<i32>,
    interrupts: u32,
    deadline: Option<Instant>,
    kill_at: Option<Instant>,
    stopped_for: Duration,
}

/// Supervise until the jail has ended, nothing of it is left, and its output is delivered.
pub fn supervise(jail: Running, options: &Options, watcher: &mut dyn Watcher) -> sys::Result<Ended> {
    let signals = signal::take_over()?;
    let Running { pid, pidfd, status, stdout, stderr, stdin, started } = jail;
    let mut streams = Vec::with_capacity(2);
    for (source, number) in [(Some(stdout), 1), (stderr, 2)] {
        let Some(source) = source else { continue };
        streams.push(if options.capture {
            Stream::to_call(source, number == 2)
        } else {
            Stream::to_fd(source, fd::standard(number), number == 2)
        });
    }
    let mut input = stdin.map(Input::new);
    let mut state =
        State { deadline: options.timeout.and_then(|t| started.checked_add(t)), ..State::default() };
    let mut meter = Meter { proc: None, limit: options.watch_memory, peak: 0, next: started + MEMORY_EVERY };
    let mut next_tick = started + TICK_EVERY;
    loop {
        let now = Instant::now();
        if state.ended.is_none() {
            on_time(&mut state, options, pidfd.as_fd(), now)?;
            if meter.over(now) && !state.out_of_memory {
                state.out_of_memory = true;
                pidfd::signal(pidfd.as_fd(), libc::SIGKILL)?;
            }
            if options.ticks && state.started && now >= next_tick {
                watcher.tick(usage::live(meter.proc.as_ref(), started.elapsed()));
                next_tick = now + TICK_EVERY;
            }
        } else if streams.iter().all(Stream::done) {
            break;
        }
        let wake = wake_at(&state, &meter, options.ticks.then_some(next_tick));
        wait(&state, &streams, input.as_ref(), (&signals, pidfd.as_fd(), status.as_fd()), wake)?;
        take_messages(&status, &mut state, &mut meter, watcher, pid)?;
        take_signals(&signals, &mut state, pidfd.as_fd(), watcher, &mut streams)?;
        for s in &mut streams {
            s.advance(&mut Adapter(watcher));
        }
        if input.as_mut().is_some_and(|i| !i.advance()) {
            input = input.and_then(Input::close);
        }
        if state.ended.is_none() && is_over(pidfd.as_fd()) {
            // The kernel reports pid 1's end only when its pid namespace is empty.
            state.ended = Some(pidfd::wait4(pid)?);
            take_messages(&status, &mut state, &mut meter, watcher, pid)?;
            input = input.and_then(Input::close);
        }
    }
    Ok(finish(state, streams, meter, started))
}

/// TERM when the time is up, KILL after the grace.
fn on_time(state: &mut State, options: &Options, jail: BorrowedFd<'_>, now: Instant) -> sys::Result<()> {
    if state.deadline.is_some_and(|d| now >= d + state.stopped_for) && !state.timed_out {
        state.timed_out = true;
        // Pid 1 has no handler before the command runs, and would not notice.
        let first = if state.started { libc::SIGTERM } else { libc::SIGKILL };
        pidfd::signal(jail, first)?;
        state.kill_at = now.checked_add(options.grace);
    }
    if state.kill_at.is_some_and(|k| now >= k) {
        state.kill_at = None;
        pidfd::signal(jail, libc::SIGKILL)?;
    }
    Ok(())
}

fn wake_at(state: &State, meter: &Meter, tick: Option<Instant>) -> Option<Instant> {
    if state.ended.is_some() {
        return None;
    }
    let deadline = if state.timed_out { None } else { state.deadline.map(|d| d + state.stopped_for) };
    let memory = meter.limit.and(meter.proc.as_ref()).map(|_| meter.next);
    [deadline, state.kill_at, memory, tick].into_iter().flatten().min()
}

fn wait(
    state: &State,
    streams: &[Stream],
    input: Option<&Input>,
    (signals, pidfd, status): (&SignalFd, BorrowedFd<'_>, BorrowedFd<'_>),
    wake: Option<Instant>,
) -> sys::Result<()> {
    let mut fds = vec![PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
    if state.ended.is_none() {
        fds.push(PollFd::new(pidfd, PollFlags::POLLIN));
        if state.said.is_none() {
            fds.push(PollFd::new(status, PollFlags::POLLIN));
        }
    }
    fds.extend(streams.iter().filter_map(Stream::poll_fd));
    fds.extend(input.map(Input::poll_fd));
    let timeout = match wake {
        None => PollTimeout::NONE,
        Some(at) => {
            let ms = at.saturating_duration_since(Instant::now()).as_millis().saturating_add(1);
            PollTimeout::try_from(i32::try_from(ms).unwrap_or(i32::MAX)).unwrap_or(PollTimeout::MAX)
        }
    };
    match poll(&mut fds, timeout) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(e) => Err(sys::Error::new("poll", "", e)),
    }
}

fn is_over(pidfd: BorrowedFd<'_>) -> bool {
    let mut fds = [PollFd::new(pidfd, PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::ZERO).is_ok_and(|n| n > 0)
}

fn take_messages(
    status: &OwnedFd,
    state: &mut State,
    meter: &mut Meter,
    watcher: &mut dyn Watcher,
    pid: i32,
) -> sys::Result<()> {
    loop {
        match receive(status, false)? {
            Received::Message(Message::Started(layers), _) => {
                state.started = true;
                state.layers = layers;
                watcher.started(layers, pid);
            }
            Received::Message(Message::Descriptor(0), fd) => meter.proc = fd,
            Received::Message(Message::Descriptor(_), _) => {}
            Received::Message(m, _) => state.said = Some(m),
            Received::Nothing | Received::Closed => return Ok(()),
        }
    }
}

fn take_signals(
    signals: &SignalFd,
    state: &mut State,
    jail: BorrowedFd<'_>,
    watcher: &mut dyn Watcher,
    streams: &mut [Stream],
) -> sys::Result<()> {
    while let Ok(Some(info)) = signals.read_signal() {
        let number = i32::try_from(info.ssi_signo).unwrap_or(0);
        match number {
            libc::SIGINT | libc::SIGTERM | libc::SIGHUP | libc::SIGQUIT => {
                state.interrupts += 1;
                state.interrupted.get_or_insert(number);
                if state.interrupts > 1 || !state.started {
                    pidfd::signal(jail, libc::SIGKILL)?;
                    if state.ended.is_some() {
                        streams.iter_mut().for_each(Stream::abandon);
                    }
                } else {
                    pidfd::signal(jail, number)?;
                    if number == libc::SIGINT {
                        watcher.stopping();
                    }
                }
            }
            libc::SIGTSTP => {
                // The clock stands still while the user has stopped us.
                pidfd::signal(jail, number)?;
                let since = Instant::now();
                signal::stop_self();
                state.stopped_for += since.elapsed();
                pidfd::signal(jail, libc::SIGCONT)?;
            }
            _ => {
                pidfd::signal(jail, number)?;
            }
        }
    }
    Ok(())
}

fn finish(state: State, streams: Vec<Stream>, meter: Meter, started: Instant) -> Ended {
    let (end, rusage) = state.ended.unwrap_or((End::Signaled(libc::SIGKILL), pidfd::Rusage::default()));
    let ms = |d: Duration| u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
    let (mut errno, mut exec_failed) = (None, false);
    let outcome = match state.said {
        Some(Message::Failed { step, errno: number, exec }) => {
            let e = Errno::from_raw(number);
            (errno, exec_failed) = (Some(e), exec);
            Outcome::Failed { step, errno: format!("{e:?}"), code: 125 }
        }
        _ if state.out_of_memory => Outcome::OutOfMemory,
        _ if state.timed_out => Outcome::TimedOut,
        Some(Message::Exited(code)) => Outcome::Exited { code },
        Some(Message::Signaled(signal)) if state.interrupted == Some(signal) => {
            Outcome::Interrupted { signal }
        }
        Some(Message::Signaled(signal)) => Outcome::Signaled { signal },
        _ => match (state.interrupted, end) {
            (Some(signal), _) => Outcome::Interrupted { signal },
            (None, End::Signaled(signal)) if state.started => Outcome::Signaled { signal },
            (None, end) => Outcome::Failed {
                step: format!("the jail's pid 1 ended without a word ({end:?})"),
                errno: String::new(),
                code: 125,
            },
        },
    };
    let broken_pipe = streams.iter().any(|s| s.broken);
    let mut excerpts = streams.into_iter().map(Stream::finish);
    Ended {
        outcome,
        errno,
        exec_failed,
        layers: state.layers,
        usage: Usage {
            wall_ms: ms(started.elapsed()),
            user_ms: ms(rusage.user),
            system_ms: ms(rusage.system),
            peak_rss: rusage.peak_rss,
        },
        stdout: excerpts.next().unwrap_or_default(),
        stderr: excerpts.next().unwrap_or_default(),
        peak_memory: meter.limit.map(|_| meter.peak),
        broken_pipe,
    }
}

/// Watches the memory of the jail's processes through its own `/proc`.
struct Meter {
    proc: Option<OwnedFd>,
    limit: Option<u64>,
    peak: u64,
    next: Instant,
}

impl Meter {
    fn over(&mut self, now: Instant) -> bool {
        let (Some(limit), Some(proc)) = (self.limit, &self.proc) else { return false };
        if now < self.next {
            return false;
        }
        self.next = now + MEMORY_EVERY;
        let sum = usage::anonymous_memory(proc);
        self.peak = self.peak.max(sum);
        sum > limit
    }
}

/// The caller's stdin on its way into the jail's pipe.
struct Input {
    pipe: OwnedFd,
    file: bool,
    closed: bool,
    splice: bool,
    pending: Vec<u8>,
}

impl Input {
    fn new(pipe: OwnedFd) -> Input {
        use nix::sys::stat::{SFlag, fstat};
        let file = fstat(fd::standard(0))
            .is_ok_and(|s| SFlag::from_bits_truncate(s.st_mode) & SFlag::S_IFMT == SFlag::S_IFREG);
        Input { pipe, file, closed: false, splice: true, pending: Vec::new() }
    }

    fn poll_fd(&self) -> PollFd<'_> {
        // One side at a time: room first, then bytes.
        if self.pending.is_empty() && self.has_room() {
            PollFd::new(fd::standard(0), PollFlags::POLLIN)
        } else {
            PollFd::new(self.pipe.as_fd(), PollFlags::POLLOUT)
        }
    }

    fn has_room(&self) -> bool {
        let mut fds = [PollFd::new(self.pipe.as_fd(), PollFlags::POLLOUT)];
        poll(&mut fds, PollTimeout::ZERO).is_ok_and(|n| n > 0)
    }

    /// Move what can be moved now. `false` at the end, or when nobody inside reads any more.
    fn advance(&mut self) -> bool {
        for _ in 0..4 {
            if !self.pending.is_empty() {
                match fd::write_nowait(&self.pipe, &self.pending) {
                    Ok(n) => drop(self.pending.drain(..n)),
                    Err(Errno::EAGAIN | Errno::EINTR) => return true,
                    Err(_) => return false,
                }
                continue;
            }
            let mut fds = [
                PollFd::new(fd::standard(0), PollFlags::POLLIN),
                PollFd::new(self.pipe.as_fd(), PollFlags::POLLOUT),
            ];
            if !poll(&mut fds, PollTimeout::ZERO).is_ok_and(|n| n > 0) {
                return true;
            }
            let is = |i: usize, f| {
                fds.get(i).and_then(PollFd::revents).is_some_and(|r: PollFlags| r.intersects(f))
            };
            if is(1, PollFlags::POLLERR) {
                return false;
            }
            if !is(1, PollFlags::POLLOUT)
                || !is(0, PollFlags::POLLIN | PollFlags::POLLHUP | PollFlags::POLLERR | PollFlags::POLLNVAL)
            {
                return true;
            }
            if self.splice {
                match fd::splice(fd::standard(0), &self.pipe, 64 * 1024) {
                    Ok(0) => return false,
                    Ok(_) => continue,
                    Err(Errno::EAGAIN | Errno::EINTR) => return true,
                    Err(Errno::EPIPE) => return false,
                    Err(_) => self.splice = false,
                }
            }
            let mut bytes = vec![0u8; 4096];
            match nix::unistd::read(fd::standard(0), &mut bytes) {
                Ok(n) if n > 0 => {
                    bytes.truncate(n);
                    self.pending = bytes;
                }
                Err(Errno::EAGAIN | Errno::EINTR) => return true,
                _ => return false,
            }
        }
        true
    }

    /// Close the jail's end. Bytes of a regular file that nobody inside read are given back, so
    /// that the next reader of the same file description continues where the command stopped.
    fn close(mut self) -> Option<Input> {
        if self.file && !self.closed {
            let unread = fd::waiting(&self.pipe) + self.pending.len();
            if let Ok(back) = i64::try_from(unread) {
                // Failing (a file that cannot seek) leaves what every relay does.
                nix::unistd::lseek(fd::standard(0), -back, nix::unistd::Whence::SeekCur).ok();
            }
        }
        self.closed = true;
        None
    }
}
