//! One source's contribution: every setting optional.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::time::Duration;

use super::key::Key;
use super::require::Need;
use super::settings::{Access, Caches, Mode, Net, Seccomp, Settings, Storage, Tools};
use super::value::{cpu_text, limit_text, size_text, time_text};

/// A value and the line of the file it stands in (0: not from a file).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct At<T> {
    /// The value.
    pub value: T,
    /// Its line, from 1.
    pub line: u32,
}

impl<T> From<T> for At<T> {
    fn from(value: T) -> At<T> {
        At { value, line: 0 }
    }
}

/// What one source says: flags, a preset, the user configuration or `aj.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Layer {
    /// Preset to build on.
    pub preset: Option<At<String>>,
    /// The weakest mode.
    pub mode: Option<At<Mode>>,
    /// How the workspace is shown.
    pub access: Option<At<Access>>,
    /// The network.
    pub net: Option<At<Net>>,
    /// The system call filter.
    pub seccomp: Option<At<Seccomp>>,
    /// Nested user namespaces.
    pub nested_userns: Option<At<bool>>,
    /// Uid 0 inside.
    pub as_root: Option<At<bool>>,
    /// The caller's tool chains.
    pub tools: Option<At<Tools>>,
    /// The caller's package caches.
    pub caches: Option<At<Caches>>,
    /// Wall-clock limit; the inner `None` means no limit.
    pub timeout: Option<At<Option<Duration>>>,
    /// Time between SIGTERM and SIGKILL.
    pub grace: Option<At<Duration>>,
    /// Memory limit in bytes.
    pub mem: Option<At<Option<u64>>>,
    /// CPU limit in thousandths.
    pub cpu_millis: Option<At<Option<u64>>>,
    /// Limit of processes and threads.
    pub pids: Option<At<Option<u64>>>,
    /// Limit of open files.
    pub nofile: Option<At<Option<u64>>>,
    /// Size of the jail's tmpfs in bytes.
    pub tmp: Option<At<u64>>,
    /// Limit of what is written to disk, in bytes.
    pub disk: Option<At<Option<u64>>>,
    /// Where it is held while the command runs.
    pub storage: Option<At<Storage>>,
    /// Limit of bytes read in a second.
    pub io_read: Option<At<Option<u64>>>,
    /// Limit of bytes written in a second.
    pub io_write: Option<At<Option<u64>>>,
    /// Report limits that cannot be enforced.
    pub best_effort: Option<At<bool>>,
    /// Survive power loss.
    pub durable: Option<At<bool>>,
    /// Further read-only directories.
    pub ro: Vec<At<PathBuf>>,
    /// Further writable directories.
    pub rw: Vec<At<PathBuf>>,
    /// What is shown although it is hidden by custom.
    pub show: Vec<At<String>>,
    /// What is hidden in the tree.
    pub hide: Vec<At<String>>,
    /// Layers that must be in force.
    pub require: Vec<At<Need>>,
    /// Variables set.
    pub env: Vec<At<(OsString, OsString)>>,
    /// Variables copied from the caller.
    pub pass: Vec<At<OsString>>,
}

impl Layer {
    /// Set a variable; an earlier order of this layer about the same name is dropped.
    pub fn set_env(&mut self, name: OsString, value: OsString, line: u32) {
        self.forget(&name);
        self.env.push(At { value: (name, value), line });
    }

    /// Copy a variable from the caller; an earlier order of this layer about the same name is dropped.
    pub fn pass_env(&mut self, name: OsString, line: u32) {
        self.forget(&name);
        self.pass.push(At { value: name, line });
    }

    /// Take over every single value that `other` brings, but its preset.
    pub(super) fn replace_scalars(&mut self, other: &Layer) {
        macro_rules! each {
            ($($field:ident)*) => { $(if other.$field.is_some() { self.$field.clone_from(&other.$field); })* };
        }
        each! {
            mode access net seccomp nested_userns as_root tools caches timeout grace mem cpu_millis pids nofile tmp
            disk storage io_read io_write best_effort durable
        }
    }

    fn forget(&mut self, name: &OsStr) {
        self.env.retain(|e| e.value.0 != *name);
        self.pass.retain(|p| p.value != *name);
    }
}

/// What to do with a value that a layer brings for a setting.
pub(super) trait Rule {
    /// `widens(new, held)`: whether `new` allows more than `held`.
    fn apply<T: Clone + PartialEq>(
        &mut self,
        key: Key,
        held: &mut T,
        new: &At<T>,
        widens: fn(&T, &T) -> bool,
        text: fn(&T) -> String,
    );
}

/// Show `rule` every single-valued setting that `layer` brings. The preset is not among them: it
/// is expanded before. Lists are not either: they only ever add.
pub(super) fn visit(settings: &mut Settings, layer: &Layer, rule: &mut impl Rule) {
    // Taken apart in full, so that a new field cannot be forgotten here.
    let Layer {
        preset: _,
        mode,
        access,
        net,
        seccomp,
        nested_userns,
        as_root,
        tools,
        caches,
        timeout,
        grace,
        mem,
        cpu_millis,
        pids,
        nofile,
        tmp,
        disk,
        storage,
        io_read,
        io_write,
        best_effort,
        durable,
        ro: _,
        rw: _,
        show: _,
        hide: _,
        require: _,
        env: _,
        pass: _,
    } = layer;
    macro_rules! each {
        ($($key:ident $field:ident $widens:expr, $text:expr;)*) => {
            $(if let Some(new) = $field {
                rule.apply(Key::$key, &mut settings.$field, new, $widens, $text);
            })*
        };
    }
    each! {
        Mode mode |new, held| new > held, ToString::to_string;
        Workspace access |new, held| room(*new) > room(*held), ToString::to_string;
        Net net |new, held| *new == Net::Host && *held != Net::Host, ToString::to_string;
        Seccomp seccomp |new, held| strength(*new) < strength(*held), ToString::to_string;
        NestedUserns nested_userns |new, held| *new && !held, ToString::to_string;
        AsRoot as_root |new, held| *new && !held, ToString::to_string;
        Tools tools more_tools, ToString::to_string;
        Caches caches more_tools, ToString::to_string;
        Timeout timeout above, |v| limit_text(*v, time_text);
        Grace grace |new, held| new > held, |v| time_text(*v);
        Mem mem above, |v| limit_text(*v, size_text);
        Cpus cpu_millis above, |v| limit_text(*v, cpu_text);
        Pids pids above, |v| limit_text(*v, |n| n.to_string());
        Nofile nofile above, |v| limit_text(*v, |n| n.to_string());
        Tmp tmp |new, held| new > held, |v| size_text(*v);
        Disk disk above, |v| limit_text(*v, size_text);
        // There it is bounded by `tmp`.
        Storage storage |new, held| *new == Storage::Disk && *held != Storage::Disk, ToString::to_string;
        IoRead io_read above, |v| limit_text(*v, size_text);
        IoWrite io_write above, |v| limit_text(*v, size_text);
        BestEffort best_effort |new, held| *new && !held, ToString::to_string;
        // Losing the last minutes at a power cut is the weaker state.
        Durable durable |new, held| !new && *held, ToString::to_string;
    }
}

/// Whether limit `new` is above `held`; no limit is above every limit.
fn above<T: PartialOrd>(new: &Option<T>, held: &Option<T>) -> bool {
    match (new, held) {
        (_, None) => false,
        (None, Some(_)) => true,
        (Some(new), Some(held)) => new > held,
    }
}

/// Whether `new` may show a tool chain or a cache that `held` does not.
fn more_tools(new: &Tools, held: &Tools) -> bool {
    match (new, held) {
        (Tools::None, _) | (_, Tools::Auto) => false,
        (Tools::Auto, _) => true,
        (Tools::Only(names), Tools::None) => !names.is_empty(),
        (Tools::Only(names), Tools::Only(held)) => names.iter().any(|n| !held.contains(n)),
    }
}

fn room(access: Access) -> u8 {
    match access {
        Access::Ro => 0,
        Access::Overlay => 1,
        Access::Rw => 2,
    }
}

fn strength(seccomp: Seccomp) -> u8 {
    match seccomp {
        Seccomp::Log => 0,
        Seccomp::Standard => 1,
        Seccomp::Strict => 2,
    }
}
