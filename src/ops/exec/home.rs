//! Places in the home of a workspace that something is mounted on, or linked to: caches, and directories
//! of a host whose own home is `/home/agent`. In the home of a one-shot they are made with the jail.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;

use super::Error;
use crate::base::text;
use crate::jail::plan::Plan;
use crate::sys;
use crate::sys::at;
use crate::sys::openat2::{self, For};

/// The directory of the jail's tmpfs that stands for the home in a plan.
const STAND_IN: &[u8] = b"home/";

/// Make what `plan` wants in the home at `home`, for `owner`. What a jail wrote is in there: nothing of
/// it is followed, and what is in the way is an error.
pub(super) fn prepare(home: &Path, plan: &Plan, owner: Option<(u32, u32)>) -> Result<(), Error> {
    let below = |path: &CString| path.to_bytes().strip_prefix(STAND_IN).map(<[u8]>::to_vec);
    let dirs: Vec<Vec<u8>> = plan.dirs.iter().filter_map(below).collect();
    let files: Vec<Vec<u8>> = plan.files.iter().filter_map(below).collect();
    let links: Vec<(&[u8], Vec<u8>)> =
        plan.links.iter().filter_map(|(target, path)| Some((target.to_bytes(), below(path)?))).collect();
    if dirs.is_empty() && files.is_empty() && links.is_empty() {
        return Ok(());
    }
    let failed = |path: &[u8]| {
        let path = format!("/home/agent/{}", text::printable(path));
        move |e: sys::Error| Error::Home { path, source: e, workspace: String::new(), volume: None }
    };
    let top = openat2::resolved(home.as_os_str().as_bytes()).map_err(failed(b""))?;
    for dir in &dirs {
        make(&top, dir, |parent, name| at::make_dir(parent, name, 0o755), owner).map_err(failed(dir))?;
        openat2::beneath(&top, dir, For::Listing).map_err(failed(dir))?;
    }
    for file in &files {
        make(&top, file, |parent, name| openat2::create(parent, name, 0o644).map(drop), owner)
            .map_err(failed(file))?;
    }
    for (target, link) in &links {
        make(&top, link, |parent, name| at::make_link(parent, name, target), owner).map_err(failed(link))?;
    }
    Ok(())
}

/// Make one, if nothing is there.
fn make(
    top: &OwnedFd,
    path: &[u8],
    made: impl FnOnce(&OwnedFd, &[u8]) -> sys::Result<()>,
    owner: Option<(u32, u32)>,
) -> sys::Result<()> {
    let slash = path.iter().rposition(|b| *b == b'/');
    let (parent, name) = match slash {
        Some(at) => (path.get(..at).unwrap_or_default(), path.get(at + 1..).unwrap_or_default()),
        None => (&b"."[..], path),
    };
    let parent = openat2::beneath(top.as_fd(), parent, For::Passing)?;
    match made(&parent, name) {
        Ok(()) => {}
        Err(e) if e.errno == Errno::EEXIST => return Ok(()),
        Err(e) => return Err(e),
    }
    let Some((uid, gid)) = owner else { return Ok(()) };
    let made = openat2::beneath(&parent, name, For::Naming)?;
    at::set_owner(&made, Some(uid), Some(gid))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn plan(dirs: &[&str], files: &[&str], links: &[(&str, &str)]) -> Plan {
        let c = |text: &&str| CString::new(*text).unwrap();
        Plan {
            dirs: dirs.iter().map(c).collect(),
            files: files.iter().map(c).collect(),
            links: links.iter().map(|(target, path)| (c(target), c(path))).collect(),
            ..Plan::default()
        }
    }

    #[test]
    fn nothing_that_a_jail_left_in_its_home_is_followed_or_replaced() {
        let t = tempfile::tempdir().unwrap();
        let top = t.path().canonicalize().unwrap();
        let (home, outside) = (top.join("home"), top.join("outside"));
        fs::create_dir_all(home.join("there")).unwrap();
        fs::create_dir(&outside).unwrap();
        symlink(&outside, home.join("out")).unwrap();
        symlink("there", home.join("in")).unwrap();
        fs::write(home.join("file"), "the jail's").unwrap();
        let wants = plan(
            &["root/x", "home", "home/new", "home/new/deep", "home/there"],
            &["home/new/f", "home/file"],
            &[("/cache", "home/new/l"), ("/cache", "home/in"), ("/cache", "root/l")],
        );
        for _ in 0..2 {
            prepare(&home, &wants, None).unwrap();
        }
        assert!(home.join("new/deep").is_dir() && home.join("new/f").is_file());
        assert_eq!(fs::read_link(home.join("new/l")).unwrap(), Path::new("/cache"));
        assert_eq!(fs::read_link(home.join("in")).unwrap(), Path::new("there"), "what is there stays");
        assert_eq!(fs::read(home.join("file")).unwrap(), b"the jail's");
        for bad in [
            plan(&["home/out", "home/out/x"], &[], &[]),
            plan(&["home/in/x"], &[], &[]),
            plan(&["home/file/x"], &[], &[]),
            plan(&[], &["home/out/f"], &[]),
            plan(&[], &[], &[("/cache", "home/out/l")]),
        ] {
            let e = prepare(&home, &bad, None).unwrap_err();
            assert!(matches!(e, Error::Home { .. }), "{e}");
        }
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
        assert_eq!(fs::read_dir(home.join("there")).unwrap().count(), 0);
    }
}
