//! The catalogue of tool chains: what a caller's tools need of the caller's home, and nothing beside it.
//!
//! `flavors/*.toml` at the top of the repository is where it is written and explained (see
//! `flavors/rustup.toml`); [`table`] is made from it, so that a start parses no TOML. Users add their
//! own files in the same form, which [`parse`] reads.

mod guard;
mod reach;
mod read;
#[rustfmt::skip]
mod table;

use std::borrow::Cow;

pub use guard::{Refusal, refusal};
pub use reach::{Caller, Reached, expand, is_below, lead, matches, plain, reached};
pub use read::parse;

/// Items of a list: of the built-in table, or read from a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum List {
    /// Of the table.
    Fixed(&'static [&'static str]),
    /// Of a file.
    Read(Vec<String>),
}

impl List {
    /// The items in order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        let (fixed, read) = match self {
            List::Fixed(items) => (*items, &[][..]),
            List::Read(items) => (&[][..], items.as_slice()),
        };
        fixed.iter().copied().chain(read.iter().map(String::as_str))
    }
}

/// Variables and what they are about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pairs {
    /// Of the table.
    Fixed(&'static [(&'static str, &'static str)]),
    /// Of a file.
    Read(Vec<(String, String)>),
}

impl Pairs {
    /// The pairs in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let (fixed, read) = match self {
            Pairs::Fixed(pairs) => (*pairs, &[][..]),
            Pairs::Read(pairs) => (&[][..], pairs.as_slice()),
        };
        fixed.iter().copied().chain(read.iter().map(|(name, value)| (name.as_str(), value.as_str())))
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
}

/// The built-in ones, by name.
pub fn built_in() -> &'static [Flavor] {
    &table::ALL
}

/// The built-in ones with those of the user, which take the place of a built-in one of their name.
pub fn catalogue(own: &[Flavor]) -> impl Iterator<Item = &Flavor> {
    built_in().iter().filter(|f| own.iter().all(|o| o.name != f.name)).chain(own)
}

/// The name in `own` and the built-in ones that `given` probably meant.
pub fn meant(given: &str, own: &[Flavor]) -> Option<String> {
    super::suggest::nearest(given, catalogue(own).map(|f| f.name.as_ref())).map(str::to_owned)
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
