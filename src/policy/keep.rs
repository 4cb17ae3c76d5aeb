//! How much of what is over is kept: `[keep]` of the user's configuration.
//!
//! No other source has a say. A project that could lower these would remove what other projects keep.

use std::time::Duration;

use serde_json::Value;
use toml::de::DeTable;

use super::layer::At;
use super::read::{COUNT, DURATION, Read, Reader, SIZE};
use super::resolve::{Names, Origin, Resolved};
use super::value::{self, ValueError, limit_text, size_text, time_text};
use crate::schema::policy::Row;

/// The section.
const SECTION: &str = "[keep]";
/// Its keys.
const KEYS: [&str; 7] = ["trees", "size", "age", "expired", "logs", "records", "record_age"];
/// The same as `aj config` calls them.
pub const NAMES: [&str; 7] =
    ["keep.trees", "keep.size", "keep.age", "keep.expired", "keep.logs", "keep.records", "keep.record_age"];

/// The bounds; `None` is no bound. Line 0 is built in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keep {
    /// Trees.
    pub trees: At<Option<u64>>,
    /// Bytes on the disk of all of them together.
    pub size: At<Option<u64>>,
    /// Time since the last run in a tree.
    pub age: At<Option<Duration>>,
    /// Time since a workspace has expired.
    pub expired: At<Option<Duration>>,
    /// Time since a command in the background has ended.
    pub logs: At<Option<Duration>>,
    /// Jails in the ledger.
    pub records: At<Option<u64>>,
    /// Time since one of them began.
    pub record_age: At<Option<Duration>>,
}

const DAY: u64 = 86_400;

impl Default for Keep {
    fn default() -> Keep {
        Keep {
            trees: Some(20).into(),
            size: Some(2 << 30).into(),
            age: Some(Duration::from_secs(7 * DAY)).into(),
            expired: Some(Duration::from_secs(DAY)).into(),
            logs: Some(Duration::from_secs(30 * DAY)).into(),
            records: Some(100_000).into(),
            record_age: Some(Duration::from_secs(90 * DAY)).into(),
        }
    }
}

impl<'a> Reader<'a> {
    pub(super) fn keep(&mut self, table: &DeTable<'a>) -> Read<Keep> {
        let mut keep = Keep::default();
        for (name, value) in table {
            let line = self.line(&name.span());
            let n = &format!("{SECTION} {}", name.get_ref());
            match name.get_ref().as_ref() {
                "trees" => keep.trees = self.number(n, value, line, COUNT, count)?,
                "size" => keep.size = self.number(n, value, line, SIZE, value::size_limit)?,
                "age" => keep.age = self.number(n, value, line, DURATION, value::time_limit)?,
                "expired" => keep.expired = self.number(n, value, line, DURATION, value::time_limit)?,
                "logs" => keep.logs = self.number(n, value, line, DURATION, value::time_limit)?,
                "records" => keep.records = self.number(n, value, line, COUNT, records)?,
                "record_age" => keep.record_age = self.number(n, value, line, DURATION, value::time_limit)?,
                other => {
                    if !self.misplaced(name, value, SECTION)? {
                        self.unknown(other, name.span(), SECTION, KEYS);
                    }
                }
            }
        }
        Ok(keep)
    }
}

fn count(text: &str) -> Result<Option<u64>, ValueError> {
    value::count_limit(text, "a number of trees")
}

fn records(text: &str) -> Result<Option<u64>, ValueError> {
    value::count_limit(text, "a number of records")
}

/// Whole days as such: `7d`.
pub fn age_text(age: Duration) -> String {
    match (age.as_secs() / 86_400, Duration::from_secs(age.as_secs() / 86_400 * 86_400) == age) {
        (days, true) if days > 0 => format!("{days}d"),
        _ => time_text(age),
    }
}

impl Resolved {
    /// The rows of `aj config list`.
    pub(super) fn keep_rows(&self) -> impl Iterator<Item = Row> {
        let keep = &self.keep;
        let [trees, size, age, expired, logs, records, record_age] = NAMES;
        let count = |key, n: &At<Option<u64>>| {
            self.keep_row(key, Value::from(n.value), None, limit_text(n.value, |n| n.to_string()), n.line)
        };
        let time = |key, t: &At<Option<Duration>>| {
            let ms = |d: Duration| u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
            let text = limit_text(t.value, age_text);
            self.keep_row(key, Value::from(t.value.map(ms)), Some("ms"), text, t.line)
        };
        let bytes = limit_text(keep.size.value, size_text);
        [
            count(trees, &keep.trees),
            self.keep_row(size, Value::from(keep.size.value), Some("bytes"), bytes, keep.size.line),
            time(age, &keep.age),
            time(expired, &keep.expired),
            time(logs, &keep.logs),
            count(records, &keep.records),
            time(record_age, &keep.record_age),
        ]
        .into_iter()
    }

    fn keep_row(
        &self,
        key: &'static str,
        value: Value,
        unit: Option<&'static str>,
        text: String,
        line: u32,
    ) -> Row {
        let origin = if line == 0 { Origin::BuiltIn } else { Origin::User(line) };
        let (layer, file, line) = self.names.place(origin);
        Row { key, value, unit, text, origin: self.names.plain_text(origin), layer, file, line }
    }
}

impl Names {
    /// The text of an origin that does not depend on the key.
    fn plain_text(&self, origin: Origin) -> String {
        self.origin_text(super::key::Key::Preset, origin)
    }
}

#[cfg(test)]
mod tests {
    use super::super::file::{parse_project, parse_user};
    use super::super::{Facts, Layer, Sources, resolve};

    fn rows(text: &str) -> Vec<(String, String)> {
        let user = parse_user("c.toml", text.as_bytes(), None).unwrap();
        assert_eq!(user.warnings, Vec::<String>::new());
        let facts = Facts { ram: 8 << 30, cpus: 4, nofile_soft: 1024, nofile_hard: 4096 };
        let flags = Layer::default();
        let resolved =
            resolve(Sources { user: Some(&user), project: None, workspace: None, flags: &flags }, &facts)
                .unwrap();
        resolved.keep_rows().map(|r| (r.text, r.origin)).collect()
    }

    #[test]
    fn what_is_kept_is_the_users_to_say() {
        let built_in = |text: &str| (text.to_owned(), "built-in".to_owned());
        let all = ["20", "2G", "7d", "1d", "30d", "100000", "90d"];
        assert_eq!(rows(""), all.map(built_in));
        let said = rows("[keep]\ntrees = 3\nage = \"none\"\n");
        assert_eq!(said[0], ("3".to_owned(), "c.toml:2".to_owned()));
        assert_eq!((&said[1], said[2].0.as_str()), (&built_in("2G"), "none"));
        for (bad, why) in [
            ("trees = 0", "[keep] trees"),
            ("trees = -1", "negative"),
            ("size = true", "a size like"),
            ("age = \"soon\"", "[keep] age"),
            ("expired = \"x\"", "[keep] expired"),
            ("records = -1", "negative"),
        ] {
            let e = parse_user("c.toml", format!("[keep]\n{bad}\n").as_bytes(), None).unwrap_err();
            assert!(e.to_string().starts_with("c.toml:2: ") && e.to_string().contains(why), "{e}");
        }
        let odd = parse_user("c.toml", b"[keep]\ntree = 3\n", None).unwrap();
        assert!(odd.warnings[0].contains("did you mean `trees`?"), "{:?}", odd.warnings);
    }

    #[test]
    fn a_project_cannot_lower_what_others_keep() {
        let project = parse_project("aj.toml", b"[keep]\ntrees = 1\n[jail.keep]\ntrees = 1\n").unwrap();
        assert_eq!(project.warnings.len(), 2, "{:?}", project.warnings);
        assert_eq!(project.layer, Layer::default());
    }
}
