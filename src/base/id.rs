//! Ids: a kind prefix and 80 random bits as 16 lower-case Crockford base32 characters.
//!
//! Random rather than time-ordered, so that the short prefixes people type diverge early.

use std::fmt;
use std::str::FromStr;

const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
const DIGITS: usize = 16;

/// What an id names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// One run of a command: `jl-…`.
    Jail,
    /// A workspace: `ws-…`.
    Workspace,
    /// A command in the background: `jb-…`.
    Job,
    /// A volume: `vl-…`.
    Volume,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 4] = [Kind::Jail, Kind::Workspace, Kind::Job, Kind::Volume];

    /// The prefix with its dash.
    pub fn prefix(self) -> &'static str {
        match self {
            Kind::Jail => "jl-",
            Kind::Workspace => "ws-",
            Kind::Job => "jb-",
            Kind::Volume => "vl-",
        }
    }
}

/// An id such as `jl-7k3m9q0c2v4x8z1b`. Always lower-case ASCII, always [`Id::LEN`] bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id([u8; Id::LEN]);

impl Id {
    /// Bytes of the text form: prefix, dash, digits.
    pub const LEN: usize = 3 + DIGITS;

    /// A fresh random id. Fails only when the kernel has no randomness to give.
    pub fn random(kind: Kind) -> Result<Id, getrandom::Error> {
        let mut raw = [0u8; 10];
        getrandom::fill(&mut raw)?;
        Ok(Id::from_bits(kind, raw))
    }

    fn from_bits(kind: Kind, raw: [u8; 10]) -> Id {
        let mut wide = [0u8; 16];
        wide[6..].copy_from_slice(&raw);
        let mut bits = u128::from_be_bytes(wide);
        let mut out = [0u8; Id::LEN];
        out[..3].copy_from_slice(kind.prefix().as_bytes());
        for slot in out[3..].iter_mut().rev() {
            *slot = ALPHABET[(bits & 31) as usize];
            bits >>= 5;
        }
        Id(out)
    }

    /// The text form.
    pub fn as_str(&self) -> &str {
        // ASCII by construction: both constructors write prefix and alphabet bytes only.
        std::str::from_utf8(&self.0).unwrap_or("")
    }

    /// What it names.
    pub fn kind(&self) -> Kind {
        let is = |kind: &Kind| self.as_str().starts_with(kind.prefix());
        Kind::ALL.into_iter().find(is).unwrap_or(Kind::Jail)
    }

    /// Whether `text` could be a (possibly shortened) id: a known prefix and base32 digits.
    /// Names may not look like this, so the two never shadow each other.
    pub fn looks_like(text: &str) -> bool {
        Kind::ALL.iter().any(|k| {
            text.strip_prefix(k.prefix())
                .is_some_and(|d| d.len() <= DIGITS && d.bytes().all(|b| ALPHABET.contains(&b)))
        })
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text is not a full id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an id")]
pub struct NotAnId(pub String);

impl FromStr for Id {
    type Err = NotAnId;

    fn from_str(text: &str) -> Result<Id, NotAnId> {
        let bad = || NotAnId(crate::base::text::printable(text.as_bytes()));
        if !Id::looks_like(text) {
            return Err(bad());
        }
        Ok(Id(text.as_bytes().try_into().map_err(|_| bad())?))
    }
}

impl serde::Serialize for Id {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(self.as_str())
    }
}

impl<'de> serde::Deserialize<'de> for Id {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Id, D::Error> {
        let text = <String as serde::Deserialize>::deserialize(d)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_round_trips_and_is_lower_case_base32() {
        let id = Id::from_bits(Kind::Jail, [0xff; 10]);
        assert_eq!(id.as_str(), "jl-zzzzzzzzzzzzzzzz");
        assert_eq!("jl-zzzzzzzzzzzzzzzz".parse(), Ok(id));
        let workspace = Id::from_bits(Kind::Workspace, [0; 10]);
        assert_eq!(workspace.as_str(), "ws-0000000000000000");
        let job = Id::from_bits(Kind::Job, [0; 10]);
        assert_eq!((id.kind(), workspace.kind(), job.kind()), (Kind::Jail, Kind::Workspace, Kind::Job));
    }

    #[test]
    fn random_ids_differ_in_their_first_digits() {
        let ids: std::collections::BTreeSet<_> =
            (0..64).map(|_| Id::random(Kind::Jail).unwrap().as_str()[..9].to_owned()).collect();
        assert!(ids.len() > 60, "{ids:?}");
    }

    #[test]
    fn what_is_not_an_id_is_refused() {
        for bad in [
            "",
            "jl-",
            "jl-7k3m",
            "jl-ZZZZZZZZZZZZZZZZ",
            "xx-0000000000000000",
            "jl-00000000000000000",
            "jl-uuuuuuuuuuuuuuuu",
        ] {
            assert!(bad.parse::<Id>().is_err(), "{bad}");
        }
        assert!(Id::looks_like("jl-7k3m"));
        assert!(!Id::looks_like("jl-api!"));
        assert!(!Id::looks_like("api"));
    }
}
