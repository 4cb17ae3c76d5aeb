//! Credentials in the configuration of a git repository: the files in `.git` that may hold some.

use super::{Dir, Kind, MOST, Secret, look};
use crate::base::text::printable;
use crate::policy::hide::Rules;
use crate::sys::at::{self, FileKind};
use crate::sys::openat2::{self, For};
use crate::sys::{Error, Result};
use crate::workspace::gitcreds::{self, Clean};

/// A larger file is hidden.
const LARGEST: u64 = 1 << 20;
/// Directories of submodules that are looked through.
const MODULES: usize = 5000;

/// Add what is found in the `.git` directories at `repositories` below `top`.
pub(super) fn find(
    top: Dir<'_>,
    rules: &Rules,
    repositories: &[Vec<u8>],
    found: &mut Vec<Secret>,
) -> Result<()> {
    for git in repositories {
        let covered = |s: &Secret| *git == s.path || git.starts_with(&[&s.path, &b"/"[..]].concat());
        if found.iter().any(covered) {
            continue;
        }
        let mut to_do = vec![git.clone()];
        let mut seen = 0;
        while let Some(path) = to_do.pop() {
            let dir = match openat2::beneath(top, &path, For::Passing) {
                Ok(dir) => dir,
                Err(e) if is_none(&e) => continue,
                Err(e) => return Err(e),
            };
            for name in [&b"config"[..], b"config.worktree"] {
                file(&dir, &path, name, rules, found)?;
            }
            // Of a submodule whose name has slashes in it, `modules` holds the first part.
            let modules = [&path, &b"/modules"[..]].concat();
            let holds = if path == *git || at::stat_opt(&dir, b"HEAD")?.is_some() { modules } else { path };
            let Ok(list) = openat2::beneath(top, &holds, For::Passing) else { continue };
            at::each_name(&list, |name| {
                seen += 1;
                if seen <= MODULES {
                    to_do.push([&holds, &b"/"[..], name].concat());
                }
            })?;
            if seen > MODULES {
                // Some of them would not have been looked at.
                return Err(Error::new("look through", printable(&holds), nix::errno::Errno::E2BIG));
            }
        }
    }
    Ok(())
}

fn is_none(e: &Error) -> bool {
    use nix::errno::Errno;
    matches!(e.errno, Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP | Errno::EXDEV | Errno::EACCES)
}

fn file(dir: Dir<'_>, path: &[u8], name: &[u8], rules: &Rules, found: &mut Vec<Secret>) -> Result<()> {
    let Some(meta) = at::stat_opt(dir, name)? else { return Ok(()) };
    let full = [path, b"/", name].concat();
    let known = found.iter().any(|s| s.path == full);
    if meta.kind != FileKind::File || known || rules.is_shown(&full, false, 0) || found.len() > MOST {
        return Ok(());
    }
    let kind = match look::read(dir, name, LARGEST) {
        Some(text) => match gitcreds::clean(&text) {
            Clean::Same => return Ok(()),
            Clean::Text(text) => Kind::Part(text),
            Clean::Hide => Kind::File,
        },
        None => Kind::File,
    };
    found.push(Secret { path: full, kind, meta, by: None });
    Ok(())
}
