//! What can be seen in a jail, as far as the environment of a command depends on it: for the command that a
//! jail is made for, and for those that join it later.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Error, Request, shell, streams};
use crate::base::env;
use crate::base::id::Id;
use crate::jail::plan;
use crate::policy::environment;
use crate::policy::flavor::is_below;
use crate::policy::settings::Settings;

/// It. Paths are kept as they are, whatever bytes they have.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Sight {
    /// Where the tree is seen.
    pub(super) at: OsString,
    /// Directories that are seen with all that is below.
    pub(super) whole: Vec<OsString>,
    /// Directories of which programs are seen.
    pub(super) some: Vec<OsString>,
    /// Other names, and what they lead to.
    pub(super) aliases: Vec<(OsString, OsString)>,
    /// The name of the machine that it is.
    pub(super) host: String,
    /// Variables of the tools that are seen.
    pub(super) variables: Vec<(OsString, OsString)>,
}

/// What a command is started with.
#[derive(Debug)]
pub(super) struct Started {
    /// Its whole environment.
    pub(super) env: Vec<(OsString, OsString)>,
    /// Where a command without a slash is looked for.
    pub(super) search: Vec<PathBuf>,
    /// The command and its arguments.
    pub(super) argv: Vec<OsString>,
}

impl Sight {
    fn is_real(&self, dir: &Path) -> bool {
        // What most are, seen by bytes: comparing paths is a tenth of what is planned for a start.
        is_below(dir.as_os_str().as_bytes(), b"/usr")
            || dir.starts_with("/usr")
            || plan::USR_NAMES.iter().any(|n| dir.strip_prefix("/").is_ok_and(|d| d.starts_with(n)))
            || dir.starts_with(&self.at)
            || self.whole.iter().any(|w| dir.starts_with(w))
            || self.some.iter().any(|s| dir == Path::new(s))
    }

    /// Whether a directory of the host's is seen at its own path.
    pub(super) fn shows(&self, dir: &Path) -> bool {
        // Of a directory under another name, only what is there under its own.
        let through = |(name, target): &(OsString, OsString)| {
            let target = Path::new(target);
            dir.strip_prefix(name).is_ok_and(|rest| self.is_real(target) || self.is_real(&target.join(rest)))
        };
        self.is_real(dir) || self.aliases.iter().any(through)
    }

    /// The command of `request` with its environment; `logical` is the name by which the caller knows its
    /// working directory.
    pub(super) fn start(
        &self,
        request: &Request,
        settings: &Settings,
        logical: &Path,
        id: Id,
    ) -> Result<Started, Error> {
        let visible = |dir: &Path| self.shows(dir);
        let terminal = streams::terminal(request)?.is_some();
        let chosen = request.argv.is_empty().then(|| shell::choose(&visible));
        let mut variables = self.variables.clone();
        if let Some(shell) = chosen.as_deref().filter(|_| terminal) {
            variables.extend(shell::prompt(shell, &self.host));
        }
        let inside = environment::Inside {
            user: if settings.as_root { "root" } else { "agent" },
            home: Path::new("/home/agent"),
            shell: chosen.as_deref().unwrap_or(Path::new("/bin/sh")),
            cwd: logical,
            id: id.as_str(),
            tools: &variables,
            path_first: &[],
            visible: &visible,
        };
        // Those of a terminal change with its window, and these variables would be believed before it.
        let fixed = |name: &OsStr| terminal && (name == "LINES" || name == "COLUMNS");
        let caller =
            env::all().filter(|(name, _)| !fixed(name) || settings.pass.iter().any(|passed| passed == name));
        let env = environment::build(settings, caller, &inside);
        let search = env
            .iter()
            .find(|(k, _)| k == "PATH")
            .map(|(_, v)| std::env::split_paths(v).filter(|p| p.is_absolute()).collect())
            .unwrap_or_default();
        let argv = match chosen {
            Some(shell) => vec![shell.into()],
            None => request.argv.clone(),
        };
        Ok(Started { env, search, argv })
    }
}
