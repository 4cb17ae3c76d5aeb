//! Names that people give: slugs that are never taken for an id, a flag or a path.

use std::fmt;
use std::str::FromStr;

use super::id::{Id, Kind};

/// Characters of a name at most: it is a host name, too.
const LONGEST: usize = 63;

/// A name such as `api` or `calm-otter`: lower-case letters, digits, `-` and `_`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

/// Why a text is no name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAName {
    /// Other characters, or too many.
    #[error("`{0}` cannot be a name: use up to 63 lower-case letters, digits, `-` and `_`, not first")]
    Spelling(String),
    /// It would be taken for something else.
    #[error("`{0}` cannot be a name: it reads like an id")]
    LikeAnId(String),
    /// A word of `aj`.
    #[error("`{0}` cannot be a name: it is a word of aj")]
    Word(String),
}

impl Name {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A made-up name, `calm-otter`. Fails only when the kernel has no randomness to give.
    pub fn random() -> Result<Name, getrandom::Error> {
        let mut raw = [0u8; 4];
        getrandom::fill(&mut raw)?;
        let [a, b, c, d] = raw.map(usize::from);
        let pick =
            |words: &[&'static str], n: usize| words.get(n % words.len().max(1)).copied().unwrap_or("");
        Ok(Name(format!("{}-{}", pick(&ADJECTIVES, a << 8 | b), pick(&NOUNS, c << 8 | d))))
    }

    /// This name with a number after it, cut short where it would be too long.
    pub fn numbered(&self, n: u32) -> Name {
        let number = format!("-{n}");
        let stem: String = self.0.chars().take(LONGEST.saturating_sub(number.len())).collect();
        Name(format!("{stem}{number}"))
    }
}

impl FromStr for Name {
    type Err = NotAName;

    fn from_str(text: &str) -> Result<Name, NotAName> {
        let shown = || {
            let text = super::text::printable(text.as_bytes());
            text.chars().take(LONGEST + 1).collect()
        };
        let first = text.bytes().next().is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_');
        if !first || text.len() > LONGEST || !text.bytes().all(plain) {
            return Err(NotAName::Spelling(shown()));
        }
        // Whatever comes after the prefix of an id: `jl-api` would be one of these words to the reader.
        if Id::looks_like(text) || Kind::ALL.iter().any(|kind| text.starts_with(kind.prefix())) {
            return Err(NotAName::LikeAnId(shown()));
        }
        if matches!(text, "latest" | "vol") {
            return Err(NotAName::Word(shown()));
        }
        Ok(Name(text.to_owned()))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl serde::Serialize for Name {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&self.0)
    }
}

impl<'de> serde::Deserialize<'de> for Name {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Name, D::Error> {
        let text = <String as serde::Deserialize>::deserialize(d)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

const ADJECTIVES: [&str; 48] = [
    "amber", "ample", "apt", "bold", "brave", "brisk", "calm", "clear", "clever", "cosy", "crisp", "deft",
    "eager", "early", "fair", "fleet", "fond", "fresh", "gentle", "glad", "grand", "happy", "hardy", "jolly",
    "keen", "kind", "lively", "lucid", "lucky", "mellow", "merry", "mild", "neat", "nimble", "noble",
    "plain", "proud", "quick", "quiet", "rapid", "ready", "sharp", "silent", "sober", "steady", "sunny",
    "swift", "warm",
];

const NOUNS: [&str; 48] = [
    "acorn", "alder", "anchor", "apple", "aspen", "badger", "beacon", "beech", "birch", "brook", "cedar",
    "clover", "comet", "crane", "creek", "delta", "falcon", "fern", "finch", "forest", "harbor", "hazel",
    "heron", "island", "ivy", "lantern", "larch", "lark", "maple", "meadow", "moss", "otter", "owl",
    "pebble", "pine", "plover", "quartz", "raven", "reed", "river", "robin", "rowan", "sparrow", "spruce",
    "tern", "thistle", "willow", "wren",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_slug_that_nothing_else_looks_like() {
        for good in ["api", "a", "9lives", "web_2-b", &"x".repeat(63), "wsx", "jl"] {
            assert_eq!(good.parse::<Name>().map(|n| n.to_string()), Ok(good.to_owned()));
        }
        for bad in [
            "",
            "-a",
            "_a",
            "A",
            "a b",
            "a/b",
            "..",
            "é",
            "a\n",
            &"x".repeat(64),
            "ws-7k3m",
            "jl-",
            "latest",
            "@",
        ] {
            assert!(bad.parse::<Name>().is_err(), "{bad:?}");
        }
        let e = "\u{1b}[31m".parse::<Name>().unwrap_err();
        assert!(!e.to_string().contains('\u{1b}'), "{e}");
    }

    #[test]
    fn made_up_names_are_names_also_with_a_number() {
        for word in ADJECTIVES.iter().flat_map(|a| NOUNS.iter().map(move |n| format!("{a}-{n}"))) {
            assert_eq!(word.parse::<Name>().unwrap().as_str(), word);
        }
        let long: Name = "x".repeat(63).parse().unwrap();
        for n in [2, 1234] {
            for name in [Name::random().unwrap(), long.clone()] {
                let numbered = name.numbered(n).to_string();
                assert!(
                    numbered.ends_with(&format!("-{n}")) && numbered.parse::<Name>().is_ok(),
                    "{numbered}"
                );
            }
        }
    }
}
