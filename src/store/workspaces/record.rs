//! `workspace.toml`: what is known of a workspace, and below it the settings that each command in it gets.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use super::super::atomic::{self, Durability};
use super::super::error::{Error, Result};
use super::super::fault;
use super::super::layout::StateDir;
use super::{DIR, dir_of};
use crate::base::id::Id;
use crate::base::text;
use crate::schema::workspace::{RECORD, Record};

const FILE: &str = "workspace.toml";
/// Bytes of a record at most.
const LIMIT: u64 = 1 << 20;
/// How the settings begin. No value of the record can hold it: all are on one line each.
const POLICY: &str = "\n[policy]\n";

/// A record with its settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filed {
    /// The record.
    pub record: Record,
    /// The whole file, as it was read or is to be written.
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
    #[error("`{path}` has format {found}, made by a newer aj; this one knows format {RECORD}")]
    Newer {
        /// The file.
        path: String,
        /// Its format.
        found: u32,
    },
}

/// Where the record of workspace `id` is.
pub fn path_of(state: &StateDir, id: Id) -> PathBuf {
    dir_of(state, id).join(FILE)
}

impl Filed {
    /// A record and the text of its section `[policy]`, or nothing.
    pub fn new(record: Record, policy: String) -> Filed {
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

    /// The record of workspace `id`; `None`: there is none.
    pub fn read(state: &StateDir, id: Id) -> std::result::Result<Option<Filed>, Unread> {
        let path = path_of(state, id);
        let bytes = atomic::read(state, &format!("{DIR}/{id}/{FILE}"), LIMIT + 1);
        let Some(bytes) = bytes.map_err(|e| Error::call("read", &path, e))? else { return Ok(None) };
        let damaged = |why: String| Unread::Damaged { path: text::os(&path), why };
        let filed = decode(bytes).map_err(damaged)?;
        match filed.record.format {
            RECORD if filed.record.id == id => Ok(Some(filed)),
            RECORD => Err(damaged(format!("it is the record of `{}`", filed.record.id))),
            found if found > RECORD => Err(Unread::Newer { path: text::os(&path), found }),
            _ => Err(damaged("its format is none".to_owned())),
        }
    }

    /// Write it to the open directory of its workspace, which is at `path`.
    pub(super) fn write(&self, dir: impl AsFd, path: &Path) -> Result<()> {
        let failed = |e| Error::call("write", &path.join(FILE), e);
        let text = self.encode().map_err(|_| failed(nix::errno::Errno::EINVAL))?;
        fault::point();
        atomic::write(&dir, FILE, text.as_bytes(), Durability::Synced).map_err(failed)?;
        fault::point();
        Ok(())
    }

    /// The same where it lies.
    pub(super) fn write_in(&self, state: &StateDir) -> Result<()> {
        let dir = state.subdir(&format!("{DIR}/{}", self.record.id))?;
        self.write(&dir, &dir_of(state, self.record.id))
    }

    fn encode(&self) -> std::result::Result<String, toml::ser::Error> {
        let head = toml::to_string(&self.record)?;
        Ok(if self.policy.is_empty() { head } else { format!("{head}\n{}", self.policy) })
    }
}

fn decode(bytes: Vec<u8>) -> std::result::Result<Filed, String> {
    if bytes.len() as u64 > LIMIT {
        return Err("it is too large".to_owned());
    }
    let text = String::from_utf8(bytes).map_err(|_| "it is not text".to_owned())?;
    let record: Record = toml::from_str(&text).map_err(|e| text::printable(e.message().as_bytes()))?;
    let policy = text.find(POLICY).map(|at| text[at + 1..].to_owned()).unwrap_or_default();
    Ok(Filed { record, text, policy })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::id::Kind;

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
            layers: vec![],
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
}
