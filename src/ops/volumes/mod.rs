//! `aj volume`: directories that jails share and that last longer than they do.
//!
//! [`find`] says which one is meant; `attach` has the workspaces that get one with every command. How a
//! jail gets it is `ops::exec`'s.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::base::clock::{self, rfc3339};
use crate::base::id::{Id, Kind};
use crate::base::name::{Name, NotAName};
use crate::base::text;
use crate::jail::plan;
use crate::jail::spec::{AGENT, RANGE_BASE};
use crate::monitor::Monitor;
use crate::ops::ledger::MIN_DIGITS;
use crate::ops::workspaces;
use crate::policy::volume::{Mount, PLACE};
use crate::schema::changes::FORMAT;
use crate::schema::volume::{RECORD, Record, Volume, VolumeDetail, VolumeList};
use crate::store::layout::StateDir;
use crate::store::volumes::{self as store, Taken, Unread};
use crate::store::workspaces::Named;
use crate::sys::openat2::{self, For};
use crate::workspace::measure::{self, Most};

mod attach;

pub use attach::{attach, attachments, detach, shown};

/// How much a volume is looked at to tell its size.
const MOST: Most = Most { entries: 500_000, time: Duration::from_secs(1) };
/// Tries for a made-up name before it gets a number, and with a number.
const TRIES: u32 = 40;
/// Labels, and notes, at most; characters of a note's parts at most.
const MANY: usize = 64;
const LONGEST: usize = 512;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The state directory.
    #[error(transparent)]
    State(#[from] crate::store::Error),
    /// A record that cannot be used.
    #[error(transparent)]
    Record(Unread),
    /// No volume is meant.
    #[error("no volume `{0}`")]
    NotFound(String),
    /// Several are meant.
    #[error("`{word}` is the start of the ids of several volumes: {}", names.join(", "))]
    Ambiguous {
        /// As given.
        word: String,
        /// Names of some.
        names: Vec<String>,
    },
    /// A name that is none.
    #[error(transparent)]
    Name(#[from] NotAName),
    /// A name that another one has.
    #[error("there is a volume `{name}` already ({id})")]
    Taken {
        /// The name.
        name: String,
        /// Who has it.
        id: Id,
    },
    /// A jail has it, or somebody reads in it.
    #[error("volume `{0}` is in use: a jail that runs has it, or an `aj` reads in it")]
    InUse(String),
    /// What is in it is changed by an aj without a jail.
    #[error("volume `{0}` is being written by another `aj`")]
    Written(String),
    /// A workspace has it, and it is gone.
    #[error("workspace `{workspace}` has a volume that is gone: `{id}`")]
    Gone {
        /// Its name.
        workspace: String,
        /// What is left of the volume.
        id: String,
    },
    /// Workspaces have it.
    #[error("volume `{name}` is attached to {}", text::brief(&workspaces.join(", ")))]
    Attached {
        /// Its name.
        name: String,
        /// Theirs.
        workspaces: Vec<String>,
    },
    /// It is not attached.
    #[error("volume `{volume}` is not attached to workspace `{workspace}`")]
    NotAttached {
        /// Its name.
        volume: String,
        /// Its name.
        workspace: String,
    },
    /// It cannot be seen there.
    #[error("volume `{volume}` cannot be shown at `{}`: {why}", text::os(.path))]
    Place {
        /// Its name.
        volume: String,
        /// Where.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// Its directory is not what aj made.
    #[error("volume `{volume}` cannot be used: {why}")]
    Damaged {
        /// Its name.
        volume: String,
        /// Why.
        why: String,
    },
    /// One that a record names in a way that nobody reads.
    #[error("a volume in a record cannot be used: {0}")]
    Attachment(String),
    /// A label, or a note, that cannot be one.
    #[error("`{given}` cannot be {what}: {why}")]
    Word {
        /// As given, printable.
        given: String,
        /// What it was to be.
        what: &'static str,
        /// Why.
        why: &'static str,
    },
    /// A workspace.
    #[error(transparent)]
    Workspace(Box<workspaces::Error>),
    /// No randomness.
    #[error("no random bytes for an id: {0}")]
    Random(getrandom::Error),
}

impl From<Unread> for Error {
    fn from(e: Unread) -> Error {
        match e {
            Unread::Store(e) => Error::State(e),
            e => Error::Record(e),
        }
    }
}

impl From<workspaces::Error> for Error {
    fn from(e: workspaces::Error) -> Error {
        Error::Workspace(Box::new(e))
    }
}

/// The volume that `word` means: a name, an id, or the start of one that no other has.
pub fn find(state: &StateDir, word: &str) -> Result<Record, Error> {
    let none = || Error::NotFound(text::brief(&text::printable(word.as_bytes())));
    let lower = word.to_ascii_lowercase();
    if let Ok(id) = lower.parse::<Id>() {
        let record = if id.kind() == Kind::Volume { store::read(state, id)? } else { None };
        return record.ok_or_else(none);
    }
    if let Ok(name) = word.parse::<Name>()
        && let Some(id) = store::holder(state, &name)?
    {
        return store::read(state, id)?.ok_or_else(none);
    }
    let start = match lower.starts_with(Kind::Volume.prefix()) {
        true => lower,
        // Fewer digits than people are ever shown are more likely a name that is not there.
        false if lower.len() >= MIN_DIGITS => format!("{}{lower}", Kind::Volume.prefix()),
        false => return Err(none()),
    };
    if !Id::looks_like(&start) || start.len() == Kind::Volume.prefix().len() {
        return Err(none());
    }
    let ids = store::list(state)?.into_iter().filter(|id| id.as_str().starts_with(&start));
    let mut found: Vec<Record> = ids.filter_map(|id| store::read(state, id).ok().flatten()).collect();
    match (found.pop(), found.is_empty()) {
        (None, _) => Err(none()),
        (Some(one), true) => Ok(one),
        (Some(one), false) => {
            found.push(one);
            let names = found.iter().take(8).map(|r| format!("{} ({})", r.name, r.id)).collect();
            Err(Error::Ambiguous { word: text::brief(&start), names })
        }
    }
}

/// Keep the one that `word` means from being removed.
pub(super) fn hold(state: &StateDir, word: &str) -> Result<store::Held, Error> {
    let record = find(state, word)?;
    match store::hold(state, record.id) {
        Ok(Some(held)) => Ok(held),
        Ok(None) => Err(Error::NotFound(text::brief(&text::printable(word.as_bytes())))),
        Err(Unread::Store(crate::store::Error::Busy { .. })) => Err(Error::Written(record.name.to_string())),
        Err(e) => Err(e.into()),
    }
}

/// Make one. Without a name it gets one.
pub fn create(
    name: Option<Name>,
    labels: Vec<String>,
    meta: BTreeMap<String, String>,
) -> Result<VolumeDetail, Error> {
    check_words(&labels, &meta)?;
    let state = StateDir::open()?;
    let made_up = name.is_none();
    let mut name = name.map_or_else(Name::random, Ok).map_err(Error::Random)?;
    // Of jails that root starts it is the same id, whether they are uid 0 inside or not.
    let owner = RANGE_BASE + AGENT;
    let owner = nix::unistd::geteuid().is_root().then_some((owner, owner));
    for turn in 1.. {
        let record = Record {
            format: RECORD,
            id: Id::random(Kind::Volume).map_err(Error::Random)?,
            name: name.clone(),
            created_ms: clock::now_ms(),
            labels: labels.clone(),
            meta: meta.clone(),
        };
        match store::create(&state, &record, owner)? {
            Named::Yes => return Ok(detail(&state, record)),
            Named::Taken(id) if !made_up || turn > 2 * TRIES => {
                return Err(Error::Taken { name: name.to_string(), id });
            }
            Named::Taken(_) => {}
        }
        name = Name::random().map_err(Error::Random)?;
        if turn > TRIES {
            name = name.numbered(turn);
        }
    }
    Err(Error::NotFound(name.to_string()))
}

fn check_words(labels: &[String], meta: &BTreeMap<String, String>) -> Result<(), Error> {
    for label in labels {
        workspaces::list::check_label(label)?;
    }
    let bad = |given: &str, what, why| Error::Word {
        given: text::brief(&text::printable(given.as_bytes())),
        what,
        why,
    };
    for (key, value) in meta {
        for part in [key, value] {
            if part.chars().any(char::is_control) || part.len() > LONGEST {
                return Err(bad(part, "a note", "it has at most 512 bytes and no control characters"));
            }
        }
    }
    if labels.len() > MANY || meta.len() > MANY {
        return Err(bad(
            &labels.len().max(meta.len()).to_string(),
            "a number of labels or notes",
            "64 are the most",
        ));
    }
    Ok(())
}

/// All of them with all of these labels, by name. One whose record cannot be read is left out.
pub fn list(labels: &[String]) -> Result<VolumeList, Error> {
    let mut answer = VolumeList { format_version: FORMAT, volumes: Vec::new() };
    let Some(state) = StateDir::open_if_present()? else { return Ok(answer) };
    let mut all: Vec<Record> =
        store::list(&state)?.into_iter().filter_map(|id| store::read(&state, id).ok().flatten()).collect();
    all.retain(|record| labels.iter().all(|label| record.labels.contains(label)));
    all.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    let users = attach::users(&state);
    answer.volumes = all.into_iter().map(|record| view(&state, record, &users)).collect();
    Ok(answer)
}

/// One of them.
pub fn show(word: &str) -> Result<VolumeDetail, Error> {
    let state = StateDir::open_if_present()?.ok_or_else(|| Error::NotFound(text::brief(word)))?;
    let record = find(&state, word)?;
    Ok(detail(&state, record))
}

fn detail(state: &StateDir, record: Record) -> VolumeDetail {
    let data = store::data_of(state, record.id);
    let top = openat2::resolved(data.as_os_str().as_encoded_bytes()).ok();
    let top = top.and_then(|top| openat2::beneath(&top, b".", For::Listing).ok());
    let bytes = top.and_then(measured);
    let users = attach::users(state);
    VolumeDetail {
        format_version: FORMAT,
        volume: view(state, record, &users),
        bytes,
        directory: text::os(&data),
    }
}

/// Bytes of what is below, unless that takes too long to count.
fn measured(top: std::os::fd::OwnedFd) -> Option<u64> {
    let started = std::time::Instant::now();
    let bytes = measure::allocated(top, MOST).ok()?;
    (started.elapsed() < MOST.time).then_some(bytes)
}

fn view(state: &StateDir, record: Record, users: &attach::Users) -> Volume {
    let (used, in_use) = store::look(state, record.id);
    Volume {
        id: record.id,
        created_at: rfc3339(record.created_ms),
        used_at: rfc3339(used.unwrap_or(record.created_ms)),
        in_use,
        workspaces: users.of(record.id),
        name: record.name,
        labels: record.labels,
        meta: record.meta,
    }
}

/// Remove one with all that is in it. What a jail or a workspace has is refused without `force`; with it,
/// jails keep an empty directory, and the workspaces lose it.
pub fn remove(word: &str, force: bool, monitor: &dyn Monitor) -> Result<VolumeDetail, Error> {
    let none = || Error::NotFound(text::brief(&text::printable(word.as_bytes())));
    let state = StateDir::open_if_present()?.ok_or_else(none)?;
    let record = find(&state, word)?;
    let (id, name) = (record.id, record.name.to_string());
    let removed = detail(&state, record);
    let attached = &removed.volume.workspaces;
    if !attached.is_empty() && !force {
        return Err(Error::Attached { name, workspaces: attached.clone() });
    }
    match store::take_away(&state, id, force)? {
        // A jail, or whoever reads, would let us hold it as well.
        Taken::InUse => match store::hold(&state, id) {
            Err(Unread::Store(crate::store::Error::Busy { .. })) => return Err(Error::Written(name)),
            _ => return Err(Error::InUse(name)),
        },
        Taken::Missing => return Err(none()),
        Taken::Away(gone) => {
            attach::forget(&state, id);
            // It has lost its name: what is left now is removed by `aj gc`.
            if let Err(e) = gone.remove(&state) {
                monitor.warn(&format!("not all files of `{name}` could be removed: {e}"));
            }
        }
    }
    Ok(removed)
}

/// Where a volume is seen.
pub(super) fn place_of(mount: &Mount, name: &Name) -> PathBuf {
    mount.path.clone().unwrap_or_else(|| Path::new(PLACE).join(name.as_str()))
}

/// What every jail has at a place, or needs around it, that a volume would cover.
pub(in crate::ops) fn taken(at: &Path) -> Option<String> {
    let own = |what: &str| Some(format!("the jail has its own `{what}`"));
    for within in ["/usr", "/dev", "/workspace", "/output", "/sys", "/var/run"] {
        if at.starts_with(within) {
            return own(within);
        }
    }
    for exact in ["/home/agent", "/tmp", "/var/tmp", "/run", "/opt"] {
        if at == Path::new(exact) {
            return own(exact);
        }
    }
    if plan::has_place(at) { None } else { Some("the jail has something of its own there".to_owned()) }
}
