//! Starting the jail of a workspace: the holder.
//!
//! It is this process once more, and does what a run does, up to the end, but for a command: pid 1 serves
//! those that join. Until the jail is there, what it has to say is said on the caller's stderr, in the words of
//! any run, and its exit code becomes the caller's. Then it lets go of everything of the caller's.

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::stat::Mode;
use serde::{Deserialize, Serialize};

use super::super::mounts;
use super::super::prepare::Prepared;
use super::super::seat::{self, Seat};
use super::super::{Attempt, Error, Report, Request, Tty, Watcher, attempt};
use super::blueprint::{Blueprint, shape};
use super::{HOLDER, NotLive, find, own, turn, wait_until_settled};
use crate::jail::join::{self, Serve};
use crate::jail::limits::nested;
use crate::ops::{inside, workspaces};
use crate::policy::settings::Settings;
use crate::schema::jail::Usage;
use crate::store::atomic::{self, Durability};
use crate::store::fault;
use crate::sys;
use crate::sys::{clone, fd, pidfd};

/// In the directory of a workspace: [`Words`] of a holder that nobody has heard.
const UNSAID: &str = "unsaid";
/// What the holder exits with where there can be no live jail.
const NOT_HERE: i32 = 97;
/// Bytes of what it says at most.
const MOST: u64 = 1 << 20;

/// What came of it.
pub(in crate::ops::exec) enum Start {
    /// The jail is there, or another one has started it; what is to be said of that.
    Done(Vec<String>),
    /// There can be none.
    NotHere,
    /// In the holder: the jail could not be made.
    Holder(Box<Report>),
}

/// A run that holds the jail of a workspace.
#[derive(Debug)]
pub struct Hold {
    /// Where commands that join knock. Pid 1 gets a copy; ours goes when it listens: while somebody has one,
    /// nobody is told that there is no jail.
    listener: RefCell<Option<OwnedFd>>,
    /// Where the caller waits.
    ready: RefCell<Option<OwnedFd>>,
    /// It does not end with its last process.
    keep: bool,
    /// Where the socket has its name.
    dir: File,
    /// Warnings that the caller was told.
    told: Cell<usize>,
}

/// What the caller is told when the jail is there.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Words {
    pub(super) warnings: Vec<String>,
    /// Why what commands changed is gone.
    #[serde(default)]
    pub(super) lost: Option<String>,
}

impl Hold {
    /// A copy of the socket for pid 1.
    pub(in crate::ops::exec) fn listener(&self) -> sys::Result<OwnedFd> {
        let of = |e: &std::io::Error| sys::Error::new("dup", "live", sys::errno(e));
        match &*self.listener.borrow() {
            Some(listener) => listener.try_clone().map_err(|e| of(&e)),
            None => Err(sys::Error::new("dup", "live", Errno::EBADF)),
        }
    }

    /// What pid 1 is told.
    pub(in crate::ops::exec) fn serve(
        &self,
        prepared: &Prepared,
        settings: &Settings,
        (request, seat): (&Request, Option<&Seat>),
    ) -> Serve {
        let spec = &prepared.spec;
        let blueprint = Blueprint {
            id: spec.id.to_string(),
            base: spec.workspace.clone().into(),
            elsewhere: spec.at != spec.workspace,
            sight: prepared.sight.clone(),
            policy: serde_json::to_string(&prepared.policy).unwrap_or_default(),
            volumes: prepared.volumes.ids(),
            mounts: mounts::of(spec, &prepared.volumes),
            shape: shape(settings, seat::gpus(request, seat)),
            asked: own::asked(settings),
        };
        let grace_ms = u64::try_from(settings.grace.as_millis()).unwrap_or(u64::MAX);
        Serve { blueprint: blueprint.print(), grace_ms, keep: self.keep }
    }

    /// The jail is there: tell whoever waits for it, and let go of everything that is the caller's.
    pub(in crate::ops::exec) fn ready(&self, warnings: &[String]) {
        drop(self.listener.take());
        let Some(to) = self.ready.take() else { return };
        fd::null_standard().ok();
        nix::unistd::chdir("/").ok();
        let words = Words { warnings: warnings.to_vec(), lost: None };
        self.told.set(warnings.len());
        let bytes = serde_json::to_vec(&words).unwrap_or_default();
        // A caller that is gone has nobody to tell.
        fault::point();
        std::io::Write::write_all(&mut File::from(to), &bytes).ok();
        fault::point();
    }

    /// The jail has ended: nobody is to look for it any more. Called while its tree is still ours, since whoever
    /// starts the next one waits for that.
    pub(in crate::ops::exec) fn ended(&self) {
        join::forget(self.dir.as_fd());
    }

    /// Whether the name by which commands find the jail is still there. Only its end takes it away, or somebody who
    /// removes the state by hand: what nobody can find nobody could stop.
    pub(in crate::ops::exec) fn is_findable(&self) -> bool {
        !join::is_lost(self.dir.as_fd())
    }

    /// What is to be said of the end, for whoever comes next: nobody is there to hear it.
    fn note(&self, report: &Report) {
        let warnings: Vec<String> = report.warnings.iter().skip(self.told.get()).cloned().collect();
        let words = Words { warnings, lost: report.lost.clone() };
        if !words.warnings.is_empty() || words.lost.is_some() {
            let bytes = serde_json::to_vec(&words).unwrap_or_default();
            atomic::write(&self.dir, UNSAID, &bytes, Durability::Cache).ok();
        }
    }

    fn is_ready(&self) -> bool {
        self.ready.borrow().is_none()
    }
}

/// Start the jail of a workspace, unless somebody has done so meanwhile.
pub(in crate::ops::exec) fn start(
    request: &Request,
    seat: &Seat,
    umask: Mode,
    (dir, keep): (&File, bool),
) -> Result<Start, Error> {
    let (state, id) = (&seat.found.state, seat.found.id());
    let turn = turn(state, id, dir)?;
    // Whoever had the turn before may have started it.
    if find(state, id, dir, &seat.name())?.is_some() {
        return Ok(Start::Done(Vec::new()));
    }
    let Words { warnings: mut words, lost } = unsaid(dir);
    words.extend(lost.map(|why| format!("what commands changed could not be kept and is lost: {why}")));
    if !wait_until_settled(state, id)? {
        return Err(workspaces::Error::InUse { name: seat.name(), by_run: true }.into());
    }
    if join::is_left(dir.as_fd()) {
        words.push(format!(
            "the jail of workspace `{}` had ended with the process that held it: what ran in it was killed",
            seat.name()
        ));
    }
    let (ready, ready_inside) = fd::pipe().map_err(Error::Launch)?;
    let Some(pid) = clone::fork().map_err(Error::Launch)? else {
        drop((turn, ready));
        return hold_it(request, seat, umask, (dir, keep, ready_inside));
    };
    drop(ready_inside);
    fault::point();
    let mut said = Vec::new();
    let heard = File::from(ready).take(MOST).read_to_end(&mut said);
    drop(turn);
    if heard.is_ok() && !said.is_empty() {
        let more: Words = serde_json::from_slice(&said).unwrap_or_default();
        words.extend(more.warnings);
        return Ok(Start::Done(words));
    }
    match pidfd::wait4(pid).map_err(Error::Launch)?.0 {
        pidfd::End::Exited(NOT_HERE) => Ok(Start::NotHere),
        // It has said why.
        pidfd::End::Exited(code) => Err(Error::Said(u8::try_from(code).unwrap_or(125))),
        pidfd::End::Signaled(_) => Err(NotLive::Died(seat.name()).into()),
    }
}

/// What the last holder had to say and nobody has heard; it is said once.
pub(super) fn unsaid(dir: &File) -> Words {
    let Some(bytes) = atomic::read(dir, UNSAID, MOST).ok().flatten() else { return Words::default() };
    nix::unistd::unlinkat(dir, UNSAID, nix::unistd::UnlinkatFlags::NoRemoveDir).ok();
    serde_json::from_slice(&bytes).unwrap_or_default()
}

/// In the holder: hold the jail until it has ended. Returns only when it was never there.
fn hold_it(
    request: &Request,
    seat: &Seat,
    umask: Mode,
    (dir, keep, ready): (&File, bool, OwnedFd),
) -> Result<Start, Error> {
    fault::enter(fault::Role::Holder);
    inside::teach();
    nix::unistd::setsid().ok();
    sys::title::set(HOLDER, &format!("aj: workspace {}", seat.name()));
    fd::close_inherited();
    // Here, and not before: whoever connects is told that this process listens.
    let listener = join::listen(dir.as_fd()).map_err(Error::Launch)?;
    let dir = dir.try_clone().map_err(|e| Error::Launch(sys::Error::new("dup", "live", sys::errno(&e))))?;
    let hold =
        Hold { listener: Some(listener).into(), ready: Some(ready).into(), keep, dir, told: Cell::new(0) };
    let request = Request {
        flags: request.flags.clone(),
        env_files: request.env_files.clone(),
        // For the record.
        argv: vec!["workspace".into(), seat.name().into()],
        tty: Tty::Never,
        tree: request.tree.clone(),
        again: request.again.clone(),
        gpus: request.gpus.clone(),
        volumes: request.volumes.clone(),
        i_mean_it: request.i_mean_it,
        hold: Some(hold),
        ..Request::default()
    };
    let Some(hold) = &request.hold else { clone::exit_now(125) };
    let mut tried = None;
    let done = loop {
        match attempt(&request, &mut Nobody, umask, (tried, false)) {
            Ok(Attempt::Again(storage)) => tried = Some(storage),
            Ok(Attempt::Done(report)) => break Ok(report),
            Ok(Attempt::Lite) => {
                hold.ended();
                clone::exit_now(NOT_HERE)
            }
            Err(e) => break Err(e),
        }
    };
    if !hold.is_ready() {
        hold.ended();
        return done.map(Start::Holder);
    }
    if let Ok(report) = &done {
        hold.note(report);
    }
    let jail = done.as_ref().ok().map(|report| report.id);
    drop(done);
    if let Some(jail) = jail.filter(|_| own::were_there(&hold.dir)) {
        nested::remove(&jail);
    }
    bring_to_disk(&hold.dir);
    clone::exit_now(0)
}

/// What was written in the workspace is to survive a loss of power from now on: the kernel syncs nothing of an
/// overlay that is mounted `volatile`. Nobody waits for it.
fn bring_to_disk(dir: &File) {
    if let Ok(None) = clone::fork() {
        sys::title::set(HOLDER, "aj: sync");
        nix::unistd::syncfs(dir).ok();
        clone::exit_now(0)
    }
}

/// Nobody listens.
struct Nobody;

impl Watcher for Nobody {
    fn started(&mut self, _layers: Vec<String>, _pid: i32, _lines: &mut Vec<u8>) {}
    fn output(&mut self, _stderr: bool, _bytes: &[u8], _lines: &mut Vec<u8>) {}
    fn tick(&mut self, _usage: Usage, _lines: &mut Vec<u8>) {}
    fn attaching(&mut self) {}
    fn stopping(&mut self) {}
    fn progress(&mut self, _said: &str) {}
}
