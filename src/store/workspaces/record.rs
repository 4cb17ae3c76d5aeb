//! `workspace.toml`: what is known of a workspace, and below it the settings that each command in it gets.

use std::path::PathBuf;

use super::super::error::Result;
use super::super::filed::{self, Recorded, Unread};
use super::super::layout::StateDir;
use super::{DIR, dir_of};
use crate::base::id::Id;
use crate::schema::workspace::{RECORD, RECORD_OF_IMPORT, Record};

/// A record with its settings.
pub type Filed = filed::Filed<Record>;

impl Recorded for Record {
    const FILE: &'static str = "workspace.toml";
    const LIMIT: u64 = 1 << 20;
    const FORMAT: u32 = RECORD_OF_IMPORT;
    const OLDEST: u32 = RECORD;

    fn format(&self) -> u32 {
        self.format
    }

    fn id(&self) -> Id {
        self.id
    }
}

/// Where the record of workspace `id` is.
pub fn path_of(state: &StateDir, id: Id) -> PathBuf {
    dir_of(state, id).join(Record::FILE)
}

impl Filed {
    /// The record of workspace `id`; `None`: there is none.
    pub fn read(state: &StateDir, id: Id) -> std::result::Result<Option<Filed>, Unread> {
        let below = format!("{DIR}/{id}/{}", Record::FILE);
        Filed::read_from(state, &below, &path_of(state, id), id)
    }

    /// Write it where it lies.
    pub(super) fn write_in(&self, state: &StateDir) -> Result<()> {
        let dir = state.subdir(&format!("{DIR}/{}", self.record.id))?;
        self.write_to(&dir, &dir_of(state, self.record.id))
    }
}
