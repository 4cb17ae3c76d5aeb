//! A run without namespaces: when that is tried, what it cannot have, and where things are then.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use super::{Error, chain};
use crate::jail::confine::REQUIRE;
use crate::jail::etc;
use crate::jail::launch;
use crate::jail::plan::{self, Grounds, Plan};
use crate::jail::spec::{Mask, Spec, Storage};
use crate::policy::settings::{Access, Mode, Settings};
use crate::schema::jail::Outcome;
use crate::store::refill;
use crate::store::trees::Tree;
use crate::sys::{self, at, landlock, probe};

/// Directories of the run's own in its tree.
const OWN: [&str; 2] = ["home", "tmp"];

/// Whether `mode` lets a run go on without namespaces after this.
pub(super) fn may_follow(settings: &Settings, errno: &str) -> bool {
    let refused = ["EPERM", "EACCES", "ENOSPC", "EUSERS", "ENOSYS", "EINVAL", "ENODEV", "EOPNOTSUPP"];
    settings.mode == Mode::Lite && refused.contains(&errno)
}

/// The same for an error of the launcher's.
pub(super) fn may_follow_error(settings: &Settings, e: &Error) -> bool {
    matches!(e, Error::Launch(e) if may_follow(settings, &e.name()))
}

/// The same for a jail whose command never ran.
pub(super) fn may_follow_end(settings: &Settings, outcome: &Outcome, exec: bool) -> bool {
    match outcome {
        Outcome::Failed { step, errno, .. } => {
            !exec && !step.starts_with(REQUIRE) && !step.starts_with("chdir") && may_follow(settings, errno)
        }
        _ => false,
    }
}

/// What cannot be had without namespaces is refused, not left out in silence.
pub(super) fn check(settings: &Settings) -> Result<(), Error> {
    let refuse = |why: &str, way: &'static str| Err(Error::Lite { why: why.to_owned(), way });
    if nix::unistd::geteuid().is_root() {
        return refuse(
            "root keeps its power over files and processes that nothing but a user namespace takes away",
            "run aj as an ordinary user: `setpriv --reuid UID --regid GID --clear-groups aj exec …`",
        );
    }
    if landlock::abi() < landlock::OLDEST {
        let refused = probe::landlock_abi().err();
        let filtered = refused.as_ref().is_some_and(|e| matches!(e.errno, Errno::EPERM | Errno::EACCES));
        let way = match filtered {
            true => "run aj outside of what filters its system calls",
            false => "boot a kernel of version 5.19 or later with `landlock` among its security modules",
        };
        let why = super::mode::no_landlock(refused);
        return refuse(&format!("{why}, which is all that would keep files apart"), way);
    }
    if settings.as_root || settings.nested_userns {
        return refuse(
            "a user namespace is asked for, and there is none",
            "leave out `--as-root` and `--nested-userns`",
        );
    }
    Ok(())
}

/// Move what has no place of its own without mounts into the tree of the run.
pub(super) fn settle_in(spec: &mut Spec, tree: PathBuf) {
    let before = spec.at.clone();
    if spec.access == Access::Overlay {
        spec.storage = Storage::Copy;
        spec.at = tree.join("copy");
    }
    spec.sides.clear();
    spec.caches.clear();
    spec.rooms.clear();
    let moved = |path: &Path| {
        path.strip_prefix(&before).map_or_else(
            |_| path.to_owned(),
            |below| {
                if below.as_os_str().is_empty() { spec.at.clone() } else { spec.at.join(below) }
            },
        )
    };
    spec.search.iter_mut().for_each(|dir| *dir = moved(dir));
    let cwd = moved(&spec.cwd);
    let path = std::env::join_paths(&spec.search).ok();
    for (name, value) in &mut spec.env {
        let new: Option<OsString> = match name.to_str() {
            Some("HOME") => Some(tree.join("home").into()),
            Some("PWD") => Some(cwd.clone().into()),
            Some("PATH") => path.clone(),
            _ => None,
        };
        *value = new.unwrap_or_else(|| std::mem::take(value));
    }
    spec.env.retain(|(name, _)| name != "TMPDIR" && name != "GIT_CONFIG_SYSTEM");
    // The one of the host may hold anything.
    spec.env.push(("GIT_CONFIG_SYSTEM".into(), spec.etc.join("gitconfig").into()));
    spec.env.push(("TMPDIR".into(), tree.join("tmp").into()));
    spec.cwd = cwd;
    spec.tree = Some(tree);
}

/// The plan. What would be covered by mounts cannot be: then nothing runs.
pub(super) fn plan(spec: &Spec, masks: &[Mask], covered: bool) -> Result<Plan, Error> {
    if let Some(mask) = masks.first() {
        return Err(Error::Lite {
            why: format!("`{}` could not be hidden", crate::base::text::os(&mask.path)),
            way: "leave out `--rw` and `--ro`: the private copy is made without secrets (or `--show '**'`)",
        });
    }
    if covered {
        return Err(Error::Lite {
            why: "git's settings and hooks, and set-id programs, could not be kept from being written"
                .to_owned(),
            way: "leave out `--rw`: the command works on a private copy then",
        });
    }
    let own = spec.tree.iter().flat_map(|tree| OWN.map(|name| tree.join(name))).collect();
    let gitconfig = spec.etc.join("gitconfig").is_file();
    let grounds = Grounds { etc: etc::visible(), gitconfig, own };
    Ok(plan::lite(spec, &launch::host_root(spec.net), &grounds)?)
}

/// Make the directories of the run's own.
pub(super) fn make(tree: &Tree) -> Result<(), Error> {
    for name in OWN {
        match at::make_dir(tree, name.as_bytes(), 0o700) {
            Err(e) if e.errno != Errno::EEXIST => {
                return Err(Error::Launch(sys::Error { call: "mkdir", ..e }));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Remove them. What cannot be is said.
pub(super) fn clean(tree: &Tree) -> Option<String> {
    let remove = |name: &str| {
        let name = std::ffi::CString::new(name).unwrap_or_default();
        refill::remove(tree.path(), &name)
    };
    OWN.into_iter()
        .map(remove)
        .find_map(Result::err)
        .map(|e| format!("what the command left could not be removed: {}", chain(&e)))
}
