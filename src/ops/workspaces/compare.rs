//! `aj fork compare`: what forks of one workspace have made of it, side by side.

use std::ffi::{CStr, OsString};
use std::os::fd::OwnedFd;

use super::{Error, Found, find, have_one_base};
use crate::ops::changes;
use crate::ops::files::{name, why};
use crate::schema::changes::FORMAT;
use crate::schema::fork::{Compared, Failed, Fork, Path, Side};
use crate::store::planted::Planted;
use crate::store::workspaces as store;
use crate::sys::openat2::{self, For};
use crate::sys::{self, errno};
use crate::workspace::compare::{self, Became, Row};
use crate::workspace::view::{self, Stack};

/// Paths that are compared at most, in the workspace and in each room.
const MOST: usize = 50_000;

/// What workspaces have beside their trees: what it is called, its directory, and where it is seen.
const ROOMS: [(&str, &CStr, &[u8]); 2] =
    [("home", c"home", b"/home/agent"), ("output", c"output", b"/output")];

/// Compare the workspaces that `words` name; of one that has forks, these.
pub fn compare(words: &[OsString]) -> Result<Compared, Error> {
    let mut forks: Vec<Found> = words.iter().map(|word| find(Some(word))).collect::<Result<_, _>>()?;
    if let [parent] = forks.as_slice() {
        let mut all = super::find::readable(&parent.state)?;
        all.retain(|filed| filed.record.parent == Some(parent.id()));
        all.sort_by_key(|filed| (filed.record.created_ms, filed.record.name.clone()));
        if all.is_empty() && parent.filed.record.parent.is_none() {
            return Err(Error::NoForks(parent.name().to_string()));
        }
        let state = || crate::store::layout::StateDir::open();
        if !all.is_empty() {
            forks = all
                .into_iter()
                .map(|filed| Ok(Found { state: state()?, filed }))
                .collect::<Result<_, Error>>()?;
        }
    }
    let unrelated =
        |a: &Found, b: &Found| Error::Unrelated { child: b.name().to_string(), parent: a.name().to_string() };
    if let Some(other) = forks.iter().find(|f| !have_one_base(&f.filed.record, &forks[0].filed.record)) {
        return Err(unrelated(&forks[0], other));
    }
    let trees: Vec<changes::Tree> =
        forks.iter().map(|fork| changes::open_tree(fork.id())).collect::<Result<_, _>>().map_err(Box::new)?;
    let layers: Vec<&[String]> = forks.iter().map(|fork| fork.filed.record.layers.as_slice()).collect();
    let common = in_common(&layers);
    let (mut sides, mut base) = (Vec::new(), None);
    for tree in &trees {
        let opened = tree.opened().map_err(Box::new)?.into_iter().next();
        let opened = opened.ok_or_else(|| Error::NotFound(tree.id.to_string()))?;
        let hidden =
            openat2::parent(&opened.upper, For::Listing).map_err(|e| e.errno).and_then(Planted::read);
        let hidden = hidden.map_err(|e| failed("read", e))?.unwrap_or_default();
        let own = opened.sealed.len().saturating_sub(common);
        let dup = |fds: &[OwnedFd]| fds.iter().map(again).collect::<Result<Vec<_>, _>>();
        if base.is_none() {
            base = Some(Stack::base(dup(&opened.sealed[own..])?, again(&opened.base)?));
        }
        let mut mine = vec![again(&opened.upper)?];
        mine.extend(dup(&opened.sealed[..own])?);
        let whole = Ok(Stack::overlay(opened.upper, opened.sealed, opened.base));
        sides.push(compare::Side { own: mine, whole, hidden });
    }
    let base = base.ok_or(Error::None)?;
    let mut rows: Vec<(&str, Row)> = Vec::new();
    let (mut unread, mut all) = (Vec::new(), true);
    let mut add = |root, at: &[u8], sides, base: Option<&Stack>| {
        let below = |path: &[u8]| if at.is_empty() { path.to_vec() } else { view::join(at, path) };
        let compared = compare::compare(sides, base, MOST).map_err(crate::store::Error::from)?;
        all &= compared.all;
        rows.extend(compared.rows.into_iter().map(|row| (root, Row { path: below(&row.path), ..row })));
        let failed = |((whose, path), e): ((Option<usize>, Vec<u8>), _)| Failed {
            root,
            name: name(&match path.is_empty() {
                true if at.is_empty() => b".".to_vec(),
                true => at.to_vec(),
                false => below(&path),
            }),
            fork: whose.and_then(|at| forks.get(at)).map(|fork| fork.name().clone()),
            reason: why(&e),
        };
        unread.extend(compared.unread.into_iter().map(failed));
        Ok::<(), Error>(())
    };
    add("workspace", b"", sides, Some(&base))?;
    for (root, room, at) in ROOMS {
        let (sides, base) = room_of((&forks, &trees), room, common)?;
        add(root, at, sides, base.as_ref())?;
    }
    let count = |at: usize| rows.iter().filter(|(_, row)| row.sides[at].0.is_change()).count() as u64;
    let one = |(at, (fork, tree)): (usize, (&Found, &changes::Tree))| Fork {
        name: fork.name().clone(),
        id: fork.id(),
        running: tree.running,
        changes: count(at),
    };
    let told = forks.iter().zip(&trees).enumerate().map(one).collect();
    let paths = rows.into_iter().map(|(root, row)| {
        let differ = row.sides.iter().any(|(_, like)| *like != 0);
        let side = |(became, like): &(Became, usize)| Side {
            status: status(*became),
            same_as: forks[*like].name().clone(),
        };
        Path { root, name: name(&row.path), differ, forks: row.sides.iter().map(side).collect() }
    });
    Ok(Compared {
        format_version: FORMAT,
        from_dir: forks[0].filed.record.from_dir.clone(),
        layers_in_common: common as u64,
        forks: told,
        paths: paths.collect(),
        failed: unread,
        complete: all,
    })
}

/// One of the rooms of all forks, and what they have in common of it; `None`: nothing.
fn room_of(
    (forks, trees): (&[Found], &[changes::Tree]),
    room: &CStr,
    common: usize,
) -> Result<(Vec<compare::Side>, Option<Stack>), Error> {
    let (mut sides, mut base) = (Vec::new(), None);
    for (fork, tree) in forks.iter().zip(trees) {
        let open = || {
            let beside = openat2::parent(&tree.upper, For::Listing)?;
            openat2::beneath(&beside, room.to_bytes(), For::Listing)
        };
        let mut sealed = store::open_layers(&fork.state, &fork.filed.record.layers, room)?;
        let own = sealed.len().saturating_sub(common);
        let dup = |fds: &[OwnedFd]| fds.iter().map(again).collect::<Result<Vec<_>, _>>();
        let mut mine = dup(&sealed[..own])?;
        if base.is_none() {
            let mut below = dup(&sealed[own..])?;
            base = below.pop().map(|oldest| Stack::base(below, oldest));
        }
        let whole = match open() {
            Ok(upper) => {
                mine.insert(0, again(&upper)?);
                // The oldest lies over nothing; without any it is bound as it is.
                Ok(match sealed.pop() {
                    Some(oldest) => Stack::overlay(upper, sealed, oldest),
                    None => Stack::plain(upper),
                })
            }
            // What a jail has locked of its home is its own affair.
            Err(e) => Err(e),
        };
        sides.push(compare::Side { own: mine, whole, hidden: Planted::default() });
    }
    Ok((sides, base))
}

/// How many of the oldest layers all have.
fn in_common(all: &[&[String]]) -> usize {
    let Some((first, others)) = all.split_first() else { return 0 };
    let with =
        |other: &&[String]| first.iter().rev().zip(other.iter().rev()).take_while(|(a, b)| a == b).count();
    // One alone is compared with what it was made of, all but its own.
    others.iter().map(with).min().unwrap_or(first.len())
}

fn again(fd: &OwnedFd) -> Result<OwnedFd, Error> {
    fd.try_clone().map_err(|e| failed("dup", errno(&e)))
}

fn failed(call: &'static str, e: nix::errno::Errno) -> Error {
    Error::State(sys::Error::new(call, "", e).into())
}

fn status(became: Became) -> &'static str {
    match became {
        Became::Same => "unchanged",
        Became::Added => "added",
        Became::Deleted => "deleted",
        Became::Modified => "modified",
        Became::ModeChanged => "mode_changed",
        Became::TypeChanged => "type_changed",
        Became::Unknown => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_layers_that_all_have_are_what_they_began_with() {
        let layers = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let of = |all: &[&str]| {
            let all: Vec<Vec<String>> = all.iter().map(|text| layers(text)).collect();
            in_common(&all.iter().map(Vec::as_slice).collect::<Vec<_>>())
        };
        assert_eq!(of(&["c b a", "b a", "x b a"]), 2);
        assert_eq!(of(&["b a", "b"]), 0);
        assert_eq!(of(&["a", ""]), 0);
        assert_eq!(of(&["b a", "b a"]), 2);
    }
}
