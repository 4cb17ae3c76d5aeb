//! What no cache may be.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::jail::plan;
use crate::ops::tools::disk::Seen;
use crate::ops::tools::{Around, Tools, is_system, shown};
use crate::policy::flavor::{Refusal, is_below, refusal};

/// What a place is for a jail.
pub(super) enum Place {
    /// It is seen without us: with the workspace or a bind.
    Visible,
    /// It is to be shown.
    Shown,
    /// It is not, for this reason, a fact about it.
    Refused(String),
}

pub(super) fn below(path: &Path, dir: &Path) -> bool {
    is_below(path.as_os_str().as_bytes(), dir.as_os_str().as_bytes())
}

/// One is the other, or lies in it.
fn overlap(a: &Path, b: &Path) -> bool {
    below(a, b) || below(b, a)
}

/// Judge a directory: `path` as the catalogue names it, `real` without links.
pub(super) fn judge(
    (path, real, seen): (&Path, &Path, Seen),
    around: &Around<'_>,
    tools: &Tools,
    home: Option<&Path>,
) -> Place {
    let refused = |why: &str| Place::Refused(why.to_owned());
    if path != real {
        return Place::Refused(format!("it is a link and leads to `{}`", shown(real, home)));
    }
    if below(real, around.at) || around.binds.iter().any(|b| below(real, &b.path)) {
        return Place::Visible;
    }
    match refusal(real, home) {
        None => {}
        Some(Refusal::Home) => return refused("it has your home directory in it"),
        Some(Refusal::Secret(secret)) => {
            return Place::Refused(format!("secrets are kept in `~/{secret}`"));
        }
        // A cache may lie in /usr/local, as in images of compilers.
        Some(Refusal::Machine) if is_system(real.as_os_str().as_bytes()) => {}
        Some(Refusal::Machine) => return refused("it is no place of caches"),
    }
    if around.state.is_some_and(|state| overlap(state, real)) {
        return refused("aj keeps its state there");
    }
    if below(around.at, real) {
        return refused("the workspace lies in it");
    }
    if !plan::can_be_shown(real) {
        return refused("the jail has something of its own there");
    }
    if tools.hidden.iter().any(|h| below(&h.path, real)) {
        return refused("secrets beside your tools are kept in it");
    }
    if !seen.is_dir() {
        return refused("it is no directory");
    }
    if seen.mode & 0o002 != 0 {
        return refused("everyone may write to it");
    }
    let (uid, gid) = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
    if seen.owner.uid != uid {
        return Place::Refused(format!("it belongs to user {}, not to you", seen.owner.uid));
    }
    // An overlay cannot copy up what belongs to a group that the jail does not have.
    if uid != 0 && seen.owner.gid != gid {
        return Place::Refused(format!("it belongs to group {}, not to yours", seen.owner.gid));
    }
    Place::Shown
}

/// Judge a directory of the jail's own around a cache: nothing of the host is seen in it.
pub(super) fn judge_room(room: &Path, around: &Around<'_>, home: Option<&Path>) -> Place {
    if below(room, around.at) || around.binds.iter().any(|b| below(room, &b.path)) {
        return Place::Visible;
    }
    match refusal(room, home) {
        Some(Refusal::Home) => return Place::Refused("it has your home directory in it".to_owned()),
        Some(Refusal::Machine) if is_system(room.as_os_str().as_bytes()) => return Place::Visible,
        Some(Refusal::Machine) => return Place::Refused("it is no place of caches".to_owned()),
        // Such as ~/.cargo: keys lie in it, and it is empty inside.
        Some(Refusal::Secret(_)) | None => {}
    }
    if around.state.is_some_and(|state| below(room, state)) {
        return Place::Refused("aj keeps its state there".to_owned());
    }
    if plan::has_place(room) { Place::Shown } else { Place::Visible }
}
