//! The catalogue of tool chains: what a caller's tools need of the caller's home, and nothing beside it.
//!
//! `flavors/*.toml` at the top of the repository is where it is written and explained (see
//! `flavors/rustup.toml`). A start parses no TOML: `table.txt` is made from the files and built in, a
//! line a tool chain. Users add their own files in the same form, which [`parse`] reads.

mod cache;
mod guard;
mod reach;
mod read;
mod read_cache;

use std::borrow::Cow;

pub use cache::{Cache, built_in as caches, has_credentials, option_in, variable_of};
pub use guard::{Refusal, private, refusal};
pub use reach::{Caller, Reached, expand, is_below, lead, matches, plain, reached};
pub use read::parse;

/// The variables of all, then the built-in ones, a line each: fields between tabs, items between `|`,
/// in the order of [`Flavor`]'s.
const TABLE: &str = include_str!("table.txt");
/// Fields of a line.
const FIELDS: usize = 9;
/// Where each line begins, and where each of its fields ends, found by the compiler: a start looks at all lines.
static ENDS: [[u16; FIELDS + 1]; LINES] = ends();
const LINES: usize = lines();

const fn lines() -> usize {
    let (mut count, mut at) = (0, 0);
    while at < TABLE.len() {
        count += (TABLE.as_bytes()[at] == b'\n') as usize;
        at += 1;
    }
    // The first one holds the variables.
    count - 1
}

const fn ends() -> [[u16; FIELDS + 1]; LINES] {
    let bytes = TABLE.as_bytes();
    assert!(bytes.len() < u16::MAX as usize);
    let mut ends = [[0; FIELDS + 1]; LINES];
    let (mut at, mut line, mut field) = (0, 0, 0);
    while bytes[at] != b'\n' {
        at += 1;
    }
    while line < LINES {
        at += 1;
        match bytes[at] {
            _ if field == 0 => {
                ends[line][0] = at as u16;
                field = 1;
                // The first field is a name, and not empty.
            }
            b'\t' => {
                ends[line][field] = at as u16;
                field += 1;
            }
            b'\n' => {
                assert!(field == FIELDS, "a line has another number of fields");
                ends[line][field] = at as u16;
                (line, field) = (line + 1, 0);
            }
            _ => {}
        }
    }
    ends
}

/// Items of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum List {
    /// Of the table.
    Fixed(&'static str),
    /// Of a file.
    Read(Vec<String>),
}

impl List {
    /// The items in order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        let (fixed, read) = match self {
            List::Fixed(items) => (*items, &[][..]),
            List::Read(items) => ("", items.as_slice()),
        };
        fixed.split('|').filter(|item| !item.is_empty()).chain(read.iter().map(String::as_str))
    }
}

/// Variables and what they are about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pairs {
    /// Of the table: `NAME=value`.
    Fixed(&'static str),
    /// Of a file.
    Read(Vec<(String, String)>),
}

impl Pairs {
    /// The pairs in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let (fixed, read) = match self {
            Pairs::Fixed(pairs) => (*pairs, &[][..]),
            Pairs::Read(pairs) => ("", pairs.as_slice()),
        };
        let fixed = fixed.split('|').filter_map(|pair| pair.split_once('='));
        fixed.chain(read.iter().map(|(name, value)| (name.as_str(), value.as_str())))
    }

    /// What stands beside `name`.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter().find(|(n, _)| *n == name).map(|(_, value)| value)
    }
}

/// One tool chain. Its fields are the keys of its file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flavor {
    /// What `--tools` takes.
    pub name: Cow<'static, str>,
    /// One line for people.
    pub about: Cow<'static, str>,
    /// Where an entry of PATH reaches it.
    pub path: List,
    /// What is shown.
    pub show: List,
    /// What is seen empty in it.
    pub hide: List,
    /// What is linked in the jail's home as well.
    pub home: List,
    /// Variables copied.
    pub copy: List,
    /// Variables that name a place, and their usual values.
    pub places: Pairs,
    /// Variables set.
    pub set: Pairs,
    /// Its package cache: of files only, the built-in ones are [`caches`].
    pub cache: Option<Box<Cache>>,
}

/// The variables that name places of the built-in ones, each once.
pub fn variables() -> impl Iterator<Item = &'static str> {
    TABLE.split_once('\n').map_or("", |(first, _)| first).split('\t').filter(|name| !name.is_empty())
}

/// The built-in ones, by name.
pub fn built_in() -> impl Iterator<Item = Flavor> {
    ENDS.iter().filter_map(|ends| {
        let mut begin = usize::from(ends[0]);
        let mut fields = ends[1..].iter();
        let mut field = || {
            let end = usize::from(*fields.next()?);
            let field = TABLE.get(begin..end);
            begin = end + 1;
            field
        };
        Some(Flavor {
            name: Cow::Borrowed(field()?),
            about: Cow::Borrowed(field()?),
            path: List::Fixed(field()?),
            show: List::Fixed(field()?),
            hide: List::Fixed(field()?),
            home: List::Fixed(field()?),
            copy: List::Fixed(field()?),
            places: Pairs::Fixed(field()?),
            set: Pairs::Fixed(field()?),
            cache: None,
        })
    })
}

/// The built-in ones and those of the user, which take the place of a built-in one of their name.
pub fn catalogue(own: &[Flavor]) -> impl Iterator<Item = Flavor> {
    built_in().filter(|f| own.iter().all(|o| o.name != f.name)).chain(own.iter().cloned())
}

/// The one of `known` that `given` probably meant.
pub fn nearest<'a>(given: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    super::suggest::nearest(given, known).map(str::to_owned)
}

/// The name in the catalogue that `given` probably meant.
pub fn meant(given: &str, own: &[Flavor]) -> Option<String> {
    let names: Vec<String> = catalogue(own).map(|f| f.name.into_owned()).collect();
    nearest(given, names.iter().map(String::as_str))
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
