//! The supervisor of a job: runs its command as `aj exec` does, keeps its log, and writes down how it ended.
//! A process of a session of its own, which ends with its job.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signalfd::SignalFd;

use super::start::Word;
use super::{Error, Found};
use crate::base::id::Id;
use crate::base::{clock, duration};
use crate::job::write::Writer;
use crate::job::{Key, Stream};
use crate::ops::exec::{self, Report, Tty};
use crate::ops::project::Choice;
use crate::ops::volumes;
use crate::policy::{gpu, stored, volume};
use crate::schema::jail::{Outcome, Usage, bytes64};
use crate::schema::job::{End, Failure, Phase, Process, Record};
use crate::store::alive;
use crate::store::jobs::{Filed, Home};
use crate::store::layout::StateDir;
use crate::sys::{detach, fd, signal};

/// The pause before it is started again, and the longest: each is twice the one before.
const PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// A run that lasted so long was none that failed at once: the row of failures begins anew.
const LASTED: Duration = Duration::from_secs(10);
/// How often one looks for somebody who wants it to end, while it waits.
const LOOK: Duration = Duration::from_millis(100);

/// Puts errors into the words of `aj exec`.
pub trait Explain {
    /// The jail or its command could not be started.
    fn not_started(&self, program: &OsStr, report: &Report) -> Option<Failure>;
    /// Before that.
    fn failed(&self, error: exec::Error) -> Failure;
}

/// Supervise turn `turn` of job `id`, to its end. Whoever started it hears on stdout that the command runs, or
/// why not.
pub fn supervise(id: Id, turn: u32, explain: &dyn Explain) -> Result<(), Error> {
    let said = fd::dup_above(fd::standard(1), 3).map_err(|source| Error::Log { id, source })?;
    let done = watch_over(id, turn, &said, explain);
    if let Err(e) = &done {
        // Too late, when the command has run.
        let failure = Failure {
            exit: 125,
            code: "job_supervisor".to_owned(),
            message: e.to_string(),
            causes: std::error::Error::source(e).map(ToString::to_string).into_iter().collect(),
            hints: Vec::new(),
        };
        tell(&said, &Word::Failed(failure));
    }
    done
}

fn tell(to: &OwnedFd, word: &Word) {
    if let Ok(mut line) = serde_json::to_vec(word) {
        line.push(b'\n');
        // Who is gone does not want to know.
        nix::unistd::write(to, &line).ok();
    }
}

fn watch_over(id: Id, turn: u32, said: &OwnedFd, explain: &dyn Explain) -> Result<(), Error> {
    let gone = || Error::Removed(id.to_string());
    // From here on a signal is for the job.
    let signals = signal::take_over().map_err(|source| Error::Signal { id, signal: 0, source })?;
    let state = StateDir::open_if_present()?.ok_or_else(gone)?;
    let home = Home::open(&state, id)?.ok_or_else(gone)?;
    let filed = claim(&state, &home, turn)?.ok_or_else(gone)?;
    let key = key_of(&filed.record);
    let open = Writer::open(&home, key, filed.record.log_max);
    let mut log = open.map_err(|source| Error::Log { id, source })?;
    let mut filed = filed;
    filed.record.log_from = log.at();
    home.write(&filed)?;
    // What a run would write to stdout is nobody's.
    fd::write_null().and_then(|null| fd::install_at(null.as_fd(), 1, false)).ok();
    let before = log.lost();
    let mut watch = Watch {
        home: &home,
        filed: &mut filed,
        log: &mut log,
        said: Some(said),
        turn,
        began: false,
        probe: None,
        interrupted: false,
    };
    let end = watch.run(&signals, explain);
    let began = watch.began;
    if let (false, Some(failure)) = (began, &end.failure) {
        watch.tell(&Word::Failed(failure.clone()));
    }
    log.finish();
    filed.record.log_lost += log.lost() - before;
    (filed.record.phase, filed.record.end) = (Phase::Ended, Some(end));
    filed.record.ready_ms = home.ready_since(turn);
    // Room for it is found in the log, if nowhere else.
    while let Err(e) = home.write(&filed) {
        if !log.drop_oldest() {
            return Err(e.into());
        }
    }
    Ok(())
}

/// The key of the log of a job.
pub(super) fn key_of(record: &Record) -> Key {
    Key::of(&bytes64::decode(&record.log_key).unwrap_or_default())
}

/// Take the job over from whoever started this process; `None`: it is no longer there, or somebody else's.
fn claim(state: &StateDir, home: &Home, turn: u32) -> Result<Option<Filed>, Error> {
    let Some(_lock) = home.lock(state)? else { return Ok(None) };
    let Some(mut filed) = home.read()? else { return Ok(None) };
    let record = &mut filed.record;
    if record.turn != turn || record.end.is_some() || record.phase != Phase::Starting || record.runs > 0 {
        return Ok(None);
    }
    record.supervisor = alive::this_process();
    home.write(&filed)?;
    // Without it nothing is begun whose end could not be told.
    home.put_by()?;
    Ok(Some(filed))
}

/// What the job asks `aj exec` for.
fn request(record: &Record, policy: &str) -> Result<exec::Request, exec::Error> {
    let text = |bytes: &crate::schema::job::Bytes| OsStr::from_bytes(&bytes.0).to_owned();
    let flags = match policy {
        "" => stored::Stored::default(),
        policy => stored::parse("job.toml", record.id.as_str(), policy.as_bytes())
            .map_err(|e| exec::Error::Policy(e.into()))?,
    };
    Ok(exec::Request {
        flags: flags.layer,
        env_files: record.env_files.iter().map(|f| PathBuf::from(text(f))).collect(),
        argv: record.argv.iter().map(text).collect(),
        tty: Tty::Never,
        tree: match &record.root_dir {
            Some(dir) => Choice::Dir(text(dir).into()),
            None if record.here => Choice::Here,
            None => Choice::Project,
        },
        again: record.workspace.map(|id| OsString::from(id.as_str())),
        cwd: record.cwd.as_ref().map(|cwd| text(cwd).into()),
        gpus: record.gpu.as_deref().and_then(|text| gpu::parse(text).ok()),
        // One that is left out would be written nowhere, unseen.
        volumes: record
            .volumes
            .iter()
            .map(|text| volume::parse(text).map_err(volumes::Error::Attachment))
            .collect::<Result<_, _>>()?,
        i_mean_it: record.i_mean_it,
        capture: true,
        ..exec::Request::default()
    })
}

struct Watch<'a> {
    home: &'a Home,
    filed: &'a mut Filed,
    log: &'a mut Writer,
    /// Whoever started it, until it has heard.
    said: Option<&'a OwnedFd>,
    turn: u32,
    /// The command has begun, in this run or in one before.
    began: bool,
    /// Who looks whether it is ready, in this run.
    probe: Option<detach::Helper>,
    /// The last run was meant to end by a signal to this process.
    interrupted: bool,
}

impl Watch<'_> {
    fn tell(&mut self, word: &Word) {
        if let Some(to) = self.said.take() {
            tell(to, word);
        }
    }

    /// Run it, and again where that was asked for.
    fn run(&mut self, signals: &SignalFd, explain: &dyn Explain) -> End {
        let mut row = 0;
        loop {
            if self.home.is_asked_to_stop(self.turn) {
                return end((137, Duration::ZERO), None, true);
            }
            self.filed.record.runs = self.filed.record.runs.saturating_add(1);
            let began = Instant::now();
            let done = request(&self.filed.record, self.filed.policy())
                .and_then(|request| exec::exec(&request, self));
            // Those that came meanwhile are for the next run, or there is none.
            signal::take_over().ok();
            let lasted = began.elapsed();
            let ended = self.ended(done, lasted, explain);
            row = if lasted >= LASTED { 0 } else { row };
            let Some(most) = self.filed.record.restart.filter(|_| is_failure(&ended) && !self.interrupted)
            else {
                return ended;
            };
            // What never began will not begin the next time either.
            if row >= most || !self.began || self.home.is_asked_to_stop(self.turn) {
                if row >= most && most > 0 {
                    self.log.say(&format!("not started again: it has failed {} times in a row", row + 1));
                }
                return ended;
            }
            let pause = PAUSE.saturating_mul(1 << row.min(16)).min(LONGEST_PAUSE);
            row += 1;
            self.log.say(&format!(
                "{}: started again in {} ({row} of {most})",
                words(&ended),
                duration::human(pause)
            ));
            self.be_unready();
            (self.filed.record.phase, self.filed.record.init) = (Phase::Restarting, None);
            self.filed.record.log_from = self.log.at();
            self.home.write(self.filed).ok();
            if !wait(signals, pause, || self.home.is_asked_to_stop(self.turn)) {
                return End { by_kill: true, ..ended };
            }
        }
    }

    /// What a run was ready by says nothing of the next one.
    fn be_unready(&mut self) {
        // First: it would note it afterwards.
        self.probe = None;
        if let Err(e) = self.home.forget_ready() {
            self.log.say(&format!("that the job is no longer ready could not be noted: {e}"));
        }
    }

    fn ended(&mut self, done: Result<Report, exec::Error>, lasted: Duration, explain: &dyn Explain) -> End {
        let report = match done {
            Ok(report) => report,
            Err(e) => {
                let failure = explain.failed(e);
                self.log.say(&failure.message);
                let code = failure.exit;
                return End { failure: Some(failure), ..end((code, lasted), None, false) };
            }
        };
        let program =
            self.filed.record.argv.first().map(|a| OsStr::from_bytes(&a.0).to_owned()).unwrap_or_default();
        for line in report.warnings.iter().chain(&report.hidden).chain(&report.lost) {
            self.log.say(line);
        }
        if let Some(diff) =
            report.changes.as_ref().filter(|d| report.workspace.is_none() && d.totals.changes > 0)
        {
            self.log.say(&format!("{} changes: see them with `aj diff {}`", diff.totals.changes, diff.tree));
        }
        if report.ended.outcome == Outcome::TimedOut {
            let never = if self.filed.record.restart.is_some() { ", and is not started again" } else { "" };
            self.log.say(&format!("the command was stopped: its time was up{never}"));
        }
        self.filed.record.jail = Some(report.id);
        self.interrupted = report.ended.interrupted.is_some();
        let failure = explain.not_started(&program, &report);
        if let Some(failure) = &failure {
            self.log.say(&failure.message);
        }
        let by_kill = self.home.is_asked_to_stop(self.turn);
        let wall = Duration::from_millis(report.ended.usage.wall_ms);
        End { failure, ..end((report.exit_code(), wall), Some(report.ended.outcome.clone()), by_kill) }
    }
}

fn end((exit_code, lasted): (u8, Duration), outcome: Option<Outcome>, by_kill: bool) -> End {
    End {
        ended_ms: clock::now_ms(),
        exit_code,
        duration_ms: u64::try_from(lasted.as_millis()).unwrap_or(u64::MAX),
        by_kill,
        failure: None,
        outcome,
    }
}

/// Whether `--restart on-failure` is about it: not what somebody wanted to end, and not one whose time is up.
fn is_failure(end: &End) -> bool {
    match end.outcome {
        None | Some(Outcome::TimedOut | Outcome::Interrupted { .. }) => false,
        Some(
            Outcome::Exited { .. } | Outcome::Signaled { .. } | Outcome::OutOfMemory | Outcome::Failed { .. },
        ) => end.exit_code != 0 && !end.by_kill,
    }
}

fn words(end: &End) -> String {
    match &end.outcome {
        Some(Outcome::Signaled { signal }) => format!("killed by signal {signal}"),
        Some(Outcome::OutOfMemory) => "killed: out of memory".to_owned(),
        _ => format!("exit code {}", end.exit_code),
    }
}

/// Wait; `false`: somebody wants it to end.
fn wait(signals: &SignalFd, pause: Duration, stopped: impl Fn() -> bool) -> bool {
    let until = Instant::now() + pause;
    loop {
        while let Ok(Some(info)) = signals.read_signal() {
            let number = i32::try_from(info.ssi_signo).unwrap_or(0);
            if matches!(
                number,
                nix::libc::SIGTERM | nix::libc::SIGINT | nix::libc::SIGHUP | nix::libc::SIGQUIT
            ) {
                return false;
            }
        }
        let left = until.saturating_duration_since(Instant::now());
        if stopped() {
            return false;
        }
        if left.is_zero() {
            return true;
        }
        let timeout = PollTimeout::try_from(left.min(LOOK)).unwrap_or(PollTimeout::MAX);
        poll(&mut [PollFd::new(signals.as_fd(), PollFlags::POLLIN)], timeout).ok();
    }
}

impl exec::Watcher for Watch<'_> {
    fn started(&mut self, _layers: Vec<String>, pid: i32, _lines: &mut Vec<u8>) {
        let record = &mut self.filed.record;
        let pid = u32::try_from(pid).unwrap_or(0);
        let boot = record.supervisor.boot.clone();
        record.init = alive::start_of(pid).map(|start| Process { pid, start, boot });
        (record.phase, record.started_ms) = (Phase::Running, Some(clock::now_ms()));
        // The job goes on without it: what is shown is older, and its end is written in any case.
        if let Err(e) = self.home.write(self.filed) {
            self.log.say(&format!("the record of the job could not be written: {e}"));
        }
        if self.filed.record.ready.is_some() {
            let turn = self.turn.to_string();
            let words = ["job", "probe", self.filed.record.id.as_str(), &turn].map(OsStr::new);
            match detach::helper(words) {
                Ok(probe) => self.probe = Some(probe),
                Err(e) => self
                    .log
                    .say(&format!("whether the job is ready is not known: {}", crate::ops::config::why(&e))),
            }
        }
        self.began = true;
        self.tell(&Word::Began);
        if self.home.is_asked_to_stop(self.turn) {
            // Twice: the second one does not ask.
            for _ in 0..2 {
                nix::sys::signal::raise(nix::sys::signal::Signal::SIGTERM).ok();
            }
        }
    }

    fn output(&mut self, stderr: bool, bytes: &[u8], _lines: &mut Vec<u8>) {
        self.log.add(if stderr { Stream::Err } else { Stream::Out }, bytes);
    }

    fn tick(&mut self, _usage: Usage, _lines: &mut Vec<u8>) {}

    fn attaching(&mut self) {}

    fn stopping(&mut self) {}

    fn progress(&mut self, said: &str) {
        self.log.say(said);
    }
}

impl Found {
    /// The key of its log.
    pub(super) fn key(&self) -> Key {
        key_of(&self.filed.record)
    }
}
