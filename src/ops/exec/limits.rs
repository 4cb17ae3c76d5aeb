//! Which limits a run gets, and what holds them.
//!
//! A plain run has none that needs a control group and looks at no hierarchy. What somebody named gets
//! one where it can be had. A limit that the user asked for is refused where nothing can hold it, without
//! `best_effort`; one of a project is reported, because without its file the command would run with no
//! such limit at all; so is one of a preset.

use std::path::Path;
use std::time::Duration;

use super::Error;
use crate::base::id::Id;
use crate::base::size;
use crate::host::cgroups::Controller;
use crate::host::disks;
use crate::jail::UNSEEN;
use crate::jail::limits::{self, Backend, Limits, Missing, Wants};
use crate::policy::key::Key;
use crate::policy::resolve::{Asked, Resolved};
use crate::policy::settings::Access;
use crate::schema::jail::Excerpt;
use crate::store::layout::StateDir;

/// What holds the limits of a run.
#[derive(Debug, Default)]
pub(super) struct Chosen {
    /// Its control groups.
    pub(super) group: Option<Limits>,
    /// They are what was reserved.
    pub(super) claimed: bool,
    /// What was reserved and is of no use. It can go once nobody is in it.
    pub(super) unused: Option<Limits>,
    /// Bytes of memory beyond which the supervisor kills it.
    pub(super) watch_memory: Option<u64>,
    /// Bytes that may be written to disk.
    pub(super) disk: Option<u64>,
    /// Bytes read in a second that are held.
    pub(super) io_read: Option<u64>,
    /// Bytes written in a second that are held.
    pub(super) io_write: Option<u64>,
    /// Thousandths of a processor that are held.
    pub(super) cpu_millis: Option<u64>,
}

impl Chosen {
    /// As recorded.
    pub(super) fn by(&self) -> String {
        let poll = if self.watch_memory.is_some() { "+poll" } else { "" };
        let held = self.group.as_ref().map_or("rlimit", |group| group.backend().name());
        format!("{held}{poll}")
    }

    /// `n` processes as `RLIMIT_NPROC` counts them: where a group counts them too, that one is to speak
    /// first, because it tells.
    pub(super) fn rlimit_pids(&self, n: Option<u64>) -> Option<u64> {
        let by_group = self.group.as_ref().is_some_and(|group| group.holds(Controller::Pids));
        n.map(|n| if by_group { n.saturating_add(1) } else { n })
    }
}

/// Decide, and make the group of the jail `id` where it has to be there before pid 1.
pub(super) fn choose(
    resolved: &Resolved,
    id: &Id,
    workspace: &Path,
    reserved: Option<Limits>,
    warnings: &mut Vec<String>,
) -> Result<Chosen, Error> {
    let s = &resolved.settings;
    let mut wants = Wants {
        mem: s.mem.filter(|_| resolved.is_named(Key::Mem)),
        cpu_millis: s.cpu_millis,
        pids: s.pids.filter(|_| resolved.is_named(Key::Pids)),
        only_group: false,
        io_read: s.io_read,
        io_write: s.io_write,
        disks: Vec::new(),
    };
    let mut chosen = Chosen { disk: disk(resolved, warnings)?, ..Chosen::default() };
    if wants.hard().contains(&Controller::Io) {
        let state = StateDir::open()?;
        match disks::of_all(&[workspace, state.path(), Path::new("/usr")]) {
            Ok(disks) => wants.disks = disks,
            Err(path) => {
                let why = format!("`{}` is on no disk of its own", crate::base::text::os(path));
                let missing = Missing { controllers: vec![Controller::Io], why, needs_cgroup: false };
                give_up(resolved, &missing, &mut wants, warnings)?;
            }
        }
    }
    if wants.is_empty() && super::spec::test_takes("core-group") {
        // Of a machine whose cgroup v2 has no controllers: being born in a group, and its end, can be tested.
        chosen.group = Limits::prepare(&Wants::default(), id, &limits::here()).ok();
    }
    if let Some(mut group) = reserved {
        chosen.claimed = group.claim(&wants);
        *(if chosen.claimed { &mut chosen.group } else { &mut chosen.unused }) = Some(group);
    }
    if !wants.is_empty() && chosen.group.is_none() {
        let hierarchies = limits::here();
        while !wants.is_empty() && chosen.group.is_none() {
            match Limits::prepare(&wants, id, &hierarchies) {
                Ok(group) => chosen.group = Some(group),
                Err(missing) => give_up(resolved, &missing, &mut wants, warnings)?,
            }
        }
    }
    if wants.io_write.is_some() && chosen.group.as_ref().is_some_and(|g| g.backend() == Backend::V1) {
        warnings.push(
            "`--io-write` holds for direct and synchronous writes only: cgroup v1 does not count what is \
             written from the page cache"
                .to_owned(),
        );
    }
    chosen.watch_memory = s.mem.filter(|_| wants.mem.is_none());
    (chosen.io_read, chosen.io_write, chosen.cpu_millis) = (wants.io_read, wants.io_write, wants.cpu_millis);
    Ok(chosen)
}

/// Do without what is missing, if whoever asked for it lets us.
fn give_up(
    resolved: &Resolved,
    missing: &Missing,
    wants: &mut Wants,
    warnings: &mut Vec<String>,
) -> Result<(), Error> {
    for controller in &missing.controllers {
        let keys: &[(Key, bool)] = match controller {
            Controller::Memory => &[(Key::Mem, wants.mem.is_some())],
            Controller::Cpu => &[(Key::Cpus, wants.cpu_millis.is_some())],
            Controller::Io => {
                &[(Key::IoRead, wants.io_read.is_some()), (Key::IoWrite, wants.io_write.is_some())]
            }
            // `RLIMIT_NPROC` holds it.
            Controller::Pids | Controller::Freezer => &[],
        };
        for (key, _) in keys.iter().filter(|(_, wanted)| *wanted) {
            let instead = match key {
                Key::Mem => format!(
                    "is best effort: memory is watched, but for {UNSEEN}, and the jail killed when it is over"
                ),
                _ => "is not enforced".to_owned(),
            };
            let why = match missing.needs_cgroup {
                true => format!("it needs a cgroup, and {}", missing.why),
                false => missing.why.clone(),
            };
            match resolved.asked(*key) {
                Asked::User(what) if !resolved.settings.best_effort => {
                    return Err(Error::Limit { what, why, needs_cgroup: missing.needs_cgroup });
                }
                Asked::User(what) | Asked::Project(what) => {
                    warnings.push(format!("{what} {instead}: {why}"));
                }
                Asked::Nobody => {
                    let what = resolved.origin(*key).map(|origin| resolved.setting_text(*key, origin));
                    let why = if missing.needs_cgroup { "no cgroup" } else { &*why };
                    warnings.push(format!("{} {instead}: {why}", what.unwrap_or_default()));
                }
            }
        }
    }
    wants.without(&missing.controllers);
    Ok(())
}

/// Only what an overlay keeps can be told from what was there before.
fn disk(resolved: &Resolved, warnings: &mut Vec<String>) -> Result<Option<u64>, Error> {
    let s = &resolved.settings;
    let Some(limit) = s.disk else { return Ok(None) };
    if s.access != Access::Rw && s.rw.is_empty() {
        return Ok(Some(limit));
    }
    let why = "what is written to the host's own directories (`--rw`) cannot be told from what is there";
    match resolved.asked(Key::Disk) {
        Asked::User(what) if !s.best_effort => {
            Err(Error::Limit { what, why: why.to_owned(), needs_cgroup: false })
        }
        Asked::User(what) | Asked::Project(what) => {
            warnings.push(format!("{what} is best effort: {why}"));
            Ok(Some(limit))
        }
        Asked::Nobody => Ok(Some(limit)),
    }
}

/// What a run is told that had written more than it may before anybody saw it.
pub(super) fn unseen(written: Option<u64>, watched: Option<u64>, over_disk: bool) -> Option<String> {
    let limit = watched.filter(|_| !over_disk)?;
    let written = written.filter(|written| *written > limit)?;
    Some(format!(
        "{} were written to disk, more than the limit of {}: the command had ended before that was seen",
        size::human(written),
        size::human(limit),
    ))
}

/// What a run that met a limit is told, as a hint: a program says little more than "resource temporarily
/// unavailable" (EAGAIN) of a fork that was refused, and often something else.
pub(super) fn refused(resolved: &Resolved, ended: &crate::jail::supervise::Ended) -> Option<String> {
    let pids = resolved.settings.pids?;
    let failed = !matches!(ended.outcome, crate::schema::jail::Outcome::Exited { code: 0 });
    // What went to stdout is data as often as words: with `2>&1` and on a terminal it is both.
    const SAYS: [&[u8]; 5] =
        [b"EAGAIN", b"Resource temporarily unavailable", b"annot fork", b"an't fork", b"fork: retry"];
    let said = |stream: &Excerpt, says: &[&[u8]]| says.iter().any(|text| stream.has(text));
    let told = || said(&ended.stderr, &SAYS) || said(&ended.stdout, &SAYS[1..]);
    let hint = "more: `--pids N`, or `--pids none`";
    match ended.refused {
        0 if failed && told() => Some(format!(
            "it may have run into the limit of {pids} processes and threads, at which forks fail with EAGAIN; {hint}"
        )),
        0 => None,
        n => Some(format!(
            "{n} {} refused at the limit of {pids} processes and threads (EAGAIN); {hint}",
            if n == 1 { "fork was" } else { "forks were" }
        )),
    }
}

/// How long one look at what was written may take.
pub(super) const LOOK: Duration = Duration::from_millis(50);
/// And the last one.
pub(super) const LAST_LOOK: Duration = Duration::from_secs(1);
