//! `job.toml`: what is known of a job, and below it the settings that it was started with.

use std::os::fd::AsFd;
use std::path::Path;

use super::super::atomic::{self, Durability};
use super::super::error::{Error, Result};
use super::shown;
use crate::base::id::Id;
use crate::base::text;
use crate::schema::job::{RECORD, Record};

const FILE: &str = "job.toml";
/// Bytes of a record at most: a command line has 2 MB.
const LIMIT: u64 = 16 << 20;
/// How the settings begin. No value of the record can hold it: all are on one line each.
const POLICY: &str = "\n[policy]\n";

/// A record with its settings.
#[derive(Debug, Clone, PartialEq)]
pub struct Filed {
    /// The record.
    pub record: Record,
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

impl Filed {
    /// A record and the text of its section `[policy]`, or nothing.
    pub fn new(record: Record, policy: String) -> Filed {
        Filed { record, policy }
    }

    /// The section `[policy]`, empty when there is none.
    pub fn policy(&self) -> &str {
        &self.policy
    }

    pub(super) fn read(dir: impl AsFd, path: &Path, id: Id) -> std::result::Result<Option<Filed>, Unread> {
        #[derive(serde::Deserialize)]
        struct Format {
            format: u32,
        }
        let path = path.join(FILE);
        let bytes = atomic::read(dir, FILE, LIMIT + 1).map_err(|e| Error::call("read", &path, e))?;
        let Some(bytes) = bytes else { return Ok(None) };
        let damaged = |why: String| Unread::Damaged { path: shown(&path), why };
        if bytes.len() as u64 > LIMIT {
            return Err(damaged("it is too large".to_owned()));
        }
        let whole = String::from_utf8(bytes).map_err(|_| damaged("it is not text".to_owned()))?;
        let wrong = |e: toml::de::Error| damaged(text::printable(e.message().as_bytes()));
        let found = toml::from_str::<Format>(&whole).map_err(wrong)?.format;
        if found > RECORD {
            return Err(Unread::Newer { path: shown(&path), found });
        }
        let record: Record = toml::from_str(&whole).map_err(wrong)?;
        if found != RECORD || record.id != id {
            return Err(damaged("it is not the record of this job".to_owned()));
        }
        let policy = whole.find(POLICY).map(|at| whole[at + 1..].to_owned()).unwrap_or_default();
        Ok(Some(Filed { record, policy }))
    }

    pub(super) fn write(&self, dir: impl AsFd, path: &Path) -> Result<()> {
        let failed = |e| Error::call("write", &path.join(FILE), e);
        let head = toml::to_string(&self.record).map_err(|_| failed(nix::errno::Errno::EINVAL))?;
        let whole = if self.policy.is_empty() { head } else { format!("{head}\n{}", self.policy) };
        atomic::write(dir, FILE, whole.as_bytes(), Durability::Synced).map_err(failed)
    }
}
