//! Every environment variable that `aj` reads, in one place. `aj help environment` lists them.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::sync::OnceLock;

/// One variable and what it does.
#[derive(Debug, Clone, Copy)]
pub struct Var {
    /// Its name.
    pub name: &'static str,
    /// One line for `aj help environment`.
    pub help: &'static str,
}

macro_rules! vars {
    ($($id:ident = $name:literal, $help:literal;)*) => {
        $(#[doc = $help] pub const $id: Var = Var { name: $name, help: $help };)*
        /// All of them, in the order of the help page.
        pub const ALL: &[Var] = &[$($id),*];
    };
}

vars! {
    STATE_DIR = "AJ_STATE_DIR", "Where state lives instead of `$XDG_STATE_HOME/agentjail`";
    CONFIG_DIR = "AJ_CONFIG_DIR", "Where configuration lives instead of `$XDG_CONFIG_HOME/agentjail`";
    TEST_WITHOUT = "AJ_TEST_WITHOUT", "Layers to leave out, comma-separated: tests of debug builds only";
    TEST_WAYS = "AJ_TEST_WAYS", "Rare ways of a start to take: tests of debug builds only";
    TEST_KILL_AT = "AJ_TEST_KILL_AT", "The change of the state directory to die at: tests of debug builds only";
    BACKTRACE = "AJ_BACKTRACE", "Set to 1 to see the whole chain of an internal error";
    COMPLETE = "AJ_COMPLETE", "Set by the completion script of a shell: print candidates and end";
    XDG_STATE_HOME = "XDG_STATE_HOME", "Base of the state directory (default `~/.local/state`)";
    XDG_CONFIG_HOME = "XDG_CONFIG_HOME", "Base of the configuration directory (default `~/.config`)";
    GIT_CONFIG_GLOBAL = "GIT_CONFIG_GLOBAL", "The caller's git configuration instead of `~/.gitconfig`; empty: none";
    GIT_CONFIG_SYSTEM = "GIT_CONFIG_SYSTEM", "The caller's git configuration instead of `/etc/gitconfig`; empty: none";
    GIT_CONFIG_NOSYSTEM = "GIT_CONFIG_NOSYSTEM", "Set to 1: the git configuration of the machine is not read";
    PWD = "PWD", "The caller's name for the current directory; it is kept inside";
    AGENTJAIL = "AGENTJAIL", "Set in every jail, to its id; a jail cannot start another";
    HOME = "HOME", "The caller's home directory";
    SHELL = "SHELL", "The shell that `aj shell` starts, where the jail has it";
    NO_COLOR = "NO_COLOR", "Set to anything: no colour";
    CLICOLOR_FORCE = "CLICOLOR_FORCE", "Set to 1: colour even when the output is not a terminal";
    COLUMNS = "COLUMNS", "Width of a terminal that does not tell its own";
    TERM = "TERM", "`dumb` turns colour and progress off";
}

/// `$XDG_CONFIG_HOME`, or where it is by custom; `None` without a home directory.
pub fn config_home() -> Option<PathBuf> {
    XDG_CONFIG_HOME.absolute_path().or_else(|| Some(HOME.absolute_path()?.join(".config")))
}

impl Var {
    /// Its value, `None` when unset or empty.
    pub fn get(self) -> Option<OsString> {
        caller(self.name).filter(|v| !v.is_empty())
    }

    /// Its value as an absolute path; relative values are ignored, as the XDG specification asks.
    pub fn absolute_path(self) -> Option<PathBuf> {
        self.get().map(PathBuf::from).filter(|p| p.is_absolute())
    }
}

/// A variable of the caller's environment that the caller named (`-e NAME`), as it is, empty or not.
/// What `aj` reads of its own accord is a [`Var`].
pub fn caller(name: impl AsRef<OsStr>) -> Option<OsString> {
    let name = name.as_ref();
    all().find(|(known, _)| *known == name).map(|(_, value)| value.to_owned())
}

/// The caller's whole environment: only for building a jail's, which takes names from an allow-list.
///
/// As it was when it was first asked for: a start asks for 50 variables, most of which are not there, and
/// `getenv` would look through all of it for each.
pub fn all() -> impl Iterator<Item = (&'static OsStr, &'static OsStr)> {
    static ALL: OnceLock<Vec<(OsString, OsString)>> = OnceLock::new();
    ALL.get_or_init(|| std::env::vars_os().collect())
        .iter()
        .map(|(name, value)| (name.as_os_str(), value.as_os_str()))
}
