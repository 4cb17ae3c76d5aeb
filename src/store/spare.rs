//! Trees that a run left unchanged, kept for the next one.
//!
//! Making a tree and removing it again costs a dozen inodes, 1.2 ms on ext4: as much as the rest of
//! a start. Most runs change nothing, so their trees are put aside by a rename (`.spare-N`). A later
//! run, with nothing to do while its own jail prepares itself, removes what overlayfs left in the
//! work directory of one (`.ready-N`), and the run after that takes it. Two trees take turns: one is
//! in use while the other is made ready. Nobody waits for the cleaning: freeing a directory can mean
//! a discard on the disk.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, readlinkat, renameat};
use nix::sys::stat::{FchmodatFlags, Mode, UtimensatFlags, fchmodat, fstat, fstatat, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::{UnlinkatFlags, symlinkat, unlinkat};

use super::began;
use super::dirfd;
use super::error::Error;
use super::remove::remove_dir;
use super::sides::Side;
use super::trees::{Tree, open_tree_dir, upper_mode};
use crate::base::id::Id;
use crate::base::stamp;
use crate::sys::xattr;

/// How many are kept.
const SPARES: u32 = 4;

/// How many parts of projects are kept, over whatever directories.
const SIDES: usize = 8;
const SIDE: &str = "-side-";

/// What is put aside under which names: trees, or parts of projects over one directory.
pub(super) struct Shelf(String);

impl Shelf {
    pub(super) fn trees() -> Shelf {
        Shelf(String::new())
    }

    /// Of parts over `base`.
    pub(super) fn of(base: &Path) -> Shelf {
        Shelf(format!("{SIDE}{:016x}", stamp::of(base.as_os_str().as_encoded_bytes())))
    }

    fn spare(&self, n: u32) -> String {
        format!(".spare{}-{n}", self.0)
    }

    fn ready(&self, n: u32) -> String {
        format!(".ready{}-{n}", self.0)
    }
}

impl Shelf {
    /// Put the entry `name` of `from` there. `false`: enough are there.
    fn put(&self, trees: &File, from: impl AsFd, name: &CStr) -> bool {
        // What is put there is never empty, so a rename never replaces one (ENOTEMPTY).
        (0..SPARES).any(|n| renameat(&from, name, trees, self.spare(n).as_str()).is_ok())
    }

    /// Take one into `to` as `name`, made fit for `base` and locked. `gone`: a name for what is not fit.
    fn take(
        &self,
        trees: &File,
        (to, name): (impl AsFd, &str),
        (base, owner): (&Path, Option<(u32, u32)>),
        gone: &str,
    ) -> Option<File> {
        (0..SPARES).find_map(|n| {
            // By rename first: whoever succeeds owns it alone. Never over what is there, which is not empty.
            renameat(trees, self.ready(n).as_str(), &to, name).ok()?;
            let dir = open_tree_dir(&to, name).ok()?;
            let locked = super::lock::try_acquire(&dir, super::lock::Mode::Exclusive, base);
            if locked.is_ok_and(|locked| locked) && refit(&dir, base, owner).is_ok_and(|fit| fit) {
                return Some(dir);
            }
            // Unfit, in use by `prepare`, or made for another owner: out of the way, to be swept.
            let gone = format!("{}{gone}{}", super::trees::GONE, self.ready(n));
            renameat(&to, name, trees, gone.as_str()).ok();
            None
        })
    }
}

/// Put the tree of `id` aside. `false` when enough are there, or when it must not be used again.
pub(super) fn put(trees: &File, id: Id, tree: impl AsFd) -> bool {
    let name = CString::new(id.as_str()).unwrap_or_default();
    is_pristine(tree).unwrap_or(false) && Shelf::trees().put(trees, trees, &name)
}

/// The same for a part of a project in a tree.
pub(super) fn put_side(trees: &File, (tree, side): (&Tree, &Side)) -> bool {
    let empty = || dirfd::open_upper(&side.dir).and_then(dirfd::is_empty).unwrap_or(false);
    empty()
        && is_pristine(&side.dir).unwrap_or(false)
        && make_room(trees).unwrap_or(false)
        && Shelf::of(&side.base).put(trees, tree, &side.name)
}

/// Those over directories that nobody works in any more make room for others.
fn make_room(trees: &File) -> Result<bool, Errno> {
    let mut names = dirfd::names(trees)?;
    names.retain(|name| {
        let rest = [".spare", ".ready"].iter().find_map(|p| name.to_bytes().strip_prefix(p.as_bytes()));
        rest.is_some_and(|rest| rest.starts_with(SIDE.as_bytes()))
    });
    if names.len() < SIDES {
        return Ok(true);
    }
    let used = |name: &CString| fstatat(trees, name.as_c_str(), AtFlags::AT_SYMLINK_NOFOLLOW);
    let oldest = names.into_iter().filter_map(|n| Some((used(&n).ok()?.st_ctime, n))).min();
    let Some((_, name)) = oldest else { return Ok(false) };
    let gone = CString::new([super::trees::GONE.as_bytes(), name.to_bytes()].concat()).unwrap_or_default();
    renameat(trees, name.as_c_str(), trees, gone.as_c_str())?;
    Ok(remove_dir(trees, &gone, Path::new("trees")).is_ok())
}

/// Take a part over `base` into `tree` under `name`, made fit. `None`: make a new one.
pub(super) fn take_side(
    trees: &File,
    (tree, name): (&Tree, &str),
    base: &Path,
    owner: Option<(u32, u32)>,
) -> Option<File> {
    Shelf::of(base).take(trees, (tree, name), (base, owner), tree.id().as_str())
}

/// Whether the upper layer's top, which a jail could change as the top of its workspace, carries
/// nothing that a new one would not: an ACL would decide over the files of the next jail, and an
/// attribute would be a message to it. (Mode and owner are set anew, times mean nothing.)
fn is_pristine(tree: impl AsFd) -> Result<bool, Errno> {
    let upper = dirfd::open_upper(&tree)?;
    let work = dirfd::open_dir(&tree, c"work")?;
    // Of the kernel's own, which no jail can set: overlayfs hides these names from it.
    let ours = |name: &Vec<u8>| name.starts_with(b"user.overlay.");
    let names = xattr::names(&upper).map_err(|e| e.errno)?;
    // Nobody but us ever saw the work directory.
    Ok(names.iter().all(ours) && xattr::flags(&upper) == xattr::flags(&work))
}

/// Take one for jail `id`, made fit for `base` and locked. `None`: make a new one.
pub(super) fn take(
    trees: &File,
    path: &Path,
    id: Id,
    base: &Path,
    owner: Option<(u32, u32)>,
) -> Option<Tree> {
    let dir = Shelf::trees().take(trees, (trees, id.as_str()), (base, owner), id.as_str())?;
    Some(Tree::from_parts(id, dir, PathBuf::from(path)))
}

/// Make one spare of a shelf ready, if there is one and nobody else is at it. Failing is no loss.
pub(super) fn prepare(trees: &File, path: &Path, shelf: &Shelf) {
    for n in 0..SPARES {
        let Ok(dir) = open_tree_dir(trees, &shelf.spare(n)) else { continue };
        // The lock, and not the name, is what keeps a run that takes this tree meanwhile apart.
        if !super::lock::try_acquire(&dir, super::lock::Mode::Exclusive, path).is_ok_and(|locked| locked) {
            continue;
        }
        // Another run may have made it ready between our two calls, and put the next one here.
        if !is_named(trees, &shelf.spare(n), &dir) {
            continue;
        }
        if clear_work(&dir).is_ok_and(|clear| clear) {
            let (from, to) = (shelf.spare(n), |m| shelf.ready(m));
            (0..SPARES).any(|m| renameat(trees, from.as_str(), trees, to(m).as_str()).is_ok());
            return;
        }
    }
}

/// Whether `name` is still that of `dir`.
fn is_named(trees: &File, name: &str, dir: &File) -> bool {
    let (named, held) = (fstatat(trees, name, AtFlags::AT_SYMLINK_NOFOLLOW), fstat(dir));
    matches!((named, held), (Ok(a), Ok(b)) if (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino))
}

/// Make a spare tree look as if it had just been made. `Ok(false)`: it cannot be.
fn refit(tree: impl AsFd + Copy, base: &Path, owner: Option<(u32, u32)>) -> Result<bool, Errno> {
    let upper = fstatat(tree, c"upper", AtFlags::AT_SYMLINK_NOFOLLOW)?;
    let mine = owner.unwrap_or_else(|| (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw()));
    if (upper.st_uid, upper.st_gid) != mine || !dirfd::open_upper(tree).and_then(dirfd::is_empty)? {
        return Ok(false);
    }
    let mode = upper_mode(base);
    if upper.st_mode & 0o7777 != mode {
        fchmodat(tree, c"upper", Mode::from_bits_truncate(mode), FchmodatFlags::FollowSymlink)?;
    }
    if Path::new(&readlinkat(tree, c"base")?) != base {
        unlinkat(tree, c"base", UnlinkatFlags::NoRemoveDir)?;
        symlinkat(base, tree, c"base")?;
    }
    // Its ctime is when the run began: what tells later changes of the host's from earlier ones.
    date_base(tree)?;
    Ok(true)
}

/// The run begins now: see [`began`].
pub(super) fn date_base(tree: impl AsFd) -> Result<(), Errno> {
    let now = TimeSpec::UTIME_NOW;
    utimensat(tree, c"base", &now, &began::note(), UtimensatFlags::NoFollowSymlink)
}

/// What overlayfs leaves in its work directory, and whether it is a directory: `work`, and below it
/// the mark of a volatile mount. No jail ever saw them, so they are named by path.
const LEFT: [(&CStr, bool); 4] = [
    (c"work/work", true),
    (c"work/work/incompat", true),
    (c"work/work/incompat/volatile", true),
    (c"work/work/incompat/volatile/dirty", false),
];

/// Give what overlayfs leaves the permission bits that its owner needs to remove it: it has none.
pub(super) fn open_work(tree: impl AsFd) -> Result<(), Errno> {
    for (path, _) in LEFT.iter().filter(|(_, dir)| *dir) {
        match fchmodat(&tree, *path, Mode::S_IRWXU, FchmodatFlags::FollowSymlink) {
            Ok(()) => {}
            Err(Errno::ENOENT) => break,
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Remove what the last mount left in the work directory beside the upper layer in `dir`, which is at
/// `path`: the kernel refuses to mount over its mark. Files that were half copied up when the power went
/// are among it, and belong to nobody.
pub(super) fn empty_work(dir: impl AsFd, path: &Path) -> Result<(), Error> {
    if clear_work(&dir).is_ok_and(|clear| clear) {
        return Ok(());
    }
    let path = path.join("work");
    let work = dirfd::open_dir(&dir, c"work").map_err(|e| Error::call("open", &path, e))?;
    remove_dir(&work, c"work", &path)
}

/// Remove what overlayfs leaves. `Ok(false)`: there is more.
fn clear_work(tree: impl AsFd) -> Result<bool, Errno> {
    open_work(&tree)?;
    for (path, dir) in LEFT.into_iter().rev() {
        let flag = if dir { UnlinkatFlags::RemoveDir } else { UnlinkatFlags::NoRemoveDir };
        match unlinkat(&tree, path, flag) {
            Ok(()) | Err(Errno::ENOENT) => {}
            // Something else is in there: not one of ours to reuse.
            Err(Errno::ENOTEMPTY) => return Ok(false),
            Err(e) => return Err(e),
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::id::Kind;
    use crate::store::layout::StateDir;
    use crate::store::trees;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    fn state() -> (tempfile::TempDir, StateDir) {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open_at(&dir.path().join("state")).unwrap();
        (dir, state)
    }

    fn id() -> Id {
        Id::random(Kind::Jail).unwrap()
    }

    #[test]
    fn an_unchanged_tree_is_taken_again_and_looks_new() {
        let (dir, state) = state();
        let first = trees::create_tree(&state, id(), Path::new("/usr"), None).unwrap();
        let inode = fs::metadata(first.upper()).map(|m| std::os::unix::fs::MetadataExt::ino(&m)).unwrap();
        fs::create_dir_all(first.work().join("work/incompat/volatile")).unwrap();
        fs::write(first.work().join("work/incompat/volatile/dirty"), "").unwrap();
        fs::set_permissions(first.work().join("work/incompat"), fs::Permissions::from_mode(0o0)).unwrap();
        fs::set_permissions(first.work().join("work"), fs::Permissions::from_mode(0o0)).unwrap();
        first.retire(&state).unwrap();
        trees::prepare_spare(&state).unwrap();
        let base = dir.path().join("base");
        fs::create_dir(&base).unwrap();
        fs::set_permissions(&base, fs::Permissions::from_mode(0o750)).unwrap();
        let second = trees::create_tree(&state, id(), &base, None).unwrap();
        let upper = fs::metadata(second.upper()).unwrap();
        assert_eq!(std::os::unix::fs::MetadataExt::ino(&upper), inode, "the same directory");
        assert_eq!(upper.permissions().mode() & 0o777, 0o750);
        assert_eq!(second.base().unwrap(), base);
        assert_eq!(fs::read_dir(second.work()).unwrap().count(), 0);
    }

    #[test]
    fn a_tree_made_ready_is_taken_first_and_a_locked_one_is_left_alone() {
        let (_dir, state) = state();
        let make = || trees::create_tree(&state, id(), Path::new("/usr"), None).unwrap();
        let (first, second) = (make(), make());
        for tree in [&first, &second] {
            fs::create_dir_all(tree.work().join("work/incompat/volatile")).unwrap();
        }
        first.retire(&state).unwrap();
        trees::prepare_spare(&state).unwrap();
        let names = || {
            let mut n: Vec<_> =
                trees::names(&state).unwrap().iter().map(|n| n.to_string_lossy().into_owned()).collect();
            n.sort();
            n.retain(|n| n.starts_with('.'));
            n
        };
        assert_eq!(names(), [".ready-0"]);
        second.retire(&state).unwrap();
        let held = open_tree_dir(&state, "trees/.spare-0").unwrap();
        assert!(
            crate::store::lock::try_acquire(&held, crate::store::lock::Mode::Exclusive, Path::new("x"))
                .unwrap()
        );
        trees::prepare_spare(&state).unwrap();
        assert_eq!(names(), [".ready-0", ".spare-0"], "in use: not touched");
        let taken = make();
        assert_eq!(names(), [".spare-0"]);
        assert_eq!(fs::read_dir(taken.work()).unwrap().count(), 0);
    }

    #[test]
    fn the_start_of_a_run_is_its_own_also_over_the_same_base() {
        let (_dir, state) = state();
        let ctime = |t: &Tree| {
            let m = fs::symlink_metadata(t.path().join("base")).unwrap();
            (std::os::unix::fs::MetadataExt::ctime(&m), std::os::unix::fs::MetadataExt::ctime_nsec(&m))
        };
        let first = trees::create_tree(&state, id(), Path::new("/usr"), None).unwrap();
        let made = ctime(&first);
        first.retire(&state).unwrap();
        trees::prepare_spare(&state).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(20));
        let second = trees::create_tree(&state, id(), Path::new("/usr"), None).unwrap();
        assert!(ctime(&second) > made);
    }

    #[test]
    fn a_spare_with_anything_in_it_is_not_taken() {
        let (_dir, state) = state();
        for at in ["upper/x", "work/work/x"] {
            let first = trees::create_tree(&state, id(), Path::new("/usr"), None).unwrap();
            let path = first.path().join(at);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, "").unwrap();
            first.retire(&state).unwrap();
            trees::prepare_spare(&state).unwrap();
            let second = trees::create_tree(&state, id(), Path::new("/usr"), None).unwrap();
            assert!(!second.path().join(at).exists(), "{at}");
            assert!(second.is_unchanged().unwrap());
        }
    }

    #[test]
    fn what_a_jail_left_on_the_top_itself_is_not_passed_on() {
        let (_dir, state) = state();
        let make = || trees::create_tree(&state, id(), Path::new("/usr"), None).unwrap();
        let marked = make();
        let upper = File::open(marked.upper()).unwrap();
        if let Err(e) = xattr::set(&upper, c"user.note", b"secret") {
            eprintln!("SKIP: {e}");
            return;
        }
        marked.retire(&state).unwrap();
        assert_eq!(trees::names(&state).unwrap().len(), 0, "removed instead");
        let plain = make();
        xattr::set(File::open(plain.upper()).unwrap(), c"user.overlay.uuid", b"x").unwrap();
        plain.retire(&state).unwrap();
        assert_eq!(trees::names(&state).unwrap().len(), 1, "kept");
    }

    #[test]
    fn no_more_than_a_few_are_kept() {
        let (_dir, state) = state();
        let many: Vec<_> =
            (0..7).map(|_| trees::create_tree(&state, id(), Path::new("/usr"), None).unwrap()).collect();
        for tree in many {
            tree.retire(&state).unwrap();
        }
        assert_eq!(trees::names(&state).unwrap().len(), SPARES as usize);
    }
}
