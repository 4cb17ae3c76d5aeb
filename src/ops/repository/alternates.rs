//! Object stores that a repository borrows from (`git clone --shared`, `--reference`).
//!
//! A store does not know its borrowers, so the list alone would let a planted repository show any other
//! one of the user's to its jail. What is asked for is a proof that the borrower's author has seen what
//! is borrowed: an object that its own refs or logs name, and that is found there.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::{Around, Needs, objects, plain, read, real};
use crate::base::text;

/// A longer list is not read.
const LIST_LIMIT: usize = 64 << 10;
/// Stores in all, those that stores borrow from included.
const MOST: usize = 8;

/// Find the stores of the repository `own` with its objects in `common`.
pub(super) fn find(
    around: &Around<'_>,
    (own, common): (&Path, &Path),
    needs: &mut Needs,
    warnings: &mut Vec<String>,
) {
    let mut lists = VecDeque::from([(common.join("objects"), false)]);
    let (mut left, mut known) = (MOST, None);
    while let Some((objects, proven)) = lists.pop_front() {
        let list = objects.join("info/alternates");
        let text = match read(&list, LIST_LIMIT) {
            Ok(None) => continue,
            Ok(Some(text)) => text,
            Err(why) => {
                // Mostly because `objects` is a link.
                match real(Path::new("/"), &objects) {
                    Ok(to) if to != objects && around.has(&to) => {}
                    Ok(to) if to != objects => warnings.push(format!(
                        "`{}` is a link to `{}`, which is not shown",
                        text::os(&objects),
                        text::os(&to)
                    )),
                    _ => warnings.push(format!("objects that are borrowed are not shown: {why}")),
                }
                continue;
            }
        };
        for line in text.split(|b| *b == b'\n').filter(|l| !l.is_empty() && !l.starts_with(b"#")) {
            let path = Path::new(OsStr::from_bytes(line));
            if left == 0 {
                warnings.push(format!("`{}` names more stores than are looked at", text::os(&list)));
                return;
            }
            left -= 1;
            let named = plain(&objects, path);
            match store(around, &objects, path, &named) {
                Ok(store) if around.has(&store) || needs.has(&store) => lists.push_back((store, proven)),
                Ok(store) => {
                    let known = known.get_or_insert_with(|| objects::named(own, common));
                    // What a store of the user's borrows from is the user's word.
                    if proven || known.iter().any(|id| objects::has(&store, id)) {
                        needs.borrowed.push(store.clone());
                        if named != store {
                            needs.links.push((named, store.clone()));
                        }
                        lists.push_back((store, true));
                    } else {
                        let path = text::os(&store);
                        warnings.push(format!(
                            "`{}` borrows from `{path}`, which is not shown: nothing that this repository \
                             names is in it (if you trust it: `--ro {path}`)",
                            text::os(&list)
                        ));
                    }
                }
                Err(why) => warnings.push(format!(
                    "`{}` borrows from `{}`, which is not shown: {why}",
                    text::os(&list),
                    text::os(&named)
                )),
            }
        }
    }
}

impl Needs {
    fn has(&self, path: &Path) -> bool {
        let shared = self.shared.as_ref().is_some_and(|(dir, _)| path.starts_with(dir));
        shared || self.borrowed.iter().any(|dir| path.starts_with(dir))
    }
}

/// The store at `path`, seen from `objects`, if it is one that may be shown.
fn store(around: &Around<'_>, objects: &Path, path: &Path, named: &Path) -> Result<PathBuf, String> {
    if path.as_os_str().as_bytes().contains(&0) {
        return Err("it is no path".to_owned());
    }
    if !around.has(named) {
        around.private(named)?;
    }
    let store = real(objects, path)?;
    if around.has(&store) {
        return Ok(store);
    }
    around.private(&store)?;
    around.trusted(&store)?;
    let is_dir = |path: PathBuf| path.symlink_metadata().is_ok_and(|m| m.is_dir());
    let git = store.parent().is_some_and(|git| git.join("HEAD").symlink_metadata().is_ok());
    if store.file_name() != Some(OsStr::new("objects")) || !git || !is_dir(store.join("pack")) {
        return Err("it is not the `objects` of a git directory".to_owned());
    }
    Ok(store)
}
