//! Times for eyes: relative when recent, local otherwise. Machines read RFC 3339 from `--json`.

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// `3m ago` under a week, else the local `2026-11-21 14:05`. Both in milliseconds since the epoch. A
/// time in the future (the clock was set back) is shown as a date, because `-3m ago` explains nothing.
pub fn when(then_ms: u64, now_ms: u64) -> String {
    const WEEK: u64 = 7 * 24 * 3600;
    match now_ms.checked_sub(then_ms).map(|ms| ms / 1000) {
        Some(s) if s < 5 => "now".to_owned(),
        Some(s) if s < 60 => format!("{s}s ago"),
        Some(s) if s < 3600 => format!("{}m ago", s / 60),
        Some(s) if s < 24 * 3600 => format!("{}h ago", s / 3600),
        Some(s) if s < WEEK => format!("{}d ago", s / (24 * 3600)),
        _ => local(then_ms),
    }
}

/// The local date and minute.
pub fn local(ms: u64) -> String {
    i64::try_from(ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok()).map_or_else(
        || "?".to_owned(),
        |t| t.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M").to_string(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recent_times_are_relative_and_others_are_dates() {
        let now = 1_800_000_000_000;
        let ago = |s: u64| when(now - s * 1000, now);
        assert_eq!(
            [ago(0), ago(59), ago(60), ago(3599), ago(86_399), ago(604_799)],
            ["now", "59s ago", "1m ago", "59m ago", "23h ago", "6d ago"]
        );
        assert!(ago(604_800).starts_with("2027-01-0"), "{}", ago(604_800));
        assert!(when(now + 60_000, now).starts_with("2027-01-1"));
        assert_eq!(local(u64::MAX), "?");
    }
}
