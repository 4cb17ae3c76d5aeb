//! What to do about a start that failed and about a state directory that cannot be used: one text for
//! `aj doctor`, `aj exec` and whatever reads the ledger.

use std::path::Path;

use nix::errno::Errno;

use super::RANGE;
use crate::base::{env, text};
use crate::host::{self, read};
use crate::store::Error as StoreError;
use crate::store::layout;
use crate::sys;

/// What to do about a start that failed at `step` with `errno`, on this machine.
pub fn fixes(step: &str, errno: &str) -> Vec<String> {
    if let Some(id) = env::AGENTJAIL.get() {
        let id = text::os(&id);
        return vec![format!("run aj outside: this is in the jail `{id}` already, and jails do not nest")];
    }
    // The machine is not to blame for a directory of ours that was shut.
    if let (Some((_, path)), "EACCES", Ok(state)) = (step.split_once(' '), errno, layout::locate()) {
        let path = path.trim_matches('`');
        let shut = closed(path, &text::os(&state));
        if shut != path {
            return vec![open_up(&shut)];
        }
    }
    host::fixes(step, errno, &read::machine(RANGE))
}

/// What to do where a limit cannot be held on this machine.
pub fn limit_fixes() -> Vec<String> {
    host::cgroups::fixes(&read::machine(RANGE))
}

/// What to do where a file would grow above the limit that the caller has set.
pub const FILE_SIZES: &str = "raise the limit of file sizes: `ulimit -f unlimited`";

/// The same for files that are open.
const OPEN_FILES: &str = "raise the limit of open files: `ulimit -n 4096`";

/// What to do where this, of all the errors below another one, says that a limit of the caller's was met.
pub fn limit_fix(error: &(dyn std::error::Error + 'static)) -> Option<&'static str> {
    let by_name = error.downcast_ref::<sys::Error>().map(|e| e.errno);
    let by_number = || error.downcast_ref::<std::io::Error>()?.raw_os_error().map(Errno::from_raw);
    match by_name.or_else(by_number)? {
        // We have bounds of our own that are told by the same errno.
        Errno::EFBIG if sys::signal::has_file_size_limit() => Some(FILE_SIZES),
        Errno::EMFILE => Some(OPEN_FILES),
        _ => None,
    }
}

/// What a failed call was about, where that is not in the state directory.
pub fn outside_of_state(e: &StoreError) -> Option<&str> {
    let StoreError::Sys(e) = e else { return None };
    let outside = layout::locate().is_ok_and(|state| !Path::new(&e.arg).starts_with(state));
    (outside && matches!(e.errno, Errno::EACCES | Errno::EPERM)).then_some(e.arg.as_str())
}

const ELSEWHERE: &str = "set AJ_STATE_DIR to an absolute path on a local file system that you may write to";
const NO_SPACE: &str = "free some space (in a workspace: `aj fs rm WORKSPACE PATH`), or set AJ_STATE_DIR to a directory on another file system";

/// What to do about a state directory that cannot be used.
pub fn state_fixes(e: &StoreError) -> Vec<String> {
    let one = |text: String| vec![text];
    match e {
        StoreError::Exposed { path, .. } => {
            one(format!("if nobody else has put anything in, close it: `chmod 700 '{path}'`"))
        }
        StoreError::ForeignOwner { path, .. } => one(format!(
            "set AJ_STATE_DIR to a directory of your own (with sudo: `sudo -H aj …`), or `chown` `{path}`"
        )),
        StoreError::NotAState { .. } => {
            one("set AJ_STATE_DIR to an empty directory, or to one that does not exist yet".to_owned())
        }
        StoreError::Newer { .. } => {
            one("update this aj, or set AJ_STATE_DIR to another directory".to_owned())
        }
        StoreError::BadVersion { path, .. } => {
            one(format!("if no newer aj was ever used here, move it away: `mv '{path}' '{path}.bad'`"))
        }
        StoreError::Busy { .. } => one("wait for the other aj, or end it".to_owned()),
        StoreError::Symlink { .. } => {
            one("set AJ_STATE_DIR to the directory that the link leads to, or to one of your own".to_owned())
        }
        StoreError::NoHome | StoreError::Relative { .. } | StoreError::NotADirectory { .. } => {
            one(ELSEWHERE.to_owned())
        }
        StoreError::Sys(e) if e.call == "chown" => fixes(&host::facts::step_of(e), &e.name()),
        StoreError::Sys(e) => one(state_call(e)),
        _ => Vec::new(),
    }
}

fn state_call(e: &sys::Error) -> String {
    let path = &e.arg;
    let state = layout::locate().map(|dir| text::os(&dir)).unwrap_or_default();
    let name = path.strip_prefix(&state).and_then(|rest| rest.strip_prefix('/'));
    match (e.errno, name) {
        (Errno::ENOSPC | Errno::EDQUOT, _) => NO_SPACE.to_owned(),
        (Errno::EFBIG, _) => FILE_SIZES.to_owned(),
        (Errno::EMFILE, _) => OPEN_FILES.to_owned(),
        (Errno::ENOTDIR | Errno::ELOOP | Errno::EEXIST, Some("cache")) => remake(path),
        (Errno::ENOTDIR | Errno::ELOOP | Errno::EEXIST, Some(_)) => {
            format!("move what is no directory away: `mv '{path}' '{path}.bad'`")
        }
        // Ours by its place, so it can be made ours by its mode.
        (Errno::EACCES, Some(_)) => open_up(&closed(path, &state)),
        _ => ELSEWHERE.to_owned(),
    }
}

/// What is to be opened first: a directory on the way that its owner cannot enter, or the thing itself.
fn closed(path: &str, state: &str) -> String {
    let way = Path::new(path).ancestors().take_while(|dir| dir.starts_with(state));
    way.filter(|dir| is_shut(dir)).last().map_or_else(|| path.to_owned(), text::os)
}

fn is_shut(dir: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::symlink_metadata(dir).is_ok_and(|meta| meta.is_dir() && meta.mode() & 0o700 != 0o700)
}

fn open_up(path: &str) -> String {
    format!("let yourself write to it: `chmod u+rwX '{path}'`")
}

fn remake(path: &str) -> String {
    format!("remove it, it is made again: `rm '{path}'`")
}

/// What to do when the jail's `/etc` could not be copied into the state directory.
pub fn etc_fixes(e: &std::io::Error) -> Vec<String> {
    let cache = layout::locate().map(|dir| dir.join("cache")).unwrap_or_default();
    let path = text::os(&cache);
    if e.get_ref().is_some_and(|inner| inner.is::<sys::Error>()) {
        // A lock that nobody holds.
        return vec![
            "set AJ_STATE_DIR to a directory on a local file system (ext4, xfs, btrfs): files cannot be locked there"
                .to_owned(),
        ];
    }
    vec![match e.raw_os_error().map(Errno::from_raw) {
        Some(Errno::ENOSPC | Errno::EDQUOT) => NO_SPACE.to_owned(),
        Some(Errno::ENOTDIR | Errno::ELOOP | Errno::EEXIST) => remake(&path),
        Some(errno) => state_call(&sys::Error::new("write", path, errno)),
        None => format!("remove it, it is made again: `rm -r '{path}'`"),
    }]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_trouble_of_the_state_directory_has_a_fix() {
        let call = |errno| StoreError::Sys(sys::Error::new("mkdir", "/x", errno));
        let all = [
            StoreError::NoHome,
            StoreError::Relative { value: "x".into() },
            StoreError::Symlink { path: "/x".into() },
            StoreError::Exposed { path: "/x".into(), mode: 0o755 },
            StoreError::ForeignOwner { path: "/x".into(), owner: 0, me: 1 },
            StoreError::NotAState { path: "/x".into() },
            StoreError::Newer { path: "/x".into(), found: "2".into(), known: 1 },
            StoreError::BadVersion { path: "/x".into(), text: "?".into() },
            call(Errno::EROFS),
            call(Errno::ENOSPC),
        ];
        for e in all {
            assert!(!state_fixes(&e).is_empty(), "{e}");
        }
        assert!(state_fixes(&call(Errno::ENOSPC)).concat().contains("free some space"));
        assert!(state_fixes(&call(Errno::EROFS)).concat().contains("AJ_STATE_DIR"));
    }

    #[test]
    fn the_state_is_not_blamed_for_what_lies_elsewhere() {
        let state = text::os(&layout::locate().unwrap());
        let of = |path: &str, errno| StoreError::Sys(sys::Error::new("open", path, errno));
        assert_eq!(outside_of_state(&of("/project/sub", Errno::EACCES)), Some("/project/sub"));
        assert_eq!(outside_of_state(&of("sub", Errno::EACCES)), Some("sub"));
        assert_eq!(outside_of_state(&of(&format!("{state}/trees"), Errno::EACCES)), None);
        assert_eq!(outside_of_state(&of("/project/sub", Errno::ENOSPC)), None);
    }

    #[test]
    fn what_is_wrong_inside_a_state_directory_is_named() {
        let state = text::os(&layout::locate().unwrap());
        let fix = |name: &str, errno| {
            let e = sys::Error::new("open", format!("{state}/{name}"), errno);
            state_fixes(&StoreError::Sys(e)).concat()
        };
        assert_eq!(
            fix("spool", Errno::EACCES),
            format!("let yourself write to it: `chmod u+rwX '{state}/spool'`")
        );
        assert_eq!(
            fix("trees", Errno::ENOTDIR),
            format!("move what is no directory away: `mv '{state}/trees' '{state}/trees.bad'`")
        );
        // The same by whichever call it is met.
        let etc = etc_fixes(&std::io::Error::from(Errno::ENOTDIR)).concat();
        assert_eq!((fix("cache", Errno::ENOTDIR), etc.clone()), (etc.clone(), etc));
        assert_eq!(fix("version", Errno::EFBIG), "raise the limit of file sizes: `ulimit -f unlimited`");
        assert!(fix("spool", Errno::EROFS).contains("AJ_STATE_DIR"));
    }
}
