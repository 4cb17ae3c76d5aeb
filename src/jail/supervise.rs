//! The caller's side of a running jail: relays output, forwards signals, holds the clock, and
//! knows how it ended. One thread, one `poll` loop; nothing here blocks on a slow reader or on
//! anything the jail does, so the timeout and Ctrl-C always work.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signalfd::SignalFd;

use super::attend::{LAST_OUTPUT, on_terminal, stop};
use super::ended::State;
pub use super::ended::{Ended, Undelivered};
use super::input::Input;
use super::join;
use super::launch::Running;
use super::limits::{Counted, Limits};
use super::outbox::Outbox;
use super::relay::{Receiver, Stream};
use super::status::Layer;
use super::terminal::Terminal;
use super::usage::{self, DiskMeter, Meter, View};
pub use super::watcher::Watcher;
use super::wire::{Message, Received, receive};
use crate::schema::jail::Usage;
use crate::sys::pidfd::{self, End};
use crate::sys::{self, fd, signal};

/// Pid 1 of a jail that has said its last word: the command has ended, nothing else is left, all output is
/// delivered. Its own end, with all its namespaces, takes the kernel a while.
#[derive(Debug)]
pub struct Leaving {
    pid: i32,
    pidfd: OwnedFd,
    since: Instant,
    /// It was a command that had joined a jail: its connection, and the outputs that are read no more.
    joined: Option<(OwnedFd, Vec<OwnedFd>)>,
}

impl Leaving {
    /// For a command that had joined a jail: let the jail have the outputs that others may still write to, and
    /// hear whether it ends as well. `None`: it was no such command.
    pub fn leave(&mut self) -> Option<sys::Result<bool>> {
        let (conn, outputs) = self.joined.take()?;
        Some(join::after(&conn, &outputs, GIVE_UP))
    }

    /// Wait until nothing is left of the jail; its pid when that does not come.
    pub fn wait(self) -> sys::Result<Option<i32>> {
        loop {
            let left = GIVE_UP.saturating_sub(self.since.elapsed());
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            match poll(&mut [PollFd::new(self.pidfd.as_fd(), PollFlags::POLLIN)], timeout) {
                Ok(0) => return Ok(Some(self.pid)),
                Ok(_) => return pidfd::wait4(self.pid).map(|_| None),
                Err(Errno::EINTR) => {}
                Err(e) => return Err(sys::Error::new("poll", "", e)),
            }
        }
    }
}

pub(super) struct Adapter<'a>(pub(super) &'a mut dyn Watcher, pub(super) &'a mut Vec<u8>);

impl Receiver for Adapter<'_> {
    fn output(&mut self, stderr: bool, bytes: &[u8]) {
        self.0.output(stderr, bytes, self.1);
    }
}

/// How to supervise.
#[derive(Debug, Default)]
pub struct Options<'a> {
    /// Wall-clock limit.
    pub timeout: Option<Duration>,
    /// Time between SIGTERM and SIGKILL.
    pub grace: Duration,
    /// Hand output to the watcher instead of passing it through.
    pub capture: bool,
    /// Kill when the jail holds more than this many bytes of memory (watched, not prevented).
    pub watch_memory: Option<u64>,
    /// Kill when it has written more than this many bytes to disk (watched, not prevented).
    pub watch_disk: Option<u64>,
    /// Its control groups, which hold its limits and count what it uses.
    pub group: Option<&'a Limits>,
    /// Call [`Watcher::tick`].
    pub ticks: bool,
    /// It ends as if its time were up when nobody can find it any more ([`Watcher::is_findable`]).
    pub findable: bool,
}

const TICK_EVERY: Duration = Duration::from_millis(500);
/// How often it is looked whether a jail can be found.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How long to wait for the end of a jail that was killed before saying that it cannot be.
const GIVE_UP: Duration = Duration::from_secs(10);
/// How long a command runs that is over at once.
const SHORT: Duration = Duration::from_millis(20);
/// How long a jail that was killed may take before it is asked why.
const MOMENT: Duration = Duration::from_millis(200);
/// Once the time is up, a reader that takes nothing for so long (or the grace, when that is longer)
/// is not waited for.
const PATIENCE: Duration = Duration::from_secs(1);

/// Where the bytes go.
pub(super) struct Flows {
    pub(super) streams: Vec<Stream>,
    pub(super) terminal: Option<Terminal>,
    input: Option<Input>,
    pub(super) outbox: Outbox,
    /// When a reader of ours last took something.
    progress: Instant,
    /// Outputs of a command that has joined, which has ended: whoever else writes to them is not listened to.
    left: Vec<OwnedFd>,
}

impl Flows {
    fn delivered(&self) -> bool {
        self.streams.iter().all(Stream::done) && self.outbox.is_empty()
    }

    fn abandon(&mut self) {
        self.streams.iter_mut().for_each(Stream::abandon);
        self.outbox.abandon();
    }

    fn advance(&mut self, seen: &Seen, watcher: &mut dyn Watcher) {
        let mut moved = false;
        for (stream, seen) in self.streams.iter_mut().zip(seen.streams) {
            moved |= stream.advance(seen, &mut Adapter(watcher, &mut self.outbox.lines));
        }
        // Tried at once: most lines find room, and a poll is saved.
        moved |= !self.outbox.is_empty() && self.outbox.advance();
        if self.outbox.lost.is_some() {
            // The reader of events has left: the command finds out by SIGPIPE, as in a plain pipe.
            self.streams.iter_mut().filter(|s| s.is_captured()).for_each(Stream::abandon);
            self.outbox.abandon();
        }
        if moved {
            self.progress = Instant::now();
        }
        if self.input.as_mut().is_some_and(|i| !i.advance(seen.input)) {
            self.close_input();
        }
    }

    /// Read no more than there was when the command had ended; after a while (`late`), no more at all.
    fn let_go(&mut self, late: bool, watcher: &mut dyn Watcher) {
        let mut adapter = Adapter(watcher, &mut self.outbox.lines);
        for stream in &mut self.streams {
            if late || stream.is_idle(&mut adapter) && !stream.waits() {
                self.left.extend(stream.let_go(&mut adapter));
            }
        }
    }

    fn close_input(&mut self) {
        if let Some(input) = self.input.take() {
            input.close();
        }
    }
}

/// Supervise until the command has ended, nothing else of the jail is left but perhaps its pid 1, and its
/// output is delivered. Signals stay taken over (see [`signal::give_back`]), so that the end can still be
/// recorded.
pub fn supervise(
    jail: Running,
    options: &Options<'_>,
    watcher: &mut dyn Watcher,
) -> sys::Result<(Ended, Option<Leaving>)> {
    let signals = signal::take_over()?;
    let Running { pid, pidfd, status, stdout, stderr, stdin, started, said, joined } = jail;
    let mut flows = Flows {
        streams: Vec::with_capacity(2),
        terminal: None,
        input: stdin.map(Input::new),
        outbox: Outbox::new(fd::standard(1)),
        progress: started,
        left: Vec::new(),
    };
    for (source, number) in [(stdout, 1), (stderr, 2)] {
        let Some(source) = source else { continue };
        fd::set_nonblocking(&source)?;
        flows.streams.push(if options.capture {
            Stream::to_call(source, number == 2)
        } else {
            Stream::to_fd(source, fd::standard(number), number == 2)
        });
    }
    watcher.meanwhile();
    let mut state =
        State { deadline: options.timeout.and_then(|t| started.checked_add(t)), joined, ..State::default() };
    if said.is_some() {
        state.said = said;
        state.fall_silent();
    }
    let mut meter = Meter::new(options.watch_memory, started);
    let mut disk = DiskMeter::new(options.watch_disk, started);
    let mut shortage = options.group.and_then(Limits::on_memory_shortage);
    let mut next_tick = options.ticks.then(|| started + TICK_EVERY);
    state.look_at = options.findable.then(|| started + LOOK_EVERY);
    let mut lives_at = options.group.map(|_| started + SHORT);
    loop {
        let now = Instant::now();
        if state.left_others() {
            flows.let_go(state.lets_go_at().is_some_and(|at| now >= at), watcher);
        }
        if state.ended.is_some() {
            if flows.delivered() {
                break;
            }
            if give_up_on_reader(&state, options, &flows).is_some_and(|at| now >= at) {
                state.timed_out = true;
                state.abandoned = true;
                break;
            }
        } else {
            on_time(&mut state, options, (pidfd.as_fd(), meter.proc.as_ref()), now, watcher)?;
            if state.dying.is_some_and(|d| now >= d + MOMENT) && !state.lingered && !state.left_others() {
                state.lingered = true;
                watcher.lingers();
                options.group.iter().for_each(|group| group.kill());
            }
            if state.dying.is_some_and(|d| now >= d + GIVE_UP) {
                state.unkillable = true;
                break;
            }
            if meter.over(now) && !state.out_of_memory && state.said.is_none() {
                state.out_of_memory = true;
                state.kill(pidfd.as_fd())?;
            }
            if disk.over(now, watcher) && !state.out_of_memory && state.said.is_none() {
                state.over_disk = true;
                state.kill(pidfd.as_fd())?;
            }
            if lives_at.is_some_and(|at| now >= at) {
                lives_at = None;
                watcher.lives();
            }
            if state.started && next_tick.is_some_and(|at| now >= at) {
                next_tick = Some(now + TICK_EVERY);
                if flows.outbox.is_empty() && flows.outbox.lost.is_none() {
                    let usage = usage::live(meter.proc.as_ref(), options.group, started.elapsed());
                    watcher.tick(usage, &mut flows.outbox.lines);
                }
            }
        }
        let wake = if state.ended.is_some() {
            let let_go = state.lets_go_at().filter(|at| now < *at);
            give_up_on_reader(&state, options, &flows).into_iter().chain(let_go).min()
        } else {
            let patience = if state.lingered { GIVE_UP } else { MOMENT };
            let timers = [state.deadline_ahead(), state.kill_at, state.dying.map(|d| d + patience)];
            let input = flows.input.as_ref().and_then(Input::wake_at);
            let looks = [meter.wake_at(), disk.wake_at(), next_tick, input, lives_at, state.look_at];
            let terminal = [state.stop_by, flows.terminal.as_ref().and_then(Terminal::wake_at)];
            timers.into_iter().chain(looks).chain(terminal).flatten().min()
        };
        let events = (&signals, pidfd.as_fd(), status.as_fd(), shortage.as_ref().map(AsFd::as_fd));
        let seen = wait(&state, &flows, events, wake)?;
        if seen.shortage {
            let fd = shortage.take();
            if options.group.is_none_or(Limits::was_short) {
                // The kernel kills one process; what is left of the jail would be taken for the whole.
                state.out_of_memory = state.said.is_none();
                state.kill(pidfd.as_fd())?;
            } else {
                // In a group above: whom the kernel kills there is not known yet.
                // It would stay readable.
                fd.iter().try_for_each(|fd| nix::unistd::read(fd, &mut [0; 8]).map(drop)).ok();
                shortage = fd;
            }
        }
        if seen.status {
            take_message(&status, &mut state, &mut meter, watcher, (pid, &mut flows.outbox.lines))?;
            if let Some(master) = state.master.take() {
                flows.attach(master, watcher)?;
            }
        }
        if state.started && !state.early.is_empty() {
            for number in std::mem::take(&mut state.early) {
                pidfd::signal(pidfd.as_fd(), number)?;
            }
        }
        if seen.signals {
            take_signals(&signals, &mut state, pidfd.as_fd(), watcher, flows.terminal.as_mut())?;
        }
        flows.advance(&seen, watcher);
        if flows.terminal.is_some() {
            on_terminal(&mut flows, &seen, &mut state, options, pidfd.as_fd(), watcher)?;
        }
        if state.ended.is_none()
            && let Some(Message::Ended { alone, end, used }) = state.said
            && (alone || state.joined.is_some())
            && flows.delivered()
        {
            // What is left is the kernel's to do, and ours while it does.
            state.ended = Some((end, used));
            flows.close_input();
            let counted = end_of(&mut state, options, &meter);
            let joined = state.leaving(&mut flows.left);
            let leaving = Leaving { pid, pidfd, since: Instant::now(), joined };
            return Ok((finish(state, flows, (pid, started), &counted), Some(leaving)));
        }
        if seen.ended {
            state.ended = Some(match &state.joined {
                // The kernel reports pid 1's end only when its pid namespace is empty.
                None => pidfd::wait4(pid)?,
                // Another one's child: what it had to say it has said.
                Some(_) => (End::Signaled(libc::SIGKILL), pidfd::Rusage::default()),
            });
            let lines = &mut flows.outbox.lines;
            while take_message(&status, &mut state, &mut meter, watcher, (pid, &mut *lines))? {}
            flows.close_input();
        }
        if state.abandoned {
            flows.abandon();
        }
    }
    let counted = end_of(&mut state, options, &meter);
    let leaving = state.joined.is_some().then(|| {
        let joined = state.leaving(&mut flows.left);
        Leaving { pid, pidfd, since: Instant::now(), joined }
    });
    Ok((finish(state, flows, (pid, started), &counted), leaving))
}

/// What its groups have counted, with the peak that was seen where they count none.
fn end_of(state: &mut State, options: &Options<'_>, meter: &Meter) -> Counted {
    let mut counted = options.group.map(Limits::counted).unwrap_or_default();
    // Some of its processes may have been killed without anybody seeing it.
    state.out_of_memory |= counted.oom_kills > 0;
    counted.peak = counted.peak.or(options.watch_memory.map(|_| meter.peak));
    counted
}

/// TERM when the time is up, KILL after the grace.
fn on_time(
    state: &mut State,
    options: &Options<'_>,
    (jail, proc): (BorrowedFd<'_>, Option<&View>),
    now: Instant,
    watcher: &mut dyn Watcher,
) -> sys::Result<()> {
    if state.look_at.is_some_and(|at| now >= at) {
        let there = watcher.is_findable();
        state.look_at = there.then(|| now + LOOK_EVERY);
        state.deadline = if there { state.deadline } else { Some(now) };
    }
    if state.deadline_ahead().is_some_and(|d| now >= d) {
        // The clock stands still while the jail is paused; nobody tells us when that begins and ends.
        let paused = watcher.paused();
        let more = paused.saturating_sub(state.paused);
        if !more.is_zero() {
            state.paused = paused;
            state.postpone(more);
            return Ok(());
        }
        state.timed_out = true;
        if state.started {
            pidfd::signal(jail, libc::SIGTERM)?;
            // A stopped process would not notice.
            pidfd::signal(jail, libc::SIGCONT)?;
            state.kill_at = now.checked_add(options.grace);
        } else {
            // Pid 1 has no handler before the command runs.
            state.kill(jail)?;
        }
    }
    if state.kill_at.is_some_and(|k| now >= k) {
        state.kill_at = None;
        // Of processes that are killed with their namespace nobody waits, so nobody adds them up.
        state.spent = usage::live(proc, options.group, Duration::ZERO);
        state.kill(jail)?;
    }
    Ok(())
}

/// With the jail gone and output left that nobody takes: until when to wait. For ever without a
/// timeout, as the command itself would have in its last write.
fn give_up_on_reader(state: &State, options: &Options<'_>, flows: &Flows) -> Option<Instant> {
    state.deadline.map(|d| d.max(flows.progress + options.grace.max(PATIENCE)))
}

/// What `poll` reported.
pub(super) struct Seen {
    signals: bool,
    ended: bool,
    status: bool,
    shortage: bool,
    streams: [PollFlags; 2],
    input: PollFlags,
    pub(super) keyboard: PollFlags,
    pub(super) room: PollFlags,
}

fn wait(
    state: &State,
    flows: &Flows,
    (signals, pidfd, status, shortage): (&SignalFd, BorrowedFd<'_>, BorrowedFd<'_>, Option<BorrowedFd<'_>>),
    wake: Option<Instant>,
) -> sys::Result<Seen> {
    let running = state.ended.is_none();
    let one = |fd| PollFd::new(fd, PollFlags::POLLIN);
    let stream = |i: usize| {
        let stream = flows.streams.get(i)?;
        // A reader of events that is behind holds up the command, not the clock; and "started" comes
        // before the first output, which may get here before pid 1's word of it.
        let later = stream.is_captured() && (flows.outbox.is_full() || running && !state.started);
        if later { None } else { stream.poll_fd() }
    };
    // Afterwards only to see whether the user wants to wait for the rest of the output.
    let terminal = flows.terminal.as_ref().filter(|_| running || flows.streams.iter().any(Stream::waits));
    // What is asked, and which answer it belongs to.
    let asked = [
        Some(one(signals.as_fd())),
        running.then(|| one(pidfd)),
        (running && !state.silent).then(|| one(status)),
        shortage.filter(|_| running).map(one),
        stream(0),
        stream(1),
        flows.input.as_ref().and_then(Input::poll_fd),
        terminal.and_then(|t| t.keyboard(state.started)),
        terminal.and_then(Terminal::room),
        flows.outbox.poll_fd(),
    ];
    let present = asked.each_ref().map(Option::is_some);
    let mut fds: Vec<PollFd<'_>> = asked.into_iter().flatten().collect();
    let timeout = match wake {
        None => PollTimeout::NONE,
        Some(at) => {
            let ms = at.saturating_duration_since(Instant::now()).as_millis().saturating_add(1);
            PollTimeout::try_from(i32::try_from(ms).unwrap_or(i32::MAX)).unwrap_or(PollTimeout::MAX)
        }
    };
    match poll(&mut fds, timeout) {
        Ok(_) => {}
        Err(Errno::EINTR) => fds.clear(),
        Err(e) => return Err(sys::Error::new("poll", "", e)),
    }
    let mut answers = fds.iter().map(|fd| fd.revents().unwrap_or(PollFlags::empty()));
    let [signals, ended, status, shortage, stdout, stderr, input, keyboard, room, _] =
        present.map(|p| if p { answers.next() } else { None }.unwrap_or(PollFlags::empty()));
    Ok(Seen {
        signals: !signals.is_empty(),
        ended: !ended.is_empty(),
        status: !status.is_empty(),
        shortage: !shortage.is_empty(),
        streams: [stdout, stderr],
        input,
        keyboard,
        room,
    })
}

/// Take the next message of pid 1; whether there was one.
fn take_message(
    status: &OwnedFd,
    state: &mut State,
    meter: &mut Meter,
    watcher: &mut dyn Watcher,
    (pid, lines): (i32, &mut Vec<u8>),
) -> sys::Result<bool> {
    if state.silent {
        return Ok(false);
    }
    match receive(status, false)? {
        Received::Message(Message::Started(layers), proc) => {
            let others = !layers.has(Layer::Proc);
            let of = match &state.joined {
                // Others run in the jail, and its tmpfs is theirs as well.
                Some(joined) => Some(if others { pid } else { joined.inner }),
                None => others.then_some(pid),
            };
            let tmp = layers.has(Layer::MountNs) && state.joined.is_none();
            meter.proc = proc.map(|proc| View::new(proc, of, tmp));
            state.started = true;
            state.layers = layers;
            watcher.started(layers, pid, lines);
        }
        // Asked for and taken before.
        Received::Message(Message::Uppers | Message::Root { .. }, _) => {}
        Received::Message(Message::Terminal, Some(master)) => state.master = Some(master),
        // Its descriptor was lost on the way.
        Received::Message(Message::Terminal, None) => {
            return Err(sys::Error::new("recvmsg", "terminal", Errno::EMFILE));
        }
        Received::Message(Message::Stopped, _) => {
            state.stop_by.get_or_insert_with(|| Instant::now() + LAST_OUTPUT);
        }
        Received::Message(m @ (Message::Failed { .. } | Message::Ended { .. }), _) => {
            // Its last word: what is left is the kernel's to clear away.
            state.said = Some(m);
            state.fall_silent();
        }
        Received::Closed => state.fall_silent(),
        Received::Nothing => return Ok(false),
    }
    Ok(true)
}

fn take_signals(
    signals: &SignalFd,
    state: &mut State,
    jail: BorrowedFd<'_>,
    watcher: &mut dyn Watcher,
    mut terminal: Option<&mut Terminal>,
) -> sys::Result<()> {
    while let Ok(Some(info)) = signals.read_signal() {
        let number = i32::try_from(info.ssi_signo).unwrap_or(0);
        match number {
            _ if signal::is_ignored(number) => {}
            libc::SIGINT | libc::SIGTERM | libc::SIGHUP | libc::SIGQUIT => {
                state.interrupts += 1;
                state.interrupted.get_or_insert(number);
                if state.ended.is_some() {
                    // Only the delivery is left, and the user does not want to wait for it.
                    state.abandoned = true;
                } else if state.interrupts > 1 {
                    state.kill(jail)?;
                } else {
                    state.pass_on(jail, number)?;
                    if number == libc::SIGINT && terminal.is_none() {
                        watcher.stopping();
                    }
                }
            }
            libc::SIGTSTP => stop(state, jail, terminal.as_deref_mut(), signal::stop_self)?,
            // The terminal inside tells whom it concerns.
            libc::SIGWINCH if terminal.is_some() => terminal.iter().for_each(|t| t.resize()),
            _ => {
                if number == libc::SIGCONT {
                    terminal.iter_mut().for_each(|t| t.resume());
                }
                state.pass_on(jail, number)?;
            }
        }
    }
    Ok(())
}

fn finish(state: State, mut flows: Flows, (pid, started): (i32, Instant), counted: &Counted) -> Ended {
    flows.detach();
    let ms = |d: Duration| u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
    let lost = |stderr: usize| flows.streams.get(stderr).and_then(|s| s.lost);
    let undelivered = Undelivered {
        stdout: lost(0).or(flows.outbox.lost),
        stderr: lost(1),
        abandoned: state.abandoned || state.unkillable && !flows.delivered(),
    };
    let used = state.ended.map(|(_, used)| used).unwrap_or_default();
    let (user, system) = counted.cpu.unwrap_or((used.user, used.system));
    let spent = state.spent;
    let (layers, unkillable, over_disk) = (state.layers, state.unkillable.then_some(pid), state.over_disk);
    let interrupted = state.interrupted;
    let (outcome, errno, exec_failed) = state.outcome();
    let mut excerpts = flows.streams.into_iter().map(Stream::finish);
    Ended {
        outcome,
        errno,
        exec_failed,
        layers,
        usage: Usage {
            wall_ms: ms(started.elapsed()),
            user_ms: ms(user).max(spent.user_ms),
            system_ms: ms(system).max(spent.system_ms),
            peak_rss: used.peak_rss,
            peak_memory: counted.peak.unwrap_or(0),
        },
        stdout: excerpts.next().unwrap_or_default(),
        stderr: excerpts.next().unwrap_or_default(),
        peak_memory: counted.peak,
        elsewhere: counted.elsewhere,
        over_disk,
        refused: counted.refused,
        interrupted,
        undelivered,
        unkillable,
    }
}
