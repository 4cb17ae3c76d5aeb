//! The steps of [`resolve`](super::resolve()): put a source over what holds, narrow what holds, clamp it.

use std::ffi::OsString;
use std::path::PathBuf;

use super::file::{Max, UserFile};
use super::hide::Pattern;
use super::keep::Keep;
use super::key::Key;
use super::layer::{At, Layer, Rule, visit};
use super::presets;
use super::require::Need;
use super::resolve::{Demands, Error, Facts, Names, Origin, Resolved};
use super::settings::{Mode, Net, Seccomp, Settings};
use super::suggest;
use super::value::{cpu_text, limit_text, size_text, time_text};
use crate::base::text::{os, printable};

/// The settings so far.
pub(super) struct Fold {
    settings: Settings,
    origins: [Origin; Key::SCALARS],
    ro: Entries<PathBuf>,
    rw: Entries<PathBuf>,
    show: Entries<Pattern>,
    hide: Entries<Pattern>,
    require: Entries<Need>,
    /// Of the source that is folded in: later ones are stronger.
    rank: u8,
    env: Entries<(OsString, OsString)>,
    pass: Entries<OsString>,
    pub(super) warnings: Vec<String>,
    pub(super) names: Names,
    demands: Demands,
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
    pub(super) fn new(settings: Settings) -> Fold {
        Fold {
            settings,
            origins: [Origin::BuiltIn; Key::SCALARS],
            ro: Entries::default(),
            rw: Entries::default(),
            show: Entries::default(),
            hide: Entries::default(),
            require: Entries::default(),
            rank: 0,
            env: Entries::default(),
            pass: Entries::default(),
            warnings: Vec::new(),
            names: Names::default(),
            demands: Demands::default(),
        }
    }

    /// A source that may set everything.
    pub(super) fn over(&mut self, layer: &Layer, origin: impl Fn(u32) -> Origin) {
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
        self.rank = self.rank.saturating_add(1);
        for At { value, line } in &layer.show {
            self.show.push(self.pattern(value), origin(*line));
        }
        self.hides(&layer.hide, &origin);
        self.requires(&layer.require, &origin);
        for At { value, line } in &layer.env {
            self.forget(&value.0);
            self.env.push(value.clone(), origin(*line));
        }
        for At { value, line } in &layer.pass {
            self.forget(value);
            self.pass.push(value.clone(), origin(*line));
        }
    }

    fn pattern(&self, text: &str) -> Pattern {
        Pattern { text: text.to_owned(), rank: self.rank }
    }

    fn hides(&mut self, patterns: &[At<String>], origin: impl Fn(u32) -> Origin) {
        for At { value, line } in patterns {
            self.hide.push(self.pattern(value), origin(*line));
        }
    }

    /// Whoever asks for a layer gets it or nothing: no later source takes that back.
    fn requires(&mut self, needs: &[At<Need>], origin: impl Fn(u32) -> Origin) {
        for At { value, line } in needs {
            if !self.require.0.iter().any(|(held, _)| held == value) {
                self.require.push(value.clone(), origin(*line));
            }
        }
    }

    fn forget(&mut self, name: &OsString) {
        self.env.drop_if(|(n, _)| n == name);
        self.pass.drop_if(|n| n == name);
    }

    /// Remember which limits the user asked for before a project narrows them: 512M in aj.toml below
    /// the user's own 1G must not turn a limit that has to be enforced into one that need not be.
    pub(super) fn note_demands(&mut self, max: Option<&Max>) {
        fn of<T: PartialOrd>(held: Option<&T>, origin: Origin, max: Option<&At<T>>) -> Option<Origin> {
            match max {
                Some(max) if held.is_none_or(|held| *held > max.value) => Some(Origin::Max(max.line)),
                _ => held.is_some().then_some(origin).filter(|o| o.is_explicit()),
            }
        }
        let (s, origin) = (&self.settings, |key: Key| self.origins[key as usize]);
        self.demands = Demands {
            mem: of(s.mem.as_ref(), origin(Key::Mem), max.and_then(|m| m.mem.as_ref())),
            cpus: of(s.cpu_millis.as_ref(), origin(Key::Cpus), max.and_then(|m| m.cpu_millis.as_ref())),
            pids: of(s.pids.as_ref(), origin(Key::Pids), max.and_then(|m| m.pids.as_ref())),
            disk: of(s.disk.as_ref(), origin(Key::Disk), max.and_then(|m| m.disk.as_ref())),
            io_read: of(s.io_read.as_ref(), origin(Key::IoRead), max.and_then(|m| m.io_read.as_ref())),
            io_write: of(s.io_write.as_ref(), origin(Key::IoWrite), max.and_then(|m| m.io_write.as_ref())),
        };
    }

    /// A source that may only take away.
    pub(super) fn narrow(&mut self, layer: &Layer, path: &str) {
        let mut rule = Narrow { origins: &mut self.origins, origin: Origin::Project, refused: Vec::new() };
        visit(&mut self.settings, layer, &mut rule);
        for (key, value, line) in rule.refused {
            let (name, flag) = (key.name(), key.flag());
            self.warnings.push(format!(
                "{path}:{line}: `{name} = {value}` would widen what the jail may do and is ignored; \
                 to have it, use {flag} or your own configuration"
            ));
        }
        self.rank = self.rank.saturating_add(1);
        self.hides(&layer.hide, Origin::Project);
        self.requires(&layer.require, Origin::Project);
        // A variable inside the jail looks harmless, but NODE_OPTIONS and the like decide what the
        // user's own command runs, and `pass` would carry out whatever the shell holds.
        let lists = [
            (Key::Ro, layer.ro.first().map(|a| (os(&a.value), a.line)), layer.ro.len()),
            (Key::Rw, layer.rw.first().map(|a| (os(&a.value), a.line)), layer.rw.len()),
            (Key::Show, layer.show.first().map(|a| (os(&a.value), a.line)), layer.show.len()),
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
    pub(super) fn preset(
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
    pub(super) fn project_preset(
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
            self.rank = self.rank.saturating_add(1);
            self.hides(&own.hide, move |_| Origin::ProjectPreset(line));
            self.requires(&own.require, move |_| Origin::ProjectPreset(line));
        }
        if let Some(own) = own {
            let lists = [
                (Key::Ro, own.ro.len()),
                (Key::Rw, own.rw.len()),
                (Key::Show, own.show.len()),
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
    pub(super) fn clamp(&mut self, max: &Max, file: &str) -> Result<(), Error> {
        let s = &mut self.settings;
        let mut c = Clamp { origins: &mut self.origins, file };
        c.limit(Key::Timeout, &mut s.timeout, max.timeout.as_ref(), time_text)?;
        c.limit(Key::Mem, &mut s.mem, max.mem.as_ref(), size_text)?;
        c.limit(Key::Cpus, &mut s.cpu_millis, max.cpu_millis.as_ref(), cpu_text)?;
        c.limit(Key::Pids, &mut s.pids, max.pids.as_ref(), |n| n.to_string())?;
        c.limit(Key::Nofile, &mut s.nofile, max.nofile.as_ref(), |n| n.to_string())?;
        c.limit(Key::Disk, &mut s.disk, max.disk.as_ref(), size_text)?;
        c.limit(Key::IoRead, &mut s.io_read, max.io_read.as_ref(), size_text)?;
        c.limit(Key::IoWrite, &mut s.io_write, max.io_write.as_ref(), size_text)?;
        let mut tmp = Some(s.tmp);
        c.limit(Key::Tmp, &mut tmp, max.tmp.as_ref(), size_text)?;
        s.tmp = tmp.unwrap_or(s.tmp);
        Ok(())
    }

    pub(super) fn finish(mut self, facts: &Facts) -> Resolved {
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
        let (ro, ro_origins) = self.ro.split();
        let (rw, rw_origins) = self.rw.split();
        let (show, show_origins) = self.show.split();
        let (hide, hide_origins) = self.hide.split();
        let (require, require_origins) = self.require.split();
        let (env, env_origins) = self.env.split();
        let (pass, pass_origins) = self.pass.split();
        Resolved {
            settings: Settings { ro, rw, show, hide, require, env, pass, ..self.settings },
            keep: Keep::default(),
            warnings: self.warnings,
            weakened,
            origins: self.origins,
            list_origins: [
                ro_origins,
                rw_origins,
                show_origins,
                hide_origins,
                require_origins,
                env_origins,
                pass_origins,
            ],
            names: self.names,
            demands: self.demands,
        }
    }
}

fn weakened(settings: &Settings) -> Vec<String> {
    let mut lines = Vec::new();
    match settings.mode {
        Mode::Full => {}
        Mode::Nested => lines.push(
            "mode nested: where no fresh /proc can be had, the processes around the jail are seen in it".to_owned(),
        ),
        Mode::Lite => lines.push(
            "mode lite: where no namespace can be had, only Landlock and the system call filter hold the command"
                .to_owned(),
        ),
    }
    if settings.net == Net::Host {
        lines.push("net host: the jail has this machine's network, local services included".to_owned());
    }
    if settings.seccomp == Seccomp::Log {
        lines.push("seccomp log: system calls are logged instead of refused".to_owned());
    }
    if settings.nested_userns {
        lines.push("nested user namespaces: more of the kernel can be reached from inside, and Landlock guards no files".to_owned());
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
