//! The two files people write: the user's `config.toml` and a project's `aj.toml`.
//!
//! ```toml
//! # ~/.config/agentjail/config.toml          # aj.toml
//! [defaults]                                  # [jail]
//! preset = "build"                            # timeout = "10m"
//! mem = "4G"                                  # seccomp = "strict"
//! ro = ["~/tools"]
//! [env]
//! PAGER = "cat"
//! [limits.max]
//! mem = "16G"
//! [keep]
//! age = "30d"
//! [presets.night]
//! timeout = "8h"
//! ```
//!
//! Both are read into layers; what a layer may do is decided in [`resolve`](super::resolve()). The
//! project's file is hostile input: its size, its depth (the parser stops at 80) and what it can
//! print are bounded here. Values are taken from the spanned tree by hand instead of by serde, so
//! that every complaint names a line.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use super::keep::Keep;
use super::key::Key;
use super::layer::{At, Layer};
use super::read::{Paths, Reader, short};
use super::value::ValueError;

/// Largest file that is read, in bytes.
pub const LARGEST: usize = 1 << 20;

/// Opening braces a project's file may hold, wherever they stand. The parser bounds the depth of
/// inline tables and the length of a dotted key to 80 each, but not their product, and dropping a tree
/// of 6400 levels fills a small stack. Counting every `{` needs no lexer that could be fooled.
pub const MOST_BRACES: usize = 32;

/// A file that could not be used, with the line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}: {problem}")]
pub struct FileError {
    /// The file as shown to the user.
    pub file: String,
    /// Line, from 1.
    pub line: u32,
    /// What is wrong there.
    pub problem: Problem,
}

/// What is wrong with a file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// Above [`LARGEST`].
    #[error("the file is larger than 1 MiB")]
    TooLarge,
    /// Not text.
    #[error("byte {0} of the file is not UTF-8")]
    NotUtf8(usize),
    /// Not TOML.
    #[error("not valid TOML: {0}")]
    Syntax(String),
    /// More `{` than [`MOST_BRACES`].
    #[error("more than {MOST_BRACES} `{{` in a project's file")]
    Braces,
    /// A value of another type.
    #[error("`{key}` must be {expected}, not {found}")]
    Type {
        /// The key with its section.
        key: String,
        /// What it takes.
        expected: &'static str,
        /// What stands there.
        found: &'static str,
    },
    /// A value that means nothing for this key.
    #[error("`{key}`: {why}")]
    Value {
        /// The key with its section.
        key: String,
        /// Why not.
        why: ValueError,
    },
    /// A setting where nothing reads it. To go on without it would show or allow what its writer forbade.
    #[error("`{key}` {place} would have no effect; it belongs below a line `{right}`")]
    Misplaced {
        /// The setting.
        key: String,
        /// Where it stands.
        place: String,
        /// The table that has it.
        right: &'static str,
    },
    /// A preset name that could not be typed after `--preset`.
    #[error("`{0}` cannot name a preset; use letters, digits, `-` and `_`")]
    PresetName(String),
}

/// Hard upper bounds: `[limits.max]`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Max {
    /// Of `timeout`.
    pub timeout: Option<At<Duration>>,
    /// Of `mem`, bytes.
    pub mem: Option<At<u64>>,
    /// Of `cpus`, thousandths.
    pub cpu_millis: Option<At<u64>>,
    /// Of `pids`.
    pub pids: Option<At<u64>>,
    /// Of `nofile`.
    pub nofile: Option<At<u64>>,
    /// Of `tmp`, bytes.
    pub tmp: Option<At<u64>>,
    /// Of `disk`, bytes.
    pub disk: Option<At<u64>>,
    /// Of `io_read`, bytes in a second.
    pub io_read: Option<At<u64>>,
    /// Of `io_write`, bytes in a second.
    pub io_write: Option<At<u64>>,
}

/// The user's `config.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UserFile {
    /// The file as shown.
    pub path: String,
    /// `[defaults]` and `[env]`.
    pub defaults: Layer,
    /// `[limits.max]`.
    pub max: Max,
    /// `[keep]`.
    pub keep: Keep,
    /// `[presets.NAME]`. One with the name of a built-in preset changes the keys it names.
    pub presets: BTreeMap<String, Layer>,
    /// What was not understood.
    pub warnings: Vec<String>,
}

/// A project's `aj.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ProjectFile {
    /// The file as shown.
    pub path: String,
    /// `[jail]`.
    pub layer: Layer,
    /// What was not understood.
    pub warnings: Vec<String>,
}

/// Read the user's configuration. `path` is what messages show; `home` is what `~/` stands for.
pub fn parse_user(path: &str, bytes: &[u8], home: Option<&Path>) -> Result<UserFile, FileError> {
    let mut reader = Reader::new(path, bytes, Paths::Absolute { home })?;
    let root = reader.parse()?;
    let root = root.get_ref();
    let mut file = UserFile { path: path.to_owned(), ..UserFile::default() };
    for (name, value) in root {
        let span = name.span();
        match name.get_ref().as_ref() {
            "defaults" => {
                let table = reader.table("[defaults]", value)?;
                // `[env]` may stand before `[defaults]`: neither may forget the other.
                let env = std::mem::take(&mut file.defaults.env);
                file.defaults = reader.layer("[defaults]", table, &Key::ALL)?;
                file.defaults.env.extend(env);
            }
            "env" => reader.env("[env]", value, &mut file.defaults)?,
            "limits" => {
                for (name, value) in reader.table("[limits]", value)? {
                    match name.get_ref().as_ref() {
                        "max" => {
                            file.max = {
                                let table = reader.table("[limits.max]", value)?;
                                reader.max(table)?
                            }
                        }
                        other => {
                            if !reader.misplaced(name, value, "[limits]")? {
                                reader.unknown(other, name.span(), "[limits]", ["max"]);
                            }
                        }
                    }
                }
            }
            "keep" => {
                let table = reader.table("[keep]", value)?;
                file.keep = reader.keep(table)?;
            }
            "presets" => {
                for (name, value) in reader.table("[presets]", value)? {
                    let (span, name) = (name.span(), name.get_ref().as_ref());
                    if !is_preset_name(name) {
                        return Err(reader.error(span, Problem::PresetName(short(name))));
                    }
                    let section = format!("[presets.{name}]");
                    let table = reader.table(&section, value)?;
                    // Presets do not build on each other: one level to look up, none to get lost in.
                    let layer = reader.layer(&section, table, &Key::ALL[1..])?;
                    file.presets.insert(name.to_owned(), layer);
                }
            }
            other => {
                if !reader.misplaced(name, value, "")? {
                    reader.unknown(other, span, "", ["defaults", "env", "keep", "limits", "presets"]);
                }
            }
        }
    }
    file.warnings = reader.finish();
    Ok(file)
}

/// Read a project's file. `path` is what messages show.
pub fn parse_project(path: &str, bytes: &[u8]) -> Result<ProjectFile, FileError> {
    let mut reader = Reader::new(path, bytes, Paths::Unused)?;
    if let Some((at, _)) = bytes.iter().enumerate().filter(|(_, b)| **b == b'{').nth(MOST_BRACES) {
        return Err(reader.error(at..at, Problem::Braces));
    }
    let root = reader.parse()?;
    let root = root.get_ref();
    let mut file = ProjectFile { path: path.to_owned(), ..ProjectFile::default() };
    for (name, value) in root {
        match name.get_ref().as_ref() {
            "jail" => {
                let table = reader.table("[jail]", value)?;
                file.layer = reader.layer("[jail]", table, &Key::ALL)?;
            }
            other => {
                if !reader.misplaced(name, value, "")? {
                    reader.unknown(other, name.span(), "", ["jail"]);
                }
            }
        }
    }
    file.warnings = reader.finish();
    Ok(file)
}

fn is_preset_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
}

#[cfg(test)]
#[path = "file_tests.rs"]
mod tests;
