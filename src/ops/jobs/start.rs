//! `aj job start` and `aj job restart`.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::{Error, Found, alive, all, kill, list, status};
use crate::base::id::{Id, Kind};
use crate::base::name::Name;
use crate::base::{clock, env, text};
use crate::job::http::Unready;
use crate::job::ready::Condition;
use crate::job::watch::Watch;
use crate::ops::{volumes, workspaces};
use crate::policy::gpu::Gpus;
use crate::policy::layer::Layer;
use crate::policy::stored;
use crate::policy::volume::Mount;
use crate::schema::jail::bytes64;
use crate::schema::job::{Bytes, Failure, JobDetail, Phase, RECORD, Record};
use crate::store::jobs::{self, Filed, Home};
use crate::store::layout::StateDir;
use crate::sys::detach;

/// What is to run.
#[derive(Debug, Default)]
pub struct Request {
    /// Settings from flags.
    pub flags: Layer,
    /// `--env-file`s, in order.
    pub env_files: Vec<PathBuf>,
    /// The GPUs that it has.
    pub gpus: Option<Gpus>,
    /// The volumes that it has.
    pub volumes: Vec<Mount>,
    /// The command.
    pub argv: Vec<OsString>,
    /// The workspace that it runs in; `None`: a jail of its own over the current directory.
    pub workspace: Option<OsString>,
    /// Its name.
    pub name: Option<Name>,
    /// Its group.
    pub group: Option<Name>,
    /// Show the current directory only.
    pub here: bool,
    /// Show this directory instead of the project.
    pub root_dir: Option<PathBuf>,
    /// Where it begins.
    pub cwd: Option<PathBuf>,
    /// Show directories that are refused otherwise.
    pub i_mean_it: bool,
    /// How often it is started again in a row when it fails; `None`: never.
    pub restart: Option<u32>,
    /// When it is ready.
    pub ready: Option<Condition>,
    /// How long that may take.
    pub ready_timeout: Duration,
    /// Bytes of its log at most.
    pub log_max: u64,
}

impl Request {
    /// Whether it has a path of the caller's that begins at his current directory.
    fn has_relative(&self) -> bool {
        let shown = self.flags.ro.iter().chain(&self.flags.rw).map(|dir| &dir.value);
        self.here || shown.chain(&self.env_files).chain(&self.root_dir).any(|path| path.is_relative())
    }
}

/// What came of it.
#[derive(Debug)]
pub enum Started {
    /// It runs, and is ready where somebody said what that is.
    Yes(Box<JobDetail>),
    /// Its command did not begin. Of a new job nothing is left.
    NotStarted(Failure),
    /// Its command began and ended before it was ready; job and log are kept.
    Ended(Box<JobDetail>),
    /// It was not ready in time, and was ended; job and log are kept. What its server was seen to do last.
    NotReady(Box<JobDetail>, Option<Unready>),
}

/// What a supervisor says to whoever started it, a line each.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Word {
    /// The command runs.
    Began,
    /// It does not.
    Failed(Failure),
}

/// Start a job.
pub fn start(request: Request) -> Result<Started, Error> {
    let dir = match current_dir() {
        // In a workspace it is needed for paths only.
        Err(_) if request.workspace.is_some() && !request.has_relative() => PathBuf::from("/"),
        dir => dir?,
    };
    let state = StateDir::open()?;
    let filed = filed(&state, &dir, request)?;
    let home = {
        let _turn = jobs::take_turn(&state)?;
        check_name(&state, &filed.record)?;
        jobs::create(&state, &filed)?
    };
    let remove = |home: &Home| -> Result<(), Error> {
        let lock = home.lock(&state)?;
        if lock.is_some() {
            home.remove(&state)?;
        }
        Ok(())
    };
    let said = match launch(filed.record.id, filed.record.turn, &dir) {
        Ok(said) => said,
        Err(e) => {
            remove(&home)?;
            return Err(e);
        }
    };
    match hear(said) {
        Some(Word::Began) => {}
        Some(Word::Failed(failure)) => {
            remove(&home)?;
            return Ok(Started::NotStarted(failure));
        }
        None => {
            remove(&home)?;
            return Err(Error::Silent);
        }
    }
    let filed = home.read()?.ok_or_else(|| Error::Removed(home.id().to_string()))?;
    until_ready(Found { state, home, filed })
}

/// Start a job that has ended once more, with the settings that it was started with. One that runs is ended
/// first, when `running` says so.
pub fn restart(mut found: Found, running: bool) -> Result<Started, Error> {
    // First: what runs is not ended, and how it ended not forgotten, for one that cannot begin.
    let dir = PathBuf::from(OsStr::from_bytes(&found.filed.record.dir.0));
    let gone = |why| Error::Directory { job: found.name(), dir: text::os(&dir), why };
    if !std::fs::metadata(&dir).map_err(gone)?.is_dir() {
        return Err(gone(std::io::ErrorKind::NotADirectory.into()));
    }
    if let Some(workspace) = found.filed.record.workspace {
        match workspaces::find(Some(OsStr::new(workspace.as_str()))) {
            Err(workspaces::Error::NotFound(_)) => {
                return Err(Error::NoWorkspace { job: found.name(), workspace });
            }
            found => drop(found?),
        }
    }
    if found.status()?.is_running() {
        if !running {
            return Err(Error::Running(found.name()));
        }
        kill::end(&mut found)?;
    }
    let removed = || Error::Removed(found.name());
    let lock = found.home.lock(&found.state)?.ok_or_else(removed)?;
    let mut filed = found.home.read()?.ok_or_else(removed)?;
    if status(&filed.record).is_running() {
        return Err(Error::Running(found.name()));
    }
    let before;
    {
        let _turn = jobs::take_turn(&found.state)?;
        check_name(&found.state, &filed.record)?;
        before = filed.record.clone();
        let record = &mut filed.record;
        record.turn = record.turn.saturating_add(1);
        (record.phase, record.supervisor, record.runs) = (Phase::Starting, alive::this_process(), 0);
        (record.started_ms, record.ready_ms, record.init, record.end) = (None, None, None, None);
        found.home.write(&filed)?;
    }
    drop(lock);
    let said = match launch(filed.record.id, filed.record.turn, &dir) {
        Ok(said) => hear(said),
        Err(e) => {
            if let Some(_lock) = found.home.lock(&found.state)? {
                found.home.write(&Filed::new(before, filed.policy().to_owned()))?;
            }
            return Err(e);
        }
    };
    found.look()?;
    match said {
        Some(Word::Began) => until_ready(found),
        Some(Word::Failed(failure)) => Ok(Started::NotStarted(failure)),
        None => Err(Error::Silent),
    }
}

/// Whether a word means the tree of a jail where `aj exec` takes one.
fn is_jail(word: &OsStr) -> bool {
    let start = word.as_bytes().get(..3).unwrap_or_default();
    word == "@" || word == "latest" || start.eq_ignore_ascii_case(b"jl-")
}

/// The name belongs to a job that runs. The caller has the turn.
fn check_name(state: &StateDir, record: &Record) -> Result<(), Error> {
    let Some(name) = &record.name else { return Ok(()) };
    let same = |(_, f): &(Home, Filed)| {
        f.record.name.as_ref() == Some(name) && f.record.id != record.id && status(&f.record).is_running()
    };
    match all(state)?.into_iter().find(same) {
        Some((_, other)) => Err(Error::Taken { name: name.clone(), id: other.record.id }),
        None => Ok(()),
    }
}

/// The caller's name for the current directory, if it has one.
fn current_dir() -> Result<PathBuf, Error> {
    let real = std::env::current_dir().map_err(Error::CurrentDir)?;
    let place = |path: &Path| std::fs::metadata(path).map(|m| (m.dev(), m.ino())).ok();
    let named = env::PWD.absolute_path().filter(|named| place(named) == place(&real));
    Ok(named.unwrap_or(real))
}

/// A volume by its id: another one that has the name when the job is started again is not taken for it. What is
/// not found stays as it is, and is told of by whoever starts the command.
fn by_id(state: &StateDir, mount: &Mount) -> Mount {
    let Ok(record) = volumes::find(state, &mount.volume) else { return mount.clone() };
    let path = Some(volumes::place_of(mount, &record.name));
    Mount { volume: record.id.to_string(), path, ..mount.clone() }
}

fn filed(state: &StateDir, dir: &Path, request: Request) -> Result<Filed, Error> {
    let bytes = |text: &OsStr| Bytes(text.as_bytes().to_vec());
    let whole = |path: &Path| bytes(dir.join(path).components().collect::<PathBuf>().as_os_str());
    let mut flags = request.flags;
    for shown in flags.ro.iter_mut().chain(flags.rw.iter_mut()) {
        shown.value = dir.join(&shown.value).components().collect();
    }
    let workspace = match &request.workspace {
        Some(word) if is_jail(word) => return Err(Error::NotAWorkspace(text::os(word))),
        Some(word) => Some(workspaces::find(Some(word))?.id()),
        None => None,
    };
    let mut key = [0; 16];
    getrandom::fill(&mut key).map_err(Error::Random)?;
    let record = Record {
        format: RECORD,
        id: Id::random(Kind::Job).map_err(Error::Random)?,
        name: request.name,
        group: request.group,
        workspace,
        dir: bytes(dir.as_os_str()),
        here: request.here,
        root_dir: request.root_dir.as_deref().map(whole),
        cwd: request.cwd.as_deref().map(|cwd| bytes(cwd.as_os_str())),
        i_mean_it: request.i_mean_it,
        argv: request.argv.into_iter().map(|a| Bytes(a.into_vec())).collect(),
        env_files: request.env_files.iter().map(|f| whole(f)).collect(),
        gpu: request.gpus.as_ref().map(Gpus::to_string),
        volumes: request.volumes.iter().map(|mount| by_id(state, mount).to_string()).collect(),
        restart: request.restart,
        ready: request.ready.as_ref().map(Condition::to_string),
        ready_timeout_ms: u64::try_from(request.ready_timeout.as_millis()).unwrap_or(u64::MAX),
        log_max: request.log_max,
        log_key: bytes64::encode(&key),
        log_from: 0,
        created_ms: clock::now_ms(),
        turn: 1,
        phase: Phase::Starting,
        runs: 0,
        started_ms: None,
        ready_ms: None,
        jail: None,
        log_lost: 0,
        supervisor: alive::this_process(),
        init: None,
        end: None,
    };
    Ok(Filed::new(record, stored::print(&flags)?))
}

/// Start the supervisor.
fn launch(id: Id, turn: u32, dir: &Path) -> Result<File, Error> {
    let turn = turn.to_string();
    let words = ["job", "supervise", id.as_str(), &turn].map(OsStr::new);
    detach::start(words, dir).map(|(_, said)| said).map_err(Error::Supervisor)
}

/// What the supervisor says first; `None`: it ended without a word.
fn hear(said: File) -> Option<Word> {
    /// Bytes of a word at most.
    const MOST: u64 = 1 << 20;
    let mut line = String::new();
    BufReader::new(std::io::Read::take(said, MOST)).read_line(&mut line).ok()?;
    serde_json::from_str(&line).ok()
}

fn until_ready(mut found: Found) -> Result<Started, Error> {
    let record = &found.filed.record;
    let (turn, limit) = (record.turn, Duration::from_millis(record.ready_timeout_ms));
    if record.ready.is_none() {
        return list::detail(&found).map(|detail| Started::Yes(Box::new(detail)));
    }
    let began = Instant::now();
    let watch = Watch::new([found.home.path()]);
    loop {
        let ended = !found.status()?.is_running();
        // Looked at after that: it may have been ready and ended since.
        if found.home.ready_since(turn).is_some() {
            return list::detail(&found).map(|detail| Started::Yes(Box::new(detail)));
        }
        if ended {
            return list::detail(&found).map(|detail| Started::Ended(Box::new(detail)));
        }
        let left = limit.saturating_sub(began.elapsed());
        if left.is_zero() {
            // Before its server goes as well.
            let seen = found.unready();
            kill::end(&mut found)?;
            return list::detail(&found).map(|detail| Started::NotReady(Box::new(detail), seen));
        }
        // A supervisor that is killed writes nothing.
        watch.wait(left.min(Duration::from_millis(500)));
        if found.filed.record.end.is_none() && alive::lives(&found.filed.record.supervisor) {
            found.look()?;
        }
    }
}
