//! `aj doctor`: try everything that a jail is made of, and a whole jail.

use std::fs::{self, File};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use serde_json::Value;

use crate::base::id::{Id, Kind};
use crate::base::{env, text};
use crate::host::attempt::{self, Ids};
use crate::host::facts::{Facts, State, Tried};
use crate::host::files::{self, Lower};
use crate::host::{self, read, report};
use crate::jail::etc;
use crate::jail::spec::{AGENT, RANGE_BASE, RANGE_COUNT};
use crate::schema::doctor::Document;
use crate::store::Error as StoreError;
use crate::store::layout::{self, StateDir};
use crate::store::quota;
use crate::store::spool;
use crate::store::trees::{self, Tree};
use crate::sys::{self, landlock};

mod fixes;
mod limits;

pub use fixes::{FILE_SIZES, etc_fixes, fixes, limit_fix, limit_fixes, outside_of_state, state_fixes};

const RANGE: (u32, u32) = (RANGE_BASE, RANGE_BASE + RANGE_COUNT - 1);

/// Try everything. The process must be single-threaded.
pub fn doctor() -> Document {
    report::document(&facts())
}

fn facts() -> Facts {
    let mut facts =
        Facts { machine: read::machine(RANGE), landlock: attempt::landlock_facts(), ..Facts::default() };
    let ids = ids();
    let mut set = |id: &str, tried: Tried| {
        facts.tried.insert(id.to_owned(), tried);
    };
    let userns = attempt::userns(ids);
    let possible = userns.worked();
    set("userns", userns);
    type Try = fn(Ids) -> Tried;
    let needs_userns: [(&str, Try); 7] = [
        ("namespaces", attempt::namespaces),
        ("mounts", files::mounts),
        ("pivot_root", files::pivot_root),
        ("proc", files::proc),
        ("devpts", files::devpts),
        ("network", attempt::network),
        ("process_limit", attempt::process_limit),
    ];
    for (id, try_it) in needs_userns {
        set(id, if possible { try_it(ids) } else { Tried::Skipped(NO_USERNS.to_owned()) });
    }
    set("no_new_privs", attempt::no_new_privs());
    set("seccomp", attempt::filter());
    set("keyring", attempt::keyring());
    set("pidfd", attempt::pidfd());
    set("close_range", attempt::close_range());
    if facts.landlock.abi >= landlock::OLDEST {
        facts.tried.insert("landlock".to_owned(), attempt::landlock(facts.landlock.abi));
    }
    facts.state = state();
    let cwd = std::env::current_dir().ok();
    facts.workspace = cwd.as_deref().map(text::os);
    facts.workspace_fs = cwd.as_deref().and_then(read::file_system).map(|(kind, _)| kind);
    on_files(&mut facts, ids, cwd.as_deref(), possible);
    facts
}

const NO_USERNS: &str = "not tried: it needs a user namespace";
const FULL_WORKS: &str = "not needed: the full mode works";
const NO_STATE: &str = "not tried: it needs the state directory";

fn ids() -> Ids {
    let (uid, gid) = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
    if uid == 0 {
        Ids { inside: 0, uid: RANGE_BASE, gid: RANGE_BASE, count: RANGE_COUNT, user: AGENT }
    } else {
        Ids { inside: AGENT, uid, gid, count: 1, user: AGENT }
    }
}

/// Opened in a child first, because a network file system may not answer. The first copy of `/etc` is
/// the slow part of it.
fn state() -> State {
    let path = layout::locate().ok();
    let mut state = attempt::isolated_for(WHOLE, look_at_state).unwrap_or_else(|tried| State {
        fix: match &tried {
            Tried::Killed { signal, .. } => host::fixes_of_signal(*signal, &read::machine(RANGE)),
            Tried::Failed { step, errno } => fixes(step, errno),
            _ => Vec::new(),
        },
        trouble: Some(tried.text()),
        ..State::default()
    });
    state.path = path.as_deref().map(text::os);
    // By the table of mounts, which answers even when the file system does not.
    state.fs = path.as_deref().and_then(read::file_system).map(|(kind, _)| kind);
    state
}

fn look_at_state() -> State {
    let mut state = State::default();
    match try_state(&mut state) {
        Ok(()) => {}
        Err(Trouble::Store(e)) => {
            state.fix = state_fixes(&e);
            state.trouble = Some(e.to_string());
        }
        Err(Trouble::Etc(e)) => {
            state.fix = etc_fixes(&e);
            state.trouble = Some(super::exec::Error::Etc(e).to_string());
        }
    }
    state
}

enum Trouble {
    Store(StoreError),
    Etc(std::io::Error),
}

impl From<StoreError> for Trouble {
    fn from(e: StoreError) -> Trouble {
        Trouble::Store(e)
    }
}

/// What a run does with the state directory before it needs a tree there.
fn try_state(state: &mut State) -> Result<(), Trouble> {
    let dir = StateDir::open()?;
    dir.cache("doctor", b"writable\n")?;
    drop(etc::ready(&dir.path().join("cache"), &mut Vec::new()).map_err(Trouble::Etc)?);
    state.note = spool::try_append(&dir)?;
    state.bare = !sys::xattr::are_known(&dir);
    state.disk_by = Some(match quota::is_possible(&dir) {
        Ok(()) => "held by a project quota".to_owned(),
        Err(not) => format!("watched: {not}"),
    });
    let free = nix::sys::statvfs::fstatvfs(&dir)
        .map_err(|e| StoreError::Sys(sys::Error::new("statvfs", text::os(dir.path()), e)))?;
    state.free = free.blocks_available().saturating_mul(free.fragment_size());
    state.files = (free.files() > 0).then(|| free.files_available());
    Ok(())
}

/// What needs a place to write to: a tree of the state directory, which the next command clears away
/// if this process is killed.
fn on_files(facts: &mut Facts, ids: Ids, cwd: Option<&Path>, possible: bool) {
    let skip = |facts: &mut Facts, names: &[&str], why: &str| {
        for id in names {
            facts.tried.insert((*id).to_owned(), Tried::Skipped(why.to_owned()));
        }
    };
    if !ids.is_range() {
        skip(facts, &["idmap"], "not needed: only root's jails show files under other ids");
    } else if !possible {
        skip(facts, &["idmap"], NO_USERNS);
    } else {
        facts.tried.insert("idmap".to_owned(), idmap(ids, cwd));
    }
    if facts.state.trouble.is_some() {
        return skip(facts, &["overlay", "workspace", "jail", "nested", "lite", "limits"], NO_STATE);
    }
    let place = match Place::make(ids, possible) {
        Ok(place) => place,
        Err(e) => {
            facts.state.fix = state_fixes(&e);
            facts.state.trouble = Some(e.to_string());
            return skip(facts, &["overlay", "workspace", "jail", "nested", "lite", "limits"], NO_STATE);
        }
    };
    if possible {
        let lower = place.dir("lower");
        let tried = over(Some(&lower), |lower| files::overlay(ids, lower, &place.dir("a"), true));
        let works = tried.worked();
        facts.tried.insert("overlay".to_owned(), tried);
        let tried = match cwd {
            Some(_) if !works => Tried::Skipped("not tried: no overlay works".to_owned()),
            other => over(other, |lower| match foreign(ids, lower) {
                Some(why) => Tried::Wrong(why),
                None => files::overlay(ids, lower, &place.dir("b"), false),
            }),
        };
        facts.tried.insert("workspace".to_owned(), tried);
    } else {
        skip(facts, &["overlay", "workspace"], NO_USERNS);
    }
    // Jails of root need a directory that can be shown under other ids.
    let scratch = place.dir("jail");
    let movable = !ids.is_range() || over(Some(&scratch), |lower| files::idmap(ids, lower)).worked();
    let at = if movable { &scratch } else { cwd.unwrap_or(&scratch) };
    let mut tried = whole_jail(&place, at, &[]);
    let limits = match tried.worked() {
        true => limits::limits(&whole_jail(&place, at, &limits::TRIED)),
        false => Tried::Skipped("limits were not tried: no jail works".to_owned()),
    };
    facts.tried.insert("limits".to_owned(), limits);
    for (mode, why) in [("nested", FULL_WORKS), ("lite", "not needed: a stronger mode works")] {
        let weaker = if tried.worked() || matches!(tried, Tried::Skipped(_)) {
            Tried::Skipped(why.to_owned())
        } else {
            whole_jail(&place, at, &["--mode", mode])
        };
        let id = if mode == "nested" { "jail" } else { "nested" };
        facts.tried.insert(id.to_owned(), std::mem::replace(&mut tried, weaker));
    }
    facts.tried.insert("lite".to_owned(), tried);
    place.remove();
}

/// The current directory under other ids; when that fails, `/` as well: the fault may be the
/// directory's alone.
fn idmap(ids: Ids, cwd: Option<&Path>) -> Tried {
    let here = over(cwd, |lower| files::idmap(ids, lower));
    let Tried::Failed { step, errno } = &here else { return here };
    match over(Some(Path::new("/")), |lower| files::idmap(ids, lower)) {
        Tried::Worked(_) => Tried::Weak(format!("{step}: {errno}; a clone of `/` works")),
        _ => here,
    }
}

/// Why an overlay over a directory would be of no use to an ordinary user: what is not theirs cannot be
/// copied up (EOVERFLOW).
fn foreign(ids: Ids, lower: Lower<'_>) -> Option<String> {
    let Lower { uid, gid, .. } = lower;
    (!ids.is_range() && (uid, gid) != (ids.uid, ids.gid))
        .then(|| format!("it belongs to {uid}:{gid}, not to {}:{}", ids.uid, ids.gid))
}

/// Try something over a directory, with its owner as it is now.
fn over(dir: Option<&Path>, try_it: impl FnOnce(Lower<'_>) -> Tried) -> Tried {
    let Some(path) = dir else {
        return Tried::Skipped("not tried: there is no current directory".to_owned());
    };
    let owner =
        attempt::isolated(|| fs::metadata(path).map(|m| (m.uid(), m.gid())).map_err(|e| e.raw_os_error()));
    match owner {
        Ok(Ok((uid, gid))) => try_it(Lower { path, uid, gid }),
        Ok(Err(errno)) => {
            sys::Error::new("stat", text::os(path), errno.map_or(Errno::EIO, Errno::from_raw)).into()
        }
        Err(tried) => tried,
    }
}

/// A tree of the state directory with directories to try things in. The tree's own upper stays empty.
struct Place {
    state: StateDir,
    tree: Tree,
    root: PathBuf,
}

impl Place {
    fn make(ids: Ids, possible: bool) -> Result<Place, StoreError> {
        let state = StateDir::open()?;
        let id = Id::random(Kind::Jail).map_err(|_| sys::Error::new("getrandom", "", Errno::EIO))?;
        let tree = trees::create_tree(&state, id, Path::new("/"), None)?;
        let root = tree.path().join("try");
        let place = Place { state, tree, root };
        match place.fill(ids, possible) {
            Ok(()) => Ok(place),
            Err(e) => {
                place.remove();
                Err(e.into())
            }
        }
    }

    fn fill(&self, ids: Ids, possible: bool) -> sys::Result<()> {
        let make = |name: &str| {
            let path = self.dir(name);
            let made = fs::DirBuilder::new().mode(0o700).recursive(true).create(&path);
            made.map_err(|e| failed("mkdir", &path, &e)).map(|()| path)
        };
        for name in ["lower", "jail"] {
            make(name)?;
        }
        for name in ["lower/kept", "lower/gone"] {
            let path = self.dir(name);
            fs::write(&path, "x").map_err(|e| failed("write", &path, &e))?;
        }
        for name in ["a/upper", "a/work", "b/upper", "b/work"] {
            let path = make(name)?;
            // Without user namespaces nothing is tried in them, and root of a container may not have these ids.
            if ids.is_range() && possible {
                let owner = Some(ids.uid + (ids.user - ids.inside));
                std::os::unix::fs::chown(&path, owner, owner).map_err(|e| failed("chown", &path, &e))?;
            }
        }
        Ok(())
    }

    fn dir(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    fn remove(self) {
        // Whatever is left is swept by the next command that looks.
        drop(self.tree.remove(&self.state));
    }
}

fn failed(call: &'static str, path: &Path, e: &std::io::Error) -> sys::Error {
    sys::Error::new(call, text::os(path), sys::errno(e))
}

/// How long a whole jail may take, and what it needs of the state directory.
const WHOLE: Duration = Duration::from_secs(10);

/// This program itself, as a user would run it, with a state directory of its own.
fn whole_jail(place: &Place, at: &Path, options: &[&str]) -> Tried {
    let (out, err) = (place.dir("out"), place.dir("err"));
    let run = || -> Result<Option<ExitStatus>, std::io::Error> {
        let mut child = Command::new("/proc/self/exe")
            .args(["--json", "exec", "--timeout", "5s", "--i-mean-it"])
            .args(options)
            .args(["--", "true"])
            .env(env::STATE_DIR.name, place.dir("state"))
            .env(env::CONFIG_DIR.name, place.dir("config"))
            .current_dir(at)
            .stdin(Stdio::null())
            // Files, because a pipe that something keeps open would have to be waited for.
            .stdout(File::create(&out)?)
            .stderr(File::create(&err)?)
            .spawn()?;
        let deadline = Instant::now() + WHOLE;
        while Instant::now() < deadline {
            if let Some(status) = child.try_wait()? {
                return Ok(Some(status));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        child.kill()?;
        child.wait()?;
        Ok(None)
    };
    match run() {
        Err(e) => failed("run", Path::new("/proc/self/exe"), &e).into(),
        Ok(None) => Tried::TimedOut(u64::try_from(WHOLE.as_millis()).unwrap_or(u64::MAX)),
        Ok(Some(status)) if status.signal().is_some() => {
            let signal = status.signal().unwrap_or_default();
            Tried::Killed { what: "`aj exec -- true`".to_owned(), signal }
        }
        Ok(Some(status)) => {
            let json = |path: &Path| {
                let text = fs::read_to_string(path).unwrap_or_default();
                serde_json::from_str(text.lines().next_back().unwrap_or_default()).unwrap_or(Value::Null)
            };
            let answer = json(&out);
            match answer["signal"].as_i64().and_then(|n| i32::try_from(n).ok()) {
                Some(signal) => Tried::Killed { what: "`true` in a jail".to_owned(), signal },
                None => judge(status.code(), &answer, &json(&err)),
            }
        }
    }
}

/// What `aj --json exec -- true` said: its answer on stdout, its error on stderr.
fn judge(code: Option<i32>, answer: &Value, error: &Value) -> Tried {
    let error = &error["error"];
    let message = error["message"].as_str().unwrap_or_default();
    match (code, answer["layers"].as_array(), answer["duration_ms"].as_u64()) {
        (Some(0), Some(layers), Some(ms)) => {
            let names: Vec<&str> = layers.iter().filter_map(Value::as_str).collect();
            Tried::Worked(format!("`aj exec -- true` took {ms} ms under {}", names.join(", ")))
        }
        // The jail was complete: only then is the command looked for.
        (Some(126 | 127), ..) => Tried::Worked(format!("started; {message}")),
        _ => {
            let cause = error["causes"].as_array().and_then(|c| c.last()).and_then(Value::as_str);
            match failed_step(message, cause) {
                Some((step, errno)) => Tried::Failed { step, errno },
                None if message.is_empty() => Tried::Wrong(match code {
                    Some(code) => format!("`aj exec -- true` ended with {code} and without an answer"),
                    None => "`aj exec -- true` ended without a code".to_owned(),
                }),
                None => Tried::Wrong(format!(
                    "`aj exec -- true`: {message}{}",
                    cause.map(|c| format!(": {c}")).unwrap_or_default()
                )),
            }
        }
    }
}

/// Step and errno of a failed start: from `… not started: STEP (ERRNO)`, or from an error of the host
/// side, `STEP: text (ERRNO)`.
fn failed_step(message: &str, cause: Option<&str>) -> Option<(String, String)> {
    let (before, errno) = cause.unwrap_or(message).strip_suffix(')')?.rsplit_once(" (")?;
    let is_errno =
        errno.starts_with('E') && errno.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit());
    let step = match before.strip_prefix("the command was not started: ") {
        Some(step) => step,
        None => before.rsplit_once(": ")?.0,
    };
    is_errno.then(|| (step.to_owned(), errno.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_answer_of_a_whole_jail_is_understood() {
        let ok = json!({"layers": ["userns", "seccomp"], "duration_ms": 3});
        assert_eq!(
            judge(Some(0), &ok, &Value::Null),
            Tried::Worked("`aj exec -- true` took 3 ms under userns, seccomp".to_owned())
        );
        let error = |message: &str, causes: Value| json!({"error": {"message": message, "causes": causes}});
        let step = |step: &str, errno: &str| Tried::Failed { step: step.to_owned(), errno: errno.to_owned() };
        let launch =
            error("start the jail", json!(["clone3 `new namespaces`: No space left on device (ENOSPC)"]));
        assert_eq!(judge(Some(125), &Value::Null, &launch), step("clone3 `new namespaces`", "ENOSPC"));
        let inside = error("the command was not started: fsmount `proc` (EPERM)", json!([]));
        assert_eq!(judge(Some(125), &Value::Null, &inside), step("fsmount `proc`", "EPERM"));
        let host = error("chown `/a: b`: Invalid argument (EINVAL)", json!([]));
        assert_eq!(judge(Some(125), &Value::Null, &host), step("chown `/a: b`", "EINVAL"));
        let odd = error("something (else)", json!([]));
        assert_eq!(
            judge(Some(125), &Value::Null, &odd),
            Tried::Wrong("`aj exec -- true`: something (else)".to_owned())
        );
        let missing = error("execve `/usr/bin/true`: no such command in the jail (ENOENT)", json!([]));
        assert!(judge(Some(127), &Value::Null, &missing).worked());
        assert!(!judge(None, &Value::Null, &Value::Null).worked());
        assert!(!judge(Some(0), &Value::Null, &Value::Null).worked());
    }
}
