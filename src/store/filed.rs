//! Records that a person may read: TOML, and below it the settings that go with it, in a section `[policy]`.

use std::os::fd::AsFd;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::atomic::{self, Durability};
use super::error::{Error, Result};
use super::fault;
use crate::base::id::Id;
use crate::base::text;

/// How the settings begin. No value of a record can hold it: all are on one line each.
const POLICY: &str = "\n[policy]\n";

/// What is known of one thing.
pub trait Recorded: Serialize + DeserializeOwned {
    /// The name of its file.
    const FILE: &'static str;
    /// Bytes of that at most.
    const LIMIT: u64;
    /// The newest format that this `aj` writes.
    const FORMAT: u32;
    /// The oldest one that it reads.
    const OLDEST: u32 = Self::FORMAT;
    /// The format that it has.
    fn format(&self) -> u32;
    /// Whose it is.
    fn id(&self) -> Id;
}

/// A record with its settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filed<R> {
    /// The record.
    pub record: R,
    /// The whole file, as it was read.
    text: String,
    policy: String,
}

/// Why a record cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Unread {
    /// The state directory.
    #[error(transparent)]
    Store(#[from] Error),
    /// It is not what `aj` wrote.
    #[error("`{path}` is damaged: {why}")]
    Damaged {
        /// The file.
        path: String,
        /// What is wrong with it.
        why: String,
    },
    /// A newer `aj` wrote it.
    #[error("`{path}` has format {found}, made by a newer aj; this one knows format {known}")]
    Newer {
        /// The file.
        path: String,
        /// Its format.
        found: u32,
        /// The newest that this `aj` knows.
        known: u32,
    },
}

impl<R: Recorded> Filed<R> {
    /// A record and the text of its section `[policy]`, or nothing.
    pub fn new(record: R, policy: String) -> Filed<R> {
        Filed { record, text: String::new(), policy }
    }

    /// The section `[policy]`, empty when there is none.
    pub fn policy(&self) -> &str {
        &self.policy
    }

    /// The whole file as it was read.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The record of `id`, in the file `name` below the open directory `dir`, which is at `path`; `None`:
    /// there is none.
    pub(super) fn read_from(
        dir: impl AsFd,
        name: &str,
        path: &Path,
        id: Id,
    ) -> std::result::Result<Option<Filed<R>>, Unread> {
        let bytes = atomic::read(dir, name, R::LIMIT + 1).map_err(|e| Error::call("read", path, e))?;
        let Some(bytes) = bytes else { return Ok(None) };
        let path = text::os(path);
        let filed = match decode::<R>(bytes) {
            Ok(filed) => filed,
            Err(Undecoded::Damaged(why)) => return Err(Unread::Damaged { path, why }),
            Err(Undecoded::Newer(found)) => return Err(Unread::Newer { path, found, known: R::FORMAT }),
        };
        match filed.record.id() {
            whose if whose == id => Ok(Some(filed)),
            whose => Err(Unread::Damaged { path, why: format!("it is the record of `{whose}`") }),
        }
    }

    /// Write it to the open directory `dir`, which is at `path`.
    pub(super) fn write_to(&self, dir: impl AsFd, path: &Path) -> Result<()> {
        let failed = |e| Error::call("write", &path.join(R::FILE), e);
        let text = self.encode().map_err(|_| failed(nix::errno::Errno::EINVAL))?;
        fault::point();
        atomic::write(dir, R::FILE, text.as_bytes(), Durability::Synced).map_err(failed)?;
        fault::point();
        Ok(())
    }

    fn encode(&self) -> std::result::Result<String, toml::ser::Error> {
        let head = toml::to_string(&self.record)?;
        Ok(if self.policy.is_empty() { head } else { format!("{head}\n{}", self.policy) })
    }
}

/// Why bytes are no record.
#[derive(Debug)]
enum Undecoded {
    Damaged(String),
    Newer(u32),
}

fn decode<R: Recorded>(bytes: Vec<u8>) -> std::result::Result<Filed<R>, Undecoded> {
    #[derive(serde::Deserialize)]
    struct Format {
        format: u32,
    }
    let damaged = |why: &str| Undecoded::Damaged(why.to_owned());
    if bytes.len() as u64 > R::LIMIT {
        return Err(damaged("it is too large"));
    }
    let text = String::from_utf8(bytes).map_err(|_| damaged("it is not text"))?;
    let record: R = match toml::from_str(&text) {
        Ok(record) => record,
        // A newer one may look otherwise in all but this.
        Err(e) => {
            return Err(match toml::from_str::<Format>(&text) {
                Ok(Format { format }) if format > R::FORMAT => Undecoded::Newer(format),
                _ => Undecoded::Damaged(text::printable(e.message().as_bytes())),
            });
        }
    };
    match record.format() {
        found if found > R::FORMAT => return Err(Undecoded::Newer(found)),
        found if found < R::OLDEST => return Err(damaged("its format is none")),
        _ => {}
    }
    let policy = text.find(POLICY).map(|at| text[at + 1..].to_owned()).unwrap_or_default();
    Ok(Filed { record, text, policy })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::id::Kind;
    use crate::schema::workspace::{RECORD, Record};

    const LIMIT: u64 = Record::LIMIT;

    fn decode(bytes: Vec<u8>) -> std::result::Result<Filed<Record>, Undecoded> {
        super::decode(bytes)
    }

    fn record() -> Record {
        Record {
            format: RECORD,
            id: Id::random(Kind::Workspace).unwrap(),
            name: "api".parse().unwrap(),
            created_ms: 1_795_257_302_005,
            from_dir: Some("/home/me/a \"b\"".into()),
            ttl_ms: None,
            idle_ms: Some(5),
            rm_idle_ms: None,
            touched_ms: None,
            keep_until_ms: None,
            env_files: vec!["/e".into()],
            gpu: None,
            volumes: vec![],
            parent: None,
            group: None,
            layers: vec![],
            at: None,
            import: None,
            maker: None,
            labels: vec!["a".into(), "b=c".into()],
            meta: [("k".to_owned(), "v [policy] w".to_owned())].into(),
        }
    }

    #[test]
    fn a_record_is_read_back_with_its_settings() {
        let policy = "[policy]\nnet = \"host\"\n";
        for policy in ["", policy] {
            let filed = Filed::new(record(), policy.to_owned());
            let text = filed.encode().unwrap();
            let read = decode(text.clone().into_bytes()).unwrap();
            assert_eq!((&filed.record, policy, &*text), (&read.record, read.policy(), read.text()));
        }
    }

    #[test]
    fn half_a_record_is_none() {
        let whole = Filed::new(record(), "[policy]\nnet = \"host\"\n".to_owned()).encode().unwrap();
        for end in 0..whole.find("created").unwrap() {
            assert!(decode(whole.as_bytes()[..end].to_vec()).is_err(), "{end}");
        }
        assert!(decode(vec![b'#'; LIMIT as usize + 1]).is_err());
        assert!(decode(b"\xff".to_vec()).is_err());
    }

    #[test]
    fn a_newer_record_is_told_from_a_damaged_one_whatever_else_is_in_it() {
        for text in ["format = 99\nunheard = 1\n", "format = 99\n"] {
            assert!(matches!(decode(text.into()), Err(Undecoded::Newer(99))), "{text}");
        }
        let older = toml::to_string(&Record { format: 0, ..record() }).unwrap();
        for text in ["format = 1\n", "format = \"99\"\n", "", &older] {
            assert!(matches!(decode(text.into()), Err(Undecoded::Damaged(_))), "{text}");
        }
    }
}
