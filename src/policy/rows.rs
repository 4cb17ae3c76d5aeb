//! The settings as rows with their origins, made on demand: only `--dry-run`, `--explain` and
//! `aj config` ask.

use std::ffi::OsStr;
use std::time::Duration;

use serde_json::Value;

use super::key::Key;
use super::resolve::{Names, Origin, Resolved};
use super::value::{cpu_text, limit_text, size_text, time_text};
use crate::base::text::os;
use crate::schema::policy::{Document, FORMAT, Row};

impl Resolved {
    /// Everything, for JSON.
    pub fn document(&self) -> Document {
        Document {
            format_version: FORMAT,
            settings: self.rows(),
            tree: None,
            tools: None,
            path_left_out: None,
            caches: None,
            hidden: None,
            limits: None,
            gpu: None,
            volumes: None,
            warnings: self.warnings.clone(),
            weakened: self.weakened.clone(),
        }
    }

    /// One row per setting and per entry of a list, in the order of [`Key::ALL`], then what is kept.
    pub fn rows(&self) -> Vec<Row> {
        let mut rows = Vec::with_capacity(Key::ALL.len());
        for key in Key::ALL {
            match self.scalar(key) {
                Some((value, unit, text)) => {
                    rows.push(self.row(key, value, unit, text, self.origins[key as usize]));
                }
                None => self.list(key, &mut rows),
            }
        }
        rows.extend(self.keep_rows());
        rows
    }

    /// Where the value of a single-valued setting comes from; `None` for a list.
    pub fn origin(&self, key: Key) -> Option<Origin> {
        self.origins.get(key as usize).copied()
    }

    /// An origin for people.
    pub fn origin_text(&self, key: Key, origin: Origin) -> String {
        self.names.origin_text(key, origin)
    }

    fn scalar(&self, key: Key) -> Option<(Value, Option<&'static str>, String)> {
        let s = &self.settings;
        let word = |text: String| (Value::from(text.clone()), None, text);
        let flag = |on: bool| (Value::from(on), None, on.to_string());
        let size = |n: Option<u64>| (Value::from(n), Some("bytes"), limit_text(n, size_text));
        let rate = |n: Option<u64>| (Value::from(n), Some("bytes/s"), limit_text(n, size_text));
        let count = |n: Option<u64>| (Value::from(n), None, limit_text(n, |n| n.to_string()));
        let time = |d: Option<Duration>| {
            let ms = d.map(|d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX));
            (Value::from(ms), Some("ms"), limit_text(d, time_text))
        };
        Some(match key {
            Key::Preset => match &s.preset {
                Some(name) => (Value::from(os(name)), None, os(name)),
                None => (Value::Null, None, "none".to_owned()),
            },
            Key::Workspace => word(s.access.to_string()),
            Key::Mode => word(s.mode.to_string()),
            Key::Net => word(s.net.to_string()),
            Key::Seccomp => word(s.seccomp.to_string()),
            Key::NestedUserns => flag(s.nested_userns),
            Key::AsRoot => flag(s.as_root),
            Key::Tools => word(s.tools.to_string()),
            Key::Caches => word(s.caches.to_string()),
            Key::Timeout => time(s.timeout),
            Key::Grace => time(Some(s.grace)),
            Key::Mem => size(s.mem),
            Key::Cpus => (Value::from(s.cpu_millis), Some("millicpus"), limit_text(s.cpu_millis, cpu_text)),
            Key::Pids => count(s.pids),
            Key::Nofile => count(s.nofile),
            Key::Tmp => size(Some(s.tmp)),
            Key::Disk => size(s.disk),
            Key::Storage => word(s.storage.to_string()),
            Key::IoRead => rate(s.io_read),
            Key::IoWrite => rate(s.io_write),
            Key::BestEffort => flag(s.best_effort),
            Key::Durable => flag(s.durable),
            Key::Ro | Key::Rw | Key::Show | Key::Hide | Key::Require | Key::Env | Key::Pass => {
                return None;
            }
        })
    }

    fn list(&self, key: Key, rows: &mut Vec<Row>) {
        let s = &self.settings;
        let [ro, rw, show, hide, require, env, pass] = &self.list_origins;
        let (entries, origins): (Vec<&OsStr>, _) = match key {
            Key::Ro => (s.ro.iter().map(|p| p.as_os_str()).collect(), ro),
            Key::Rw => (s.rw.iter().map(|p| p.as_os_str()).collect(), rw),
            Key::Show => (s.show.iter().map(|r| OsStr::new(&r.text)).collect(), show),
            Key::Hide => (s.hide.iter().map(|r| OsStr::new(&r.text)).collect(), hide),
            Key::Require => (s.require.iter().map(|n| OsStr::new(n.as_str())).collect(), require),
            // The name only: values of variables are often secrets, and this goes into bug reports.
            Key::Env => (s.env.iter().map(|(name, _)| name.as_os_str()).collect(), env),
            _ => (s.pass.iter().map(|n| n.as_os_str()).collect(), pass),
        };
        for (entry, origin) in entries.into_iter().zip(origins) {
            rows.push(self.row(key, Value::from(os(entry)), None, os(entry), *origin));
        }
    }

    fn row(&self, key: Key, value: Value, unit: Option<&'static str>, text: String, origin: Origin) -> Row {
        let (layer, file, line) = self.names.place(origin);
        Row {
            key: key.name(),
            value,
            unit,
            text,
            origin: self.names.origin_text(key, origin),
            layer,
            file,
            line,
        }
    }
}

impl Names {
    pub(super) fn origin_text(&self, key: Key, origin: Origin) -> String {
        let user = self.user.as_deref().unwrap_or("config.toml");
        let project = self.project.as_deref().unwrap_or("aj.toml");
        let preset = self.preset.as_deref().unwrap_or("");
        match origin {
            Origin::BuiltIn => "built-in".to_owned(),
            Origin::Preset => format!("preset {preset}"),
            Origin::UserPreset(line) => format!("preset {preset} ({user}:{line})"),
            Origin::User(line) => format!("{user}:{line}"),
            Origin::Project(line) => format!("{project}:{line}"),
            Origin::ProjectPreset(line) => {
                format!("preset {} ({project}:{line})", os(self.project_preset.as_deref().unwrap_or("")))
            }
            Origin::Workspace(_) => format!("workspace {}", self.workspace.as_deref().unwrap_or("")),
            Origin::Flag => format!("flag {}", key.flag()),
            Origin::Max(line) => format!("clamp limits.max.{} ({user}:{line})", key.name()),
            Origin::Host => "hard limit of this host".to_owned(),
        }
    }

    pub(super) fn place(&self, origin: Origin) -> (&'static str, Option<String>, Option<u32>) {
        match origin {
            Origin::BuiltIn => ("built-in", None, None),
            Origin::Preset => ("preset", None, None),
            Origin::UserPreset(line) => ("preset", self.user.clone(), Some(line)),
            Origin::User(line) => ("user", self.user.clone(), Some(line)),
            Origin::Project(line) | Origin::ProjectPreset(line) => {
                ("project", self.project.clone(), Some(line))
            }
            Origin::Workspace(line) => ("workspace", None, Some(line)),
            Origin::Flag => ("flag", None, None),
            Origin::Max(line) => ("limit", self.user.clone(), Some(line)),
            Origin::Host => ("host", None, None),
        }
    }
}
