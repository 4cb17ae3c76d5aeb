//! The flags that say what a jail may do, shared by every command that starts one.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{OsStringValueParser, PossibleValue, TypedValueParser};
use clap_complete::engine::{ArgValueCandidates, ArgValueCompleter};

use super::complete;
use super::error::CommandError;
use super::exit;
use crate::base::text::os;
use crate::ops;
use crate::policy::envfile::EnvFileError;
use crate::policy::environment::looks_like_secret;
use crate::policy::gpu;
use crate::policy::hide;
use crate::policy::require::{self, Need};
use crate::policy::settings::{Access, Caches, Mode, Net, Seccomp, Storage, Tools};
use crate::policy::value::{self, ValueError, is_variable_name};
use crate::policy::volume;
use crate::policy::{self, Layer};

/// What `--rw` and `--ro` are about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dir {
    /// No value: the workspace itself.
    Workspace,
    /// A further directory.
    Other(PathBuf),
}

/// Stands for the missing value of `--rw` and `--ro`. No argument can hold a NUL, so nothing that
/// is typed (`--rw="$UNSET"`) is ever taken for it.
const WORKSPACE: &str = "\0";

/// The flags. `None` and empty: not given.
#[derive(clap::Args, Debug, Clone, PartialEq, Default)]
pub struct PolicyArgs {
    /// Write to the real directory instead of an overlay; with DIR (written with a `/`), show that host
    /// directory too, writable
    #[arg(long, value_name = "DIR", num_args = 0..=1, default_missing_value = WORKSPACE,
          value_parser = dir(), help_heading = "Jail", action = clap::ArgAction::Append)]
    pub rw: Vec<Dir>,
    /// Refuse writes to the directory; with DIR (written with a `/`), show that host directory too,
    /// read-only and as it is at the start: what the host changes there later may not be seen
    #[arg(long, value_name = "DIR", num_args = 0..=1, default_missing_value = WORKSPACE,
          value_parser = dir(), help_heading = "Jail", action = clap::ArgAction::Append)]
    pub ro: Vec<Dir>,
    /// Show what is hidden as a secret otherwise: a name or a path in the project, with `*` and `**`
    #[arg(long, value_name = "GLOB", value_parser = hide::pattern, help_heading = "Jail")]
    pub show: Vec<String>,
    /// Hide this, too: a name in the project's root, or a path in it (`**/secrets/*.json`)
    #[arg(long, value_name = "GLOB", value_parser = hide::pattern, help_heading = "Jail")]
    pub hide: Vec<String>,
    /// Start from a named bundle of settings: build, install, agent, dev, or one of config.toml
    #[arg(long, value_name = "NAME", help_heading = "Jail", add = ArgValueCandidates::new(complete::presets))]
    pub preset: Option<String>,
    /// The weakest mode to put up with: `full`, `nested` (also where no fresh /proc can be had, as in a
    /// container), `lite` (also where no namespace can be had); the strongest that works is used
    #[arg(long, value_name = "MODE", value_parser = MODE, help_heading = "Jail")]
    pub mode: Option<Mode>,
    /// Run only when these layers are in force, or refuse with 125: names as in `layers` of --json,
    /// `landlock:6` for a version, `full` for all
    #[arg(long, value_name = "LAYER", value_delimiter = ',', value_parser = require::parse, help_heading = "Jail")]
    pub require: Vec<Need>,
    /// System call filter: `strict` has no network sockets, `log` stops nothing
    #[arg(long, value_name = "LEVEL", value_parser = SECCOMP, help_heading = "Jail")]
    pub seccomp: Option<Seccomp>,
    /// Let programs inside make user namespaces, for those that bring their own sandbox
    #[arg(long, help_heading = "Jail")]
    pub nested_userns: bool,
    /// Be uid 0 inside instead of 1000; no more is allowed by it
    #[arg(long, help_heading = "Jail")]
    pub as_root: bool,
    /// Show your tool chains read-only: `auto` (those that PATH leads to), `none`, or some of them by name
    #[arg(long, value_name = "NAMES", value_parser = value::tools, help_heading = "Jail")]
    pub tools: Option<Tools>,
    /// Show your package caches, what is written to them staying in the run: `auto` (those of programs
    /// that the jail has; in the presets build and install), `none`, or some of them by name
    #[arg(long, value_name = "NAMES", value_parser = value::caches, help_heading = "Jail")]
    pub caches: Option<Caches>,
    /// Show NVIDIA GPUs: `all`, or some by the numbers of their /dev/nvidiaN (`0,1`). Their driver is a
    /// large part of the kernel that the command can then talk to
    #[arg(long, value_name = "GPUS", value_parser = gpu::parse, help_heading = "Jail")]
    pub gpu: Option<gpu::Gpus>,
    /// Show a volume (`aj volume create`) at /volumes/NAME or at this path; with `ro` it cannot be written.
    /// What is written stays, and is seen at once by all jails that have the same volume
    #[arg(long, value_name = "NAME[:PATH][:ro]", value_parser = volume::parse, help_heading = "Jail",
          add = ArgValueCompleter::new(complete::volumes))]
    pub vol: Vec<volume::Mount>,
    /// Let what is written survive a power cut; slower
    #[arg(long, help_heading = "Jail")]
    pub durable: bool,
    /// Set a variable, or copy it from here when there is no `=`. Everybody on this machine can read a command
    /// line: give a secret as NAME alone, or in a file (--env-file)
    #[arg(short, long, value_name = "NAME[=VALUE]", help_heading = "Jail",
          value_parser = OsStringValueParser::new())]
    pub env: Vec<OsString>,
    /// Read variables from a file of NAME=VALUE lines
    #[arg(long, value_name = "FILE", help_heading = "Jail")]
    pub env_file: Vec<PathBuf>,
    /// Copy variables from here, by name
    #[arg(long, value_name = "NAME", value_delimiter = ',', help_heading = "Jail",
          value_parser = OsStringValueParser::new())]
    pub pass: Vec<OsString>,
    /// What the network is: `none` (also called `loopback`) has only the jail's own 127.0.0.1
    #[arg(long, value_name = "NET", value_parser = NET, help_heading = "Network")]
    pub net: Option<Net>,
    /// End the command after this time (90s, 5m, 1h30m; `none`)
    #[arg(long, value_name = "TIME", value_parser = limit(value::time_limit), help_heading = "Resources")]
    pub timeout: Option<Limit<Duration>>,
    /// Wait this long between SIGTERM and SIGKILL
    #[arg(long, visible_alias = "kill-after", value_name = "TIME", value_parser = value::time_value, help_heading = "Resources")]
    pub grace: Option<Duration>,
    /// Memory of all processes together (512M, 2G; `none`)
    #[arg(long, value_name = "SIZE", value_parser = limit(value::size_limit), help_heading = "Resources")]
    pub mem: Option<Limit<u64>>,
    /// Processors (2, 0.5, 150%; `none` for all)
    #[arg(long, value_name = "N", value_parser = limit(value::cpu_limit), help_heading = "Resources")]
    pub cpus: Option<Limit<u64>>,
    /// Processes and threads (`none` for no limit)
    #[arg(long, value_name = "N", value_parser = limit(value::pid_limit), help_heading = "Resources")]
    pub pids: Option<Limit<u64>>,
    /// Open files of each process (`none` for as many as the host allows)
    #[arg(long, value_name = "N", value_parser = limit(value::file_limit), help_heading = "Resources")]
    pub nofile: Option<Limit<u64>>,
    /// Size of /tmp, home and /dev/shm together
    #[arg(long, value_name = "SIZE", value_parser = value::size_value, help_heading = "Resources")]
    pub tmp: Option<u64>,
    /// What is written to disk in all: the changes of the workspace and of caches (10G; `none`). Where only
    /// watching holds it, files that have lost their name while they are open are not seen
    #[arg(long, value_name = "SIZE", value_parser = limit(value::size_limit), help_heading = "Resources")]
    pub disk: Option<Limit<u64>>,
    /// Where the changes are while the command runs: `disk` (where the state directory can hold them), or
    /// `memory`: no larger than --tmp and --disk allow, copied to the disk at the end, and lost if aj is killed
    #[arg(long, value_name = "WHERE", value_parser = STORAGE, help_heading = "Resources")]
    pub storage: Option<Storage>,
    /// Bytes read from disks in a second (50M; `none`)
    #[arg(long, value_name = "RATE", value_parser = limit(value::size_limit), help_heading = "Resources")]
    pub io_read: Option<Limit<u64>>,
    /// Bytes written to disks in a second (20M; `none`)
    #[arg(long, value_name = "RATE", value_parser = limit(value::size_limit), help_heading = "Resources")]
    pub io_write: Option<Limit<u64>>,
    /// Warn of limits that this machine cannot enforce instead of refusing to run, as for those of
    /// aj.toml
    #[arg(long, help_heading = "Resources")]
    pub best_effort: bool,
}

/// A limit or, with `None`, the explicit absence of one. (A type of its own: clap would take a
/// bare `Option<Option<T>>` for a flag with an optional value.)
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit<T>(pub Option<T>);

/// What the flags add up to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Flags {
    /// For [`ops::config::policy`].
    pub layer: Layer,
    /// Files of `--env-file`, in order, for the same.
    pub env_files: Vec<PathBuf>,
    /// The GPUs that are shown.
    pub gpus: Option<gpu::Gpus>,
    /// The volumes that are shown.
    pub volumes: Vec<volume::Mount>,
}

impl PolicyArgs {
    /// The flags as a layer. Refuses combinations that mean nothing, with exit code 125: these
    /// flags belong to commands that answer for another program.
    pub fn into_flags(self) -> Result<Flags, CommandError> {
        let mut layer = Layer {
            preset: self.preset.map(Into::into),
            mode: self.mode.map(Into::into),
            access: access(&self.rw, &self.ro)?.map(Into::into),
            net: self.net.map(Into::into),
            seccomp: self.seccomp.map(Into::into),
            nested_userns: given(self.nested_userns),
            as_root: given(self.as_root),
            tools: self.tools.map(Into::into),
            caches: self.caches.map(Into::into),
            timeout: self.timeout.map(|l| l.0.into()),
            grace: self.grace.map(Into::into),
            mem: self.mem.map(|l| l.0.into()),
            cpu_millis: self.cpus.map(|l| l.0.into()),
            pids: self.pids.map(|l| l.0.into()),
            nofile: self.nofile.map(|l| l.0.into()),
            tmp: self.tmp.map(Into::into),
            disk: self.disk.map(|l| l.0.into()),
            storage: self.storage.map(Into::into),
            io_read: self.io_read.map(|l| l.0.into()),
            io_write: self.io_write.map(|l| l.0.into()),
            best_effort: given(self.best_effort),
            durable: given(self.durable),
            ro: others(self.ro),
            rw: others(self.rw),
            show: self.show.into_iter().map(Into::into).collect(),
            hide: self.hide.into_iter().map(Into::into).collect(),
            require: self.require.into_iter().map(Into::into).collect(),
            ..Layer::default()
        };
        for name in self.pass {
            check_name(&name, "--pass")?;
            layer.pass_env(name, 0);
        }
        for word in self.env {
            set_env(&mut layer, &word)?;
        }
        Ok(Flags { layer, env_files: self.env_file, gpus: self.gpu, volumes: self.vol })
    }

    /// Set the flag spelled `flag` from its value, without clap. `false`: not one of these flags,
    /// given before, or a value that clap had better complain about.
    pub fn quick_value(&mut self, flag: &str, value: &OsStr) -> bool {
        let text = value.to_str();
        match flag {
            "--preset" => once(&mut self.preset, text.map(str::to_owned)),
            "--mode" => once(&mut self.mode, text.and_then(|t| value::mode(t).ok())),
            "--seccomp" => once(&mut self.seccomp, text.and_then(|t| value::seccomp(t).ok())),
            "--tools" => once(&mut self.tools, text.and_then(|t| value::tools(t).ok())),
            "--caches" => once(&mut self.caches, text.and_then(|t| value::caches(t).ok())),
            "--net" => once(&mut self.net, text.and_then(|t| value::net(t).ok())),
            "--timeout" => once(&mut self.timeout, text.and_then(|t| value::time_limit(t).ok()).map(Limit)),
            "--grace" | "--kill-after" => once(&mut self.grace, text.and_then(|t| value::time_value(t).ok())),
            "--mem" => once(&mut self.mem, text.and_then(|t| value::size_limit(t).ok()).map(Limit)),
            "--cpus" => once(&mut self.cpus, text.and_then(|t| value::cpu_limit(t).ok()).map(Limit)),
            "--pids" => once(&mut self.pids, text.and_then(|t| value::pid_limit(t).ok()).map(Limit)),
            "--nofile" => once(&mut self.nofile, text.and_then(|t| value::file_limit(t).ok()).map(Limit)),
            "--tmp" => once(&mut self.tmp, text.and_then(|t| value::size_value(t).ok())),
            "--disk" => once(&mut self.disk, text.and_then(|t| value::size_limit(t).ok()).map(Limit)),
            "--storage" => once(&mut self.storage, text.and_then(|t| value::storage(t).ok())),
            "--io-read" => once(&mut self.io_read, text.and_then(|t| value::size_limit(t).ok()).map(Limit)),
            "--io-write" => once(&mut self.io_write, text.and_then(|t| value::size_limit(t).ok()).map(Limit)),
            "--show" | "--hide" => {
                let Some(pattern) = text.and_then(|t| hide::pattern(t).ok()) else { return false };
                let list = if flag == "--show" { &mut self.show } else { &mut self.hide };
                list.push(pattern);
                true
            }
            "--vol" => {
                let Some(mount) = text.and_then(|t| volume::parse(t).ok()) else { return false };
                self.vol.push(mount);
                true
            }
            "--env" | "-e" => {
                self.env.push(value.to_owned());
                true
            }
            "--env-file" if !value.is_empty() => {
                self.env_file.push(value.into());
                true
            }
            _ => false,
        }
    }

    /// The same for flags without a value.
    pub fn quick_flag(&mut self, flag: &str) -> bool {
        let slot = match flag {
            "--nested-userns" => &mut self.nested_userns,
            "--as-root" => &mut self.as_root,
            "--durable" => &mut self.durable,
            "--best-effort" => &mut self.best_effort,
            _ => return false,
        };
        !std::mem::replace(slot, true)
    }
}

fn once<T>(slot: &mut Option<T>, value: Option<T>) -> bool {
    let free = slot.is_none();
    *slot = value;
    free && slot.is_some()
}

fn given(flag: bool) -> Option<policy::At<bool>> {
    flag.then(|| true.into())
}

fn access(rw: &[Dir], ro: &[Dir]) -> Result<Option<Access>, CommandError> {
    match (rw.contains(&Dir::Workspace), ro.contains(&Dir::Workspace)) {
        (true, true) => Err(usage("--rw and --ro both stand for the workspace")
            .hint("give one of them a directory, written with a `/`, or leave one out")),
        (true, false) => Ok(Some(Access::Rw)),
        (false, true) => Ok(Some(Access::Ro)),
        (false, false) => Ok(None),
    }
}

fn others(dirs: Vec<Dir>) -> Vec<policy::At<PathBuf>> {
    dirs.into_iter()
        .filter_map(|d| match d {
            Dir::Workspace => None,
            Dir::Other(path) => Some(path.into()),
        })
        .collect()
}

fn set_env(layer: &mut Layer, word: &OsStr) -> Result<(), CommandError> {
    let bytes = word.as_bytes();
    let split = bytes.iter().position(|b| *b == b'=');
    let name = OsStr::from_bytes(&bytes[..split.unwrap_or(bytes.len())]).to_owned();
    check_name(&name, "--env")?;
    let Some(at) = split else {
        layer.pass_env(name, 0);
        return Ok(());
    };
    let value = OsStr::from_bytes(&bytes[at + 1..]).to_owned();
    if looks_like_secret(&value) {
        let name = os(&name);
        return Err(CommandError::new(
            exit::AJ_FAILED,
            "secret_in_argv",
            format!("the value of `--env {name}=…` looks like a secret"),
        )
        .hint("arguments are seen by every process of this machine and kept in the shell's history")
        .hint(format!("to copy it from this shell: `--env {name}`; from a file: `--env-file FILE`")));
    }
    layer.set_env(name, value, 0);
    Ok(())
}

fn check_name(name: &OsStr, flag: &str) -> Result<(), CommandError> {
    if is_variable_name(name.as_bytes()) {
        return Ok(());
    }
    Err(usage(format!("{flag} `{}`: not a name of an environment variable", os(name)))
        .hint(format!("write `{flag} NAME`, or `--env NAME=VALUE`")))
}

fn usage(message: impl Into<String>) -> CommandError {
    CommandError::new(exit::AJ_FAILED, "usage", message)
}

/// A directory is told from a workspace and from a forgotten `--` by its slash: `--ro ./api`.
fn dir() -> impl TypedValueParser<Value = Dir> {
    OsStringValueParser::new().try_map(|value| match value.as_bytes() {
        b"\0" => Ok(Dir::Workspace),
        b"." | b".." => Ok(Dir::Other(value.into())),
        bytes if bytes.contains(&b'/') => Ok(Dir::Other(value.into())),
        b"" => Err("a directory is missing after `=`".to_owned()),
        _ => Err(format!(
            "a directory is written with a `/`, like ./{}; put `--` before the command",
            os(&value)
        )),
    })
}

fn limit<T: Clone + Send + Sync + 'static>(
    parse: fn(&str) -> Result<Option<T>, ValueError>,
) -> impl TypedValueParser<Value = Limit<T>> {
    move |text: &str| parse(text).map(Limit)
}

/// Words with completion and help of their own, and errors of ours.
#[derive(Clone)]
struct Words<T: 'static> {
    words: &'static [(&'static str, &'static str)],
    parse: fn(&str) -> Result<T, ValueError>,
}

const NET: Words<Net> = Words {
    words: &[("none", "nothing but lo"), ("loopback", "the same"), ("host", "this machine's network")],
    parse: value::net,
};

const MODE: Words<Mode> = Words {
    words: &[
        ("full", "every layer"),
        ("nested", "or with the /proc of the container around it"),
        ("lite", "or without namespaces"),
    ],
    parse: value::mode,
};

const STORAGE: Words<Storage> = Words {
    words: &[("disk", "on the disk, where it can be"), ("memory", "in the jail's tmpfs")],
    parse: value::storage,
};

const SECCOMP: Words<Seccomp> = Words {
    words: &[
        ("standard", "the default allow-list"),
        ("strict", "without network sockets"),
        ("log", "log what would be refused"),
    ],
    parse: value::seccomp,
};

impl<T: fmt::Debug + Clone + Send + Sync + 'static> TypedValueParser for Words<T> {
    type Value = T;

    fn parse_ref(
        &self,
        command: &clap::Command,
        arg: Option<&clap::Arg>,
        value: &OsStr,
    ) -> Result<T, clap::Error> {
        let parse = self.parse;
        (move |text: &str| parse(text)).parse_ref(command, arg, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(self.words.iter().map(|(word, help)| PossibleValue::new(word).help(*help))))
    }
}

/// An error of the policy as shown, for a command that ends with `exit` on it.
pub fn policy_error(e: &ops::config::Error, exit: u8) -> CommandError {
    use ops::config::Error as E;
    let message = e.to_string();
    match e {
        E::Read { .. } => CommandError::new(exit, "config_unreadable", message)
            .hint("check that the file exists and that you may read it"),
        E::TooLarge { .. } => CommandError::new(exit, "config_unreadable", message),
        E::Kind { path, .. } => CommandError::new(exit, "config_unreadable", message)
            .hint(format!("put a plain file in the place of `{path}`, or remove it")),
        E::Dangling { link, .. } => CommandError::new(exit, "config_unreadable", message)
            .hint(format!("put the file back where the link leads, or remove `{link}`")),
        E::NotADirectory { place, .. } => CommandError::new(exit, "config_unreadable", message)
            .hint(format!("move `{place}` away, or set `AJ_CONFIG_DIR` to a directory")),
        E::RelativeConfigDir(_) => CommandError::new(exit, "config_dir_relative", message),
        E::File(_) => CommandError::new(exit, "config_invalid", message),
        E::EnvFile { source: EnvFileError { .. }, .. } => {
            CommandError::new(exit, "env_file_invalid", message)
        }
        E::Policy(policy::Error::AboveMax { max, file, .. }) => {
            CommandError::new(exit, "limit_above_max", message)
                .hint(format!("ask for at most {max}, or raise the bound in {file}"))
        }
        E::Policy(policy::Error::UnknownPreset { meant, known, .. }) => {
            let error = CommandError::new(exit, "preset_not_found", message);
            match meant {
                Some(meant) => error.hint(format!("did you mean `{meant}`?")),
                None => error.hint(format!("presets here: {}", known.join(", "))),
            }
        }
    }
}

#[cfg(test)]
#[path = "policy_flags_tests.rs"]
mod tests;
