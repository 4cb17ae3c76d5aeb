//! What `aj fs`, `aj cp` and `aj search` show with `--json`.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

pub use super::changes::{FORMAT, FormatVersion};

/// A path that may hold any bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Name {
    /// Printable: what is not is escaped.
    pub path: String,
    /// Its bytes, where `path` is not what they are.
    pub path_base64: Option<String>,
}

/// What lies under a path.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct File {
    /// Where.
    #[serde(flatten)]
    pub name: Name,
    /// `file`, `directory`, `symlink`, `fifo`, `socket`, `device` or `unknown`.
    pub kind: &'static str,
    /// Bytes of a file.
    pub size: u64,
    /// Bytes that it takes on the disk.
    pub allocated: u64,
    /// Permission bits, octal, `0644`.
    pub mode: String,
    /// Owner, as the jail sees it.
    pub uid: u32,
    /// Group, as the jail sees it.
    pub gid: u32,
    /// Names that it has.
    pub links: u32,
    /// When its content changed, RFC 3339; `null` when that is no time.
    pub modified_at: Option<String>,
    /// Of a symbolic link, where it leads, printable.
    pub target: Option<String>,
    /// The bytes of `target`, where it is not what they are.
    pub target_base64: Option<String>,
    /// Whether it lies in the jail's own layer: made, changed or touched there.
    pub own: bool,
}

/// The answer of `aj fs list`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Listing {
    /// [`FORMAT`].
    pub format_version: FormatVersion,
    /// Whose tree it is.
    pub target: String,
    /// A jail is at work in it: what is listed may be half written.
    pub running: bool,
    /// What was listed, by their paths below it.
    pub entries: Vec<File>,
    /// What could not be read.
    pub failed: Vec<Failed>,
    /// For `--cursor`, to go on; `null` when this was all.
    pub next_cursor: Option<String>,
}

/// Something that could not be done, or was left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    /// Where.
    #[serde(flatten)]
    pub name: Name,
    /// Why.
    pub reason: String,
}

/// The answer of `aj fs stat`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Stat {
    /// [`FORMAT`].
    pub format_version: FormatVersion,
    /// Whose tree it is.
    pub target: String,
    /// As in [`Listing::running`].
    pub running: bool,
    /// What it is.
    #[serde(flatten)]
    pub file: File,
}

/// The answer of `aj fs cat`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Content {
    /// [`FORMAT`].
    pub format_version: FormatVersion,
    /// Whose tree it is.
    pub target: String,
    /// Where.
    #[serde(flatten)]
    pub name: Name,
    /// What was asked for of it.
    pub content: String,
    /// How `content` is written: `utf-8` or `base64`.
    pub encoding: &'static str,
    /// Bytes of the whole file.
    pub size: u64,
}

/// The answer of the commands that change one thing: `aj fs write`, `mkdir`, `rm` and `mv`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Done {
    /// [`FORMAT`].
    pub format_version: FormatVersion,
    /// Whose tree it is.
    pub target: String,
    /// What was changed, each by its new path.
    pub changed: Vec<Changed>,
}

/// One thing that was changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Changed {
    /// Where.
    #[serde(flatten)]
    pub name: Name,
    /// `created`, `written`, `removed` or `moved`.
    pub change: Cow<'static, str>,
    /// Bytes written.
    pub bytes: Option<u64>,
    /// BLAKE3 of the whole content, for `--if-hash`.
    pub hash: Option<String>,
}

/// The answer of `aj fs replace`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Replaced {
    /// [`FORMAT`].
    pub format_version: FormatVersion,
    /// Whose tree it is.
    pub target: String,
    /// `--dry-run` was given.
    pub dry_run: bool,
    /// Every file that was asked for and read.
    pub files: Vec<ReplacedIn>,
    /// Those that were not.
    pub failed: Vec<Failed>,
    /// Replacements in all.
    pub total: u64,
}

/// Replacements in one file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReplacedIn {
    /// Where.
    #[serde(flatten)]
    pub name: Name,
    /// How many.
    pub count: u64,
}

/// The answer of `aj cp`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Copied {
    /// [`FORMAT`].
    pub format_version: FormatVersion,
    /// Whose tree was read or written.
    pub target: String,
    /// `in` or `out`.
    pub direction: Cow<'static, str>,
    /// Files copied.
    pub files: u64,
    /// Directories made.
    pub directories: u64,
    /// Symbolic links made.
    pub links: u64,
    /// Bytes of the files.
    pub bytes: u64,
    /// Links whose target lies outside of what was copied.
    pub leading_out: u64,
    /// What was left out, and why.
    pub skipped: Vec<Failed>,
    /// What could not be copied, and why.
    pub failed: Vec<Failed>,
    /// Of both lists, what there was no room for.
    pub truncated: u64,
}

/// One line of `aj search --json`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Found {
    /// The first one.
    Version {
        /// [`FORMAT`].
        format_version: FormatVersion,
        /// Whose tree it is.
        target: String,
        /// As in [`Listing::running`].
        running: bool,
    },
    /// A line with a match.
    Match(Line),
    /// A line beside one.
    Context(Line),
    /// A file that could not be searched.
    Failed(Failed),
    /// The last one.
    Summary {
        /// Lines with a match.
        matches: u64,
        /// Files with one.
        files: u64,
        /// Files searched.
        searched: u64,
        /// `--max` was reached.
        truncated: bool,
    },
}

/// A line of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Line {
    /// Which file.
    #[serde(flatten)]
    pub name: Name,
    /// Its number, from 1.
    pub line: u64,
    /// The line, without its end; what is no UTF-8 is replaced.
    pub text: String,
    /// Its bytes, where `text` is not what they are.
    pub text_base64: Option<String>,
    /// Start and end of each match, in bytes of the line.
    pub spans: Vec<(usize, usize)>,
}
