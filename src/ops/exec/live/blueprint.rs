//! What whoever joins a jail has to know of it.

use std::ffi::OsString;

use serde::{Deserialize, Serialize};

use super::super::mounts::Mounted;
use super::super::sight::Sight;
use crate::policy::gpu::Gpus;
use crate::policy::settings::Settings;
use crate::schema::jail::Effective;

/// It. Part of what `jail::join` counts versions of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(in crate::ops::exec) struct Blueprint {
    /// Id of the jail.
    pub(super) id: String,
    /// Host directory that the tree lies over.
    pub(super) base: OsString,
    /// The tree is seen elsewhere than at its base.
    pub(super) elsewhere: bool,
    /// What is seen.
    pub(super) sight: Sight,
    /// The policy as recorded, in JSON.
    pub(super) policy: String,
    /// Its volumes: see [`Volumes::ids`](super::super::volumes::Volumes::ids).
    pub(super) volumes: Vec<String>,
    /// What is mounted in it beside its trees.
    pub(super) mounts: Vec<Mounted>,
    /// What all commands in it share: see [`shape`].
    pub(super) shape: Vec<(String, String)>,
    /// What was asked for it of what a command may have less of: memory, thousandths of a processor, processes. Not
    /// all of it is held everywhere.
    pub(super) asked: [Option<u64>; 3],
}

impl Blueprint {
    pub(in crate::ops::exec) fn print(&self) -> Vec<u8> {
        // Nothing in it can fail to be written; what cannot be read is a jail of another version.
        postcard::to_allocvec(self).unwrap_or_default()
    }

    pub(super) fn parse(bytes: &[u8]) -> Option<Blueprint> {
        postcard::from_bytes(bytes).ok()
    }

    pub(super) fn policy(&self) -> Option<Effective> {
        serde_json::from_str(&self.policy).ok()
    }

    /// In what `shape` is another one than the jail's, for people.
    pub(super) fn differs(&self, shape: &[(String, String)]) -> Vec<String> {
        let other = |(key, wanted): &(String, String)| {
            let has = self.shape.iter().find(|(k, _)| k == key).map_or("?", |(_, has)| has);
            (has != wanted).then(|| format!("{key} is {has}, not {wanted}"))
        };
        shape.iter().filter_map(other).collect()
    }
}

/// The settings that make a jail what it is: they cannot be others for one of its commands.
pub(in crate::ops::exec) fn shape(settings: &Settings, gpus: Option<&Gpus>) -> Vec<(String, String)> {
    // Taken apart in full, so that a new setting cannot be forgotten here.
    let Settings {
        preset: _,
        mode,
        access: _,
        net,
        seccomp,
        nested_userns,
        as_root,
        tools,
        caches,
        timeout: _,
        grace: _,
        // What a command may have less of than its jail: see `super::own`.
        mem: _,
        cpu_millis: _,
        pids: _,
        nofile: _,
        tmp,
        disk,
        storage,
        io_read,
        io_write,
        best_effort: _,
        durable,
        ro,
        rw,
        show,
        hide,
        require: _,
        env: _,
        pass: _,
    } = settings;
    let number = |n: &Option<u64>| n.map_or_else(|| "none".to_owned(), |n| n.to_string());
    let paths = |paths: &[std::path::PathBuf]| {
        let all: Vec<String> = paths.iter().map(crate::base::text::os).collect();
        if all.is_empty() { "nothing".to_owned() } else { all.join(", ") }
    };
    let patterns = |patterns: &[crate::policy::hide::Pattern]| {
        let all: Vec<String> =
            patterns.iter().map(|p| crate::base::text::printable(p.text.as_bytes())).collect();
        if all.is_empty() { "nothing".to_owned() } else { all.join(", ") }
    };
    let row = |key: &str, value: String| (key.to_owned(), value);
    vec![
        row("mode", mode.to_string()),
        row("net", net.to_string()),
        row("seccomp", seccomp.to_string()),
        row("nested_userns", nested_userns.to_string()),
        row("as_root", as_root.to_string()),
        row("tools", tools.to_string()),
        row("caches", caches.to_string()),
        row("tmp", tmp.to_string()),
        row("disk", number(disk)),
        row("storage", storage.to_string()),
        row("io_read", number(io_read)),
        row("io_write", number(io_write)),
        row("durable", durable.to_string()),
        row("ro", paths(ro)),
        row("rw", paths(rw)),
        row("show", patterns(show)),
        row("hide", patterns(hide)),
        row("gpu", gpus.map_or_else(|| "none".to_owned(), Gpus::to_string)),
    ]
}
