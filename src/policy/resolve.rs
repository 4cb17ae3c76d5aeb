//! Folding the sources into one set of settings, remembering where each value came from.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use super::file::{Max, ProjectFile, UserFile};
use super::key::Key;
use super::layer::{At, Layer, Rule, visit};
use super::presets;
use super::settings::{Access, Net, Seccomp, Settings};
use super::suggest;
use super::value::{cpu_text, limit_text, size_text, time_text};
use crate::base::text::{os, printable};

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
    /// The command line.
    Flag,
    /// `[limits.max]` of the user configuration, with the line.
    Max(u32),
    /// The host's own hard limit.
    Host,
}

impl Origin {
    /// Whether somebody asked for the value: such a limit must be enforced or refused.
    fn is_explicit(self) -> bool {
        match self {
            Origin::BuiltIn | Origin::Preset | Origin::ProjectPreset(_) | Origin::Host => false,
            Origin::UserPreset(_) | Origin::User(_) | Origin::Project(_) | Origin::Flag | Origin::Max(_) => {
                true
            }
        }
    }
}

/// The sources of one resolution, read by `ops`.
#[derive(Debug, Clone, Copy)]
pub struct Sources<'a> {
    /// The user configuration, when there is one.
    pub user: Option<&'a UserFile>,
    /// The project's file, when there is one.
    pub project: Option<&'a ProjectFile>,
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
    /// What did not go as written, one line each: unknown keys, ignored values, lowered limits.
    pub warnings: Vec<String>,
    /// Layers of the jail that are weaker than usual because somebody chose so, one line each.
    pub weakened: Vec<String>,
    pub(super) origins: [Origin; Key::SCALARS],
    /// In the order of `settings.ro`, `rw`, `env`, `pass`.
    pub(super) list_origins: [Vec<Origin>; 4],
    pub(super) names: Names,
}

/// What origins are written with.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Names {
    pub(super) preset: Option<String>,
    pub(super) project_preset: Option<String>,
    pub(super) user: Option<String>,
    pub(super) project: Option<String>,
}

/// Fold the sources, weakest first (the order is in [`super`]). Touches no file and, without files
/// and presets, allocates nothing but its lists: it runs before every jail.
pub fn resolve(sources: Sources<'_>, facts: &Facts) -> Result<Resolved, Error> {
    let mut fold = Fold {
        settings: built_in(facts),
        origins: [Origin::BuiltIn; Key::SCALARS],
        ro: Entries::default(),
        rw: Entries::default(),
        env: Entries::default(),
        pass: Entries::default(),
        warnings: Vec::new(),
        names: Names {
            user: sources.user.map(|f| f.path.clone()),
            project: sources.project.map(|f| f.path.clone()),
            ..Names::default()
        },
    };
    let flag_preset = sources.flags.preset.as_ref();
    if let Some(user) = sources.user {
        fold.warnings.extend_from_slice(&user.warnings);
        if let Some(name) = user.defaults.preset.as_ref().filter(|_| flag_preset.is_none()) {
            fold.preset(name, Origin::User(name.line), sources.user, facts)?;
        }
        fold.over(&user.defaults, Origin::User);
    }
    if let Some(name) = flag_preset {
        fold.preset(name, Origin::Flag, sources.user, facts)?;
    }
    if let Some(project) = sources.project {
        fold.warnings.extend_from_slice(&project.warnings);
        // A preset on the command line takes the place of the one the project names.
        if let Some(name) = project.layer.preset.as_ref().filter(|_| flag_preset.is_none()) {
            fold.project_preset(name, sources.user, facts)?;
        }
        fold.narrow(&project.layer, &project.path);
    }
    fold.over(sources.flags, |_| Origin::Flag);
    if let Some(user) = sources.user {
        fold.clamp(&user.max, &user.path)?;
    }
    Ok(fold.finish(facts))
}

fn built_in(facts: &Facts) -> Settings {
    Settings {
        preset: None,
        access: Access::Overlay,
        net: Net::None,
        seccomp: Seccomp::Standard,
        nested_userns: false,
        as_root: false,
        // No limit, on a terminal or off: a CI build killed after ten silent minutes is worse than
        // one that its own CI system ends. Presets bring one.
        timeout: None,
        grace: Duration::from_secs(2),
        mem: Some(facts.default_mem()),
        mem_explicit: false,
        cpu_millis: None,
        cpu_explicit: false,
        // 64 or 512 stop parallel builds; this many still stops a fork bomb at once.
        pids: Some(4096),
        nofile: Some(facts.default_nofile()),
        tmp: facts.default_tmp(),
        best_effort: false,
        durable: false,
        ro: Vec::new(),
        rw: Vec::new(),
        env: Vec::new(),
        pass: Vec::new(),
    }
}

struct Fold {
    settings: Settings,
    origins: [Origin; Key::SCALARS],
    ro: Entries<PathBuf>,
    rw: Entries<PathBuf>,
    env: Entries<(OsString, OsString)>,
    pass: Entries<OsString>,
    warnings: Vec<String>,
    names: Names,
}

/// A list and where each entry came from.
struct Entries<T>(Vec<(T, Origin)>);

impl<T> Default for Entries<T> {
    fn default() -> Entries<T> {
        Entries(Vec::new())
    }
}

impl<T> Entries<T> {
    fn push(&mut self, value: T, origin: Origin) {
        self.0.push((value, origin));
    }

    fn drop_if(&mut self, mut is: impl FnMut(&T) -> bool) {
        self.0.retain(|(value, _)| !is(value));
    }

    fn split(self) -> (Vec<T>, Vec<Origin>) {
        self.0.into_iter().unzip()
    }
}

struct Over<'a, F> {
    origins: &'a mut [Origin; Key::SCALARS],
    origin: F,
}

impl<F: Fn(u32) -> Origin> Rule for Over<'_, F> {
    fn apply<T: Clone + PartialEq>(
        &mut self,
        key: Key,
        held: &mut T,
        new: &At<T>,
        _widens: fn(&T, &T) -> bool,
        _text: fn(&T) -> String,
    ) {
        *held = new.value.clone();
        self.origins[key as usize] = (self.origin)(new.line);
    }
}

struct Narrow<'a, F> {
    origins: &'a mut [Origin; Key::SCALARS],
    origin: F,
    /// Key, value and line of what would have widened.
    refused: Vec<(Key, String, u32)>,
}

impl<F: Fn(u32) -> Origin> Rule for Narrow<'_, F> {
    fn apply<T: Clone + PartialEq>(
        &mut self,
        key: Key,
        held: &mut T,
        new: &At<T>,
        widens: fn(&T, &T) -> bool,
        text: fn(&T) -> String,
    ) {
        if widens(&new.value, held) {
            self.refused.push((key, text(&new.value), new.line));
        } else if *held != new.value {
            *held = new.value.clone();
            self.origins[key as usize] = (self.origin)(new.line);
        }
    }
}

impl Fold {
    /// A source that may set everything.
    fn over(&mut self, layer: &Layer, origin: impl Fn(u32) -> Origin) {
        visit(&mut self.settings, layer, &mut Over { origins: &mut self.origins, origin: &origin });
        // The later word about a directory or a variable is the one that holds.
        for At { value, line } in &layer.ro {
            self.ro.drop_if(|p| p == value);
            self.rw.drop_if(|p| p == value);
            self.ro.push(value.clone(), origin(*line));
        }
        for At { value, line } in &layer.rw {
            self.ro.drop_if(|p| p == value);
            self.rw.drop_if(|p| p == value);
            self.rw.push(value.clone(), origin(*line));
        }
        for At { value, line } in &layer.env {
            self.forget(&value.0);
            self.env.push(value.clone(), origin(*line));
        }
        for At { value, line } in &layer.pass {
            self.forget(value);
            self.pass.push(value.clone(), origin(*line));
        }
    }

    fn forget(&mut self, name: &OsString) {
        self.env.drop_if(|(n, _)| n == name);
        self.pass.drop_if(|n| n == name);
    }

    /// A source that may only take away.
    fn narrow(&mut self, layer: &Layer, path: &str) {
        let mut rule = Narrow { origins: &mut self.origins, origin: Origin::Project, refused: Vec::new() };
        visit(&mut self.settings, layer, &mut rule);
        for (key, value, line) in rule.refused {
            let (name, flag) = (key.name(), key.flag());
            self.warnings.push(format!(
                "{path}:{line}: `{name} = {value}` would widen what the jail may do and is ignored; \
                 to have it, use {flag} or your own configuration"
            ));
        }
        // A variable inside the jail looks harmless, but NODE_OPTIONS and the like decide what the
        // user's own command runs, and `pass` would carry out whatever the shell holds.
        let lists = [
            (Key::Ro, layer.ro.first().map(|a| (os(&a.value), a.line)), layer.ro.len()),
            (Key::Rw, layer.rw.first().map(|a| (os(&a.value), a.line)), layer.rw.len()),
            (Key::Env, layer.env.first().map(|a| (os(&a.value.0), a.line)), layer.env.len()),
            (Key::Pass, layer.pass.first().map(|a| (os(&a.value), a.line)), layer.pass.len()),
        ];
        for (key, first, len) in lists {
            let Some((first, line)) = first else { continue };
            let (name, flag) = (key.name(), key.flag());
            let first: String = first.chars().take(60).collect();
            let more = if len > 1 { format!(" and {} more", len - 1) } else { String::new() };
            self.warnings.push(format!(
                "{path}:{line}: `{name}` (`{first}`{more}) would widen what the jail may do and is \
                 ignored; to have it, use {flag} or your own configuration"
            ));
        }
    }

    /// Put a preset over what holds.
    fn preset(
        &mut self,
        name: &At<String>,
        origin: Origin,
        user: Option<&UserFile>,
        facts: &Facts,
    ) -> Result<(), Error> {
        let (built_in, own) = self.find(&name.value, origin, user, facts)?;
        self.settings.preset = Some(name.value.clone());
        self.names.preset = Some(name.value.clone());
        self.origins[Key::Preset as usize] = origin;
        if let Some(layer) = built_in {
            self.over(&layer, |_| Origin::Preset);
        }
        if let Some(layer) = own {
            self.over(layer, Origin::UserPreset);
        }
        Ok(())
    }

    /// A preset that the project names: the part of it that narrows.
    fn project_preset(
        &mut self,
        name: &At<String>,
        user: Option<&UserFile>,
        facts: &Facts,
    ) -> Result<(), Error> {
        let origin = Origin::Project(name.line);
        let (built_in, own) = self.find(&name.value, origin, user, facts)?;
        self.settings.preset = Some(name.value.clone());
        self.names.project_preset = Some(name.value.clone());
        self.origins[Key::Preset as usize] = origin;
        // The user's changes to a built-in preset first become one preset with it.
        let mut whole = built_in.unwrap_or_default();
        if let Some(own) = own {
            whole.replace_scalars(own);
        }
        let line = name.line;
        let mut rule = Narrow {
            origins: &mut self.origins,
            origin: move |_| Origin::ProjectPreset(line),
            refused: Vec::new(),
        };
        visit(&mut self.settings, &whole, &mut rule);
        let mut refused: Vec<&str> = rule.refused.iter().map(|(key, _, _)| key.name()).collect();
        if let Some(own) = own {
            let lists = [
                (Key::Ro, own.ro.len()),
                (Key::Rw, own.rw.len()),
                (Key::Env, own.env.len()),
                (Key::Pass, own.pass.len()),
            ];
            refused.extend(lists.iter().filter(|(_, len)| *len > 0).map(|(key, _)| key.name()));
        }
        if !refused.is_empty() {
            let path = self.names.project.clone().unwrap_or_default();
            self.warnings.push(format!(
                "{path}:{line}: {} of preset `{}` would widen what the jail may do and is ignored; \
                 to have the whole preset, use --preset",
                refused.join(", "),
                printable(name.value.as_bytes()),
            ));
        }
        Ok(())
    }

    fn find<'a>(
        &self,
        name: &str,
        origin: Origin,
        user: Option<&'a UserFile>,
        facts: &Facts,
    ) -> Result<(Option<Layer>, Option<&'a Layer>), Error> {
        let built_in = presets::built_in(name, facts);
        let own = user.and_then(|u| u.presets.get(name));
        if built_in.is_some() || own.is_some() {
            return Ok((built_in, own));
        }
        let known: Vec<String> = presets::BUILT_IN
            .iter()
            .map(|(n, _)| (*n).to_owned())
            .chain(user.iter().flat_map(|u| u.presets.keys().cloned()))
            .collect();
        Err(Error::UnknownPreset {
            name: printable(name.as_bytes()).chars().take(64).collect(),
            origin: self.names.origin_text(Key::Preset, origin),
            meant: suggest::nearest(name, known.iter().map(String::as_str)).map(str::to_owned),
            known,
        })
    }

    /// Hold every limit to `[limits.max]`. A flag above it is refused rather than lowered: the
    /// caller believes in the number it gave.
    fn clamp(&mut self, max: &Max, file: &str) -> Result<(), Error> {
        let s = &mut self.settings;
        let mut c = Clamp { origins: &mut self.origins, file };
        c.limit(Key::Timeout, &mut s.timeout, max.timeout.as_ref(), time_text)?;
        c.limit(Key::Mem, &mut s.mem, max.mem.as_ref(), size_text)?;
        c.limit(Key::Cpus, &mut s.cpu_millis, max.cpu_millis.as_ref(), cpu_text)?;
        c.limit(Key::Pids, &mut s.pids, max.pids.as_ref(), |n| n.to_string())?;
        c.limit(Key::Nofile, &mut s.nofile, max.nofile.as_ref(), |n| n.to_string())?;
        let mut tmp = Some(s.tmp);
        c.limit(Key::Tmp, &mut tmp, max.tmp.as_ref(), size_text)?;
        s.tmp = tmp.unwrap_or(s.tmp);
        Ok(())
    }

    fn finish(mut self, facts: &Facts) -> Resolved {
        let nofile = &mut self.settings.nofile;
        let origin = &mut self.origins[Key::Nofile as usize];
        if nofile.is_none_or(|n| n > facts.nofile_hard) {
            if let Some(asked) = nofile.filter(|_| origin.is_explicit()) {
                self.warnings.push(format!(
                    "nofile {asked} is above this host's hard limit: {} is used",
                    facts.nofile_hard
                ));
            }
            *nofile = Some(facts.nofile_hard);
            *origin = Origin::Host;
        }
        let weakened = weakened(&self.settings);
        let explicit = |key: Key| self.origins[key as usize].is_explicit();
        self.settings.mem_explicit = self.settings.mem.is_some() && explicit(Key::Mem);
        self.settings.cpu_explicit = self.settings.cpu_millis.is_some() && explicit(Key::Cpus);
        let (ro, ro_origins) = self.ro.split();
        let (rw, rw_origins) = self.rw.split();
        let (env, env_origins) = self.env.split();
        let (pass, pass_origins) = self.pass.split();
        Resolved {
            settings: Settings { ro, rw, env, pass, ..self.settings },
            warnings: self.warnings,
            weakened,
            origins: self.origins,
            list_origins: [ro_origins, rw_origins, env_origins, pass_origins],
            names: self.names,
        }
    }
}

fn weakened(settings: &Settings) -> Vec<String> {
    let mut lines = Vec::new();
    if settings.net == Net::Host {
        lines.push("net host: the jail has this machine's network, local services included".to_owned());
    }
    if settings.seccomp == Seccomp::Log {
        lines.push("seccomp log: system calls are logged instead of refused".to_owned());
    }
    if settings.nested_userns {
        lines.push("nested user namespaces: more of the kernel can be reached from inside".to_owned());
    }
    lines
}

struct Clamp<'a> {
    origins: &'a mut [Origin; Key::SCALARS],
    file: &'a str,
}

impl Clamp<'_> {
    fn limit<T: Copy + PartialOrd>(
        &mut self,
        key: Key,
        held: &mut Option<T>,
        max: Option<&At<T>>,
        text: fn(T) -> String,
    ) -> Result<(), Error> {
        let Some(max) = max else { return Ok(()) };
        if held.is_some_and(|held| held <= max.value) {
            return Ok(());
        }
        if self.origins[key as usize] == Origin::Flag {
            return Err(Error::AboveMax {
                flag: key.flag(),
                asked: limit_text(*held, text),
                max: text(max.value),
                key: format!("limits.max.{}", key.name()),
                file: self.file.to_owned(),
                line: max.line,
            });
        }
        *held = Some(max.value);
        self.origins[key as usize] = Origin::Max(max.line);
        Ok(())
    }
}

#[cfg(test)]
#[path = "resolve_tests.rs"]
mod tests;
