//! Pid 1 of a jail that commands join.
//!
//! It has given up everything and been looked at before it listens. A command that joins is a child of its: a
//! process that minds the command (as pid 1 does in a jail for one), and has it all from here: the namespaces,
//! the file view, no capability, one Landlock domain, the filter. Nothing enters the jail from outside with
//! more power than it will have, and commands of one jail may signal and trace one another, which two
//! domains of the same rules may not.
//!
//! Only this process decides that the jail ends: when it has no child and nobody is about to ask. Who
//! connects in that moment sees the connection end before it was answered, and knows that nothing ran.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::signalfd::SignalFd;
use nix::sys::socket::{SockFlag, accept4};
use nix::unistd::Pid;

use super::confine::{LISTENER, Stdio, confine_joined};
use super::cwd::{enter, unlock_workspace};
use super::hands;
use super::init::{await_start, command, fail, leave};
use super::lite::{descendants, has_ended, stop_the_new};
use super::live::{Answer, Ask, Job, LARGEST, Serve, VERSION};
use super::plan::{Plan, What};
use super::status::{Layer, Layers};
use super::wire::{self, Message};
use crate::store::fault;
use crate::sys::pidfd::End;
use crate::sys::{Error, Result, caps, clone, fd, pidfd, signal, terminal};

/// Sent by kill(2) and its like: the kernel says by whom.
const SI_USER: i32 = 0;
/// How long the first command is waited for: whoever started the jail may have died.
const FIRST: Duration = Duration::from_secs(10);
/// How long somebody who has connected may take to ask.
const FRESH: Duration = Duration::from_secs(5);
/// How long the end of all of a command is waited for.
const LAST_MOMENTS: Duration = Duration::from_secs(5);
/// How long one that carries out an order may take to put things in order when nobody waits for it.
const TIDY: Duration = Duration::from_millis(500);
/// How long nobody is let in when there is no descriptor left for them.
const FULL: Duration = Duration::from_millis(20);
/// Outputs of what commands left behind that are read at most: of more, the writers see the end.
const DRAINS: usize = 256;

/// Somebody who has connected.
struct Guest {
    conn: OwnedFd,
    role: Role,
}

enum Role {
    /// Has not asked yet.
    Fresh(Instant),
    /// Has a command, minded by this child; or one of our own that carries out an order.
    Runs {
        pid: i32,
        exclusive: bool,
        ours: bool,
    },
    /// Its `aj` is gone or wants it gone: all of it is ended. One of our own is not, before `since`.
    Dying {
        pid: i32,
        stopped: BTreeSet<i32>,
        since: Instant,
    },
    /// Its command has ended, which it has not been told; or it waits for the end of the jail.
    Ended,
    Waits,
}

struct Server {
    plan: Plan,
    how: Serve,
    layers: Layers,
    blueprint: OwnedFd,
    status: OwnedFd,
    listener: Option<OwnedFd>,
    /// Nobody is let in before.
    full_until: Option<Instant>,
    signals: SignalFd,
    guests: Vec<Guest>,
    drains: Vec<OwnedFd>,
    /// There are children.
    children: bool,
    /// Until when the first command is waited for; `None` once there was one.
    first: Option<Instant>,
    /// Being stopped: when what is left is killed.
    kill_at: Option<Instant>,
    stopping: bool,
}

/// Serve until the jail ends. Never returns.
pub(super) fn run(mut plan: Plan, status: OwnedFd, layers: Layers) -> ! {
    let how = plan.serve.take().unwrap_or_default();
    let listener = fd::received(LISTENER);
    await_start(&status);
    let ready = fd::set_nonblocking(&listener)
        .and_then(|()| Ok((fd::sealed(&how.blueprint)?, signal::take_over_as_init()?)));
    let (blueprint, signals) = match ready {
        Ok(both) => both,
        Err(e) => fail(&status, &e, false),
    };
    let proc = std::fs::File::open("/proc").ok();
    let proc = proc.as_ref().map(std::os::fd::AsRawFd::as_raw_fd);
    if wire::send(&status, &Message::Started(layers), proc).is_err() {
        clone::exit_now(125);
    }
    let mut server = Server {
        first: Some(Instant::now() + FIRST),
        plan,
        how,
        layers,
        blueprint,
        status,
        listener: Some(listener),
        full_until: None,
        signals,
        guests: Vec::new(),
        drains: Vec::new(),
        children: false,
        kill_at: None,
        stopping: false,
    };
    loop {
        server.turn();
    }
}

impl Server {
    /// One round: whoever has ended, whoever is to end, and whoever has something to say.
    fn turn(&mut self) {
        self.reap();
        let now = Instant::now();
        self.end_the_dying(now);
        if self.kill_at.is_some_and(|at| now >= at) {
            self.kill_at = None;
            everybody(Signal::SIGKILL);
        }
        let slow = |g: &Guest| matches!(g.role, Role::Fresh(since) if now >= since + FRESH);
        self.guests.retain(|g| !slow(g));
        if self.may_end(now) && !self.let_in() {
            self.end();
        }
        self.tell_the_ended();
        let wake = self.wake(now);
        let Some(seen) = self.wait(wake) else { return };
        let Seen { listener, signals, guests, drains } = seen;
        if signals {
            self.take_signals();
        }
        for index in drains.into_iter().rev() {
            if !drain(self.drains.get(index)) {
                self.drains.swap_remove(index);
            }
        }
        // The list only grows meanwhile, at its end.
        let gone: BTreeSet<usize> = guests.into_iter().filter(|index| !self.hear(*index)).collect();
        let mut index = 0;
        self.guests.retain(|_| {
            index += 1;
            !gone.contains(&(index - 1))
        });
        if listener {
            self.let_in();
        }
    }

    fn reap(&mut self) {
        loop {
            match pidfd::reap_one() {
                Ok(ended) => {
                    for guest in &mut self.guests {
                        if guest.runs() == Some(ended) {
                            guest.role = Role::Ended;
                        }
                    }
                }
                Err(none) => {
                    self.children = !none;
                    return;
                }
            }
        }
    }

    /// Whether there is nothing that keeps the jail.
    fn may_end(&self, now: Instant) -> bool {
        if self.children {
            return false;
        }
        let asked = || self.guests.iter().any(|g| matches!(g.role, Role::Fresh(_)));
        self.stopping || !self.how.keep && self.first.is_none_or(|at| now >= at) && !asked()
    }

    fn end(&mut self) -> ! {
        let end = Message::Ended { end: End::Exited(0), alone: true, used: pidfd::used_by_children() };
        drop(wire::send(&self.status, &end, None));
        clone::exit_now(0)
    }

    /// Say to those whose command has ended that the jail has not.
    fn tell_the_ended(&mut self) {
        for guest in self.guests.iter_mut().filter(|g| matches!(g.role, Role::Ended)) {
            Answer::Done.send(&guest.conn, &[]).ok();
            guest.role = Role::Waits;
        }
    }

    /// Whoever waits to be let in; whether there was anybody.
    fn let_in(&mut self) -> bool {
        self.full_until = None;
        let mut some = false;
        while let Some(listener) = &self.listener {
            use std::os::fd::AsRawFd;
            match accept4(listener.as_raw_fd(), SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK) {
                Ok(number) => {
                    fault::point();
                    some = true;
                    let conn = fd::received(number);
                    if Answer::Hello(VERSION).send(&conn, &[self.blueprint.as_fd()]).is_ok() {
                        self.guests.push(Guest { conn, role: Role::Fresh(Instant::now()) });
                    }
                }
                Err(Errno::EINTR | Errno::ECONNABORTED) => {}
                Err(Errno::EAGAIN) => break,
                // They stay in the queue.
                Err(_) => {
                    self.full_until = Some(Instant::now() + FULL);
                    return true;
                }
            }
        }
        some
    }

    /// Hear what a guest says; whether it stays.
    fn hear(&mut self, index: usize) -> bool {
        let Some(guest) = self.guests.get_mut(index) else { return true };
        let said = match Ask::receive(&guest.conn) {
            Ok(said) => said,
            Err(Errno::EAGAIN) => return true,
            Err(_) => None,
        };
        match (said, &guest.role) {
            (None, Role::Runs { pid, ours, .. }) => {
                // It sees the end of what is sent along, and takes away what it has begun.
                let since = Instant::now() + if *ours { TIDY } else { Duration::ZERO };
                guest.role = Role::Dying { pid: *pid, stopped: BTreeSet::new(), since };
                true
            }
            (None, Role::Dying { .. }) => true,
            (None, _) => false,
            (Some((Ask::Drain, outputs)), _) => {
                let room = DRAINS.saturating_sub(self.drains.len());
                self.drains.extend(outputs.into_iter().filter(|o| fd::set_nonblocking(o).is_ok()).take(room));
                true
            }
            (Some((ask, fds)), Role::Fresh(_)) => self.answer(index, ask, fds),
            (Some(_), _) => true,
        }
    }

    fn answer(&mut self, index: usize, ask: Ask, fds: Vec<OwnedFd>) -> bool {
        let commands = self.guests.iter().filter(|g| g.runs().is_some()).count();
        let alone = self.guests.iter().any(|g| matches!(g.role, Role::Runs { exclusive: true, .. }));
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let (answer, role) = match ask {
            Ask::Exec { exclusive, .. } if alone || exclusive && (commands > 0 || self.children) => {
                (Answer::Busy(count(commands)), None)
            }
            Ask::Hand if alone => (Answer::Busy(count(commands)), None),
            Ask::Hand => return self.start(index, ask, false, fds),
            Ask::Exec { exclusive, .. } => return self.start(index, ask, exclusive, fds),
            Ask::Keep => {
                self.how.keep = true;
                (Answer::Done, Some(Role::Waits))
            }
            Ask::Look => {
                let all = if self.layers.has(Layer::Proc) { descendants(1).len() } else { commands };
                let processes = count(all.saturating_sub(commands));
                (Answer::Seen { commands: count(commands), processes, keep: self.how.keep }, None)
            }
            Ask::Wait => (Answer::Done, Some(Role::Waits)),
            Ask::Drain => return true,
        };
        let Some(guest) = self.guests.get_mut(index) else { return false };
        answer.send(&guest.conn, &[]).ok();
        match role {
            Some(role) => {
                guest.role = role;
                true
            }
            None => false,
        }
    }

    /// Make the process that minds a command.
    fn start(&mut self, index: usize, ask: Ask, exclusive: bool, fds: Vec<OwnedFd>) -> bool {
        // Whoever asked records the start meanwhile.
        if let Some(guest) = self.guests.get(index) {
            Answer::Taken.send(&guest.conn, &[]).ok();
        }
        let ours = ask == Ask::Hand;
        let made = match clone::fork() {
            Ok(None) if ours => hands::run(&self.plan, self.layers, fds),
            Ok(None) => mind(std::mem::take(&mut self.plan), self.layers, ask, fds),
            Ok(Some(pid)) => pidfd::open(pid).map(|pidfd| (pid, pidfd)),
            Err(e) => Err(e),
        };
        let Some(guest) = self.guests.get_mut(index) else { return false };
        match made {
            Ok((pid, pidfd)) => {
                self.children = true;
                // Whoever started the jail has a command for it, which may not be here yet.
                self.first = self.first.filter(|_| ours);
                guest.role = Role::Runs { pid, exclusive, ours };
                // Whoever is not there any more is heard of next.
                Answer::Forked(pid).send(&guest.conn, &[pidfd.as_fd()]).ok();
                true
            }
            Err(e) => {
                Answer::Failed(e.errno).send(&guest.conn, &[]).ok();
                false
            }
        }
    }

    /// End all of the commands that nobody is there for any more. What is stopped can make nothing new: with a
    /// signal pending no fork succeeds, and a look after that sees all that came before. Who minds the command
    /// adopts its orphans, and goes last.
    fn end_the_dying(&mut self, now: Instant) {
        let sees = self.layers.has(Layer::Proc);
        for guest in &mut self.guests {
            let Role::Dying { pid, stopped, since } = &mut guest.role else { continue };
            if now < *since {
                continue;
            }
            // From who minds it on, which stands still until it is killed: it could start the command, pass a
            // signal on, or leave what it has adopted to us.
            let all = if sees { descendants(*pid) } else { Vec::new() };
            let every = std::iter::once(*pid).chain(all.iter().copied());
            let late = now >= *since + LAST_MOMENTS;
            if sees && !late && stop_the_new(every, stopped) {
                continue;
            }
            let left = all.iter().filter(|pid| kill(Pid::from_raw(**pid), Signal::SIGKILL).is_ok());
            if left.filter(|pid| !has_ended(**pid)).count() == 0 || late {
                kill(Pid::from_raw(*pid), Signal::SIGKILL).ok();
            }
        }
    }

    fn take_signals(&mut self) {
        while let Ok(Some(info)) = self.signals.read_signal() {
            // From inside it has the number of who sent it, and no say: nobody can send it in another's name.
            let outside = info.ssi_code == SI_USER && info.ssi_pid == 0;
            if info.ssi_signo == libc::SIGCHLD.unsigned_abs() || !outside {
                continue;
            }
            if std::mem::replace(&mut self.stopping, true) {
                everybody(Signal::SIGKILL);
                continue;
            }
            // Whoever waits to be let in, too, learns that nothing of theirs has run.
            self.listener = None;
            self.guests.retain(|g| !matches!(g.role, Role::Fresh(_)));
            self.kill_at = Instant::now().checked_add(Duration::from_millis(self.how.grace_ms));
            let minders: BTreeSet<i32> = self.guests.iter().filter_map(Guest::runs).collect();
            if self.layers.has(Layer::Proc) {
                // Who minds a command would pass it on once more.
                for pid in descendants(1).into_iter().filter(|pid| !minders.contains(pid)) {
                    kill(Pid::from_raw(pid), Signal::SIGTERM).ok();
                }
            } else {
                everybody(Signal::SIGTERM);
            }
            // A stopped process would not notice.
            everybody(Signal::SIGCONT);
        }
    }

    /// When to look again although nothing has happened.
    fn wake(&self, now: Instant) -> Option<Instant> {
        let guest = |g: &Guest| match g.role {
            Role::Fresh(since) => Some(since + FRESH),
            Role::Dying { .. } => Some(now + Duration::from_millis(1)),
            Role::Runs { .. } | Role::Ended | Role::Waits => None,
        };
        let of_guests = self.guests.iter().filter_map(guest).min();
        [of_guests, self.kill_at, self.first.filter(|_| !self.how.keep), self.full_until]
            .into_iter()
            .flatten()
            .min()
    }

    /// Wait until something happens. `None`: it is time to look again.
    fn wait(&self, wake: Option<Instant>) -> Option<Seen> {
        let one = |fd| PollFd::new(fd, PollFlags::POLLIN);
        let mut fds = vec![one(self.signals.as_fd())];
        let listener = self.listener.as_ref().filter(|_| self.full_until.is_none());
        fds.extend(listener.map(|l| one(l.as_fd())));
        // One that dies has said all it can.
        let heard = |g: &&(usize, &Guest)| !matches!(g.1.role, Role::Dying { .. });
        let guests: Vec<_> = self.guests.iter().enumerate().collect();
        let guests: Vec<_> = guests.iter().filter(heard).collect();
        fds.extend(guests.iter().map(|(_, g)| one(g.conn.as_fd())));
        fds.extend(self.drains.iter().map(|d| one(d.as_fd())));
        let timeout = match wake {
            None => PollTimeout::NONE,
            Some(at) => {
                let ms = at.saturating_duration_since(Instant::now()).as_millis().saturating_add(1);
                PollTimeout::try_from(i32::try_from(ms).unwrap_or(i32::MAX)).unwrap_or(PollTimeout::MAX)
            }
        };
        // An interruption, or no memory: what is left to do is looked for all the same.
        poll(&mut fds, timeout).ok().filter(|n| *n > 0)?;
        let mut answers = fds.iter().map(|fd| fd.revents().is_some_and(|r| !r.is_empty()));
        let signals = answers.next().unwrap_or(false);
        let listener = listener.is_some() && answers.next().unwrap_or(false);
        let guests =
            guests.iter().zip(answers.by_ref()).filter(|(_, seen)| *seen).map(|((i, _), _)| *i).collect();
        let drains = answers.enumerate().filter(|(_, seen)| *seen).map(|(i, _)| i).collect();
        Some(Seen { listener, signals, guests, drains })
    }
}

impl Guest {
    /// The child that minds its command.
    fn runs(&self) -> Option<i32> {
        match self.role {
            Role::Runs { pid, .. } | Role::Dying { pid, .. } => Some(pid),
            Role::Fresh(_) | Role::Ended | Role::Waits => None,
        }
    }
}

/// What `poll` reported.
struct Seen {
    listener: bool,
    signals: bool,
    guests: Vec<usize>,
    drains: Vec<usize>,
}

/// Signal every process of the jail but this one.
fn everybody(signal: Signal) {
    kill(Pid::from_raw(-1), signal).ok();
}

/// Read and forget; whether there may be more.
fn drain(output: Option<&OwnedFd>) -> bool {
    let mut bytes = Vec::new();
    output.is_some_and(|o| match fd::read_to(o, &mut bytes, 64 * 1024) {
        Ok(n) => n > 0,
        Err(e) => matches!(e, Errno::EAGAIN | Errno::EINTR),
    })
}

/// Run as the process that minds a command. Never returns.
fn mind(mut plan: Plan, layers: Layers, ask: Ask, fds: Vec<OwnedFd>) -> ! {
    fault::enter(fault::Role::Minder);
    fault::point();
    let Ask::Exec { stdin, stderr, terminal, .. } = ask else { clone::exit_now(125) };
    let mut fds = fds.into_iter();
    let (Some(job), Some(status)) = (fds.next(), fds.next()) else { clone::exit_now(125) };
    let prepared = (|| -> Result<Stdio> {
        signal::unblock_all();
        signal::keep_to_group(false);
        let bytes = fd::read_sealed(&job, LARGEST)?;
        let job: Job = postcard::from_bytes(&bytes).map_err(|_| Error::new("read", "job", Errno::EBADMSG))?;
        caps::adopt_orphans()?;
        leave(terminal)?;
        match enter(&job.cwd) {
            Err(e) if e.errno == Errno::EACCES && unlock_workspace() => enter(&job.cwd)?,
            entered => entered?,
        }
        (plan.programs, plan.argv, plan.env) = (job.programs, job.argv, job.env);
        let what = &mut plan.confinement;
        let veils = plan.mounts.iter().any(|m| m.what == What::Veil);
        let required = if veils { job.required } else { job.required.without_veils() };
        (what.umask, what.required, what.joined) = (job.umask, required, true);
        what.nofile = [what.nofile, job.nofile].into_iter().flatten().min();
        let missing = || Error::new("receive", "descriptors", Errno::EMFILE);
        if terminal {
            let settings = job.terminal.as_ref().ok_or_else(missing)?;
            return Ok(Stdio::Terminal(terminal::Settings::from(settings)));
        }
        let mut next = || fds.next().ok_or_else(missing);
        let stdin = if stdin { Some(next()?) } else { None };
        let stdout = next()?;
        let stderr = if stderr { Some(next()?) } else { None };
        Ok(Stdio::Pipes { stdin, stdout, stderr })
    })();
    let stdio = match prepared {
        Ok(stdio) => stdio,
        Err(e) => fail(&status, &e, false),
    };
    fault::point();
    match confine_joined(&plan, status, stdio, layers) {
        Ok(status) => command(&plan, &status, layers, terminal),
        Err((status, e)) => fail(&status, &e, false),
    }
}
