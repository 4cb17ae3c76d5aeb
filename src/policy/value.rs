//! Single values: how flags and files spell them, and how tables and messages show them.
//!
//! What [`size_text`] and its like print, the parsers read back to the same value.

use std::fmt;
use std::time::Duration;

use super::settings::{Access, Caches, Mode, Net, Seccomp, Storage, Tools};
use crate::base::duration::{self, NotADuration};
use crate::base::size::{self, NotASize};
use crate::base::text::printable;

/// Longer than any real deadline, and far from where the arithmetic of clocks overflows.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 86_400);
/// The kernel's `PID_MAX_LIMIT`: it refuses a larger `pids.max`.
const MOST_PIDS: u64 = 4_194_304;
/// Far above any machine; keeps quota arithmetic inside 64 bits.
const MOST_CPU_MILLIS: u64 = 1_000_000 * 1_000;
/// The kernel's smallest quota: 1 ms of a 100 ms period.
const LEAST_CPU_MILLIS: u64 = 10;

/// A value that could not be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// Not a size.
    #[error(transparent)]
    Size(#[from] NotASize),
    /// Not a duration.
    #[error(transparent)]
    Duration(#[from] NotADuration),
    /// Not a number of processors.
    #[error("`{0}` is not a number of processors; write it like `2`, `0.5` or `150%`")]
    Cpus(String),
    /// Below zero.
    #[error("`{0}` is negative; the value must be positive")]
    Negative(String),
    /// Not a whole number.
    #[error("`{0}` is not a whole number")]
    Count(String),
    /// Zero would mean different things to different programs.
    #[error("{0} must be more than zero{1}")]
    Zero(&'static str, &'static str),
    /// Above what any kernel takes.
    #[error("`{given}` is more than {most}{instead}")]
    TooMuch {
        /// As given.
        given: String,
        /// The bound, with its unit.
        most: &'static str,
        /// What would do, where anything would.
        instead: &'static str,
    },
    /// Not one of the known words.
    #[error("`{given}` is not one of {known}")]
    Choice {
        /// As given.
        given: String,
        /// The words, for the message.
        known: &'static str,
    },
    /// A word of a later version.
    #[error("`{0}` comes with a later version of aj; today `--net` is `none`, `loopback` or `host`")]
    Later(String),
    /// Not a name of a layer.
    #[error("`{given}` {why}")]
    Layer {
        /// As given.
        given: String,
        /// What is wrong with it, and what would do.
        why: String,
    },
    /// Not a name of a tool chain.
    #[error("`{0}` is not a name of a tool; write `auto`, `none`, or names like `rustup,nvm`")]
    ToolName(String),
    /// Not a name of a cache.
    #[error("`{0}` is not a name of a cache; write `auto`, `none`, or names like `cargo,npm`")]
    CacheName(String),
    /// A place of a tool chain that cannot be one.
    #[error("`{given}` {why}")]
    Place {
        /// As given.
        given: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A pattern of `hide` or `show` that cannot be one.
    #[error("the pattern `{given}` {why}")]
    Pattern {
        /// As given.
        given: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// More patterns than are compared with every name.
    #[error("there are more than 200 patterns")]
    TooManyPatterns,
    /// A name that no environment variable can have.
    #[error("`{0}` is not a name of an environment variable")]
    VariableName(String),
    /// A path that depends on the directory it is read in.
    #[error("`{0}` is not an absolute path; write it from `/` or `~/`")]
    RelativePath(String),
}

/// What is said where there may be no limit, and nowhere else.
const NONE: &str = "; write `none` for no limit";

impl ValueError {
    /// The same of a value in whose place there may be none.
    fn or_none(self) -> ValueError {
        match self {
            ValueError::Zero(what, _) => ValueError::Zero(what, NONE),
            ValueError::TooMuch { given, most, .. } => ValueError::TooMuch { given, most, instead: NONE },
            other => other,
        }
    }

    pub(super) fn pattern(given: &str, why: &'static str) -> ValueError {
        ValueError::Pattern { given: shown(given), why }
    }
}

fn shown(text: &str) -> String {
    const MOST: usize = 60;
    let text = printable(text.as_bytes());
    match text.char_indices().nth(MOST) {
        Some((cut, _)) => format!("{}…", &text[..cut]),
        None => text,
    }
}

/// What a `-` in front of a number or a unit means to say, before anything else is made of it.
fn not_negative(text: &str) -> Result<(), ValueError> {
    let number =
        text.trim().strip_prefix('-').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    if number { Err(ValueError::Negative(shown(text))) } else { Ok(()) }
}

fn is_none(text: &str) -> bool {
    matches!(text.trim(), "none" | "unlimited")
}

/// A size limit in bytes; `none` for no limit.
pub fn size_limit(text: &str) -> Result<Option<u64>, ValueError> {
    if is_none(text) { Ok(None) } else { size_value(text).map(Some).map_err(ValueError::or_none) }
}

/// A size in bytes, more than zero (a tmpfs of size 0 would be one without limit).
pub fn size_value(text: &str) -> Result<u64, ValueError> {
    not_negative(text)?;
    let short = if text.len() > 60 { shown(text) } else { text.to_owned() };
    match size::parse(&short)? {
        0 => Err(ValueError::Zero("a size", "")),
        n => Ok(n),
    }
}

/// A time limit; `none` for no limit.
pub fn time_limit(text: &str) -> Result<Option<Duration>, ValueError> {
    if is_none(text) {
        return Ok(None);
    }
    // Not "0 means none", as in timeout(1): 0 in a file that may only narrow would then be the widest value.
    match time_value(text).map_err(ValueError::or_none)? {
        d if d.as_millis() == 0 => Err(ValueError::Zero("a time limit", NONE)),
        d => Ok(Some(d)),
    }
}

/// A duration, possibly zero.
pub fn time_value(text: &str) -> Result<Duration, ValueError> {
    not_negative(text)?;
    let short = if text.len() > 60 { shown(text) } else { text.to_owned() };
    let d = duration::parse(&short)?;
    if d > LONGEST {
        return Err(ValueError::TooMuch { given: shown(text), most: "100 years", instead: "" });
    }
    Ok(d)
}

/// Processors in thousandths: `2`, `0.5`, `150%`; `none` for all.
pub fn cpu_limit(text: &str) -> Result<Option<u64>, ValueError> {
    if is_none(text) {
        return Ok(None);
    }
    not_negative(text)?;
    let bad = || ValueError::Cpus(shown(text));
    let t = text.trim();
    let (number, scale) = match t.strip_suffix('%') {
        Some(n) => (n.trim_end(), 10),
        None => (t, 1_000),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || whole.len() > 12 || fraction.len() > 3 || !digits(whole) || !digits(fraction) {
        return Err(bad());
    }
    let mut millis = whole.parse::<u64>().map_err(|_| bad())? * scale;
    if !fraction.is_empty() {
        millis += fraction.parse::<u64>().map_err(|_| bad())? * scale / 10u64.pow(fraction.len() as u32);
    }
    match millis {
        0..LEAST_CPU_MILLIS => Err(ValueError::Cpus(shown(text))),
        LEAST_CPU_MILLIS..=MOST_CPU_MILLIS => Ok(Some(millis)),
        _ => Err(ValueError::TooMuch { given: shown(text), most: "1000000 processors", instead: NONE }),
    }
}

/// A number of processes and threads; `none` for no limit.
pub fn pid_limit(text: &str) -> Result<Option<u64>, ValueError> {
    match count_limit(text, "a number of processes")? {
        Some(n) if n > MOST_PIDS => Err(ValueError::TooMuch {
            given: shown(text),
            most: "4194304, the kernel's own maximum",
            instead: NONE,
        }),
        n => Ok(n),
    }
}

/// A number of open files; `none` for whatever the host allows.
pub fn file_limit(text: &str) -> Result<Option<u64>, ValueError> {
    count_limit(text, "a number of open files")
}

pub(super) fn count_limit(text: &str, what: &'static str) -> Result<Option<u64>, ValueError> {
    if is_none(text) {
        return Ok(None);
    }
    not_negative(text)?;
    match text.trim().parse::<u64>() {
        Ok(0) => Err(ValueError::Zero(what, NONE)),
        Ok(n) => Ok(Some(n)),
        Err(_) => Err(ValueError::Count(shown(text))),
    }
}

/// `overlay`, `rw` or `ro`.
pub fn access(text: &str) -> Result<Access, ValueError> {
    match text {
        "overlay" => Ok(Access::Overlay),
        "rw" => Ok(Access::Rw),
        "ro" => Ok(Access::Ro),
        _ => Err(ValueError::Choice { given: shown(text), known: "`overlay`, `ro`, `rw`" }),
    }
}

/// `full`, `nested` or `lite`.
pub fn mode(text: &str) -> Result<Mode, ValueError> {
    match text {
        "full" => Ok(Mode::Full),
        "nested" => Ok(Mode::Nested),
        "lite" => Ok(Mode::Lite),
        _ => Err(ValueError::Choice { given: shown(text), known: "`full`, `nested`, `lite`" }),
    }
}

/// `none`, its other name `loopback`, or `host`.
pub fn net(text: &str) -> Result<Net, ValueError> {
    match text {
        "none" | "loopback" => Ok(Net::None),
        "host" => Ok(Net::Host),
        _ if text.starts_with("allow:") || text == "observe" => Err(ValueError::Later(shown(text))),
        _ => Err(ValueError::Choice { given: shown(text), known: "`none`, `loopback`, `host`" }),
    }
}

/// `standard`, `strict` or `log`.
pub fn seccomp(text: &str) -> Result<Seccomp, ValueError> {
    match text {
        "standard" => Ok(Seccomp::Standard),
        "strict" => Ok(Seccomp::Strict),
        "log" => Ok(Seccomp::Log),
        _ => Err(ValueError::Choice { given: shown(text), known: "`standard`, `strict`, `log`" }),
    }
}

/// `disk` or `memory`.
pub fn storage(text: &str) -> Result<Storage, ValueError> {
    match text {
        "disk" => Ok(Storage::Disk),
        "memory" => Ok(Storage::Memory),
        _ => Err(ValueError::Choice { given: shown(text), known: "`disk`, `memory`" }),
    }
}

/// `auto`, `none`, or names with commas between them.
pub fn tools(text: &str) -> Result<Tools, ValueError> {
    match text {
        "auto" => Ok(Tools::Auto),
        "none" => Ok(Tools::None),
        _ => {
            let names: Result<Vec<String>, _> = text.split(',').map(|n| tool_name(n.trim())).collect();
            Ok(Tools::Only(unique(names?)))
        }
    }
}

/// `auto`, `none`, or names with commas between them.
pub fn caches(text: &str) -> Result<Caches, ValueError> {
    tools(text).map_err(cache_error)
}

/// The name of one cache. Whether there is such a one is known later: users add their own.
pub fn cache_name(text: &str) -> Result<String, ValueError> {
    tool_name(text).map_err(cache_error)
}

fn cache_error(e: ValueError) -> ValueError {
    match e {
        ValueError::ToolName(name) => ValueError::CacheName(name),
        other => other,
    }
}

/// The name of one tool chain. Whether there is such a one is known later: users add their own.
pub fn tool_name(text: &str) -> Result<String, ValueError> {
    if is_tool_name(text) && !matches!(text, "auto" | "none") {
        Ok(text.to_owned())
    } else {
        Err(ValueError::ToolName(shown(text)))
    }
}

/// Whether `name` can name a tool chain.
pub(super) fn is_tool_name(name: &str) -> bool {
    (1..=32).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !name.starts_with('-')
}

/// Each name once, in the order given.
pub(super) fn unique(names: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    for name in names {
        if !out.contains(&name) {
            out.push(name);
        }
    }
    out
}

/// Whether `name` can name an environment variable: not empty, no `=`, no NUL.
pub fn is_variable_name(name: &[u8]) -> bool {
    !name.is_empty() && !name.iter().any(|b| matches!(b, b'=' | 0))
}

/// A size with the largest unit that keeps it exact: `8G`, `1536M`, `4097`.
pub fn size_text(bytes: u64) -> String {
    for (shift, unit) in [(40, 'T'), (30, 'G'), (20, 'M'), (10, 'K')] {
        if bytes != 0 && bytes.trailing_zeros() >= shift {
            return format!("{}{unit}", bytes >> shift);
        }
    }
    bytes.to_string()
}

/// A duration down to milliseconds: `1h30m`, `90ms`, `0s`.
pub fn time_text(d: Duration) -> String {
    let ms = d.as_millis();
    let parts = [(ms / 3_600_000, "h"), (ms / 60_000 % 60, "m"), (ms / 1000 % 60, "s"), (ms % 1000, "ms")];
    let text: String = parts.iter().filter(|(n, _)| *n > 0).map(|(n, u)| format!("{n}{u}")).collect();
    if text.is_empty() { "0s".to_owned() } else { text }
}

/// Thousandths of a processor: `2`, `0.5`.
pub fn cpu_text(millis: u64) -> String {
    let text = format!("{}.{:03}", millis / 1000, millis % 1000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// `none` for an absent limit.
pub fn limit_text<T: Copy>(value: Option<T>, text: impl Fn(T) -> String) -> String {
    value.map_or_else(|| "none".to_owned(), text)
}

macro_rules! words {
    ($($type:ty { $($variant:ident = $word:literal),* })*) => {$(
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $(Self::$variant => $word),* })
            }
        }
    )*};
}

words! {
    Mode { Full = "full", Nested = "nested", Lite = "lite" }
    Access { Overlay = "overlay", Rw = "rw", Ro = "ro" }
    Net { None = "none", Host = "host" }
    Seccomp { Standard = "standard", Strict = "strict", Log = "log" }
    Storage { Disk = "disk", Memory = "memory" }
}

impl fmt::Display for Tools {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Tools::None => f.write_str("none"),
            Tools::Auto => f.write_str("auto"),
            // An empty list allows as little as the word.
            Tools::Only(names) if names.is_empty() => f.write_str("none"),
            Tools::Only(names) => f.write_str(&names.join(",")),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn processors_parse_in_cores_and_percent() {
        for (text, millis) in [
            ("1", Some(1000)),
            ("0.5", Some(500)),
            ("2.25", Some(2250)),
            ("400%", Some(4000)),
            ("12.5%", Some(125)),
            ("0.01", Some(10)),
            ("none", None),
        ] {
            assert_eq!(cpu_limit(text), Ok(millis), "{text}");
        }
        for bad in ["", "0", "0.001", "-1", ".5", "1e3", "inf", "nan", "%", "1.2345", "99999999999999", "٣"]
        {
            assert!(cpu_limit(bad).is_err(), "{bad}");
        }
        assert!(matches!(cpu_limit("1000001"), Err(ValueError::TooMuch { .. })));
    }

    #[test]
    fn zero_is_never_a_silent_unlimited() {
        assert!(matches!(size_limit("0"), Err(ValueError::Zero(..))));
        assert!(matches!(time_limit("0"), Err(ValueError::Zero(..))));
        assert!(matches!(time_limit("0.1ms"), Err(ValueError::Zero(..))));
        assert!(matches!(pid_limit("0"), Err(ValueError::Zero(..))));
        assert!(matches!(file_limit("0"), Err(ValueError::Zero(..))));
        assert_eq!(time_value("0"), Ok(Duration::ZERO));
        // `none` is named where it is taken.
        for said in [size_value("0").unwrap_err(), time_value("99999999d").unwrap_err()] {
            assert!(!said.to_string().contains("none"), "{said}");
        }
        for said in [size_limit("0").unwrap_err(), time_limit("99999999d").unwrap_err()] {
            assert!(said.to_string().ends_with("; write `none` for no limit"), "{said}");
        }
    }

    #[test]
    fn numbers_no_kernel_takes_are_refused_here() {
        assert!(pid_limit("4194304").is_ok());
        assert!(pid_limit("4194305").is_err());
        assert!(time_limit("36500d").is_ok());
        assert!(time_limit("36501d").is_err());
        assert!(time_limit("18446744073709551615").is_err());
    }

    #[test]
    fn networks_of_later_versions_say_so() {
        assert_eq!(net("loopback"), Ok(Net::None));
        assert!(matches!(net("allow:example.org"), Err(ValueError::Later(_))));
        assert!(matches!(net("Host"), Err(ValueError::Choice { .. })));
    }

    #[test]
    fn messages_stay_short_and_printable() {
        let e = seccomp(&format!("\x1b]52;{}", "x".repeat(100_000))).unwrap_err().to_string();
        assert!(e.len() < 200 && !e.contains('\x1b'), "{e}");
        let e = size_limit(&"\x1b9".repeat(100_000)).unwrap_err().to_string();
        assert!(e.len() < 400 && !e.contains('\x1b'), "{e}");
    }

    proptest! {
        #[test]
        fn what_is_shown_reads_back(bytes in 1u64.., ms in 1u64..3_000_000_000_000, cpu in 10u64..1_000_000) {
            prop_assert_eq!(size_limit(&size_text(bytes)), Ok(Some(bytes)));
            let d = Duration::from_millis(ms);
            prop_assert_eq!(time_limit(&time_text(d)), Ok(Some(d)));
            prop_assert_eq!(cpu_limit(&cpu_text(cpu)), Ok(Some(cpu)));
        }
    }
}
