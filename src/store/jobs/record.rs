//! `job.toml`: what is known of a job, and below it the settings that it was started with.

use super::super::filed::{self, Recorded};
use crate::base::id::Id;
use crate::schema::job::{RECORD, Record};

/// A record with its settings.
pub type Filed = filed::Filed<Record>;

impl Recorded for Record {
    const FILE: &'static str = "job.toml";
    // A command line has 2 MB.
    const LIMIT: u64 = 16 << 20;
    const FORMAT: u32 = RECORD;

    fn format(&self) -> u32 {
        self.format
    }

    fn id(&self) -> Id {
        self.id
    }
}
