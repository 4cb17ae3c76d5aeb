//! One record of the ledger as text for people. Everything a jail chose is made printable here.

use std::time::Duration;

use crate::base::quote::command_line;
use crate::base::text::{printable, printable_lines};
use crate::base::{duration, size};
use crate::schema::ledger::{JailDetail, Output};

/// How long ago, for a week; then the local date and time.
pub(super) fn age(ms: u64, now: u64) -> String {
    const MINUTE: u64 = 60_000;
    const HOUR: u64 = 60 * MINUTE;
    const DAY: u64 = 24 * HOUR;
    // A clock set back since makes it the future: shown as now.
    match now.saturating_sub(ms) {
        0..1_000 => "just now".to_owned(),
        d @ 1_000..MINUTE => format!("{}s ago", d / 1_000),
        d @ MINUTE..HOUR => format!("{}m ago", d / MINUTE),
        d @ HOUR..DAY => format!("{}h ago", d / HOUR),
        d if d < 7 * DAY => format!("{}d ago", d / DAY),
        _ => local(ms),
    }
}

fn local(ms: u64) -> String {
    i64::try_from(ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok()).map_or_else(
        || "invalid".to_owned(),
        |t| t.to_zoned(jiff::tz::TimeZone::system()).strftime("%Y-%m-%d %H:%M").to_string(),
    )
}

/// The start of `text`, at most `max` characters, the last of them `…` when something is missing.
pub(super) fn shorten(text: &str, max: usize) -> String {
    match text.char_indices().nth(max) {
        None => text.to_owned(),
        Some(_) => text.chars().take(max.saturating_sub(1)).chain(['…']).collect(),
    }
}

impl Output {
    /// Bytes between the kept parts.
    pub(super) fn omitted(&self) -> u64 {
        self.total.saturating_sub((self.head_bytes.len() + self.tail_bytes.len()) as u64)
    }
}

/// What was kept of a stream, escaped, ending in a line feed unless empty.
pub(super) fn output(output: &Output) -> String {
    let mut text = lines(&output.head_bytes);
    if output.truncated {
        text.push_str(&format!("[… {} not kept …]\n", size::human(output.omitted())));
        text.push_str(&lines(&output.tail_bytes));
    }
    text
}

fn lines(bytes: &[u8]) -> String {
    let mut text = printable_lines(bytes);
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text
}

/// The whole record as `key: value` lines, then the output.
pub(super) fn detail(jail: &JailDetail, now: u64) -> String {
    let mut page = Page(String::new());
    let ms = |n: u64| duration::human(Duration::from_millis(n));
    page.put("id", &jail.id);
    page.put("status", jail.status.as_str());
    page.opt("exit", jail.exit_code);
    page.opt("signal", jail.signal);
    page.opt("killed for", jail.killed_for.as_deref().map(|l| printable(l.as_bytes())));
    if let Some(f) = &jail.failure {
        let errno = f.errno.as_ref().map(|e| format!(" ({e})")).unwrap_or_default();
        page.put("failed at", &format!("{}{errno}", f.step));
    }
    page.put("command", &command_line(&jail.argv));
    page.put("cwd", &jail.cwd);
    page.put("base", &jail.base);
    page.put("kind", &jail.kind);
    page.opt("started", jail.started_at.as_deref().map(|t| with_age(t, now)));
    page.opt("ended", jail.ended_at.as_deref());
    page.opt("duration", jail.duration_ms.map(ms));
    if let Some(u) = &jail.usage {
        page.put("cpu", &format!("{} user, {} system", ms(u.user_ms), ms(u.system_ms)));
        page.put("peak memory", &size::human(u.peak_rss.max(u.peak_memory)));
    }
    page.opt("files changed", jail.files_changed);
    page.opt("went on in", jail.tree.as_deref());
    if jail.changes_kept {
        let size = jail.kept_bytes.map(|n| format!(" ({})", size::human(n))).unwrap_or_default();
        page.put("changes", &format!("kept{size}; see `aj diff {}`", jail.tree.as_ref().unwrap_or(&jail.id)));
    }
    if !jail.layers.is_empty() {
        page.put("layers", &jail.layers.join(", "));
    }
    if let Some(Ok(serde_json::Value::Object(policy))) = jail.policy.as_ref().map(serde_json::to_value) {
        page.0.push_str("policy:\n");
        for (key, value) in &policy {
            page.opt(&format!("  {key}"), setting(key, value));
        }
    }
    for (name, stream) in [("stdout", &jail.stdout), ("stderr", &jail.stderr)] {
        if stream.total > 0 {
            page.0.push_str(&format!("{name}: {}\n", size::human(stream.total)));
            for line in output(stream).lines() {
                page.0.push_str(&format!("  {line}\n"));
            }
        }
    }
    page.0
}

struct Page(String);

impl Page {
    fn put(&mut self, key: &str, value: &str) {
        self.0.push_str(&format!("{key}: {}\n", printable(value.as_bytes())));
    }

    fn opt(&mut self, key: &str, value: Option<impl ToString>) {
        if let Some(value) = value {
            self.put(key, &value.to_string());
        }
    }
}

fn with_age(rfc3339: &str, now: u64) -> String {
    let ms = rfc3339.parse::<jiff::Timestamp>().ok().and_then(|t| u64::try_from(t.as_millisecond()).ok());
    ms.map_or_else(|| rfc3339.to_owned(), |ms| format!("{rfc3339} ({})", age(ms, now)))
}

/// A value of the policy; `None` for what is not set.
fn setting(key: &str, value: &serde_json::Value) -> Option<String> {
    use serde_json::Value;
    match (key, value) {
        (_, Value::Null) => None,
        ("mem" | "tmp" | "disk" | "io_read" | "io_write", Value::Number(n)) => {
            Some(n.as_u64().map_or_else(|| n.to_string(), size::human))
        }
        (k, Value::Number(n)) if k.ends_with("_ms") => {
            Some(n.as_u64().map_or_else(|| n.to_string(), |n| duration::human(Duration::from_millis(n))))
        }
        ("cpu_millis", Value::Number(n)) => {
            Some(n.as_u64().map_or_else(|| n.to_string(), |n| format!("{}.{:03}", n / 1000, n % 1000)))
        }
        (_, Value::String(s)) if s.is_empty() => None,
        (_, Value::String(s)) => Some(s.clone()),
        (_, Value::Array(items)) if items.is_empty() => None,
        (_, Value::Array(items)) => Some(
            items
                .iter()
                .map(|i| i.as_str().map_or_else(|| i.to_string(), str::to_owned))
                .collect::<Vec<_>>()
                .join(", "),
        ),
        (_, other) => Some(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::jail::{Effective, Usage};
    use crate::schema::ledger::{FORMAT_VERSION, Failure, Status};

    fn hostile() -> JailDetail {
        let evil = "\u{1b}]52;c;aGk=\u{7}\u{202e}\r\n";
        let stream = |head: &[u8], tail: &[u8], total| Output {
            total,
            truncated: total > (head.len() + tail.len()) as u64,
            head_bytes: head.to_vec(),
            tail_bytes: tail.to_vec(),
            ..Output::default()
        };
        JailDetail {
            format_version: FORMAT_VERSION,
            id: "jl-7k3m000000000000".to_owned(),
            kind: evil.to_owned(),
            status: Status::Failed,
            exit_code: Some(125),
            signal: Some(9),
            failure: Some(Failure { step: evil.to_owned(), errno: Some(evil.to_owned()) }),
            started_at: Some("2026-11-21T10:35:02.005Z".to_owned()),
            ended_at: Some(evil.to_owned()),
            duration_ms: Some(4_250),
            argv: vec![evil.to_owned(), "a b".to_owned()],
            cwd: evil.to_owned(),
            base: evil.to_owned(),
            argv_base64: None,
            cwd_base64: None,
            base_base64: None,
            pid: None,
            files_changed: Some(3),
            tree: None,
            changes_kept: true,
            kept_bytes: Some(1536),
            policy: Some(Effective {
                mode: "full".to_owned(),
                mem: Some(2 << 30),
                timeout_ms: Some(90_000),
                cpu_millis: Some(1_500),
                ro: vec![evil.to_owned()],
                ..Effective::default()
            }),
            killed_for: None,
            layers: vec!["userns".to_owned(), evil.to_owned()],
            usage: Some(Usage {
                wall_ms: 4_250,
                user_ms: 100,
                system_ms: 5,
                peak_rss: 3 << 20,
                peak_memory: 0,
            }),
            stdout: stream(b"one\n\x1b[2J\xfftwo", b"", 12),
            stderr: stream(b"start", b"\x9bend\n", 1 << 20),
        }
    }

    #[test]
    fn a_record_is_key_value_lines_with_nothing_a_terminal_obeys() {
        let text = detail(&hostile(), 1_795_257_302_005 + 185_000);
        assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
        assert!(!text.contains('\u{202e}'));
        for line in [
            "id: jl-7k3m000000000000\n",
            "status: failed\nexit: 125\nsignal: 9\n",
            "started: 2026-11-21T10:35:02.005Z (3m ago)\n",
            "duration: 4.2s\n",
            "cpu: 100ms user, 5ms system\n",
            "peak memory: 3 MiB\n",
            "changes: kept (1.5 KiB); see `aj diff jl-7k3m000000000000`\n",
            "  mem: 2 GiB\n",
            "  timeout_ms: 1m 30s\n",
            "  cpu_millis: 1.500\n",
            "stdout: 12 B\n  one\n  \\x1b[2J\\xfftwo\n",
            "  start\n  [… 1024.0 KiB not kept …]\n  \\x9bend\n",
        ] {
            assert!(text.contains(line), "{line:?} is not in:\n{text}");
        }
        assert!(!text.contains("preset"), "what is not set is not shown");
    }

    #[test]
    fn ages_are_relative_for_a_week_and_never_negative() {
        let now = 1_795_257_302_005;
        for (ago, shown) in [
            (0, "just now"),
            (59_999, "59s ago"),
            (60_000, "1m ago"),
            (3_599_999, "59m ago"),
            (3_600_000, "1h ago"),
            (86_400_000, "1d ago"),
            (7 * 86_400_000 - 1, "6d ago"),
        ] {
            assert_eq!(age(now - ago, now), shown);
        }
        assert_eq!(age(now + 99_999, now), "just now", "the clock was set back");
        assert!(age(now - 8 * 86_400_000, now).starts_with("2026-11-1"));
        assert_eq!(age(u64::MAX, now), "just now");
        assert_eq!(age(0, u64::MAX).len(), "1970-01-01 00:00".len());
    }

    #[test]
    fn long_commands_are_cut_at_characters() {
        assert_eq!(shorten("éééé", 4), "éééé");
        assert_eq!(shorten("ééééé", 4), "ééé…");
        assert_eq!(shorten("", 4), "");
    }
}
