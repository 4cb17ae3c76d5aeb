//! Folding the sources into one set of settings, remembering where each value came from.

use std::time::Duration;

use super::file::{ProjectFile, UserFile};
use super::fold::Fold;
use super::hide::Pattern;
use super::keep::Keep;
use super::key::Key;
use super::layer::Layer;
use super::settings::{Access, Caches, Mode, Net, Seccomp, Settings, Storage, Tools};
use super::stored::Stored;

/// What the built-in values depend on, measured by the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// Memory of the machine in bytes; 0 when unknown.
    pub ram: u64,
    /// Processors online.
    pub cpus: u64,
    /// The caller's soft limit of open files.
    pub nofile_soft: u64,
    /// The caller's hard limit of open files, which nothing here can pass.
    pub nofile_hard: u64,
}

impl Facts {
    /// Half of memory in whole MiB, at most 8 GiB: leaves the machine usable, fits real builds.
    pub fn default_mem(&self) -> u64 {
        match self.ram {
            0 => 8 << 30,
            ram => ((ram / 2) & !((1 << 20) - 1)).clamp(1 << 20, 8 << 30),
        }
    }

    /// As the memory limit but at most 4 GiB: pages of the tmpfs are memory.
    fn default_tmp(&self) -> u64 {
        self.default_mem().min(4 << 30)
    }

    /// The caller's own soft limit; at least 4096 (1024 is too few for node and language servers),
    /// at most 65536 (programs that close or poll every possible descriptor), never above the hard one.
    fn default_nofile(&self) -> u64 {
        self.nofile_soft.clamp(4096, 65_536).min(self.nofile_hard)
    }
}

/// Where a value comes from. [`Resolved::origin_text`] writes it for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// Built in.
    BuiltIn,
    /// A preset that comes with `aj`.
    Preset,
    /// A preset of the user configuration, with the line.
    UserPreset(u32),
    /// `[defaults]` or `[env]` of the user configuration, with the line.
    User(u32),
    /// `aj.toml`, with the line.
    Project(u32),
    /// A preset that `aj.toml` names, with the line where it does.
    ProjectPreset(u32),
    /// What the workspace keeps, with the line of its record.
    Workspace(u32),
    /// The command line.
    Flag,
    /// `[limits.max]` of the user configuration, with the line.
    Max(u32),
    /// The host's own hard limit.
    Host,
}

impl Origin {
    /// Whether somebody asked for the value.
    pub(super) fn is_explicit(self) -> bool {
        match self {
            Origin::BuiltIn | Origin::Preset | Origin::ProjectPreset(_) | Origin::Host => false,
            Origin::UserPreset(_)
            | Origin::User(_)
            | Origin::Project(_)
            | Origin::Workspace(_)
            | Origin::Flag
            | Origin::Max(_) => true,
        }
    }
}

/// Who asked for a limit: what is to be done where it cannot be enforced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// Nobody: it is a default.
    Nobody,
    /// The project, which may narrow what the user allows but not keep the user from working: it is
    /// reported. The text names the setting and its place.
    Project(String),
    /// The user: it is refused unless `best_effort` holds.
    User(String),
}

/// The sources of one resolution, read by `ops`.
#[derive(Debug, Clone, Copy)]
pub struct Sources<'a> {
    /// The user configuration, when there is one.
    pub user: Option<&'a UserFile>,
    /// The project's file, when there is one.
    pub project: Option<&'a ProjectFile>,
    /// What the workspace keeps, when the command runs in one.
    pub workspace: Option<&'a Stored>,
    /// The command line.
    pub flags: &'a Layer,
}

/// Why there are no settings.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A flag asks for more than `[limits.max]` allows.
    #[error("`{flag} {asked}` is above the hard limit {max} ({key} at {file}:{line})")]
    AboveMax {
        /// The flag.
        flag: &'static str,
        /// The value it gave.
        asked: String,
        /// The bound.
        max: String,
        /// `limits.max.mem` and the like.
        key: String,
        /// The user configuration as shown.
        file: String,
        /// Line of the bound.
        line: u32,
    },
    /// No preset of that name.
    #[error("there is no preset `{name}` ({origin})")]
    UnknownPreset {
        /// The name, printable.
        name: String,
        /// Who named it.
        origin: String,
        /// The nearest known one.
        meant: Option<String>,
        /// All known ones.
        known: Vec<String>,
    },
}

/// The settings and where they came from.
#[derive(Debug, Clone, PartialEq)]
pub struct Resolved {
    /// What the jail is made from.
    pub settings: Settings,
    /// How much of what runs changed is kept.
    pub keep: Keep,
    /// What did not go as written, one line each: unknown keys, ignored values, lowered limits.
    pub warnings: Vec<String>,
    /// Layers of the jail that are weaker than usual because somebody chose so, one line each.
    pub weakened: Vec<String>,
    pub(super) origins: [Origin; Key::SCALARS],
    /// In the order of `settings.ro`, `rw`, `show`, `hide`, `require`, `env`, `pass`.
    pub(super) list_origins: [Vec<Origin>; 7],
    pub(super) names: Names,
    /// Of limits that may not be enforceable: what the user asked for below what the project narrowed.
    pub(super) demands: Demands,
}

/// The origins of limits that the user asked for, whatever a project made of them since.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Demands {
    pub(super) mem: Option<Origin>,
    pub(super) cpus: Option<Origin>,
    pub(super) pids: Option<Origin>,
    pub(super) disk: Option<Origin>,
    pub(super) io_read: Option<Origin>,
    pub(super) io_write: Option<Origin>,
}

/// What origins are written with.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Names {
    pub(super) preset: Option<String>,
    pub(super) project_preset: Option<String>,
    pub(super) user: Option<String>,
    pub(super) project: Option<String>,
    pub(super) workspace: Option<String>,
}

impl Resolved {
    /// Who asked for the limit `key`: [`Key::Mem`], [`Key::Cpus`], [`Key::Pids`], [`Key::Disk`] and those of reading and
    /// writing, which a machine may be unable to enforce.
    pub fn asked(&self, key: Key) -> Asked {
        let (is_set, demand) = match key {
            Key::Mem => (self.settings.mem.is_some(), self.demands.mem),
            Key::Cpus => (self.settings.cpu_millis.is_some(), self.demands.cpus),
            Key::Pids => (self.settings.pids.is_some(), self.demands.pids),
            Key::Disk => (self.settings.disk.is_some(), self.demands.disk),
            Key::IoRead => (self.settings.io_read.is_some(), self.demands.io_read),
            Key::IoWrite => (self.settings.io_write.is_some(), self.demands.io_write),
            _ => return Asked::Nobody,
        };
        let Some(origin) = self.origin(key).filter(|_| is_set) else { return Asked::Nobody };
        match (origin, demand) {
            // "No limit" cannot fail to be enforced, and a default is not worth a word.
            (Origin::BuiltIn | Origin::Preset | Origin::Host, _) => Asked::Nobody,
            (Origin::Project(_) | Origin::ProjectPreset(_), Some(users)) => {
                Asked::User(self.setting_text(key, users))
            }
            (Origin::Project(_), None) => Asked::Project(self.setting_text(key, origin)),
            (Origin::ProjectPreset(_), None) => Asked::Nobody,
            (
                Origin::UserPreset(_)
                | Origin::User(_)
                | Origin::Workspace(_)
                | Origin::Flag
                | Origin::Max(_),
                _,
            ) => Asked::User(self.setting_text(key, origin)),
        }
    }

    /// Whether somebody named a value for `key`: itself, or by way of a preset.
    pub fn is_named(&self, key: Key) -> bool {
        self.origin(key).is_some_and(|o| !matches!(o, Origin::BuiltIn | Origin::Host))
    }

    /// Whether this pattern of `hide` or `show` comes from the command line.
    pub fn is_flag(&self, pattern: &Pattern) -> bool {
        let [_, _, of_show, of_hide, ..] = &self.list_origins;
        let show = self.settings.show.iter().zip(of_show);
        let mut all = self.settings.hide.iter().zip(of_hide).chain(show);
        all.any(|(p, origin)| p == pattern && *origin == Origin::Flag)
    }

    /// The setting as whoever set it would look for it: `--mem`, or `mem` and the file and line.
    pub fn setting_text(&self, key: Key, origin: Origin) -> String {
        match origin {
            Origin::Flag => format!("`{}`", key.flag()),
            Origin::Max(line) => {
                let file = self.names.user.as_deref().unwrap_or("config.toml");
                format!("`limits.max.{}` ({file}:{line})", key.name())
            }
            _ => format!("`{}` ({})", key.name(), self.origin_text(key, origin)),
        }
    }
}

/// Fold the sources, weakest first (the order is in [`super`]). Touches no file and, without files
/// and presets, allocates nothing but its lists: it runs before every jail.
pub fn resolve(sources: Sources<'_>, facts: &Facts) -> Result<Resolved, Error> {
    let mut fold = Fold::new(built_in(facts));
    fold.names.user = sources.user.map(|f| f.path.clone());
    fold.names.project = sources.project.map(|f| f.path.clone());
    fold.names.workspace = sources.workspace.map(|w| w.name.clone());
    // Chosen for this run, or for every run in this workspace.
    let own = |w: &'_ Stored| w.layer.preset.clone().map(|p| (Origin::Workspace(p.line), p));
    let chosen = sources.flags.preset.clone().map(|p| (Origin::Flag, p));
    let chosen = chosen.or_else(|| sources.workspace.and_then(own));
    if let Some(user) = sources.user {
        fold.warnings.extend_from_slice(&user.warnings);
        if let Some(name) = user.defaults.preset.as_ref().filter(|_| chosen.is_none()) {
            fold.preset(name, Origin::User(name.line), sources.user, facts)?;
        }
        fold.over(&user.defaults, Origin::User);
    }
    if let Some((origin, name)) = &chosen {
        fold.preset(name, *origin, sources.user, facts)?;
    }
    fold.note_demands(sources.user.map(|u| &u.max));
    if let Some(project) = sources.project {
        fold.warnings.extend_from_slice(&project.warnings);
        // A preset on the command line takes the place of the one the project names.
        if let Some(name) = project.layer.preset.as_ref().filter(|_| chosen.is_none()) {
            fold.project_preset(name, sources.user, facts)?;
        }
        fold.narrow(&project.layer, &project.path);
    }
    if let Some(workspace) = sources.workspace {
        fold.warnings.extend_from_slice(&workspace.warnings);
        fold.over(&workspace.layer, Origin::Workspace);
    }
    fold.over(sources.flags, |_| Origin::Flag);
    if let Some(user) = sources.user {
        fold.clamp(&user.max, &user.path)?;
    }
    let keep = sources.user.map(|u| u.keep.clone()).unwrap_or_default();
    Ok(Resolved { keep, ..fold.finish(facts) })
}

fn built_in(facts: &Facts) -> Settings {
    Settings {
        preset: None,
        // What is weaker is chosen by name.
        mode: Mode::Full,
        access: Access::Overlay,
        net: Net::None,
        seccomp: Seccomp::Standard,
        nested_userns: false,
        as_root: false,
        tools: Tools::Auto,
        // Presets that install and build bring them: a plain command pays for none.
        caches: Caches::None,
        // No limit, on a terminal or off: a CI build killed after ten silent minutes is worse than
        // one that its own CI system ends. Presets bring one.
        timeout: None,
        grace: Duration::from_secs(2),
        mem: Some(facts.default_mem()),
        cpu_millis: None,
        // 64 or 512 stop parallel builds; this many still stops a fork bomb at once.
        pids: Some(4096),
        nofile: Some(facts.default_nofile()),
        tmp: facts.default_tmp(),
        disk: None,
        storage: Storage::Disk,
        io_read: None,
        io_write: None,
        best_effort: false,
        durable: false,
        ro: Vec::new(),
        rw: Vec::new(),
        show: Vec::new(),
        hide: Vec::new(),
        require: Vec::new(),
        env: Vec::new(),
        pass: Vec::new(),
    }
}

#[cfg(test)]
#[path = "resolve_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "resolve_properties.rs"]
mod properties;
