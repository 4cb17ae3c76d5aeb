//! Completion: the shell asks the binary itself (`AJ_COMPLETE=bash aj …`), so that new commands and
//! names complete without a new script. Candidates come from files read without locks.

use std::ffi::OsStr;

use clap_complete::CompleteEnv;
use clap_complete::engine::CompletionCandidate;

use super::jail_view::shorten;
use super::{commands, topics};
use crate::base::env;
use crate::ops::workspaces::list;
use crate::ops::{config, ledger, volumes};
use crate::policy::keep;
use crate::policy::key::Key;

/// Jails to propose at most: more than that is no choice.
const MOST: usize = 50;

/// Answer a shell that asks for completions and end the process; return when nobody asked.
pub fn reply_if_asked() {
    if env::COMPLETE.get().is_some() {
        CompleteEnv::with_factory(commands::tree)
            .var(env::COMPLETE.name)
            .bin("aj")
            .completer("aj")
            .complete();
    }
}

fn candidate(name: impl Into<std::ffi::OsString>, help: &str) -> CompletionCandidate {
    CompletionCandidate::new(name).help(Some(shorten(help, 60).into()))
}

/// `@` and the ids that begin with what was typed, with or without their `jl-`.
pub(super) fn jails(typed: &OsStr) -> Vec<CompletionCandidate> {
    let Some(typed) = typed.to_str() else { return Vec::new() };
    let fits =
        |id: &str| id.starts_with(typed) || id.strip_prefix("jl-").is_some_and(|d| d.starts_with(typed));
    let newest = typed.is_empty().then(|| candidate("@", "the newest"));
    let found = ledger::peek(MOST).into_iter().filter(|(id, _)| fits(id));
    newest.into_iter().chain(found.map(|(id, command)| candidate(id, &command))).collect()
}

/// The same of those whose changes are kept.
pub(super) fn kept(typed: &OsStr) -> Vec<CompletionCandidate> {
    let kept = ledger::peek_kept();
    let is_kept = |c: &CompletionCandidate| {
        c.get_value().to_str().is_some_and(|id| if id == "@" { !kept.is_empty() } else { kept.contains(id) })
    };
    jails(typed).into_iter().filter(is_kept).collect()
}

/// The names of workspaces, and the ids that begin with what was typed.
pub(super) fn workspaces(typed: &OsStr) -> Vec<CompletionCandidate> {
    let Some(typed) = typed.to_str() else { return Vec::new() };
    let found = list::list(&list::Filter::default()).map(|l| l.workspaces).unwrap_or_default();
    let newest = (typed.is_empty() && !found.is_empty()).then(|| candidate("@", "the newest"));
    let one = |w: crate::schema::workspace::Workspace| {
        let help = w.began_with().unwrap_or("an empty one");
        let by_id = !typed.is_empty() && w.id.as_str().starts_with(typed);
        let word = if by_id { w.id.to_string() } else { w.name.to_string() };
        word.starts_with(typed).then(|| candidate(word, help))
    };
    newest.into_iter().chain(found.into_iter().filter_map(one).take(MOST)).collect()
}

/// `@`, names and ids of jobs that begin with what was typed.
pub(super) fn jobs(typed: &OsStr) -> Vec<CompletionCandidate> {
    let Some(typed) = typed.to_str() else { return Vec::new() };
    let found = crate::ops::jobs::peek(MOST);
    let newest = (typed.is_empty() && !found.is_empty()).then(|| candidate("@", "the newest"));
    let one = |(id, name, command): (String, Option<String>, String)| {
        let word = name.filter(|name| name.starts_with(typed)).unwrap_or(id);
        word.starts_with(typed).then(|| candidate(word, &command))
    };
    newest.into_iter().chain(found.into_iter().filter_map(one)).collect()
}

/// The names of volumes.
pub(super) fn volumes(typed: &OsStr) -> Vec<CompletionCandidate> {
    let Some(typed) = typed.to_str() else { return Vec::new() };
    let found = volumes::list(&[]).map(|l| l.volumes).unwrap_or_default();
    let names = found.into_iter().filter(|v| v.name.as_str().starts_with(typed));
    names.map(|v| candidate(v.name.to_string(), "a volume")).take(MOST).collect()
}

/// What `aj exec` can run in: workspaces, and jails whose changes are kept.
pub(super) fn places(typed: &OsStr) -> Vec<CompletionCandidate> {
    let named = workspaces(typed).into_iter().filter(|c| c.get_value() != "@");
    kept(typed).into_iter().chain(named).collect()
}

/// The settings by name.
pub(super) fn settings() -> Vec<CompletionCandidate> {
    let kept = keep::NAMES.into_iter().map(|name| candidate(name, "what is kept of runs"));
    Key::ALL.iter().map(|key| candidate(key.name(), key.flag())).chain(kept).collect()
}

/// The presets that come with aj and those of config.toml.
pub(super) fn presets() -> Vec<CompletionCandidate> {
    config::presets().into_iter().map(|(name, what)| candidate(name, &what)).collect()
}

/// What `aj help` can explain.
pub(super) fn help_words() -> Vec<CompletionCandidate> {
    let commands = commands::ALL.iter().filter(|e| e.group != commands::Group::Hidden);
    let topics = topics::ALL.iter().map(|t| candidate(t.name, t.title));
    topics.chain(commands.map(|e| candidate(e.name, "a command"))).collect()
}
