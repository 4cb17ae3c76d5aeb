//! `aj fork compare`: what forks of one workspace have made of it, side by side.

use std::ffi::OsString;
use std::os::fd::OwnedFd;

use super::{Error, Found, find, have_one_base};
use crate::ops::changes;
use crate::ops::files::name;
use crate::schema::changes::FORMAT;
use crate::schema::fork::{Compared, Fork, Path, Side};
use crate::store::planted::Planted;
use crate::sys::openat2::{self, For};
use crate::sys::{self, errno};
use crate::workspace::compare::{self, Became};
use crate::workspace::view::Stack;

/// Paths that are compared at most.
const MOST: usize = 50_000;

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
        let whole = Stack::overlay(opened.upper, opened.sealed, opened.base);
        sides.push(compare::Side { own: mine, whole, hidden });
    }
    let base = base.ok_or(Error::None)?;
    let (rows, all) = compare::compare(sides, &base, MOST).map_err(crate::store::Error::from)?;
    let count = |at: usize| rows.iter().filter(|row| row.sides[at].0 != Became::Same).count() as u64;
    let one = |(at, (fork, tree)): (usize, (&Found, &changes::Tree))| Fork {
        name: fork.name().clone(),
        id: fork.id(),
        running: tree.running,
        changes: count(at),
    };
    let told = forks.iter().zip(&trees).enumerate().map(one).collect();
    let paths = rows.into_iter().map(|row| {
        let differ = row.sides.iter().any(|(_, like)| *like != 0);
        let side = |(became, like): &(Became, usize)| Side {
            status: status(*became),
            same_as: forks[*like].name().clone(),
        };
        Path { name: name(&row.path), differ, forks: row.sides.iter().map(side).collect() }
    });
    Ok(Compared {
        format_version: FORMAT,
        from_dir: forks[0].filed.record.from_dir.clone(),
        layers_in_common: common as u64,
        forks: told,
        paths: paths.collect(),
        complete: all,
    })
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
