//! Durations as people write them: `90s`, `5m`, `1h30m`, `250ms`; a bare number is seconds.

use std::time::Duration;

/// The text is not a duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a duration; write it like `90s`, `5m` or `1h30m`")]
pub struct NotADuration(pub String);

/// Parse a duration.
pub fn parse(text: &str) -> Result<Duration, NotADuration> {
    let bad = || NotADuration(crate::base::text::printable(text.as_bytes()));
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(bad());
    }
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, tail) = rest.split_at(digits);
        let letters = tail.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        let millis: u64 = match unit {
            "ms" => 1,
            "" if tail.is_empty() && total.is_zero() && number == text.trim() => 1_000,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(bad()),
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() || fraction.len() > 3 {
            return Err(bad());
        }
        let whole: u64 = whole.parse().map_err(|_| bad())?;
        let mut part = Duration::from_millis(whole.checked_mul(millis).ok_or_else(bad)?);
        if !fraction.is_empty() {
            let f: u64 = fraction.parse().map_err(|_| bad())?;
            part += Duration::from_micros(f * millis * 1000 / 10u64.pow(fraction.len() as u32));
        }
        total = total.checked_add(part).ok_or_else(bad)?;
        rest = tail;
    }
    Ok(total)
}

/// A duration for people: `850ms`, `4.2s`, `3m 05s`, `2h 10m`.
pub fn human(d: Duration) -> String {
    let ms = d.as_millis();
    match ms {
        0..1_000 => format!("{ms}ms"),
        1_000..60_000 => format!("{}.{}s", ms / 1000, ms % 1000 / 100),
        60_000..3_600_000 => format!("{}m {:02}s", ms / 60_000, ms % 60_000 / 1000),
        _ => format!("{}h {:02}m", ms / 3_600_000, ms % 3_600_000 / 60_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_parse_as_documented() {
        for (text, ms) in [
            ("5", 5_000),
            ("0", 0),
            ("90s", 90_000),
            ("5m", 300_000),
            ("1h30m", 5_400_000),
            ("250ms", 250),
            ("1.5s", 1_500),
            ("2d", 172_800_000),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for bad in
            ["", "s", "-1", "1x", "1 m", "5m3", "99999999999999999999h", "18446744073709551615h", "1.2345s"]
        {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn durations_print_for_people() {
        assert_eq!(human(Duration::from_millis(7)), "7ms");
        assert_eq!(human(Duration::from_millis(4_250)), "4.2s");
        assert_eq!(human(Duration::from_secs(185)), "3m 05s");
        assert_eq!(human(Duration::from_secs(7_800)), "2h 10m");
    }
}
