//! Volumes as trees: one plain directory, seen at the place that a jail has it at by default.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use super::{Error, Held, Result, Target};
use crate::ops::volumes;
use crate::policy::volume::PLACE;
use crate::store::layout::StateDir;
use crate::store::volumes as store;
use crate::sys::at;
use crate::sys::openat2::{self, For};
use crate::workspace::view::edit::{Owners, Staging};
use crate::workspace::view::resolve::{Place, components};
use crate::workspace::view::{self, Stack, View};

/// How a volume is told from a workspace.
const START: &str = "vol:";

/// The volume that a word names, if it names one.
pub(super) fn named(word: &OsStr) -> Option<&str> {
    word.to_str()?.strip_prefix(START)
}

/// Open it to be read; jails may have it.
pub(super) fn read(word: &str) -> Result<Target> {
    let (state, id) = find(word)?;
    // Before it is held here, which would look the same.
    let running = store::look(&state, id).1;
    let held = volumes::hold(&state, word)?;
    target(held, running, Held::ReadVolume)
}

/// Open it to be changed, while no jail has it.
pub(super) fn edit(word: &str) -> Result<(Target, Staging)> {
    let (state, id) = find(word)?;
    let Some(held) = store::hold_alone(&state, id).map_err(volumes::Error::from)? else {
        return Err(Error::HasVolume(format!("{START}{word}")));
    };
    let staging = Staging::Apart(held.stage()?);
    Ok((target(held, false, Held::EditVolume)?, staging))
}

fn find(word: &str) -> Result<(StateDir, crate::base::id::Id)> {
    let none =
        || volumes::Error::NotFound(crate::base::text::brief(&crate::base::text::printable(word.as_bytes())));
    let state = StateDir::open_if_present()?.ok_or_else(none)?;
    let id = volumes::find(&state, word)?.id;
    Ok((state, id))
}

fn target(held: store::Held, running: bool, hold: impl FnOnce(store::Held) -> Held) -> Result<Target> {
    let data = held.data()?;
    let top = openat2::beneath(&data, b".", For::Listing).map_err(view::Error::sys("open", b"."))?;
    let meta = at::fstat(&top).map_err(view::Error::sys("look at", b"."))?;
    let caller = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
    let owners = Owners { jail: at::is_root().then_some((meta.uid, meta.gid)), bottom: caller };
    let name = held.record.name.to_string();
    let at = format!("{PLACE}/{name}");
    let place = Place { at: components(at.as_bytes()).collect(), stack: Stack::plain(top), mount: None };
    Ok(Target {
        name: held.record.id.to_string(),
        title: format!("{START}{name}"),
        running,
        view: View { places: vec![place], aliases: Vec::new() },
        owners: vec![owners],
        volumes: super::mounts::Volumes::default(),
        without: None,
        _held: hold(held),
    })
}

/// Split `vol:NAME/PATH` in the volume and the path in it.
pub fn split(word: &OsStr) -> Option<(&OsStr, &OsStr)> {
    let bytes = word.as_bytes();
    let rest = bytes.strip_prefix(START.as_bytes())?;
    let end = rest.iter().position(|b| *b == b'/').unwrap_or(rest.len());
    let path = rest.get(end + 1..).filter(|path| !path.is_empty()).unwrap_or(b".");
    Some((OsStr::from_bytes(bytes.get(..START.len() + end)?), OsStr::from_bytes(path)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_and_a_path_in_it() {
        let parts = |word: &str| split(OsStr::new(word)).map(|(v, p)| (v.to_owned(), p.to_owned()));
        let both = |v: &str, p: &str| Some((v.into(), p.into()));
        assert_eq!(parts("vol:data"), both("vol:data", "."));
        assert_eq!(parts("vol:data/"), both("vol:data", "."));
        assert_eq!(parts("vol:data/a/b:c"), both("vol:data", "a/b:c"));
        assert_eq!(parts("vol:data//x"), both("vol:data", "/x"));
        assert_eq!(parts("api:vol:data"), None);
    }
}
