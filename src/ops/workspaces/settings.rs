//! The settings that a workspace keeps, made ready for a command.

use std::path::{Path, PathBuf};

use super::{Error, Found};
use crate::ops::config;
use crate::policy::gpu::{self, Gpus};
use crate::policy::stored::{self, Stored};
use crate::policy::volume::{self, Mount};
use crate::store::workspaces::record_path;

/// What each command in a workspace gets.
#[derive(Debug, Clone, Default)]
pub struct Kept {
    /// Settings, its files of variables included.
    pub stored: Stored,
    /// GPUs.
    pub gpus: Option<Gpus>,
    /// Volumes, by id.
    pub volumes: Vec<Mount>,
}

impl Found {
    /// The settings that it keeps. Its files of variables are read now.
    pub fn kept(&self) -> Result<Kept, Error> {
        let record = &self.filed.record;
        let shown = config::shown(&record_path(&self.state, record.id));
        let mut stored = stored::parse(&shown, record.name.as_str(), self.filed.text().as_bytes())?;
        if !record.env_files.is_empty() {
            let files: Vec<PathBuf> = record.env_files.iter().map(PathBuf::from).collect();
            stored.layer = config::with_env_files(Path::new("/"), stored.layer, &files)?;
        }
        let gpus = record.gpu.as_deref().and_then(|text| gpu::parse(text).ok());
        let mounts = record.volumes.iter().map(|text| volume::parse(text).map_err(Error::Attachment));
        let volumes = mounts.collect::<Result<_, _>>()?;
        Ok(Kept { stored, gpus, volumes })
    }
}
