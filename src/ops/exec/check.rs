//! What is refused before anything is started.

use std::collections::VecDeque;
use std::fs::Metadata;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Component, Path, PathBuf};

use super::Error;
use crate::base::env;
use crate::jail::plan;
use crate::jail::spec::{Bind, BindKind, Owner, Spec};
use crate::ops::project::Place;
use crate::policy::key::Key;
use crate::policy::resolve::{Origin, Resolved};
use crate::policy::settings::{Access, Settings};
use crate::schema::jail::Outcome;

/// What would do instead of a directory that is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WayOut {
    /// Another directory.
    Elsewhere,
    /// Another directory, or `--i-mean-it`.
    Insist,
    /// Another directory, the state in another place, or only to read it.
    MoveState,
    /// The same, and `--i-mean-it` with either of the last two.
    MoveStateAndInsist,
}

/// Places of the host where programs put their sockets: a bind of one would let a jail talk to them.
const SOCKETS: [&str; 4] = ["/tmp", "/var/tmp", "/run", "/dev/shm"];

fn refuse(path: &Path, why: impl Into<String>, way: WayOut) -> Error {
    Error::Refused { path: path.to_owned(), why: why.into(), way }
}

/// The name under which the caller's shell went to the workspace, when that leads through a link.
pub(super) fn alias(place: &Place) -> Option<PathBuf> {
    let (workspace, meta) = (&place.root, &place.meta);
    // The shell knows the name of the current directory; the workspace is the same way up from both.
    let below = place.start.strip_prefix(workspace).ok()?;
    let pwd = env::PWD.absolute_path()?;
    let above = pwd.ancestors().nth(below.components().count()).filter(|_| pwd.ends_with(below));
    let name = above.filter(|name| name != workspace)?.to_owned();
    let plain = !name.components().any(|c| c == Component::ParentDir);
    let same = |m: Metadata| (m.dev(), m.ino()) == (meta.dev(), meta.ino());
    // A value that was not kept up to date names some other directory.
    (plain && std::fs::metadata(&name).is_ok_and(same)).then_some(name)
}

/// Host paths to show, and the names that the caller gave to those that are links.
type Shown = (Vec<Bind>, Vec<(PathBuf, PathBuf)>);

/// `--ro` and `--rw` paths, resolved, parents before children, each once. `own`: the tree, if commands write to it.
pub(super) fn binds(settings: &Settings, own: Option<&Path>) -> Result<Shown, Error> {
    let own = own.filter(|_| settings.access == Access::Rw).map(Path::to_owned);
    let written: Vec<PathBuf> =
        settings.rw.iter().filter_map(|path| std::fs::canonicalize(path).ok()).chain(own).collect();
    let mut binds: Vec<Bind> = Vec::with_capacity(settings.ro.len() + settings.rw.len());
    let mut aliases = Vec::new();
    for (list, writable) in [(&settings.ro, false), (&settings.rw, true)] {
        for path in list {
            let fail = |why| Error::Bind { path: path.clone(), why };
            let real = std::fs::canonicalize(path).map_err(fail)?;
            if let Some(link) = planted(path, &real, &written).map_err(fail)? {
                return Err(fail(io::Error::other(format!(
                    "it leads through the link `{}`, which a command may have put there (`--rw`): name what it leads to",
                    crate::base::text::os(&link)
                ))));
            }
            let meta = std::fs::metadata(&real).map_err(fail)?;
            let (directory, of) = (meta.is_dir(), meta.file_type());
            if !writable && (of.is_socket() || of.is_fifo()) {
                // Read-only says nothing of these: what is sent to one arrives.
                return Err(fail(io::Error::other(
                    "it is a socket or a FIFO, which read-only does not hold for",
                )));
            }
            if real != *path && !path.components().any(|c| c == Component::ParentDir) {
                aliases.push((path.clone(), real.clone()));
            }
            let kind = if directory && !writable { BindKind::Veiled } else { BindKind::Plain };
            binds.push(Bind { path: real, writable, directory, kind });
        }
    }
    binds.sort_by(|a, b| a.path.as_os_str().as_bytes().cmp(b.path.as_os_str().as_bytes()));
    binds.dedup_by(|a, b| a == b);
    for pair in binds.windows(2) {
        if let [a, b] = pair
            && a.path == b.path
        {
            let why = io::Error::other("it is asked for both read-only and writable");
            return Err(Error::Bind { path: a.path.clone(), why });
        }
    }
    Ok((binds, aliases))
}

/// Where the command starts, in the workspace, which is seen at `at`: where the caller is (`start` in `root`), or
/// where `--cwd` says from there.
pub(super) fn inside(
    at: &Path,
    (root, start): (&Path, &Path),
    asked: Option<&Path>,
) -> Result<PathBuf, Error> {
    // The whole machine is shown at another path than its own.
    let start = match start.strip_prefix(root) {
        Ok(below) if !below.as_os_str().is_empty() => at.join(below),
        _ => at.to_owned(),
    };
    let Some(asked) = asked else { return Ok(start) };
    // Inside it has that name, too.
    let named = asked.strip_prefix("/workspace").ok().filter(|_| !at.starts_with("/workspace"));
    let asked = &named.map_or_else(|| asked.to_owned(), |below| at.join(below));
    // Collected from its parts: `.` in the middle or at the end means nothing.
    let path: PathBuf = start.join(asked).components().collect();
    let plain = !path.components().any(|c| c == Component::ParentDir);
    if plain && path.starts_with(at) {
        Ok(path)
    } else {
        Err(Error::Cwd { path: asked.to_owned(), at: at.to_owned() })
    }
}

/// The name by which the caller knows `cwd`, in a workspace at `at` that is `alias` to it as well.
pub(super) fn known_as(alias: Option<&Path>, at: &Path, cwd: &Path) -> PathBuf {
    match (alias, cwd.strip_prefix(at)) {
        (Some(name), Ok(rest)) if !rest.as_os_str().is_empty() => name.join(rest),
        (Some(name), Ok(_)) => name.to_owned(),
        _ => cwd.to_owned(),
    }
}

/// Links on one path, as many as the kernel follows.
const LINKS: u32 = 40;

/// The first link on the way from `path` to `real` that lies where commands may write: whoever wrote it there chose
/// what the next jail shows. Also what the way does not lead to any more.
fn planted(path: &Path, real: &Path, written: &[PathBuf]) -> io::Result<Option<PathBuf>> {
    if path == real || written.is_empty() {
        return Ok(None);
    }
    let mut todo: VecDeque<PathBuf> = parts(path).into();
    let mut here = PathBuf::from("/");
    let mut links = 0;
    while let Some(name) = todo.pop_front() {
        if name == Path::new("..") {
            here.pop();
            continue;
        }
        let next = here.join(&name);
        if !std::fs::symlink_metadata(&next)?.is_symlink() {
            here = next;
            continue;
        }
        links += 1;
        if links > LINKS || written.iter().any(|dir| here.starts_with(dir)) {
            return Ok(Some(next));
        }
        let target = std::fs::read_link(&next)?;
        if target.is_absolute() {
            here = PathBuf::from("/");
        }
        todo = parts(&target).into_iter().chain(todo).collect();
    }
    Ok((here != real).then(|| path.to_owned()))
}

fn parts(path: &Path) -> Vec<PathBuf> {
    let part = |c| match c {
        Component::Normal(_) | Component::ParentDir => Some(PathBuf::from(Component::as_os_str(c))),
        _ => None,
    };
    path.components().filter_map(part).collect()
}

/// Refuse to show aj's own state, or sockets of other programs: all paths are free of links by now.
pub(super) fn binds_and_state(spec: &Spec, state: &Path, insist: bool) -> Result<(), Error> {
    if spec.binds.is_empty() {
        return Ok(());
    }
    for bind in spec.binds.iter().filter(|b| b.writable || !insist) {
        // Whoever insists must not be told only then that nothing can be shown there.
        plan::place(&bind.path)?;
        let holds = state.starts_with(&bind.path);
        let way = if bind.writable { WayOut::Elsewhere } else { WayOut::Insist };
        if holds && bind.writable {
            return Err(refuse(&bind.path, "contains aj's state directory, which no jail may write", way));
        }
        if holds {
            return Err(refuse(&bind.path, "contains aj's state directory", way));
        }
        if bind.path.starts_with(state) {
            return Err(refuse(&bind.path, "is inside aj's state directory", way));
        }
        if !insist && SOCKETS.iter().any(|s| bind.path == Path::new(s)) {
            return Err(refuse(&bind.path, "holds sockets of other programs", WayOut::Insist));
        }
    }
    Ok(())
}

/// Refuse what would show the user's keys or aj's own state, and what an overlay cannot change.
pub(super) fn workspace(
    (path, meta): (&Path, &Metadata),
    state: &Path,
    settings: &Settings,
    insist: bool,
) -> Result<Owner, Error> {
    if path.starts_with(state) {
        return Err(refuse(path, "is inside aj's state directory", WayOut::Elsewhere));
    }
    let holds_state = state.starts_with(path);
    if let Some(why) = private(path, meta, settings.access).filter(|_| !insist) {
        // Both at once: whoever insists on the first must not be told of the second only then.
        return Err(if holds_state && settings.access != Access::Ro {
            let why = format!("{why}, and contains aj's state directory");
            refuse(path, why, WayOut::MoveStateAndInsist)
        } else {
            refuse(path, why, WayOut::Insist)
        });
    }
    match settings.access {
        _ if !holds_state => {}
        // An upper layer below its own lower one: older kernels refuse that, and newer ones show it.
        Access::Overlay => {
            let why = "contains aj's state directory, where its changes would be kept";
            return Err(refuse(path, why, WayOut::MoveState));
        }
        Access::Rw => {
            let why = "contains aj's state directory, which no jail may write";
            return Err(refuse(path, why, WayOut::MoveState));
        }
        Access::Ro if !insist => {
            return Err(refuse(path, "contains aj's state directory", WayOut::Insist));
        }
        Access::Ro => {}
    }
    let (uid, gid) = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
    if uid != 0 && settings.access == Access::Overlay {
        for (what, theirs, ours) in [("user", meta.uid(), uid), ("group", meta.gid(), gid)] {
            if theirs != ours {
                // Neither way out leads to a place that the jail has itself.
                plan::place(path)?;
                return Err(Error::Foreign { path: path.to_owned(), what, theirs, ours });
            }
        }
    }
    Ok(Owner { uid: meta.uid(), gid: meta.gid() })
}

/// What makes a directory one that is not shown unless the user insists.
pub(super) fn private(path: &Path, meta: &Metadata, access: Access) -> Option<&'static str> {
    if path == Path::new("/") {
        return Some("is the whole machine");
    }
    let is_path = |m: Metadata| (m.dev(), m.ino()) == (meta.dev(), meta.ino());
    let home = env::HOME.absolute_path();
    if home.as_ref().is_some_and(|h| std::fs::metadata(h).is_ok_and(is_path)) {
        return Some("is your home directory, with every key and token in it");
    }
    if crate::ops::project::is_home(path, meta, home.as_deref()) {
        return Some("is its owner's home directory, with every key and token in it");
    }
    let sockets = access != Access::Overlay && SOCKETS.iter().any(|s| path == Path::new(s));
    sockets.then_some("holds sockets of other programs")
}

/// The limit of open files that somebody set, when the jail could not be made for want of descriptors:
/// pid 1 works under the command's own limit.
pub(super) fn too_few_files(resolved: &Resolved, outcome: &Outcome) -> Option<(String, u64)> {
    if !matches!(outcome, Outcome::Failed { errno, .. } if errno == "EMFILE") {
        return None;
    }
    match resolved.origin(Key::Nofile)? {
        Origin::BuiltIn | Origin::Host => None,
        origin => Some((resolved.setting_text(Key::Nofile, origin), resolved.settings.nofile?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Facts, Layer, Sources, resolve};
    use std::os::unix::fs::symlink;

    fn settings(ro: &[&Path], rw: &[&Path]) -> Settings {
        let paths = |list: &[&Path]| list.iter().map(|p| p.to_path_buf().into()).collect();
        let flags = Layer { ro: paths(ro), rw: paths(rw), ..Layer::default() };
        let facts = Facts { ram: 8 << 30, cpus: 4, nofile_soft: 1024, nofile_hard: 4096 };
        resolve(Sources { user: None, project: None, workspace: None, flags: &flags }, &facts)
            .unwrap()
            .settings
    }

    #[test]
    fn a_path_is_shown_once_and_under_the_name_it_was_given() {
        let dir = tempfile::tempdir().unwrap();
        let top = std::fs::canonicalize(dir.path()).unwrap();
        let [a, link, file] = ["a", "link", "a/file"].map(|n| top.join(n));
        std::fs::create_dir(&a).unwrap();
        std::fs::write(&file, "").unwrap();
        symlink("a", &link).unwrap();
        let (shown, names) = binds(&settings(&[&file, &a, &link], &[]), None).unwrap();
        let paths: Vec<_> = shown.iter().map(|b| (b.path.as_path(), b.directory)).collect();
        assert_eq!(paths, [(a.as_path(), true), (file.as_path(), false)]);
        assert_eq!(names, [(link.clone(), a.clone())]);
        // The same directory by two names, once for reading and once for writing.
        let e = binds(&settings(&[&a], &[&link]), None).unwrap_err();
        assert!(matches!(&e, Error::Bind { path, .. } if *path == a), "{e}");
        assert_eq!(
            e.to_string(),
            format!("cannot show `{}`: it is asked for both read-only and writable", a.display())
        );
    }

    #[test]
    fn a_link_that_a_command_may_have_made_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let top = std::fs::canonicalize(dir.path()).unwrap();
        let [secret, rw, below, link, user] =
            ["secret", "rw", "rw/x/b", "rw/link", "user"].map(|n| top.join(n));
        std::fs::create_dir_all(&secret).unwrap();
        std::fs::create_dir_all(&below).unwrap();
        assert!(binds(&settings(&[&below], &[&rw]), None).is_ok());
        // As after `mv x y; mkdir x; ln -s ../../secret x/b` in a jail.
        std::fs::rename(rw.join("x"), rw.join("y")).unwrap();
        std::fs::create_dir(rw.join("x")).unwrap();
        symlink("../../secret", &below).unwrap();
        symlink(&secret, &link).unwrap();
        symlink(&link, &user).unwrap();
        for (ro, rw) in [
            (&[&*below][..], &[&*rw][..]),
            (&[&*link], &[&*rw]),
            (&[], &[&*rw, &*below]),
            // By way of one that is the user's.
            (&[&*user], &[&*rw]),
        ] {
            let e = binds(&settings(ro, rw), None).unwrap_err();
            assert!(e.to_string().contains("leads through the link"), "{ro:?} {rw:?}: {e}");
        }
        // No command writes there.
        assert!(binds(&settings(&[&below, &user], &[]), None).is_ok());
        assert!(binds(&settings(&[&below], &[&secret]), None).is_err(), "asked for twice");
        // One that is the user's alone.
        assert!(binds(&settings(&[], &[&user, &secret]), None).is_ok());
        let own = Settings { access: Access::Rw, ..settings(&[&below], &[]) };
        assert!(binds(&own, Some(&rw)).is_err());
        assert!(binds(&own, Some(&secret)).is_ok());
    }

    #[test]
    fn a_start_directory_is_below_the_workspace() {
        let at = Path::new("/home/me/p");
        let ask = |path: &str| inside(at, (at, at), Some(Path::new(path))).ok();
        assert_eq!(inside(at, (at, at), None).ok().as_deref(), Some(at));
        let below = Path::new("/home/me/p/src");
        assert_eq!(inside(at, (at, below), None).ok().as_deref(), Some(below));
        assert_eq!(inside(at, (at, below), Some(Path::new("x"))).ok(), Some("/home/me/p/src/x".into()));
        assert_eq!(ask("src/x"), Some("/home/me/p/src/x".into()));
        assert_eq!(ask("/home/me/p/src"), Some("/home/me/p/src".into()));
        for bad in ["..", "src/../..", "/", "/home/me", "/proc/self/fd/42", "/home/me/p2"] {
            assert_eq!(ask(bad), None, "{bad}");
        }
    }
}
