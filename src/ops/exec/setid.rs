//! Set-id programs below what a jail of root may write.
//!
//! write(2) takes the setuid bit from a file, and its capabilities; a store through a shared mapping
//! takes neither. The id mapping makes the jail's user the owner of every file that belongs to the
//! tree's owner, so a program of root's would keep its bit and get content of the jail's. Each is
//! shown through a read-only mount of itself, which can be neither renamed nor replaced.
//!
//! An ordinary user's jail gets no more over such a file than the user has, and starts without a walk.

use std::ffi::OsString;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use nix::dir::Type;
use nix::errno::Errno;

use super::{Error, WayOut};
use crate::jail::spec::{Covered, Ids, Spec};
use crate::policy::settings::Access;
use crate::sys::at::{self, FileKind};
use crate::sys::entries::{Entries, Entry};
use crate::sys::openat2::{self, For};
use crate::sys::{self, mount, xattr};

/// Entries that are looked at below one directory: two or three seconds.
const MOST: usize = 500_000;
/// Files that are covered: each is a mount, of which a namespace has 100 000.
const MOST_COVERED: usize = 1_000;

/// What has to be covered in the jail of `spec`.
pub(super) fn find(spec: &Spec, warnings: &mut Vec<String>) -> Result<Vec<Covered>, Error> {
    let without = !spec.without.keeps("setid_cover");
    if spec.ids != Ids::Range || !spec.writes_to_host() || without {
        return Ok(Vec::new());
    }
    let mut covered = Vec::new();
    for Shown { path, directory, below } in writable(spec) {
        if directory {
            let found = find_below(path, MOST)?;
            // Seen there is something else, which is looked at for itself where it can be written.
            covered.extend(found.into_iter().filter(|f| !below.iter().any(|b| f.path.starts_with(b))));
        } else if is_set_id_file(path).map_err(|e| unseen(path, &e))? {
            return Err(refuse(path, "is a set-id program, which no jail may write"));
        }
        if covered.len() > MOST_COVERED {
            return Err(refuse(path, "has more than 1000 set-id programs in it, too many to protect"));
        }
    }
    match covered.len() {
        0 => {}
        1 => warnings.push("1 set-id program in what was writable was shown read-only".to_owned()),
        n => warnings.push(format!("{n} set-id programs in what was writable were shown read-only")),
    }
    Ok(covered)
}

/// What is shown writable, and what is shown below it in its place.
#[derive(Debug, PartialEq, Eq)]
struct Shown<'a> {
    path: &'a Path,
    directory: bool,
    below: Vec<&'a Path>,
}

fn writable(spec: &Spec) -> Vec<Shown<'_>> {
    // Binds are mounted after the workspace: one over it is what is seen of it.
    let workspace = spec.workspace.as_path();
    let seen = !spec.binds.iter().any(|b| workspace.starts_with(&b.path));
    let workspace = (spec.access == Access::Rw && seen).then_some((workspace, true));
    let binds = spec.binds.iter().filter(|b| b.writable).map(|b| (b.path.as_path(), b.directory));
    let below = |path: &Path| {
        let all = spec.binds.iter().map(|b| b.path.as_path());
        all.filter(|b| *b != path && b.starts_with(path)).collect()
    };
    let shown = workspace.into_iter().chain(binds);
    shown.map(|(path, directory)| Shown { path, directory, below: below(path) }).collect()
}

fn refuse(path: &Path, why: &'static str) -> Error {
    Error::Refused { path: path.to_owned(), why: why.to_owned(), way: WayOut::Elsewhere }
}

fn unseen(path: &Path, e: &sys::Error) -> Error {
    if matches!(e.errno, Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM) {
        return Error::Launch(e.clone());
    }
    let why = std::io::Error::other(format!("set-id programs in it could not be looked for: {e}"));
    Error::Bind { path: path.to_owned(), why }
}

/// The files below the directory `path`, as the jail will see it: of one mount, so that what other
/// mounts hide is found and what they show is not.
fn find_below(path: &Path, most: usize) -> Result<Vec<Covered>, Error> {
    let tree = openat2::resolved(path.as_os_str().as_encoded_bytes())
        .and_then(|dir| mount::clone_tree(Some(dir.as_fd()), c"", false))
        .map_err(|e| Error::Launch(e.on(crate::base::text::os(path))))?;
    let found = walk(&tree, most).map_err(|e| unseen(path, &e))?;
    let many = "has more than 500000 files in it, too many to look for set-id programs";
    let found = found.ok_or_else(|| refuse(path, many))?;
    Ok(found.into_iter().map(|f| Covered { path: path.join(f.path), ..f }).collect())
}

/// Whether somebody else runs the file with rights of its own.
fn is_set_id(dir: impl AsFd, name: &[u8], meta: &at::Meta) -> sys::Result<bool> {
    let capability = || xattr::has(&dir, name, c"security.capability");
    Ok(meta.kind == FileKind::File && (meta.mode & 0o6000 != 0 || capability()?))
}

fn is_set_id_file(path: &Path) -> sys::Result<bool> {
    let bytes = |p: Option<&std::ffi::OsStr>| p.unwrap_or_default().as_encoded_bytes().to_vec();
    let parent = openat2::resolved(&bytes(path.parent().map(Path::as_os_str)))?;
    let name = bytes(path.file_name());
    let meta = at::stat(&parent, &name)?;
    is_set_id(&parent, &name, &meta)
}

/// The files below `top`, by their paths from there; `None` when there are more than `most` entries.
/// By descriptor and without links, because others may be writing there.
fn walk(top: impl AsFd, most: usize) -> sys::Result<Option<Vec<Covered>>> {
    let (mut found, mut left) = (Vec::new(), most);
    let mut to_do = vec![Vec::new()];
    // What has gone since it was listed.
    let gone = |e: &sys::Error| matches!(e.errno, Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP);
    while let Some(path) = to_do.pop() {
        let name = if path.is_empty() { b"." } else { path.as_slice() };
        let open = |how| openat2::beneath(&top, name, how);
        let (dir, listing) = match open(For::Passing).and_then(|dir| Ok((dir, open(For::Listing)?))) {
            Err(e) if gone(&e) => continue,
            other => other?,
        };
        let mut listing = Entries::of(listing);
        while let Some(Entry { name, kind }) = listing.step()? {
            let Some(fewer) = left.checked_sub(1) else { return Ok(None) };
            left = fewer;
            if !matches!(kind, None | Some(Type::File | Type::Directory)) {
                continue;
            }
            let looked = at::stat(&dir, name).and_then(|m| Ok((m, is_set_id(&dir, name, &m)?)));
            let (meta, set_id) = match looked {
                Err(e) if gone(&e) => continue,
                other => other?,
            };
            if set_id || meta.kind == FileKind::Dir {
                let below = if path.is_empty() { name.to_vec() } else { [&path, &b"/"[..], name].concat() };
                if set_id {
                    found.push(Covered {
                        path: OsString::from_vec(below).into(),
                        inode: meta.ino,
                        writable: false,
                    });
                } else {
                    to_do.push(below);
                }
            }
        }
    }
    Ok(Some(found))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    /// A user's own set-id files are found as root's are.
    #[test]
    fn every_name_of_a_set_id_file_is_found_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::create_dir_all(at("a/b")).unwrap();
        std::fs::create_dir(at("c")).unwrap();
        let file = |name: &str, mode| {
            std::fs::write(at(name), "").unwrap();
            std::fs::set_permissions(at(name), std::fs::Permissions::from_mode(mode)).unwrap();
        };
        file("plain", 0o755);
        file("a/b/user", 0o4755);
        file("group", 0o2755);
        file("both", 0o6000);
        std::fs::set_permissions(at("c"), std::fs::Permissions::from_mode(0o2755)).unwrap();
        std::fs::hard_link(at("a/b/user"), at("c/again")).unwrap();
        symlink("a/b/user", at("link")).unwrap();
        symlink("..", at("c/up")).unwrap();
        let top = std::fs::File::open(dir.path()).unwrap();
        let names = || {
            let found = walk(&top, 100).unwrap().unwrap();
            let mut names: Vec<_> =
                found.into_iter().map(|f| f.path.into_os_string().into_string().unwrap()).collect();
            names.sort();
            names
        };
        assert_eq!(names(), ["a/b/user", "both", "c/again", "group"]);
        // Ten entries in all.
        assert!(walk(&top, 10).unwrap().is_some());
        assert!(walk(&top, 9).unwrap().is_none());
        assert!(is_set_id_file(&at("both")).unwrap() && !is_set_id_file(&at("plain")).unwrap());
        let capable = std::process::Command::new("setcap").arg("cap_net_raw+ep").arg(at("plain")).status();
        if capable.is_ok_and(|s| s.success()) {
            assert_eq!(names(), ["a/b/user", "both", "c/again", "group", "plain"]);
        } else {
            eprintln!("SKIP: capabilities cannot be given to files here");
        }
    }
}
