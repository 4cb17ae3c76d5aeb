//! Package caches: where each tool keeps its own, and how it finds it inside. `[cache]` of the files
//! of [`super`], see `flavors/cargo.toml`; `caches.txt` is their table, read only where a jail is to
//! show any.

use std::borrow::Cow;
use std::path::PathBuf;

use super::reach::{below_home, join};
use super::{Caller, List, Pairs};

/// The built-in ones, a line each: fields between tabs, items between `|`, in the order of [`Cache`]'s.
const TABLE: &str = include_str!("caches.txt");

/// How often the usual value of a variable may lead to another variable.
const DEEPEST: usize = 3;

/// The cache of one tool. Its fields are the keys of `[cache]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cache {
    /// What `--caches` takes: the name of the file.
    pub name: Cow<'static, str>,
    /// One line for people.
    pub about: Cow<'static, str>,
    /// Programs that use it: it is shown when the jail has one of them.
    pub programs: List,
    /// Directories that are shown.
    pub show: List,
    /// What is seen empty in them.
    pub hide: List,
    /// Files in them that are seen empty when they hold a URL with a password.
    pub tokens: List,
    /// Variables that name a place, and their usual values.
    pub places: Pairs,
    /// Variables set inside when a directory is shown.
    pub set: Pairs,
    /// Variables set inside to the caller's value, when that leads to what is shown.
    pub copy: List,
    /// Names in the jail's home that lead to a place.
    pub home: Pairs,
    /// What is written to it may be large, also without a network.
    pub grows: bool,
}

/// A variable as `[cache.where]` names it: `NAME`, or `NAME OPTION` for one that holds options, of which
/// `OPTION=` is followed by the place.
pub fn variable_of(name: &str) -> (&str, Option<&str>) {
    name.split_once(' ').map_or((name, None), |(name, option)| (name, Some(option)))
}

/// The value of `option` among the words of a variable's `value`. The last one holds.
pub fn option_in<'v>(value: &'v str, option: &str) -> Option<&'v str> {
    value.split_whitespace().rev().find_map(|word| word.strip_prefix(option)?.strip_prefix('='))
}

impl Cache {
    /// The place that `item` means, with its `*`s. `None`: it needs a variable or a home that is not
    /// there.
    pub fn expand(&self, item: &str, caller: &Caller<'_>) -> Option<PathBuf> {
        self.expand_below(item, caller, DEEPEST)
    }

    fn expand_below(&self, item: &str, caller: &Caller<'_>, deep: usize) -> Option<PathBuf> {
        let Some(rest) = item.strip_prefix('$') else { return below_home(item, caller) };
        let (name, rest) = rest.split_once('/').unwrap_or((rest, ""));
        // A variable with options is named by its first word.
        let (key, usual) = self.places.iter().find(|(key, _)| variable_of(key).0 == name)?;
        if let Some(value) = caller.variable(key) {
            return Some(join(value, rest));
        }
        let usual = (!usual.is_empty() && deep > 0).then_some(usual)?;
        Some(join(&self.expand_below(usual, caller, deep - 1)?, rest))
    }
}

/// The built-in ones, by name.
pub fn built_in() -> impl Iterator<Item = Cache> {
    TABLE.lines().filter_map(|line| {
        let mut fields = line.split('\t');
        let mut field = || fields.next();
        Some(Cache {
            name: Cow::Borrowed(field()?),
            about: Cow::Borrowed(field()?),
            programs: List::Fixed(field()?),
            show: List::Fixed(field()?),
            hide: List::Fixed(field()?),
            tokens: List::Fixed(field()?),
            places: Pairs::Fixed(field()?),
            set: Pairs::Fixed(field()?),
            copy: List::Fixed(field()?),
            home: Pairs::Fixed(field()?),
            grows: !field()?.is_empty(),
        })
    })
}

/// Whether a text holds a URL with a user and a password, or a token, before its host.
pub fn has_credentials(text: &[u8]) -> bool {
    text.windows(3).enumerate().filter(|(_, window)| window == b"://").any(|(at, _)| {
        let rest = text.get(at + 3..).unwrap_or_default();
        let ends = |b: &u8| matches!(b, b'/' | b'?' | b'#' | b'"' | b'\'' | b'<' | b'>') || *b <= b' ';
        let host = rest.split(ends).next().unwrap_or_default();
        host.contains(&b'@')
    })
}
